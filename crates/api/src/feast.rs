//! Feast's `POST /materialize` and `POST /materialize-incremental`: bring views' kept rows up to date.
//!
//! Served rows follow their tables, so there is no second copy to fill for a range of time: the moments are checked as Feast checks them and
//! then say nothing. What is done is a flow that reads the sources again and follows them with the views, submitted as any other; the answer
//! comes when it has ended, or at once with `?async=true`. Source: `feast/feature_server.py`, `FeatureStore._delegate_remote_materialize`.

use gristmill_kernel::limits::{MATERIALIZE_WAIT_MS, QUEUE_RUNS_MAX};
use gristmill_kernel::port::{FlowOrder, Ledger, RunFilter, Runs};
use gristmill_kernel::{Actor, Address, AssetKind, Code, Fault, Kind, Name, Result, Run, RunStatus, StageKind, Timestamp};
use gristmill_web::schema::{either, flag, list, maybe, object, one_of, open, text};
use gristmill_web::{Call, Method, Permission, Response, Route, Routes, StatusCode, feast, json_status, route};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A view of the project as it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectView {
    /// Its name.
    pub name: Name,
    /// Whether rows are kept for serving.
    pub online: bool,
}

/// The views of the project as they are now.
pub type ProjectViews = Arc<dyn Fn() -> Vec<ProjectView> + Send + Sync>;

/// What the handlers work with.
struct Materializer {
    ledger: Arc<dyn Ledger>,
    runs: Arc<dyn Runs>,
    views: ProjectViews,
    /// Held from the look for an open flow to the submission of the next one: of two callers at once, one is told that it is too late.
    deciding: tokio::sync::Mutex<()>,
}

/// The routes.
pub fn routes(ledger: Arc<dyn Ledger>, runs: Arc<dyn Runs>, views: ProjectViews) -> Routes {
    let cx = Arc::new(Materializer { ledger, runs, views, deciding: tokio::sync::Mutex::default() });
    let incremental = cx.clone();
    Routes::new()
        .with(shaped("/materialize", move |call| whole(cx.clone(), call)).about("Feast: bring the rows kept for serving up to date").takes(
            open([
                ("start_ts?", maybe(text())),
                ("end_ts?", maybe(text())),
                ("feature_views?", maybe(list(text()))),
                ("disable_event_timestamp?", flag()),
                ("version?", maybe(text())),
            ]),
        ))
        .with(
            shaped("/materialize-incremental", move |call| up_to(incremental.clone(), call))
                .about("Feast: the same as /materialize, which never does more than what is new")
                .takes(open([("end_ts", text()), ("feature_views?", maybe(list(text()))), ("version?", maybe(text()))])),
        )
}

fn shaped<F: Future<Output = Result<Response>> + Send + 'static>(path: &str, handler: impl Fn(Call) -> F + Send + Sync + 'static) -> Route {
    let route = route(Method::POST, path, Permission::SubmitRun, handler).timeout(Duration::from_millis(MATERIALIZE_WAIT_MS));
    let already = object([("error", text()), ("feature_views", list(text()))]);
    feast::shaped(route)
        .asks("async", text())
        .asks("force", text())
        .gives(json!({ "type": "null" }))
        .gives_status(StatusCode::ACCEPTED, object([("status", one_of(&["accepted"])), ("feature_views", list(text()))]))
        .fails([Kind::NotFound, Kind::Busy, Kind::Refused])
        .gives_status(StatusCode::CONFLICT, either(&[already, text()]))
}

/// `POST /materialize`. `full_feature_names` and other words of newer clients change nothing.
#[derive(Deserialize)]
struct Whole {
    start_ts: Option<String>,
    end_ts: Option<String>,
    feature_views: Option<Vec<String>>,
    #[serde(default)]
    disable_event_timestamp: bool,
    version: Option<String>,
}

/// `POST /materialize-incremental`.
#[derive(Deserialize)]
struct UpTo {
    end_ts: String,
    feature_views: Option<Vec<String>>,
    version: Option<String>,
}

