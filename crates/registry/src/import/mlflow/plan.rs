//! What is missing here of a run that is there: values in, decisions out.
//!
//! Rule: the import adds, it never changes. A value that differs is left as it is here, because people may have changed it since; a run that is
//! still open here follows the state it has there.

use gristmill_kernel::tracking::{Batch, DatasetInput, ModelUse, Point, TrackedRun};
use gristmill_kernel::{RunId, RunStatus, Timestamp, limits};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The tag of a run that an import began and has not finished. It goes away with the last step, so a run without it is complete.
pub const UNFINISHED: &str = "gristmill.import";
/// The tag that remembers where a run's files are, when they stayed where they were.
pub const ELSEWHERE: &str = "gristmill.import.artifact_uri";

/// What has to be written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Todo {
    /// The run is not here at all.
    pub create: bool,
    /// Its files have to be looked at.
    pub files: bool,
    /// The metrics whose histories have to be read.
    pub metrics: Vec<String>,
    /// Parameters.
    pub params: Vec<(String, String)>,
    /// Tags.
    pub tags: Vec<(String, String)>,
    /// Datasets.
    pub datasets: Vec<DatasetInput>,
    /// Logged models it read.
    pub model_inputs: Vec<ModelUse>,
    /// Logged models it made.
    pub model_outputs: Vec<ModelUse>,
    /// State and end.
    pub end: Option<(RunStatus, Option<Timestamp>)>,
    /// Parameters that have another value here.
    pub differing: Vec<String>,
}

impl Todo {
    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        let Todo { create, files, metrics, params, tags, datasets, model_inputs, model_outputs, end, differing: _ } = self;
        !create
            && !files
            && metrics.is_empty()
            && params.is_empty()
            && tags.is_empty()
            && datasets.is_empty()
            && model_inputs.is_empty()
            && model_outputs.is_empty()
            && end.is_none()
    }
}

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Look {
    /// A run whose latest points are here has all its points.
    #[default]
    Latest,
    /// Every history and every file again.
    Everything,
}

/// Whether an import began this run and has not finished it.
pub fn is_unfinished(run: &TrackedRun) -> bool {
    run.tags.contains_key(UNFINISHED)
}

