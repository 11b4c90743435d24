//! Points of metrics: one, a batch, and the histories.

use super::error::invalid;
use super::request::{self, Int, SEE_DOCS, invalid_text, read};
use super::runs::{RUN_NAME, checked_param, checked_tag};
use super::wire::NamedPairAsk;
use super::wire::metric as wire;
use super::wire::run::BatchAsk;
use super::{Mlflow, done, page_token, validate};
use gristmill_kernel::limits::{TRACK_BATCH_METRICS_MAX, TRACK_BATCH_WORDS_MAX};
use gristmill_kernel::port::Logged;
use gristmill_kernel::tracking::{Batch, HistoryWanted, Point, RunUpdate};
use gristmill_kernel::{Result, RunId};
use gristmill_web::{Call, Method, Permission, Response, Routes, json, json_after};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most runs whose histories are asked for at once.
const RUNS_MAX: usize = 100;
/// Most points of one run in a thinned history.
const POINTS_PER_RUN_MAX: usize = 2_500;
/// Most points of whole histories.
const POINTS_MAX: usize = 25_000;

pub(super) fn routes(m: &Arc<Mlflow>) -> Routes {
    let get = &Method::GET;
    let see = Permission::ReadProject;
    let mut routes = [
        super::v2(m, get, "/mlflow/metrics/get-history", see, history),
        super::v2(m, get, "/mlflow/metrics/get-history-bulk-interval", see, history_bulk_interval),
    ]
    .concat();
    routes.push(super::at(m, get, "/ajax-api/2.0/mlflow/metrics/get-history-bulk", see, history_bulk));
    routes.into()
}

/// How MLflow's own client names itself. It reads an answer to its end before it believes it, so it may have the head while the disk is at
/// work, and reads that meanwhile: a tenth of its time. Others may look at the status alone, and get everything at once.
const READS_TO_THE_END: &str = "mlflow-python-client/";

fn reads_to_the_end(call: &Call) -> bool {
    call.header("user-agent").is_some_and(|agent| agent.starts_with(READS_TO_THE_END))
}

pub(super) async fn log_metric(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let early = reads_to_the_end(&call);
    let (new, old, point) = read::<wire::LogAsk>(call).await?.taken();
    let id = request::run_id(new, old)?;
    let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if said(&point.dataset_name) != said(&point.dataset_digest) {
        return Err(invalid("Both dataset_name and dataset_digest must be provided if one is provided"));
    }
    let point = checked_point(point, "")?;
    logged(&m, &id, Batch { metrics: vec![point], ..Batch::default() }, early).await
}

/// Logs and answers; `early`: to somebody who [`reads_to_the_end`].
async fn logged(m: &Mlflow, id: &RunId, batch: Batch, early: bool) -> Result<Response> {
    if !early {
        m.tracking.log(id, batch, m.now()).await?;
        return done();
    }
    match m.tracking.log_soon(id, batch, m.now()).await? {
        Logged::Durable => done(),
        Logged::AtDisk(rest) => Ok(json_after("{}", rest)),
    }
}

/// A point within MLflow's limits; `within` is its place in a batch.
fn checked_point(ask: wire::PointAsk, within: &str) -> Result<Point> {
    let path = |field: &str| if within.is_empty() { field.to_owned() } else { format!("{within}.{field}") };
    validate::key(&ask.key, &path("name"))?;
    if ask.timestamp.0 < 0 {
        let value = validate::python_float(ask.value.0);
        let why = format!("metric '{}' (value={value}). Timestamp must be a nonnegative long (64-bit integer) ", ask.key);
        return Err(invalid(invalid_text(&path("timestamp"), &Value::from(ask.timestamp.0), Some(&why))));
    }
    validate::within("Metric name", validate::KEY_CHARS_MAX, &ask.key)?;
    Ok(ask.into())
}

pub(super) async fn log_batch(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let (actor, early) = (call.caller().actor.clone(), reads_to_the_end(&call));
    let ask: BatchAsk = read(call).await?;
    let id = validate::run_id(ask.run_id)?;
    let (batch, name) = checked_batch(ask.metrics.unwrap_or_default(), ask.params.unwrap_or_default(), ask.tags.unwrap_or_default())?;
    if name.is_none() {
        return logged(&m, &id, batch, early).await;
    }
    m.tracking.log(&id, batch, m.now()).await?;
    m.tracking.update_run(&id, RunUpdate { name, ..RunUpdate::default() }, &actor, m.now()).await?;
    done()
}

