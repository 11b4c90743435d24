//! The stage: reads the training set and the champion, lets `plan` work on a thread of its own, stores the model file.

use crate::algorithm::Effort;
use crate::plan::{Trained, Work, train};
use crate::search::{Memory, Trial};
use crate::spec::TrainSpec;
use crate::table::TrainingTable;
use async_trait::async_trait;
use gristmill_kernel::error::{Fault, Result};
use gristmill_kernel::limits::{BLOB_BYTES_MAX, MODEL_BYTES_MAX};
use gristmill_kernel::model::ModelFile;
use gristmill_kernel::port::{Ledger, RunFilter};
use gristmill_kernel::run::{Annotation, Metric};
use gristmill_kernel::stage::Made;
use gristmill_kernel::training::TrainingSetMeta;
use gristmill_kernel::version::{Place, Which};
use gristmill_kernel::{Address, AliasName, AssetKind, Digest, Done, NewVersion, Order, RunId, Stage, StageContext, StageKind, Version};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Earlier runs looked through for trials of the same work.
const RUNS_SEEN: usize = 200;
/// What the tag of a trial begins with; its number follows.
const TRIAL: &str = "trial.";

/// Stage train.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrainStage;

#[async_trait]
impl Stage for TrainStage {
    fn kind(&self) -> StageKind {
        StageKind::Train
    }

    async fn run(&self, cx: &StageContext, order: Order) -> Result<Done> {
        let spec: TrainSpec = order.spec()?;
        let input = training_set(&order, &spec)?.clone();
        let content = blob(cx, &input).await?;
        let meta: TrainingSetMeta = serde_json::from_value(input.meta.clone())
            .map_err(|e| Fault::damaged(format!("the record of {} is damaged: {e}", input.id)).because(e))?;
        let champion = champion(cx, &order.node.address).await?;
        let memory = LedgerMemory {
            ledger: cx.ports.ledger.clone(),
            run: order.run.clone(),
            address: order.node.address.clone(),
            here: Handle::current(),
        };
        let (cancel, progress) = (cx.cancel.clone(), cx.progress.clone());
        let trained = tokio::task::spawn_blocking(move || -> Result<Trained> {
            progress.say(&format!("reading {}", input.id));
            let table = TrainingTable::read(meta, content)?;
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let effort = Effort { seed: spec.seed, threads, cancel: &cancel, progress: progress.as_ref() };
            train(&Work { spec: &spec, table: &table, champion, effort, memory: &memory })
        })
        .await
        .map_err(|e| Fault::internal("the training stopped").because(e))??;
        store(cx, order.node.address, trained).await
    }

    fn skippable(&self) -> bool {
        true
    }
}

fn training_set<'a>(order: &'a Order, spec: &TrainSpec) -> Result<&'a Version> {
    let parent = order.node.parents.iter().find(|p| p.kind == AssetKind::TrainingSets);
    let address = parent.cloned().unwrap_or_else(|| Address::new(AssetKind::TrainingSets, spec.name.clone()));
    order.input(&address)
}

async fn blob(cx: &StageContext, version: &Version) -> Result<bytes::Bytes> {
    let digest = version.blob()?;
    let content = cx.ports.blobs.get(&digest).await?;
    let content = content.ok_or_else(|| Fault::damaged(format!("the content of {} is gone: blob {}", version.id, digest.short())))?;
    if content.len() > BLOB_BYTES_MAX {
        return Err(Fault::new(
            gristmill_kernel::Kind::TooLarge,
            gristmill_kernel::Code::UNTRAINABLE,
            format!("{} is larger than {BLOB_BYTES_MAX} bytes", version.id),
        )
        .fix("label fewer moments, or drop features"));
    }
    Ok(content)
}

