//! Training sets with known structure, as blobs.

pub mod ports;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use gristmill_kernel::model::Task;
use gristmill_kernel::training::{FeatureColumn, GROUP, LABEL, SPLIT, Split, TIME, TrainingSetMeta};
use gristmill_kernel::view::FeatureType;
use gristmill_train::spec::TrainSpec;
use parquet::arrow::ArrowWriter;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which labels a made-up set has.
#[derive(Clone, Copy, PartialEq)]
pub enum Label {
    Boolean,
    Word,
    Number,
    Relevance,
}

/// Rows with three numbers, a boolean and a category, all with missing values; the label depends on them with noise.
pub fn made_up(rows: usize, label: Label, seed: u64) -> (TrainingSetMeta, bytes::Bytes) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let words = ["red", "green", "blue", "black", "white", "pink", "grey"];
    let mut a: Vec<Option<f64>> = vec![];
    let mut b: Vec<Option<i64>> = vec![];
    let mut c: Vec<Option<f64>> = vec![];
    let mut d: Vec<Option<bool>> = vec![];
    let mut e: Vec<Option<&str>> = vec![];
    let mut signal = vec![];
    for _ in 0..rows {
        let missing = |rng: &mut ChaCha8Rng, share: f64| rng.random::<f64>() < share;
        let (x, n, z) = (rng.random_range(-3.0..3.0f64), rng.random_range(0..20i64), rng.random_range(0.0..1.0f64));
        let (flag, word) = (rng.random::<bool>(), rng.random_range(0..words.len()));
        let x_missing = missing(&mut rng, 0.15);
        let word_missing = missing(&mut rng, 0.1);
        signal.push(
            if x_missing { -1.0 } else { x.sin() * 1.5 + x * 0.3 }
                + (n as f64 - 10.0) * 0.1
                + if word_missing { 0.8 } else { [1.0, -1.0, 0.5, 0.0, -0.5, 1.5, -1.5][word] }
                + if flag { 0.4 } else { -0.4 }
                + rng.random_range(-1.0..1.0),
        );
        a.push((!x_missing).then_some(x));
        b.push((!missing(&mut rng, 0.05)).then_some(n));
        c.push((!missing(&mut rng, 0.3)).then_some(z));
        d.push((!missing(&mut rng, 0.02)).then_some(flag));
        e.push((!word_missing).then_some(words[word]));
    }
    let labels: ArrayRef = match label {
        Label::Boolean => Arc::new(BooleanArray::from_iter(signal.iter().map(|s| Some(*s > 0.3)))),
        Label::Word => Arc::new(StringArray::from_iter_values(signal.iter().map(|s| match s {
            s if *s < -0.8 => "low",
            s if *s < 0.9 => "mid",
            _ => "top",
        }))),
        Label::Number => Arc::new(Float64Array::from_iter_values(signal.iter().map(|s| s * 10.0))),
        Label::Relevance => Arc::new(Int64Array::from_iter_values(signal.iter().map(|s| (s + 1.0).clamp(0.0, 3.0) as i64))),
    };
    let day = 86_400_000_000i64;
    let time = TimestampMicrosecondArray::from_iter_values((0..rows).map(|r| (r * 20 / rows) as i64 * day)).with_timezone("UTC");
    let split = StringArray::from_iter_values((0..rows).map(|r| if r * 20 / rows >= 16 { "test" } else { "train" }));
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("id".into(), Arc::new(Int64Array::from_iter_values(0..rows as i64))),
        (TIME.into(), Arc::new(time)),
        (LABEL.into(), labels),
        (SPLIT.into(), Arc::new(split)),
    ];
    if label == Label::Relevance {
        columns.push((GROUP.into(), Arc::new(StringArray::from_iter_values((0..rows).map(|r| format!("g{}", r / 10))))));
    }
    columns.push(("v.a".into(), Arc::new(Float64Array::from(a))));
    columns.push(("v.b".into(), Arc::new(Int64Array::from(b))));
    columns.push(("v.c".into(), Arc::new(Float64Array::from(c))));
    columns.push(("v.d".into(), Arc::new(BooleanArray::from(d))));
    columns.push(("v.e".into(), Arc::new(StringArray::from(e))));
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let feature = |column: &str, kind| FeatureColumn { view: "v".into(), column: column.into(), kind };
    let meta = TrainingSetMeta {
        format: 1,
        entity: vec!["id".into()],
        features: vec![
            feature("a", FeatureType::Number),
            feature("b", FeatureType::Number),
            feature("c", FeatureType::Number),
            feature("d", FeatureType::Boolean),
            feature("e", FeatureType::Category),
        ],
        split: Split::Time { test: 0.2 },
        known: Default::default(),
        train_rows: 0,
        test_rows: 0,
        test_from: None,
    };
    (meta, parquet(&batch))
}

/// A batch as Parquet.
pub fn parquet(batch: &RecordBatch) -> bytes::Bytes {
    let mut out = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut out, batch.schema(), None).expect("a writer");
    writer.write(batch).expect("written");
    writer.close().expect("closed");
    out.into()
}

/// A spec with nothing special in it.
pub fn spec(algorithm: &str, measure: &str, task: Option<Task>) -> TrainSpec {
    TrainSpec {
        name: "m".parse().expect("a name"),
        train: algorithm.into(),
        task,
        params: BTreeMap::new(),
        tune: None,
        measure: measure.into(),
        slices: vec![],
        balance: false,
        seed: 7,
    }
}
