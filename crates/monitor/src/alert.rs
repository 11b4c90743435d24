//! Alerts: who is told, and in which words. Delivery goes through [`Egress`], the one client the binary gives; a failed delivery
//! is noted and never fails the run.

use crate::plan::Report;
use async_trait::async_trait;
use gristmill_kernel::port::Secrets;
use gristmill_kernel::{Code, Fault, Result, RunId};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

/// Sends JSON to the outside. The binary implements it with the product's one HTTP client, with its limits and rules.
#[async_trait]
pub trait Egress: Send + Sync {
    /// Posts JSON; an answer outside 200 to 299 is an error. The address may hold a secret and must not appear in the error.
    async fn post_json(&self, url: &SecretString, body: &serde_json::Value) -> Result<()>;
}

/// What is sent where.
#[derive(Debug)]
pub struct Message {
    /// The address; it may hold a secret.
    pub url: SecretString,
    /// The body.
    pub body: serde_json::Value,
}

/// The message for a target with its secrets filled in: `https://...` and `http://...` get the report, `slack://...` a text.
pub fn message(target: &SecretString, report: &Report, run: &RunId) -> Result<Message> {
    let target = target.expose_secret();
    if let Some(hook) = target.strip_prefix("slack://") {
        let url = if hook.starts_with("https://") { hook.to_owned() } else { format!("https://{hook}") };
        return Ok(Message { url: SecretString::from(url), body: json!({ "text": text(report) }) });
    }
    if target.starts_with("https://") || target.starts_with("http://") {
        let body = json!({
            "kind": if report.drifted.is_empty() { "parity" } else { "drift" },
            "endpoint": report.endpoint,
            "model": report.model.to_string(),
            "rows": report.rows,
            "window": report.window,
            "drifted": report.drifted,
            "parity": report.parity,
            "text": text(report),
            "run": run,
        });
        return Ok(Message { url: SecretString::from(target.to_owned()), body });
    }
    Err(Fault::invalid(Code::BAD_VALUE, "an alert target has a scheme that is not known").fix("use https://, http:// or slack://"))
}

/// The alert for people.
pub fn text(report: &Report) -> String {
    const SHOWN: usize = 5;
    let at = format!("at endpoint `{}` ({}, {} predictions)", report.endpoint, report.model, report.rows);
    let mut lines = Vec::new();
    let mut tell = |head: String, all: &[String], count: usize| {
        lines.push(head);
        lines.extend(all.iter().take(SHOWN).map(|one| format!("- {one}")));
        if count > SHOWN {
            lines.push(format!("- and {} more", count - SHOWN));
        }
    };
    if !report.drifted.is_empty() {
        tell(format!("drift {at}"), &report.drifted, report.drifted.len());
    }
    if let Some(parity) = report.parity.as_ref().filter(|_| report.skewed()) {
        let count = usize::try_from(parity.mismatched).unwrap_or(usize::MAX);
        tell(format!("served features are not those that training gives {at}: {}", parity.summary()), &parity.shown, count);
    }
    lines.join("\n")
}

