//! What every `ModelRegistry` promises.

use super::ledger::{address, at, new_run, new_version, success};
use futures::future::join_all;
use gristmill_kernel::port::{AuditFilter, Blobs, Ledger, ModelRegistry, RunFilter};
use gristmill_kernel::tracking::filter::{Field, Filter, Op, OrderBy, Test, Value};
use gristmill_kernel::tracking::manifest::Manifest;
use gristmill_kernel::tracking::registry::{ModelStage, ModelVersion, NewModelVersion, RegisteredModel};
use gristmill_kernel::tracking::{Page, Search, ViewType};
use gristmill_kernel::version::{AliasMove, Which};
use gristmill_kernel::{Actor, AliasName, Code, Digest, Kind, RunId, RunStatus, StageKind};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A registry and what it stands on.
pub struct Parts {
    /// The registry.
    pub registry: Arc<dyn ModelRegistry>,
    /// Its ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Where manifests go.
    pub blobs: Arc<dyn Blobs>,
}

fn ada() -> Actor {
    Actor::user("ada")
}

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A version to register, of these files.
pub fn new_model_version(name: &str, files: &[(&str, Digest)]) -> NewModelVersion {
    NewModelVersion {
        name: name.to_owned(),
        source: format!("mlflow-artifacts:/1/run/artifacts/{name}"),
        run: None,
        run_link: None,
        model: None,
        description: String::new(),
        user: None,
        tags: BTreeMap::new(),
        files: files.iter().map(|(key, digest)| ((*key).to_owned(), *digest)).collect(),
    }
}

fn to_alias(asset: &str, alias: &str, to: Option<u64>) -> AliasMove {
    AliasMove {
        asset: address(asset),
        alias: AliasName::new(alias).expect("an alias"),
        to,
        expect: None,
        actor: ada(),
        reason: "better".into(),
        run: None,
    }
}

impl Parts {
    async fn create(&self, name: &str, micros: i64) -> RegisteredModel {
        self.registry.create_model(name, "", BTreeMap::new(), &ada(), at(micros)).await.expect("create")
    }
    async fn version(&self, name: &str, micros: i64) -> ModelVersion {
        let new = new_model_version(name, &[("MLmodel", Digest::of("x"))]);
        self.registry.create_model_version(new, &ada(), at(micros)).await.expect("register")
    }
    async fn model(&self, name: &str) -> RegisteredModel {
        self.registry.registered_model(name).await.expect("read").expect("there")
    }
    async fn train(&self, number: u32, asset: &str, content: &str, micros: i64) -> RunId {
        let run = self.ledger.begin(new_run(number, asset, StageKind::Train), "w", at(micros), at(micros + 9)).await.expect("begin").id;
        self.ledger.finish(&run, success(vec![new_version(asset, content)]), at(micros)).await.expect("finish");
        run
    }
}

/// Runs every case.
pub async fn run<F: Future<Output = Parts>>(make: impl Fn() -> F) {
    a_name_is_registered_once(&make().await).await;
    any_name_has_an_asset(&make().await).await;
    a_new_name_takes_everything_along(&make().await).await;
    a_deleted_name_goes_on_counting(&make().await).await;
    versions_are_versions_of_the_ledger(&make().await).await;
    numbers_are_given_once(make().await).await;
    aliases_are_the_ledgers(&make().await).await;
    stages_push_others_out(&make().await).await;
    words_can_be_changed(&make().await).await;
    what_the_project_trains_is_registered(&make().await).await;
    models_are_found(&make().await).await;
    versions_are_found(&make().await).await;
    the_newest_of_each_stage(&make().await).await;
}

async fn a_name_is_registered_once(parts: &Parts) {
    let registry = &parts.registry;
    assert_eq!(registry.registered_model("churn").await.expect("read"), None);
    let made = registry.create_model("churn", "who leaves", tags(&[("team", "a")]), &ada(), at(7)).await.expect("create");
    assert_eq!((made.name.as_str(), made.asset.to_string().as_str(), made.description.as_str()), ("churn", "models.churn", "who leaves"));
    assert_eq!((made.created_at, made.updated_at, &made.tags, made.aliases.len()), (at(7), at(7), &tags(&[("team", "a")]), 0));
    assert_eq!(registry.registered_model("churn").await.expect("read"), Some(made.clone()));
    assert_eq!(registry.model_of_asset(&address("models.churn")).await.expect("read"), Some(made));
    assert_eq!(registry.model_of_asset(&address("models.other")).await.expect("read"), None);
    let fault = registry.create_model("churn", "", BTreeMap::new(), &ada(), at(8)).await.expect_err("twice");
    assert_eq!((fault.kind, fault.code), (Kind::Conflict, Code::ALREADY_EXISTS));
    assert_eq!(fault.message, "Registered Model (name=churn) already exists.");
    let prompt = tags(&[("mlflow.prompt.is_prompt", "true")]);
    let fault = registry.create_model("churn", "", prompt, &ada(), at(8)).await.expect_err("twice");
    assert!(fault.code == Code::ALREADY_EXISTS && fault.message.contains("already taken by a registered model"), "{fault}");
    for bad in ["", " ", "a/b", "a:b", "..", &"x".repeat(257)] {
        let fault = registry.create_model(bad, "", BTreeMap::new(), &ada(), at(8)).await.expect_err(bad);
        assert_eq!((fault.kind, fault.code), (Kind::Invalid, Code::BAD_VALUE), "{bad}");
    }
    let lines = parts.ledger.audit(&AuditFilter::default()).await.expect("audit");
    let told: Vec<_> = lines.iter().map(|l| (l.action.as_str(), l.subject.as_str(), l.actor.0.as_str())).collect();
    assert_eq!(told, [("model.registered", "models.churn", "user:ada")]);
}

