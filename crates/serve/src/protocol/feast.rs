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
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use gristmill_kernel::limits::ONLINE_TEXT_BYTES_MAX;
use gristmill_kernel::port::{FeatureRequest, FeatureRows, FeatureSource, NewestFound, ViewRef};
use gristmill_kernel::{Code, Fault, Kind, Name, Result, Timestamp};
use gristmill_web::schema::{any, flag, list, map, maybe, moment, object, one_of, open, text};
use gristmill_web::{Call, Method, Permission, Response, Routes, StatusCode, feast, plain, route};
use indexmap::IndexMap;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize, Serializer};
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

    /// A column of three lists, which are written one after the other.
    fn add(
        &mut self,
        name: String,
        values: impl FnOnce(&mut Vec<u8>) -> Result<()>,
        statuses: impl FnOnce(&mut Vec<u8>) -> Result<()>,
        moments: &[u8],
    ) -> Result<()> {
        self.names.push(name);
        if !self.columns.is_empty() {
            self.columns.push(b',');
        }
        self.columns.extend_from_slice(b"{\"values\":");
        values(&mut self.columns)?;
        self.columns.extend_from_slice(b",\"statuses\":");
        statuses(&mut self.columns)?;
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

fn append(to: &mut Vec<u8>, text: &[u8]) -> Result<()> {
    to.extend_from_slice(text);
    Ok(())
}

/// A list of texts that are JSON already.
fn write_list<'t>(to: &mut Vec<u8>, texts: impl Iterator<Item = &'t [u8]>) {
    to.push(b'[');
    for (number, text) in texts.enumerate() {
        if number > 0 {
            to.push(b',');
        }
        to.extend_from_slice(text);
    }
    to.push(b']');
}

fn json_bytes(what: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_json(&mut bytes, what)?;
    Ok(bytes)
}

/// The features of a view, for the asked rows.
enum Features {
    /// As they were read, and the rows' moments as a list.
    Columns(FeatureRows, Vec<u8>),
    /// As each row was written before.
    ByRow(RowTexts),
}

impl Features {
    async fn read(plane: &Plane, request: FeatureRequest) -> Result<Features> {
        let rows = plane.parts.features.read(request).await?;
        let moments = rows.newest.iter().map(|newest| newest.map_or(Cow::Borrowed(NEVER), |at| at.to_string().into()));
        let moments = json_bytes(&moments.collect::<Vec<_>>())?;
        Ok(Features::Columns(rows, moments))
    }

    /// Adds one feature to an answer; `present` is the statuses of a column that has all its values.
    fn add(&self, to: &mut Found, name: String, feature: usize, present: &[u8]) -> Result<()> {
        match self {
            Features::Columns(rows, moments) => {
                let column = rows.columns.columns().get(feature);
                let column = column.ok_or_else(|| Fault::internal(format!("a view lost its feature `{name}`")))?;
                let statuses = Statuses(column, &rows.newest);
                let write = |to: &mut Vec<u8>| if statuses.all_present() { append(to, present) } else { write_json(to, &statuses) };
                to.add(name, |to| write_json(to, &Cells(column)), write, moments)
            }
            Features::ByRow(RowTexts { rows, moments }) => {
                let cell = |row: &Option<Arc<RowText>>| row.as_deref().is_some_and(|row| row.has(feature));
                let statuses = |to: &mut Vec<u8>| {
                    if rows.iter().all(cell) {
                        return append(to, present);
                    }
                    let status = |row: &Option<Arc<RowText>>| match row {
                        None => "NOT_FOUND",
                        Some(row) => {
                            if row.has(feature) {
                                PRESENT
                            } else {
                                "NULL_VALUE"
                            }
                        }
                    };
                    write_json(to, &rows.iter().map(status).collect::<Vec<_>>())
                };
                let values = |to: &mut Vec<u8>| {
                    write_list(to, rows.iter().map(|row| row.as_deref().map_or(NULL, |row| row.cell(feature))));
                    Ok(())
                };
                to.add(name, values, statuses, moments)
            }
        }
    }
}

const NULL: &[u8] = b"null";

/// Rows as they were written before.
struct RowTexts {
    /// Per asked row; `None` where the entity has none.
    rows: Vec<Option<Arc<RowText>>>,
    /// Their moments as a list.
    moments: Vec<u8>,
}

/// The features of a row, as JSON.
struct RowText {
    moment: Box<[u8]>,
    /// The cells, one behind the other.
    text: Box<[u8]>,
    /// Where each ends.
    ends: Box<[u32]>,
}

