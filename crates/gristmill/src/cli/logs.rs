//! `gristmill logs`: the ledger's story.

use super::{Cx, Ended, Exit};
use crate::wiring::State;
use clap::Args;
use gristmill_kernel::port::{AuditEntry, AuditFilter};
use std::time::Duration;

/// The ledger's story: who did what, when and why.
#[derive(Debug, Args)]
pub struct Logs {
    /// Only about this address, version or run.
    subject: Option<String>,
    /// At most this many lines, the newest.
    #[arg(long, short = 'n', default_value_t = 200)]
    lines: usize,
    /// Wait for more.
    #[arg(long, short)]
    follow: bool,
    /// Recompute the hash chain and say whether it holds.
    #[arg(long)]
    verify: bool,
}

impl Logs {
    pub async fn run(self, cx: &Cx) -> Ended {
        let state = State::open(cx).await?;
        let ledger = &state.ports.ledger;
        if self.verify {
            let lines = ledger.verify_audit().await?;
            match cx.out.is_json() {
                true => cx.out.data_json(&serde_json::json!({"lines": lines, "verified": true})),
                false => cx.out.data(format!("{lines} lines, each hash follows from the one before")),
            }
            return Ok(Exit::Done);
        }
        let mut all: Vec<AuditEntry> = Vec::new();
        let mut after = 0;
        loop {
            let page = ledger.audit(&AuditFilter { after, subject: self.subject.clone(), limit: 1000 }).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            all.extend(page);
            if all.len() > self.lines {
                all.drain(..all.len() - self.lines);
            }
        }
        all.iter().for_each(|e| show(cx, e));
        if !self.follow {
            return Ok(Exit::Done);
        }
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            for entry in ledger.audit(&AuditFilter { after, subject: self.subject.clone(), limit: 1000 }).await? {
                after = entry.seq;
                show(cx, &entry);
            }
        }
    }
}

fn show(cx: &Cx, entry: &AuditEntry) {
    if cx.out.is_json() {
        match serde_json::to_string(entry) {
            Ok(line) => cx.out.data(line),
            Err(e) => cx.out.warn(format!("line {} does not serialise: {e}", entry.seq)),
        }
    } else {
        cx.out.data(sentence(entry));
    }
}

/// One audit line for people.
pub fn sentence(entry: &AuditEntry) -> String {
    let detail = &entry.detail;
    let text = |key: &str| detail.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let mut parts = Vec::new();
    for key in ["status", "verdict", "summary", "reason", "error"] {
        let value = match &detail.get(key) {
            Some(serde_json::Value::Object(o)) => o.get("message").and_then(|m| m.as_str()).unwrap_or_default().to_owned(),
            _ => text(key),
        };
        if !value.is_empty() {
            parts.push(value);
        }
    }
    if let Some(checks) = detail.get("failed").and_then(|c| c.as_array()) {
        parts.extend(checks.iter().filter_map(|c| {
            c.as_str().map(str::to_owned).or_else(|| Some(format!("{} ({})", c.get("condition")?.as_str()?, c.get("observed")?.as_str()?)))
        }));
    }
    if entry.action == "alias.moved" {
        let number =
            |key: &str| detail.get(key).and_then(serde_json::Value::as_u64).map_or("nothing".to_owned(), |n| format!("version {n}"));
        parts.insert(0, format!("@{} from {} to {}", text("alias"), number("from"), number("to")));
    }
    format!("{:>5} {} {:<14} {:<14} {} {}", entry.seq, entry.at, entry.actor.to_string(), entry.action, entry.subject, parts.join("; "))
}
