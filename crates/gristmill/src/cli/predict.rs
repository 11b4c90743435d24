//! `gristmill predict ENDPOINT key=value ...`: ask an endpoint, through the running server or in this process.

use super::{Cx, Ended, Exit};
use crate::server;
use crate::wiring::{Owner, Workspace};
use clap::Args;
use gristmill_kernel::{Code, Fault, Kind, Name, Timestamp};
use gristmill_web::{Body, Request};
use serde_json::{Value, json};

/// Ask an endpoint.
#[derive(Debug, Args)]
pub struct Predict {
    /// The endpoint.
    endpoint: Name,
    /// The row: customer_id=12347. Values are JSON; plain words may go without quotes.
    fields: Vec<String>,
    /// Rows as a JSON array of objects instead.
    #[arg(long, value_name = "JSON", conflicts_with = "fields")]
    rows: Option<String>,
    /// As of this moment instead of now.
    #[arg(long)]
    as_of: Option<Timestamp>,
    /// Show the features and what each contributes.
    #[arg(long)]
    explain: bool,
}

impl Predict {
    pub async fn run(self, cx: &Cx) -> Ended {
        let rows: Value = match &self.rows {
            Some(text) => serde_json::from_str(text)
                .map_err(|e| Fault::invalid(Code::BAD_BODY, format!("--rows is no JSON: {e}")).fix("write [{\"customer_id\": 12347}]"))?,
            None => Value::Array(vec![Value::Object(super::run::overrides(&self.fields)?.into_iter().collect())]),
        };
        let mut body = json!({"rows": rows});
        if let Some(at) = self.as_of {
            body["as_of"] = json!(at);
        }
        if self.explain {
            body["explain"] = json!(true);
        }
        let workspace = Workspace::load(cx).await?;
        let (status, answer) = match workspace.state.server() {
            Some(server) => ask_server(cx, &format!("{}/predict/{}", server.url, self.endpoint), &body).await?,
            None => ask_here(cx, &workspace, &self.endpoint, &body).await?,
        };
        if status >= 400 {
            return Err(fault_of(status, &answer).into());
        }
        if cx.out.is_json() || self.explain {
            cx.out.data_json(&answer);
        } else {
            for prediction in answer["predictions"].as_array().into_iter().flatten() {
                let text =
                    |key: &str| prediction.get(key).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).unwrap_or_default();
                match prediction.get("error").filter(|e| !e.is_null()) {
                    Some(error) => cx.out.data(format!("error      {error}")),
                    None => {
                        cx.out.data(format!("{:<22} {}  by {}  ({})", text("score"), text("outcome"), text("model"), text("prediction_id")))
                    }
                }
            }
        }
        Ok(Exit::Done)
    }
}

async fn ask_server(cx: &Cx, url: &str, body: &Value) -> Result<(u16, Value), Fault> {
    let failed = |e: reqwest::Error| {
        Fault::new(Kind::Unavailable, Code::PART_UNAVAILABLE, "the running server did not answer").fix("see gristmill status").because(e)
    };
    let client = reqwest::Client::builder().no_proxy().build().map_err(failed)?;
    let mut request = client.post(url).json(body);
    if let Some(token) = &cx.outside.token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.map_err(failed)?;
    Ok((answer.status().as_u16(), answer.json().await.map_err(failed)?))
}

/// The very same routes, without a socket.
async fn ask_here(cx: &Cx, workspace: &Workspace, endpoint: &Name, body: &Value) -> Result<(u16, Value), Fault> {
    let owner = Owner::acquire(workspace, None)?;
    let live = server::live(cx, workspace);
    let tasks = server::assemble(&owner, workspace, live).await?;
    let app = server::app(&owner, workspace, &tasks, server::Coming::open())?;
    let request = Request::builder()
        .method("POST")
        .uri(format!("/predict/{endpoint}"))
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .map_err(|e| Fault::internal("a request cannot be built").because(e))?;
    let response = app.handle(request).await;
    let status = response.status().as_u16();
    let bytes = http_body_util::BodyExt::collect(response.into_body())
        .await
        .map_err(|e| Fault::internal("an answer cannot be read").because(e))?
        .to_bytes();
    tasks.plane.flush().await?;
    let answer = serde_json::from_slice(&bytes).map_err(|e| Fault::internal("an answer is no JSON").because(e))?;
    Ok((status, answer))
}

fn fault_of(status: u16, answer: &Value) -> Fault {
    let text = |key: &str| answer.get(key).and_then(Value::as_str).map(str::to_owned);
    let code = text("code").and_then(|c| gristmill_kernel::error::ALL_CODES.iter().find(|k| k.0 == c).copied()).unwrap_or(Code::INTERNAL);
    let kind = if status == 404 { Kind::NotFound } else { Kind::Invalid };
    let mut fault = Fault::new(kind, code, text("message").unwrap_or_else(|| format!("the server answered {status}")));
    if status == 401 && text("fix").is_none() {
        fault = fault.fix("set GRISTMILL_TOKEN to a token made with gristmill token new");
    }
    match text("fix") {
        Some(fix) => fault.fix(fix),
        None => fault,
    }
}
