//! A model in memory: read from its blob, checked against the views it reads, ready to score.
//!
//! Rows of features become rows of numbers here, by the model's own dictionaries; [`Runtime`] makes outputs of them. Features of our own models
//! come from views; those of registered models are columns of the request, under the view name [`REQUEST`].

use crate::plan::Row;
use crate::registered::{self, REQUEST};
use crate::runtime::onnx::OTHER_WORD;
use crate::runtime::shap::Explainer;
use crate::runtime::{Own, Runtime};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use gristmill_kernel::logged::{self, Names};
use gristmill_kernel::model::{Feature, ModelFile, Task};
use gristmill_kernel::port::{Blobs, FeatureReader, Ledger, ViewRef};
use gristmill_kernel::tracking::manifest::Manifest;
use gristmill_kernel::version::{Place, Which};
use gristmill_kernel::view::FeatureType;
use gristmill_kernel::{AssetKind, Code, Digest, Fault, Name, Result, Version, VersionRef};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// A model that answers.
pub struct LoadedModel {
    /// Its version.
    pub id: VersionRef,
    /// How it is asked and what it answers.
    pub shape: Shape,
    /// The views it reads, each once, in the order of its features. A registered model reads none.
    pub views: Vec<ViewRef>,
    /// What computes.
    pub(crate) runtime: Runtime,
    /// Made when the first row is explained.
    pub(crate) explainer: OnceLock<Option<Explainer>>,
    dictionaries: Vec<HashMap<String, f64>>,
    /// The names of its inputs as the prediction log writes them.
    pub(crate) logged_names: Names,
    /// Its inputs as columns, `view.column` each.
    asked: SchemaRef,
}

/// How a model is asked and what it answers, whatever computes.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// What grew it: `gbdt`, `lightgbm`.
    pub platform: String,
    /// What it predicts.
    pub task: Task,
    /// The classes in output order, for classification.
    pub classes: Vec<String>,
    /// The inputs in order.
    pub features: Vec<Feature>,
    /// Outputs of a row.
    pub outputs: usize,
    /// Per input whether a request may leave it out; empty where inputs come from views.
    pub optional: Vec<bool>,
}

impl Shape {
    /// Whether the inputs are columns of the request.
    pub fn asks_request(&self) -> bool {
        self.features.first().is_some_and(|f| f.view == REQUEST)
    }
    /// The name of an input for callers.
    pub fn input_name(&self, feature: &Feature) -> String {
        if self.asks_request() { feature.column.clone() } else { format!("{}.{}", feature.view, feature.column) }
    }
    fn of(file: &ModelFile) -> Shape {
        Shape {
            platform: file.algorithm.clone(),
            task: file.task,
            classes: file.classes.clone(),
            features: file.features.clone(),
            outputs: file.outputs(),
            optional: Vec::new(),
        }
    }
}

/// The definitions a model was trained on, by walking back: model, training set, features. A model that came another way has none.
async fn definitions(ledger: &dyn Ledger, model: &Version) -> Result<HashMap<Name, (u64, Digest)>> {
    let mut found = HashMap::new();
    for set in inputs(ledger, model, AssetKind::TrainingSets).await? {
        let Some(set) = ledger.version(&set.asset, &Which::Number(set.number)).await? else { continue };
        for view in inputs(ledger, &set, AssetKind::Features).await? {
            if let Some(version) = ledger.version(&view.asset, &Which::Number(view.number)).await? {
                found.insert(view.asset.name, (view.number, ViewRef::definition(&version.meta)));
            }
        }
    }
    Ok(found)
}

/// The versions of a kind that the run which made this one has read.
async fn inputs(ledger: &dyn Ledger, version: &Version, kind: AssetKind) -> Result<Vec<VersionRef>> {
    let run = ledger.run(&version.run).await?;
    Ok(run.into_iter().flat_map(|r| r.inputs).filter(|i| i.asset.kind == kind).collect())
}

