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
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use gristmill_kernel::port::{FeatureRequest, FeatureRows, ViewRef};
use gristmill_kernel::{Code, Fault, Kind, Name, Result, Timestamp};
use gristmill_web::schema::{any, flag, list, map, maybe, moment, object, one_of, open, text};
use gristmill_web::{Call, Method, Permission, Response, Routes, StatusCode, feast, plain, route};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) fn routes(plane: &Arc<Plane>) -> Routes {
    let plane = plane.clone();
    Routes::new().with(feast::shaped(
        route(Method::POST, "/get-online-features", Permission::Predict, move |call| answer(plane.clone(), call))
            .about("Feast: features of entities as of now")
            .takes(open([
                ("entities", map(list(any()))),
                ("features?", list(text())),
                ("feature_service?", maybe(text())),
                ("full_feature_names?", flag()),
            ]))
            .gives(Found::schema())
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

/// The answer, as it is written: a column after the other, from the columns as they are.
struct Found {
    names: Vec<String>,
    /// The columns so far, with commas between them.
    columns: Vec<u8>,
}

impl Found {
    fn schema() -> Value {
        let statuses = list(one_of(&["PRESENT", "NOT_FOUND", "NULL_VALUE"]));
        let column = object([("values", list(any())), ("statuses", statuses), ("event_timestamps", list(moment()))]);
        object([("metadata", object([("feature_names", list(text()))])), ("results", list(column))])
    }

    fn new(columns: usize) -> Found {
        Found { names: Vec::with_capacity(columns), columns: Vec::new() }
    }

    fn add(&mut self, name: String, values: &Cells<'_>, statuses: &Told<'_>, moments: &[u8]) -> Result<()> {
        self.names.push(name);
        if !self.columns.is_empty() {
            self.columns.push(b',');
        }
        self.columns.extend_from_slice(b"{\"values\":");
        write_json(&mut self.columns, values)?;
        self.columns.extend_from_slice(b",\"statuses\":");
        match statuses {
            Told::Written(text) => self.columns.extend_from_slice(text),
            Told::Of(statuses) => write_json(&mut self.columns, statuses)?,
        }
        self.columns.extend_from_slice(b",\"event_timestamps\":");
        self.columns.extend_from_slice(moments);
        self.columns.push(b'}');
        Ok(())
    }

    fn response(self) -> Result<Response> {
        let mut body = Vec::with_capacity(self.columns.len() + 32 * self.names.len() + 64);
        body.extend_from_slice(b"{\"metadata\":{\"feature_names\":");
        write_json(&mut body, &self.names)?;
        body.extend_from_slice(b"},\"results\":[");
        body.extend_from_slice(&self.columns);
        body.extend_from_slice(b"]}");
        Ok(plain(StatusCode::OK, "application/json", body))
    }
}

fn write_json(to: &mut Vec<u8>, what: &impl Serialize) -> Result<()> {
    serde_json::to_writer(to, what).map_err(|e| Fault::internal("an answer does not serialise").because(e))
}

fn json_bytes(what: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_json(&mut bytes, what)?;
    Ok(bytes)
}

/// The statuses of a column. Nearly every column has all its cells, and for those the text is the same.
enum Told<'a> {
    Written(&'a [u8]),
    Of(Statuses<'a>),
}

/// The cells of a column.
enum Cells<'a> {
    /// As they were sent.
    Sent(&'a [Value]),
    /// As they were read.
    Read(&'a ArrayRef),
}

impl Serialize for Cells<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let column = match self {
            Cells::Sent(values) => return values.serialize(to),
            Cells::Read(column) => column,
        };
        match column.data_type() {
            DataType::Float64 => to.collect_seq(column.as_primitive::<Float64Type>().iter().map(|v| v.filter(|v| v.is_finite()))),
            DataType::Int64 => to.collect_seq(column.as_primitive::<Int64Type>()),
            DataType::Boolean => to.collect_seq(column.as_boolean()),
            DataType::Utf8 => to.collect_seq(column.as_string::<i32>()),
            // Feast's moments are whole seconds.
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                to.collect_seq(column.as_primitive::<TimestampMicrosecondType>().iter().map(|v| v.map(|v| v.div_euclid(1_000_000))))
            }
            _ => to.collect_seq((0..column.len()).map(|row| cell_json(column.as_ref(), row))),
        }
    }
}

/// What there is of each cell.
struct Statuses<'a>(&'a ArrayRef, &'a [Option<Timestamp>]);

impl Statuses<'_> {
    /// Whether each cell has a value.
    fn all_present(&self) -> bool {
        let column = self.0;
        let finite = match column.data_type() {
            DataType::Float64 => column.as_primitive::<Float64Type>().values().iter().all(|x| x.is_finite()),
            DataType::Float32 => column.as_primitive::<Float32Type>().values().iter().all(|x| x.is_finite()),
            _ => true,
        };
        finite && column.null_count() == 0
    }

    fn is_null(&self, row: usize) -> bool {
        let column = self.0;
        !column.is_valid(row)
            || match column.data_type() {
                DataType::Float64 => !column.as_primitive::<Float64Type>().value(row).is_finite(),
                DataType::Float32 => !column.as_primitive::<Float32Type>().value(row).is_finite(),
                _ => false,
            }
    }
}

impl Serialize for Statuses<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_seq(self.1.iter().enumerate().map(|(row, newest)| match (self.is_null(row), newest) {
            (true, None) => "NOT_FOUND",
            (true, Some(_)) => "NULL_VALUE",
            (false, _) => PRESENT,
        }))
    }
}

