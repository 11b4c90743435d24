//! Secrets: `${NAME}` and `${file:PATH}`.
//!
//! Invariants: specs, the ledger and every printing hold only the name; the value comes out of [`EnvSecrets`] as a
//! [`SecretString`] at the moment of use. The environment and the `.env` text are passed in; nothing here reads them.

use gristmill_kernel::port::Secrets;
use gristmill_kernel::{Code, Fault, Result};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How a secret prints.
pub const MASK: &str = "•••";
/// Largest file behind `${file:PATH}`.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Secrets from an environment, a `.env` file and files.
pub struct EnvSecrets {
    vars: BTreeMap<String, SecretString>,
    folder: PathBuf,
}

impl EnvSecrets {
    /// From the environment and the text of `.env`; the environment wins. Relative `${file:...}` paths start at `folder`.
    pub fn new(vars: BTreeMap<String, String>, dotenv: Option<&str>, folder: impl Into<PathBuf>) -> EnvSecrets {
        let mut all = dotenv.map(parse_dotenv).unwrap_or_default();
        all.extend(vars);
        EnvSecrets { vars: all.into_iter().map(|(k, v)| (k, SecretString::from(v))).collect(), folder: folder.into() }
    }
    /// As [`EnvSecrets::new`], reading `.env` in the folder if there is one.
    pub fn read(vars: BTreeMap<String, String>, folder: &Path) -> Result<EnvSecrets> {
        match std::fs::read_to_string(folder.join(".env")) {
            Ok(text) => Ok(EnvSecrets::new(vars, Some(&text), folder)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(EnvSecrets::new(vars, None, folder)),
            Err(e) => Err(Fault::io("read .env", e)),
        }
    }
}

impl std::fmt::Debug for EnvSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.vars.keys().map(|k| (k, MASK))).finish()
    }
}

impl Secrets for EnvSecrets {
    fn get(&self, name: &str) -> Result<SecretString> {
        if let Some(path) = name.strip_prefix("file:") {
            let full = self.folder.join(path);
            let missing = |why: String| {
                Fault::invalid(Code::MISSING_SECRET, format!("`${{{name}}}` has no value: {why}"))
                    .fix(format!("put the secret into {path}"))
            };
            let size = std::fs::metadata(&full).map_err(|e| missing(e.to_string()))?.len();
            if size > SECRET_BYTES_MAX {
                return Err(missing(format!("the file is larger than {SECRET_BYTES_MAX} bytes")));
            }
            let text = std::fs::read_to_string(&full).map_err(|e| missing(e.to_string()))?;
            return Ok(SecretString::from(text.trim_end_matches(['\n', '\r']).to_owned()));
        }
        self.vars.get(name).cloned().ok_or_else(|| {
            Fault::invalid(Code::MISSING_SECRET, format!("`${{{name}}}` has no value"))
                .fix(format!("set {name} in the environment, or write {name}=... into .env (which stays out of git)"))
        })
    }
    fn fill(&self, text: &str) -> Result<SecretString> {
        let mut filled = String::with_capacity(text.len());
        for piece in pieces(text) {
            match piece {
                Piece::Text(t) => filled.push_str(t),
                Piece::Secret(name) => filled.push_str(self.get(name)?.expose_secret()),
            }
        }
        Ok(SecretString::from(filled))
    }
}

enum Piece<'a> {
    Text(&'a str),
    Secret(&'a str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut rest = text;
    let mut all = Vec::new();
    while let Some(open) = rest.find("${") {
        let Some(close) = rest[open..].find('}') else { break };
        all.push(Piece::Text(&rest[..open]));
        all.push(Piece::Secret(rest[open + 2..open + close].trim()));
        rest = &rest[open + close + 1..];
    }
    all.push(Piece::Text(rest));
    all
}

/// The names behind every `${...}` in a text.
pub fn names(text: &str) -> Vec<&str> {
    pieces(text).into_iter().filter_map(|p| if let Piece::Secret(name) = p { Some(name) } else { None }).collect()
}

/// A text as it may be printed: `${...}` and a password in a URL become `•••`.
pub fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(t) => out.push_str(t),
            Piece::Secret(_) => out.push_str(MASK),
        }
    }
    match password(&out) {
        Some(span) if &out[span.clone()] != MASK => format!("{}{MASK}{}", &out[..span.start], &out[span.end..]),
        _ => out,
    }
}

