//! A project of our own whose endpoint looks features up: twenty columns of two thousand customers, and a forest trained on them.

use super::FEATURES;
use anyhow::Result;
use std::fmt::Write as _;
use std::path::Path;

/// How many customers there are, numbered from 0.
pub const CUSTOMERS: u64 = 2_000;

/// The endpoint.
pub const ENDPOINT: &str = "features";

const PROJECT: &str = r#"project = "bench"

[sources.facts]
from = "data/facts.csv"
time = "at"

[sources.outcomes]
from = "data/outcomes.csv"
time = "at"

[models.features]
labels   = "labels/bought.sql"
features = ["profile"]
train    = "gbdt"
measure  = "auc"
gates    = ["auc >= 0.5"]

[endpoints.features]
model = "features"
"#;

/// Writes the project's files.
pub fn write(folder: &Path) -> Result<()> {
    for inner in ["data", "features", "labels"] {
        std::fs::create_dir_all(folder.join(inner))?;
    }
    let names: Vec<String> = (0..FEATURES).map(|number| format!("f{number:02}")).collect();
    let (mut facts, mut outcomes) = (format!("customer_id,at,{}\n", names.join(",")), String::from("customer_id,at,bought\n"));
    for customer in 0..CUSTOMERS {
        let values: Vec<f64> = (0..FEATURES).map(|number| value(customer, number)).collect();
        let cells: Vec<String> = values.iter().map(f64::to_string).collect();
        writeln!(facts, "{customer},2026-01-01T00:00:00Z,{}", cells.join(","))?;
        let bought = values[0] * values[1] + values[2].abs() + values[3] > 0.2;
        writeln!(outcomes, "{customer},2026-01-{:02}T00:00:00Z,{bought}", 2 + customer % 20)?;
    }
    let head = "/*---\nentity = 'customer_id'\nserve = 'online'\n---*/\n";
    let label = "/*---\nentity = 'customer_id'\ntime = 'asked_at'\nlabel = 'bought'\n---*/\n";
    std::fs::write(folder.join("gristmill.toml"), PROJECT)?;
    std::fs::write(folder.join("data/facts.csv"), facts)?;
    std::fs::write(folder.join("data/outcomes.csv"), outcomes)?;
    std::fs::write(folder.join("features/profile.sql"), format!("{head}select customer_id, {} from facts\n", names.join(", ")))?;
    std::fs::write(folder.join("labels/bought.sql"), format!("{label}select customer_id, at as asked_at, bought from outcomes\n"))?;
    Ok(())
}

/// A value between -1 and 1 that looks like chance.
fn value(customer: u64, number: usize) -> f64 {
    let mut state = (customer + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number as u64 + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state ^= state >> 30;
    state = state.wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^= state >> 31;
    (state % 512) as f64 / 256.0 - 1.0
}
