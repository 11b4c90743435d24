//! MLflow's folder format: `./mlruns`.
//!
//! ```text
//! EXPERIMENT/meta.yaml, tags/KEY, datasets/ID/meta.yaml          an experiment; deleted ones are in .trash/
//! EXPERIMENT/RUN/meta.yaml, params/KEY, tags/KEY, metrics/KEY    a run; a metric is a line per point: ms value [step [dataset digest]]
//! EXPERIMENT/RUN/inputs/ID/meta.yaml, outputs/ID/meta.yaml       datasets and logged models of a run
//! EXPERIMENT/models/ID/meta.yaml, params/, tags/, metrics/       a logged model: ms value step run [dataset digest]
//! models/NAME/meta.yaml, tags/, aliases/NAME, version-N/         a registered model
//! ```
//!
//! Folders without a `meta.yaml` are somebody else's and passed over.

use super::check;
use super::disk::{self, Folder, Places, blocking};
use super::source::{Content, Counts, Files, Part, Root, Source, SourceModel, SourceRegistered, SourceRun, SourceVersion, unreadable};
use crate::import::yaml::{self, Map, Yaml};
use async_trait::async_trait;
use cap_std::fs::Dir;
use gristmill_kernel::port::{ImportedModel, ImportedVersion};
use gristmill_kernel::tracking::registry::ModelStage;
use gristmill_kernel::tracking::{
    Dataset, DatasetInput, DatasetKey, Experiment, ExperimentId, Lifecycle, LoggedModel, ModelUse, Point, TrackedRun,
};
use gristmill_kernel::{Fault, Result, RunId, RunStatus, Timestamp};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

const META: &str = "meta.yaml";
const TRASH: &str = ".trash";
/// Folders of an experiment that are not runs.
const RESERVED: [&str; 4] = ["tags", "datasets", "traces", "models"];
/// Things of one page.
const PAGE: usize = 200;
/// Points of one page of a history.
const POINTS: usize = 20_000;
/// Longest line of a metric's file.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// An `mlruns` folder.
pub struct MlrunsFolder {
    inner: Arc<Inner>,
    places: Places,
}

struct Inner {
    folder: Folder,
}

impl MlrunsFolder {
    /// Opens it. `artifacts` is where the files of `mlflow-artifacts:` addresses are, if a server kept them.
    pub fn open(path: &Path, artifacts: Option<&Path>) -> Result<MlrunsFolder> {
        let folder = Folder::open(path)?;
        let inner = Inner { folder };
        if inner.experiment_dirs()?.is_empty() && disk::enter(inner.dir(), "models")?.is_none() {
            let fix = match path.join("mlruns").is_dir() {
                true => format!("name the folder itself: {}", path.join("mlruns").display()),
                false => "name the folder that MLflow writes, usually ./mlruns".to_owned(),
            };
            return Err(unreadable(format!("{} has no experiments of MLflow", path.display())).fix(fix));
        }
        let mut folders = vec![Folder::open(path)?];
        if let Some(artifacts) = artifacts {
            folders.insert(0, Folder::open(artifacts)?);
        }
        Ok(MlrunsFolder { inner: Arc::new(inner), places: Places::new(folders) })
    }

    async fn with<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        blocking(move || work(&inner)).await
    }
}

#[async_trait]
impl Source for MlrunsFolder {
    fn about(&self) -> String {
        self.inner.folder.path().display().to_string()
    }
    async fn survey(&self) -> Result<Counts> {
        self.with(Inner::survey).await
    }
    async fn experiments(&self) -> Result<Part<Experiment>> {
        self.with(Inner::experiments).await
    }
    async fn runs(&self, experiment: ExperimentId, from: Option<&str>) -> Result<Part<SourceRun>> {
        let from = from.map(str::to_owned);
        self.with(move |inner| inner.runs(experiment, from)).await
    }
    async fn history(&self, run: &SourceRun, key: &str, from: Option<&str>) -> Result<Part<Point>> {
        let (experiment, id, key) = (run.run.experiment, run.run.id.clone(), key.to_owned());
        let from = from.map(|f| f.parse().map_err(|_| Fault::internal("a page of a history begins nowhere"))).transpose()?;
        self.with(move |inner| inner.history(experiment, &id, &key, from.unwrap_or(0))).await
    }
    async fn logged_models(&self, experiment: ExperimentId, from: Option<&str>) -> Result<Part<SourceModel>> {
        let from = from.map(str::to_owned);
        self.with(move |inner| inner.logged_models(experiment, from)).await
    }
    async fn registered(&self, from: Option<&str>) -> Result<Part<SourceRegistered>> {
        let from = from.map(str::to_owned);
        self.with(move |inner| inner.registered(from)).await
    }
    async fn files(&self, root: &Root) -> Result<Files> {
        self.places.files(root).await
    }
    async fn read(&self, root: &Root, key: &str) -> Result<Content> {
        self.places.read(root, key).await
    }
}

