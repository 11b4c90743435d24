/*---
entity = ["user_feature_0", "user_feature_1", "user_feature_2", "user_feature_3"]
serve  = "online"
---*/
-- What people of this kind saw in the last day. The site tells us four hashed traits, not who they are.
select
  user_feature_0, user_feature_1, user_feature_2, user_feature_3,
  count(*)                                                   as seen_24h,
  count(*) filter (where shown_at > as_of() - interval '1 hour') as seen_1h,
  count(distinct item_id)                                    as items_24h,
  avg(affinity)                                              as affinity_24h
from impressions
where shown_at > as_of() - interval '24 hours'
group by user_feature_0, user_feature_1, user_feature_2, user_feature_3
