//! From a view to what the sliding operator needs: columns per row, windows, calls, and the expressions around them. Pure.
//!
//! Recognised is a view over one table with an event time whose conditions on that time are moments at a fixed distance from `as_of()`, and
//! whose aggregates can be kept while a window slides. A lookup is the same with one call per column: the last one. Anything else is
//! `None`, and is joined instead. What is not recognised costs time, never an answer: both ways are held against the same oracle.

use super::super::known::KnownBy;
use super::super::rewrite::{quoted, table_name};
use super::super::view::{Form, Joined, REQUEST, View, aliases, as_column, column_of, conjuncts, is_as_of};
use super::calls;
use gristmill_kernel::table::{LOAD, ROW};
use gristmill_kernel::view::Ties;
use gristmill_slide::{Call, What, Window};
use sqlparser::ast::{BinaryOperator, Expr, Function, Value, Visit, VisitMut, Visitor, VisitorMut};
use std::ops::ControlFlow;

/// The asked rows, as the expressions around the calls name them.
pub const ASKED: &str = "__a";

/// What the operator needs.
#[derive(Debug)]
pub struct Recipe {
    /// A query over the table: `__time`, `__load`, `__row`, then the entity, the arguments and the filters, then since when the row is known if
    /// that is asked, for every row that may count.
    pub rows: String,
    /// How many columns of each there are.
    pub entity: usize,
    /// Arguments of calls.
    pub arguments: usize,
    /// Filters of calls.
    pub filters: usize,
    /// A query over the table whose columns have the types of the calls.
    pub types: String,
    /// The distinct windows.
    pub windows: Vec<Window>,
    /// The calls, in the order in which `answer` numbers them.
    pub calls: Vec<Call>,
    /// A query over the asked rows with a column `__gN` per call: the features.
    pub answer: String,
    /// For a lookup of whatever the newest row before the moment is: the call that each feature is, where it is nothing else.
    pub newest: Option<Vec<Option<usize>>>,
}

/// Reads a view.
pub fn recognise(view: &View, ties: Ties, known: Option<KnownBy>, is_aggregate: &dyn Fn(&str) -> bool) -> Option<Recipe> {
    let Form::Joined { tables, filters } = &view.form else { return None };
    let [table] = tables.as_slice() else { return None };
    let time = table.shape.time.as_deref().filter(|_| table.table != REQUEST)?;
    let mut reader = Reader {
        view,
        table,
        time,
        is_aggregate,
        base: Window { from: None, to: (0, ties == Ties::Include) },
        arguments: Vec::new(),
        filters: Vec::new(),
        types: Vec::new(),
        windows: Vec::new(),
        calls: Vec::new(),
        plain: Vec::new(),
        understood: true,
    };
    let (window, conditions) = reader.conditions(filters, reader.base)?;
    reader.base = window;
    if view.entity.iter().any(|column| mentions_as_of(&column.expr)) {
        return None;
    }
    let answers = if view.aggregates { reader.aggregates() } else { reader.lookup() }?;
    let Reader { arguments, filters, types, windows, calls, plain, base, .. } = reader;
    let newest = !view.aggregates && conditions.is_empty() && known.is_none() && base.to == (0, ties == Ties::Include);
    if calls.is_empty() {
        // Groups that ask nothing of their rows have nothing that could slide.
        return None;
    }

    let mut columns = vec![
        format!("{} AS \"__time\"", column_of(&table.alias, time)),
        format!("{} AS \"__load\"", column_of(&table.alias, LOAD)),
        format!("{} AS \"__row\"", column_of(&table.alias, ROW)),
    ];
    columns.extend(view.entity.iter().enumerate().map(|(i, c)| format!("{} AS \"__e{i}\"", c.expr)));
    columns.extend(arguments.iter().enumerate().map(|(i, a)| format!("{a} AS \"__x{i}\"")));
    columns.extend(filters.iter().enumerate().map(|(i, f)| format!("{f} AS \"__f{i}\"")));
    columns.extend(known.map(|by| format!("{} AS \"__since\"", by.since(&table.alias))));
    let from = format!("FROM \"{}\" AS {}", table_name(0), quoted(&table.alias));
    let mut wheres: Vec<String> = conditions.iter().map(|c| format!("({c})")).collect();
    wheres.push(format!("({} IS NOT NULL)", column_of(&table.alias, time)));
    Some(Recipe {
        rows: format!("SELECT {} {from} WHERE {}", columns.join(", "), wheres.join(" AND ")),
        entity: view.entity.len(),
        arguments: arguments.len(),
        filters: filters.len(),
        types: format!("SELECT {} {from}", types.join(", ")),
        windows,
        calls,
        answer: format!("SELECT {} FROM \"{}\" AS \"{ASKED}\"", answers.join(", "), super::super::rewrite::ASKED),
        newest: newest.then_some(plain),
    })
}

