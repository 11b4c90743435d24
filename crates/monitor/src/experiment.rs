//! Experiments: what happened to the entities that each of two versions answered.

use crate::known;
use crate::outcomes::Outcomes;
use crate::run::{catalog, column};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use futures::TryStreamExt;
use gristmill_kernel::experiment::{Decide, Experiment, Measure, Tried, Values};
use gristmill_kernel::model::{ModelFile, Task};
use gristmill_kernel::prediction::Deployment;
use gristmill_kernel::table::TableName;
use gristmill_kernel::{Result, StageContext, Timestamp};
use std::collections::HashMap;

/// Counts the experiment that a deployment is in; `None` without one. Only outcomes from its beginning on count: what had happened before is
/// nobody's doing. An entity that both versions answered, as while a deployment is swapped in, counts for neither.
pub(crate) async fn count(
    cx: &StageContext,
    table: &TableName,
    (deployment, decide): (&Deployment, &Decide),
    (file, outcomes): (&ModelFile, &Outcomes),
) -> Result<Option<Experiment>> {
    let Some(tried) = Tried::of(deployment, decide) else { return Ok(None) };
    let (stable, trial) = (&tried.stable, tried.trial.to_string());
    // Names and numbers of models are safe in quotes: they are made of lowercase letters, digits, `_`, `.` and `@`.
    let chosen = format!("model in ('{stable}', '{trial}') and cast(at as bigint) >= {}", tried.began_at.micros());
    let mut experiment = Experiment { tried, of_stable: Values::default(), of_trial: Values::default() };
    let Some(first) = first_moment(cx, table, &chosen).await? else { return Ok(Some(experiment)) };
    // A clock of events has moments of its own, so this one is theirs.
    // The sum and the number of each entity's values.
    let mut arms: [HashMap<String, (f64, u32)>; 2] = Default::default();
    known::each(cx, table, &chosen, (file, &outcomes.since(first)), |known| {
        let value = match decide.by {
            Measure::More | Measure::Less => known.value(file),
            // Of many classes the outcome is already whether the prediction was right.
            _ if file.task == Task::Multiclass => known.outcome(file),
            by => known.outcome(file).map(|outcome| by.of(known.score, outcome)),
        };
        let Some(value) = value else { return };
        let (sum, count) = arms[usize::from(known.model == trial)].entry(known.entity).or_default();
        *sum += value;
        *count += 1;
    })
    .await?;
    // One order whatever the map's: sums of floats depend on it.
    let values = |arm: &HashMap<String, (f64, u32)>, other: &HashMap<String, (f64, u32)>| {
        let own = arm.iter().filter(|(entity, _)| !other.contains_key(*entity));
        let mut values: Vec<f64> = own.map(|(_, (sum, count))| sum / f64::from(*count)).collect();
        values.sort_by(f64::total_cmp);
        Values::of(values.into_iter())
    };
    (experiment.of_stable, experiment.of_trial) = (values(&arms[0], &arms[1]), values(&arms[1], &arms[0]));
    Ok(Some(experiment))
}

/// The earliest moment that the predictions of an experiment are about.
async fn first_moment(cx: &StageContext, table: &TableName, chosen: &str) -> Result<Option<Timestamp>> {
    let sql = format!("select min(as_of) as first from predictions where error is null and {chosen}");
    let mut rows = cx.ports.engine.query(&sql, &catalog(table), false).await?;
    let mut first = None;
    while let Some(batch) = rows.try_next().await? {
        let moments = column(&batch, "first", &DataType::Timestamp(TimeUnit::Microsecond, None))?;
        let moments = moments.as_primitive::<TimestampMicrosecondType>();
        first = first.or((0..moments.len()).find(|row| moments.is_valid(*row)).map(|row| Timestamp::from_micros(moments.value(row))));
    }
    Ok(first)
}
