//! Registered models: names for people, on the assets `models.*` of the ledger. A prompt is one with a tag.

use super::filter::{self, IS_PROMPT};
use super::request::{self, invalid_text};
use super::webhooks::{About, Told};
use super::wire::registry::{
    CreateModelAsk, LatestAsk, ModelTagAsk, ModelVersionWire, Models, NameAsk, OneModel, RegisteredModelWire, RenameModelAsk, SearchAsk,
    ShowAliases, Tag, UpdateModelAsk, Versions,
};
use super::{Mlflow, done, error, order, page_token, v2, validate, version_source};
use gristmill_kernel::tracking::registry::{ModelVersion, RegisteredModel};
use gristmill_kernel::tracking::{Search, ViewType};
use gristmill_kernel::{Code, Fault, Result};
use gristmill_web::{Call, Method, Permission, Response, Route, Routes, json};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest name of a registered model.
const NAME_CHARS_MAX: usize = 256;
/// Longest value of a tag of a model or a version.
pub(crate) const TAG_CHARS_MAX: usize = 100_000;
/// Models in one page of a search, and unless asked otherwise.
const SEARCH_MAX: i64 = 1_000;
const SEARCH_DEFAULT: i64 = 100;

pub(super) fn routes(mlflow: &Arc<Mlflow>) -> Routes {
    use Permission::{ReadProject, Track};
    let (get, post, patch, delete) = (&Method::GET, &Method::POST, &Method::PATCH, &Method::DELETE);
    let routes: Vec<Route> = [
        v2(mlflow, post, "/mlflow/registered-models/create", Track, create),
        v2(mlflow, get, "/mlflow/registered-models/get", ReadProject, get_one),
        v2(mlflow, patch, "/mlflow/registered-models/update", Track, update),
        v2(mlflow, post, "/mlflow/registered-models/rename", Track, rename),
        v2(mlflow, delete, "/mlflow/registered-models/delete", Track, delete_one),
        v2(mlflow, get, "/mlflow/registered-models/search", ReadProject, search),
        v2(mlflow, get, "/mlflow/registered-models/get-latest-versions", ReadProject, latest),
        v2(mlflow, post, "/mlflow/registered-models/get-latest-versions", ReadProject, latest),
        v2(mlflow, post, "/mlflow/registered-models/set-tag", Track, set_tag),
        v2(mlflow, delete, "/mlflow/registered-models/delete-tag", Track, delete_tag),
    ]
    .into_iter()
    .flatten()
    .collect();
    Routes::from(routes)
}

