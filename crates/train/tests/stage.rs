//! The stage as the runner sees it: ports in, versions, metrics and params out. Also what a bad training set does to it, and tuning.

use crate::common::{Label, made_up, parquet, spec};
use arrow::array::{ArrayRef, BooleanArray, StringArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use gristmill_kernel::model::{ModelFile, Reference};
use gristmill_kernel::stage::{CancelFlag, NoProgress};
use gristmill_kernel::training::{FeatureColumn, LABEL, SPLIT, Split, TIME, TrainingSetMeta};
use gristmill_kernel::view::FeatureType;
use gristmill_kernel::{Code, Result};
use gristmill_train::algorithm::Effort;
use gristmill_train::plan::{Trained, Work, train};
use gristmill_train::search::{Forgetful, Memory, Trial};
use gristmill_train::spec::{Range, Search, TrainSpec, Tune};
use gristmill_train::table::TrainingTable;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

fn run_with(
    spec: &TrainSpec,
    table: &TrainingTable,
    threads: usize,
    champion: Option<(u64, ModelFile)>,
    memory: &dyn Memory,
) -> Result<Trained> {
    let cancel = CancelFlag::default();
    let effort = Effort { seed: spec.seed, threads, cancel: &cancel, progress: &NoProgress };
    train(&Work { spec, table, champion, effort, memory })
}

fn table() -> TrainingTable {
    let (meta, blob) = made_up(1_500, Label::Boolean, 5);
    TrainingTable::read(meta, blob).expect("reads")
}

#[test]
fn a_run_reports_slices_worst_champion_importance_and_profiles() {
    let table = table();
    let mut spec = spec("random_forest", "auc", None);
    spec.params.insert("trees".into(), 20.into());
    spec.slices = vec!["e".into(), "v.d".into()];
    let first = run_with(&spec, &table, 2, None, &Forgetful).expect("trains");
    assert!(!first.metrics.contains_key("champion.auc"));
    let slices: Vec<f64> = first
        .metrics
        .iter()
        .filter(|(k, _)| k.starts_with("slice.") && k.ends_with(".auc") && !k.ends_with("pr_auc"))
        .map(|(_, v)| *v)
        .collect();
    assert!(slices.len() >= 2, "{:?}", first.metrics);
    assert_eq!(first.metrics["worst.auc"], slices.iter().copied().fold(f64::INFINITY, f64::min));
    assert!(first.params["slices_not_judged"].contains("e="), "{:?}", first.params);
    assert_eq!(first.metrics["rows.train"] + first.metrics["rows.test"], 1_500.0);
    let shares: f64 = first.model.importance.values().sum();
    assert!((shares - 1.0).abs() < 1e-9 && first.metrics["importance.v.a"] == first.model.importance["v.a"]);
    assert!(first.summary.starts_with("random_forest 20 trees on 1,200 rows, held out 300: auc 0."), "{}", first.summary);

    let names: Vec<&str> = first.model.reference.keys().map(String::as_str).collect();
    assert_eq!(names, ["score", "v.a", "v.b", "v.c", "v.d", "v.e"]);
    let Reference::Number { edges, counts, missing, sample } = &first.model.reference["v.a"] else { panic!("numbers") };
    assert!(edges.windows(2).all(|w| w[0] < w[1]) && counts.len() == edges.len() + 1);
    assert_eq!(counts.iter().sum::<u64>() + missing, 1_200);
    assert!(*missing > 0 && sample.len() <= 1_000 && sample.is_sorted());
    let Reference::Number { counts, .. } = &first.model.reference["score"] else { panic!("numbers") };
    assert_eq!(counts.iter().sum::<u64>(), 300);

    // Against itself as champion every figure is the same.
    let second = run_with(&spec, &table, 2, Some((4, first.model.clone())), &Forgetful).expect("trains");
    assert_eq!(second.metrics["champion.auc"], second.metrics["auc"]);
    assert_eq!(second.params["champion"], "4");
    let mut older = first.model.clone();
    older.features[1].column = "gone".into();
    let third = run_with(&spec, &table, 2, Some((3, older)), &Forgetful).expect("trains");
    assert!(!third.metrics.contains_key("champion.auc") && third.params["champion_not_compared"].contains("v.gone"));
    assert_eq!(first.model.write().expect("writes"), third.model.write().expect("writes"));
}

#[derive(Default)]
struct Kept(Mutex<BTreeMap<u32, Trial>>, Mutex<Option<u32>>);

impl Memory for Kept {
    fn recall(&self) -> Result<BTreeMap<u32, Trial>> {
        Ok(self.0.lock().expect("lock").clone())
    }
    fn keep(&self, number: u32, trial: &Trial, _: &str, _: f64) -> Result<()> {
        if *self.1.lock().expect("lock") == Some(number) {
            return Err(gristmill_kernel::Fault::internal("killed")); // as good as kill -9 for the trials kept before
        }
        self.0.lock().expect("lock").insert(number, trial.clone());
        Ok(())
    }
}

fn tuned(search: Search, parallel: u32) -> TrainSpec {
    let mut spec = spec("logistic", "auc", None);
    let space = BTreeMap::from([
        ("alpha".to_owned(), Range::Float { low: 0.01, high: 1_000.0 }),
        ("max_iterations".to_owned(), Range::Int { low: 1, high: 60 }),
    ]);
    spec.tune = Some(Tune { trials: 20, search, parallel, space });
    spec
}

#[test]
fn tuning_gives_the_same_model_on_any_number_of_threads_and_after_a_kill() {
    let table = table();
    for search in [Search::Tpe, Search::Random] {
        let alone = run_with(&tuned(search, 1), &table, 1, None, &Forgetful).expect("trains");
        let kept = Kept::default();
        let together = run_with(&tuned(search, 4), &table, 2, None, &kept).expect("trains");
        assert_eq!(alone.model.write().expect("writes"), together.model.write().expect("writes"));
        assert_eq!(alone.params["tune.best_trial"], together.params["tune.best_trial"]);
        assert_eq!(kept.0.lock().expect("lock").len(), 20);

        let broken = Kept(Mutex::default(), Mutex::new(Some(9)));
        run_with(&tuned(search, 1), &table, 1, None, &broken).expect_err("killed");
        *broken.1.lock().expect("lock") = None;
        let before = broken.0.lock().expect("lock").len();
        assert!(before >= 8, "{before} trials before the kill");
        let resumed = run_with(&tuned(search, 1), &table, 1, None, &broken).expect("trains");
        assert_eq!(resumed.metrics["tune.reused"], before as f64);
        assert_eq!(resumed.model.write().expect("writes"), alone.model.write().expect("writes"));
    }
}

#[test]
fn trials_are_pruned_and_the_best_is_kept() {
    let table = table();
    let kept = Kept::default();
    let trained = run_with(&tuned(Search::Tpe, 0), &table, 2, None, &kept).expect("trains");
    let trials = kept.0.lock().expect("lock").clone();
    let pruned = trials.values().filter(|t| t.pruned).count();
    assert!(pruned > 0 && pruned < 20, "{pruned} pruned");
    let mean = |t: &Trial| t.folds.iter().sum::<f64>() / t.folds.len() as f64;
    let best = trials.values().filter(|t| !t.pruned).map(mean).fold(f64::NEG_INFINITY, f64::max);
    assert_eq!(trained.metrics["tune.auc"], best);
}

#[test]
fn a_search_that_makes_no_sense_is_refused() {
    let table = table();
    let mut spec = tuned(Search::Tpe, 1);
    let bad = |range: Range, name: &str, spec: &mut TrainSpec| {
        let tune = spec.tune.as_mut().expect("tune");
        tune.space = BTreeMap::from([(name.to_owned(), range)]);
        run_with(spec, &table, 1, None, &Forgetful).expect_err("refused").code
    };
    assert_eq!(bad(Range::Float { low: 1.0, high: 0.1 }, "alpha", &mut spec), Code::BAD_VALUE);
    assert_eq!(bad(Range::Float { low: 0.1, high: 0.3 }, "learning_rate", &mut spec), Code::UNKNOWN_KEY);
    assert_eq!(bad(Range::Float { low: 1.0, high: 3.5 }, "max_iterations", &mut spec), Code::BAD_VALUE);
    assert_eq!(bad(Range::Choice { choices: vec!["much".into()] }, "alpha", &mut spec), Code::BAD_VALUE);
}

#[test]
fn bad_bytes_are_a_fault_and_never_a_panic() {
    let (meta, good) = made_up(200, Label::Boolean, 1);
    let read = |bytes: Vec<u8>| TrainingTable::read(meta.clone(), bytes.into());
    assert_eq!(read(b"no parquet".to_vec()).expect_err("damage").code, Code::DAMAGED);
    assert!(read(good[..good.len() / 2].to_vec()).is_err());
    // Every tenth byte flipped in turn: an answer or a fault, but the process lives.
    for at in (0..good.len()).step_by(10) {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0xff;
        let _ = read(bytes);
    }
    let mut more = meta.clone();
    more.features.push(FeatureColumn { view: "v".into(), column: "lost".into(), kind: FeatureType::Number });
    let fault = TrainingTable::read(more, good).expect_err("lost");
    assert!(fault.message.contains("v.lost"), "{fault}");
}

fn one_feature(label: ArrayRef, feature: ArrayRef, kind: FeatureType) -> (TrainingSetMeta, bytes::Bytes) {
    let rows = label.len();
    let time = TimestampMicrosecondArray::from_iter_values((0..rows).map(|r| r as i64)).with_timezone("UTC");
    let split = StringArray::from_iter_values((0..rows).map(|r| if r + 1 == rows { "test" } else { "train" }));
    let batch = RecordBatch::try_from_iter(vec![
        ("id", Arc::new(StringArray::from_iter_values((0..rows).map(|r| r.to_string()))) as ArrayRef),
        (TIME, Arc::new(time)),
        (LABEL, label),
        (SPLIT, Arc::new(split)),
        ("v.x", feature),
    ])
    .expect("a batch");
    let features = vec![FeatureColumn { view: "v".into(), column: "x".into(), kind }];
    let split = Split::Time { test: 0.2 };
    let (entity, known) = (vec!["id".into()], Default::default());
    let meta = TrainingSetMeta { format: 1, entity, features, split, known, train_rows: 0, test_rows: 0, test_from: None };
    (meta, parquet(&batch))
}

#[test]
fn sets_that_cannot_be_learnt_say_why() {
    let labels = |v: Vec<Option<bool>>| Arc::new(BooleanArray::from(v)) as ArrayRef;
    let numbers = |v: Vec<f64>| Arc::new(arrow::array::Float64Array::from(v)) as ArrayRef;
    let fault = |label, feature, kind| {
        let (meta, blob) = one_feature(label, feature, kind);
        TrainingTable::read(meta, blob)
            .and_then(|table| run_with(&spec("gbdt", "auc", None), &table, 1, None, &Forgetful))
            .expect_err("untrainable")
    };
    let alternating = || labels(vec![Some(true), Some(false), Some(true), Some(false)]);
    let one_class = fault(labels(vec![Some(true); 4]), numbers(vec![1.0, 2.0, 3.0, 4.0]), FeatureType::Number);
    assert!(one_class.code == Code::UNTRAINABLE && one_class.message.contains("`true`"), "{one_class}");
    let no_label = fault(labels(vec![Some(true), None, Some(true), None]), numbers(vec![1.0; 4]), FeatureType::Number);
    assert!(no_label.message.starts_with("2 rows have no label"), "{no_label}");
    let moment = Arc::new(TimestampMicrosecondArray::from(vec![1, 2, 3, 4]).with_timezone("UTC"));
    let moment = fault(alternating(), moment, FeatureType::Number);
    assert!(moment.message.contains("`v.x`") && moment.fix.expect("a fix").contains("as_of()"));
    let infinite = fault(alternating(), numbers(vec![1.0, f64::INFINITY, 1.0, 2.0]), FeatureType::Number);
    assert!(infinite.fix.expect("a fix").contains("nullif"));
    let constant = fault(alternating(), numbers(vec![1.0; 4]), FeatureType::Number);
    assert!(constant.code == Code::UNTRAINABLE && constant.message.contains("no feature"), "{constant}");
}

#[test]
fn dictionaries_come_from_the_rows_trained_on_by_frequency_then_word() {
    let words = Arc::new(StringArray::from(vec![Some("b"), Some("a"), Some("c"), Some("c"), None, Some("new")]));
    let labels = Arc::new(BooleanArray::from(vec![true, false, true, false, true, false]));
    let (meta, blob) = one_feature(labels, words, FeatureType::Category);
    let table = TrainingTable::read(meta, blob).expect("reads");
    let data = gristmill_train::sample::Dataset::new(&table, None).expect("a data set");
    assert_eq!(data.features[0].categories, ["c", "a", "b"]);
    assert_eq!(data.columns[0][..4], [2.0, 1.0, 0.0, 0.0]);
    assert!(data.columns[0][4].is_nan() && data.columns[0][5].is_nan());
}
