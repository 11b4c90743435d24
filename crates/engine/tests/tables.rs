//! The conformance suite of the table half of the port.

use crate::support::*;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use gristmill_engine::LocalEngine;
use gristmill_kernel::error::Code;
use gristmill_kernel::port::Engine;
use gristmill_kernel::table::{Relation, SystemColumns, WriteMode};

fn three(from: i64) -> arrow::array::RecordBatch {
    batch(vec![("id", ints(&[Some(from), Some(from + 1), None])), ("name", texts(&[Some("a"), None, Some("c")]))])
}

fn column(rows: &[arrow::array::RecordBatch], name: &str) -> Vec<Option<i64>> {
    rows.iter().flat_map(|b| b.column_by_name(name).unwrap().as_primitive::<Int64Type>().iter().collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn rows_are_numbered_and_read_back_in_order() {
    let bench = bench();
    assert!(bench.engine.table(&table("t")).await.unwrap().is_none());
    let first = bench.engine.write(write("t", vec![three(0), three(10)], WriteMode::Append, at(5), &[])).await.unwrap();
    assert!(first.written);
    assert_eq!((first.info.rows, first.info.last_load, first.info.generation, first.info.version), (6, 1, 0, 0));
    let second = bench.engine.write(write("t", vec![three(20)], WriteMode::Append, at(6), &[])).await.unwrap();
    assert_eq!((second.info.rows, second.info.last_load, second.info.version), (9, 2, 1));
    let own: Vec<String> = second.info.schema.fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(own, ["id", "name"]);
    let all = scan(&bench.engine, "t", None, 0).await;
    assert_eq!(column(&all, "_load"), [1, 1, 1, 1, 1, 1, 2, 2, 2].map(Some));
    assert_eq!(column(&all, "_row"), [0, 1, 2, 3, 4, 5, 0, 1, 2].map(Some));
    assert_eq!(column(&scan(&bench.engine, "t", None, 1).await, "id"), [Some(20), Some(21), None]);
    assert_eq!(column(&scan(&bench.engine, "t", Some(0), 0).await, "_load").len(), 6, "an older version");
    let fault = match bench.engine.scan(&table("t"), Some(9), 0).await {
        Ok(_) => panic!("version 9 does not exist"),
        Err(fault) => fault,
    };
    assert_eq!(fault.code, Code::UNKNOWN_TABLE);
}

#[tokio::test]
async fn a_position_lands_once() {
    let bench = bench();
    let write_it = |offset| write("t", vec![three(0)], WriteMode::Append, at(1), &[("files", offset)]);
    assert!(bench.engine.write(write_it(1)).await.unwrap().written);
    let again = bench.engine.write(write_it(1)).await.unwrap();
    assert!(!again.written);
    assert_eq!((again.info.rows, again.info.positions["files"]), (3, 1));
    assert!(bench.engine.write(write_it(2)).await.unwrap().written);
    let only = bench.engine.write(write("t", vec![], WriteMode::Append, at(9), &[("files", 7)])).await.unwrap();
    assert!(only.written);
    assert_eq!((only.info.rows, only.info.last_load, only.info.positions["files"]), (6, 2, 7), "a position may move without rows");
    let mixed = bench.engine.write(write("t", vec![three(1)], WriteMode::Append, at(9), &[("other", 1), ("files", 7)])).await.unwrap();
    assert!(!mixed.written, "one position that is not new refuses the whole write");
    assert!(!mixed.info.positions.contains_key("other"));
}

#[tokio::test]
async fn everything_survives_reopening() {
    let bench = bench();
    let mut first = write("t", vec![three(0)], WriteMode::Append, at(1), &[("files", 3)]);
    first.note = serde_json::json!({ "read": "a.csv" });
    bench.engine.write(first).await.unwrap();
    bench.engine.write(write("t", vec![three(0)], WriteMode::Append, at(1), &[])).await.unwrap();
    let again = LocalEngine::open(&bench.folder.path().join("tables")).unwrap();
    let info = again.table(&table("t")).await.unwrap().unwrap();
    assert_eq!((info.rows, info.last_load, info.positions["files"], info.version), (6, 2, 3, 1));
    assert_eq!(info.note["read"], "a.csv", "the note of the last commit that carried one");
    assert_eq!(column(&scan(&again, "t", None, 0).await, "_load").len(), 6);
}

#[tokio::test]
async fn overwriting_raises_the_generation_and_keeps_old_versions() {
    let bench = bench();
    bench.engine.write(write("t", vec![three(0)], WriteMode::Append, at(1), &[])).await.unwrap();
    let other = batch(vec![("other", floats(&[Some(0.5)]))]);
    let after = bench.engine.write(write("t", vec![other], WriteMode::Overwrite, at(2), &[])).await.unwrap();
    assert_eq!((after.info.generation, after.info.rows, after.info.last_load), (1, 1, 2), "load numbers are never used twice");
    assert_eq!(after.info.schema.field(0).name(), "other");
    assert_eq!(column(&scan(&bench.engine, "t", Some(0), 0).await, "id").len(), 3);
    let keep = batch(vec![
        ("other", floats(&[Some(1.5)])),
        ("_load", ints(&[Some(40)])),
        ("_row", ints(&[Some(2)])),
        ("_loaded_at", moments(&[Some(3)])),
    ]);
    let kept = bench.engine.write(write("t", vec![keep], WriteMode::Append, SystemColumns::Keep, &[])).await.unwrap();
    assert_eq!(kept.info.last_load, 40);
    assert_eq!(column(&scan(&bench.engine, "t", None, 2).await, "_row"), [Some(2)]);
}

#[tokio::test]
async fn a_new_column_is_null_in_old_rows_and_a_changed_type_is_refused() {
    let bench = bench();
    bench.engine.write(write("t", vec![three(0)], WriteMode::Append, at(1), &[])).await.unwrap();
    let wider = batch(vec![("id", ints(&[Some(9)])), ("more", ints(&[Some(7)]))]);
    let after = bench.engine.write(write("t", vec![wider], WriteMode::Append, at(2), &[])).await.unwrap();
    assert_eq!(after.info.schema.fields().len(), 3);
    assert_eq!(column(&scan(&bench.engine, "t", None, 0).await, "more"), [None, None, None, Some(7)]);
    let other = batch(vec![("id", texts(&[Some("x")]))]);
    let fault = bench.engine.write(write("t", vec![other], WriteMode::Append, at(3), &[])).await.unwrap_err();
    assert_eq!(fault.code, Code::SCHEMA_MISMATCH);
    assert_eq!(bench.engine.table(&table("t")).await.unwrap().unwrap().rows, 4, "nothing was written");
}

#[tokio::test]
async fn a_table_without_our_columns_is_read_as_written() {
    let bench = bench();
    let info = bench.engine.write(write("t", vec![three(0)], WriteMode::Append, SystemColumns::None, &[])).await.unwrap().info;
    assert_eq!((info.last_load, info.rows), (0, 3));
    let rows = scan(&bench.engine, "t", None, 0).await;
    assert_eq!(rows[0].num_columns(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_lose_nothing() {
    let bench = bench();
    let root = bench.folder.path().join("tables");
    // Two engines stand for two processes.
    let engines = [std::sync::Arc::new(LocalEngine::open(&root).unwrap()), std::sync::Arc::new(LocalEngine::open(&root).unwrap())];
    let mut tasks = Vec::new();
    for writer in 0..6usize {
        let engine = engines[writer % 2].clone();
        tasks.push(tokio::spawn(async move {
            for turn in 0..5i64 {
                let positions = [(format!("writer{writer}"), turn + 1)];
                let positions: Vec<(&str, i64)> = positions.iter().map(|(s, o)| (s.as_str(), *o)).collect();
                let done = engine.write(write("t", vec![three(turn)], WriteMode::Append, at(turn), &positions)).await.unwrap();
                assert!(done.written);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let info = bench.engine.table(&table("t")).await.unwrap().unwrap();
    assert_eq!((info.rows, info.version, info.last_load, info.positions.len()), (90, 29, 30, 6));
    let rows = scan(&bench.engine, "t", None, 0).await;
    let numbered: std::collections::BTreeSet<_> = column(&rows, "_load").into_iter().zip(column(&rows, "_row")).collect();
    assert_eq!(numbered.len(), 90, "no two rows share a number");
}

#[tokio::test]
async fn a_commit_that_was_cut_off_is_not_seen() {
    let bench = bench();
    bench.engine.write(write("t", vec![three(0)], WriteMode::Append, at(1), &[("files", 1)])).await.unwrap();
    // A crash after the data file and in the middle of the log entry leaves an orphan and a staging file.
    let folder = bench.folder.path().join("tables/t");
    std::fs::write(folder.join("part-000000000001-0000-dead.parquet"), b"half").unwrap();
    std::fs::write(folder.join("_delta_log/00000000000000000001.json#1"), b"{\"comm").unwrap();
    let again = LocalEngine::open(&bench.folder.path().join("tables")).unwrap();
    assert_eq!(again.table(&table("t")).await.unwrap().unwrap().version, 0);
    assert_eq!(column(&scan(&again, "t", None, 0).await, "id").len(), 3);
    assert_eq!(again.write(write("t", vec![three(5)], WriteMode::Append, at(2), &[("files", 2)])).await.unwrap().info.version, 1);
}

#[tokio::test]
async fn many_small_commits_stay_quick_to_open() {
    let bench = bench();
    for turn in 0..60i64 {
        bench
            .engine
            .write(write("t", vec![batch(vec![("id", ints(&[Some(turn)]))])], WriteMode::Append, at(turn), &[("s", turn)]))
            .await
            .unwrap();
    }
    assert!(bench.folder.path().join("tables/t/_delta_log/_last_checkpoint").exists(), "a checkpoint shortens the log");
    let again = LocalEngine::open(&bench.folder.path().join("tables")).unwrap();
    let info = again.table(&table("t")).await.unwrap().unwrap();
    assert_eq!((info.rows, info.version, info.positions["s"]), (60, 59, 59));
    assert_eq!(column(&scan(&again, "t", None, 30).await, "id").len(), 30);
    assert_eq!(column(&scan(&again, "t", Some(10), 0).await, "id").len(), 11);
}

#[tokio::test]
async fn queries_see_own_columns_only_and_the_newest_load_of_a_snapshot() {
    let bench = bench();
    bench.engine.write(write("t", vec![three(0)], WriteMode::Append, at(1), &[])).await.unwrap();
    bench.engine.write(write("t", vec![three(10)], WriteMode::Append, at(2), &[])).await.unwrap();
    let stored = |time: Option<&str>| Relation::Stored { table: table("t"), version: None, time: time.map(str::to_string) };
    let catalog = [("s".to_string(), stored(None)), ("e".to_string(), stored(Some("id")))].into();
    let star = query(&bench.engine, "select * from s", &catalog).await.unwrap();
    assert_eq!(column(&star, "id"), [Some(10), Some(11), None]);
    assert_eq!(star[0].num_columns(), 2);
    assert_eq!(column(&query(&bench.engine, "select count(*) as n from e", &catalog).await.unwrap(), "n"), [Some(6)]);
    let view = [("s".to_string(), stored(None)), ("v".to_string(), Relation::View("select id + 1 as id from s".into()))].into();
    assert_eq!(column(&query(&bench.engine, "select id from v order by id", &view).await.unwrap(), "id"), [Some(11), Some(12), None]);
    let circle = [("v".to_string(), Relation::View("select * from v".into()))].into();
    assert_eq!(query(&bench.engine, "select * from v", &circle).await.unwrap_err().code, Code::CYCLE);
}
