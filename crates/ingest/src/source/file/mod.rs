//! Files: a path or a glob relative to the project, read as CSV, JSON lines or Parquet by the file's ending.
//!
//! Promise: a file is read wholly or not at all, and whatever cannot be read is an error with file, line, reason and fix. To add a format: a file here
//! with `infer` and a `Reader`, and a line in [`Format::of`], [`infer`] and [`open`].

pub mod csv;
pub mod json;
pub mod parquet;

use crate::cell::Guess;
use crate::schema::{ColumnType, Columns, nearest};
use arrow::array::RecordBatch;
use gristmill_kernel::Digest;
use gristmill_kernel::digest::Hasher;
use gristmill_kernel::error::{Code, Fault, Result, Spot};
use gristmill_kernel::limits::SOURCE_FILES_MAX;
use gristmill_kernel::stage::CancelFlag;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A file's name for people, and whether somebody asked to stop reading it.
#[derive(Debug, Clone)]
pub struct Shown {
    name: Arc<str>,
    cancel: CancelFlag,
}

impl Shown {
    /// A name that nobody will cancel.
    pub fn new(name: &str) -> Shown {
        Shown { name: name.into(), cancel: CancelFlag::default() }
    }
    /// A name with a flag to look at.
    pub fn watched(name: &str, cancel: &CancelFlag) -> Shown {
        Shown { name: name.into(), cancel: cancel.clone() }
    }
    /// Looks at the flag every few thousand rows.
    fn check_now_and_then(&self, row: usize) -> Result<()> {
        if row.is_multiple_of(4096) { self.cancel.check() } else { Ok(()) }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text with a header.
    Csv,
    /// Objects.
    Json,
    /// Parquet.
    Parquet,
}

impl Format {
    /// From the file's ending.
    pub fn of(path: &str) -> Result<Format> {
        let ending = path.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase()).unwrap_or_default();
        match ending.as_str() {
            "csv" | "tsv" => Ok(Format::Csv),
            "jsonl" | "ndjson" | "json" => Ok(Format::Json),
            "parquet" | "pq" => Ok(Format::Parquet),
            _ => Err(Fault::invalid(Code::SOURCE_UNREADABLE, format!("`{path}` has an ending that no reader knows"))
                .fix("readable are .csv, .tsv, .jsonl, .ndjson, .json and .parquet; unpack compressed files first")),
        }
    }
}

/// A file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name for people and for the record of loads: relative to the project where it is inside.
    pub path: String,
    /// Where it is.
    pub full: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Its modification time in microseconds.
    pub mtime: i64,
}

