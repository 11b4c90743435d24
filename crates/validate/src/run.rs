//! Does the work: reads new raw loads, has them judged, writes quarantine and accepted rows, and profiles them.

use crate::plan::{self, Count, Mark, Pass, Rule, Sorted, check_fresh, check_rows, grouped, next_pass, percent, spec_digest};
use crate::profile::{Profile, Rows, changes};
use crate::quarantine::{self, contents, resolutions};
use crate::spec::{Otherwise, ValidateSpec};
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use futures::StreamExt as _;
use gristmill_kernel::error::{Code, Fault, Kind, Result};
use gristmill_kernel::limits::LOAD_BYTES_MAX;
use gristmill_kernel::run::Metric;
use gristmill_kernel::stage::Made;
use gristmill_kernel::table::{LOAD, LOADED_AT, Position, ROW, SYSTEM_COLUMNS, SystemColumns, TableInfo, TableName, TableWrite, WriteMode};
use gristmill_kernel::version::{Place, Which};
use gristmill_kernel::{Address, AssetKind, Check, Digest, Done, NewVersion, Order, Stage, StageContext, StageKind, Verdict, Version};
use serde_json::json;
use std::sync::Arc;

/// The stream of raw loads in the accepted table's positions.
const RAW: &str = "raw";
/// The stream of passes: every commit of a pass carries its number, so that it lands once.
const PASS: &str = "pass";

/// Stage validate.
pub struct ValidateStage;

#[async_trait]
impl Stage for ValidateStage {
    fn kind(&self) -> StageKind {
        StageKind::Validate
    }
    async fn run(&self, cx: &StageContext, order: Order) -> Result<Done> {
        let spec: ValidateSpec = order.spec()?;
        let address = |kind| Address::new(kind, spec.source.clone());
        let raw = RawInput::of(order.input(&address(AssetKind::Raw))?)?;
        let rules = spec.expect.iter().map(|e| Rule::of(&e.that)).collect::<Result<Vec<_>>>()?;
        let validate = Validate {
            cx,
            digest: spec_digest(&spec),
            accepted: TableName::of(&address(AssetKind::Sources)),
            quarantine: quarantine::table_of(&spec.source),
            raw,
            rules,
            spec,
        };
        validate.run().await
    }
}

/// The raw table at the version this run reads.
struct RawInput {
    table: TableName,
    version: u64,
    generation: u64,
    last_load: i64,
}

impl RawInput {
    fn of(version: &Version) -> Result<RawInput> {
        let lacks = |what: &str| Fault::damaged(format!("{} does not say its {what}", version.id));
        let Place::Table { table, version: at } = &version.place else { return Err(lacks("table")) };
        let last_load = version.meta["load"].as_i64().ok_or_else(|| lacks("last load"))?;
        let generation = version.meta["generation"].as_u64().ok_or_else(|| lacks("generation"))?;
        Ok(RawInput { table: table.clone(), version: *at, generation, last_load })
    }
}

struct Validate<'a> {
    cx: &'a StageContext,
    spec: ValidateSpec,
    digest: Digest,
    rules: Vec<Rule>,
    raw: RawInput,
    accepted: TableName,
    quarantine: TableName,
}

/// What a run has done so far.
#[derive(Default)]
struct Tally {
    passes: u64,
    rebuilt: bool,
    read: u64,
    accepted: u64,
    quarantined: u64,
    counts: Vec<Count>,
    profile: Rows,
    first_load: i64,
}

/// Raw rows of one pass, sorted.
#[derive(Default)]
struct Judged {
    read: u64,
    accepted: Vec<RecordBatch>,
    quarantined: Vec<RecordBatch>,
    counts: Vec<Count>,
}