async fn any_name_has_an_asset(parts: &Parts) {
    let mut assets = Vec::new();
    for name in ["churn", "Churn", "sk-learn RF", "sk_learn_rf", "数据", &"n".repeat(200), "a b", "a-b", "'; DROP TABLE runs; --"] {
        let model = parts.create(name, 1).await;
        assert_eq!((parts.model(name).await.asset, model.name.as_str()), (model.asset.clone(), name));
        assets.push(model.asset);
    }
    assert_eq!((assets[0].to_string().as_str(), assets[3].to_string().as_str()), ("models.churn", "models.sk_learn_rf"));
    let count = assets.len();
    assets.sort();
    assets.dedup();
    assert_eq!(assets.len(), count, "each name has an asset of its own");
}

async fn a_new_name_takes_everything_along(parts: &Parts) {
    let registry = &parts.registry;
    registry.create_model("old", "words", tags(&[("team", "a")]), &ada(), at(1)).await.expect("create");
    parts.version("old", 2).await;
    registry.set_model_version_tag("old", 1, "k", Some("v"), at(2)).await.expect("tag");
    parts.ledger.move_alias(to_alias("models.old", "champion", Some(1)), at(3)).await.expect("alias");
    parts.create("taken", 3).await;
    let fault = registry.rename_model("old", "taken", &ada(), at(4)).await.expect_err("taken");
    assert_eq!((fault.code, fault.message.as_str()), (Code::ALREADY_EXISTS, "Registered Model (name=taken) already exists."));
    assert_eq!(registry.rename_model("nobody", "x", &ada(), at(4)).await.expect_err("unknown").code, Code::UNKNOWN_MODEL);
    assert_eq!(registry.rename_model("old", "a/b", &ada(), at(4)).await.expect_err("no name").code, Code::BAD_VALUE);
    registry.rename_model("old", "old", &ada(), at(4)).await.expect("to itself");
    let renamed = registry.rename_model("old", "new name", &ada(), at(5)).await.expect("rename");
    assert_eq!((renamed.asset.to_string().as_str(), renamed.created_at, renamed.updated_at), ("models.old", at(1), at(5)));
    assert_eq!(
        (renamed.description.as_str(), &renamed.tags, &renamed.aliases),
        ("words", &tags(&[("team", "a")]), &[("champion".to_owned(), 1)].into())
    );
    assert_eq!(registry.registered_model("old").await.expect("read"), None);
    let version = registry.model_version("new name", 1).await.expect("read").expect("there");
    assert_eq!((version.name.as_str(), &version.tags, version.updated_at), ("new name", &tags(&[("k", "v")]), at(5)));
    assert_eq!(version.aliases, ["champion"]);
    assert_eq!(registry.model_version("old", 1).await.expect("read"), None);
    let again = parts.create("old", 6).await;
    assert_ne!(again.asset.to_string(), "models.old", "the asset is taken");
    assert_eq!(parts.version("old", 7).await.id.number, 1);
}

