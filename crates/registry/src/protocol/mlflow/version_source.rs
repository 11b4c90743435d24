//! The source of a registered version: what a client may name, and what it means.
//!
//! Promise: a source is parsed to one of [`Source`], or refused in MLflow's words. Nothing is opened here but rows: sources elsewhere
//! (`s3://`, `http://`) are written down and never called, local paths are refused.

use super::artifacts::{key, location};
use super::{Mlflow, error, registered_models};
use gristmill_kernel::port::ArtifactKey;
use gristmill_kernel::tracking::ViewType;
use gristmill_kernel::tracking::registry::{ModelStage, ModelVersion};
use gristmill_kernel::{Fault, Result, RunId};

/// What MLflow's clients send as the source of a prompt, word for word: a prompt's text is a tag, so there is no file to name.
const PROMPT_SOURCES: [&str; 2] = ["dummy-source", "prompt-template"];

/// What a source means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// `models:/m-...`: a logged model.
    LoggedModel(String),
    /// `models:/NAME/3`, `models:/NAME/Production`, `models:/NAME/latest`, `models:/NAME@champion`.
    Registered(String, Registered),
    /// `runs:/RUN/PATH`.
    Run(RunId, Option<String>),
    /// `mlflow-artifacts:/...` of this server.
    Kept(ArtifactKey),
    /// An address elsewhere.
    Elsewhere,
}

/// Which version of a registered model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Registered {
    /// By number.
    Number(String),
    /// The newest in a stage, or at all.
    Newest(Option<String>),
    /// By alias.
    Alias(String),
}

/// A source that was found harmless, with what follows from it.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// As it is written down.
    pub source: String,
    /// The run that made it.
    pub run: Option<RunId>,
    /// The logged model it is.
    pub model: Option<String>,
    /// Where its files are, if this server keeps them.
    pub files: Option<ArtifactKey>,
}

/// What a client asks for.
pub(crate) struct Asked<'a> {
    /// The source.
    pub source: &'a str,
    /// The run, if the client names one.
    pub run: Option<&'a str>,
    /// The logged model, if the client names one.
    pub model: Option<&'a str>,
    /// Whether it is for a prompt.
    pub prompt: bool,
}

/// Reads a source without looking anything up.
pub(crate) fn parse(source: &str) -> Result<Source> {
    if is_local(source) {
        return Err(local(source, "run"));
    }
    let scheme = scheme(source);
    no_relative_parts(source)?;
    match scheme.as_deref() {
        Some("models") => parse_models(source),
        Some("runs") => parse_runs(source),
        Some("mlflow-artifacts") => match key::of_address(&format!("mlflow-artifacts:{}", behind_scheme(source))) {
            Some(key) => key.map(Source::Kept).map_err(|_| relative(source)),
            None => Err(error::invalid(
                "'source' cannot use the 'mlflow-artifacts' scheme: the 'mlflow-artifacts' scheme addresses a host other than the tracking \
                 server's configured artifact storage, so the server would connect to the host named in the URI.",
            )),
        },
        // What the project trains has such a source; nobody registers it again by that name.
        Some("gristmill") => Err(not_within(source, "run_id")),
        // The proxy of some server, this one too: it has addresses of its own, which belong to a run.
        Some("http" | "https") if decoded(source).contains("/api/2.0/mlflow-artifacts/artifacts") => Err(not_within(source, "run_id")),
        _ => Ok(Source::Elsewhere),
    }
}

/// Reads a source, looks up what it names, and checks that it belongs to the run or the logged model that the client names with it.
pub(crate) async fn resolve(mlflow: &Mlflow, asked: Asked<'_>) -> Result<Resolved> {
    if asked.prompt {
        if !PROMPT_SOURCES.contains(&asked.source) {
            return Err(error::invalid(format!(
                "Invalid prompt source: '{}'. Prompt sources must use an MLflow placeholder.",
                asked.source
            )));
        }
        return Ok(Resolved { source: asked.source.to_owned(), run: filled(asked.run).map(run_of), model: None, files: None });
    }
    let (run, model) = (filled(asked.run), filled(asked.model));
    if model.is_some() && is_local(asked.source) {
        return Err(local(asked.source, "model"));
    }
    match parse(asked.source)? {
        Source::Registered(name, which) => registered(mlflow, &asked, &name, which).await,
        Source::LoggedModel(id) => match model {
            Some(named) if named == id => logged(mlflow, asked.source, &id, run).await,
            // As in MLflow: who registers a logged model says so twice.
            _ => Err(not_within(asked.source, "model_id")),
        },
        Source::Run(id, path) => match (model, run) {
            (None, Some(named)) if named == id.0 => {
                let files = match location::of_run(mlflow, &id).await {
                    Ok(address) => Some(key::below(&location::kept(&address)?, path.as_deref())?),
                    // The run is of another server: the source is written down like any other address elsewhere.
                    Err(_) => None,
                };
                Ok(Resolved { source: asked.source.to_owned(), run: Some(id), model: None, files })
            }
            (Some(_), _) => Err(not_within(asked.source, "model_id")),
            _ => Err(not_within(asked.source, "run_id")),
        },
        Source::Kept(files) => kept(mlflow, &asked, files).await,
        Source::Elsewhere => {
            let made_by = match (run, model) {
                (Some(run), _) => Some(run_of(run)),
                (None, Some(model)) => source_run(mlflow, asked.source, model).await?,
                (None, None) => None,
            };
            Ok(Resolved { source: asked.source.to_owned(), run: made_by, model: model.map(str::to_owned), files: None })
        }
    }
}

