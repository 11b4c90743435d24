//! What people and programs see. Data on standard output, everything else on standard error; colour never carries meaning;
//! bars on a terminal, plain lines when piped.

use crate::config::Surroundings;
use gristmill_kernel::graph::Node;
use gristmill_kernel::{Fault, Run, RunStatus, Verdict};
use gristmill_runner::{Observer, StepEnd};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use owo_colors::OwoColorize as _;
use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How a command speaks.
#[derive(Clone)]
pub struct Output {
    json: bool,
    quiet: bool,
    color: bool,
    bars: bool,
    multi: MultiProgress,
}

impl Output {
    /// From the flags and the terminal.
    pub fn new(json: bool, quiet: bool, outside: &Surroundings) -> Output {
        Output { json, quiet, color: outside.color, bars: outside.terminal && !quiet && !json, multi: MultiProgress::new() }
    }
    /// Whether data shall be JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }
    /// Whether colours are wanted.
    pub fn color(&self) -> bool {
        self.color
    }

    /// A line for people.
    pub fn say(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.line(text.as_ref());
        }
    }
    /// A heading for people.
    pub fn head(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.line("");
            self.line(&self.bold(text.as_ref()));
        }
    }
    /// Text in bold, where that is wanted.
    pub fn bold(&self, text: &str) -> String {
        if self.color { text.bold().to_string() } else { text.to_owned() }
    }
    /// Text of less weight, where that is wanted.
    pub fn faint(&self, text: &str) -> String {
        if self.color { text.dimmed().to_string() } else { text.to_owned() }
    }
    /// Data: the one thing that goes to standard output. A closed pipe ends quietly.
    pub fn data(&self, text: impl AsRef<str>) {
        let mut out = std::io::stdout().lock();
        let _closed_pipe = writeln!(out, "{}", text.as_ref().trim_end_matches('\n'));
    }
    /// Data as JSON.
    pub fn data_json(&self, value: &impl serde::Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.data(text),
            Err(e) => self.line(&format!("the answer does not serialise: {e}")),
        }
    }
    /// An error with its place, fix and code.
    pub fn fault(&self, fault: &Fault) {
        if self.json {
            let value = gristmill_project::render::json(fault);
            self.line(&value.to_string());
        } else {
            self.line(&gristmill_project::render::render(fault, self.color));
        }
    }
    /// A warning.
    pub fn warn(&self, text: impl AsRef<str>) {
        let word = if self.color { "warning".yellow().bold().to_string() } else { "warning".to_owned() };
        self.line(&format!("{word}: {}", text.as_ref()));
    }
    /// A hint behind an error or a result.
    pub fn hint(&self, text: impl AsRef<str>) {
        if !self.quiet {
            let word = if self.color { "hint".cyan().bold().to_string() } else { "hint".to_owned() };
            self.line(&format!("{word}: {}", text.as_ref()));
        }
    }
    /// The word of a verdict, coloured; the word itself carries the meaning.
    pub fn verdict(&self, verdict: Verdict) -> String {
        let word = verdict.as_str();
        if !self.color {
            return word.to_owned();
        }
        match verdict {
            Verdict::Pass => word.green().to_string(),
            Verdict::Warn | Verdict::Inconclusive => word.yellow().to_string(),
            Verdict::Fail => word.red().to_string(),
        }
    }

    fn line(&self, text: &str) {
        let text = text.to_owned();
        self.multi.suspend(|| {
            let mut err = std::io::stderr().lock();
            let _closed = writeln!(err, "{text}");
        });
    }

    /// A line that moves while something long is done; none where standard error is not a terminal.
    pub fn bar(&self) -> Option<ProgressBar> {
        self.bars.then(|| {
            let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = self.multi.add(ProgressBar::new_spinner().with_style(style));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        })
    }

    /// Shows the steps of flows as they go.
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(Steps { out: self.clone(), bars: Mutex::default() })
    }
}

/// Shows steps: a bar on a terminal, a line when each has ended.
struct Steps {
    out: Output,
    bars: Mutex<HashMap<String, ProgressBar>>,
}

impl Steps {
    fn bar(&self, node: &Node) -> Option<ProgressBar> {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner).get(&key(node)).cloned()
    }
    fn clear(&self, node: &Node) {
        if let Some(bar) = self.bars.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(node)) {
            bar.finish_and_clear();
        }
    }
    fn line(&self, sign: &str, node: &Node, text: &str, took: Option<Duration>) {
        let took = took.map(|t| self.out.faint(&format!("  {}", duration(t)))).unwrap_or_default();
        self.out.say(format!("{sign} {:<9} {:<24} {text}{took}", node.stage.as_str(), node.address.to_string()));
    }
}

fn key(node: &Node) -> String {
    format!("{} {}", node.stage, node.address)
}

impl Observer for Steps {
    fn began(&self, node: &Node) {
        if !self.out.bars {
            return;
        }
        let style =
            ProgressStyle::with_template("{spinner} {prefix} {wide_msg} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = self.out.multi.add(ProgressBar::new_spinner().with_style(style));
        bar.set_prefix(format!("{:<9} {:<24}", node.stage.as_str(), node.address.to_string()));
        bar.enable_steady_tick(Duration::from_millis(120));
        self.bars.lock().unwrap_or_else(PoisonError::into_inner).insert(key(node), bar);
    }
    fn at(&self, node: &Node, done: u64, total: u64, unit: &str) {
        if let Some(bar) = self.bar(node) {
            match total {
                0 => bar.set_message(format!("{} {unit}", thousands(done))),
                _ => bar.set_message(format!("{} of {} {unit}", thousands(done), thousands(total))),
            }
        }
    }
    fn say(&self, node: &Node, text: &str) {
        if let Some(bar) = self.bar(node) {
            bar.set_message(text.to_owned());
        }
    }
    fn ended(&self, node: &Node, end: &StepEnd) {
        self.clear(node);
        let sign = match (end.skipped, end.verdict) {
            (true, _) => "=",
            (false, Some(Verdict::Fail)) => "x",
            (false, Some(Verdict::Warn | Verdict::Inconclusive)) => "!",
            (false, _) => "+",
        };
        let text = match end.verdict {
            Some(verdict) if !end.skipped => format!("{}: {}", self.out.verdict(verdict), end.summary),
            _ => end.summary.clone(),
        };
        self.line(sign, node, &text, (!end.skipped).then_some(end.took));
    }
    fn failed(&self, node: &Node, fault: &Fault, retry_in: Option<Duration>) {
        match retry_in {
            Some(wait) => self.line("!", node, &format!("{}; again in {}", fault.message, duration(wait)), None),
            None => {
                self.clear(node);
                self.line("x", node, &fault.message, None);
            }
        }
    }
    fn flow_ended(&self, run: &Run) {
        if run.status != RunStatus::Succeeded {
            self.out.say(format!("flow {} {}: {}", run.id.short(), run.status, run.summary));
        }
    }
}

/// `1067371` as `1,067,371`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A time for people: `0.42 s`, `12 s`, `3 m 5 s`.
pub fn duration(d: Duration) -> String {
    match d.as_secs_f64() {
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 60.0 => format!("{s:.0} s"),
        s => format!("{:.0} m {:.0} s", (s / 60.0).floor(), s % 60.0),
    }
}

/// A table for people.
pub fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(head.to_vec());
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_067_371), "1,067,371");
    }
}
