//! Whatever is deliberately wrong is caught: every edge of a window, every order, every rule about NULL and duplicates.
//!
//! A mutation changes the text of a view, its ties, the rows as a wrong engine would see them, or the moment that is asked; the oracle answers the
//! view as it is. A mutation that gives the oracle's answers on all histories survives, and a survivor fails the test: either the histories
//! never come near that rule, or nothing in the answer depends on it.

use super::arrival::{ORDERS, Order};
use super::cases::{CASES, Case, REQUEST, REQUEST_SHARES};
use super::history::{self, BASE, History};
use super::oracle::{Oracle, sum, variance};
use super::{ANYHOW, asked, compile, differences, shapes};
use crate::support::*;
use gristmill_engine::LocalEngine;
use gristmill_kernel::port::{AsOfPlan, Engine};
use gristmill_kernel::view::{Ties, ViewAt};
use rand::prelude::*;
use rand::rngs::StdRng;
use std::collections::HashSet;
use std::sync::Arc;

/// Histories per batch, and batches before a mutation counts as a survivor.
const TOGETHER: usize = 120;
const BATCHES: usize = 6;

/// Texts: the view, what it says, and what it might say instead.
const TEXTS: &[(&str, &str, &[&str])] = &[
    // The edge of WHERE, and the edge of one filter.
    (
        "activity",
        "event_time > as_of() - interval '10 days'",
        &[
            "event_time >= as_of() - interval '10 days'",
            "event_time > as_of() - interval '10 days' + interval '1 microsecond'",
            "event_time > as_of() - interval '10 days' - interval '1 microsecond'",
            "event_time > as_of() - interval '11 days'",
        ],
    ),
    (
        "activity",
        "event_time >= as_of() - interval '7 days'",
        &[
            "event_time > as_of() - interval '7 days'",
            "event_time >= as_of() - interval '7 days' + interval '1 microsecond'",
            "event_time >= as_of() - interval '7 days' - interval '1 microsecond'",
            "event_time <= as_of() - interval '7 days'",
            "true",
        ],
    ),
    ("activity", "kind = 'a'", &["kind = 'b'", "kind <> 'a'", "true", "coalesce(kind, 'a') = 'a'"]),
    // NULLs and duplicates.
    ("activity", "count(*) as orders", &["count(amount) as orders", "count(distinct order_id) as orders", "nullif(count(*), 0) as orders"]),
    (
        "activity",
        "sum(amount) as spend",
        &[
            "sum(coalesce(amount, 0)) as spend",
            "coalesce(sum(amount), 0) as spend",
            "sum(distinct amount) as spend",
            "avg(amount) as spend",
        ],
    ),
    ("activity", "avg(amount) as mean", &["sum(amount) / count(*) as mean", "avg(coalesce(amount, 0)) as mean", "median(amount) as mean"]),
    ("activity", "min(amount) as least", &["max(amount) as least", "min(coalesce(amount, 0)) as least", "min(amount + 0) as least"]),
    ("activity", "max(amount) as most", &["min(amount) as most", "last_value(amount) as most"]),
    ("activity", "sum(quantity) as units", &["sum(distinct quantity) as units", "sum(abs(quantity)) as units", "count(quantity) as units"]),
    ("activity", "count(distinct kind)", &["count(kind)", "count(distinct coalesce(kind, ''))", "count(distinct quantity)"]),
    ("activity", "var_samp(level)", &["var_pop(level)", "stddev(level)"]),
    ("activity", "stddev(level)", &["stddev_pop(level)", "var_samp(level)"]),
    ("activity", "var_pop(level)", &["var_samp(level)"]),
    // Orders.
    (
        "ordered",
        "last_value(amount)",
        &["first_value(amount)", "last_value(amount) ignore nulls", "last_value(amount order by order_id)", "max(amount)"],
    ),
    ("ordered", "first_value(kind)", &["last_value(kind)", "first_value(kind) ignore nulls", "min(kind)"]),
    ("ordered", "max(e.event_time)", &["min(e.event_time)"]),
    (
        "ordered",
        "e.event_time > as_of() - interval '1 week'",
        &["e.event_time >= as_of() - interval '1 week'", "e.event_time > as_of() - interval '6 days'", "true"],
    ),
    (
        "by",
        "last_value(kind order by quantity)",
        &[
            "last_value(kind order by quantity desc)",
            "last_value(kind order by quantity nulls first)",
            "first_value(kind order by quantity)",
            "first_value(kind order by quantity desc)",
            "last_value(kind)",
            "last_value(kind order by quantity) ignore nulls",
        ],
    ),
    (
        "by",
        "first_value(kind order by amount desc nulls last)",
        &[
            "first_value(kind order by amount desc)",
            "first_value(kind order by amount nulls last)",
            "last_value(kind order by amount nulls first)",
            "first_value(kind)",
        ],
    ),
    ("by", "last_value(amount) ignore nulls", &["last_value(amount)", "first_value(amount) ignore nulls"]),
    (
        "by",
        "first_value(order_id order by kind desc)",
        &["first_value(order_id order by kind desc nulls last)", "last_value(order_id order by kind desc)", "min(order_id)"],
    ),
    (
        "by",
        "event_time between as_of() - interval '10 days' and as_of() - interval '1 day'",
        &[
            "event_time > as_of() - interval '10 days' and event_time <= as_of() - interval '1 day'",
            "event_time >= as_of() - interval '10 days' and event_time < as_of() - interval '1 day'",
            "event_time >= as_of() - interval '10 days'",
            "event_time <= as_of() - interval '1 day'",
        ],
    ),
    // Windows that end before the moment.
    (
        "edges",
        "event_time >= as_of() - interval '10 days' and event_time <",
        &["event_time > as_of() - interval '10 days' and event_time <"],
    ),
    (
        "edges",
        "event_time < as_of() - interval '3 days')",
        &[
            "event_time <= as_of() - interval '3 days')",
            "event_time < as_of() - interval '3 days' + interval '1 microsecond')",
            "event_time < as_of() - interval '3 days' - interval '1 microsecond')",
        ],
    ),
    ("edges", "event_time > as_of() - interval '10 days'", &["event_time >= as_of() - interval '10 days'"]),
    ("edges", "event_time <= as_of() - interval '3 days'", &["event_time < as_of() - interval '3 days'"]),
    (
        "edges",
        "event_time between as_of() - interval '7 days'",
        &[
            "event_time between as_of() - interval '7 days' + interval '1 microsecond'",
            "event_time between as_of() - interval '7 days' - interval '1 microsecond'",
        ],
    ),
    (
        "edges",
        "and as_of() - interval '3 days') as between_them",
        &[
            "and as_of() - interval '3 days' - interval '1 microsecond') as between_them",
            "and as_of() - interval '3 days' + interval '1 microsecond') as between_them",
        ],
    ),
    (
        "edges",
        "as_of() - interval '3 days' > event_time",
        &["as_of() - interval '3 days' >= event_time", "as_of() - interval '3 days' < event_time"],
    ),
    (
        "edges",
        "event_time = as_of() - interval '7 days'",
        &[
            "event_time = as_of() - interval '7 days' + interval '1 microsecond'",
            "event_time >= as_of() - interval '7 days'",
            "event_time <= as_of() - interval '7 days'",
        ],
    ),
    // Quantiles and the others that are made exact.
    (
        "shares",
        "median(amount)",
        &["percentile_cont(amount, 0.500001)", "median(distinct amount)", "avg(amount)", "median(coalesce(amount, 0))"],
    ),
    (
        "shares",
        "percentile_cont(0.9) within group (order by amount)",
        &[
            "percentile_cont(0.9) within group (order by amount desc)",
            "percentile_cont(0.89) within group (order by amount)",
            "max(amount)",
        ],
    ),
    ("shares", "percentile_cont(0.3) within group (order by level desc)", &["percentile_cont(0.3) within group (order by level)"]),
    (
        "shares",
        " filter (where event_time > as_of() - interval '3 days')",
        &["", " filter (where event_time >= as_of() - interval '3 days')", " filter (where event_time < as_of() - interval '3 days')"],
    ),
    ("shares", "approx_distinct(amount)", &["count(amount)", "approx_distinct(amount + 0)", "approx_distinct(coalesce(amount, 0.005))"]),
    ("shares", "bool_and(quantity > 0)", &["bool_or(quantity > 0)", "bool_and(quantity >= 0)", "bool_and(coalesce(quantity, 0) > 0)"]),
    ("shares", "bool_or(amount < -1)", &["bool_and(amount < -1)", "coalesce(bool_or(amount < -1), false)"]),
    ("shares", "any_value(kind)", &["max(kind)", "first_value(kind)"]),
    // Rows that are joined.
    ("joined", "left join", &["join"]),
    ("joined", " and r.buyer = e.customer_id", &[""]),
    ("joined", "r.order_id = e.order_id and ", &[""]),
    ("joined", "count(r.back) as returned", &["count(*) as returned", "count(distinct r.back) as returned"]),
    ("joined", "e.event_time > as_of() - interval '10 days'", &["e.event_time >= as_of() - interval '10 days'", "true"]),
    ("joined", "max(e.amount - r.back)", &["min(e.amount - r.back)", "max(e.amount)"]),
    (
        "whole",
        "last_value(kind order by quantity)",
        &["last_value(kind order by quantity desc)", "last_value(kind order by quantity nulls first)"],
    ),
    ("whole", "string_agg(kind, ',')", &["string_agg(kind, ',' order by e.event_time desc)", "string_agg(distinct kind, ',')"]),
    (
        "by_joined",
        "string_agg(kind, '+' order by quantity desc)",
        &["string_agg(kind, '+' order by quantity)", "string_agg(kind, '+' order by quantity desc nulls last)", "string_agg(kind, '+')"],
    ),
    ("shares_joined", "median(distinct quantity)", &["median(quantity)"]),
    ("shares_joined", "percentile_cont(0.3) within group (order by level desc)", &["percentile_cont(0.3) within group (order by level)"]),
    ("latest", "quantity <> 0 or quantity is null", &["quantity <> 0", "true", "quantity = 0 or quantity is null"]),
    ("weighted", "count(*) as n", &["count(distinct e.order_id) as n", "count(e.quantity) as n"]),
    // Joined or left joined, the asked row has its answer; what is counted of it is another matter.
    ("request", "count(e.event_time) as n", &["count(*) as n", "count(q.customer_id) as n"]),
    ("request", "last_value(e.kind order by e.quantity)", &["first_value(e.kind order by e.quantity desc)"]),
    ("request_shares", "e.event_time >= as_of() - interval '10 days'", &["e.event_time > as_of() - interval '10 days'"]),
];