/// The model behind alias `champion`, with its number.
async fn champion(cx: &StageContext, model: &Address) -> Result<Option<(u64, ModelFile)>> {
    let state = cx.ports.ledger.alias(model, &AliasName::champion()).await?;
    let Some(number) = state.and_then(|s| s.number) else { return Ok(None) };
    let Some(version) = cx.ports.ledger.version(model, &Which::Number(number)).await? else {
        return Err(Fault::damaged(format!("alias champion of {model} names version {number}, which does not exist")));
    };
    let content = blob(cx, &version).await?;
    let file = crate::guard("the model reader", move || ModelFile::read(&content))??;
    Ok(Some((number, file)))
}

async fn store(cx: &StageContext, asset: Address, trained: Trained) -> Result<Done> {
    let bytes = trained.model.write()?;
    if bytes.len() > MODEL_BYTES_MAX {
        return Err(Fault::new(
            gristmill_kernel::Kind::TooLarge,
            gristmill_kernel::Code::UNTRAINABLE,
            format!("the model has {} bytes, the limit is {MODEL_BYTES_MAX}", bytes.len()),
        )
        .fix("train a smaller one: fewer or shallower trees"));
    }
    let size = bytes.len();
    let digest = cx.ports.blobs.put(bytes.into()).await?;
    let version = NewVersion { asset, digest, place: Place::Blob { digest }, rows: None, meta: meta(&trained, size) };
    Ok(Done::Made(Made {
        outputs: vec![version],
        params: trained.params,
        metrics: trained.metrics.into_iter().map(|(key, value)| Metric::new(key, value)).collect(),
        summary: trained.summary,
        ..Made::default()
    }))
}

/// What can be said about a model without reading its file.
fn meta(trained: &Trained, bytes: usize) -> serde_json::Value {
    let model = &trained.model;
    serde_json::json!({
        "format": model.format,
        "algorithm": model.algorithm,
        "task": model.task,
        "classes": model.classes,
        "entity": model.entity,
        "features": model.features.iter().map(crate::reference::qualified).collect::<Vec<_>>(),
        "size": trained.params.get("size"),
        "bytes": bytes,
    })
}

/// Trials as annotations of the open run.
struct LedgerMemory {
    ledger: Arc<dyn Ledger>,
    run: RunId,
    address: Address,
    here: Handle,
}

impl LedgerMemory {
    async fn key(&self) -> Result<Option<Digest>> {
        Ok(self.ledger.run(&self.run).await?.map(|r| r.key))
    }
}

impl Memory for LedgerMemory {
    fn recall(&self) -> Result<BTreeMap<u32, Trial>> {
        self.here.block_on(async {
            let Some(key) = self.key().await? else { return Ok(BTreeMap::new()) };
            let filter =
                RunFilter { stages: vec![StageKind::Train], address: Some(self.address.clone()), limit: RUNS_SEEN, ..RunFilter::default() };
            let mut out = BTreeMap::new();
            // Oldest first: the newest word about a trial stands.
            for run in self.ledger.runs(&filter).await?.into_iter().rev().filter(|r| r.key == key) {
                for (tag, text) in run.tags {
                    // A tag that is no trial of ours is somebody else's note.
                    let number = tag.strip_prefix(TRIAL).and_then(|n| n.parse::<u32>().ok());
                    if let (Some(number), Ok(trial)) = (number, serde_json::from_str(&text)) {
                        out.insert(number, trial);
                    }
                }
            }
            Ok(out)
        })
    }

    fn keep(&self, number: u32, trial: &Trial, measure: &str, value: f64) -> Result<()> {
        let text = serde_json::to_string(trial).map_err(|e| Fault::internal("a trial does not serialise").because(e))?;
        let metrics = vec![
            Metric::new(format!("{TRIAL}{number}.{measure}"), value),
            Metric::new(format!("{TRIAL}{number}.folds"), trial.folds.len() as f64),
        ];
        let note = Annotation { metrics, tags: BTreeMap::from([(format!("{TRIAL}{number}"), text)]), ..Annotation::default() };
        self.here.block_on(self.ledger.annotate(&self.run, note))
    }
}
