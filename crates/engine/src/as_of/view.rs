//! What a view's SQL is made of, resolved against the tables it reads.
//!
//! Pure. A [`View`] has its columns expanded and named, its tables in order with how each joins, and its filter; or it says why
//! it is [`Form::Literal`], to be run word for word per moment.

use crate::fault::{Text, placed};
use crate::sql::fence::{AS_OF, Fenced, folded};
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::port::TableShape;
pub use gristmill_kernel::view::REQUEST;
use gristmill_kernel::view::{ViewAt, ViewDef};
use sqlparser::ast::{
    Expr, Function, GroupByExpr, Ident, JoinConstraint, JoinOperator, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    Spanned, TableFactor, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// A view taken apart.
#[derive(Debug, Clone)]
pub struct View {
    /// Its columns without the entity's, in order.
    pub features: Vec<Column>,
    /// The entity's columns, in the view's order.
    pub entity: Vec<Column>,
    /// Whether it aggregates.
    pub aggregates: bool,
    /// Where its rows come from.
    pub form: Form,
}

/// A named expression.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name in the answer.
    pub name: String,
    /// What it is; columns qualified if the form is joined.
    pub expr: Expr,
}

/// Where a view's rows come from.
#[derive(Debug, Clone)]
pub enum Form {
    /// Base tables joined from left to right, then filtered.
    Joined {
        /// The tables.
        tables: Vec<Joined>,
        /// WHERE, taken apart at its ANDs.
        filters: Vec<Expr>,
    },
    /// Anything else, with the reason in words.
    Literal(&'static str),
}

/// A table in FROM.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Its name.
    pub table: String,
    /// What columns call it.
    pub alias: String,
    /// Its columns and event time.
    pub shape: TableShape,
    /// Whether rows without a partner stay.
    pub left: bool,
    /// ON, taken apart at its ANDs.
    pub on: Vec<Expr>,
    /// Columns named by USING, which a plain name takes from the left.
    pub using: Vec<String>,
}

/// Takes a fenced query apart.
pub fn parse(
    fenced: &Fenced,
    def: &ViewDef,
    shapes: &BTreeMap<String, TableShape>,
    text: Text<'_>,
    is_aggregate: &dyn Fn(&str) -> bool,
) -> Result<View> {
    let query = &fenced.query;
    refuse_outer_clauses(query, text)?;
    let literal = literal_reason(query);
    let Some(select) = only_select(query) else {
        // A set operation has no one list of columns to read; its first part names them.
        let first =
            first_select(&query.body).ok_or_else(|| unsupported("the view is not a SELECT", "write one SELECT", text, query.span()))?;
        let columns = columns_of(first, &[], text)?;
        return finish(columns, def, false, Form::Literal("it combines several queries"), text);
    };
    if let Some(having) = &select.having {
        return Err(unsupported(
            "HAVING would drop entities, but every asked row gets an answer",
            "use `case when ... end` in the select list",
            text,
            having.span(),
        ));
    }
    let (form, tables) = match (literal, joined(select, shapes)) {
        (Some(reason), _) => (Form::Literal(reason), Vec::new()),
        (None, None) => (Form::Literal("FROM is not a plain list of tables with inner and left joins"), Vec::new()),
        (None, Some(tables)) => {
            let mut filters = Vec::new();
            if let Some(filter) = &select.selection {
                conjuncts(&qualified(filter, &tables), &mut filters);
            }
            let with_conditions =
                tables.iter().map(|t| Joined { on: t.on.iter().map(|e| qualified(e, &tables)).collect(), ..t.clone() }).collect();
            (Form::Joined { tables: with_conditions, filters }, tables)
        }
    };
    let columns = columns_of(select, &tables, text)?;
    let groups = group_exprs(select, &columns, &tables, text)?;
    let aggregates = !groups.is_empty() || columns.iter().any(|c| uses_aggregate(&c.expr, is_aggregate));
    let view = finish(columns, def, aggregates, form, text)?;
    if aggregates {
        check_groups(&view, def, &groups, text)?;
    }
    Ok(view)
}

