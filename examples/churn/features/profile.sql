/*---
entity = "customer_id"
serve  = "online"
---*/
-- Who the customer is: over the whole history.
select
  customer_id,
  -- A year is long enough: without an end it would grow with the calendar and drift by itself.
  case when min(invoice_date) < as_of() - interval '365 days' then 365.0
       else date_part('epoch', as_of() - min(invoice_date)) / 86400.0 end as days_since_first,
  date_part('epoch', as_of() - max(invoice_date) filter (where invoice not like 'C%' and quantity > 0)) / 86400.0
    as days_since_last,
  sum(quantity * price) filter (where invoice not like 'C%' and quantity > 0)
    / count(distinct invoice) filter (where invoice not like 'C%' and quantity > 0) as mean_basket,
  max(country) as country
from invoices
group by customer_id
