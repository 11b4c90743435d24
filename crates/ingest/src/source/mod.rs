//! Where rows may come from. A connector is a folder here and a line in [`CONNECTORS`]; the scheme of `from` chooses it.
//!
//! To add one: a folder with its reader, a variant of [`Origin`], a line in the list; the compiler shows the rest.

pub mod file;
pub mod http;
pub mod replay;

use crate::spec::SourceSpec;
use gristmill_kernel::Timestamp;
use gristmill_kernel::error::{Code, Fault, Result};

/// What a source's `from` means.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Files: a path or a glob.
    Files(String),
    /// Rows that are only pushed.
    Push,
    /// A file whose rows are played by their event time.
    Replay {
        /// The file.
        path: String,
        /// Seconds of the file per second.
        speed: f64,
        /// Where playing begins; rows before are history and loaded at once.
        from: Option<Timestamp>,
    },
}

/// A connector: its scheme, what to write, and how the rest of the text is read.
pub struct Connector {
    /// The scheme before `:`; empty for plain paths.
    pub scheme: &'static str,
    /// An example for messages.
    pub example: &'static str,
    read: fn(rest: &str, spec: &SourceSpec) -> Result<Origin>,
}

/// Every connector that is built in.
pub const CONNECTORS: &[Connector] = &[
    Connector { scheme: "", example: "data/invoices.parquet or data/events/*.csv", read: |path, _| Ok(Origin::Files(path.to_owned())) },
    Connector {
        scheme: "file",
        example: "file:data/invoices.csv",
        read: |rest, _| Ok(Origin::Files(rest.strip_prefix("//").unwrap_or(rest).to_owned())),
    },
    Connector { scheme: "push", example: "push:", read: http::read_url },
    Connector { scheme: "replay", example: "replay://data/invoices.parquet?speed=60", read: replay::read_url },
];

/// Schemes of the design whose connectors are not built in yet.
const NOT_YET: [&str; 12] = ["kafka", "kinesis", "mqtt", "postgres", "postgresql", "mysql", "s3", "gs", "http", "https", "redis", "azure"];

impl Origin {
    /// Reads `from`.
    pub fn of(spec: &SourceSpec) -> Result<Origin> {
        let from = spec.from.trim();
        // A single letter before the colon would be a drive, and a path may have a colon behind its first slash.
        let (scheme, rest) = match from.split_once(':') {
            Some((scheme, rest)) if scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+') => (scheme, rest),
            _ => ("", from),
        };
        if from.is_empty() {
            return Err(Fault::invalid(Code::BAD_VALUE, format!("sources.{} has an empty `from`", spec.name)).fix(choices()));
        }
        let Some(connector) = CONNECTORS.iter().find(|c| c.scheme == scheme) else {
            let shown = if NOT_YET.contains(&scheme) { "is not built in yet" } else { "is unknown" };
            return Err(Fault::invalid(
                Code::PART_UNAVAILABLE,
                format!("sources.{} reads from `{scheme}:`, a connector that {shown}", spec.name),
            )
            .fix(choices()));
        };
        (connector.read)(rest, spec)
    }
}

fn choices() -> String {
    format!("built in are {}", CONNECTORS.iter().map(|c| format!("`{}`", c.example)).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_kernel::Name;

    fn origin(from: &str) -> Result<Origin> {
        Origin::of(&SourceSpec {
            name: Name::new("x").expect("name"),
            from: from.into(),
            time: Some("t".into()),
            late: None,
            columns: None,
            full: false,
        })
    }

    #[test]
    fn the_scheme_chooses_the_connector() {
        assert_eq!(origin("data/*.csv").expect("path"), Origin::Files("data/*.csv".into()));
        assert_eq!(origin("./a:b.csv").expect("path"), Origin::Files("./a:b.csv".into()));
        assert_eq!(origin("file:data/x.csv").expect("path"), Origin::Files("data/x.csv".into()));
        assert_eq!(origin("push:").expect("push"), Origin::Push);
        let replay = |path: &str, speed, from| Origin::Replay { path: path.into(), speed, from };
        assert_eq!(origin("replay://data/x.csv?speed=60").expect("replay"), replay("data/x.csv", 60.0, None));
        assert_eq!(origin("replay://x.csv").expect("replay"), replay("x.csv", 1.0, None));
        let noon = "2011-09-01T12:00:00".parse::<Timestamp>().ok();
        assert_eq!(origin("replay://x.csv?from=2011-09-01T12:00:00&speed=2").expect("replay"), replay("x.csv", 2.0, noon));
        for bad in [
            "replay://x.csv?from=noon",
            "kafka://broker/x",
            "ftp://x",
            "",
            "replay://x.csv?speed=0",
            "replay://x.csv?sped=2",
            "replay://*.csv",
        ] {
            let fault = origin(bad).expect_err(bad);
            assert!(fault.fix.is_some(), "{fault}");
        }
        assert!(origin("kafka://broker/x").expect_err("later").message.contains("not built in yet"));
    }
}
