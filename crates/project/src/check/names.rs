//! Names, files and values that hang together: checked without SQL.

use super::Diagnostic;
use crate::figures;
use crate::file::{Endpoint, Rollout, RolloutTable, SplitBy};
use crate::project::Project;
use crate::resolve::{ALGORITHMS, measure};
use crate::secrets;
use crate::text::did_you_mean;
use gristmill_kernel::experiment::Measure;
use gristmill_kernel::limits::{PREDICT_ROWS_MAX, TUNE_TRIALS_MAX};
use gristmill_kernel::model::Task;
use gristmill_kernel::view::ViewAt;
use gristmill_kernel::{Code, Fault, Name, Span};
use std::path::Path;

/// Files exist.
pub(super) fn sources(project: &Project, found: &mut Vec<Diagnostic>) {
    for (name, source) in &project.file.sources {
        let path = format!("sources.{name}.from");
        let from = source.from.strip_prefix("replay://").or(source.from.strip_prefix("file://")).unwrap_or(&source.from);
        let from = from.split('?').next().filter(|_| source.from.starts_with("replay://")).unwrap_or(from);
        if from.contains("://") || from.starts_with("push:") || from.contains("${") || from.is_empty() {
            continue;
        }
        if !exists(&project.dir, from) {
            let fault = Fault::not_found(Code::FILE_NOT_FOUND, format!("sources.{name} reads {from}, but there is no such file"));
            let fix = near_file(&project.dir, from)
                .map_or_else(|| "check the path: it starts at the project's folder".to_owned(), |near| format!("did you mean `{near}`?"));
            found.push(Diagnostic::error(project.at(fault.fix(fix), &path)));
        }
    }
}

/// Algorithms, metrics, splits, searches, entities.
pub(super) fn models(project: &Project, found: &mut Vec<Diagnostic>) {
    for (name, model) in &project.file.models {
        let mut error = |fault: Fault, key: &str| found.push(Diagnostic::error(project.at(fault, &format!("models.{name}.{key}"))));
        if model.train.ends_with(".py") {
            if !project.dir.join(&model.train).is_file() {
                error(Fault::not_found(Code::FILE_NOT_FOUND, format!("there is no script {}", model.train)).fix("check the path"), "train");
            }
        } else if !ALGORITHMS.contains(&model.train.as_str()) {
            let fault = Fault::invalid(Code::UNKNOWN_ALGORITHM, format!("`{}` is no algorithm", model.train));
            error(fault.fix(did_you_mean(&model.train, "algorithms", ALGORITHMS)), "train");
        }
        let measure = measure(model);
        if !figures::is_metric(&measure, model.task) {
            let fault = Fault::invalid(Code::UNKNOWN_ALGORITHM, format!("`{measure}` is no metric"));
            error(fault.fix(did_you_mean(&measure, "metrics", figures::metrics(model.task))), "measure");
        }
        if model.split.test.0 <= 0.0 || model.split.test.0 >= 1.0 {
            error(Fault::invalid(Code::BAD_VALUE, "the share held out must be above 0 and below 1").fix("write test = 0.2"), "split.test");
        }
        if model.split.by == SplitBy::Group && model.split.column.is_none() && model.group.is_none() {
            error(Fault::invalid(Code::BAD_VALUE, "a split by group needs a column").fix("add column = \"...\""), "split");
        }
        if let Some(tune) = &model.tune {
            if !(1..=TUNE_TRIALS_MAX).contains(&tune.trials) {
                error(
                    Fault::invalid(Code::BAD_VALUE, format!("`trials` must be from 1 to {TUNE_TRIALS_MAX}")).fix("write trials = 30"),
                    "tune.trials",
                );
            }
            if tune.space.is_empty() {
                error(Fault::invalid(Code::BAD_VALUE, "`tune` searches nothing").fix("add a range: learning_rate = \"0.01..0.3\""), "tune");
            }
            for key in tune.space.keys().filter(|k| model.params.contains_key(*k)) {
                let fault = Fault::invalid(Code::BAD_VALUE, format!("`{key}` is both fixed in `params` and searched in `tune`"));
                error(fault.fix("remove one of the two"), &format!("tune.{key}"));
            }
        }
        if let Some(retrain) = &model.retrain {
            if retrain.every.is_none() && retrain.when.is_none() {
                error(Fault::invalid(Code::BAD_VALUE, "`retrain` never happens").fix("add every = \"7d\" or when = \"drift\""), "retrain");
            }
            if let Some(every) = &retrain.every
                && every.parse::<Span>().is_err()
                && every.parse::<croner::Cron>().is_err()
            {
                let fault = Fault::invalid(Code::BAD_VALUE, format!("`{every}` is neither a duration nor a cron line"));
                error(fault.fix("write \"7d\", or a cron line in UTC such as \"0 3 * * 1\""), "retrain.every");
            }
        }
        let Some(labels) = model.labels.as_ref().and_then(|l| project.label_set(l)) else { continue };
        let asks = model.features.iter().filter_map(|v| project.views.get(v)).any(|v| v.at == ViewAt::Request);
        for (i, view) in model.features.iter().enumerate().filter_map(|(i, v)| Some((i, project.views.get(v)?))) {
            if let Some(missing) = view.entity.iter().find(|c| !labels.entity.contains(c)).filter(|_| !asks) {
                let fault = Fault::invalid(
                    Code::BAD_VALUE,
                    format!(
                        "the view `{}` is about `{missing}`, which the entity of {} lacks ({})",
                        view.name,
                        labels.file,
                        labels.entity.join(", ")
                    ),
                );
                error(fault.fix(format!("give both the same entity, or add `{missing}` to the labels")), &format!("features.{i}"));
            }
        }
    }
}

