//! Versions of registered models: versions of the asset, made by a run of stage `register`.
//!
//! A version consists of the files that lie under its source when it is registered. Differs from MLflow on purpose: a stage that cannot be
//! archived from is the caller's mistake (400) instead of ours (500), and a version that a project's champion or challenger names is not
//! deleted under it.

use super::artifacts::key;
use super::filter::{self, VERSION_ATTRIBUTES};
use super::registered_models::{absent_is_fine, find as find_model, name, page_size, tag, tags};
use super::request;
use super::version_source::{Asked, Resolved, files_of as source_of, resolve, stage_of};
use super::webhooks::{About, Told};
use super::wire::registry::{
    CreateVersionAsk, DownloadUri, DownloadUriAsk, ModelVersionWire, OneVersion, SearchAsk, ShowAliases, StageAsk, UpdateVersionAsk,
    VersionAsk, VersionTagAsk, Versions,
};
use super::{Mlflow, aliases, done, error, order, page_token, v2, validate};
use gristmill_kernel::port::ArtifactKey;
use gristmill_kernel::tracking::registry::{ModelStage, ModelVersion, NewModelVersion};
use gristmill_kernel::tracking::{Search, ViewType};
use gristmill_kernel::{Code, Digest, Fault, Result, RunId};
use gristmill_web::{Call, Method, Permission, Response, Route, Routes, json};
use serde_json::{Value, json as json_of};
use std::sync::Arc;

/// The tag in which a logged model says which versions it was registered as.
const MODEL_VERSIONS: &str = "mlflow.modelVersions";
/// Versions in one page of a search, and unless asked otherwise.
const SEARCH_MAX: i64 = 200_000;
const SEARCH_DEFAULT: i64 = 10_000;
/// Longest source, and link to a run elsewhere.
const SOURCE_CHARS_MAX: usize = 2_048;

pub(super) fn routes(mlflow: &Arc<Mlflow>) -> Routes {
    use Permission::{MoveAlias, ReadProject, Track};
    let (get, post, patch, delete) = (&Method::GET, &Method::POST, &Method::PATCH, &Method::DELETE);
    let routes: Vec<Route> = [
        v2(mlflow, post, "/mlflow/model-versions/create", Track, create),
        v2(mlflow, get, "/mlflow/model-versions/get", ReadProject, get_one),
        v2(mlflow, patch, "/mlflow/model-versions/update", Track, update),
        v2(mlflow, delete, "/mlflow/model-versions/delete", Track, delete_one),
        v2(mlflow, get, "/mlflow/model-versions/search", ReadProject, search),
        v2(mlflow, get, "/mlflow/model-versions/get-download-uri", ReadProject, download_uri),
        v2(mlflow, post, "/mlflow/model-versions/transition-stage", MoveAlias, transition),
        v2(mlflow, post, "/mlflow/model-versions/set-tag", Track, set_tag),
        v2(mlflow, delete, "/mlflow/model-versions/delete-tag", Track, delete_tag),
    ]
    .into_iter()
    .flatten()
    .collect();
    Routes::from(routes)
}

/// A version's number. What is a number but no version's is simply not found.
pub(crate) fn number(text: &str) -> Result<u64> {
    let parsed = text.trim().parse::<i128>();
    let parsed = parsed.map_err(|_| error::invalid(format!("Parameter 'version' must be an integer, got '{text}'.")))?;
    Ok(u64::try_from(parsed).unwrap_or(0))
}

/// The version of a model.
pub(crate) async fn find(mlflow: &Mlflow, model: &str, version: &str) -> Result<ModelVersion> {
    name(model)?;
    let number = number(version)?;
    let found = mlflow.registry.model_version(model, number).await?;
    found.ok_or_else(|| unknown(model, version))
}

/// Says in MLflow's words that a version is not there.
pub(crate) fn unknown(model: &str, version: impl std::fmt::Display) -> Fault {
    error::unknown(Code::UNKNOWN_MODEL, format!("Model Version (name={model}, version={version}) not found"))
}

fn told<'a>(model: &'a str, version: &'a str) -> impl Fn(Fault) -> Fault + 'a {
    move |fault| if fault.code == Code::UNKNOWN_MODEL { unknown(model, version) } else { fault }
}

/// Where the files of a version are, if this server keeps them.
pub(crate) async fn files_of(mlflow: &Mlflow, model: &str, version: &str) -> Result<ArtifactKey> {
    let (address, key) = source_of(mlflow, &find(mlflow, model, version).await?).await?;
    key.ok_or_else(|| error::not_supported(format!("The files of this version are elsewhere: {address}")))
}

fn shown(version: &ModelVersion) -> Result<Response> {
    json(&OneVersion { model_version: ModelVersionWire::new(version, ShowAliases::Yes) })
}

