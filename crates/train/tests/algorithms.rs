//! What every algorithm promises, and that a rewritten model answers as the library that fitted it.

use crate::common::{Label, made_up, spec};
use gristmill_kernel::model::{Body, LEAF, Link, ModelFile, Task};
use gristmill_kernel::stage::{CancelFlag, NoProgress};
use gristmill_kernel::{Code, Digest};
use gristmill_train::algorithm::{ALGORITHMS, Effort, find, params::Params};
use gristmill_train::plan::{Trained, Work, train};
use gristmill_train::sample::{Balance, Dataset};
use gristmill_train::search::Forgetful;
use gristmill_train::spec::TrainSpec;
use gristmill_train::table::TrainingTable;
use perpetual::objective::Objective;
use perpetual::{Matrix, PerpetualBooster};
use std::collections::{BTreeMap, HashSet};

fn table(rows: usize, label: Label) -> TrainingTable {
    let (meta, blob) = made_up(rows, label, 3);
    TrainingTable::read(meta, blob).expect("reads")
}

fn run(spec: &TrainSpec, table: &TrainingTable, threads: usize) -> gristmill_kernel::Result<Trained> {
    let cancel = CancelFlag::default();
    let effort = Effort { seed: spec.seed, threads, cancel: &cancel, progress: &NoProgress };
    train(&Work { spec, table, champion: None, effort, memory: &Forgetful })
}

fn small(spec: &mut TrainSpec) {
    let limit = match spec.train.as_str() {
        "gbdt" => ("iteration_limit", 12),
        "random_forest" => ("trees", 20),
        _ => return,
    };
    spec.params.insert(limit.0.into(), limit.1.into());
}

#[test]
fn every_algorithm_learns_every_task_it_lists_and_beats_the_prior() {
    let cases = [
        (Label::Boolean, Task::Binary, "auc", 0.75),
        (Label::Word, Task::Multiclass, "auc_ovr", 0.7),
        (Label::Number, Task::Regression, "r2", 0.25),
        (Label::Relevance, Task::Ranking, "ndcg", 0.8),
    ];
    for (label, task, measure, least) in cases {
        let table = table(1_200, label);
        for algorithm in ALGORITHMS {
            let mut spec = spec(algorithm.name, measure, (task == Task::Ranking).then_some(task));
            small(&mut spec);
            let result = run(&spec, &table, 2);
            if !algorithm.tasks.contains(&task) {
                let fault = result.expect_err("not its task");
                assert_eq!(fault.code, Code::UNTRAINABLE, "{}", algorithm.name);
                assert!(fault.fix.expect("a fix").contains("gbdt"));
                continue;
            }
            let trained = result.unwrap_or_else(|e| panic!("{} on {task:?}: {e}", algorithm.name));
            let value = trained.metrics[measure];
            if algorithm.name != "baseline" {
                assert!(value > least, "{} on {task:?}: {measure} is {value}", algorithm.name);
            }
            assert_eq!(trained.model.task, task);
            let again = ModelFile::read(&trained.model.write().expect("writes")).expect("reads");
            assert_eq!(again, trained.model, "{} on {task:?}", algorithm.name);
            counts_its_rows(&trained.model, Dataset::new(&table, Some(task)).expect("a data set").train.len());
        }
    }
}

/// Every tree says how many rows of the training reach each of its nodes.
fn counts_its_rows(model: &ModelFile, rows: usize) {
    let Body::Forest(forest) = &model.body else { return };
    for tree in &forest.trees {
        assert_eq!((tree.cover.len(), tree.cover[0]), (tree.feature.len(), rows as u64));
        for at in (0..tree.feature.len()).filter(|at| tree.feature[*at] != LEAF) {
            let missing = if tree.missing[at] == 2 { tree.cover[tree.missing_child[at] as usize] } else { 0 };
            let below = tree.cover[tree.left[at] as usize] + tree.cover[tree.right[at] as usize] + missing;
            assert_eq!(tree.cover[at], below, "node {at}");
        }
    }
}