async fn a_deleted_name_goes_on_counting(parts: &Parts) {
    let registry = &parts.registry;
    registry.create_model("m", "", tags(&[("a", "b")]), &ada(), at(1)).await.expect("create");
    parts.version("m", 2).await;
    parts.version("m", 3).await;
    parts.ledger.move_alias(to_alias("models.m", "champion", Some(2)), at(4)).await.expect("alias");
    registry.delete_model("m", &ada(), at(5)).await.expect("delete");
    assert_eq!(registry.registered_model("m").await.expect("read"), None);
    assert_eq!(registry.model_version("m", 1).await.expect("read"), None);
    for fault in [
        registry.delete_model("m", &ada(), at(6)).await.expect_err("twice"),
        registry.describe_model("m", "x", at(6)).await.expect_err("deleted"),
        registry.set_registered_model_tag("m", "a", None, at(6)).await.expect_err("deleted"),
        registry.create_model_version(new_model_version("m", &[]), &ada(), at(6)).await.expect_err("deleted"),
    ] {
        assert_eq!((fault.kind, fault.code), (Kind::NotFound, Code::UNKNOWN_MODEL));
        assert_eq!(fault.message, "Registered Model with name=m not found");
    }
    assert_eq!(parts.ledger.versions(&address("models.m")).await.expect("versions").len(), 2, "the ledger forgets nothing");
    assert!(parts.ledger.aliases(&address("models.m")).await.expect("aliases").is_empty());
    assert_eq!(parts.ledger.alias_history(&address("models.m"), &AliasName::champion()).await.expect("history").len(), 2);
    let again = parts.create("m", 7).await;
    assert!(again.tags.is_empty() && again.asset.to_string() == "models.m");
    assert_eq!(parts.version("m", 8).await.id.number, 3);
    assert_eq!(registry.model_version("m", 2).await.expect("read"), None, "what was deleted stays deleted");
    let fault = parts.ledger.move_alias(to_alias("models.m", "champion", Some(2)), at(9)).await.expect_err("deleted");
    assert_eq!((fault.kind, fault.code), (Kind::NotFound, Code::UNKNOWN_MODEL));
    parts.ledger.verify_audit().await.expect("verify");
}

async fn versions_are_versions_of_the_ledger(parts: &Parts) {
    let registry = &parts.registry;
    parts.create("sk-learn RF", 1).await;
    let files = [("data/model.pkl", Digest::of("y")), ("MLmodel", Digest::of("x"))];
    let new = NewModelVersion {
        run: Some(RunId("client-run".into())),
        run_link: Some("https://elsewhere/1".into()),
        model: Some("m-1".into()),
        description: "words".into(),
        user: Some("ada".into()),
        tags: tags(&[("k", "v")]),
        ..new_model_version("sk-learn RF", &files)
    };
    let made = registry.create_model_version(new.clone(), &ada(), at(5)).await.expect("register");
    assert_eq!((made.name.as_str(), made.id.number, made.stage), ("sk-learn RF", 1, ModelStage::None));
    assert_eq!((&made.source, &made.run, &made.run_link, &made.model), (&new.source, &new.run, &new.run_link, &new.model));
    assert_eq!((&made.description, &made.user, &made.tags, made.aliases.len()), (&new.description, &new.user, &new.tags, 0));
    assert_eq!((made.created_at, made.updated_at), (at(5), at(5)));
    assert_eq!(registry.model_version("sk-learn RF", 1).await.expect("read"), Some(made.clone()));
    assert_eq!(parts.model("sk-learn RF").await.updated_at, at(5));
    // In the ledger it is a version like any other.
    let version = parts.ledger.version(&made.id.asset, &Which::Latest).await.expect("read").expect("there");
    assert_eq!((&version.id, version.made_at), (&made.id, at(5)));
    let manifest = parts.blobs.get(&version.blob().expect("a blob")).await.expect("get").expect("the content is there");
    let manifest = Manifest::read(&manifest).expect("a manifest");
    assert_eq!(manifest.files(), &files.iter().map(|(key, digest)| ((*key).to_owned(), *digest)).collect());
    assert_eq!(version.digest, manifest.digest());
    assert_eq!(version.meta["registered"], serde_json::json!({ "source": new.source, "run": "client-run", "model": "m-1" }));
    let run = parts.ledger.run(&version.run).await.expect("read").expect("its run");
    assert_eq!((run.stage, run.status, &run.address, &run.actor), (StageKind::Register, RunStatus::Succeeded, &made.id.asset, &ada()));
    assert_eq!((run.outputs, run.ended_at), (vec![made.id.clone()], Some(at(5))));
    let lines = parts.ledger.audit(&AuditFilter { after: 1, ..Default::default() }).await.expect("audit");
    assert_eq!(lines.iter().map(|l| l.action.as_str()).collect::<Vec<_>>(), ["run.started", "version.made", "run.finished"]);
    parts.ledger.verify_audit().await.expect("verify");
    // The same files again are another version; other names and numbers are unknown.
    let again = registry.create_model_version(new, &ada(), at(6)).await.expect("register");
    assert_eq!(again.id.number, 2);
    assert_eq!(parts.ledger.version(&again.id.asset, &Which::Latest).await.expect("read").expect("there").digest, version.digest);
    let fault = registry.create_model_version(new_model_version("nobody", &[]), &ada(), at(7)).await.expect_err("unknown");
    assert_eq!(fault.message, "Registered Model with name=nobody not found");
    for number in [0, 3, u64::MAX] {
        assert_eq!(registry.model_version("sk-learn RF", number).await.expect("read"), None);
        let fault = registry.describe_model_version("sk-learn RF", number, "x", at(7)).await.expect_err("unknown");
        assert_eq!(fault.message, format!("Model Version (name=sk-learn RF, version={number}) not found"));
    }
    let bad = new_model_version("sk-learn RF", &[("../x", Digest::of("x"))]);
    assert_eq!(registry.create_model_version(bad, &ada(), at(8)).await.expect_err("no key").code, Code::BAD_PATH);
    assert_eq!(parts.version("sk-learn RF", 9).await.id.number, 3, "a refusal takes no number");
}

