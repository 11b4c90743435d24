//! Offline = online = request = oracle, to the bit, on random histories.
//!
//! Offline asks all rows at once, over rows in any order and partitioning or over stored tables. Online asks one row at a time, or one per entity,
//! and has only the rows that `KeptRows` says must be kept. [`thousands`] asks ten thousand histories in every way; [`mutations`] holds that
//! the very same comparison catches whatever is deliberately wrong. That a real online store gives these rows is the test of `features`.

mod arrival;
mod cases;
mod history;
mod known;
mod mutations;
mod oracle;
mod thousands;

use crate::support::*;
use arrival::{Arrival, Batches, Order};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema, SchemaRef};
use cases::{CASES, Case, JOINED, LITERAL, LITERAL_ORDERED};
use gristmill_engine::LocalEngine;
use gristmill_kernel::port::{AsOfPlan, Engine, TableShape};
use gristmill_kernel::table::{Catalog, Relation, SystemColumns, WriteMode};
use gristmill_kernel::view::{Ties, ViewAt};
use history::{History, events, plans, refunds};
use oracle::{Cell, Oracle};
use rand::prelude::*;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// In any order, in any number of batches.
const ANYHOW: Arrival = Arrival { order: Order::Shuffled, batches: Batches::Many };

fn cells(rows: &RecordBatch) -> Vec<Vec<Cell>> {
    let mut answer = vec![Vec::new(); rows.num_rows()];
    for column in rows.columns() {
        let column = match column.data_type() {
            DataType::Int64 | DataType::Float64 | DataType::Utf8 | DataType::Boolean => column.clone(),
            DataType::Utf8View | DataType::LargeUtf8 => cast(column, &DataType::Utf8).unwrap(),
            other => panic!("a feature of type {other}"),
        };
        for (row, cells) in answer.iter_mut().enumerate() {
            cells.push(match column.data_type() {
                _ if column.is_null(row) => Cell::Null,
                DataType::Int64 => Cell::Int(column.as_primitive::<Int64Type>().value(row)),
                DataType::Float64 => Cell::Float(column.as_primitive::<Float64Type>().value(row).to_bits()),
                DataType::Boolean => Cell::Bool(column.as_boolean().value(row)),
                _ => Cell::Text(column.as_string::<i32>().value(row).to_string()),
            });
        }
    }
    answer
}

/// The asked rows whose answers differ from the oracle's.
fn differences(case: &Case, oracle: &Oracle<'_>, rows: &[(String, i64)], answer: &RecordBatch) -> Vec<String> {
    assert_eq!(answer.num_rows(), rows.len(), "{}: as many answers as questions", case.name);
    let mut wrong = Vec::new();
    for ((customer, moment), got) in rows.iter().zip(cells(answer)) {
        let expected = (case.answer)(oracle, customer, *moment);
        if got != expected {
            wrong.push(format!("{} of {customer} at {moment}, {:?}: got {got:?}, expected {expected:?}", case.name, oracle.knows));
        }
    }
    wrong
}

