//! HTTP push: `POST /ingest/SOURCE` with JSON rows.
//!
//! Promises: all rows of a body or none; a row is held against the source's columns before it is acknowledged; acknowledged means durable in the journal
//! and then in the table, once; the same `Idempotency-Key` again changes nothing and gives the first answer; a full journal answers 429 before anything is
//! taken. Only sources with `time` can be pushed to: a snapshot is replaced as a whole, and a few pushed rows are not the whole.

mod feast;
mod routes;

pub use routes::{Sources, ViewSources, routes};

use crate::cell::Rows;
use crate::journal;
use crate::schema::Columns;
use crate::source::Origin;
use crate::source::file::json::{Misfit, Object, Shape, push_object};
use crate::spec::SourceSpec;
use arrow::array::RecordBatch;
use gristmill_kernel::error::{Code, Fault, Kind, Result};
use gristmill_kernel::limits::{IDEMPOTENCY_KEY_CHARS_MAX, INGEST_BODY_BYTES_MAX, INGEST_ROWS_MAX, JOURNAL_ROWS_MAX};
use gristmill_kernel::port::Ports;
use gristmill_kernel::table::{Position, SystemColumns, TableName, TableWrite, WriteMode};
use gristmill_kernel::{Address, AssetKind};

/// What a push was answered.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PushAnswer {
    /// Rows taken.
    pub accepted: u64,
    /// The journal's offset of the last row.
    pub offset: u64,
    /// Whether this was a repetition: the rows had been taken before.
    pub duplicate: bool,
}

/// What a push brings.
#[derive(Debug, Clone, Copy)]
pub struct Push<'a> {
    /// The body.
    pub body: &'a [u8],
    /// Its media type, if the caller said.
    pub content_type: Option<&'a str>,
    /// The caller's key for this body.
    pub idempotency_key: Option<&'a str>,
}

/// Reads `push:`.
pub(super) fn read_url(rest: &str, spec: &SourceSpec) -> Result<Origin> {
    if !rest.is_empty() {
        return Err(Fault::invalid(Code::BAD_VALUE, format!("sources.{} has `from = \"push:{rest}\"`", spec.name))
            .fix("write it as `push:`; rows come by POST /ingest/SOURCE"));
    }
    Ok(Origin::Push)
}

/// Takes pushed rows. When this returns, they are durable.
pub async fn push(ports: &Ports, spec: &SourceSpec, push: Push<'_>) -> Result<PushAnswer> {
    check_key(push.idempotency_key)?;
    take(ports, spec, read_body(push.body, push.content_type)?, push.idempotency_key).await
}

/// Takes rows that were read. When this returns, they are durable.
async fn take(ports: &Ports, spec: &SourceSpec, objects: Vec<Object>, key: Option<&str>) -> Result<PushAnswer> {
    if spec.time.is_none() {
        return Err(Fault::invalid(
            Code::BAD_VALUE,
            format!("sources.{} is a snapshot (it has no `time`), and rows cannot be pushed into a snapshot", spec.name),
        )
        .fix(format!("name its event time column: [sources.{}] time = \"...\"", spec.name)));
    }
    let columns = columns_of(ports, spec, &objects).await?;
    let encoded = check_and_encode(spec, &objects, &columns)?;
    let state = ports.journal.state(&spec.name).await?;
    if state.last.saturating_sub(state.forgotten) + encoded.len() as u64 > JOURNAL_ROWS_MAX {
        return Err(Fault::new(
            Kind::Busy,
            Code::OVERLOADED,
            format!("{JOURNAL_ROWS_MAX} pushed rows of sources.{} wait for their table", spec.name),
        )
        .fix(format!("send it again later; `gristmill run raw.{}` empties the journal", spec.name)));
    }
    let (offset, fresh) = ports.journal.append(&spec.name, ports.clock.now(), encoded, key).await?;
    Ok(PushAnswer { accepted: objects.len() as u64, offset, duplicate: !fresh })
}

fn check_key(key: Option<&str>) -> Result<()> {
    match key {
        Some(key) if key.is_empty() || key.chars().count() > IDEMPOTENCY_KEY_CHARS_MAX => {
            Err(Fault::invalid(Code::BAD_BODY, format!("the idempotency key has {} characters", key.chars().count()))
                .fix(format!("use 1 to {IDEMPOTENCY_KEY_CHARS_MAX} characters, a new one for each body")))
        }
        _ => Ok(()),
    }
}

