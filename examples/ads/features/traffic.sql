/*---
entity = ["campaign", "item_id"]
serve  = "online"
---*/
-- How an item did lately: two streams, joined. The 200 impressions at the usual rate keep young items near it.
select
  i.campaign,
  i.item_id,
  count(*) filter (where i.shown_at > as_of() - interval '1 hour')   as shown_1h,
  count(*) filter (where i.shown_at > as_of() - interval '24 hours') as shown_24h,
  count(*)                                                           as shown_72h,
  count(c.impression_id)                                             as clicks_72h,
  (count(c.impression_id) + 1.0) / (count(*) + 200.0)                as rate_72h,
  date_part('hour', as_of())                                         as hour
from impressions i
left join clicks c
  on c.campaign = i.campaign and c.item_id = i.item_id and c.impression_id = i.impression_id
  and c.clicked_at > as_of() - interval '72 hours'
where i.shown_at > as_of() - interval '72 hours'
group by i.campaign, i.item_id
