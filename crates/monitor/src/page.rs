//! The last reports as Prometheus metrics.

use crate::plan::Report;
use gristmill_kernel::Verdict;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

type Labels = Vec<(String, String)>;
type Value = Gauge<f64, AtomicU64>;

/// The newest report of each endpoint, as text in the OpenMetrics format (without other metrics; the page of the server puts them together).
pub fn metrics_page(reports: &[Report]) -> String {
    let mut registry = Registry::default();
    let (drift, drifted) = (Family::<Labels, Value>::default(), Family::<Labels, Value>::default());
    let (rows, quality) = (Family::<Labels, Value>::default(), Family::<Labels, Value>::default());
    registry.register("gristmill_drift", "Drift of a column in the last judged window, by measure", drift.clone());
    registry.register("gristmill_drifted", "1 when the last judged window drifted, 0 when not; absent when inconclusive", drifted.clone());
    registry.register("gristmill_monitor_window_rows", "Predictions in the last judged window", rows.clone());
    registry.register("gristmill_realised_quality", "Quality of predictions whose outcome is known, by metric", quality.clone());
    let (parity, mismatch) = (Family::<Labels, Value>::default(), Family::<Labels, Value>::default());
    registry.register(
        "gristmill_parity_rows",
        "Feature vectors of the last judged window by what computing them again found: checked, late, behind, mismatched, unknown",
        parity.clone(),
    );
    registry.register(
        "gristmill_parity_mismatch_rate",
        "Share of the feature vectors computed again that serving did not answer as training gives them; absent when none was",
        mismatch.clone(),
    );
    for report in reports {
        let label = |more: &[(&str, &str)]| -> Labels {
            let own = [("endpoint".to_owned(), report.endpoint.to_string()), ("model".to_owned(), report.model.to_string())];
            own.into_iter().chain(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))).collect()
        };
        for (column, values) in &report.columns {
            for (measure, value) in values.iter().filter(|(m, _)| *m != "rows") {
                drift.get_or_create(&label(&[("column", column), ("measure", measure)])).set(*value);
            }
        }
        if let Some(value) = match report.verdict {
            Some(Verdict::Fail) => Some(1.0),
            Some(Verdict::Pass | Verdict::Warn) => Some(0.0),
            Some(Verdict::Inconclusive) | None => None,
        } {
            drifted.get_or_create(&label(&[])).set(value);
        }
        rows.get_or_create(&label(&[])).set(report.rows as f64);
        if let Some(found) = &report.parity {
            let counts = [
                ("checked", found.checked),
                ("late", found.late),
                ("behind", found.behind),
                ("mismatched", found.mismatched),
                ("unknown", found.unknown),
            ];
            for (name, count) in counts {
                parity.get_or_create(&label(&[("found", name)])).set(count as f64);
            }
            if let Some(rate) = found.mismatch_rate() {
                mismatch.get_or_create(&label(&[])).set(rate);
            }
        }
        for (metric, value) in report.quality.iter().flat_map(|q| &q.metrics) {
            quality.get_or_create(&label(&[("metric", metric)])).set(*value);
        }
    }
    let mut text = String::new();
    // Writing into a String does not fail; a page that is cut short would be refused by its reader.
    if encode(&mut text, &registry).is_err() {
        tracing::warn!("the monitor's metrics could not be written");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Span;
    use gristmill_kernel::{Name, Timestamp, VersionRef};
    use std::collections::BTreeMap;

    #[test]
    fn the_last_figures_are_on_the_page() {
        let report = Report {
            format: 1,
            endpoint: Name::new("churn").expect("name"),
            model: VersionRef { asset: "models.churn".parse().expect("address"), number: 3 },
            window: Span { from: None, to: Timestamp::from_micros(0) },
            rows: 1000,
            verdict: Some(Verdict::Fail),
            drifted: vec![],
            quality: None,
            parity: Some(crate::Parity { checked: 8, late: 1, mismatched: 2, ..Default::default() }),
            columns: BTreeMap::from([("v.c".to_owned(), BTreeMap::from([("psi".to_owned(), 0.41)]))]),
        };
        let page = metrics_page(&[report]);
        let line = r#"gristmill_drift{endpoint="churn",model="models.churn@3",column="v.c",measure="psi"} 0.41"#;
        assert!(page.contains(line), "{page}");
        assert!(page.contains(r#"gristmill_parity_mismatch_rate{endpoint="churn",model="models.churn@3"} 0.25"#), "{page}");
        assert!(page.contains(r#"gristmill_parity_rows{endpoint="churn",model="models.churn@3",found="late"} 1.0"#), "{page}");
        assert!(page.contains(r#"gristmill_drifted{endpoint="churn",model="models.churn@3"} 1.0"#), "{page}");
    }
}