/// Behind the `?`.
#[derive(Deserialize)]
struct How {
    r#async: Option<String>,
    force: Option<String>,
}

/// When to answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// When the work is done.
    Ended,
    /// At once, unless a flow for one of the views is open.
    Accepted,
    /// At once, whatever is open.
    Forced,
}

#[derive(Serialize)]
struct Accepted<'a> {
    status: &'static str,
    feature_views: &'a [Name],
}

/// The one failure that has a shape of its own in Feast.
#[derive(Serialize)]
struct Already {
    error: String,
    feature_views: Vec<Name>,
}

async fn whole(cx: Arc<Materializer>, call: Call) -> Result<Response> {
    let (actor, answer) = (call.caller().actor.clone(), asked(&call)?);
    let body: Whole = call.json().await?;
    let views = cx.views(body.feature_views, body.version)?;
    if !body.disable_event_timestamp {
        let (Some(start), Some(end)) = (filled(body.start_ts), filled(body.end_ts)) else {
            return Err(Fault::invalid(Code::MISSING_INPUT, "start_ts and end_ts are required when disable_event_timestamp is False")
                .fix("send both as 2026-01-01T00:00:00Z"));
        };
        let (start, end) = (moment(&start)?, moment(&end)?);
        if start >= end {
            return Err(Fault::invalid(Code::BAD_VALUE, format!("start_ts ({start}) must be before end_ts ({end})"))
                .fix("send an earlier start_ts"));
        }
    }
    cx.materialize(views, answer, actor).await
}

async fn up_to(cx: Arc<Materializer>, call: Call) -> Result<Response> {
    let (actor, answer) = (call.caller().actor.clone(), asked(&call)?);
    let body: UpTo = call.json().await?;
    let views = cx.views(body.feature_views, body.version)?;
    moment(&body.end_ts)?;
    cx.materialize(views, answer, actor).await
}

impl Materializer {
    /// The asked views, or every one that is kept for serving.
    fn views(&self, named: Option<Vec<String>>, version: Option<String>) -> Result<Vec<Name>> {
        if version.is_some() {
            return Err(Fault::invalid(Code::NOT_SUPPORTED, "one version of a feature view cannot be materialized by itself")
                .fix("leave `version` out: the view as the project has it is served"));
        }
        let known = (self.views)();
        let Some(named) = named else {
            return Ok(known.into_iter().filter(|view| view.online).map(|view| view.name).collect());
        };
        let mut views: Vec<Name> = Vec::new();
        for name in named {
            let shown: String = name.chars().take(80).collect();
            match known.iter().find(|view| view.name.as_str() == name) {
                None => {
                    let names: Vec<&str> = known.iter().map(|view| view.name.as_str()).collect();
                    return Err(Fault::not_found(Code::UNKNOWN_NAME, format!("Feature view {shown} does not exist"))
                        .fix(format!("the project has {}", names.join(", "))));
                }
                Some(view) if !view.online => {
                    return Err(Fault::invalid(Code::BAD_VALUE, format!("FeatureView {shown} is not configured to be served online."))
                        .fix(format!("write serve = \"online\" into the header of features/{shown}.sql")));
                }
                Some(view) if views.contains(&view.name) => {}
                Some(view) => views.push(view.name.clone()),
            }
        }
        Ok(views)
    }

    async fn materialize(&self, views: Vec<Name>, answer: Answer, actor: Actor) -> Result<Response> {
        let run = {
            let _one_at_a_time = self.deciding.lock().await;
            if answer == Answer::Accepted {
                let open = self.open(&views).await?;
                if !open.is_empty() {
                    let names: Vec<String> = open.iter().map(|name| format!("'{name}'")).collect();
                    let error = format!(
                        "Cannot start async materialization — the following feature views are already in MATERIALIZING state: [{}]. \
                         Use ?force=true to override.",
                        names.join(", ")
                    );
                    return json_status(StatusCode::CONFLICT, &Already { error, feature_views: open });
                }
            }
            self.submit(&views, actor).await?
        };
        if answer != Answer::Ended {
            return json_status(StatusCode::ACCEPTED, &Accepted { status: "accepted", feature_views: &views });
        }
        if let Some(run) = run {
            ended(&self.runs.wait(&run.id).await?)?;
        }
        // As Feast's server answers.
        json_status(StatusCode::OK, &())
    }

