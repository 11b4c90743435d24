//! `gristmill doctor`: is this machine fit, is this state sound?

use super::{Cx, Ended, Exit};
use crate::config::DEFAULT_PORT;
use crate::output::thousands;
use crate::wiring::{State, project_dir};
use clap::Args;
use gristmill_kernel::version::{Place, Which};
use gristmill_kernel::{Fault, Result};
use gristmill_store::StateLock;
use serde_json::json;

/// Is this machine fit, is this state sound?
#[derive(Debug, Args)]
pub struct Doctor {
    /// The port that serve would use.
    #[arg(long, default_value_t = DEFAULT_PORT)]
    port: u16,
}

struct Finding {
    what: &'static str,
    good: bool,
    text: String,
    fix: Option<String>,
}

impl Doctor {
    pub async fn run(self, cx: &Cx) -> Ended {
        let mut found = vec![Finding {
            what: "cores",
            good: true,
            text: std::thread::available_parallelism().map(|n| n.to_string()).unwrap_or_else(|_| "unknown".to_owned()),
            fix: None,
        }];
        found
            .push(outcome("port", gristmill_web::bind(([127, 0, 0, 1], self.port).into()).await.map(|_| format!("{} is free", self.port))));
        found.push(onnxruntime());
        match project_dir(cx) {
            Err(fault) => found.push(outcome("project", Err(fault))),
            Ok(_) => match State::open(cx).await {
                Err(fault) => found.push(outcome("state", Err(fault))),
                Ok(state) => state_findings(&state, &mut found).await,
            },
        }
        let sound = found.iter().all(|f| f.good);
        if cx.out.is_json() {
            let list: Vec<_> = found.iter().map(|f| json!({"what": f.what, "good": f.good, "text": f.text, "fix": f.fix})).collect();
            cx.out.data_json(&json!({"sound": sound, "found": list}));
        } else {
            for finding in &found {
                cx.out.data(format!("{} {:<12} {}", if finding.good { "ok  " } else { "BAD " }, finding.what, finding.text));
                if let Some(fix) = &finding.fix {
                    cx.out.hint(fix);
                }
            }
        }
        Ok(if sound { Exit::Done } else { Exit::Failed })
    }
}

/// What the models that gristmill has no operators for may be computed with.
fn onnxruntime() -> Finding {
    let what = "onnxruntime";
    match gristmill_serve::runtime::onnx::about_library() {
        None => {
            let text = "not given; ONNX graphs that gristmill has not all operators for are refused".to_owned();
            let fix = "pip install onnxruntime, then ORT_DYLIB_PATH=.../onnxruntime/capi/libonnxruntime.so.VERSION gristmill ...";
            Finding { what, good: true, text, fix: Some(fix.to_owned()) }
        }
        Some(Ok(text)) => Finding { what, good: true, text, fix: None },
        Some(Err(text)) => {
            let fix =
                "ORT_DYLIB_PATH names the shared library itself: libonnxruntime.so.VERSION in the folder onnxruntime/capi of the package";
            Finding { what, good: false, text, fix: Some(fix.to_owned()) }
        }
    }
}

async fn state_findings(state: &State, found: &mut Vec<Finding>) {
    found.push(outcome("ledger", state.ports.ledger.verify_audit().await.map(|n| format!("{} lines, the hash chain holds", thousands(n)))));
    found.push(outcome("blobs", blobs(state).await));
    found.push(outcome("disk", writable(state)));
    let owner = StateLock::owner(&state.state_dir);
    let text = match StateLock::try_acquire(&state.state_dir) {
        Ok(Some(_)) => Ok("no server holds it".to_owned()),
        Ok(None) => Ok(format!("held by process {}", owner.map_or("unknown".to_owned(), |p| p.to_string()))),
        Err(fault) => Err(fault),
    };
    found.push(outcome("lock", text));
}

/// Every blob that a version names must be there and match its digest.
async fn blobs(state: &State) -> Result<String> {
    let mut count = 0u64;
    for asset in state.ports.ledger.assets().await? {
        for version in state.ports.ledger.versions(&asset).await? {
            if let Place::Blob { digest } = version.place {
                state.ports.blobs.get(&digest).await?.ok_or_else(|| {
                    Fault::damaged(format!("the content of {} is gone", version.id))
                        .fix(format!("make it again: gristmill run {} --force", version.id.asset))
                })?;
                count += 1;
            }
        }
        state.ports.ledger.version(&asset, &Which::Latest).await?;
    }
    Ok(format!("{} versions have their content, all digests match", thousands(count)))
}

fn writable(state: &State) -> Result<String> {
    let probe = state.state_dir.join("doctor.probe");
    std::fs::write(&probe, vec![0u8; 1 << 20]).map_err(|e| Fault::io(format!("write into {}", state.state_dir.display()), e))?;
    std::fs::remove_file(&probe).map_err(|e| Fault::io("remove the probe", e))?;
    Ok(format!("{} can be written", state.state_dir.display()))
}

fn outcome(what: &'static str, result: Result<String>) -> Finding {
    match result {
        Ok(text) => Finding { what, good: true, text, fix: None },
        Err(fault) => Finding { what, good: false, text: format!("{} [{}]", fault.message, fault.code), fix: fault.fix },
    }
}
