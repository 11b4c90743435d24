//! fjall against redb on the access pattern of online rows and journal: batches of kept rows, short range reads, small durable appends.
//!
//! `cargo run -p gristmill-store --example online_bench -- [ROWS] [FOLDER]`; rows default to 100,000, the folder to a temporary one. Both engines get the same
//! keys (40 bytes: epoch, entity, time, load, row), the same values (96 bytes) in the same order, and one sync per durable append.

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redb::{Durability, ReadableDatabase, TableDefinition};
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

type Done<T = ()> = Result<T, Box<dyn Error>>;

const BATCH: usize = 10_000;
const ROWS_PER_KEY: usize = 150;
const READS: usize = 2_000;
const APPENDS: usize = 200;
const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

trait Engine {
    fn batch(&mut self, rows: &[(Vec<u8>, Vec<u8>)], durable: bool) -> Done;
    fn range(&self, prefix: &[u8], end: &[u8]) -> Done<usize>;
}

struct Fjall(Database, fjall::Keyspace);

impl Engine for Fjall {
    fn batch(&mut self, rows: &[(Vec<u8>, Vec<u8>)], durable: bool) -> Done {
        let mut batch = self.0.batch();
        rows.iter().for_each(|(key, value)| batch.insert(&self.1, key.as_slice(), value.as_slice()));
        batch.durability(Some(if durable { PersistMode::SyncAll } else { PersistMode::Buffer })).commit()?;
        Ok(())
    }
    fn range(&self, prefix: &[u8], end: &[u8]) -> Done<usize> {
        let mut bytes = 0;
        for entry in self.1.range(prefix..end) {
            bytes += entry.value()?.len();
        }
        Ok(bytes)
    }
}

struct Redb(redb::Database);

impl Engine for Redb {
    fn batch(&mut self, rows: &[(Vec<u8>, Vec<u8>)], durable: bool) -> Done {
        let mut tx = self.0.begin_write()?;
        tx.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
        {
            let mut table = tx.open_table(TABLE)?;
            for (key, value) in rows {
                table.insert(key.as_slice(), value.as_slice())?;
            }
        }
        tx.commit()?;
        Ok(())
    }
    fn range(&self, prefix: &[u8], end: &[u8]) -> Done<usize> {
        let tx = self.0.begin_read()?;
        let mut bytes = 0;
        for entry in tx.open_table(TABLE)?.range(prefix..end)? {
            bytes += entry?.1.value().len();
        }
        Ok(bytes)
    }
}

fn key(entity: u64, time: u64, row: u64) -> Vec<u8> {
    [1, entity, time, 7, row].iter().flat_map(|n| n.to_be_bytes()).collect()
}

fn percentile(times: &mut [Duration], part: f64) -> Duration {
    times.sort();
    times[((times.len() - 1) as f64 * part) as usize]
}

fn size(path: &Path) -> Done<u64> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path)?;
    if meta.is_file() {
        return Ok(meta.blocks() * 512);
    }
    std::fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

fn measure(name: &str, engine: &mut dyn Engine, rows: usize, path: &Path) -> Done {
    let mut rng = StdRng::seed_from_u64(1);
    let entities = (rows / ROWS_PER_KEY).max(1) as u64;
    let began = Instant::now();
    let mut batches = Vec::new();
    for start in (0..rows).step_by(BATCH) {
        let batch: Vec<_> = (start..(start + BATCH).min(rows))
            .map(|row| (key(rng.random_range(0..entities), row as u64, row as u64), vec![row as u8; 96]))
            .collect();
        let began = Instant::now();
        engine.batch(&batch, true)?;
        batches.push(began.elapsed());
    }
    let written = began.elapsed();
    let mut reads = Vec::new();
    for _ in 0..READS {
        let entity = rng.random_range(0..entities);
        let began = Instant::now();
        std::hint::black_box(engine.range(&key(entity, 0, 0), &key(entity + 1, 0, 0))?);
        reads.push(began.elapsed());
    }
    let mut appends = Vec::new();
    for n in 0..APPENDS as u64 {
        let began = Instant::now();
        engine.batch(&[(key(u64::MAX, n, n), vec![1; 96])], true)?;
        appends.push(began.elapsed());
    }
    println!(
        "{name:6} {rows} rows: write {:.0} rows/s (batch p99 {:?}); read of {ROWS_PER_KEY} p50 {:?} p99 {:?}; durable append p50 {:?} p99 {:?}; on disk {} KiB",
        rows as f64 / written.as_secs_f64(),
        percentile(&mut batches, 0.99),
        percentile(&mut reads, 0.5),
        percentile(&mut reads, 0.99),
        percentile(&mut appends, 0.5),
        percentile(&mut appends, 0.99),
        size(path)? / 1024,
    );
    Ok(())
}

fn main() -> Done {
    let arguments: Vec<String> = std::env::args().collect();
    let rows = arguments.get(1).map_or(Ok(100_000), |text| text.parse())?;
    let folder = match arguments.get(2) {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let path = folder.path().join("fjall");
    let db = Database::builder(&path).open()?;
    let keyspace = db.keyspace("rows", KeyspaceCreateOptions::default)?;
    measure("fjall", &mut Fjall(db, keyspace), rows, &path)?;
    let path = folder.path().join("redb");
    std::fs::create_dir(&path)?;
    measure("redb", &mut Redb(redb::Database::create(path.join("rows.redb"))?), rows, &path)
}
