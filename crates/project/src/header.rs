//! The header of a SQL file: TOML in a leading comment, so that the file stays a plain query.
//!
//! ```sql
//! /*---
//! entity = "customer_id"
//! serve  = "online"
//! ---*/
//! select ...
//! ```
//!
//! Invariant: places in the query are places in the file: the query keeps its own lines, `line_offset` says how many stand above.

use crate::read::{Places, other_file};
use crate::text::Text;
use crate::words::Many;
use gristmill_kernel::column::ColumnType;
use gristmill_kernel::view::{LabelDef, Ties, ViewAt, ViewDef};
use gristmill_kernel::{Code, Fault, Name, Span};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

const OPEN: &str = "/*---";
const CLOSE: &str = "---*/";

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewHeader {
    #[serde(default)]
    entity: Many,
    serve: Option<Serve>,
    at: Option<ViewAt>,
    #[serde(default)]
    request: BTreeMap<String, ColumnType>,
    #[serde(default)]
    ties: Ties,
}

#[derive(serde::Deserialize, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Serve {
    Online,
    Offline,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelHeader {
    entity: Many,
    time: String,
    label: String,
    horizon: Option<Span>,
}

/// Reads `features/NAME.sql`.
pub fn view(text: &Text) -> Result<ViewDef, Vec<Fault>> {
    let example = "start the file with\n/*---\nentity = \"customer_id\"\nserve  = \"online\"\n---*/";
    let (header, query) = split::<ViewHeader>(text, example)?;
    let at = header.at.unwrap_or(ViewAt::Sources);
    if at == ViewAt::Sources {
        entity(&header.entity, text)?;
    }
    if at == ViewAt::Request && header.serve == Some(Serve::Online) {
        return Err(vec![
            Fault::invalid(Code::BAD_HEADER, "a view with `at = \"request\"` is computed in the call and has no `serve`")
                .fix("remove the line `serve`")
                .at(spot(text, "serve")),
        ]);
    }
    if at == ViewAt::Sources && !header.request.is_empty() {
        return Err(vec![
            Fault::invalid(Code::BAD_HEADER, "`request` says what callers send, but the view is computed from sources")
                .fix("write `at = \"request\"` too, or remove the line `request`")
                .at(spot(text, "request")),
        ]);
    }
    if at == ViewAt::Request && header.request.is_empty() {
        return Err(vec![
            Fault::invalid(Code::BAD_HEADER, "the header does not say what callers send")
                .fix("add the columns of `request` with their types: request = { customer_id = \"int\", amount = \"float\" }")
                .at(spot(text, "at")),
        ]);
    }
    if let Some((name, kind)) = header.request.iter().find(|(_, kind)| matches!(kind, ColumnType::Binary | ColumnType::Decimal(..))) {
        return Err(vec![
            Fault::invalid(Code::BAD_HEADER, format!("`{name}` of `request` is {kind}, which JSON cannot say"))
                .fix("types are bool, int, float, text, time and date")
                .at(spot(text, "request")),
        ]);
    }
    if let Some(missing) = header.entity.0.iter().find(|c| at == ViewAt::Request && !header.request.contains_key(*c)) {
        return Err(vec![
            Fault::invalid(Code::BAD_HEADER, format!("the view is about `{missing}`, which is not among the columns of `request`"))
                .fix(format!("add {missing} = \"int\", \"text\" or another type to `request`"))
                .at(spot(text, "entity")),
        ]);
    }
    Ok(ViewDef {
        name: file_name(text)?,
        entity: header.entity.0,
        request: header.request,
        at,
        online: at == ViewAt::Sources && header.serve.unwrap_or(Serve::Online) == Serve::Online,
        ties: header.ties,
        sql: query.sql,
        file: text.file.clone(),
        line_offset: query.line_offset,
    })
}

/// Reads `labels/NAME.sql`.
pub fn labels(text: &Text) -> Result<LabelDef, Vec<Fault>> {
    let example = "start the file with\n/*---\nentity = \"customer_id\"\ntime   = \"asked_at\"\nlabel  = \"churned\"\n---*/";
    let (header, query) = split::<LabelHeader>(text, example)?;
    entity(&header.entity, text)?;
    Ok(LabelDef {
        name: file_name(text)?,
        entity: header.entity.0,
        time: header.time,
        label: header.label,
        horizon: header.horizon,
        sql: query.sql,
        file: text.file.clone(),
        line_offset: query.line_offset,
    })
}

struct Query {
    sql: String,
    line_offset: usize,
}