impl Validate<'_> {
    async fn run(self) -> Result<Done> {
        let mut tally = Tally { counts: vec![Count::default(); self.rules.len()], ..Tally::default() };
        loop {
            self.cx.cancel.check()?;
            let (accepted, quarantine) = (self.mark(&self.accepted).await?, self.mark(&self.quarantine).await?);
            let pass = next_pass(accepted.as_ref(), quarantine.as_ref(), self.digest, self.raw.generation, self.raw.last_load);
            let Some(pass) = pass else { break };
            self.pass(pass, accepted, &mut tally).await?;
        }
        self.finish(tally).await
    }

    async fn mark(&self, table: &TableName) -> Result<Option<Mark>> {
        match self.cx.ports.engine.table(table).await? {
            Some(info) => Mark::of(&info.note, table.as_str()),
            None => Ok(None),
        }
    }

    async fn pass(&self, pass: Pass, before: Option<Mark>, tally: &mut Tally) -> Result<()> {
        let (rows, upto) = self.read(&pass).await?;
        let judged = self.judge(rows, &pass).await?;
        let accepted: u64 = judged.accepted.iter().map(|b| b.num_rows() as u64).sum();
        let quarantined: u64 = judged.quarantined.iter().map(|b| b.num_rows() as u64).sum();
        if judged.read != accepted + quarantined {
            return Err(Fault::internal(format!("{} rows read, but {accepted} accepted and {quarantined} quarantined", judged.read)));
        }
        self.refuse_failed(&judged)?;
        let base = before.filter(|_| !pass.rebuild);
        let sum = |f: fn(&Mark) -> u64| base.as_ref().map_or(0, f);
        let mark = Mark {
            format: Mark::FORMAT,
            spec: self.digest,
            raw_generation: self.raw.generation,
            pass: pass.number,
            after: pass.after,
            upto,
            rebuilt: pass.rebuild,
            read: sum(|m| m.read) + judged.read,
            accepted: sum(|m| m.accepted) + accepted,
            quarantined: sum(|m| m.quarantined) + quarantined,
            counts: judged.counts.clone(),
        };
        self.write_quarantine(&pass, &mark, judged.quarantined).await?;
        for batch in &judged.accepted {
            tally.profile.see(batch)?;
        }
        self.write_accepted(&pass, &mark, judged.accepted).await?;
        if tally.passes == 0 {
            tally.first_load = pass.after + 1;
        }
        tally.passes += 1;
        tally.rebuilt |= pass.rebuild;
        tally.read += judged.read;
        tally.accepted += accepted;
        tally.quarantined += quarantined;
        for (sum, count) in tally.counts.iter_mut().zip(&judged.counts) {
            sum.rows += count.rows;
            sum.failed += count.failed;
        }
        self.cx.progress.at(tally.read, 0, "row");
        Ok(())
    }

    /// The raw rows of the pass; whole loads, and no more of them than fit into memory unless the pass must end where it once began to.
    async fn read(&self, pass: &Pass) -> Result<(Vec<RecordBatch>, i64)> {
        let mut stream = self.cx.ports.engine.scan(&self.raw.table, Some(self.raw.version), pass.after).await?;
        let (mut rows, mut bytes, mut last) = (Vec::new(), 0, pass.after);
        while let Some(batch) = stream.next().await {
            self.cx.cancel.check()?;
            let batch = batch?;
            let loads = loads(&batch)?;
            let full = bytes > LOAD_BYTES_MAX && !pass.finish;
            let border = if full { last } else { pass.upto };
            // Rows come in the order of their loads.
            let within = loads.iter().position(|l| *l > border).unwrap_or(loads.len());
            if within > 0 {
                last = loads[within - 1];
                bytes += batch.get_array_memory_size();
                rows.push(batch.slice(0, within));
            }
            if within < loads.len() {
                return Ok((rows, if full { last } else { pass.upto }));
            }
        }
        Ok((rows, pass.upto))
    }

    async fn judge(&self, rows: Vec<RecordBatch>, pass: &Pass) -> Result<Judged> {
        let mut judged = Judged { counts: vec![Count::default(); self.rules.len()], ..Judged::default() };
        let together = self.rules.iter().any(Rule::spans_rows);
        let units = match (together, self.spec.time.is_some()) {
            (false, _) => rows,
            (true, true) => join(rows)?,
            // Each load of a snapshot is a whole of its own.
            (true, false) => by_load(rows)?.into_iter().map(join).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect(),
        };
        let history = match self.cx.ports.engine.table(&self.accepted).await? {
            Some(info) if together && self.spec.time.is_some() && !pass.rebuild => Some((&self.accepted, info.version)),
            _ => None,
        };
        for batch in units {
            self.cx.cancel.check()?;
            let sorted = self.judge_batch(&batch, history, &mut judged.counts).await?;
            judged.read += batch.num_rows() as u64;
            let mask: BooleanArray = sorted.accepted.iter().map(|a| Some(*a)).collect();
            let accepted = filter_record_batch(&batch, &mask).map_err(broken)?;
            if !sorted.reasons.is_empty() {
                judged.quarantined.push(quarantine::quarantine(&batch, &sorted.accepted, sorted.reasons)?);
            }
            if accepted.num_rows() > 0 {
                judged.accepted.push(accepted);
            }
        }
        Ok(judged)
    }

    async fn judge_batch(&self, batch: &RecordBatch, history: Option<(&TableName, u64)>, counts: &mut [Count]) -> Result<Sorted> {
        let conditions: Vec<String> =
            self.rules.iter().filter_map(|r| if let Rule::Row(sql) = r { Some(sql.clone()) } else { None }).collect();
        let mut answers = match conditions.is_empty() {
            true => Vec::new(),
            false => self.cx.ports.engine.judge_rows(&conditions, batch, history).await?,
        }
        .into_iter();
        let mut judged: Vec<Option<Vec<bool>>> = Vec::with_capacity(self.rules.len());
        for (rule, count) in self.rules.iter().zip(counts) {
            let Rule::Row(sql) = rule else {
                judged.push(None);
                continue;
            };
            let answer = answers
                .next()
                .filter(|a| a.len() == batch.num_rows())
                .ok_or_else(|| Fault::internal(format!("`{sql}` was not judged for every row")))?;
            count.rows += answer.len() as u64;
            count.failed += answer.iter().filter(|holds| !**holds).count() as u64;
            judged.push(Some(answer));
        }
        let without_time = match &self.spec.time {
            None => None,
            Some(time) => {
                let column = batch.column_by_name(time).ok_or_else(|| {
                    Fault::conflict(Code::SCHEMA_MISMATCH, format!("raw.{} has no column `{time}`", self.spec.source))
                        .fix("name an existing column in `time`")
                })?;
                Some((time.as_str(), (0..batch.num_rows()).map(|i| column.is_null(i)).collect()))
            }
        };
        plan::sort(&self.spec.expect, &judged, without_time, batch.num_rows())
    }

    /// An expectation with `else = "fail"` that is not met refuses the rows of the pass: they stay raw.
    fn refuse_failed(&self, judged: &Judged) -> Result<()> {
        for (expectation, count) in self.spec.expect.iter().zip(&judged.counts).filter(|(e, _)| e.otherwise == Otherwise::Fail) {
            let check = check_rows(expectation, *count);
            if check.verdict == Verdict::Fail {
                return Err(Fault::new(
                    Kind::Refused,
                    Code::EXPECTATION_FAILED,
                    format!("sources.{} refuses the load: `{}`: {}", self.spec.source, check.condition, check.observed),
                )
                .fix("mend the rows in the source and load it again, or let them go to the quarantine with else = \"quarantine\"; the raw rows are kept"));
            }
        }
        Ok(())
    }

    async fn write_quarantine(&self, pass: &Pass, mark: &Mark, mut rows: Vec<RecordBatch>) -> Result<()> {
        let there = self.cx.ports.engine.table(&self.quarantine).await?;
        if rows.is_empty() && !(pass.rebuild && there.is_some()) {
            return Ok(());
        }
        if pass.rebuild
            && let Some(info) = &there
        {
            rows.extend(self.kept_resolutions(info, &rows).await?);
        }
        if rows.is_empty() {
            rows.push(RecordBatch::new_empty(quarantine::schema()));
        }
        self.write(&self.quarantine, rows, pass, mark, Vec::new()).await
    }

    /// What people have mended stays mended when the same raw rows are judged anew.
    async fn kept_resolutions(&self, info: &TableInfo, failing: &[RecordBatch]) -> Result<Option<RecordBatch>> {
        let same_rows = Mark::of(&info.note, self.quarantine.as_str())?.is_some_and(|m| m.raw_generation == self.raw.generation);
        let resolved = contents(&self.cx.ports, &self.spec.source).await?.resolved;
        if !same_rows || resolved.is_empty() {
            return Ok(None);
        }
        let mut kept = Vec::new();
        for batch in failing {
            let numbers = batch.column_by_name(ROW).ok_or_else(|| Fault::internal("rows without a number"))?.as_primitive::<Int64Type>();
            for (load, row) in loads(batch)?.iter().zip(numbers.values()) {
                if let Some((at, content)) = resolved.get(&(*load, *row)) {
                    kept.push(((*load, *row), *at, content.as_str()));
                }
            }
        }
        if kept.is_empty() { Ok(None) } else { resolutions(kept.into_iter()).map(Some) }
    }

    async fn write_accepted(&self, pass: &Pass, mark: &Mark, mut rows: Vec<RecordBatch>) -> Result<()> {
        let there = self.cx.ports.engine.table(&self.accepted).await?;
        if rows.is_empty() {
            rows.push(RecordBatch::new_empty(self.raw_schema().await?));
        }
        let at = there.as_ref().and_then(|i| i.positions.get(RAW).copied()).unwrap_or(0);
        let raw = (mark.upto > at).then(|| Position { stream: RAW.into(), offset: mark.upto });
        self.write(&self.accepted, rows, pass, mark, raw.into_iter().collect()).await
    }

    async fn write(&self, table: &TableName, rows: Vec<RecordBatch>, pass: &Pass, mark: &Mark, mut positions: Vec<Position>) -> Result<()> {
        positions.push(Position { stream: PASS.into(), offset: pass.number });
        let note = serde_json::to_value(mark).map_err(|e| Fault::internal("a record does not serialise").because(e))?;
        let mode = if pass.rebuild { WriteMode::Overwrite } else { WriteMode::Append };
        let written = self
            .cx
            .ports
            .engine
            .write(TableWrite { table: table.clone(), rows, mode, system: SystemColumns::Keep, positions, note })
            .await?;
        // The quarantine of an interrupted pass stands already.
        if written.written || (pass.finish && *table == self.quarantine) {
            return Ok(());
        }
        Err(Fault::new(Kind::Busy, Code::ALIAS_CONFLICT, format!("another run of sources.{} ended first", self.spec.source))
            .fix("run it again; nothing was written twice"))
    }

    async fn raw_schema(&self) -> Result<SchemaRef> {
        let info = self.cx.ports.engine.table(&self.raw.table).await?;
        let info = info.ok_or_else(|| Fault::damaged(format!("table {} is gone", self.raw.table)))?;
        let mut fields: Vec<Field> =
            info.schema.fields().iter().filter(|f| !SYSTEM_COLUMNS.contains(&f.name().as_str())).map(|f| f.as_ref().clone()).collect();
        fields.push(Field::new(LOAD, DataType::Int64, true));
        fields.push(Field::new(ROW, DataType::Int64, true));
        fields.push(Field::new(LOADED_AT, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true));
        Ok(Arc::new(Schema::new(fields)))
    }

    async fn finish(self, mut tally: Tally) -> Result<Done> {
        let ports = &self.cx.ports;
        let table = ports.engine.table(&self.accepted).await?;
        let info = table.ok_or_else(|| Fault::damaged(format!("table {} is gone", self.accepted)))?;
        let mark = Mark::of(&info.note, self.accepted.as_str())?
            .ok_or_else(|| Fault::damaged(format!("table {} has no record of its passes", self.accepted)))?;
        let address = |kind| Address::new(kind, self.spec.source.clone());
        let mut outputs = vec![self.version(address(AssetKind::Sources), &self.accepted, &info, &mark)];
        let quarantine = ports.engine.table(&self.quarantine).await?;
        if let Some(held) = quarantine.filter(|i| i.rows > 0) {
            outputs.push(self.version(address(AssetKind::Quarantine), &self.quarantine, &held, &mark));
        }
        let (profile_version, sources_version) = (self.latest(AssetKind::Profiles).await?, self.latest(AssetKind::Sources).await?);
        let stands = |output: &NewVersion, known: &Option<Version>| known.as_ref().is_some_and(|v| v.digest == output.digest);
        if tally.passes == 0
            && let (true, Some(sources), Some(profile)) = (stands(&outputs[0], &sources_version), &sources_version, &profile_version)
        {
            let mut versions = vec![sources.id.clone(), profile.id.clone()];
            versions.extend(self.latest(AssetKind::Quarantine).await?.map(|v| v.id));
            return Ok(Done::Unchanged { versions, summary: format!("no new rows; {} accepted so far", grouped(info.rows)) });
        }
        if tally.passes == 0 {
            // The tables were written, but the run that did it died before it was recorded.
            tally.counts = mark.counts.clone();
            (tally.read, tally.accepted, tally.quarantined) = (mark.read, mark.accepted, mark.quarantined);
        }
        let profile = self.profile(&tally, &info, &mark, profile_version.as_ref()).await?;
        let checks = self.checks(&tally, &profile);
        let bytes = serde_json::to_vec(&profile).map_err(|e| Fault::internal("a profile does not serialise").because(e))?;
        let blob = ports.blobs.put(bytes.into()).await?;
        outputs.push(NewVersion {
            asset: address(AssetKind::Profiles),
            digest: blob,
            place: Place::Blob { digest: blob },
            rows: Some(profile.whole.rows),
            meta: json!({"format": 1, "changes": profile.changes, "loads": [profile.loads.0, profile.loads.1]}),
        });
        Ok(Done::Made(Made {
            outputs,
            verdict: Some(plan::verdict(&checks, tally.read)),
            checks,
            metrics: [
                ("rows_read", tally.read),
                ("rows_accepted", tally.accepted),
                ("rows_quarantined", tally.quarantined),
                ("rows", info.rows),
            ]
            .map(|(key, value)| Metric::new(key, value as f64))
            .to_vec(),
            summary: summary(&tally, &profile.changes),
            ..Made::default()
        }))
    }

    async fn latest(&self, kind: AssetKind) -> Result<Option<Version>> {
        self.cx.ports.ledger.version(&Address::new(kind, self.spec.source.clone()), &Which::Latest).await
    }

    fn version(&self, asset: Address, table: &TableName, info: &TableInfo, mark: &Mark) -> NewVersion {
        let parts = [
            table.as_str().to_owned(),
            format!("{}/{}", info.generation, info.version),
            json!(info.positions).to_string(),
            info.note.to_string(),
        ];
        NewVersion {
            asset,
            digest: Digest::of_parts(parts.iter().map(String::as_bytes)),
            place: Place::Table { table: table.clone(), version: info.version },
            rows: Some(info.rows),
            meta: json!({
                "format": 1,
                "load": mark.upto,
                "generation": info.generation,
                "read": mark.read,
                "accepted": mark.accepted,
                "quarantined": mark.quarantined,
            }),
        }
    }

    fn checks(&self, tally: &Tally, profile: &Profile) -> Vec<Check> {
        let newest = self.spec.time.as_deref().and_then(|t| profile.whole.newest(t));
        let each = self.spec.expect.iter().zip(&self.rules).zip(&tally.counts);
        each.map(|((expectation, rule), count)| match rule {
            Rule::Row(_) => check_rows(expectation, *count),
            Rule::Fresh(age) => check_fresh(expectation, *age, newest, self.cx.ports.clock.now()),
        })
        .collect()
    }

    /// The whole is what was known and the new rows, if together they are all the rows there are; else it is counted afresh.
    async fn profile(&self, tally: &Tally, info: &TableInfo, mark: &Mark, before: Option<&Version>) -> Result<Profile> {
        let mut load = tally.profile.clone();
        let before = match before {
            Some(version) => {
                let blob = version.blob()?;
                let bytes =
                    self.cx.ports.blobs.get(&blob).await?.ok_or_else(|| Fault::damaged(format!("the blob of {} is gone", version.id)))?;
                Some(Profile::read(&bytes)?)
            }
            None => None,
        };
        let known =
            before.as_ref().filter(|p| !tally.rebuilt && p.loads.1 + 1 == tally.first_load).map(|p| p.whole.clone()).unwrap_or_default();
        let mut whole = known;
        whole.merge(&load);
        if whole.rows != info.rows {
            whole = self.scan_profile().await?;
        }
        load.finish();
        whole.finish();
        let changes = before.map(|p| changes(&p.load, &load)).unwrap_or_default();
        let changes = if load.rows == 0 { Vec::new() } else { changes };
        Ok(Profile {
            format: Profile::FORMAT,
            source: self.spec.source.to_string(),
            loads: (tally.first_load, mark.upto),
            load,
            whole,
            changes,
        })
    }

    async fn scan_profile(&self) -> Result<Rows> {
        let mut rows = Rows::default();
        let mut stream = self.cx.ports.engine.scan(&self.accepted, None, 0).await?;
        while let Some(batch) = stream.next().await {
            self.cx.cancel.check()?;
            rows.see(&batch?)?;
        }
        Ok(rows)
    }
}

