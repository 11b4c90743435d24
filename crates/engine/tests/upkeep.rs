//! The conformance suite of the port that keeps tables in order: whatever is rewritten or removed, every version gives the rows it gave.

use crate::support::*;
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use futures::StreamExt;
use gristmill_engine::LocalEngine;
use gristmill_kernel::Timestamp;
use gristmill_kernel::error::Code;
use gristmill_kernel::limits::{TABLE_FILES_ALIKE_MAX, TABLE_REPLACED_KEPT_MS};
use gristmill_kernel::port::{Compacted, Engine, TableUpkeep};
use gristmill_kernel::table::{Relation, SystemColumns, WriteMode};
use gristmill_kernel::view::{Ties, ViewAt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// By entity and time.
const BY: [&str; 2] = ["id", "at"];

fn by() -> Vec<String> {
    BY.map(String::from).to_vec()
}

/// A few rows of one push: entities and times all over.
fn push(number: i64) -> RecordBatch {
    let id = |i: i64| (number * 7 + i * 13) % 11;
    let ids = [Some(id(0)), Some(id(1)), if number % 5 == 0 { None } else { Some(id(2)) }];
    let at = [Some((number * 31) % 97), Some(number), None];
    let values = [Some(0.1 * number as f64), Some(-0.0), if number % 3 == 0 { Some(f64::NAN) } else { None }];
    batch(vec![("id", ints(&ids)), ("at", moments(&at)), ("value", floats(&values)), ("word", texts(&[Some("é"), None, Some("")]))])
}

async fn pushes(engine: &LocalEngine, numbers: std::ops::Range<i64>) {
    for number in numbers {
        engine.write(write("t", vec![push(number)], WriteMode::Append, at(number), &[("journal", number + 1)])).await.unwrap();
    }
}

/// Rows as one batch; bits count.
async fn rows(engine: &LocalEngine, version: Option<u64>, after: i64) -> RecordBatch {
    let batches = scan(engine, "t", version, after).await;
    match batches.first() {
        Some(first) => concat_batches(&first.schema(), &batches).unwrap(),
        None => RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())),
    }
}

async fn compact_all(engine: &LocalEngine, cluster: &[String]) -> u64 {
    let mut replaced = 0;
    loop {
        let done = engine.compact(&table("t"), cluster).await.unwrap();
        if done == Compacted::default() {
            return replaced;
        }
        replaced += done.replaced;
    }
}

#[expect(clippy::disallowed_methods, reason = "files carry the time of the machine")]
fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_micros(now.as_micros() as i64)
}

/// When what is replaced now may go.
fn later() -> Timestamp {
    Timestamp::from_micros(now().micros() + (TABLE_REPLACED_KEPT_MS as i64 + 1_000) * 1_000)
}

fn data_files(bench: &Bench) -> usize {
    let folder = std::fs::read_dir(bench.folder.path().join("tables/t")).unwrap();
    folder.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains(".parquet")).count()
}

#[tokio::test]
async fn many_small_commits_become_few_files_and_every_version_stays() {
    let bench = bench();
    let engine = &bench.engine;
    let many = TABLE_FILES_ALIKE_MAX as i64 + 8;
    pushes(engine, 0..many).await;
    let mut before = Vec::new();
    for version in 0..many as u64 {
        before.push(rows(engine, Some(version), 0).await);
    }
    let was = engine.table(&table("t")).await.unwrap().unwrap();

    assert_eq!(compact_all(engine, &by()).await, many as u64);
    let is = engine.table(&table("t")).await.unwrap().unwrap();
    assert_eq!(
        (is.version, is.rows, is.last_load, is.generation, &is.positions),
        (was.version, was.rows, was.last_load, was.generation, &was.positions)
    );
    let layout = engine.layout(&table("t")).await.unwrap().unwrap();
    assert_eq!((layout.files, layout.rows), (1, was.rows));
    assert_eq!(layout.sorted, [(vec!["id".into(), "at".into(), "_load".into(), "_row".into()], was.rows)]);

    assert!(bench.folder.path().join(format!("tables/t/_delta_log/{many:020}.json")).exists(), "one commit");
    pushes(engine, many..many + 3).await;
    assert_eq!(engine.table(&table("t")).await.unwrap().unwrap().version, was.version + 4, "a version that nobody sees lies in between");
    let reopened = LocalEngine::open(&bench.folder.path().join("tables")).unwrap();
    for engine in [engine, &reopened] {
        for (version, rows_before) in before.iter().enumerate() {
            assert_eq!(&rows(engine, Some(version as u64), 0).await, rows_before, "version {version}, to the bit and in order");
        }
        assert_eq!(rows(engine, Some(was.version), many - 2).await, before[many as usize - 1].slice(3 * (many as usize - 2), 6));
        assert_eq!(rows(engine, None, many).await.num_rows(), 9, "only what came behind");
    }
    // A table that is compacted again and again stays small.
    for round in 0..4 {
        let from = many + 3 + round * 20;
        pushes(engine, from..from + 20).await;
        compact_all(engine, &by()).await;
    }
    let layout = engine.layout(&table("t")).await.unwrap().unwrap();
    assert!(layout.files < TABLE_FILES_ALIKE_MAX as u64, "{layout:?}");
    assert_eq!(rows(engine, Some(7), 0).await, before[7]);
}

