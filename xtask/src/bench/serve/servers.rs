//! The servers that are compared: installed, given their model, started on their core.

use crate::bench::command::{printed, venv};
use crate::bench::running::{Running, Start, free_port};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Ours.
    Gristmill,
    /// FastAPI in front of ONNX Runtime, one worker.
    FastapiOnnx,
    /// FastAPI in front of scikit-learn, one worker.
    FastapiSklearn,
    /// MLServer with a runtime that asks ONNX Runtime, in its own process.
    MlServer,
    /// BentoML in front of ONNX Runtime, one worker.
    BentoMl,
    /// `mlflow models serve` of the same ONNX model, one worker.
    Mlflow,
    /// nginx answering a static body, one worker: the floor.
    Nginx,
}

impl Who {
    /// Those that are compared with us.
    pub const PEERS: [Who; 6] = [Who::FastapiOnnx, Who::FastapiSklearn, Who::MlServer, Who::BentoMl, Who::Mlflow, Who::Nginx];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Who::Gristmill => "Gristmill",
            Who::FastapiOnnx => "FastAPI + ONNX Runtime",
            Who::FastapiSklearn => "FastAPI + scikit-learn",
            Who::MlServer => "MLServer",
            Who::BentoMl => "BentoML",
            Who::Mlflow => "mlflow models serve",
            Who::Nginx => "nginx, static body",
        }
    }
    /// The environment of `tests/clients` that it needs.
    fn environment(self) -> Option<&'static str> {
        match self {
            Who::Gristmill | Who::Nginx => None,
            Who::FastapiOnnx | Who::FastapiSklearn | Who::Mlflow => Some("serving"),
            Who::MlServer => Some("serving-mlserver"),
            Who::BentoMl => Some("serving-bentoml"),
        }
    }
    fn health(self) -> &'static str {
        match self {
            Who::Gristmill => "/readyz",
            Who::FastapiOnnx | Who::FastapiSklearn => "/health",
            Who::MlServer => "/v2/health/ready",
            Who::BentoMl => "/readyz",
            Who::Mlflow => "/ping",
            Who::Nginx => "/",
        }
    }
}

/// What servers are made of.
pub struct Kit {
    /// The workspace.
    pub root: PathBuf,
    /// Our binary.
    pub binary: PathBuf,
    /// Where the environments of the peers are.
    pub cache: Option<PathBuf>,
    /// The folder of the peers' scripts.
    pub scripts: PathBuf,
    /// The servers' core.
    pub core: usize,
}

const SCRIPTS: [(&str, &str); 6] = [
    ("train.py", include_str!("peers/train.py")),
    ("register.py", include_str!("peers/register.py")),
    ("fastapi_onnx.py", include_str!("peers/fastapi_onnx.py")),
    ("fastapi_sklearn.py", include_str!("peers/fastapi_sklearn.py")),
    ("mlserver_onnx.py", include_str!("peers/mlserver_onnx.py")),
    ("bento_onnx.py", include_str!("peers/bento_onnx.py")),
];

impl Kit {
    /// Writes the scripts.
    pub fn unpack(&self) -> Result<()> {
        std::fs::create_dir_all(&self.scripts)?;
        for (name, text) in SCRIPTS {
            std::fs::write(self.scripts.join(name), text)?;
        }
        Ok(())
    }

    /// The Python of an environment.
    fn python(&self, environment: &str) -> Result<PathBuf> {
        venv(&self.root, environment, self.cache.as_deref()).with_context(|| format!("the environment {environment}"))
    }

    /// Trains what is served, in every form.
    pub fn train(&self, folder: &Path) -> Result<()> {
        let mut command = Command::new(self.python("serving")?);
        printed(quiet(command.arg(self.scripts.join("train.py")).arg(folder))).map(|_| ())
    }

