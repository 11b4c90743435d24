//! No client string becomes a path: the server is watched while it is sent evil strings in every path-like field, and what counts is what it
//! opened, not what it answered.
//!
//! `strace` follows the server and writes down every system call that takes a path. Two things are asserted: nothing is touched outside the
//! project's `.gristmill` that harmless strings did not make it touch too, and the mark that each string carries is in no path at all.

use gristmill_tests::Project;
use gristmill_tests::mlflow::{raw, raw_json};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// In every evil string, so that it can be found in a path whatever was done to the rest of it.
const MARK: &str = "zq7mark";

/// The strings: as they stand in JSON. In a target they are sent raw where HTTP allows it, and percent-encoded as well.
fn evil(m: &str) -> Vec<String> {
    let mut all: Vec<String> = [
        // going up
        "../M",
        "../../M",
        "../../../../../../../../tmp/M",
        "a/../../M",
        "a/../M",
        "./../M",
        "..//M",
        "...//M",
        "....//M",
        "..././M",
        "M/..",
        "M/../..",
        "M/.",
        "./M",
        "M//x",
        "M/",
        "../M/",
        "..;/M",
        // absolute
        "/tmp/M",
        "//tmp/M",
        "///tmp/M",
        "/etc/M",
        "/proc/self/root/tmp/M",
        "/dev/shm/M",
        "/./tmp/M",
        "/../tmp/M",
        // encoded, doubly, oddly
        "%2e%2e/M",
        "%2e%2e%2fM",
        "..%2fM",
        "%2e%2e%2f%2e%2e%2fM",
        "%252e%252e%252fM",
        "..%252fM",
        "%25252e%25252e%25252fM",
        "..%c0%afM",
        "%c0%ae%c0%ae/M",
        "%c0%2e%c0%2e/M",
        "%uff0e%uff0e/M",
        "..%ef%bc%8fM",
        "\u{ff0e}\u{ff0e}/M",
        "..\u{2215}M",
        "..\u{29f8}M",
        "%2ftmp%2fM",
        // other systems
        "..\\M",
        "..\\..\\M",
        "..%5cM",
        "C:\\M",
        "C:/M",
        "c:M",
        "\\\\host\\share\\M",
        "//host/share/M",
        "\\\\?\\C:\\M",
        "\\tmp\\M",
        "CON/M",
        "M::$DATA",
        // schemes
        "file:M",
        "file:/tmp/M",
        "file:///tmp/M",
        "file://localhost/tmp/M",
        "FILE:///tmp/M",
        "file:%2f%2f%2ftmp%2fM",
        "file+unix:///tmp/M",
        "jar:file:///tmp/M!/x",
        "dbfs:/M",
        "s3://bucket/../M",
        "sqlite:////tmp/M",
        "local:/tmp/M",
        "mlflow-artifacts:/../../M",
        "mlflow-artifacts:///../M",
        "mlflow-artifacts://host/../M",
        "mlflow-artifacts:/%2e%2e/M",
        "runs:/../M",
        "runs:/x/../../M",
        "models:/../M",
        "models:/m-/../../M",
        // fragments and queries
        "M#/../../tmp",
        "M?/../../tmp",
        "M#../x",
        "file:///tmp/M#a",
        "x?path=/tmp/M",
        "M%23/../..",
        "M%3f/../..",
        "M;/../..",
        "M&path=../M",
        // bytes
        "M\u{0}",
        "M\u{0}.txt",
        "../M\u{0}/x",
        "M%00",
        "../M%00.txt",
        "M\n/../x",
        "M\r\nX: y",
        "M\t",
        "M\u{202e}/..",
        "M\u{7f}",
        " ../M",
        "../M ",
        "M ",
        "~/M",
        "~root/M",
        "$HOME/M",
        "${HOME}/M",
        "`M`",
        "$(M)",
        "|M",
        "M;ls",
        "-M",
        "--M=/tmp/x",
        "@M",
        "*M*",
        "{M,../M}",
        "%M%",
        "{{M}}",
        // through a link that is there
        "evil-link/M",
        "evil-link/../M",
        "./evil-link/M",
        ".gristmill/evil-link/M",
    ]
    .iter()
    .map(|s| s.replace('M', m))
    .collect();
    all.push(format!("{}{m}", "../".repeat(200)));
    all.push(format!("{}{m}", "a/".repeat(2000)));
    all.push(format!("{}/{m}", "a".repeat(5000)));
    all
}

