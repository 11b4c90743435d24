//! The fence around SQL: what may be written at all, found before anything is planned.
//!
//! Promises: a text that passes is exactly one query that reads tables by plain names and computes; nothing in it creates, changes, sets,
//! copies, explains, locks, or reads a file. It is an allow-list: a kind of table, statement or clause that is not named here is refused.

use crate::fault::{Text, placed, syntax};
use datafusion::sql::parser::Statement as DfStatement;
use gristmill_kernel::error::{Code, Fault, Result};
use gristmill_kernel::limits::SQL_CHARS_MAX;
use gristmill_kernel::port::Analysis;
use sqlparser::ast::{Expr, Ident, ObjectName, Query, Select, SetExpr, Spanned, Statement, TableFactor, Visit, Visitor};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token, Tokenizer};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// A query that passed.
#[derive(Debug, Clone)]
pub struct Fenced {
    /// The query.
    pub query: Query,
    /// The names in FROM that it does not define itself, in order of appearance, with their places.
    pub tables: Vec<(String, Span)>,
    /// Where `as_of()` is used.
    pub as_of: Vec<Span>,
    /// Functions whose value changes from call to call, with their places.
    pub restless: Vec<(String, Span)>,
}

/// The moment a feature is read at.
pub const AS_OF: &str = "as_of";

/// Functions that do not depend on the rows and the asked moment alone.
const RESTLESS: [&str; 14] = [
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "today",
    "transaction_timestamp",
    "clock_timestamp",
    "getdate",
    "random",
    "rand",
    "uuid",
    "gen_random_uuid",
];

/// Parses and fences a query.
pub fn parse(text: Text<'_>) -> Result<Fenced> {
    if text.sql.chars().count() > SQL_CHARS_MAX {
        return Err(
            Fault::invalid(Code::SQL_SYNTAX, format!("the query has more than {SQL_CHARS_MAX} characters")).fix("split it into views")
        );
    }
    let mut statements = Parser::new(&GenericDialect {})
        .try_with_sql(text.sql)
        .and_then(|mut p| p.parse_statements())
        .map_err(|e| syntax(&e.to_string(), text))?;
    let statement = match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => statement,
        (None, _) => return Err(refused("the file has no query", "write one SELECT", None)),
        (Some(second), false) => return Err(refused("there is more than one query", "write one SELECT", text.spot_of(second.span()))),
    };
    let Statement::Query(query) = statement else {
        let word = text.sql.split_whitespace().next().unwrap_or_default().to_uppercase();
        return Err(refused(&format!("only a SELECT may be written here, not {word}"), "write one SELECT", text.spot_of(statement.span())));
    };
    let mut walk = Walk { text, tables: Vec::new(), as_of: Vec::new(), restless: Vec::new() };
    if let ControlFlow::Break(fault) = query.visit(&mut walk) {
        return Err(*fault);
    }
    let real = real_tables(&query, text)?;
    let mut seen = BTreeSet::new();
    let tables = walk.tables.into_iter().filter(|(name, _)| real.contains(name) && seen.insert(name.clone())).collect();
    Ok(Fenced { query: *query, tables, as_of: walk.as_of, restless: walk.restless })
}

impl Fenced {
    /// Refuses what would make a feature depend on when it is computed.
    pub fn refuse_restless(&self, text: Text<'_>) -> Result<()> {
        let Some((name, span)) = self.restless.first() else { return Ok(()) };
        let mut spot = text.spot_of(*span);
        if let Some(spot) = &mut spot {
            // The caret covers the parentheses too.
            let after: String = spot.text.chars().skip(spot.column - 1 + spot.width).take(2).collect();
            spot.width += if after == "()" { 2 } else { 0 };
        }
        let (message, fix) = if matches!(name.as_str(), "random" | "rand" | "uuid" | "gen_random_uuid") {
            (
                format!("`{name}()` would give training and serving different values"),
                "leave it out; a feature is computed from rows and `as_of()` alone",
            )
        } else {
            (
                format!("`{name}` in a feature would give training and serving different values"),
                "write `as_of()`, the moment the feature is asked for",
            )
        };
        Err(placed(Fault::invalid(Code::NOW_IN_FEATURE, message).fix(fix), spot))
    }

    /// What callers learn of it.
    pub fn analysis(&self, text: Text<'_>) -> Result<Analysis> {
        Ok(Analysis {
            tables: self.tables.iter().map(|(name, _)| name.clone()).collect(),
            uses_as_of: !self.as_of.is_empty(),
            normalised: normalised(text)?,
        })
    }
}

