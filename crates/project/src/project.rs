//! A project as loaded from its folder: the file with its environment laid over, the views, the label sets, the lock.
//!
//! Invariant: a [`Project`] is whole: every name a model or endpoint uses exists. What needs the engine (SQL, conditions) is
//! looked at by [`crate::graph`] and [`crate::check`].

use crate::file::{ClockMode, File};
use crate::header;
use crate::lock::Lock;
use crate::read::{Places, project_file};
use crate::text::{Text, did_you_mean, nearest};
use gristmill_kernel::error::Spot;
use gristmill_kernel::port::Secrets;
use gristmill_kernel::view::{LabelDef, ViewDef};
use gristmill_kernel::{Code, Fault, ModelChoice, Name};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file's name.
pub const FILE: &str = "gristmill.toml";
/// Largest file of a project that is read as text.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// A loaded project.
#[derive(Clone)]
pub struct Project {
    /// Its folder.
    pub dir: PathBuf,
    /// The chosen environment.
    pub env: Option<String>,
    /// All environments it defines.
    pub envs: Vec<String>,
    /// The file with the environment laid over it.
    pub file: File,
    /// The feature views by name.
    pub views: BTreeMap<Name, ViewDef>,
    /// The label sets by name.
    pub labels: BTreeMap<Name, LabelDef>,
    /// The pinned columns.
    pub lock: Lock,
    /// `gristmill.toml` as read.
    pub text: Text,
    /// The SQL files as read, by path.
    pub sql: BTreeMap<String, Text>,
    /// Where every key stands.
    pub places: Places,
    pub(crate) secrets: Arc<dyn Secrets>,
}

impl std::fmt::Debug for Project {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Project").field("dir", &self.dir).field("env", &self.env).field("name", &self.file.project).finish()
    }
}

impl Project {
    /// The folder with `gristmill.toml`: `start` or the nearest one above it.
    pub fn find(start: &Path) -> Result<PathBuf, Fault> {
        start.ancestors().find(|dir| dir.join(FILE).is_file()).map(Path::to_owned).ok_or_else(|| {
            Fault::not_found(Code::PROJECT_NOT_FOUND, format!("no {FILE} in {} or above it", start.display()))
                .fix("go to a project's folder, name it with --project DIR, or make one: gristmill init DIR --example churn")
        })
    }

    /// Loads a project for an environment. On failure: everything that is wrong with it.
    pub fn load(dir: &Path, env: Option<&str>, secrets: Arc<dyn Secrets>) -> Result<Project, Vec<Fault>> {
        let path = dir.join(FILE);
        if !path.is_file() {
            return Err(vec![
                Fault::not_found(Code::PROJECT_NOT_FOUND, format!("no {FILE} in {}", dir.display()))
                    .fix("name another folder with --project DIR, or make a project: gristmill init DIR --example churn"),
            ]);
        }
        let text = Text::new(FILE, read(&path, FILE).map_err(|f| vec![f])?);
        let mut faults = Vec::new();
        let reading = project_file(&text, env).map_err(|mut f| faults.append(&mut f)).ok();
        let mut sql = BTreeMap::new();
        let views = folder(dir, "features", &mut sql, &mut faults, |t| header::view(t).map(|v| (v.name.clone(), v)));
        let labels = folder(dir, "labels", &mut sql, &mut faults, |t| header::labels(t).map(|l| (l.name.clone(), l)));
        let lock = Lock::load(dir).map_err(|f| faults.push(f)).unwrap_or_default();
        let Some(reading) = reading else { return Err(faults) };
        let project = Project {
            dir: dir.to_owned(),
            env: env.map(str::to_owned),
            envs: reading.envs,
            file: reading.file,
            views,
            labels,
            lock,
            text,
            sql,
            places: reading.places,
            secrets,
        };
        project.names(&mut faults);
        if faults.is_empty() { Ok(project) } else { Err(faults) }
    }

