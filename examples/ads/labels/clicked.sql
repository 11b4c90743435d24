/*---
entity  = ["campaign", "item_id", "user_feature_0", "user_feature_1", "user_feature_2", "user_feature_3"]
time    = "shown_at"
label   = "clicked"
horizon = "1h"
---*/
-- Every impression, and whether it was clicked.
select
  i.campaign, i.item_id, i.user_feature_0, i.user_feature_1, i.user_feature_2, i.user_feature_3,
  i.shown_at, i.impression_id,
  c.impression_id is not null as clicked
from impressions i
left join clicks c on c.impression_id = i.impression_id