/// The rows of a body: an array of objects, `{"rows": [...]}`, or an object per line.
pub fn read_body(body: &[u8], content_type: Option<&str>) -> Result<Vec<Object>> {
    if body.len() > INGEST_BODY_BYTES_MAX {
        return Err(Fault::new(
            Kind::TooLarge,
            Code::BODY_TOO_LARGE,
            format!("the body has {} bytes, at most {INGEST_BODY_BYTES_MAX} are taken", body.len()),
        )
        .fix("send the rows in several requests"));
    }
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wrapped {
        rows: Vec<Object>,
    }
    let bad = |e: serde_json::Error| {
        Fault::invalid(Code::BAD_BODY, format!("the body cannot be read as rows: {e}"))
            .fix("send a JSON array of objects, {\"rows\": [...]}, or one object per line as application/x-ndjson; nothing was accepted")
    };
    let lines = content_type.is_some_and(|t| ["ndjson", "jsonl", "json-seq", "jsonlines"].iter().any(|w| t.contains(w)));
    let text = body.trim_ascii();
    let rows = match text.first() {
        Some(b'[') if !lines => serde_json::from_slice(text).map_err(bad)?,
        Some(b'{') if !lines => match serde_json::from_slice::<Wrapped>(text) {
            Ok(wrapped) => wrapped.rows,
            // Without the media type of lines, several objects are lines all the same, and one object is a row, unless it says `rows`.
            Err(wrapped) => match read_lines(text) {
                Ok(rows) if !matches!(rows.as_slice(), [one] if one.0.iter().any(|(k, _)| k == "rows")) => rows,
                Ok(_) => return Err(bad(wrapped)),
                Err(fault) => return Err(fault),
            },
        },
        _ => read_lines(text)?,
    };
    if rows.is_empty() {
        return Err(Fault::invalid(Code::BAD_BODY, "the body has no rows").fix("send at least one object"));
    }
    if rows.len() > INGEST_ROWS_MAX {
        return Err(Fault::new(
            Kind::TooLarge,
            Code::BODY_TOO_LARGE,
            format!("the body has {} rows, at most {INGEST_ROWS_MAX} are taken at once", rows.len()),
        )
        .fix("send the rows in several requests"));
    }
    Ok(rows)
}

fn read_lines(text: &[u8]) -> Result<Vec<Object>> {
    let mut rows = Vec::new();
    for (number, line) in text.split(|b| *b == b'\n').enumerate().filter(|(_, l)| !l.trim_ascii().is_empty()) {
        if rows.len() > INGEST_ROWS_MAX {
            break;
        }
        let row = serde_json::from_slice(line).map_err(|e| {
            Fault::invalid(Code::BAD_BODY, format!("line {} of the body is no row: {e}", number + 1))
                .fix("send one JSON object per line; nothing was accepted")
        })?;
        rows.push(row);
    }
    Ok(rows)
}

/// The columns rows are held against: the pinned ones, else the table's, else those of these first rows, which make the table.
pub(crate) async fn columns_of(ports: &Ports, spec: &SourceSpec, objects: &[Object]) -> Result<Columns> {
    let table = TableName::of(&Address::new(AssetKind::Raw, spec.name.clone()));
    if let Some(columns) = known_columns(ports, spec, &table).await? {
        return Ok(columns);
    }
    let whose = format!("the first body for sources.{}", spec.name);
    let mut shape = Shape::default();
    objects.iter().for_each(|object| shape.see(object));
    let columns = shape.columns(&whose)?.into_iter().map(|(name, guess)| (name, guess.kind())).collect();
    let columns = Columns::new(columns, &whose)?.with_time(spec, &whose)?;
    make_table(ports, &table, &columns).await
}

