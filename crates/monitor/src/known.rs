//! Predictions whose outcome is known, one after the other.

use crate::outcomes::{self, Outcomes};
use crate::run::{catalog, column};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use futures::TryStreamExt;
use gristmill_kernel::model::{ModelFile, Task};
use gristmill_kernel::table::TableName;
use gristmill_kernel::{Fault, Result, StageContext, Timestamp};

/// A prediction and what happened.
pub(crate) struct KnownPrediction<'a> {
    /// The version that made it.
    pub model: &'a str,
    /// Whom it was about: [`outcomes::key`].
    pub entity: String,
    /// The score: a probability of the second class, of the predicted class, or a value.
    pub score: f64,
    /// What it said would happen, where it said so in a word.
    pub predicted: Option<&'a str>,
    /// What happened.
    pub label: &'a str,
}

/// Visits every prediction of a log that did not fail, that `chosen` (the end of a SQL query, after `where`) chooses and whose outcome is known.
pub(crate) async fn each(
    cx: &StageContext,
    table: &TableName,
    chosen: &str,
    (file, outcomes): (&ModelFile, &Outcomes),
    mut visit: impl FnMut(KnownPrediction<'_>),
) -> Result<()> {
    let sql = format!("select as_of, model, entity, score, outcome from predictions where error is null and {chosen}");
    let mut rows = cx.ports.engine.query(&sql, &catalog(table), false).await?;
    while let Some(batch) = rows.try_next().await? {
        cx.cancel.check()?;
        let as_of = column(&batch, "as_of", &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        let text = |name| column(&batch, name, &DataType::Utf8);
        let (model, entity, outcome) = (text("model")?, text("entity")?, text("outcome")?);
        let score = column(&batch, "score", &DataType::Float64)?;
        let (as_of, model, entity) =
            (as_of.as_primitive::<TimestampMicrosecondType>(), model.as_string::<i32>(), entity.as_string::<i32>());
        let (score, outcome) = (score.as_primitive::<Float64Type>(), outcome.as_string::<i32>());
        for row in 0..batch.num_rows() {
            if !score.is_valid(row) || !as_of.is_valid(row) || !entity.is_valid(row) || !model.is_valid(row) {
                continue;
            }
            let of = serde_json::from_str(entity.value(row))
                .map_err(|e| Fault::damaged(format!("table {table}, column entity: {e}")).because(e))?;
            let Some(key) = outcomes::key(&of, &file.entity) else { continue };
            let Some(label) = outcomes.nearest(&key, Timestamp::from_micros(as_of.value(row))) else { continue };
            let predicted = outcome.is_valid(row).then(|| outcome.value(row));
            visit(KnownPrediction { model: model.value(row), entity: key, score: score.value(row), predicted, label });
        }
    }
    Ok(())
}

impl KnownPrediction<'_> {
    /// What the label means for a model's score: 1 or 0 for a class (whether it was the second one; whether the predicted class was right), or a
    /// value. `None` if it is none of the model's classes.
    pub fn outcome(&self, file: &ModelFile) -> Option<f64> {
        match file.task {
            Task::Binary => {
                let class = file.classes.iter().position(|c| c == self.label)?;
                Some(f64::from(u8::from(class == 1)))
            }
            Task::Multiclass => self.predicted.map(|p| f64::from(u8::from(p == self.label))),
            Task::Regression | Task::Ranking => self.label.parse().ok(),
        }
    }
    /// The label as a number, whatever the model predicts.
    pub fn value(&self, file: &ModelFile) -> Option<f64> {
        match self.label {
            "true" => Some(1.0),
            "false" => Some(0.0),
            label => label.parse().ok().filter(|value: &f64| value.is_finite()).or_else(|| self.outcome(file)),
        }
    }
}