async fn numbers_are_given_once(parts: Parts) {
    parts.create("m", 1).await;
    let parts = Arc::new(parts);
    let one = |number: u32| {
        let parts = Arc::clone(&parts);
        async move {
            if number.is_multiple_of(4) {
                drop(parts.train(number, "models.m", &format!("own {number}"), 2).await)
            } else {
                drop(parts.version("m", 2).await)
            }
        }
    };
    join_all((0..16).map(one)).await;
    let numbers = |page: Page<ModelVersion>| page.items.into_iter().map(|version| version.id.number).collect::<Vec<_>>();
    let all = Search { order: vec![by("version_number", true)], ..search(Filter::default()) };
    let found = numbers(parts.registry.search_model_versions(&all).await.expect("search"));
    assert_eq!(found, (1..=16).collect::<Vec<_>>(), "no gaps, no doubles");
    parts.registry.delete_model_version("m", 16, &ada(), at(3)).await.expect("delete");
    parts.registry.delete_model_version("m", 3, &ada(), at(3)).await.expect("delete");
    assert_eq!(parts.version("m", 4).await.id.number, 17, "a number is never given again");
    assert_eq!(parts.registry.delete_model_version("m", 3, &ada(), at(4)).await.expect_err("twice").code, Code::UNKNOWN_MODEL);
    assert_eq!(numbers(parts.registry.search_model_versions(&all).await.expect("search")).len(), 15);
}

async fn aliases_are_the_ledgers(parts: &Parts) {
    let registry = &parts.registry;
    parts.create("m", 1).await;
    parts.version("m", 2).await;
    parts.version("m", 3).await;
    for (alias, number) in [("champion", 2), ("été-2024", 2), ("1a", 1)] {
        parts.ledger.move_alias(to_alias("models.m", alias, Some(number)), at(4)).await.expect("move");
    }
    assert_eq!(parts.model("m").await.aliases, [("champion".to_owned(), 2), ("été-2024".to_owned(), 2), ("1a".to_owned(), 1)].into());
    assert_eq!(registry.model_version("m", 2).await.expect("read").expect("there").aliases, ["champion", "été-2024"]);
    registry.delete_model_version("m", 2, &ada(), at(5)).await.expect("delete");
    assert_eq!(parts.model("m").await.aliases, [("1a".to_owned(), 1)].into());
    assert_eq!(parts.model("m").await.updated_at, at(5));
    let history = parts.ledger.alias_history(&address("models.m"), &AliasName::champion()).await.expect("history");
    assert_eq!((history[0].number, history[0].previous, history[0].actor.clone()), (None, Some(2), ada()));
    let fault = parts.ledger.move_alias(to_alias("models.m", "champion", Some(2)), at(6)).await.expect_err("deleted");
    assert_eq!((fault.kind, fault.code), (Kind::NotFound, Code::UNKNOWN_MODEL));
    parts.ledger.move_alias(to_alias("models.m", "champion", Some(1)), at(6)).await.expect("another");
    let lines = parts.ledger.audit(&AuditFilter { subject: Some("models.m".into()), ..Default::default() }).await.expect("audit");
    let told: Vec<_> = lines.iter().rev().take(4).map(|l| (l.action.as_str(), l.subject.as_str())).collect();
    assert_eq!(
        told,
        [
            ("alias.moved", "models.m@champion"),
            ("version.deleted", "models.m@2"),
            ("alias.moved", "models.m@été-2024"),
            ("alias.moved", "models.m@champion"),
        ]
    );
}