/// The files a path or glob names, in order of their names.
pub fn list(project_dir: &Path, pattern: &str, source: &str) -> Result<Vec<Seen>> {
    let is_glob = pattern.contains(['*', '?', '[']);
    let full = project_dir.join(pattern);
    if !is_glob {
        return if full.is_file() { Ok(vec![see(project_dir, &full)?]) } else { Err(missing(project_dir, pattern, source)) };
    }
    // Only what the user wrote is a pattern, not the folder the project happens to lie in.
    let escaped = if Path::new(pattern).is_absolute() {
        pattern.to_owned()
    } else {
        format!("{}/{pattern}", glob::Pattern::escape(&project_dir.to_string_lossy()))
    };
    let options = glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let found = glob::glob_with(&escaped, options).map_err(|e| {
        Fault::invalid(Code::BAD_VALUE, format!("`{pattern}` in sources.{source} is not a glob: {}", e.msg))
            .fix("write it like data/events/*.parquet")
    })?;
    let mut files = Vec::new();
    for path in found {
        let path = path.map_err(|e| Fault::io(format!("list {pattern}"), e.into()))?;
        if path.is_file() {
            files.push(see(project_dir, &path)?);
        }
        if files.len() > SOURCE_FILES_MAX {
            return Err(Fault::invalid(
                Code::SOURCE_UNREADABLE,
                format!("`{pattern}` in sources.{source} names more than {SOURCE_FILES_MAX} files"),
            )
            .fix("merge small files or narrow the glob"));
        }
    }
    if files.is_empty() {
        return Err(missing(project_dir, pattern, source));
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn missing(project_dir: &Path, pattern: &str, source: &str) -> Fault {
    let what = if pattern.contains(['*', '?', '[']) { "no file matches" } else { "there is no file" };
    let path = Path::new(pattern);
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let shown = if folder.as_os_str().is_empty() { ".".to_owned() } else { folder.display().to_string() };
    let mut names: Vec<String> = std::fs::read_dir(project_dir.join(folder))
        .map(|entries| entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    names.retain(|n| Format::of(n).is_ok());
    names.sort();
    let fix = match (nearest(&name, names.iter().map(String::as_str)), names.len()) {
        (Some(near), _) => format!("did you mean `{}`?", folder.join(near).display()),
        (None, 0) => format!("folder `{shown}` has no data files; paths are relative to the folder of gristmill.toml"),
        (None, n) => format!("folder `{shown}` has {}{}", names[..n.min(8)].join(", "), if n > 8 { ", ..." } else { "" }),
    };
    Fault::not_found(Code::FILE_NOT_FOUND, format!("{what} `{pattern}`, which sources.{source} reads from")).fix(fix)
}

fn see(project_dir: &Path, full: &Path) -> Result<Seen> {
    let shown = full.strip_prefix(project_dir).unwrap_or(full).to_string_lossy().replace('\\', "/");
    let meta = std::fs::metadata(full).map_err(|e| Fault::io(format!("look at {shown}"), e))?;
    let modified = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    Ok(Seen { path: shown, full: full.to_owned(), size: meta.len(), mtime: modified.map_or(0, |d| d.as_micros() as i64) })
}

impl Seen {
    /// Opens it.
    pub fn open(&self) -> Result<File> {
        File::open(&self.full).map_err(|e| {
            let fault = Fault::io(format!("open {}", self.path), e);
            if fault.code == Code::IO { Fault { code: Code::SOURCE_UNREADABLE, ..fault } } else { fault }
        })
    }
    /// The digest of its first `bytes` bytes (of all of it, if there are fewer).
    pub fn digest(&self, bytes: u64, cancel: &CancelFlag) -> Result<Digest> {
        let mut file = self.open()?.take(bytes);
        let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 1 << 20]);
        loop {
            cancel.check()?;
            match file.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(n) => hasher.update(&buffer[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Fault::io(format!("read {}", self.path), e)),
            }
        }
    }
    /// An error if the file is no longer what was found: then what was read may be half of one and half of another.
    pub fn check_unchanged(&self) -> Result<()> {
        let meta = std::fs::metadata(&self.full).map_err(|e| Fault::io(format!("look at {}", self.path), e))?;
        let modified = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |d| d.as_micros() as i64);
        if meta.len() == self.size && modified == self.mtime {
            return Ok(());
        }
        Err(Fault::new(gristmill_kernel::Kind::Unavailable, Code::SOURCE_UNREADABLE, format!("{} changed while it was read", self.path))
            .fix("write new files under another name and rename them into place; nothing of this load was kept"))
    }
}

/// A file that counts the bytes read from it, for the progress bar.
struct Counted {
    file: File,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Rows of one file.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// Opens a file as batches of the given columns. `bytes` counts what was read.
pub fn open(seen: &Seen, columns: &Columns, cancel: &CancelFlag, bytes: &Arc<AtomicU64>) -> Result<Batches> {
    let shown = Shown::watched(&seen.path, cancel);
    let file = seen.open()?;
    Ok(match Format::of(&seen.path)? {
        Format::Csv => Box::new(csv::Reader::new(Counted { file, bytes: bytes.clone() }, shown, columns)?),
        Format::Json => Box::new(json::Reader::new(Counted { file, bytes: bytes.clone() }, shown, columns)),
        Format::Parquet => Box::new(parquet::Reader::new(file, shown, columns)?),
    })
}

/// The columns that all the files together have. Text formats are read to the end, so every broken line is found here.
pub fn infer(files: &[Seen], cancel: &CancelFlag) -> Result<Vec<(String, ColumnType)>> {
    let mut all: Vec<(String, Guess)> = Vec::new();
    for (index, seen) in files.iter().enumerate() {
        let shown = Shown::watched(&seen.path, cancel);
        let format = Format::of(&seen.path)?;
        let columns = match format {
            Format::Csv => csv::infer(seen.open()?, &shown)?,
            Format::Json => json::infer(seen.open()?, &shown)?,
            Format::Parquet => parquet::infer(seen.open()?, &shown)?,
        };
        if index == 0 {
            all = columns;
            continue;
        }
        for (name, guess) in columns {
            match all.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => known.merge_guess(guess),
                // Any object may bring a key of its own; the other formats say their columns in every file, and match_columns compares them.
                None if format == Format::Json => all.push((name, guess)),
                None => {
                    return Err(unknown_column(
                        &shown,
                        None,
                        &name,
                        None,
                        &Columns::new(all.iter().map(|(n, g)| (n.clone(), g.kind())).collect(), "")?,
                    ));
                }
            }
        }
    }
    Ok(all.into_iter().map(|(name, guess)| (name, guess.kind())).collect())
}

