//! Deliveries over a real ledger, to another side that is scripted.

use super::*;
use async_trait::async_trait;
use gristmill_kernel::{Actor, Code, Fault, Span, Timestamp};
use gristmill_store::memory::MemoryLedger;
use gristmill_store::system::{ManualClock, SeededIds};
use std::collections::{BTreeMap, VecDeque};

/// Answers as told, then with 200, and remembers what came.
#[derive(Default)]
struct Other {
    answers: Mutex<VecDeque<Result<Posted>>>,
    came: Mutex<Vec<Post>>,
    held: Option<Arc<Semaphore>>,
}

#[async_trait]
impl Outward for Other {
    async fn check(&self, _: &SecretString) -> Result<()> {
        Ok(())
    }
    async fn post(&self, post: Post) -> Result<Posted> {
        self.came.lock().expect("a lock").push(post);
        if let Some(held) = &self.held {
            drop(held.acquire().await.expect("open"));
        }
        let told = self.answers.lock().expect("a lock").pop_front();
        told.unwrap_or_else(|| Ok(Posted { status: 200, body: "ok".into(), retry_after: None }))
    }
}

impl Other {
    fn answering(answers: impl IntoIterator<Item = Result<Posted>>) -> Arc<Other> {
        Arc::new(Other { answers: Mutex::new(answers.into_iter().collect()), ..Other::default() })
    }
    fn came(&self) -> usize {
        self.came.lock().expect("a lock").len()
    }
    /// Waits until so many came, and a little longer for those that should not.
    async fn saw(&self, wanted: usize) {
        for _ in 0..500 {
            if self.came() >= wanted {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(self.came(), wanted);
    }
}

fn status(status: u16) -> Result<Posted> {
    Ok(Posted { status, body: String::new(), retry_after: None })
}

fn webhook(id: &str, events: &[WebhookEvent], secret: Option<&str>) -> Webhook {
    Webhook {
        id: id.into(),
        name: id.into(),
        description: None,
        url: format!("https://example.org/{id}"),
        events: events.to_vec(),
        active: true,
        secret: secret.map(|s| s.to_owned().into()),
        created_at: Timestamp::from_micros(1),
        updated_at: Timestamp::from_micros(1),
    }
}

async fn hooks(other: &Arc<Other>, webhooks: &[Webhook]) -> Hooks {
    let clock = Arc::new(ManualClock::new("2026-11-21T14:00:00.5Z".parse().expect("a moment")));
    let ledger = Arc::new(MemoryLedger::new(clock.clone()));
    for webhook in webhooks {
        ledger.put_webhook(webhook, &Actor::user("ada"), clock.now()).await.expect("put");
    }
    Hooks::with_backoff(ledger, other.clone(), clock, Arc::new(SeededIds::new(3)), Duration::from_millis(1))
}

fn created(name: &str) -> Told {
    Told::Created { name: name.into(), tags: BTreeMap::new(), description: String::new() }
}

fn header<'a>(post: &'a Post, name: &str) -> Option<&'a str> {
    post.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn who_wants_to_know_is_told_once_and_signed() {
    let other = Other::answering([]);
    let mut asleep = webhook("asleep", &[WebhookEvent::ModelCreated], None);
    asleep.active = false;
    let wants = [WebhookEvent::ModelCreated];
    let all = [webhook("signed", &wants, Some("s3cret")), webhook("other", &[WebhookEvent::AliasCreated], None), asleep];
    hooks(&other, &all).await.tell(created("churn"));
    other.saw(1).await;
    let came = other.came.lock().expect("a lock");
    let post = &came[0];
    assert_eq!(post.url.expose_secret(), "https://example.org/signed");
    let (id, moment) = (header(post, "x-mlflow-delivery-id").expect("an id"), header(post, "x-mlflow-timestamp").expect("a moment"));
    assert_eq!((id.len(), id.as_bytes()[14], moment), (36, b'4', "1795269600"));
    let body = std::str::from_utf8(&post.body).expect("text");
    let code = hmac_sha256(b"s3cret", [format!("{id}.{moment}.{body}").as_bytes()]);
    assert_eq!(header(post, "x-mlflow-signature"), Some(format!("v1,{}", BASE64.encode(code)).as_str()));
    let body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!((body["entity"].as_str(), body["action"].as_str()), (Some("registered_model"), Some("created")));
    assert_eq!((body["timestamp"].as_str(), body["data"]["name"].as_str()), (Some("2026-11-21T14:00:00.5+00:00"), Some("churn")));
    assert!(!format!("{post:?}").contains("example.org"), "an address is not printed");
}

#[tokio::test]
async fn without_a_secret_there_is_no_signature() {
    let other = Other::answering([]);
    hooks(&other, &[webhook("w", &[WebhookEvent::ModelCreated], None)]).await.tell(created("churn"));
    other.saw(1).await;
    assert_eq!(header(&other.came.lock().expect("a lock")[0], "x-mlflow-signature"), None);
}

#[tokio::test]
async fn silence_and_trouble_are_tried_again_with_the_same_id() {
    let silence = Err(Fault::new(Kind::Unavailable, Code::PART_UNAVAILABLE, "no answer"));
    let later = Ok(Posted { status: 429, body: String::new(), retry_after: Some(Span::from_millis(2)) });
    let other = Other::answering([status(503), silence, later, status(204)]);
    hooks(&other, &[webhook("w", &[WebhookEvent::ModelCreated], Some("s"))]).await.tell(created("churn"));
    other.saw(4).await;
    let came = other.came.lock().expect("a lock");
    assert!(came.iter().all(|post| post.headers == came[0].headers && post.body == came[0].body));
}

#[tokio::test]
async fn what_does_not_help_is_not_repeated() {
    let refused = Err(Fault::invalid(Code::BAD_VALUE, "not a public address"));
    for answer in [status(400), status(401), status(404), status(501), refused] {
        let other = Other::answering([answer]);
        hooks(&other, &[webhook("w", &[WebhookEvent::ModelCreated], None)]).await.tell(created("churn"));
        other.saw(1).await;
    }
    let other = Other::answering((0..20).map(|_| status(500)));
    hooks(&other, &[webhook("w", &[WebhookEvent::ModelCreated], None)]).await.tell(created("churn"));
    other.saw(WEBHOOK_ATTEMPTS_MAX as usize).await;
}

#[tokio::test]
async fn a_side_that_never_answers_holds_nobody_up_and_fills_no_memory() {
    let other = Arc::new(Other { held: Some(Arc::new(Semaphore::new(0))), ..Other::default() });
    let hooks = hooks(&other, &[webhook("w", &[WebhookEvent::ModelCreated], None)]).await;
    for n in 0..WEBHOOK_WAITING_MAX + 1_000 {
        hooks.tell(created(&format!("m{n}")));
    }
    other.saw(WEBHOOK_IN_FLIGHT_MAX).await;
}

#[tokio::test]
async fn a_test_is_sent_once_and_says_what_came_back() {
    let other = Other::answering([Ok(Posted { status: 500, body: "down".into(), retry_after: None })]);
    let webhook = webhook("w", &[WebhookEvent::ModelCreated], None);
    let hooks = hooks(&other, std::slice::from_ref(&webhook)).await;
    let answer = hooks.test(&webhook, WebhookEvent::AliasCreated).await.expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (500, "down"));
    other.saw(1).await;
    let body: Value = serde_json::from_slice(&other.came.lock().expect("a lock")[0].body).expect("JSON");
    assert_eq!(body["data"]["alias"], "example_alias");
}
