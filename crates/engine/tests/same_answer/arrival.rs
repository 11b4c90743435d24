//! How the rows of a history arrive: in which order, in how many batches, how often.

use super::history::{Event, History, Plan, Refund, events, plans, refunds};
use arrow::array::RecordBatch;
use gristmill_kernel::port::AsOfPlan;
use gristmill_kernel::table::{Catalog, Relation};
use rand::prelude::*;
use rand::rngs::StdRng;
use std::collections::BTreeMap;

/// A row of a table.
pub trait Row {
    /// Its event time; of a snapshot the moment of its load.
    fn time(&self) -> Option<i64>;
    /// Its load and its number there.
    fn id(&self) -> (i64, i64);
    fn batch(rows: &[&Self]) -> RecordBatch;
}

impl Row for Event {
    fn time(&self) -> Option<i64> {
        self.time
    }
    fn id(&self) -> (i64, i64) {
        (self.load, self.row)
    }
    fn batch(rows: &[&Event]) -> RecordBatch {
        events(rows)
    }
}

impl Row for Refund {
    fn time(&self) -> Option<i64> {
        Some(self.time)
    }
    fn id(&self) -> (i64, i64) {
        (self.load, self.row)
    }
    fn batch(rows: &[&Refund]) -> RecordBatch {
        refunds(rows)
    }
}

impl Row for Plan {
    fn time(&self) -> Option<i64> {
        Some(self.loaded_at)
    }
    fn id(&self) -> (i64, i64) {
        (self.load, self.row)
    }
    fn batch(rows: &[&Plan]) -> RecordBatch {
        plans(rows)
    }
}

/// The order in which rows arrive. Which load a row came with has nothing to do with its time, so that many are late in any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    InTime,
    Backwards,
    Shuffled,
}

pub const ORDERS: [Order; 3] = [Order::InTime, Order::Backwards, Order::Shuffled];

/// An order, and in how many batches.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub order: Order,
    pub batches: Batches,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batches {
    One,
    Many,
}

impl Arrival {
    /// Any of them, the same for the same number.
    pub fn of(number: usize) -> Arrival {
        Arrival { order: ORDERS[number % 3], batches: if (number / 3).is_multiple_of(2) { Batches::Many } else { Batches::One } }
    }

    fn arrange<'r, R: Row>(self, rows: &'r [R], rng: &mut StdRng) -> Vec<&'r R> {
        let mut all: Vec<&R> = rows.iter().collect();
        match self.order {
            Order::Shuffled => all.shuffle(rng),
            Order::InTime => all.sort_by_key(|row| (row.time(), row.id())),
            Order::Backwards => all.sort_by_key(|row| std::cmp::Reverse((row.time(), row.id()))),
        }
        all
    }

    fn cut<R: Row>(self, rows: &[&R], rng: &mut StdRng) -> Relation {
        let schema = R::batch(&[]).schema();
        let batches = match self.batches {
            Batches::One => vec![R::batch(rows)],
            // An empty one among them.
            Batches::Many => {
                let size = rng.random_range(1..=rows.len().max(1)).max(rows.len() / 7 + 1);
                rows.chunks(size).map(R::batch).chain([R::batch(&[])]).collect()
            }
        };
        Relation::Rows(batches, schema)
    }

    fn relation<R: Row>(self, rows: &[R], rng: &mut StdRng) -> Relation {
        let arranged = self.arrange(rows, rng);
        self.cut(&arranged, rng)
    }

    /// All rows of a history.
    pub fn catalog(self, history: &History, rng: &mut StdRng) -> Catalog {
        BTreeMap::from([
            ("events".to_string(), self.relation(&history.events, rng)),
            ("refunds".to_string(), self.relation(&history.refunds, rng)),
            ("customers".to_string(), self.relation(&history.plans, rng)),
        ])
    }

    /// What an online store that these rows were delivered to would give for these questions: the plan's own words, nothing more. A table
    /// that is kept by a key is read for each question alone, one that is kept whole as far back as any of them looks.
    pub fn kept(self, plan: &dyn AsOfPlan, history: &History, asked: &[(String, i64)], rng: &mut StdRng) -> Catalog {
        let mut tables = Catalog::new();
        for kept in &plan.shape().kept {
            let from = |moment: i64| kept.window.map_or(i64::MIN, |window| moment - window.micros());
            let relation = match kept.table.as_str() {
                "events" => {
                    assert!(kept.key.is_empty() || kept.key == ["customer_id"]);
                    let store = self.delivered(&history.events, |e| e.customer.as_deref(), rng);
                    self.cut(&store.read(kept.key.is_empty(), asked, from), rng)
                }
                "refunds" => {
                    assert!(kept.key.is_empty() || kept.key == ["buyer"]);
                    let store = self.delivered(&history.refunds, |r| Some(&r.customer), rng);
                    self.cut(&store.read(kept.key.is_empty(), asked, from), rng)
                }
                "customers" => {
                    let store = self.delivered(&history.plans, |p| Some(&p.customer), rng);
                    self.cut(&store.read(kept.key.is_empty(), asked, |_| i64::MIN), rng)
                }
                other => panic!("no table {other}"),
            };
            tables.insert(kept.table.clone(), relation);
        }
        tables
    }

    /// Delivers rows in this order to a store, some of them again and again.
    fn delivered<'r, R: Row>(self, rows: &'r [R], key: fn(&R) -> Option<&str>, rng: &mut StdRng) -> Store<'r, R> {
        let mut store = Store { rows: BTreeMap::new() };
        let deliveries = self.arrange(rows, rng);
        for (number, row) in deliveries.iter().enumerate() {
            let again = rng.random_bool(0.1).then(|| deliveries[rng.random_range(0..=number)]);
            for row in std::iter::once(*row).chain(again) {
                if let (Some(key), Some(time)) = (key(row), row.time()) {
                    store.rows.insert((key, time, row.id()), row);
                }
            }
        }
        store
    }
}

/// A model of the online store: a row of a load is there once, however often it was delivered, and is read by key in the order of time.
struct Store<'r, R> {
    rows: BTreeMap<(&'r str, i64, (i64, i64)), &'r R>,
}

impl<R: Row> Store<'_, R> {
    fn read(&self, whole: bool, asked: &[(String, i64)], from: impl Fn(i64) -> i64) -> Vec<&R> {
        if whole {
            let from = asked.iter().map(|(_, moment)| from(*moment)).min().unwrap_or(i64::MIN);
            return self.rows.iter().filter(|((_, time, _), _)| *time >= from).map(|(_, row)| *row).collect();
        }
        let mut read = Vec::new();
        for (key, moment) in asked {
            let (first, last) = ((i64::MIN, i64::MIN), (i64::MAX, i64::MAX));
            read.extend(self.rows.range((key.as_str(), from(*moment), first)..=(key.as_str(), i64::MAX, last)).map(|(_, row)| *row));
        }
        read
    }
}