/// Where a URL carries a password: `scheme://user:PASSWORD@host`.
pub fn password(text: &str) -> Option<std::ops::Range<usize>> {
    let start = text.find("://")? + 3;
    let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |i| start + i);
    let at = text[start..end].rfind('@')? + start;
    let colon = text[start..at].find(':')? + start;
    (colon + 1 < at).then_some(colon + 1..at)
}

/// A line of a file as it may be printed under a caret: every password in a URL is covered, character by character, so that columns stay.
pub fn covered(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find("://") {
        let authority = start + 3;
        let end = rest[authority..].find(['/', '?', '#', '"', '\'', ',', ' ']).map_or(rest.len(), |i| authority + i);
        match password(&rest[start..end]).map(|span| start + span.start..start + span.end) {
            Some(span) if !rest[span.clone()].starts_with("${") => {
                out.push_str(&rest[..span.start]);
                out.extend(rest[span.clone()].chars().map(|_| '•'));
                out.push_str(&rest[span.end..end]);
            }
            _ => out.push_str(&rest[..end]),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// Whether a text holds a secret in the clear: a password in a URL that is no `${...}`.
pub fn looks_secret(text: &str) -> bool {
    password(text).is_some_and(|span| !text[span].starts_with("${"))
}

/// `.env`: `NAME=value`, `export NAME="value"`, comments.
fn parse_dotenv(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let line = line.trim();
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || name.starts_with('#') {
            return None;
        }
        let quoted = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q).and_then(|v| v.find(*q).map(|end| &v[..end])));
        let value = quoted.unwrap_or_else(|| value.split(" #").next().unwrap_or_default().trim_end());
        Some((name.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_over_dotenv() {
        let dotenv = "# comment\nexport A=\"from file\"\nB='x # y' # why\nC=plain # why\n";
        let secrets = EnvSecrets::new(BTreeMap::from([("A".into(), "from env".into())]), Some(dotenv), ".");
        let get = |n: &str| secrets.get(n).expect(n).expose_secret().to_owned();
        assert_eq!((get("A"), get("B"), get("C")), ("from env".into(), "x # y".into(), "plain".into()));
        assert_eq!(secrets.fill("s://${A}/${C}").expect("filled").expose_secret(), "s://from env/plain");
        let fault = secrets.fill("${NOPE}").expect_err("missing");
        assert_eq!(fault.code, Code::MISSING_SECRET);
    }

    #[test]
    fn secrets_never_print() {
        let secrets = EnvSecrets::new(BTreeMap::from([("TOKEN".into(), "hunter2".into())]), None, ".");
        assert_eq!(format!("{secrets:?}"), r#"{"TOKEN": "•••"}"#);
        assert_eq!(masked("slack://${TOKEN}/x"), "slack://•••/x");
        assert_eq!(masked("postgres://joe:hunter2@db/crm"), "postgres://joe:•••@db/crm");
        assert_eq!(masked("postgres://joe:${TOKEN}@db/crm"), "postgres://joe:•••@db/crm");
        assert_eq!(masked("https://host:8080/a@b"), "https://host:8080/a@b");
        assert_eq!(
            covered(r#"to = ["a://j:pw@x/y", "b://j:${P}@x", "c://j:q@z"]"#),
            r#"to = ["a://j:••@x/y", "b://j:${P}@x", "c://j:•@z"]"#
        );
        assert!(looks_secret("redis://:pw@host") && !looks_secret("redis://:${PW}@host") && !looks_secret("redis://host:6379"));
    }

    #[test]
    fn files_are_read_at_use() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("s"), "hunter2\n").expect("written");
        let secrets = EnvSecrets::new(BTreeMap::new(), None, folder.path());
        assert_eq!(secrets.get("file:s").expect("read").expose_secret(), "hunter2");
        assert_eq!(secrets.get("file:none").expect_err("missing").code, Code::MISSING_SECRET);
    }
}
