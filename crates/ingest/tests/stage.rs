//! What a user sees of ingestion: files, growth, changes, broken input, pushes, crashes, replays.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

mod support;

use gristmill_ingest::spec::{Column, SourceSpec};
use gristmill_ingest::{IngestStage, Push, infer, push, replay};
use gristmill_kernel::error::{Code, Fault, Kind};
use gristmill_kernel::port::{Journal, JournalEntry, JournalState};
use gristmill_kernel::stage::CancelFlag;
use gristmill_kernel::{Done, Name, Result, StageKind, Timestamp};
use std::sync::Arc;
use support::{World, made, name, unchanged};

fn events(from: &str) -> SourceSpec {
    SourceSpec { name: name("events"), from: from.into(), time: Some("at".into()), late: None, columns: None, full: false }
}

async fn run(world: &World, spec: &SourceSpec) -> Result<Done> {
    let address = format!("raw.{}", spec.name);
    world.run(&IngestStage, StageKind::Ingest, &address, serde_json::to_value(spec).unwrap(), &[]).await
}

async fn run_full(world: &World, spec: &SourceSpec) -> Result<Done> {
    let mut spec = serde_json::to_value(spec).unwrap();
    spec["full"] = true.into();
    world.run(&IngestStage, StageKind::Ingest, "raw.events", spec, &[]).await
}

fn body<'a>(body: &'a str, key: Option<&'a str>) -> Push<'a> {
    Push { body: body.as_bytes(), content_type: None, idempotency_key: key }
}

#[tokio::test]
async fn the_real_file_comes_in_whole_and_once() {
    let world = World::new();
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/churn/data/online_retail.parquet");
    std::fs::copy(source, world.dir.path().join("online_retail.parquet")).unwrap();
    let spec = SourceSpec { time: Some("invoice_date".into()), ..events("online_retail.parquet") };
    let columns = infer(world.dir.path(), &spec).await.unwrap();
    assert!(columns.contains(&Column { name: "invoice_date".into(), kind: "time".into() }), "{columns:?}");
    let spec = SourceSpec { columns: Some(columns), ..spec };
    let done = made(run(&world, &spec).await.unwrap());
    assert!(done.summary.starts_with("read 1,067,371 rows from 1 file in "), "{}", done.summary);
    assert_eq!(done.outputs[0].rows, Some(1_067_371));
    let nulls: usize = world.engine.rows("raw__events").iter().map(|b| b.column_by_name("customer_id").unwrap().null_count()).sum();
    assert_eq!(nulls, 243_007);
    assert_eq!(unchanged(run(&world, &spec).await.unwrap()), "nothing new: 1 file unchanged, 1,067,371 rows in the table");
}

#[tokio::test]
async fn a_glob_grows_by_new_files_and_a_file_by_new_lines() {
    let world = World::new();
    world.write("data/1.csv", "at,n\n2011-01-01,1\n2011-01-02,2\n");
    let spec = events("data/*.csv");
    assert_eq!(made(run(&world, &spec).await.unwrap()).outputs[0].rows, Some(2));
    world.write("data/2.csv", "n,at\n3,2011-01-03 10:00\n");
    assert_eq!(made(run(&world, &spec).await.unwrap()).outputs[0].rows, Some(3));
    world.write("data/1.csv", "at,n\n2011-01-01,1\n2011-01-02,2\n2011-01-04,4\n");
    assert_eq!(made(run(&world, &spec).await.unwrap()).outputs[0].rows, Some(4));
    unchanged(run(&world, &spec).await.unwrap());
    assert_eq!(world.engine.column("raw__events", "n"), ["1", "2", "3", "4"]);
    assert_eq!(world.engine.column("raw__events", "_load"), ["1", "1", "2", "3"]);
    // What was read is not taken back in silence.
    world.write("data/1.csv", "at,n\n2011-01-01,9\n");
    let fault = run(&world, &spec).await.unwrap_err();
    assert!(fault.message.contains("data/1.csv") && fault.fix.as_deref().unwrap().contains("--full"), "{fault}");
    assert_eq!(world.engine.count("raw__events"), 4);
    made(run_full(&world, &spec).await.unwrap());
    assert_eq!(world.engine.column("raw__events", "n"), ["9", "3"]);
}