fn split<H: DeserializeOwned>(text: &Text, example: &str) -> Result<(H, Query), Vec<Fault>> {
    let missing = |message: String, at: usize| {
        let end = text.text[at..].find('\n').map_or(text.text.len(), |i| at + i);
        vec![Fault::invalid(Code::BAD_HEADER, message).fix(example).at(text.spot(at..end))]
    };
    let body = text.text.trim_start_matches('\u{feff}').trim_start();
    let open = text.text.len() - body.len();
    if !body.starts_with(OPEN) {
        return Err(missing(format!("{} has no header", text.file), open));
    }
    let from = open + OPEN.len();
    let Some(length) = text.text[from..].find(CLOSE) else {
        return Err(missing(format!("the header of {} does not end", text.file), open));
    };
    let close = from + length;
    // Blanks stand for what precedes the header, so that places in it are places in the file.
    let blank: String = text.text[..from].chars().map(|c| if c == '\n' { "\n".into() } else { " ".repeat(c.len_utf8()) }).collect();
    let toml = Text::new(&text.file, format!("{blank}{}", &text.text[from..close]));
    let (header, _): (H, Places) = other_file(&toml).map_err(|faults| {
        let as_header = |mut fault: Fault| {
            fault.code = Code::BAD_HEADER;
            fault.message = fault.message.replace(&format!("the top of {}", text.file), "the header");
            // The blanks are not what the user wrote.
            if let Some(spot) = &mut fault.spot
                && let Some(line) = text.text.lines().nth(spot.line.saturating_sub(1))
            {
                spot.text = crate::secrets::covered(line);
            }
            fault
        };
        faults.into_iter().map(as_header).collect::<Vec<_>>()
    })?;
    let behind = close + CLOSE.len();
    let rest = &text.text[behind..];
    let line_end = rest.find('\n').map_or(rest.len(), |i| i + 1);
    let (start, pad) = if rest[..line_end].trim().is_empty() {
        (behind + line_end, String::new())
    } else {
        let line_start = text.text[..behind].rfind('\n').map_or(0, |i| i + 1);
        (behind, " ".repeat(text.text[line_start..behind].chars().count()))
    };
    let line_offset = text.text[..start].matches('\n').count();
    let sql = format!("{pad}{}", text.text[start..].trim_end().trim_end_matches(';').trim_end());
    if sql.trim().is_empty() {
        return Err(vec![Fault::invalid(Code::SQL_SYNTAX, format!("{} has no query behind its header", text.file)).fix("write a select")]);
    }
    if sql.len() > gristmill_kernel::limits::SQL_CHARS_MAX {
        let limit = gristmill_kernel::limits::SQL_CHARS_MAX;
        return Err(vec![
            Fault::invalid(Code::SQL_NOT_ALLOWED, format!("{} is longer than {limit} characters", text.file)).fix("split the view"),
        ]);
    }
    Ok((header, Query { sql, line_offset }))
}

fn entity(entity: &Many, text: &Text) -> Result<(), Vec<Fault>> {
    if entity.0.is_empty() {
        return Err(vec![
            Fault::invalid(Code::BAD_HEADER, format!("the header of {} names no entity", text.file))
                .fix("add entity = \"customer_id\": the columns that say whom a row is about")
                .at(spot(text, "entity")),
        ]);
    }
    Ok(())
}

fn spot(text: &Text, word: &str) -> gristmill_kernel::error::Spot {
    let open = text.text.find(OPEN).unwrap_or(0);
    text.spot(text.word(word, 0).unwrap_or(open..open + OPEN.len()))
}

fn file_name(text: &Text) -> Result<Name, Vec<Fault>> {
    let stem = text.file.rsplit('/').next().unwrap_or_default().trim_end_matches(".sql");
    Name::new(stem).map_err(|fault| {
        let fix = fault.fix.unwrap_or_default();
        vec![
            Fault::invalid(Code::BAD_HEADER, format!("the file {} gives its name to the view, but `{stem}` is not a name", text.file))
                .fix(format!("rename the file: {fix}")),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_and_lines_are_kept() {
        let text = Text::new("features/a.sql", "/*---\nentity = [\"x\", \"y\"]\nties = \"include\"\n---*/\nselect 1\nfrom t;\n");
        let view = view(&text).expect("a view");
        assert_eq!((view.name.as_str(), view.entity.len(), view.line_offset), ("a", 2, 4));
        assert_eq!((view.ties, view.online, view.sql.as_str()), (Ties::Include, true, "select 1\nfrom t"));
    }

    #[test]
    fn a_query_on_the_headers_line_keeps_its_column() {
        let text = Text::new("features/a.sql", "/*---\nentity = \"x\"\n---*/ select 1 from t");
        let view = view(&text).expect("a view");
        assert_eq!((view.line_offset, view.sql.as_str()), (2, "      select 1 from t"));
    }

    #[test]
    fn bad_headers_say_what_is_missing() {
        let code = |content: &str| {
            let faults = view(&Text::new("features/a.sql", content)).expect_err("a fault");
            (faults[0].code, faults[0].message.clone(), faults[0].spot.as_ref().map(|s| (s.line, s.column)))
        };
        assert_eq!(code("select 1"), (Code::BAD_HEADER, "features/a.sql has no header".into(), Some((1, 1))));
        assert_eq!(code("/*---\nserve = \"online\"\n---*/\nselect 1").1, "the header of features/a.sql names no entity");
        assert_eq!(
            code("/*---\nentity = \"x\"\nservr = \"online\"\n---*/\nselect 1"),
            (Code::BAD_HEADER, "unknown key `servr` in the header".into(), Some((3, 1)))
        );
        assert_eq!(labels(&Text::new("labels/a.sql", "/*---\nentity = \"x\"\n---*/\nselect 1")).expect_err("faults").len(), 1);
    }
}
