//! How an answer is laid out: a column per entity key, then one per feature, each with a status and the moment per row.

use super::rows::RowTexts;
use crate::model::cell_json;
use crate::plane::Plane;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use gristmill_kernel::port::{FeatureRequest, FeatureRows};
use gristmill_kernel::{Fault, Result, Timestamp};
use gristmill_web::schema::{any, list, moment, object, one_of, text};
use gristmill_web::{Response, StatusCode, plain};
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::borrow::Cow;

/// The moment of what has none.
pub const NEVER: &str = "1970-01-01T00:00:00Z";
/// A cell without a value.
pub const NULL: &[u8] = b"null";

const PRESENT: &str = "PRESENT";
const NULL_VALUE: &str = "NULL_VALUE";
const NOT_FOUND: &str = "NOT_FOUND";

/// What one cell takes about, with its status and its moment.
const CELL_BYTES: usize = 56;

/// An answer while it is written: one column after the other, into the bytes that are sent.
pub struct Answer {
    body: Vec<u8>,
    columns: usize,
    /// The statuses of a column that has all its values: nearly every one.
    present: Vec<u8>,
}

impl Answer {
    pub fn schema() -> Value {
        let statuses = list(one_of(&[PRESENT, NOT_FOUND, NULL_VALUE]));
        let column = object([("values", list(any())), ("statuses", statuses), ("event_timestamps", list(moment()))]);
        object([("metadata", object([("feature_names", list(text()))])), ("results", list(column))])
    }

    /// With these columns, of so many rows each.
    pub fn begin(names: &[Cow<'_, str>], rows: usize) -> Result<Answer> {
        let mut body = Vec::with_capacity(128 + names.len() * (96 + rows * CELL_BYTES));
        body.extend_from_slice(b"{\"metadata\":{\"feature_names\":");
        write_json(&mut body, &names)?;
        body.extend_from_slice(b"},\"results\":[");
        Ok(Answer { body, columns: 0, present: json_bytes(&vec![PRESENT; rows])? })
    }

    /// Adds a column as it was sent.
    pub fn add_sent(&mut self, values: &[Value], never: &[u8]) -> Result<()> {
        self.add(
            |body, present| {
                write_json(body, &values)?;
                Answer::behind_values(body);
                body.extend_from_slice(present);
                Ok(())
            },
            never,
        )
    }

    /// Adds a feature of a view, by its number there.
    pub fn add_feature(&mut self, of: &Features, feature: usize) -> Result<()> {
        match of {
            Features::Columns(rows, moments) => {
                let column = rows.columns.columns().get(feature);
                let column = column.ok_or_else(|| Fault::internal(format!("a view lost its feature number {feature}")))?;
                let statuses = Statuses(column, &rows.newest);
                self.add(
                    |body, present| {
                        write_json(body, &Cells(column))?;
                        Answer::behind_values(body);
                        if statuses.all_present() {
                            body.extend_from_slice(present);
                            return Ok(());
                        }
                        write_json(body, &statuses)
                    },
                    moments,
                )
            }
            Features::ByRow(rows) => self.add(
                |body, present| {
                    write_list(body, rows.cells(feature));
                    Answer::behind_values(body);
                    if rows.is_whole() || rows.cells(feature).all(|cell| cell != NULL) {
                        body.extend_from_slice(present);
                        return Ok(());
                    }
                    write_json(body, &rows.statuses(feature, [PRESENT, NULL_VALUE, NOT_FOUND]).collect::<Vec<_>>())
                },
                rows.moments(),
            ),
        }
    }

    fn behind_values(body: &mut Vec<u8>) {
        body.extend_from_slice(b",\"statuses\":");
    }

    /// A column: its values and statuses, then its moments.
    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>, &[u8]) -> Result<()>, moments: &[u8]) -> Result<()> {
        self.body.extend_from_slice(if self.columns > 0 { b",{\"values\":" } else { b"{\"values\":" });
        self.columns += 1;
        write(&mut self.body, &self.present)?;
        self.body.extend_from_slice(b",\"event_timestamps\":");
        self.body.extend_from_slice(moments);
        self.body.push(b'}');
        Ok(())
    }

    pub fn end(mut self) -> Response {
        self.body.extend_from_slice(b"]}");
        plain(StatusCode::OK, "application/json", self.body)
    }
}

/// The features of a view, for the asked rows.
pub enum Features {
    /// As they were read, and the rows' moments as a list.
    Columns(FeatureRows, Vec<u8>),
    /// As each row was written before.
    ByRow(RowTexts),
}

impl Features {
    pub async fn read(plane: &Plane, request: FeatureRequest) -> Result<Features> {
        let rows = plane.parts.features.read(request).await?;
        let moments = rows.newest.iter().map(|newest| newest.map_or(Cow::Borrowed(NEVER), |at| at.to_string().into()));
        let moments = json_bytes(&moments.collect::<Vec<_>>())?;
        Ok(Features::Columns(rows, moments))
    }
}

fn write_json(to: &mut Vec<u8>, what: &impl Serialize) -> Result<()> {
    serde_json::to_writer(to, what).map_err(|e| Fault::internal("an answer does not serialise").because(e))
}

pub fn json_bytes(what: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_json(&mut bytes, what)?;
    Ok(bytes)
}

/// A list of texts that are JSON already.
pub fn write_list<'t>(to: &mut Vec<u8>, texts: impl Iterator<Item = &'t [u8]>) {
    to.push(b'[');
    for (number, text) in texts.enumerate() {
        if number > 0 {
            to.push(b',');
        }
        to.extend_from_slice(text);
    }
    to.push(b']');
}

/// The cells of a column.
pub struct Cells<'a>(pub &'a ArrayRef);

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
            (true, None) => NOT_FOUND,
            (true, Some(_)) => NULL_VALUE,
            (false, _) => PRESENT,
        }))
    }
}
