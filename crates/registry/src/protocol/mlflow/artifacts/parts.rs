//! Uploads in parts: `mlflow-artifacts/mpu/*`, and the signed addresses that take the parts.
//!
//! A part is an artifact under [`key::PARTS`], which no client can name and no listing shows. The id of an upload is signed with the key it is
//! for and says when it began, so nothing about an upload is kept but its parts; what nobody completes is removed a day later.
//!
//! Completing copies, which may take longer than a client waits. So it goes on when the client leaves, and a client that asks again is told
//! how it ended.

use super::super::wire::artifacts::{AbortUploadAsk, CompleteUploadAsk, CreateUploadAsk, CreatedUpload, Credential, PartAsk};
use super::super::{Mlflow, done, error, request};
use super::key;
use super::send::put;
use super::signed::{Grant, Signed, UploadId, origin};
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, StreamExt, TryStreamExt};
use gristmill_kernel::limits::{UPLOAD_PARTS_MAX, UPLOAD_TIMEOUT_MS};
use gristmill_kernel::port::{ArtifactEntry, ArtifactInfo, ArtifactKey};
use gristmill_kernel::{Fault, Result, Span, Timestamp};
use gristmill_web::{Call, Progress, Response, header, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long an upload may take.
const UPLOAD_TIMEOUT: Span = Span::from_millis(UPLOAD_TIMEOUT_MS);
/// How often leftovers are looked for.
const SWEEP_EVERY: Span = Span::from_secs(60 * 60);
/// How often a client that waits for the copy is told that it moves.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The path of the address of a part.
pub(super) const PART_PATH: &str = "/api/2.0/mlflow-artifacts/parts";

type Ended = Shared<BoxFuture<'static, Result<(), Arc<Fault>>>>;

/// Uploads that are being completed, or were lately.
#[derive(Default)]
pub(crate) struct Completions {
    known: Mutex<HashMap<String, Ended>>,
    swept_at: AtomicI64,
}

impl Completions {
    /// The completion of an upload: the one that is under way or done, else a new one.
    fn join(&self, upload: &UploadId, begin: impl FnOnce() -> Ended) -> Ended {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // One that failed may be tried again.
        if let Some(ended) = known.get(upload.as_str())
            && !matches!(ended.peek(), Some(Err(_)))
        {
            return ended.clone();
        }
        let ended = begin();
        known.insert(upload.as_str().to_owned(), ended.clone());
        ended
    }

    fn forget(&self, before: Timestamp) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, ended| ended.peek().is_none() || UploadId::began(id).is_some_and(|began| began > before));
    }
}

/// `POST mlflow-artifacts/mpu/create/{path}`
pub(crate) async fn create(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let (folder, origin) = (call.param("path")?.to_owned(), origin(&call)?);
    let ask: CreateUploadAsk = request::read(call).await?;
    let key = target(&folder, &ask.path)?;
    let parts = ask.num_parts.map_or(1, |n| n.0);
    let parts = u32::try_from(parts).ok().filter(|n| (1..=UPLOAD_PARTS_MAX).contains(n));
    let parts = parts.ok_or_else(|| error::invalid(format!("num_parts must be between 1 and {UPLOAD_PARTS_MAX}.")))?;
    let now = mlflow.now();
    sweep_now_and_then(&mlflow, now).await;
    let upload = UploadId::new(&mlflow.signed.signer, mlflow.ports.ids.as_ref(), &key, now);
    let until = upload.ends(UPLOAD_TIMEOUT);
    let credential = |part_number| {
        let query = mlflow.signed.signer.query(Grant::Part(upload.as_str(), part_number), until);
        Credential { url: format!("{origin}{PART_PATH}/{}/{part_number}?{query}", upload.as_str()), part_number }
    };
    let credentials = (1..=parts).map(credential).collect();
    json(&CreatedUpload { upload_id: upload.as_str().to_owned(), credentials })
}

/// `PUT mlflow-artifacts/parts/{upload}/{part}?expires=&signature=`: anybody with the address. Nothing of the body is read before the signature
/// was found good.
pub(crate) async fn put_part(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let upload = call.param("upload")?.to_owned();
    let part: u32 = call.param("part")?.parse().map_err(|_| key::invalid_path())?;
    let signed: Signed = call.query()?;
    mlflow.signed.signer.check(Grant::Part(&upload, part), &signed, mlflow.now())?;
    let info = mlflow.artifacts.put_artifact(&part_key(&upload, part)?, call.stream(), mlflow.now()).await?;
    let mut response = done()?;
    put(&mut response, header::ETAG, &tag(&info))?;
    Ok(response)
}

/// `POST mlflow-artifacts/mpu/complete/{path}`: the parts, in order, become the file.
pub(crate) async fn complete(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let (folder, progress) = (call.param("path")?.to_owned(), call.progress());
    let ask: CompleteUploadAsk = request::read(call).await?;
    let key = target(&folder, &ask.path)?;
    let upload = UploadId::parse(ask.upload_id.as_deref().unwrap_or_default(), &mlflow.signed.signer, &key)?;
    let ended = mlflow.signed.completions.join(&upload, || {
        let work = join_parts(mlflow.clone(), key, upload.clone(), ask.parts);
        let task = tokio::spawn(async move { work.await.map_err(Arc::new) });
        task.map(|ended| ended.unwrap_or_else(|e| Err(Arc::new(Fault::internal("completing an upload ended early").because(e)))))
            .boxed()
            .shared()
    });
    wait(ended, progress).await?;
    done()
}

