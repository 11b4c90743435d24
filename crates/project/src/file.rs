//! `gristmill.toml` as the user writes it. These structs are the one declaration of the language: the parser, the JSON schema for
//! editors, and `show` come from them. A key that is missing here is refused.
//!
//! Invariant: every key has a default or is required; defaults that need context are filled in by [`crate::resolve`].
//! To add a key: a field with a doc comment here, its meaning in `resolve.rs`, its checks in `check/`.

use crate::words::{Expect, Fraction, Many, Searched, Share};
use gristmill_kernel::model::Task;
use gristmill_kernel::training::KnownRows;
use gristmill_kernel::{ModelChoice, Name, Span};
use gristmill_train::spec::Search;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// The whole file.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "gristmill.toml")]
pub struct File {
    /// The project's name: a lowercase letter, then lowercase letters, digits and `_`.
    #[schemars(with = "String")]
    pub project: Name,
    /// What `now` is when features are asked: `wall` (the default) is the time; `events` is the newest event time, for
    /// replays and demos on old data.
    #[serde(default)]
    pub clock: ClockMode,
    /// Where blobs and tables live: a folder or `s3://...`; `.gristmill` unless given.
    #[serde(default, alias = "offline", skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// Where the ledger lives: `postgres://...`; an embedded one unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<String>,
    /// Where online rows live: `redis://...`; an embedded store unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<String>,
    /// Who runs SQL: `ballista://...`; this process unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Where rows come from.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Source>")]
    pub sources: BTreeMap<Name, Source>,
    /// What is learned.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Model>")]
    pub models: BTreeMap<Name, Model>,
    /// What answers.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Endpoint>")]
    pub endpoints: BTreeMap<Name, Endpoint>,
    /// Who is told.
    #[serde(default)]
    pub alerts: Alerts,
    /// Overrides of any address, by environment: `sources.events.from = "kafka://..."`.
    #[serde(default, skip_serializing)]
    pub env: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
}

/// What `now` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClockMode {
    /// The time on the wall.
    #[default]
    Wall,
    /// The newest event time.
    Events,
}

/// `[sources.NAME]`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A path or glob relative to the project (CSV, Parquet, JSON lines), or a URL: `replay://FILE?speed=60`, `push:`.
    pub from: String,
    /// The column with the event's time; without one the source is a snapshot and every load is kept as history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// How long stragglers are waited for: `"1m"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub late: Option<Span>,
    /// SQL booleans that every row should satisfy; rows that do not are quarantined unless `else` says otherwise.
    #[serde(default)]
    #[schemars(with = "Vec<ExpectEntry>")]
    pub expect: Vec<Expect>,
    /// How often the source is read again: `"5m"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub every: Option<Span>,
}

/// For the JSON schema only: a condition or a table.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes Expect's two forms to editors")]
enum ExpectEntry {
    /// A SQL boolean over a row.
    Condition(String),
    /// A condition with a severity.
    Table(Expect),
}

/// `[models.NAME]`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The label set: `"labels/churned.sql"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// The feature views, by the names of their files in `features/`.
    #[schemars(with = "Vec<String>")]
    pub features: Vec<Name>,
    /// A built-in algorithm (`gbdt`, `logistic`, `linear`, `random_forest`, `baseline`) or a script `"train/NAME.py"`.
    #[serde(default = "default_train")]
    pub train: String,
    /// What is predicted: `binary`, `multiclass`, `regression` or `ranking`; follows from the label unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<TaskWord>")]
    pub task: Option<Task>,
    /// Fixed parameters of the algorithm.
    #[serde(default)]
    pub params: BTreeMap<String, serde_json::Value>,
    /// The search for good parameters: `{ trials = 30, learning_rate = "0.01..0.3" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tune: Option<Tune>,
    /// The metric that decides: `auc` for binary, `logloss` for multiclass, `rmse` for regression, `ndcg_10` for ranking unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<String>,
    /// Columns by whose values the metrics are also given, as `worst.auc` in gates.
    #[serde(default)]
    pub slices: Vec<String>,
    /// SQL booleans over the metrics, `champion.*` and `worst.*`, which a version must satisfy before it may go on.
    #[serde(default)]
    pub gates: Vec<String>,
    /// When it is trained again without being asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrain: Option<Retrain>,
    /// How rows are held out for the metrics: the latest fifth unless given.
    #[serde(default)]
    pub split: SplitTable,
    /// Weighs rare classes up.
    #[serde(default)]
    pub balance: bool,
    /// Feeds every draw.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// The column of the label set whose equal values form a group, for ranking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Which rows a label sees before its moment: all that are known `now` (the default), or only those that were available `then`.
    #[serde(default)]
    pub known: Known,
}

/// Which rows a label sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// All that are known now, late ones too.
    #[default]
    Now,
    /// Those that were available at the label's moment: what serving would have seen.
    Then,
}

impl From<Known> for KnownRows {
    fn from(known: Known) -> KnownRows {
        match known {
            Known::Now => KnownRows::Now,
            Known::Then => KnownRows::Then,
        }
    }
}

fn default_train() -> String {
    "gbdt".into()
}
fn default_seed() -> u64 {
    42
}