/// Tells every target. Returns the sentences to note: how many were told, and which could not be. Targets are named as the project
/// writes them, so a secret in one is not shown.
pub async fn send(targets: &[String], report: &Report, run: &RunId, secrets: &dyn Secrets, egress: &dyn Egress) -> Vec<String> {
    let mut notes = Vec::new();
    let mut told = 0;
    for target in targets {
        let sent = match secrets.fill(target).and_then(|filled| message(&filled, report, run)) {
            Ok(message) => egress.post_json(&message.url, &message.body).await,
            Err(fault) => Err(fault),
        };
        match sent {
            Ok(()) => told += 1,
            Err(fault) => {
                let scheme = target.split("://").next().unwrap_or("unknown");
                tracing::warn!(endpoint = %report.endpoint, scheme, code = %fault.code, "an alert could not be delivered");
                notes.push(format!("an alert to {scheme}:// could not be delivered ({})", fault.code));
            }
        }
    }
    if told > 0 {
        notes.insert(0, format!("{told} alerted"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Span;
    use gristmill_kernel::{Name, Timestamp, Verdict, VersionRef};
    use std::sync::Mutex;

    fn report(drifted: usize) -> Report {
        Report {
            format: 1,
            endpoint: Name::new("churn").expect("name"),
            model: VersionRef { asset: "models.churn".parse().expect("address"), number: 3 },
            window: Span { from: None, to: Timestamp::from_micros(0) },
            rows: 1000,
            verdict: Some(Verdict::Fail),
            drifted: (0..drifted).map(|n| format!("psi(v.c{n}) = 0.4 > 0.2")).collect(),
            quality: None,
            parity: None,
            columns: Default::default(),
        }
    }
    fn run() -> RunId {
        RunId("0".repeat(32))
    }

    #[test]
    fn each_scheme_has_its_words() {
        let slack = message(&"slack://hooks.slack.com/services/T/B/x".to_owned().into(), &report(1), &run()).expect("a message");
        assert_eq!(slack.url.expose_secret(), "https://hooks.slack.com/services/T/B/x");
        assert!(slack.body["text"].as_str().expect("text").contains("psi(v.c0) = 0.4 > 0.2"));
        let whole = message(&"slack://https://hooks.slack.com/x".to_owned().into(), &report(1), &run()).expect("a message");
        assert_eq!(whole.url.expose_secret(), "https://hooks.slack.com/x");
        let hook = message(&"https://example.org/hook".to_owned().into(), &report(7), &run()).expect("a message");
        assert_eq!((hook.body["kind"].as_str(), hook.body["drifted"].as_array().map(Vec::len)), (Some("drift"), Some(7)));
        assert!(hook.body["text"].as_str().expect("text").ends_with("- and 2 more"));
        let fault = message(&"ftp://secret@x".to_owned().into(), &report(1), &run()).expect_err("unknown");
        assert!(!fault.to_string().contains("secret"));
    }

    #[test]
    fn skew_is_told_with_some_of_the_vectors() {
        let shown = (0..6).map(|n| format!("prediction {n}: v.c was 1 and is 2")).collect();
        let parity = crate::Parity { checked: 100, mismatched: 9, verdict: Some(Verdict::Fail), shown, ..Default::default() };
        let report = Report { parity: Some(parity), verdict: Some(Verdict::Pass), ..report(0) };
        let hook = message(&"https://example.org/hook".to_owned().into(), &report, &run()).expect("a message");
        assert_eq!((hook.body["kind"].as_str(), hook.body["parity"]["mismatched"].as_u64()), (Some("parity"), Some(9)));
        let text = hook.body["text"].as_str().expect("text");
        assert!(text.starts_with("served features are not those that training gives at endpoint `churn`"), "{text}");
        assert!(text.contains("- prediction 4: v.c was 1 and is 2") && text.ends_with("- and 4 more"), "{text}");
        assert_eq!((report.overall(), report.skewed()), (Some(Verdict::Fail), true));
    }

    struct Plain;
    impl Secrets for Plain {
        fn get(&self, name: &str) -> Result<SecretString> {
            Err(Fault::invalid(Code::MISSING_SECRET, format!("no {name}")))
        }
        fn fill(&self, text: &str) -> Result<SecretString> {
            if text.contains("${") { self.get("X") } else { Ok(text.to_owned().into()) }
        }
    }
    struct Flaky(Mutex<u32>);
    #[async_trait]
    impl Egress for Flaky {
        async fn post_json(&self, url: &SecretString, _: &serde_json::Value) -> Result<()> {
            *self.0.lock().expect("lock") += 1;
            if url.expose_secret().contains("down") {
                Err(Fault::new(gristmill_kernel::Kind::Unavailable, Code::PART_UNAVAILABLE, "no answer"))
            } else {
                Ok(())
            }
        }
    }

    #[tokio::test]
    async fn a_failed_delivery_does_not_keep_the_others_from_being_told() {
        let egress = Flaky(Mutex::new(0));
        let targets = ["https://down.example/token-abc", "slack://${X}", "https://up.example"].map(str::to_owned);
        let notes = send(&targets, &report(1), &run(), &Plain, &egress).await;
        assert_eq!(*egress.0.lock().expect("lock"), 2);
        assert_eq!(notes.len(), 3);
        assert_eq!(notes[0], "1 alerted");
        assert!(!notes.join(" ").contains("token-abc"));
    }
}
