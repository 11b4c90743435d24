//! From a view taken apart to one query over what is asked. Pure.
//!
//! The asked rows are a table `__asked` (`__id`, `__t`, `__k0`..., `__load0`...). The inner query joins it with each table of the view, rows before
//! `__t` only, and computes aggregates per `__id`; the outer one starts from `__asked` again, so that every asked row has its answer: aggregates
//! of nothing are NULL and counts 0, and the expressions around them are computed as written.

use super::known::KnownBy;
use super::view::{Form, Joined, REQUEST, View, aliases, as_column, is_as_of};
use gristmill_kernel::table::{LOAD, ROW};
use gristmill_kernel::view::Ties;
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Ident, OrderByExpr,
    OrderByOptions, VisitMut, VisitorMut,
};
use std::ops::ControlFlow;

/// The asked rows' table.
pub const ASKED: &str = "__asked";

/// The name of a base table in the rewritten query.
pub fn table_name(number: usize) -> String {
    format!("__t{number}")
}

/// The asked row's load of a snapshot.
pub fn load_name(number: usize) -> String {
    format!("__load{number}")
}

/// The asked row's knowledge of a table: how far it reaches.
pub fn known_name(number: usize) -> String {
    format!("__known{number}")
}

/// Which rows count.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// Ties at the moment.
    pub ties: Ties,
    /// Whether rows must be known to the asked row, and by what; `None`: all are.
    pub known: Option<KnownBy>,
}

/// The rewritten query: `__id` and the features, in no order.
pub fn rewrite(view: &View, counts: Counts, is_aggregate: &dyn Fn(&str) -> bool) -> String {
    let Form::Joined { tables, filters } = &view.form else { return String::new() };
    let frame = Frame::new(view, tables, filters, counts);
    if view.aggregates { aggregate(view, &frame, is_aggregate) } else { lookup(view, &frame) }
}

/// FROM, WHERE and the names in them.
struct Frame<'a> {
    tables: &'a [Joined],
    /// What columns call the asked row.
    asked: String,
    /// `FROM ... WHERE ...` of the inner query.
    body: String,
}

