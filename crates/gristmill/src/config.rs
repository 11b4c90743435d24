//! Everything that comes from outside the project file: the environment, the terminal, the flags' defaults.
//!
//! The only place that reads the process environment. The rest of the program gets values.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;

/// The port that carries everything, unless `--port` says otherwise.
pub const DEFAULT_PORT: u16 = 7300;

/// What the process was started with.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The environment, for `${NAME}` in the project and nothing else.
    pub vars: BTreeMap<String, String>,
    /// Where the command was started.
    pub here: PathBuf,
    /// Whether standard error is a terminal: progress bars, colours.
    pub terminal: bool,
    /// Whether colours are wanted (`NO_COLOR`, `CLICOLOR_FORCE`, the terminal).
    pub color: bool,
    /// What the log shows: `GRISTMILL_LOG`, in the words of tracing's filter.
    pub log: Option<String>,
    /// `GRISTMILL_TOKEN`: the token that commands send to a running server.
    pub token: Option<String>,
    /// `MLFLOW_TRACKING_TOKEN`: the token that `import` sends to an MLflow server.
    pub mlflow_token: Option<String>,
    /// `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, for the same.
    pub mlflow_password: Option<(String, String)>,
    /// `ORT_DYLIB_PATH`: the shared library of ONNX Runtime, by the name that others give it too.
    pub onnxruntime: Option<PathBuf>,
    /// `GRISTMILL_FRONT`: the platform in front of this container, for images that are started with `serve` and no option.
    pub front: Option<String>,
    /// What a platform says of its container: variables that begin with `AIP_` or `SAGEMAKER_`.
    pub container: BTreeMap<String, String>,
    /// Who acts: `user:NAME` from `GRISTMILL_USER`, `USER` or `LOGNAME`.
    pub user: String,
}

impl Surroundings {
    /// Reads them once, at start.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn read() -> std::io::Result<Surroundings> {
        let vars: BTreeMap<String, String> =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
        let get = |name: &str| vars.get(name).filter(|v| !v.is_empty()).cloned();
        let terminal = std::io::stderr().is_terminal();
        let color = match (get("NO_COLOR"), get("CLICOLOR_FORCE")) {
            (Some(_), _) => false,
            (None, Some(force)) if force != "0" => true,
            _ => terminal && get("TERM").is_none_or(|t| t != "dumb"),
        };
        let user = get("GRISTMILL_USER").or_else(|| get("USER")).or_else(|| get("LOGNAME")).unwrap_or_else(|| "local".to_owned());
        Ok(Surroundings {
            here: std::env::current_dir()?,
            terminal,
            color,
            log: get("GRISTMILL_LOG"),
            token: get("GRISTMILL_TOKEN"),
            mlflow_token: get("MLFLOW_TRACKING_TOKEN"),
            mlflow_password: get("MLFLOW_TRACKING_USERNAME").map(|name| (name, get("MLFLOW_TRACKING_PASSWORD").unwrap_or_default())),
            onnxruntime: get("ORT_DYLIB_PATH").map(PathBuf::from),
            front: get("GRISTMILL_FRONT"),
            container: vars
                .iter()
                .filter(|(name, _)| name.starts_with("AIP_") || name.starts_with("SAGEMAKER_"))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            user,
            vars,
        })
    }
}