/// A batch within MLflow's limits, and the run's new name if the batch gives one.
fn checked_batch(metrics: Vec<wire::PointAsk>, params: Vec<NamedPairAsk>, tags: Vec<NamedPairAsk>) -> Result<(Batch, Option<String>)> {
    let batch = Batch {
        metrics: metrics.into_iter().enumerate().map(|(at, m)| checked_point(m, &format!("metrics[{at}]"))).collect::<Result<_>>()?,
        params: params
            .into_iter()
            .enumerate()
            .map(|(at, p)| checked_param(p.into(), &format!("params[{at}].key")))
            .collect::<Result<_>>()?,
        tags: tags.into_iter().enumerate().map(|(at, t)| checked_tag(t.into(), &format!("tags[{at}].key"))).collect::<Result<_>>()?,
    };
    let (metrics, params, tags) = (batch.metrics.len(), batch.params.len(), batch.tags.len());
    at_most("metrics", TRACK_BATCH_METRICS_MAX, metrics)?;
    at_most("params", TRACK_BATCH_WORDS_MAX, params)?;
    at_most("tags", TRACK_BATCH_WORDS_MAX, tags)?;
    at_most("metrics, params, and tags", TRACK_BATCH_METRICS_MAX, metrics + params + tags)?;
    let mut seen = BTreeSet::new();
    let doubled: Vec<String> =
        batch.params.iter().filter(|(key, _)| !seen.insert(key)).map(|(key, _)| validate::python_quoted(key)).collect();
    if !doubled.is_empty() {
        return Err(invalid(format!(
            "Duplicate parameter keys have been submitted: [{}]. Please ensure the request contains only one param value per param key.",
            doubled.join(", ")
        )));
    }
    let mut batch = batch;
    let mut name = None;
    batch.tags.retain(|(key, value)| {
        let is_name = key == RUN_NAME;
        if is_name && !value.is_empty() {
            name = Some(value.clone());
        }
        !is_name
    });
    Ok((batch, name))
}

fn at_most(what: &str, limit: usize, given: usize) -> Result<()> {
    if given <= limit {
        return Ok(());
    }
    Err(invalid(format!(
        "A batch logging request can contain at most {limit} {what}. Got {given} {what}. Please split up {what} across multiple requests and \
         try again."
    )))
}

async fn history(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: wire::HistoryAsk = read(call).await?;
    let id = request::run_id(ask.run_id, ask.run_uuid)?;
    let limit = match ask.max_results {
        None => None,
        Some(Int(wanted)) => Some(usize::try_from(wanted).ok().filter(|w| *w > 0).ok_or_else(|| {
            invalid(format!("Invalid value {wanted} for parameter 'max_results' supplied. It must be a positive integer."))
        })?),
    };
    let offset = page_token::read(ask.page_token.as_deref())?;
    let page = m.tracking.history(&id, &ask.metric_key, HistoryWanted { limit, offset }).await?;
    json(&wire::History {
        next_page_token: page_token::next(page.more, offset, page.items.len()),
        metrics: page.items.iter().map(wire::Shown::plain).collect(),
    })
}

async fn history_bulk_interval(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: wire::IntervalAsk = read(call).await?;
    if ask.run_ids.len() > RUNS_MAX {
        return Err(invalid(format!(
            "GetMetricHistoryBulkInterval request must specify at most {RUNS_MAX} run_ids. Received {} run_ids.{SEE_DOCS}",
            ask.run_ids.len()
        )));
    }
    let limit = match ask.max_results {
        None => POINTS_PER_RUN_MAX,
        Some(Int(wanted)) => usize::try_from(wanted)
            .ok()
            .filter(|wanted| (1..=POINTS_PER_RUN_MAX).contains(wanted))
            .ok_or_else(|| invalid(format!("max_results must be between 1 and {POINTS_PER_RUN_MAX}.{SEE_DOCS}")))?,
    };
    let steps = match (ask.start_step, ask.end_step) {
        (Some(Int(start)), Some(Int(end))) if start > end => {
            return Err(invalid(format!("end_step must be greater than start_step. Found start_step={start} and end_step={end}.")));
        }
        (Some(Int(start)), Some(Int(end))) => Some(start..end.saturating_add(1)),
        (None, None) => None,
        _ => return Err(invalid("If either start step or end step are specified, both must be specified.")),
    };
    let runs: Vec<RunId> = ask.run_ids.into_iter().map(RunId).collect();
    let points = m.tracking.sampled_history(&runs, &ask.metric_key, steps, limit).await?;
    json(&wire::History { metrics: points.iter().map(|(run, point)| wire::Shown::of(point, run)).collect(), next_page_token: None })
}