/// The views that see events and whose answer depends on whether a row at the moment itself counts.
const TIED: [&str; 11] =
    ["activity", "whole", "ordered", "joined", "latest", "weighted", "edges", "shares", "shares_joined", "request", "request_shares"];

/// What is wrong, how, and the views that must notice.
type WrongRows = (&'static str, fn(&mut History), &'static [&'static str]);

/// Rows as a wrong engine would see them.
const ROWS: &[WrongRows] = &[
    (
        "events a microsecond early",
        |h| events(h, |e| e.time = e.time.map(|t| t - 1)),
        &["activity", "ordered", "edges", "latest", "request"],
    ),
    ("events a microsecond late", |h| events(h, |e| e.time = e.time.map(|t| t + 1)), &["activity", "ordered", "edges", "shares", "joined"]),
    ("times cut to seconds", |h| events(h, |e| e.time = e.time.map(|t| t - t.rem_euclid(1_000_000))), &["activity", "edges", "by"]),
    ("rows without a time are old", |h| events(h, |e| e.time = e.time.or(Some(BASE - 1))), &["whole", "ordered", "weighted"]),
    ("rows of nobody are somebody's", |h| events(h, |e| e.customer = e.customer.clone().or(Some("c0".into()))), &["activity", "whole"]),
    ("equal rows count once", once, &["activity", "whole", "edges", "weighted", "shares"]),
    ("a delivery counts twice", twice, &["activity", "whole", "joined", "edges"]),
    ("late rows are lost", without_late, &["activity", "whole", "ordered", "edges", "shares", "by"]),
    ("rows of a load in the other order", |h| events(h, |e| e.row = -e.row), &["ordered", "whole", "by", "latest"]),
    ("loads in the other order", |h| events(h, |e| e.load = -e.load), &["ordered", "whole", "by", "by_joined", "latest"]),
    ("no amount is zero", |h| events(h, |e| e.amount = e.amount.or(Some(0.0))), &["activity", "shares", "by", "joined", "latest"]),
    ("no kind is empty", |h| events(h, |e| e.kind = e.kind.clone().or(Some(String::new()))), &["activity", "whole", "by", "shares"]),
    ("no quantity is zero", |h| events(h, |e| e.quantity = e.quantity.or(Some(0))), &["activity", "whole", "by", "latest", "weighted"]),
    ("zero has no sign", |h| events(h, |e| e.amount = e.amount.map(|a| a + 0.0)), &["activity", "shares", "shares_joined", "latest"]),
    ("amounts as short floats", |h| events(h, |e| e.amount = e.amount.map(|a| f64::from(a as f32))), &["activity", "ordered", "shares"]),
    ("refunds a microsecond early", |h| h.refunds.iter_mut().for_each(|r| r.time -= 1), &["joined"]),
    ("refunds a microsecond late", |h| h.refunds.iter_mut().for_each(|r| r.time += 1), &["joined"]),
    ("refunds are known at once", |h| h.refunds.iter_mut().for_each(|r| r.time = BASE - 1), &["joined"]),
    ("snapshots a microsecond early", |h| h.plans.iter_mut().for_each(|p| p.loaded_at -= 1), &["profile", "weighted"]),
    ("snapshots a microsecond late", |h| h.plans.iter_mut().for_each(|p| p.loaded_at += 1), &["profile", "weighted"]),
    (
        "the newest snapshot was always there",
        |h| h.plans.iter_mut().for_each(|p| p.loaded_at = BASE - 10 + p.load),
        &["profile", "weighted"],
    ),
    ("all snapshots are one", |h| h.plans.iter_mut().for_each(|p| (p.load, p.loaded_at) = (1, BASE)), &["weighted"]),
];

fn events(history: &mut History, change: impl FnMut(&mut history::Event)) {
    history.events.iter_mut().for_each(change);
}

fn once(history: &mut History) {
    let mut seen = HashSet::new();
    history.events.retain(|e| seen.insert(format!("{:?} {:?} {:?} {:?}", e.customer, e.time, e.order, e.load)));
}

fn twice(history: &mut History) {
    let again: Vec<_> = history.events.iter().filter(|e| e.load == 3).cloned().collect();
    history.events.extend(again);
}

/// As with a watermark at the newest time seen: what comes behind it is dropped.
fn without_late(history: &mut History) {
    let mut newest = i64::MIN;
    history.events.sort_by_key(|e| (e.load, e.row));
    history.events.retain(|e| {
        newest = newest.max(e.time.unwrap_or(i64::MIN));
        e.time.is_none_or(|t| t >= newest - 20 * history::DAY)
    });
}

/// What is wrong, and how.
type WrongMoments = (&'static str, fn(i64) -> i64);

/// Moments as a wrong caller would ask them.
const MOMENTS: &[WrongMoments] =
    &[("a microsecond early", |t| t - 1), ("a microsecond late", |t| t + 1), ("cut to seconds", |t| t - t.rem_euclid(1_000_000))];

fn case(name: &str) -> &'static Case {
    CASES.iter().chain([&REQUEST, &REQUEST_SHARES]).find(|case| case.name == name).unwrap_or_else(|| panic!("there is no view {name}"))
}

async fn mutated(engine: &LocalEngine, case: &Case, sql: &str, ties: Ties) -> Arc<dyn AsOfPlan> {
    let request = case.shape == "request";
    let at = if request { ViewAt::Request } else { ViewAt::Sources };
    let plan = engine.compile(&view(sql, &["customer_id"], at, ties), &shapes(request)).await;
    plan.unwrap_or_else(|e| panic!("{}: {sql}: {e}", case.name))
}

/// The histories that all mutations are held against.
fn histories() -> Vec<History> {
    let mut rng = StdRng::seed_from_u64(1_812);
    (0..BATCHES).map(|_| history::random(&mut rng, TOGETHER)).collect()
}

/// How many answers differ, in the first batch of histories where one does.
async fn caught(plan: &dyn AsOfPlan, case: &Case, ties: Ties, histories: &[History], change: impl Fn(&mut History)) -> usize {
    let mut rng = StdRng::seed_from_u64(7);
    for history in histories {
        let mut seen = history.clone();
        change(&mut seen);
        let answer = plan.evaluate(&asked(&seen.asked), &ANYHOW.catalog(&seen, &mut rng)).await.unwrap();
        let found = differences(case, &Oracle::new(history, ties), &history.asked, &answer).len();
        if found > 0 {
            return found;
        }
    }
    0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_text_is_caught() {
    let (bench, histories) = (bench(), histories());
    let (mut survivors, mut tried) = (Vec::new(), 0);
    for (name, right, wrongs) in TEXTS {
        let case = case(name);
        assert!(case.sql.contains(right), "{name} does not say {right}");
        for wrong in *wrongs {
            let plan = mutated(&bench.engine, case, &case.sql.replacen(right, wrong, 1), Ties::Exclude).await;
            tried += 1;
            if caught(plan.as_ref(), case, Ties::Exclude, &histories, |_| ()).await == 0 {
                survivors.push(format!("{name}: {wrong} for {right}"));
            }
        }
    }
    assert!(tried > 100, "{tried}");
    assert_eq!(survivors, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_rows_moments_and_ties_are_caught() {
    let (bench, histories) = (bench(), histories());
    let mut survivors = Vec::new();
    for case in CASES.iter().chain([&REQUEST, &REQUEST_SHARES]) {
        let plans = [compile(&bench.engine, case, Ties::Exclude).await, compile(&bench.engine, case, Ties::Include).await];
        let right = caught(plans[0].as_ref(), case, Ties::Exclude, &histories[..1], |_| ()).await;
        assert_eq!(right, 0, "{} as it is", case.name);
        for (what, change, views) in ROWS {
            if views.contains(&case.name) && caught(plans[0].as_ref(), case, Ties::Exclude, &histories, change).await == 0 {
                survivors.push(format!("{}: {what}", case.name));
            }
        }
        for (what, change) in MOMENTS {
            let later = |history: &mut History| history.asked.iter_mut().for_each(|(_, moment)| *moment = change(*moment));
            if caught(plans[0].as_ref(), case, Ties::Exclude, &histories, later).await == 0 {
                survivors.push(format!("{}: the moment {what}", case.name));
            }
        }
        // Either way round.
        for (plan, ties) in plans.iter().zip([Ties::Include, Ties::Exclude]) {
            if TIED.contains(&case.name) && caught(plan.as_ref(), case, ties, &histories, |_| ()).await == 0 {
                survivors.push(format!("{}: ties, where {ties:?} is right", case.name));
            }
        }
    }
    assert_eq!(survivors, Vec::<String>::new());
}

/// Sums and variances that are added up one after the other have other bits, in any order of arrival.
#[test]
fn a_sum_in_another_way_is_caught() {
    let histories = histories();
    for order in ORDERS {
        let (mut sums, mut variances) = (0, 0);
        for history in &histories {
            let oracle = Oracle::new(history, Ties::Exclude);
            for (customer, moment) in &history.asked {
                let arranged = |mut values: Vec<f64>| {
                    match order {
                        Order::InTime => {}
                        Order::Backwards => values.reverse(),
                        Order::Shuffled => values.sort_by(f64::total_cmp),
                    }
                    values
                };
                let (amounts, levels) = (oracle.amounts(customer, *moment), oracle.levels(customer, *moment));
                let naive = arranged(amounts.clone()).into_iter().reduce(|a, b| a + b);
                sums += usize::from(naive.map(|v| (v + 0.0).to_bits()) != sum(&amounts).map(f64::to_bits));
                let mut spread = (0.0, 0.0, 0.0);
                for value in arranged(levels.clone()) {
                    let far: f64 = value - spread.1;
                    spread.0 += 1.0;
                    spread.1 += far / spread.0;
                    spread.2 += far * (value - spread.1);
                }
                let naive = (spread.0 > 1.0).then(|| spread.2 / (spread.0 - 1.0));
                variances += usize::from(naive.map(f64::to_bits) != variance(&levels, 1).map(f64::to_bits));
            }
        }
        assert!(sums > 0 && variances > 0, "{order:?}: {sums} sums, {variances} variances");
    }
}