    /// Starts a peer that serves the model of a folder, and waits until it is ready.
    pub fn peer(&self, who: Who, model: &str, models: &Path, folder: &Path) -> Result<Running> {
        std::fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let (port, model_folder) = (free_port()?, models.join(model));
        let python = who.environment().map(|environment| self.python(environment)).transpose()?;
        let program = |name: &str| {
            let python = python.as_ref().context("it has an environment")?;
            anyhow::Ok(python.with_file_name(name).display().to_string())
        };
        let at = port.to_string();
        let words: Vec<String> = match who {
            Who::Gristmill => bail!("ours is no peer"),
            Who::FastapiOnnx | Who::FastapiSklearn => {
                let app = if who == Who::FastapiOnnx { "fastapi_onnx:app" } else { "fastapi_sklearn:app" };
                let uvicorn = program("uvicorn")?;
                own(&[&uvicorn, app, "--host", "127.0.0.1", "--port", &at, "--workers", "1", "--no-access-log", "--log-level", "warning"])
            }
            Who::MlServer => {
                self.mlserver(model, port, &folder)?;
                own(&[&program("mlserver")?, "start", "."])
            }
            Who::BentoMl => own(&[&program("bentoml")?, "serve", "bento_onnx:Scores", "--host", "127.0.0.1", "--port", &at]),
            Who::Mlflow => {
                let (mlflow, saved) = (program("mlflow")?, model_folder.join("mlflow-matrix").display().to_string());
                own(&[&mlflow, "models", "serve", "-m", &saved, "--env-manager", "local", "-h", "127.0.0.1", "-p", &at, "--workers", "1"])
            }
            Who::Nginx => {
                let configuration = folder.join("nginx.conf");
                std::fs::write(&configuration, nginx(port, &folder))?;
                own(&["nginx", "-c", &configuration.display().to_string(), "-p", &folder.display().to_string()])
            }
        };
        let scripts = self.scripts.display().to_string();
        let model_folder = model_folder.display().to_string();
        // `mlflow models serve` starts programs of its own environment by name.
        let beside = python.as_ref().and_then(|python| python.parent()).map(|bin| bin.display().to_string()).unwrap_or_default();
        let path = format!("{beside}:/usr/sbin:{}", std::env::var("PATH").unwrap_or_default());
        let environment = [
            ("PATH", path.as_str()),
            ("PYTHONPATH", scripts.as_str()),
            ("BENCH_MODEL", model_folder.as_str()),
            ("MLFLOW_DISABLE_TELEMETRY", "true"),
            ("BENTOML_DO_NOT_TRACK", "True"),
            ("DO_NOT_TRACK", "true"),
            // On one core, more threads only get into each other's way.
            ("OMP_NUM_THREADS", "1"),
            ("OPENBLAS_NUM_THREADS", "1"),
        ];
        let words = pinned(self.core, &words);
        Running::start(&Start { words: &words, folder: &folder, port, health: who.health(), environment: &environment })
    }

    fn mlserver(&self, model: &str, port: u16, folder: &Path) -> Result<()> {
        let settings = serde_json::json!({
            "host": "127.0.0.1", "http_port": port, "grpc_port": free_port()?, "metrics_port": free_port()?,
            "parallel_workers": 0, "debug": false, "use_structured_logging": false, "metrics_endpoint": null,
        });
        std::fs::write(folder.join("settings.json"), settings.to_string())?;
        let settings = serde_json::json!({ "name": model, "implementation": "mlserver_onnx.Onnx" });
        Ok(std::fs::write(folder.join("model-settings.json"), settings.to_string())?)
    }

    /// Starts ours on an empty project with one endpoint, and registers the model with an unmodified client.
    pub fn registered(&self, model: &str, models: &Path, folder: &Path) -> Result<Running> {
        std::fs::create_dir_all(folder)?;
        let project = format!("project = \"bench\"\n\n[endpoints.{model}]\nmodel = \"mlflow:{model}@champion\"\n");
        std::fs::write(folder.join("gristmill.toml"), project)?;
        let running = self.ours(folder)?;
        let mut command = Command::new(self.python("serving")?);
        command.arg(self.scripts.join("register.py")).arg(models.join(model).join("mlflow")).arg(model);
        command.env("MLFLOW_TRACKING_URI", format!("http://{}", running.address.at));
        let token = running.address.auth.as_deref().and_then(|auth| auth.strip_prefix("Bearer "));
        command.envs(token.map(|token| ("MLFLOW_TRACKING_TOKEN", token)));
        printed(quiet(&mut command))?;
        Ok(running)
    }

    /// Starts ours on a project whose endpoint looks features up.
    pub fn looked_up(&self, folder: &Path) -> Result<Running> {
        super::lookup::write(folder)?;
        printed(Command::new(&self.binary).args(["apply", "--yes"]).current_dir(folder))?;
        self.ours(folder)
    }

    fn ours(&self, folder: &Path) -> Result<Running> {
        let port = free_port()?;
        let words = pinned(self.core, &own(&[&self.binary.display().to_string(), "serve", "--port", &port.to_string()]));
        let start = Start { words: &words, folder, port, health: Who::Gristmill.health(), environment: &[] };
        let mut running = Running::start(&start)?;
        running.take_token(folder)?;
        Ok(running)
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command.env("MLFLOW_DISABLE_TELEMETRY", "true").env("GIT_PYTHON_REFRESH", "quiet")
}

fn own(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A command on one core.
pub fn pinned(core: usize, words: &[String]) -> Vec<String> {
    ["taskset", "-c", &core.to_string()].map(str::to_owned).iter().chain(words).cloned().collect()
}

/// One worker that answers everything at once, and keeps connections open as long as we like.
fn nginx(port: u16, folder: &Path) -> String {
    let place = folder.display();
    let answer = r#"{"model_name":"trees","model_version":"1","outputs":[{"data":[0.5],"datatype":"FP64","name":"score","shape":[1]}]}"#;
    let temporary: String =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|what| format!("  {what}_temp_path {place}/{what};\n")).concat();
    format!(
        "daemon off;\nworker_processes 1;\npid {place}/nginx.pid;\nerror_log {place}/error.log;\nevents {{ worker_connections 256; }}\nhttp {{\n\
         {temporary}  access_log off;\n  keepalive_requests 1000000000;\n  default_type application/json;\n\
         \x20 server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{answer}'; }} }}\n}}\n"
    )
}

/// Waits until something is there.
pub fn wait_for<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = None;
    for _ in 0..seconds * 20 {
        match look() {
            Ok(found) => return Ok(found),
            Err(error) => last = Some(error),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("nobody looked"))).with_context(|| format!("{what} is not there after {seconds} s"))
}
