//! Experiments: groups of runs.
//!
//! Differs from MLflow on purpose: artifacts begin at an `mlflow-artifacts:` URI or in a store that clients reach themselves (`s3:`, `gs:`,
//! ...), never at a path of the server; renaming a deleted experiment is the caller's mistake (400) and not the server's (500).

use super::filter::{self, EXPERIMENT_ATTRIBUTES};
use super::request::read;
use super::wire::experiment as wire;
use super::wire::{PairAsk, view};
use super::{Mlflow, done, error, locations, order, page_token, validate};
use gristmill_kernel::tracking::{Experiment, ExperimentId, Lifecycle, Search};
use gristmill_kernel::{Code, Fault, Result};
use gristmill_web::{Call, Method, Permission, Response, Routes, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most experiments that one search for datasets names.
const DATASETS_OF_MAX: usize = 20;
/// Most datasets that are shown.
const DATASETS_SHOWN_MAX: usize = 1_000;

pub(super) fn routes(m: &Arc<Mlflow>) -> Routes {
    let (get, post) = (&Method::GET, &Method::POST);
    let (see, track) = (Permission::ReadProject, Permission::Track);
    let mut routes = [
        super::v2(m, post, "/mlflow/experiments/create", track, create),
        super::v2(m, get, "/mlflow/experiments/get", see, get_one),
        super::v2(m, get, "/mlflow/experiments/get-by-name", see, get_by_name),
        super::v2(m, post, "/mlflow/experiments/delete", track, delete),
        super::v2(m, post, "/mlflow/experiments/restore", track, restore),
        super::v2(m, post, "/mlflow/experiments/update", track, update),
        super::v2(m, post, "/mlflow/experiments/set-experiment-tag", track, set_tag),
        super::v2(m, post, "/mlflow/experiments/delete-experiment-tag", track, delete_tag),
        super::v2(m, get, "/mlflow/experiments/search", see, search),
        super::v2(m, post, "/mlflow/experiments/search", see, search),
        // Without a slash: that is how MLflow has it.
        super::v2(m, post, "mlflow/experiments/search-datasets", see, search_datasets),
    ]
    .concat();
    routes.push(super::at(m, post, "/ajax-api/2.0/mlflow/experiments/search-datasets", see, search_datasets));
    routes.into()
}

impl Mlflow {
    /// An experiment, deleted or not.
    pub(super) async fn experiment(&self, id: ExperimentId) -> Result<Experiment> {
        self.tracking
            .experiment(id)
            .await?
            .ok_or_else(|| error::unknown(Code::UNKNOWN_EXPERIMENT, format!("No Experiment with id={id} exists")))
    }

    /// An experiment that may be written to.
    pub(super) async fn active_experiment(&self, id: ExperimentId) -> Result<Experiment> {
        let experiment = self.experiment(id).await?;
        match experiment.lifecycle {
            Lifecycle::Active => Ok(experiment),
            Lifecycle::Deleted => Err(Fault::invalid(
                Code::NOT_ACTIVE,
                format!("The experiment {id} must be in the 'active' state. Current state is deleted."),
            )),
        }
    }

    /// Where the artifacts of experiments begin.
    pub(super) async fn locations(&self, ids: impl Iterator<Item = ExperimentId>) -> Result<BTreeMap<ExperimentId, String>> {
        let mut locations = BTreeMap::new();
        for id in ids.collect::<BTreeSet<_>>() {
            locations.insert(id, self.experiment(id).await?.artifact_location);
        }
        Ok(locations)
    }
}

async fn create(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: wire::CreateAsk = read(call).await?;
    validate::experiment_name(&ask.name)?;
    let location = ask.artifact_location.filter(|l| !l.is_empty());
    if let Some(location) = &location {
        locations::check_root(location)?;
    }
    let tags = ask.tags.unwrap_or_default().into_iter().map(checked_tag).collect::<Result<BTreeMap<_, _>>>()?;
    let id = m.tracking.create_experiment(&ask.name, location.as_deref(), tags, &actor, m.now()).await?;
    json(&wire::Created { experiment_id: id.to_string() })
}

fn checked_tag(tag: PairAsk) -> Result<(String, String)> {
    let (key, value) = tag.taken();
    validate::experiment_tag(&key, &value)?;
    Ok((key, value))
}

async fn get_one(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: wire::IdAsk = read(call).await?;
    let experiment = m.experiment(validate::experiment_id(&ask.experiment_id)?).await?;
    json(&wire::One { experiment: (&experiment).into() })
}

async fn get_by_name(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let name = read::<wire::NameAsk>(call).await?.experiment_name;
    let experiment = m
        .tracking
        .experiment_by_name(&name)
        .await?
        .ok_or_else(|| error::unknown(Code::UNKNOWN_EXPERIMENT, format!("Could not find experiment with name '{name}'")))?;
    json(&wire::One { experiment: (&experiment).into() })
}

async fn delete(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    set_lifecycle(m, call, Lifecycle::Active, Lifecycle::Deleted).await
}

async fn restore(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    set_lifecycle(m, call, Lifecycle::Deleted, Lifecycle::Active).await
}

/// To MLflow, an experiment that is not in the state it would leave does not exist.
async fn set_lifecycle(m: Arc<Mlflow>, call: Call, from: Lifecycle, to: Lifecycle) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: wire::IdAsk = read(call).await?;
    let id = validate::experiment_id(&ask.experiment_id)?;
    if m.experiment(id).await?.lifecycle != from {
        return Err(error::unknown(Code::UNKNOWN_EXPERIMENT, format!("No Experiment with id={id} exists"))
            .fix(format!("it is in the state '{}' already", to.as_str())));
    }
    m.tracking.set_experiment_lifecycle(id, to, &actor, m.now()).await?;
    done()
}

