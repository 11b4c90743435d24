//! The stage: reads through ports, calls [`plan`](crate::plan), writes blobs and kept rows.

use crate::kept::{self, Slot};
use crate::plan::{self, bug};
use crate::spec::{FeaturesSpec, TrainingSetSpec};
use crate::{blob, kept::follow};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, TimestampMicrosecondType};
use async_trait::async_trait;
use futures::TryStreamExt as _;
use gristmill_kernel::error::Code;
use gristmill_kernel::port::{AsOfPlan, KeptRows, Known, Ports, compile_view};
use gristmill_kernel::stage::Made;
use gristmill_kernel::table::{Relation, TableInfo, TableName};
use gristmill_kernel::training::{self, FeatureColumn, KnownRows, TrainingSetMeta};
use gristmill_kernel::version::Place;
use gristmill_kernel::view::{LabelDef, PinnedTable, REQUEST, ViewAt, ViewDef, ViewMeta, pinned_catalog};
use gristmill_kernel::{Address, AssetKind, Digest, Done, Fault, Name, NewVersion, Order, Result, Stage, StageContext, StageKind, Version};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Stage `features`.
#[derive(Debug, Default)]
pub struct FeaturesStage;

#[async_trait]
impl Stage for FeaturesStage {
    fn kind(&self) -> StageKind {
        StageKind::Features
    }

    /// What answers online is kept outside the ledger and may be lost: then the work is done again, which brings it back from the tables.
    async fn stands(&self, ports: &Ports, order: &Order) -> Result<bool> {
        match order.spec()? {
            FeaturesSpec::View { view, tables } => kept_rows_stand(ports, order, &view, &tables).await,
            FeaturesSpec::Labels { .. } | FeaturesSpec::TrainingSet(_) => Ok(true),
        }
    }

    async fn run(&self, cx: &StageContext, order: Order) -> Result<Done> {
        let made = match order.spec()? {
            FeaturesSpec::View { view, tables } => bring_up_to_date(cx, &order, view, tables).await?,
            FeaturesSpec::Labels { labels, tables } => label_set(cx, &order, labels, tables).await?,
            FeaturesSpec::TrainingSet(set) => training_set(cx, &order, set).await?,
        };
        Ok(Done::Made(made))
    }
}

/// The tables a query reads, pinned to the versions among the order's inputs.
async fn pin(
    ports: &Ports,
    order: &Order,
    tables: &BTreeMap<String, Option<String>>,
) -> Result<BTreeMap<String, (PinnedTable, TableInfo)>> {
    let mut pinned = BTreeMap::new();
    for (name, time) in tables {
        let asset = Address::new(AssetKind::Sources, Name::new(name.as_str())?);
        let Place::Table { table, version } = &order.input(&asset)?.place else {
            return Err(Fault::damaged(format!("{asset} is no table")));
        };
        let info = table_info(ports, table).await?;
        pinned.insert(name.clone(), (PinnedTable { table: table.clone(), version: *version, time: time.clone() }, info));
    }
    Ok(pinned)
}

pub(crate) async fn table_info(ports: &Ports, table: &TableName) -> Result<TableInfo> {
    ports.engine.table(table).await?.ok_or_else(|| Fault::damaged(format!("the ledger names table {table}, which does not exist")))
}

/// The features of a compiled view.
pub(crate) fn feature_columns(view: &ViewDef, plan: &dyn AsOfPlan) -> Result<Vec<FeatureColumn>> {
    plan.shape()
        .features
        .fields()
        .iter()
        .map(|f| {
            let column =
                FeatureColumn { view: view.name.to_string(), column: f.name().clone(), kind: plan::feature_type(f.name(), f.data_type())? };
            Ok(column)
        })
        .collect()
}

async fn bring_up_to_date(cx: &StageContext, order: &Order, view: ViewDef, tables: BTreeMap<String, Option<String>>) -> Result<Made> {
    let pinned = pin(&cx.ports, order, &tables).await?;
    let only: BTreeMap<String, PinnedTable> = pinned.iter().map(|(n, (p, _))| (n.clone(), p.clone())).collect();
    let plan = compile_view(cx.ports.engine.as_ref(), &view, &only).await?;
    let features = feature_columns(&view, plan.as_ref())?;
    let mut applied = 0;
    let online = answers_online(&view);
    if online {
        for (slot, info) in slots(plan.as_ref(), &pinned)? {
            applied += follow(&cx.ports, Some(cx), &slot, info, info.version).await?;
        }
    }
    let count = features.len();
    let meta = ViewMeta { format: ViewMeta::FORMAT, view, tables: only, features };
    let meta = serde_json::to_value(&meta).map_err(|e| Fault::internal("a view does not serialise").because(e))?;
    let summary = match online {
        true => format!("{count} features, {} as of any moment, {applied} rows applied online", plan.shape().shape),
        false => format!("{count} features, {} as of any moment", plan.shape().shape),
    };
    let output = NewVersion { asset: order.node.address.clone(), digest: Digest::of_json(&meta), place: Place::Meta, rows: None, meta };
    Ok(Made { outputs: vec![output], summary, ..Made::default() })
}