impl Inner {
    fn dir(&self) -> &Dir {
        self.folder.dir()
    }

    /// Experiments with their folders; one that is in the trash and outside is not in the trash.
    fn experiment_dirs(&self) -> Result<BTreeMap<ExperimentId, (Dir, Lifecycle)>> {
        let mut found = BTreeMap::new();
        for (base, lifecycle) in [(TRASH, Lifecycle::Deleted), ("", Lifecycle::Active)] {
            let Some(parent) = disk::enter(self.dir(), base)? else { continue };
            for name in disk::folders(&parent)? {
                let Ok(id) = check::experiment_id(&name) else { continue };
                let Some(dir) = disk::enter(&parent, &name)? else { continue };
                if disk::open(&dir, META)?.is_some() {
                    found.insert(id, (dir, lifecycle));
                }
            }
        }
        Ok(found)
    }

    fn experiment_dir(&self, id: ExperimentId) -> Result<Dir> {
        for base in ["", ".trash/"] {
            if let Some(dir) = disk::enter(self.dir(), &format!("{base}{id}"))? {
                return Ok(dir);
            }
        }
        Err(unreadable(format!("experiment {id} is gone")))
    }

    fn survey(&self) -> Result<Counts> {
        let mut counts =
            Counts { runs: Some(0), points: Some(0), logged_models: Some(0), files: Some(0), bytes: Some(0), ..Counts::default() };
        let add = |sum: &mut Option<u64>, n: u64| *sum = sum.map(|s| s + n);
        for (dir, _) in self.experiment_dirs()?.into_values() {
            counts.experiments += 1;
            for run in run_names(&dir)? {
                let Some(run) = disk::enter(&dir, &run)? else { continue };
                add(&mut counts.runs, 1);
                if let Some(metrics) = disk::enter(&run, "metrics")? {
                    for (key, _) in disk::walk(&metrics)? {
                        add(&mut counts.points, lines(&metrics, &key)?);
                    }
                }
                count_files(&run, &mut counts)?;
            }
            if let Some(models) = disk::enter(&dir, "models")? {
                for name in disk::folders(&models)? {
                    let Some(model) = disk::enter(&models, &name)? else { continue };
                    if disk::open(&model, META)?.is_some() {
                        add(&mut counts.logged_models, 1);
                        count_files(&model, &mut counts)?;
                    }
                }
            }
        }
        if let Some(models) = disk::enter(self.dir(), "models")? {
            for name in disk::folders(&models)? {
                let Some(model) = disk::enter(&models, &name)?.filter(|m| disk::open(m, META).is_ok_and(|f| f.is_some())) else { continue };
                counts.models += 1;
                for version in disk::folders(&model)?.iter().filter(|v| v.starts_with("version-")) {
                    let meta = Meta::read(&model, &format!("{version}/{META}"));
                    counts.versions += u64::from(meta.is_ok_and(|meta| !is_deleted(&meta)));
                }
            }
        }
        Ok(counts)
    }

    fn experiments(&self) -> Result<Part<Experiment>> {
        let mut part = Part::default();
        for (id, (dir, lifecycle)) in self.experiment_dirs()? {
            part.add(|| format!("experiment {id}"), experiment(id, &dir, lifecycle));
        }
        Ok(part)
    }

    fn runs(&self, experiment: ExperimentId, from: Option<String>) -> Result<Part<SourceRun>> {
        let dir = self.experiment_dir(experiment)?;
        page(run_names(&dir)?, from, "run", |name| run(experiment, &dir, name))
    }