async fn update(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: wire::UpdateAsk = read(call).await?;
    let id = validate::experiment_id(&ask.experiment_id)?;
    validate::experiment_name(&ask.new_name)?;
    m.tracking.rename_experiment(id, &ask.new_name, &actor, m.now()).await?;
    done()
}

async fn set_tag(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: wire::TagAsk = read(call).await?;
    let value = ask.value.unwrap_or_default();
    validate::experiment_tag(&ask.key, &value)?;
    let id = validate::experiment_id(&ask.experiment_id)?;
    m.tracking.set_experiment_tag(id, &ask.key, Some(&value), m.now()).await?;
    done()
}

async fn delete_tag(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: wire::TagAsk = read(call).await?;
    let id = validate::experiment_id(&ask.experiment_id)?;
    m.tracking.set_experiment_tag(id, &ask.key, None, m.now()).await?;
    done()
}

async fn search(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: wire::SearchAsk = read(call).await?;
    let mut order = order::attributes(&ask.order_by.unwrap_or_default(), EXPERIMENT_ATTRIBUTES)?;
    if order.is_empty() {
        order = vec![order::by("creation_time", false), order::by("experiment_id", true)];
    }
    let search = Search {
        experiments: Vec::new(),
        view: view(ask.view_type.as_ref()),
        filter: filter::experiments(ask.filter.as_deref().unwrap_or_default())?,
        order,
        // Whoever does not say how many asks for none, which MLflow refuses.
        limit: validate::max_results(ask.max_results, 0)?,
        offset: page_token::read(ask.page_token.as_deref())?,
    };
    let page = m.tracking.search_experiments(&search).await?;
    json(&wire::Many {
        next_page_token: page_token::next(page.more, search.offset, page.items.len()),
        experiments: page.items.iter().map(Into::into).collect(),
    })
}

async fn search_datasets(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ids = read::<wire::DatasetsAsk>(call).await?.experiment_ids.unwrap_or_default();
    if ids.is_empty() {
        return Err(error::invalid("SearchDatasets request must specify at least one experiment_id."));
    }
    if ids.len() > DATASETS_OF_MAX {
        return Err(error::invalid(format!(
            "SearchDatasets request cannot specify more than {DATASETS_OF_MAX} experiment_ids. Received {} experiment_ids.",
            ids.len()
        )));
    }
    let ids = validate::experiment_ids(&ids)?;
    let found = m.tracking.datasets(&ids).await?.into_iter().map(|(experiment, dataset, context)| wire::DatasetSummary {
        experiment_id: experiment.to_string(),
        name: dataset.key.name,
        digest: dataset.key.digest,
        context: context.filter(|c| !c.is_empty()),
    });
    // The same dataset read by many runs is shown once.
    let distinct: BTreeSet<_> = found.collect();
    json(&wire::Datasets { dataset_summaries: distinct.into_iter().take(DATASETS_SHOWN_MAX).collect() })
}
