//! One error for everything a user can meet: kind, code, what happened, where, and the fix.
//!
//! Invariants: `message` is lowercase without a full stop and names the thing; `fix` says what to do
//! next; secrets never enter either. Every code has a page (`gristmill explain E0207`), kept in the
//! binary's `codes/` folder, one Markdown file per code; a test demands the page.
//! The `source` is for the log, never for a remote caller.

use std::fmt;

/// The result of everything fallible behind a port or in a stage.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// What a caller may match on. The HTTP status and the exit code follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The caller sent or wrote something wrong (400, exit 1).
    Invalid,
    /// The named thing does not exist (404).
    NotFound,
    /// Somebody else was first, or the state does not allow it (409).
    Conflict,
    /// No or wrong credentials (401).
    Unauthenticated,
    /// Known caller without the right (403).
    Denied,
    /// A limit was reached; try later (429).
    Busy,
    /// Too large for a stated limit (413).
    TooLarge,
    /// A gate or expectation said no (422, exit 4).
    Refused,
    /// A part we depend on is unreachable or out of space; worth a retry (503).
    Unavailable,
    /// It took longer than its limit (504).
    Timeout,
    /// Stopped on request.
    Cancelled,
    /// Stored data that cannot be true (500).
    Damaged,
    /// A bug of ours (500).
    Internal,
}

impl Kind {
    /// Whether the runner should try the same step again.
    pub fn is_transient(self) -> bool {
        matches!(self, Kind::Busy | Kind::Unavailable | Kind::Timeout)
    }
}

/// A stable error code such as `E0207`; the page explains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub &'static str);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl Code { $( $(#[$doc])* pub const $name: Code = Code($code); )* }
        /// Every code there is; each must have a page.
        pub const ALL_CODES: &[Code] = &[$(Code::$name),*];
    };
}