/// For each column its place among the names of a file; every name must be a column and every column a name.
fn match_columns(names: &[String], columns: &Columns, shown: &Shown) -> Result<Vec<usize>> {
    if let Some(name) = names.iter().find(|n| columns.position(n).is_none()) {
        let absent: Vec<&str> = columns.iter().map(|(n, _)| n).filter(|n| !names.iter().any(|m| m == n)).collect();
        return Err(unknown_column(shown, None, name, nearest(name, absent.iter().copied()), columns));
    }
    let place = |(name, kind): (&str, ColumnType)| {
        names.iter().position(|n| n == name).ok_or_else(|| {
            Fault::invalid(Code::SCHEMA_MISMATCH, format!("{shown} has no column `{name}` ({kind})")).fix(format!(
                "its columns are {}; {}",
                names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", "),
                change_of_schema(kind)
            ))
        })
    };
    columns.iter().map(place).collect()
}

fn unknown_column(shown: &Shown, line: Option<usize>, name: &str, near: Option<&str>, columns: &Columns) -> Fault {
    let place = line.map(|l| format!(" in line {l}")).unwrap_or_default();
    let near = near.map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
    Fault::invalid(
        Code::SCHEMA_MISMATCH,
        format!("{shown} has a column `{name}`{place} that the source does not have; nothing of this load was kept"),
    )
    .fix(format!(
        "{near}the columns are {}; if it is meant to be new, accept it with `gristmill check --lock` and reload with --full",
        columns.names()
    ))
}

fn wrong_type(shown: &Shown, line: usize, name: &str, value: &str, kind: ColumnType) -> Fault {
    let value: String = value.chars().take(100).collect();
    Fault::invalid(Code::WRONG_TYPE, format!("column `{name}` is `{value}`, expected {kind}; nothing of this load was kept"))
        .fix(change_of_schema(kind))
        .at(Spot { file: shown.to_string(), line, column: 1, width: 1, text: String::new() })
}

fn change_of_schema(kind: ColumnType) -> String {
    let wrote = match kind {
        ColumnType::Bool => "write true or false",
        ColumnType::Int => "write a whole number",
        ColumnType::Float => "write a number such as 1.5",
        ColumnType::Text => "write text",
        ColumnType::Time => "write a moment such as 2011-09-01T12:00:00Z",
        ColumnType::Date => "write a day such as 2011-09-01",
        ColumnType::Binary => "write base64",
        ColumnType::Decimal(..) => "write a decimal number that fits",
    };
    format!("{wrote}; if the change is meant, accept it with `gristmill check --lock` and reload with --full")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_files_are_named_with_what_is_near() {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::create_dir(dir.path().join("data")).expect("folder");
        std::fs::write(dir.path().join("data/invoices.csv"), "a\n1\n").expect("file");
        let fault = list(dir.path(), "data/invoice.csv", "invoices").expect_err("missing");
        assert_eq!(fault.code, Code::FILE_NOT_FOUND);
        assert!(fault.fix.as_deref().expect("fix").contains("data/invoices.csv"), "{fault}");
        assert!(list(dir.path(), "data/*.parquet", "invoices").expect_err("none").message.contains("no file matches"));
        assert_eq!(list(dir.path(), "data/*.csv", "invoices").expect("one")[0].path, "data/invoices.csv");
        assert_eq!(Format::of("x.xls").expect_err("unknown").code, Code::SOURCE_UNREADABLE);
    }

    #[test]
    fn a_glob_in_the_project_folder_is_no_pattern() {
        let dir = tempfile::tempdir().expect("dir");
        let odd = dir.path().join("a[b]*");
        std::fs::create_dir(&odd).expect("folder");
        std::fs::write(odd.join("x.csv"), "a\n").expect("file");
        assert_eq!(list(&odd, "*.csv", "x").expect("one").len(), 1);
    }

    #[test]
    fn files_of_one_source_share_their_columns() {
        let dir = tempfile::tempdir().expect("dir");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("file");
        write("1.csv", "a,b\n1,2\n");
        write("2.csv", "b,a\n2.5,1\n");
        let files = list(dir.path(), "*.csv", "x").expect("two");
        let cancel = CancelFlag::default();
        assert_eq!(infer(&files, &cancel).expect("columns"), [("a".into(), ColumnType::Int), ("b".into(), ColumnType::Float)]);
        write("3.csv", "a,c\n1,2\n");
        let files = list(dir.path(), "*.csv", "x").expect("three");
        assert_eq!(infer(&files, &cancel).expect_err("another column").code, Code::SCHEMA_MISMATCH);
        cancel.cancel();
        write("4.csv", &format!("a\n{}", "1\n".repeat(5000)));
        let files = list(dir.path(), "4.csv", "x").expect("one");
        assert_eq!(infer(&files, &cancel).expect_err("stopped").code, Code::CANCELLED);
    }
}
