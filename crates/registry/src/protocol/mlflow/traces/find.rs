//! Searches for traces, and how two filters go together.

use super::super::error::invalid;
use super::super::request::{Ask, Field, Int, Is, read};
use super::super::{Mlflow, order, page_token, validate};
use super::{filter, listed, wire};
use gristmill_kernel::Result;
use gristmill_kernel::limits::TRACES_NAMED_MAX;
use gristmill_kernel::tracking::filter::Filter;
use gristmill_kernel::tracking::trace::TraceInfo;
use gristmill_kernel::tracking::{ExperimentId, Search, ViewType};
use gristmill_web::{Call, Method, Permission, Response, Route, json};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes(m: &Arc<Mlflow>) -> Vec<Route> {
    let (get, post, see) = (&Method::GET, &Method::POST, Permission::ReadProject);
    [
        super::super::v3(m, post, "/mlflow/traces/search", see, search),
        super::super::v2(m, get, "/mlflow/traces", see, search_v2),
        super::super::v3(m, post, "/mlflow/traces/calculate-filter-correlation", see, correlation),
    ]
    .concat()
}

#[derive(Deserialize)]
struct SearchAsk {
    locations: Vec<wire::LocationAsk>,
    filter: Option<String>,
    max_results: Option<Int>,
    order_by: Option<Vec<String>>,
    page_token: Option<String>,
}
impl Ask for SearchAsk {
    const FIELDS: &'static [Field] = &[
        Field::new("locations", Is::Items(&[])).required(),
        Field::text("filter"),
        Field::new("max_results", Is::Int),
        Field::new("order_by", Is::Texts),
        Field::text("page_token"),
    ];
}

#[derive(Deserialize)]
struct SearchV2Ask {
    experiment_ids: Vec<String>,
    filter: Option<String>,
    max_results: Option<Int>,
    order_by: Option<Vec<String>>,
    page_token: Option<String>,
}
impl Ask for SearchV2Ask {
    const FIELDS: &'static [Field] = &[
        Field::new("experiment_ids", Is::Texts).required(),
        Field::text("filter"),
        Field::new("max_results", Is::Int),
        Field::new("order_by", Is::Texts),
        Field::text("page_token"),
    ];
}

async fn search(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: SearchAsk = read(call).await?;
    let named = ask.locations.into_iter().filter_map(|location| location.mlflow_experiment);
    let ask = SearchV2Ask {
        experiment_ids: named.map(|experiment| experiment.experiment_id.unwrap_or_default()).collect(),
        filter: ask.filter,
        max_results: ask.max_results,
        order_by: ask.order_by,
        page_token: ask.page_token,
    };
    page(&m, ask, wire::info).await
}

async fn search_v2(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    page(&m, read(call).await?, wire::info_v2).await
}

async fn page(m: &Mlflow, ask: SearchV2Ask, show: fn(&TraceInfo) -> Value) -> Result<Response> {
    let search = Search {
        experiments: experiments(&ask.experiment_ids)?,
        view: ViewType::ActiveOnly,
        filter: filter::traces(ask.filter.as_deref().unwrap_or_default())?,
        order: order::traces(&ask.order_by.unwrap_or_default())?,
        limit: wire::page_size(ask.max_results)?,
        offset: page_token::read(ask.page_token.as_deref())?,
    };
    let page = m.traces.search_traces(&search).await?;
    let mut out = listed("traces", page.items.iter().map(show).collect());
    if let Some(token) = page_token::next(page.more, search.offset, page.items.len()) {
        out["next_page_token"] = token.into();
    }
    json(&out)
}

/// The experiments that are named.
pub(super) fn experiments(ids: &[String]) -> Result<Vec<ExperimentId>> {
    if ids.len() > TRACES_NAMED_MAX {
        return Err(invalid(format!("a search names at most {TRACES_NAMED_MAX} experiments, this one names {}", ids.len())));
    }
    ids.iter().map(|id| validate::experiment_id(id)).collect()
}

