//! Answers the request plane: kept rows, evaluated by the same plan that made the training set.
//!
//! Never touches the ledger on a request: [`OnlineFeatures::refresh`] loads the views' newest versions and compiles them, and
//! swaps the whole map; a view that fails to load keeps its last good plan and the fault is reported.

use crate::kept::Slot;
use crate::plan::{bug, moment_type, sent};
use crate::run::{stored, table_info};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array, UInt64Array, new_empty_array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimestampMicrosecondType};
use async_trait::async_trait;
use bytes::Bytes;
use gristmill_kernel::error::Code;
use gristmill_kernel::port::{
    AsOfPlan, FeatureReader, FeatureRequest, FeatureRows, FeatureSource, KeptRows, NewestFound, NewestRows, OnlineRead, OnlineRow, Ports,
    SlotState, ViewRef, WholeRows, compile_view,
};
use gristmill_kernel::prediction::{Basis, Horizon, ViewBasis};
use gristmill_kernel::table::{Catalog, Relation, TableName};
use gristmill_kernel::version::Which;
use gristmill_kernel::view::{REQUEST, Ties, ViewAt, ViewDef, ViewMeta};
use gristmill_kernel::{AssetKind, Digest, Fault, Kind, Name, Result, Timestamp, Version};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// A view ready to answer.
struct Ready {
    /// Its number in this process.
    number: u64,
    /// Of the definition and the shapes of its tables: another one is compiled again.
    definition: Digest,
    /// Of the definition alone: what a model remembers.
    text: Digest,
    /// A version with this definition.
    version: u64,
    meta: ViewMeta,
    plan: Arc<dyn AsOfPlan>,
    kept: Vec<(KeptRows, Slot)>,
    /// The features as an answer has them: `view.column`, stored.
    answer: Vec<FieldRef>,
}

/// The number of the next view that is made ready.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// The views of a project, ready to answer for kept entities.
pub struct OnlineFeatures {
    ports: Ports,
    views: RwLock<Arc<HashMap<Name, Arc<Ready>>>>,
    /// Definitions that deployed models were trained on.
    pinned: RwLock<HashMap<(Name, Digest), Arc<Ready>>>,
}

impl OnlineFeatures {
    /// Nothing is loaded yet; call [`Self::refresh`].
    pub fn new(ports: Ports) -> OnlineFeatures {
        OnlineFeatures { ports, views: RwLock::default(), pinned: RwLock::default() }
    }

    /// Loads the newest version of every view. Views whose definition did not change keep their plan.
    pub async fn refresh(&self) -> Result<()> {
        let mut next: HashMap<Name, Arc<Ready>> = HashMap::new();
        let mut trouble = None;
        for asset in self.ports.ledger.assets().await? {
            if asset.kind != AssetKind::Features {
                continue;
            }
            let Some(version) = self.ports.ledger.version(&asset, &Which::Latest).await? else { continue };
            let before = self.loaded(&asset.name);
            match self.ready(&version, before.as_ref()).await {
                Ok(ready) => {
                    next.insert(asset.name, ready);
                }
                Err(fault) => {
                    tracing::error!(view = %asset.name, error = %fault, "a view could not be loaded; the last good one stays");
                    next.extend(before.map(|b| (asset.name, b)));
                    trouble = Some(fault);
                }
            }
        }
        *self.views.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        let pinned = self.refresh_pinned().await;
        trouble.map_or(pinned, Err)
    }

    /// Compiles definitions of deployed models again whose tables have another shape now: their kept rows are laid out by it.
    async fn refresh_pinned(&self) -> Result<()> {
        let pinned = self.pinned.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (key, before) in pinned {
            let asset = gristmill_kernel::Address::new(AssetKind::Features, key.0.clone());
            let Some(version) = self.ports.ledger.version(&asset, &Which::Number(before.version)).await? else { continue };
            let ready = self.ready(&version, Some(&before)).await?;
            self.pinned.write().unwrap_or_else(PoisonError::into_inner).insert(key, ready);
        }
        Ok(())
    }