/// Whether a model or version with these tags is a prompt.
pub(crate) fn is_prompt(tags: &BTreeMap<String, String>) -> bool {
    tags.get(IS_PROMPT).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The name of a registered model, checked.
pub(crate) fn name(text: &str) -> Result<()> {
    named("name", text)
}

fn named(parameter: &str, text: &str) -> Result<()> {
    if text.trim().is_empty() {
        return Err(error::invalid(format!("Missing value for required parameter '{parameter}'.")));
    }
    if text.contains(['/', ':']) {
        return Err(error::invalid(format!("Invalid model name '{text}'. Names cannot contain '/' or ':'.")));
    }
    if let Some(resolved) = validate::resolves_elsewhere(text) {
        let why = validate::bad_path_text(&resolved);
        return Err(error::invalid(invalid_text("name", &Json::from(text), Some(&why))));
    }
    if text.chars().any(char::is_control) {
        return Err(error::invalid(invalid_text("name", &Json::from(text), Some("Names cannot contain control characters."))));
    }
    validate::within("name", NAME_CHARS_MAX, text)
}

/// Checks a tag of a model or a version.
pub(crate) fn tag(key: &str, value: &str) -> Result<()> {
    validate::key(key, "key")?;
    validate::within("key", validate::KEY_CHARS_MAX, key)?;
    validate::within("value", TAG_CHARS_MAX, value)
}

/// Tags as the last word for each name.
pub(crate) fn tags(tags: Option<Vec<Tag>>) -> Result<BTreeMap<String, String>> {
    let tags = tags.unwrap_or_default();
    tags.iter().try_for_each(|t| tag(&t.key, &t.value))?;
    Ok(tags.into_iter().map(|t| (t.key, t.value)).collect())
}

/// The registered model with a name.
pub(crate) async fn find(mlflow: &Mlflow, text: &str) -> Result<RegisteredModel> {
    name(text)?;
    mlflow.registry.registered_model(text).await?.ok_or_else(|| unknown(text))
}

fn unknown(name: &str) -> Fault {
    error::unknown(Code::UNKNOWN_MODEL, format!("Registered Model with name={name} not found"))
}

/// Says in MLflow's words that a model is not there.
fn told(name: &str) -> impl Fn(Fault) -> Fault {
    move |fault| if fault.code == Code::UNKNOWN_MODEL { unknown(name) } else { fault }
}

/// The newest version of each stage of a model.
pub(crate) async fn latest_versions(mlflow: &Mlflow, name: &str) -> Result<Vec<ModelVersion>> {
    mlflow.registry.latest_versions(&[name.to_owned()]).await
}

async fn shown(mlflow: &Mlflow, model: RegisteredModel) -> Result<Response> {
    let latest = latest_versions(mlflow, &model.name).await?;
    json(&OneModel { registered_model: RegisteredModelWire::new(model, &latest) })
}

/// `POST registered-models/create`
async fn create(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: CreateModelAsk = request::read(call).await?;
    name(&ask.name)?;
    let tags = tags(ask.tags)?;
    let description = ask.description.unwrap_or_default();
    match mlflow.registry.create_model(&ask.name, &description, tags.clone(), &actor, mlflow.now()).await {
        Ok(model) => {
            mlflow.hooks.tell(Told::Created { name: model.name.clone(), tags, description });
            json(&OneModel { registered_model: RegisteredModelWire::new(model, &[]) })
        }
        Err(fault) if fault.code == Code::ALREADY_EXISTS => {
            let known = mlflow.registry.registered_model(&ask.name).await?;
            Err(taken(&ask.name, known.is_some_and(|model| is_prompt(&model.tags)), is_prompt(&tags)))
        }
        Err(fault) => Err(fault),
    }
}

fn taken(name: &str, known_is_prompt: bool, new_is_prompt: bool) -> Fault {
    let word = |prompt| if prompt { "Prompt" } else { "Registered Model" };
    let (old, new) = (word(known_is_prompt), word(new_is_prompt));
    let message = if old == new {
        format!("{new} (name={name}) already exists.")
    } else {
        format!(
            "Tried to create a {} with name {}, but the name is already taken by a {}. MLflow does not allow creating a model and a prompt \
             with the same name.",
            new.to_lowercase(),
            validate::python_quoted(name),
            old.to_lowercase()
        )
    };
    Fault::conflict(Code::ALREADY_EXISTS, message)
}

/// `GET registered-models/get`
async fn get_one(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: NameAsk = request::read(call).await?;
    let model = find(&mlflow, &ask.name).await?;
    shown(&mlflow, model).await
}

/// `PATCH registered-models/update`
async fn update(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: UpdateModelAsk = request::read(call).await?;
    name(&ask.name)?;
    let description = ask.description.unwrap_or_default();
    let model = mlflow.registry.describe_model(&ask.name, &description, mlflow.now()).await.map_err(told(&ask.name))?;
    shown(&mlflow, model).await
}

/// `POST registered-models/rename`
async fn rename(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: RenameModelAsk = request::read(call).await?;
    named("new_name", &ask.new_name)?;
    name(&ask.name)?;
    let renamed = mlflow.registry.rename_model(&ask.name, &ask.new_name, &actor, mlflow.now()).await;
    let model = renamed.map_err(|fault| match fault.code {
        Code::ALREADY_EXISTS => Fault::conflict(Code::ALREADY_EXISTS, format!("Registered Model (name={}) already exists.", ask.new_name)),
        _ => told(&ask.name)(fault),
    })?;
    shown(&mlflow, model).await
}

/// `DELETE registered-models/delete`
async fn delete_one(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: NameAsk = request::read(call).await?;
    name(&ask.name)?;
    mlflow.registry.delete_model(&ask.name, &actor, mlflow.now()).await.map_err(told(&ask.name))?;
    done()
}

/// `GET registered-models/search`
async fn search(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let quoted = *call.method() == Method::GET;
    let ask: SearchAsk = request::read(call).await?;
    let limit = page_size(ask.max_results.map(|n| n.0), SEARCH_DEFAULT, SEARCH_MAX, quoted)?;
    let offset = page_token::read(ask.page_token.as_deref())?;
    let search = Search {
        experiments: Vec::new(),
        view: ViewType::ActiveOnly,
        filter: filter::registered_models(ask.filter.as_deref().unwrap_or_default())?,
        order: order::registered_models(&ask.order_by.unwrap_or_default())?,
        limit,
        offset,
    };
    let page = mlflow.registry.search_models(&search).await?;
    let names: Vec<String> = page.items.iter().map(|model| model.name.clone()).collect();
    let mut latest: BTreeMap<String, Vec<ModelVersion>> = BTreeMap::new();
    for version in mlflow.registry.latest_versions(&names).await? {
        latest.entry(version.name.clone()).or_default().push(version);
    }
    let next_page_token = page_token::next(page.more, offset, page.items.len());
    let shown = |model: RegisteredModel| {
        let latest = latest.remove(&model.name).unwrap_or_default();
        RegisteredModelWire::new(model, &latest)
    };
    json(&Models { registered_models: page.items.into_iter().map(shown).collect(), next_page_token })
}

/// How many items a page has. What is asked for is a text in a query string, and MLflow shows it as it came.
pub(crate) fn page_size(asked: Option<i64>, default: i64, max: i64, quoted: bool) -> Result<usize> {
    let asked = asked.unwrap_or(default);
    if asked > max {
        let (shown, kind) = if quoted { (Json::from(asked.to_string()), "str") } else { (Json::from(asked), "int") };
        let why = format!(" Hint: Value was of type '{kind}'. See the API docs for more information about request parameters.");
        return Err(error::invalid(invalid_text("max_results", &shown, Some(&why))));
    }
    usize::try_from(asked)
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| error::invalid(format!("Invalid value for max_results. It must be a positive integer, but got {asked}")))
}

