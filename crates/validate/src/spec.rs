//! What the user expects of rows.

use gristmill_kernel::Name;

/// The spec of node `sources.NAME`: raw rows in, accepted rows, quarantine and profile out.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ValidateSpec {
    /// The source.
    pub source: Name,
    /// The event time column: a row without it is quarantined.
    pub time: Option<String>,
    /// What is expected, in order.
    pub expect: Vec<Expectation>,
}

/// One expectation.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Expectation {
    /// A SQL boolean over a row, or a helper: `unique(c)`, `fresh('2 minutes')`.
    pub that: String,
    /// The share of rows that must hold for the verdict to pass, between 0 and 1. Failing rows are dealt with by `otherwise` in any case.
    pub at_least: f64,
    /// What happens to rows that fail.
    #[serde(rename = "else")]
    pub otherwise: Otherwise,
}

/// What happens to rows that fail an expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// They go to the quarantine (the default).
    #[default]
    Quarantine,
    /// They stay; the verdict warns.
    Warn,
    /// The whole load is refused; raw rows stay, nothing reaches the table.
    Fail,
}
