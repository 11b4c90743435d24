//! What a registry of Feast means here. Values in, files and notes out.
//!
//! A feature view is the newest row of its entity that is not older than its `ttl`; a row at exactly the asked moment counts, and so does one
//! that is exactly `ttl` old (`_filter_ttl` in Feast's file store: `>= moment - ttl`, `<= moment`). Of rows with equal event times the one created
//! last counts, where the source says when that was. What Feast computes in Python has no text here and is named with what to write instead.

use super::registry::{DataSource, Registry, View, kind};
use super::sql;
use gristmill_kernel::Name;
use gristmill_kernel::limits::NAME_CHARS_MAX;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What is to be written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Sources of `gristmill.toml`.
    pub sources: Vec<PlannedSource>,
    /// Files in `features/`.
    pub views: Vec<PlannedView>,
    /// Views and other things that have no file here.
    pub not_taken: Vec<Note>,
    /// What differs, and what to do next.
    pub notes: Vec<Note>,
}

/// `[sources.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSource {
    /// Its name here.
    pub name: Name,
    /// Its name in Feast.
    pub feast: String,
    /// Its files.
    pub from: String,
    /// The event time.
    pub time: String,
}

/// `features/NAME.sql`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedView {
    /// Its name here.
    pub name: Name,
    /// Its content.
    pub text: String,
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Note {
    /// The thing: `feature view driver_hourly_stats`.
    pub what: String,
    /// What is to be said about it.
    pub why: String,
    /// What to do.
    pub fix: Option<String>,
}

impl Note {
    fn new(what: impl Into<String>, why: impl Into<String>) -> Note {
        Note { what: what.into(), why: why.into(), fix: None }
    }
    fn fix(mut self, fix: impl Into<String>) -> Note {
        self.fix = Some(fix.into());
        self
    }
}

/// Where things are.
pub struct Places<'a> {
    /// Feast's repository: what its relative paths start from.
    pub repo: &'a Path,
    /// The project's folder.
    pub out: &'a Path,
    /// Whether a path is a folder.
    pub is_folder: &'a dyn Fn(&Path) -> bool,
}

/// Feast's key of a view without an entity.
const DUMMY_KEY: &str = "__dummy_id";

/// Decides what to write for one project of a registry.
pub fn plan(registry: &Registry, project: &str, places: &Places<'_>) -> Plan {
    let mut plan = Plan::default();
    let views: Vec<&View> = registry.views.iter().filter(|view| view.project == project).collect();
    // Clients ask for views by name, so views choose theirs first.
    let mut taken = BTreeSet::from(["request".to_owned()]);
    let names: Vec<Name> = views.iter().map(|view| free_name(&view.name, &mut taken)).collect();
    for (view, name) in views.iter().zip(names) {
        let what = format!("feature view {}", shown(&view.name));
        match take(&mut plan, &mut taken, registry, view, &name, places) {
            Err(note) => plan.not_taken.push(Note { what, ..note }),
            Ok(text) => {
                if name.as_str() != view.name {
                    plan.notes.push(
                        Note::new(what, format!("is {name} here, because names are lowercase letters, digits and _"))
                            .fix(format!("ask for {name}:FEATURE")),
                    );
                }
                plan.views.push(PlannedView { name, text });
            }
        }
    }
    rest(&mut plan, registry, project);
    plan
}

/// The text of a view. Its source is added to the plan, unless another view has it there.
fn take(
    plan: &mut Plan,
    taken: &mut BTreeSet<String>,
    registry: &Registry,
    view: &View,
    name: &Name,
    places: &Places<'_>,
) -> Result<String, Note> {
    let keys = keys(registry, view)?;
    if view.transformed {
        return Err(Note::new("", "its features are made by code, which is not carried over")
            .fix(format!("write the same in SQL as features/{name}.sql")));
    }
    if view.reads_views {
        return Err(Note::new("", "it reads other feature views").fix(format!("write features/{name}.sql over the sources of those views")));
    }
    let batch = view.batch.as_ref().ok_or_else(|| {
        Note::new("", "it has no batch source, so its history is nowhere")
            .fix(format!("add [sources.NAME] with from = \"push:\" and a time, write features/{name}.sql over it, and push rows to it"))
    })?;
    let from = from(batch, places)?;
    let read = view.stream.as_ref().filter(|stream| stream.kind == kind::PUSH).unwrap_or(batch);
    let source = match plan.sources.iter().find(|source| source.feast == read.name) {
        Some(known) => known.name.clone(),
        None => {
            let source = free_name(&source_stem(&read.name), taken);
            if source.as_str() != read.name {
                plan.notes.push(Note::new(format!("source {}", shown(&read.name)), format!("is {source} here")));
            }
            let time = sql::source_column(batch, &batch.time);
            plan.sources.push(PlannedSource { name: source.clone(), feast: read.name.clone(), from, time });
            source
        }
    };
    differences(plan, view, &source);
    sql::view(&sql::Asked { view, source: &source, batch, keys: &keys })
        .map_err(|why| Note::new("", why).fix(format!("write features/{name}.sql over sources.{source}")))
}

