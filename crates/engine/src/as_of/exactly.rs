//! Aggregates whose names promise an approximation or nothing in particular, made exact; and those that cannot be.
//!
//! A feature has one value for a set of rows, whatever order they arrived in. A t-digest does not: it depends on the order of its rows. A
//! HyperLogLog does, but cannot give back a row that leaves a window, and its value changes with the version of its hash. So in a view these names
//! mean the exact aggregate, and a note says what it keeps. Everywhere else they are DataFusion's.
//!
//! To add one: an arm in [`exact`], a case in `tests/same_answer`.

use super::view::unsupported;
use crate::fault::Text;
use gristmill_kernel::error::{Fault, Result};
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, Spanned, VisitMut, VisitorMut,
};
use std::ops::ControlFlow;

/// Replaces what is not exact in a view, or refuses it. Returns what a user should know of it.
pub fn exactly(query: &mut Query, text: Text<'_>) -> Result<Vec<String>> {
    let mut exactly = Exactly { text, notes: Vec::new() };
    match query.visit(&mut exactly) {
        ControlFlow::Break(fault) => Err(*fault),
        ControlFlow::Continue(()) => Ok(exactly.notes),
    }
}

struct Exactly<'a> {
    text: Text<'a>,
    notes: Vec<String>,
}

/// What quantiles cost.
const VALUES_KEPT: &str = "every value in the window of one entity at a time is kept in order, 8 to 64 bytes each, mostly about 12";

impl Exactly<'_> {
    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn function(&mut self, function: &mut Function) -> std::result::Result<(), Box<Fault>> {
        let name = function.name.to_string().to_lowercase();
        let refuse = |message: String, fix: &str| Err(Box::new(unsupported(&message, fix, self.text, function.name.span())));
        if let Some(reason) = inexact(&name) {
            return refuse(format!("`{name}` {reason}"), "use sum, avg, stddev, count, min, max, median or percentile_cont");
        }
        match name.as_str() {
            "approx_distinct" => {
                let FunctionArguments::List(list) = &mut function.args else { return Ok(()) };
                list.duplicate_treatment = Some(DuplicateTreatment::Distinct);
                rename(function, "count");
                self.note(
                    "`approx_distinct` is counted exactly, as count(distinct ...): each different value in the window of one entity at a time is \
                     kept once"
                        .to_owned(),
                );
            }
            "approx_median" => {
                rename(function, "median");
                self.note(format!("`approx_median` is the exact median: {VALUES_KEPT}"));
            }
            "approx_percentile_cont" => {
                // How many centroids a digest would have says nothing here.
                let shares = if function.within_group.is_empty() { 2 } else { 1 };
                if let FunctionArguments::List(list) = &mut function.args {
                    list.args.truncate(shares);
                }
                rename(function, "percentile_cont");
                self.note(format!("`approx_percentile_cont` is the exact percentile_cont: {VALUES_KEPT}"));
            }
            "median" | "percentile_cont" | "quantile_cont" => self.note(format!("`{name}` is exact: {VALUES_KEPT}")),
            "any_value" => {
                rename(function, "min");
                self.note("`any_value` is the least value, so that it does not depend on the order of the rows".to_owned());
            }
            _ => {}
        }
        Ok(())
    }
}

impl VisitorMut for Exactly<'_> {
    type Break = Box<Fault>;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Box<Fault>> {
        match expr {
            Expr::Function(function) => match self.function(function) {
                Ok(()) => ControlFlow::Continue(()),
                Err(fault) => ControlFlow::Break(fault),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Another name at the same place.
fn rename(function: &mut Function, name: &str) {
    let span = function.name.span();
    let ident = Ident { value: name.to_owned(), quote_style: None, span };
    function.name = ObjectName(vec![ObjectNamePart::Identifier(ident)]);
}

/// Aggregates that are not exact, or not the same for any order of the rows.
fn inexact(name: &str) -> Option<&'static str> {
    if name.starts_with("approx_") && !["approx_distinct", "approx_median", "approx_percentile_cont"].contains(&name) {
        return Some("gives an approximate value that depends on the order of the rows");
    }
    let ordered = name.starts_with("covar") || name.starts_with("corr") || (name.starts_with("regr_") && name != "regr_count");
    ordered.then_some("depends on the order of the rows in its last bits")
}
