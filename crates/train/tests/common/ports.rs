//! Ports in memory: only what stage train may touch answers; everything else is a fault that a test would see.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use gristmill_kernel::condition::{Figures, Judged};
use gristmill_kernel::port::*;
use gristmill_kernel::run::{Annotation, Finish, Metric, NewRun};
use gristmill_kernel::table::*;
use gristmill_kernel::version::{AliasMove, AliasState, Which};
use gristmill_kernel::view::ViewDef;
use gristmill_kernel::*;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

fn no<T>() -> Result<T> {
    Err(Fault::internal("stage train has no business here"))
}

/// Runs, versions, aliases and blobs that stage train reads; annotations that it writes.
#[derive(Default)]
pub struct Memory {
    pub runs: Mutex<Vec<Run>>,
    pub versions: Mutex<Vec<Version>>,
    pub champion: Mutex<Option<u64>>,
    pub blobs: Mutex<BTreeMap<Digest, Bytes>>,
    /// Annotations left before the ledger fails, as if the process were killed.
    pub annotations_left: Mutex<Option<u32>>,
}

/// Every port, the memory behind ledger and blobs.
pub fn ports(memory: &Arc<Memory>) -> Ports {
    Ports {
        ledger: memory.clone(),
        blobs: memory.clone(),
        online: Arc::new(Nothing),
        journal: Arc::new(Nothing),
        engine: Arc::new(Nothing),
        clock: Arc::new(Nothing),
        ids: Arc::new(Nothing),
        secrets: Arc::new(Nothing),
    }
}

/// A moment; which one does not matter.
pub fn now() -> Timestamp {
    Timestamp::from_micros(1_300_000_000_000_000)
}

#[async_trait]
impl Ledger for Memory {
    async fn submit(&self, _: NewRun, _: Timestamp) -> Result<Run> {
        no()
    }
    async fn begin(&self, _: NewRun, _: &str, _: Timestamp, _: Timestamp) -> Result<Run> {
        no()
    }
    async fn lease(&self, _: &str, _: Timestamp, _: Timestamp) -> Result<Option<Run>> {
        no()
    }
    async fn renew(&self, _: &RunId, _: &str, _: Timestamp) -> Result<Run> {
        no()
    }
    async fn take_over(&self, _: &str, _: Timestamp) -> Result<u64> {
        no()
    }
    async fn requeue(&self, _: &RunId, _: Timestamp, _: gristmill_kernel::run::RunError) -> Result<()> {
        no()
    }
    async fn annotate(&self, run: &RunId, note: Annotation) -> Result<()> {
        if let Some(left) = self.annotations_left.lock().expect("lock").as_mut() {
            *left = left.checked_sub(1).ok_or_else(|| Fault::internal("killed"))?;
        }
        let mut runs = self.runs.lock().expect("lock");
        let run = runs.iter_mut().find(|r| r.id == *run).expect("an open run");
        run.tags.extend(note.tags);
        run.metrics.extend(note.metrics.into_iter().map(|m| (m.key, m.value)));
        Ok(())
    }
    async fn finish(&self, _: &RunId, _: Finish, _: Timestamp) -> Result<Run> {
        no()
    }
    async fn ask_cancel(&self, _: &RunId, _: &Actor, _: Timestamp) -> Result<()> {
        no()
    }
    async fn move_alias(&self, _: AliasMove, _: Timestamp) -> Result<AliasState> {
        no()
    }
    async fn run(&self, id: &RunId) -> Result<Option<Run>> {
        Ok(self.runs.lock().expect("lock").iter().find(|r| r.id == *id).cloned())
    }
    async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>> {
        let runs = self.runs.lock().expect("lock");
        Ok(runs.iter().rev().filter(|r| filter.address.as_ref().is_none_or(|a| r.address == *a)).cloned().collect())
    }
    async fn run_by_key(&self, _: &Digest) -> Result<Option<Run>> {
        no()
    }
    async fn metric_history(&self, _: &RunId, _: &str) -> Result<Vec<(Metric, Timestamp)>> {
        no()
    }
    async fn version(&self, asset: &Address, which: &Which) -> Result<Option<Version>> {
        let Which::Number(number) = which else { return no() };
        Ok(self.versions.lock().expect("lock").iter().find(|v| v.id.asset == *asset && v.id.number == *number).cloned())
    }
    async fn versions(&self, _: &Address) -> Result<Vec<Version>> {
        no()
    }
    async fn assets(&self) -> Result<Vec<Address>> {
        no()
    }
    async fn readers(&self, _: &VersionRef) -> Result<Vec<RunId>> {
        no()
    }
    async fn alias(&self, asset: &Address, alias: &AliasName) -> Result<Option<AliasState>> {
        let number = *self.champion.lock().expect("lock");
        Ok(number.filter(|_| *alias == AliasName::champion()).map(|number| AliasState {
            asset: asset.clone(),
            alias: alias.clone(),
            number: Some(number),
            previous: None,
            actor: Actor::system("test"),
            reason: String::new(),
            run: None,
            moved_at: now(),
        }))
    }
    async fn aliases(&self, _: &Address) -> Result<Vec<AliasState>> {
        no()
    }
    async fn alias_history(&self, _: &Address, _: &AliasName) -> Result<Vec<AliasState>> {
        no()
    }
    async fn audit(&self, _: &AuditFilter) -> Result<Vec<AuditEntry>> {
        no()
    }
    async fn verify_audit(&self) -> Result<u64> {
        no()
    }
    async fn head(&self) -> Result<u64> {
        no()
    }
}

