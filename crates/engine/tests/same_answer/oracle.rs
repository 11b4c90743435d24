//! The answers by brute force, in plain Rust that knows nothing of the engine.
//!
//! Sums run in fixed point: every value of a history is a multiple of 2^-90 below 2^34, so an i128 holds sums exactly, and turning
//! it into a float rounds once.

use super::history::{DAY, Event, History, Plan, Refund};
use gristmill_kernel::view::Ties;
use std::collections::HashMap;

/// One cell of an answer, comparable to the bit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    Null,
    Int(i64),
    Float(u64),
    Text(String),
    Bool(bool),
}

pub fn float(value: Option<f64>) -> Cell {
    value.map_or(Cell::Null, |v| Cell::Float(v.to_bits()))
}
pub fn int(value: Option<i64>) -> Cell {
    value.map_or(Cell::Null, Cell::Int)
}
pub fn truth(value: Option<bool>) -> Cell {
    value.map_or(Cell::Null, Cell::Bool)
}
pub fn text(value: Option<&str>) -> Cell {
    value.map_or(Cell::Null, |v| Cell::Text(v.to_string()))
}

/// What an asked row knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knows {
    /// Every row.
    All,
    /// Rows that were available not after a moment.
    Until(i64),
    /// Rows of loads up to a number.
    Loads(i64),
}

/// Answers one view for one asked row.
pub struct Oracle<'a> {
    history: &'a History,
    ties: Ties,
    /// The events of each customer.
    events: HashMap<&'a str, Vec<&'a Event>>,
    refunds: HashMap<i64, Vec<&'a Refund>>,
    /// Of the asked row; everything, unless it is said.
    pub knows: Knows,
}

impl<'a> Oracle<'a> {
    pub fn new(history: &'a History, ties: Ties) -> Oracle<'a> {
        let mut events: HashMap<&str, Vec<&Event>> = HashMap::new();
        for event in &history.events {
            if let Some(customer) = &event.customer {
                events.entry(customer).or_default().push(event);
            }
        }
        let mut refunds: HashMap<i64, Vec<&Refund>> = HashMap::new();
        history.refunds.iter().for_each(|refund| refunds.entry(refund.order).or_default().push(refund));
        Oracle { history, ties, events, refunds, knows: Knows::All }
    }

    fn sees(&self, time: i64, moment: i64) -> bool {
        if self.ties == Ties::Include { time <= moment } else { time < moment }
    }

    fn knows(&self, load: i64, loaded_at: i64) -> bool {
        match self.knows {
            Knows::All => true,
            Knows::Until(moment) => loaded_at <= moment,
            Knows::Loads(last) => load <= last,
        }
    }

    /// Events of the customer that the moment sees, by (time, load, row).
    fn events(&self, customer: &str, moment: i64) -> Vec<&'a Event> {
        let mut seen: Vec<&Event> = self.events.get(customer).into_iter().flatten().copied().collect();
        seen.retain(|event| self.knows(event.load, event.loaded_at()) && event.time.is_some_and(|t| self.sees(t, moment)));
        seen.sort_by_key(|e| (e.time, e.load, e.row));
        seen
    }

    fn plans(&self, moment: i64) -> Vec<&Plan> {
        let loads = || self.history.plans.iter().filter(|p| self.knows(p.load, p.loaded_at)).map(|p| (p.loaded_at, p.load));
        let load = loads().filter(|(at, _)| *at <= moment).max().or_else(|| loads().min());
        self.history.plans.iter().filter(|p| Some((p.loaded_at, p.load)) == load).collect()
    }

