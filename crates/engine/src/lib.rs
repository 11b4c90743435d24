//! SQL, tables and `as_of()`: the [`Engine`](gristmill_kernel::port::Engine) port on DataFusion and Delta Lake.
//!
//! This is the only crate that names DataFusion or Delta. Promises:
//! - **Tables** (`tables`): one write is one atomic, durable commit that carries the source's position. Their files are kept few and in order
//!   (`upkeep`) without any version changing or going.
//! - **Queries** (`sql`): user text is fenced before it is planned, and runs within stated memory.
//! - **`as_of()`** (`as_of`): one compiled plan gives the same bits for training, online and request, whatever order and partitioning
//!   its rows come in (`aggregate`).
//! - **Conditions** (`condition`): a SQL boolean over rows or figures.
//!
//! To add an engine (a cluster of workers): another implementation of the port beside [`LocalEngine`], run by the suites in `tests/`.

mod aggregate;
mod as_of;
mod condition;
mod fault;
mod local;
mod sql;
mod tables;
mod upkeep;

pub use local::LocalEngine;