/// `GET` and `POST registered-models/get-latest-versions`
async fn latest(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: LatestAsk = request::read(call).await?;
    let model = find(&mlflow, &ask.name).await?;
    let stages = ask.stages.unwrap_or_default().iter().map(|s| version_source::stage_of(s)).collect::<Result<Vec<_>>>()?;
    let versions = latest_versions(&mlflow, &model.name).await?;
    let wanted = versions.iter().filter(|v| stages.is_empty() || stages.contains(&v.stage));
    let model_versions = wanted.map(|v| ModelVersionWire::new(v, ShowAliases::Yes)).collect();
    json(&Versions { model_versions, next_page_token: None })
}

/// `POST registered-models/set-tag`
async fn set_tag(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: ModelTagAsk = request::read(call).await?;
    let value = ask.value.unwrap_or_default();
    name(&ask.name)?;
    tag(&ask.key, &value)?;
    mlflow.registry.set_registered_model_tag(&ask.name, &ask.key, Some(&value), mlflow.now()).await.map_err(told(&ask.name))?;
    let about = About::of(&find(&mlflow, &ask.name).await?);
    mlflow.hooks.tell(Told::ModelTagSet { about, key: ask.key, value });
    done()
}

/// `DELETE registered-models/delete-tag`: a tag that is not there is gone already.
async fn delete_tag(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: ModelTagAsk = request::read(call).await?;
    validate::key(&ask.key, "key")?;
    let model = find(&mlflow, &ask.name).await?;
    let gone = mlflow.registry.set_registered_model_tag(&ask.name, &ask.key, None, mlflow.now()).await;
    absent_is_fine(gone).map_err(told(&ask.name))?;
    mlflow.hooks.tell(Told::ModelTagDeleted { about: About::of(&model), key: ask.key });
    done()
}

/// Taking away what is not there is done.
pub(crate) fn absent_is_fine(gone: Result<()>) -> Result<()> {
    match gone {
        Err(fault) if fault.code == Code::UNKNOWN_TAG => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_in_mlflows_words() {
        for good in ["churn", "My Model 2", "größe", "a.b"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for (bad, words) in [
            (" ", "Missing value for required parameter 'name'."),
            ("a/b", "Invalid model name 'a/b'. Names cannot contain '/' or ':'."),
            ("a:b", "Invalid model name 'a:b'. Names cannot contain '/' or ':'."),
            ("..", "must not resolve to other names when treated as such."),
            (".", "must not resolve to other names when treated as such."),
            ("a\nb", "Names cannot contain control characters."),
            (&"x".repeat(257), "'name' exceeds the maximum length of 256 characters"),
        ] {
            let message = name(bad).expect_err(bad).message;
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn a_taken_name_says_by_what() {
        assert_eq!(taken("x", false, false).message, "Registered Model (name=x) already exists.");
        assert_eq!(taken("x", true, true).message, "Prompt (name=x) already exists.");
        let mixed = taken("x", true, false).message;
        assert!(
            mixed.starts_with("Tried to create a registered model with name 'x', but the name is already taken by a prompt."),
            "{mixed}"
        );
    }

    #[test]
    fn pages_have_limits() {
        assert_eq!(page_size(None, 100, 1_000, true).expect("default"), 100);
        assert!(
            page_size(Some(1_001), 100, 1_000, true)
                .expect_err("too many")
                .message
                .starts_with("Invalid value \"1001\" for parameter 'max_results' supplied:")
        );
        assert!(page_size(Some(0), 100, 1_000, true).expect_err("none").message.contains("positive integer, but got 0"));
    }
}