#[tokio::test]
async fn a_snapshot_is_loaded_whole_each_time_it_changes() {
    let world = World::new();
    let spec = SourceSpec { time: None, ..events("plans.csv") };
    world.write("plans.csv", "plan,fee\nbasic,1\nplus,2\n");
    made(run(&world, &spec).await.unwrap());
    world.write("plans.csv", "plan,fee\nbasic,1\nplus,3\n");
    // The same size and perhaps the same moment: the file's time is made to differ.
    let later = std::time::UNIX_EPOCH + std::time::Duration::from_secs(2_000_000_000);
    std::fs::File::options().append(true).open(world.dir.path().join("plans.csv")).unwrap().set_modified(later).unwrap();
    made(run(&world, &spec).await.unwrap());
    assert_eq!(world.engine.column("raw__events", "fee"), ["1", "2", "1", "3"]);
    assert_eq!(world.engine.column("raw__events", "_load"), ["1", "1", "2", "2"]);
    let fault = push(&world.cx.ports, &spec, body("[{\"plan\":\"x\"}]", None)).await.unwrap_err();
    assert!(fault.message.contains("snapshot"), "{fault}");
}

#[tokio::test]
async fn bad_files_are_refused_with_place_and_fix_and_nothing_is_kept() {
    for (file, text, columns, code, line, word) in [
        ("x.csv", "at,n\n2011-01-01,1\n2011-01-02\n", None, Code::BAD_ROW, 3, "1 field"),
        ("x.csv", "at,n\n2011-01-01,1\n2011-01-02,zwei\n", Some(vec![("at", "time"), ("n", "int")]), Code::WRONG_TYPE, 3, "`zwei`"),
        ("x.csv", "at,m\n2011-01-01,1\n", Some(vec![("at", "time"), ("n", "int")]), Code::SCHEMA_MISMATCH, 0, "`m`"),
        ("x.csv", "at\n2011-01-01\n", Some(vec![("at", "time"), ("n", "int")]), Code::SCHEMA_MISMATCH, 0, "`n`"),
        ("x.csv", "at,n\nsoon,1\n", None, Code::WRONG_TYPE, 0, "`at`"),
        ("x.csv", "when,n\n2011-01-01,1\n", None, Code::SCHEMA_MISMATCH, 0, "`at`"),
        ("x.jsonl", "{\"at\":\"2011-01-01\"}\n{\"at\":\n", None, Code::BAD_ROW, 2, "cannot be read"),
        ("x.parquet", "no parquet", None, Code::SOURCE_UNREADABLE, 0, "x.parquet"),
        ("y.csv", "", None, Code::FILE_NOT_FOUND, 0, "x.csv"),
    ] {
        let world = World::new();
        world.write(file, text);
        let columns = columns.map(|c| c.into_iter().map(|(n, k): (&str, &str)| Column { name: n.into(), kind: k.into() }).collect());
        let from = if file == "y.csv" { "x.csv" } else { file };
        let fault = run(&world, &SourceSpec { columns, ..events(from) }).await.unwrap_err();
        assert_eq!((fault.code, fault.spot.as_ref().map_or(0, |s| s.line)), (code, line), "{text:?}: {fault}");
        assert!(fault.message.contains(word) && fault.fix.is_some(), "{text:?}: {fault}");
        assert_eq!(world.engine.count("raw__events"), 0);
    }
}

#[tokio::test]
async fn pushed_rows_are_durable_once_and_reach_the_table() {
    let world = World::new();
    let spec = events("push:");
    let first = push(
        &world.cx.ports,
        &spec,
        body("[{\"at\":\"2011-01-01T00:00:00Z\",\"n\":1},{\"at\":\"2011-01-02T00:00:00Z\",\"n\":2}]", Some("k1")),
    )
    .await
    .unwrap();
    assert_eq!((first.accepted, first.offset, first.duplicate), (2, 2, false));
    let again = push(
        &world.cx.ports,
        &spec,
        body("[{\"at\":\"2011-01-01T00:00:00Z\",\"n\":1},{\"at\":\"2011-01-02T00:00:00Z\",\"n\":2}]", Some("k1")),
    )
    .await
    .unwrap();
    assert_eq!((again.offset, again.duplicate), (2, true));
    for (bad, code, word) in [
        ("[{\"at\":null,\"n\":3},{\"m\":4}]", Code::SCHEMA_MISMATCH, "row 2"),
        ("[{\"n\":\"3\"}]", Code::WRONG_TYPE, "`n` of row 1"),
        ("[{\"at\":\"soon\"}]", Code::WRONG_TYPE, "soon"),
    ] {
        let fault = push(&world.cx.ports, &spec, body(bad, None)).await.unwrap_err();
        assert!(fault.code == code && fault.kind == Kind::Invalid && fault.message.contains(word), "{fault}");
    }
    assert_eq!(made(run(&world, &spec).await.unwrap()).summary.split(" in ").next(), Some("read 2 pushed rows"));
    assert_eq!(world.engine.column("raw__events", "n"), ["1", "2"]);
    let state = world.cx.ports.journal.state(&spec.name).await.unwrap();
    assert_eq!((state.last, state.forgotten), (2, 2));
    unchanged(run(&world, &spec).await.unwrap());
}

