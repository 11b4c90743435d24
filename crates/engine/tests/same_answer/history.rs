//! Random histories: customers with events, refunds, and a snapshot of plans in several loads.

use crate::support::*;
use arrow::array::RecordBatch;
use rand::prelude::*;
use rand::rngs::StdRng;

pub const DAY: i64 = 86_400_000_000;
/// The base of all moments: 2011-01-01.
pub const BASE: i64 = 1_293_840_000_000_000;

#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub customer: Option<String>,
    pub time: Option<i64>,
    pub amount: Option<f64>,
    pub level: Option<f64>,
    pub quantity: Option<i64>,
    pub kind: Option<String>,
    pub order: i64,
    pub load: i64,
    pub row: i64,
}

impl Event {
    /// When its load became available: before some of the moments that are asked about, after others.
    pub fn loaded_at(&self) -> i64 {
        BASE + self.load * 5 * DAY
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Refund {
    pub order: i64,
    pub customer: String,
    pub time: i64,
    pub back: f64,
    pub load: i64,
    pub row: i64,
}

impl Refund {
    /// When its load became available.
    pub fn loaded_at(&self) -> i64 {
        BASE + self.load * 6 * DAY
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub customer: String,
    pub plan: Option<String>,
    pub fee: f64,
    pub load: i64,
    pub row: i64,
    pub loaded_at: i64,
}

#[derive(Debug, Clone)]
pub struct History {
    pub events: Vec<Event>,
    pub refunds: Vec<Refund>,
    pub plans: Vec<Plan>,
    /// Entity and moment, in the asked order.
    pub asked: Vec<(String, i64)>,
}

/// Times fall on a coarse grid, so that ties with moments and window edges are common.
fn grid(rng: &mut StdRng) -> i64 {
    let nudge = if rng.random_bool(0.1) { rng.random_range(-1..=1) } else { 0 };
    BASE + rng.random_range(0..60) * DAY / 2 + nudge
}

fn amount(rng: &mut StdRng) -> f64 {
    match rng.random_range(0..10) {
        0 => 0.0,
        1 => -0.0,
        2 => rng.random_range(-1.0..1.0f64) * 2f64.powi(rng.random_range(-20..30)),
        3 => -f64::from(rng.random_range(0..10_000)) / 100.0,
        _ => f64::from(rng.random_range(0..100_000)) / 100.0,
    }
}

/// `count` customers: each is a history of events, refunds and plans of its own. About a sixth are without events.
pub fn random(rng: &mut StdRng, count: usize) -> History {
    let mut history = History { events: Vec::new(), refunds: Vec::new(), plans: Vec::new(), asked: Vec::new() };
    let names: Vec<String> = (0..count).map(|i| format!("c{i}")).collect();
    let mut order = 0;
    for name in &names {
        if rng.random_bool(1.0 / 6.0) {
            continue;
        }
        for _ in 0..rng.random_range(0..25) {
            order += 1;
            // A late row: its load has nothing to do with its time.
            let event = Event {
                customer: Some(name.clone()),
                time: rng.random_bool(0.97).then(|| grid(rng)),
                amount: rng.random_bool(0.85).then(|| amount(rng)),
                level: rng.random_bool(0.85).then(|| f64::from(rng.random_range(-(1 << 20)..(1 << 20))) / 256.0),
                quantity: rng.random_bool(0.85).then(|| rng.random_range(-5..50)),
                kind: rng.random_bool(0.85).then(|| ["a", "b", "c"][rng.random_range(0..3)].to_string()),
                order,
                load: rng.random_range(1..6),
                row: order,
            };
            for _ in 0..[0, 0, 0, 1, 2][rng.random_range(0..5)] {
                // Sometimes it is paid to somebody else.
                let buyer = if rng.random_bool(0.1) { names.choose(rng).unwrap_or(name) } else { name };
                let refund = Refund {
                    order,
                    customer: buyer.clone(),
                    time: event.time.unwrap_or(BASE) + rng.random_range(0..6) * DAY / 2,
                    back: amount(rng),
                    load: rng.random_range(1..6),
                    row: history.refunds.len() as i64,
                };
                history.refunds.push(refund);
            }
            // Two equal rows count twice.
            if rng.random_bool(0.1) {
                history.events.push(Event { row: 1_000_000 + order, ..event.clone() });
            }
            history.events.push(event);
        }
    }
    // Rows of nobody.
    for i in 0..3 {
        history.events.push(Event {
            customer: None,
            time: Some(grid(rng)),
            amount: Some(1.0),
            level: None,
            quantity: None,
            kind: None,
            order: -i,
            load: 1,
            row: 2_000_000 + i,
        });
    }
    let (mut loaded_at, mut loads) = (BASE + 5 * DAY, Vec::new());
    for load in 1..=3 {
        for (row, name) in names.iter().enumerate() {
            if rng.random_bool(0.8) {
                history.plans.push(Plan {
                    customer: name.clone(),
                    plan: rng.random_bool(0.9).then(|| ["basic", "plus", "pro"][rng.random_range(0..3)].to_string()),
                    fee: amount(rng),
                    load,
                    row: row as i64,
                    loaded_at,
                });
            }
        }
        loads.push(loaded_at);
        loaded_at += rng.random_range(1..8) * DAY;
    }
    for name in names.iter().map(String::as_str).chain(["nobody"]) {
        for _ in 0..rng.random_range(1..4) {
            let own = history.events.iter().filter(|e| e.customer.as_deref() == Some(name)).choose(rng);
            let moment = match own {
                // Exactly at an own event, or exactly a window after one.
                Some(Event { time: Some(time), .. }) if rng.random_bool(0.5) => {
                    time + [0, 3, 7, 10, 1][rng.random_range(0..5)] * DAY + [0, 0, 1, -1][rng.random_range(0..4)]
                }
                // Exactly when a snapshot came.
                _ if rng.random_bool(0.1) => loads[rng.random_range(0..loads.len())] + rng.random_range(-1..=0),
                _ => grid(rng),
            };
            history.asked.push((name.to_string(), moment));
        }
    }
    // The same question twice has two answers.
    if let Some(first) = history.asked.first().cloned() {
        history.asked.push(first);
    }
    history.events.shuffle(rng);
    history.refunds.shuffle(rng);
    history.plans.shuffle(rng);
    history.asked.shuffle(rng);
    history
}

pub fn events(rows: &[&Event]) -> RecordBatch {
    batch(vec![
        ("customer_id", texts(&rows.iter().map(|e| e.customer.as_deref()).collect::<Vec<_>>())),
        ("event_time", moments(&rows.iter().map(|e| e.time).collect::<Vec<_>>())),
        ("amount", floats(&rows.iter().map(|e| e.amount).collect::<Vec<_>>())),
        ("level", floats(&rows.iter().map(|e| e.level).collect::<Vec<_>>())),
        ("quantity", ints(&rows.iter().map(|e| e.quantity).collect::<Vec<_>>())),
        ("kind", texts(&rows.iter().map(|e| e.kind.as_deref()).collect::<Vec<_>>())),
        ("order_id", ints(&rows.iter().map(|e| Some(e.order)).collect::<Vec<_>>())),
        ("_load", ints(&rows.iter().map(|e| Some(e.load)).collect::<Vec<_>>())),
        ("_row", ints(&rows.iter().map(|e| Some(e.row)).collect::<Vec<_>>())),
        ("_loaded_at", moments(&rows.iter().map(|e| Some(e.loaded_at())).collect::<Vec<_>>())),
    ])
}

pub fn refunds(rows: &[&Refund]) -> RecordBatch {
    batch(vec![
        ("order_id", ints(&rows.iter().map(|r| Some(r.order)).collect::<Vec<_>>())),
        ("buyer", texts(&rows.iter().map(|r| Some(r.customer.as_str())).collect::<Vec<_>>())),
        ("refunded_at", moments(&rows.iter().map(|r| Some(r.time)).collect::<Vec<_>>())),
        ("back", floats(&rows.iter().map(|r| Some(r.back)).collect::<Vec<_>>())),
        ("_load", ints(&rows.iter().map(|r| Some(r.load)).collect::<Vec<_>>())),
        ("_row", ints(&rows.iter().map(|r| Some(r.row)).collect::<Vec<_>>())),
        ("_loaded_at", moments(&rows.iter().map(|r| Some(r.loaded_at())).collect::<Vec<_>>())),
    ])
}

pub fn plans(rows: &[&Plan]) -> RecordBatch {
    batch(vec![
        ("customer_id", texts(&rows.iter().map(|p| Some(p.customer.as_str())).collect::<Vec<_>>())),
        ("plan", texts(&rows.iter().map(|p| p.plan.as_deref()).collect::<Vec<_>>())),
        ("fee", floats(&rows.iter().map(|p| Some(p.fee)).collect::<Vec<_>>())),
        ("_load", ints(&rows.iter().map(|p| Some(p.load)).collect::<Vec<_>>())),
        ("_row", ints(&rows.iter().map(|p| Some(p.row)).collect::<Vec<_>>())),
        ("_loaded_at", moments(&rows.iter().map(|p| Some(p.loaded_at)).collect::<Vec<_>>())),
    ])
}
