//! Scores rows by [`ModelFile::score`], the meaning of the model format: what is measured is what is served.

use crate::metric::Scored;
use crate::sample::{Dataset, UNSEEN};
use crate::table::{TrainingTable, Values};
use gristmill_kernel::model::{Feature, ModelFile, Task};
use gristmill_kernel::view::FeatureType;

/// Rows with their outcomes and scores, owned.
#[derive(Debug, Clone, Default)]
pub struct ScoredRows {
    /// Which rows of the table.
    pub rows: Vec<usize>,
    /// Their outcomes.
    pub y: Vec<f64>,
    /// Their scores, `outputs` per row.
    pub scores: Vec<f64>,
    /// How many scores a row has.
    pub outputs: usize,
    /// Their groups.
    pub group: Vec<u32>,
}

impl ScoredRows {
    /// Borrowed, for metrics.
    pub fn view(&self) -> Scored<'_> {
        Scored { y: &self.y, scores: &self.scores, outputs: self.outputs, group: &self.group }
    }
    /// Only the rows that `keep` says.
    pub fn only(&self, keep: impl Fn(usize) -> bool) -> ScoredRows {
        let mut out = ScoredRows { outputs: self.outputs, ..ScoredRows::default() };
        for at in (0..self.rows.len()).filter(|at| keep(self.rows[*at])) {
            out.rows.push(self.rows[at]);
            out.y.push(self.y[at]);
            out.group.push(self.group[at]);
            out.scores.extend_from_slice(&self.scores[at * self.outputs..(at + 1) * self.outputs]);
        }
        out
    }
    /// The one number per row that the prediction log keeps: the score, or the probability of the predicted class.
    pub fn logged(&self, task: Task) -> Vec<f64> {
        let of_row = |row: &[f64]| if task == Task::Multiclass { row.iter().copied().fold(f64::NEG_INFINITY, f64::max) } else { row[0] };
        self.scores.chunks(self.outputs.max(1)).map(of_row).collect()
    }
}

/// Scores rows of a data set. Rows whose class the training rows lack are left out.
pub fn score(model: &ModelFile, data: &Dataset, columns: &[Vec<f64>], rows: &[usize], threads: usize) -> ScoredRows {
    let rows: Vec<usize> = rows.iter().copied().filter(|r| data.y[*r] != UNSEEN || data.classes.is_empty()).collect();
    let outputs = model.outputs();
    let mut scores = vec![0.0; rows.len() * outputs];
    let share = rows.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        for (rows, scores) in rows.chunks(share).zip(scores.chunks_mut(share * outputs)) {
            scope.spawn(move || {
                let mut row = vec![0.0; columns.len()];
                for (at, out) in rows.iter().zip(scores.chunks_mut(outputs)) {
                    row.iter_mut().zip(columns).for_each(|(x, column)| *x = column[*at]);
                    model.score(&row, out);
                }
            });
        }
    });
    ScoredRows { y: rows.iter().map(|r| data.y[*r]).collect(), group: rows.iter().map(|r| data.group[*r]).collect(), scores, outputs, rows }
}

/// The columns of a table as an older model wants them; the reason when it cannot be asked about these rows.
pub fn columns_for(model: &ModelFile, table: &TrainingTable, data: &Dataset) -> Result<Vec<Vec<f64>>, String> {
    if model.task != data.task || model.classes != data.classes {
        return Err("it predicts something else".to_owned());
    }
    model.features.iter().map(|wanted| column_for(wanted, table)).collect()
}

fn column_for(wanted: &Feature, table: &TrainingTable) -> Result<Vec<f64>, String> {
    let name = crate::reference::qualified(wanted);
    let at = table.meta.features.iter().position(|f| f.view == wanted.view && f.column == wanted.column);
    match at.map(|at| &table.features[at]) {
        Some(Values::Number(numbers)) if wanted.kind != FeatureType::Category => Ok(numbers.clone()),
        Some(Values::Word(words)) if wanted.kind == FeatureType::Category => {
            let codes: Vec<f64> = words.words.iter().map(|w| gristmill_kernel::model::encode_word(&wanted.categories, Some(w))).collect();
            Ok(words.codes.iter().map(|c| codes.get(*c as usize).copied().unwrap_or(f64::NAN)).collect())
        }
        Some(_) => Err(format!("its feature {name} has another type now")),
        None => Err(format!("its feature {name} is not in this training set")),
    }
}
