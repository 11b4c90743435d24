//! Making, showing, changing, removing and trying webhooks.

use super::super::request;
use super::super::validate::{python_quoted, within};
use super::super::wire::webhooks::{
    CreateWebhookAsk, EventAsk, ListWebhooksAsk, OneWebhook, TestResult, TestWebhookAsk, Tested, UpdateWebhookAsk, WebhookWire,
    WebhooksWire,
};
use super::super::{Mlflow, done, error, page_token};
use super::deliver::delivery_id;
use gristmill_kernel::limits::{WEBHOOK_SECRET_CHARS_MAX, WEBHOOK_URL_CHARS_MAX};
use gristmill_kernel::tracking::webhook::{Webhook, WebhookEvent};
use gristmill_kernel::{Code, Result};
use gristmill_web::{Call, Response, json};
use secrecy::SecretString;
use std::sync::Arc;

/// Webhooks in one page, and unless asked otherwise.
const PAGE_MAX: i64 = 1_000;
const PAGE_DEFAULT: i64 = 100;
/// Longest description.
const DESCRIPTION_CHARS_MAX: usize = 1_000;
/// Longest name.
const NAME_CHARS_MAX: usize = 63;

/// `POST webhooks`
pub(crate) async fn create(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let ask: CreateWebhookAsk = request::read(call).await?;
    let events = events(&ask.events)?;
    let now = mlflow.now();
    let webhook = Webhook {
        id: delivery_id(mlflow.ports.ids.as_ref()),
        name: name(ask.name)?,
        url: url(&mlflow, ask.url).await?,
        events,
        description: description(ask.description)?,
        active: ask.status.map(|word| active(&word.0)).transpose()?.unwrap_or(true),
        secret: secret(ask.secret)?,
        created_at: now,
        updated_at: now,
    };
    mlflow.hooks.store().put_webhook(&webhook, &actor, now).await?;
    json(&OneWebhook { webhook: WebhookWire::new(webhook) })
}

/// `GET webhooks`
pub(crate) async fn list(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: ListWebhooksAsk = request::read(call).await?;
    let limit = ask.max_results.map(|n| n.0).filter(|n| *n != 0).unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(error::invalid(format!("max_results must be between 1 and {PAGE_MAX}.")));
    }
    let (limit, offset) = (usize::try_from(limit).unwrap_or_default(), page_token::read(ask.page_token.as_deref())?);
    let all = mlflow.hooks.store().webhooks().await?;
    let more = all.len() > offset.saturating_add(limit);
    let webhooks: Vec<WebhookWire> = all.into_iter().skip(offset).take(limit).map(WebhookWire::new).collect();
    let next_page_token = page_token::next(more, offset, webhooks.len());
    json(&WebhooksWire { webhooks, next_page_token })
}

/// `GET webhooks/{id}`
pub(crate) async fn get(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let webhook = find(&mlflow, call.param("webhook_id")?).await?;
    json(&OneWebhook { webhook: WebhookWire::new(webhook) })
}

/// `PATCH webhooks/{id}`: what is not given stays.
pub(crate) async fn update(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    let mut webhook = find(&mlflow, call.param("webhook_id")?).await?;
    let ask: UpdateWebhookAsk = request::read(call).await?;
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    if let Some(new) = filled(ask.name) {
        webhook.name = name(new)?;
    }
    if let Some(new) = filled(ask.url) {
        webhook.url = url(&mlflow, new).await?;
    }
    if let Some(new) = ask.events.filter(|events| !events.is_empty()) {
        webhook.events = events(&new)?;
    }
    if ask.description.is_some() {
        webhook.description = description(ask.description)?;
    }
    if ask.secret.is_some() {
        webhook.secret = secret(ask.secret)?;
    }
    // A word that is none is as good as none, as in MLflow.
    if let Some(Ok(active)) = ask.status.map(|word| active(&word.0)) {
        webhook.active = active;
    }
    webhook.updated_at = mlflow.now();
    mlflow.hooks.store().put_webhook(&webhook, &actor, mlflow.now()).await?;
    json(&OneWebhook { webhook: WebhookWire::new(webhook) })
}

/// `DELETE webhooks/{id}`
pub(crate) async fn delete(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let actor = call.caller().actor.clone();
    mlflow.hooks.store().delete_webhook(call.param("webhook_id")?, &actor, mlflow.now()).await?;
    done()
}

/// `POST webhooks/{id}/test`: sends an example once. That it does not arrive is an answer, not a failure.
pub(crate) async fn test(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let webhook = find(&mlflow, call.param("webhook_id")?).await?;
    let ask: TestWebhookAsk = request::read(call).await?;
    let event = match &ask.event {
        Some(asked) => event(asked)?,
        None => *webhook.events.first().ok_or_else(|| error::invalid("Webhook events cannot be empty"))?,
    };
    let result = match mlflow.hooks.test(&webhook, event).await {
        Ok(answer) => TestResult {
            success: answer.status < 400,
            response_status: Some(answer.status),
            response_body: Some(answer.body),
            error_message: None,
        },
        Err(fault) => TestResult {
            success: false,
            response_status: None,
            response_body: None,
            error_message: Some(format!("Failed to test webhook: {}", fault.message)),
        },
    };
    json(&Tested { result })
}

