//! Taking over experiments and logged models of another tracker: the port `TrackingImport`.
//!
//! Promise: ids and moments as given; what is there keeps its values and gets only the tags and parameters that it lacks. The end of an import is
//! one write, so that what is unfinished says so and what is finished is never half so.

use super::super::SqliteLedger;
use super::super::open::fault;
use super::super::write::{append, stored_number};
use super::experiments::{self, by_id, by_name};
use super::{models, runs};
use crate::tracked::{self, story};
use async_trait::async_trait;
use gristmill_kernel::port::{Taken, TrackingImport};
use gristmill_kernel::tracking::{Experiment, ExperimentId, Lifecycle, LoggedModel};
use gristmill_kernel::{Actor, Code, Fault, Result, RunId, Timestamp};
use sqlx::sqlite::SqliteConnection;
use std::collections::BTreeMap;

#[async_trait]
impl TrackingImport for SqliteLedger {
    async fn import_experiment(&self, wanted: Experiment, actor: &Actor, now: Timestamp) -> Result<Taken> {
        let actor = actor.clone();
        self.group.write(move |db| Box::pin(async move { experiment(db, wanted, &actor, now).await })).await
    }
    async fn finish_experiment(&self, id: ExperimentId, mark: &str, lifecycle: Lifecycle, actor: &Actor, now: Timestamp) -> Result<()> {
        let (mark, actor) = (mark.to_owned(), actor.clone());
        self.group.write(move |db| Box::pin(async move { end_of_experiment(db, id, &mark, lifecycle, &actor, now).await })).await
    }
    async fn finish_run(&self, id: &RunId, mark: &str, lifecycle: Lifecycle, actor: &Actor, now: Timestamp) -> Result<()> {
        let (id, mark, actor) = (id.clone(), mark.to_owned(), actor.clone());
        self.group.write(move |db| Box::pin(async move { end_of_run(db, &id, &mark, lifecycle, &actor, now).await })).await
    }
    async fn import_logged_model(&self, wanted: LoggedModel, actor: &Actor, now: Timestamp) -> Result<Taken> {
        let actor = actor.clone();
        self.group.write(move |db| Box::pin(async move { logged_model(db, wanted, &actor, now).await })).await
    }
}

async fn experiment(db: &mut SqliteConnection, wanted: Experiment, actor: &Actor, now: Timestamp) -> Result<Taken> {
    if let Some(known) = by_id(db, wanted.id).await? {
        if known.name != wanted.name {
            let told = format!("experiment id {} belongs to `{}`", wanted.id, known.name);
            return Err(Fault::conflict(Code::ALREADY_EXISTS, told));
        }
        // Every tracker begins with this one; it is as old as the elder of the two.
        if known.id == ExperimentId(0) && wanted.created_at < known.created_at {
            let updated_at = if known.updated_at == known.created_at { wanted.updated_at } else { known.updated_at };
            set_moments(db, &Experiment { created_at: wanted.created_at, updated_at, ..known.clone() }).await?;
        }
        let known = experiments::with_tags(db, vec![known]).await?.pop().map(|e| e.tags).unwrap_or_default();
        let lacking = lacking(wanted.tags, &known);
        for (key, value) in &lacking {
            experiments::put_tag(db, wanted.id, key, value).await?;
        }
        return Ok(if lacking.is_empty() { Taken::Same } else { Taken::Added });
    }
    if by_name(db, &wanted.name).await?.is_some() {
        return Err(tracked::experiment_exists(&wanted.name));
    }
    let wanted = Experiment { address: None, lifecycle: Lifecycle::Active, ..wanted };
    experiments::insert(db, &wanted).await?;
    set_moments(db, &wanted).await?;
    // Numbers that were given there are not given here again.
    sqlx::query("UPDATE numbers SET last = max(last, $1) WHERE name = 'experiments'")
        .bind(stored_number(wanted.id.0)?)
        .execute(&mut *db)
        .await
        .map_err(|e| fault("take an experiment over", e))?;
    append(db, now, story::experiment_imported(&wanted, actor)).await?;
    Ok(Taken::New)
}

/// A mark that is not there needs not be taken away.
fn unless_missing(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(fault) if fault.code == Code::UNKNOWN_TAG => Ok(()),
        outcome => outcome,
    }
}

async fn end_of_experiment(
    db: &mut SqliteConnection,
    id: ExperimentId,
    mark: &str,
    lifecycle: Lifecycle,
    actor: &Actor,
    now: Timestamp,
) -> Result<()> {
    let before = experiments::must_be_active(db, id).await?;
    unless_missing(experiments::set_tag(db, id, mark, None, before.updated_at).await)?;
    match lifecycle {
        Lifecycle::Active => Ok(()),
        Lifecycle::Deleted => {
            experiments::move_to(db, id, lifecycle, actor, now).await?;
            // It was deleted there, at a moment that its own last change tells; here it did not change.
            set_moments(db, &before).await
        }
    }
}

/// Says when an experiment was made and changed last.
async fn set_moments(db: &mut SqliteConnection, experiment: &Experiment) -> Result<()> {
    sqlx::query("UPDATE experiments SET created_at = $2, updated_at = $3 WHERE id = $1")
        .bind(stored_number(experiment.id.0)?)
        .bind(experiment.created_at.micros())
        .bind(experiment.updated_at.micros())
        .execute(db)
        .await
        .map_err(|e| fault("date an experiment", e))?;
    Ok(())
}

async fn end_of_run(db: &mut SqliteConnection, id: &RunId, mark: &str, lifecycle: Lifecycle, actor: &Actor, now: Timestamp) -> Result<()> {
    unless_missing(runs::delete_tag(db, id, mark).await)?;
    match lifecycle {
        Lifecycle::Active => Ok(()),
        Lifecycle::Deleted => runs::move_to(db, id, lifecycle, actor, now).await,
    }
}

async fn logged_model(db: &mut SqliteConnection, wanted: LoggedModel, actor: &Actor, now: Timestamp) -> Result<Taken> {
    let Some(known) = models::bare(db, &wanted.id).await? else {
        let (status, deleted) = (wanted.status, wanted.lifecycle == Lifecycle::Deleted);
        let model = models::create_as(db, wanted, status).await?;
        if deleted {
            sqlx::query("UPDATE logged_models SET deleted_at = $2 WHERE id = $1")
                .bind(&model.id)
                .bind(now.micros())
                .execute(&mut *db)
                .await
                .map_err(|e| fault("take a logged model over", e))?;
        }
        append(db, now, story::model_made(&model, actor)).await?;
        return Ok(Taken::New);
    };
    if known.experiment != wanted.experiment {
        let told = format!("logged model {} is in experiment {}", wanted.id, known.experiment);
        return Err(Fault::conflict(Code::ALREADY_EXISTS, told));
    }
    let known = models::whole(db, vec![known]).await?.pop().map(|m| (m.params, m.tags)).unwrap_or_default();
    let (params, tags) = (lacking(wanted.params, &known.0), lacking(wanted.tags, &known.1));
    models::add_words(db, &wanted.id, &params, &tags).await?;
    Ok(if params.is_empty() && tags.is_empty() { Taken::Same } else { Taken::Added })
}

fn lacking(wanted: BTreeMap<String, String>, known: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    wanted.into_iter().filter(|(key, _)| !known.contains_key(key)).collect()
}