async fn history_bulk(m: Arc<Mlflow>, call: Call) -> Result<Response> {
    let ask: wire::BulkAsk = read(call).await?;
    let mut runs: Vec<RunId> = ask.run_id.unwrap_or_default().into_iter().map(RunId).collect();
    if runs.is_empty() {
        return Err(invalid("GetMetricHistoryBulk request must specify at least one run_id."));
    }
    if runs.len() > RUNS_MAX {
        return Err(invalid(format!(
            "GetMetricHistoryBulk request cannot specify more than {RUNS_MAX} run_ids. Received {} run_ids.",
            runs.len()
        )));
    }
    let Some(key) = ask.metric_key else { return Err(invalid("GetMetricHistoryBulk request must specify a metric_key.")) };
    let limit = ask.max_results.map_or(POINTS_MAX, |Int(wanted)| usize::try_from(wanted).unwrap_or(0).min(POINTS_MAX));
    runs.sort();
    runs.dedup();
    let mut points: Vec<(RunId, Point)> = Vec::new();
    for run in runs {
        let wanted = limit - points.len();
        if wanted == 0 {
            break;
        }
        let page = m.tracking.history(&run, &key, HistoryWanted { limit: Some(wanted), offset: 0 }).await?;
        points.extend(page.items.into_iter().map(|point| (run.clone(), point)));
    }
    json(&wire::Bulk { metrics: points.iter().map(|(run, point)| wire::Shown::of(point, run)).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(key: &str) -> wire::PointAsk {
        let text = format!(r#"{{"key":{},"value":1,"timestamp":2}}"#, Value::from(key));
        serde_json::from_str(&text).expect("a point")
    }
    fn pair(key: &str, value: &str) -> NamedPairAsk {
        NamedPairAsk { key: key.into(), value: Some(value.into()) }
    }
    fn refused(metrics: usize, params: usize, tags: usize) -> String {
        let metrics = (0..metrics).map(|at| point(&format!("m{at}"))).collect();
        let words = |count: usize| (0..count).map(|at| pair(&format!("w{at}"), "x")).collect();
        checked_batch(metrics, words(params), words(tags)).expect_err("too many").message
    }

    #[test]
    fn batches_have_mlflows_limits_in_its_words() {
        let again = "across multiple requests and try again.";
        assert_eq!(
            refused(1_001, 0, 0),
            format!("A batch logging request can contain at most 1000 metrics. Got 1001 metrics. Please split up metrics {again}")
        );
        assert!(refused(0, 101, 0).starts_with("A batch logging request can contain at most 100 params. Got 101 params."));
        assert!(refused(0, 0, 101).starts_with("A batch logging request can contain at most 100 tags. Got 101 tags."));
        assert!(refused(900, 60, 60).contains("at most 1000 metrics, params, and tags. Got 1020"));
        assert!(checked_batch((0..800).map(|at| point(&at.to_string())).collect(), Vec::new(), Vec::new()).is_ok());
    }

    #[test]
    fn doubled_parameters_are_refused_and_long_values_cut() {
        let text = checked_batch(Vec::new(), vec![pair("k", "1"), pair("k", "2")], Vec::new()).expect_err("twice").message;
        assert!(text.starts_with("Duplicate parameter keys have been submitted: ['k']. Please ensure"), "{text}");
        let (batch, name) =
            checked_batch(Vec::new(), vec![pair("k", &"x".repeat(6_001))], vec![pair("t", &"y".repeat(8_001)), pair(RUN_NAME, "n")])
                .expect("cut");
        assert_eq!((batch.params[0].1.len(), batch.tags.len(), batch.tags[0].1.len(), name.as_deref()), (6_000, 1, 8_000, Some("n")));
    }

    #[test]
    fn names_and_moments_are_checked_where_they_stand() {
        let text = checked_batch(vec![point("ok"), point("../x")], Vec::new(), Vec::new()).expect_err("a path").message;
        assert!(
            text.starts_with("Invalid value \"../x\" for parameter 'metrics[1].name' supplied: Names may be treated as files"),
            "{text}"
        );
        let early: wire::PointAsk = serde_json::from_str(r#"{"key":"a","value":1,"timestamp":-1}"#).expect("a point");
        let text = checked_point(early, "").expect_err("negative").message;
        assert!(text.starts_with("Invalid value -1 for parameter 'timestamp' supplied: metric 'a' (value=1.0)."), "{text}");
    }
}