    fn history(&self, experiment: ExperimentId, id: &RunId, key: &str, from: u64) -> Result<Part<Point>> {
        let dir = self.experiment_dir(experiment)?;
        let Some(mut file) = disk::open(&dir, &format!("{id}/metrics/{key}"))? else { return Ok(Part::default()) };
        let told = |e| Fault::io(format!("read metric `{}` of run {id}", check::shown(key)), e);
        file.seek(SeekFrom::Start(from)).map_err(told)?;
        let mut reader = BufReader::new(file);
        let mut part = Part::default();
        let mut at = from;
        while part.items.len() + part.skipped.len() < POINTS {
            let mut line = String::new();
            let read = reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line).map_err(told)? as u64;
            if read == 0 {
                return Ok(part);
            }
            at += read;
            if !line.trim().is_empty() {
                part.add(|| format!("a point of metric `{}` of run {id}", check::shown(key)), point(key, &line));
            }
        }
        part.next = Some(at.to_string());
        Ok(part)
    }

    fn logged_models(&self, experiment: ExperimentId, from: Option<String>) -> Result<Part<SourceModel>> {
        let dir = self.experiment_dir(experiment)?;
        let Some(models) = disk::enter(&dir, "models")? else { return Ok(Part::default()) };
        page(with_meta(&models)?, from, "logged model", |name| logged_model(experiment, &models, name))
    }

    fn registered(&self, from: Option<String>) -> Result<Part<SourceRegistered>> {
        let Some(models) = disk::enter(self.dir(), "models")? else { return Ok(Part::default()) };
        page(with_meta(&models)?, from, "registered model", |name| registered(&models, name))
    }
}

/// One page of things that are folders, in the order of their names.
fn page<T>(names: Vec<String>, from: Option<String>, kind: &str, read: impl Fn(&str) -> Result<T>) -> Result<Part<T>> {
    let mut part = Part::default();
    let mut names = names.into_iter().filter(|name| from.as_ref().is_none_or(|from| name > from)).peekable();
    let mut last = None;
    for name in names.by_ref().take(PAGE) {
        match read(&name) {
            // A file that cannot be read now is not the thing's own fault.
            Err(fault) if fault.kind == gristmill_kernel::Kind::Unavailable => return Err(fault),
            outcome => part.add(|| format!("{kind} {}", check::shown(&name)), outcome),
        }
        last = Some(name);
    }
    part.next = last.filter(|_| names.peek().is_some());
    Ok(part)
}

fn with_meta(dir: &Dir) -> Result<Vec<String>> {
    let names = disk::folders(dir)?;
    Ok(names.into_iter().filter(|name| disk::open(dir, &format!("{name}/{META}")).is_ok_and(|f| f.is_some())).collect())
}

fn run_names(dir: &Dir) -> Result<Vec<String>> {
    Ok(with_meta(dir)?.into_iter().filter(|name| !RESERVED.contains(&name.as_str())).collect())
}

fn count_files(dir: &Dir, counts: &mut Counts) -> Result<()> {
    let Some(artifacts) = disk::enter(dir, "artifacts")? else { return Ok(()) };
    for (_, bytes) in disk::walk(&artifacts)? {
        counts.files = counts.files.map(|n| n + 1);
        counts.bytes = counts.bytes.map(|n| n + bytes);
    }
    Ok(())
}

fn lines(dir: &Dir, key: &str) -> Result<u64> {
    let Some(file) = disk::open(dir, key)? else { return Ok(0) };
    let mut reader = BufReader::new(file);
    let mut lines = 0;
    loop {
        let filled = reader.fill_buf().map_err(|e| Fault::io("count points", e))?;
        if filled.is_empty() {
            return Ok(lines);
        }
        lines += filled.iter().filter(|b| **b == b'\n').count() as u64;
        let read = filled.len();
        reader.consume(read);
    }
}

/// The values of a `meta.yaml`.
struct Meta(Map);

impl Meta {
    fn read(dir: &Dir, key: &str) -> Result<Meta> {
        let text = disk::text(dir, key)?.ok_or_else(|| unreadable(format!("there is no {key}")))?;
        yaml::parse(&text).map(Meta).map_err(|fault| unreadable(format!("{key}: {}", fault.message)))
    }
    fn maybe(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Yaml::text)
    }
    fn text(&self, key: &str) -> Result<&str> {
        self.maybe(key).ok_or_else(|| unreadable(format!("{META} has no `{key}`")))
    }
    fn maybe_moment(&self, key: &str) -> Result<Option<Timestamp>> {
        let parsed = self.maybe(key).map(|t| t.parse::<i64>().map_err(|_| unreadable(format!("`{key}` is not a moment")))).transpose()?;
        parsed.map(check::moment).transpose()
    }
    fn moment_or(&self, key: &str, otherwise: Timestamp) -> Result<Timestamp> {
        Ok(self.maybe_moment(key)?.unwrap_or(otherwise))
    }
    fn lifecycle(&self) -> Lifecycle {
        if self.maybe("lifecycle_stage") == Some("deleted") { Lifecycle::Deleted } else { Lifecycle::Active }
    }
    fn texts(&self, key: &str) -> Vec<(String, String)> {
        match self.0.get(key) {
            Some(Yaml::Map(map)) => map.iter().map(|(k, v)| (k.clone(), v.text().unwrap_or_default().to_owned())).collect(),
            _ => Vec::new(),
        }
    }
}

