//! The route of the push: `POST /ingest/{source}`.

use super::{Push, feast, push};
use crate::schema::nearest;
use crate::spec::SourceSpec;
use gristmill_kernel::Name;
use gristmill_kernel::error::{Code, Fault, Kind, Result};
use gristmill_kernel::limits::INGEST_BODY_BYTES_MAX;
use gristmill_kernel::port::Ports;
use gristmill_web::schema::{any, either, flag, list, map, object, open, whole};
use gristmill_web::{Call, Method, Permission, Response, Routes, json, route};
use serde_json::Value;
use std::sync::Arc;

/// The sources of the project as it is applied now.
pub type Sources = Arc<dyn Fn() -> Vec<SourceSpec> + Send + Sync>;

/// The sources with an event time that a view reads; `None` when there is no such view.
pub type ViewSources = Arc<dyn Fn(&str) -> Option<Vec<Name>> + Send + Sync>;

/// The routes of ingestion.
pub fn routes(ports: Ports, sources: Sources, of_view: ViewSources) -> Routes {
    let feast = feast::routes(&ports, &sources, &of_view);
    let handler = move |call: Call| {
        let (ports, sources) = (ports.clone(), sources.clone());
        async move { take(&ports, &sources(), call).await }
    };
    Routes::new()
        .with(
            route(Method::POST, "/ingest/{source}", Permission::Ingest, handler)
                .about("push rows into a source: a JSON array of objects, {\"rows\": [...]}, or NDJSON; Idempotency-Key makes a retry safe")
                .body_limit(INGEST_BODY_BYTES_MAX)
                .takes(either(&[list(map(any())), open([("rows", list(map(any())))]), map(any())]))
                .takes_media("application/x-ndjson", Value::Null)
                .gives(object([("accepted", whole()), ("offset", whole()), ("duplicate", flag())]))
                .fails([Kind::Conflict, Kind::Busy, Kind::Refused]),
        )
        .merge(feast)
}

async fn take(ports: &Ports, sources: &[SourceSpec], call: Call) -> Result<Response> {
    let spec = find(sources, call.param("source")?)?;
    let content_type = call.header("content-type").map(str::to_owned);
    let key = call.header("idempotency-key").map(str::to_owned);
    let body = call.bytes().await?;
    let answer = push(ports, spec, Push { body: &body, content_type: content_type.as_deref(), idempotency_key: key.as_deref() }).await?;
    json(&answer)
}

pub(super) fn find<'a>(sources: &'a [SourceSpec], name: &str) -> Result<&'a SourceSpec> {
    let found = Name::new(name).ok().and_then(|name| sources.iter().find(|s| s.name == name));
    found.ok_or_else(|| {
        let names: Vec<&str> = sources.iter().map(|s| s.name.as_str()).collect();
        let near = nearest(name, names.iter().copied()).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
        let shown: String = name.chars().take(80).collect();
        Fault::not_found(Code::UNKNOWN_SOURCE, format!("there is no source `{shown}`"))
            .fix(format!("{near}the sources are {}", names.join(", ")))
    })
}
