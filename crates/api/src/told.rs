//! What the control API takes and answers, as `/openapi.json` says it: [`crate::wire`] and the bodies of [`crate::write`], described.

use gristmill_kernel::{RunStatus, StageKind};
use gristmill_web::Route;
use gristmill_web::schema::{any, either, flag, list, map, maybe, moment, number, object, one_of, text, whole, with};
use serde_json::Value;

fn health() -> Value {
    one_of(&["unknown", "good", "working", "doubtful", "bad"])
}

fn stage() -> Value {
    one_of(&StageKind::ALL.map(StageKind::as_str))
}

fn verdict() -> Value {
    one_of(&["pass", "warn", "fail", "inconclusive"])
}

pub fn overview() -> Value {
    let arm = object([
        ("model", text()),
        ("rows", whole()),
        ("errors", whole()),
        ("error_rate", maybe(number())),
        ("p50_ms", maybe(number())),
        ("p99_ms", maybe(number())),
        ("score_mean", maybe(number())),
        ("score_bins", list(number())),
        ("agreement", maybe(number())),
    ]);
    let canary = object([("model", text()), ("share", number()), ("copies", number())]);
    let values = || object([("entities", whole()), ("mean", number())]);
    let experiment = object([
        ("decide", text()),
        ("confidence", number()),
        ("stable", values()),
        ("trial", values()),
        ("difference", maybe(number())),
        ("low", maybe(number())),
        ("high", maybe(number())),
        ("better", maybe(flag())),
        ("lacking", maybe(text())),
    ]);
    let parity =
        object([("checked", whole()), ("late", whole()), ("behind", whole()), ("mismatched", whole()), ("mismatch_rate", maybe(number()))]);
    let endpoint = object([
        ("endpoint", text()),
        ("deployment", text()),
        ("stable", text()),
        ("canary", maybe(canary)),
        ("figures", maybe(map(arm))),
        ("experiment", maybe(experiment)),
        ("parity", maybe(parity)),
    ]);
    object([
        ("project", text()),
        ("at", moment()),
        ("health", health()),
        ("stages", list(object([("stage", stage()), ("health", health()), ("last_run", maybe(run_line()))]))),
        ("endpoints", list(endpoint)),
        ("runs", list(run_line())),
        ("alerts", list(object([("at", moment()), ("subject", text()), ("text", text())]))),
    ])
}

pub fn assets() -> Value {
    object([("assets", list(object([("address", text()), ("newest", maybe(version())), ("aliases", map(whole()))])))])
}

pub fn versions() -> Value {
    object([("address", text()), ("versions", list(version())), ("aliases", list(alias()))])
}

/// A run in a list.
pub fn run_line() -> Value {
    object([
        ("id", text()),
        ("stage", stage()),
        ("address", text()),
        ("status", status()),
        ("verdict", maybe(verdict())),
        ("health", health()),
        ("summary", text()),
        ("actor", text()),
        ("reason", text()),
        ("parent", maybe(text())),
        ("submitted_at", moment()),
        ("started_at", maybe(moment())),
        ("ended_at", maybe(moment())),
    ])
}

fn status() -> Value {
    use RunStatus::{Cancelled, Failed, Queued, Running, Skipped, Succeeded};
    one_of(&[Queued, Running, Succeeded, Failed, Cancelled, Skipped].map(RunStatus::as_str))
}

pub fn runs() -> Value {
    object([("runs", list(run_line()))])
}

pub fn run() -> Value {
    let error = object([("code", text()), ("message", text()), ("fix", maybe(text())), ("transient", flag())]);
    with(
        run_line(),
        [
            ("inputs", list(text())),
            ("outputs", list(text())),
            ("skipped_for", maybe(text())),
            ("params", any()),
            ("metrics", any()),
            ("tags", any()),
            ("checks", list(object([("condition", text()), ("verdict", verdict()), ("observed", any())]))),
            ("error", maybe(error)),
            ("attempt", whole()),
            ("cancel_asked", flag()),
            ("spec", any()),
            ("steps", list(run_line())),
        ],
    )
}

fn version() -> Value {
    let place = either(&[object([("blob", text())]), object([("table", text()), ("version", whole())]), one_of(&["meta"])]);
    object([
        ("version", text()),
        ("number", whole()),
        ("digest", text()),
        ("place", place),
        ("rows", maybe(whole())),
        ("meta", any()),
        ("run", text()),
        ("made_at", moment()),
    ])
}

/// Where an alias stands.
pub fn alias() -> Value {
    object([
        ("asset", text()),
        ("alias", text()),
        ("number", whole()),
        ("previous", maybe(whole())),
        ("actor", text()),
        ("reason", text()),
        ("run", maybe(text())),
        ("moved_at", moment()),
    ])
}

pub fn champion() -> Value {
    object([("champion", alias())])
}

/// The registry's words, which the binary plugs in.
pub fn lineage() -> Value {
    map(any())
}

pub fn audit() -> Value {
    let line = object([
        ("seq", whole()),
        ("at", moment()),
        ("actor", text()),
        ("action", text()),
        ("subject", text()),
        ("detail", any()),
        ("hash", text()),
    ]);
    object([("lines", list(line)), ("head", whole())])
}

pub fn asks_runs(route: Route) -> Route {
    let route = route.asks("stage", stage()).asks("status", status()).asks("address", text()).asks("parent", text());
    route.asks("limit", whole())
}

pub fn asks_audit(route: Route) -> Route {
    route.asks("after", whole()).asks("subject", text()).asks("limit", whole())
}

pub fn order() -> Value {
    object([("targets", list(text())), ("upstream?", flag()), ("force?", flag()), ("reason?", text())])
}

pub fn promotion() -> Value {
    object([("version", text()), ("alias?", maybe(text())), ("reason", text()), ("force?", flag())])
}

pub fn reason() -> Value {
    object([("reason", text())])
}