    /// The sources with an event time that a view reads; `None` when it is not loaded.
    pub fn event_sources(&self, view: &str) -> Option<Vec<Name>> {
        let ready = self.loaded(&Name::new(view).ok()?)?;
        let events = ready.meta.tables.iter().filter(|(_, table)| table.time.is_some());
        Some(events.filter_map(|(name, _)| Name::new(name).ok()).collect())
    }

    /// The columns that each table is best clustered by: the entity and the time of the views that read it. Where they differ, most of them win.
    pub fn clusterings(&self) -> BTreeMap<TableName, Vec<String>> {
        let mut votes: BTreeMap<TableName, BTreeMap<Vec<String>, usize>> = BTreeMap::new();
        for ready in self.views.read().unwrap_or_else(PoisonError::into_inner).values() {
            for (kept, slot) in &ready.kept {
                if let (Some(time), false) = (&kept.time, kept.key.is_empty()) {
                    let columns: Vec<String> = kept.key.iter().chain([time]).cloned().collect();
                    *votes.entry(slot.table.clone()).or_default().entry(columns).or_default() += 1;
                }
            }
        }
        let most =
            |votes: BTreeMap<Vec<String>, usize>| votes.into_iter().rev().max_by_key(|(_, count)| *count).map(|(columns, _)| columns);
        votes.into_iter().filter_map(|(table, votes)| Some((table, most(votes)?))).collect()
    }

    /// Forgets kept rows that no question from `now` on needs. Views that deployed models were trained on count too, because a slot's window is the
    /// widest it was ever asked for.
    pub async fn expire(&self, now: Timestamp) -> Result<u64> {
        let views: Vec<Arc<Ready>> = self.views.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let slots: BTreeSet<&str> = views.iter().flat_map(|r| &r.kept).map(|(_, slot)| slot.name.as_str()).collect();
        let mut expired = 0;
        for slot in slots {
            expired += self.ports.online.expire(slot, now).await?;
        }
        Ok(expired)
    }

    fn loaded(&self, view: &Name) -> Option<Arc<Ready>> {
        self.views.read().unwrap_or_else(PoisonError::into_inner).get(view).cloned()
    }

    /// The view as asked: the newest definition, or the one a model was trained on.
    fn get(&self, view: &ViewRef) -> Result<Arc<Ready>> {
        let newest = self.loaded(&view.name);
        let found = match &view.pinned {
            None => newest,
            Some((_, definition)) => newest
                .filter(|r| r.text == *definition)
                .or_else(|| self.pinned.read().unwrap_or_else(PoisonError::into_inner).get(&(view.name.clone(), *definition)).cloned()),
        };
        let view = &view.name;
        found.ok_or_else(|| {
            Fault::new(Kind::Unavailable, Code::NOT_READY, format!("view {view} is not loaded yet"))
                .fix(format!("bring it up to date: gristmill run features.{view}"))
        })
    }

