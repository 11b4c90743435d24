//! Registered models, their versions, tags and aliases, as MLflow writes them.

use super::super::request::{Ask, Field, Int, Is, filled};
use gristmill_kernel::tracking::registry::{ModelVersion, RegisteredModel};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A tag.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tag {
    #[serde(default)]
    pub key: String,
    #[serde(default)]
    pub value: String,
}

/// Tags in the order of their names.
pub(crate) fn tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag { key: key.clone(), value: value.clone() }).collect()
}

/// An alias and the version it names.
#[derive(Debug, Serialize)]
pub(crate) struct Alias {
    pub alias: String,
    pub version: String,
}

/// A registered model.
#[derive(Debug, Serialize)]
pub(crate) struct RegisteredModelWire {
    pub name: String,
    pub creation_timestamp: i64,
    pub last_updated_timestamp: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latest_versions: Vec<ModelVersionWire>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Alias>,
}

impl RegisteredModelWire {
    /// A registered model with the newest version of each stage.
    pub(crate) fn new(model: RegisteredModel, latest: &[ModelVersion]) -> RegisteredModelWire {
        let alias = |(alias, version): (&String, &u64)| Alias { alias: alias.clone(), version: version.to_string() };
        RegisteredModelWire {
            creation_timestamp: model.created_at.millis(),
            last_updated_timestamp: model.updated_at.millis(),
            latest_versions: latest.iter().map(|v| ModelVersionWire::new(v, ShowAliases::No)).collect(),
            tags: tags(&model.tags),
            aliases: model.aliases.iter().map(alias).collect(),
            name: model.name,
            description: model.description,
        }
    }
}