/// Tokens joined by one space: no comments, one case for words, strings and quoted names as they are.
fn normalised(text: Text<'_>) -> Result<String> {
    let tokens = Tokenizer::new(&GenericDialect {}, text.sql).tokenize().map_err(|e| syntax(&e.to_string(), text))?;
    let mut words: Vec<String> = Vec::new();
    for token in tokens {
        match token {
            Token::Whitespace(_) | Token::SemiColon | Token::EOF => {}
            Token::Word(word) if word.quote_style.is_none() => words.push(word.value.to_lowercase()),
            other => words.push(other.to_string()),
        }
    }
    Ok(words.join(" "))
}

/// A name as SQL reads it: lowercase unless quoted.
pub fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn real_tables(query: &Query, text: Text<'_>) -> Result<BTreeSet<String>> {
    let statement = DfStatement::Statement(Box::new(Statement::Query(Box::new(query.clone()))));
    let (tables, _) = datafusion::sql::resolve::resolve_table_references(&statement, true).map_err(|e| crate::fault::query(e, text))?;
    Ok(tables.iter().map(|t| t.table().to_string()).collect())
}

fn refused(message: &str, fix: &str, spot: Option<gristmill_kernel::error::Spot>) -> Fault {
    placed(Fault::invalid(Code::SQL_NOT_ALLOWED, message).fix(fix), spot)
}

struct Walk<'a> {
    text: Text<'a>,
    tables: Vec<(String, Span)>,
    as_of: Vec<Span>,
    restless: Vec<(String, Span)>,
}

impl Walk<'_> {
    fn refuse(&self, message: &str, fix: &str, span: Span) -> ControlFlow<Box<Fault>> {
        ControlFlow::Break(Box::new(refused(message, fix, self.text.spot_of(span))))
    }

    fn select(&self, select: &Select) -> ControlFlow<Box<Fault>> {
        let odd = select.into.is_some()
            || !select.lateral_views.is_empty()
            || select.prewhere.is_some()
            || !select.connect_by.is_empty()
            || !select.cluster_by.is_empty()
            || !select.distribute_by.is_empty()
            || !select.sort_by.is_empty()
            || select.top.is_some()
            || select.value_table_mode.is_some();
        if odd { self.refuse("this clause may not be used here", "write a plain SELECT", select.span()) } else { ControlFlow::Continue(()) }
    }
}

impl Visitor for Walk<'_> {
    type Break = Box<Fault>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Box<Fault>> {
        if let Some(with) = query.with.as_ref().filter(|w| w.recursive) {
            return self.refuse("a recursive query may not be used here", "write it without RECURSIVE", with.span());
        }
        let odd = !only_selects(&query.body)
            || !query.locks.is_empty()
            || query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty();
        if odd {
            return self.refuse("this clause may not be used here", "write a plain SELECT", query.span());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Box<Fault>> {
        self.select(select)
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Box<Fault>> {
        match statement {
            Statement::Query(_) => ControlFlow::Continue(()),
            other => self.refuse("only a SELECT may be written here", "write one SELECT", other.span()),
        }
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<Box<Fault>> {
        match table {
            TableFactor::Table {
                args: None, version: None, json_path: None, sample: None, with_hints, partitions, index_hints, ..
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => ControlFlow::Continue(()),
            TableFactor::Derived { lateral: false, sample: None, .. } | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            other => {
                self.refuse("FROM may name tables and subqueries only", "read a source, a view, a label set or `request`", other.span())
            }
        }
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<Box<Fault>> {
        let span = name.span();
        let part = match name.0.as_slice() {
            [part] => part.as_ident(),
            _ => None,
        };
        let Some(ident) = part else {
            return self.refuse(&format!("`{name}` is not a table name"), "write a plain name without dots", span);
        };
        if ident.quote_style == Some('\'') {
            return self.refuse(&format!("{name} is a file, not a table"), "make it a source in gristmill.toml", span);
        }
        self.tables.push((folded(ident), span));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Box<Fault>> {
        match expr {
            Expr::Function(function) => {
                let name = function.name.to_string().to_lowercase();
                let span = function.name.span();
                if name == AS_OF {
                    self.as_of.push(span);
                } else if RESTLESS.contains(&name.as_str()) {
                    self.restless.push((name, span));
                }
                ControlFlow::Continue(())
            }
            Expr::Value(value) if matches!(value.value, sqlparser::ast::Value::Placeholder(_)) => {
                self.refuse("a placeholder has no value here", "write the value itself", value.span)
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Whether a body holds only selects: an INSERT or UPDATE may hide in a CTE.
fn only_selects(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(_) | SetExpr::Values(_) => true,
        SetExpr::Query(query) => only_selects(&query.body),
        SetExpr::SetOperation { left, right, .. } => only_selects(left) && only_selects(right),
        _ => false,
    }
}