impl<'a> Frame<'a> {
    fn new(view: &View, tables: &'a [Joined], filters: &[Expr], counts: Counts) -> Frame<'a> {
        let request = tables.iter().find(|t| t.table == REQUEST);
        let asked = request.map_or_else(|| "__a".to_string(), |t| t.alias.clone());
        let all_inner = tables.iter().all(|t| !t.left);
        let mut order: Vec<usize> = (0..tables.len()).filter(|i| tables[*i].table != REQUEST).collect();
        if all_inner {
            // The tables that carry the entity first, so that equality narrows before anything else is joined.
            order.sort_by_key(|i| !view.entity.iter().any(|c| aliases(&c.expr).iter().any(|a| *a == tables[*i].alias)));
        }
        let mut wheres: Vec<String> = filters.iter().map(|f| spell(f, &asked)).collect();
        let mut keys: Vec<(Vec<String>, String)> = Vec::new();
        if request.is_none() {
            for (number, column) in view.entity.iter().enumerate() {
                keys.push((aliases(&column.expr), format!("{} = {asked}.\"__k{number}\"", spell(&column.expr, &asked))));
            }
        }
        let mut body = format!("FROM \"{ASKED}\" AS {}", quoted(&asked));
        for i in order {
            let table = &tables[i];
            let name = quoted(&table.alias);
            let mut on: Vec<String> = Vec::new();
            match &table.shape.time {
                Some(time) => {
                    let before = if counts.ties == Ties::Include { "<=" } else { "<" };
                    on.push(format!("{name}.{} {before} {}.\"__t\"", quoted(time), quoted(&asked)));
                    if let Some(by) = counts.known {
                        // A row that does not say since when was always known, but not to whom knows nothing.
                        let since = format!("coalesce({}, -{})", by.since(&table.alias), i64::MAX);
                        on.push(format!("{since} <= {}.\"{}\"", quoted(&asked), known_name(i)));
                    }
                }
                None => on.push(format!("{name}.\"{LOAD}\" = {}.\"{}\"", quoted(&asked), load_name(i))),
            }
            if !table.left {
                keys.retain(|(used, key)| {
                    let here = used.len() == 1 && used[0] == table.alias;
                    if here {
                        on.push(key.clone());
                    }
                    !here
                });
            }
            let conditions = table.on.iter().map(|c| spell(c, &asked));
            if all_inner {
                wheres.extend(conditions)
            } else {
                on.extend(conditions)
            }
            let join = if table.left { "LEFT" } else { "INNER" };
            body += &format!(" {join} JOIN \"{}\" AS {name} ON {}", table_name(i), on.join(" AND "));
        }
        wheres.extend(keys.into_iter().map(|(_, key)| key));
        if !wheres.is_empty() {
            body += &format!(" WHERE {}", wheres.iter().map(|w| format!("({w})")).collect::<Vec<_>>().join(" AND "));
        }
        Frame { tables, asked, body }
    }

    /// What puts the rows of one asked row in an order that does not depend on how they were given: time, load, row of each table.
    fn order(&self) -> Vec<Expr> {
        let mut order = Vec::new();
        for table in self.tables.iter().filter(|t| t.table != REQUEST) {
            let names = table.shape.time.iter().map(String::as_str).chain([LOAD, ROW]);
            order.extend(names.map(|n| super::view::column_of(&table.alias, n)));
        }
        order
    }
}

fn aggregate(view: &View, frame: &Frame<'_>, is_aggregate: &dyn Fn(&str) -> bool) -> String {
    let mut split = Split { view, frame, is_aggregate, calls: Vec::new() };
    let mut outer = Vec::new();
    for column in &view.features {
        let mut expr = column.expr.clone();
        let _ = expr.visit(&mut split);
        outer.push(format!("{expr} AS {}", quoted(&column.name)));
    }
    let asked = quoted("__a");
    let mut sql = format!("SELECT {asked}.\"__id\" AS \"__id\", {} FROM \"{ASKED}\" AS {asked}", outer.join(", "));
    if !split.calls.is_empty() {
        let inner = quoted(&frame.asked);
        let calls: Vec<String> = split.calls.iter().enumerate().map(|(i, call)| format!("{call} AS \"__g{i}\"")).collect();
        sql += &format!(
            " LEFT JOIN (SELECT {inner}.\"__id\" AS \"__id\", {} {} GROUP BY {inner}.\"__id\") AS \"__g\" ON \"__g\".\"__id\" = {asked}.\"__id\"",
            calls.join(", "),
            frame.body
        );
    }
    sql
}

/// The last row in (time, load, row) order.
fn lookup(view: &View, frame: &Frame<'_>) -> String {
    let inner = quoted(&frame.asked);
    let features: Vec<String> =
        view.features.iter().enumerate().map(|(i, c)| format!("{} AS \"__f{i}\"", spell(&c.expr, &frame.asked))).collect();
    let order: Vec<String> = frame.order().iter().map(|e| format!("{e} DESC NULLS LAST")).collect();
    let rank = if order.is_empty() {
        "1".to_string()
    } else {
        format!("row_number() OVER (PARTITION BY {inner}.\"__id\" ORDER BY {})", order.join(", "))
    };
    let outer: Vec<String> = view.features.iter().enumerate().map(|(i, c)| format!("\"__g\".\"__f{i}\" AS {}", quoted(&c.name))).collect();
    format!(
        "SELECT \"__a\".\"__id\" AS \"__id\", {} FROM \"{ASKED}\" AS \"__a\" LEFT JOIN (SELECT * FROM (SELECT {inner}.\"__id\" AS \"__id\", {}, {rank} AS \"__n\" {}) \
         AS \"__ranked\" WHERE \"__n\" = 1) AS \"__g\" ON \"__g\".\"__id\" = \"__a\".\"__id\"",
        outer.join(", "),
        features.join(", "),
        frame.body
    )
}

/// Takes aggregates out of an outer expression.
struct Split<'a> {
    view: &'a View,
    frame: &'a Frame<'a>,
    is_aggregate: &'a dyn Fn(&str) -> bool,
    calls: Vec<String>,
}