async fn stages_push_others_out(parts: &Parts) {
    let registry = &parts.registry;
    parts.create("m", 1).await;
    for micros in 2..6 {
        parts.version("m", micros).await;
    }
    parts.create("other", 6).await;
    parts.version("other", 6).await;
    let stage = async |name: &str, number| registry.model_version(name, number).await.expect("read").expect("there").stage;
    for (name, number) in [("m", 1), ("m", 2), ("other", 1)] {
        let moved = registry.set_stage(name, number, ModelStage::Production, false, &ada(), at(7)).await.expect("move");
        assert_eq!((moved.stage, moved.updated_at), (ModelStage::Production, at(7)));
    }
    registry.set_stage("m", 4, ModelStage::Staging, true, &ada(), at(7)).await.expect("move");
    registry.set_stage("m", 3, ModelStage::Production, true, &ada(), at(8)).await.expect("move");
    registry.set_stage("m", 3, ModelStage::Production, true, &ada(), at(8)).await.expect("twice");
    let stages = [stage("m", 1).await, stage("m", 2).await, stage("m", 3).await, stage("m", 4).await, stage("other", 1).await];
    use ModelStage::{Archived, Production, Staging};
    assert_eq!(stages, [Archived, Archived, Production, Staging, Production]);
    assert_eq!(registry.model_version("m", 1).await.expect("read").expect("there").updated_at, at(8));
    assert_eq!(parts.model("m").await.updated_at, at(8));
    let fault = registry.set_stage("m", 3, Archived, true, &ada(), at(9)).await.expect_err("not in use");
    assert_eq!((fault.kind, fault.code), (Kind::Invalid, Code::BAD_VALUE));
    let fault = registry.set_stage("m", 9, Staging, false, &ada(), at(9)).await.expect_err("unknown");
    assert_eq!(fault.message, "Model Version (name=m, version=9) not found");
    let lines = parts.ledger.audit(&AuditFilter { subject: Some("models.m@3".into()), ..Default::default() }).await.expect("audit");
    let staged = lines.iter().find(|line| line.action == "version.staged").expect("a line");
    assert_eq!(staged.detail, serde_json::json!({ "from": "None", "to": "Production", "archived": [1, 2] }));
}

async fn words_can_be_changed(parts: &Parts) {
    let registry = &parts.registry;
    parts.create("m", 1).await;
    parts.version("m", 2).await;
    let described = registry.describe_model("m", "better words", at(3)).await.expect("describe");
    assert_eq!((described.description.as_str(), described.updated_at), ("better words", at(3)));
    let described = registry.describe_model_version("m", 1, "its words", at(4)).await.expect("describe");
    assert_eq!((described.description.as_str(), described.updated_at, described.created_at), ("its words", at(4), at(2)));
    let long = "x".repeat(100_000);
    for (key, value) in
        [("a", Some("1")), ("a", Some("2")), ("b", Some("")), ("c", Some("gone")), ("c", None), ("never", None), ("l", Some(long.as_str()))]
    {
        registry.set_registered_model_tag("m", key, value, at(5)).await.expect("tag");
        registry.set_model_version_tag("m", 1, key, value, at(5)).await.expect("tag");
    }
    let expected = tags(&[("a", "2"), ("b", ""), ("l", &long)]);
    assert_eq!(parts.model("m").await.tags, expected);
    assert_eq!(registry.model_version("m", 1).await.expect("read").expect("there").tags, expected);
    assert_eq!(registry.set_registered_model_tag("x", "a", None, at(5)).await.expect_err("unknown").code, Code::UNKNOWN_MODEL);
    assert_eq!(registry.set_model_version_tag("m", 2, "a", None, at(5)).await.expect_err("unknown").code, Code::UNKNOWN_MODEL);
}