/// When a file was written last: the moment of things whose format is too old to say.
fn written(dir: &Dir, key: &str) -> Timestamp {
    let modified = dir.symlink_metadata(key).and_then(|m| m.modified()).ok();
    let since = modified.and_then(|m| m.into_std().duration_since(std::time::UNIX_EPOCH).ok());
    let millis = since.and_then(|s| i64::try_from(s.as_millis()).ok()).unwrap_or(0);
    check::moment(millis).unwrap_or_default()
}

/// The files of a folder as keys and values.
fn words(dir: &Dir, folder: &str) -> Result<BTreeMap<String, String>> {
    let Some(dir) = disk::enter(dir, folder)? else { return Ok(BTreeMap::new()) };
    let mut words = BTreeMap::new();
    for (key, _) in disk::walk(&dir)? {
        let value = disk::text(&dir, &key)?.unwrap_or_default();
        let (key, value) = check::pair((&key, &value))?;
        words.insert(key, value);
    }
    Ok(words)
}

fn experiment(id: ExperimentId, dir: &Dir, lifecycle: Lifecycle) -> Result<Experiment> {
    let meta = Meta::read(dir, META)?;
    let created_at = meta.moment_or("creation_time", written(dir, META))?;
    Ok(Experiment {
        id,
        name: check::name(meta.text("name")?)?,
        address: None,
        artifact_location: meta.maybe("artifact_location").unwrap_or_default().to_owned(),
        lifecycle: if lifecycle == Lifecycle::Deleted { lifecycle } else { meta.lifecycle() },
        created_at,
        updated_at: meta.moment_or("last_update_time", created_at)?,
        tags: words(dir, "tags")?,
    })
}

fn run(experiment: ExperimentId, experiment_dir: &Dir, name: &str) -> Result<SourceRun> {
    let id = check::run_id(name)?;
    let dir = disk::enter(experiment_dir, name)?.ok_or_else(|| unreadable("it is gone"))?;
    let meta = Meta::read(&dir, META)?;
    // Files of a run may look like a run; a run says who it is.
    if meta.maybe("run_id").or(meta.maybe("run_uuid")) != Some(name) || meta.text("experiment_id")? != experiment.to_string() {
        return Err(unreadable(format!("{META} describes another run than its folder")));
    }
    let tags = words(&dir, "tags")?;
    let named = [meta.maybe("run_name"), meta.maybe("name"), tags.get("mlflow.runName").map(String::as_str)];
    let name = named.into_iter().flatten().find(|n| !n.is_empty()).unwrap_or_default().to_owned();
    let mut run = TrackedRun {
        id,
        experiment,
        name,
        user: meta.maybe("user_id").unwrap_or_default().to_owned(),
        status: meta.maybe("status").map_or(Ok(RunStatus::Running), check::status)?,
        lifecycle: meta.lifecycle(),
        started_at: meta.maybe_moment("start_time")?,
        ended_at: meta.maybe_moment("end_time")?,
        params: words(&dir, "params")?,
        metrics: latest(&dir)?,
        tags,
        datasets: Vec::new(),
        model_inputs: Vec::new(),
        model_outputs: Vec::new(),
    };
    inputs(experiment_dir, &dir, &mut run)?;
    Ok(SourceRun { run, artifacts: meta.maybe("artifact_uri").unwrap_or_default().to_owned() })
}

/// The latest point of each metric.
fn latest(dir: &Dir) -> Result<Vec<Point>> {
    let Some(metrics) = disk::enter(dir, "metrics")? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (key, _) in disk::walk(&metrics)? {
        let key = check::key(&key)?;
        let Some(file) = disk::open(&metrics, &key)? else { continue };
        let mut reader = BufReader::new(file);
        let mut newest: Option<Point> = None;
        loop {
            let mut line = String::new();
            let read = reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line);
            if read.map_err(|e| Fault::io(format!("read metric `{}`", check::shown(&key)), e))? == 0 {
                break;
            }
            // A broken line is named when the history is read.
            let Ok(point) = point(&key, &line) else { continue };
            if newest.as_ref().is_none_or(|n| n.rank() < point.rank()) {
                newest = Some(point);
            }
        }
        found.extend(newest);
    }
    Ok(found)
}

