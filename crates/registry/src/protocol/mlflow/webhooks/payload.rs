//! What webhooks are told, as MLflow tells it.

use super::super::filter::IS_PROMPT;
use super::super::registered_models::is_prompt;
use gristmill_kernel::Timestamp;
use gristmill_kernel::tracking::registry::RegisteredModel;
use gristmill_kernel::tracking::webhook::WebhookEvent;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The tag that says which kind of prompt it is.
const PROMPT_TYPE: &str = "_mlflow_prompt_type";
/// The tag that is a prompt's text.
const PROMPT_TEXT: &str = "mlflow.prompt.text";

/// What something happened to.
#[derive(Debug, Clone)]
pub(crate) struct About {
    name: String,
    prompt: bool,
}

impl About {
    /// A registered model or a prompt.
    pub(crate) fn of(model: &RegisteredModel) -> About {
        About { name: model.name.clone(), prompt: is_prompt(&model.tags) }
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    /// A model or prompt was registered.
    Created { name: String, tags: BTreeMap<String, String>, description: String },
    /// A version was registered.
    VersionCreated { name: String, version: u64, source: String, run: Option<String>, tags: BTreeMap<String, String>, description: String },
    /// A tag of a model or prompt was set.
    ModelTagSet { about: About, key: String, value: String },
    /// A tag of a model or prompt was removed.
    ModelTagDeleted { about: About, key: String },
    /// A tag of a version was set.
    VersionTagSet { about: About, version: String, key: String, value: String },
    /// A tag of a version was removed.
    VersionTagDeleted { about: About, version: String, key: String },
    /// An alias was given to a version.
    AliasSet { about: About, alias: String, version: String },
    /// An alias was taken away.
    AliasDeleted { about: About, alias: String },
}

impl Told {
    /// The event and its data; `None` for what no webhook can be told.
    pub(crate) fn event(self) -> Option<(WebhookEvent, Value)> {
        use WebhookEvent as E;
        let none_if_empty = |text: String| Some(text).filter(|text| !text.is_empty());
        let of = |about: &About, model, prompt| if about.prompt { prompt } else { model };
        Some(match self {
            Told::Created { name, mut tags, description } => {
                let prompt = is_prompt(&tags);
                if prompt {
                    tags.retain(|key, _| key != IS_PROMPT && key != PROMPT_TYPE);
                }
                let event = if prompt { E::PromptCreated } else { E::ModelCreated };
                (event, json!({ "name": name, "tags": tags, "description": description }))
            }
            Told::VersionCreated { name, version, source, run, mut tags, description } => {
                let (version, description) = (version.to_string(), none_if_empty(description));
                if !is_prompt(&tags) {
                    let data = json!({
                        "name": name, "version": version, "source": source, "run_id": run, "tags": tags, "description": description,
                    });
                    return Some((E::VersionCreated, data));
                }
                let template = tags.remove(PROMPT_TEXT);
                tags.retain(|key, _| key != IS_PROMPT && key != PROMPT_TYPE);
                let data = json!({ "name": name, "version": version, "template": template, "tags": tags, "description": description });
                (E::PromptVersionCreated, data)
            }
            // Tags of models have no event; those of prompts do.
            Told::ModelTagSet { about, .. } | Told::ModelTagDeleted { about, .. } if !about.prompt => return None,
            Told::ModelTagSet { about, key, value } => (E::PromptTagSet, json!({ "name": about.name, "key": key, "value": value })),
            Told::ModelTagDeleted { about, key } => (E::PromptTagDeleted, json!({ "name": about.name, "key": key })),
            Told::VersionTagSet { about, version, key, value } => {
                let event = of(&about, E::VersionTagSet, E::PromptVersionTagSet);
                (event, json!({ "name": about.name, "version": version, "key": key, "value": value }))
            }
            Told::VersionTagDeleted { about, version, key } => {
                let event = of(&about, E::VersionTagDeleted, E::PromptVersionTagDeleted);
                (event, json!({ "name": about.name, "version": version, "key": key }))
            }
            Told::AliasSet { about, alias, version } => {
                let event = of(&about, E::AliasCreated, E::PromptAliasCreated);
                (event, json!({ "name": about.name, "alias": alias, "version": version }))
            }
            Told::AliasDeleted { about, alias } => {
                let event = of(&about, E::AliasDeleted, E::PromptAliasDeleted);
                (event, json!({ "name": about.name, "alias": alias }))
            }
        })
    }
}

/// The body of a delivery.
pub(crate) fn body(event: WebhookEvent, data: &Value, now: Timestamp) -> String {
    // Python writes the zone as an offset.
    let at = now.to_string().trim_end_matches('Z').to_owned() + "+00:00";
    json!({ "entity": event.entity(), "action": event.action(), "timestamp": at, "data": data }).to_string()
}

/// Made-up data of an event, for tests.
pub(crate) fn example(event: WebhookEvent) -> Value {
    use WebhookEvent as E;
    let (model, prompt) = ("example_model", "example_prompt");
    let tags = || json!({ "example_key": "example_value" });
    let tag = |name: &str| json!({ "name": name, "version": "1", "key": "example_key", "value": "example_value" });
    let no_tag = |name: &str| json!({ "name": name, "version": "1", "key": "example_key" });
    let alias = |name: &str| json!({ "name": name, "alias": "example_alias", "version": "1" });
    let no_alias = |name: &str| json!({ "name": name, "alias": "example_alias" });
    match event {
        E::ModelCreated => json!({ "name": model, "tags": tags(), "description": "An example registered model" }),
        E::VersionCreated => json!({
            "name": model, "version": "1", "source": "models:/123", "run_id": "abcd1234abcd5678", "tags": tags(),
            "description": "An example model version",
        }),
        E::VersionTagSet => tag(model),
        E::VersionTagDeleted => no_tag(model),
        E::AliasCreated => alias(model),
        E::AliasDeleted => no_alias(model),
        E::PromptCreated => json!({ "name": prompt, "tags": tags(), "description": "An example prompt" }),
        E::PromptVersionCreated => json!({
            "name": prompt, "version": "1", "template": "Hello {{name}}!", "tags": tags(), "description": "An example prompt version",
        }),
        E::PromptTagSet => json!({ "name": prompt, "key": "example_key", "value": "example_value" }),
        E::PromptTagDeleted => json!({ "name": prompt, "key": "example_key" }),
        E::PromptVersionTagSet => tag(prompt),
        E::PromptVersionTagDeleted => no_tag(prompt),
        E::PromptAliasCreated => alias(prompt),
        E::PromptAliasDeleted => no_alias(prompt),
        E::BudgetExceeded => json!({
            "budget_policy_id": "bp-abc123", "budget_unit": "USD", "budget_amount": 100.0, "current_spend": 105.5, "duration_unit": "MONTHS",
            "duration_value": 1, "target_scope": "ENDPOINT", "workspace": "default", "target_value": "ep-abc123",
            "window_start": 1_704_067_200_000_i64,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn models_and_prompts_are_told_apart() {
        let model = Told::Created { name: "m".into(), tags: map(&[("a", "b")]), description: String::new() };
        let (event, data) = model.event().expect("an event");
        assert_eq!((event, data), (WebhookEvent::ModelCreated, json!({ "name": "m", "tags": { "a": "b" }, "description": "" })));
        let tags = map(&[(IS_PROMPT, "true"), (PROMPT_TYPE, "text"), (PROMPT_TEXT, "Hi"), ("a", "b")]);
        let version = Told::VersionCreated {
            name: "p".into(),
            version: 2,
            source: "dummy-source".into(),
            run: None,
            tags,
            description: String::new(),
        };
        let (event, data) = version.event().expect("an event");
        let wanted = json!({ "name": "p", "version": "2", "template": "Hi", "tags": { "a": "b" }, "description": null });
        assert_eq!((event, data), (WebhookEvent::PromptVersionCreated, wanted));
        let about = |prompt| About { name: "x".into(), prompt };
        assert!(Told::ModelTagSet { about: about(false), key: "k".into(), value: "v".into() }.event().is_none());
        assert!(Told::ModelTagSet { about: about(true), key: "k".into(), value: "v".into() }.event().is_some());
    }

    #[test]
    fn every_event_has_an_example_and_a_body() {
        for event in WebhookEvent::ALL {
            let text = body(event, &example(event), Timestamp::from_micros(1_790_000_000_000_000));
            let body: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!((body["entity"].as_str(), body["action"].as_str()), (Some(event.entity()), Some(event.action())));
            assert!(body["timestamp"].as_str().is_some_and(|at| at.ends_with("+00:00")), "{text}");
            assert!(body["data"].is_object());
        }
    }
}