/// The columns of a view's entity.
fn keys(registry: &Registry, view: &View) -> Result<Vec<String>, Note> {
    let of_entity = |entity: &String| {
        let found = registry.entities.iter().find(|e| e.project == view.project && e.name == *entity)?;
        Some(if found.join_key.is_empty() { found.name.clone() } else { found.join_key.clone() })
    };
    let keys = if view.keys.is_empty() { view.entities.iter().filter_map(of_entity).collect() } else { view.keys.clone() };
    if keys.is_empty() || keys.iter().any(|key| key == DUMMY_KEY) {
        return Err(
            Note::new("", "it has no entity").fix("give its rows a column that names what they are about, and write a view about it")
        );
    }
    Ok(keys)
}

/// The files of a batch source.
fn from(batch: &DataSource, places: &Places<'_>) -> Result<String, Note> {
    let place = shown(&batch.place);
    let export = "export it to Parquet files, add them as [sources.NAME] and write the view over them";
    if batch.kind != kind::FILE {
        return Err(Note::new("", format!("its rows are in a table of another system: {place}")).fix(export));
    }
    if batch.delta {
        return Err(Note::new("", format!("its rows are a Delta table: {place}")).fix(export));
    }
    let path = match batch.place.split_once("://") {
        None => PathBuf::from(&batch.place),
        Some(("file", path)) => PathBuf::from(path.trim_start_matches("localhost")),
        Some(_) => {
            return Err(Note::new("", format!("its files are at {place}, which is not read from here"))
                .fix("copy them to a folder, add it as [sources.NAME] and write the view over it"));
        }
    };
    if batch.time.is_empty() {
        return Err(Note::new("", "its source has no timestamp_field, and newest is by time").fix("name one in the FileSource"));
    }
    let whole = places.repo.join(path);
    let nearest = whole.strip_prefix(places.out).unwrap_or(&whole);
    let written = literal(&nearest.to_string_lossy());
    Ok(if (places.is_folder)(&whole) { format!("{}/**/*.parquet", written.trim_end_matches('/')) } else { written })
}

/// A path as `from` takes it: what would be a pattern there stands for itself.
fn literal(path: &str) -> String {
    path.chars().map(|c| if matches!(c, '*' | '?' | '[') { format!("[{c}]") } else { c.to_string() }).collect()
}

/// What a user of Feast should know about a view that was taken.
fn differences(plan: &mut Plan, view: &View, source: &Name) {
    let what = format!("feature view {}", shown(&view.name));
    let nested: Vec<&str> = view.features.iter().filter(|f| !is_plain(f.kind)).map(|f| f.name.as_str()).collect();
    if !nested.is_empty() && view.aggregations.is_empty() {
        plan.notes.push(Note::new(&what, format!("lists, maps and structs are JSON text here: {}", nested.join(", "))));
    }
    if let Some(stream) = view.stream.as_ref().filter(|stream| matches!(stream.kind, kind::KAFKA | kind::KINESIS)) {
        let which = if stream.kind == kind::KAFKA { "the Kafka topic" } else { "the Kinesis stream" };
        plan.notes.push(
            Note::new(&what, format!("its new rows came from {which} {}, which is not read", shown(&stream.place)))
                .fix(format!("push them: POST /push with push_source_name {source}, or POST /ingest/{source}")),
        );
    }
    if view.disabled {
        plan.notes.push(Note::new(&what, "was disabled in Feast and is not served").fix("write serve = \"online\" into its header"));
    }
    if view.aggregations.iter().any(|a| a.slide != 0 && a.slide != a.window) {
        plan.notes.push(Note::new(&what, "its windows end at the asked moment, not at the last multiple of slide_interval"));
    }
}