async fn what_the_project_trains_is_registered(parts: &Parts) {
    let registry = &parts.registry;
    let first = parts.train(1, "models.churn", "trees", 5).await;
    let model = parts.model("churn").await;
    assert_eq!((model.asset.to_string().as_str(), model.created_at), ("models.churn", at(5)));
    let version = registry.model_version("churn", 1).await.expect("read").expect("there");
    assert_eq!((version.source.as_str(), version.run), ("gristmill:models.churn@1", Some(first)));
    assert_eq!((version.stage, version.created_at, version.updated_at), (ModelStage::None, at(5), at(5)));
    parts.train(2, "models.churn", "trees", 6).await;
    assert_eq!(registry.model_version("churn", 2).await.expect("read"), None, "unchanged is no new version");
    parts.train(3, "models.churn", "more trees", 7).await;
    assert_eq!(parts.model("churn").await.updated_at, at(7));
    // Clients add to it, and cannot take the project's away with the name.
    let theirs = parts.version("churn", 8).await;
    assert_eq!(theirs.id.number, 3);
    let fault = registry.delete_model("churn", &ada(), at(9)).await.expect_err("the project's");
    assert_eq!((fault.kind, fault.code), (Kind::Conflict, Code::BAD_VALUE));
    // A version that was deleted is no answer to the same training.
    registry.delete_model_version("churn", 3, &ada(), at(9)).await.expect("delete");
    let run = parts.train(4, "models.churn", "other trees", 10).await;
    assert_eq!(registry.model_version("churn", 4).await.expect("read").expect("there").run, Some(run));
    registry.delete_model_version("churn", 4, &ada(), at(11)).await.expect("delete");
    parts.train(5, "models.churn", "other trees", 12).await;
    assert!(registry.model_version("churn", 5).await.expect("read").is_some());
    // With them gone the name can go; the next training brings it back.
    for number in [1, 2, 5] {
        registry.delete_model_version("churn", number, &ada(), at(13)).await.expect("delete");
    }
    registry.delete_model("churn", &ada(), at(14)).await.expect("delete");
    parts.train(6, "models.churn", "new trees", 15).await;
    assert_eq!((parts.model("churn").await.created_at, registry.model_version("churn", 6).await.expect("read").is_some()), (at(15), true));
    // A name that somebody took.
    parts.create("x", 16).await;
    registry.rename_model("x", "fare", &ada(), at(17)).await.expect("rename");
    parts.train(7, "models.fare", "trees", 18).await;
    let own = registry.model_of_asset(&address("models.fare")).await.expect("read").expect("registered");
    assert_eq!(own.name, "models.fare");
    // Other assets are no models.
    parts.train(8, "training_sets.fare", "rows", 19).await;
    assert_eq!(registry.model_of_asset(&address("training_sets.fare")).await.expect("read"), None);
    let flows = parts.ledger.runs(&RunFilter { stages: vec![StageKind::Register], ..Default::default() }).await.expect("runs");
    assert_eq!(flows.len(), 1, "only what clients register is a run of its own");
}

fn search(filter: Filter) -> Search {
    Search { experiments: vec![], view: ViewType::ActiveOnly, filter, order: vec![], limit: 100, offset: 0 }
}
fn by(field: &str, ascending: bool) -> OrderBy {
    OrderBy { field: Field::Attribute(field.to_owned()), ascending, dataset: None }
}
fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}
fn test(field: &str, op: Op) -> Filter {
    let field = match field.strip_prefix("tag.") {
        Some(tag) => Field::Tag(tag.to_owned()),
        None => Field::Attribute(field.to_owned()),
    };
    Filter::Test(Test { field, op, or_absent: false })
}
fn or_absent(filter: Filter) -> Filter {
    match filter {
        Filter::Test(test) => Filter::Test(Test { or_absent: true, ..test }),
        other => other,
    }
}

