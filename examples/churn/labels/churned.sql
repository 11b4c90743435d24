/*---
entity  = "customer_id"
time    = "asked_at"
label   = "churned"
horizon = "90d"
---*/
-- On the first of each month: of the customers who bought in the 180 days before, who does not buy in the 90 days after?
-- Months whose 90 days are not over yet are left out: their outcome is not known.
with purchases as (
  select customer_id, invoice_date
  from invoices
  where invoice not like 'C%' and quantity > 0
),
months as (
  select distinct date_trunc('month', invoice_date) as asked_at
  from invoices
)
select
  p.customer_id,
  m.asked_at,
  count(*) filter (where p.invoice_date >= m.asked_at) = 0 as churned
from months m
join purchases p
  on  p.invoice_date >= m.asked_at - interval '180 days'
  and p.invoice_date <  m.asked_at + interval '90 days'
where m.asked_at >= timestamp '2010-03-01 00:00:00'
  and m.asked_at <= (select max(invoice_date) from invoices) - interval '90 days'
group by p.customer_id, m.asked_at
having count(*) filter (where p.invoice_date < m.asked_at) > 0
