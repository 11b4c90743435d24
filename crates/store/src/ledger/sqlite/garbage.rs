//! What nobody needs any more: blobs that no row names.
//!
//! Promise: a blob that something names stays. Names are looked for in every column of [`NAMED_IN`], wherever a digest stands in its text, and in the
//! manifests of registered versions; a manifest that cannot be read stops the whole, because what it names is not known. A test reads the
//! schema and demands that each new column with a digest, a place or a JSON text is listed here, one way or the other.
//!
//! A name that is written while this runs belongs to content that was stored within the last hour, which is never swept.

use super::artifacts::TrackedArtifacts;
use super::cells::Cells;
use super::open::fault;
use crate::blobs::Swept;
use futures::TryStreamExt;
use gristmill_kernel::port::Blobs;
use gristmill_kernel::time::Span;
use gristmill_kernel::tracking::manifest::Manifest;
use gristmill_kernel::version::Place;
use gristmill_kernel::{Digest, Fault, Result, Timestamp, limits};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use std::collections::HashSet;

/// Columns in whose text digests of blobs may stand.
const NAMED_IN: &[(&str, &str)] = &[("versions", "place"), ("versions", "meta"), ("artifacts", "digest")];

/// What a collection did.
pub type Garbage = Swept;

impl TrackedArtifacts {
    /// Removes content that nothing names and that was stored last more than an hour before `now`.
    pub async fn collect_garbage(&self, now: Timestamp) -> Result<Garbage> {
        let before = now.minus(Span::from_millis(limits::BLOB_UNNAMED_KEPT_MS));
        let mut db = self.ledger.reader().await?;
        // One moment for all names: an artifact that moves from one key to another is never without one.
        let mut tx = db.begin().await.map_err(|e| fault("look for what is named", e))?;
        let mut named = HashSet::new();
        for (table, column) in NAMED_IN {
            named_in(&mut tx, table, column, &mut named).await?;
        }
        let manifests = manifests(&mut tx).await?;
        tx.rollback().await.map_err(|e| fault("look for what is named", e))?;
        drop(db);
        for digest in manifests {
            let content = self.blobs.get(&digest).await?;
            let content = content.ok_or_else(|| Fault::damaged(format!("the manifest {digest} of a registered version is gone")))?;
            named.extend(Manifest::read(&content)?.files().values());
        }
        self.blobs.sweep(named, before).await
    }
}

async fn named_in(db: &mut SqliteConnection, table: &str, column: &str, named: &mut HashSet<Digest>) -> Result<()> {
    // Only names from this file enter the text.
    let sql = format!("SELECT CAST({column} AS TEXT) FROM {table} WHERE {column} IS NOT NULL");
    let mut rows = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch(db);
    while let Some(row) = rows.try_next().await.map_err(|e| fault(format_args!("read {table}"), e))? {
        let text: String = row.try_get(0).map_err(|e| fault(format_args!("read {table}"), e))?;
        named.extend(digests_in(&text));
    }
    Ok(())
}

/// Every digest that stands in a text, as `sha256:` and 64 hex digits.
fn digests_in(text: &str) -> impl Iterator<Item = Digest> {
    text.match_indices("sha256:").filter_map(|(at, found)| text.get(at..at + found.len() + 64)?.parse().ok())
}

