//! Conditions: a SQL boolean over the rows of a source or over figures.
//!
//! Promises: a condition is one boolean expression over known names; `a.b` over figures is one name; NULL over figures is inconclusive, NULL over
//! rows counts as true (SQL's CHECK rule). Helpers: `unique(column, ...)` over rows and what was accepted before; `fresh('2 minutes')` is judged per
//! load by its caller and is true for every row here. To add a helper: an arm in [`helper`] and its rule in [`judge_rows`].

use crate::fault::{self, Text};
use crate::local::Shared;
use crate::sql::session::{Size, Sources};
use crate::sql::source::{StoredRows, rows_source};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::logical_expr::{LogicalPlanBuilder, ident};
use gristmill_kernel::condition::{Figure, Figures, Judged};
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::limits::SQL_CHARS_MAX;
use gristmill_kernel::table::TableName;
use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, Spanned, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token};
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Judges a condition over figures.
pub async fn judge(shared: &Shared, condition: &str, figures: &Figures) -> Result<Judged> {
    let parsed = Parsed::new(condition)?;
    let names: Vec<String> = figures.0.keys().cloned().collect();
    let used = parsed.check_names(&names)?;
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    let mut observed = Vec::new();
    for name in &used {
        let (to, column, shown): (DataType, ArrayRef, String) = match &figures.0[name] {
            Figure::Number(n) if !n.is_nan() => (DataType::Float64, Arc::new(Float64Array::from(vec![*n])), short(*n)),
            Figure::Bool(b) => (DataType::Boolean, Arc::new(BooleanArray::from(vec![*b])), b.to_string()),
            Figure::Text(t) => (DataType::Utf8, Arc::new(StringArray::from(vec![t.as_str()])), format!("'{t}'")),
            Figure::Number(_) | Figure::Missing => {
                let to = parsed.type_of_missing(name);
                (to.clone(), arrow::array::new_null_array(&to, 1), "no value".to_string())
            }
        };
        fields.push(Field::new(name, to, true));
        columns.push(column);
        observed.push(format!("{name} = {shown}"));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|e| Fault::internal("lay out figures").because(e))?;
    let judged = truths(shared, &[&parsed], &rows).await?;
    let holds = judged.first().and_then(|column| column.first().copied()).flatten();
    Ok(Judged { holds, observed: observed.join(", ") })
}

/// Judges row conditions: for each a boolean per row.
pub async fn judge_rows(
    shared: &Shared,
    conditions: &[String],
    rows: &RecordBatch,
    history: Option<(&TableName, u64)>,
) -> Result<Vec<Vec<bool>>> {
    let mut judged = vec![Vec::new(); conditions.len()];
    let names: Vec<String> = rows.schema().fields().iter().map(|f| f.name().clone()).collect();
    let mut plain = Vec::new();
    for (number, condition) in conditions.iter().enumerate() {
        let parsed = Parsed::new(condition)?;
        match helper(&parsed.expr) {
            Some(Helper::Unique(columns)) => {
                parsed.check_list(&columns, &names)?;
                judged[number] = unique(shared, &columns, rows, history).await?;
            }
            Some(Helper::Fresh) => judged[number] = vec![true; rows.num_rows()],
            None => {
                parsed.check_names(&names)?;
                plain.push((number, parsed));
            }
        }
    }
    if !plain.is_empty() && rows.num_rows() > 0 {
        let parsed: Vec<&Parsed> = plain.iter().map(|(_, p)| p).collect();
        for ((number, _), truth) in plain.iter().zip(truths(shared, &parsed, rows).await?) {
            judged[*number] = truth.into_iter().map(|t| t.unwrap_or(true)).collect();
        }
    }
    Ok(judged)
}

/// Checks that a condition parses, is a boolean in shape, and uses only these names.
pub fn check(shared: &Shared, condition: &str, names: &[String]) -> Result<()> {
    let parsed = Parsed::new(condition)?;
    match helper(&parsed.expr) {
        Some(Helper::Unique(columns)) => parsed.check_list(&columns, names),
        Some(Helper::Fresh) => Ok(()),
        None => {
            parsed.check_names(names)?;
            parsed.check_functions(shared)
        }
    }
}

enum Helper {
    Unique(Vec<String>),
    Fresh,
}

