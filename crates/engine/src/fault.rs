//! From the errors of DataFusion, Delta and the SQL parser to faults with a place and a fix.
//!
//! Invariants: a full disk is found however deep it is wrapped; a message never quotes a path of the server; a place is in the
//! user's file, not in a rewritten query.

use datafusion::common::{DataFusionError, SchemaError, Span};
use deltalake_core::DeltaTableError;
use gristmill_kernel::error::{Code, Fault, Kind, Spot};
use std::error::Error;
use std::fmt::Display;

/// A query as the user wrote it, and where.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// The query.
    pub sql: &'a str,
    /// The user's file; empty for a query without one.
    pub file: &'a str,
    /// Lines of the file before the query.
    pub line_offset: usize,
}

impl<'a> Text<'a> {
    /// A query without a file.
    pub fn bare(sql: &'a str) -> Text<'a> {
        Text { sql, file: "query", line_offset: 0 }
    }
    /// The place at a line and column of the query, both from 1.
    pub fn spot(&self, line: usize, column: usize, width: usize) -> Spot {
        let text = self.sql.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        let room = text.chars().count().saturating_sub(column.saturating_sub(1)).max(1);
        Spot {
            file: self.file.to_string(),
            line: line + self.line_offset,
            column: column.max(1),
            width: width.clamp(1, room),
            text: text.to_string(),
        }
    }
    /// The place of a span of the parser; `None` for an empty one.
    pub fn spot_of(&self, span: sqlparser::tokenizer::Span) -> Option<Spot> {
        let (start, end) = (span.start, span.end);
        (start.line > 0).then(|| {
            let width = if end.line == start.line { end.column.saturating_sub(start.column).max(1) as usize } else { usize::MAX };
            self.spot(start.line as usize, start.column as usize, width)
        })
    }
}

/// Adds a place if there is one.
pub fn placed(fault: Fault, spot: Option<Spot>) -> Fault {
    match spot {
        Some(spot) => fault.at(spot),
        None => fault,
    }
}

/// A failed table operation.
pub fn delta(what: impl Display, error: DeltaTableError) -> Fault {
    match io_cause(&error) {
        Some(kind) => io_fault(what, kind, error),
        None => Fault::new(Kind::Unavailable, Code::IO, format!("{what}: {error}")).because(error),
    }
}

/// A failed query.
pub fn query(error: DataFusionError, text: Text<'_>) -> Fault {
    if let Some(kind) = io_cause(&error) {
        return io_fault("run the query", kind, error);
    }
    let spot = error.diagnostic().and_then(|d| d.span).and_then(|s| df_spot(text, s));
    let fault = match error.find_root() {
        DataFusionError::SchemaError(schema, _) => schema_fault(schema),
        DataFusionError::ResourcesExhausted(_) => {
            Fault::new(Kind::TooLarge, Code::SQL_FAILED, "the query needs more memory than one query may use")
                .fix("read fewer rows: add a window on the time column or a filter")
        }
        DataFusionError::SQL(parse, _) => return syntax(&parse.to_string(), text),
        DataFusionError::External(inner) => match inner.downcast_ref::<Fault>() {
            Some(own) => own.again(),
            None => Fault::invalid(Code::SQL_FAILED, tidy(&inner.to_string())),
        },
        DataFusionError::Internal(message) => Fault::internal(tidy(message)),
        other => plan_fault(&other.strip_backtrace()),
    };
    placed(fault.because(error), spot)
}

fn schema_fault(error: &SchemaError) -> Fault {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let names: Vec<String> = valid_fields.iter().map(|c| c.name.clone()).filter(|n| !n.starts_with("__")).collect();
            unknown(Code::UNKNOWN_COLUMN, "column", &field.name, &names)
        }
        SchemaError::AmbiguousReference { field } => {
            Fault::invalid(Code::UNKNOWN_COLUMN, format!("column `{}` is in more than one table", field.name))
                .fix("write the table's name before it")
        }
        other => Fault::invalid(Code::SQL_FAILED, tidy(&other.to_string())),
    }
}

fn plan_fault(message: &str) -> Fault {
    let message = tidy(message);
    if let Some(rest) = message.strip_prefix("invalid function '") {
        let name = rest.split('\'').next().unwrap_or_default();
        let fault = Fault::invalid(Code::SQL_FAILED, format!("there is no function `{name}`"));
        return match rest.split("Did you mean '").nth(1).and_then(|r| r.split('\'').next()) {
            Some(near) => fault.fix(format!("did you mean `{near}`?")),
            None => fault.fix("see the list of SQL functions of DataFusion"),
        };
    }
    Fault::invalid(Code::SQL_FAILED, message)
}