fn summary(tally: &Tally, changes: &[String]) -> String {
    let (read, accepted, quarantined) = (grouped(tally.read), grouped(tally.accepted), grouped(tally.quarantined));
    let share = if tally.quarantined > 0 { format!(" ({})", percent(tally.quarantined, tally.read)) } else { String::new() };
    let anew = if tally.rebuilt && tally.first_load > 1 { ", all rows judged anew" } else { "" };
    let noted = if changes.is_empty() { String::new() } else { format!("; {}", changes.join(", ")) };
    format!("read {read} = accepted {accepted} + quarantined {quarantined}{share}{anew}{noted}")
}

fn broken(e: arrow::error::ArrowError) -> Fault {
    Fault::internal(format!("rows cannot be put together: {e}")).because(e)
}

fn loads(batch: &RecordBatch) -> Result<Vec<i64>> {
    let column = batch.column_by_name(LOAD).ok_or_else(|| Fault::damaged("raw rows lack their load"))?;
    Ok(column.as_primitive::<Int64Type>().values().to_vec())
}

/// All batches as one.
fn join(rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    match rows.first() {
        None => Ok(Vec::new()),
        Some(first) => Ok(vec![concat_batches(&first.schema(), &rows).map_err(broken)?]),
    }
}

/// The batches of each load.
fn by_load(rows: Vec<RecordBatch>) -> Result<Vec<Vec<RecordBatch>>> {
    let mut groups: Vec<(i64, Vec<RecordBatch>)> = Vec::new();
    for batch in rows {
        let loads = loads(&batch)?;
        let mut from = 0;
        while from < loads.len() {
            let until = loads[from..].iter().position(|l| *l != loads[from]).map_or(loads.len(), |n| from + n);
            let part = batch.slice(from, until - from);
            match groups.last_mut() {
                Some((load, parts)) if *load == loads[from] => parts.push(part),
                _ => groups.push((loads[from], vec![part])),
            }
            from = until;
        }
    }
    Ok(groups.into_iter().map(|(_, parts)| parts).collect())
}