fn answers_online(view: &ViewDef) -> bool {
    view.online || view.at == ViewAt::Request
}

/// The slots that a view's kept rows are in, each with its table.
fn slots<'p>(plan: &dyn AsOfPlan, pinned: &'p BTreeMap<String, (PinnedTable, TableInfo)>) -> Result<Vec<(Slot, &'p TableInfo)>> {
    let of = |kept: &KeptRows| {
        let found = pinned.get(&kept.table).ok_or_else(|| Fault::internal(format!("the plan keeps rows of unknown table {}", kept.table)));
        found.map(|(table, info)| (Slot::new(table.table.clone(), kept, &info.schema), info))
    };
    plan.shape().kept.iter().map(of).collect()
}

/// Whether a view's slots are there and have every row of its tables.
async fn kept_rows_stand(ports: &Ports, order: &Order, view: &ViewDef, tables: &BTreeMap<String, Option<String>>) -> Result<bool> {
    if !answers_online(view) {
        return Ok(true);
    }
    let pinned = pin(ports, order, tables).await?;
    let only: BTreeMap<String, PinnedTable> = pinned.iter().map(|(n, (p, _))| (n.clone(), p.clone())).collect();
    let plan = compile_view(ports.engine.as_ref(), view, &only).await?;
    for (slot, info) in slots(plan.as_ref(), &pinned)? {
        let whole = match ports.online.state(&slot.name).await? {
            Some(state) => state.layout == slot.layout && state.generation == info.generation && state.load >= info.last_load,
            // Of a table without rows nothing was ever kept.
            None => info.last_load == 0,
        };
        if !whole {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn label_set(cx: &StageContext, order: &Order, def: LabelDef, tables: BTreeMap<String, Option<String>>) -> Result<Made> {
    let pinned = pin(&cx.ports, order, &tables).await?;
    let catalog = pinned_catalog(pinned.iter().map(|(n, (p, _))| (n, p)));
    let schema = cx.ports.engine.schema(&def.sql, &catalog).await?;
    let answer: Vec<RecordBatch> = cx.ports.engine.query(&def.sql, &catalog, false).await?.try_collect().await?;
    let schema = answer.first().map_or(schema, RecordBatch::schema);
    let (rows, unknown) = plan::label_rows(&def, &kept::one_batch(&schema, &answer)?)?;
    let bytes = blob::write(&rows)?;
    let digest = cx.ports.blobs.put(bytes).await?;
    let mut summary = format!("{} label rows", rows.num_rows());
    if unknown > 0 {
        summary += &format!(", {unknown} more whose outcome is not known yet");
    }
    let meta = serde_json::json!({
        "format": 1, "entity": def.entity, "time": def.time, "label": def.label, "unknown": unknown,
        "tables": pinned.iter().map(|(n, (p, _))| (n.clone(), p.version)).collect::<BTreeMap<_, _>>(),
    });
    let output =
        NewVersion { asset: order.node.address.clone(), digest, place: Place::Blob { digest }, rows: Some(rows.num_rows() as u64), meta };
    Ok(Made { outputs: vec![output], summary, ..Made::default() })
}

async fn training_set(cx: &StageContext, order: &Order, set: TrainingSetSpec) -> Result<Made> {
    let TrainingSetSpec { name, labels, views, split, group, known } = set;
    let label_version = order.input(&Address::new(AssetKind::Labels, labels))?;
    let labels = read_blob(&cx.ports, label_version).await?;
    if labels.num_rows() == 0 {
        return Err(Fault::invalid(Code::UNTRAINABLE, format!("{} has no rows", label_version.id))
            .fix("run the label query with gristmill sql and see why it is empty"));
    }
    let entity: Vec<String> = serde_json::from_value(label_version.meta["entity"].clone())
        .map_err(|e| Fault::damaged(format!("{} does not name its entity", label_version.id)).because(e))?;
    let (sides, test_from) = plan::split_rows(&split, &labels, &entity)?;

    let mut fields: Vec<Field> = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for column in entity.iter().map(String::as_str).chain([training::TIME, training::LABEL]) {
        let (index, field) =
            labels.schema_ref().column_with_name(column).ok_or_else(|| Fault::damaged(format!("label rows lack `{column}`")))?;
        fields.push(field.clone());
        columns.push(labels.column(index).clone());
    }
    fields.push(Field::new(training::SPLIT, DataType::Utf8, false));
    columns.push(Arc::new(sides.clone()));
    if let Some(column) = &group {
        fields.push(Field::new(training::GROUP, DataType::Utf8, true));
        columns.push(plan::cast_column(&labels, column, &DataType::Utf8)?);
    }
    let mut features = Vec::new();
    for (done, view) in views.iter().enumerate() {
        cx.cancel.check()?;
        cx.progress.at(done as u64, views.len() as u64, "views");
        let version = order.input(&Address::new(AssetKind::Features, view.clone()))?;
        let (mut view_fields, mut view_columns, mut view_features) = as_of(cx, version, &labels, known).await?;
        fields.append(&mut view_fields);
        columns.append(&mut view_columns);
        features.append(&mut view_features);
    }
    cx.progress.at(views.len() as u64, views.len() as u64, "views");
    let rows = plan::batch(fields, columns)?;
    let test_rows = sides.iter().filter(|s| *s == Some("test")).count() as u64;
    let meta = TrainingSetMeta {
        format: TrainingSetMeta::FORMAT,
        entity,
        features,
        split,
        known,
        train_rows: rows.num_rows() as u64 - test_rows,
        test_rows,
        test_from,
    };
    let digest = cx.ports.blobs.put(blob::write(&rows)?).await?;
    let then = if known == KnownRows::Then { ", as it was known then" } else { "" };
    let summary = format!(
        "{} labels in, {} rows out with {} features as of each label's moment{then}; {} to train, {test_rows} held out{}",
        labels.num_rows(),
        rows.num_rows(),
        meta.features.len(),
        meta.train_rows,
        test_from.map(|t| format!(" from {t}")).unwrap_or_default(),
    );
    let output = NewVersion {
        asset: Address::new(AssetKind::TrainingSets, name),
        digest,
        place: Place::Blob { digest },
        rows: Some(rows.num_rows() as u64),
        meta: serde_json::to_value(&meta).map_err(|e| Fault::internal("a training set does not serialise").because(e))?,
    };
    Ok(Made { outputs: vec![output], summary, ..Made::default() })
}

/// The features of one view as of each label's moment, in the order of the labels.
async fn as_of(
    cx: &StageContext,
    version: &Version,
    labels: &RecordBatch,
    known: KnownRows,
) -> Result<(Vec<Field>, Vec<ArrayRef>, Vec<FeatureColumn>)> {
    let meta: ViewMeta = serde_json::from_value(version.meta.clone())
        .map_err(|e| Fault::damaged(format!("{} has no readable definition", version.id)).because(e))?;
    let plan = compile_view(cx.ports.engine.as_ref(), &meta.view, &meta.tables).await?;
    let mut asked: Vec<(String, ArrayRef)> = Vec::new();
    if meta.view.at == ViewAt::Request {
        let sent = plan::sent(&meta.view, labels).map_err(|fault| match fault.code {
            Code::MISSING_INPUT => fault.fix("give it as a column of the label query: what callers will send, as it was then"),
            _ => fault,
        })?;
        asked.extend(sent);
    } else {
        for column in &meta.view.entity {
            let values = labels.column_by_name(column).ok_or_else(|| {
                Fault::invalid(
                    Code::UNKNOWN_COLUMN,
                    format!("view {} is about `{column}`, which the label set does not give", meta.view.name),
                )
                .fix(format!("add {column} to the label query, or use a view about the label set's entity"))
            })?;
            asked.push((column.clone(), values.clone()));
        }
    }
    let time = labels.column_by_name(training::TIME).ok_or_else(|| Fault::damaged("label rows lack their moment"))?;
    let time = cast(time, &plan::moment_type()).map_err(bug)?;
    asked.push(("time".to_owned(), time.clone()));
    let asked = RecordBatch::try_from_iter(asked).map_err(bug)?;
    let mut tables = pinned_catalog(meta.tables.iter());
    if meta.view.at == ViewAt::Request {
        tables.insert(REQUEST.to_owned(), Relation::Rows(vec![asked.clone()], asked.schema()));
    }
    let known = match known {
        KnownRows::Now => Known::Now,
        KnownRows::Then => Known::Available(time.as_primitive::<TimestampMicrosecondType>()),
    };
    let values = plan.evaluate_known(&asked, &tables, known).await?;
    if values.num_rows() != labels.num_rows() {
        return Err(Fault::internal(format!(
            "view {} answered {} rows for {} labels",
            meta.view.name,
            values.num_rows(),
            labels.num_rows()
        )));
    }
    let features = feature_columns(&meta.view, plan.as_ref())?;
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for feature in &features {
        let column = values
            .column_by_name(&feature.column)
            .ok_or_else(|| Fault::internal(format!("view {} did not answer `{}`", meta.view.name, feature.column)))?;
        let column = stored(column)?;
        fields.push(Field::new(feature.qualified(), column.data_type().clone(), true));
        columns.push(column);
    }
    Ok((fields, columns, features))
}

/// Text columns are stored as plain text, whatever the engine prefers.
pub(crate) fn stored(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Dictionary(_, _) => cast(column, &DataType::Utf8).map_err(bug),
        DataType::Null => cast(column, &DataType::Float64).map_err(bug),
        _ => Ok(column.clone()),
    }
}

/// The rows of a blob version.
pub async fn read_blob(ports: &Ports, version: &Version) -> Result<RecordBatch> {
    let digest = version.blob()?;
    let bytes = ports.blobs.get(&digest).await?.ok_or_else(|| Fault::damaged(format!("the blob of {} is gone", version.id)))?;
    blob::read(bytes)
}