/// The same number of harmless strings, for the baseline: what the server opens in any case.
fn harmless(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("plain{i}/file{i}.txt")).collect()
}

/// Percent-encodes everything but letters and digits: the target carries the string exactly.
fn encoded(text: &str) -> String {
    text.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The string raw in a target, where HTTP can carry it at all: no spaces, no control characters, nothing above ASCII.
fn carried(text: &str) -> Option<String> {
    text.bytes().all(|b| b.is_ascii_graphic()).then(|| text.to_owned())
}

/// What the requests are about: things that exist, so that the evil part is what is looked at.
struct Stage {
    url: String,
    experiment: String,
    run: String,
    model: String,
    logged: String,
}

fn prepare(url: &str) -> Stage {
    let post = |route: &str, body: Value| {
        let (status, answer) = raw_json(url, "POST", &format!("/api/2.0/mlflow/{route}"), &body).expect("an answer");
        assert_eq!(status, 200, "{route}: {answer}");
        answer
    };
    let experiment = post("experiments/create", json!({"name": "watched"}))["experiment_id"].as_str().expect("an id").to_owned();
    let run = post("runs/create", json!({"experiment_id": experiment}))["run"]["info"]["run_id"].as_str().expect("an id").to_owned();
    post("registered-models/create", json!({"name": "watched"}));
    let source = format!("mlflow-artifacts:/{experiment}/{run}/artifacts/model");
    post("model-versions/create", json!({"name": "watched", "source": source, "run_id": run}));
    let logged = post("logged-models", json!({"experiment_id": experiment, "name": "watched"}))["model"]["info"]["model_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let (status, _) =
        raw(url, "PUT", format!("/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/a.txt").as_bytes(), &[], b"a")
            .expect("an answer");
    assert_eq!(status, 200);
    Stage { url: url.to_owned(), experiment, run, model: "watched".to_owned(), logged }
}

/// Sends one string in every path-like field of the surface; gives how many requests were answered.
fn send(stage: &Stage, s: &str) -> usize {
    let Stage { url, experiment, run, model, logged } = stage;
    let mut answered = 0;
    let api = "/api/2.0/mlflow";
    let root = "/api/2.0/mlflow-artifacts";
    let inside = format!("{experiment}/{run}/artifacts");
    let mut ask = |method: &str, target: &str, body: Option<&Value>| {
        let body = body.map(Value::to_string);
        let headers: &[(&str, &str)] = if body.is_some() { &[("Content-Type", "application/json")] } else { &[] };
        let got = raw(url, method, target.as_bytes(), headers, body.unwrap_or_default().as_bytes());
        if let Some((status, answer)) = got {
            answered += 1;
            assert!(status < 500 || status == 501, "{method} {target} with {s:?}: {status} {}", String::from_utf8_lossy(&answer));
        }
    };
    // in the path of the target
    for part in carried(s).into_iter().chain([encoded(s)]) {
        for method in ["PUT", "GET", "DELETE"] {
            ask(method, &format!("{root}/artifacts/{inside}/{part}"), None);
            ask(method, &format!("{root}/artifacts/{part}"), None);
            ask(method, &format!("{root}/artifacts/{experiment}/{part}/artifacts/x"), None);
        }
        ask("GET", &format!("{root}/artifacts?path={part}"), None);
        ask("GET", &format!("{root}/artifacts?path={inside}/{part}"), None);
        ask("GET", &format!("{root}/presigned/{inside}/{part}"), None);
        ask("GET", &format!("{root}/presigned/{part}"), None);
        for verb in ["create", "complete", "abort"] {
            ask(
                "POST",
                &format!("{root}/mpu/{verb}/{inside}/{part}"),
                Some(&json!({"path": "x", "num_parts": 1, "upload_id": "u", "parts": []})),
            );
            ask("POST", &format!("{root}/mpu/{verb}/{inside}"), Some(&json!({"path": s, "num_parts": 1, "upload_id": s, "parts": []})));
        }
        for target in [
            format!("{api}/artifacts/list?run_id={run}&path={part}"),
            format!("{api}/artifacts/list?run_id={part}"),
            format!("/get-artifact?run_id={run}&path={part}"),
            format!("/get-artifact?run_id={part}&path=a.txt"),
            format!("/model-versions/get-artifact?name={model}&version=1&path={part}"),
            format!("/model-versions/get-artifact?name={part}&version=1&path=a"),
            format!("/model-versions/get-artifact?name={model}&version={part}&path=a"),
            format!("{api}/runs/get?run_id={part}"),
            format!("{api}/metrics/get-history?run_id={run}&metric_key={part}"),
            format!("{api}/metrics/get-history-bulk-interval?run_ids={part}&metric_key={part}&max_results=5"),
            format!("{api}/experiments/get?experiment_id={part}"),
            format!("{api}/experiments/get-by-name?experiment_name={part}"),
            format!("{api}/registered-models/get?name={part}"),
            format!("{api}/registered-models/alias?name={model}&alias={part}"),
            format!("{api}/model-versions/get?name={model}&version={part}"),
            format!("{api}/model-versions/get-download-uri?name={part}&version=1"),
            format!("{api}/logged-models/{part}"),
            format!("{api}/logged-models/{part}/artifacts/directories"),
            format!("{api}/logged-models/{logged}/artifacts/directories?artifact_directory_path={part}"),
            format!("/ajax-api/2.0/mlflow/logged-models/{logged}/artifacts/files?artifact_file_path={part}"),
            format!("/ajax-api/2.0/mlflow/logged-models/{part}/artifacts/files?artifact_file_path=x"),
            format!("/ajax-api/2.0/mlflow/get-trace-artifact?request_id={part}"),
            format!("/ajax-api/3.0/mlflow/get-trace-artifact?request_id={part}&path={part}"),
            format!("/api/3.0/mlflow/traces/{part}"),
            format!("/api/3.0/mlflow/traces/get?trace_id={part}"),
            format!("{api}/traces/{part}/info"),
            format!("{api}/webhooks/{part}"),
            format!("/static-files/{part}"),
            format!("/{part}"),
            format!("/models/{part}"),
        ] {
            ask("GET", &target, None);
        }
        ask("POST", &format!("/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path={part}"), Some(&json!({"a": 1})));
        ask("POST", &format!("/ajax-api/2.0/mlflow/upload-artifact?run_uuid={part}&path=x"), Some(&json!({"a": 1})));
        ask("DELETE", &format!("{api}/logged-models/{part}"), None);
        ask("DELETE", &format!("{api}/logged-models/{logged}/tags/{part}"), None);
        ask("DELETE", &format!("{api}/webhooks/{part}"), None);
    }
    // in a body
    let model_json = json!({"artifact_path": s, "run_id": s, "model_uuid": s, "utc_time_created": "2020-01-01 00:00:00", "flavors": {"python_function": {"data": s, "code": s, "env": s}}});
    for (method, route, body) in [
        ("POST", "experiments/create", json!({"name": s})),
        ("POST", "experiments/create", json!({"name": format!("at {s}"), "artifact_location": s})),
        ("POST", "experiments/create", json!({"name": format!("under {s}"), "artifact_location": format!("mlflow-artifacts:/{s}")})),
        ("POST", "experiments/update", json!({"experiment_id": experiment, "new_name": s})),
        ("POST", "experiments/update", json!({"experiment_id": experiment, "new_name": "watched"})),
        ("POST", "experiments/set-experiment-tag", json!({"experiment_id": experiment, "key": s, "value": s})),
        ("POST", "experiments/set-experiment-tag", json!({"experiment_id": experiment, "key": "mlflow.artifactLocation", "value": s})),
        ("POST", "experiments/delete", json!({"experiment_id": s})),
        ("POST", "runs/create", json!({"experiment_id": s})),
        (
            "POST",
            "runs/create",
            json!({"experiment_id": experiment, "run_name": s, "user_id": s, "tags": [{"key": "mlflow.artifactUri", "value": s}]}),
        ),
        ("POST", "runs/update", json!({"run_id": s, "status": "FINISHED"})),
        ("POST", "runs/update", json!({"run_id": run, "run_name": s})),
        ("POST", "runs/delete", json!({"run_id": s})),
        ("POST", "runs/log-metric", json!({"run_id": run, "key": s, "value": 1, "timestamp": 1})),
        ("POST", "runs/log-metric", json!({"run_id": s, "key": "k", "value": 1, "timestamp": 1})),
        ("POST", "runs/log-parameter", json!({"run_id": run, "key": s, "value": s})),
        ("POST", "runs/set-tag", json!({"run_id": run, "key": s, "value": s})),
        ("POST", "runs/delete-tag", json!({"run_id": run, "key": s})),
        ("POST", "runs/log-batch", json!({"run_id": run, "metrics": [{"key": s, "value": 1, "timestamp": 1}]})),
        ("POST", "runs/log-batch", json!({"run_id": run, "params": [{"key": s, "value": s}]})),
        ("POST", "runs/log-batch", json!({"run_id": run, "tags": [{"key": s, "value": s}]})),
        ("POST", "runs/log-model", json!({"run_id": run, "model_json": model_json.to_string()})),
        (
            "POST",
            "runs/log-inputs",
            json!({"run_id": run, "datasets": [{"dataset": {"name": "d", "digest": "1", "source_type": "local", "source": s, "schema": s, "profile": s}, "tags": [{"key": "k", "value": s}]}]}),
        ),
        ("POST", "runs/search", json!({"experiment_ids": [experiment], "filter": format!("artifact_uri = '{s}'"), "page_token": s})),
        (
            "POST",
            "logged-models",
            json!({"experiment_id": experiment, "name": s, "model_type": s, "source_run_id": s, "tags": [{"key": s, "value": s}], "params": [{"key": s, "value": s}]}),
        ),
        ("POST", "registered-models/create", json!({"name": s, "tags": [{"key": s, "value": s}]})),
        ("POST", "registered-models/alias", json!({"name": model, "alias": s, "version": "1"})),
        ("DELETE", "registered-models/alias", json!({"name": model, "alias": s})),
        ("POST", "registered-models/rename", json!({"name": s, "new_name": "x"})),
        ("POST", "model-versions/create", json!({"name": model, "source": s})),
        ("POST", "model-versions/create", json!({"name": model, "source": s, "run_id": run})),
        (
            "POST",
            "model-versions/create",
            json!({"name": model, "source": format!("mlflow-artifacts:/{experiment}/{run}/artifacts/{s}"), "run_id": run}),
        ),
        ("POST", "model-versions/create", json!({"name": model, "source": format!("models:/{s}"), "run_link": s, "model_id": s})),
        ("POST", "model-versions/create", json!({"name": model, "source": format!("runs:/{run}/{s}"), "run_id": run})),
        ("POST", "model-versions/transition-stage", json!({"name": model, "version": s, "stage": s})),
        ("PATCH", "model-versions/update", json!({"name": model, "version": s, "description": s})),
        ("POST", "model-versions/set-tag", json!({"name": model, "version": "1", "key": s, "value": s})),
        ("POST", "artifacts/presigned-download-url", json!({"run_id": run, "path": s})),
        ("POST", "artifacts/presigned-upload-url", json!({"run_id": run, "path": s})),
        (
            "POST",
            "webhooks",
            json!({"name": s, "url": s, "status": "DISABLED", "events": [{"entity": "REGISTERED_MODEL", "action": "CREATED"}]}),
        ),
    ] {
        ask(method, &format!("{api}/{route}"), Some(&body));
    }
    let trace = json!({"trace": {"trace_info": {"trace_id": s, "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}, "request_time": "2020-09-13T12:26:40Z", "state": "OK", "tags": {"mlflow.artifactLocation": s}}}});
    ask("POST", "/api/3.0/mlflow/traces", Some(&trace));
    // what was made under an evil name is read back as well
    for (method, target) in [
        ("GET", format!("{api}/experiments/get-by-name?experiment_name=at%20{}", encoded(s))),
        ("GET", format!("{api}/experiments/get-by-name?experiment_name=under%20{}", encoded(s))),
    ] {
        if let Some((200, answer)) = raw(url, method, target.as_bytes(), &[], b"") {
            let answer: Value = serde_json::from_slice(&answer).unwrap_or(Value::Null);
            let body = json!({"experiment_id": answer["experiment"]["experiment_id"]});
            if let Some((200, made)) = raw_json(url, "POST", &format!("{api}/runs/create"), &body) {
                let run = made["run"]["info"]["run_id"].as_str().unwrap_or_default();
                ask("GET", &format!("{api}/artifacts/list?run_id={run}"), None);
                ask("GET", &format!("/get-artifact?run_id={run}&path=x"), None);
            }
        }
    }
    answered
}

/// A zip file with one member of this name (stored, not compressed): uploaded, and never unpacked.
fn archive(member: &str) -> Vec<u8> {
    let (name, data) = (member.as_bytes(), b"x");
    let crc = 0x8cdc_1683_u32; // CRC-32 of "x"
    let fixed = |out: &mut Vec<u8>| {
        out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0x21, 0]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&(data.len() as u32).to_le_bytes());
        out.extend_from_slice(&(data.len() as u32).to_le_bytes());
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(&[0, 0]);
    };
    let mut zip = b"PK\x03\x04\x0a\0".to_vec();
    fixed(&mut zip);
    zip.extend_from_slice(name);
    zip.extend_from_slice(data);
    let directory = zip.len() as u32;
    zip.extend_from_slice(b"PK\x01\x02\x0a\0\x0a\0");
    fixed(&mut zip);
    zip.extend_from_slice(&[0; 14]);
    zip.extend_from_slice(name);
    let size = zip.len() as u32 - directory;
    zip.extend_from_slice(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    zip.extend_from_slice(&size.to_le_bytes());
    zip.extend_from_slice(&directory.to_le_bytes());
    zip.extend_from_slice(&[0, 0]);
    zip
}

/// The paths of a trace of system calls, made absolute; quoted strings that are no paths (of `execve`) do no harm.
fn paths(trace: &str, cwd: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for line in trace.lines().filter(|l| l.contains('(')) {
        // openat(5</dir>, "name", …): the folder is named beside the number, thanks to `-y`.
        let mut folder = cwd.to_owned();
        let mut rest = line;
        while let Some(start) = rest.find(['"', '<']) {
            let opening = rest.as_bytes()[start];
            let Some((text, after)) = literal(&rest[start + 1..], if opening == b'<' { b'>' } else { b'"' }) else { break };
            if opening == b'<' {
                if text.starts_with('/') {
                    folder = PathBuf::from(text);
                }
            } else if !text.is_empty() {
                found.insert(tidied(&folder.join(text)));
                folder = cwd.to_owned();
            }
            rest = after;
        }
    }
    found
}

/// A quoted part of a trace line with its escapes undone (octal, C), and what follows it.
fn literal(text: &str, end: u8) -> Option<(String, &str)> {
    let bytes = text.as_bytes();
    let (mut out, mut i) = (Vec::new(), 0);
    while *bytes.get(i)? != end {
        if bytes[i] != b'\\' {
            out.push(bytes[i]);
            i += 1;
            continue;
        }
        let digits = bytes[i + 1..].iter().take(3).take_while(|b| (b'0'..b'8').contains(b)).count();
        if digits > 0 {
            out.push(u8::from_str_radix(&text[i + 1..i + 1 + digits], 8).unwrap_or(b'?'));
            i += 1 + digits;
        } else {
            out.push(match bytes.get(i + 1)? {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                other => *other,
            });
            i += 2;
        }
    }
    Some((String::from_utf8_lossy(&out).into_owned(), &text[i + 1..]))
}

/// Without `.` and `..`, by the letters alone.
fn tidied(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// Serves under `strace` while `during` runs; the paths that the server touched after it answered first.
fn watched(project: &Project, during: impl FnOnce(&Stage)) -> BTreeSet<PathBuf> {
    let trace = tempfile::NamedTempFile::new().expect("a file");
    let plain = project.command(&["dev", "--port", "0"]);
    let mut command = Command::new("strace");
    // -D: the server is our child and strace its grandchild, so that ending the server ends both.
    command.args(["-D", "-f", "-y", "-s", "8192", "-e", "trace=%file", "-e", "signal=none", "-o"]).arg(trace.path()).arg("--");
    command.arg(plain.get_program()).args(plain.get_args()).current_dir(project.path()).stdin(std::process::Stdio::null());
    command.envs(plain.get_envs().filter_map(|(k, v)| v.map(|v| (k, v))));
    let server = project.start_command(command);
    during(&prepare(&server.url));
    let end = format!("{} +++ ", server.pid());
    server.stop();
    // strace writes its last lines after the server has ended.
    let mut text = String::new();
    for _ in 0..200 {
        text = String::from_utf8_lossy(&std::fs::read(trace.path()).expect("a trace")).into_owned();
        if text.lines().any(|l| l.starts_with(&end)) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    paths(&text, project.path())
}

#[test]
fn evil_strings_open_nothing_outside_the_data_folder() {
    let strace = Command::new("strace").arg("-V").output();
    assert!(strace.is_ok_and(|o| o.status.success()), "this test watches system calls: install strace");
    assert!(evil(MARK).len() >= 60);

    let count = evil(MARK).len();
    let project = Project::example("empty");
    let usual = watched(&project, |stage| {
        for s in harmless(count) {
            send(stage, &s);
        }
    });
    let data = project.path().join(".gristmill");
    assert!(usual.iter().any(|p| p.starts_with(&data)), "the watch sees what is opened: {usual:?}");

    let project = Project::example("empty");
    let data = project.path().join(".gristmill");
    // Links lie where a path made of a client's string could find them.
    std::fs::create_dir_all(&data).expect("a folder");
    for place in [data.clone(), project.path().to_owned()] {
        std::os::unix::fs::symlink("/etc", place.join("evil-link")).expect("a link");
    }
    let mut answered = 0;
    let touched = watched(&project, |stage| {
        for (i, s) in evil(MARK).iter().enumerate() {
            answered += send(stage, s);
            let target = format!("/api/2.0/mlflow-artifacts/artifacts/{}/{}/artifacts/a{i}.zip", stage.experiment, stage.run);
            raw(&stage.url, "PUT", target.as_bytes(), &[], &archive(s)).expect("an answer");
        }
    });
    assert!(answered > count * 50, "the server answered: {answered}");

    let marked: Vec<_> = touched.iter().filter(|p| p.to_string_lossy().contains(MARK)).collect();
    assert!(marked.is_empty(), "a client's string became a path: {marked:?}");
    let outside: Vec<_> = touched
        .iter()
        .filter(|p| !p.starts_with(&data) && !usual.contains(*p))
        // The same file of the other project is as usual as in the first; process ids differ.
        .filter(|p| !p.strip_prefix(project.path()).is_ok_and(|rest| usual.iter().any(|u| u.ends_with(rest))))
        .filter(|p| !p.starts_with("/proc") && !p.starts_with("/sys"))
        .collect();
    assert!(outside.is_empty(), "opened outside the data folder: {outside:?}");
    assert!(!project.path().parent().is_some_and(|p| p.join(MARK).exists()) && !Path::new("/tmp").join(MARK).exists());
}

#[cfg(test)]
mod the_watch {
    use super::*;

    #[test]
    fn reads_a_trace() {
        let trace = r#"12 openat(AT_FDCWD</p>, "a/../b", O_RDONLY) = 3</p/b>
13 openat(7</p/.gristmill/blobs>, "ab/cd", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)
14 renameat(7</p/x>, "one", 8</p/y>, "tw\"o\303\274") = 0
15 stat("/etc/passwd", 0x7ffc) = 0"#;
        let found: Vec<String> = paths(trace, Path::new("/p")).iter().map(|p| p.display().to_string()).collect();
        assert_eq!(found, ["/etc/passwd", "/p/.gristmill/blobs/ab/cd", "/p/b", "/p/x/one", "/p/y/tw\"oü"]);
    }
}
