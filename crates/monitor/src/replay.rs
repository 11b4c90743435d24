//! One prediction again: its row of the log, and its features computed anew from the stored tables, as an audit does for a sample.
//!
//! What the model says of the logged features is the business of `serve`.

use crate::audit::{READ, View, read};
use crate::parity::Found;
use crate::run::{catalog, column};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use futures::TryStreamExt;
use gristmill_kernel::port::Ports;
use gristmill_kernel::table::TableName;
use gristmill_kernel::version::{Selector, Which};
use gristmill_kernel::{AssetKind, Code, Fault, Name, Result, Timestamp, VersionRef};
use serde::Serialize;
use serde_json::{Map, Value};

/// A prediction, and what its features are now.
#[derive(Debug, Serialize)]
pub struct Replayed {
    /// Its id.
    pub id: String,
    /// The endpoint that answered.
    pub endpoint: Name,
    /// The version that answered, and for which share of the traffic.
    pub model: VersionRef,
    /// `stable` or `canary`.
    pub arm: String,
    /// When it was answered.
    pub at: Timestamp,
    /// The moment of its features.
    pub as_of: Timestamp,
    /// Who it was about.
    pub entity: Map<String, Value>,
    /// The features, as the log keeps them.
    pub features: Map<String, Value>,
    /// What was answered; none where the row failed.
    pub score: Option<f64>,
    /// The class that was answered.
    pub outcome: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// The views that were read, each computed again.
    pub views: Vec<ViewAgain>,
    /// Views whose values came from what the caller sent, which is not kept: their features are taken from the log.
    pub not_computed: Vec<Name>,
}

/// A view, computed again for the prediction's moment.
#[derive(Debug, Serialize)]
pub struct ViewAgain {
    /// The view.
    pub view: Name,
    /// Its version.
    pub version: u64,
    /// What was found.
    pub found: Found,
    /// Features that have another value when they are computed from the tables as they are now.
    pub now: Vec<Difference>,
    /// Features that have another value although only the rows that serving had are read: what must not be.
    pub then: Vec<Difference>,
}

/// A feature whose value is not the one that was served.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// `view.column`.
    pub feature: String,
    /// What was served.
    pub served: Value,
    /// What is computed.
    pub computed: Value,
}

fn model_of(text: &str) -> Result<VersionRef> {
    let selector: Selector = text.parse()?;
    match selector.which {
        Which::Number(number) => Ok(VersionRef { asset: selector.asset, number }),
        _ => Err(Fault::damaged(format!("a prediction was answered by `{text}`, which is no version"))),
    }
}

/// Shortest beginning of an id by which a prediction is looked for.
const ID_CHARS_MIN: usize = 4;

/// Finds a prediction by its id, or by the beginning of it, and computes its features again.
pub async fn replay(ports: &Ports, id: &str) -> Result<Replayed> {
    // It goes into a query: hexadecimal digits need no quoting.
    if id.len() < ID_CHARS_MIN || !id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(Fault::invalid(Code::UNKNOWN_PREDICTION, format!("`{id}` is not the id of a prediction"))
            .fix(format!("ids are hexadecimal; the first {ID_CHARS_MIN} digits or more are enough")));
    }
    let mut found: Vec<(Name, TableName, RecordBatch)> = Vec::new();
    for asset in ports.ledger.assets().await?.into_iter().filter(|asset| asset.kind == AssetKind::Predictions) {
        let table = TableName::of(&asset);
        // A log of an earlier binary does not say what its rows were based on.
        if ports.engine.table(&table).await?.is_none_or(|info| info.schema.column_with_name("based_on").is_none()) {
            continue;
        }
        let sql = format!("select {READ}, arm, model, score, outcome, error from predictions where prediction_id like '{id}%' limit 2");
        let batches: Vec<RecordBatch> = ports.engine.query(&sql, &catalog(&table), false).await?.try_collect().await?;
        let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| batch.slice(row, 1)));
        found.extend(rows.map(|row| (asset.name.clone(), table.clone(), row)));
    }
    let (endpoint, table, row) = match found.len() {
        0 => {
            let fault = Fault::not_found(Code::UNKNOWN_PREDICTION, format!("no logged prediction has the id `{id}`"));
            return Err(fault.fix("a prediction is in the log a moment after it was answered; `gristmill sql` shows predictions__ENDPOINT"));
        }
        1 => found.swap_remove(0),
        _ => {
            return Err(Fault::invalid(Code::UNKNOWN_PREDICTION, format!("several predictions have ids that begin with `{id}`"))
                .fix("give more digits"));
        }
    };
    let served = read(&row, &table)?.pop().ok_or_else(|| {
        Fault::invalid(Code::NEWER_FORMAT, format!("prediction {id} was logged by a newer binary")).fix("use the gristmill that wrote it")
    })?;
    let text = |name: &str| -> Result<Option<String>> {
        let column = column(&row, name, &DataType::Utf8)?;
        Ok(column.is_valid(0).then(|| column.as_string::<i32>().value(0).to_owned()))
    };
    let score = column(&row, "score", &DataType::Float64)?;
    let (mut views, mut not_computed) = (Vec::new(), Vec::new());
    for (name, basis) in &served.basis.views {
        match View::load(ports, name, basis.version).await? {
            None => not_computed.push(name.clone()),
            Some(view) => {
                let (found, now, then) = view.again(&served).await?;
                views.push(ViewAgain { view: name.clone(), version: basis.version, found, now, then });
            }
        }
    }
    Ok(Replayed {
        endpoint,
        model: model_of(&text("model")?.unwrap_or_default())?,
        arm: text("arm")?.unwrap_or_default(),
        at: Timestamp::from_micros(served.at),
        as_of: Timestamp::from_micros(served.as_of),
        score: score.is_valid(0).then(|| score.as_primitive::<Float64Type>().value(0)),
        outcome: text("outcome")?,
        error: text("error")?,
        id: served.id,
        entity: served.entity,
        features: served.features,
        views,
        not_computed,
    })
}