/// Where the files of a version are: its address, and the key if this server keeps them.
pub(crate) async fn files_of(mlflow: &Mlflow, version: &ModelVersion) -> Result<(String, Option<ArtifactKey>)> {
    let mut version = version.clone();
    // A version may be a copy of a version, which may be a copy; each names an older one.
    for _ in 0..16 {
        match parse(&version.source) {
            Ok(Source::LoggedModel(id)) => {
                let Some(model) = mlflow.tracking.logged_model(&id, ViewType::All).await? else { break };
                let address = location::of_logged(mlflow, &model).await?;
                let key = key::of_address(&address).transpose()?;
                return Ok((address, key));
            }
            Ok(Source::Registered(name, Registered::Number(number))) => {
                let Some(number) = number.parse().ok() else { break };
                let Some(older) = mlflow.registry.model_version(&name, number).await? else { break };
                version = older;
            }
            Ok(Source::Run(run, path)) => {
                let key = match location::of_run(mlflow, &run).await {
                    Ok(address) => Some(key::below(&location::kept(&address)?, path.as_deref())?),
                    Err(_) => None,
                };
                return Ok((version.source, key));
            }
            Ok(Source::Kept(key)) => return Ok((version.source, Some(key))),
            _ => break,
        }
    }
    Ok((version.source, None))
}

async fn logged(mlflow: &Mlflow, source: &str, id: &str, run: Option<&str>) -> Result<Resolved> {
    let model = mlflow.logged_model(id, ViewType::ActiveOnly).await.map_err(|_| not_within(source, "model_id"))?;
    let address = location::of_logged(mlflow, &model).await?;
    let run = run.map(run_of).or(model.source_run);
    Ok(Resolved { source: source.to_owned(), run, model: Some(id.to_owned()), files: key::of_address(&address).transpose()? })
}

async fn kept(mlflow: &Mlflow, asked: &Asked<'_>, files: ArtifactKey) -> Result<Resolved> {
    let (root, word) = match (filled(asked.model), filled(asked.run)) {
        (Some(model), _) => (location::of_model(mlflow, model).await, "model_id"),
        (None, Some(run)) => (location::of_run(mlflow, &run_of(run)).await, "run_id"),
        (None, None) => return Err(not_within(asked.source, "run_id")),
    };
    let root = root.ok().and_then(|address| key::of_address(&address)).transpose()?;
    let within =
        root.is_some_and(|root| files == root || files.as_str().strip_prefix(root.as_str()).is_some_and(|rest| rest.starts_with('/')));
    if !within {
        return Err(not_within(asked.source, word));
    }
    let (run, model) = match (filled(asked.run), filled(asked.model)) {
        (Some(run), model) => (Some(run_of(run)), model),
        (None, Some(model)) => (source_run(mlflow, asked.source, model).await?, Some(model)),
        (None, None) => (None, None),
    };
    Ok(Resolved { source: asked.source.to_owned(), run, model: model.map(str::to_owned), files: Some(files) })
}

