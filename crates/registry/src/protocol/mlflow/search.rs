//! The search for runs.

use super::error::invalid;
use super::request::{Int, SEE_DOCS, invalid_text, read};
use super::wire::run as wire;
use super::wire::view;
use super::{Mlflow, filter, order, page_token, validate};
use gristmill_kernel::Result;
use gristmill_kernel::limits::SEARCH_RUNS_MAX;
use gristmill_kernel::tracking::Search;
use gristmill_web::{Call, Method, Permission, Response, Routes, json};
use serde_json::Value;
use std::sync::Arc;

/// How many runs a search gives that does not say.
const RUNS_UNSAID: usize = 1_000;

pub(super) fn routes(m: &Arc<Mlflow>) -> Routes {
    super::v2(m, &Method::POST, "/mlflow/runs/search", Permission::ReadProject, runs).to_vec().into()
}

async fn runs(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let search = asked(read(call).await?)?;
    let page = m.tracking.search_runs(&search).await?;
    let locations = m.locations(page.items.iter().map(|run| run.experiment)).await?;
    let location = |run: &gristmill_kernel::tracking::TrackedRun| locations.get(&run.experiment).map_or("", String::as_str);
    json(&wire::Many {
        next_page_token: page_token::next(page.more, search.offset, page.items.len()),
        runs: page.items.iter().map(|run| wire::Run::new(run, location(run))).collect(),
    })
}

fn asked(ask: wire::SearchAsk) -> Result<Search> {
    if let Some(Int(wanted)) = ask.max_results
        && wanted > SEARCH_RUNS_MAX as i64
    {
        let why = " Hint: Value was of type 'int'.";
        return Err(invalid(invalid_text("max_results", &Value::from(wanted), Some(why)) + SEE_DOCS));
    }
    let experiments = ask.experiment_ids.unwrap_or_default();
    Ok(Search {
        limit: validate::max_results(ask.max_results, RUNS_UNSAID)?,
        view: view(ask.run_view_type.as_ref()),
        filter: filter::runs(ask.filter.as_deref().unwrap_or_default())?,
        order: order::runs(&ask.order_by.unwrap_or_default())?,
        offset: page_token::read(ask.page_token.as_deref())?,
        experiments: validate::experiment_ids(&experiments)?,
    })
}