    fn refunds(&self, event: &Event, moment: i64) -> Vec<&'a Refund> {
        let mine = |r: &&Refund| Some(&r.customer) == event.customer.as_ref() && self.sees(r.time, moment);
        let known = |r: &&Refund| self.knows(r.load, r.loaded_at());
        self.refunds.get(&event.order).into_iter().flatten().copied().filter(mine).filter(known).collect()
    }

    pub fn activity(&self, customer: &str, moment: i64) -> Vec<Cell> {
        let seen: Vec<&Event> = self.events(customer, moment).into_iter().filter(|e| e.time > Some(moment - 10 * DAY)).collect();
        let amounts: Vec<f64> = seen.iter().filter_map(|e| e.amount).collect();
        let levels: Vec<f64> = seen.iter().filter_map(|e| e.level).collect();
        let recent = seen.iter().filter(|e| e.kind.as_deref() == Some("a") && e.time >= Some(moment - 7 * DAY));
        let mut kinds: Vec<&str> = seen.iter().filter_map(|e| e.kind.as_deref()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let quantities: Vec<i64> = seen.iter().filter_map(|e| e.quantity).collect();
        vec![
            int(Some(seen.len() as i64)),
            int(Some(recent.count() as i64)),
            float(sum(&amounts)),
            float(sum(&amounts).map(|s| s / amounts.len() as f64)),
            float(amounts.iter().copied().min_by(f64::total_cmp)),
            float(amounts.iter().copied().max_by(f64::total_cmp)),
            int((!quantities.is_empty()).then(|| quantities.iter().sum())),
            int(Some(kinds.len() as i64)),
            float(variance(&levels, 1)),
            float(variance(&levels, 1).map(f64::sqrt)),
            float(variance(&levels, 0)),
            float(sum(&amounts.iter().map(|a| a * 2.0).collect::<Vec<_>>()).map(|s| s / (seen.len() as f64 + 1.0))),
        ]
    }

    pub fn whole(&self, customer: &str, moment: i64) -> Vec<Cell> {
        let seen = self.events(customer, moment);
        let last_time = seen.last().and_then(|e| e.time);
        let mut by_quantity = seen.clone();
        // SQL puts NULL last.
        by_quantity.sort_by_key(|e| (e.quantity.is_none(), e.quantity, e.time, e.load, e.row));
        let week: Vec<f64> = seen.iter().filter(|e| e.time > Some(moment - 7 * DAY)).filter_map(|e| e.amount).collect();
        vec![
            int(Some(seen.len() as i64)),
            int(last_time.map(|t| moment - t)),
            float(seen.last().and_then(|e| e.amount)),
            text(seen.first().and_then(|e| e.kind.as_deref())),
            text(by_quantity.last().and_then(|e| e.kind.as_deref())),
            float(sum(&week)),
            text(
                (!seen.is_empty())
                    .then(|| seen.iter().filter_map(|e| e.kind.clone()).collect::<Vec<_>>().join(","))
                    .filter(|_| seen.iter().any(|e| e.kind.is_some()))
                    .as_deref(),
            ),
        ]
    }

    pub fn joined(&self, customer: &str, moment: i64) -> Vec<Cell> {
        let seen: Vec<&Event> = self.events(customer, moment).into_iter().filter(|e| e.time > Some(moment - 10 * DAY)).collect();
        let mut rows = 0;
        let mut backs = Vec::new();
        let mut ratios = Vec::new();
        for event in seen {
            let refunds = self.refunds(event, moment);
            rows += refunds.len().max(1) as i64;
            for refund in refunds {
                backs.push(refund.back);
                ratios.extend(event.amount.map(|a| a - refund.back));
            }
        }
        vec![
            int(Some(rows)),
            int(Some(backs.len() as i64)),
            float(Some((backs.len() as f64 + 1.0) / (rows as f64 + 100.0))),
            float(sum(&backs)),
            float(ratios.iter().copied().max_by(f64::total_cmp)),
        ]
    }

    pub fn profile(&self, customer: &str, moment: i64) -> Vec<Cell> {
        match self.plans(moment).into_iter().find(|p| p.customer == customer) {
            Some(plan) => vec![text(plan.plan.as_deref()), float(Some(plan.fee)), int(Some(moment - 1))],
            None => vec![Cell::Null; 3],
        }
    }

    pub fn latest(&self, customer: &str, moment: i64) -> Vec<Cell> {
        match self.events(customer, moment).into_iter().rfind(|e| e.quantity != Some(0)) {
            Some(event) => vec![float(event.amount), text(event.kind.as_deref()), int(event.time.map(|t| moment - t))],
            None => vec![Cell::Null; 3],
        }
    }

    /// Events weighted by the plan of the moment.
    pub fn weighted(&self, customer: &str, moment: i64) -> Vec<Cell> {
        let plans: Vec<&Plan> = self.plans(moment).into_iter().filter(|p| p.customer == customer).collect();
        let mut rows = 0;
        let mut values = Vec::new();
        for event in self.events(customer, moment) {
            for plan in &plans {
                rows += 1;
                values.extend(event.quantity.map(|q| q as f64 + plan.fee));
            }
        }
        vec![int(Some(rows)), float(sum(&values))]
    }
}

