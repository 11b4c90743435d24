//! Logged models: what a run made, before anybody registers it.

use super::artifacts::key;
use super::artifacts::run::list_below;
use super::error::{invalid, unknown};
use super::request::{Int, read};
use super::wire::PairAsk;
use super::wire::logged_model as wire;
use super::{Mlflow, done, filter, locations, names, order, page_token, validate};
use gristmill_kernel::limits::SEARCH_RUNS_MAX;
use gristmill_kernel::tracking::{Lifecycle, LoggedModel, LoggedModelStatus, Search, ViewType};
use gristmill_kernel::{Code, Result, RunId};
use gristmill_web::{Call, Method, Permission, Response, Routes, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many a search gives that does not say.
const MODELS_UNSAID: usize = 100;

pub(super) fn routes(m: &Arc<Mlflow>) -> Routes {
    let (get, post, patch, remove) = (&Method::GET, &Method::POST, &Method::PATCH, &Method::DELETE);
    let (see, track) = (Permission::ReadProject, Permission::Track);
    [
        super::v2(m, post, "/mlflow/logged-models", track, create),
        super::v2(m, post, "/mlflow/logged-models/search", see, search),
        super::v2(m, get, "/mlflow/logged-models/{model_id}", see, get_one),
        super::v2(m, patch, "/mlflow/logged-models/{model_id}", track, finish),
        super::v2(m, remove, "/mlflow/logged-models/{model_id}", track, delete),
        super::v2(m, post, "/mlflow/logged-models/{model_id}/params", track, log_params),
        super::v2(m, patch, "/mlflow/logged-models/{model_id}/tags", track, set_tags),
        super::v2(m, remove, "/mlflow/logged-models/{model_id}/tags/{tag_key}", track, delete_tag),
        super::v2(m, get, "/mlflow/logged-models/{model_id}/artifacts/directories", see, list),
    ]
    .concat()
    .into()
}

impl Mlflow {
    /// A logged model.
    pub(super) async fn logged_model(&self, id: &str, view: ViewType) -> Result<LoggedModel> {
        self.tracking
            .logged_model(id, view)
            .await?
            .ok_or_else(|| unknown(Code::UNKNOWN_LOGGED_MODEL, format!("Logged model with ID '{id}' not found.")))
    }

    async fn shown(&self, model: &LoggedModel) -> Result<Response> {
        let location = self.experiment(model.experiment).await?.artifact_location;
        json(&wire::One { model: wire::Model::new(model, &location) })
    }
}

async fn create(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: wire::CreateAsk = read(call).await?;
    let experiment = m.active_experiment(validate::experiment_id(&ask.experiment_id)?).await?;
    let name = ask.name.filter(|name| !name.is_empty());
    if let Some(name) = &name {
        check_name(name)?;
    }
    let now = m.now();
    let model = LoggedModel {
        id: format!("m-{}", m.ports.ids.run()),
        experiment: experiment.id,
        name: name.unwrap_or_else(|| names::invent(m.ports.ids.as_ref())),
        model_type: ask.model_type.filter(|t| !t.is_empty()),
        source_run: ask.source_run_id.filter(|id| !id.is_empty()).map(RunId),
        status: LoggedModelStatus::Pending,
        status_message: None,
        lifecycle: Lifecycle::Active,
        created_at: now,
        updated_at: now,
        params: checked(ask.params, validate::PARAM_CHARS_MAX)?.into_iter().collect::<BTreeMap<_, _>>(),
        tags: checked(ask.tags, validate::RUN_TAG_CHARS_MAX)?.into_iter().collect::<BTreeMap<_, _>>(),
        metrics: Vec::new(),
    };
    m.shown(&m.tracking.create_logged_model(model, now).await?).await
}

/// A name that is no part of a path and no reference to something else.
fn check_name(name: &str) -> Result<()> {
    if name.contains(['/', ':', '.', '%', '"', '\'']) || name.chars().any(char::is_control) {
        return Err(invalid(format!(
            "Invalid model name ({}) provided. Model name must be a non-empty string and cannot contain the following characters: \
             ('/', ':', '.', '%', '\"', \"'\")",
            validate::python_quoted(name)
        )));
    }
    validate::within("name", validate::EXPERIMENT_NAME_CHARS_MAX, name)
}

/// Names and values within the limits. Names are not paths here, so any text is one; values are cut.
fn checked(pairs: Option<Vec<PairAsk>>, limit: usize) -> Result<Vec<(String, String)>> {
    let pairs = pairs.unwrap_or_default().into_iter().map(|pair| {
        let (key, value) = pair.taken();
        validate::within("key", validate::KEY_CHARS_MAX, &key)?;
        Ok((key, validate::cut(value, limit)))
    });
    pairs.collect()
}

async fn get_one(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let id = call.param("model_id")?.to_owned();
    let ask: wire::GetAsk = read(call).await?;
    let deleted_too = ask.allow_deleted.is_some_and(|word| word.eq_ignore_ascii_case("true"));
    let model = m.logged_model(&id, if deleted_too { ViewType::All } else { ViewType::ActiveOnly }).await?;
    m.shown(&model).await
}

async fn finish(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let id = call.param("model_id")?.to_owned();
    let ask: wire::FinishAsk = read(call).await?;
    let status = wire::status_of_word(&ask.status.0).ok_or_else(|| validate::bad_word("status", Some(&ask.status)))?;
    m.shown(&m.tracking.finish_logged_model(&id, status, m.now()).await?).await
}

async fn delete(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    m.tracking.delete_logged_model(call.param("model_id")?, m.now()).await?;
    done()
}

async fn log_params(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let id = call.param("model_id")?.to_owned();
    let params = checked(read::<wire::ParamsAsk>(call).await?.params, validate::PARAM_CHARS_MAX)?;
    m.tracking.log_model_params(&id, params, m.now()).await?;
    done()
}

async fn set_tags(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let id = call.param("model_id")?.to_owned();
    let tags = checked(read::<wire::TagsAsk>(call).await?.tags, validate::RUN_TAG_CHARS_MAX)?;
    m.tracking.set_model_tags(&id, tags.into_iter().map(|(key, value)| (key, Some(value))).collect(), m.now()).await?;
    done()
}

async fn delete_tag(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let (id, key) = (call.param("model_id")?, call.param("tag_key")?);
    m.tracking.set_model_tags(id, vec![(key.to_owned(), None)], m.now()).await?;
    done()
}

async fn search(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let search = asked(read(call).await?)?;
    let page = m.tracking.search_logged_models(&search).await?;
    let locations = m.locations(page.items.iter().map(|model| model.experiment)).await?;
    let location = |model: &LoggedModel| locations.get(&model.experiment).map_or("", String::as_str);
    json(&wire::Many {
        next_page_token: page_token::next(page.more, search.offset, page.items.len()),
        models: page.items.iter().map(|model| wire::Model::new(model, location(model))).collect(),
    })
}

fn asked(ask: wire::SearchAsk) -> Result<Search> {
    let said = |text: Option<String>| text.filter(|t| !t.is_empty());
    let datasets = ask.datasets.unwrap_or_default().into_iter().map(|on| {
        let name = said(on.dataset_name).ok_or_else(|| invalid("`dataset_name` in the `datasets` clause must be specified."))?;
        Ok((name, said(on.dataset_digest)))
    });
    let datasets = datasets.collect::<Result<Vec<_>>>()?;
    let order = ask.order_by.unwrap_or_default().into_iter().map(|by| {
        let dataset = match (said(by.dataset_name), said(by.dataset_digest)) {
            (None, Some(_)) => {
                return Err(invalid("`dataset_digest` can only be specified if `dataset_name` is also specified."));
            }
            (name, digest) => name.map(|name| (name, digest)),
        };
        order::logged_model(by.field_name.as_deref().unwrap_or_default(), by.ascending.unwrap_or(true), dataset)
    });
    Ok(Search {
        view: ViewType::ActiveOnly,
        filter: filter::logged_models(ask.filter.as_deref().unwrap_or_default(), &datasets)?,
        order: order.collect::<Result<Vec<_>>>()?,
        limit: match ask.max_results {
            None | Some(Int(0)) => MODELS_UNSAID,
            wanted => validate::max_results(wanted, MODELS_UNSAID)?.min(SEARCH_RUNS_MAX),
        },
        offset: page_token::read(ask.page_token.as_deref())?,
        experiments: validate::experiment_ids(&ask.experiment_ids)?,
    })
}

/// The files of a logged model, a folder at a time.
async fn list(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let id = call.param("model_id")?.to_owned();
    let ask: wire::ListAsk = read(call).await?;
    let folder = ask.artifact_directory_path.as_deref().map(key::key).transpose()?.flatten();
    let model = m.logged_model(&id, ViewType::ActiveOnly).await?;
    let address = locations::of_model(&m.experiment(model.experiment).await?.artifact_location, &model.id);
    json(&list_below(&m, address, folder).await?)
}
