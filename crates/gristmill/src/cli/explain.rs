//! `gristmill explain E0207 | features.NAME`.

use super::{Cx, Ended, Exit};
use crate::wiring::Workspace;
use clap::Args;
use gristmill_kernel::error::ALL_CODES;
use gristmill_kernel::{Address, AssetKind, Code, Fault};
use serde_json::json;

/// Explain an error code or how a feature is computed.
#[derive(Debug, Args)]
pub struct Explain {
    /// An error code (E0207) or a feature's address (features.activity).
    what: String,
}

impl Explain {
    pub async fn run(self, cx: &Cx) -> Ended {
        if let Ok(address) = self.what.parse::<Address>() {
            return view(cx, &address).await;
        }
        let code = self.what.to_uppercase();
        let page = gristmill_project::codes::page(&code).ok_or_else(|| {
            let known: Vec<&str> = ALL_CODES.iter().map(|c| c.0).collect();
            Fault::not_found(Code::UNKNOWN_NAME, format!("there is no code {code}")).fix(format!("codes are {}", known.join(", ")))
        })?;
        match cx.out.is_json() {
            true => cx.out.data_json(&json!({"code": code, "page": page})),
            false => cx.out.data(page),
        }
        Ok(Exit::Done)
    }
}

async fn view(cx: &Cx, address: &Address) -> Ended {
    if address.kind != AssetKind::Features {
        return Err(Fault::invalid(Code::UNKNOWN_ADDRESS, format!("{address} is no feature view"))
            .fix("name one: features.activity")
            .into());
    }
    let workspace = Workspace::load(cx).await?;
    let plan = workspace.compile(address).await?;
    let shape = plan.shape();
    if cx.out.is_json() {
        cx.out.data_json(&json!({
            "address": address, "shape": shape.shape, "how": shape.how, "remarks": shape.remarks, "notes": shape.notes,
            "features": shape.features.fields().iter().map(|f| json!({"name": f.name(), "type": f.data_type().to_string()})).collect::<Vec<_>>(),
            "kept": shape.kept.iter().map(|k| json!({"table": k.table, "key": k.key, "time": k.time, "window": k.window})).collect::<Vec<_>>(),
        }));
        return Ok(Exit::Done);
    }
    cx.out.data(format!("{address}: {}", shape.shape));
    cx.out.data(format!("  how      {}", shape.how));
    for field in shape.features.fields() {
        cx.out.data(format!("  feature  {:<28} {}", field.name(), field.data_type()));
    }
    for kept in &shape.kept {
        let window = kept.window.map_or("all of history".to_owned(), |w| format!("the last {w}"));
        cx.out.data(format!("  online   rows of {} per ({}), {window}", kept.table, kept.key.join(", ")));
    }
    for remark in shape.remarks.iter().chain(&shape.notes) {
        cx.out.data(format!("  note     {remark}"));
    }
    Ok(Exit::Done)
}
