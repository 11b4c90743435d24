//! What every `Ledger` promises.

use crate::system::ManualClock;
use gristmill_kernel::port::{AuditFilter, Clock, Ledger, RunFilter};
use gristmill_kernel::run::{Annotation, Finish, Metric, NewRun, RunError};
use gristmill_kernel::version::{AliasMove, Place, Which};
use gristmill_kernel::{
    Actor, Address, AliasName, Check, Digest, Kind, NewVersion, RunId, RunStatus, StageKind, Timestamp, Verdict, VersionRef,
};
use std::sync::Arc;

/// A moment, in microseconds.
pub fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// An address that must parse.
pub fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

/// A run to submit; equal numbers give equal ids.
pub fn new_run(number: u32, target: &str, stage: StageKind) -> NewRun {
    NewRun {
        id: RunId(format!("{number:032x}")),
        stage,
        address: address(target),
        spec: serde_json::json!({"number": number}),
        key: Digest::of(number.to_string()),
        inputs: vec![],
        parent: None,
        actor: Actor::user("ada"),
        reason: "asked".into(),
        idempotency: None,
        due_at: at(0),
    }
}

/// A version to make.
pub fn new_version(asset: &str, content: &str) -> NewVersion {
    let digest = Digest::of(content);
    NewVersion { asset: address(asset), digest, place: Place::Blob { digest }, rows: Some(7), meta: serde_json::json!({"text": content}) }
}

/// A successful end.
pub fn success(outputs: Vec<NewVersion>) -> Finish {
    Finish { verdict: Some(Verdict::Pass), outputs, summary: "done".into(), ..Finish::empty(RunStatus::Succeeded) }
}

/// A wish to move `@champion` of `models.m`.
pub fn champion(to: Option<u64>, expect: Option<Option<u64>>) -> AliasMove {
    AliasMove {
        asset: address("models.m"),
        alias: AliasName::champion(),
        to,
        expect,
        actor: Actor::user("ada"),
        reason: "better".into(),
        run: None,
    }
}

fn error() -> RunError {
    RunError { code: "E0607".into(), message: "no answer".into(), fix: None, transient: true }
}

/// Runs every case.
pub async fn run<F: Future<Output = Arc<dyn Ledger>>>(make: impl Fn(Arc<dyn Clock>) -> F) {
    let fresh = || make(Arc::new(ManualClock::new(at(500))));
    a_run_lives_and_ends(&*fresh().await).await;
    a_token_submits_once(&*fresh().await).await;
    the_oldest_due_flow_is_leased(&*fresh().await).await;
    a_lost_lease_is_lost(&*fresh().await).await;
    a_new_owner_takes_over(&*fresh().await).await;
    a_transient_failure_is_tried_again(&*fresh().await).await;
    versions_have_no_gaps_and_no_doubles(&*fresh().await).await;
    an_end_is_all_or_nothing(&*fresh().await).await;
    aliases_move_with_reasons(&*fresh().await).await;
    notes_are_kept(&*fresh().await).await;
    cancelling(&*fresh().await).await;
    lists_are_filtered(&*fresh().await).await;
    the_chain_tells_the_story(&*fresh().await).await;
    many_workers_never_share(fresh().await).await;
}

