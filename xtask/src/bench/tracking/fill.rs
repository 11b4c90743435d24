//! The runs that searches look at: the same numbers in every store, whoever writes them.
//!
//! Ours and FastTrackML's are written through the API. MLflow's would take the better part of an hour, so its database is filled directly by
//! `fill_mlflow.py`, with the same formula; the first pages are compared before anything is timed.

use super::worker::API;
use crate::bench::http::{Address, Connection};
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Metrics of a run.
pub const METRICS: usize = 50;
/// When the first run began.
pub const BEGAN: u64 = 1_700_000_000_000;

/// The value of a metric: spread evenly over 0 to 1, different for each of the first 10,007 runs.
pub fn value(run: u64, metric: usize) -> f64 {
    ((run * 7_919 + metric as u64 * 104_729) % 10_007) as f64 / 10_007.0
}

/// The filtered and ordered search.
pub fn search(experiment: &str) -> Value {
    json!({
        "experiment_ids": [experiment],
        "filter": "metrics.m07 > 0.5 and params.p1 = 'b'",
        "order_by": ["metrics.m03 DESC"],
        "max_results": 100,
    })
}

/// A run from its beginning to its end: created, logged to, ended.
pub fn whole(connection: &mut Connection, address: &Address, experiment: &str, i: u64, metrics: usize) -> Result<()> {
    let create = json!({ "experiment_id": experiment, "start_time": BEGAN + i, "run_name": name(i), "tags": [] });
    let made = connection.call(&address.post(&format!("{API}/runs/create"), &create))?.json()?;
    let id = made["run"]["info"]["run_id"].as_str().context("the new run has no id")?;
    let metrics: Vec<Value> =
        (0..metrics).map(|k| json!({ "key": format!("m{k:02}"), "value": value(i, k), "timestamp": BEGAN + i, "step": 0 })).collect();
    let params: Vec<Value> = params(i).into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    let team = ["x", "y", "z"][(i % 3) as usize];
    let tags = json!([{ "key": "team", "value": team }]);
    let batch = json!({ "run_id": id, "metrics": metrics, "params": params, "tags": tags });
    connection.call(&address.post(&format!("{API}/runs/log-batch"), &batch))?.json()?;
    let end = json!({ "run_id": id, "run_uuid": id, "status": "FINISHED", "end_time": BEGAN + i + 1 });
    connection.call(&address.post(&format!("{API}/runs/update"), &end))?.json()?;
    Ok(())
}

fn params(i: u64) -> [(&'static str, String); 5] {
    [
        ("p0", (i % 10).to_string()),
        ("p1", ["a", "b", "c", "d"][(i % 4) as usize].to_owned()),
        ("p2", (i % 1_000).to_string()),
        ("p3", "constant".to_owned()),
        ("p4", format!("value {i}")),
    ]
}

/// A run's name.
pub fn name(i: u64) -> String {
    format!("r{i:06}")
}

/// What the search must answer: the names of the first page, best first, out of so many runs.
pub fn expected(runs: u64) -> Vec<String> {
    let mut found: Vec<u64> = (0..runs).filter(|i| value(*i, 7) > 0.5 && i % 4 == 1).collect();
    // Equal values: the run that began last comes first.
    found.sort_by(|a, b| value(*b, 3).total_cmp(&value(*a, 3)).then(b.cmp(a)));
    found.truncate(100);
    found.into_iter().map(name).collect()
}

/// The names on a page.
pub fn names(page: &Value) -> Vec<String> {
    let runs = page["runs"].as_array().map_or(&[][..], Vec::as_slice);
    runs.iter().filter_map(|r| r["info"]["run_name"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_page_is_filtered_and_ordered() {
        let page = expected(10_000);
        assert_eq!(page.len(), 100);
        let number = |name: &str| name[1..].parse::<u64>().unwrap();
        assert!(page.iter().all(|n| value(number(n), 7) > 0.5 && number(n) % 4 == 1));
        assert!(page.windows(2).all(|pair| value(number(&pair[0]), 3) >= value(number(&pair[1]), 3)));
    }
}