    async fn ready(&self, version: &Version, before: Option<&Arc<Ready>>) -> Result<Arc<Ready>> {
        let told = ViewRef::definition(&version.meta);
        let meta: ViewMeta =
            serde_json::from_value(version.meta.clone()).map_err(|e| Fault::damaged("a view has no readable definition").because(e))?;
        let mut shapes = Vec::new();
        for (name, pinned) in &meta.tables {
            let info = table_info(&self.ports, &pinned.table).await?;
            shapes.push(format!("{name} {} {:?} {:?}", pinned.table, pinned.time, info.schema));
        }
        let text = serde_json::to_string(&meta.view).map_err(|e| Fault::internal("a view does not serialise").because(e))?;
        let definition = Digest::of_parts(std::iter::once(text.as_bytes()).chain(shapes.iter().map(String::as_bytes)));
        if let Some(before) = before.filter(|b| b.definition == definition) {
            return Ok(before.clone());
        }
        let plan = compile_view(self.ports.engine.as_ref(), &meta.view, &meta.tables).await?;
        let mut kept = Vec::new();
        for rows in &plan.shape().kept {
            let pinned = meta
                .tables
                .get(&rows.table)
                .ok_or_else(|| Fault::internal(format!("the plan keeps rows of unknown table {}", rows.table)))?;
            let info = table_info(&self.ports, &pinned.table).await?;
            kept.push((rows.clone(), Slot::new(pinned.table.clone(), rows, &info.schema)));
        }
        let answer = plan.shape().features.fields().iter().map(|field| {
            let to = stored(&new_empty_array(field.data_type()))?.data_type().clone();
            Ok(Arc::new(Field::new(format!("{}.{}", meta.view.name, field.name()), to, true)))
        });
        let answer = answer.collect::<Result<_>>()?;
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Ready { number, definition, text: told, version: version.id.number, meta, plan, kept, answer }))
    }

    /// The rows a view needs for these entities at this moment and how far they are known, and the newest event time per asked row.
    async fn kept_rows(
        &self,
        ready: &Ready,
        asked: &RecordBatch,
        at: Timestamp,
        newest: &mut [Option<Timestamp>],
    ) -> Result<(Catalog, ViewBasis)> {
        let mut tables = Catalog::new();
        let mut basis = ViewBasis { version: ready.version, tables: BTreeMap::new() };
        for (kept, slot) in &ready.kept {
            let found = self.found(ready, (kept, slot), asked, at).await?;
            basis.tables.insert(kept.table.clone(), found.horizon);
            if kept.time.is_some() && !kept.key.is_empty() {
                found.note(newest);
            }
            let rows = slot.decode(found.rows.iter().flatten().map(|r| &r.value))?;
            tables.insert(kept.table.clone(), Relation::Rows(vec![rows], slot.schema.clone()));
        }
        Ok((tables, basis))
    }

    /// The answer of a view that reads only the newest row of its one table.
    async fn of_newest_row(
        &self,
        ready: &Ready,
        kept: &(KeptRows, Slot),
        asked: &RecordBatch,
        at: Timestamp,
        newest: &mut [Option<Timestamp>],
    ) -> Result<(RecordBatch, ViewBasis)> {
        let (kept, slot) = kept;
        let found = self.found(ready, (kept, slot), asked, at).await?;
        found.note(newest);
        let mut places: Vec<Option<u32>> = vec![None; found.rows.len()];
        for (row, key) in (0..).zip((0..found.rows.len()).filter(|key| !found.rows[*key].is_empty())) {
            places[key] = Some(row);
        }
        let of = found.of.iter().map(|key| places[(*key)?]).collect();
        let rows = slot.decode(found.rows.iter().flatten().map(|r| &r.value))?;
        let values = ready.plan.evaluate_newest(asked, &NewestRows { rows, of }).await?;
        Ok((values, ViewBasis { version: ready.version, tables: BTreeMap::from([(kept.table.clone(), found.horizon)]) }))
    }

    /// The kept rows of the asked entities that can count at this moment, of the loads that are applied as a whole: everybody who computes the
    /// answer again knows which rows it came from.
    async fn found(&self, ready: &Ready, (kept, slot): (&KeptRows, &Slot), asked: &RecordBatch, at: Timestamp) -> Result<Found> {
        let columns = if kept.key.is_empty() { &[] } else { ready.meta.view.entity.as_slice() };
        let (keys, of) = distinct(slot.keys(asked, columns)?);
        let (from, before) = edges(kept, at);
        let read = OnlineRead { keys: &keys, from, before, newest: kept.newest };
        let WholeRows { state, rows } = self.ports.online.read_whole(&slot.name, read).await?;
        let generation = whole(slot, state.as_ref())?;
        let load = generation.and(state).map_or(0, |state| state.load);
        Ok(Found { rows, of, horizon: Horizon { generation: generation.unwrap_or(0), load } })
    }

    /// A view that is nothing but columns of the newest row of its one table; `None` for every other one.
    fn of_newest_columns(&self, view: &ViewRef, at: Timestamp) -> Option<Arc<Ready>> {
        let ready = self.get(view).ok()?;
        let online = ready.meta.view.at == ViewAt::Sources && ready.meta.view.online;
        let newest = matches!(ready.kept.as_slice(), [(kept, _)] if kept.newest);
        (online && newest && ready.plan.newest_counts(at, at).is_some()).then_some(ready)
    }
}