/// Types that a column of a table has too. See `feast/types/Value.proto`.
fn is_plain(kind: u64) -> bool {
    matches!(kind, 0..=8 | 19 | 32 | 36 | 37 | 44 | 48)
}

/// Everything that is no view.
fn rest(plan: &mut Plan, registry: &Registry, project: &str) {
    for view in registry.on_demand.iter().filter(|view| view.project == project) {
        let name = name_of(&view.name);
        plan.not_taken.push(
            Note::new(format!("on demand feature view {}", shown(&view.name)), "it is Python, which is not carried over")
                .fix(format!("write it in SQL as features/{name}.sql with `at = \"request\"` in the header, reading `request`")),
        );
    }
    for view in registry.labels.iter().filter(|view| view.project == project) {
        let name = name_of(&view.name);
        plan.not_taken.push(
            Note::new(format!("label view {}", shown(&view.name)), "its labels are changed by hand in Feast; here labels are a query")
                .fix(format!("write labels/{name}.sql with entity, time and label in its header")),
        );
    }
    for service in registry.services.iter().filter(|service| service.project == project) {
        let name = name_of(&service.name);
        let views: BTreeSet<String> = service.views.iter().map(|view| name_of(view).to_string()).collect();
        let views: Vec<String> = views.into_iter().filter(|view| plan.views.iter().any(|p| p.name.as_str() == view)).collect();
        plan.notes.push(
            Note::new(format!("feature service {}", shown(&service.name)), "the features of a model are named by the model here").fix(format!(
                "write [models.{name}] with features = {views:?}, and [endpoints.{name}] with model = \"{name}\": then feature_service {name} answers"
            )),
        );
    }
    for (what, named) in registry.others.iter().filter(|(_, named)| named.project == project) {
        plan.not_taken.push(Note::new(format!("{what} {}", shown(&named.name)), "there is no such thing here"));
    }
}

/// The name of a source whose name may be a path: Feast calls a `FileSource` without a name by its path.
fn source_stem(name: &str) -> String {
    let file = name.rsplit('/').find(|part| !part.is_empty()).unwrap_or(name);
    file.strip_suffix(".parquet").or_else(|| file.strip_suffix(".pq")).unwrap_or(file).to_owned()
}

/// The nearest name that is one here.
pub fn name_of(text: &str) -> Name {
    let mut name: String =
        text.chars().map(|c| c.to_ascii_lowercase()).map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name.insert_str(0, "v_");
    }
    name.truncate(NAME_CHARS_MAX);
    Name::new(name).expect("letters, digits and _ behind a letter are a name")
}

/// The same, and not one that is taken.
fn free_name(text: &str, taken: &mut BTreeSet<String>) -> Name {
    let wanted = name_of(text);
    let mut name = wanted.clone();
    for number in 2.. {
        if taken.insert(name.to_string()) {
            break;
        }
        let kept: String = wanted.as_str().chars().take(NAME_CHARS_MAX - 8).collect();
        name = name_of(&format!("{kept}_{number}"));
    }
    name
}

/// A stranger's text, short and on one line.
pub fn shown(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_from_anything_and_are_never_the_same() {
        for (text, name) in [("DriverStats", "driverstats"), ("1 b-c", "v_1_b_c"), ("", "v_"), ("é", "v__"), ("_x", "v__x")] {
            assert_eq!(name_of(text).as_str(), name, "{text}");
        }
        let mut taken = BTreeSet::new();
        let long = "a".repeat(200);
        let names: Vec<Name> = ["x", "X", "x_2", long.as_str(), long.as_str()].iter().map(|text| free_name(text, &mut taken)).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 5, "{names:?}");
        assert_eq!((names[1].as_str(), names[2].as_str()), ("x_2", "x_2_2"));
        assert_eq!(source_stem("s3/a/Stats.parquet"), "Stats");
        assert_eq!(literal("a[1]/b*.parquet"), "a[[]1]/b[*].parquet");
    }
}