/// What is wrong with an experiment, each with its key.
fn experiment(project: &Project, endpoint: &Endpoint, table: &RolloutTable) -> Vec<(&'static str, Fault)> {
    let wrong = |what: &str, fix: &str| Fault::invalid(Code::BAD_VALUE, what.to_owned()).fix(fix.to_owned());
    let Some(share) = table.ab else {
        let keys = [("decide", table.decide.is_some()), ("after", table.after.is_some()), ("confidence", table.confidence.is_some())];
        let lost = keys.into_iter().filter(|(_, given)| *given);
        return lost
            .map(|(key, _)| {
                (key, wrong(&format!("only an experiment has `{key}`"), "write { ab = \"50%\", decide = \"NAME\" }, of a label set"))
            })
            .collect();
    };
    let mut found = Vec::new();
    if !(1..1_000).contains(&share.0) {
        found.push(("ab", wrong("an experiment leaves both versions something to answer", "write ab = \"50%\"")));
    }
    if table.confidence.is_some_and(|confidence| !(500..1_000).contains(&confidence.0)) {
        found.push(("confidence", wrong("a decision is between 50% and 99.9% sure", "write confidence = \"95%\"")));
    }
    let Some(model) = endpoint.model.own() else {
        let what = "nothing is known of what happens to those whom a registered model answers";
        found.push(("ab", wrong(what, "give the model to the project, or use { canary = [\"5%\", \"100%\"], every = \"30m\" }")));
        return found;
    };
    let task = project.file.models.get(model).and_then(|model| model.task);
    let names = || project.labels.keys().map(Name::as_str);
    match (&table.decide, crate::resolve::decide(project, endpoint)) {
        (None, _) => {
            let first = names().next().unwrap_or("NAME");
            let fix = format!("add decide = \"more {first}\" or \"less {first}\": a label set, or accuracy, logloss, mae, mse");
            found.push(("ab", wrong("the experiment does not say what decides", &fix)));
        }
        (Some(text), None) if Measure::OF_PREDICTIONS.iter().any(|by| by.as_str() == text.trim()) => {
            found.push((
                "decide",
                wrong("no label set says what happened", "add monitor = { outcomes = \"labels/NAME.sql\" } to the endpoint"),
            ));
        }
        (Some(text), None) => {
            let name = text.trim().split_once(' ').map_or(text.trim(), |(_, name)| name.trim());
            let fix = did_you_mean(name, "label sets", names());
            found.push(("decide", Fault::invalid(Code::BAD_VALUE, format!("there is no label set `{name}`")).fix(fix)));
        }
        (Some(_), Some(decide)) => {
            let (fits, fix) = match decide.by {
                Measure::More | Measure::Less => (true, ""),
                Measure::Accuracy => (matches!(task, None | Some(Task::Binary | Task::Multiclass)), "write decide = \"mae\" or \"mse\""),
                Measure::Logloss => {
                    (matches!(task, None | Some(Task::Binary)), "write decide = \"accuracy\" for classes, \"mae\" for values")
                }
                Measure::Mae | Measure::Mse => (matches!(task, None | Some(Task::Regression)), "write decide = \"accuracy\""),
            };
            if !fits {
                found.push(("decide", wrong(&format!("`{decide}` cannot be told of what models.{model} predicts"), fix)));
            }
            let about = |labels: &Name| project.labels.get(labels).map(|labels| labels.entity.clone());
            let own =
                project.file.models.get(model).and_then(|m| project.label_set(m.labels.as_ref()?)).map(|labels| labels.entity.clone());
            if own.is_some() && about(&decide.labels) != own {
                let what = format!("the label set `{}` is about other entities than the model", decide.labels);
                found.push(("decide", wrong(&what, "give both the same entity")));
            }
        }
    }
    found
}