/// Between which event times rows can count at a moment: from the first, before the second.
fn edges(kept: &KeptRows, at: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
    // A snapshot: which load counts is the plan's business.
    if kept.time.is_none() {
        return (None, None);
    }
    let before = match kept.ties {
        Ties::Exclude => at,
        Ties::Include => Timestamp::from_micros(at.micros().saturating_add(1)),
    };
    (kept.window.map(|window| at.minus(window)), Some(before))
}

/// The generation whose rows a slot has, all of them up to its load; `None` if it never had any.
fn whole(slot: &Slot, state: Option<&SlotState>) -> Result<Option<u64>> {
    match state {
        None => Ok(None),
        // Without a load, all of them are applied once more, since a view looks back farther than rows were kept: nobody knows what is missing.
        Some(state) if state.layout == slot.layout && state.load > 0 => Ok(Some(state.generation)),
        Some(_) => Err(Fault::new(Kind::Unavailable, Code::NOT_READY, format!("the kept rows of {} are being rebuilt", slot.table))
            .fix("try again in a second")),
    }
}

/// Kept rows.
struct Found {
    /// Per key.
    rows: Vec<Vec<OnlineRow>>,
    /// The number of each asked row's key; `None` where a part of it is NULL.
    of: Vec<Option<usize>>,
    horizon: Horizon,
}

impl Found {
    /// Remembers the newest event time per asked row.
    fn note(&self, newest: &mut [Option<Timestamp>]) {
        for (newest, key) in newest.iter_mut().zip(&self.of) {
            *newest = (*newest).max(key.and_then(|key| self.rows[key].last()).map(|row| row.at));
        }
    }
}

/// The newest rows of a view that is nothing but columns of them.
struct FoundNewest {
    ready: Arc<Ready>,
    /// The asked entities.
    entities: RecordBatch,
    at: Timestamp,
    /// Per asked row.
    sources: Vec<Option<(FeatureSource, Timestamp)>>,
    rows: Vec<Option<OnlineRow>>,
}

#[async_trait]
impl NewestFound for FoundNewest {
    fn sources(&self) -> &[Option<(FeatureSource, Timestamp)>] {
        &self.sources
    }

    async fn columns(&self, asked: &[usize]) -> Result<RecordBatch> {
        let [(_, slot)] = self.ready.kept.as_slice() else { return Err(Fault::internal("a view reads more than one table")) };
        let row = |asked: &usize| {
            let row = self.rows.get(*asked).and_then(Option::as_ref);
            row.map(|row| &row.value).ok_or_else(|| Fault::internal("the features of no row are asked for"))
        };
        let rows = slot.decode(asked.iter().map(row).collect::<Result<Vec<_>>>()?)?;
        let places = UInt64Array::from_iter_values(asked.iter().map(|place| *place as u64));
        let entities = take_record_batch(&self.entities, &places).map_err(bug)?;
        let view = &self.ready.meta.view;
        let entities = self::asked(&entities, self.at, view)?;
        let of = UInt32Array::from_iter_values(0..asked.len() as u32);
        let values = self.ready.plan.evaluate_newest(&entities, &NewestRows { rows, of }).await?;
        let columns = values.columns().iter().map(stored).collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(Arc::new(Schema::new(self.ready.answer.clone())), columns).map_err(bug)
    }
}