async fn models_are_found(parts: &Parts) {
    let registry = &parts.registry;
    for (name, micros, team) in
        [("beta", 4_000, Some("a")), ("Alpha", 3_000, Some("b")), ("alpha", 2_000, None), ("50%_x", 1_000, Some("a"))]
    {
        let team = team.map(|team| tags(&[("team", team), ("empty", "")])).unwrap_or_default();
        registry.create_model(name, "", team, &ada(), at(micros)).await.expect("create");
    }
    let prompt = tags(&[("mlflow.prompt.is_prompt", "true")]);
    registry.create_model("prompt", "", prompt, &ada(), at(500)).await.expect("create");
    parts.version("alpha", 5_000).await;
    parts.ledger.move_alias(to_alias("models.alpha", "champion", Some(1)), at(5_001)).await.expect("alias");
    let found = async |search: &Search| {
        let page = registry.search_models(search).await.expect("search");
        (page.items.into_iter().map(|model| model.name).collect::<Vec<_>>().join(" "), page.more)
    };
    let filtered = async |filter: Filter| found(&search(filter)).await.0;
    assert_eq!(filtered(Filter::default()).await, "50%_x Alpha alpha beta prompt");
    for (filter, names) in [
        (test("name", Op::Equal(text("alpha"))), "alpha"),
        (test("name", Op::NotEqual(text("alpha"))), "50%_x Alpha beta prompt"),
        (test("name", Op::Like("%a".into())), "Alpha alpha beta"),
        (test("name", Op::Like("A%".into())), "Alpha"),
        (test("name", Op::ILike("ALPH_".into())), "Alpha alpha"),
        (test("name", Op::Like("__\u{25}x".into())), "50%_x"),
        (test("name", Op::In(vec![text("beta"), text("alpha"), text("none")])), "alpha beta"),
        (test("name", Op::In(vec![])), ""),
        (test("name", Op::NotIn(vec![text("beta"), text("alpha")])), "50%_x Alpha prompt"),
        (test("name", Op::Equal(Value::Number(1.0))), ""),
        (test("tag.team", Op::Equal(text("a"))), "50%_x beta"),
        (test("tag.team", Op::NotEqual(text("a"))), "Alpha"),
        (or_absent(test("tag.team", Op::NotEqual(text("a")))), "Alpha alpha prompt"),
        (or_absent(test("tag.team", Op::Equal(text("b")))), "Alpha alpha prompt"),
        (or_absent(test("tag.mlflow.prompt.is_prompt", Op::NotEqual(text("true")))), "50%_x Alpha alpha beta"),
        (test("tag.empty", Op::Equal(text(""))), "50%_x Alpha beta"),
        (test("tag.team", Op::IsNull), "alpha prompt"),
        (test("tag.team", Op::In(vec![text("a"), text("b")])), "50%_x Alpha beta"),
        (Filter::All(vec![test("tag.team", Op::Equal(text("a"))), test("name", Op::Like("b%".into()))]), "beta"),
        (Filter::Any(vec![test("tag.team", Op::Equal(text("b"))), test("name", Op::Equal(text("beta")))]), "Alpha beta"),
        (Filter::Not(Box::new(test("tag.team", Op::Equal(text("a"))))), "Alpha alpha prompt"),
        (test("last_updated_timestamp", Op::GreaterOrEqual(Value::Number(4.0))), "alpha beta"),
        (test("name", Op::Equal(text("' OR 1=1 --"))), ""),
        (test("tag.' OR 1=1 --", Op::Equal(text("a"))), ""),
    ] {
        assert_eq!(filtered(filter.clone()).await, names, "{filter:?}");
    }
    let ordered = async |order: Vec<OrderBy>, limit, offset| found(&Search { order, limit, offset, ..search(Filter::default()) }).await;
    assert_eq!(ordered(vec![by("name", false)], 100, 0).await, ("prompt beta alpha Alpha 50%_x".to_owned(), false));
    assert_eq!(ordered(vec![by("last_updated_timestamp", false)], 2, 0).await, ("alpha beta".to_owned(), true));
    assert_eq!(ordered(vec![by("last_updated_timestamp", false)], 2, 2).await, ("Alpha 50%_x".to_owned(), true));
    assert_eq!(ordered(vec![by("last_updated_timestamp", false)], 2, 4).await, ("prompt".to_owned(), false));
    assert_eq!(ordered(vec![by("creation_timestamp", true)], 3, 0).await, ("prompt 50%_x alpha".to_owned(), true));
    assert!(!ordered(vec![], 5, 0).await.1, "exactly one page");
    assert_eq!(ordered(vec![], 100, 9).await, (String::new(), false));
    // A page brings everything along.
    let page = registry.search_models(&search(test("name", Op::Equal(text("alpha"))))).await.expect("search");
    assert_eq!(page.items, [parts.model("alpha").await]);
    assert_eq!(page.items[0].aliases, [("champion".to_owned(), 1)].into());
    let page = registry.search_models(&search(test("tag.empty", Op::Equal(text(""))))).await.expect("search");
    assert_eq!(page.items[0].tags.len(), 2, "all tags, not only those asked about");
    for bad in [
        search(test("run_id", Op::Equal(text("x")))),
        search(Filter::Not(Box::new(Filter::Any(vec![test("nothing", Op::IsNull)])))),
        search(Filter::Test(Test { field: Field::Metric("auc".into()), op: Op::IsNull, or_absent: false })),
        Search { order: vec![by("stage", true)], ..search(Filter::default()) },
    ] {
        assert_eq!(registry.search_models(&bad).await.expect_err("no such field").code, Code::BAD_FILTER);
    }
}