fn helper(expr: &Expr) -> Option<Helper> {
    let Expr::Function(function) = expr else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    match function.name.to_string().to_lowercase().as_str() {
        "unique" => {
            let columns = list.args.iter().map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => name_of(expr),
                _ => None,
            });
            columns.collect::<Option<Vec<_>>>().filter(|c| !c.is_empty()).map(Helper::Unique)
        }
        "fresh" => match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] if matches!(value.value, Value::SingleQuotedString(_)) => {
                Some(Helper::Fresh)
            }
            _ => None,
        },
        _ => None,
    }
}

/// A condition taken apart.
struct Parsed {
    text: String,
    expr: Expr,
}

impl Parsed {
    fn new(condition: &str) -> Result<Parsed> {
        let text = Text { sql: condition, file: "condition", line_offset: 0 };
        if condition.chars().count() > SQL_CHARS_MAX {
            return Err(Fault::invalid(Code::BAD_CONDITION, format!("the condition has more than {SQL_CHARS_MAX} characters")));
        }
        let bad = |e: sqlparser::parser::ParserError| {
            let mut fault = fault::syntax(&e.to_string(), text);
            fault.code = Code::BAD_CONDITION;
            fault.message = fault.message.replace("the SQL does not parse", &format!("the condition `{condition}` does not parse"));
            fault.fix("write a SQL boolean such as `auc >= 0.8`")
        };
        let dialect = GenericDialect {};
        let mut parser = Parser::new(&dialect).try_with_sql(condition).map_err(bad)?;
        let expr = parser.parse_expr().map_err(bad)?;
        let rest = parser.peek_token();
        if rest.token != Token::EOF {
            let fault =
                Fault::invalid(Code::BAD_CONDITION, format!("the condition `{condition}` goes on after its end, at `{}`", rest.token));
            return Err(fault::placed(fault.fix("write one SQL boolean"), text.spot_of(rest.span)));
        }
        let parsed = Parsed { text: condition.to_string(), expr };
        parsed.fence()?;
        Ok(parsed)
    }

    fn spotted(&self, fault: Fault, span: Span) -> Fault {
        fault::placed(fault, Text { sql: &self.text, file: "condition", line_offset: 0 }.spot_of(span))
    }

    /// No subqueries, no windows, nothing that changes from call to call.
    fn fence(&self) -> Result<()> {
        struct Fence(Option<(&'static str, Span)>);
        impl Visitor for Fence {
            type Break = ();
            fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
                self.0 = Some(("a subquery may not stand in a condition", query.span()));
                ControlFlow::Break(())
            }
            fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
                let wrong = match expr {
                    Expr::Function(f) if f.over.is_some() => Some("a window may not stand in a condition"),
                    Expr::Value(v) if matches!(v.value, Value::Placeholder(_)) => Some("a placeholder has no value in a condition"),
                    _ => None,
                };
                if let Some(wrong) = wrong {
                    self.0 = Some((wrong, expr.span()));
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            }
        }
        let mut fence = Fence(None);
        let _ = self.expr.visit(&mut fence);
        match fence.0 {
            Some((message, span)) => {
                Err(self.spotted(Fault::invalid(Code::BAD_CONDITION, message).fix("write a boolean over names and constants"), span))
            }
            None => Ok(()),
        }
    }

    /// The names it uses, each once, in order; an unknown one is refused.
    fn check_names(&self, names: &[String]) -> Result<Vec<String>> {
        struct Names(Vec<(String, Span)>);
        impl Visitor for Names {
            type Break = ();
            fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
                if let Some(name) = name_of(expr) {
                    self.0.push((name, expr.span()));
                }
                ControlFlow::Continue(())
            }
        }
        let mut found = Names(Vec::new());
        let _ = self.expr.visit(&mut found);
        let mut used: Vec<String> = Vec::new();
        for (name, span) in found.0 {
            let Some(known) = known(&name, names) else {
                return Err(self.spotted(fault::unknown(Code::BAD_CONDITION, "name", &name, names), span));
            };
            if !used.contains(&known) {
                used.push(known);
            }
        }
        Ok(used)
    }

    fn check_list(&self, columns: &[String], names: &[String]) -> Result<()> {
        for column in columns {
            if known(column, names).is_none() {
                return Err(self.spotted(fault::unknown(Code::BAD_CONDITION, "column", column, names), self.expr.span()));
            }
        }
        Ok(())
    }