#[async_trait]
impl Blobs for Memory {
    async fn put(&self, content: Bytes) -> Result<Digest> {
        let digest = Digest::of(&content);
        self.blobs.lock().expect("lock").insert(digest, content);
        Ok(digest)
    }
    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>> {
        Ok(self.blobs.lock().expect("lock").get(digest).cloned())
    }
    async fn has(&self, _: &Digest) -> Result<bool> {
        no()
    }
}

/// No part that stage train needs.
struct Nothing;

#[async_trait]
impl Online for Nothing {
    async fn write(&self, _: &str, _: Vec<OnlineRow>, _: &SlotState) -> Result<()> {
        no()
    }
    async fn read(&self, _: &str, _: &[u8], _: Option<Timestamp>, _: Option<Timestamp>) -> Result<Vec<OnlineRow>> {
        no()
    }
    async fn read_whole(&self, _: &str, _: OnlineRead<'_>) -> Result<WholeRows> {
        no()
    }
    async fn state(&self, _: &str) -> Result<Option<SlotState>> {
        no()
    }
    async fn expire(&self, _: &str, _: Timestamp) -> Result<u64> {
        no()
    }
    async fn clear(&self, _: &str) -> Result<()> {
        no()
    }
    async fn keys(&self, _: &str, _: usize) -> Result<Vec<Bytes>> {
        no()
    }
}

#[async_trait]
impl Journal for Nothing {
    async fn append(&self, _: &Name, _: Timestamp, _: Vec<Bytes>, _: Option<&str>) -> Result<(u64, bool)> {
        no()
    }
    async fn read(&self, _: &Name, _: u64, _: usize) -> Result<Vec<JournalEntry>> {
        no()
    }
    async fn state(&self, _: &Name) -> Result<JournalState> {
        no()
    }
    async fn forget(&self, _: &Name, _: u64) -> Result<()> {
        no()
    }
    async fn sources(&self) -> Result<Vec<Name>> {
        no()
    }
}

#[async_trait]
impl Engine for Nothing {
    async fn write(&self, _: TableWrite) -> Result<Written> {
        no()
    }
    async fn table(&self, _: &TableName) -> Result<Option<TableInfo>> {
        no()
    }
    async fn scan(&self, _: &TableName, _: Option<u64>, _: i64) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        no()
    }
    fn analyse(&self, _: &str, _: &str, _: usize) -> Result<Analysis> {
        no()
    }
    async fn schema(&self, _: &str, _: &Catalog) -> Result<SchemaRef> {
        no()
    }
    async fn query(&self, _: &str, _: &Catalog, _: bool) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        no()
    }
    async fn compile(&self, _: &ViewDef, _: &BTreeMap<String, TableShape>) -> Result<Arc<dyn AsOfPlan>> {
        no()
    }
    async fn judge_rows(&self, _: &[String], _: &RecordBatch, _: Option<(&TableName, u64)>) -> Result<Vec<Vec<bool>>> {
        no()
    }
    async fn judge(&self, _: &str, _: &Figures) -> Result<Judged> {
        no()
    }
    fn check_condition(&self, _: &str, _: &[String]) -> Result<()> {
        no()
    }
}

impl Clock for Nothing {
    fn now(&self) -> Timestamp {
        panic!("stage train has no business here")
    }
}

impl Ids for Nothing {
    fn run(&self) -> RunId {
        panic!("stage train has no business here")
    }
    fn random(&self, _: &mut [u8]) {
        panic!("stage train has no business here")
    }
}

impl Secrets for Nothing {
    fn get(&self, _: &str) -> Result<SecretString> {
        no()
    }
    fn fill(&self, _: &str) -> Result<SecretString> {
        no()
    }
}
