//! `gristmill purge --older-than 30d`: removes for good what was deleted long enough ago, and the content that nobody names any more.

use super::{Cx, Ended, Exit};
use crate::output::{table, thousands};
use crate::wiring::State;
use clap::Args;
use gristmill_kernel::Span;
use gristmill_kernel::port::Tracking as _;

/// Remove for good what was deleted.
#[derive(Debug, Args)]
pub struct Purge {
    /// How long deleted runs, experiments and logged models can be restored: what was deleted earlier goes.
    #[arg(long, value_name = "TIME", default_value = "30d")]
    older_than: Span,
    /// Count what would go; remove nothing.
    #[arg(long)]
    dry_run: bool,
}

/// What went, or would go.
#[derive(serde::Serialize)]
struct Report {
    dry_run: bool,
    #[serde(flatten)]
    purged: gristmill_kernel::tracking::Purged,
    /// Contents that nobody named; not known before the rest is gone.
    contents: Option<u64>,
    bytes: Option<u64>,
}

impl Purge {
    pub async fn run(self, cx: &Cx) -> Ended {
        let state = State::open(cx).await?;
        let now = state.ports.clock.now();
        let before = now.minus(self.older_than);
        let report = if self.dry_run {
            Report { dry_run: true, purged: state.ledger.purgeable(before).await?, contents: None, bytes: None }
        } else {
            let purged = state.ledger.purge(before, &cx.actor(), now).await?;
            let garbage = crate::tracking::artifacts(&state).collect_garbage(now).await?;
            Report { dry_run: false, purged, contents: Some(garbage.removed), bytes: Some(garbage.bytes) }
        };
        show(cx, &report);
        Ok(Exit::Done)
    }
}

fn show(cx: &Cx, report: &Report) {
    if cx.out.is_json() {
        cx.out.data_json(report);
        return;
    }
    let purged = report.purged;
    let rows = [
        ("runs", Some(purged.runs)),
        ("logged models", Some(purged.logged_models)),
        ("experiments", Some(purged.experiments)),
        ("contents", report.contents),
        ("bytes", report.bytes),
    ];
    let rows = rows.into_iter().filter_map(|(kind, count)| Some(vec![kind.to_owned(), thousands(count?)])).collect();
    cx.out.data(table(&["", if report.dry_run { "would go" } else { "gone" }], rows));
    if purged.kept > 0 {
        cx.out.say(format!("{} runs and logged models stay: registered versions came from them", thousands(purged.kept)));
    }
    if report.dry_run {
        cx.out.hint("nothing was removed; run it again without --dry-run");
    }
}
