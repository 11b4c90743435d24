//! Ports for tests of the control plane: the real ledger in a fresh folder, a clock that is set by hand, and an engine that judges
//! simple conditions (`name > 1.5`, `name >= other.name - 0.01`, joined by `and`/`or`) by SQL's three-valued logic.
//! The real engine has its own suite; here the question is what a stage does with an answer.
#![expect(clippy::unwrap_used, reason = "a failure to set a test up is a failed test")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses its own part")]

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::BoxStream;
use gristmill_kernel::condition::{Figure, Figures, Judged};
use gristmill_kernel::port::{Analysis, AsOfPlan, Clock, Engine, Ports, Secrets, TableShape};
use gristmill_kernel::run::{Finish, Metric, NewRun};
use gristmill_kernel::stage::{CancelFlag, Made, NoProgress, StageContext};
use gristmill_kernel::table::{Catalog, TableInfo, TableName, TableWrite, Written};
use gristmill_kernel::version::Place;
use gristmill_kernel::view::ViewDef;
use gristmill_kernel::{
    Actor, Address, Code, Digest, Done, Fault, NewVersion, Order, Result, Run, RunId, RunStatus, Span, Stage, StageKind, Timestamp,
    graph::Node,
};
use gristmill_store::system::{ManualClock, SeededIds};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything a test has at hand.
pub struct World {
    /// The ports.
    pub ports: Ports,
    /// The clock behind them.
    pub clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

impl World {
    /// A fresh one.
    pub async fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new("2026-01-01".parse().unwrap()));
        let stores = gristmill_store::open(dir.path()).await.unwrap();
        let ports = Ports {
            ledger: stores.ledger,
            blobs: stores.blobs,
            online: stores.online,
            journal: stores.journal,
            engine: Arc::new(Judge),
            clock: clock.clone(),
            ids: Arc::new(SeededIds::new(7)),
            secrets: Arc::new(NoSecrets),
        };
        World { ports, clock, _dir: dir }
    }
    /// Lets time pass.
    pub fn pass(&self, seconds: u64) {
        self.clock.advance(Span::from_secs(seconds));
    }
    /// Writes a run that ended.
    pub async fn ended(&self, stage: StageKind, address: &str, inputs: &[&str], edit: impl FnOnce(&mut Finish)) -> Run {
        self.ended_by("system:test", stage, address, inputs, serde_json::Value::Null, edit).await
    }
    /// Writes a run of somebody that ended.
    pub async fn ended_by(
        &self,
        actor: &str,
        stage: StageKind,
        address: &str,
        inputs: &[&str],
        spec: serde_json::Value,
        edit: impl FnOnce(&mut Finish),
    ) -> Run {
        let run = self.begun(actor, stage, address, inputs, spec).await;
        let mut finish = finish();
        edit(&mut finish);
        self.ports.ledger.finish(&run.id, finish, self.clock.now()).await.unwrap()
    }
    /// Writes a run that began.
    pub async fn begun(&self, actor: &str, stage: StageKind, address: &str, inputs: &[&str], spec: serde_json::Value) -> Run {
        let now = self.clock.now();
        let id = self.ports.ids.run();
        let inputs = inputs.iter().map(|text| {
            let (asset, number) = text.split_once('@').unwrap();
            gristmill_kernel::VersionRef { asset: asset.parse().unwrap(), number: number.parse().unwrap() }
        });
        let run = NewRun {
            key: Digest::of(&id.0),
            id,
            stage,
            address: address.parse().unwrap(),
            spec,
            inputs: inputs.collect(),
            parent: None,
            actor: Actor(actor.to_owned()),
            reason: "test".into(),
            idempotency: None,
            due_at: now,
        };
        self.ports.ledger.begin(run, "test", now, now.plus(Span::from_secs(30))).await.unwrap()
    }
    /// Writes a trained model version with metrics.
    pub async fn trained(&self, model: &str, metrics: &[(&str, f64)], params: &[(&str, &str)]) -> Run {
        let number = self.ports.ledger.versions(&model.parse().unwrap()).await.unwrap().len() + 1;
        self.ended(StageKind::Train, model, &[], |finish| {
            finish.outputs = vec![version(model, &format!("model {number}"), None)];
            finish.metrics = metrics.iter().map(|(k, v)| Metric::new(*k, *v)).collect();
            finish.params = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        })
        .await
    }
    /// Runs a stage as a step would be run: begin, work, end in one transaction.
    pub async fn step(&self, stage: &dyn Stage, address: &str, spec: &impl serde::Serialize, parents: &[&str]) -> Result<Run> {
        let node = Node {
            address: address.parse().unwrap(),
            stage: stage.kind(),
            spec: serde_json::to_value(spec).unwrap(),
            parents: parents.iter().map(|p| p.parse().unwrap()).collect(),
        };
        let mut inputs = Vec::new();
        for parent in &node.parents {
            inputs.extend(self.ports.ledger.version(parent, &gristmill_kernel::version::Which::Latest).await?);
        }
        let names: Vec<String> = inputs.iter().map(|v| v.id.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let run = self.begun("user:ada", stage.kind(), address, &names, node.spec.clone()).await;
        let cx = StageContext {
            ports: self.ports.clone(),
            project_dir: ".".into(),
            progress: Arc::new(NoProgress),
            cancel: CancelFlag::default(),
        };
        let order = Order { run: run.id.clone(), node, inputs, actor: run.actor.clone(), reason: "test".into() };
        let done = stage.run(&cx, order).await?;
        let finish = self.finish_of(&run.id, done).await?;
        self.ports.ledger.finish(&run.id, finish, self.clock.now()).await
    }
    async fn finish_of(&self, run: &RunId, done: Done) -> Result<Finish> {
        match done {
            Done::Unchanged { versions, summary } => Ok(Finish { reused: versions, summary, ..finish() }),
            Done::Made(Made { outputs, verdict, checks, params, metrics, aliases, summary }) => {
                let mut moves = Vec::new();
                for wish in aliases {
                    let mut alias = wish.wish;
                    assert_eq!(alias.run.as_ref(), Some(run), "a move names the run that allows it");
                    if let Some(index) = wish.output {
                        let newest = self.ports.ledger.versions(&outputs[index].asset).await?.into_iter().next();
                        let same = newest.as_ref().is_some_and(|v| v.digest == outputs[index].digest);
                        alias.to = Some(newest.map_or(0, |v| v.id.number) + u64::from(!same));
                    }
                    moves.push(alias);
                }
                Ok(Finish { outputs, verdict, checks, params, metrics, summary, aliases: moves, ..finish() })
            }
        }
    }
    /// Where an alias stands.
    pub async fn alias(&self, asset: &str, alias: &str) -> Option<u64> {
        let alias = gristmill_kernel::AliasName::new(alias).unwrap();
        self.ports.ledger.alias(&asset.parse().unwrap(), &alias).await.unwrap().and_then(|a| a.number)
    }
    /// Moves an alias.
    pub async fn point(&self, asset: &str, alias: &str, to: Option<u64>) {
        let wish = gristmill_kernel::version::AliasMove {
            asset: asset.parse::<Address>().unwrap(),
            alias: gristmill_kernel::AliasName::new(alias).unwrap(),
            to,
            expect: None,
            actor: Actor::user("ada"),
            reason: "by hand".into(),
            run: None,
        };
        self.ports.ledger.move_alias(wish, self.clock.now()).await.unwrap();
    }
    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// An end without anything.
pub fn finish() -> Finish {
    Finish::empty(RunStatus::Succeeded)
}

/// A version without content.
pub fn version(asset: &str, content: &str, rows: Option<u64>) -> NewVersion {
    NewVersion {
        asset: asset.parse().unwrap(),
        digest: Digest::of(content),
        place: Place::Meta,
        rows,
        meta: serde_json::json!({ "content": content }),
    }
}

/// Judges simple conditions.
pub struct Judge;

fn term(text: &str, figures: &Figures) -> Option<f64> {
    match text.trim().rsplit_once(" - ") {
        Some((name, number)) => Some(term(name, figures)? - number.trim().parse::<f64>().unwrap()),
        None => text.trim().parse().ok().or_else(|| figures.get(text.trim())),
    }
}

fn truth(condition: &str, figures: &Figures) -> Option<bool> {
    if let Some((a, b)) = condition.split_once(" or ") {
        return match (truth(a, figures), truth(b, figures)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        };
    }
    if let Some((a, b)) = condition.split_once(" and ") {
        return match (truth(a, figures), truth(b, figures)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        };
    }
    if let Some(Figure::Bool(value)) = figures.0.get(condition.trim()) {
        return Some(*value);
    }
    let (a, sign, b) = [">=", "<=", ">", "<"].iter().find_map(|s| condition.split_once(s).map(|(a, b)| (a, *s, b)))?;
    let (a, b) = (term(a, figures)?, term(b, figures)?);
    Some(match sign {
        ">=" => a >= b,
        "<=" => a <= b,
        ">" => a > b,
        _ => a < b,
    })
}

fn unused<T>() -> Result<T> {
    Err(Fault::new(gristmill_kernel::Kind::Internal, Code::INTERNAL, "not in this test"))
}

#[async_trait]
impl Engine for Judge {
    async fn write(&self, _: TableWrite) -> Result<Written> {
        unused()
    }
    async fn table(&self, _: &TableName) -> Result<Option<TableInfo>> {
        Ok(None)
    }
    async fn scan(&self, _: &TableName, _: Option<u64>, _: i64) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        unused()
    }
    fn analyse(&self, _: &str, _: &str, _: usize) -> Result<Analysis> {
        unused()
    }
    async fn schema(&self, _: &str, _: &Catalog) -> Result<SchemaRef> {
        unused()
    }
    async fn query(&self, _: &str, _: &Catalog, _: bool) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        unused()
    }
    async fn compile(&self, _: &ViewDef, _: &BTreeMap<String, TableShape>) -> Result<Arc<dyn AsOfPlan>> {
        unused()
    }
    async fn judge_rows(&self, _: &[String], _: &RecordBatch, _: Option<(&TableName, u64)>) -> Result<Vec<Vec<bool>>> {
        unused()
    }
    async fn judge(&self, condition: &str, figures: &Figures) -> Result<Judged> {
        let used = figures.0.keys().filter(|name| condition.split([' ', '(', ')']).any(|word| word == name.as_str()));
        let observed = used.map(|name| format!("{name} = {}", figures.get(name).map_or("unknown".into(), |v| v.to_string())));
        Ok(Judged { holds: truth(condition, figures), observed: observed.collect::<Vec<_>>().join(", ") })
    }
    fn check_condition(&self, _: &str, _: &[String]) -> Result<()> {
        Ok(())
    }
}

struct NoSecrets;
impl Secrets for NoSecrets {
    fn get(&self, name: &str) -> Result<SecretString> {
        Err(Fault::invalid(Code::MISSING_SECRET, format!("no {name}")))
    }
    fn fill(&self, text: &str) -> Result<SecretString> {
        Ok(text.to_owned().into())
    }
}
