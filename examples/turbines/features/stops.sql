/*---
entity = "turbine"
serve  = "online"
---*/
-- How often the turbine has stood still in good wind: a stop seldom comes alone.
select
  turbine,
  count(*) filter (where power_kw <= 0 and wind_speed_ms >= 5 and ts > as_of() - interval '6 hours')  as still_6h,
  count(*) filter (where power_kw <= 0 and wind_speed_ms >= 5 and ts > as_of() - interval '24 hours') as still_24h,
  count(*) filter (where power_kw <= 0 and wind_speed_ms >= 5)                                        as still_7d,
  count(*) filter (where power_kw <= 0)                                                               as idle_7d,
  date_part('epoch', as_of() - max(ts) filter (where power_kw <= 0 and wind_speed_ms >= 5)) / 3600.0  as hours_since_still
from readings
where ts > as_of() - interval '7 days'
group by turbine
