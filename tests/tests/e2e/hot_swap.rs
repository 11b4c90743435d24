//! Versions and servers that come and go under load: no request fails, and no answer is of a model that is half there.

use gristmill_tests::boosters::{self, booster, mlmodel};
use gristmill_tests::{Project, Server, client};
use serde_json::{Value, json};
use std::process::{Child, Command};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const SWAPS: usize = 200;
const RESTARTS: usize = 50;
const PROJECT: &str = "project = \"swaps\"\n\n[endpoints.risk]\nmodel = \"mlflow:risk@champion\"\n";
/// The same model, with calls that requests share.
const SHARED: &str = "\n[endpoints.shared]\nmodel = \"mlflow:risk@champion\"\nbatch = { rows = 8, delay = \"200us\" }\n";

/// Version `n` says `n` below 0 and `n + 1000` above; its second tree adds a quarter, so half of it would show.
fn version(number: usize) -> [(&'static str, Vec<u8>); 2] {
    let text = booster(&[(number as f64, number as f64 + 1_000.0), (0.25, 0.25)], 2);
    [("MLmodel", mlmodel(&["x", "y"]).into_bytes()), ("model.lgb", text.into_bytes())]
}

/// What was asked, and everything that was not as it should be.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    asked: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Load {
    fn call(&self, url: &str, endpoint: &str, x: f64) {
        let client = client();
        while !self.stop.load(SeqCst) {
            let answer = client.post(format!("{url}/predict/{endpoint}")).json(&json!({ "x": x, "y": 1.0 })).send();
            self.asked.fetch_add(1, SeqCst);
            let why = match answer {
                Err(error) => Some(format!("no answer: {error:?}")),
                Ok(answer) if answer.status() != 200 => Some(format!("status {}: {:?}", answer.status(), answer.text())),
                Ok(answer) => answer.json::<Value>().map_or_else(|error| Some(error.to_string()), |answer| odd(&answer, x)),
            };
            if let Some(why) = why {
                self.wrong.lock().expect("a lock").push(why);
            }
        }
    }
    /// Ends the load; whoever called must have been served without exception.
    fn is_good(&self) {
        let wrong = self.wrong.lock().expect("a lock");
        assert!(wrong.is_empty(), "{} of {}: {:#?}", wrong.len(), self.asked.load(SeqCst), &wrong[..wrong.len().min(5)]);
    }
}

/// What is odd about an answer: its score must be what exactly the version says that it names.
fn odd(answer: &Value, x: f64) -> Option<String> {
    let row = &answer["predictions"][0];
    let number: f64 = row["model"].as_str().and_then(|m| m.rsplit_once('@')).and_then(|(_, n)| n.parse().ok()).unwrap_or(f64::NAN);
    let expected = number + if x > 0.0 { 1_000.25 } else { 0.25 };
    (row["score"].as_f64() != Some(expected)).then(|| answer.to_string())
}

fn answering(server: &Server) -> Option<String> {
    let (status, answer) = server.post("/predict/risk", &json!({ "x": 1.0, "y": 1.0 }));
    (status == 200).then(|| answer["predictions"][0]["model"].as_str().unwrap_or_default().to_owned())
}