/// Compares a run there with the run here.
pub fn todo(there: &TrackedRun, here: Option<&TrackedRun>, look: Look) -> Todo {
    let Some(here) = here else {
        return Todo {
            create: true,
            files: true,
            metrics: keys(&there.metrics),
            params: pairs(&there.params),
            tags: pairs(&there.tags),
            datasets: there.datasets.clone(),
            model_inputs: there.model_inputs.clone(),
            model_outputs: there.model_outputs.clone(),
            end: ended(there),
            ..Todo::default()
        };
    };
    let whole = is_unfinished(here) || look == Look::Everything;
    let latest: HashMap<&str, &Point> = here.metrics.iter().map(|p| (p.key.as_str(), p)).collect();
    let behind = |p: &&Point| whole || latest.get(p.key.as_str()).is_none_or(|ours| ours.rank() < p.rank());
    let missing = |theirs: &BTreeMap<String, String>, ours: &BTreeMap<String, String>| -> Vec<(String, String)> {
        theirs.iter().filter(|(k, _)| !ours.contains_key(*k)).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    let metrics: Vec<String> = there.metrics.iter().filter(behind).map(|p| p.key.clone()).collect();
    let mut todo = Todo {
        params: missing(&there.params, &here.params),
        tags: missing(&there.tags, &here.tags),
        datasets: there.datasets.iter().filter(|d| !here.datasets.iter().any(|o| o.dataset.key == d.dataset.key)).cloned().collect(),
        model_inputs: there.model_inputs.iter().filter(|m| !here.model_inputs.iter().any(|o| o.model == m.model)).cloned().collect(),
        model_outputs: there.model_outputs.iter().filter(|m| !here.model_outputs.iter().any(|o| o.model == m.model)).cloned().collect(),
        end: ended(there).filter(|(status, _)| !here.status.is_final() && here.status != *status),
        differing: there.params.iter().filter(|(k, v)| here.params.get(*k).is_some_and(|o| o != *v)).map(|(k, _)| k.clone()).collect(),
        metrics,
        ..Todo::default()
    };
    // A run that moved on may have new files; of one that did not they are asked only when everything is.
    todo.files = whole || !todo.is_empty();
    todo
}

fn ended(run: &TrackedRun) -> Option<(RunStatus, Option<Timestamp>)> {
    (run.status != RunStatus::Running || run.ended_at.is_some()).then_some((run.status, run.ended_at))
}

fn keys(points: &[Point]) -> Vec<String> {
    points.iter().map(|p| p.key.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn pairs(map: &BTreeMap<String, String>) -> Vec<(String, String)> {
    map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Points that runs logged about models, to be put where they belong: MLflow keeps each twice, in the run's history and with the model.
#[derive(Debug, Default)]
pub struct ModelPoints {
    by_run: HashMap<RunId, Vec<Point>>,
}

impl ModelPoints {
    /// Adds the points of one model.
    pub fn add(&mut self, points: impl IntoIterator<Item = (Point, RunId)>) {
        for (point, run) in points {
            self.by_run.entry(run).or_default().push(point);
        }
    }
    /// The points of one run, taken out.
    pub fn of(&mut self, run: &RunId) -> RunPoints {
        let mut by_place: HashMap<(String, i64, i64), Vec<Point>> = HashMap::new();
        for point in self.by_run.remove(run).unwrap_or_default() {
            by_place.entry(place(&point)).or_default().push(point);
        }
        RunPoints { by_place }
    }
}

/// The points of one run that are about models.
#[derive(Debug, Default)]
pub struct RunPoints {
    by_place: HashMap<(String, i64, i64), Vec<Point>>,
}

fn place(point: &Point) -> (String, i64, i64) {
    (point.key.clone(), point.step, point.at.micros())
}

impl RunPoints {
    /// A point of the history with the models it is about; itself, if it is about none.
    pub fn with_models(&mut self, point: Point) -> Vec<Point> {
        if point.model.is_some() {
            return vec![point];
        }
        let Some(about) = self.by_place.get_mut(&place(&point)) else { return vec![point] };
        let same = |p: &Point| p.value.total_cmp(&point.value).is_eq() || (p.value.is_nan() && point.value.is_nan());
        let matching: Vec<Point> = about.extract_if(.., |p| same(p)).collect();
        if matching.is_empty() { vec![point] } else { matching }
    }
    /// What no history had.
    pub fn rest(self) -> Vec<Point> {
        self.by_place.into_values().flatten().collect()
    }
}

/// Cuts what is logged into batches that the port takes.
pub fn batches(points: Vec<Point>, params: Vec<(String, String)>, tags: Vec<(String, String)>) -> Vec<Batch> {
    let mut batches = Vec::new();
    let (mut points, mut params, mut tags) = (points.into_iter(), params.into_iter(), tags.into_iter());
    loop {
        let params: Vec<_> = params.by_ref().take(limits::TRACK_BATCH_WORDS_MAX).collect();
        let tags: Vec<_> = tags.by_ref().take(limits::TRACK_BATCH_WORDS_MAX).collect();
        let room = limits::TRACK_BATCH_METRICS_MAX - params.len() - tags.len();
        let batch = Batch { metrics: points.by_ref().take(room).collect(), params, tags };
        if batch == Batch::default() {
            return batches;
        }
        batches.push(batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_kernel::tracking::{ExperimentId, Lifecycle};

    fn point(key: &str, step: i64, value: f64) -> Point {
        Point { key: key.into(), value, at: Timestamp::from_micros(step * 1_000_000), step, model: None, dataset: None }
    }

    fn run() -> TrackedRun {
        let words = |words: &[(&str, &str)]| words.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        TrackedRun {
            id: RunId("a".repeat(32)),
            experiment: ExperimentId(1),
            name: "bold-hen".into(),
            user: "ada".into(),
            status: RunStatus::Succeeded,
            lifecycle: Lifecycle::Active,
            started_at: Some(Timestamp::from_micros(1)),
            ended_at: Some(Timestamp::from_micros(2)),
            params: words(&[("depth", "3")]),
            metrics: vec![point("auc", 2, 0.5)],
            tags: words(&[("a", "1"), ("b", "2")]),
            datasets: vec![],
            model_inputs: vec![],
            model_outputs: vec![],
        }
    }

    #[test]
    fn what_is_here_is_not_written_again() {
        let there = run();
        assert!(todo(&there, None, Look::Latest).create);
        let same = todo(&there, Some(&there), Look::Latest);
        assert!(same.is_empty(), "{same:?}");
        assert_eq!(todo(&there, Some(&there), Look::Everything).metrics, ["auc"]);
    }

    #[test]
    fn only_what_is_missing_is_written() {
        let there = run();
        let mut here = run();
        here.tags.insert("b".into(), "changed here".into());
        here.tags.remove("a");
        here.params.insert("depth".into(), "4".into());
        here.status = RunStatus::Failed;
        let todo = todo(&there, Some(&here), Look::Latest);
        assert_eq!(todo.tags, [("a".to_owned(), "1".to_owned())]);
        assert_eq!((todo.params.len(), todo.end, todo.differing), (0, None, vec!["depth".to_owned()]));
        assert!(todo.metrics.is_empty());
    }

    #[test]
    fn a_run_that_moved_on_or_was_interrupted_is_read_again() {
        let there = run();
        let mut here = run();
        here.metrics = vec![point("auc", 1, 0.9)];
        assert_eq!(todo(&there, Some(&here), Look::Latest).metrics, ["auc"]);
        here.metrics = vec![point("auc", 3, 0.1)];
        assert!(todo(&there, Some(&here), Look::Latest).is_empty());
        here.tags.insert(UNFINISHED.into(), "yes".into());
        let todo = todo(&there, Some(&here), Look::Latest);
        assert!(todo.files && todo.metrics == ["auc"]);
    }

    #[test]
    fn a_point_about_a_model_is_one_point() {
        let mut points = ModelPoints::default();
        let about = |value: f64| Point { model: Some("m-1".into()), ..point("auc", 1, value) };
        let id = RunId("a".repeat(32));
        points.add([(about(0.5), id.clone()), (about(0.7), id.clone()), (about(f64::NAN), id.clone())]);
        let mut of_run = points.of(&id);
        assert_eq!(of_run.with_models(point("auc", 1, 0.5))[0].model.as_deref(), Some("m-1"));
        assert_eq!(of_run.with_models(point("auc", 1, 0.5))[0].model, None);
        assert_eq!(of_run.with_models(point("auc", 1, f64::NAN))[0].model.as_deref(), Some("m-1"));
        assert_eq!(of_run.rest().len(), 1);
    }

    #[test]
    fn batches_keep_the_limits() {
        let points = (0..2_500).map(|i| point("a", i, 0.0)).collect();
        let params = (0..101).map(|i| (i.to_string(), String::new())).collect();
        let batches = batches(points, params, vec![]);
        let sizes: Vec<(usize, usize)> = batches.iter().map(|b| (b.metrics.len(), b.params.len())).collect();
        assert_eq!(sizes, [(900, 100), (999, 1), (601, 0)]);
    }
}