/// What a model says about a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Binary: probability of the second class; regression and ranking: the value; multiclass: probability of the predicted class.
    pub score: f64,
    /// The predicted class.
    pub outcome: Option<String>,
    /// Every output of the model.
    pub outputs: Vec<f64>,
}

impl LoadedModel {
    /// Reads a version and checks that its views still give what it was trained on.
    pub async fn load(id: &VersionRef, ledger: &dyn Ledger, blobs: &dyn Blobs, reader: &dyn FeatureReader) -> Result<LoadedModel> {
        let (version, mut model) = LoadedModel::read(id, ledger, blobs).await?;
        let trained_on = definitions(ledger, &version).await?;
        for view in &mut model.views {
            view.pinned = trained_on.get(&view.name).copied();
        }
        for view in &model.views {
            model.check_view(&view.name, &reader.schema(view).await?)?;
        }
        Ok(model)
    }

    /// Reads a version; what its views give now is not looked at.
    async fn read(id: &VersionRef, ledger: &dyn Ledger, blobs: &dyn Blobs) -> Result<(Version, LoadedModel)> {
        let version = ledger.version(&id.asset, &Which::Number(id.number)).await?.ok_or_else(|| {
            Fault::not_found(Code::UNKNOWN_MODEL, format!("{id} does not exist"))
                .fix(format!("gristmill show {} lists the versions", id.asset))
        })?;
        let model = match LoadedModel::registered(&version, blobs).await? {
            Some(model) => model,
            None => LoadedModel::new(id.clone(), ModelFile::read(&content(&version, blobs).await?)?)?,
        };
        Ok((version, model))
    }

    /// The numbers of a row as the prediction log keeps it ([`gristmill_kernel::logged`]), which are those that were scored.
    fn encode_logged(&self, features: &Row) -> Vec<f64> {
        let number = |place: usize, feature: &Feature, value: &Value| match (feature.kind, value) {
            (_, Value::Number(number)) => number.as_f64().unwrap_or(f64::NAN),
            (_, Value::Bool(flag)) => f64::from(u8::from(*flag)),
            (FeatureType::Category, Value::String(word)) => self.code(place, word),
            (_, Value::String(word)) if word == "inf" => f64::INFINITY,
            (_, Value::String(word)) if word == "-inf" => f64::NEG_INFINITY,
            _ => f64::NAN,
        };
        let one = |(place, feature): (usize, &Feature)| {
            features.get(&format!("{}.{}", feature.view, feature.column)).map_or(f64::NAN, |value| number(place, feature, value))
        };
        self.shape.features.iter().enumerate().map(one).collect()
    }

    /// Reads a version that a client registered; `None` if a project trained it.
    pub async fn registered(version: &Version, blobs: &dyn Blobs) -> Result<Option<LoadedModel>> {
        // A manifest lists files, a model file has none; both say their format first.
        #[derive(serde::Deserialize)]
        struct Head {
            files: Option<serde::de::IgnoredAny>,
        }
        let bytes = match &version.place {
            Place::Blob { .. } => content(version, blobs).await?,
            Place::Table { .. } | Place::Meta => return Ok(None),
        };
        if serde_json::from_slice::<Head>(&bytes).ok().and_then(|head| head.files).is_none() {
            return Ok(None);
        }
        let answering = registered::load(&version.id, &Manifest::read(&bytes)?, blobs).await?;
        Ok(Some(LoadedModel::of(version.id.clone(), answering.shape, answering.runtime, Vec::new())))
    }

    /// What a version says of a row of the prediction log.
    pub async fn score_logged(id: &VersionRef, ledger: &dyn Ledger, blobs: &dyn Blobs, features: &Row) -> Result<Scored> {
        let (_, model) = LoadedModel::read(id, ledger, blobs).await?;
        let scored = model.score(&model.encode_logged(features), 1)?.pop();
        scored.unwrap_or_else(|| Err(Fault::internal(format!("{id} said nothing of a row"))))
    }

