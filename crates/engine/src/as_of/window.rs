//! How far back a view looks, and which columns of a table are the entity: what must be kept to answer online. Pure.

use super::view::{Form, Joined, REQUEST, View, as_column, is_as_of};
use gristmill_kernel::Span;
use gristmill_kernel::port::KeptRows;
use gristmill_kernel::view::Ties;
use sqlparser::ast::{BinaryOperator, Expr, Function, Value, Visit, Visitor};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// The rows to keep per table of FROM; a table named twice is kept once, with what both need.
pub fn kept(view: &View, ties: Ties, is_aggregate: &dyn Fn(&str) -> bool) -> Vec<KeptRows> {
    let Form::Joined { tables, filters } = &view.form else { return Vec::new() };
    let mut kept: Vec<KeptRows> = Vec::new();
    for table in tables.iter().filter(|t| t.table != REQUEST) {
        let window = table.shape.time.as_ref().and_then(|time| {
            let conditions = if table.left { &table.on } else { filters };
            let by_filter = conditions.iter().chain(&table.on).filter_map(|c| reach(c, &table.alias, time)).min();
            by_filter.or_else(|| if tables.len() == 1 { reach_of_aggregates(view, &table.alias, time, is_aggregate) } else { None })
        });
        // Which load of a snapshot counts is known from all its rows only: an entity may be gone from the newest.
        let key = if table.shape.time.is_some() { key_of(table, tables, filters, view) } else { Vec::new() };
        let this = KeptRows { table: table.table.clone(), key, time: table.shape.time.clone(), window, ties, newest: false };
        match kept.iter_mut().find(|k| k.table == this.table) {
            None => kept.push(this),
            Some(other) => {
                other.window = other.window.zip(this.window).map(|(a, b)| a.max(b));
                if other.key != this.key {
                    other.key.clear();
                }
            }
        }
    }
    kept
}

/// The table's columns that must equal the entity's, in its order; empty if not all do.
fn key_of(table: &Joined, tables: &[Joined], filters: &[Expr], view: &View) -> Vec<String> {
    let mut key = Vec::new();
    for column in &view.entity {
        let Some(start) = as_column(&column.expr) else { return Vec::new() };
        let mut same: BTreeSet<(String, String)> = BTreeSet::from([(start.0.to_string(), start.1.to_string())]);
        // Equalities hold both ways, but those in ON of a left join bind its right side only.
        loop {
            let before = same.len();
            let equalities = |conditions: &[Expr]| conditions.iter().filter_map(equality).collect::<Vec<_>>();
            for (a, b) in equalities(filters) {
                spread(&mut same, &a, &b);
                spread(&mut same, &b, &a);
            }
            for joined in tables {
                for (a, b) in equalities(&joined.on) {
                    if !joined.left || b.0 == joined.alias {
                        spread(&mut same, &a, &b);
                    }
                    if !joined.left || a.0 == joined.alias {
                        spread(&mut same, &b, &a);
                    }
                }
            }
            if same.len() == before {
                break;
            }
        }
        match same.iter().find(|(alias, _)| *alias == table.alias) {
            Some((_, name)) => key.push(name.clone()),
            None => return Vec::new(),
        }
    }
    key
}

type Named = (String, String);

fn spread(same: &mut BTreeSet<Named>, from: &Named, to: &Named) {
    if same.contains(from) {
        same.insert(to.clone());
    }
}

fn equality(expr: &Expr) -> Option<(Named, Named)> {
    let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = expr else { return None };
    let named = |e: &Expr| as_column(e).map(|(t, c)| (t.to_string(), c.to_string()));
    Some((named(left)?, named(right)?))
}

/// `time > as_of() - interval '...'` in any of its spellings: how far back it reaches.
fn reach(condition: &Expr, alias: &str, time: &str) -> Option<Span> {
    let is_time = |e: &Expr| as_column(e) == Some((alias, time));
    match condition {
        Expr::Nested(inner) => reach(inner, alias, time),
        Expr::BinaryOp { left, op, right } => match op {
            BinaryOperator::Gt | BinaryOperator::GtEq if is_time(left) => before_as_of(right),
            BinaryOperator::Lt | BinaryOperator::LtEq if is_time(right) => before_as_of(left),
            _ => None,
        },
        Expr::Between { expr, negated: false, low, .. } if is_time(expr) => before_as_of(low),
        _ => None,
    }
}

fn before_as_of(expr: &Expr) -> Option<Span> {
    match expr {
        Expr::Nested(inner) => before_as_of(inner),
        Expr::BinaryOp { left, op: BinaryOperator::Minus, right } if is_as_of(left) => interval(right),
        other if is_as_of(other) => Some(Span::default()),
        _ => None,
    }
}

/// With no window in WHERE, the widest of the aggregates' filters, if every aggregate has one.
fn reach_of_aggregates(view: &View, alias: &str, time: &str, is_aggregate: &dyn Fn(&str) -> bool) -> Option<Span> {
    struct Collect<'a> {
        alias: &'a str,
        time: &'a str,
        is_aggregate: &'a dyn Fn(&str) -> bool,
        widest: Option<Span>,
        unbounded: bool,
    }
    impl Visitor for Collect<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Function(Function { name, filter, over: None, .. }) = expr
                && (self.is_aggregate)(&name.to_string().to_lowercase())
            {
                let mut parts = Vec::new();
                if let Some(filter) = filter {
                    super::view::conjuncts(filter, &mut parts);
                }
                match parts.iter().filter_map(|p| reach(p, self.alias, self.time)).min() {
                    Some(span) => self.widest = self.widest.max(Some(span)),
                    None => self.unbounded = true,
                }
            }
            ControlFlow::Continue(())
        }
    }
    let mut collect = Collect { alias, time, is_aggregate, widest: None, unbounded: !view.aggregates };
    for column in &view.features {
        let _ = column.expr.visit(&mut collect);
    }
    collect.widest.filter(|_| !collect.unbounded)
}

/// An interval's length, never too short: a month counts 31 days, a year 366.
fn interval(expr: &Expr) -> Option<Span> {
    let Expr::Interval(interval) = expr else { return None };
    let Expr::Value(value) = interval.value.as_ref() else { return None };
    let mut text = match &value.value {
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
        Value::Number(number, _) => number.to_string(),
        _ => return None,
    };
    if let Some(unit) = &interval.leading_field {
        text = format!("{text} {unit}");
    }
    let text = text.to_lowercase();
    let mut words = text.split_whitespace();
    let mut micros = 0f64;
    while let Some(number) = words.next() {
        let split = number.find(|c: char| c.is_ascii_alphabetic());
        let (number, unit) = match split {
            Some(at) => number.split_at(at),
            None => (number, words.next()?),
        };
        let number: f64 = number.parse().ok().filter(|n| *n >= 0.0)?;
        let unit = match unit.trim_end_matches('s') {
            "microsecond" | "u" => 1.0,
            "millisecond" => 1e3,
            "second" | "sec" | "" => 1e6,
            "minute" | "min" | "m" => 60e6,
            "hour" | "h" => 3_600e6,
            "day" | "d" => 86_400e6,
            "week" | "w" => 7.0 * 86_400e6,
            "month" | "mon" => 31.0 * 86_400e6,
            "year" | "y" => 366.0 * 86_400e6,
            _ => return None,
        };
        micros += number * unit;
    }
    (micros < 9e18).then(|| Span::from_micros(micros.ceil() as i64))
}
