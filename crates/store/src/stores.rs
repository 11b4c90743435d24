//! Opening a state folder: `ledger.db`, `blobs/`, `kv/` and `lock`.
//!
//! The ledger and the blobs may be open in any number of processes; online rows and journal in one.

use crate::blobs::LocalBlobs;
use crate::journal::EmbeddedJournal;
use crate::ledger::SqliteLedger;
use crate::online::EmbeddedOnline;
use crate::system::SystemClock;
use gristmill_kernel::port::Clock;
use gristmill_kernel::{Fault, Result};
use std::path::Path;
use std::sync::Arc;

/// Everything an owning process works with.
#[derive(Clone)]
pub struct Stores {
    /// Runs, versions, aliases, tokens.
    pub ledger: Arc<SqliteLedger>,
    /// Content by digest.
    pub blobs: Arc<LocalBlobs>,
    /// Kept rows per entity.
    pub online: Arc<EmbeddedOnline>,
    /// Pushed events.
    pub journal: Arc<EmbeddedJournal>,
}

/// The parts that one process owns.
#[derive(Clone)]
pub struct Owned {
    /// Kept rows per entity.
    pub online: Arc<EmbeddedOnline>,
    /// Pushed events.
    pub journal: Arc<EmbeddedJournal>,
}

/// Opens all parts of a state folder with the system's clock.
pub async fn open(state_dir: &Path) -> Result<Stores> {
    // The exclusive part first: a second owner is refused before it touches anything.
    let Owned { online, journal } = open_owner(state_dir)?;
    Ok(Stores { ledger: open_ledger(state_dir).await?, blobs: open_blobs(state_dir)?, online, journal })
}

/// Opens the ledger with the system's clock; any number of processes may.
pub async fn open_ledger(state_dir: &Path) -> Result<Arc<SqliteLedger>> {
    open_ledger_with(state_dir, Arc::new(SystemClock::new())).await
}

/// Opens the ledger. The clock dates annotations and requeues; every other write brings its own moment.
pub async fn open_ledger_with(state_dir: &Path, clock: Arc<dyn Clock>) -> Result<Arc<SqliteLedger>> {
    std::fs::create_dir_all(state_dir).map_err(|e| Fault::io(format_args!("make the state folder {}", state_dir.display()), e))?;
    Ok(Arc::new(SqliteLedger::open(&state_dir.join("ledger.db"), clock).await?))
}

/// Opens the blobs; any number of processes may.
pub fn open_blobs(state_dir: &Path) -> Result<Arc<LocalBlobs>> {
    Ok(Arc::new(LocalBlobs::open(&state_dir.join("blobs"))?))
}

/// Opens online rows and journal. A second owner is refused with `STATE_LOCKED`.
pub fn open_owner(state_dir: &Path) -> Result<Owned> {
    Ok(Owned { online: Arc::new(EmbeddedOnline::open(state_dir)?), journal: Arc::new(EmbeddedJournal::open(state_dir)?) })
}
