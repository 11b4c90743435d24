//! `gristmill dev`: work on a project. Applies it, serves it on loopback without a login, and applies again when a file changes.

use super::serve::{announce, until_told_to_stop};
use super::{Cx, Ended, Exit, Faults};
use crate::config::DEFAULT_PORT;
use crate::server::{Coming, Options, Server};
use crate::wiring::Workspace;
use clap::Args;
use gristmill_kernel::port::{FlowOrder, Runs as _};
use gristmill_kernel::{Code, Fault, StageKind};
use notify::{EventKind, RecursiveMode, Watcher as _};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Work on a project: apply it, serve it on loopback, follow its files.
#[derive(Debug, Args)]
pub struct Dev {
    /// The port.
    #[arg(long, default_value_t = DEFAULT_PORT)]
    port: u16,
}

/// Editors write a file in several steps; changes this close together are one.
const SETTLE: Duration = Duration::from_millis(300);

impl Dev {
    pub async fn run(self, cx: &Cx) -> Ended {
        let workspace = Workspace::load(cx).await?;
        workspace.test_and_check(cx).await?;
        workspace.save_lock()?;
        let options =
            Options { host: IpAddr::V4(Ipv4Addr::LOCALHOST), port: self.port, coming: Coming::open(), observer: cx.out.observer() };
        let stop = until_told_to_stop()?;
        let server = Server::start(cx, &workspace, options).await?;
        announce(cx, &server.url);
        submit(cx, &workspace, "dev").await?;
        let (tell, mut changed) = tokio::sync::mpsc::channel(16);
        let _watching = watch(&workspace, tell)?;
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(()) = changed.recv() => {
                    tokio::time::sleep(SETTLE).await;
                    while changed.try_recv().is_ok() {}
                    again(cx).await;
                }
            }
        }
        server.stop().await?;
        Ok(Exit::Done)
    }
}

async fn submit(cx: &Cx, workspace: &Workspace, reason: &str) -> Result<(), Fault> {
    let order = FlowOrder {
        targets: workspace.graph.nodes().iter().filter(|n| n.stage != StageKind::Monitor).map(|n| n.address.clone()).collect(),
        upstream: true,
        force: false,
        overrides: BTreeMap::new(),
        actor: cx.actor(),
        reason: reason.to_owned(),
        idempotency: None,
    };
    if order.targets.is_empty() {
        // A project without nodes still serves tracking clients.
        return Ok(());
    }
    workspace.state.queue().submit_flow(order).await.map(|_| ())
}

/// A file changed: check, test, apply. What is wrong is shown, and the last good project stays.
async fn again(cx: &Cx) {
    let done: Result<(), Faults> = async {
        let workspace = Workspace::load(cx).await?;
        workspace.test_and_check(cx).await?;
        workspace.save_lock()?;
        Ok(submit(cx, &workspace, "a file changed").await?)
    }
    .await;
    match done {
        Ok(()) => cx.out.say("a file changed; applying"),
        Err(Faults(faults)) => faults.iter().for_each(|f| cx.out.fault(f)),
    }
}

fn watch(workspace: &Workspace, tell: tokio::sync::mpsc::Sender<()>) -> Result<notify::RecommendedWatcher, Fault> {
    let bad = |e: notify::Error| Fault::internal(format!("files cannot be watched: {e}")).fix("apply changes by hand: gristmill apply");
    let matters = |path: &std::path::Path| {
        path.extension().is_some_and(|e| e == "toml" || e == "sql") && !path.components().any(|c| c.as_os_str() == crate::wiring::STATE_DIR)
    };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        let changes = matches!(event.kind, EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_));
        if changes && event.paths.iter().any(|p| matters(p)) {
            let _one_is_enough = tell.try_send(());
        }
    })
    .map_err(bad)?;
    let dir = &workspace.project.dir;
    watcher.watch(dir, RecursiveMode::NonRecursive).map_err(bad)?;
    for folder in ["features", "labels", "tests"] {
        let folder = dir.join(folder);
        if folder.is_dir() {
            watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(bad)?;
        }
    }
    if !dir.join("gristmill.toml").is_file() {
        return Err(Fault::not_found(Code::PROJECT_NOT_FOUND, "gristmill.toml is gone").fix("restore it"));
    }
    Ok(watcher)
}