async fn a_run_lives_and_ends(ledger: &dyn Ledger) {
    let mut new = new_run(1, "models.m", StageKind::Train);
    let input = VersionRef { asset: address("training_sets.m"), number: 1 };
    new.inputs = vec![input.clone()];
    let queued = ledger.submit(new.clone(), at(10)).await.expect("submit");
    assert_eq!((queued.status, queued.attempt, queued.submitted_at), (RunStatus::Queued, 0, at(10)));
    assert_eq!((&queued.spec, &queued.key, &queued.inputs), (&new.spec, &new.key, &new.inputs));
    assert_eq!(ledger.submit(new.clone(), at(11)).await.expect_err("same id").kind, Kind::Conflict);
    assert!(ledger.run_by_key(&new.key).await.expect("by key").is_none());
    let leased = ledger.lease("w", at(20), at(30)).await.expect("lease").expect("work");
    assert_eq!((leased.status, leased.attempt, leased.started_at), (RunStatus::Running, 1, Some(at(20))));
    let mut end = success(vec![new_version("models.m", "trees")]);
    end.checks = vec![Check { condition: "auc >= 0.8".into(), verdict: Verdict::Fail, observed: "auc = 0.7".into() }];
    end.metrics = vec![Metric::new("auc", 0.7)];
    end.params = [("trees".to_owned(), "100".to_owned())].into();
    let ended = ledger.finish(&new.id, end.clone(), at(40)).await.expect("finish");
    assert_eq!((ended.status, ended.verdict, ended.ended_at), (RunStatus::Succeeded, Some(Verdict::Pass), Some(at(40))));
    assert_eq!((&ended.checks, ended.metrics["auc"], ended.params["trees"].as_str()), (&end.checks, 0.7, "100"));
    assert_eq!(ledger.run(&new.id).await.expect("read"), Some(ended.clone()));
    assert_eq!(ledger.run_by_key(&new.key).await.expect("by key"), Some(ended));
    assert_eq!(ledger.finish(&new.id, end, at(41)).await.expect_err("twice").kind, Kind::Conflict);
    assert_eq!(ledger.readers(&input).await.expect("readers"), [new.id]);
    let nobody = RunId("f".repeat(32));
    assert_eq!(ledger.run(&nobody).await.expect("read"), None);
    assert_eq!(ledger.finish(&nobody, success(vec![]), at(1)).await.expect_err("unknown").kind, Kind::NotFound);
}

async fn a_token_submits_once(ledger: &dyn Ledger) {
    let with_token = |number| NewRun { idempotency: Some("t".into()), ..new_run(number, "flows.f", StageKind::Flow) };
    let first = ledger.submit(with_token(1), at(1)).await.expect("first");
    let head = ledger.head().await.expect("head");
    assert_eq!(ledger.submit(with_token(2), at(2)).await.expect("second"), first);
    assert_eq!(ledger.head().await.expect("head"), head, "nothing was written");
    ledger.submit(new_run(3, "flows.f", StageKind::Flow), at(3)).await.expect("submit");
    let follow = Finish { follow_ups: vec![with_token(4)], ..success(vec![]) };
    ledger.finish(&RunId(format!("{:032x}", 3)), follow, at(4)).await.expect("a known follow-up is not queued again");
    assert_eq!(ledger.runs(&RunFilter::default()).await.expect("runs").len(), 2);
}

async fn the_oldest_due_flow_is_leased(ledger: &dyn Ledger) {
    for (number, due) in [(1, 50), (2, 20), (3, 20)] {
        ledger.submit(NewRun { due_at: at(due), ..new_run(number, "flows.f", StageKind::Flow) }, at(1)).await.expect("submit");
    }
    let step = NewRun { parent: Some(RunId("0".repeat(32))), ..new_run(4, "models.m", StageKind::Train) };
    ledger.submit(step, at(1)).await.expect("a step is never leased");
    assert_eq!(ledger.lease("w", at(10), at(99)).await.expect("lease"), None, "nothing is due");
    for (now, number) in [(60, 2u32), (60, 3), (60, 1)] {
        let run = ledger.lease("w", at(now), at(99)).await.expect("lease").expect("work");
        assert_eq!(run.id.0, format!("{number:032x}"));
    }
    assert_eq!(ledger.lease("w", at(60), at(99)).await.expect("lease"), None);
}

async fn a_lost_lease_is_lost(ledger: &dyn Ledger) {
    let flow = ledger.submit(new_run(1, "flows.f", StageKind::Flow), at(1)).await.expect("submit").id;
    ledger.lease("a", at(10), at(20)).await.expect("lease").expect("work");
    ledger.renew(&flow, "a", at(30)).await.expect("renew");
    assert_eq!(ledger.lease("b", at(25), at(60)).await.expect("lease"), None, "the lease was renewed");
    let step = NewRun { parent: Some(flow.clone()), ..new_run(2, "models.m", StageKind::Train) };
    let step = ledger.begin(step, "a", at(26), at(30)).await.expect("begin");
    assert_eq!((step.status, step.attempt, step.started_at), (RunStatus::Running, 1, Some(at(26))));
    let again = ledger.lease("b", at(30), at(60)).await.expect("lease").expect("ran out");
    assert_eq!((again.id.clone(), again.attempt), (flow.clone(), 2));
    let step = ledger.run(&step.id).await.expect("read").expect("step");
    assert_eq!((step.status, step.ended_at), (RunStatus::Failed, Some(at(30))));
    assert!(step.error.expect("error").transient, "an interrupted step may be tried again");
    assert_eq!(ledger.renew(&flow, "a", at(90)).await.expect_err("lost").kind, Kind::Conflict);
    ledger.renew(&flow, "b", at(90)).await.expect("the new holder");
}

