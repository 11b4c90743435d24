/*---
entity  = ["campaign", "item_id", "user_feature_0", "user_feature_1", "user_feature_2", "user_feature_3"]
time    = "shown_at"
label   = "clicked"
horizon = "1h"
---*/
-- The impressions of a campaign within an hour are one group; hours without a click rank nothing and are left out.
with shown as (
  select *, campaign || ' ' || cast(date_trunc('hour', shown_at) as varchar) as shelf
  from impressions
),
with_click as (
  select distinct s.shelf
  from shown s
  join clicks c on c.impression_id = s.impression_id
)
select
  s.campaign, s.item_id, s.user_feature_0, s.user_feature_1, s.user_feature_2, s.user_feature_3,
  s.shown_at, s.shelf,
  case when c.impression_id is null then 0 else 1 end as clicked
from shown s
join with_click w on w.shelf = s.shelf
left join clicks c on c.impression_id = s.impression_id
