//! The views that are asked, in every way in which the engine computes one.

use super::oracle::{Cell, Oracle};

pub type Answer = fn(&Oracle<'_>, &str, i64) -> Vec<Cell>;

/// A view and its oracle.
pub struct Case {
    pub name: &'static str,
    pub shape: &'static str,
    pub how: &'static str,
    pub sql: &'static str,
    pub answer: Answer,
}

pub const SLIDES: &str = "rows slide through windows";
pub const JOINED: &str = "rows are joined with what is asked";
pub const MOMENTS: &str = "moment by moment";

pub const CASES: &[Case] = &[
    Case {
        name: "activity",
        shape: "aggregate",
        how: SLIDES,
        sql: "select customer_id, count(*) as orders,
                count(*) filter (where kind = 'a' and event_time >= as_of() - interval '7 days') as recent_a,
                sum(amount) as spend, avg(amount) as mean, min(amount) as least, max(amount) as most, sum(quantity) as units,
                count(distinct kind) as kinds, var_samp(level) as spread, stddev(level) as deviation, var_pop(level) as spread_pop,
                sum(amount * 2) / (count(*) + 1) as odd
              from events where event_time > as_of() - interval '10 days' group by customer_id",
        answer: |o, c, t| o.activity(c, t),
    },
    Case {
        name: "whole",
        shape: "aggregate",
        how: JOINED,
        sql: "select e.customer_id, count(e.event_time) as n, cast(as_of() as bigint) - cast(max(e.event_time) as bigint) as since,
                last_value(amount) as last_amount, first_value(kind) as first_kind, last_value(kind order by quantity) as biggest,
                sum(amount) filter (where e.event_time > as_of() - interval '1 week') as week, string_agg(kind, ',') as kinds
              from events e group by 1",
        answer: |o, c, t| o.whole(c, t),
    },
    Case {
        name: "ordered",
        shape: "aggregate",
        how: SLIDES,
        sql: "select e.customer_id, count(e.event_time) as n, cast(as_of() as bigint) - cast(max(e.event_time) as bigint) as since,
                last_value(amount) as last_amount, first_value(kind) as first_kind,
                sum(amount) filter (where e.event_time > as_of() - interval '1 week') as week
              from events e group by 1",
        answer: |o, c, t| o.whole(c, t).into_iter().enumerate().filter(|(i, _)| ![4, 6].contains(i)).map(|(_, cell)| cell).collect(),
    },
    Case {
        name: "joined",
        shape: "aggregate",
        how: JOINED,
        sql: "select e.customer_id, count(*) as rows, count(r.back) as returned, (count(r.order_id) + 1.0) / (count(*) + 100.0) as rate,
                sum(r.back) as back, max(e.amount - r.back) as best
              from events e left join refunds r on r.order_id = e.order_id and r.buyer = e.customer_id
              where e.event_time > as_of() - interval '10 days' group by e.customer_id",
        answer: |o, c, t| o.joined(c, t),
    },
    Case {
        name: "profile",
        shape: "lookup",
        how: JOINED,
        sql: "select customer_id, plan, fee, cast(as_of() as bigint) - 1 as moment from customers",
        answer: |o, c, t| o.profile(c, t),
    },
    Case {
        name: "latest",
        shape: "lookup",
        how: SLIDES,
        sql: "select customer_id, amount, kind, cast(as_of() as bigint) - cast(event_time as bigint) as age
              from events where quantity <> 0 or quantity is null",
        answer: |o, c, t| o.latest(c, t),
    },
    Case {
        name: "weighted",
        shape: "aggregate",
        how: JOINED,
        sql: "select p.customer_id, count(*) as n, sum(e.quantity + p.fee) as value
              from events e join customers p on p.customer_id = e.customer_id group by p.customer_id",
        answer: |o, c, t| o.weighted(c, t),
    },
    Case {
        name: "edges",
        shape: "aggregate",
        how: SLIDES,
        sql: "select customer_id,
                count(*) filter (where event_time >= as_of() - interval '10 days' and event_time < as_of() - interval '3 days') as closed_open,
                count(*) filter (where event_time > as_of() - interval '10 days' and event_time <= as_of() - interval '3 days') as open_closed,
                count(*) filter (where event_time between as_of() - interval '7 days' and as_of() - interval '3 days') as between_them,
                count(*) filter (where as_of() - interval '3 days' > event_time) as long_ago,
                count(*) filter (where event_time = as_of() - interval '7 days') as then,
                sum(amount) filter (where event_time <= as_of()) as spend, count(*) filter (where event_time < as_of()) as before
              from events group by customer_id",
        answer: |o, c, t| o.edges(c, t),
    },
    Case {
        name: "shares",
        shape: "aggregate",
        how: SLIDES,
        sql: "select customer_id, median(amount) as middle, approx_median(quantity) as middle_units,
                percentile_cont(0.9) within group (order by amount) as high, percentile_cont(amount, 0.25) as low,
                percentile_cont(0.3) within group (order by level desc) as from_above,
                approx_percentile_cont(level, 0.1, 50) filter (where event_time > as_of() - interval '3 days') as recent,
                approx_distinct(kind) as kinds, approx_distinct(amount) as amounts, any_value(kind) as any_kind,
                bool_and(quantity > 0) as all_bought, bool_or(amount < -1) as any_back
              from events where event_time >= as_of() - interval '10 days' group by customer_id",
        answer: |o, c, t| o.shares(c, t),
    },
    Case {
        name: "rewritten",
        shape: "aggregate",
        how: SLIDES,
        sql: "select customer_id, sum(coalesce(amount, 0.5)) as spend, count(*) filter (where coalesce(kind, 'a') in ('a', 'c')) as some,
                coalesce(last_value(nullif(quantity, 0)), -1) as last_quantity
              from events where event_time > as_of() - interval '10 days' and nvl(quantity, 1) <> 7 group by customer_id",
        answer: |o, c, t| o.rewritten(c, t),
    },
    Case {
        name: "shares_joined",
        shape: "aggregate",
        how: JOINED,
        sql: "select customer_id, median(amount) as middle, approx_median(quantity) as middle_units,
                percentile_cont(0.9) within group (order by amount) as high, percentile_cont(amount, 0.25) as low,
                percentile_cont(0.3) within group (order by level desc) as from_above,
                approx_percentile_cont(level, 0.1, 50) filter (where event_time > as_of() - interval '3 days') as recent,
                approx_distinct(kind) as kinds, approx_distinct(amount) as amounts, any_value(kind) as any_kind,
                bool_and(quantity > 0) as all_bought, bool_or(amount < -1) as any_back,
                string_agg(distinct kind, ',') as names, median(distinct quantity) as middle_of_different
              from events where event_time >= as_of() - interval '10 days' group by customer_id",
        answer: |o, c, t| o.shares_joined(c, t),
    },
    Case {
        name: "by",
        shape: "aggregate",
        how: SLIDES,
        sql: "select customer_id, last_value(kind order by quantity) as biggest, first_value(kind order by amount desc nulls last) as dearest,
                last_value(amount) ignore nulls as last_amount, first_value(order_id order by kind desc) as first_of_kind,
                last_value(order_id order by kind nulls first) as last_of_kind
              from events where event_time between as_of() - interval '10 days' and as_of() - interval '1 day' group by customer_id",
        answer: |o, c, t| o.by(c, t),
    },
    Case {
        name: "by_joined",
        shape: "aggregate",
        how: JOINED,
        sql: "select customer_id, last_value(kind order by quantity) as biggest, first_value(kind order by amount desc nulls last) as dearest,
                last_value(amount) ignore nulls as last_amount, first_value(order_id order by kind desc) as first_of_kind,
                last_value(order_id order by kind nulls first) as last_of_kind, string_agg(kind, '+' order by quantity desc) as all_kinds
              from events where event_time between as_of() - interval '10 days' and as_of() - interval '1 day' group by customer_id",
        answer: |o, c, t| o.by_joined(c, t),
    },
];

/// The same question in other words, through the word-for-word path.
pub const LITERAL: Case = Case {
    name: "general",
    shape: "general",
    how: MOMENTS,
    sql: "with recent as (select * from events where event_time > as_of() - interval '10 days')
          select r.customer_id, count(*) as rows, count(f.back) as returned, (count(f.order_id) + 1.0) / (count(*) + 100.0) as rate,
            sum(f.back) as back, max(r.amount - f.back) as best
          from recent r left join refunds f on f.order_id = r.order_id and f.buyer = r.customer_id group by r.customer_id",
    answer: |o, c, t| o.joined(c, t),
};

/// Aggregates whose order the view leaves open, through the word-for-word path.
pub const LITERAL_ORDERED: Case = Case {
    name: "general_ordered",
    shape: "general",
    how: MOMENTS,
    sql: "select customer_id, median(amount) as middle, last_value(amount) as last_amount, first_value(kind) as first_kind, string_agg(kind, ',') as kinds
          from (select customer_id, amount, kind from events) as all_of_them
          group by customer_id",
    answer: |o, c, t| o.plain(c, t),
};

/// Over what the caller sends: `request` first, events joined to it.
pub const REQUEST: Case = Case {
    name: "request",
    shape: "request",
    how: JOINED,
    sql: "select q.customer_id, count(e.event_time) as n, cast(as_of() as bigint) - cast(max(e.event_time) as bigint) as since,
            last_value(e.amount) as last_amount, first_value(e.kind) as first_kind, last_value(e.kind order by e.quantity) as biggest,
            sum(e.amount) filter (where e.event_time > as_of() - interval '1 week') as week, string_agg(e.kind, ',') as kinds
          from request q left join events e on e.customer_id = q.customer_id group by q.customer_id",
    answer: |o, c, t| o.whole(c, t),
};

pub const REQUEST_SHARES: Case = Case {
    name: "request_shares",
    shape: "request",
    how: JOINED,
    sql: "select q.customer_id, median(e.amount) as middle, approx_median(e.quantity) as middle_units,
            percentile_cont(0.9) within group (order by e.amount) as high, percentile_cont(e.amount, 0.25) as low,
            percentile_cont(0.3) within group (order by e.level desc) as from_above,
            approx_percentile_cont(e.level, 0.1, 50) filter (where e.event_time > as_of() - interval '3 days') as recent,
            approx_distinct(e.kind) as kinds, approx_distinct(e.amount) as amounts, any_value(e.kind) as any_kind,
            bool_and(e.quantity > 0) as all_bought, bool_or(e.amount < -1) as any_back
          from request q left join events e on e.customer_id = q.customer_id and e.event_time >= as_of() - interval '10 days'
          group by q.customer_id",
    answer: |o, c, t| o.shares(c, t),
};

pub const REQUEST_LOOKUP: Case = Case {
    name: "request_lookup",
    shape: "request",
    how: JOINED,
    sql: "select q.customer_id, p.plan, p.fee, case when p.customer_id is not null then cast(as_of() as bigint) - 1 end as moment
          from request q left join customers p on p.customer_id = q.customer_id",
    answer: |o, c, t| o.profile(c, t),
};