/// `POST model-versions/create`
async fn create(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: CreateVersionAsk = request::read(call).await?;
    validate::within("source", SOURCE_CHARS_MAX, &ask.source)?;
    validate::within("run_link", SOURCE_CHARS_MAX, ask.run_link.as_deref().unwrap_or_default())?;
    let prompt = ask.tags.iter().flatten().rev().find(|t| t.key == filter::IS_PROMPT).is_some_and(|t| t.value.eq_ignore_ascii_case("true"));
    let asked = Asked { source: &ask.source, run: ask.run_id.as_deref(), model: ask.model_id.as_deref(), prompt };
    let resolved = resolve(&mlflow, asked).await?;
    let model = find_model(&mlflow, &ask.name).await?;
    let tags = tags(ask.tags)?;
    let description = ask.description.unwrap_or_default();
    let new = NewModelVersion {
        name: model.name.clone(),
        source: resolved.source.clone(),
        run: resolved.run.clone(),
        run_link: ask.run_link.filter(|link| !link.is_empty()),
        model: resolved.model.clone(),
        description: description.clone(),
        user: None,
        tags: tags.clone(),
        files: files(&mlflow, resolved.files.as_ref()).await?,
    };
    let version = mlflow.registry.create_model_version(new, &actor, mlflow.now()).await?;
    // A copy of a version is not noted: its model was registered once.
    if ask.model_id.as_deref().is_some_and(|id| !id.is_empty()) {
        note_on_logged_model(&mlflow, &resolved, &version).await?;
    }
    let (source, run) = (resolved.source, resolved.run.map(|RunId(id)| id));
    mlflow.hooks.tell(Told::VersionCreated { name: version.name.clone(), version: version.id.number, source, run, tags, description });
    shown(&version)
}

/// What a version consists of: everything under its source, or the one file that it is.
async fn files(mlflow: &Mlflow, root: Option<&ArtifactKey>) -> Result<Vec<(String, Digest)>> {
    let Some(root) = root else { return Ok(Vec::new()) };
    let beneath = mlflow.artifacts.walk_artifacts(root).await?;
    if !beneath.is_empty() {
        return Ok(beneath.into_iter().map(|file| (file.key, file.digest)).collect());
    }
    let one = mlflow.artifacts.artifact(root).await?;
    Ok(one.into_iter().map(|file| (key::name(root.as_str()).to_owned(), file.digest)).collect())
}

/// A logged model lists the versions it was registered as.
async fn note_on_logged_model(mlflow: &Mlflow, resolved: &Resolved, version: &ModelVersion) -> Result<()> {
    let Some(id) = &resolved.model else { return Ok(()) };
    let Some(model) = mlflow.tracking.logged_model(id, ViewType::ActiveOnly).await? else { return Ok(()) };
    let listed = model.tags.get(MODEL_VERSIONS).and_then(|text| serde_json::from_str::<Vec<Value>>(text).ok());
    let mut listed = listed.unwrap_or_default();
    let this = json_of!({ "name": version.name, "version": version.id.number });
    if !listed.contains(&this) {
        listed.push(this);
    }
    let text = python_list(&listed);
    mlflow.tracking.set_model_tags(id, vec![(MODEL_VERSIONS.to_owned(), Some(text))], mlflow.now()).await
}