#[tokio::test]
async fn files_and_pushes_may_feed_one_source() {
    let world = World::new();
    world.write("a.csv", "at,n\n2011-01-01,1\n");
    let spec = events("a.csv");
    made(run(&world, &spec).await.unwrap());
    push(&world.cx.ports, &spec, body("{\"n\":2,\"at\":\"2011-01-02\"}", None)).await.unwrap();
    world.write("a.csv", "at,n\n2011-01-01,1\n2011-01-03,3\n");
    let done = made(run(&world, &spec).await.unwrap());
    assert!(done.summary.starts_with("read 1 row from 1 file and 1 pushed row"), "{}", done.summary);
    assert_eq!(world.engine.column("raw__events", "n"), ["1", "3", "2"]);
    let fault = run_full(&world, &spec).await.unwrap_err();
    assert!(fault.message.contains("pushed rows"), "{fault}");
}

/// A journal on a machine that goes down when it is told to forget.
struct NeverForgets(Arc<dyn Journal>);

#[async_trait::async_trait]
impl Journal for NeverForgets {
    async fn append(&self, source: &Name, at: Timestamp, rows: Vec<bytes::Bytes>, idempotency: Option<&str>) -> Result<(u64, bool)> {
        self.0.append(source, at, rows, idempotency).await
    }
    async fn read(&self, source: &Name, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
        self.0.read(source, after, limit).await
    }
    async fn state(&self, source: &Name) -> Result<JournalState> {
        self.0.state(source).await
    }
    async fn forget(&self, _: &Name, _: u64) -> Result<()> {
        Err(Fault::new(Kind::Unavailable, Code::IO, "the machine went down"))
    }
    async fn sources(&self) -> Result<Vec<Name>> {
        self.0.sources().await
    }
}

#[tokio::test]
async fn a_crash_before_or_after_the_commit_loses_and_doubles_nothing() {
    let mut world = World::new();
    let healthy = world.cx.ports.journal.clone();
    let spec = events("push:");
    push(&world.cx.ports, &spec, body("[{\"at\":\"2011-01-01\",\"n\":1}]", None)).await.unwrap();
    made(run(&world, &spec).await.unwrap());
    push(&world.cx.ports, &spec, body("[{\"at\":\"2011-01-02\",\"n\":2}]", None)).await.unwrap();
    // Before the commit.
    world.engine.fail_next_write("raw__events");
    assert!(run(&world, &spec).await.is_err());
    assert_eq!(world.engine.count("raw__events"), 1);
    // Between the commit and forgetting: the table has the row, the journal still has it too, and the run was never recorded.
    world = world.with_journal(|inner| Arc::new(NeverForgets(inner)));
    assert!(run(&world, &spec).await.is_err());
    assert_eq!(world.engine.count("raw__events"), 2);
    let state = world.cx.ports.journal.state(&spec.name).await.unwrap();
    assert_eq!((state.last, state.forgotten), (2, 1));
    world = world.with_journal(|_| healthy);
    // The next run finds the table ahead of the ledger and records it.
    let done = made(run(&world, &spec).await.unwrap());
    assert_eq!(done.outputs[0].rows, Some(2));
    assert_eq!(world.engine.column("raw__events", "n"), ["1", "2"]);
    unchanged(run(&world, &spec).await.unwrap());
}

#[tokio::test]
async fn a_source_without_rows_says_what_to_do() {
    let world = World::new();
    let fault = run(&world, &events("push:")).await.unwrap_err();
    assert!(fault.fix.as_deref().unwrap().contains("POST /ingest/events"), "{fault}");
    let columns = Some(vec![Column { name: "at".into(), kind: "time".into() }]);
    let done = made(run(&world, &SourceSpec { columns, ..events("push:") }).await.unwrap());
    assert_eq!(done.outputs[0].rows, Some(0));
}

