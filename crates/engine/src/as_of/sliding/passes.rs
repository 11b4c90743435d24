//! A stored table, in as many passes as memory asks for.
//!
//! Rows stream from the files and are narrowed as they come: only those of asked entities stay, and of them only what the view reads. If
//! that is more than a part of the engine's memory, the asked entities are split by their numbers and the table is read once per part.
//! The answers do not depend on it, since an entity is never split: rows of one entity that are too many by themselves are refused.

use super::{MANY, Prepared, Sliding, beside, in_threads};
use crate::as_of::plan::Given;
use crate::as_of::rewrite::quoted;
use crate::fault::{self, Text};
use crate::local::Shared;
use crate::sql::fence;
use crate::sql::session::Sources;
use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{interleave, take_record_batch};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::TryStreamExt as _;
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_slide::entities::Entities;
use std::mem::size_of;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::runtime::{Handle, RuntimeFlavor};

/// What the walk needs of a row beside its columns: its entry twice (in its batch, then in its bucket), its load and its number.
const ROW_BYTES: usize = 2 * size_of::<gristmill_slide::walk::Entry>() + 2 * size_of::<i64>();

/// Passes are planned with a little air, since the parts of the entities are not equal.
const AIR: f64 = 1.2;

/// What came of one reading.
enum Reading {
    /// All rows of the asked entities.
    Whole(Vec<Prepared>),
    /// More than may be kept: so many times as much, by the rows that came so far.
    TooMuch(f64),
}

/// What a reading keeps, over all its threads.
struct Kept {
    limit: usize,
    bytes: AtomicUsize,
    seen: AtomicUsize,
}

