//! What only this implementation has: migrations, damage, several connections, crashes.

use super::*;
use super::{open::backup_path, schema};
use crate::suite::ledger::{address, at, champion, new_run, new_version, success};
use crate::system::ManualClock;
use gristmill_kernel::port::{Tokens, Tracking, Webhooks};
use gristmill_kernel::run::NewRun;
use gristmill_kernel::tracking::ExperimentId;
use gristmill_kernel::{Code, Kind, StageKind};
use sqlx::Connection;

async fn open(path: &Path) -> SqliteLedger {
    SqliteLedger::open(path, Arc::new(ManualClock::new(at(500)))).await.unwrap()
}

async fn by_hand(path: &Path, sql: &'static str) {
    let mut db = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
}

#[tokio::test]
async fn keeps_the_promises_of_a_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    crate::suite::ledger::run(|clock| {
        let path = dir.path().join(format!("{}.db", count.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
        async move { Arc::new(SqliteLedger::open(&path, clock).await.unwrap()) as Arc<dyn Ledger> }
    })
    .await;
}

#[tokio::test]
async fn keeps_the_promises_of_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    crate::suite::tokens::run(|clock| {
        let path = path.clone();
        async move {
            let ledger = Arc::new(SqliteLedger::open(&path, clock).await.unwrap());
            (ledger.clone() as Arc<dyn Tokens>, ledger as Arc<dyn Ledger>)
        }
    })
    .await;
}

#[tokio::test]
async fn keeps_the_promises_of_traces() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    crate::suite::traces::run(|| {
        let path = dir.path().join(format!("{}.db", count.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
        async move { Arc::new(open(&path).await) }
    })
    .await;
}

#[tokio::test]
async fn keeps_the_promises_of_webhooks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    crate::suite::webhooks::run(|clock| {
        let path = path.clone();
        async move {
            let ledger = Arc::new(SqliteLedger::open(&path, clock).await.unwrap());
            (ledger.clone() as Arc<dyn Webhooks>, ledger as Arc<dyn Ledger>)
        }
    })
    .await;
    let files = ["ledger.db", "ledger.db-wal"].map(|name| std::fs::read(dir.path().join(name)).unwrap_or_default());
    assert!(!files.concat().windows(7).any(|w| w == b"hunter2"), "no secret of a webhook is in the ledger");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_handles_on_one_file_never_share_a_run_and_keep_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let (one, two) = (Arc::new(open(&path).await), Arc::new(open(&path).await));
    let work = |ledger: Arc<SqliteLedger>, first: u32| async move {
        let mut mine = Vec::new();
        for number in first..first + 20 {
            ledger.submit(new_run(number, "flows.f", StageKind::Flow), at(1)).await.unwrap();
            if let Some(run) = ledger.lease(&format!("w{first}"), at(5), at(99)).await.unwrap() {
                ledger.finish(&run.id, success(vec![new_version("models.m", &run.id.0)]), at(6)).await.unwrap();
                mine.push(run.id);
            }
        }
        mine
    };
    let (a, b) = tokio::join!(tokio::spawn(work(one.clone(), 0)), tokio::spawn(work(two.clone(), 100)));
    let mut all = [a.unwrap(), b.unwrap()].concat();
    assert_eq!(all.len(), 40);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 40);
    let numbers: Vec<u64> = one.versions(&address("models.m")).await.unwrap().iter().map(|v| v.id.number).collect();
    assert_eq!(numbers, (1..=40).rev().collect::<Vec<_>>(), "no gaps, no doubles");
    assert_eq!(two.verify_audit().await.unwrap(), two.head().await.unwrap());
}

#[tokio::test]
async fn a_write_that_is_dropped_half_way_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let ledger = open(&path).await;
    for number in 0..50 {
        let submit = ledger.submit(new_run(number, "flows.f", StageKind::Flow), at(1));
        // Stops waiting at different points of the transaction.
        let _ = tokio::time::timeout(std::time::Duration::from_micros(u64::from(number) * 40), submit).await;
    }
    let lines = ledger.verify_audit().await.unwrap();
    assert_eq!(ledger.runs(&RunFilter::default()).await.unwrap().len() as u64, lines, "each run has its line, each line its run");
    drop(ledger);
    assert_eq!(open(&path).await.verify_audit().await.unwrap(), lines);
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let first = open(&path).await;
    let id = first.begin(new_run(1, "models.m", StageKind::Train), "w", at(1), at(9)).await.unwrap().id;
    let mut end = success(vec![new_version("models.m", "a")]);
    end.aliases = vec![champion(Some(1), None)];
    let ended = first.finish(&id, end, at(2)).await.unwrap();
    drop(first);
    let second = open(&path).await;
    assert_eq!(second.run(&id).await.unwrap(), Some(ended));
    assert_eq!(second.verify_audit().await.unwrap(), 4);
}

#[tokio::test]
async fn a_newer_format_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    drop(open(&path).await);
    by_hand(&path, "UPDATE gristmill_format SET version = 99").await;
    let fault = SqliteLedger::open(&path, Arc::new(ManualClock::new(at(0)))).await.err().unwrap();
    assert_eq!(fault.code, Code::NEWER_FORMAT);
    assert!(fault.message.contains("99") && fault.fix.is_some(), "{fault}");
}

#[test]
fn migrations_count_up_and_backups_are_named_by_format() {
    let versions: Vec<i64> = schema::MIGRATIONS.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (1..=schema::newest()).collect::<Vec<_>>());
    assert_eq!(backup_path(Path::new("/x/ledger.db"), 3), Path::new("/x/ledger.db.format3.bak"));
}

