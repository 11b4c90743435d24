/*---
entity = ["campaign", "item_id"]
serve  = "online"
---*/
-- What an item is, as far as the site tells: a lookup in the newest load that was there at the moment.
select campaign, item_id, item_feature_0, item_feature_3
from items