async fn a_new_owner_takes_over(ledger: &dyn Ledger) {
    let flow = ledger.submit(new_run(1, "flows.f", StageKind::Flow), at(1)).await.expect("submit").id;
    ledger.lease("old", at(10), at(1_000)).await.expect("lease").expect("work");
    let step = NewRun { parent: Some(flow.clone()), ..new_run(2, "models.m", StageKind::Train) };
    let step = ledger.begin(step, "old", at(11), at(1_000)).await.expect("begin").id;
    let mine = ledger.begin(new_run(3, "flows.g", StageKind::Flow), "new", at(11), at(1_000)).await.expect("begin").id;
    assert_eq!(ledger.take_over("new", at(12)).await.expect("take over"), 2);
    let status = async |id: &RunId| ledger.run(id).await.expect("read").expect("run").status;
    assert_eq!(status(&flow).await, RunStatus::Queued);
    assert_eq!(status(&step).await, RunStatus::Failed);
    assert_eq!(status(&mine).await, RunStatus::Running);
    assert_eq!(ledger.renew(&flow, "old", at(2_000)).await.expect_err("ended").kind, Kind::Conflict);
    assert_eq!(ledger.lease("new", at(12), at(99)).await.expect("lease").expect("work").attempt, 2);
    assert_eq!(ledger.take_over("new", at(13)).await.expect("take over"), 0);
}

async fn a_transient_failure_is_tried_again(ledger: &dyn Ledger) {
    let flow = ledger.submit(new_run(1, "flows.f", StageKind::Flow), at(1)).await.expect("submit").id;
    assert_eq!(ledger.requeue(&flow, at(50), error()).await.expect_err("not running").kind, Kind::Conflict);
    ledger.lease("w", at(10), at(99)).await.expect("lease").expect("work");
    ledger.requeue(&flow, at(50), error()).await.expect("requeue");
    let queued = ledger.run(&flow).await.expect("read").expect("run");
    assert_eq!((queued.status, queued.due_at, queued.error), (RunStatus::Queued, at(50), Some(error())));
    assert_eq!(ledger.lease("w", at(49), at(99)).await.expect("lease"), None, "not before its time");
    assert_eq!(ledger.lease("w", at(50), at(99)).await.expect("lease").expect("work").attempt, 2);
    let ended = ledger.finish(&flow, success(vec![]), at(60)).await.expect("finish");
    assert_eq!(ended.error, None, "a success has no error");
}