/// `MS VALUE [STEP [DATASET... DIGEST]]`
fn point(key: &str, line: &str) -> Result<Point> {
    let broken = || unreadable(format!("`{}` is not a point", check::shown(line.trim())));
    let parts: Vec<&str> = line.trim().split(' ').collect();
    let (at, value) = match parts.as_slice() {
        [at, value, ..] => (at.parse().map_err(|_| broken())?, value.parse().map_err(|_| broken())?),
        _ => return Err(broken()),
    };
    let dataset = match parts.get(3..) {
        Some([name @ .., digest]) if !name.is_empty() => Some(DatasetKey { name: name.join(" "), digest: (*digest).to_owned() }),
        Some([_]) => return Err(broken()),
        _ => None,
    };
    let step = parts.get(2).map_or(Ok(0), |s| s.parse().map_err(|_| broken()))?;
    Ok(Point { key: key.to_owned(), value, at: check::moment(at)?, step, model: None, dataset })
}

/// `MS VALUE STEP RUN [DATASET... DIGEST]`
fn model_point(model: &str, key: &str, line: &str) -> Result<(Point, RunId)> {
    let mut parts: Vec<&str> = line.trim().split(' ').collect();
    if parts.len() < 4 {
        return Err(unreadable(format!("`{}` is not a point of a model", check::shown(line.trim()))));
    }
    let run = check::run_id(parts.remove(3))?;
    let mut point = point(key, &parts.join(" "))?;
    point.model = Some(model.to_owned());
    Ok((point, run))
}

/// Datasets and logged models of a run.
fn inputs(experiment_dir: &Dir, dir: &Dir, run: &mut TrackedRun) -> Result<()> {
    if let Some(inputs) = disk::enter(dir, "inputs")? {
        for name in with_meta(&inputs)? {
            let meta = Meta::read(&inputs, &format!("{name}/{META}"))?;
            // The id names a folder, so it has to be a plain name.
            let source = check::run_id(meta.text("source_id")?)?.0;
            if meta.text("source_type")? == "MODEL" {
                run.model_inputs.push(ModelUse { model: check::model_id(&source)?, step: 0 });
            } else if let Ok(dataset) = Meta::read(experiment_dir, &format!("datasets/{source}/{META}")) {
                let key = DatasetKey { name: dataset.text("name")?.to_owned(), digest: dataset.text("digest")?.to_owned() };
                let dataset = Dataset {
                    key,
                    source_type: dataset.maybe("source_type").unwrap_or_default().to_owned(),
                    source: dataset.maybe("source").unwrap_or_default().to_owned(),
                    schema: dataset.maybe("schema").map(str::to_owned),
                    profile: dataset.maybe("profile").map(str::to_owned),
                };
                run.datasets.push(DatasetInput { dataset, tags: meta.texts("tags") });
            }
        }
    }
    if let Some(outputs) = disk::enter(dir, "outputs")? {
        for name in with_meta(&outputs)? {
            let meta = Meta::read(&outputs, &format!("{name}/{META}"))?;
            let step = meta.maybe("step").map_or(Ok(0), |s| s.parse().map_err(|_| unreadable("the step of an output is not a number")))?;
            run.model_outputs.push(ModelUse { model: check::model_id(&name)?, step });
        }
    }
    Ok(())
}

fn logged_model(experiment: ExperimentId, models: &Dir, name: &str) -> Result<SourceModel> {
    let id = check::model_id(name)?;
    let dir = disk::enter(models, name)?.ok_or_else(|| unreadable("it is gone"))?;
    let meta = Meta::read(&dir, META)?;
    if meta.text("model_id")? != id || meta.text("experiment_id")? != experiment.to_string() {
        return Err(unreadable(format!("{META} describes another logged model than its folder")));
    }
    let mut metrics = Vec::new();
    if let Some(files) = disk::enter(&dir, "metrics")? {
        for (key, _) in disk::walk(&files)? {
            let key = check::key(&key)?;
            for line in disk::text(&files, &key)?.unwrap_or_default().lines().filter(|l| !l.trim().is_empty()) {
                metrics.push(model_point(&id, &key, line)?);
            }
        }
    }
    let created_at = meta.moment_or("creation_timestamp", written(&dir, META))?;
    let model = LoggedModel {
        experiment,
        name: check::name(meta.text("name")?)?,
        model_type: meta.maybe("model_type").map(str::to_owned),
        source_run: meta.maybe("source_run_id").map(check::run_id).transpose()?,
        status: check::model_status(meta.maybe("status").unwrap_or("0"))?,
        status_message: meta.maybe("status_message").map(str::to_owned),
        lifecycle: meta.lifecycle(),
        created_at,
        updated_at: meta.moment_or("last_updated_timestamp", created_at)?,
        params: words(&dir, "params")?,
        tags: words(&dir, "tags")?,
        metrics,
        id,
    };
    Ok(SourceModel { model, artifacts: meta.maybe("artifact_location").unwrap_or_default().to_owned() })
}