codes! {
    // E01: the project file
    /// No `gristmill.toml` in the folder or above it.
    PROJECT_NOT_FOUND = "E0101";
    /// The TOML does not parse.
    PROJECT_SYNTAX = "E0102";
    /// A key that does not exist.
    UNKNOWN_KEY = "E0103";
    /// A value of the wrong type or outside its range.
    BAD_VALUE = "E0104";
    /// A name that is used but not defined.
    UNKNOWN_NAME = "E0105";
    /// `${NAME}` without a value.
    MISSING_SECRET = "E0106";
    /// A file named in the project does not exist.
    FILE_NOT_FOUND = "E0107";
    /// A schema differs from the one pinned in `gristmill.lock`.
    SCHEMA_CHANGED = "E0108";
    /// A cycle among views.
    CYCLE = "E0109";
    /// An unknown environment.
    UNKNOWN_ENV = "E0110";
    // E02: SQL, features and labels
    /// The SQL does not parse.
    SQL_SYNTAX = "E0201";
    /// A table that is no source, view, label set or `request`.
    UNKNOWN_TABLE = "E0202";
    /// A column that the table lacks.
    UNKNOWN_COLUMN = "E0203";
    /// A statement that is not a plain query.
    SQL_NOT_ALLOWED = "E0204";
    /// The SQL header comment is missing or wrong.
    BAD_HEADER = "E0205";
    /// A feature that cannot be read as of a moment.
    AS_OF_UNSUPPORTED = "E0206";
    /// `now()` in a feature.
    NOW_IN_FEATURE = "E0207";
    /// A query that failed while running.
    SQL_FAILED = "E0208";
    /// A condition that is not a boolean over known figures.
    BAD_CONDITION = "E0209";
    // E03: ingestion and validation
    /// A source that cannot be read.
    SOURCE_UNREADABLE = "E0301";
    /// A row that cannot be parsed (file, line, reason).
    BAD_ROW = "E0302";
    /// A column of the wrong type.
    WRONG_TYPE = "E0303";
    /// An expectation failed with `else = "fail"`.
    EXPECTATION_FAILED = "E0304";
    /// A source that nobody defined.
    UNKNOWN_SOURCE = "E0305";
    /// Rows that lack a required column or carry an unknown one.
    SCHEMA_MISMATCH = "E0306";
    // E04: training, registry
    /// The training set cannot be trained on (one class, no rows, ...).
    UNTRAINABLE = "E0401";
    /// An algorithm or metric that does not exist.
    UNKNOWN_ALGORITHM = "E0402";
    /// A gate said no.
    GATE_FAILED = "E0403";
    /// A model or version that does not exist.
    UNKNOWN_MODEL = "E0404";
    /// An alias moved under the caller, or may not move.
    ALIAS_CONFLICT = "E0405";
    /// A model file that cannot be read.
    BAD_MODEL = "E0406";
    /// An experiment that does not exist.
    UNKNOWN_EXPERIMENT = "E0407";
    /// A logged model that does not exist.
    UNKNOWN_LOGGED_MODEL = "E0408";
    /// A name that is taken.
    ALREADY_EXISTS = "E0409";
    /// A thing that was deleted.
    NOT_ACTIVE = "E0410";
    /// A parameter that was logged with another value.
    PARAM_CHANGED = "E0411";
    /// A tag that does not exist.
    UNKNOWN_TAG = "E0412";
    /// An alias that does not exist.
    UNKNOWN_ALIAS = "E0413";
    /// A name that cannot be the key of an artifact.
    BAD_PATH = "E0414";
    /// A search filter or order that cannot be read.
    BAD_FILTER = "E0415";
    /// An artifact that does not exist.
    UNKNOWN_ARTIFACT = "E0416";
    /// A trace or assessment that does not exist.
    UNKNOWN_TRACE = "E0417";
    /// A webhook that does not exist.
    UNKNOWN_WEBHOOK = "E0418";
    /// A part of a protocol that this server does not have.
    NOT_SUPPORTED = "E0419";
    /// An evaluation dataset that does not exist.
    UNKNOWN_DATASET = "E0420";
    // E05: serving
    /// An endpoint that does not exist.
    UNKNOWN_ENDPOINT = "E0501";
    /// A request without an entity key or input.
    MISSING_INPUT = "E0502";
    /// A body above its limit.
    BODY_TOO_LARGE = "E0503";
    /// A body that is not what the route reads.
    BAD_BODY = "E0504";
    /// No or wrong token.
    NOT_AUTHENTICATED = "E0505";
    /// A token without the right.
    NOT_ALLOWED = "E0506";
    /// A queue is full.
    OVERLOADED = "E0507";
    /// Not ready or draining.
    NOT_READY = "E0508";
    /// A route that does not exist.
    NO_ROUTE = "E0509";
    /// A rollout that cannot do what was asked.
    ROLLOUT_CONFLICT = "E0510";
    /// A registered version that nothing here can answer with.
    NOT_SERVABLE = "E0511";
    /// A prediction that is not in the log.
    UNKNOWN_PREDICTION = "E0512";
    // E06: the machine
    /// The port is in use.
    PORT_IN_USE = "E0601";
    /// The disk is full.
    DISK_FULL = "E0602";
    /// A file or folder cannot be read or written.
    IO = "E0603";
    /// The state folder is held by another process.
    STATE_LOCKED = "E0604";
    /// Stored data that cannot be true.
    DAMAGED = "E0605";
    /// Written by a newer version.
    NEWER_FORMAT = "E0606";
    /// A configured part is unreachable or not built in.
    PART_UNAVAILABLE = "E0607";
    // E07: runs
    /// A run that does not exist.
    UNKNOWN_RUN = "E0701";
    /// A run that was cancelled.
    CANCELLED = "E0702";
    /// A step took too long.
    TIMED_OUT = "E0703";
    /// An address that names nothing.
    UNKNOWN_ADDRESS = "E0704";
    /// A step whose process ended before it did.
    INTERRUPTED = "E0705";
    /// A bug of ours.
    INTERNAL = "E0999";
}