#[test]
fn equal_inputs_give_equal_bytes_on_any_number_of_threads() {
    let table = table(1_500, Label::Boolean);
    for algorithm in ALGORITHMS.iter().filter(|a| a.tasks.contains(&Task::Binary)) {
        let mut spec = spec(algorithm.name, "auc", None);
        small(&mut spec);
        let digest = |threads| Digest::of(run(&spec, &table, threads).expect("trains").model.write().expect("writes"));
        let first = digest(1);
        assert_eq!(first, digest(1), "{}", algorithm.name);
        assert_eq!(first, digest(3), "{} on three threads", algorithm.name);
    }
}

/// perpetual itself, fitted on the very rows `gbdt` sees.
fn library(data: &Dataset, y: &[f64], objective: Objective, params: &BTreeMap<&str, bool>, groups: Option<&[u64]>) -> PerpetualBooster {
    let sample = data.sample(&data.train, Balance::Rows);
    let columns: Vec<f64> = sample.columns.concat();
    let mut booster = PerpetualBooster::default()
        .set_objective(objective)
        .set_budget(0.5)
        .set_max_bin(256)
        .set_num_threads(Some(2))
        .set_create_missing_branch(params.get("missing_branch").copied().unwrap_or(false))
        .set_allow_missing_splits(params.get("missing_splits").copied().unwrap_or(true))
        .set_categorical_features(Some(HashSet::from([4])))
        .set_iteration_limit(Some(30))
        .set_seed(7);
    booster.cfg.memory_limit = Some(1.0);
    booster.cfg.auto_class_weights = false;
    booster.fit(&Matrix::new(&columns, sample.y.len(), sample.columns.len()), y, None, groups).expect("fits");
    booster.regression_head = None;
    booster
}

#[test]
fn gbdt_scores_are_perpetuals_own() {
    let settings: [&[(&str, bool)]; 3] = [&[], &[("missing_branch", true)], &[("missing_splits", false)]];
    for (label, task, objective) in
        [(Label::Boolean, Task::Binary, Objective::LogLoss), (Label::Number, Task::Regression, Objective::SquaredLoss)]
    {
        let table = table(4_000, label);
        let data = Dataset::new(&table, None).expect("a data set");
        for setting in settings {
            let params: BTreeMap<&str, bool> = setting.iter().copied().collect();
            let sample = data.sample(&data.train, Balance::Rows);
            let booster = library(&data, &sample.y, objective.clone(), &params, None);
            let mut written: BTreeMap<String, serde_json::Value> = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
            written.insert("iteration_limit".into(), 30.into());
            written.insert("budget".into(), 0.5.into());
            let algorithm = find("gbdt", task).expect("gbdt");
            let cancel = CancelFlag::default();
            let effort = Effort { seed: 7, threads: 1, cancel: &cancel, progress: &NoProgress };
            let fitted = (algorithm.fit)(&sample, &Params::new(algorithm, &written).expect("params"), &effort).expect("fits");
            let Body::Forest(forest) = &fitted.body else { panic!("a forest") };
            let nodes: usize = forest.trees.iter().map(|t| t.feature.len()).sum();
            assert!(forest.trees.len() > 1 && nodes > 30, "{} trees with {nodes} nodes", forest.trees.len());
            assert!(forest.trees.iter().any(|t| !t.categories.is_empty()), "no split by category");
            if params.contains_key("missing_branch") {
                assert!(forest.trees.iter().any(|t| t.missing.contains(&2)), "no missing branch");
            }
            let model = model(&data, fitted.body.clone(), task);
            let all: Vec<f64> = data.columns.concat();
            let theirs = booster.predict(&Matrix::new(&all, table.rows, data.columns.len()), false);
            let (mut row, mut out, mut missing) = (vec![], [0.0], 0);
            for (at, raw) in theirs.iter().enumerate() {
                data.row(at, &mut row);
                missing += usize::from(row.iter().any(|v| v.is_nan()));
                model.score(&row, &mut out);
                let expected = if task == Task::Binary { 1.0 / (1.0 + (-raw).exp()) } else { *raw };
                assert!((out[0] - expected).abs() <= 1e-9, "row {at}: {} and {expected}", out[0]);
            }
            assert!(missing > 1_000, "{missing} rows with missing values");
        }
    }
}