/// Whether a version shows the aliases that name it. In lists MLflow does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShowAliases {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// A version of a registered model.
#[derive(Debug, Serialize)]
pub(crate) struct ModelVersionWire {
    pub name: String,
    pub version: String,
    pub creation_timestamp: i64,
    pub last_updated_timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    pub current_stage: &'static str,
    pub description: String,
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    pub status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    pub run_link: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

impl ModelVersionWire {
    /// A version.
    pub(crate) fn new(version: &ModelVersion, aliases: ShowAliases) -> ModelVersionWire {
        ModelVersionWire {
            name: version.name.clone(),
            version: version.id.number.to_string(),
            creation_timestamp: version.created_at.millis(),
            last_updated_timestamp: version.updated_at.millis(),
            user_id: version.user.clone(),
            current_stage: version.stage.as_str(),
            description: version.description.clone(),
            source: version.source.clone(),
            // Without a run MLflow shows an empty one; the version of a logged model without a run shows none.
            run_id: version.run.as_ref().map(|run| run.0.clone()).or_else(|| version.model.is_none().then(String::new)),
            // A version is complete before anybody can see it.
            status: "READY",
            tags: tags(&version.tags),
            run_link: version.run_link.clone().unwrap_or_default(),
            aliases: if aliases == ShowAliases::Yes { version.aliases.clone() } else { Vec::new() },
        }
    }
}

/// One registered model.
#[derive(Debug, Serialize)]
pub(crate) struct OneModel {
    pub registered_model: RegisteredModelWire,
}

/// A page of registered models.
#[derive(Debug, Serialize)]
pub(crate) struct Models {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registered_models: Vec<RegisteredModelWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// One version.
#[derive(Debug, Serialize)]
pub(crate) struct OneVersion {
    pub model_version: ModelVersionWire,
}

/// A page of versions.
#[derive(Debug, Serialize)]
pub(crate) struct Versions {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub model_versions: Vec<ModelVersionWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// Where a version's files are.
#[derive(Debug, Serialize)]
pub(crate) struct DownloadUri {
    pub artifact_uri: String,
}

const TAGS: Field = Field::new("tags", Is::Items(&[Field::text("key"), Field::text("value")]));
const NAME: Field = Field::text("name").required();
const VERSION: Field = Field::text("version").required();

/// `registered-models/create`
#[derive(Debug, Deserialize)]
pub(crate) struct CreateModelAsk {
    #[serde(deserialize_with = "filled")]
    pub name: String,
    pub tags: Option<Vec<Tag>>,
    pub description: Option<String>,
}
impl Ask for CreateModelAsk {
    const FIELDS: &'static [Field] = &[NAME, TAGS, Field::text("description")];
}

/// A registered model by its name.
#[derive(Debug, Deserialize)]
pub(crate) struct NameAsk {
    #[serde(deserialize_with = "filled")]
    pub name: String,
}
impl Ask for NameAsk {
    const FIELDS: &'static [Field] = &[NAME];
}

/// `registered-models/update`
#[derive(Debug, Deserialize)]
pub(crate) struct UpdateModelAsk {
    #[serde(deserialize_with = "filled")]
    pub name: String,
    pub description: Option<String>,
}
impl Ask for UpdateModelAsk {
    const FIELDS: &'static [Field] = &[NAME, Field::text("description")];
}

/// `registered-models/rename`
#[derive(Debug, Deserialize)]
pub(crate) struct RenameModelAsk {
    #[serde(deserialize_with = "filled")]
    pub name: String,
    #[serde(deserialize_with = "filled")]
    pub new_name: String,
}
impl Ask for RenameModelAsk {
    const FIELDS: &'static [Field] = &[NAME, Field::text("new_name").required()];
}

/// `registered-models/search` and `model-versions/search`
#[derive(Debug, Deserialize)]
pub(crate) struct SearchAsk {
    pub filter: Option<String>,
    pub max_results: Option<Int>,
    pub order_by: Option<Vec<String>>,
    pub page_token: Option<String>,
}
impl Ask for SearchAsk {
    const FIELDS: &'static [Field] =
        &[Field::text("filter"), Field::new("max_results", Is::Int), Field::new("order_by", Is::Texts), Field::text("page_token")];
}

/// `registered-models/get-latest-versions`
#[derive(Debug, Deserialize)]
pub(crate) struct LatestAsk {
    #[serde(deserialize_with = "filled")]
    pub name: String,
    pub stages: Option<Vec<String>>,
}
impl Ask for LatestAsk {
    const FIELDS: &'static [Field] = &[NAME, Field::new("stages", Is::Texts)];
}

/// `registered-models/set-tag` and `delete-tag`
#[derive(Debug, Deserialize)]
pub(crate) struct ModelTagAsk {
    #[serde(deserialize_with = "filled")]
    pub name: String,
    #[serde(deserialize_with = "filled")]
    pub key: String,
    pub value: Option<String>,
}
impl Ask for ModelTagAsk {
    const FIELDS: &'static [Field] = &[NAME, Field::text("key").required(), Field::text("value")];
}

/// `registered-models/alias`
#[derive(Debug, Deserialize)]
pub(crate) struct SetAliasAsk {
    #[serde(deserialize_with = "filled")]
    pub name: String,
    #[serde(deserialize_with = "filled")]
    pub alias: String,
    #[serde(deserialize_with = "filled")]
    pub version: String,
}
impl Ask for SetAliasAsk {
    const FIELDS: &'static [Field] = &[NAME, Field::text("alias").required(), VERSION];
}

/// `registered-models/alias`, to look at or to take away
#[derive(Debug, Deserialize)]
pub(crate) struct AliasAsk {
    #[serde(deserialize_with = "filled")]
    pub name: String,
    #[serde(deserialize_with = "filled")]
    pub alias: String,
}
impl Ask for AliasAsk {
    const FIELDS: &'static [Field] = &[NAME, Field::text("alias").required()];
}

/// `model-versions/create`
#[derive(Debug, Deserialize)]
pub(crate) struct CreateVersionAsk {
    #[serde(deserialize_with = "filled")]
    pub name: String,
    #[serde(deserialize_with = "filled")]
    pub source: String,
    pub run_id: Option<String>,
    pub tags: Option<Vec<Tag>>,
    pub run_link: Option<String>,
    pub description: Option<String>,
    pub model_id: Option<String>,
}
impl Ask for CreateVersionAsk {
    const FIELDS: &'static [Field] = &[
        NAME,
        Field::text("source").required(),
        Field::text("run_id"),
        TAGS,
        Field::text("run_link"),
        Field::text("description"),
        Field::text("model_id"),
    ];
}

/// A version by name and number.
#[derive(Debug, Deserialize)]
pub(crate) struct VersionAsk {
    #[serde(deserialize_with = "filled")]
    pub name: String,
    #[serde(deserialize_with = "filled")]
    pub version: String,
}
impl Ask for VersionAsk {
    const FIELDS: &'static [Field] = &[NAME, VERSION];
}

/// `model-versions/get-download-uri`: nothing is required before it is looked up.
#[derive(Debug, Deserialize)]
pub(crate) struct DownloadUriAsk {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub version: String,
}
impl Ask for DownloadUriAsk {
    const FIELDS: &'static [Field] = &[Field::text("name"), Field::text("version")];
}

/// `model-versions/update`
#[derive(Debug, Deserialize)]
pub(crate) struct UpdateVersionAsk {
    #[serde(deserialize_with = "filled")]
    pub name: String,
    #[serde(deserialize_with = "filled")]
    pub version: String,
    pub description: Option<String>,
}
impl Ask for UpdateVersionAsk {
    const FIELDS: &'static [Field] = &[NAME, VERSION, Field::text("description")];
}

/// `model-versions/transition-stage`
#[derive(Debug, Deserialize)]
pub(crate) struct StageAsk {
    #[serde(deserialize_with = "filled")]
    pub name: String,
    #[serde(deserialize_with = "filled")]
    pub version: String,
    #[serde(deserialize_with = "filled")]
    pub stage: String,
    pub archive_existing_versions: Option<bool>,
}
impl Ask for StageAsk {
    const FIELDS: &'static [Field] = &[NAME, VERSION, Field::text("stage").required(), Field::new("archive_existing_versions", Is::Flag)];
}

/// `model-versions/set-tag` and `delete-tag`
#[derive(Debug, Deserialize)]
pub(crate) struct VersionTagAsk {
    #[serde(deserialize_with = "filled")]
    pub name: String,
    #[serde(deserialize_with = "filled")]
    pub version: String,
    #[serde(deserialize_with = "filled")]
    pub key: String,
    pub value: Option<String>,
}
impl Ask for VersionTagAsk {
    const FIELDS: &'static [Field] = &[NAME, VERSION, Field::text("key").required(), Field::text("value")];
}
