//! Feast's feature server as its SDK asks it: `POST /get-online-features`.
//!
//! A user of Feast writes `online_store: {type: remote, path: http://user:TOKEN@HOST:7300}` and keeps the rest. `view:feature` is ours by the
//! same names; a feature service is an endpoint: all the views its model reads. Writing (`/push`, `/write-to-online-store`) is ingestion's.
//!
//! The answer is laid out as Feast's server lays it out: a column per entity key, then one per feature, each with a status and the moment
//! per row. Source: `feast/feature_server.py` and `online_stores/remote.py` of its SDK.

mod answer;
mod rows;

use crate::plan::{check_row_count, columns_of_lists};
use crate::plane::Plane;
use answer::{Answer, Features, NEVER, json_bytes};
use arrow::datatypes::SchemaRef;
use gristmill_kernel::limits::ONLINE_CELLS_MAX;
use gristmill_kernel::port::{FeatureRequest, ViewRef};
use gristmill_kernel::{Code, Fault, Kind, Name, Result};
use gristmill_web::schema::{any, flag, list, map, maybe, open, text};
use gristmill_web::{Call, Method, Permission, Response, Routes, feast, route};
use indexmap::IndexMap;
use rows::Written;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) fn routes(plane: &Arc<Plane>) -> Routes {
    let (plane, written) = (plane.clone(), Arc::<Written>::default());
    Routes::new().with(feast::shaped(
        route(Method::POST, "/get-online-features", Permission::Predict, move |call| answer(plane.clone(), written.clone(), call))
            .about("Feast: features of entities as of now")
            .takes(open([
                ("entities", map(list(any()))),
                ("features?", list(text())),
                ("feature_service?", maybe(text())),
                ("full_feature_names?", flag()),
            ]))
            .gives(Answer::schema())
            .fails([Kind::NotFound, Kind::Busy]),
    ))
}

/// What is asked. `allow_registry_cache` and other words of newer clients change nothing here.
#[derive(Deserialize)]
struct Wanted {
    entities: IndexMap<String, Vec<Value>>,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    feature_service: Option<String>,
    #[serde(default)]
    full_feature_names: bool,
}

async fn answer(plane: Arc<Plane>, written: Arc<Written>, call: Call) -> Result<Response> {
    let wanted: Wanted = call.json().await?;
    let rows = row_count(&wanted.entities)?;
    check_row_count(rows)?;
    let views = views_of(&plane, &wanted).await?;
    check_cell_count(rows, views.features.len())?;
    let asked = columns_of_lists(wanted.entities.iter().map(|(name, values)| (name.as_str(), values.as_slice())), rows)?;
    let at = plane.parts.features_clock.now();
    let refs: Vec<ViewRef> = views.asked.iter().map(|(view, _)| view.clone()).collect();
    let newest = plane.parts.features.newest(&refs, &asked, at).await?;
    let mut read: Vec<Features> = Vec::with_capacity(refs.len());
    for (view, newest) in refs.into_iter().zip(newest) {
        read.push(match newest {
            Some(newest) => Features::ByRow(written.of(newest.as_ref()).await?),
            None => Features::read(&plane, FeatureRequest { views: vec![view], rows: asked.clone(), at }).await?,
        });
    }
    let name = |(number, feature): &(usize, usize)| {
        let (view, schema) = &views.asked[*number];
        let field = schema.field(*feature).name().as_str();
        if wanted.full_feature_names { Cow::Owned(format!("{}__{field}", view.name)) } else { Cow::Borrowed(field) }
    };
    let names: Vec<Cow<'_, str>> = wanted.entities.keys().map(|name| name.as_str().into()).chain(views.features.iter().map(name)).collect();
    let mut answer = Answer::begin(&names, rows)?;
    let never = json_bytes(&vec![NEVER; rows])?;
    for values in wanted.entities.values() {
        answer.add_sent(values, &never)?;
    }
    for (number, feature) in &views.features {
        answer.add_feature(&read[*number], *feature)?;
    }
    Ok(answer.end())
}