    /// No flow for no views.
    async fn submit(&self, views: &[Name], actor: Actor) -> Result<Option<Run>> {
        if views.is_empty() {
            return Ok(None);
        }
        let flow = FlowOrder {
            targets: views.iter().map(address).collect(),
            upstream: true,
            force: false,
            overrides: BTreeMap::new(),
            actor,
            reason: "materialize".to_owned(),
            idempotency: None,
        };
        self.runs.submit_flow(flow).await.map(Some)
    }

    /// Which of the views a queued or running flow was asked for.
    async fn open(&self, views: &[Name]) -> Result<Vec<Name>> {
        let filter = RunFilter {
            stages: vec![StageKind::Flow],
            statuses: vec![RunStatus::Queued, RunStatus::Running],
            limit: QUEUE_RUNS_MAX as usize,
            ..RunFilter::default()
        };
        let mut targets: Vec<Address> = Vec::new();
        for run in self.ledger.runs(&filter).await? {
            let order: FlowOrder =
                serde_json::from_value(run.spec).map_err(|e| Fault::damaged(format!("run {} is no flow order", run.id)).because(e))?;
            targets.extend(order.targets);
        }
        Ok(views.iter().filter(|view| targets.contains(&address(view))).cloned().collect())
    }
}

fn address(view: &Name) -> Address {
    Address::new(AssetKind::Features, view.clone())
}

fn ended(run: &Run) -> Result<()> {
    match &run.error {
        None if run.status == RunStatus::Succeeded => Ok(()),
        error => {
            let why = error.as_ref().map_or_else(|| run.status.to_string(), |e| format!("{} [{}]", e.message, e.code));
            let fix = error.as_ref().and_then(|e| e.fix.clone()).unwrap_or_default();
            Err(Fault::new(Kind::Refused, Code::BAD_VALUE, format!("run {} did not bring the views up to date: {why}", run.id.short()))
                .fix(if fix.is_empty() { "see gristmill logs".to_owned() } else { fix }))
        }
    }
}

fn asked(call: &Call) -> Result<Answer> {
    let how: How = call.query()?;
    Ok(match (truth("async", how.r#async)?, truth("force", how.force)?) {
        (false, _) => Answer::Ended,
        (true, false) => Answer::Accepted,
        (true, true) => Answer::Forced,
    })
}

/// The words that Feast's server takes for true and false.
fn truth(name: &str, word: Option<String>) -> Result<bool> {
    match word.unwrap_or_default().to_ascii_lowercase().as_str() {
        "1" | "true" | "t" | "yes" | "y" | "on" => Ok(true),
        "" | "0" | "false" | "f" | "no" | "n" | "off" => Ok(false),
        _ => Err(Fault::invalid(Code::BAD_VALUE, format!("`{name}` is neither true nor false")).fix(format!("write ?{name}=true"))),
    }
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn moment(text: &str) -> Result<Timestamp> {
    text.trim().parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        Fault::invalid(Code::BAD_VALUE, format!("Invalid timestamp format: {shown}")).fix("write it as 2026-01-01T00:00:00Z")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_clients_write_them() {
        let whole = moment("2026-01-02T03:04:05Z").expect("a moment");
        for same in ["2026-01-02T03:04:05", "2026-01-02 03:04:05", "2026-01-02T03:04:05.000000+00:00", "2026-01-02 04:04:05+01:00"] {
            assert_eq!(moment(same).expect(same), whole, "{same}");
        }
        assert_eq!(moment("yesterday").expect_err("refused").code, Code::BAD_VALUE);
        assert!(truth("async", Some("True".into())).expect("a word") && !truth("async", None).expect("none"));
        assert!(truth("async", Some("maybe".into())).is_err());
    }
}