/// The manifests of all registered versions, those that are seen no more too: their numbers may still be asked for.
async fn manifests(db: &mut SqliteConnection) -> Result<Vec<Digest>> {
    let rows = sqlx::query("SELECT v.asset, v.number, v.place FROM versions v JOIN runs r ON r.id = v.run WHERE r.stage = 'register'")
        .fetch_all(db)
        .await
        .map_err(|e| fault("list registered versions", e))?;
    let mut manifests = Vec::new();
    for row in &rows {
        let c = Cells::keyed(row, "versions", "asset")?;
        match c.json::<Place>("place")? {
            Place::Blob { digest } => manifests.push(digest),
            _ => return Err(c.damage("place", "a registered version has no manifest")),
        }
    }
    Ok(manifests)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::LocalBlobs;
    use crate::ledger::{SqliteLedger, SqliteRegistry};
    use crate::suite::ledger::{at, new_run, success};
    use crate::suite::registry::new_model_version;
    use crate::system::{ManualClock, RandomIds};
    use bytes::Bytes;
    use futures::StreamExt;
    use gristmill_kernel::port::{ArtifactKey, Artifacts, Ledger, ModelRegistry, Tracking};
    use gristmill_kernel::tracking::registry::NewModelVersion;
    use gristmill_kernel::tracking::{Lifecycle, NewTrackedRun, Purged};
    use gristmill_kernel::{Actor, Kind, NewVersion, RunId, StageKind};
    use std::path::Path;
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    /// Columns that sound as if they did, and name no blob: digests of clients, of inputs, and texts that are no reference.
    const NO_NAMES: &[(&str, &str)] = &[
        ("versions", "digest"),
        ("datasets", "digest"),
        ("logged_model_metrics", "digest"),
        ("evaluation_datasets", "digest"),
        ("spans", "content"),
        ("assessments", "metadata"),
    ];

    fn content(text: &str) -> futures::stream::BoxStream<'static, Result<Bytes>> {
        futures::stream::iter([Ok(Bytes::from(text.to_owned()))]).boxed()
    }

    fn key(text: &str) -> ArtifactKey {
        ArtifactKey::new(text).unwrap()
    }

    /// Makes every blob look as if it had been stored in 1970.
    fn make_all_old(folder: &Path) {
        for shelf in std::fs::read_dir(folder).unwrap().map(|shelf| shelf.unwrap().path()).filter(|path| path.is_dir()) {
            for blob in std::fs::read_dir(shelf).unwrap() {
                let file = std::fs::File::options().write(true).open(blob.unwrap().path()).unwrap();
                file.set_modified(UNIX_EPOCH + Duration::from_secs(9)).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn only_what_nobody_names_goes() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(SqliteLedger::open(&dir.path().join("ledger.db"), Arc::new(ManualClock::new(at(1)))).await.unwrap());
        let blobs = LocalBlobs::open(&dir.path().join("blobs")).unwrap();
        let artifacts = TrackedArtifacts::new(ledger.clone(), blobs.clone());
        let registry = SqliteRegistry::new(ledger.clone(), Arc::new(blobs.clone()), Arc::new(RandomIds));
        let ada = Actor::user("ada");
        // Named by a version of the project, by its place and by its meta.
        let place = blobs.put(Bytes::from_static(b"place")).await.unwrap();
        let meta = blobs.put(Bytes::from_static(b"meta")).await.unwrap();
        let run = ledger.begin(new_run(1, "models.own", StageKind::Train), "w", at(1), at(9)).await.unwrap().id;
        let made = NewVersion {
            asset: "models.own".parse().unwrap(),
            digest: Digest::of("own"),
            place: Place::Blob { digest: place },
            rows: None,
            meta: serde_json::json!({ "also": [meta] }),
        };
        ledger.finish(&run, success(vec![made]), at(2)).await.unwrap();
        // Named by a key; by a manifest whose keys are gone and whose version was deleted; by nothing.
        let kept = artifacts.put_artifact(&key("1/kept"), content("kept"), at(3)).await.unwrap().digest;
        let file = artifacts.put_artifact(&key("1/model/MLmodel"), content("file"), at(3)).await.unwrap().digest;
        let gone = artifacts.put_artifact(&key("1/gone"), content("gone"), at(3)).await.unwrap().digest;
        registry.create_model("m", "", Default::default(), &ada, at(4)).await.unwrap();
        let new = new_model_version("m", &[("MLmodel", file)]);
        let manifest = registry.create_model_version(new, &ada, at(4)).await.unwrap().id;
        let manifest =
            ledger.version(&manifest.asset, &gristmill_kernel::version::Which::Number(1)).await.unwrap().unwrap().blob().unwrap();
        registry.delete_model_version("m", 1, &ada, at(5)).await.unwrap();
        assert_eq!(artifacts.delete_artifacts(&key("1/model")).await.unwrap(), 1);
        assert_eq!(artifacts.delete_artifacts(&key("1/gone")).await.unwrap(), 1);

        let now = at(3_600_000_000 + 20_000_000);
        assert_eq!(artifacts.collect_garbage(now).await.unwrap(), Garbage { kept: 6, removed: 0, bytes: 0 }, "all of it is young");
        make_all_old(&dir.path().join("blobs"));
        assert_eq!(artifacts.collect_garbage(at(3_600_000_000)).await.unwrap().removed, 0, "not for an hour yet");
        assert_eq!(artifacts.collect_garbage(now).await.unwrap(), Garbage { kept: 5, removed: 1, bytes: 4 });
        for (digest, there) in [(place, true), (meta, true), (kept, true), (file, true), (manifest, true), (gone, false)] {
            assert_eq!(blobs.has(&digest).await.unwrap(), there, "{digest}");
        }
        // What was swept can be stored again, and a key cannot be linked to what is not there.
        assert_eq!(artifacts.link_artifact(&key("1/again"), gone, 4, at(6)).await.unwrap_err().kind, Kind::NotFound);
        artifacts.put_artifact(&key("1/gone"), content("gone"), at(6)).await.unwrap();
        assert_eq!(artifacts.collect_garbage(now).await.unwrap().removed, 0);
        // A manifest that cannot be read: nothing goes.
        artifacts.delete_artifacts(&key("1/gone")).await.unwrap();
        let path = dir.path().join("blobs").join(&manifest.hex()[..2]).join(&manifest.hex()[2..]);
        std::fs::write(path, b"{}").unwrap();
        make_all_old(&dir.path().join("blobs"));
        assert_eq!(artifacts.collect_garbage(now).await.unwrap_err().kind, Kind::Damaged);
        assert!(blobs.has(&gone).await.unwrap());
    }

    #[tokio::test]
    async fn a_purged_run_leaves_no_files_unless_a_version_came_from_it() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(SqliteLedger::open(&dir.path().join("ledger.db"), Arc::new(ManualClock::new(at(1)))).await.unwrap());
        let blobs = LocalBlobs::open(&dir.path().join("blobs")).unwrap();
        let artifacts = TrackedArtifacts::new(ledger.clone(), blobs.clone());
        let registry = SqliteRegistry::new(ledger.clone(), Arc::new(blobs.clone()), Arc::new(RandomIds));
        let ada = Actor::user("ada");
        let study = ledger.create_experiment("study", None, Default::default(), &ada, at(1)).await.unwrap();
        for name in ["first", "second"] {
            let new = NewTrackedRun {
                id: RunId(name.into()),
                experiment: study,
                name: name.into(),
                user: "ada".into(),
                started_at: Some(at(1)),
                tags: Default::default(),
            };
            ledger.create_run(new, &ada, at(1)).await.unwrap();
            artifacts.put_artifact(&key(&format!("{study}/{name}/artifacts/a.txt")), content(name), at(2)).await.unwrap();
        }
        artifacts.put_artifact(&key(&format!("{study}/firstborn/artifacts/a.txt")), content("of another run"), at(2)).await.unwrap();
        registry.create_model("m", "", Default::default(), &ada, at(3)).await.unwrap();
        let new = NewModelVersion { run: Some(RunId("second".into())), ..new_model_version("m", &[]) };
        registry.create_model_version(new, &ada, at(3)).await.unwrap();
        ledger.set_experiment_lifecycle(study, Lifecycle::Deleted, &ada, at(4)).await.unwrap();

        let due = Purged { runs: 1, kept: 1, ..Purged::default() };
        assert_eq!(ledger.purgeable(at(4)).await.unwrap(), due, "the experiment has a run that stays");
        assert_eq!(ledger.purge(at(4), &ada, at(5)).await.unwrap(), due);
        let left = artifacts.walk_artifacts(&key(&study.to_string())).await.unwrap();
        assert_eq!(left.iter().map(|a| a.key.as_str()).collect::<Vec<_>>(), ["firstborn/artifacts/a.txt", "second/artifacts/a.txt"]);
        make_all_old(&dir.path().join("blobs"));
        assert_eq!(artifacts.collect_garbage(at(3_600_000_000 + 20_000_000)).await.unwrap().removed, 1);

        registry.delete_model_version("m", 1, &ada, at(6)).await.unwrap();
        let due = Purged { runs: 1, experiments: 1, ..Purged::default() };
        assert_eq!(ledger.purgeable(at(6)).await.unwrap(), due);
        assert_eq!(ledger.purge(at(6), &ada, at(7)).await.unwrap(), due);
        assert_eq!(artifacts.walk_artifacts(&key(&format!("{study}/second"))).await.unwrap(), []);
        ledger.verify_audit().await.unwrap();
    }

    #[tokio::test]
    async fn every_column_that_may_name_a_blob_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        drop(SqliteLedger::open(&path, Arc::new(ManualClock::new(at(1)))).await.unwrap());
        let mut db = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
        let rows = sqlx::query("SELECT t.name, c.name FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table'")
            .fetch_all(&mut db)
            .await
            .unwrap();
        assert!(!rows.is_empty());
        for row in rows {
            let (table, column): (String, String) = (row.get(0), row.get(1));
            let telling = ["digest", "blob", "place", "meta", "content", "spans"].iter().any(|word| column.contains(word));
            let known = NAMED_IN.iter().chain(NO_NAMES).any(|(t, c)| *t == table && *c == column);
            assert!(!telling || known, "does `{table}.{column}` name blobs? then list it in NAMED_IN");
        }
    }

    #[test]
    fn digests_are_found_in_any_text() {
        let (a, b) = (Digest::of("a"), Digest::of("b"));
        let text = format!("{{\"in\":\"blob\",\"digest\":\"{a}\"}} sha256:zz {b}sha256:");
        assert_eq!(digests_in(&text).collect::<Vec<_>>(), [a, b]);
    }
}
