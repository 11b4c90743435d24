//! Feast's ways to write: `POST /push` and `POST /write-to-online-store`.
//!
//! A push source is a source of ours by the same name. Rows written for a feature view are rows of the one source with an event time that the
//! view reads: there is no second copy of features that could say something else. So the columns are those of the source, and Feast's own two
//! (`event_timestamp`, `created`) become its event time and nothing. `to` changes nothing: what is pushed is history and online at once.
//! Source: `feast/feature_server.py`, and `online_stores/remote.py` for what the SDK sends.

use super::routes::{Sources, ViewSources, find};
use super::take;
use crate::source::file::json::Object;
use crate::spec::SourceSpec;
use gristmill_kernel::error::{Code, Fault, Kind, Result};
use gristmill_kernel::limits::{INGEST_BODY_BYTES_MAX, INGEST_ROWS_MAX};
use gristmill_kernel::port::Ports;
use gristmill_web::schema::{any, list, map, open, text};
use gristmill_web::{Call, Method, Permission, Response, Route, Routes, feast, json as answer, route};
use serde::Deserialize;
use serde_json::{Value, json};

/// Feast's name of the event time in rows that its SDK writes.
const EVENT_TIMESTAMP: &str = "event_timestamp";
/// Feast's name of the moment at which a row was made, which decides nothing here.
const CREATED: &str = "created";

/// What is pushed.
#[derive(Deserialize)]
struct Pushed {
    push_source_name: String,
    df: Columns,
    #[serde(default)]
    to: Option<To>,
}

/// Where to; all three are the same here.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum To {
    Online,
    Offline,
    OnlineAndOffline,
}

/// What is written for a view.
#[derive(Deserialize)]
struct Written {
    feature_view_name: String,
    df: Columns,
}

/// Rows as columns, in the order written.
type Columns = indexmap::IndexMap<String, Vec<Value>>;

pub(super) fn routes(ports: &Ports, sources: &Sources, of_view: &ViewSources) -> Routes {
    let (to_source, to_view) = ((ports.clone(), sources.clone()), (ports.clone(), sources.clone(), of_view.clone()));
    let pushing = move |call: Call| {
        let (ports, sources) = to_source.clone();
        async move {
            let pushed: Pushed = call.json().await?;
            let (Some(To::Online | To::Offline | To::OnlineAndOffline) | None) = pushed.to;
            write(&ports, find(&sources(), &pushed.push_source_name)?, pushed.df).await
        }
    };
    let writing = move |call: Call| {
        let (ports, sources, of_view) = to_view.clone();
        async move {
            let written: Written = call.json().await?;
            let sources = sources();
            write(&ports, source_of(&sources, &written.feature_view_name, &of_view)?, written.df).await
        }
    };
    let shaped = |route: Route, about: &str, named: &'static str| {
        let body = open([(named, text()), ("df", map(list(any())))]);
        let route = feast::shaped(route.about(about).body_limit(INGEST_BODY_BYTES_MAX)).takes(body).gives(json!({ "type": "null" }));
        route.fails([Kind::NotFound, Kind::Conflict, Kind::Busy, Kind::Refused])
    };
    let push = route(Method::POST, "/push", Permission::Ingest, pushing);
    let write = route(Method::POST, "/write-to-online-store", Permission::Ingest, writing);
    Routes::new().with(shaped(push, "Feast: push rows into a source", "push_source_name")).with(shaped(
        write,
        "Feast: write rows of a feature view, into the source that it reads",
        "feature_view_name",
    ))
}

async fn write(ports: &Ports, spec: &SourceSpec, columns: Columns) -> Result<Response> {
    take(ports, spec, rows_of(columns, spec)?, None).await?;
    // As Feast's server answers.
    answer(&Value::Null)
}

/// The one source with an event time that a view reads.
fn source_of<'a>(sources: &'a [SourceSpec], view: &str, of_view: &ViewSources) -> Result<&'a SourceSpec> {
    let shown: String = view.chars().take(80).collect();
    let read = of_view(view).ok_or_else(|| {
        Fault::not_found(Code::UNKNOWN_NAME, format!("Feature view {shown} does not exist"))
            .fix("a view is named like its file in features/")
    })?;
    match read.as_slice() {
        [one] => find(sources, one.as_str()),
        many => {
            let names: Vec<String> = many.iter().map(|name| format!("`{name}`")).collect();
            Err(Fault::invalid(
                Code::BAD_VALUE,
                format!("view {shown} reads {} sources with an event time, so its rows are of none", many.len()),
            )
            .fix(format!("push to a source instead: {}", if names.is_empty() { "it reads none".into() } else { names.join(", ") })))
        }
    }
}

/// Columns as rows of a source.
fn rows_of(columns: Columns, spec: &SourceSpec) -> Result<Vec<Object>> {
    let count = columns.values().map(Vec::len).max().unwrap_or(0);
    if let Some((name, values)) = columns.iter().find(|(_, values)| values.len() != count) {
        return Err(Fault::invalid(Code::BAD_BODY, format!("column `{name}` has {} values, another one has {count}", values.len()))
            .fix("give every column one value per row; nothing was accepted"));
    }
    if count == 0 {
        return Err(Fault::invalid(Code::BAD_BODY, "`df` has no rows").fix("send at least one row"));
    }
    if count > INGEST_ROWS_MAX {
        return Err(Fault::new(
            Kind::TooLarge,
            Code::BODY_TOO_LARGE,
            format!("the body has {count} rows, at most {INGEST_ROWS_MAX} are taken at once"),
        )
        .fix("send the rows in several requests"));
    }
    let time = spec.time.as_deref();
    let has_own_time = time.is_some_and(|time| columns.contains_key(time));
    let named = columns.into_iter().filter_map(|(name, values)| match (name.as_str(), time) {
        (EVENT_TIMESTAMP, Some(time)) if !has_own_time => Some((time.to_owned(), values)),
        (CREATED, time) if time != Some(CREATED) => None,
        _ => Some((name, values)),
    });
    let mut rows = vec![Object(Vec::new()); count];
    for (name, values) in named {
        for (row, value) in rows.iter_mut().zip(values) {
            row.0.push((name.clone(), value));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(time: &str) -> SourceSpec {
        serde_json::from_value(serde_json::json!({ "name": "stats", "from": "push:", "time": time })).expect("a source")
    }

    #[test]
    fn feasts_own_columns_become_the_event_time_and_nothing() {
        let df = |text: &str| serde_json::from_str::<Columns>(text).expect(text);
        let rows = rows_of(df(r#"{"id":[1,2],"event_timestamp":["a","b"],"created":[null,null]}"#), &spec("at")).expect("rows");
        let names: Vec<&str> = rows[1].0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((rows.len(), names), (2, vec!["id", "at"]));
        let rows = rows_of(df(r#"{"created":["a"],"event_timestamp":["b"]}"#), &spec("created")).expect("rows");
        assert_eq!(rows[0].0.len(), 2, "a column of the user stays");
        for bad in [r#"{"id":[1],"at":[]}"#, r#"{}"#, r#"{"id":[]}"#] {
            assert_eq!(rows_of(df(bad), &spec("at")).expect_err(bad).code, Code::BAD_BODY);
        }
    }
}
