//! A server in this process.
#![expect(clippy::unwrap_used, reason = "a failure to set a test up is a failed test")]

use crate::support::World;
use async_trait::async_trait;
use bytes::Bytes;
use gristmill_kernel::port::{Ids, Outward, Post, Posted};
use gristmill_kernel::{Actor, Code, Fault, Kind, Result};
use gristmill_registry::protocol::mlflow::{Addresses, Hooks, Mlflow, routes};
use gristmill_store::ledger::{SqliteRegistry, TrackedArtifacts};
use gristmill_store::system::SeededIds;
use gristmill_web::{App, Body, Caller, Credentials, Door, Doorkeeper, HeaderMap, Hosts, Permission, Request, Routes};
use http_body_util::BodyExt;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// The token is the permission's word; `all` is everything.
struct Keeper;

#[async_trait]
impl Doorkeeper for Keeper {
    async fn admit(&self, credentials: Credentials<'_>, permission: Permission) -> Result<Caller> {
        match credentials.authorization {
            Some(word) if word == permission.as_str() || word == "all" => Ok(Caller { actor: Actor::user("ada"), role: "editor".into() }),
            Some(_) => Err(Fault::new(Kind::Denied, Code::NOT_ALLOWED, "the role may not do this")),
            None => Err(Fault::new(Kind::Unauthenticated, Code::NOT_AUTHENTICATED, "no token")),
        }
    }
}

/// What webhooks call: remembers, and answers 200 with `ok`. Addresses with `private` in them may not be called.
#[derive(Default)]
pub struct Outside {
    pub came: Mutex<Vec<Post>>,
}