#[tokio::test]
async fn a_changed_lock_is_not_written_into_the_old_table() {
    let world = World::new();
    world.write("a.csv", "at,n\n2011-01-01,1\n");
    made(run(&world, &events("a.csv")).await.unwrap());
    let columns = Some(vec![Column { name: "at".into(), kind: "time".into() }, Column { name: "n".into(), kind: "float".into() }]);
    let changed = SourceSpec { columns, ..events("a.csv") };
    world.write("a.csv", "at,n\n2011-01-01,1\n2011-01-02,1.5\n");
    assert_eq!(run(&world, &changed).await.unwrap_err().code, Code::SCHEMA_CHANGED);
    made(run_full(&world, &changed).await.unwrap());
    assert_eq!(world.engine.column("raw__events", "n"), ["1.0", "1.5"]);
}

#[tokio::test]
async fn a_replay_plays_every_row_once_and_goes_on_after_a_stop() {
    let world = World::new();
    let rows: String = (0..50).rev().map(|i| format!("2011-01-01T00:00:{:02},{i}\n", i % 60)).collect();
    world.write("a.csv", &format!("at,n\n{rows}"));
    let spec = events("replay://a.csv?speed=1000000");
    // The clock stands still, so only the first moment is due; somebody stops the replay.
    let stop = CancelFlag::default();
    let stopper = stop.clone();
    let (played, ()) = tokio::join!(replay(&world.cx, &spec, None, stop), async move {
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        stopper.cancel();
    });
    assert_eq!(played.unwrap(), 1);
    made(run(&world, &spec).await.unwrap());
    // Started again it goes on; the clock moves and the rest is due.
    let clock = world.clock.clone();
    let (played, ()) = tokio::join!(replay(&world.cx, &spec, None, CancelFlag::default()), async move {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        clock.advance(gristmill_kernel::Span::from_secs(1));
    });
    assert_eq!(played.unwrap(), 49);
    assert_eq!(replay(&world.cx, &spec, None, CancelFlag::default()).await.unwrap(), 0);
    made(run(&world, &spec).await.unwrap());
    assert_eq!(replay(&world.cx, &spec, None, CancelFlag::default()).await.unwrap(), 0);
    assert_eq!(world.engine.column("raw__events", "n"), (0..50).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_replay_that_begins_later_has_a_history_and_waits_for_it() {
    let world = World::new();
    let rows: String = (0..50).rev().map(|i| format!("2011-01-01T00:00:{i:02},{i}\n")).collect();
    world.write("a.csv", &format!("at,n\n,99\n{rows}"));
    let spec = events("replay://a.csv?speed=1000&from=2011-01-01T00:00:29.500");
    let numbers = |of: std::ops::Range<i32>| std::iter::once(99).chain(of).map(|n| n.to_string()).collect::<Vec<_>>();
    // Nothing is played before the history is there.
    let stop = CancelFlag::default();
    let stopper = stop.clone();
    let (played, ()) = tokio::join!(replay(&world.cx, &spec, None, stop), async move {
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        stopper.cancel();
    });
    assert_eq!(played.unwrap(), 0);
    let done = made(run(&world, &spec).await.unwrap());
    assert!(done.summary.starts_with("read 31 rows from 1 file"), "{}", done.summary);
    assert_eq!(world.engine.column("raw__events", "n"), numbers(0..30));
    unchanged(run(&world, &spec).await.unwrap());
    // The tape begins at the moment, not at its first row: nothing is due yet.
    let stop = CancelFlag::default();
    let stopper = stop.clone();
    let (played, ()) = tokio::join!(replay(&world.cx, &spec, None, stop), async move {
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        stopper.cancel();
    });
    assert_eq!(played.unwrap(), 0);
    let clock = world.clock.clone();
    let (played, ()) = tokio::join!(replay(&world.cx, &spec, None, CancelFlag::default()), async move {
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        clock.advance(gristmill_kernel::Span::from_secs(1));
    });
    assert_eq!(played.unwrap(), 20);
    made(run(&world, &spec).await.unwrap());
    assert_eq!(world.engine.column("raw__events", "n"), numbers(0..50));
    // A beginning that moves on takes nothing twice.
    let later = events("replay://a.csv?speed=1000&from=2011-01-02");
    unchanged(run(&world, &later).await.unwrap());
    assert_eq!(replay(&world.cx, &later, None, CancelFlag::default()).await.unwrap(), 0);
}