fn ties_of(number: usize) -> Ties {
    if number % 4 == 3 { Ties::Include } else { Ties::Exclude }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_run_word_for_word_has_the_same_answer() {
    let bench = bench();
    let mut rng = StdRng::seed_from_u64(99);
    for case in [&LITERAL, &LITERAL_ORDERED] {
        for number in 0..3 {
            let ties = ties_of(number + 1);
            let plan = compile(&bench.engine, case, ties).await;
            assert!(plan.shape().remarks.iter().any(|r| r.contains("slow")), "{:?}", plan.shape().remarks);
            let mut history = history::random(&mut rng, 12);
            history.asked.truncate(8);
            let answer = plan.evaluate(&asked(&history.asked), &Arrival::of(number).catalog(&history, &mut rng)).await.unwrap();
            assert_eq!(differences(case, &Oracle::new(&history, ties), &history.asked, &answer), Vec::<String>::new());
        }
    }
}

/// A history in stored tables, in the order in which it arrives.
async fn stored(bench: &Bench, history: &History, rng: &mut StdRng) -> Catalog {
    let mut given = ANYHOW.catalog(history, rng);
    let mut tables = Catalog::new();
    for (name, time) in [("events", Some("event_time")), ("refunds", Some("refunded_at")), ("customers", None)] {
        let Some(Relation::Rows(batches, _)) = given.remove(name) else { panic!("rows") };
        for rows in batches.into_iter().filter(|rows| rows.num_rows() > 0) {
            bench.engine.write(write(name, vec![rows], WriteMode::Append, SystemColumns::Keep, &[])).await.unwrap();
        }
        tables.insert(name.to_string(), Relation::Stored { table: table(name), version: None, time: time.map(str::to_string) });
    }
    tables
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_read_in_passes_has_the_same_answer() {
    let bench = bench();
    let mut rng = StdRng::seed_from_u64(1_618);
    let history = history::random(&mut rng, 200);
    let tables = stored(&bench, &history, &mut rng).await;
    let root = bench.folder.path().join("tables");
    // From what no entity fits into to what all of them fit into.
    let engines: Vec<LocalEngine> = [1 << 8, 1 << 12, 1 << 14, 1 << 17].map(|bytes| LocalEngine::open_within(&root, bytes).unwrap()).into();
    for case in CASES {
        let mut refused = Vec::new();
        for engine in &engines {
            let plan = compile(engine, case, Ties::Exclude).await;
            if plan.shape().how != "rows slide through windows" {
                continue;
            }
            let answer = plan.evaluate(&asked(&history.asked), &tables).await;
            refused.push(answer.is_err());
            match answer {
                Ok(answer) => {
                    let wrong = differences(case, &Oracle::new(&history, Ties::Exclude), &history.asked, &answer);
                    assert_eq!(wrong, Vec::<String>::new(), "{}", case.name);
                }
                Err(fault) => assert!(fault.message.contains("the rows of one entity take more than"), "{fault}"),
            }
        }
        // In between, the largest entity fits and all together do not.
        assert!(refused.is_empty() || refused[0] && !refused[3], "{}: {refused:?}", case.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_tables_have_the_same_answer() {
    let bench = bench();
    let mut rng = StdRng::seed_from_u64(4_711);
    let history = history::random(&mut rng, 60);
    let tables = stored(&bench, &history, &mut rng).await;
    for case in CASES {
        let plan = compile(&bench.engine, case, Ties::Exclude).await;
        let answer = plan.evaluate(&asked(&history.asked), &tables).await.unwrap();
        assert_eq!(differences(case, &Oracle::new(&history, Ties::Exclude), &history.asked, &answer), Vec::<String>::new());
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
    let answer = plan.evaluate(&asked(&history.asked), &ANYHOW.catalog(&history, &mut rng)).await.unwrap();
    assert_eq!(differences(&one, &Oracle::new(&history, Ties::Exclude), &history.asked, &answer), Vec::<String>::new());
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
    assert_eq!(plan.evaluate(&asked(&[]), &ANYHOW.catalog(&empty, &mut rng)).await.unwrap().num_rows(), 0);
    let answer = plan.evaluate(&asked(&empty.asked), &ANYHOW.catalog(&empty, &mut rng)).await.unwrap();
    assert_eq!(differences(&CASES[0], &Oracle::new(&empty, Ties::Exclude), &empty.asked, &answer), Vec::<String>::new());
}

#[tokio::test]
async fn a_view_says_what_it_made_exact() {
    let bench = bench();
    let named = |name: &str| CASES.iter().find(|case| case.name == name).unwrap();
    let notes = compile(&bench.engine, named("shares"), Ties::Exclude).await.shape().notes.clone();
    for word in ["approx_distinct", "approx_median", "approx_percentile_cont", "any_value", "median"] {
        assert!(notes.iter().any(|note| note.contains(&format!("`{word}`"))), "{word}: {notes:?}");
    }
    assert_eq!(compile(&bench.engine, named("activity"), Ties::Exclude).await.shape().notes, Vec::<String>::new());
}