async fn versions_are_found(parts: &Parts) {
    let registry = &parts.registry;
    for (name, micros) in [("a", 1_000), ("b", 1_000)] {
        parts.create(name, micros).await;
        for number in 1..=3u64 {
            let run = (number < 3).then(|| RunId(format!("run{number}")));
            let new = NewModelVersion {
                run,
                source: format!("mlflow-artifacts:/{name}/{number}"),
                tags: tags(&[("n", &number.to_string())]),
                ..new_model_version(name, &[])
            };
            registry.create_model_version(new, &ada(), at(micros * 10 * number as i64)).await.expect("register");
        }
    }
    registry.set_model_version_tag("a", 2, "only", Some("a2"), at(1)).await.expect("tag");
    parts.train(1, "models.own", "trees", 5_000).await;
    let found = async |search: &Search| {
        let page = registry.search_model_versions(search).await.expect("search");
        (page.items.into_iter().map(|v| format!("{}{}", v.name, v.id.number)).collect::<Vec<_>>().join(" "), page.more)
    };
    let filtered = async |filter: Filter| found(&search(filter)).await.0;
    assert_eq!(filtered(Filter::default()).await, "a3 b3 a2 b2 a1 b1 own1", "last change, then name");
    for (filter, versions) in [
        (test("name", Op::Equal(text("a"))), "a3 a2 a1"),
        (test("name", Op::In(vec![text("b"), text("own")])), "b3 b2 b1 own1"),
        (test("version_number", Op::GreaterOrEqual(Value::Number(3.0))), "a3 b3"),
        (test("version_number", Op::Equal(Value::Number(1.0))), "a1 b1 own1"),
        (test("version_number", Op::Between(Value::Number(2.0), Value::Number(9.0))), "a3 b3 a2 b2"),
        (test("run_id", Op::Equal(text("run1"))), "a1 b1"),
        (test("run_id", Op::NotEqual(text("run1"))), "a2 b2 own1"),
        (test("run_id", Op::In(vec![text("run1"), text("run2")])), "a2 b2 a1 b1"),
        (test("run_id", Op::IsNull), "a3 b3"),
        (test("source_path", Op::Equal(text("mlflow-artifacts:/a/2"))), "a2"),
        (test("source_path", Op::Like("gristmill:%".into())), "own1"),
        (test("tag.n", Op::Equal(text("2"))), "a2 b2"),
        (test("tag.only", Op::Equal(text("a2"))), "a2"),
        (or_absent(test("tag.only", Op::NotEqual(text("a2")))), "a3 b3 b2 a1 b1 own1"),
        (Filter::All(vec![test("name", Op::Equal(text("b"))), test("tag.n", Op::Equal(text("2")))]), "b2"),
        (Filter::All(vec![test("tag.n", Op::Equal(text("2"))), test("tag.only", Op::Like("a%".into()))]), "a2"),
        (Filter::Any(vec![test("name", Op::Equal(text("own"))), test("tag.n", Op::Equal(text("1")))]), "a1 b1 own1"),
        (test("name", Op::Equal(text("x' UNION SELECT 1 --"))), ""),
    ] {
        assert_eq!(filtered(filter.clone()).await, versions, "{filter:?}");
    }
    let ordered = async |order: Vec<OrderBy>, limit, offset| found(&Search { order, limit, offset, ..search(Filter::default()) }).await;
    assert_eq!(ordered(vec![by("name", true)], 100, 0).await.0, "a3 a2 a1 b3 b2 b1 own1");
    assert_eq!(ordered(vec![by("version_number", true), by("name", false)], 4, 0).await, ("own1 b1 a1 b2".to_owned(), true));
    assert_eq!(ordered(vec![by("version_number", true), by("name", false)], 4, 4).await, ("a2 b3 a3".to_owned(), false));
    assert_eq!(ordered(vec![by("creation_timestamp", true)], 2, 0).await.0, "own1 a1");
    registry.set_stage("b", 1, ModelStage::Staging, false, &ada(), at(90_000)).await.expect("stage");
    assert_eq!(ordered(vec![by("last_updated_timestamp", false)], 1, 0).await.0, "b1");
    registry.delete_model_version("a", 3, &ada(), at(90_001)).await.expect("delete");
    assert_eq!(filtered(test("name", Op::Equal(text("a")))).await, "a2 a1");
    parts.ledger.move_alias(to_alias("models.a", "champion", Some(2)), at(90_002)).await.expect("alias");
    let page = registry.search_model_versions(&search(test("tag.n", Op::Equal(text("2"))))).await.expect("search");
    let whole = registry.model_version("a", 2).await.expect("read").expect("there");
    assert_eq!((&page.items[0], whole.tags.len(), whole.aliases.len()), (&whole, 2, 1), "a page brings everything along");
    let bad = search(test("creator", Op::Equal(text("x"))));
    assert_eq!(registry.search_model_versions(&bad).await.expect_err("no such field").code, Code::BAD_FILTER);
}

async fn the_newest_of_each_stage(parts: &Parts) {
    let registry = &parts.registry;
    for name in ["a", "b", "empty"] {
        parts.create(name, 1).await;
    }
    for _ in 0..5 {
        parts.version("a", 2).await;
    }
    parts.version("b", 2).await;
    for (number, stage) in [(1, ModelStage::Staging), (2, ModelStage::Staging), (3, ModelStage::Production)] {
        registry.set_stage("a", number, stage, false, &ada(), at(3)).await.expect("stage");
    }
    registry.delete_model_version("a", 5, &ada(), at(4)).await.expect("delete");
    let names = ["b", "nobody", "a", "empty", "a"].map(str::to_owned);
    let newest = registry.latest_versions(&names).await.expect("newest");
    let told: Vec<_> = newest.iter().map(|v| (v.name.as_str(), v.id.number, v.stage)).collect();
    assert_eq!(
        told,
        [("b", 1, ModelStage::None), ("a", 4, ModelStage::None), ("a", 2, ModelStage::Staging), ("a", 3, ModelStage::Production)]
    );
    assert!(registry.latest_versions(&[]).await.expect("none").is_empty());
}
