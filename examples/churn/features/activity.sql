/*---
entity = "customer_id"
serve  = "online"
---*/
-- What the customer did lately. An invoice that starts with C is a cancellation.
select
  customer_id,
  count(distinct invoice) filter (where invoice not like 'C%' and quantity > 0
    and invoice_date > as_of() - interval '30 days')  as orders_30d,
  count(distinct invoice) filter (where invoice not like 'C%' and quantity > 0
    and invoice_date > as_of() - interval '90 days')  as orders_90d,
  count(distinct invoice) filter (where invoice not like 'C%' and quantity > 0) as orders_365d,
  sum(quantity * price) filter (where invoice not like 'C%' and quantity > 0
    and invoice_date > as_of() - interval '30 days')  as spend_30d,
  sum(quantity * price) filter (where invoice not like 'C%' and quantity > 0
    and invoice_date > as_of() - interval '90 days')  as spend_90d,
  sum(quantity * price) filter (where invoice not like 'C%' and quantity > 0) as spend_365d,
  sum(quantity) filter (where invoice not like 'C%' and quantity > 0
    and invoice_date > as_of() - interval '90 days') as units_90d,
  count(distinct invoice) filter (where invoice like 'C%'
    and invoice_date > as_of() - interval '90 days')  as cancellations_90d,
  count(distinct invoice) filter (where invoice like 'C%') as cancellations_365d
from invoices
where invoice_date > as_of() - interval '365 days'
group by customer_id
