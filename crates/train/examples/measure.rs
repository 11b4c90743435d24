//! Trains on a training set in a folder (`set.parquet`, `meta.json`) and prints the figures: `measure FOLDER ALGORITHM [PARAMS AS JSON] [TUNE AS JSON]`.

use gristmill_kernel::stage::{CancelFlag, NoProgress};
use gristmill_train::algorithm::Effort;
use gristmill_train::plan::{Work, train};
use gristmill_train::search::Forgetful;
use gristmill_train::spec::TrainSpec;
use gristmill_train::table::TrainingTable;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, algorithm, rest @ ..] = args.as_slice() else { return Err("measure FOLDER ALGORITHM [PARAMS] [TUNE]".into()) };
    let json = |at: usize, missing: &str| serde_json::from_str(rest.get(at).map_or(missing, String::as_str));
    let params: serde_json::Value = json(0, "{}")?;
    let tune: serde_json::Value = json(1, "null")?;
    let spec: TrainSpec = serde_json::from_value(serde_json::json!({
        "name": "measured", "train": algorithm, "task": null, "params": params, "tune": tune,
        "measure": "auc", "slices": [], "balance": false, "seed": 1
    }))?;
    let meta = serde_json::from_slice(&std::fs::read(format!("{folder}/meta.json"))?)?;
    let began = Instant::now();
    let table = TrainingTable::read(meta, std::fs::read(format!("{folder}/set.parquet"))?.into())?;
    let read = began.elapsed();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let cancel = CancelFlag::default();
    let effort = Effort { seed: spec.seed, threads, cancel: &cancel, progress: &NoProgress };
    let trained = train(&Work { spec: &spec, table: &table, champion: None, effort, memory: &Forgetful })?;
    println!("{}", trained.summary);
    println!("read {:.2} s, all {:.2} s, model {} bytes", read.as_secs_f64(), began.elapsed().as_secs_f64(), trained.model.write()?.len());
    for (name, value) in trained.metrics.iter().filter(|(name, _)| !name.starts_with("worst.") && !name.starts_with("train.")) {
        println!("  {name} {value:.4}");
    }
    Ok(())
}
