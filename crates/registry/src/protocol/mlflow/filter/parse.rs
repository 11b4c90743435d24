//! Words to an expression: `AND`, `OR`, `NOT`, parentheses, and comparisons, which the noun's own reader understands.
//!
//! MLflow knows comparisons joined by `AND`. The rest is ours; a filter that MLflow takes means the same here.

use super::lex::{Token, Word, tokens};
use super::{bad, invalid_clause};
use gristmill_kernel::Result;
use gristmill_kernel::limits::{FILTER_BYTES_MAX, FILTER_DEPTH_MAX};
use gristmill_kernel::tracking::filter::{Filter, Op, Test};

/// A comparison as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Clause {
    /// What stands before the first dot of the name: `metrics`.
    pub entity: Option<String>,
    /// The rest of the name, without quotes.
    pub key: String,
    /// The comparator in capitals: `=`, `NOT IN`, `IS NULL`.
    pub comparator: String,
    /// The values: none for `IS NULL`, two for `BETWEEN`, any number for `IN`, else one.
    pub values: Vec<Literal>,
}

/// A value as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    /// A number and its text.
    Number(f64, String),
    /// A text, without quotes.
    Text(String),
    /// A word that is not quoted.
    Bare(String),
    /// A list where one value is wanted, as it was written.
    List(String),
}

impl Literal {
    /// As it was written, for messages.
    pub(crate) fn raw(&self) -> String {
        match self {
            Literal::Number(_, raw) | Literal::Bare(raw) | Literal::List(raw) => raw.clone(),
            Literal::Text(text) => format!("'{text}'"),
        }
    }
}