/// For the JSON schema only: the words of [`Task`].
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes kernel's Task to editors")]
enum TaskWord {
    Binary,
    Multiclass,
    Regression,
    Ranking,
}

/// `split = { by = "time", test = 0.2 }`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitTable {
    /// `time` (the latest rows are held out), `random`, or `group` (whole groups).
    #[serde(default)]
    pub by: SplitBy,
    /// The share that is held out, above 0 and below 1.
    #[serde(default = "default_test")]
    #[schemars(with = "f64")]
    pub test: Fraction,
    /// The column that names the group, for `by = "group"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
}

fn default_test() -> Fraction {
    Fraction(0.2)
}
impl Default for SplitTable {
    fn default() -> SplitTable {
        SplitTable { by: SplitBy::Time, test: default_test(), column: None }
    }
}

/// What a split goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// The latest moments are held out.
    #[default]
    Time,
    /// A draw per row.
    Random,
    /// A draw per group.
    Group,
}

/// `tune = { trials = 30, search = "tpe", parallel = 0, PARAMETER = "low..high" }`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, JsonSchema)]
pub struct Tune {
    /// How many trials; 30 unless given.
    pub trials: u32,
    /// `tpe` (the default) or `random`.
    #[schemars(with = "String")]
    pub search: Search,
    /// How many at once; 0, the default, means one per core.
    pub parallel: u32,
    /// What is searched: a range `"low..high"` or a list of choices per parameter.
    #[serde(flatten)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub space: BTreeMap<String, Searched>,
}

impl<'de> Deserialize<'de> for Tune {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Tune, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Tune;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table such as { trials = 30, learning_rate = \"0.01..0.3\" }")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tune, A::Error> {
                let mut tune = Tune { trials: 30, search: Search::default(), parallel: 0, space: BTreeMap::new() };
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "trials" => tune.trials = map.next_value()?,
                        "search" => tune.search = map.next_value()?,
                        "parallel" => tune.parallel = map.next_value()?,
                        _ => {
                            tune.space.insert(key, map.next_value()?);
                        }
                    }
                }
                Ok(tune)
            }
        }
        from.deserialize_map(V)
    }
}

/// `retrain = { every = "7d", when = "drift", cooldown = "1h" }`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retrain {
    /// A span (`7d`) since the last training, or a cron line in UTC (`0 3 * * 1`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// A SQL boolean over `drift`, `quality_drop`, `mismatch_rate`, `new_rows`, `new_labels`, `age_hours`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Least time between two trainings that nobody asked for; `1h` unless given.
    #[serde(default = "default_cooldown")]
    #[schemars(with = "String")]
    pub cooldown: Span,
}

fn default_cooldown() -> Span {
    Span::from_secs(3600)
}

/// `[endpoints.NAME]`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The model that answers: one of the project's, or a registered version: `"mlflow:churn@champion"`, `"mlflow:churn@3"`.
    #[schemars(with = "String")]
    pub model: ModelChoice,
    /// How a new version takes over: `"direct"` (the default), `"manual"`, `{ canary = ["5%", "25%", "100%"], every = "30m", abort = "..." }`,
    /// `{ shadow = "1h", sample = "20%" }` or `{ blue_green = "30m", preview = "10m" }`.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    pub rollout: Rollout,
    /// When no new version takes a step, in UTC: `["fri 16:00 to mon 07:00", "2026-12-20 to 2027-01-03"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub freeze: Vec<gristmill_deploy::Freeze>,
    /// How long an answer may be reused: `"10m"`; not at all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub cache: Option<Span>,
    /// What is watched, and how often.
    #[serde(default)]
    pub monitor: Monitor,
    /// Longest time and most requests at once.
    #[serde(default)]
    pub limits: Limits,
    /// How rows of several requests share a call of the model: `{ rows = 64, delay = "500us" }`; each is a call of its own unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// A query that answers when the model cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// Scores rows of a source as they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// Where scores are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
}

/// How a new version takes over.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
#[serde(untagged)]
pub enum Rollout {
    /// At once.
    #[default]
    #[serde(serialize_with = "word_direct")]
    Direct,
    /// When a person approves it.
    #[serde(serialize_with = "word_manual")]
    Manual,
    /// As the table says.
    Table(Box<RolloutTable>),
}

fn word_direct<S: serde::Serializer>(to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str("direct")
}
fn word_manual<S: serde::Serializer>(to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str("manual")
}

impl<'de> Deserialize<'de> for Rollout {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Rollout, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Rollout;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"direct\", \"manual\" or a table such as { canary = [\"5%\", \"100%\"], every = \"30m\" }")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Rollout, E> {
                match text {
                    "direct" => return Ok(Rollout::Direct),
                    "manual" => return Ok(Rollout::Manual),
                    _ => {}
                }
                Err(crate::words::custom(
                    gristmill_kernel::Fault::invalid(gristmill_kernel::Code::BAD_VALUE, format!("`{text}` is not a rollout"))
                        .fix("write \"direct\", \"manual\" or { canary = [\"5%\", \"25%\", \"100%\"], every = \"30m\" }"),
                ))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rollout, A::Error> {
                Ok(Rollout::Table(Box::new(RolloutTable::deserialize(MapAccessDeserializer::new(map))?)))
            }
        }
        from.deserialize_any(V)
    }
}