impl RowText {
    fn of(columns: &RecordBatch, row: usize, at: Timestamp) -> Result<RowText> {
        let (mut text, mut ends) = (Vec::new(), Vec::with_capacity(columns.num_columns()));
        for column in columns.columns() {
            // As a column of one cell is written.
            let cell = json_bytes(&Cells(&column.slice(row, 1)))?;
            text.extend_from_slice(cell.strip_prefix(b"[").and_then(|cell| cell.strip_suffix(b"]")).unwrap_or(NULL));
            ends.push(u32::try_from(text.len()).map_err(|e| Fault::internal("a row is too long to be answered").because(e))?);
        }
        Ok(RowText { moment: json_bytes(&at.to_string())?.into(), text: text.into(), ends: ends.into() })
    }

    fn cell(&self, feature: usize) -> &[u8] {
        let end = |number: usize| self.ends.get(number).map_or(0, |end| *end as usize);
        let begin = feature.checked_sub(1).map_or(0, end);
        self.text.get(begin..end(feature)).unwrap_or(NULL)
    }

    fn has(&self, feature: usize) -> bool {
        self.cell(feature) != NULL
    }
}

/// Rows that were written lately. A row never changes, so what was written of it is right for as long as the process lives; most questions are
/// about rows that were asked for before.
struct Written(Cache<FeatureSource, Arc<RowText>, ByBytes>);

/// Counts bytes.
#[derive(Clone)]
struct ByBytes;

/// What an entry takes beside its bytes.
const ENTRY_BYTES: u64 = 160;
/// What a row takes, about, to begin with.
const ROW_BYTES: u64 = 512;

impl Weighter<FeatureSource, Arc<RowText>> for ByBytes {
    fn weight(&self, _: &FeatureSource, row: &Arc<RowText>) -> u64 {
        ENTRY_BYTES + (row.moment.len() + row.text.len() + 4 * row.ends.len()) as u64
    }
}

impl Default for Written {
    fn default() -> Written {
        Written(Cache::with_weighter((ONLINE_TEXT_BYTES_MAX / ROW_BYTES) as usize, ONLINE_TEXT_BYTES_MAX, ByBytes))
    }
}

impl Written {
    /// The rows that were found, each written once.
    async fn of(&self, newest: &dyn NewestFound) -> Result<RowTexts> {
        let sources = newest.sources();
        let mut rows: Vec<Option<Arc<RowText>>> = sources.iter().map(|found| found.and_then(|(source, _)| self.0.get(&source))).collect();
        let open: Vec<usize> = (0..rows.len()).filter(|row| rows[*row].is_none() && sources[*row].is_some()).collect();
        if !open.is_empty() {
            let columns = newest.columns(&open).await?;
            for (place, row) in open.into_iter().enumerate() {
                let Some((source, at)) = sources[row] else { continue };
                let text = Arc::new(RowText::of(&columns, place, at)?);
                self.0.insert(source, text.clone());
                rows[row] = Some(text);
            }
        }
        let never = json_bytes(&NEVER)?;
        let mut moments = Vec::new();
        write_list(&mut moments, rows.iter().map(|row| row.as_deref().map_or(never.as_slice(), |row| &row.moment)));
        Ok(RowTexts { rows, moments })
    }
}

/// The cells of a column.
struct Cells<'a>(&'a ArrayRef);

impl Serialize for Cells<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let column = self.0;
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

async fn answer(plane: Arc<Plane>, written: Arc<Written>, call: Call) -> Result<Response> {
    let wanted: Wanted = call.json().await?;
    let rows = rows_of(&wanted.entities)?;
    check_row_count(rows.len())?;
    let views = views_of(&plane, &wanted).await?;
    let asked = columns_of(&rows.iter().collect::<Vec<_>>(), &[])?;
    let at = plane.parts.features_clock.now();
    let refs: Vec<ViewRef> = views.asked.iter().map(|(view, _)| view.clone()).collect();
    let newest = plane.parts.features.newest(&refs, &asked, at).await?;
    let present = json_bytes(&vec![PRESENT; rows.len()])?;
    let mut read: Vec<Features> = Vec::with_capacity(refs.len());
    for (view, newest) in refs.into_iter().zip(newest) {
        read.push(match newest {
            Some(newest) => Features::ByRow(written.of(newest.as_ref()).await?),
            None => Features::read(&plane, FeatureRequest { views: vec![view], rows: asked.clone(), at }).await?,
        });
    }
    let never = json_bytes(&vec![NEVER; rows.len()])?;
    let mut found = Found::new(wanted.entities.len() + views.features.len());
    for (name, values) in &wanted.entities {
        found.add(name.clone(), |to| write_json(to, values), |to| append(to, &present), &never)?;
    }
    for (number, feature) in views.features {
        let (view, schema) = &views.asked[number];
        let field = schema.field(feature).name();
        let name = match wanted.full_feature_names {
            true => format!("{}__{field}", view.name),
            false => field.clone(),
        };
        read[number].add(&mut found, name, feature, &present)?;
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