/// Parses a filter; `read` turns one comparison into its meaning.
pub(crate) fn parse(text: &str, read: &dyn Fn(Clause) -> Result<Filter>) -> Result<Filter> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(bad(format!("the filter is longer than {FILTER_BYTES_MAX} bytes")));
    }
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Ok(Filter::default());
    }
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0, read };
    let mut filter = parser.any()?;
    // MLflow looks at comparisons only: an `AND` without them says nothing.
    if filter.is_none() && parser.rest().is_empty() {
        filter = Some(Filter::default());
    }
    match (filter, parser.rest()) {
        (Some(filter), []) => Ok(filter),
        (_, rest) => Err(invalid_clause(&raw(rest))),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    read: &'a dyn Fn(Clause) -> Result<Filter>,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a [Token] {
        self.tokens.get(self.at..).unwrap_or_default()
    }
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }
    fn take(&mut self) -> Option<&'a Token> {
        let token = self.peek();
        self.at += 1;
        token
    }
    fn keyword(&mut self, keyword: &str) -> bool {
        let found = self.peek().is_some_and(|t| t.is_keyword(keyword));
        self.at += usize::from(found);
        found
    }
    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > FILTER_DEPTH_MAX {
            return Err(bad(format!("the filter is nested deeper than {FILTER_DEPTH_MAX}")));
        }
        Ok(())
    }

    /// Alternatives; nothing if there is nothing.
    fn any(&mut self) -> Result<Option<Filter>> {
        let start = self.at;
        let Some(first) = self.all()? else { return Ok(None) };
        let mut parts = vec![first];
        while self.keyword("OR") {
            parts.push(self.all()?.ok_or_else(|| invalid_clause(&raw(&self.tokens[start..])))?);
        }
        Ok(Some(joined(parts, Filter::Any)))
    }

    /// Comparisons that all hold. MLflow passes over `AND`s that are too many and does not miss one between two comparisons.
    fn all(&mut self) -> Result<Option<Filter>> {
        let mut parts = Vec::new();
        loop {
            while self.keyword("AND") {}
            match self.peek() {
                None | Some(Token { is: Word::Close, .. }) => break,
                Some(token) if token.is_keyword("OR") => break,
                Some(_) => parts.push(self.unary()?),
            }
        }
        Ok((!parts.is_empty()).then(|| joined(parts, Filter::All)))
    }

    fn unary(&mut self) -> Result<Filter> {
        if self.keyword("NOT") {
            self.deeper()?;
            let inner = self.unary()?;
            self.depth -= 1;
            return Ok(Filter::Not(Box::new(inner)));
        }
        if self.peek().is_some_and(|t| t.is == Word::Open) {
            let start = self.at;
            self.at += 1;
            self.deeper()?;
            let inner = self.any()?;
            self.depth -= 1;
            return match (inner, self.take()) {
                (Some(inner), Some(Token { is: Word::Close, .. })) => Ok(inner),
                _ => Err(invalid_clause(&raw(&self.tokens[start..]))),
            };
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Filter> {
        let start = self.at;
        let so_far = |parser: &Parser<'_>| invalid_clause(&raw(&parser.tokens[start.min(parser.tokens.len())..]));
        let (entity, key) = match self.take().map(|t| &t.is) {
            Some(Word::Name(entity, key)) => (entity.clone(), key.clone()),
            Some(Word::Quoted(key)) => (None, key.clone()),
            _ => return Err(so_far(self)),
        };
        let Some(comparator) = self.comparator()? else { return Err(so_far(self)) };
        let values = match comparator.as_str() {
            "IS NULL" | "IS NOT NULL" => Vec::new(),
            "IN" | "NOT IN" => self.list()?,
            "BETWEEN" | "NOT BETWEEN" => {
                let low = self.value()?;
                if !self.keyword("AND") {
                    return Err(so_far(self));
                }
                vec![low, self.value()?]
            }
            _ => vec![self.value()?],
        };
        // What MLflow does not know: there, and not so.
        if let Some(positive) = comparator.strip_prefix("NOT ").filter(|c| *c != "IN") {
            let inner = (self.read)(Clause { entity, key, comparator: positive.to_owned(), values })?;
            return Ok(present_and_not(inner));
        }
        (self.read)(Clause { entity, key, comparator, values })
    }

    fn comparator(&mut self) -> Result<Option<String>> {
        if let Some(Token { is: Word::Operator(operator), .. }) = self.peek() {
            self.at += 1;
            return Ok(Some(operator.clone()));
        }
        for keyword in ["LIKE", "ILIKE", "RLIKE", "IN", "BETWEEN"] {
            if self.keyword(keyword) {
                return Ok(Some(keyword.into()));
            }
        }
        if self.keyword("NOT") {
            for keyword in ["IN", "LIKE", "ILIKE", "RLIKE", "BETWEEN"] {
                if self.keyword(keyword) {
                    return Ok(Some(format!("NOT {keyword}")));
                }
            }
            return Ok(None);
        }
        if self.keyword("IS") {
            let not = self.keyword("NOT");
            return Ok(self.keyword("NULL").then(|| if not { "IS NOT NULL".into() } else { "IS NULL".into() }));
        }
        Ok(None)
    }

    fn value(&mut self) -> Result<Literal> {
        let start = self.at;
        match self.take() {
            Some(Token { is: Word::Number(number), raw }) => Ok(Literal::Number(*number, raw.clone())),
            Some(Token { is: Word::Text(text) | Word::Quoted(text), .. }) => Ok(Literal::Text(text.clone())),
            Some(token @ Token { is: Word::Name(..), .. }) if !token.is_keyword("AND") && !token.is_keyword("OR") => {
                Ok(Literal::Bare(token.raw.clone()))
            }
            Some(Token { is: Word::Open, .. }) => {
                let close = self.rest().iter().position(|t| t.is == Word::Close);
                let close = close.ok_or_else(|| invalid_clause(&raw(&self.tokens[start..])))?;
                self.at += close + 1;
                Ok(Literal::List(raw(&self.tokens[start..self.at])))
            }
            _ => Err(invalid_clause(&raw(&self.tokens[start.saturating_sub(2).min(self.tokens.len())..]))),
        }
    }

    fn list(&mut self) -> Result<Vec<Literal>> {
        let ill_formed = || bad("While parsing a list in the query, expected a non-empty list of string values, but got ill-formed list.");
        if !matches!(self.take(), Some(Token { is: Word::Open, .. })) {
            return Err(ill_formed());
        }
        let mut values = Vec::new();
        loop {
            if matches!(self.peek(), Some(Token { is: Word::Close, .. })) {
                self.at += 1;
                break;
            }
            match self.take() {
                Some(Token { is: Word::Number(number), raw }) => values.push(Literal::Number(*number, raw.clone())),
                Some(Token { is: Word::Text(text) | Word::Quoted(text), .. }) => values.push(Literal::Text(text.clone())),
                _ => return Err(ill_formed()),
            }
            match self.take().map(|t| &t.is) {
                Some(Word::Comma) => {}
                Some(Word::Close) => break,
                _ => return Err(ill_formed()),
            }
        }
        if values.is_empty() {
            return Err(bad("While parsing a list in the query, expected a non-empty list of string values, but got empty list"));
        }
        Ok(values)
    }
}

/// Holds where the field is there and the test does not hold.
pub(crate) fn present_and_not(inner: Filter) -> Filter {
    let present = match &inner {
        Filter::Test(test) => Some(Filter::Test(Test { field: test.field.clone(), op: Op::IsNotNull, or_absent: false })),
        _ => None,
    };
    let negated = Filter::Not(Box::new(inner));
    match present {
        Some(present) => Filter::All(vec![present, negated]),
        None => negated,
    }
}

/// One part is itself.
fn joined(mut parts: Vec<Filter>, join: fn(Vec<Filter>) -> Filter) -> Filter {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            join(parts)
        }
    }
}

/// What some words were, for a message; not more than a line of it.
fn raw(tokens: &[Token]) -> String {
    let words: Vec<&str> = tokens.iter().take(12).map(|t| t.raw.as_str()).collect();
    words.join(" ")
}