#[derive(Deserialize)]
struct CorrelationAsk {
    experiment_ids: Vec<String>,
    filter_string1: String,
    filter_string2: String,
    base_filter: Option<String>,
}
impl Ask for CorrelationAsk {
    const FIELDS: &'static [Field] = &[
        Field::new("experiment_ids", Is::Texts).required(),
        Field::text("filter_string1").required(),
        Field::text("filter_string2").required(),
        Field::text("base_filter"),
    ];
}

/// How much oftener two filters hold together than chance would have it.
async fn correlation(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: CorrelationAsk = read(call).await?;
    let base = filter::traces(ask.base_filter.as_deref().unwrap_or_default())?;
    let (one, two) = (filter::traces(&ask.filter_string1)?, filter::traces(&ask.filter_string2)?);
    let experiments = experiments(&ask.experiment_ids)?;
    let count = async |parts: Vec<&Filter>| {
        let filter = Filter::All(parts.into_iter().flat_map(conjuncts).cloned().collect());
        let search = Search { experiments: experiments.clone(), view: ViewType::ActiveOnly, filter, order: vec![], limit: 0, offset: 0 };
        m.traces.count_traces(&search).await
    };
    let total = count(vec![&base]).await?;
    let (first, second) = (count(vec![&base, &one]).await?, count(vec![&base, &two]).await?);
    // Each filter may find a span of its own, so the two stay apart instead of becoming one conjunction.
    let both = count(vec![&base, &Filter::Any(vec![one]), &Filter::Any(vec![two])]).await?;
    let mut answer = json!({ "filter1_count": first, "filter2_count": second, "joint_count": both, "total_count": total });
    for (name, smoothing) in [("npmi", 0.0), ("npmi_smoothed", 0.5)] {
        // Like MLflow: left out where it means nothing.
        let value = npmi(both, first, second, total, smoothing);
        if !value.is_nan() {
            answer[name] = value.into();
        }
    }
    json(&answer)
}

/// The parts of a conjunction.
fn conjuncts(filter: &Filter) -> Vec<&Filter> {
    match filter {
        Filter::All(parts) => parts.iter().collect(),
        one => vec![one],
    }
}

/// Normalised pointwise mutual information in [-1, 1]; NaN where it means nothing. `smoothing` is added to each of the four counts.
fn npmi(both: u64, first: u64, second: u64, total: u64, smoothing: f64) -> f64 {
    if first == 0 || second == 0 || both > first.min(second) || first + second - both > total {
        return f64::NAN;
    }
    if both == 0 && smoothing == 0.0 {
        return -1.0;
    }
    if both == total {
        return 1.0;
    }
    let joint = both as f64 + smoothing;
    let (one, two) = (first as f64 + 2.0 * smoothing, second as f64 + 2.0 * smoothing);
    let all = total as f64 + 4.0 * smoothing;
    let information = (joint * all / (one * two)).ln();
    (information / -(joint / all).ln()).clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn information_is_normalised() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(npmi(0, 0, 5, 10, 0.0).is_nan() && npmi(0, 1, 1, 0, 0.5).is_nan() && npmi(3, 2, 5, 10, 0.0).is_nan());
        assert!(close(npmi(0, 5, 5, 10, 0.0), -1.0));
        assert!(close(npmi(10, 10, 10, 10, 0.0), 1.0));
        assert!(close(npmi(5, 5, 5, 10, 0.0), 1.0), "always together");
        assert!(close(npmi(25, 50, 50, 100, 0.0), 0.0), "by chance");
        // The numbers that MLflow's own function gives.
        assert!(close(npmi(10, 20, 15, 100, 0.0), 0.522_878_745_280_337_6));
        let smoothed = npmi(10, 20, 15, 100, 0.5);
        assert!(smoothed > 0.4 && smoothed < 0.55, "{smoothed}");
        assert!(npmi(0, 5, 5, 10, 0.5) > -1.0);
    }
}