/// A rollout by steps. Exactly one of `canary`, `shadow`, `blue_green` and `ab` says which kind.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutTable {
    /// Growing shares of the traffic; the last is `"100%"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Vec<Share>>,
    /// How long each share lasts at least.
    #[serde(default = "default_step")]
    pub every: Span,
    /// A SQL boolean over live figures that ends the rollout and goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<String>,
    /// Rows the new version must have answered before a step counts.
    #[serde(default = "default_step_rows")]
    pub at_least: u64,
    /// How long a step without enough rows waits before the rollout pauses.
    #[serde(default = "default_patience")]
    pub patience: Span,
    /// It is shown copies of the traffic for this long and answers nobody; then it takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Span>,
    /// It answers everything at once, and the old version stays warm for its return for this long. Before that it is shown copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<Span>,
    /// How long it is shown copies before it answers: the preview of `blue_green`; `10m` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Span>,
    /// The share of the requests of which it is shown copies, for `shadow` and `blue_green`; all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Share>,
    /// Whether somebody must move the model's alias `approved` to a version before it answers callers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approve: bool,
    /// The share of an experiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ab: Option<Share>,
    /// The outcome that decides an experiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decide: Option<String>,
    /// How long an experiment lasts at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Span>,
    /// How sure an experiment must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Share>,
}

fn default_step() -> Span {
    Span::from_secs(30 * 60)
}
fn default_step_rows() -> u64 {
    100
}
fn default_patience() -> Span {
    Span::from_secs(24 * 3600)
}

/// `monitor = { drift = "psi > 0.2", every = "1h", outcomes = "labels/churned.sql", parity = "mismatch_rate > 0" }`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Monitor {
    /// A SQL boolean that means drift, judged per feature and for the score; `psi > 0.2` unless given.
    #[serde(default = "default_drift")]
    pub drift: String,
    /// How often, and the width of a window; `1h` unless given.
    #[serde(default = "default_every")]
    #[schemars(with = "String")]
    pub every: Span,
    /// The label set that says what happened; the model's own unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<String>,
    /// Predictions a window needs to be judged; fewer is inconclusive.
    #[serde(default = "default_window_rows")]
    pub at_least: u64,
    /// A SQL boolean over `mismatch_rate`, `late_rate`, `behind_rate` and `checked` that means that served features are not what training gives;
    /// `mismatch_rate > 0` unless given.
    #[serde(default = "default_parity")]
    pub parity: String,
    /// Predictions of a window whose features are computed again from the tables; 1000 unless given, 0 for none.
    #[serde(default = "default_audit")]
    pub audit: u64,
}

fn default_parity() -> String {
    "mismatch_rate > 0".into()
}
fn default_audit() -> u64 {
    gristmill_kernel::limits::PARITY_ROWS
}

fn default_drift() -> String {
    "psi > 0.2".into()
}
fn default_every() -> Span {
    Span::from_secs(3600)
}
fn default_window_rows() -> u64 {
    gristmill_kernel::limits::DRIFT_ROWS_MIN as u64
}
impl Default for Monitor {
    fn default() -> Monitor {
        Monitor {
            drift: default_drift(),
            every: default_every(),
            outcomes: None,
            at_least: default_window_rows(),
            parity: default_parity(),
            audit: default_audit(),
        }
    }
}

/// `batch = { rows = 64, delay = "500us" }`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Most rows of a call.
    pub rows: u32,
    /// Longest wait for others to come; unless given nobody waits, and requests share a call that came while another was running.
    #[serde(default)]
    #[schemars(with = "String")]
    pub delay: Span,
}

/// `limits = { timeout = "25ms", in_flight = 500 }`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Longest time of one request; `10s` unless given.
    #[serde(default = "default_timeout")]
    #[schemars(with = "String")]
    pub timeout: Span,
    /// Requests at once before new ones are refused; 256 unless given.
    #[serde(default = "default_in_flight")]
    pub in_flight: u32,
}

fn default_timeout() -> Span {
    Span::from_millis(gristmill_kernel::limits::PREDICT_TIMEOUT_MS)
}
fn default_in_flight() -> u32 {
    gristmill_kernel::limits::PREDICT_IN_FLIGHT_MAX as u32
}
impl Default for Limits {
    fn default() -> Limits {
        Limits { timeout: default_timeout(), in_flight: default_in_flight() }
    }
}

/// `score = { each = "telemetry", per = "pump_id", at_most_every = "1m" }`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The source whose rows are scored.
    #[schemars(with = "String")]
    pub each: Name,
    /// The column that names the entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<String>,
    /// Least time between two scores of one entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub at_most_every: Option<Span>,
}

/// `[alerts]`.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    /// Where alerts go besides the log and the ledger: `https://...` webhooks, `slack://...`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub to: Many,
    /// What is told: everything unless given.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub when: Many,
    /// Whether webhooks may be at private and loopback addresses.
    #[serde(default)]
    pub allow_private: bool,
}
