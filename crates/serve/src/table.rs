//! The features of the rows of a request, however they came.

use crate::model::{LoadedModel, row_json};
use crate::plan::{Row, columns_of};
use crate::plane::Endpoint;
use crate::predict::Input;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use gristmill_kernel::logged::{self, Names};
use gristmill_kernel::port::{FeatureReader, FeatureRequest, FeatureRows};
use gristmill_kernel::{Fault, Result, Timestamp};
use serde_json::Value;
use std::sync::{Arc, OnceLock};

/// The features of some rows.
pub(crate) struct Table {
    pub features: Features,
    /// Per row: the newest event behind them.
    pub newest: Vec<Option<Timestamp>>,
    /// What they were computed from, in JSON; `None` where they came with the request.
    pub basis: Option<Arc<str>>,
    /// The names of the columns; made when the first row is logged.
    names: OnceLock<Names>,
}

/// Named columns, or the numbers that a model takes, one row behind the other.
#[derive(Clone)]
pub(crate) enum Features {
    Columns(RecordBatch),
    Encoded(Vec<f64>),
}

impl Table {
    /// What a model reads for these rows of an input, at a moment.
    pub async fn read(
        reader: &dyn FeatureReader,
        endpoint: &Endpoint,
        model: &LoadedModel,
        input: &Input,
        rows: &[usize],
        at: Timestamp,
    ) -> Result<Table> {
        let nothing = || vec![None; rows.len()];
        match input {
            Input::Encoded { matrix, .. } => {
                let features = Features::Encoded(chosen(matrix, rows, model.shape.features.len()));
                Ok(Table { features, newest: nothing(), basis: None, names: OnceLock::new() })
            }
            Input::Features(columns) => {
                Ok(Table { features: Features::Columns(take(columns, rows)?), newest: nothing(), basis: None, names: OnceLock::new() })
            }
            Input::Entities(all) => {
                let asked: Vec<&Row> = rows.iter().map(|row| &all[*row]).collect();
                if model.shape.asks_request() {
                    let features = Features::Columns(model.request_columns(&asked)?);
                    return Ok(Table { features, newest: nothing(), basis: None, names: OnceLock::new() });
                }
                let batch = columns_of(&asked, &endpoint.spec.entity)?;
                let request = FeatureRequest { views: model.views.clone(), rows: batch, at };
                let FeatureRows { columns, newest, basis } = reader.read(request).await?;
                if columns.num_rows() != rows.len() || newest.len() != rows.len() {
                    return Err(Fault::internal(format!("{} rows were asked for features, {} came back", rows.len(), columns.num_rows())));
                }
                let basis = serde_json::to_string(&basis).map_err(|e| Fault::internal("a basis does not serialise").because(e))?;
                Ok(Table { features: Features::Columns(columns), newest, basis: Some(basis.into()), names: OnceLock::new() })
            }
        }
    }
}

impl Table {
    /// A row as the log keeps it.
    pub fn logged(&self, model: &LoadedModel, row: usize) -> String {
        match &self.features {
            Features::Columns(columns) => {
                let of = || Names::of(columns.schema_ref().fields().iter().map(|field| field.name().as_str()));
                logged::text(columns, self.names.get_or_init(of), row)
            }
            Features::Encoded(matrix) => logged::text_of_numbers(&model.logged_names, numbers_of(matrix, row, model)),
        }
    }
}

fn numbers_of<'m>(matrix: &'m [f64], row: usize, model: &LoadedModel) -> &'m [f64] {
    let width = model.shape.features.len();
    &matrix[row * width..(row + 1) * width]
}

impl Features {
    /// A row in plain JSON: name -> value.
    pub fn row(&self, model: &LoadedModel, row: usize) -> Row {
        match self {
            Features::Columns(columns) => row_json(columns, row),
            Features::Encoded(matrix) => {
                let named = model.shape.features.iter().zip(numbers_of(matrix, row, model));
                named.map(|(f, x)| (format!("{}.{}", f.view, f.column), Value::from(*x))).collect()
            }
        }
    }

    /// Those of some rows, in ascending places; `width` numbers make a row where they have no names.
    pub fn of(&self, places: &[usize], width: usize) -> Result<Features> {
        Ok(match self {
            Features::Columns(columns) => Features::Columns(take(columns, places)?),
            Features::Encoded(matrix) => Features::Encoded(chosen(matrix, places, width)),
        })
    }
    /// The numbers that a model takes, all of which it has a way to take.
    pub fn encoded(self, model: &LoadedModel) -> Result<Vec<f64>> {
        let matrix = match self {
            Features::Columns(columns) => model.encode(&columns)?,
            Features::Encoded(matrix) => matrix,
        };
        model.check(&matrix)?;
        Ok(matrix)
    }
}

fn chosen(matrix: &[f64], rows: &[usize], width: usize) -> Vec<f64> {
    rows.iter().flat_map(|row| matrix.get(row * width..(row + 1) * width).unwrap_or_default()).copied().collect()
}

fn take(columns: &RecordBatch, rows: &[usize]) -> Result<RecordBatch> {
    if rows.len() == columns.num_rows() {
        // The places are ascending and each stands once, so these are all of them.
        return Ok(columns.clone());
    }
    let places = UInt32Array::from_iter_values(rows.iter().map(|row| *row as u32));
    take_record_batch(columns, &places).map_err(|e| Fault::internal("rows of a batch cannot be taken").because(e))
}