/// Each key once, and which of them each asked row has.
fn distinct(keys: Vec<Option<Bytes>>) -> (Vec<Bytes>, Vec<Option<usize>>) {
    let mut known: HashMap<Bytes, usize> = HashMap::with_capacity(keys.len());
    let mut once = Vec::with_capacity(keys.len());
    let mut number = |key: Bytes| {
        *known.entry(key).or_insert_with_key(|key| {
            once.push(key.clone());
            once.len() - 1
        })
    };
    let of = keys.into_iter().map(|key| key.map(&mut number)).collect();
    (once, of)
}

#[async_trait]
impl FeatureReader for OnlineFeatures {
    async fn read(&self, request: FeatureRequest) -> Result<FeatureRows> {
        let count = request.rows.num_rows();
        let mut newest = vec![None; count];
        let mut fields: Vec<FieldRef> = Vec::new();
        let mut columns: Vec<ArrayRef> = Vec::new();
        let mut basis = Basis::default();
        for asked_view in &request.views {
            let ready = self.get(asked_view)?;
            let name = &asked_view.name;
            let view = &ready.meta.view;
            if view.at == ViewAt::Sources && !view.online {
                return Err(Fault::invalid(Code::AS_OF_UNSUPPORTED, format!("view {name} is not kept online"))
                    .fix(format!("add serve = \"online\" to the header of {}", view.file)));
            }
            let asked = asked(&request.rows, request.at, view)?;
            let (values, of_view) = match ready.kept.as_slice() {
                [only] if only.0.newest && view.at == ViewAt::Sources => {
                    self.of_newest_row(&ready, only, &asked, request.at, &mut newest).await?
                }
                _ => {
                    let (mut tables, of_view) = self.kept_rows(&ready, &asked, request.at, &mut newest).await?;
                    if view.at == ViewAt::Request {
                        tables.insert(REQUEST.to_owned(), Relation::Rows(vec![asked.clone()], asked.schema()));
                    }
                    (ready.plan.evaluate(&asked, &tables).await?, of_view)
                }
            };
            basis.views.insert(name.clone(), of_view);
            for (field, column) in ready.answer.iter().zip(values.columns()) {
                fields.push(Arc::clone(field));
                columns.push(stored(column)?);
            }
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(count));
        let columns = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).map_err(bug)?;
        Ok(FeatureRows { columns, newest, basis })
    }

    async fn newest(&self, views: &[ViewRef], rows: &RecordBatch, at: Timestamp) -> Result<Vec<Option<Box<dyn NewestFound>>>> {
        // Views of one entity mostly have the same keys.
        let mut encoded: Vec<(Arc<Ready>, Vec<DataType>, Vec<Bytes>, Vec<bool>)> = Vec::new();
        let mut all = Vec::with_capacity(views.len());
        for view in views {
            let Some(ready) = self.of_newest_columns(view, at) else {
                all.push(None);
                continue;
            };
            let entity = &ready.meta.view.entity;
            let [(kept, slot)] = ready.kept.as_slice() else { return Err(Fault::internal("a view reads more than one table")) };
            if entity.iter().any(|column| rows.column_by_name(column).is_none()) {
                all.push(None);
                continue;
            }
            let types = slot.key_types()?;
            let same = encoded.iter().position(|(known, known_types, ..)| known.meta.view.entity == *entity && *known_types == types);
            let number = match same {
                Some(number) => number,
                None => {
                    let keys = slot.keys(rows, entity)?;
                    let there = keys.iter().map(Option::is_some).collect();
                    encoded.push((ready.clone(), types, keys.into_iter().flatten().collect(), there));
                    encoded.len() - 1
                }
            };
            let (_, _, keys, there) = &encoded[number];
            let (from, before) = edges(kept, at);
            let read = OnlineRead { keys, from, before, newest: true };
            let WholeRows { state, rows: found } = self.ports.online.read_whole(&slot.name, read).await?;
            let generation = whole(slot, state.as_ref())?.unwrap_or(0);
            let counts = |row: &OnlineRow| ready.plan.newest_counts(row.at, at) == Some(true);
            let mut found = found.into_iter().map(|mut rows| rows.pop().filter(&counts));
            let found: Vec<Option<OnlineRow>> = there.iter().map(|there| if *there { found.next().flatten() } else { None }).collect();
            let source = |row: &OnlineRow| (FeatureSource { definition: ready.number, generation, load: row.load, row: row.row }, row.at);
            let sources = found.iter().map(|row| row.as_ref().map(source)).collect();
            let newest = FoundNewest { ready: ready.clone(), entities: rows.clone(), at, sources, rows: found };
            all.push(Some(Box::new(newest) as Box<dyn NewestFound>));
        }
        Ok(all)
    }

    async fn schema(&self, view: &ViewRef) -> Result<SchemaRef> {
        if let (Some((number, definition)), Err(_)) = (&view.pinned, self.get(view)) {
            let asset = gristmill_kernel::Address::new(AssetKind::Features, view.name.clone());
            let version = self.ports.ledger.version(&asset, &Which::Number(*number)).await?;
            let version = version.ok_or_else(|| Fault::damaged(format!("{asset}@{number} is gone")))?;
            let ready = self.ready(&version, None).await?;
            self.pinned.write().unwrap_or_else(PoisonError::into_inner).insert((view.name.clone(), *definition), ready);
        }
        Ok(self.get(view)?.plan.shape().features.clone())
    }
}