impl Oracle<'_> {
    pub fn edges(&self, customer: &str, moment: i64) -> Vec<Cell> {
        let seen = self.events(customer, moment);
        let count = |wanted: &dyn Fn(i64) -> bool| int(Some(seen.iter().filter(|e| wanted(moment - e.time.unwrap())).count() as i64));
        let amounts: Vec<f64> = seen.iter().filter_map(|e| e.amount).collect();
        vec![
            count(&|age| age <= 10 * DAY && age > 3 * DAY),
            count(&|age| (3 * DAY..10 * DAY).contains(&age)),
            count(&|age| (3 * DAY..=7 * DAY).contains(&age)),
            count(&|age| age > 3 * DAY),
            count(&|age| age == 7 * DAY),
            float(sum(&amounts)),
            count(&|age| age > 0),
        ]
    }

    pub fn rewritten(&self, customer: &str, moment: i64) -> Vec<Cell> {
        let seen = self.events(customer, moment).into_iter().filter(|e| e.time > Some(moment - 10 * DAY) && e.quantity != Some(7));
        let seen: Vec<&Event> = seen.collect();
        let amounts: Vec<f64> = seen.iter().map(|e| e.amount.unwrap_or(0.5)).collect();
        vec![
            float(sum(&amounts)),
            int(Some(seen.iter().filter(|e| e.kind.as_deref() != Some("b")).count() as i64)),
            int(seen.last().and_then(|e| e.quantity).filter(|q| *q != 0).or(Some(-1))),
        ]
    }

    pub fn shares(&self, customer: &str, moment: i64) -> Vec<Cell> {
        let seen: Vec<&Event> = self.events(customer, moment).into_iter().filter(|e| e.time >= Some(moment - 10 * DAY)).collect();
        let of = |value: fn(&Event) -> Option<f64>| seen.iter().filter_map(|e| value(e)).collect::<Vec<f64>>();
        let (amounts, levels, quantities) = (of(|e| e.amount), of(|e| e.level), of(|e| e.quantity.map(|q| q as f64)));
        let recent = seen.iter().filter(|e| e.time > Some(moment - 3 * DAY)).filter_map(|e| e.level).collect();
        let mut kinds: Vec<&str> = seen.iter().filter_map(|e| e.kind.as_deref()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let mut different: Vec<u64> = amounts.iter().map(|a| a.to_bits()).collect();
        different.sort_unstable();
        different.dedup();
        vec![
            float(quantile(amounts.clone(), 0.5)),
            float(quantile(quantities.clone(), 0.5)),
            float(quantile(amounts.clone(), 0.9)),
            float(quantile(amounts.clone(), 0.25)),
            float(quantile(levels, 0.7)),
            float(quantile(recent, 0.1)),
            int(Some(kinds.len() as i64)),
            int(Some(different.len() as i64)),
            text(kinds.first().copied()),
            truth((!quantities.is_empty()).then(|| quantities.iter().all(|q| *q > 0.0))),
            truth((!amounts.is_empty()).then(|| amounts.iter().any(|a| *a < -1.0))),
        ]
    }

    pub fn shares_joined(&self, customer: &str, moment: i64) -> Vec<Cell> {
        let seen: Vec<&Event> = self.events(customer, moment).into_iter().filter(|e| e.time >= Some(moment - 10 * DAY)).collect();
        let mut kinds: Vec<&str> = seen.iter().filter_map(|e| e.kind.as_deref()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let mut quantities: Vec<i64> = seen.iter().filter_map(|e| e.quantity).collect();
        quantities.sort_unstable();
        quantities.dedup();
        let mut cells = self.shares(customer, moment);
        cells.push(text((!kinds.is_empty()).then(|| kinds.join(",")).as_deref()));
        cells.push(float(quantile(quantities.into_iter().map(|q| q as f64).collect(), 0.5)));
        cells
    }

    pub fn plain(&self, customer: &str, moment: i64) -> Vec<Cell> {
        let seen = self.events(customer, moment);
        let kinds: Vec<&str> = seen.iter().filter_map(|e| e.kind.as_deref()).collect();
        vec![
            float(quantile(seen.iter().filter_map(|e| e.amount).collect(), 0.5)),
            float(seen.last().and_then(|e| e.amount)),
            text(seen.first().and_then(|e| e.kind.as_deref())),
            text((!kinds.is_empty()).then(|| kinds.join(",")).as_deref()),
        ]
    }

    /// In an order of their own, rows that are equal are in the order of time, load and row.
    pub fn by(&self, customer: &str, moment: i64) -> Vec<Cell> {
        let window = moment - 10 * DAY..=moment - DAY;
        let seen: Vec<&Event> = self.events(customer, moment).into_iter().filter(|e| window.contains(&e.time.unwrap())).collect();
        let mut by_quantity = seen.clone();
        by_quantity.sort_by_key(|e| (e.quantity.is_none(), e.quantity));
        let mut by_amount = seen.clone();
        by_amount.sort_by(|a, b| match (a.amount, b.amount) {
            (Some(a), Some(b)) => b.total_cmp(&a),
            (a, b) => a.is_none().cmp(&b.is_none()),
        });
        let mut by_kind = seen.clone();
        by_kind.sort_by_key(|e| e.kind.clone());
        let mut down = seen.clone();
        down.sort_by_key(|e| (e.kind.is_some(), std::cmp::Reverse(e.kind.clone())));
        vec![
            text(by_quantity.last().and_then(|e| e.kind.as_deref())),
            text(by_amount.first().and_then(|e| e.kind.as_deref())),
            float(seen.iter().rev().find_map(|e| e.amount)),
            int(down.first().map(|e| e.order)),
            int(by_kind.last().map(|e| e.order)),
        ]
    }

    pub fn by_joined(&self, customer: &str, moment: i64) -> Vec<Cell> {
        let window = moment - 10 * DAY..=moment - DAY;
        let mut seen: Vec<&Event> = self.events(customer, moment).into_iter().filter(|e| window.contains(&e.time.unwrap())).collect();
        // Downwards, NULL comes first.
        seen.sort_by_key(|e| (e.quantity.is_some(), std::cmp::Reverse(e.quantity)));
        let kinds: Vec<&str> = seen.iter().filter_map(|e| e.kind.as_deref()).collect();
        let mut cells = self.by(customer, moment);
        cells.push(text((!kinds.is_empty()).then(|| kinds.join("+")).as_deref()));
        cells
    }

    /// The amounts that `activity` adds up, in the order of time: for whoever would add them up in another way.
    pub fn amounts(&self, customer: &str, moment: i64) -> Vec<f64> {
        self.events(customer, moment).into_iter().filter(|e| e.time > Some(moment - 10 * DAY)).filter_map(|e| e.amount).collect()
    }
    /// Its levels.
    pub fn levels(&self, customer: &str, moment: i64) -> Vec<f64> {
        self.events(customer, moment).into_iter().filter(|e| e.time > Some(moment - 10 * DAY)).filter_map(|e| e.level).collect()
    }
}

/// The value above a share of the values: in proportion between two of them, half way their mean.
fn quantile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let place = share * (values.len() as f64 - 1.0);
    let (low, high) = (*values.get(place.floor() as usize)?, *values.get(place.ceil() as usize)?);
    let part = place - place.floor();
    Some(match part {
        0.0 => low,
        _ if low.to_bits() == high.to_bits() => low,
        0.5 => (low + high) / 2.0,
        _ => (low + (high - low) * part).min(high),
    })
}

