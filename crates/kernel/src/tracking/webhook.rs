//! Webhooks: addresses that are told what happens in the registry of models and prompts.
//!
//! Invariant: a secret is a [`SecretString`]; it prints as `•••`, is never shown to a caller, and signs what is sent.

use crate::Timestamp;
use secrecy::SecretString;

/// What a webhook can be told, by the words of the protocol that asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WebhookEvent {
    /// A model was registered.
    ModelCreated,
    /// A version of a model was registered.
    VersionCreated,
    /// A tag of a version was set.
    VersionTagSet,
    /// A tag of a version was removed.
    VersionTagDeleted,
    /// An alias of a model was given to a version.
    AliasCreated,
    /// An alias of a model was taken away.
    AliasDeleted,
    /// A prompt was registered.
    PromptCreated,
    /// A version of a prompt was registered.
    PromptVersionCreated,
    /// A tag of a prompt was set.
    PromptTagSet,
    /// A tag of a prompt was removed.
    PromptTagDeleted,
    /// A tag of a prompt's version was set.
    PromptVersionTagSet,
    /// A tag of a prompt's version was removed.
    PromptVersionTagDeleted,
    /// An alias of a prompt was given to a version.
    PromptAliasCreated,
    /// An alias of a prompt was taken away.
    PromptAliasDeleted,
    /// A budget was exceeded. Kept for clients that ask for it; nothing here has budgets, so it never happens.
    BudgetExceeded,
}

impl WebhookEvent {
    /// Every event.
    pub const ALL: [WebhookEvent; 15] = [
        WebhookEvent::ModelCreated,
        WebhookEvent::VersionCreated,
        WebhookEvent::VersionTagSet,
        WebhookEvent::VersionTagDeleted,
        WebhookEvent::AliasCreated,
        WebhookEvent::AliasDeleted,
        WebhookEvent::PromptCreated,
        WebhookEvent::PromptVersionCreated,
        WebhookEvent::PromptTagSet,
        WebhookEvent::PromptTagDeleted,
        WebhookEvent::PromptVersionTagSet,
        WebhookEvent::PromptVersionTagDeleted,
        WebhookEvent::PromptAliasCreated,
        WebhookEvent::PromptAliasDeleted,
        WebhookEvent::BudgetExceeded,
    ];
    /// What it is about: `model_version_tag`.
    pub fn entity(self) -> &'static str {
        match self {
            WebhookEvent::ModelCreated => "registered_model",
            WebhookEvent::VersionCreated => "model_version",
            WebhookEvent::VersionTagSet | WebhookEvent::VersionTagDeleted => "model_version_tag",
            WebhookEvent::AliasCreated | WebhookEvent::AliasDeleted => "model_version_alias",
            WebhookEvent::PromptCreated => "prompt",
            WebhookEvent::PromptVersionCreated => "prompt_version",
            WebhookEvent::PromptTagSet | WebhookEvent::PromptTagDeleted => "prompt_tag",
            WebhookEvent::PromptVersionTagSet | WebhookEvent::PromptVersionTagDeleted => "prompt_version_tag",
            WebhookEvent::PromptAliasCreated | WebhookEvent::PromptAliasDeleted => "prompt_alias",
            WebhookEvent::BudgetExceeded => "budget_policy",
        }
    }
    /// What happened to it: `set`.
    pub fn action(self) -> &'static str {
        match self {
            WebhookEvent::ModelCreated
            | WebhookEvent::VersionCreated
            | WebhookEvent::AliasCreated
            | WebhookEvent::PromptCreated
            | WebhookEvent::PromptVersionCreated
            | WebhookEvent::PromptAliasCreated => "created",
            WebhookEvent::VersionTagSet | WebhookEvent::PromptTagSet | WebhookEvent::PromptVersionTagSet => "set",
            WebhookEvent::VersionTagDeleted
            | WebhookEvent::AliasDeleted
            | WebhookEvent::PromptTagDeleted
            | WebhookEvent::PromptVersionTagDeleted
            | WebhookEvent::PromptAliasDeleted => "deleted",
            WebhookEvent::BudgetExceeded => "exceeded",
        }
    }
    /// The event of an entity and an action.
    pub fn of(entity: &str, action: &str) -> Option<WebhookEvent> {
        WebhookEvent::ALL.into_iter().find(|e| e.entity() == entity && e.action() == action)
    }
    /// The stored words: `model_version_tag.set`.
    pub fn words(self) -> String {
        format!("{}.{}", self.entity(), self.action())
    }
    /// The event of the stored words.
    pub fn parse(words: &str) -> Option<WebhookEvent> {
        let (entity, action) = words.split_once('.')?;
        WebhookEvent::of(entity, action)
    }
}

/// An address that wants to be told.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Its id, made by us.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The address. It may hold a token of its owner: it is shown to callers who may read webhooks, and never logged.
    pub url: String,
    /// What it wants to be told, at least one.
    pub events: Vec<WebhookEvent>,
    /// Whether it is told.
    pub active: bool,
    /// Signs what is sent.
    pub secret: Option<SecretString>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_name_one_event_each() {
        for event in WebhookEvent::ALL {
            assert_eq!(WebhookEvent::parse(&event.words()), Some(event));
        }
        for words in ["", "registered_model", "registered_model.deleted", "registered_model.created.x", ".created"] {
            assert_eq!(WebhookEvent::parse(words), None, "{words}");
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        let zero = Timestamp::from_micros(0);
        let webhook = Webhook {
            id: "w".into(),
            name: "w".into(),
            description: None,
            url: "https://example.org".into(),
            events: vec![WebhookEvent::ModelCreated],
            active: true,
            secret: Some("hunter2".to_owned().into()),
            created_at: zero,
            updated_at: zero,
        };
        assert!(!format!("{webhook:?}").contains("hunter2"));
    }
}