/// What a plan is asked: the entity columns (or, for a request view, what it says callers send) and the moment.
fn asked(rows: &RecordBatch, at: Timestamp, view: &ViewDef) -> Result<RecordBatch> {
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    match view.at {
        ViewAt::Request => columns = sent(view, rows)?,
        ViewAt::Sources => {
            for name in &view.entity {
                let column = rows.column_by_name(name).ok_or_else(|| {
                    Fault::invalid(Code::MISSING_INPUT, format!("the request has no `{name}`"))
                        .fix(format!("send {} with every row", view.entity.join(", ")))
                })?;
                columns.push((name.clone(), column.clone()));
            }
        }
    }
    let moments = TimestampMicrosecondArray::from(vec![at.micros(); rows.num_rows()]).with_timezone("UTC");
    columns.retain(|(name, _)| name != "time");
    columns.push(("time".to_owned(), Arc::new(moments)));
    RecordBatch::try_from_iter(columns).map_err(bug)
}

/// The newest event time in the event tables, for projects whose features are asked as of their data (`clock = "events"`).
pub async fn newest_event(ports: &Ports, sources: &[(Name, String)]) -> Result<Option<Timestamp>> {
    use futures::TryStreamExt as _;
    let mut newest = None;
    for (name, time) in sources {
        let table = gristmill_kernel::table::TableName::of(&gristmill_kernel::Address::new(AssetKind::Sources, name.clone()));
        if ports.engine.table(&table).await?.is_none() {
            continue;
        }
        let catalog = Catalog::from([("t".to_owned(), Relation::Stored { table, version: None, time: Some(time.clone()) })]);
        let sql = format!("select max(\"{}\") as newest from t", time.replace('"', "\"\""));
        let rows: Vec<RecordBatch> = ports.engine.query(&sql, &catalog, false).await?.try_collect().await?;
        for batch in rows.iter().filter(|b| b.num_rows() > 0) {
            let column = arrow::compute::cast(batch.column(0), &moment_type()).map_err(bug)?;
            let moments = column.as_primitive::<TimestampMicrosecondType>();
            if moments.is_valid(0) {
                newest = newest.max(Some(Timestamp::from_micros(moments.value(0))));
            }
        }
    }
    Ok(newest)
}