fn refuse_outer_clauses(query: &Query, text: Text<'_>) -> Result<()> {
    if let Some(order) = &query.order_by {
        return Err(unsupported("ORDER BY has no meaning in a view: every asked row gets one answer", "leave it out", text, order.span()));
    }
    if query.limit_clause.is_some() || query.fetch.is_some() {
        return Err(unsupported("LIMIT has no meaning in a view: every asked row gets one answer", "leave it out", text, query.span()));
    }
    Ok(())
}

fn only_select(query: &Query) -> Option<&Select> {
    match query.body.as_ref() {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(inner) if inner.with.is_none() => only_select(inner),
        _ => None,
    }
}

fn first_select(body: &SetExpr) -> Option<&Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

/// Why a query must be run word for word; `None` if it can be joined with what is asked.
fn literal_reason(query: &Query) -> Option<&'static str> {
    struct Look(usize, Option<&'static str>);
    impl Visitor for Look {
        type Break = ();
        fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
            self.0 += 1;
            if self.0 > 1 {
                self.1 = Some("it has a subquery");
            }
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Function(Function { over: Some(_), .. }) = expr {
                self.1 = Some("it has a window function");
            }
            ControlFlow::Continue(())
        }
    }
    if query.with.is_some() {
        return Some("it has a WITH clause");
    }
    let mut look = Look(0, None);
    let _ = query.visit(&mut look);
    if let Some(select) = only_select(query) {
        if select.distinct.is_some() {
            return Some("it has DISTINCT");
        }
        if select.qualify.is_some() || !select.named_window.is_empty() {
            return Some("it has a window");
        }
    }
    look.1
}

/// The tables of FROM if they are base tables under inner, cross and left joins.
fn joined(select: &Select, shapes: &BTreeMap<String, TableShape>) -> Option<Vec<Joined>> {
    let mut tables: Vec<Joined> = Vec::new();
    for from in &select.from {
        tables.push(base(&from.relation, shapes)?);
        for join in &from.joins {
            let mut table = base(&join.relation, shapes)?;
            let constraint = match &join.join_operator {
                JoinOperator::Join(c) | JoinOperator::Inner(c) | JoinOperator::CrossJoin(c) => c,
                JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => {
                    table.left = true;
                    c
                }
                _ => return None,
            };
            match constraint {
                JoinConstraint::None => {}
                JoinConstraint::On(on) => conjuncts(on, &mut table.on),
                JoinConstraint::Using(names) => {
                    for name in names {
                        let column = name.0.last().and_then(|p| p.as_ident()).map(folded)?;
                        let left = tables.iter().find(|t| t.shape.schema.column_with_name(&column).is_some())?;
                        table.on.push(equal(column_of(&left.alias, &column), column_of(&table.alias, &column)));
                        table.using.push(column);
                    }
                }
                JoinConstraint::Natural => return None,
            }
            tables.push(table);
        }
    }
    // A comma after a left join would change what the join keeps.
    let plain = select.from.len() <= 1 || tables.iter().all(|t| !t.left);
    (plain && !tables.is_empty()).then_some(tables)
}

fn base(factor: &TableFactor, shapes: &BTreeMap<String, TableShape>) -> Option<Joined> {
    let TableFactor::Table { name, alias, .. } = factor else { return None };
    let table = name.0.last().and_then(|p| p.as_ident()).map(folded)?;
    let alias = match alias {
        Some(alias) if alias.columns.is_empty() => folded(&alias.name),
        Some(_) => return None,
        None => table.clone(),
    };
    let shape = shapes.get(&table)?.clone();
    Some(Joined { table, alias, shape, left: false, on: Vec::new(), using: Vec::new() })
}