/// `POST mlflow-artifacts/mpu/abort/{path}`
pub(crate) async fn abort(mlflow: Arc<Mlflow>, call: Call) -> Result<Response> {
    let folder = call.param("path")?.to_owned();
    let ask: AbortUploadAsk = request::read(call).await?;
    let key = target(&folder, &ask.path)?;
    let upload = UploadId::parse(ask.upload_id.as_deref().unwrap_or_default(), &mlflow.signed.signer, &key)?;
    mlflow.artifacts.delete_artifacts(&parts_of(upload.as_str())?).await?;
    done()
}

/// The key of an upload. `path` is the file on the client's disk; only its name counts.
fn target(folder: &str, path: &str) -> Result<ArtifactKey> {
    key::file(&format!("{folder}/{}", key::name(path)))
}

fn parts_of(upload: &str) -> Result<ArtifactKey> {
    ArtifactKey::new(&format!("{}/{upload}", key::PARTS)).map_err(|_| key::invalid_path())
}

fn part_key(upload: &str, part: u32) -> Result<ArtifactKey> {
    ArtifactKey::new(&format!("{}/{upload}/{part:05}", key::PARTS)).map_err(|_| key::invalid_path())
}

fn tag(info: &ArtifactInfo) -> String {
    format!("\"{}\"", info.digest.hex())
}

/// Waits for a copy. It copies as fast as the disk lets it and is not the client's business, so the request lives as long as it runs.
async fn wait(ended: Ended, progress: Progress) -> Result<()> {
    let mut ended = ended;
    loop {
        match tokio::time::timeout(HEARTBEAT, &mut ended).await {
            Ok(outcome) => return outcome.map_err(|fault| fault.again()),
            Err(_) => progress.tick(),
        }
    }
}

async fn join_parts(mlflow: Arc<Mlflow>, key: ArtifactKey, upload: UploadId, asked: Vec<PartAsk>) -> Result<()> {
    let mut parts = Vec::with_capacity(asked.len());
    let mut before = 0;
    for part in asked {
        let number = u32::try_from(part.part_number.0).ok().filter(|n| (1..=UPLOAD_PARTS_MAX).contains(n) && *n > before);
        let number = number.ok_or_else(|| error::invalid("Parts must be given once each, in ascending order of their numbers."))?;
        before = number;
        let info = mlflow.artifacts.artifact(&part_key(upload.as_str(), number)?).await?;
        let info = info.filter(|info| part.etag.as_deref().is_none_or(|etag| etag.trim_matches('"') == info.digest.hex()));
        parts.push(info.ok_or_else(|| error::invalid(format!("Part {number} was not uploaded, or is not what was uploaded.")))?);
    }
    match parts.as_slice() {
        [] => return Err(error::invalid("An upload needs at least one part.")),
        [one] => mlflow.artifacts.link_artifact(&key, one.digest, one.bytes, mlflow.now()).await?,
        _ => {
            let artifacts = mlflow.artifacts.clone();
            let pieces = futures::stream::iter(parts).then(move |part| {
                let artifacts = artifacts.clone();
                async move { artifacts.read_artifact(&part.digest, 0..part.bytes).await }
            });
            mlflow.artifacts.put_artifact(&key, pieces.try_flatten().boxed(), mlflow.now()).await?;
        }
    }
    mlflow.artifacts.delete_artifacts(&parts_of(upload.as_str())?).await?;
    Ok(())
}

/// Looks for leftovers, at most once in a while. Failing is no reason to refuse the upload that asked.
async fn sweep_now_and_then(mlflow: &Mlflow, now: Timestamp) {
    let last = mlflow.signed.completions.swept_at.load(Ordering::Relaxed);
    if last + SWEEP_EVERY.micros() > now.micros() || mlflow.signed.completions.swept_at.swap(now.micros(), Ordering::Relaxed) != last {
        return;
    }
    match sweep(mlflow, now).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "removed parts of uploads that nobody completed"),
        Err(fault) => tracing::warn!(code = %fault.code, "parts of old uploads could not be removed: {fault}"),
    }
}

/// Removes the parts of uploads that took too long. Returns how many parts went.
pub(crate) async fn sweep(mlflow: &Mlflow, now: Timestamp) -> Result<u64> {
    let before = now.minus(UPLOAD_TIMEOUT);
    mlflow.signed.completions.forget(before);
    let folder = ArtifactKey::new(key::PARTS).map_err(|e| Fault::internal("the folder of parts has no key").because(e))?;
    let mut removed = 0;
    for entry in mlflow.artifacts.list_artifacts(Some(&folder)).await? {
        if let ArtifactEntry::Folder(upload) = entry
            && UploadId::began(&upload).is_some_and(|began| began < before)
        {
            removed += mlflow.artifacts.delete_artifacts(&parts_of(&upload)?).await?;
        }
    }
    Ok(removed)
}