/// A name that nothing has, with the nearest one and all valid ones.
pub fn unknown(code: Code, what: &str, name: &str, valid: &[String]) -> Fault {
    let fault = Fault::invalid(code, format!("there is no {what} `{name}`"));
    match (nearest(name, valid), valid.is_empty()) {
        (_, true) => fault,
        (Some(near), false) => fault.fix(format!("did you mean `{near}`? there are: {}", listed(valid))),
        (None, false) => fault.fix(format!("there are: {}", listed(valid))),
    }
}

fn nearest<'a>(name: &str, valid: &'a [String]) -> Option<&'a String> {
    let name = name.to_lowercase();
    let scored = valid.iter().map(|v| {
        let other = v.to_lowercase();
        (strsim::damerau_levenshtein(&name, &other), strsim::jaro_winkler(&name, &other), v)
    });
    // A third of the letters may be wrong, or the beginning must be the same.
    let slips = (name.chars().count() / 3).max(1);
    let near = scored.filter(|(distance, likeness, _)| *distance <= slips || *likeness > 0.85);
    near.min_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1))).map(|(_, _, v)| v)
}

fn listed(valid: &[String]) -> String {
    const SHOWN: usize = 40;
    let mut names: Vec<&str> = valid.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
}

/// A text the parser refused; its message ends in `at Line: 2, Column: 8`.
pub fn syntax(message: &str, text: Text<'_>) -> Fault {
    let message = message.trim_start_matches("sql parser error: ").trim_start_matches("SQL error: ");
    let (reason, place) = match message.rsplit_once(" at Line: ") {
        Some((reason, place)) => (reason, Some(place)),
        None => (message, None),
    };
    let spot = place.and_then(|place| {
        let (line, column) = place.split_once(", Column: ")?;
        let digits: String = column.chars().take_while(char::is_ascii_digit).collect();
        let (line, column) = (line.trim().parse().ok()?, digits.parse().ok()?);
        Some(text.spot(line, column, word_width(text.sql, line, column)))
    });
    let spot = spot.or_else(|| {
        // The parser has no place for the end of the text.
        let lines = text.sql.lines().count().max(1);
        let last = text.sql.lines().next_back().unwrap_or_default();
        Some(text.spot(lines, last.chars().count().max(1), 1))
    });
    placed(Fault::invalid(Code::SQL_SYNTAX, format!("the SQL does not parse: {}", tidy(reason))).fix("correct the query at the mark"), spot)
}

fn word_width(sql: &str, line: usize, column: usize) -> usize {
    let text = sql.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    text.chars().skip(column.saturating_sub(1)).take_while(|c| c.is_alphanumeric() || *c == '_').count().max(1)
}

fn df_spot(text: Text<'_>, span: Span) -> Option<Spot> {
    let (line, column) = (span.start.line as usize, span.start.column as usize);
    let width = if span.end.line == span.start.line { (span.end.column as usize).saturating_sub(column) } else { usize::MAX };
    (line > 0).then(|| text.spot(line, column, width.max(1)))
}

/// One line, no prefix of a library, no full stop, a lowercase start unless it is a keyword.
fn tidy(message: &str) -> String {
    let mut text = message.lines().next().unwrap_or_default().trim();
    for prefix in [
        "Error during planning: ",
        "Execution error: ",
        "External error: ",
        "Schema error: ",
        "Arrow error: ",
        "This feature is not implemented: ",
    ] {
        text = text.trim_start_matches(prefix);
    }
    let text = text.trim_end_matches('.');
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            format!("{}{}", first.to_lowercase(), &text[first.len_utf8()..])
        }
        _ => text.to_string(),
    }
}

fn io_cause(error: &(dyn Error + 'static)) -> Option<std::io::ErrorKind> {
    let mut at: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = at {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            // An io error may itself wrap the real one.
            return match io.get_ref().and_then(|inner| io_cause(inner)) {
                Some(kind) => Some(kind),
                None => Some(io.kind()),
            };
        }
        at = error.source();
    }
    None
}

fn io_fault(what: impl Display, kind: std::io::ErrorKind, error: impl Error + Send + Sync + 'static) -> Fault {
    Fault::io(what, std::io::Error::from(kind)).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_found_inside() {
        let io = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let store = object_store::Error::Generic { store: "x", source: Box::new(io) };
        assert_eq!(delta("commit", DeltaTableError::ObjectStore { source: store }).code, Code::DISK_FULL);
        let io = DataFusionError::IoError(std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!(query(io, Text::bare("select 1")).code, Code::DISK_FULL);
    }

    #[test]
    fn near_names_come_first() {
        let valid = ["amount".to_string(), "kind".to_string()];
        let fault = unknown(Code::UNKNOWN_COLUMN, "column", "ammount", &valid);
        assert_eq!(fault.fix.as_deref(), Some("did you mean `amount`? there are: amount, kind"));
    }
}