const POINT: i32 = 90;

fn fixed(value: f64) -> i128 {
    let bits = value.abs().to_bits();
    if bits == 0 {
        return 0;
    }
    let exponent = ((bits >> 52) as i32) - 1075;
    let mantissa = i128::from((bits & ((1 << 52) - 1)) | (1 << 52));
    let shift = exponent + POINT;
    assert!((0..=74).contains(&shift) || mantissa.trailing_zeros() as i32 >= -shift, "{value} is outside of the oracle's range");
    let whole = if shift >= 0 { mantissa << shift } else { mantissa >> -shift };
    if value < 0.0 { -whole } else { whole }
}

pub fn sum(values: &[f64]) -> Option<f64> {
    let total: i128 = values.iter().map(|v| fixed(*v)).sum();
    (!values.is_empty()).then(|| total as f64 * 2f64.powi(-POINT))
}

/// Levels are multiples of 1/256, so the variance is a fraction of integers, rounded once here.
pub fn variance(values: &[f64], less: usize) -> Option<f64> {
    let count = values.len();
    if count <= less {
        return None;
    }
    let whole: Vec<i128> = values.iter().map(|v| (v * 256.0) as i128).collect();
    let (sum, squares): (i128, i128) = (whole.iter().sum(), whole.iter().map(|v| v * v).sum());
    let spread = count as i128 * squares - sum * sum;
    Some(fraction(spread as u128, (count * (count - less)) as u128) / 65_536.0)
}

/// `a / b`, rounded to nearest, ties to even.
fn fraction(a: u128, b: u128) -> f64 {
    if a == 0 {
        return 0.0;
    }
    let shift = a.leading_zeros();
    let (quotient, rest) = ((a << shift) / b, (a << shift) % b);
    // A bit below all others stands for what was cut off.
    let sticky = (quotient << 1) | u128::from(rest > 0);
    sticky as f64 * 2f64.powi(-(shift as i32) - 1)
}