impl Outside {
    /// The bodies that came to an address, once there are so many.
    pub async fn bodies(&self, wanted: usize) -> Vec<Value> {
        for _ in 0..400 {
            if self.came.lock().unwrap().len() >= wanted {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        self.came.lock().unwrap().iter().map(|post| serde_json::from_slice(&post.body).unwrap()).collect()
    }
}

#[async_trait]
impl Outward for Outside {
    async fn check(&self, url: &SecretString) -> Result<()> {
        if url.expose_secret().contains("private") {
            return Err(Fault::invalid(Code::BAD_VALUE, "Webhook URL must not resolve to a non-public IP address."));
        }
        Ok(())
    }
    async fn post(&self, post: Post) -> Result<Posted> {
        self.came.lock().unwrap().push(post);
        Ok(Posted { status: 200, body: "ok".into(), retry_after: None })
    }
}

/// A server and what is behind it.
pub struct Server {
    pub world: World,
    pub mlflow: Arc<Mlflow>,
    pub outside: Arc<Outside>,
    pub routes: Routes,
    /// A folder that holds nothing but the state folder.
    pub folder: tempfile::TempDir,
    app: App,
}

impl Server {
    pub async fn new() -> Server {
        let mut world = World::new().await;
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let ledger = gristmill_store::open_ledger_with(&state, world.clock.clone()).await.unwrap();
        let blobs = gristmill_store::open_blobs(&state).unwrap();
        world.ports.ledger = ledger.clone();
        world.ports.blobs = blobs.clone();
        let ids: Arc<dyn Ids> = Arc::new(SeededIds::new(11));
        world.ports.ids = ids.clone();
        let outside = Arc::new(Outside::default());
        let mlflow = Arc::new(Mlflow {
            tracking: ledger.clone(),
            registry: Arc::new(SqliteRegistry::new(ledger.clone(), blobs.clone(), ids.clone())),
            artifacts: Arc::new(TrackedArtifacts::new(ledger.clone(), (*blobs).clone())),
            traces: ledger.clone(),
            datasets: ledger.clone(),
            ports: world.ports.clone(),
            hooks: Hooks::new(ledger, outside.clone(), world.clock.clone(), ids.clone()),
            signed: Addresses::new(ids.as_ref()),
        });
        let routes = routes(mlflow.clone());
        let door = Door { keeper: Arc::new(Keeper), hosts: Hosts::new([]), ids };
        let app = App::new(routes.clone(), door).unwrap();
        Server { world, mlflow, outside, routes, folder, app }
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: Request<Body>) -> (u16, HeaderMap, Bytes) {
        let (parts, body) = self.app.handle(request).await.into_parts();
        (parts.status.as_u16(), parts.headers, body.collect().await.unwrap().to_bytes())
    }

    /// Asks with a token.
    pub async fn asked(&self, token: Option<&str>, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost:7300");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = request.header("content-type", "application/json").body(body).unwrap();
        let (status, _, bytes) = self.send(request).await;
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Asks as somebody who may do everything. `path` is beneath `/api/2.0/mlflow/`.
    pub async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = (!body.is_null()).then_some(&body);
        self.asked(Some("all"), method, &format!("/api/2.0/mlflow/{path}"), body).await
    }

    /// Asks what must go well.
    pub async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(method, path, body.clone()).await;
        assert_eq!(status, 200, "{method} {path} {body}: {answer}");
        answer
    }

    /// Asks what must be refused, with a status, a word and words of the message.
    pub async fn refused(&self, method: &str, path: &str, body: Value, (status, word, words): (u16, &str, &str)) {
        let (was, answer) = self.ask(method, path, body.clone()).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert_eq!((was, answer["error_code"].as_str()), (status, Some(word)), "{method} {path} {body}: {answer}");
        assert!(message.contains(words), "{method} {path} {body}: {message}");
    }

    /// A file request with a token; `path` is the whole path.
    pub async fn file(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> (u16, HeaderMap, Bytes) {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost:7300").header("authorization", "all");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    /// Uploads a file.
    pub async fn put(&self, key: &str, content: &'static [u8]) {
        let (status, _, body) = self.file("PUT", &format!("/api/2.0/mlflow-artifacts/artifacts/{key}"), &[], content).await;
        assert_eq!((status, &body[..]), (200, &b""[..]), "{key}");
    }

    /// An experiment and a run in it.
    pub async fn run(&self) -> (String, String) {
        let name = format!("e{}", self.world.ports.ids.run());
        let experiment = self.ok("POST", "experiments/create", json!({ "name": name })).await["experiment_id"].as_str().unwrap().to_owned();
        let run = self.ok("POST", "runs/create", json!({ "experiment_id": experiment, "start_time": 1 })).await;
        let id = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
        (experiment, id)
    }

    /// A run with a model in it, and the key of that model.
    pub async fn run_with_model(&self) -> (String, String) {
        let (experiment, run) = self.run().await;
        let key = format!("{experiment}/{run}/artifacts/model");
        self.put(&format!("{key}/MLmodel"), b"flavors: {}").await;
        self.put(&format!("{key}/data/model.bin"), b"weights").await;
        (run, key)
    }

    /// A logged model that is ready, with a file; its id and its run.
    pub async fn logged_model(&self) -> (String, String) {
        let (experiment, run) = self.run().await;
        let ask = json!({ "experiment_id": experiment, "name": "m", "source_run_id": run });
        let model = self.ok("POST", "logged-models", ask).await["model"]["info"].clone();
        let id = model["model_id"].as_str().unwrap().to_owned();
        let key = model["artifact_uri"].as_str().unwrap().trim_start_matches("mlflow-artifacts:/").to_owned();
        self.put(&format!("{key}/MLmodel"), b"flavors: {onnx}").await;
        (id, run)
    }

    /// A registered model with one version; its run.
    pub async fn registered(&self, name: &str) -> String {
        self.ok("POST", "registered-models/create", json!({ "name": name })).await;
        let (run, key) = self.run_with_model().await;
        let ask = json!({ "name": name, "source": format!("mlflow-artifacts:/{key}"), "run_id": run });
        self.ok("POST", "model-versions/create", ask).await;
        run
    }

    /// Every key that is stored, hidden ones too.
    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        let prefix = gristmill_kernel::port::ArtifactKey::new(prefix).unwrap();
        self.mlflow.artifacts.walk_artifacts(&prefix).await.unwrap().into_iter().map(|file| file.key).collect()
    }

    /// Asks what may not even be a request; `None` if it is none. The answer is its text, headers and all.
    pub async fn evil(&self, method: &str, path: &str, body: &Value) -> Option<(u16, String)> {
        let request = Request::builder().method(method).uri(path).header("host", "localhost:7300").header("authorization", "all");
        let request = request.header("content-type", "application/json");
        let body = if body.is_null() { Body::from("content") } else { Body::from(body.to_string()) };
        let (status, headers, bytes) = self.send(request.body(body).ok()?).await;
        Some((status, format!("{headers:?} {}", String::from_utf8_lossy(&bytes))))
    }
}
