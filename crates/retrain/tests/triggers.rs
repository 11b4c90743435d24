//! Triggers on the real ledger: what is asked for, how often, and why.

#[path = "../../registry/tests/support/mod.rs"]
mod support;

use async_trait::async_trait;
use gristmill_kernel::port::{FlowOrder, Ledger, Runs};
use gristmill_kernel::run::NewRun;
use gristmill_kernel::version::NewVersion;
use gristmill_kernel::{Actor, Digest, Name, Result, Run, RunId, RunStatus, Span, StageKind, Verdict};
use gristmill_retrain::{RetrainSpec, tick};
use std::sync::Arc;
use support::{World, version};

/// The queue, as the runner writes it.
struct Queue<'a>(&'a World);

#[async_trait]
impl Runs for Queue<'_> {
    async fn submit_flow(&self, flow: FlowOrder) -> Result<Run> {
        let id = self.0.ports.ids.run();
        self.submit(NewRun {
            key: Digest::of(&id.0),
            id,
            stage: StageKind::Flow,
            address: "flows.churn".parse().expect("address"),
            spec: serde_json::to_value(&flow).expect("json"),
            inputs: vec![],
            parent: None,
            actor: flow.actor,
            reason: flow.reason,
            idempotency: flow.idempotency,
            due_at: self.0.now(),
        })
        .await
    }
    async fn submit(&self, run: NewRun) -> Result<Run> {
        let ledger: Arc<dyn Ledger> = self.0.ports.ledger.clone();
        ledger.submit(run, self.0.now()).await
    }
    async fn wait(&self, _: &RunId) -> Result<Run> {
        unreachable!("nothing waits here")
    }
    async fn cancel(&self, run: &RunId, actor: &Actor) -> Result<()> {
        self.0.ports.ledger.ask_cancel(run, actor, self.0.now()).await
    }
}

fn spec(every: Option<&str>, when: Option<&str>) -> RetrainSpec {
    let name = Name::new("churn").expect("name");
    RetrainSpec {
        model: name.clone(),
        endpoint: Some(name),
        every: every.map(str::to_owned),
        when: when.map(str::to_owned),
        cooldown: Span::from_secs(600),
    }
}
async fn ticked(world: &World, spec: &RetrainSpec) -> Vec<Run> {
    tick(&world.ports, &Queue(world), std::slice::from_ref(spec)).await.expect("a tick")
}
async fn report(world: &World, verdict: Verdict, drifted: &[&str]) {
    let meta = serde_json::json!({ "verdict": verdict, "drifted": drifted, "quality": { "drop": 0.01 }, "at": world.now() });
    let output = NewVersion { meta, ..version("monitors.churn", &world.now().to_string(), None) };
    world.ended(StageKind::Monitor, "monitors.churn", &[], |f| f.outputs = vec![output]).await;
}
/// What the runner does with a flow: takes it, trains, ends it.
async fn driven(world: &World, status: RunStatus) {
    let now = world.now();
    let flow = world.ports.ledger.lease("test", now, now.plus(Span::from_secs(30))).await.expect("leases").expect("a flow");
    if status == RunStatus::Succeeded {
        world.trained("models.churn", &[], &[]).await;
    }
    let mut end = support::finish();
    end.status = status;
    world.ports.ledger.finish(&flow.id, end, world.now()).await.expect("ends");
}

#[tokio::test]
async fn drift_asks_once_with_its_numbers() {
    let (world, spec) = (World::new().await, spec(None, Some("drift")));
    assert!(ticked(&world, &spec).await.is_empty(), "never trained");
    world.trained("models.churn", &[], &[]).await;
    world.pass(60);
    assert!(ticked(&world, &spec).await.is_empty(), "no report");
    report(&world, Verdict::Pass, &[]).await;
    world.pass(60);
    assert!(ticked(&world, &spec).await.is_empty(), "no drift");
    report(&world, Verdict::Fail, &["psi(activity.spend_90d) = 0.41 > 0.2"]).await;
    world.pass(1);
    let asked = ticked(&world, &spec).await;
    assert_eq!(asked[0].reason, "drift: psi(activity.spend_90d) = 0.41 > 0.2");
    let order: FlowOrder = serde_json::from_value(asked[0].spec.clone()).expect("an order");
    assert_eq!((order.targets[0].to_string().as_str(), order.upstream, order.actor), ("endpoints.churn", true, Actor::system("retrain")));
    assert!(ticked(&world, &spec).await.is_empty(), "one at a time");
    driven(&world, RunStatus::Succeeded).await;
    world.pass(100_000);
    assert!(ticked(&world, &spec).await.is_empty(), "answered");
    report(&world, Verdict::Fail, &["psi(score) = 0.3 > 0.2"]).await;
    world.pass(1);
    assert_eq!(ticked(&world, &spec).await.len(), 1, "a new report is a new cause");
}

#[tokio::test]
async fn a_failed_try_is_repeated_after_a_rest() {
    let (world, spec) = (World::new().await, spec(Some("1d"), None));
    world.trained("models.churn", &[], &[]).await;
    world.pass(86_399);
    assert!(ticked(&world, &spec).await.is_empty());
    world.pass(1);
    assert_eq!(ticked(&world, &spec).await.len(), 1);
    driven(&world, RunStatus::Failed).await;
    world.pass(599);
    assert!(ticked(&world, &spec).await.is_empty(), "cooldown");
    world.pass(1);
    let again = ticked(&world, &spec).await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].status, RunStatus::Queued, "a new run, not the failed one");
}

#[tokio::test]
async fn new_rows_are_counted_from_what_was_trained_on() {
    let (world, spec) = (World::new().await, spec(None, Some("new_rows > 100")));
    let source = |rows: u64| version("sources.invoices", &format!("{rows} rows"), Some(rows));
    world.ended(StageKind::Validate, "sources.invoices", &[], |f| f.outputs = vec![source(1_000)]).await;
    world.ended(StageKind::Features, "labels.l", &["sources.invoices@1"], |f| f.outputs = vec![version("labels.l", "l", Some(50))]).await;
    world
        .ended(StageKind::Features, "training_sets.churn", &["labels.l@1"], |f| f.outputs = vec![version("training_sets.churn", "t", None)])
        .await;
    world
        .ended(StageKind::Train, "models.churn", &["training_sets.churn@1"], |f| f.outputs = vec![version("models.churn", "m", None)])
        .await;
    world.pass(10);
    assert!(ticked(&world, &spec).await.is_empty());
    world.ended(StageKind::Validate, "sources.invoices", &[], |f| f.outputs = vec![source(1_100)]).await;
    assert!(ticked(&world, &spec).await.is_empty(), "exactly a hundred");
    world.ended(StageKind::Validate, "sources.invoices", &[], |f| f.outputs = vec![source(1_101)]).await;
    let asked = ticked(&world, &spec).await;
    assert_eq!(asked[0].reason, "when new_rows > 100: new_rows = 101");
}

#[tokio::test]
async fn a_training_by_hand_keeps_it_quiet() {
    let (world, spec) = (World::new().await, spec(Some("1d"), None));
    world.trained("models.churn", &[], &[]).await;
    world.pass(90_000);
    let by_hand = world.begun("user:ada", StageKind::Train, "models.churn", &[], serde_json::Value::Null).await;
    assert!(ticked(&world, &spec).await.is_empty(), "under way");
    world.ports.ledger.finish(&by_hand.id, support::finish(), world.now()).await.expect("ends");
    assert!(ticked(&world, &spec).await.is_empty(), "trained just now");
}
