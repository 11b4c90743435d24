//! The folds that trials are judged on: only rows of `train`.

use crate::sample::{Dataset, untrainable};
use gristmill_kernel::Result;
use gristmill_kernel::model::Task;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// How many folds there are, rows permitting.
const FOLDS: usize = 3;

/// Rows to learn from and rows to judge on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fold {
    pub learn: Vec<usize>,
    pub judge: Vec<usize>,
}

/// Later moments after earlier ones when the set is split by time, whole groups when it has groups, else a draw that keeps the classes' shares.
pub(super) fn folds(data: &Dataset, seed: u64) -> Result<Vec<Fold>> {
    let by_time = if data.split_by_time && data.task != Task::Ranking { by_time(data) } else { None };
    let folds = match by_time {
        Some(folds) => folds,
        None => by_part(data, &parts(data, seed)),
    };
    if folds.iter().any(|f| f.learn.is_empty() || f.judge.is_empty()) || folds.is_empty() {
        return Err(untrainable("there are too few rows to tune on", "leave `tune` out, or widen the label query"));
    }
    Ok(folds)
}

/// Blocks of moments with about equally many rows; fold k learns from the first k + 2 blocks and is judged on the next.
fn by_time(data: &Dataset) -> Option<Vec<Fold>> {
    let mut rows = data.train.clone();
    rows.sort_by_key(|r| data.time[*r]);
    let moments: Vec<&[usize]> = rows.chunk_by(|a, b| data.time[*a] == data.time[*b]).collect();
    if moments.len() < 2 {
        return None;
    }
    let folds = FOLDS.min(moments.len() - 1);
    let blocks = (folds + 2).min(moments.len());
    let share = rows.len() as f64 / blocks as f64;
    let mut block_of: Vec<Vec<usize>> = vec![Vec::new(); blocks];
    let mut before = 0usize;
    for (at, moment) in moments.iter().enumerate() {
        // By the rows before it, but leaving a moment for each block behind.
        let by_rows = (before as f64 / share) as usize;
        let block = by_rows.clamp((at + blocks).saturating_sub(moments.len()), at).min(blocks - 1);
        block_of[block].extend_from_slice(moment);
        before += moment.len();
    }
    let of_fold = |fold: usize| {
        let judged = blocks - folds + fold;
        let mut learn: Vec<usize> = block_of[..judged].concat();
        let mut judge = block_of[judged].clone();
        learn.sort_unstable();
        judge.sort_unstable();
        Fold { learn, judge }
    };
    let folds: Vec<Fold> = (0..folds).map(of_fold).filter(|f| !f.judge.is_empty()).collect();
    (!folds.is_empty()).then_some(folds)
}

/// The part of each training row.
fn parts(data: &Dataset, seed: u64) -> BTreeMap<usize, usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut units: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    if data.grouped {
        for row in &data.train {
            units.entry(u64::from(data.group[*row])).or_default().push(*row);
        }
        let mut groups: Vec<Vec<usize>> = units.into_values().collect();
        groups.shuffle(&mut rng);
        return groups.iter().enumerate().flat_map(|(at, rows)| rows.iter().map(move |r| (*r, at % FOLDS))).collect();
    }
    for row in &data.train {
        let class = if data.classes.is_empty() { 0 } else { data.y[*row] as u64 };
        units.entry(class).or_default().push(*row);
    }
    let mut out = BTreeMap::new();
    let mut next = 0;
    for mut rows in units.into_values() {
        rows.shuffle(&mut rng);
        for row in rows {
            out.insert(row, next % FOLDS);
            next += 1;
        }
    }
    out
}

fn by_part(data: &Dataset, parts: &BTreeMap<usize, usize>) -> Vec<Fold> {
    let of = |fold: usize, judged: bool| data.train.iter().copied().filter(|r| (parts[r] == fold) == judged).collect();
    (0..FOLDS).map(|fold| Fold { learn: of(fold, false), judge: of(fold, true) }).collect()
}
