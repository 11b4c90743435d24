//! An MLflow server in this process: the protocol's routes behind a door, over the real ledger.
#![expect(clippy::unwrap_used, reason = "a failure to set a test up is a failed test")]

use crate::support::World;
use async_trait::async_trait;
use gristmill_kernel::port::{Outward, Post, Posted};
use gristmill_kernel::{Actor, Code, Fault, Kind, Result};
use gristmill_registry::protocol::mlflow::{Addresses, Hooks, Mlflow, routes};
use gristmill_store::ledger::{SqliteRegistry, TrackedArtifacts};
use gristmill_web::{App, Body, Caller, Credentials, Door, Doorkeeper, Hosts, Permission, Request, Routes};
use http_body_util::BodyExt;
use secrecy::SecretString;
use serde_json::Value;
use std::sync::Arc;

/// `root` may do everything, `reader` may read, others nothing.
struct Keeper;

#[async_trait]
impl Doorkeeper for Keeper {
    async fn admit(&self, credentials: Credentials<'_>, permission: Permission) -> Result<Caller> {
        match credentials.authorization {
            Some("Bearer root") => Ok(Caller { actor: Actor::user("ada"), role: "admin".into() }),
            Some("Bearer reader") if permission == Permission::ReadProject => {
                Ok(Caller { actor: Actor::user("bob"), role: "viewer".into() })
            }
            Some("Bearer reader") => Err(Fault::new(Kind::Denied, Code::NOT_ALLOWED, "the role viewer may not do this")),
            _ => Err(Fault::new(Kind::Unauthenticated, Code::NOT_AUTHENTICATED, "no token")),
        }
    }
}

/// A server and its world.
pub struct Server {
    /// What is behind it.
    pub world: World,
    /// Its routes.
    pub routes: Routes,
    app: App,
    _state: tempfile::TempDir,
}

/// Nobody is called.
struct Nowhere;

#[async_trait]
impl Outward for Nowhere {
    async fn check(&self, _: &SecretString) -> Result<()> {
        Err(Fault::internal("not in this test"))
    }
    async fn post(&self, _: Post) -> Result<Posted> {
        Err(Fault::internal("not in this test"))
    }
}

/// The word for what is wrong with a request.
pub const INVALID: &str = "INVALID_PARAMETER_VALUE";
/// The word for what is not there.
pub const MISSING: &str = "RESOURCE_DOES_NOT_EXIST";

/// A status and a body.
pub type Answer = (u16, Value);

impl Server {
    /// A fresh one.
    pub async fn new() -> Server {
        let mut world = World::new().await;
        let state = tempfile::tempdir().unwrap();
        let ledger = gristmill_store::open_ledger_with(state.path(), world.clock.clone()).await.unwrap();
        let blobs = gristmill_store::open_blobs(state.path()).unwrap();
        (world.ports.ledger, world.ports.blobs) = (ledger.clone(), blobs.clone());
        let ids = world.ports.ids.clone();
        let mlflow = Mlflow {
            tracking: ledger.clone(),
            registry: Arc::new(SqliteRegistry::new(ledger.clone(), blobs.clone(), ids.clone())),
            artifacts: Arc::new(TrackedArtifacts::new(ledger.clone(), (*blobs).clone())),
            traces: ledger.clone(),
            datasets: ledger.clone(),
            ports: world.ports.clone(),
            hooks: Hooks::new(ledger, Arc::new(Nowhere), world.clock.clone(), ids.clone()),
            signed: Addresses::new(ids.as_ref()),
        };
        let routes = routes(Arc::new(mlflow));
        let door = Door { keeper: Arc::new(Keeper), hosts: Hosts::new([]), ids: world.ports.ids.clone() };
        let app = App::new(routes.clone(), door).expect("the routes fit");
        Server { world, routes, app, _state: state }
    }

    /// Asks something, as somebody.
    pub async fn ask(&self, method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost:7300");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = match body {
            None => Body::empty(),
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
        };
        self.send(request.body(body).expect("a request")).await
    }

    /// Sends a request.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.app.handle(request).await.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes)));
        (parts.status.as_u16(), body)
    }

    /// GET beneath `/api/2.0/mlflow`.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", &format!("/api/2.0/mlflow/{path}"), Some("root"), None).await
    }
    /// POST beneath `/api/2.0/mlflow`.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", &format!("/api/2.0/mlflow/{path}"), Some("root"), Some(&body)).await
    }
    /// POST that must succeed.
    pub async fn done(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.post(path, body.clone()).await;
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }
    /// GET that must succeed.
    pub async fn read(&self, path: &str) -> Value {
        let (status, answer) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }
    /// POST that must be refused, with this status, this word and words like these.
    pub async fn refused(&self, path: &str, body: Value, status: u16, word: &str, like: &str) {
        let answer = self.post(path, body.clone()).await;
        assert_refused(&format!("{path} {body}"), &answer, status, word, like);
    }
    /// GET that must be refused.
    pub async fn not_read(&self, path: &str, status: u16, word: &str, like: &str) {
        let answer = self.get(path).await;
        assert_refused(path, &answer, status, word, like);
    }
    /// A new run's id.
    pub async fn run(&self, experiment: &str, name: &str) -> String {
        let body = serde_json::json!({ "experiment_id": experiment, "run_name": name, "start_time": 1 });
        text(&self.done("runs/create", body).await["run"]["info"]["run_id"])
    }
}

/// Checks a refusal.
pub fn assert_refused(asked: &str, (status, body): &Answer, wanted: u16, word: &str, like: &str) {
    assert_eq!((*status, body["error_code"].as_str()), (wanted, Some(word)), "{asked}: {body}");
    assert!(body["message"].as_str().is_some_and(|m| m.contains(like)), "{asked}: {body} is not like `{like}`");
}

/// A text of an answer.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The value of a tag or parameter in a list of them.
pub fn value_of(list: &Value, key: &str) -> Option<String> {
    let list = list.as_array().cloned().unwrap_or_default();
    list.iter().find(|pair| pair["key"] == key).map(|pair| text(&pair["value"]))
}
