//! Experiment tracking on the SQLite ledger: the port `Tracking`.
//!
//! Promises: what clients log is rows of the ledger's own runs; what is acknowledged is durable; a page of a search costs a constant number
//! of statements. What clients log goes through `logger` (a thread with a `direct` connection; `log` is what it writes; points wait in a `journal`,
//! which is written by `blocks`, until `behind` applies them), other small writes through `group`; both commit all that waits at once. `experiments`, `runs`, `inputs` and `models` are the things, `history` and `search`
//! the large reads, `filter` the conditions, `reader` how pages of runs are read, `rows` and `sql` how statements with many values are written,
//! `purge` the retention.
//!
//! To add a write: an async function over a connection that checks before it writes, and a call through `self.group.write`.

mod behind;
mod blocks;
mod direct;
mod experiments;
mod filter;
mod group;
mod history;
mod import;
mod inputs;
mod journal;
mod log;
mod logger;
mod models;
mod purge;
mod reader;
pub(super) mod rows;
mod runs;
mod search;
mod sql;
#[cfg(test)]
mod tests;

pub(super) use behind::{Behind, replay};
pub(super) use experiments::join_experiment;
pub(super) use group::Group;
pub(super) use logger::Logger;
pub(super) use reader::Readers;

use super::SqliteLedger;
use super::open::fault;
use async_trait::async_trait;
use gristmill_kernel::port::{Logged, Tracking};
use gristmill_kernel::tracking::{
    Batch, Dataset, DatasetInput, Experiment, ExperimentId, HistoryWanted, Lifecycle, LoggedModel, LoggedModelStatus, ModelUse,
    NewTrackedRun, Page, Point, Purged, RunUpdate, Search, TrackedRun, ViewType,
};
use gristmill_kernel::{Actor, Result, RunId, Timestamp};
use sqlx::Connection;
use std::collections::BTreeMap;
use std::ops::Range;

/// Reads at one moment: a transaction on a reading connection.
macro_rules! reading {
    ($ledger:expr, $tx:ident => $answer:expr) => {{
        let mut db = $ledger.reader().await?;
        let mut $tx = db.begin().await.map_err(|e| fault("begin a read", e))?;
        $answer
    }};
}

