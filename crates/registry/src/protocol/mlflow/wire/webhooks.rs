//! Webhooks, as MLflow writes them. The secret goes in and never comes out.

use super::super::request::{Ask, EnumWord, Field, Int, Is, filled};
use gristmill_kernel::tracking::webhook::Webhook;
use serde::{Deserialize, Serialize};

/// What a webhook is told.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct EventWire {
    pub entity: String,
    pub action: String,
}

/// A webhook.
#[derive(Debug, Serialize)]
pub(crate) struct WebhookWire {
    pub webhook_id: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub url: String,
    pub events: Vec<EventWire>,
    pub status: &'static str,
    pub creation_timestamp: i64,
    pub last_updated_timestamp: i64,
}

impl WebhookWire {
    /// A webhook.
    pub(crate) fn new(webhook: Webhook) -> WebhookWire {
        let event = |event: &gristmill_kernel::tracking::webhook::WebhookEvent| EventWire {
            entity: event.entity().to_ascii_uppercase(),
            action: event.action().to_ascii_uppercase(),
        };
        WebhookWire {
            webhook_id: webhook.id,
            name: webhook.name,
            description: webhook.description.filter(|text| !text.is_empty()),
            url: webhook.url,
            events: webhook.events.iter().map(event).collect(),
            status: if webhook.active { "ACTIVE" } else { "DISABLED" },
            creation_timestamp: webhook.created_at.millis(),
            last_updated_timestamp: webhook.updated_at.millis(),
        }
    }
}

/// One webhook.
#[derive(Debug, Serialize)]
pub(crate) struct OneWebhook {
    pub webhook: WebhookWire,
}

/// A page of webhooks.
#[derive(Debug, Serialize)]
pub(crate) struct WebhooksWire {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<WebhookWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// How a test went.
#[derive(Debug, Serialize)]
pub(crate) struct TestResult {
    pub success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
}

/// The answer to a test.
#[derive(Debug, Serialize)]
pub(crate) struct Tested {
    pub result: TestResult,
}

/// An event as a client names it: words or numbers of MLflow's enums.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct EventAsk {
    #[serde(default)]
    pub entity: EnumWord,
    #[serde(default)]
    pub action: EnumWord,
}

const EVENT: &[Field] = &[Field::new("entity", Is::Word), Field::new("action", Is::Word)];

/// `webhooks`, to make one
#[derive(Deserialize)]
pub(crate) struct CreateWebhookAsk {
    #[serde(deserialize_with = "filled")]
    pub name: String,
    #[serde(deserialize_with = "filled")]
    pub url: String,
    pub events: Vec<EventAsk>,
    pub description: Option<String>,
    pub secret: Option<String>,
    pub status: Option<EnumWord>,
}
impl Ask for CreateWebhookAsk {
    const FIELDS: &'static [Field] = &[
        Field::text("name").required(),
        Field::text("url").required(),
        Field::new("events", Is::Items(EVENT)).required(),
        Field::text("description"),
        Field::text("secret"),
        Field::new("status", Is::Word),
    ];
}

/// `webhooks/{id}`, to change one
#[derive(Deserialize)]
pub(crate) struct UpdateWebhookAsk {
    pub name: Option<String>,
    pub description: Option<String>,
    pub url: Option<String>,
    pub events: Option<Vec<EventAsk>>,
    pub secret: Option<String>,
    pub status: Option<EnumWord>,
}
impl Ask for UpdateWebhookAsk {
    const FIELDS: &'static [Field] = &[
        Field::text("name"),
        Field::text("description"),
        Field::text("url"),
        Field::new("events", Is::Items(EVENT)),
        Field::text("secret"),
        Field::new("status", Is::Word),
    ];
}

/// `webhooks`, to list them
#[derive(Debug, Deserialize)]
pub(crate) struct ListWebhooksAsk {
    pub max_results: Option<Int>,
    pub page_token: Option<String>,
}
impl Ask for ListWebhooksAsk {
    const FIELDS: &'static [Field] = &[Field::new("max_results", Is::Int), Field::text("page_token")];
}

/// `webhooks/{id}/test`
#[derive(Debug, Deserialize)]
pub(crate) struct TestWebhookAsk {
    pub event: Option<EventAsk>,
}
impl Ask for TestWebhookAsk {
    const FIELDS: &'static [Field] = &[Field::new("event", Is::Object(EVENT))];
}