#[tokio::test]
async fn files_go_when_nobody_can_be_reading_them_and_versions_do_not() {
    let bench = bench();
    let engine = &bench.engine;
    let many = TABLE_FILES_ALIKE_MAX as i64;
    pushes(engine, 0..many).await;
    let before = rows(engine, Some(9), 0).await;
    let mut reader = engine.scan(&table("t"), Some(9), 0).await.unwrap();
    compact_all(engine, &by()).await;
    assert_eq!(engine.vacuum(&table("t"), now()).await.unwrap().files, 0, "a file that was just replaced stays");
    let mut read = 0;
    while let Some(batch) = reader.next().await {
        read += batch.unwrap().num_rows();
    }
    assert_eq!(read, before.num_rows(), "whoever began to read goes on");
    assert_eq!(data_files(&bench), many as usize + 1);

    let gone = engine.vacuum(&table("t"), later()).await.unwrap();
    assert_eq!(gone.files, many as u64);
    assert!(gone.bytes > 0);
    assert_eq!(data_files(&bench), 1);
    let reopened = LocalEngine::open(&bench.folder.path().join("tables")).unwrap();
    for engine in [engine, &reopened] {
        assert_eq!(rows(engine, Some(9), 0).await, before, "read from the file that took its place");
        assert_eq!(rows(engine, None, 0).await.num_rows(), 3 * many as usize);
    }
    assert_eq!(engine.vacuum(&table("t"), later()).await.unwrap().files, 0);
    assert_eq!(engine.vacuum(&table("nothing"), later()).await.unwrap().files, 0);
}

#[tokio::test]
async fn what_was_before_an_overwrite_or_an_earlier_load_stays() {
    let bench = bench();
    let engine = &bench.engine;
    let many = TABLE_FILES_ALIKE_MAX as i64;
    pushes(engine, 0..many).await;
    compact_all(engine, &by()).await;
    pushes(engine, many..many + 2).await;
    let keep = |load: i64| {
        let rows =
            vec![("id", ints(&[Some(1)])), ("_load", ints(&[Some(load)])), ("_row", ints(&[Some(99)])), ("_loaded_at", moments(&[None]))];
        write("t", vec![batch(rows)], WriteMode::Append, SystemColumns::Keep, &[])
    };
    // A row of a load long past: versions up to here do not have it.
    let mended = engine.write(keep(3)).await.unwrap().info.version;
    engine.write(write("t", vec![push(1)], WriteMode::Overwrite, at(9), &[])).await.unwrap();
    pushes(engine, many * 2..many * 3).await;
    let newest = engine.table(&table("t")).await.unwrap().unwrap().version;
    let mut before = Vec::new();
    for version in 0..=newest {
        before.push(rows(engine, Some(version), 0).await);
    }
    compact_all(engine, &by()).await;
    assert!(engine.vacuum(&table("t"), later()).await.unwrap().files > 0);
    let reopened = LocalEngine::open(&bench.folder.path().join("tables")).unwrap();
    for (version, rows_before) in before.iter().enumerate() {
        assert_eq!(&rows(&reopened, Some(version as u64), 0).await, rows_before, "version {version} of {newest}, mended at {mended}");
    }
}