/// JSON with the spaces that Python puts.
fn python_list(listed: &[Value]) -> String {
    let one = |value: &Value| match (value.get("name"), value.get("version")) {
        (Some(name), Some(version)) => format!("{{\"name\": {name}, \"version\": {version}}}"),
        _ => value.to_string(),
    };
    format!("[{}]", listed.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// `GET model-versions/get`
async fn get_one(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: VersionAsk = request::read(call).await?;
    shown(&find(&mlflow, &ask.name, &ask.version).await?)
}

/// `PATCH model-versions/update`
async fn update(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: UpdateVersionAsk = request::read(call).await?;
    name(&ask.name)?;
    let description = ask.description.unwrap_or_default();
    let updated = mlflow.registry.describe_model_version(&ask.name, number(&ask.version)?, &description, mlflow.now()).await;
    shown(&updated.map_err(told(&ask.name, &ask.version))?)
}

/// `DELETE model-versions/delete`
async fn delete_one(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: VersionAsk = request::read(call).await?;
    let version = find(&mlflow, &ask.name, &ask.version).await?;
    aliases::may_be_deleted(&mlflow, &version).await?;
    let deleted = mlflow.registry.delete_model_version(&ask.name, version.id.number, &actor, mlflow.now()).await;
    deleted.map_err(told(&ask.name, &ask.version))?;
    done()
}

/// `GET model-versions/search`
async fn search(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let quoted = *call.method() == Method::GET;
    let ask: SearchAsk = request::read(call).await?;
    let limit = page_size(ask.max_results.map(|n| n.0), SEARCH_DEFAULT, SEARCH_MAX, quoted)?;
    let offset = page_token::read(ask.page_token.as_deref())?;
    let mut order = order::attributes(&ask.order_by.unwrap_or_default(), VERSION_ATTRIBUTES)?;
    let default = order.is_empty();
    for (attribute, ascending) in [("last_updated_timestamp", false), ("name", true), ("version_number", false)] {
        let by = order::by(attribute, ascending);
        // Without an order the last change comes first; with one, ties end by name and number.
        if (default || attribute != "last_updated_timestamp") && !order.iter().any(|known| known.field == by.field) {
            order.push(by);
        }
    }
    let filter = filter::model_versions(ask.filter.as_deref().unwrap_or_default())?;
    let search = Search { experiments: Vec::new(), view: ViewType::ActiveOnly, filter, order, limit, offset };
    let page = mlflow.registry.search_model_versions(&search).await?;
    let next_page_token = page_token::next(page.more, offset, page.items.len());
    let model_versions = page.items.iter().map(|v| ModelVersionWire::new(v, ShowAliases::No)).collect();
    json(&Versions { model_versions, next_page_token })
}

/// `GET model-versions/get-download-uri`
async fn download_uri(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: DownloadUriAsk = request::read(call).await?;
    let (artifact_uri, _) = source_of(&mlflow, &find(&mlflow, &ask.name, &ask.version).await?).await?;
    json(&DownloadUri { artifact_uri })
}

/// `POST model-versions/transition-stage`. No alias follows: stages are what older clients look at, and nothing else.
async fn transition(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: StageAsk = request::read(call).await?;
    let stage = stage_of(&ask.stage)?;
    let archive = ask.archive_existing_versions.unwrap_or(false);
    if archive && !matches!(stage, ModelStage::Staging | ModelStage::Production) {
        return Err(error::invalid(format!(
            "Model version transition cannot archive existing model versions because '{}' is not an Active stage. Valid stages are \
             ['Staging', 'Production']",
            ask.stage
        )));
    }
    name(&ask.name)?;
    let moved = mlflow.registry.set_stage(&ask.name, number(&ask.version)?, stage, archive, &actor, mlflow.now()).await;
    shown(&moved.map_err(told(&ask.name, &ask.version))?)
}

/// `POST model-versions/set-tag`
async fn set_tag(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: VersionTagAsk = request::read(call).await?;
    let value = ask.value.unwrap_or_default();
    name(&ask.name)?;
    let number = number(&ask.version)?;
    tag(&ask.key, &value)?;
    let set = mlflow.registry.set_model_version_tag(&ask.name, number, &ask.key, Some(&value), mlflow.now()).await;
    set.map_err(told(&ask.name, &ask.version))?;
    let about = About::of(&find_model(&mlflow, &ask.name).await?);
    mlflow.hooks.tell(Told::VersionTagSet { about, version: ask.version, key: ask.key, value });
    done()
}

/// `DELETE model-versions/delete-tag`: a tag that is not there is gone already.
async fn delete_tag(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: VersionTagAsk = request::read(call).await?;
    name(&ask.name)?;
    let number = number(&ask.version)?;
    validate::key(&ask.key, "key")?;
    let gone = mlflow.registry.set_model_version_tag(&ask.name, number, &ask.key, None, mlflow.now()).await;
    absent_is_fine(gone).map_err(told(&ask.name, &ask.version))?;
    let about = About::of(&find_model(&mlflow, &ask.name).await?);
    mlflow.hooks.tell(Told::VersionTagDeleted { about, version: ask.version, key: ask.key });
    done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_python_reads_them() {
        for (text, wanted) in [("1", 1), (" 2 ", 2), ("+3", 3), ("-1", 0), ("0", 0), ("99999999999999999999999", 0)] {
            assert_eq!(number(text).expect(text), wanted);
        }
        for bad in ["", "one", "1.5", "0x1", "latest"] {
            assert_eq!(number(bad).expect_err(bad).message, format!("Parameter 'version' must be an integer, got '{bad}'."));
        }
    }

    #[test]
    fn lists_of_versions_are_written_as_mlflow_writes_them() {
        let listed = [json_of!({ "name": "a \"b\"", "version": 1 }), json_of!({ "name": "c", "version": 2 })];
        assert_eq!(python_list(&listed), r#"[{"name": "a \"b\"", "version": 1}, {"name": "c", "version": 2}]"#);
        assert_eq!(serde_json::from_str::<Vec<Value>>(&python_list(&listed)).expect("JSON"), listed);
    }
}
