/*---
entity  = "turbine"
time    = "asked_at"
label   = "stops"
horizon = "6h"
---*/
-- Every hour: does a stop begin within the next six hours? A stop begins when the turbine gives no power in five metres of wind or more,
-- and gave some ten minutes before.
with marked as (
  select
    turbine, ts,
    power_kw <= 0 and wind_speed_ms >= 5 as still,
    lag(power_kw <= 0 and wind_speed_ms >= 5) over (partition by turbine order by ts) as still_before
  from readings
),
begins as (
  select turbine, ts from marked where still and not still_before
),
hours as (
  select distinct turbine, date_trunc('hour', ts) as asked_at from readings
)
select h.turbine, h.asked_at, count(b.ts) > 0 as stops
from hours h
left join begins b
  on  b.turbine = h.turbine
  and b.ts >= h.asked_at
  and b.ts <  h.asked_at + interval '6 hours'
where h.asked_at >= (select min(ts) from readings) + interval '24 hours'
  and h.asked_at <= (select max(ts) from readings) - interval '6 hours'
group by h.turbine, h.asked_at
