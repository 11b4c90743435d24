//! Registered models and their versions as registries know them: the asset `models.NAME` with words about it.

use crate::{Address, Code, Fault, Result, RunId, Timestamp, VersionRef, limits};
use std::collections::BTreeMap;

/// The tag that makes a registered model a prompt.
pub const PROMPT_TAG: &str = "mlflow.prompt.is_prompt";

/// Checks the name of a registered model: any text without `/` and `:` that is no dot segment. The words are the peer's, which its clients
/// look for.
pub fn check_model_name(name: &str) -> Result<()> {
    let bad = |message: String| Err(Fault::invalid(Code::BAD_VALUE, message).fix("use a name without `/` and `:`"));
    if name.trim().is_empty() {
        return bad("Missing value for required parameter 'name'.".to_owned());
    }
    if name.contains(['/', ':']) {
        return bad(format!("Invalid model name '{name}'. Names cannot contain '/' or ':'."));
    }
    if name == "." || name.starts_with("..") {
        return bad(format!(
            "Invalid value {} for parameter 'name' supplied: Names may be treated as files in certain cases, and must not resolve to other \
             names when treated as such. This name would resolve to '{name}'",
            serde_json::Value::from(name)
        ));
    }
    if name.chars().count() > limits::MODEL_NAME_CHARS_MAX {
        return bad(format!("'name' exceeds the maximum length of {} characters", limits::MODEL_NAME_CHARS_MAX));
    }
    Ok(())
}

/// A registered model: a name for people, the asset behind it, and what was said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisteredModel {
    /// Its name, unique; any text without `/` and `:`.
    pub name: String,
    /// The asset: `models.NAME` where the name is one of ours, else one that was derived from it.
    pub asset: Address,
    /// What it is for.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it or one of its versions changed last.
    pub updated_at: Timestamp,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Aliases and the version numbers they name.
    pub aliases: BTreeMap<String, u64>,
}

/// The four stages of the older registry protocol, kept alive for its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ModelStage {
    /// In none.
    #[default]
    None,
    /// `Staging`.
    Staging,
    /// `Production`.
    Production,
    /// `Archived`.
    Archived,
}

impl ModelStage {
    /// Every stage.
    pub const ALL: [ModelStage; 4] = [ModelStage::None, ModelStage::Staging, ModelStage::Production, ModelStage::Archived];
    /// The word, as stored and as clients write it.
    pub fn as_str(self) -> &'static str {
        match self {
            ModelStage::None => "None",
            ModelStage::Staging => "Staging",
            ModelStage::Production => "Production",
            ModelStage::Archived => "Archived",
        }
    }
    /// The stage of a word, in any case.
    pub fn parse(word: &str) -> Option<ModelStage> {
        ModelStage::ALL.into_iter().find(|s| s.as_str().eq_ignore_ascii_case(word))
    }
}

/// A version about to be registered.
#[derive(Debug, Clone, PartialEq)]
pub struct NewModelVersion {
    /// The registered model.
    pub name: String,
    /// Where its files are, as the client said; parsed and found harmless by the protocol.
    pub source: String,
    /// The run that made it.
    pub run: Option<RunId>,
    /// A link to a run elsewhere.
    pub run_link: Option<String>,
    /// The logged model it was registered from.
    pub model: Option<String>,
    /// What it is.
    pub description: String,
    /// Who registers it.
    pub user: Option<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// The artifact keys it consists of at this moment, relative to its source, with the digest of each: what the version's content is.
    pub files: Vec<(String, crate::Digest)>,
}

/// A version of a registered model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelVersion {
    /// The registered model's name.
    pub name: String,
    /// The version in the ledger.
    pub id: VersionRef,
    /// Where its files are.
    pub source: String,
    /// The run that made it.
    pub run: Option<RunId>,
    /// A link to a run elsewhere.
    pub run_link: Option<String>,
    /// The logged model it was registered from.
    pub model: Option<String>,
    /// What it is.
    pub description: String,
    /// Who registered it.
    pub user: Option<String>,
    /// Its stage.
    pub stage: ModelStage,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// The aliases that name it.
    pub aliases: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_names_are_free_texts_that_are_no_paths() {
        for good in ["churn", "My Model", "Ünï", "a.b", ".hidden", "a..b", &"n".repeat(256)] {
            assert!(check_model_name(good).is_ok(), "{good}");
        }
        for bad in ["", "  ", "a/b", "a:b", ".", "..", "..x", &"n".repeat(257)] {
            assert!(check_model_name(bad).is_err(), "{bad}");
        }
    }
}
