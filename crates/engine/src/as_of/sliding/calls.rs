//! Which aggregates of SQL slide, and how they are written. Pure.
//!
//! To add one: its name in [`what_of`], and what it keeps in the crate `slide`.

use gristmill_slide::{Direction, Share, What};
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, NullTreatment,
    OrderByExpr, UnaryOperator, Value,
};

/// A call as written.
pub struct Written {
    /// What it computes.
    pub what: What,
    /// Of which values; `None` of rows.
    pub argument: Option<Expr>,
    /// The order of the rows, where it is not that of time.
    pub by: Option<Expr>,
    /// Which rows it looks at, beside its filter.
    pub only: Option<Expr>,
}

/// Reads a call without its filter; `None` if it does not slide.
pub fn read(function: &Function, name: &str) -> Option<Written> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    let mut nulls = function.null_treatment;
    let mut order: &[OrderByExpr] = &[];
    for clause in &list.clauses {
        match clause {
            FunctionArgumentClause::OrderBy(by) if order.is_empty() => order = by,
            FunctionArgumentClause::IgnoreOrRespectNulls(treatment) if nulls.is_none() => nulls = Some(*treatment),
            _ => return None,
        }
    }
    let exprs: Option<Vec<&Expr>> = list.args.iter().map(plain).collect();
    let plain_call = order.is_empty() && nulls.is_none() && function.within_group.is_empty();
    let (what, argument, by) = match (what_of(name)?, exprs.as_deref()) {
        (What::Count, None) if plain_call && !distinct => match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] => (What::Count, None, None),
            _ => return None,
        },
        (What::Count, Some([expr])) if plain_call && distinct => (What::CountDistinct, Some(*expr), None),
        (What::Quantile(_), Some(exprs)) if order.is_empty() && nulls.is_none() && !distinct => {
            let (what, expr) = quantile(name, exprs, &function.within_group)?;
            (what, Some(expr), None)
        }
        (what @ (What::First | What::Last), Some([expr])) if function.within_group.is_empty() && !distinct => match order {
            [] => (what, Some(*expr), None),
            [by] => {
                let direction = direction(by)?;
                let what = if what == What::First { What::FirstBy(direction) } else { What::LastBy(direction) };
                (what, Some(*expr), Some(&by.expr))
            }
            _ => return None,
        },
        (what, Some([expr])) if plain_call && !distinct => (what, Some(*expr), None),
        _ => return None,
    };
    let only = match (nulls, argument) {
        (Some(NullTreatment::IgnoreNulls), Some(argument)) => Some(Expr::IsNotNull(Box::new(Expr::Nested(Box::new(argument.clone()))))),
        _ => None,
    };
    Some(Written { what, argument: argument.cloned(), by: by.cloned(), only })
}

fn plain(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// `median(x)`, `percentile_cont(x, 0.9)`, `percentile_cont(0.9) within group (order by x)`.
fn quantile<'f>(name: &str, exprs: &[&'f Expr], within: &'f [OrderByExpr]) -> Option<(What, &'f Expr)> {
    let of = |share: Option<Share>, expr| Some((What::Quantile(share?), expr));
    match (exprs, within) {
        ([expr], []) if name == "median" => of(Some(Share::HALF), *expr),
        ([expr, share], []) if name != "median" => of(Share::new(literal(share)?), *expr),
        ([share], [by]) if name != "median" => {
            let share = literal(share)?;
            of(Share::new(if direction(by)?.descending { 1.0 - share } else { share }), &by.expr)
        }
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Nested(inner) => literal(inner),
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => literal(expr),
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => number.to_string().parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// NULL is greater than every value unless it is said otherwise.
fn direction(by: &OrderByExpr) -> Option<Direction> {
    let descending = by.options.asc == Some(false);
    by.with_fill.is_none().then(|| Direction { descending, nulls_first: by.options.nulls_first.unwrap_or(descending) })
}

/// What an aggregate computes. Of booleans, `and` is the least and `or` the greatest.
fn what_of(name: &str) -> Option<What> {
    Some(match name {
        "count" => What::Count,
        "sum" => What::Sum,
        "avg" | "mean" => What::Avg,
        "min" | "bool_and" => What::Min,
        "max" | "bool_or" => What::Max,
        "first_value" => What::First,
        "last_value" => What::Last,
        "var" | "var_samp" | "var_sample" => What::Spread { root: false, less: 1 },
        "var_pop" | "var_population" => What::Spread { root: false, less: 0 },
        "stddev" | "stddev_samp" => What::Spread { root: true, less: 1 },
        "stddev_pop" => What::Spread { root: true, less: 0 },
        "median" | "percentile_cont" | "quantile_cont" => What::Quantile(Share::HALF),
        _ => return None,
    })
}