impl Sliding {
    /// A column per call, over a stored table.
    pub(super) async fn in_passes(&self, shared: &Shared, text: Text<'_>, asked: &RecordBatch, stored: &Given) -> Result<Vec<ArrayRef>> {
        let plan = self.reading(shared, text, stored)?;
        let all = self.entities(asked)?;
        let mut passes = 1usize;
        'again: loop {
            let mut groups = all.split(passes);
            groups.retain(|group| !group.is_empty());
            let mut answers: Vec<Vec<ArrayRef>> = Vec::with_capacity(passes);
            for group in &groups {
                let (part, of_part);
                let (asked, entities) = if passes == 1 {
                    (asked, &all)
                } else {
                    let rows = UInt32Array::from_iter_values(group.iter().copied());
                    part = take_record_batch(asked, &rows).map_err(|e| Fault::internal("split the asked rows").because(e))?;
                    of_part = self.entities(&part)?;
                    (&part, &of_part)
                };
                match self.read(shared, text, &plan, entities, stored.rows()).await? {
                    Reading::Whole(parts) => {
                        let many = parts.iter().map(|part| part.rows.len()).sum::<usize>() + asked.num_rows();
                        answers.push(beside(many, |threads| self.called(asked, entities, parts, threads))?);
                    }
                    Reading::TooMuch(times) => {
                        // With as many passes as entities, each has one.
                        if entities.count <= 1 || passes >= all.count {
                            return Err(too_large(shared.as_of_bytes));
                        }
                        let wanted = (passes as f64 * times * AIR).ceil() as usize;
                        passes = wanted.clamp(passes + 1, all.count);
                        tracing::info!(
                            passes,
                            "the rows of the asked entities do not fit into memory at once: the table is read in passes"
                        );
                        continue 'again;
                    }
                }
            }
            return if passes == 1 { Ok(answers.swap_remove(0)) } else { together(&groups, answers, asked.num_rows()) };
        }
    }

    /// The plan that reads the needed columns.
    fn reading(&self, shared: &Shared, text: Text<'_>, stored: &Given) -> Result<LogicalPlan> {
        let wanted: Vec<String> = self.needed.fields().iter().map(|f| quoted(f.name())).collect();
        let sql = format!("SELECT {} FROM \"stored\"", wanted.join(", "));
        let fenced = fence::parse(Text::bare(&sql))?;
        let sources = Sources::from([("stored".to_string(), datafusion::datasource::provider_as_source(stored.provider()?))]);
        shared.session.optimise(&shared.session.plan(fenced.query, &sources, text)?, text)
    }

    /// What is needed of the rows of these entities, as long as it fits.
    async fn read(&self, shared: &Shared, text: Text<'_>, plan: &LogicalPlan, entities: &Entities, rows: usize) -> Result<Reading> {
        let streams = shared.session.run_in_parts(plan).await.map_err(|e| fault::query(e, text))?;
        let kept = Kept { limit: shared.as_of_bytes, bytes: AtomicUsize::new(0), seen: AtomicUsize::new(0) };
        let several = Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
        let parts = if several && streams.len() > 1 && rows >= MANY {
            let (runtime, threads) = (Handle::current(), std::thread::available_parallelism().map_or(1, NonZeroUsize::get));
            let streams: Vec<Mutex<Option<SendableRecordBatchStream>>> = streams.into_iter().map(|s| Mutex::new(Some(s))).collect();
            let one = |stream: &Mutex<Option<SendableRecordBatchStream>>| match stream.lock().ok().and_then(|mut s| s.take()) {
                Some(stream) => runtime.block_on(self.drain(stream, text, entities, &kept)),
                None => Err(Fault::internal("a part of a table was read twice")),
            };
            tokio::task::block_in_place(|| in_threads(&streams, threads, one))?
        } else {
            let mut parts = Vec::with_capacity(streams.len());
            for stream in streams {
                parts.push(self.drain(stream, text, entities, &kept).await?);
            }
            parts
        };
        let (bytes, seen) = (kept.bytes.into_inner(), kept.seen.into_inner());
        if bytes > kept.limit {
            let all = bytes as f64 * (rows.max(seen) as f64 / seen.max(1) as f64);
            return Ok(Reading::TooMuch(all / kept.limit as f64));
        }
        Ok(Reading::Whole(parts.into_iter().flatten().collect()))
    }

    /// The rows of one part of a table; it stops where all parts together are too much.
    async fn drain(
        &self,
        mut stream: SendableRecordBatchStream,
        text: Text<'_>,
        entities: &Entities,
        kept: &Kept,
    ) -> Result<Vec<Prepared>> {
        let mut parts = Vec::new();
        while let Some(batch) = stream.try_next().await.map_err(|e| fault::query(e, text))? {
            kept.seen.fetch_add(batch.num_rows(), Relaxed);
            let part = self.prepare(entities, &batch)?;
            if part.rows.is_empty() {
                continue;
            }
            let more = self.weight(&part);
            if kept.bytes.fetch_add(more, Relaxed) + more > kept.limit {
                break;
            }
            parts.push(part);
        }
        Ok(parts)
    }

    /// The bytes that a part costs until its rows are answered. Arguments that are computed with are laid end to end as well.
    fn weight(&self, part: &Prepared) -> usize {
        let columns = part.columns.iter().map(|column| column.get_array_memory_size());
        let copied = |at: &usize| self.kept.iter().any(|call| call.argument == Some(*at) || call.by == Some(*at));
        let copies = (0..part.columns.len()).filter(copied).map(|at| 2 * part.columns[at].get_array_memory_size());
        part.rows.len() * ROW_BYTES + columns.sum::<usize>() + copies.sum::<usize>()
    }
}

/// The answers of all passes in the order asked.
fn together(groups: &[Vec<u32>], answers: Vec<Vec<ArrayRef>>, asked: usize) -> Result<Vec<ArrayRef>> {
    let mut places = vec![(0usize, 0usize); asked];
    for (pass, group) in groups.iter().enumerate() {
        group.iter().enumerate().for_each(|(at, row)| places[*row as usize] = (pass, at));
    }
    let mut by_pass: Vec<_> = answers.into_iter().map(Vec::into_iter).collect();
    let mut columns = Vec::new();
    loop {
        // One call at a time: its parts are let go before the next one is laid out.
        let parts: Vec<ArrayRef> = by_pass.iter_mut().filter_map(Iterator::next).collect();
        if parts.is_empty() {
            return Ok(columns);
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        columns.push(interleave(&parts, &places).map_err(|e| Fault::internal("put answers in order").because(e))?);
    }
}

fn too_large(bytes: usize) -> Fault {
    Fault::invalid(Code::SQL_FAILED, format!("the rows of one entity take more than the {} MiB that a view may hold", bytes >> 20))
        .fix("give the view a shorter window, or fewer columns")
}