#[test]
#[ignore = "takes minutes: cargo test -- --include-ignored"]
fn two_hundred_versions_are_swapped_under_load_and_no_request_fails() {
    let project = Project::empty();
    project.write("gristmill.toml", &format!("{PROJECT}{SHARED}"));
    let server = project.start(&["dev", "--port", "0"]);
    let versions: Vec<String> = (1..=4).map(|number| boosters::register(&server, "risk", &version(number))).collect();
    boosters::point(&server, "risk", &versions[0]);
    server.wait_for("version 1", 30, answering);
    server.wait_for("the other endpoint", 30, |s| (s.post("/predict/shared", &json!({ "x": 1.0, "y": 1.0 })).0 == 200).then_some(()));
    let (load, began) = (Load::default(), Instant::now());
    std::thread::scope(|scope| {
        for (endpoint, x) in [("risk", -1.0), ("risk", 1.0), ("shared", 2.0), ("shared", -2.0)] {
            let (load, url) = (&load, server.url.as_str());
            scope.spawn(move || load.call(url, endpoint, x));
        }
        let swapped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for swap in 1..=SWAPS {
                let next = &versions[swap % versions.len()];
                boosters::point(&server, "risk", next);
                server.wait_for("the next version", 30, |s| answering(s).filter(|model| model.ends_with(&format!("@{next}"))));
            }
        }));
        load.stop.store(true, SeqCst);
        swapped.expect("all swaps");
    });
    let rate = load.asked.load(SeqCst) as f64 / began.elapsed().as_secs_f64();
    println!("{SWAPS} swaps under {rate:.0} requests per second");
    load.is_good();
    server.stop();
}

/// nginx before two servers.
struct Proxy {
    nginx: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Proxy {
    fn start(upstreams: &[u16]) -> Proxy {
        let folder = tempfile::tempdir().expect("a folder");
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port();
        let servers: String = upstreams.iter().map(|port| format!("server 127.0.0.1:{port} max_fails=0;")).collect();
        let at = folder.path().display();
        let config = format!(
            "daemon off; pid {at}/pid; error_log {at}/error.log; worker_processes 1; events {{ worker_connections 512; }}\n\
             http {{ access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; \
             scgi_temp_path {at}/s; upstream two {{ {servers} keepalive 16; }}\n\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://two; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
             proxy_set_header Host 127.0.0.1; proxy_next_upstream error timeout http_503 non_idempotent; }} }} }}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), config).expect("a file");
        let places = ["/usr/sbin/nginx", "/usr/bin/nginx"];
        let program = places.into_iter().find(|path| std::path::Path::new(path).exists()).expect("nginx is installed");
        let mut nginx = Command::new(program);
        let nginx = nginx.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf")).spawn().expect("nginx starts");
        Proxy { nginx, url: format!("http://127.0.0.1:{port}"), _folder: folder }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.nginx.id() as i32);
        let _gone_already = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _reaped_already = self.nginx.wait();
    }
}

#[test]
#[ignore = "needs nginx: cargo test -- --include-ignored"]
fn fifty_restarts_behind_a_proxy_fail_no_request() {
    let projects = [Project::empty(), Project::empty()];
    let ports = [0, 0].map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port());
    let start = |i: usize| projects[i].start(&["dev", "--port", &ports[i].to_string()]);
    let mut servers: Vec<Option<Server>> = (0..2)
        .map(|i| {
            projects[i].write("gristmill.toml", PROJECT);
            let server = start(i);
            boosters::point(&server, "risk", &boosters::register(&server, "risk", &version(1)));
            server.wait_for("version 1", 30, answering);
            Some(server)
        })
        .collect();
    let proxy = Proxy::start(&ports);
    let began = Instant::now();
    while client().get(format!("{}/healthz", proxy.url)).send().is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "nginx does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    let load = Load::default();
    std::thread::scope(|scope| {
        for x in [-1.0, 1.0, 2.0, -2.0] {
            let (load, url) = (&load, proxy.url.as_str());
            scope.spawn(move || load.call(url, "risk", x));
        }
        let restarted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for restart in 0..RESTARTS {
                let i = restart % 2;
                servers[i].take().expect("running").stop();
                let server = start(i);
                server.wait_for("readiness", 30, answering);
                servers[i] = Some(server);
                std::thread::sleep(Duration::from_millis(300));
            }
        }));
        load.stop.store(true, SeqCst);
        restarted.expect("all restarts");
    });
    println!("{RESTARTS} restarts under {} requests", load.asked.load(SeqCst));
    load.is_good();
    servers.into_iter().flatten().for_each(Server::stop);
}