/// The columns that are pinned or that the table has; `None` for a source that has neither.
pub(crate) async fn known_columns(ports: &Ports, spec: &SourceSpec, table: &TableName) -> Result<Option<Columns>> {
    let pinned = Columns::pinned(spec)?.map(|c| c.with_time(spec, &format!("sources.{} in gristmill.lock", spec.name))).transpose()?;
    match (ports.engine.table(table).await?, pinned) {
        (None, pinned) => Ok(pinned),
        (Some(info), None) => Columns::of_schema(&info.schema).map(Some),
        (Some(info), Some(pinned)) => {
            let there = Columns::of_schema(&info.schema)?;
            let same = there.len() == pinned.len() && there.iter().all(|(n, k)| pinned.position(n).is_some_and(|i| pinned.at(i).1 == k));
            if same {
                return Ok(Some(there));
            }
            let words = |c: &Columns| c.iter().map(|(n, k)| format!("{n} {k}")).collect::<Vec<_>>().join(", ");
            Err(Fault::conflict(
                Code::SCHEMA_CHANGED,
                format!("gristmill.lock says sources.{} is ({}), its table has ({})", spec.name, words(&pinned), words(&there)),
            )
            .fix(format!(
                "read everything again with `gristmill run raw.{} --full`, or put the old columns back in gristmill.lock",
                spec.name
            )))
        }
    }
}

/// Makes an empty table with these columns, so that the first rows decide once and for all. Two first bodies at the same time: one of them decides.
pub(crate) async fn make_table(ports: &Ports, table: &TableName, columns: &Columns) -> Result<Columns> {
    let write = TableWrite {
        table: table.clone(),
        rows: vec![RecordBatch::new_empty(columns.schema())],
        mode: WriteMode::Append,
        system: SystemColumns::Assign(ports.clock.now()),
        positions: vec![Position { stream: "schema".into(), offset: 1 }],
        note: serde_json::Value::Null,
    };
    let written = ports.engine.write(write).await?;
    Columns::of_schema(&written.info.schema)
}

fn check_and_encode(spec: &SourceSpec, objects: &[Object], columns: &Columns) -> Result<Vec<bytes::Bytes>> {
    let mut rows = Rows::new(columns.clone());
    let mut encoded = Vec::with_capacity(objects.len());
    for (index, object) in objects.iter().enumerate() {
        push_object(&mut rows, object, 1).map_err(|misfit| refuse(spec, index + 1, misfit, columns))?;
        if rows.full() {
            rows.finish()?;
        }
        encoded.push(journal::encode(object, columns, None)?);
    }
    Ok(encoded)
}

fn refuse(spec: &SourceSpec, row: usize, misfit: Misfit, columns: &Columns) -> Fault {
    match misfit {
        Misfit::Unknown(key, near) => {
            let near = near.map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
            Fault::invalid(
                Code::SCHEMA_MISMATCH,
                format!("row {row} has a column `{key}`, which sources.{} does not have; nothing was accepted", spec.name),
            )
            .fix(format!("{near}its columns are {}", columns.names()))
        }
        Misfit::Type(key, value, kind) => {
            let value: String = value.to_string().chars().take(100).collect();
            Fault::invalid(Code::WRONG_TYPE, format!("column `{key}` of row {row} is `{value}`, expected {kind}; nothing was accepted"))
                .fix(format!("send `{key}` as {kind}, or null"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_of_a_body_are_the_same_rows() {
        let forms = ["[{\"a\":1},{\"a\":2}]", "{\"rows\":[{\"a\":1},{\"a\":2}]}", "{\"a\":1}\n\n{\"a\":2}\n"];
        let rows: Vec<_> = forms.iter().map(|f| read_body(f.as_bytes(), None).expect(f)).collect();
        assert!(rows.iter().all(|r| *r == rows[0] && r.len() == 2));
        assert_eq!(read_body(b"{\"a\":1}", None).expect("one row").len(), 1);
        assert_eq!(read_body(b"{\"rows\":1}", Some("application/x-ndjson")).expect("a column named rows").len(), 1);
    }

    #[test]
    fn bad_bodies_are_refused_with_a_fix() {
        let deep = format!("[{{\"a\":{}{}}}]", "[".repeat(200), "]".repeat(200));
        for bad in ["", "[]", "1", "[1]", "{\"rows\":1}", "{\"a\":1}\n{", "[{\"a\":1,\"a\":2}]", &deep, "{\"rows\":[{}],\"more\":1}"] {
            let fault = read_body(bad.as_bytes(), None).expect_err(bad);
            assert!(fault.code == Code::BAD_BODY && fault.fix.is_some(), "{bad}: {fault}");
        }
        let many = format!("[{}{{}}]", "{},".repeat(INGEST_ROWS_MAX));
        assert_eq!(read_body(many.as_bytes(), None).expect_err("many").kind, Kind::TooLarge);
        assert!(read_body(&vec![b' '; INGEST_BODY_BYTES_MAX + 1], None).is_err());
    }
}