struct Reader<'a> {
    view: &'a View,
    table: &'a Joined,
    time: &'a str,
    is_aggregate: &'a dyn Fn(&str) -> bool,
    /// The window of WHERE.
    base: Window,
    arguments: Vec<String>,
    filters: Vec<String>,
    /// The calls as written, without their filters: their types.
    types: Vec<String>,
    windows: Vec<Window>,
    calls: Vec<Call>,
    /// Of a lookup: the call that each feature is, where it is nothing else.
    plain: Vec<Option<usize>>,
    /// Whether everything so far was.
    understood: bool,
}

impl Reader<'_> {
    /// Splits conditions into a window and what is asked of each row alone.
    fn conditions<'e>(&self, conditions: &'e [Expr], within: Window) -> Option<(Window, Vec<&'e Expr>)> {
        let (mut window, mut plain) = (within, Vec::new());
        for condition in conditions {
            if !mentions_as_of(condition) {
                plain.push(condition);
            } else {
                self.narrow(condition, &mut window)?;
            }
        }
        Some((window, plain))
    }

    /// A condition that compares the time with a moment at a fixed distance from `as_of()`.
    fn narrow(&self, condition: &Expr, window: &mut Window) -> Option<()> {
        let is_time = |e: &Expr| as_column(e) == Some((self.table.alias.as_str(), self.time));
        match condition {
            Expr::Nested(inner) => self.narrow(inner, window),
            Expr::Between { expr, negated: false, low, high } if is_time(expr) => {
                window.begin(distance(low)?, true);
                window.end(distance(high)?, true);
                Some(())
            }
            Expr::BinaryOp { left, op, right } => {
                let (edge, op) = if is_time(left) {
                    (distance(right)?, op.clone())
                } else if is_time(right) {
                    (distance(left)?, mirrored(op)?)
                } else {
                    return None;
                };
                match op {
                    BinaryOperator::Gt => window.begin(edge, false),
                    BinaryOperator::GtEq => window.begin(edge, true),
                    BinaryOperator::Lt => window.end(edge, false),
                    BinaryOperator::LtEq => window.end(edge, true),
                    BinaryOperator::Eq => {
                        window.begin(edge, true);
                        window.end(edge, true);
                    }
                    _ => return None,
                }
                Some(())
            }
            _ => None,
        }
    }

    /// The features of an aggregating view.
    fn aggregates(&mut self) -> Option<Vec<String>> {
        let view = self.view;
        let mut answers = Vec::new();
        for column in &view.features {
            let mut expr = column.expr.clone();
            let _ = VisitMut::visit(&mut expr, self);
            // What is left of the table outside of an aggregate is no column of the entity, so not of the answer.
            if !self.understood || aliases(&expr).iter().any(|alias| alias != ASKED) {
                return None;
            }
            answers.push(format!("{expr} AS {}", quoted(&column.name)));
        }
        Some(answers)
    }

    /// The features of a lookup: each column is the last row's, and without a row everything is NULL.
    fn lookup(&mut self) -> Option<Vec<String>> {
        let view = self.view;
        let found = self.last("TRUE".to_owned());
        let mut answers = Vec::new();
        for column in &view.features {
            let mut expr = column.expr.clone();
            if VisitMut::visit(&mut expr, &mut Columns(self)).is_break() {
                return None;
            }
            self.plain.push(as_column(&expr).and_then(|(table, name)| name.strip_prefix("__g").filter(|_| table == ASKED)?.parse().ok()));
            answers.push(format!("CASE WHEN {found} IS NOT NULL THEN {expr} END AS {}", quoted(&column.name)));
        }
        Some(answers)
    }

    fn last(&mut self, argument: String) -> Expr {
        let call = Call {
            what: What::Last,
            argument: Some(number(&mut self.arguments, argument.clone())),
            by: None,
            filter: None,
            window: self.window(self.base),
        };
        self.call(call, format!("last_value({argument})"))
    }

    fn call(&mut self, call: Call, types: String) -> Expr {
        let at = self.calls.iter().position(|c| *c == call).unwrap_or_else(|| {
            self.calls.push(call);
            self.types.push(format!("{types} AS \"__g{}\"", self.types.len()));
            self.calls.len() - 1
        });
        column_of(ASKED, &format!("__g{at}"))
    }

    fn window(&mut self, window: Window) -> usize {
        self.windows.iter().position(|w| *w == window).unwrap_or_else(|| {
            self.windows.push(window);
            self.windows.len() - 1
        })
    }

    /// An aggregate as a call.
    fn aggregate(&mut self, function: &Function, name: &str) -> Option<Expr> {
        let calls::Written { what, argument, by, only } = calls::read(function, name)?;
        if argument.iter().chain(&by).any(mentions_as_of) {
            return None;
        }
        let mut parts: Vec<Expr> = only.into_iter().collect();
        if let Some(filter) = &function.filter {
            conjuncts(filter, &mut parts);
        }
        let (window, plain) = self.conditions(&parts, self.base)?;
        let filter = (!plain.is_empty()).then(|| plain.iter().map(|c| format!("({c})")).collect::<Vec<_>>().join(" AND "));
        let argument = argument.map(|expr| number(&mut self.arguments, expr.to_string()));
        let by = by.map(|expr| number(&mut self.arguments, expr.to_string()));
        let call = Call { what, argument, by, filter: filter.map(|text| number(&mut self.filters, text)), window: self.window(window) };
        let plain = Function { filter: None, ..function.clone() };
        Some(self.call(call, plain.to_string()))
    }
}

