//! What only this implementation has: older ledgers, damage, several handles, what is left after a crash.

use super::*;
use crate::blobs::LocalBlobs;
use crate::ledger::sqlite::schema::MIGRATIONS;
use crate::suite::ledger::{at, new_run, new_version, success};
use crate::suite::registry::{Parts, new_model_version};
use crate::system::{ManualClock, RandomIds};
use gristmill_kernel::port::Ledger;
use gristmill_kernel::version::Which;
use gristmill_kernel::{Digest, Kind, StageKind};
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

async fn open(folder: &Path) -> (Arc<SqliteLedger>, LocalBlobs, SqliteRegistry) {
    let ledger = Arc::new(SqliteLedger::open(&folder.join("ledger.db"), Arc::new(ManualClock::new(at(1)))).await.unwrap());
    let blobs = LocalBlobs::open(&folder.join("blobs")).unwrap();
    let registry = SqliteRegistry::new(ledger.clone(), Arc::new(blobs.clone()), Arc::new(RandomIds));
    (ledger, blobs, registry)
}

async fn by_hand(folder: &Path, sql: &'static str) {
    let mut db = SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", folder.join("ledger.db").display())).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
}

#[tokio::test]
async fn keeps_the_promises_of_a_registry() {
    let dir = tempfile::tempdir().unwrap();
    let count = AtomicU32::new(0);
    crate::suite::registry::run(|| {
        let folder = dir.path().join(count.fetch_add(1, Ordering::Relaxed).to_string());
        async move {
            std::fs::create_dir(&folder).unwrap();
            let (ledger, blobs, registry) = open(&folder).await;
            Parts { registry: Arc::new(registry), ledger, blobs: Arc::new(blobs) }
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_trained_before_there_was_a_registry_is_registered() {
    let dir = tempfile::tempdir().unwrap();
    by_hand(dir.path(), MIGRATIONS[0].1).await;
    by_hand(
        dir.path(),
        "CREATE TABLE gristmill_format (version BIGINT NOT NULL);
         INSERT INTO gristmill_format VALUES (1);
         INSERT INTO runs (id, seq, stage, address, spec, work_key, actor, reason, status, summary, attempt, cancel_asked, submitted_at, due_at, ended_at)
             VALUES ('r1', 1, 'train', 'models.churn', '{}', 'k', 'user:ada', '', 'succeeded', '', 1, 0, 1, 1, 2);
         INSERT INTO versions VALUES ('models.churn', 1, 'd1', 'p', NULL, 'null', 'r1', 10), ('models.churn', 2, 'd2', 'p', NULL, 'null', 'r1', 20),
             ('models2.x', 1, 'd', 'p', NULL, 'null', 'r1', 5), ('training_sets.churn', 1, 'd', 'p', NULL, 'null', 'r1', 5);
         INSERT INTO aliases VALUES ('models.churn', 'champion', 1, NULL, 'user:ada', '', NULL, 11);",
    )
    .await;
    let (_, _, registry) = open(dir.path()).await;
    let all = Search { experiments: vec![], view: Default::default(), filter: Default::default(), order: vec![], limit: 10, offset: 0 };
    let models = registry.search_models(&all).await.unwrap().items;
    assert_eq!(models.len(), 1, "{models:?}");
    assert_eq!((models[0].name.as_str(), models[0].created_at, models[0].updated_at), ("churn", at(10), at(20)));
    let version = registry.model_version("churn", 1).await.unwrap().unwrap();
    assert_eq!((version.source.as_str(), version.run.unwrap().0.as_str(), version.created_at), ("gristmill:models.churn@1", "r1", at(10)));
    assert_eq!(version.aliases, ["champion"]);
    assert!(dir.path().join("ledger.db.format1.bak").exists(), "a copy was made before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_handles_give_each_number_once() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _, one) = open(dir.path()).await;
    let (_, _, two) = open(dir.path()).await;
    let ada = Actor::user("ada");
    one.create_model("m", "", BTreeMap::new(), &ada, at(1)).await.unwrap();
    let work = |registry: SqliteRegistry| async move {
        let mut numbers = Vec::new();
        for _ in 0..15 {
            let new = new_model_version("m", &[("x", Digest::of("x"))]);
            numbers.push(registry.create_model_version(new, &Actor::user("ada"), at(2)).await.unwrap().id.number);
        }
        numbers
    };
    let (a, b) = tokio::join!(tokio::spawn(work(one)), tokio::spawn(work(two)));
    let mut all = [a.unwrap(), b.unwrap()].concat();
    all.sort_unstable();
    assert_eq!(all, (1..=30).collect::<Vec<_>>());
    ledger.verify_audit().await.unwrap();
}

#[tokio::test]
async fn a_registration_that_is_dropped_half_way_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, blobs, registry) = open(dir.path()).await;
    let ada = Actor::user("ada");
    let asset = registry.create_model("m", "", BTreeMap::new(), &ada, at(1)).await.unwrap().asset;
    for number in 0..40u64 {
        let new = new_model_version("m", &[("x", Digest::of(number.to_string()))]);
        // Stops waiting at different points of the transaction.
        let _ = tokio::time::timeout(std::time::Duration::from_micros(number * 60), registry.create_model_version(new, &ada, at(2))).await;
    }
    // Writes are done in turn: what was begun last has landed, or never will, when a later one is done.
    registry.create_model("later", "", BTreeMap::new(), &ada, at(3)).await.unwrap();
    let versions = ledger.versions(&asset).await.unwrap();
    let runs = ledger.runs(&Default::default()).await.unwrap();
    assert_eq!(versions.len(), runs.len(), "each version has its run, each run its version");
    for version in &versions {
        assert!(registry.model_version("m", version.id.number).await.unwrap().is_some(), "and its note");
        assert!(gristmill_kernel::port::Blobs::has(&blobs, &version.blob().unwrap()).await.unwrap(), "and its content");
    }
    assert_eq!(ledger.verify_audit().await.unwrap(), 2 + 3 * versions.len() as u64);
}

#[tokio::test]
async fn what_was_registered_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let ada = Actor::user("ada");
    let (ledger, _, registry) = open(dir.path()).await;
    registry.create_model("m", "words", BTreeMap::from([("a".into(), "b".into())]), &ada, at(1)).await.unwrap();
    let made = registry.create_model_version(new_model_version("m", &[("x", Digest::of("x"))]), &ada, at(2)).await.unwrap();
    let run = ledger.begin(new_run(1, "models.own", StageKind::Train), "w", at(3), at(9)).await.unwrap().id;
    ledger.finish(&run, success(vec![new_version("models.own", "trees")]), at(4)).await.unwrap();
    drop((ledger, registry));
    let (ledger, _, registry) = open(dir.path()).await;
    assert_eq!(registry.model_version("m", 1).await.unwrap(), Some(made));
    assert_eq!(registry.registered_model("m").await.unwrap().unwrap().description, "words");
    assert!(registry.model_version("own", 1).await.unwrap().is_some());
    assert!(ledger.version(&"models.m".parse().unwrap(), &Which::Latest).await.unwrap().is_some());
}

#[tokio::test]
async fn damage_names_table_column_and_row() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _, registry) = open(dir.path()).await;
    let ada = Actor::user("ada");
    registry.create_model("m", "", BTreeMap::new(), &ada, at(1)).await.unwrap();
    registry.create_model_version(new_model_version("m", &[]), &ada, at(2)).await.unwrap();
    by_hand(dir.path(), "UPDATE model_version_notes SET stage = 'Baking'").await;
    let fault = registry.model_version("m", 1).await.unwrap_err();
    assert_eq!(fault.kind, Kind::Damaged);
    for part in ["`model_version_notes`", "`stage`", "models.m@1", "Baking"] {
        assert!(fault.message.contains(part), "{fault}");
    }
}