const PRESENT: &str = "PRESENT";

/// The moment of what has none.
const NEVER: &str = "1970-01-01T00:00:00Z";

async fn answer(plane: Arc<Plane>, call: Call) -> Result<Response> {
    let wanted: Wanted = call.json().await?;
    let rows = rows_of(&wanted.entities)?;
    check_row_count(rows.len())?;
    let views = views_of(&plane, &wanted).await?;
    let asked = columns_of(&rows.iter().collect::<Vec<_>>(), &[])?;
    let at = plane.parts.features_clock.now();
    let present = json_bytes(&vec![PRESENT; rows.len()])?;
    let mut read: Vec<(FeatureRows, Vec<u8>)> = Vec::with_capacity(views.asked.len());
    for (view, _) in &views.asked {
        let request = FeatureRequest { views: vec![view.clone()], rows: asked.clone(), at };
        let rows = plane.parts.features.read(request).await?;
        let moments: Vec<Cow<'_, str>> =
            rows.newest.iter().map(|newest| newest.map_or(Cow::Borrowed(NEVER), |at| at.to_string().into())).collect();
        let moments = json_bytes(&moments)?;
        read.push((rows, moments));
    }
    let never = json_bytes(&vec![NEVER; rows.len()])?;
    let mut found = Found::new(wanted.entities.len() + views.features.len());
    for (name, values) in &wanted.entities {
        found.add(name.clone(), &Cells::Sent(values), &Told::Written(&present), &never)?;
    }
    for (number, feature) in views.features {
        let (view, schema) = &views.asked[number];
        let (rows, moments) = &read[number];
        let field = schema.field(feature).name();
        let column = rows.columns.columns().get(feature);
        let column = column.ok_or_else(|| Fault::internal(format!("view {} lost its feature {field}", view.name)))?;
        let name = match wanted.full_feature_names {
            true => format!("{}__{field}", view.name),
            false => field.clone(),
        };
        let statuses = Statuses(column, &rows.newest);
        let statuses = if statuses.all_present() { Told::Written(&present) } else { Told::Of(statuses) };
        found.add(name, &Cells::Read(column), &statuses, moments)?;
    }
    found.response()
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
        let Some((place, _)) = schema.column_with_name(feature) else {
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
