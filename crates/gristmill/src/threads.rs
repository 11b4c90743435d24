//! The threads of the process: one runtime answers requests, another one does everything else.
//!
//! Why two: a step of a flow computes for milliseconds without waiting for anything, and on the same threads requests would wait for it. Threads
//! of their own are taken turns by the kernel, and those of the flows are nicer, so that a request that comes is answered at once.

use gristmill_kernel::{Fault, Result};
use std::io;
use tokio::runtime::{Builder, Handle, Runtime};

/// Deep enough for plans of deeply nested queries.
const STACK_BYTES: usize = 8 << 20;
/// How nice the threads beside the requests are. With 10,000 events a second on one core (`xtask bench stream`), the slowest of 100 reads took 14 ms on
/// the same threads, 5 ms with this and 4 ms with 5; an event was seen after 0.5, 0.7 and 1.0 s.
const NICE: i32 = 1;

/// The runtime of commands and requests.
pub fn requests() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build()
}

/// The runtime of flows, upkeep and everything else that nobody waits for. It ends with this.
pub struct Beside(Option<Runtime>);

impl Beside {
    /// Starts it.
    pub fn start() -> Result<Beside> {
        let nice = || {
            // Refused, it works all the same.
            let _as_nice_as_before = rustix::process::setpriority_process(None, NICE);
        };
        let runtime =
            Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).thread_name("beside").on_thread_start(nice).build();
        Ok(Beside(Some(runtime.map_err(|e| Fault::io("start threads", e))?)))
    }
    /// Where tasks are spawned on it.
    pub fn handle(&self) -> Result<&Handle> {
        self.0.as_ref().map(Runtime::handle).ok_or_else(|| Fault::internal("the threads beside the requests have ended"))
    }
}

impl Drop for Beside {
    /// A runtime must not wait for its threads on a thread of another one.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
