//! What the README shows is what happens: its commands are run as a newcomer would paste them, its feature is a feature.

use gristmill_tests::{Project, binary};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    gristmill_tests::folder().parent().expect("the workspace").to_owned()
}

/// The blocks of a language, in order.
fn blocks(language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("README.md")).expect("the README");
    let mut blocks = Vec::new();
    let mut open: Option<Vec<&str>> = None;
    for line in text.lines() {
        match &mut open {
            Some(lines) if line.trim_end() == "```" => {
                blocks.push(lines.join("\n"));
                open = None;
            }
            Some(lines) => lines.push(line),
            None if line.trim_end() == format!("```{language}") => open = Some(Vec::new()),
            None => {}
        }
    }
    blocks
}

/// A line without its comment.
fn command_of(line: &str) -> &str {
    line.split(" #").next().unwrap_or_default().trim()
}

#[test]
fn the_two_commands_are_the_ones_that_ci_and_the_demo_tests_run() {
    let first = &blocks("sh")[0];
    let commands: Vec<&str> = first.lines().map(command_of).collect();
    assert_eq!(commands, ["cargo run --release -- demo", "cargo xtask ci"]);
    let ci = std::fs::read_to_string(root().join(".ci/run")).expect(".ci/run");
    assert!(ci.lines().any(|line| line.trim() == commands[1]), "CI runs the README's second command");
}

#[test]
fn the_walk_through_a_project_works_as_pasted() {
    let walk = blocks("sh").into_iter().find(|b| b.contains("gristmill init")).expect("the walk");
    let home = tempfile::tempdir().expect("a folder");
    let mut here = home.path().to_owned();
    let path = format!("{}:{}", binary().parent().expect("a folder").display(), std::env::var("PATH").unwrap_or_default());
    let shell = |line: &str, here: &Path| {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(here).env("PATH", &path).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    };
    let mut ran = Vec::new();
    for line in walk.lines().map(command_of).filter(|line| !line.is_empty()) {
        if let Some(folder) = line.strip_prefix("cd ") {
            here = here.join(folder);
        } else if let Some(package) = line.strip_prefix("cargo install --path ") {
            // The tests run the binary that this would install.
            assert!(root().join(package).join("Cargo.toml").is_file(), "{package} is not a package");
        } else if line == "gristmill serve" {
            // On a free port, so that nothing that runs here is in the way.
            let mut child = shell("exec gristmill serve --port 0", &here).stderr(Stdio::piped()).spawn().expect("a server");
            let mut told = BufReader::new(child.stderr.take().expect("its words")).lines();
            let token = told.by_ref().map_while(Result::ok).find(|l| l.contains("shown this once"));
            child.kill().expect("a process to kill");
            child.wait().expect("its end");
            assert!(token.is_some(), "serve prints a token");
        } else {
            let output = shell(line, &here).output().expect("a shell");
            assert!(output.status.success(), "`{line}` failed\n{}\n{}", text(&output.stdout), text(&output.stderr));
        }
        ran.push(line.to_owned());
    }
    assert!(ran.len() >= 8, "{ran:?}");
}

#[test]
fn the_feature_is_a_feature() {
    let project = Project::empty();
    project.write("gristmill.toml", "project = \"readme\"\n\n[sources.events]\nfrom = \"data/events.csv\"\ntime = \"event_time\"\n");
    project.write(
        "data/events.csv",
        "customer_id,event_time,kind,amount\n1,2026-01-01T00:00:00Z,login,2.5\n1,2026-01-09T00:00:00Z,ticket,1.5\n",
    );
    project.write("features/activity.sql", &blocks("sql")[0]);
    project.run(&["check"]).good();
    project.run(&["apply", "--yes"]).good();
    let shown = project.run(&["show", "features.activity"]).good().out;
    assert!(shown.contains("logins_7d") || shown.contains("activity"), "{shown}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