async fn count(path: &Path, table: &str) -> i64 {
    let mut db = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let text = format!("SELECT count(*) FROM {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_one(&mut db).await.unwrap()
}

#[tokio::test]
async fn a_ledger_of_format_1_opens_and_reads_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let mut db = SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap();
    sqlx::raw_sql(include_str!("../../../tests/golden/ledger_v1.sql")).execute(&mut db).await.unwrap();
    db.close().await.unwrap();

    let ledger = open(&path).await;
    let backup = backup_path(&path, 1);
    assert_eq!((count(&backup, "runs").await, count(&backup, "run_metrics").await), (5, 5), "the copy is whole");
    assert_eq!(count(&backup, "gristmill_format WHERE version = 1").await, 1);

    let id = |number: u32| gristmill_kernel::RunId(format!("{number:032x}"));
    let run = ledger.run(&id(2)).await.unwrap().unwrap();
    assert_eq!((run.status, run.ended_at, run.params["depth"].as_str()), (gristmill_kernel::RunStatus::Succeeded, Some(at(4)), "6"));
    assert_eq!((run.tags["team"].as_str(), run.metrics["auc"], run.checks.len(), run.inputs.len()), ("a", 0.8, 1, 1));
    assert!(run.metrics["loss"].is_nan());
    let history = ledger.metric_history(&id(2), "loss").await.unwrap();
    let told: Vec<_> = history.iter().map(|(m, at)| (m.step, m.value.to_string(), at.micros())).collect();
    assert_eq!(told, [(0, "inf".into(), 500), (1, "0.5".into(), 500), (2, "NaN".into(), 500)]);
    assert_eq!(ledger.versions(&address("models.m")).await.unwrap().len(), 2);
    let champion = ledger.alias(&address("models.m"), &AliasName::champion()).await.unwrap().unwrap();
    assert_eq!((champion.number, champion.reason.as_str()), (Some(1), "better"));
    assert_eq!(ledger.verify_audit().await.unwrap(), 14);
    assert_eq!(ledger.tokens().await.unwrap().len(), 1);
    let first = ledger.submit(NewRun { idempotency: Some("t".into()), ..new_run(9, "flows.f", StageKind::Flow) }, at(10)).await.unwrap();
    assert_eq!(first.id, id(1), "idempotency tokens are remembered");

    // What trained before is tracked now.
    let experiments = [("m", 1), ("fraud", 2)];
    for (name, number) in experiments {
        let experiment = ledger.experiment_by_name(name).await.unwrap().unwrap();
        assert_eq!((experiment.id.0, experiment.address), (number, Some(address(&format!("models.{name}")))));
    }
    assert_eq!(ledger.experiment(ExperimentId(0)).await.unwrap().unwrap().created_at, at(500));
    let tracked = ledger.tracked_run(&id(2)).await.unwrap().unwrap();
    assert_eq!((tracked.experiment.0, tracked.name.as_str(), tracked.user.as_str()), (1, "m-00000000", "user:ada"));
    assert_eq!((tracked.tags["mlflow.runName"].as_str(), tracked.tags["mlflow.source.name"].as_str()), ("m-00000000", "models.m"));
    assert_eq!((tracked.metrics[1].key.as_str(), tracked.metrics[1].step, tracked.metrics[1].at), ("loss", 2, at(500)));
    assert_eq!(ledger.tracked_run(&id(1)).await.unwrap(), None, "a flow is not tracked");
    let next = ledger.create_experiment("new", None, Default::default(), &Actor::user("ada"), at(11)).await.unwrap();
    assert_eq!(next.0, 3);
    // The same run as a new ledger writes it.
    ledger.begin(new_run(6, "models.m", StageKind::Train), "w", at(12), at(90)).await.unwrap();
    let (old, new) = (ledger.tracked_run(&id(4)).await.unwrap().unwrap(), ledger.tracked_run(&id(6)).await.unwrap().unwrap());
    assert_eq!((old.tags, old.user, old.experiment), (new.tags, new.user, new.experiment));
    drop(ledger);
    open(&path).await.verify_audit().await.unwrap();
}

#[tokio::test]
async fn damage_names_table_column_and_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let ledger = open(&path).await;
    let id = ledger.submit(new_run(1, "flows.f", StageKind::Flow), at(1)).await.unwrap().id;
    by_hand(&path, "UPDATE runs SET stage = 'baking'").await;
    let fault = ledger.run(&id).await.unwrap_err();
    assert_eq!(fault.kind, Kind::Damaged);
    for part in ["`runs`", "`stage`", &id.0, "baking"] {
        assert!(fault.message.contains(part), "{fault}");
    }
}

#[tokio::test]
async fn a_changed_audit_line_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let ledger = open(&path).await;
    for number in 0..3 {
        ledger.submit(new_run(number, "flows.f", StageKind::Flow), at(1)).await.unwrap();
    }
    by_hand(&path, "UPDATE audit SET actor = 'user:eve' WHERE seq = 2").await;
    let fault = ledger.verify_audit().await.unwrap_err();
    assert!(fault.kind == Kind::Damaged && fault.message.contains("line 2"), "{fault}");
    by_hand(&path, "UPDATE audit SET actor = 'user:ada' WHERE seq = 2").await;
    assert_eq!(ledger.verify_audit().await.unwrap(), 3);
    by_hand(&path, "DELETE FROM audit WHERE seq = 2").await;
    assert!(ledger.verify_audit().await.unwrap_err().message.contains("line 2 is missing"));
}
