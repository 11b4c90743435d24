//! Offline = online = request = oracle, to the bit, on random histories.
//!
//! Offline asks all rows at once, over rows in any order and partitioning or over stored tables. Online asks one row at a time and has only
//! the rows that `KeptRows` says must be kept. A deliberately wrong boundary must be caught by the very same comparison.

mod history;
mod known;
mod oracle;

use crate::support::*;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema, SchemaRef};
use gristmill_engine::LocalEngine;
use gristmill_kernel::port::{AsOfPlan, Engine, TableShape};
use gristmill_kernel::table::{Catalog, Relation, SystemColumns, WriteMode};
use gristmill_kernel::view::{Ties, ViewAt};
use history::{History, events, plans, refunds};
use oracle::{Cell, Knows, Oracle};
use rand::prelude::*;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::Arc;

type Answer = fn(&Oracle<'_>, &str, i64) -> Vec<Cell>;

/// A view and its oracle.
struct Case {
    name: &'static str,
    shape: &'static str,
    how: &'static str,
    sql: &'static str,
    answer: Answer,
}

const SLIDES: &str = "rows slide through windows";
const JOINED: &str = "rows are joined with what is asked";
const MOMENTS: &str = "moment by moment";

const CASES: &[Case] = &[
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
];

/// The same question in other words, through the word-for-word path.
const LITERAL: Case = Case {
    name: "general",
    shape: "general",
    how: MOMENTS,
    sql: "with recent as (select * from events where event_time > as_of() - interval '10 days')
          select r.customer_id, count(*) as rows, count(f.back) as returned, (count(f.order_id) + 1.0) / (count(*) + 100.0) as rate,
            sum(f.back) as back, max(r.amount - f.back) as best
          from recent r left join refunds f on f.order_id = r.order_id and f.buyer = r.customer_id group by r.customer_id",
    answer: |o, c, t| o.joined(c, t),
};

/// Over what the caller sends: `request` first, events joined to it.
const REQUEST: Case = Case {
    name: "request",
    shape: "request",
    how: JOINED,
    sql: "select q.customer_id, count(e.event_time) as n, cast(as_of() as bigint) - cast(max(e.event_time) as bigint) as since,
            last_value(e.amount) as last_amount, first_value(e.kind) as first_kind, last_value(e.kind order by e.quantity) as biggest,
            sum(e.amount) filter (where e.event_time > as_of() - interval '1 week') as week, string_agg(e.kind, ',') as kinds
          from request q left join events e on e.customer_id = q.customer_id group by q.customer_id",
    answer: |o, c, t| o.whole(c, t),
};

const REQUEST_LOOKUP: Case = Case {
    name: "request_lookup",
    shape: "request",
    how: JOINED,
    sql: "select q.customer_id, p.plan, p.fee, case when p.customer_id is not null then cast(as_of() as bigint) - 1 end as moment
          from request q left join customers p on p.customer_id = q.customer_id",
    answer: |o, c, t| o.profile(c, t),
};

fn shapes(with_request: bool) -> BTreeMap<String, TableShape> {
    let own = |rows: RecordBatch| -> SchemaRef {
        let fields: Vec<_> = rows.schema().fields().iter().filter(|f| !f.name().starts_with('_')).cloned().collect();
        Arc::new(Schema::new(fields))
    };
    let mut shapes = BTreeMap::from([
        ("events".to_string(), TableShape { schema: own(events(&[])), time: Some("event_time".into()) }),
        ("refunds".to_string(), TableShape { schema: own(refunds(&[])), time: Some("refunded_at".into()) }),
        ("customers".to_string(), TableShape { schema: own(plans(&[])), time: None }),
    ]);
    if with_request {
        let schema = batch(vec![("customer_id", texts(&[]))]).schema();
        shapes.insert("request".to_string(), TableShape { schema, time: None });
    }
    shapes
}

async fn compile(engine: &LocalEngine, case: &Case, ties: Ties) -> Arc<dyn AsOfPlan> {
    let at = if case.shape == "request" { ViewAt::Request } else { ViewAt::Sources };
    let plan = engine.compile(&view(case.sql, &["customer_id"], at, ties), &shapes(case.shape == "request")).await;
    let plan = plan.unwrap_or_else(|e| panic!("{}: {e}", case.name));
    assert_eq!((plan.shape().shape, plan.shape().how), (case.shape, case.how), "{}", case.name);
    plan
}

fn asked(rows: &[(String, i64)]) -> RecordBatch {
    let names: Vec<Option<&str>> = rows.iter().map(|(c, _)| Some(c.as_str())).collect();
    let times: Vec<Option<i64>> = rows.iter().map(|(_, t)| Some(*t)).collect();
    batch(vec![("customer_id", texts(&names)), ("time", moments(&times))])
}

/// Rows in any order, cut into any number of batches.
fn cut<T>(rows: &[T], rng: &mut StdRng, make: fn(&[&T]) -> RecordBatch) -> Relation {
    let mut all: Vec<&T> = rows.iter().collect();
    all.shuffle(rng);
    let schema = make(&[]).schema();
    let size = rng.random_range(1..=all.len().max(1));
    Relation::Rows(all.chunks(size.max(all.len() / 5 + 1)).map(make).collect(), schema)
}

fn catalog(history: &History, rng: &mut StdRng) -> Catalog {
    BTreeMap::from([
        ("events".to_string(), cut(&history.events, rng, events)),
        ("refunds".to_string(), cut(&history.refunds, rng, refunds)),
        ("customers".to_string(), cut(&history.plans, rng, plans)),
    ])
}

/// What an online store would hold of these tables for one entity: the plan's own words, nothing more.
fn kept(plan: &dyn AsOfPlan, history: &History, customer: &str, moment: i64, rng: &mut StdRng) -> Catalog {
    let mut tables = Catalog::new();
    for kept in &plan.shape().kept {
        let near = |time: i64| kept.window.is_none_or(|w| time >= moment - w.micros());
        let mine = |name: Option<&str>| kept.key.is_empty() || name == Some(customer);
        let relation = match kept.table.as_str() {
            "events" => {
                assert!(kept.key.is_empty() || kept.key == ["customer_id"]);
                let rows: Vec<_> =
                    history.events.iter().filter(|e| mine(e.customer.as_deref()) && e.time.is_some_and(near)).cloned().collect();
                cut(&rows, rng, events)
            }
            "refunds" => {
                assert!(kept.key.is_empty() || kept.key == ["buyer"]);
                let rows: Vec<_> = history.refunds.iter().filter(|r| mine(Some(&r.customer)) && near(r.time)).cloned().collect();
                cut(&rows, rng, refunds)
            }
            "customers" => {
                let rows: Vec<_> = history.plans.iter().filter(|p| mine(Some(&p.customer))).cloned().collect();
                cut(&rows, rng, plans)
            }
            other => panic!("no table {other}"),
        };
        tables.insert(kept.table.clone(), relation);
    }
    tables
}

fn cells(rows: &RecordBatch) -> Vec<Vec<Cell>> {
    let mut answer = vec![Vec::new(); rows.num_rows()];
    for column in rows.columns() {
        let column = match column.data_type() {
            DataType::Int64 | DataType::Float64 | DataType::Utf8 => column.clone(),
            DataType::Utf8View | DataType::LargeUtf8 => cast(column, &DataType::Utf8).unwrap(),
            other => panic!("a feature of type {other}"),
        };
        for (row, cells) in answer.iter_mut().enumerate() {
            cells.push(match column.data_type() {
                _ if column.is_null(row) => Cell::Null,
                DataType::Int64 => Cell::Int(column.as_primitive::<Int64Type>().value(row)),
                DataType::Float64 => Cell::Float(column.as_primitive::<Float64Type>().value(row).to_bits()),
                _ => Cell::Text(column.as_string::<i32>().value(row).to_string()),
            });
        }
    }
    answer
}

/// The asked rows whose answers differ from the oracle's.
fn differences(case: &Case, history: &History, ties: Ties, rows: &[(String, i64)], answer: &RecordBatch) -> Vec<String> {
    differences_known(case, history, ties, (rows, &vec![Knows::All; rows.len()]), answer)
}

/// As [`differences`], where each asked row knows only some of the history.
fn differences_known(
    case: &Case,
    history: &History,
    ties: Ties,
    (rows, knows): (&[(String, i64)], &[Knows]),
    answer: &RecordBatch,
) -> Vec<String> {
    assert_eq!(answer.num_rows(), rows.len(), "{}: as many answers as questions", case.name);
    let mut wrong = Vec::new();
    for (((customer, moment), knows), got) in rows.iter().zip(knows).zip(cells(answer)) {
        let oracle = Oracle { history, ties, knows: *knows };
        let expected = (case.answer)(&oracle, customer, *moment);
        if got != expected {
            wrong.push(format!("{} of {customer} at {moment}, {knows:?}: got {got:?}, expected {expected:?}", case.name));
        }
    }
    wrong
}

fn ties_of(number: usize) -> Ties {
    if number % 4 == 3 { Ties::Include } else { Ties::Exclude }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_histories_have_one_answer() {
    let bench = bench();
    let mut plans = Vec::new();
    for case in CASES {
        plans.push((case, [compile(&bench.engine, case, Ties::Exclude).await, compile(&bench.engine, case, Ties::Include).await]));
    }
    let mut rng = StdRng::seed_from_u64(20_110_901);
    let mut histories = 0;
    for number in 0..21 {
        let history = history::random(&mut rng, 50);
        histories += 50;
        let ties = ties_of(number);
        for (case, compiled) in &plans {
            let plan = &compiled[usize::from(ties == Ties::Include)];
            let offline = plan.evaluate(&asked(&history.asked), &catalog(&history, &mut rng)).await.unwrap();
            assert_eq!(differences(case, &history, ties, &history.asked, &offline), Vec::<String>::new(), "offline, batch {number}");
            for _ in 0..3 {
                let one = vec![history.asked.choose(&mut rng).unwrap().clone()];
                let tables = kept(plan.as_ref(), &history, &one[0].0, one[0].1, &mut rng);
                let online = plan.evaluate(&asked(&one), &tables).await.unwrap();
                assert_eq!(differences(case, &history, ties, &one, &online), Vec::<String>::new(), "online, batch {number}");
            }
        }
    }
    assert!(histories >= 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_views_have_the_same_answer() {
    let bench = bench();
    let mut rng = StdRng::seed_from_u64(7_300);
    for case in [&REQUEST, &REQUEST_LOOKUP] {
        for number in 0..4 {
            let ties = ties_of(number);
            let plan = compile(&bench.engine, case, ties).await;
            let history = history::random(&mut rng, 40);
            let rows = asked(&history.asked);
            let answer = plan.evaluate(&rows, &catalog(&history, &mut rng)).await.unwrap();
            assert_eq!(differences(case, &history, ties, &history.asked, &answer), Vec::<String>::new());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_run_word_for_word_has_the_same_answer() {
    let bench = bench();
    let mut rng = StdRng::seed_from_u64(99);
    for ties in [Ties::Exclude, Ties::Include] {
        let plan = compile(&bench.engine, &LITERAL, ties).await;
        assert!(plan.shape().remarks.iter().any(|r| r.contains("slow")), "{:?}", plan.shape().remarks);
        let mut history = history::random(&mut rng, 12);
        history.asked.truncate(8);
        let answer = plan.evaluate(&asked(&history.asked), &catalog(&history, &mut rng)).await.unwrap();
        assert_eq!(differences(&LITERAL, &history, ties, &history.asked, &answer), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_tables_have_the_same_answer() {
    let bench = bench();
    let mut rng = StdRng::seed_from_u64(4_711);
    let history = history::random(&mut rng, 60);
    let mut tables = Catalog::new();
    for (name, time, relation) in [
        ("events", Some("event_time"), cut(&history.events, &mut rng, events)),
        ("refunds", Some("refunded_at"), cut(&history.refunds, &mut rng, refunds)),
        ("customers", None, cut(&history.plans, &mut rng, plans)),
    ] {
        let Relation::Rows(batches, _) = relation else { panic!("rows") };
        for rows in batches {
            bench.engine.write(write(name, vec![rows], WriteMode::Append, SystemColumns::Keep, &[])).await.unwrap();
        }
        tables.insert(name.to_string(), Relation::Stored { table: table(name), version: None, time: time.map(str::to_string) });
    }
    for case in CASES {
        let plan = compile(&bench.engine, case, Ties::Exclude).await;
        let answer = plan.evaluate(&asked(&history.asked), &tables).await.unwrap();
        assert_eq!(differences(case, &history, Ties::Exclude, &history.asked, &answer), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_boundary_is_caught() {
    let bench = bench();
    let mut rng = StdRng::seed_from_u64(1);
    let history = history::random(&mut rng, 150);
    let tables = catalog(&history, &mut rng);
    let good = &CASES[0];
    let caught = async |sql: &'static str, ties: Ties| {
        let mutated = Case { name: "mutated", shape: "aggregate", how: SLIDES, sql, answer: good.answer };
        let plan = compile(&bench.engine, &mutated, ties).await;
        let answer = plan.evaluate(&asked(&history.asked), &tables).await.unwrap();
        differences(&mutated, &history, Ties::Exclude, &history.asked, &answer).len()
    };
    assert_eq!(caught(good.sql, Ties::Exclude).await, 0, "the right boundary");
    assert!(caught(good.sql, Ties::Include).await > 0, "a row at the moment itself leaks in");
    for (right, wrong) in [
        ("event_time > as_of() - interval '10 days'", "event_time >= as_of() - interval '10 days'"),
        ("event_time > as_of() - interval '10 days'", "event_time > as_of() - interval '10 days' + interval '1 microsecond'"),
        ("event_time >= as_of() - interval '7 days'", "event_time > as_of() - interval '7 days'"),
    ] {
        let sql: &'static str = Box::leak(good.sql.replace(right, wrong).into_boxed_str());
        assert_ne!(sql, good.sql);
        assert!(caught(sql, Ties::Exclude).await > 0, "{wrong} was not caught");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_asks_nothing_of_its_rows_has_an_answer() {
    let bench = bench();
    let mut rng = StdRng::seed_from_u64(5);
    let history = history::random(&mut rng, 20);
    let one = Case {
        name: "one",
        shape: "aggregate",
        how: JOINED,
        sql: "select customer_id, 1 as one from events group by customer_id",
        answer: |_, _, _| vec![Cell::Int(1)],
    };
    let plan = compile(&bench.engine, &one, Ties::Exclude).await;
    let answer = plan.evaluate(&asked(&history.asked), &catalog(&history, &mut rng)).await.unwrap();
    assert_eq!(differences(&one, &history, Ties::Exclude, &history.asked, &answer), Vec::<String>::new());
}

#[tokio::test]
async fn kept_rows_name_key_and_window() {
    let bench = bench();
    let of = async |number: usize| compile(&bench.engine, &CASES[number], Ties::Exclude).await.shape().kept.clone();
    let activity = of(0).await;
    assert_eq!((activity[0].key.clone(), activity[0].window.unwrap().to_string()), (vec!["customer_id".to_string()], "1w3d".to_string()));
    assert_eq!(of(1).await[0].window, None, "count(*) without a window needs all of history");
    let joined = of(3).await;
    assert_eq!((joined[1].table.as_str(), joined[1].key.clone(), joined[1].window), ("refunds", vec!["buyer".to_string()], None));
    let profile = of(4).await;
    assert_eq!((profile[0].time.clone(), profile[0].key.clone()), (None, Vec::new()), "a snapshot is kept whole");
}

#[tokio::test]
async fn nothing_asked_is_nothing_answered() {
    let bench = bench();
    let plan = compile(&bench.engine, &CASES[0], Ties::Exclude).await;
    let empty = History { events: vec![], refunds: vec![], plans: vec![], asked: vec![("c1".into(), history::BASE)] };
    let mut rng = StdRng::seed_from_u64(1);
    assert_eq!(plan.evaluate(&asked(&[]), &catalog(&empty, &mut rng)).await.unwrap().num_rows(), 0);
    let answer = plan.evaluate(&asked(&empty.asked), &catalog(&empty, &mut rng)).await.unwrap();
    assert_eq!(differences(&CASES[0], &empty, Ties::Exclude, &empty.asked, &answer), Vec::<String>::new());
}