async fn registered(mlflow: &Mlflow, asked: &Asked<'_>, name: &str, which: Registered) -> Result<Resolved> {
    let found = registered_models::find(mlflow, name).await?;
    if registered_models::is_prompt(&found.tags) {
        return Err(error::invalid(format!(
            "Invalid model version source: '{}'. Prompt versions cannot be used as model version sources.",
            asked.source
        )));
    }
    let version = match which {
        Registered::Number(number) => super::model_versions::find(mlflow, name, &number).await?,
        Registered::Alias(alias) => super::aliases::find(mlflow, name, &alias).await?,
        Registered::Newest(stage) => {
            let stages = stage.iter().map(|s| stage_of(s)).collect::<Result<Vec<_>>>()?;
            let newest = registered_models::latest_versions(mlflow, name).await?.into_iter();
            let newest = newest.filter(|v| stages.is_empty() || stages.contains(&v.stage)).max_by_key(|v| v.id.number);
            let told = stage.map(|s| format!(" and stage '{s}'")).unwrap_or_default();
            newest.ok_or_else(|| error::invalid(format!("No versions of model with name '{name}'{told} found")))?
        }
    };
    let run_differs = asked.run.is_some_and(|run| run != version.run.as_ref().map_or("", |r| r.0.as_str()));
    let model_differs = asked.model.is_some_and(|model| model != version.model.as_deref().unwrap_or_default());
    if run_differs || model_differs {
        return Err(error::invalid(format!(
            "Invalid model version source: '{}'. The run_id and model_id request parameters must match the referenced model version.",
            asked.source
        )));
    }
    let files = files_of(mlflow, &version).await?.1;
    let source = format!("models:/{name}/{}", version.id.number);
    Ok(Resolved { source, run: version.run, model: version.model, files })
}

async fn source_run(mlflow: &Mlflow, source: &str, model: &str) -> Result<Option<RunId>> {
    let model = mlflow.logged_model(model, ViewType::ActiveOnly).await.map_err(|_| not_within(source, "model_id"))?;
    Ok(model.source_run)
}

/// A stage by its word.
pub(crate) fn stage_of(word: &str) -> Result<ModelStage> {
    ModelStage::parse(word).ok_or_else(|| {
        let all = ModelStage::ALL.map(ModelStage::as_str).join(", ");
        error::invalid(format!("Invalid Model Version stage: {word}. Value must be one of {all}."))
    })
}

fn parse_models(source: &str) -> Result<Source> {
    let path = behind_scheme(source);
    // The path of an address; with an authority it would be another registry's.
    let Some(path) = path.strip_prefix('/').filter(|path| !path.starts_with('/') && !path.is_empty()) else {
        return Err(if path.starts_with("//") {
            error::invalid(format!(
                "Invalid model version source: '{source}'. Registered model sources must use the active model registry."
            ))
        } else {
            not_within(source, "model_id")
        });
    };
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [name, suffix] if !name.trim().is_empty() && !suffix.trim().is_empty() => {
            let which = match *suffix {
                number if number.bytes().all(|b| b.is_ascii_digit()) => Registered::Number(number.to_owned()),
                latest if latest.eq_ignore_ascii_case("latest") => Registered::Newest(None),
                stage => Registered::Newest(Some(stage.to_owned())),
            };
            Ok(Source::Registered((*name).to_owned(), which))
        }
        [one] if !one.trim().is_empty() => match one.rsplit_once('@') {
            Some((_, alias)) if alias.trim().is_empty() => Err(not_within(source, "model_id")),
            Some((name, alias)) => Ok(Source::Registered(name.to_owned(), Registered::Alias(alias.to_owned()))),
            None => Ok(Source::LoggedModel((*one).to_owned())),
        },
        _ => Err(not_within(source, "model_id")),
    }
}

fn parse_runs(source: &str) -> Result<Source> {
    let path = behind_scheme(source);
    let path = path.strip_prefix('/').filter(|path| !path.starts_with('/') && !path.is_empty());
    let path = path.ok_or_else(|| not_within(source, "run_id"))?;
    let (run, rest) = path.split_once('/').unwrap_or((path, ""));
    if !rest.is_empty() {
        key::key(rest).map_err(|_| relative(source))?;
    }
    Ok(Source::Run(run_of(run), Some(rest.to_owned()).filter(|rest| !rest.is_empty())))
}

/// The scheme in lower case. One letter is none: it is a drive.
fn scheme(source: &str) -> Option<String> {
    let (scheme, _) = source.split_once(':')?;
    let mut chars = scheme.chars();
    let good = chars.next().is_some_and(|c| c.is_ascii_alphabetic()) && chars.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    (good && scheme.len() > 1).then(|| scheme.to_ascii_lowercase())
}

/// Whether it is a path on somebody's disk.
fn is_local(source: &str) -> bool {
    matches!(scheme(source).as_deref(), None | Some("file"))
}

fn behind_scheme(source: &str) -> &str {
    source.split_once(':').map_or(source, |(_, rest)| rest)
}

/// Refuses what could lead elsewhere in the eyes of whoever opens it later: `..`, however often it is encoded, and NUL.
fn no_relative_parts(source: &str) -> Result<()> {
    let plain = decoded(source);
    let path = plain.split(['?', '#']).next().unwrap_or(&plain);
    let dots = |text: &str| text.split(['/', '\\']).any(|part| part == ".." || part == ".");
    if plain.contains('\0') || plain.chars().any(char::is_control) || dots(&plain) || dots(path) || plain.contains('\\') {
        return Err(relative(source));
    }
    Ok(())
}