    fn check_functions(&self, shared: &Shared) -> Result<()> {
        struct Functions(Vec<(String, Span)>);
        impl Visitor for Functions {
            type Break = ();
            fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
                if let Expr::Function(f) = expr {
                    self.0.push((f.name.to_string().to_lowercase(), f.name.span()));
                }
                ControlFlow::Continue(())
            }
        }
        let mut found = Functions(Vec::new());
        let _ = self.expr.visit(&mut found);
        for (name, span) in found.0 {
            if !shared.session.state().scalar_functions().contains_key(&name) {
                let known: Vec<String> =
                    shared.session.state().scalar_functions().keys().cloned().chain(["unique".into(), "fresh".into()]).collect();
                let mut fault = fault::unknown(Code::BAD_CONDITION, "function", &name, &known);
                // The whole list of functions helps nobody.
                fault.fix =
                    fault.fix.map(|f| f.split("; ").next().unwrap_or_default().split("? there are").next().unwrap_or_default().to_string());
                return Err(self.spotted(fault, span));
            }
        }
        Ok(())
    }

    /// A figure without a value is a boolean where it stands alone, else a number.
    fn type_of_missing(&self, name: &str) -> DataType {
        fn alone(expr: &Expr, name: &str) -> bool {
            use sqlparser::ast::{BinaryOperator, UnaryOperator};
            match expr {
                Expr::Nested(e) => alone(e, name),
                Expr::UnaryOp { op: UnaryOperator::Not, expr } => alone(expr, name),
                Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => alone(left, name) || alone(right, name),
                Expr::IsTrue(e) | Expr::IsNotTrue(e) | Expr::IsFalse(e) | Expr::IsNotFalse(e) => alone(e, name),
                other => name_of(other).is_some_and(|n| n.eq_ignore_ascii_case(name)),
            }
        }
        if alone(&self.expr, name) { DataType::Boolean } else { DataType::Float64 }
    }

    /// The expression with every name as one quoted column.
    fn sql(&self, names: &[String]) -> String {
        struct Quote<'a>(&'a [String]);
        impl VisitorMut for Quote<'_> {
            type Break = ();
            fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
                if let Some(name) = name_of(expr)
                    && let Some(known) = known(&name, self.0)
                {
                    *expr = Expr::Identifier(Ident::with_quote('"', known.replace('"', "\"\"")));
                }
                ControlFlow::Continue(())
            }
        }
        let mut expr = self.expr.clone();
        let _ = VisitMut::visit(&mut expr, &mut Quote(names));
        expr.to_string()
    }
}

/// A column, or the dotted name of a figure.
fn name_of(expr: &Expr) -> Option<String> {
    let fold = |i: &Ident| crate::sql::fence::folded(i);
    match expr {
        Expr::Identifier(ident) => Some(fold(ident)),
        Expr::CompoundIdentifier(parts) => Some(parts.iter().map(fold).collect::<Vec<_>>().join(".")),
        _ => None,
    }
}

/// The name as it is known: exactly, or but for its case.
fn known(name: &str, names: &[String]) -> Option<String> {
    names.iter().find(|n| *n == name).or_else(|| names.iter().find(|n| n.eq_ignore_ascii_case(name))).cloned()
}