    /// Takes a model file.
    pub fn new(id: VersionRef, file: ModelFile) -> Result<LoadedModel> {
        let mut views: Vec<ViewRef> = Vec::new();
        for feature in &file.features {
            let view = ViewRef::newest(Name::new(feature.view.as_str())?);
            if !views.contains(&view) {
                views.push(view);
            }
        }
        Ok(LoadedModel::of(id, Shape::of(&file), Runtime::Own(Box::new(Own::new(file))), views))
    }

    pub(crate) fn of(id: VersionRef, shape: Shape, runtime: Runtime, views: Vec<ViewRef>) -> LoadedModel {
        // The first of two equal words wins, as in the format's own encoding.
        let dictionary = |words: &[String]| {
            let mut codes = HashMap::with_capacity(words.len());
            words.iter().enumerate().for_each(|(code, word)| {
                codes.entry(word.clone()).or_insert(code as f64);
            });
            codes
        };
        let dictionaries = shape.features.iter().map(|f| dictionary(&f.categories)).collect();
        let names: Vec<String> = shape.features.iter().map(|f| format!("{}.{}", f.view, f.column)).collect();
        let logged_names = Names::of(names.iter().map(String::as_str));
        let field = |(name, feature): (String, &Feature)| {
            let kind = match feature.kind {
                FeatureType::Number => DataType::Float64,
                FeatureType::Boolean => DataType::Boolean,
                FeatureType::Category => DataType::Utf8,
            };
            Field::new(name, kind, true)
        };
        let asked = Arc::new(Schema::new(names.into_iter().zip(&shape.features).map(field).collect::<Vec<_>>()));
        LoadedModel { id, shape, views, runtime, explainer: OnceLock::new(), dictionaries, logged_names, asked }
    }

    fn check_view(&self, view: &Name, schema: &SchemaRef) -> Result<()> {
        for feature in self.shape.features.iter().filter(|f| f.view == view.as_str()) {
            let field = schema.field_with_name(&feature.column).map_err(|_| {
                let columns: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                Fault::conflict(
                    Code::BAD_MODEL,
                    format!("{} reads `{view}.{}`, but view `{view}` gives {}", self.id, feature.column, columns.join(", ")),
                )
                .fix(format!("bring the column back, or train again: gristmill run {}", self.id.asset))
            })?;
            if !fits(feature.kind, field.data_type()) {
                return Err(Fault::conflict(
                    Code::BAD_MODEL,
                    format!("{} was trained on another type of `{view}.{}` than {}", self.id, feature.column, field.data_type()),
                )
                .fix(format!("train again: gristmill run {}", self.id.asset)));
            }
        }
        Ok(())
    }

    /// What stands for a word of a feature. A word that the dictionary lacks counts as missing (NaN), as in training, but not for a graph, whose
    /// encoders may tell the two apart.
    fn code(&self, place: usize, word: &str) -> f64 {
        let other = if matches!(self.runtime, Runtime::Onnx(_)) { OTHER_WORD } else { f64::NAN };
        self.dictionaries[place].get(word).copied().unwrap_or(other)
    }

