//! The binary: parses, sets up, dispatches.

mod cli;
mod config;
mod egress;
mod fetch;
mod front;
mod output;
mod server;
mod tasks;
mod threads;
mod tracking;
mod upkeep;
mod wiring;

use clap::Parser as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// A request makes hundreds of small allocations on one thread and frees them on another: with glibc's they were a fifth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let outside = match config::Surroundings::read() {
        Ok(outside) => outside,
        Err(e) => {
            eprintln!("error: the current folder cannot be read: {e}");
            return ExitCode::FAILURE;
        }
    };
    let filter = outside.log.as_deref().unwrap_or("warn,gristmill_monitor=error");
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("warn")))
        .with_writer(std::io::stderr)
        .with_ansi(outside.color)
        .init();
    let runtime = match threads::requests() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: no threads can be started: {e}");
            return ExitCode::FAILURE;
        }
    };
    let exit = runtime.block_on(cli.run(outside));
    // What is still running was told to stop; what it was about to write is addressed by digest or position.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    ExitCode::from(exit.code())
}