/// The truth of each condition for each row.
async fn truths(shared: &Shared, conditions: &[&Parsed], rows: &RecordBatch) -> Result<Vec<Vec<Option<bool>>>> {
    let names: Vec<String> = rows.schema().fields().iter().map(|f| f.name().clone()).collect();
    let mut all = Vec::with_capacity(conditions.len());
    for condition in conditions {
        let sql = format!("SELECT {} AS \"truth\" FROM figures", condition.sql(&names));
        let bad = |fault: Fault| {
            let mut wrong =
                Fault::invalid(Code::BAD_CONDITION, format!("the condition `{}` cannot be judged: {}", condition.text, fault.message));
            wrong.fix = fault.fix;
            wrong.because(fault.source.unwrap_or_else(|| fault.message.into()))
        };
        let fenced = crate::sql::fence::parse(Text::bare(&sql)).map_err(bad)?;
        let sources = Sources::from([("figures".to_string(), rows_source(rows.schema(), vec![rows.clone()])?)]);
        let plan = shared.session.plan(fenced.query, &sources, Text::bare(&sql)).map_err(bad)?;
        let plan = shared.session.optimise(&plan, Text::bare(&sql)).map_err(bad)?;
        if !matches!(plan.schema().field(0).data_type(), DataType::Boolean | DataType::Null) {
            let found = plan.schema().field(0).data_type().clone();
            return Err(Fault::invalid(Code::BAD_CONDITION, format!("the condition `{}` is {found}, not a boolean", condition.text))
                .fix("compare it with something"));
        }
        // One partition keeps the rows' order.
        let answer = shared.collect(&plan, Size::Small, Text::bare(&sql)).await.map_err(bad)?;
        let mut truth = Vec::with_capacity(rows.num_rows());
        for batch in &answer {
            match batch.column(0).as_boolean_opt() {
                Some(column) => truth.extend(column.iter()),
                None => truth.extend(std::iter::repeat_n(None, batch.num_rows())),
            }
        }
        if truth.len() != rows.num_rows() {
            return Err(Fault::invalid(Code::BAD_CONDITION, format!("the condition `{}` is not about single rows", condition.text))
                .fix("leave aggregates out"));
        }
        all.push(truth);
    }
    Ok(all)
}

/// Rows whose columns no accepted row and no other row has. All rows of a repeated value fail but the first; NULLs never repeat.
async fn unique(shared: &Shared, columns: &[String], rows: &RecordBatch, history: Option<(&TableName, u64)>) -> Result<Vec<bool>> {
    let broken = |e| Fault::internal("compare rows").because(e);
    let names: Vec<String> = rows.schema().fields().iter().map(|f| f.name().clone()).collect();
    let columns: Vec<String> = columns.iter().filter_map(|c| known(c, &names)).collect();
    let own: Vec<ArrayRef> = columns.iter().filter_map(|c| rows.column_by_name(c)).cloned().collect();
    let converter = RowConverter::new(own.iter().map(|c| SortField::new(c.data_type().clone())).collect()).map_err(broken)?;
    let keys = converter.convert_columns(&own).map_err(broken)?;
    let mut first: HashMap<OwnedRow, usize> = HashMap::new();
    let mut good = vec![true; rows.num_rows()];
    for (row, good) in good.iter_mut().enumerate() {
        if own.iter().all(|c| c.is_valid(row)) {
            let seen = *first.entry(keys.row(row).owned()).or_insert(row);
            *good = seen == row;
        }
    }
    let Some((table, version)) = history else { return Ok(good) };
    let pinned = shared.stored(table, Some(version)).await?;
    if columns.iter().any(|c| pinned.schema.column_with_name(c).is_none()) {
        return Ok(good);
    }
    let wanted: Vec<_> = columns.iter().map(ident).collect();
    let plan = LogicalPlanBuilder::scan("history", StoredRows::new(&pinned, true).source(), None)
        .and_then(|p| p.project(wanted))
        .and_then(LogicalPlanBuilder::build)
        .map_err(|e| fault::query(e, Text::bare("")))?;
    let plan = shared.session.optimise(&plan, Text::bare(""))?;
    let mut stream = shared.session.run(&plan, Size::Large).await.map_err(|e| fault::query(e, Text::bare("")))?;
    let mut repeated: BTreeSet<usize> = BTreeSet::new();
    while let Some(batch) = futures::StreamExt::next(&mut stream).await {
        let batch = batch.map_err(|e| fault::query(e, Text::bare("")))?;
        let theirs: Vec<ArrayRef> = batch
            .columns()
            .iter()
            .zip(&own)
            .map(|(c, like)| arrow::compute::cast(c, like.data_type()))
            .collect::<std::result::Result<_, _>>()
            .map_err(broken)?;
        let keys = converter.convert_columns(&theirs).map_err(broken)?;
        for row in keys.iter() {
            if let Some(place) = first.get(&row.owned()) {
                repeated.insert(*place);
            }
        }
    }
    for place in repeated {
        good[place] = false;
    }
    Ok(good)
}

fn short(number: f64) -> String {
    if number == number.trunc() && number.abs() < 1e15 {
        return format!("{number}");
    }
    let text = format!("{number:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "0" || text == "-0" { format!("{number:e}") } else { text.to_string() }
}