    /// The numbers of all rows, one row behind the other; [`Self::code`] says what becomes of words.
    pub fn encode(&self, columns: &RecordBatch) -> Result<Vec<f64>> {
        let (rows, width) = (columns.num_rows(), self.shape.features.len());
        let mut matrix = vec![f64::NAN; rows * width];
        // Columns that a request came with are in order; those that were read are found by their names.
        let in_order = Arc::ptr_eq(columns.schema_ref(), &self.asked);
        for (place, feature) in self.shape.features.iter().enumerate() {
            let name = self.asked.field(place).name();
            let column = if in_order { Some(columns.column(place)) } else { columns.column_by_name(name) };
            let column = column
                .ok_or_else(|| Fault::invalid(Code::MISSING_INPUT, format!("`{name}` is missing")).fix(format!("{} reads it", self.id)))?;
            if !fits(feature.kind, column.data_type()) && column.data_type() != &DataType::Null {
                let what = format!("`{name}` is {}, which {} cannot read as {}", column.data_type(), self.id, kind_word(feature.kind));
                return Err(Fault::invalid(Code::WRONG_TYPE, what).fix(format!("give {}", kind_word(feature.kind))));
            }
            let target = if feature.kind == FeatureType::Category { DataType::Utf8 } else { DataType::Float64 };
            let cast = cast(column, &target).map_err(|e| {
                Fault::invalid(Code::WRONG_TYPE, format!("`{name}` cannot be read as {}", kind_word(feature.kind))).because(e)
            })?;
            let mut set = |row: usize, value: f64| matrix[row * width + place] = value;
            if feature.kind == FeatureType::Category {
                let words = cast.as_string::<i32>();
                for row in (0..rows).filter(|r| words.is_valid(*r)) {
                    set(row, self.code(place, words.value(row)));
                }
            } else {
                let numbers = cast.as_primitive::<Float64Type>();
                for row in (0..rows).filter(|r| numbers.is_valid(*r)) {
                    set(row, numbers.value(row));
                }
            }
        }
        Ok(matrix)
    }

    /// Refuses numbers that an input has no way to take: computed with anyway, a missing truth would be true.
    pub(crate) fn check(&self, matrix: &[f64]) -> Result<()> {
        let Runtime::Onnx(onnx) = &self.runtime else { return Ok(()) };
        let Some((place, value, takes)) = onnx.refused(matrix) else { return Ok(()) };
        let name = self.shape.features.get(place).map_or("", |f| f.column.as_str());
        let is = if value.is_nan() { "missing".to_owned() } else { value.to_string() };
        let what = format!("`{name}` is {is}, and {} takes {takes} and nothing else", self.id);
        Err(Fault::invalid(Code::WRONG_TYPE, what)
            .fix("give every row a value of it; to mark what is missing, train with a word or a number for it"))
    }