#[tokio::test]
async fn queries_of_old_versions_count_and_show_what_they_did() {
    let bench = bench();
    let engine = &bench.engine;
    pushes(engine, 0..5).await;
    let wider = batch(vec![("id", ints(&[Some(5)])), ("more", ints(&[Some(7)]))]);
    engine.write(write("t", vec![wider], WriteMode::Append, at(5), &[])).await.unwrap();
    pushes(engine, 6..TABLE_FILES_ALIKE_MAX as i64 + 6).await;
    let catalog = |time: Option<&str>| {
        [("t".to_string(), Relation::Stored { table: table("t"), version: Some(4), time: time.map(str::to_string) })].into()
    };
    let queries = [
        "select count(*) as n from t",
        "select * from t order by at, id, value",
        "select id, max(value) as v from t group by id order by id",
    ];
    let mut before = Vec::new();
    for sql in queries {
        for time in [Some("at"), None] {
            before.push(query(engine, sql, &catalog(time)).await.unwrap());
        }
    }
    compact_all(engine, &by()).await;
    engine.vacuum(&table("t"), later()).await.unwrap();
    let mut before = before.into_iter();
    for sql in queries {
        for time in [Some("at"), None] {
            let after = query(engine, sql, &catalog(time)).await.unwrap();
            let before = before.next().unwrap();
            let one = |rows: &[RecordBatch]| concat_batches(&rows[0].schema(), rows).unwrap();
            assert_eq!(one(&after), one(&before), "{sql} {time:?}");
        }
    }
}