    /// What `now` is when features are asked.
    pub fn clock(&self) -> ClockMode {
        self.file.clock
    }
    /// The values behind `${...}`.
    pub fn secrets(&self) -> &Arc<dyn Secrets> {
        &self.secrets
    }
    /// Where a key stands, for instance `models.churn.labels`; the nearest table above it if the key is left out.
    pub fn spot(&self, path: &str) -> Option<Spot> {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return Some(self.text.spot(place.value.clone()));
            }
            path = path.rsplit_once('.')?.0;
        }
    }
    /// Adds the place of a key to a fault.
    pub fn at(&self, fault: Fault, path: &str) -> Fault {
        match self.spot(path) {
            Some(spot) => fault.at(spot),
            None => fault,
        }
    }
    /// The label set behind `labels/NAME.sql`, as models and monitors write it.
    pub fn label_set(&self, written: &str) -> Option<&LabelDef> {
        self.labels.values().find(|l| l.file == written)
    }

    /// Every name that is used must be defined.
    fn names(&self, faults: &mut Vec<Fault>) {
        for (name, source) in &self.file.sources {
            if self.views.contains_key(name) || self.labels.contains_key(name) || name.as_str() == "request" {
                let what = Fault::invalid(Code::BAD_VALUE, format!("`{name}` names two tables"))
                    .fix("a table name in SQL is one source, view or label set: rename one");
                faults.push(self.at(what, &format!("sources.{name}")));
            }
            if source.from.trim().is_empty() {
                let what = Fault::invalid(Code::BAD_VALUE, format!("sources.{name} comes from nowhere"));
                faults.push(self.at(what.fix("write a path, a glob or a URL"), &format!("sources.{name}.from")));
            }
        }
        for (name, model) in &self.file.models {
            for (i, view) in model.features.iter().enumerate() {
                if !self.views.contains_key(view) {
                    let known = self.views.keys().map(Name::as_str).collect::<Vec<_>>();
                    let what = Fault::not_found(
                        Code::UNKNOWN_NAME,
                        format!("models.{name} uses the view `{view}`, but there is no features/{view}.sql"),
                    );
                    faults.push(self.at(what.fix(did_you_mean(view.as_str(), "views", known)), &format!("models.{name}.features.{i}")));
                }
            }
            if model.features.is_empty() {
                let what = Fault::invalid(Code::BAD_VALUE, format!("models.{name} has no features"));
                faults.push(self.at(what.fix("name at least one view"), &format!("models.{name}.features")));
            }
            if let Some(labels) = &model.labels {
                self.label_file(labels, &format!("models.{name}.labels"), faults);
            }
        }
        for (name, endpoint) in &self.file.endpoints {
            self.model_name(name, &endpoint.model, faults);
            if let Some(outcomes) = &endpoint.monitor.outcomes {
                self.label_file(outcomes, &format!("endpoints.{name}.monitor.outcomes"), faults);
            }
        }
    }

    /// The project's own model must be one of the project's, a registered one must not.
    fn model_name(&self, endpoint: &Name, model: &ModelChoice, faults: &mut Vec<Fault>) {
        let what = match model {
            ModelChoice::Own(name) if !self.file.models.contains_key(name) => {
                let known = self.file.models.keys().map(Name::as_str).collect::<Vec<_>>();
                let fix = match (nearest(name.as_str(), known.iter().copied()), known.is_empty()) {
                    (None, true) => format!("define [models.{name}], or write \"mlflow:{name}@champion\" for a registered model"),
                    _ => did_you_mean(name.as_str(), "models", known),
                };
                let what = format!("endpoints.{endpoint} answers with the model `{name}`, which is not defined");
                Fault::not_found(Code::UNKNOWN_NAME, what).fix(fix)
            }
            ModelChoice::Registered(choice) => match self.file.models.keys().find(|name| name.as_str() == choice.name) {
                Some(own) => {
                    let what = format!("endpoints.{endpoint} answers with {choice}, but models.{own} is a model of this project");
                    Fault::invalid(Code::BAD_VALUE, what)
                        .fix(format!("write model = \"{own}\": the endpoint follows its champion by itself"))
                }
                None => return,
            },
            ModelChoice::Own(_) => return,
        };
        faults.push(self.at(what, &format!("endpoints.{endpoint}.model")));
    }

    fn label_file(&self, written: &str, path: &str, faults: &mut Vec<Fault>) {
        if self.label_set(written).is_none() && !self.sql.contains_key(written) {
            let known = self.labels.values().map(|l| l.file.as_str()).collect::<Vec<_>>();
            let what = Fault::not_found(Code::FILE_NOT_FOUND, format!("there is no label set {written}"));
            faults.push(self.at(what.fix(did_you_mean(written, "label sets", known)), path));
        }
    }
}

/// Reads every `*.sql` in a folder of the project.
fn folder<T>(
    dir: &Path,
    name: &str,
    texts: &mut BTreeMap<String, Text>,
    faults: &mut Vec<Fault>,
    parse: impl Fn(&Text) -> Result<(Name, T), Vec<Fault>>,
) -> BTreeMap<Name, T> {
    let mut found = BTreeMap::new();
    for file in files(&dir.join(name), "sql", faults) {
        let shown = format!("{name}/{file}");
        let text = match read(&dir.join(name).join(&file), &shown) {
            Ok(text) => Text::new(&shown, text),
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        match parse(&text) {
            Ok((key, value)) => drop(found.insert(key, value)),
            Err(mut more) => faults.append(&mut more),
        }
        texts.insert(shown, text);
    }
    found
}

/// The names of the files with an ending in a folder, sorted; no folder has none.
pub(crate) fn files(dir: &Path, ending: &str, faults: &mut Vec<Fault>) -> Vec<String> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => {
            faults.push(Fault::io(format!("read {}", dir.display()), e));
            return Vec::new();
        }
    };
    let mut names: Vec<String> = entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|n| !n.starts_with('.') && Path::new(n).extension().is_some_and(|e| e == ending))
        .collect();
    names.sort();
    names
}

pub(crate) fn read(path: &Path, shown: &str) -> Result<String, Fault> {
    let size = std::fs::metadata(path).map_err(|e| Fault::io(format!("read {shown}"), e))?.len();
    if size > TEXT_BYTES_MAX {
        return Err(Fault::new(
            gristmill_kernel::Kind::TooLarge,
            Code::IO,
            format!("{shown} has {size} bytes, more than {TEXT_BYTES_MAX}"),
        )
        .fix("keep data out of the project's texts"));
    }
    let bytes = std::fs::read(path).map_err(|e| Fault::io(format!("read {shown}"), e))?;
    String::from_utf8(bytes).map_err(|e| {
        Fault::invalid(Code::PROJECT_SYNTAX, format!("{shown} is not UTF-8 at byte {}", e.utf8_error().valid_up_to()))
            .fix("save it as UTF-8")
    })
}
