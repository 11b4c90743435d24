//! End to end: drives the real binary as a user would, over the command line and over HTTP.
//!
//! The binary is the one of the same profile (`target/PROFILE/gristmill`), built before the tests: `cargo xtask ci` does so, by hand it is
//! `cargo build --release && cargo test --release -p gristmill-tests`.

pub mod boosters;
pub mod clients;
pub mod mlflow;

use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The folder of this crate, as it is now: the same target folder may have built it in another checkout.
pub fn folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the folder").into()
}

/// The binary under test.
pub fn binary() -> PathBuf {
    let me = std::env::current_exe().expect("a test has a path");
    let profile = me
        .ancestors()
        .find(|d| d.file_name().is_some_and(|n| n == "deps"))
        .and_then(Path::parent)
        .expect("tests live in target/PROFILE/deps");
    let binary = profile.join("gristmill");
    assert!(binary.is_file(), "{} is not built: run cargo build with the same profile first", binary.display());
    binary
}

/// A project in a folder of its own.
pub struct Project {
    folder: tempfile::TempDir,
    env: Vec<(String, String)>,
}

/// What a command gave.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Asserts success.
    pub fn good(self) -> Ran {
        assert_eq!(self.code, 0, "exit {}\n--- out\n{}\n--- err\n{}", self.code, self.out, self.err);
        self
    }
    /// Asserts a failure with this code of ours, and that it says what to do.
    pub fn fails_with(self, exit: i32, code: &str) -> Ran {
        assert_eq!(self.code, exit, "--- out\n{}\n--- err\n{}", self.out, self.err);
        assert!(self.err.contains(code) || self.out.contains(code), "{code} is missing\n--- out\n{}\n--- err\n{}", self.out, self.err);
        let text = format!("{}{}", self.out, self.err);
        assert!(text.contains("fix") || text.contains("hint") || text.contains("help"), "nothing says what to do\n{text}");
        self
    }
    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("no JSON ({e}):\n{}\n{}", self.out, self.err))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Project {
    /// An empty folder.
    pub fn empty() -> Project {
        Project { folder: tempfile::tempdir().expect("a temporary folder"), env: Vec::new() }
    }
    /// A small shop: 3,000 events of 100 customers in a CSV file, two features, a label, a model, an endpoint.
    pub fn shop() -> Project {
        let project = Project::empty();
        project.write("gristmill.toml", SHOP);
        project.write("features/activity.sql", ACTIVITY);
        project.write("labels/buys.sql", BUYS);
        project.write("data/events.csv", &events());
        project
    }
    /// An example of the binary.
    pub fn example(name: &str) -> Project {
        let project = Project::empty();
        project.run(&["init", ".", "--example", name]).good();
        project
    }
    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
    /// Writes a file of the project.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    /// Reads a file of the project.
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path().join(path)).expect("a file")
    }
    /// Replaces text in a file of the project; the text must be there.
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{path} has no `{from}`:\n{text}");
        self.write(path, &text.replacen(from, to, 1));
    }
    /// Sets a variable for every command.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }
    /// The command, not started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).current_dir(self.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        command
    }
    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().expect("the binary starts").into()
    }
    /// Starts a serving command and waits until it answers.
    pub fn start(&self, args: &[&str]) -> Server {
        self.start_command(self.command(args))
    }
    /// The same for a command that starts the binary in its own way; the process must become the server.
    pub fn start_command(&self, mut command: Command) -> Server {
        let log = self.path().join("server.log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let _stale = std::fs::remove_file(self.path().join(".gristmill/server.json"));
        command.stdout(file.try_clone().expect("a log")).stderr(file);
        let child = command.spawn().expect("the binary starts");
        let mut server = Server { child, url: String::new(), log, client: client() };
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            if let Ok(text) = std::fs::read_to_string(self.path().join(".gristmill/server.json"))
                && let Ok(file) = serde_json::from_str::<Value>(&text)
            {
                server.url = file["url"].as_str().expect("a url").to_owned();
                if server.client.get(format!("{}/healthz", server.url)).send().is_ok_and(|a| a.status().is_success()) {
                    return server;
                }
            }
            if let Some(status) = server.child.try_wait().expect("a child") {
                panic!("the server ended with {status}:\n{}", server.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server did not answer:\n{}", server.log());
    }
}

/// A client that waits long enough for a busy machine.
pub fn client() -> reqwest::blocking::Client {
    reqwest::blocking::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().expect("a client")
}

/// A running server.
pub struct Server {
    child: Child,
    /// Where it is.
    pub url: String,
    log: PathBuf,
    client: reqwest::blocking::Client,
}

impl Server {
    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
    /// GET.
    pub fn get(&self, path: &str) -> (u16, String) {
        let answer = self.client.get(format!("{}{path}", self.url)).send().expect("an answer");
        (answer.status().as_u16(), answer.text().expect("a body"))
    }
    /// POST with a JSON body; an error means that no answer came.
    pub fn try_post(&self, path: &str, body: &Value, key: Option<&str>) -> Result<(u16, Value), reqwest::Error> {
        let mut request = self.client.post(format!("{}{path}", self.url)).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send()?;
        let status = answer.status().as_u16();
        Ok((status, answer.json().unwrap_or(Value::Null)))
    }
    /// POST with a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.try_post(path, body, None).unwrap_or_else(|e| panic!("no answer ({e}):\n{}", self.log()))
    }
    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("a process to kill");
        self.child.wait().expect("its end");
    }
    /// SIGTERM, and waits for the end.
    pub fn stop(mut self) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), nix::sys::signal::Signal::SIGTERM).expect("a signal");
        let status = self.child.wait().expect("its end");
        assert!(status.success(), "the server ended with {status}:\n{}", self.log());
    }
    /// Waits until `look` finds something.
    pub fn wait_for<T>(&self, what: &str, seconds: u64, mut look: impl FnMut(&Server) -> Option<T>) -> T {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            if let Some(found) = look(self) {
                return found;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("waited {seconds} s in vain for {what}:\n{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}

/// The shop's events: the same in every run.
pub fn events() -> String {
    let mut text = Vec::new();
    writeln!(text, "id,customer_id,at,amount,kind").expect("memory");
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for id in 0..3000u64 {
        // A few customers buy much more often than the others, which is what the model can learn.
        let customer = if next() % 3 == 0 { next() % 10 } else { next() % 100 };
        let minute = id * 48;
        let (day, rest) = (minute / 1440, minute % 1440);
        let amount = (next() % 10_000) as f64 / 100.0;
        let kind = if next() % 5 == 0 { "refund" } else { "sale" };
        let date = format!("2024-{:02}-{:02}T{:02}:{:02}:00Z", 1 + day / 28, 1 + day % 28, rest / 60, rest % 60);
        writeln!(text, "{id},{customer},{date},{amount},{kind}").expect("memory");
    }
    String::from_utf8(text).expect("text")
}

const SHOP: &str = r#"project = "shop"
clock = "events"

[sources.events]
from   = "data/events.csv"
time   = "at"
expect = ["customer_id is not null", "amount >= 0"]

[models.buys]
labels   = "labels/buys.sql"
features = ["activity"]
train    = "logistic"
measure  = "auc"
gates    = ["auc >= 0.5"]

[endpoints.buys]
model = "buys"
"#;

const ACTIVITY: &str = r"/*---
entity = 'customer_id'
serve  = 'online'
---*/
select
  customer_id,
  count(*) filter (where at > as_of() - interval '7 days') as orders_7d,
  count(*)                                                 as orders_30d,
  sum(amount)                                              as spend_30d
from events
where at > as_of() - interval '30 days'
group by customer_id
";

const BUYS: &str = r"/*---
entity = 'customer_id'
time   = 'asked_at'
label  = 'buys'
---*/
select c.customer_id, m.asked_at, count(e.id) > 0 as buys
from (select distinct customer_id from events where id < 3000) c
cross join (select distinct date_trunc('week', at) as asked_at from events where id < 3000) m
left join events e on e.customer_id = c.customer_id and e.id < 3000
     and e.at >= m.asked_at and e.at < m.asked_at + interval '3 days'
group by c.customer_id, m.asked_at
";