#[tokio::test]
async fn a_view_gives_the_same_bits_from_clustered_files() {
    let bench = bench();
    let engine = &bench.engine;
    let many = TABLE_FILES_ALIKE_MAX as i64 + 3;
    pushes(engine, 0..many).await;
    let def = view(
        "select id, count(*) as n, sum(value) as s, max(value) filter (where at > as_of() - interval '20 microseconds') as m, \
         min(word) as w from t where at > as_of() - interval '60 microseconds' group by id",
        &["id"],
        ViewAt::Sources,
        Ties::Exclude,
    );
    let schema = engine.table(&table("t")).await.unwrap().unwrap().schema;
    let shape = gristmill_kernel::port::TableShape { schema, time: Some("at".into()) };
    let plan = engine.compile(&def, &[("t".to_string(), shape)].into()).await.unwrap();
    let asked = batch(vec![
        ("id", ints(&(0..200).map(|i| Some(i % 12)).collect::<Vec<_>>())),
        ("time", moments(&(0..200).map(Some).collect::<Vec<_>>())),
    ]);
    let newest = engine.table(&table("t")).await.unwrap().unwrap().version;
    let answers = async || {
        let mut all = Vec::new();
        for version in [Some(7), Some(newest), None] {
            let relation = Relation::Stored { table: table("t"), version, time: Some("at".into()) };
            all.push(plan.evaluate(&asked, &[("t".to_string(), relation)].into()).await.unwrap());
        }
        all
    };
    let before = answers().await;
    assert!(compact_all(engine, &by()).await > 0);
    assert_eq!(answers().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_rewriters_of_several_processes_lose_nothing() {
    let bench = bench();
    let root = bench.folder.path().join("tables");
    let engines: Vec<_> = (0..3).map(|_| Arc::new(LocalEngine::open(&root).unwrap())).collect();
    let done = Arc::new(AtomicBool::new(false));
    let mut rewriters = Vec::new();
    for engine in &engines[1..] {
        let (engine, done) = (engine.clone(), done.clone());
        rewriters.push(tokio::spawn(async move {
            let mut replaced = 0;
            while !done.load(Ordering::SeqCst) {
                replaced += engine.compact(&table("t"), &by()).await.unwrap().replaced;
                tokio::task::yield_now().await;
            }
            replaced
        }));
    }
    let mut writers = Vec::new();
    for (writer, engine) in engines.iter().take(2).enumerate() {
        let engine = engine.clone();
        writers.push(tokio::spawn(async move {
            for turn in 0..60i64 {
                let stream = format!("writer{writer}");
                let write = write("t", vec![push(turn)], WriteMode::Append, at(turn), &[(stream.as_str(), turn + 1)]);
                assert!(engine.write(write).await.unwrap().written);
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    let mut replaced = 0;
    for rewriter in rewriters {
        replaced += rewriter.await.unwrap();
    }
    assert!(replaced >= TABLE_FILES_ALIKE_MAX as u64, "something was rewritten meanwhile: {replaced}");
    for engine in &engines {
        let all = rows(engine, None, 0).await;
        let number = |name: &str| all.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec();
        let numbered: Vec<_> = number("_load").into_iter().zip(number("_row")).collect();
        let expected: Vec<_> = (1..=120).flat_map(|load| (0..3).map(move |row| (load, row))).collect();
        assert_eq!(numbered, expected, "every row once, in order");
        let info = engine.table(&table("t")).await.unwrap().unwrap();
        assert_eq!((info.rows, info.last_load, info.positions["writer0"], info.positions["writer1"]), (360, 120, 60, 60));
    }
}

#[tokio::test]
async fn what_a_crash_left_is_seen_by_nobody_and_goes() {
    let bench = bench();
    pushes(&bench.engine, 0..3).await;
    let before = rows(&bench.engine, None, 0).await;
    // A rewrite that was cut off: one file whole, one in the middle, and no commit.
    let folder = bench.folder.path().join("tables/t");
    let some = std::fs::read_dir(&folder)
        .unwrap()
        .find(|e| e.as_ref().unwrap().file_name().to_string_lossy().ends_with(".parquet"))
        .unwrap()
        .unwrap();
    std::fs::copy(some.path(), folder.join("part-000000000003-0000-aaaaaaaaaaaaaaaaaaaaaaaa-by-0a0a0a0a.parquet")).unwrap();
    std::fs::write(folder.join("part-000000000003-0001-bbbbbbbbbbbbbbbbbbbbbbbb-by-0a0a0a0a.parquet#1"), b"PAR1").unwrap();
    std::fs::write(folder.join("notes.txt"), b"not ours").unwrap();
    let again = LocalEngine::open(&bench.folder.path().join("tables")).unwrap();
    assert_eq!(rows(&again, None, 0).await, before);
    assert_eq!(again.vacuum(&table("t"), now()).await.unwrap().files, 0, "it could be a writer's");
    assert_eq!(again.vacuum(&table("t"), later()).await.unwrap().files, 2);
    assert!(folder.join("notes.txt").exists());
    assert_eq!(rows(&again, None, 0).await, before);
}

#[tokio::test]
async fn a_table_without_our_columns_is_merged_and_keeps_all_its_versions() {
    let bench = bench();
    let engine = &bench.engine;
    let many = TABLE_FILES_ALIKE_MAX as i64;
    for number in 0..many {
        let rows = vec![batch(vec![("n", ints(&[Some(number), Some(-number)]))])];
        engine.write(write("t", rows, WriteMode::Append, SystemColumns::None, &[("log", number + 1)])).await.unwrap();
    }
    assert_eq!(engine.compact(&table("t"), &[]).await.unwrap().replaced, many as u64);
    assert_eq!(engine.layout(&table("t")).await.unwrap().unwrap().files, 1);
    let all = rows(engine, None, 0).await;
    let numbers: Vec<i64> = all.column(0).as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(numbers, (0..many).flat_map(|n| [n, -n]).collect::<Vec<_>>(), "in the order they were written");
    assert_eq!(engine.vacuum(&table("t"), later()).await.unwrap().files, 0, "its versions have nothing to be told from each other by");
    assert_eq!(rows(engine, Some(4), 0).await.num_rows(), 10);
}

/// The log as a binary of before wrote it: state of format 1.
fn make_old(bench: &Bench) {
    let log = bench.folder.path().join("tables/t/_delta_log");
    for entry in std::fs::read_dir(log).unwrap() {
        let path = entry.unwrap().path();
        let old = |line: &str| {
            let mut action: serde_json::Value = serde_json::from_str(line).unwrap();
            let state = action.get_mut("commitInfo").and_then(|info| info.get_mut("gristmill")).and_then(|state| state.as_object_mut());
            if let Some(state) = state {
                state.retain(|key, _| !["history", "rewrites", "orders"].contains(&key.as_str()));
                state["format"] = 1.into();
            }
            action.to_string()
        };
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.lines().map(old).collect::<Vec<_>>().join("\n")).unwrap();
    }
}

#[tokio::test]
async fn a_table_of_an_earlier_binary_is_rewritten_and_keeps_its_versions() {
    let bench = bench();
    let many = TABLE_FILES_ALIKE_MAX as i64;
    pushes(&bench.engine, 0..many).await;
    make_old(&bench);
    let engine = LocalEngine::open(&bench.folder.path().join("tables")).unwrap();
    let mut before = Vec::new();
    for version in 0..many as u64 {
        before.push(rows(&engine, Some(version), 0).await);
    }
    assert_eq!(compact_all(&engine, &by()).await, many as u64);
    pushes(&engine, many..many + 1).await;
    assert!(engine.vacuum(&table("t"), later()).await.unwrap().files <= 1, "at most the last of its files goes");
    let again = LocalEngine::open(&bench.folder.path().join("tables")).unwrap();
    for (version, rows_before) in before.iter().enumerate() {
        assert_eq!(&rows(&again, Some(version as u64), 0).await, rows_before, "version {version}");
    }
}

#[tokio::test]
async fn a_table_that_gets_our_columns_later_loses_no_row() {
    let bench = bench();
    let engine = &bench.engine;
    let n = |number: i64| vec![batch(vec![("n", ints(&[Some(number)]))])];
    for number in 0..TABLE_FILES_ALIKE_MAX as i64 {
        let system = if number < 3 { SystemColumns::None } else { at(number) };
        engine.write(write("t", n(number), WriteMode::Append, system, &[])).await.unwrap();
    }
    // Rows without a number are in no order.
    let numbers = |rows: RecordBatch| {
        let mut numbers = rows.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec();
        numbers.sort_unstable();
        numbers
    };
    let mut before = Vec::new();
    for version in 0..TABLE_FILES_ALIKE_MAX as u64 {
        before.push(numbers(rows(engine, Some(version), 0).await));
        assert_eq!(before[version as usize].len() as u64, version + 1);
    }
    assert!(compact_all(engine, &[]).await > 0);
    assert_eq!(engine.vacuum(&table("t"), later()).await.unwrap().files, 0, "its first rows have no load");
    for (version, numbers_before) in before.iter().enumerate() {
        assert_eq!(&numbers(rows(engine, Some(version as u64), 0).await), numbers_before, "version {version}");
    }
    engine.write(write("t", n(99), WriteMode::Append, at(99), &[])).await.unwrap();
    assert_eq!(numbers(rows(engine, Some(9), 0).await), before[9], "nothing is known of its versions after a rewrite either");
    assert_eq!(numbers(rows(engine, None, 2).await).len(), 1 + TABLE_FILES_ALIKE_MAX - 5, "behind load 2");
}

#[tokio::test]
async fn an_order_that_a_table_cannot_have_is_refused() {
    let bench = bench();
    pushes(&bench.engine, 0..2).await;
    let fault = bench.engine.compact(&table("t"), &["nobody".into()]).await.unwrap_err();
    assert_eq!(fault.code, Code::UNKNOWN_COLUMN);
    assert_eq!(bench.engine.compact(&table("nothing"), &by()).await.unwrap(), Compacted::default());
    assert_eq!(bench.engine.tables().await.unwrap(), [table("t")]);
}

#[tokio::test]
async fn rows_asked_for_in_the_order_of_the_files_are_not_sorted_again() {
    let bench = bench();
    let engine = &bench.engine;
    pushes(engine, 0..TABLE_FILES_ALIKE_MAX as i64).await;
    compact_all(engine, &by()).await;
    let catalog = [("t".to_string(), Relation::Stored { table: table("t"), version: None, time: Some("at".into()) })].into();
    let sql = "select id, at, value from t order by id, at";
    let sorted = query(engine, sql, &catalog).await.unwrap();
    let ids: Vec<_> = sorted.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>()).collect();
    let present: Vec<i64> = ids.iter().flatten().copied().collect();
    assert!(present.is_sorted() && ids[present.len()..].iter().all(Option::is_none), "ascending, NULLs last");
    assert_eq!(ids.len(), 3 * TABLE_FILES_ALIKE_MAX);
}