fn registered(models: &Dir, folder: &str) -> Result<SourceRegistered> {
    let dir = disk::enter(models, folder)?.ok_or_else(|| unreadable("it is gone"))?;
    let meta = Meta::read(&dir, META)?;
    let name = check::name(meta.maybe("name").unwrap_or(folder))?;
    let created_at = meta.moment_or("creation_timestamp", written(&dir, META))?;
    let mut aliases = BTreeMap::new();
    for (alias, number) in words(&dir, "aliases")? {
        let number = number.trim().parse().map_err(|_| unreadable(format!("alias `{}` names no version", check::shown(&alias))))?;
        aliases.insert(alias, check::number(number)?);
    }
    let mut versions = Vec::new();
    for folder in disk::folders(&dir)?.into_iter().filter(|f| f.starts_with("version-")) {
        let Some(dir) = disk::enter(&dir, &folder)? else { continue };
        versions.extend(version(&name, &dir)?);
    }
    let model = ImportedModel {
        name,
        description: meta.maybe("description").unwrap_or_default().to_owned(),
        created_at,
        updated_at: meta.moment_or("last_updated_timestamp", created_at)?,
        tags: words(&dir, "tags")?,
    };
    Ok(SourceRegistered { model, aliases, versions })
}

/// A version, unless it was deleted: its folder stays, so that its number is not given again.
fn version(name: &str, dir: &Dir) -> Result<Option<SourceVersion>> {
    let meta = Meta::read(dir, META)?;
    if is_deleted(&meta) {
        return Ok(None);
    }
    let number = meta.text("version")?.parse().map_err(|_| unreadable("the number of a version is not a number"))?;
    let created_at = meta.moment_or("creation_timestamp", written(dir, META))?;
    let some = |key: &str| meta.maybe(key).filter(|t| !t.is_empty()).map(str::to_owned);
    let version = ImportedVersion {
        name: name.to_owned(),
        number: check::number(number)?,
        source: meta.maybe("source").unwrap_or_default().to_owned(),
        run: some("run_id").map(|r| check::run_id(&r)).transpose()?,
        run_link: some("run_link"),
        model: some("model_id").map(|m| check::model_id(&m)).transpose()?,
        description: meta.maybe("description").unwrap_or_default().to_owned(),
        user: some("user_id"),
        stage: meta.maybe("current_stage").and_then(ModelStage::parse).unwrap_or_default(),
        created_at,
        updated_at: meta.moment_or("last_updated_timestamp", created_at)?,
        tags: words(dir, "tags")?,
        files: Vec::new(),
    };
    Ok(Some(SourceVersion { version, location: some("storage_location") }))
}

fn is_deleted(version: &Meta) -> bool {
    version.maybe("current_stage") == Some("Deleted_Internal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_have_two_three_or_more_parts() {
        let read = |line: &str| point("auc", line).unwrap();
        assert_eq!((read("1000 0.5\n").value, read("1000 0.5\n").step), (0.5, 0));
        assert_eq!((read("1000 1e-05 -7\n").step, read("1000 1e-05 -7\n").at.millis()), (-7, 1000));
        assert!(read("1 nan 0").value.is_nan() && read("1 -inf 0").value == f64::NEG_INFINITY);
        assert_eq!(read("1 2 3 my data abc").dataset, Some(DatasetKey { name: "my data".into(), digest: "abc".into() }));
        for bad in ["", "1", "x 2", "1 x", "1 2 x", "1 2 3 x", "9223372036854775807 1 0"] {
            assert!(point("auc", bad).is_err(), "{bad}");
        }
        let (point, run) = model_point("m-1", "auc", "1 2 3 abc data d1").unwrap();
        assert_eq!((point.step, run.0.as_str(), point.dataset.map(|d| d.name)), (3, "abc", Some("data".into())));
    }
}