#[test]
fn gbdt_ranks_as_perpetual_does() {
    let table = table(3_000, Label::Relevance);
    let data = Dataset::new(&table, Some(Task::Ranking)).expect("a data set");
    let sample = data.sample(&data.train, Balance::Rows);
    let groups = sample.group_sizes.clone().expect("groups");
    assert_eq!(groups.iter().sum::<u64>() as usize, data.train.len());
    let booster = library(&data, &sample.y, Objective::ListNetLoss, &BTreeMap::new(), Some(&groups));
    let mut spec = spec("gbdt", "ndcg_5", Some(Task::Ranking));
    spec.params.insert("iteration_limit".into(), 30.into());
    spec.params.insert("budget".into(), 0.5.into());
    let trained = run(&spec, &table, 2).expect("trains");
    let theirs = booster.predict(&Matrix::new(&data.columns.concat(), table.rows, data.columns.len()), false);
    let (mut row, mut out) = (vec![], [0.0]);
    for (at, expected) in theirs.iter().enumerate() {
        data.row(at, &mut row);
        trained.model.score(&row, &mut out);
        assert!((out[0] - expected).abs() <= 1e-9, "row {at}: {} and {expected}", out[0]);
    }
}

fn model(data: &Dataset, body: Body, task: Task) -> ModelFile {
    ModelFile {
        format: 1,
        name: "m".into(),
        algorithm: "gbdt".into(),
        task,
        classes: data.classes.clone(),
        entity: vec![],
        features: data.features.clone(),
        body,
        reference: BTreeMap::new(),
        importance: BTreeMap::new(),
    }
}

#[test]
fn the_baseline_answers_the_prior() {
    let table = table(1_000, Label::Boolean);
    let trained = run(&spec("baseline", "logloss", None), &table, 1).expect("trains");
    let Body::Linear(linear) = &trained.model.body else { panic!("linear") };
    let data = Dataset::new(&table, None).expect("a data set");
    let share = data.train.iter().map(|r| data.y[*r]).sum::<f64>() / data.train.len() as f64;
    assert_eq!((linear.intercept[0], linear.link), (share, Link::Identity));
    assert_eq!(trained.metrics["auc"], 0.5);
}

#[test]
fn balance_weighs_rare_classes_up_or_is_refused() {
    let table = table(1_500, Label::Boolean);
    let mut spec = spec("gbdt", "auc", None);
    small(&mut spec);
    let plain = run(&spec, &table, 2).expect("trains");
    spec.balance = true;
    assert_ne!(run(&spec, &table, 2).expect("trains").model.body, plain.model.body);
    spec.train = "logistic".into();
    spec.params.clear();
    let fault = run(&spec, &table, 2).expect_err("cannot weigh");
    assert!(fault.fix.expect("a fix").contains("gbdt"));
}

#[test]
fn unknown_words_are_refused_with_those_there_are() {
    let table = table(300, Label::Boolean);
    let fault = run(&spec("xgboost", "auc", None), &table, 1).expect_err("unknown");
    assert_eq!(fault.code, Code::UNKNOWN_ALGORITHM);
    assert!(fault.fix.expect("a fix").contains("gbdt, random_forest"));
    let mut wrong = spec("gbdt", "auc", None);
    wrong.params.insert("learning_rate".into(), 0.1.into());
    let fault = run(&wrong, &table, 1).expect_err("unknown");
    assert_eq!(fault.code, Code::UNKNOWN_KEY);
    assert!(fault.fix.expect("a fix").contains("it follows from `budget`; parameters of `gbdt` are budget"));
    let mut wrong = spec("random_forest", "auc", None);
    wrong.params.insert("trees".into(), 0.into());
    assert_eq!(run(&wrong, &table, 1).expect_err("too few").code, Code::BAD_VALUE);
    assert_eq!(run(&spec("gbdt", "rmse", None), &table, 1).expect_err("metric").code, Code::UNKNOWN_ALGORITHM);
}
