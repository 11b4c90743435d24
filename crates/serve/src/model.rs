//! A model in memory: read from its blob, checked against the views it reads, ready to score.
//!
//! [`ModelFile::score`] is the meaning of the format; here rows of features become rows of numbers, by the model's own dictionaries.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use gristmill_kernel::model::{Body, ModelFile, Task};
use gristmill_kernel::port::{Blobs, FeatureReader, Ledger, ViewRef};
use gristmill_kernel::version::Which;
use gristmill_kernel::view::FeatureType;
use gristmill_kernel::{AssetKind, Code, Digest, Fault, Name, Result, Version, VersionRef};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// A model that answers.
pub struct LoadedModel {
    /// Its version.
    pub id: VersionRef,
    /// The model.
    pub file: ModelFile,
    /// The views it reads, each once, in the order of its features.
    pub views: Vec<ViewRef>,
    dictionaries: Vec<HashMap<String, f64>>,
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
        let version = ledger.version(&id.asset, &Which::Number(id.number)).await?.ok_or_else(|| {
            Fault::not_found(Code::UNKNOWN_MODEL, format!("{id} does not exist"))
                .fix(format!("gristmill show {} lists the versions", id.asset))
        })?;
        let bytes = blobs.get(&version.blob()?).await?.ok_or_else(|| Fault::damaged(format!("the blob of {id} is gone")))?;
        let mut model = LoadedModel::new(id.clone(), ModelFile::read(&bytes)?)?;
        let trained_on = definitions(ledger, &version).await?;
        for view in &mut model.views {
            view.pinned = trained_on.get(&view.name).copied();
        }
        for view in &model.views {
            model.check_view(&view.name, &reader.schema(view).await?)?;
        }
        Ok(model)
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
        // The first of two equal words wins, as in the format's own encoding.
        let dictionary = |words: &[String]| {
            let mut codes = HashMap::with_capacity(words.len());
            words.iter().enumerate().for_each(|(code, word)| {
                codes.entry(word.clone()).or_insert(code as f64);
            });
            codes
        };
        let dictionaries = file.features.iter().map(|f| dictionary(&f.categories)).collect();
        Ok(LoadedModel { id, file, views, dictionaries })
    }

    fn check_view(&self, view: &Name, schema: &SchemaRef) -> Result<()> {
        for feature in self.file.features.iter().filter(|f| f.view == view.as_str()) {
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

    /// The numbers of all rows, one row behind the other. A word that the dictionary lacks counts as missing (NaN), as in training.
    pub fn encode(&self, columns: &RecordBatch) -> Result<Vec<f64>> {
        let (rows, width) = (columns.num_rows(), self.file.features.len());
        let mut matrix = vec![f64::NAN; rows * width];
        for (place, feature) in self.file.features.iter().enumerate() {
            let name = format!("{}.{}", feature.view, feature.column);
            let column = columns
                .column_by_name(&name)
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
                let (words, codes) = (cast.as_string::<i32>(), &self.dictionaries[place]);
                for row in (0..rows).filter(|r| words.is_valid(*r)) {
                    set(row, codes.get(words.value(row)).copied().unwrap_or(f64::NAN));
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

    /// Scores one encoded row. A score that is no number is an error, never an answer.
    pub fn score(&self, row: &[f64]) -> Result<Scored> {
        let mut outputs = vec![0.0; self.file.outputs()];
        self.file.score(row, &mut outputs);
        if let Some(bad) = outputs.iter().find(|x| !x.is_finite()) {
            return Err(Fault::new(gristmill_kernel::Kind::Internal, Code::BAD_MODEL, format!("{} scored the row as {bad}", self.id)));
        }
        let classes = &self.file.classes;
        let (score, outcome) = match self.file.task {
            Task::Regression | Task::Ranking => (outputs[0], None),
            Task::Binary => {
                let score = outputs[outputs.len() - 1];
                (score, classes.get(usize::from(score >= 0.5)).cloned())
            }
            Task::Multiclass => {
                let best = (0..outputs.len()).fold(0, |best, i| if outputs[i] > outputs[best] { i } else { best });
                (outputs[best], classes.get(best).cloned())
            }
        };
        Ok(Scored { score, outcome, outputs })
    }

    /// How [`Self::contributions`] explains this model.
    pub fn contributions_method(&self) -> &'static str {
        match &self.file.body {
            Body::Linear(_) => "linear",
            Body::Forest(_) => "occlusion",
        }
    }

    /// What each feature did to the score of a row.
    ///
    /// `linear`: exact, the feature's weights times its inputs, on the scale before the link (log-odds for a classifier); with the intercept
    /// they add up to it. `occlusion` (trees): the score minus the score of the same row with that feature missing; features that act
    /// together share an effect twice or not at all, so these do not add up. Exact Shapley values would need the rows behind each leaf,
    /// which a model file does not carry.
    pub fn contributions(&self, row: &[f64]) -> BTreeMap<String, f64> {
        let output = self.explained_output(row);
        let each = |feature: usize| match &self.file.body {
            Body::Linear(linear) => {
                let own = linear.inputs.iter().zip(&linear.weights[output]).filter(|(input, _)| input_feature(input) == feature);
                own.map(|(input, weight)| weight * input.encode(row)).sum::<f64>()
            }
            Body::Forest(_) => {
                let mut without = row.to_vec();
                without[feature] = f64::NAN;
                self.output(row, output) - self.output(&without, output)
            }
        };
        let name = |f: &gristmill_kernel::model::Feature| format!("{}.{}", f.view, f.column);
        self.file.features.iter().enumerate().map(|(place, feature)| (name(feature), each(place))).collect()
    }

    fn explained_output(&self, row: &[f64]) -> usize {
        let mut outputs = vec![0.0; self.file.outputs()];
        self.file.score(row, &mut outputs);
        match self.file.task {
            Task::Binary => outputs.len() - 1,
            Task::Multiclass => (0..outputs.len()).fold(0, |best, i| if outputs[i] > outputs[best] { i } else { best }),
            Task::Regression | Task::Ranking => 0,
        }
    }

    fn output(&self, row: &[f64], output: usize) -> f64 {
        let mut outputs = vec![0.0; self.file.outputs()];
        self.file.score(row, &mut outputs);
        outputs[output]
    }
}

fn input_feature(input: &gristmill_kernel::model::LinearInput) -> usize {
    use gristmill_kernel::model::LinearInput::{Missing, OneHot, Scaled};
    match *input {
        Scaled { feature, .. } | OneHot { feature, .. } | Missing { feature } => feature as usize,
    }
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

fn cell_json(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int64 => column.as_primitive::<arrow::datatypes::Int64Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<arrow::datatypes::Int32Type>().value(row).into(),
        DataType::UInt64 => column.as_primitive::<arrow::datatypes::UInt64Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Float32 => f64::from(column.as_primitive::<arrow::datatypes::Float32Type>().value(row)).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _) => {
            let micros = column.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(row);
            gristmill_kernel::Timestamp::from_micros(micros).to_string().into()
        }
        // Dates, decimals: as arrow prints them.
        _ => arrow::util::display::array_value_to_string(column, row).map_or(Value::Null, Value::from),
    }
}