/// Rollouts go up to everybody.
pub(super) fn endpoints(project: &Project, found: &mut Vec<Diagnostic>) {
    for (name, endpoint) in &project.file.endpoints {
        let mut error = |fault: Fault, key: &str| found.push(Diagnostic::error(project.at(fault, &format!("endpoints.{name}.{key}"))));
        if let Rollout::Table(table) = &endpoint.rollout {
            let kinds = [table.canary.is_some(), table.shadow.is_some(), table.blue_green.is_some(), table.ab.is_some()];
            if kinds.iter().filter(|kind| **kind).count() != 1 {
                let fault = Fault::invalid(Code::BAD_VALUE, "a rollout is exactly one of `canary`, `shadow`, `blue_green` and `ab`");
                error(fault.fix("write { canary = [\"5%\", \"25%\", \"100%\"], every = \"30m\" }"), "rollout");
            }
            let copies = table.shadow.is_some() || table.blue_green.is_some();
            for (key, given, fits) in
                [("sample", table.sample.is_some(), copies), ("preview", table.preview.is_some(), table.blue_green.is_some())]
            {
                if given && !fits {
                    let fault = Fault::invalid(Code::BAD_VALUE, format!("this kind of rollout has no `{key}`"));
                    error(fault.fix(format!("remove `{key}`: it says how a new version is shown copies")), &format!("rollout.{key}"));
                }
            }
            for (path, fault) in experiment(project, endpoint, table) {
                error(fault, &format!("rollout.{path}"));
            }
            if let Some(steps) = &table.canary {
                let ascending = steps.windows(2).all(|w| w[0] < w[1]);
                if !ascending || steps.last().is_none_or(|last| last.0 != 1000) {
                    let fault = Fault::invalid(Code::BAD_VALUE, "the shares of a canary must rise and end with 100%");
                    error(fault.fix("write canary = [\"5%\", \"25%\", \"100%\"]"), "rollout.canary");
                }
            }
        }
        for (value, key) in [(endpoint.limits.timeout, "limits.timeout"), (endpoint.monitor.every, "monitor.every")] {
            if value.micros() == 0 {
                error(Fault::invalid(Code::BAD_VALUE, format!("`{key}` may not be zero")).fix("write for instance \"1h\""), key);
            }
        }
        if let Some(batch) = &endpoint.batch {
            if batch.rows < 2 || batch.rows as usize > PREDICT_ROWS_MAX {
                let fault =
                    Fault::invalid(Code::BAD_VALUE, format!("a call of a model takes 2 to {PREDICT_ROWS_MAX} rows of several requests"));
                error(fault.fix("write for instance batch = { rows = 64 }"), "batch.rows");
            }
            if batch.delay >= endpoint.limits.timeout {
                let fault = Fault::invalid(Code::BAD_VALUE, "`batch.delay` is as long as a request may take");
                error(fault.fix("write for instance \"500us\", or leave it out: nobody waits then"), "batch.delay");
            }
        }
        if endpoint.limits.in_flight == 0 {
            error(Fault::invalid(Code::BAD_VALUE, "`in_flight` may not be zero").fix("leave it out for the default"), "limits.in_flight");
        }
    }
}