/// How many rows the columns of entity keys have.
fn row_count(entities: &IndexMap<String, Vec<Value>>) -> Result<usize> {
    let count = entities.values().map(Vec::len).max().unwrap_or(0);
    match entities.iter().find(|(_, values)| values.len() != count) {
        None => Ok(count),
        Some((name, values)) => {
            let what = format!("`{name}` has {} values, another entity column has {count}", values.len());
            Err(Fault::invalid(Code::BAD_BODY, what).fix("give every entity column one value per row"))
        }
    }
}

/// Refuses a question whose answer would be out of all proportion to it: a feature may be named any number of times.
fn check_cell_count(rows: usize, features: usize) -> Result<()> {
    match rows.saturating_mul(features) <= ONLINE_CELLS_MAX {
        true => Ok(()),
        false => Err(Fault::new(
            Kind::TooLarge,
            Code::BODY_TOO_LARGE,
            format!("{features} features of {rows} entities are asked for, at most {ONLINE_CELLS_MAX} values are answered at once"),
        )
        .fix("ask for fewer entities at once")),
    }
}

/// The asked features.
#[derive(Default)]
struct Asked {
    /// The views, each once.
    asked: Vec<(ViewRef, SchemaRef)>,
    /// The features in the asked order: the number of the view, and of the feature in it.
    features: Vec<(usize, usize)>,
}

async fn views_of(plane: &Plane, wanted: &Wanted) -> Result<Asked> {
    let reader = &plane.parts.features;
    let mut all = Asked::default();
    if let Some(service) = &wanted.feature_service {
        if !wanted.features.is_empty() {
            return Err(Fault::invalid(Code::BAD_BODY, "both `features` and `feature_service` are given").fix("give one of them"));
        }
        for view in plane.views(service)? {
            let schema = reader.schema(&view).await?;
            all.features.extend((0..schema.fields().len()).map(|feature| (all.asked.len(), feature)));
            all.asked.push((view, schema));
        }
        return Ok(all);
    }
    if wanted.features.is_empty() {
        return Err(Fault::invalid(Code::MISSING_INPUT, "no features are asked for")
            .fix("send \"features\": [\"view:feature\"] or \"feature_service\": \"ENDPOINT\""));
    }
    let mut known: HashMap<&str, usize> = HashMap::new();
    for written in &wanted.features {
        let (view, feature) = written
            .split_once(':')
            .ok_or_else(|| Fault::invalid(Code::BAD_BODY, format!("`{written}` names no feature")).fix("write it as view:feature"))?;
        let number = match known.get(view) {
            Some(number) => *number,
            None => {
                all.asked.push(newest(plane, view).await?);
                known.insert(view, all.asked.len() - 1);
                all.asked.len() - 1
            }
        };
        let (view, schema) = &all.asked[number];
        // Mostly they are asked for in the order of the view.
        let next = all.features.last().filter(|(last, _)| *last == number).map_or(0, |(_, place)| place + 1);
        let guess = schema.fields().get(next).filter(|field| field.name() == feature).map(|_| next);
        let Some(place) = guess.or_else(|| schema.column_with_name(feature).map(|(place, _)| place)) else {
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            let shown: String = feature.chars().take(80).collect();
            return Err(Fault::not_found(
                Code::UNKNOWN_COLUMN,
                format!("The specified features {shown} are not present in feature view {}", view.name),
            )
            .fix(format!("it has {}", names.join(", "))));
        };
        all.features.push((number, place));
    }
    Ok(all)
}

/// The newest definition of a view, and its features.
async fn newest(plane: &Plane, view: &str) -> Result<(ViewRef, SchemaRef)> {
    let unknown = |fix: &str| {
        let shown: String = view.chars().take(80).collect();
        Fault::not_found(Code::UNKNOWN_NAME, format!("Feature view {shown} does not exist")).fix(fix)
    };
    let name = Name::new(view).map_err(|_| unknown("a view is named like its file in features/"))?;
    let view = ViewRef::newest(name);
    let schema = plane.parts.features.schema(&view).await.map_err(|fault| match fault.code {
        Code::NOT_READY => unknown(fault.fix.as_deref().unwrap_or("see features/")),
        _ => fault,
    })?;
    Ok((view, schema))
}