/// The select list, stars expanded, each column named.
fn columns_of(select: &Select, tables: &[Joined], text: Text<'_>) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let name = match expr {
                    Expr::Identifier(ident) => folded(ident),
                    Expr::CompoundIdentifier(parts) => parts.last().map(folded).unwrap_or_default(),
                    other => {
                        return Err(unsupported("a feature needs a name", "write `... as NAME`", text, other.span()));
                    }
                };
                columns.push(Column { name, expr: qualified(expr, tables) });
            }
            SelectItem::ExprWithAlias { expr, alias } => columns.push(Column { name: folded(alias), expr: qualified(expr, tables) }),
            SelectItem::Wildcard(_) if !tables.is_empty() => tables.iter().for_each(|t| all_of(t, &mut columns)),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) if !tables.is_empty() => {
                let wanted = name.0.last().and_then(|p| p.as_ident()).map(folded).unwrap_or_default();
                tables.iter().filter(|t| t.alias == wanted).for_each(|t| all_of(t, &mut columns));
            }
            other => return Err(unsupported("this cannot stand in the select list of a view", "name each column", text, other.span())),
        }
    }
    Ok(columns)
}

fn all_of(table: &Joined, columns: &mut Vec<Column>) {
    for field in table.shape.schema.fields() {
        if !table.using.contains(field.name()) {
            columns.push(Column { name: field.name().clone(), expr: column_of(&table.alias, field.name()) });
        }
    }
}

fn group_exprs(select: &Select, columns: &[Column], tables: &[Joined], text: Text<'_>) -> Result<Vec<Expr>> {
    let GroupByExpr::Expressions(exprs, modifiers) = &select.group_by else {
        return Err(unsupported("GROUP BY ALL may not be used in a view", "group by the entity's columns", text, select.span()));
    };
    if !modifiers.is_empty() {
        return Err(unsupported("GROUP BY modifiers may not be used in a view", "group by the entity's columns", text, select.span()));
    }
    let mut groups = Vec::new();
    for expr in exprs {
        let by_number = match expr {
            Expr::Value(value) => match &value.value {
                Value::Number(number, _) => number.to_string().parse::<usize>().ok(),
                _ => None,
            },
            _ => None,
        };
        let by_name = match expr {
            Expr::Identifier(ident) => {
                let name = folded(ident);
                let is_column = tables.iter().any(|t| t.shape.schema.column_with_name(&name).is_some());
                columns.iter().find(|c| !is_column && c.name == name)
            }
            _ => None,
        };
        match (by_number.and_then(|n| columns.get(n.checked_sub(1)?)), by_name) {
            (Some(column), _) | (None, Some(column)) => groups.push(column.expr.clone()),
            (None, None) => groups.push(qualified(expr, tables)),
        }
    }
    Ok(groups)
}

fn finish(columns: Vec<Column>, def: &ViewDef, aggregates: bool, form: Form, text: Text<'_>) -> Result<View> {
    let mut entity = Vec::new();
    for name in &def.entity {
        match columns.iter().find(|c| c.name == *name) {
            Some(column) => entity.push(column.clone()),
            None if def.at == ViewAt::Request => {}
            None => {
                let fault = Fault::invalid(Code::AS_OF_UNSUPPORTED, format!("the select list lacks the entity's column `{name}`"));
                return Err(placed(fault.fix(format!("select `{name}`, or change `entity` in the header")), Some(text.spot(1, 1, 6))));
            }
        }
    }
    let features: Vec<Column> = columns.into_iter().filter(|c| !def.entity.contains(&c.name)).collect();
    if features.is_empty() {
        return Err(Fault::invalid(Code::AS_OF_UNSUPPORTED, format!("view `{}` has no feature besides its entity", def.name))
            .fix("select at least one more column"));
    }
    Ok(View { features, entity, aggregates, form })
}

/// One group per asked entity: the groups are the entity's columns, no more and no fewer.
fn check_groups(view: &View, def: &ViewDef, groups: &[Expr], text: Text<'_>) -> Result<()> {
    if def.at == ViewAt::Request {
        return Ok(());
    }
    let entity: Vec<String> = view.entity.iter().map(|c| c.expr.to_string()).collect();
    for group in groups {
        if !entity.contains(&group.to_string()) {
            let message = format!("the view groups by `{group}`, which is not a column of its entity ({})", def.entity.join(", "));
            return Err(unsupported(&message, "group by the entity's columns only, or add the column to `entity`", text, group.span()));
        }
    }
    for column in &view.entity {
        if !groups.iter().any(|g| g.to_string() == column.expr.to_string()) {
            let message = format!("the view aggregates without grouping by its entity's column `{}`", column.name);
            return Err(unsupported(&message, &format!("add `group by {}`", def.entity.join(", ")), text, column.expr.span()));
        }
    }
    Ok(())
}