    /// The inputs of a registered model, as the columns of a request. What else the rows hold is not looked at; `null` is a missing value.
    pub fn request_columns(&self, rows: &[&Row]) -> Result<RecordBatch> {
        let mut columns = Vec::<ArrayRef>::with_capacity(self.shape.features.len());
        for (place, feature) in self.shape.features.iter().enumerate() {
            let optional = self.shape.optional.get(place).copied().unwrap_or(false);
            let name = &feature.column;
            for (number, row) in rows.iter().enumerate() {
                let wrong = match (row.get(name), feature.kind) {
                    (None, _) if optional => continue,
                    (None, _) => {
                        let fix = format!("{} reads {}", self.id, self.input_names());
                        return Err(Fault::invalid(Code::MISSING_INPUT, format!("row {number} lacks `{name}`")).fix(fix));
                    }
                    (Some(Value::Null), _)
                    | (Some(Value::Number(_)), FeatureType::Number)
                    | (Some(Value::Bool(_)), FeatureType::Boolean)
                    | (Some(Value::String(_)), FeatureType::Category) => continue,
                    (Some(wrong), _) => wrong,
                };
                let kind = kind_word(feature.kind);
                let what = format!("`{name}` of row {number} is {wrong}, which {} cannot read as {kind}", self.id);
                return Err(Fault::invalid(Code::WRONG_TYPE, what).fix(format!("give {kind}")));
            }
            let values = rows.iter().map(|row| row.get(name).unwrap_or(&Value::Null));
            let column: ArrayRef = match feature.kind {
                FeatureType::Number => Arc::new(values.map(Value::as_f64).collect::<Float64Array>()),
                FeatureType::Boolean => Arc::new(values.map(Value::as_bool).collect::<BooleanArray>()),
                FeatureType::Category => Arc::new(values.map(Value::as_str).collect::<StringArray>()),
            };
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(self.asked.clone(), columns, &options)
            .map_err(|e| Fault::internal("the columns of a request do not make a batch").because(e))
    }

    fn input_names(&self) -> String {
        const SHOWN: usize = 30;
        let names: Vec<String> = self.shape.features.iter().take(SHOWN).map(|f| f.column.clone()).collect();
        let more = self.shape.features.len().saturating_sub(SHOWN);
        let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("{}{rest}", crate::plan::words(&names))
    }

    /// How many calls it computes at the same time; `None`: as many as there are cores.
    pub(crate) fn calls_at_once(&self) -> Option<usize> {
        match &self.runtime {
            Runtime::Onnx(onnx) if onnx.uses_all_cores() => Some(1),
            Runtime::Onnx(_) | Runtime::Own(_) | Runtime::Forest(_) => None,
        }
    }

    /// Scores encoded rows, one behind the other. A score that is no number is an error of its row, never an answer.
    pub fn score(&self, matrix: &[f64], rows: usize) -> Result<Vec<Result<Scored>>> {
        let fault = |why: String| Fault::new(gristmill_kernel::Kind::Internal, Code::BAD_MODEL, format!("{} {why}", self.id));
        let outputs = self.runtime.run(matrix, rows).map_err(|why| fault(format!("did not score: {why}")))?;
        let one = |outputs: &[f64]| match outputs.iter().find(|x| !x.is_finite()) {
            Some(bad) => Err(fault(format!("scored the row as {bad}"))),
            None => Ok(self.scored(outputs.to_vec())),
        };
        Ok(outputs.chunks_exact(self.shape.outputs).map(one).collect())
    }

    fn scored(&self, outputs: Vec<f64>) -> Scored {
        let classes = &self.shape.classes;
        let (score, outcome) = match self.shape.task {
            Task::Regression | Task::Ranking => (outputs[0], None),
            Task::Binary => {
                let score = outputs[outputs.len() - 1];
                // At the border the libraries take the first class.
                let second = if self.shape.asks_request() { score > 0.5 } else { score >= 0.5 };
                (score, classes.get(usize::from(second)).cloned())
            }
            Task::Multiclass => {
                let best = best(&outputs);
                (outputs[best], classes.get(best).cloned())
            }
        };
        Scored { score, outcome, outputs }
    }
}

/// The place of the largest output, the first of equal ones.
pub(crate) fn best(outputs: &[f64]) -> usize {
    (0..outputs.len()).fold(0, |best, i| if outputs[i] > outputs[best] { i } else { best })
}

async fn content(version: &Version, blobs: &dyn Blobs) -> Result<bytes::Bytes> {
    blobs.get(&version.blob()?).await?.ok_or_else(|| Fault::damaged(format!("the blob of {} is gone", version.id)))
}

/// Whether a column's type can stand for a feature's.
fn fits(kind: FeatureType, column: &DataType) -> bool {
    match kind {
        FeatureType::Number => column.is_numeric(),
        FeatureType::Boolean => *column == DataType::Boolean,
        FeatureType::Category => matches!(column, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _)),
    }
}

fn kind_word(kind: FeatureType) -> &'static str {
    match kind {
        FeatureType::Number => "a number",
        FeatureType::Boolean => "true or false",
        FeatureType::Category => "text",
    }
}

/// A row of a batch as JSON: `view.column` -> value. NaN and infinities become null: JSON has none.
pub fn row_json(columns: &RecordBatch, row: usize) -> serde_json::Map<String, Value> {
    let schema = columns.schema();
    schema.fields().iter().zip(columns.columns()).map(|(field, column)| (field.name().clone(), cell_json(column, row))).collect()
}

/// A cell as JSON.
pub(crate) fn cell_json(column: &dyn Array, row: usize) -> Value {
    match (column.data_type(), logged::cell(column, row)) {
        // The words for what JSON has no number for are the log's own.
        (DataType::Float32 | DataType::Float64, Value::String(_)) => Value::Null,
        (_, value) => value,
    }
}
