//! Feast's feature server as its SDK asks it: `POST /get-online-features`.
//!
//! A user of Feast writes `online_store: {type: remote, path: http://user:TOKEN@HOST:7300}` and keeps the rest. `view:feature` is ours by the
//! same names; a feature service is an endpoint: all the views its model reads. Writing (`/push`, `/write-to-online-store`) is ingestion's.
//!
//! The answer is laid out as Feast's server lays it out: a column per entity key, then one per feature, each with a status and the moment
//! per row. Source: `feast/feature_server.py` and `online_stores/remote.py` of its SDK.

use crate::model::cell_json;
use crate::plan::{Row, check_row_count, columns_of};
use crate::plane::Plane;
use arrow::array::AsArray;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use gristmill_kernel::port::{FeatureRequest, FeatureRows, ViewRef};
use gristmill_kernel::{Code, Fault, Name, Result, Timestamp};
use gristmill_web::{Call, Method, Permission, Response, Routes, feast, json, route};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

pub(super) fn routes(plane: &Arc<Plane>) -> Routes {
    let plane = plane.clone();
    Routes::new().with(feast::shaped(
        route(Method::POST, "/get-online-features", Permission::Predict, move |call| answer(plane.clone(), call))
            .about("Feast: features of entities as of now"),
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

#[derive(Serialize)]
struct Found {
    metadata: Metadata,
    results: Vec<Column>,
}

#[derive(Serialize)]
struct Metadata {
    feature_names: Vec<String>,
}

#[derive(Serialize)]
struct Column {
    values: Vec<Value>,
    statuses: Vec<&'static str>,
    event_timestamps: Vec<String>,
}

/// The moment of what has none.
const NEVER: &str = "1970-01-01T00:00:00Z";

async fn answer(plane: Arc<Plane>, call: Call) -> Result<Response> {
    let wanted: Wanted = call.json().await?;
    let rows = rows_of(&wanted.entities)?;
    check_row_count(rows.len())?;
    let views = views_of(&plane, &wanted).await?;
    let asked = columns_of(&rows.iter().collect::<Vec<_>>(), &[])?;
    let at = plane.parts.features_clock.now();
    let mut found = Found { metadata: Metadata { feature_names: Vec::new() }, results: Vec::new() };
    for (name, values) in wanted.entities {
        found.metadata.feature_names.push(name);
        let count = values.len();
        found.results.push(Column { values, statuses: vec!["PRESENT"; count], event_timestamps: vec![NEVER.into(); count] });
    }
    let mut read: IndexMap<ViewRef, FeatureRows> = IndexMap::new();
    for (view, _) in &views {
        if !read.contains_key(view) {
            let request = FeatureRequest { views: vec![view.clone()], rows: asked.clone(), at };
            read.insert(view.clone(), plane.parts.features.read(request).await?);
        }
    }
    for (view, feature) in &views {
        let rows = &read[view];
        let column = rows.columns.column_by_name(&format!("{}.{feature}", view.name));
        let column = column.ok_or_else(|| Fault::internal(format!("view {} lost its feature {feature}", view.name)))?;
        let values: Vec<Value> = (0..rows.columns.num_rows())
            .map(|row| match column.data_type() {
                // Feast's moments are whole seconds.
                DataType::Timestamp(TimeUnit::Microsecond, _) if column.is_valid(row) => {
                    column.as_primitive::<TimestampMicrosecondType>().value(row).div_euclid(1_000_000).into()
                }
                _ => cell_json(column.as_ref(), row),
            })
            .collect();
        let status = |(value, newest): (&Value, &Option<Timestamp>)| match (value, newest) {
            (Value::Null, None) => "NOT_FOUND",
            (Value::Null, Some(_)) => "NULL_VALUE",
            _ => "PRESENT",
        };
        found.metadata.feature_names.push(if wanted.full_feature_names { format!("{}__{feature}", view.name) } else { feature.clone() });
        found.results.push(Column {
            statuses: values.iter().zip(&rows.newest).map(status).collect(),
            event_timestamps: rows.newest.iter().map(|newest| newest.map_or_else(|| NEVER.into(), |at| at.to_string())).collect(),
            values,
        });
    }
    json(&found)
}

/// Columns of entity keys as rows.
fn rows_of(entities: &IndexMap<String, Vec<Value>>) -> Result<Vec<Row>> {
    let count = entities.values().map(Vec::len).max().unwrap_or(0);
    if let Some((name, values)) = entities.iter().find(|(_, values)| values.len() != count) {
        return Err(Fault::invalid(Code::BAD_BODY, format!("`{name}` has {} values, another entity column has {count}", values.len()))
            .fix("give every entity column one value per row"));
    }
    Ok((0..count).map(|row| entities.iter().map(|(name, values)| (name.clone(), values[row].clone())).collect()).collect())
}

/// The asked features in their order, each with its view.
async fn views_of(plane: &Plane, wanted: &Wanted) -> Result<Vec<(ViewRef, String)>> {
    let reader = &plane.parts.features;
    let mut all = Vec::new();
    if let Some(service) = &wanted.feature_service {
        if !wanted.features.is_empty() {
            return Err(Fault::invalid(Code::BAD_BODY, "both `features` and `feature_service` are given").fix("give one of them"));
        }
        for view in plane.views(service)? {
            for field in reader.schema(&view).await?.fields() {
                all.push((view.clone(), field.name().clone()));
            }
        }
        return Ok(all);
    }
    if wanted.features.is_empty() {
        return Err(Fault::invalid(Code::MISSING_INPUT, "no features are asked for")
            .fix("send \"features\": [\"view:feature\"] or \"feature_service\": \"ENDPOINT\""));
    }
    for written in &wanted.features {
        let (view, feature) = written
            .split_once(':')
            .ok_or_else(|| Fault::invalid(Code::BAD_BODY, format!("`{written}` names no feature")).fix("write it as view:feature"))?;
        let unknown = |fix: &str| {
            let shown: String = view.chars().take(80).collect();
            Fault::not_found(Code::UNKNOWN_NAME, format!("Feature view {shown} does not exist")).fix(fix)
        };
        let name = Name::new(view).map_err(|_| unknown("a view is named like its file in features/"))?;
        let view = ViewRef::newest(name);
        let schema = reader.schema(&view).await.map_err(|fault| match fault.code {
            Code::NOT_READY => unknown(fault.fix.as_deref().unwrap_or("see features/")),
            _ => fault,
        })?;
        if schema.field_with_name(feature).is_err() {
            let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            let shown: String = feature.chars().take(80).collect();
            return Err(Fault::not_found(
                Code::UNKNOWN_COLUMN,
                format!("The specified features {shown} are not present in feature view {}", view.name),
            )
            .fix(format!("it has {}", names.join(", "))));
        }
        all.push((view, feature.to_owned()));
    }
    Ok(all)
}