/// Where in a text the reason sits; lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Spot {
    /// The file as the user names it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How many characters the caret underlines, at least 1.
    pub width: usize,
    /// The line's own text.
    pub text: String,
}

/// An error a user can meet.
#[derive(Debug)]
pub struct Fault {
    /// What a caller may match on.
    pub kind: Kind,
    /// The code with a page.
    pub code: Code,
    /// What happened, for the user.
    pub message: String,
    /// What to do next.
    pub fix: Option<String>,
    /// Where, if it has a place in a text.
    pub spot: Option<Box<Spot>>,
    /// The cause, for the log.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Fault {
    /// A fault without fix, place and cause.
    pub fn new(kind: Kind, code: Code, message: impl Into<String>) -> Fault {
        Fault { kind, code, message: message.into(), fix: None, spot: None, source: None }
    }
    /// The caller wrote or sent something wrong.
    pub fn invalid(code: Code, message: impl Into<String>) -> Fault {
        Fault::new(Kind::Invalid, code, message)
    }
    /// The named thing does not exist.
    pub fn not_found(code: Code, message: impl Into<String>) -> Fault {
        Fault::new(Kind::NotFound, code, message)
    }
    /// The state does not allow it.
    pub fn conflict(code: Code, message: impl Into<String>) -> Fault {
        Fault::new(Kind::Conflict, code, message)
    }
    /// A bug of ours, or something that cannot happen.
    pub fn internal(message: impl Into<String>) -> Fault {
        Fault::new(Kind::Internal, Code::INTERNAL, message)
    }
    /// Stored data that cannot be true: say table, column, row.
    pub fn damaged(message: impl Into<String>) -> Fault {
        Fault::new(Kind::Damaged, Code::DAMAGED, message)
    }
    /// A failed file operation; a full disk becomes its own code and is worth a retry.
    pub fn io(what: impl fmt::Display, error: std::io::Error) -> Fault {
        let (kind, code, fix) = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => (
                Kind::Unavailable,
                Code::DISK_FULL,
                "free some space on that disk; nothing acknowledged was lost, and the work goes on when there is room",
            ),
            std::io::ErrorKind::NotFound => (Kind::NotFound, Code::IO, "check that the path exists"),
            _ => (Kind::Unavailable, Code::IO, "check the path and its permissions"),
        };
        Fault::new(kind, code, format!("{what}: {error}")).fix(fix).because(error)
    }
    /// The same fault for another one who is told of it; causes cannot be copied.
    #[must_use]
    pub fn again(&self) -> Fault {
        let (message, fix, spot) = (self.message.clone(), self.fix.clone(), self.spot.clone());
        Fault { kind: self.kind, code: self.code, message, fix, spot, source: None }
    }
    /// Adds what to do next.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Fault {
        self.fix = Some(fix.into());
        self
    }
    /// Adds the place.
    #[must_use]
    pub fn at(mut self, spot: Spot) -> Fault {
        self.spot = Some(Box::new(spot));
        self
    }
    /// Adds the cause, for the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Fault {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(spot) = &self.spot {
            write!(f, "{}:{}:{}: ", spot.file, spot.line, spot.column)?;
        }
        write!(f, "{} [{}]", self.message, self.code)?;
        if let Some(fix) = &self.fix {
            write!(f, "; fix: {fix}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_well_formed() {
        let mut seen = std::collections::BTreeSet::new();
        for code in ALL_CODES {
            assert!(code.0.len() == 5 && code.0.starts_with('E') && code.0[1..].chars().all(|c| c.is_ascii_digit()), "{code}");
            assert!(seen.insert(code.0), "{code} is used twice");
        }
    }

    #[test]
    fn a_full_disk_has_its_own_code_and_is_retried() {
        let fault = Fault::io("write journal", std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!(fault.code, Code::DISK_FULL);
        assert!(fault.kind.is_transient());
    }
}