/// Aggregates whose value depends on the order of the rows.
const ORDERED: [&str; 5] = ["first_value", "last_value", "array_agg", "string_agg", "nth_value"];
/// Aggregates of nothing that are 0, not NULL.
const COUNTS: [&str; 2] = ["count", "regr_count"];

impl VisitorMut for Split<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if is_as_of(expr) {
            *expr = super::view::column_of("__a", "__t");
            return ControlFlow::Continue(());
        }
        let text = expr.to_string();
        if let Some(number) = self.view.entity.iter().position(|c| c.expr.to_string() == text)
            && self.frame.asked == "__a"
        {
            *expr = super::view::column_of("__a", &format!("__k{number}"));
            return ControlFlow::Continue(());
        }
        if let Some((alias, column)) = as_column(expr)
            && alias == self.frame.asked
            && alias != "__a"
        {
            *expr = super::view::column_of("__a", column);
            return ControlFlow::Continue(());
        }
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let name = function.name.to_string().to_lowercase();
        if function.over.is_some() || !(self.is_aggregate)(&name) {
            return ControlFlow::Continue(());
        }
        let call = spell(&self.ordered(function.clone(), &name), &self.frame.asked);
        let number = self.calls.iter().position(|c| *c == call).unwrap_or_else(|| {
            self.calls.push(call);
            self.calls.len() - 1
        });
        let column = super::view::column_of("__g", &format!("__g{number}"));
        *expr = if COUNTS.contains(&name.as_str()) { parsed_coalesce(&column) } else { column };
        ControlFlow::Continue(())
    }
}

impl Split<'_> {
    fn ordered(&self, mut function: Function, name: &str) -> Expr {
        if ORDERED.contains(&name)
            && let FunctionArguments::List(list) = &mut function.args
        {
            let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
            // Rows that are one value are told apart by nothing but that value.
            let by: Vec<Expr> = match list.args.first() {
                Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(value))) if distinct => vec![value.clone()],
                _ if distinct => Vec::new(),
                _ => self.frame.order(),
            };
            let plain = OrderByOptions { asc: Some(true), nulls_first: None };
            let suffix: Vec<OrderByExpr> = by.into_iter().map(|expr| OrderByExpr { expr, options: plain, with_fill: None }).collect();
            let order = list.clauses.iter_mut().find_map(|c| match c {
                FunctionArgumentClause::OrderBy(order) => Some(order),
                _ => None,
            });
            match order {
                Some(_) if distinct => {}
                // An order that names a column twice is refused by the planner's own checks, and says nothing more.
                Some(order) => {
                    let more = suffix.into_iter().filter(|s| order.iter().all(|o| o.expr.to_string() != s.expr.to_string()));
                    let more: Vec<OrderByExpr> = more.collect();
                    order.extend(more);
                }
                None if suffix.is_empty() => {}
                None => list.clauses.push(FunctionArgumentClause::OrderBy(suffix)),
            }
        }
        Expr::Function(function)
    }
}

fn parsed_coalesce(column: &Expr) -> Expr {
    Expr::Case {
        case_token: sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
        end_token: sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions: vec![sqlparser::ast::CaseWhen { condition: Expr::IsNull(Box::new(column.clone())), result: number(0) }],
        else_result: Some(Box::new(column.clone())),
    }
}

fn number(value: i64) -> Expr {
    Expr::Value(sqlparser::ast::Value::Number(value.to_string(), false).into())
}

/// The text of an inner expression: `as_of()` is the asked row's moment.
fn spell(expr: &Expr, asked: &str) -> String {
    struct Moment<'a>(&'a str);
    impl VisitorMut for Moment<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if is_as_of(expr) {
                *expr = super::view::column_of(self.0, "__t");
            }
            ControlFlow::Continue(())
        }
    }
    let mut expr = expr.clone();
    let _ = expr.visit(&mut Moment(asked));
    expr.to_string()
}

/// A name in quotes.
pub fn quoted(name: &str) -> String {
    Ident::with_quote('"', name.replace('"', "\"\"")).to_string()
}