/// The text without escapes, however deep they are nested.
fn decoded(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..10 {
        let next = decoded_once(&text.replace('+', " "));
        if next == text {
            break;
        }
        text = next;
    }
    text
}

fn decoded_once(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn filled(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn run_of(id: &str) -> RunId {
    RunId(id.to_owned())
}

fn relative(source: &str) -> Fault {
    error::invalid(format!(
        "Invalid model version source: '{source}'. If supplying a source as an http, https, local file path, ftp, objectstore, or \
         mlflow-artifacts uri, an absolute path must be provided without relative path references present. Please provide an absolute path."
    ))
}

fn local(source: &str, what: &str) -> Fault {
    error::invalid(format!(
        "Invalid model version source: '{source}'. To use a local path as a model version source, the {what}_id request parameter has to be \
         specified and the local path has to be contained within the artifact directory of the run specified by the {what}_id."
    ))
}

fn not_within(source: &str, parameter: &str) -> Fault {
    error::invalid(format!(
        "Invalid model version source: '{source}'. The {parameter} request parameter must identify the resource that contains the source."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_what_they_say() {
        let by = |name: &str, which| Source::Registered(name.into(), which);
        for (text, wanted) in [
            ("models:/m-1", Source::LoggedModel("m-1".into())),
            ("models:/churn/3", by("churn", Registered::Number("3".into()))),
            ("models:/churn/latest", by("churn", Registered::Newest(None))),
            ("models:/churn/Production", by("churn", Registered::Newest(Some("Production".into())))),
            ("models:/churn@champion", by("churn", Registered::Alias("champion".into()))),
            ("runs:/r1/model", Source::Run(RunId("r1".into()), Some("model".into()))),
            ("runs:/r1", Source::Run(RunId("r1".into()), None)),
            ("s3://bucket/model", Source::Elsewhere),
            ("gs://bucket/model", Source::Elsewhere),
            ("dbfs:/a/b", Source::Elsewhere),
            ("https://host/model", Source::Elsewhere),
            ("mlflow-artifacts:/0/r1/artifacts/model", Source::Kept(ArtifactKey::new("0/r1/artifacts/model").expect("a key"))),
        ] {
            assert_eq!(parse(text).expect(text), wanted);
        }
    }

    #[test]
    fn sources_that_lead_elsewhere_are_refused_in_mlflows_words() {
        for (text, words) in [
            ("/tmp/model", "To use a local path as a model version"),
            ("model", "To use a local path as a model version"),
            ("./model", "To use a local path as a model version"),
            ("C:\\model", "To use a local path as a model version"),
            ("file:///tmp", "To use a local path as a model version"),
            ("FILE:///tmp", "To use a local path as a model version"),
            ("file://host/x", "To use a local path as a model version"),
            ("http://host:9000/models/../../../", "If supplying a source as an http, https,"),
            ("s3a://my_bucket/api/2.0/mlflow-artifacts/artifacts/../../../", "If supplying a source as an http, https,"),
            ("mlflow-artifacts://host:9000/models/..%2f..%2fartifacts", "If supplying a source as an http, https,"),
            ("mlflow-artifacts:/models/artifact%00", "If supplying a source as an http, https,"),
            ("s3://b/%252e%252e/x", "If supplying a source as an http, https,"),
            ("dbfs:/r/artifacts/a%3f/../../../../", "If supplying a source as an http, https,"),
            ("s3://b/x#/../y", "If supplying a source as an http, https,"),
            ("mlflow-artifacts://host:9000/models", "cannot use the 'mlflow-artifacts' scheme"),
            ("https://host/api/2.0/mlflow-artifacts/artifacts/0/r", "The run_id request parameter must identify"),
            ("models://host/churn/3", "must use the active model registry"),
            ("models:", "The model_id request parameter must identify"),
            ("models:/", "The model_id request parameter must identify"),
            ("models:/a/b/c", "The model_id request parameter must identify"),
            ("models:/a@", "The model_id request parameter must identify"),
            ("runs://host/r", "The run_id request parameter must identify"),
            ("runs:/", "The run_id request parameter must identify"),
            ("gristmill:models.churn@3", "The run_id request parameter must identify"),
            ("mlflow-artifacts:/.uploads/x/00001", "If supplying a source as an http, https,"),
            ("", "To use a local path as a model version"),
        ] {
            let message = parse(text).expect_err(text).message;
            assert!(message.contains(words), "{text}: {message}");
        }
    }
}