impl VisitorMut for Reader<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if is_as_of(expr) {
            *expr = column_of(ASKED, "__t");
            return ControlFlow::Continue(());
        }
        let text = expr.to_string();
        if let Some(number) = self.view.entity.iter().position(|c| c.expr.to_string() == text) {
            *expr = column_of(ASKED, &format!("__k{number}"));
            return ControlFlow::Continue(());
        }
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let name = function.name.to_string().to_lowercase();
        if function.over.is_some() || !(self.is_aggregate)(&name) {
            return ControlFlow::Continue(());
        }
        match self.aggregate(&function.clone(), &name) {
            Some(call) => {
                *expr = call;
                ControlFlow::Continue(())
            }
            None => {
                self.understood = false;
                ControlFlow::Break(())
            }
        }
    }
}

/// Replaces the columns of a lookup's expression.
struct Columns<'a, 'b>(&'a mut Reader<'b>);

impl VisitorMut for Columns<'_, '_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if is_as_of(expr) {
            *expr = column_of(ASKED, "__t");
        } else if let Some((alias, _)) = as_column(expr) {
            if alias == self.0.table.alias {
                *expr = self.0.last(expr.to_string());
            } else if alias != ASKED {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

fn number(texts: &mut Vec<String>, text: String) -> usize {
    texts.iter().position(|t| *t == text).unwrap_or_else(|| {
        texts.push(text);
        texts.len() - 1
    })
}

fn mirrored(op: &BinaryOperator) -> Option<BinaryOperator> {
    Some(match op {
        BinaryOperator::Gt => BinaryOperator::Lt,
        BinaryOperator::GtEq => BinaryOperator::LtEq,
        BinaryOperator::Lt => BinaryOperator::Gt,
        BinaryOperator::LtEq => BinaryOperator::GtEq,
        BinaryOperator::Eq => BinaryOperator::Eq,
        _ => return None,
    })
}

fn mentions_as_of(expr: &Expr) -> bool {
    struct Find;
    impl Visitor for Find {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if is_as_of(expr) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    expr.visit(&mut Find).is_break()
}

/// `as_of()`, plus or minus intervals of fixed length: how many microseconds after it.
fn distance(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Nested(inner) => distance(inner),
        Expr::BinaryOp { left, op: BinaryOperator::Minus, right } => distance(left)?.checked_sub(length(right)?),
        Expr::BinaryOp { left, op: BinaryOperator::Plus, right } => distance(left)?.checked_add(length(right)?),
        other if is_as_of(other) => Some(0),
        _ => None,
    }
}

/// An interval in microseconds. Months and years have no fixed length; fractions are left to the planner.
fn length(expr: &Expr) -> Option<i64> {
    let interval = match expr {
        Expr::Nested(inner) => return length(inner),
        Expr::Interval(interval) => interval,
        _ => return None,
    };
    let Expr::Value(value) = interval.value.as_ref() else { return None };
    let mut text = match &value.value {
        Value::SingleQuotedString(text) => text.to_lowercase(),
        Value::Number(number, _) => number.to_string(),
        _ => return None,
    };
    if let Some(unit) = &interval.leading_field {
        text = format!("{text} {unit}").to_lowercase();
    }
    let mut words = text.split_whitespace();
    let mut micros = 0i64;
    let mut any = false;
    while let Some(word) = words.next() {
        let count: i64 = word.parse().ok()?;
        let unit: i64 = match words.next()? {
            "microsecond" | "microseconds" => 1,
            "millisecond" | "milliseconds" => 1_000,
            "second" | "seconds" => 1_000_000,
            "minute" | "minutes" => 60_000_000,
            "hour" | "hours" => 3_600_000_000,
            "day" | "days" => 86_400_000_000,
            "week" | "weeks" => 604_800_000_000,
            _ => return None,
        };
        micros = micros.checked_add(count.checked_mul(unit)?)?;
        any = true;
    }
    any.then_some(micros)
}
