/*---
entity = "turbine"
serve  = "online"
---*/
-- The sensors over the last hour, six hours and day: where they are, how far they reach, how restless they are.
select
  turbine,
  avg(power_kw)         filter (where ts > as_of() - interval '1 hour')  as power_1h,
  min(power_kw)         filter (where ts > as_of() - interval '1 hour')  as power_min_1h,
  max(power_kw)         filter (where ts > as_of() - interval '1 hour')  as power_max_1h,
  stddev(power_kw)      filter (where ts > as_of() - interval '1 hour')  as power_sd_1h,
  avg(wind_speed_ms)    filter (where ts > as_of() - interval '1 hour')  as wind_1h,
  stddev(wind_speed_ms) filter (where ts > as_of() - interval '1 hour')  as wind_sd_1h,
  max(pitch_deg)        filter (where ts > as_of() - interval '1 hour')  as pitch_max_1h,
  stddev(vane_deg)      filter (where ts > as_of() - interval '1 hour')  as vane_sd_1h,
  avg(power_kw)         filter (where ts > as_of() - interval '6 hours') as power_6h,
  min(power_kw)         filter (where ts > as_of() - interval '6 hours') as power_min_6h,
  stddev(power_kw)      filter (where ts > as_of() - interval '6 hours') as power_sd_6h,
  avg(wind_speed_ms)    filter (where ts > as_of() - interval '6 hours') as wind_6h,
  max(wind_speed_ms)    filter (where ts > as_of() - interval '6 hours') as wind_max_6h,
  stddev(pitch_deg)     filter (where ts > as_of() - interval '6 hours') as pitch_sd_6h,
  stddev(vane_deg)      filter (where ts > as_of() - interval '6 hours') as vane_sd_6h,
  avg(power_kw)                                                          as power_24h,
  stddev(power_kw)                                                       as power_sd_24h,
  avg(wind_speed_ms)                                                     as wind_24h,
  max(wind_speed_ms)                                                     as wind_max_24h,
  max(pitch_deg)                                                         as pitch_max_24h,
  stddev(nacelle_deg)                                                    as nacelle_sd_24h,
  min(outdoor_temp_c)   filter (where outdoor_temp_c > -60)              as temp_min_24h,
  max(outdoor_temp_c)                                                    as temp_max_24h,
  count(*)                                                               as readings_24h
from readings
where ts > as_of() - interval '24 hours'
group by turbine
