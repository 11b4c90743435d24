//! The answers by brute force, in plain Rust that knows nothing of the engine.
//!
//! Sums run in fixed point: every value of a history is a multiple of 2^-90 below 2^34, so an i128 holds sums exactly, and turning
//! it into a float rounds once.

use super::history::{DAY, Event, History, Plan, Refund};
use gristmill_kernel::view::Ties;

/// One cell of an answer, comparable to the bit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    Null,
    Int(i64),
    Float(u64),
    Text(String),
}

pub fn float(value: Option<f64>) -> Cell {
    value.map_or(Cell::Null, |v| Cell::Float(v.to_bits()))
}
pub fn int(value: Option<i64>) -> Cell {
    value.map_or(Cell::Null, Cell::Int)
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
    pub history: &'a History,
    pub ties: Ties,
    pub knows: Knows,
}

impl Oracle<'_> {
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
    fn events(&self, customer: &str, moment: i64) -> Vec<&Event> {
        let mut seen: Vec<&Event> = Vec::new();
        for event in &self.history.events {
            let known = self.knows(event.load, event.loaded_at());
            if known && event.customer.as_deref() == Some(customer) && event.time.is_some_and(|t| self.sees(t, moment)) {
                seen.push(event);
            }
        }
        seen.sort_by_key(|e| (e.time, e.load, e.row));
        seen
    }

    fn plans(&self, moment: i64) -> Vec<&Plan> {
        let loads = || self.history.plans.iter().filter(|p| self.knows(p.load, p.loaded_at)).map(|p| (p.loaded_at, p.load));
        let load = loads().filter(|(at, _)| *at <= moment).max().or_else(|| loads().min());
        self.history.plans.iter().filter(|p| Some((p.loaded_at, p.load)) == load).collect()
    }

    fn refunds(&self, event: &Event, moment: i64) -> Vec<&Refund> {
        let mine = |r: &&Refund| r.order == event.order && Some(&r.customer) == event.customer.as_ref() && self.sees(r.time, moment);
        self.history.refunds.iter().filter(mine).filter(|r| self.knows(r.load, r.loaded_at())).collect()
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