async fn versions_have_no_gaps_and_no_doubles(ledger: &dyn Ledger) {
    let asset = address("models.m");
    for (number, content) in [(1, "a"), (2, "b"), (3, "b"), (4, "a")] {
        let id = ledger.begin(new_run(number, "models.m", StageKind::Train), "w", at(1), at(9)).await.expect("begin").id;
        let ended = ledger.finish(&id, success(vec![new_version("models.m", content)]), at(i64::from(number))).await.expect("finish");
        let expected = [1, 2, 2, 3][number as usize - 1];
        assert_eq!(ended.outputs, [VersionRef { asset: asset.clone(), number: expected }]);
    }
    let versions = ledger.versions(&asset).await.expect("versions");
    assert_eq!(versions.iter().map(|v| v.id.number).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(versions[0].run.0, format!("{:032x}", 4));
    assert_eq!((versions[2].rows, versions[2].meta.clone()), (Some(7), serde_json::json!({"text": "a"})));
    assert_eq!(ledger.version(&asset, &Which::Latest).await.expect("latest").as_ref(), Some(&versions[0]));
    assert_eq!(ledger.version(&asset, &Which::Number(2)).await.expect("number").as_ref(), Some(&versions[1]));
    assert_eq!(ledger.version(&asset, &Which::Number(4)).await.expect("number"), None);
    assert_eq!(ledger.version(&asset, &Which::Alias(AliasName::live())).await.expect("alias"), None);
    assert_eq!(ledger.assets().await.expect("assets"), std::slice::from_ref(&asset));
    let id = ledger.begin(new_run(5, "models.m", StageKind::Train), "w", at(1), at(9)).await.expect("begin").id;
    let one = VersionRef { asset, number: 1 };
    let skipped = Finish { status: RunStatus::Skipped, reused: vec![one.clone()], skipped_for: Some(RunId("a".into())), ..success(vec![]) };
    let ended = ledger.finish(&id, skipped, at(9)).await.expect("finish");
    assert_eq!((ended.outputs, ended.skipped_for), (vec![one], Some(RunId("a".into()))));
}

async fn an_end_is_all_or_nothing(ledger: &dyn Ledger) {
    let id = ledger.begin(new_run(1, "models.m", StageKind::Train), "w", at(1), at(9)).await.expect("begin").id;
    let head = ledger.head().await.expect("head");
    let bad = Finish { aliases: vec![champion(Some(7), None)], ..success(vec![new_version("models.m", "a")]) };
    assert_eq!(ledger.finish(&id, bad, at(2)).await.expect_err("no version 7").kind, Kind::NotFound);
    assert!(ledger.versions(&address("models.m")).await.expect("versions").is_empty(), "the version is not visible");
    assert_eq!(ledger.run(&id).await.expect("read").expect("run").status, RunStatus::Running);
    assert_eq!(ledger.head().await.expect("head"), head);
    let good = Finish {
        aliases: vec![champion(Some(1), Some(None))],
        follow_ups: vec![new_run(2, "flows.f", StageKind::Flow)],
        ..success(vec![new_version("models.m", "a")])
    };
    ledger.finish(&id, good, at(3)).await.expect("finish");
    let named = ledger.version(&address("models.m"), &Which::Alias(AliasName::champion())).await.expect("alias");
    assert_eq!(named.expect("champion").id.number, 1);
    assert_eq!(ledger.lease("w", at(4), at(9)).await.expect("lease").expect("follow-up").address, address("flows.f"));
}

async fn aliases_move_with_reasons(ledger: &dyn Ledger) {
    assert_eq!(ledger.move_alias(champion(Some(1), None), at(1)).await.expect_err("no version").kind, Kind::NotFound);
    for (number, content) in [(1, "a"), (2, "b")] {
        let id = ledger.begin(new_run(number, "models.m", StageKind::Train), "w", at(1), at(9)).await.expect("begin").id;
        ledger.finish(&id, success(vec![new_version("models.m", content)]), at(2)).await.expect("finish");
    }
    assert_eq!(ledger.move_alias(champion(Some(1), Some(Some(2))), at(3)).await.expect_err("expectation").kind, Kind::Conflict);
    ledger.move_alias(champion(Some(1), Some(None)), at(3)).await.expect("first");
    let moved = ledger.move_alias(champion(Some(2), Some(Some(1))), at(4)).await.expect("second");
    assert_eq!((moved.number, moved.previous, moved.moved_at, moved.reason.as_str()), (Some(2), Some(1), at(4), "better"));
    let asset = address("models.m");
    assert_eq!(ledger.alias(&asset, &AliasName::champion()).await.expect("alias"), Some(moved.clone()));
    assert_eq!(ledger.aliases(&asset).await.expect("aliases"), [moved]);
    ledger.move_alias(champion(None, None), at(5)).await.expect("take away");
    assert_eq!(ledger.alias(&asset, &AliasName::champion()).await.expect("alias"), None);
    assert_eq!(ledger.move_alias(champion(None, None), at(6)).await.expect_err("nothing there").kind, Kind::NotFound);
    let history = ledger.alias_history(&asset, &AliasName::champion()).await.expect("history");
    assert_eq!(history.iter().map(|m| (m.previous, m.number)).collect::<Vec<_>>(), [(Some(2), None), (Some(1), Some(2)), (None, Some(1))]);
}

async fn notes_are_kept(ledger: &dyn Ledger) {
    let id = ledger.begin(new_run(1, "models.m", StageKind::Train), "w", at(1), at(9)).await.expect("begin").id;
    let head = ledger.head().await.expect("head");
    let metric = |value, step| Metric { key: "loss".into(), value, step };
    let note = Annotation {
        params: [("depth".to_owned(), "6".to_owned())].into(),
        metrics: vec![metric(3.0, 2), metric(f64::NAN, 5), metric(f64::NEG_INFINITY, 1), metric(9.0, 2)],
        tags: [("team".to_owned(), "a".to_owned())].into(),
        summary: Some("half".into()),
    };
    ledger.annotate(&id, note.clone()).await.expect("annotate");
    ledger.annotate(&id, note.clone()).await.expect("twice is the same");
    let history = ledger.metric_history(&id, "loss").await.expect("history");
    assert_eq!(history.iter().map(|(m, at)| (m.step, at.micros())).collect::<Vec<_>>(), [(1, 500), (2, 500), (5, 500)]);
    assert_eq!((history[0].0.value, history[1].0.value), (f64::NEG_INFINITY, 9.0));
    assert!(history[2].0.value.is_nan(), "NaN survives");
    let run = ledger.run(&id).await.expect("read").expect("run");
    assert!(run.metrics["loss"].is_nan(), "the last step counts");
    assert_eq!((run.params["depth"].as_str(), run.tags["team"].as_str(), run.summary.as_str()), ("6", "a", "half"));
    assert!(ledger.head().await.expect("head") > head);
    let other = Annotation { params: [("depth".to_owned(), "7".to_owned())].into(), ..Default::default() };
    assert_eq!(ledger.annotate(&id, other).await.expect_err("another value").kind, Kind::Conflict);
    let tag = Annotation { tags: [("team".to_owned(), "b".to_owned())].into(), ..Default::default() };
    ledger.annotate(&id, tag).await.expect("a tag may change");
    assert_eq!(ledger.run(&id).await.expect("read").expect("run").tags["team"], "b");
    ledger.finish(&id, success(vec![]), at(3)).await.expect("finish");
    assert_eq!(ledger.annotate(&id, note).await.expect_err("ended").kind, Kind::Conflict);
    assert!(ledger.metric_history(&id, "nothing").await.expect("history").is_empty());
}

async fn cancelling(ledger: &dyn Ledger) {
    let ada = Actor::user("ada");
    let queued = ledger.submit(new_run(1, "flows.f", StageKind::Flow), at(1)).await.expect("submit").id;
    ledger.ask_cancel(&queued, &ada, at(2)).await.expect("cancel");
    let run = ledger.run(&queued).await.expect("read").expect("run");
    assert_eq!((run.status, run.ended_at, run.cancel_asked), (RunStatus::Cancelled, Some(at(2)), true));
    assert_eq!(ledger.lease("w", at(9), at(99)).await.expect("lease"), None);
    assert_eq!(ledger.ask_cancel(&queued, &ada, at(3)).await.expect_err("ended").kind, Kind::Conflict);
    let running = ledger.begin(new_run(2, "flows.f", StageKind::Flow), "w", at(3), at(9)).await.expect("begin").id;
    ledger.ask_cancel(&running, &ada, at(4)).await.expect("ask");
    ledger.ask_cancel(&running, &ada, at(5)).await.expect("ask twice");
    let run = ledger.renew(&running, "w", at(20)).await.expect("renew");
    assert!(run.status == RunStatus::Running && run.cancel_asked, "the holder is told and ends it");
}

async fn lists_are_filtered(ledger: &dyn Ledger) {
    for number in 0..600u32 {
        let (target, stage) = if number % 3 == 0 { ("models.m", StageKind::Train) } else { ("flows.f", StageKind::Flow) };
        let parent = (number % 2 == 0).then(|| RunId("p".into()));
        ledger.submit(NewRun { parent, ..new_run(number, target, stage) }, at(i64::from(number))).await.expect("submit");
    }
    let count = async |filter: RunFilter| ledger.runs(&filter).await.expect("runs").len();
    assert_eq!(count(RunFilter::default()).await, 600);
    assert_eq!(count(RunFilter { stages: vec![StageKind::Train, StageKind::Gate], ..Default::default() }).await, 200);
    assert_eq!(count(RunFilter { address: Some(address("flows.f")), ..Default::default() }).await, 400);
    assert_eq!(count(RunFilter { statuses: vec![RunStatus::Running], ..Default::default() }).await, 0);
    let both = RunFilter { parent: Some(RunId("p".into())), stages: vec![StageKind::Train], ..Default::default() };
    assert_eq!(count(both).await, 100);
    let newest = ledger.runs(&RunFilter { limit: 2, ..Default::default() }).await.expect("runs");
    assert_eq!(newest.iter().map(|r| r.submitted_at).collect::<Vec<_>>(), [at(599), at(598)]);
}

async fn the_chain_tells_the_story(ledger: &dyn Ledger) {
    assert_eq!((ledger.head().await.expect("head"), ledger.verify_audit().await.expect("verify")), (0, 0));
    let flow = ledger.submit(new_run(1, "flows.f", StageKind::Flow), at(1)).await.expect("submit").id;
    ledger.lease("w", at(2), at(9)).await.expect("lease").expect("work");
    ledger.requeue(&flow, at(3), error()).await.expect("requeue");
    ledger.lease("w", at(4), at(9)).await.expect("lease").expect("work");
    let step = NewRun { parent: Some(flow.clone()), ..new_run(2, "models.m", StageKind::Train) };
    let step = ledger.begin(step, "w", at(5), at(9)).await.expect("begin").id;
    let checks = vec![
        Check { condition: "auc >= 0.8".into(), verdict: Verdict::Fail, observed: "auc = 0.7".into() },
        Check { condition: "auc >= 0.1".into(), verdict: Verdict::Pass, observed: "auc = 0.7".into() },
    ];
    let end = Finish {
        checks,
        verdict: Some(Verdict::Fail),
        aliases: vec![champion(Some(1), None)],
        ..success(vec![new_version("models.m", "a")])
    };
    ledger.finish(&step, end, at(6)).await.expect("finish");
    let lines = ledger.audit(&AuditFilter::default()).await.expect("audit");
    let told: Vec<_> = lines.iter().map(|l| (l.seq, l.action.as_str(), l.subject.as_str())).collect();
    assert_eq!(
        told,
        [
            (1, "run.submitted", "flows.f"),
            (2, "run.started", "flows.f"),
            (3, "run.requeued", "flows.f"),
            (4, "run.started", "flows.f"),
            (5, "run.started", "models.m"),
            (6, "version.made", "models.m@1"),
            (7, "run.finished", "models.m"),
            (8, "alias.moved", "models.m@champion"),
        ]
    );
    assert_eq!(lines[2].detail["error"]["code"], "E0607");
    assert_eq!(lines[6].detail["failed_checks"].as_array().map(Vec::len), Some(1));
    assert_eq!((&lines[6].detail["verdict"], &lines[6].detail["outputs"][0]), (&"fail".into(), &"models.m@1".into()));
    assert_eq!((&lines[7].detail["to"], &lines[7].detail["reason"]), (&1.into(), &"better".into()));
    let seqs = async |subject: &str, after: u64| {
        let lines = ledger.audit(&AuditFilter { subject: Some(subject.into()), after, limit: 0 }).await.expect("audit");
        lines.into_iter().map(|l| l.seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs("models.m", 0).await, [5, 6, 7, 8]);
    assert_eq!(seqs("models.m", 6).await, [7, 8]);
    assert_eq!(seqs("models", 0).await, [5, 6, 7, 8]);
    assert_eq!(seqs(&step.0, 0).await, [5, 6, 7]);
    assert!(seqs("model", 0).await.is_empty());
    assert_eq!(ledger.audit(&AuditFilter { limit: 3, ..Default::default() }).await.expect("audit").len(), 3);
    assert_eq!((ledger.head().await.expect("head"), ledger.verify_audit().await.expect("verify")), (8, 8));
}

async fn many_workers_never_share(ledger: Arc<dyn Ledger>) {
    for number in 0..40 {
        ledger.submit(new_run(number, "flows.f", StageKind::Flow), at(1)).await.expect("submit");
    }
    let worker = |name: usize| {
        let ledger = Arc::clone(&ledger);
        async move {
            let mut mine = Vec::new();
            while let Some(run) = ledger.lease(&format!("w{name}"), at(5), at(99)).await.expect("lease") {
                mine.push(run.id);
                tokio::task::yield_now().await;
            }
            mine
        }
    };
    let mut all: Vec<RunId> = futures::future::join_all((0..4).map(worker)).await.concat();
    assert_eq!(all.len(), 40);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 40, "a run was leased twice");
    ledger.verify_audit().await.expect("verify");
}