/// Splits at ANDs.
pub fn conjuncts(expr: &Expr, out: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryOp { left, op: sqlparser::ast::BinaryOperator::And, right } => {
            conjuncts(left, out);
            conjuncts(right, out);
        }
        Expr::Nested(inner) => conjuncts(inner, out),
        other => out.push(other.clone()),
    }
}

/// The expression with every column written as `"alias"."column"`; names that no table has stay, for the planner to refuse.
fn qualified(expr: &Expr, tables: &[Joined]) -> Expr {
    struct Qualify<'a>(&'a [Joined]);
    impl VisitorMut for Qualify<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(ident) => {
                    let name = folded(ident);
                    let mut having = self.0.iter().filter(|t| t.shape.schema.column_with_name(&name).is_some() && !t.using.contains(&name));
                    if let (Some(table), None) = (having.next(), having.next()) {
                        *expr = column_of(&table.alias, &name);
                    }
                }
                Expr::CompoundIdentifier(parts) if parts.len() == 2 => {
                    let (table, column) = (folded(&parts[0]), folded(&parts[1]));
                    if self.0.iter().any(|t| t.alias == table) {
                        *expr = column_of(&table, &column);
                    }
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let mut expr = expr.clone();
    if !tables.is_empty() {
        let _ = VisitMut::visit(&mut expr, &mut Qualify(tables));
    }
    // Parentheses of the user carry no meaning once the tree is built.
    while let Expr::Nested(inner) = expr {
        expr = *inner;
    }
    expr
}

/// `"alias"."column"`.
pub fn column_of(alias: &str, column: &str) -> Expr {
    Expr::CompoundIdentifier(vec![Ident::with_quote('"', alias), Ident::with_quote('"', column)])
}

fn equal(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: sqlparser::ast::BinaryOperator::Eq, right: Box::new(right) }
}

/// The alias and column of a qualified column.
pub fn as_column(expr: &Expr) -> Option<(&str, &str)> {
    match expr {
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [table, column] => Some((&table.value, &column.value)),
            _ => None,
        },
        Expr::Nested(inner) => as_column(inner),
        _ => None,
    }
}

/// The aliases an expression reads.
pub fn aliases(expr: &Expr) -> Vec<String> {
    struct Read(Vec<String>);
    impl Visitor for Read {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Some((alias, _)) = as_column(expr)
                && !self.0.iter().any(|a| a == alias)
            {
                self.0.push(alias.to_string());
            }
            ControlFlow::Continue(())
        }
    }
    let mut read = Read(Vec::new());
    let _ = expr.visit(&mut read);
    read.0
}

/// Whether an expression is `as_of()`.
pub fn is_as_of(expr: &Expr) -> bool {
    match expr {
        Expr::Function(function) => function.name.to_string().eq_ignore_ascii_case(AS_OF),
        Expr::Nested(inner) => is_as_of(inner),
        _ => false,
    }
}

/// Whether an aggregate stands in an expression.
pub fn uses_aggregate(expr: &Expr, is_aggregate: &dyn Fn(&str) -> bool) -> bool {
    struct Find<'a>(&'a dyn Fn(&str) -> bool);
    impl Visitor for Find<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Function(f) if f.over.is_none() && (self.0)(&f.name.to_string().to_lowercase()) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Find(is_aggregate)).is_break()
}

/// A view that cannot be read as of a moment.
pub fn unsupported(message: &str, fix: &str, text: Text<'_>, span: sqlparser::tokenizer::Span) -> Fault {
    placed(Fault::invalid(Code::AS_OF_UNSUPPORTED, message).fix(fix), text.spot_of(span))
}