async fn find(mlflow: &Mlflow, id: &str) -> Result<Webhook> {
    let webhook = mlflow.hooks.store().webhook(id).await?;
    webhook.ok_or_else(|| error::unknown(Code::UNKNOWN_WEBHOOK, format!("Webhook with ID {id} not found.")))
}

fn name(name: String) -> Result<String> {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if inner && name.len() <= NAME_CHARS_MAX && end(name.chars().next()) && end(name.chars().last()) {
        return Ok(name);
    }
    Err(error::invalid(format!(
        "Webhook name {} is invalid. It must start and end with a letter or digit, be less than 63 characters long, and contain only letters, \
         digits, dots (.), underscores (_), and hyphens (-).",
        python_quoted(&name)
    )))
}

/// An address that may be called now. It is checked again whenever it is called.
async fn url(mlflow: &Mlflow, url: String) -> Result<String> {
    if url.trim().is_empty() {
        return Err(error::invalid(format!("Webhook URL cannot be empty or just whitespace: {}", python_quoted(&url))));
    }
    within("url", WEBHOOK_URL_CHARS_MAX, &url)?;
    if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(error::invalid(format!("Invalid webhook URL {}", python_quoted(&url))));
    }
    mlflow.hooks.check(&url).await?;
    Ok(url)
}

fn description(text: Option<String>) -> Result<Option<String>> {
    let text = text.filter(|text| !text.is_empty());
    within("description", DESCRIPTION_CHARS_MAX, text.as_deref().unwrap_or_default())?;
    Ok(text)
}

fn secret(text: Option<String>) -> Result<Option<SecretString>> {
    let text = text.filter(|text| !text.is_empty());
    within("secret", WEBHOOK_SECRET_CHARS_MAX, text.as_deref().unwrap_or_default())?;
    Ok(text.map(SecretString::from))
}

fn active(word: &str) -> Result<bool> {
    match word {
        "ACTIVE" | "1" => Ok(true),
        "DISABLED" | "2" => Ok(false),
        other => Err(error::invalid(format!("Unknown webhook status: {other}"))),
    }
}

fn events(asked: &[EventAsk]) -> Result<Vec<WebhookEvent>> {
    if asked.is_empty() {
        return Err(error::invalid("Webhook events must be a non-empty list of WebhookEvent objects: []."));
    }
    let mut events = Vec::new();
    for asked in asked {
        let event = event(asked)?;
        if !events.contains(&event) {
            events.push(event);
        }
    }
    events.sort_by_key(|event| (event.entity(), event.action()));
    Ok(events)
}

/// MLflow's enums in the order of their numbers.
const ENTITIES: [&str; 10] = [
    "registered_model",
    "model_version",
    "model_version_tag",
    "model_version_alias",
    "prompt",
    "prompt_version",
    "prompt_tag",
    "prompt_version_tag",
    "prompt_alias",
    "budget_policy",
];
const ACTIONS: [&str; 5] = ["created", "updated", "deleted", "set", "exceeded"];

fn event(asked: &EventAsk) -> Result<WebhookEvent> {
    let word = |word: &str, known: &[&'static str]| {
        let by_number = word.parse::<usize>().ok().and_then(|n| known.get(n.checked_sub(1)?).copied());
        by_number.or_else(|| known.iter().find(|k| k.eq_ignore_ascii_case(word)).copied())
    };
    let entity = word(&asked.entity.0, &ENTITIES);
    let action = word(&asked.action.0, &ACTIONS);
    let (Some(entity), Some(action)) = (entity, action) else {
        return Err(error::invalid(format!("Unknown webhook event: {}.{}", asked.entity.0, asked.action.0)));
    };
    WebhookEvent::of(entity, action).ok_or_else(|| {
        let mut valid: Vec<&str> = WebhookEvent::ALL.iter().filter(|e| e.entity() == entity).map(|e| e.action()).collect();
        valid.sort_unstable();
        let valid: Vec<String> = valid.into_iter().map(python_quoted).collect();
        error::invalid(format!("Invalid action '{action}' for entity '{entity}'. Valid actions are: [{}]", valid.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::request::EnumWord;
    use super::*;

    fn ask(entity: &str, action: &str) -> EventAsk {
        EventAsk { entity: EnumWord(entity.into()), action: EnumWord(action.into()) }
    }

    #[test]
    fn events_are_words_or_numbers() {
        assert_eq!(event(&ask("REGISTERED_MODEL", "CREATED")).expect("words"), WebhookEvent::ModelCreated);
        assert_eq!(event(&ask("3", "4")).expect("numbers"), WebhookEvent::VersionTagSet);
        let message = event(&ask("MODEL_VERSION_TAG", "CREATED")).expect_err("no such action").message;
        assert_eq!(message, "Invalid action 'created' for entity 'model_version_tag'. Valid actions are: ['deleted', 'set']");
        for (entity, action) in [("0", "1"), ("11", "1"), ("X", "CREATED"), ("", "")] {
            assert!(event(&ask(entity, action)).is_err(), "{entity}.{action}");
        }
        assert_eq!(events(&[ask("1", "1"), ask("1", "1")]).expect("once").len(), 1);
        assert!(events(&[]).is_err());
    }

    #[test]
    fn names_are_plain() {
        for good in ["a", "my-hook_1.x", "A9"] {
            assert!(name(good.into()).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "ä", "a/b", &"a".repeat(64)] {
            assert!(name(bad.into()).is_err(), "{bad}");
        }
    }
}