#[async_trait]
impl Tracking for SqliteLedger {
    async fn create_experiment(
        &self,
        name: &str,
        location: Option<&str>,
        tags: BTreeMap<String, String>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<ExperimentId> {
        let (name, location, actor) = (name.to_owned(), location.map(str::to_owned), actor.clone());
        self.group.write(move |db| Box::pin(async move { experiments::create(db, name, location, tags, &actor, now).await })).await
    }
    async fn experiment(&self, id: ExperimentId) -> Result<Option<Experiment>> {
        reading!(self, tx => {
            let found = experiments::by_id(&mut tx, id).await?;
            Ok(experiments::with_tags(&mut tx, found.into_iter().collect()).await?.pop())
        })
    }
    async fn experiment_by_name(&self, name: &str) -> Result<Option<Experiment>> {
        reading!(self, tx => {
            let found = experiments::by_name(&mut tx, name).await?;
            Ok(experiments::with_tags(&mut tx, found.into_iter().collect()).await?.pop())
        })
    }
    async fn rename_experiment(&self, id: ExperimentId, name: &str, actor: &Actor, now: Timestamp) -> Result<()> {
        let (name, actor) = (name.to_owned(), actor.clone());
        self.group.write(move |db| Box::pin(async move { experiments::rename(db, id, &name, &actor, now).await })).await
    }
    async fn set_experiment_lifecycle(&self, id: ExperimentId, to: Lifecycle, actor: &Actor, now: Timestamp) -> Result<()> {
        let actor = actor.clone();
        self.group.write(move |db| Box::pin(async move { experiments::move_to(db, id, to, &actor, now).await })).await
    }
    async fn set_experiment_tag(&self, id: ExperimentId, key: &str, value: Option<&str>, now: Timestamp) -> Result<()> {
        let (key, value) = (key.to_owned(), value.map(str::to_owned));
        self.group.write(move |db| Box::pin(async move { experiments::set_tag(db, id, &key, value.as_deref(), now).await })).await
    }
    async fn search_experiments(&self, search: &Search) -> Result<Page<Experiment>> {
        reading!(self, tx => search::experiments(&mut tx, search).await)
    }

    async fn create_run(&self, run: NewTrackedRun, actor: &Actor, now: Timestamp) -> Result<TrackedRun> {
        let actor = actor.clone();
        self.group.write(move |db| Box::pin(async move { runs::create(db, run, &actor, now).await })).await
    }
    async fn tracked_run(&self, id: &RunId) -> Result<Option<TrackedRun>> {
        let id = id.clone();
        self.pages().await?.read(move |db| runs::one(db, &id)).await
    }
    async fn update_run(&self, id: &RunId, update: RunUpdate, actor: &Actor, now: Timestamp) -> Result<TrackedRun> {
        let (id, actor) = (id.clone(), actor.clone());
        self.group.write(move |db| Box::pin(async move { runs::update(db, &id, update, &actor, now).await })).await
    }
    async fn set_run_lifecycle(&self, id: &RunId, to: Lifecycle, actor: &Actor, now: Timestamp) -> Result<()> {
        let (id, actor) = (id.clone(), actor.clone());
        self.group.write(move |db| Box::pin(async move { runs::move_to(db, &id, to, &actor, now).await })).await
    }
    async fn log(&self, id: &RunId, batch: Batch, _now: Timestamp) -> Result<()> {
        self.logger.log(id.clone(), batch).await
    }
    async fn log_soon(&self, id: &RunId, batch: Batch, _now: Timestamp) -> Result<Logged> {
        self.logger.log_soon(id.clone(), batch).await
    }
    async fn delete_run_tag(&self, id: &RunId, key: &str) -> Result<()> {
        let (id, key) = (id.clone(), key.to_owned());
        self.group.write(move |db| Box::pin(async move { runs::delete_tag(db, &id, &key).await })).await
    }
    async fn log_inputs(&self, id: &RunId, datasets: Vec<DatasetInput>, models: Vec<ModelUse>) -> Result<()> {
        let id = id.clone();
        self.group.write(move |db| Box::pin(async move { inputs::log_inputs(db, &id, datasets, models).await })).await
    }
    async fn log_outputs(&self, id: &RunId, models: Vec<ModelUse>) -> Result<()> {
        let id = id.clone();
        self.group.write(move |db| Box::pin(async move { inputs::log_outputs(db, &id, models).await })).await
    }
    async fn history(&self, id: &RunId, key: &str, wanted: HistoryWanted) -> Result<Page<Point>> {
        reading!(self, tx => history::page(&mut tx, id, key, wanted).await)
    }
    async fn sampled_history(&self, runs: &[RunId], key: &str, steps: Option<Range<i64>>, limit: usize) -> Result<Vec<(RunId, Point)>> {
        reading!(self, tx => history::sampled(&mut tx, runs, key, steps, limit).await)
    }
    async fn search_runs(&self, search: &Search) -> Result<Page<TrackedRun>> {
        let search = search.clone();
        self.pages().await?.read(move |db| search::runs(db, &search)).await
    }
    async fn datasets(&self, experiments: &[ExperimentId]) -> Result<Vec<(ExperimentId, Dataset, Option<String>)>> {
        reading!(self, tx => inputs::datasets(&mut tx, experiments).await)
    }

    async fn create_logged_model(&self, model: LoggedModel, now: Timestamp) -> Result<LoggedModel> {
        self.group.write(move |db| Box::pin(async move { models::create(db, model, now).await })).await
    }
    async fn logged_model(&self, id: &str, view: ViewType) -> Result<Option<LoggedModel>> {
        reading!(self, tx => models::one(&mut tx, id, view).await)
    }
    async fn finish_logged_model(&self, id: &str, status: LoggedModelStatus, now: Timestamp) -> Result<LoggedModel> {
        let id = id.to_owned();
        self.group.write(move |db| Box::pin(async move { models::finish(db, &id, status, now).await })).await
    }
    async fn log_model_params(&self, id: &str, params: Vec<(String, String)>, now: Timestamp) -> Result<()> {
        let id = id.to_owned();
        self.group.write(move |db| Box::pin(async move { models::log_params(db, &id, params, now).await })).await
    }
    async fn set_model_tags(&self, id: &str, tags: Vec<(String, Option<String>)>, now: Timestamp) -> Result<()> {
        let id = id.to_owned();
        self.group.write(move |db| Box::pin(async move { models::set_tags(db, &id, tags, now).await })).await
    }
    async fn delete_logged_model(&self, id: &str, now: Timestamp) -> Result<()> {
        let id = id.to_owned();
        self.group.write(move |db| Box::pin(async move { models::delete(db, &id, now).await })).await
    }
    async fn search_logged_models(&self, search: &Search) -> Result<Page<LoggedModel>> {
        reading!(self, tx => search::models(&mut tx, search).await)
    }

    async fn purge(&self, before: Timestamp, actor: &Actor, now: Timestamp) -> Result<Purged> {
        self.purge_deleted(before, actor, now).await
    }
    async fn purgeable(&self, before: Timestamp) -> Result<Purged> {
        self.would_purge(before).await
    }
}