/// `${...}` have values; nothing looks like a secret in the clear.
pub(super) fn secrets(project: &Project, found: &mut Vec<Diagnostic>) {
    let file = &project.file;
    let mut texts: Vec<(String, &str)> = Vec::new();
    for (key, value) in [("storage", &file.storage), ("ledger", &file.ledger), ("online", &file.online), ("engine", &file.engine)] {
        texts.extend(value.iter().map(|v| (key.to_owned(), v.as_str())));
    }
    texts.extend(file.sources.iter().map(|(n, s)| (format!("sources.{n}.from"), s.from.as_str())));
    texts.extend(file.alerts.to.0.iter().enumerate().map(|(i, t)| (format!("alerts.to.{i}"), t.as_str())));
    texts.extend(file.endpoints.iter().filter_map(|(n, e)| Some((format!("endpoints.{n}.send"), e.send.as_deref()?))));
    for (path, text) in texts {
        for name in secrets::names(text) {
            if let Err(fault) = project.secrets().get(name) {
                found.push(Diagnostic::error(project.at(fault, &path)));
            }
        }
        if secrets::looks_secret(text) {
            let fault = Fault::invalid(Code::BAD_VALUE, format!("`{path}` holds a password in the clear"));
            let fault = project.at(fault.fix("write ${NAME} in its place and put the password into the environment or .env"), &path);
            found.push(Diagnostic::warning(fault));
        }
    }
}

/// Sources that nobody reads, given those that somebody does.
pub(super) fn unused(project: &Project, read: &std::collections::BTreeSet<String>, found: &mut Vec<Diagnostic>) {
    for name in project.file.sources.keys().filter(|n| !read.contains(n.as_str())) {
        let fault = Fault::invalid(Code::UNKNOWN_NAME, format!("no view and no label set reads sources.{name}"));
        found.push(Diagnostic::warning(project.at(fault.fix("use it in a query or remove it"), &format!("sources.{name}"))));
    }
    for name in project.views.keys() {
        if !project.file.models.values().any(|m| m.features.contains(name)) {
            let known: Vec<&str> = project.file.models.keys().map(Name::as_str).collect();
            let fault = Fault::invalid(Code::UNKNOWN_NAME, format!("no model uses the view {name}"));
            let fix = if known.is_empty() {
                "add a model".to_owned()
            } else {
                format!("add \"{name}\" to the features of a model, or remove the file")
            };
            found.push(Diagnostic::warning(fault.fix(fix)));
        }
    }
}

/// Whether a path or glob meets a file.
fn exists(dir: &Path, pattern: &str) -> bool {
    let full = dir.join(pattern);
    if !pattern.contains(['*', '?', '[']) {
        return full.exists();
    }
    let parts: Vec<&str> = pattern.split('/').filter(|p| !p.is_empty()).collect();
    let start = if pattern.starts_with('/') { Path::new("/") } else { dir };
    meets(start, &parts)
}

fn meets(dir: &Path, parts: &[&str]) -> bool {
    let Some((part, rest)) = parts.split_first() else { return dir.exists() };
    if *part == "**" && meets(dir, rest) {
        return true;
    }
    if !part.contains(['*', '?', '[']) {
        return meets(&dir.join(part), rest);
    }
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.filter_map(Result::ok).any(|entry| {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { return false };
        let below = entry.path();
        if *part == "**" { below.is_dir() && meets(&below, parts) } else { like(name, part) && meets(&below, rest) }
    })
}

/// `*` and `?`; a `[` is taken for any character here, because this only asks whether there may be a file.
fn like(name: &str, pattern: &str) -> bool {
    let mut chars = pattern.chars();
    match chars.next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = chars.as_str();
            name.char_indices().map(|(i, _)| i).chain([name.len()]).any(|i| like(&name[i..], rest))
        }
        Some('?') => name.chars().next().is_some_and(|c| like(&name[c.len_utf8()..], chars.as_str())),
        Some('[') => match (name.chars().next(), chars.as_str().find(']')) {
            (Some(c), Some(end)) => like(&name[c.len_utf8()..], &chars.as_str()[end + 1..]),
            _ => false,
        },
        Some(c) => name.strip_prefix(c).is_some_and(|rest| like(rest, chars.as_str())),
    }
}

fn near_file(dir: &Path, path: &str) -> Option<String> {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let entries: Vec<String> = std::fs::read_dir(dir.join(folder)).ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    let near = crate::text::nearest(file, entries.iter().map(String::as_str))?;
    Some(if folder.is_empty() { near.to_owned() } else { format!("{folder}/{near}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_meet_files() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("data/a/b")).expect("folders");
        std::fs::write(folder.path().join("data/a/b/x1.csv"), "").expect("a file");
        for good in ["data/a/b/x1.csv", "data/*/b/*.csv", "data/**/*.csv", "data/a/?/x[0-9].csv"] {
            assert!(exists(folder.path(), good), "{good}");
        }
        for bad in ["data/*.csv", "data/a/b/x2.csv", "none/**/*.csv", "data/a/b/?.csv"] {
            assert!(!exists(folder.path(), bad), "{bad}");
        }
    }
}
