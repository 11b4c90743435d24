//! The YAML of other tools' small files, and no more: a mapping of scalars, empty collections, lists of scalars, mappings inside.
//!
//! Scalars may be plain, single- or double-quoted and may run over several lines, as PyYAML folds long ones. Anchors, tags, block scalars and
//! flow collections are refused: MLflow writes none of them, Feast's `feature_store.yaml` hardly ever has them, and what is not understood is
//! better named than guessed.

use gristmill_kernel::{Code, Fault, Result};
use std::collections::BTreeMap;

/// Deepest mapping.
const DEPTH_MAX: usize = 8;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Yaml {
    /// Nothing: an empty value, `null` or `~`.
    Null,
    /// A text; numbers and booleans too.
    Text(String),
    /// A list.
    List(Vec<Yaml>),
    /// A mapping.
    Map(Map),
}

/// A mapping.
pub type Map = BTreeMap<String, Yaml>;

impl Yaml {
    /// Its text, if it has one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Yaml::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads a file: a mapping.
pub fn parse(text: &str) -> Result<Map> {
    let mut reader = Reader { text: text.trim_start_matches('\u{feff}'), at: 0 };
    if reader.rest().starts_with("---") {
        reader.skip_line();
    }
    let block = reader.block(0, 0)?;
    if reader.next_indent().is_some() {
        return Err(reader.fault("does not belong to the mapping"));
    }
    match block {
        Yaml::Map(map) => Ok(map),
        Yaml::Null => Ok(Map::new()),
        _ => Err(reader.fault("is not a mapping")),
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }
    fn fault(&self, what: &str) -> Fault {
        let line = self.text[..self.at].matches('\n').count() + 1;
        Fault::invalid(Code::BAD_VALUE, format!("line {line} {what}"))
    }
    /// The line from here to its end, without the break.
    fn line(&self) -> &'t str {
        let rest = self.rest();
        rest.split('\n').next().unwrap_or(rest).trim_end_matches('\r')
    }
    fn skip_line(&mut self) {
        self.at += self.rest().find('\n').map_or(self.rest().len(), |n| n + 1);
    }
    /// Passes over empty lines and comments; the indentation of the line that follows, `None` at the end.
    fn next_indent(&mut self) -> Option<usize> {
        loop {
            if self.rest().is_empty() {
                return None;
            }
            let line = self.line();
            let body = line.trim_start_matches(' ');
            if !body.trim().is_empty() && !body.starts_with('#') {
                return if line == "..." { None } else { Some(line.len() - body.len()) };
            }
            self.skip_line();
        }
    }

    /// The block that begins on the next line with at least this indentation.
    fn block(&mut self, least: usize, depth: usize) -> Result<Yaml> {
        if depth > DEPTH_MAX {
            return Err(self.fault("is nested too deeply"));
        }
        let Some(indent) = self.next_indent().filter(|i| *i >= least) else { return Ok(Yaml::Null) };
        if is_item(&self.line()[indent..]) {
            return self.list(indent, depth);
        }
        let mut map = Map::new();
        while self.next_indent() == Some(indent) {
            if is_item(&self.line()[indent..]) {
                return Err(self.fault("is an item of a list where a key was expected"));
            }
            self.at += indent;
            let key = self.key()?;
            let value = self.value(indent, depth)?;
            if map.insert(key, value).is_some() {
                return Err(self.fault("repeats a key"));
            }
        }
        match self.next_indent() {
            Some(deeper) if deeper > indent => Err(self.fault("is indented more than its neighbours")),
            _ => Ok(Yaml::Map(map)),
        }
    }

    fn list(&mut self, indent: usize, depth: usize) -> Result<Yaml> {
        let mut items = Vec::new();
        while self.next_indent() == Some(indent) && is_item(&self.line()[indent..]) {
            self.at += indent + 1;
            if is_mapping(self.line().trim_start()) {
                return Err(self.fault("is a mapping in a list"));
            }
            items.push(self.value(indent, depth)?);
        }
        Ok(Yaml::List(items))
    }

    fn key(&mut self) -> Result<String> {
        if let Some(quote @ ('\'' | '"')) = self.rest().chars().next() {
            let key = self.quoted(quote)?;
            if !self.rest().starts_with(':') {
                return Err(self.fault("has no `:` behind its key"));
            }
            self.at += 1;
            return Ok(key);
        }
        let line = self.line();
        let end = line.find(": ").or_else(|| line.trim_end().strip_suffix(':').map(str::len));
        let end = end.filter(|_| !line.starts_with(['?', '&', '*', '!', '{', '[', '|', '>', '%', '@', '`']));
        let Some(end) = end else { return Err(self.fault("is no `key: value`")) };
        self.at += end + 1;
        Ok(line[..end].trim_end().to_owned())
    }

    /// The value behind a key or dash at this indentation.
    fn value(&mut self, indent: usize, depth: usize) -> Result<Yaml> {
        let line = self.line();
        let body = line.trim_start_matches([' ', '\t']);
        if body.is_empty() || body.starts_with('#') {
            self.skip_line();
            return match self.next_indent() {
                // A list may stand directly beneath its key.
                Some(next) if next == indent && is_item(&self.line()[next..]) => self.list(indent, depth + 1),
                Some(next) if next > indent && (is_mapping(&self.line()[next..]) || is_item(&self.line()[next..])) => {
                    self.block(indent + 1, depth + 1)
                }
                Some(next) if next > indent => {
                    self.at += next;
                    self.scalar(indent)
                }
                _ => Ok(Yaml::Null),
            };
        }
        self.at += line.len() - body.len();
        self.scalar(indent)
    }

    fn scalar(&mut self, indent: usize) -> Result<Yaml> {
        let body = self.line().trim_end();
        match body.chars().next() {
            Some(quote @ ('\'' | '"')) => {
                let text = self.quoted(quote)?;
                let behind = self.line().trim();
                if !behind.is_empty() && !behind.starts_with('#') {
                    return Err(self.fault("goes on behind a quoted text"));
                }
                self.skip_line();
                Ok(Yaml::Text(text))
            }
            Some('[' | '{') if body == "[]" || body == "{}" => {
                self.skip_line();
                Ok(if body == "[]" { Yaml::List(Vec::new()) } else { Yaml::Map(Map::new()) })
            }
            Some('[' | '{' | '|' | '>' | '&' | '*' | '!' | '%' | '@' | '`') => Err(self.fault("is YAML of a kind that is not read here")),
            _ => Ok(self.plain(indent)),
        }
    }

    /// A plain scalar: this line and the deeper ones behind it.
    fn plain(&mut self, indent: usize) -> Yaml {
        let mut text = without_comment(self.line()).to_owned();
        self.skip_line();
        let mut blank = 0;
        while !self.rest().is_empty() {
            let line = self.line();
            let body = line.trim();
            if body.is_empty() {
                blank += 1;
            } else if line.len() - line.trim_start_matches(' ').len() > indent && !body.starts_with('#') {
                match blank {
                    0 => text.push(' '),
                    n => text.extend(std::iter::repeat_n('\n', n)),
                }
                text.push_str(without_comment(body));
                blank = 0;
            } else {
                break;
            }
            self.skip_line();
        }
        match text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Yaml::Null,
            _ => Yaml::Text(text),
        }
    }

    /// A quoted scalar; afterwards the reader stands behind its closing quote.
    fn quoted(&mut self, quote: char) -> Result<String> {
        let mut out = String::new();
        // White space that counts only if something follows on its line.
        let mut space = String::new();
        self.at += 1;
        while let Some(c) = self.rest().chars().next() {
            self.at += c.len_utf8();
            match c {
                ' ' | '\t' | '\r' => space.push(c),
                '\n' => {
                    space.clear();
                    match self.breaks() {
                        0 => out.push(' '),
                        n => out.extend(std::iter::repeat_n('\n', n)),
                    }
                }
                '\'' if quote == '\'' && self.rest().starts_with('\'') => {
                    self.at += 1;
                    out.push_str(&std::mem::take(&mut space));
                    out.push('\'');
                }
                c if c == quote => {
                    out.push_str(&space);
                    return Ok(out);
                }
                '\\' if quote == '"' => {
                    out.push_str(&std::mem::take(&mut space));
                    self.escape(&mut out)?;
                }
                c => {
                    out.push_str(&std::mem::take(&mut space));
                    out.push(c);
                }
            }
        }
        Err(self.fault("ends in an open quote"))
    }

    /// Passes over empty lines and leading white space; how many empty lines there were.
    fn breaks(&mut self) -> usize {
        let mut blank = 0;
        while let Some(c) = self.rest().chars().next().filter(|c| matches!(c, ' ' | '\t' | '\r' | '\n')) {
            self.at += 1;
            blank += usize::from(c == '\n');
        }
        blank
    }

    fn escape(&mut self, out: &mut String) -> Result<()> {
        let Some(c) = self.rest().chars().next() else { return Err(self.fault("ends in an open quote")) };
        self.at += c.len_utf8();
        let digits = match c {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            '\n' => {
                let blank = self.breaks();
                out.extend(std::iter::repeat_n('\n', blank));
                return Ok(());
            }
            _ => {
                let plain = match c {
                    '0' => '\0',
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    't' | '\t' => '\t',
                    'n' => '\n',
                    'v' => '\u{b}',
                    'f' => '\u{c}',
                    'r' => '\r',
                    'e' => '\u{1b}',
                    'N' => '\u{85}',
                    '_' => '\u{a0}',
                    'L' => '\u{2028}',
                    'P' => '\u{2029}',
                    ' ' | '"' | '/' | '\\' => c,
                    _ => return Err(self.fault("has an unknown escape")),
                };
                out.push(plain);
                return Ok(());
            }
        };
        let decoded = self.rest().get(..digits).and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        let Some(decoded) = decoded else { return Err(self.fault("has a broken escape")) };
        self.at += digits;
        out.push(decoded);
        Ok(())
    }
}

fn is_item(body: &str) -> bool {
    body == "-" || body.starts_with("- ")
}

/// Whether a line begins with a key.
fn is_mapping(body: &str) -> bool {
    match body.chars().next() {
        Some(quote @ ('\'' | '"')) => {
            let mut reader = Reader { text: body, at: 0 };
            reader.quoted(quote).is_ok() && reader.rest().starts_with(':')
        }
        _ => body.contains(": ") || body.trim_end().ends_with(':'),
    }
}

fn without_comment(line: &str) -> &str {
    line.find(" #").map_or(line, |at| &line[..at]).trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(map: &Map, key: &str) -> String {
        map[key].text().unwrap_or_else(|| panic!("{key}: {:?}", map[key])).to_owned()
    }

    #[test]
    fn what_mlflow_writes_is_read() {
        let map = parse(
            "artifact_location: file:///tmp/mlruns/1\ncreation_time: 1700000000000\nname: 'it''s: one'\nend_time: null\ntags: []\n\
             aliases:\n  champion: '3'\n  old: 1\nlist:\n- a\n- 'b c'\nempty: ''\nnothing:\nlong: one two\n  three\n\n  four\n\
             quoted: 'a\n  b\n\n  c'\ndouble: \"tab\\there \\\n  joined\\u00e9 \\\"x\\\"\"\n",
        )
        .unwrap();
        assert_eq!(text(&map, "artifact_location"), "file:///tmp/mlruns/1");
        assert_eq!(text(&map, "name"), "it's: one");
        assert_eq!((map["end_time"].clone(), map["nothing"].clone(), map["tags"].clone()), (Yaml::Null, Yaml::Null, Yaml::List(vec![])));
        let Yaml::Map(aliases) = &map["aliases"] else { panic!("{map:?}") };
        assert_eq!((text(aliases, "champion"), text(aliases, "old")), ("3".into(), "1".into()));
        assert_eq!(map["list"], Yaml::List(vec![Yaml::Text("a".into()), Yaml::Text("b c".into())]));
        assert_eq!((text(&map, "empty"), text(&map, "long")), (String::new(), "one two three\nfour".into()));
        assert_eq!(text(&map, "quoted"), "a b\nc");
        assert_eq!(text(&map, "double"), "tab\there joinedé \"x\"");
    }

    #[test]
    fn what_it_does_not_write_is_refused() {
        for bad in [
            "a: !!python/object:os.system x",
            "a: &x 1",
            "a: *x",
            "a: [1, 2]",
            "a: |\n  x",
            "- a",
            "a",
            "a: 'open",
            "a: 1\na: 2",
            "? a\n: b",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let deep: String = (0..20).map(|i| format!("{}k:\n", " ".repeat(i))).collect();
        assert!(parse(&deep).is_err());
    }

    #[test]
    fn anything_is_read_or_refused() {
        let pieces = ["a", ":", " ", "\n", "'", "\"", "-", "\\", "#", "  ", "é", "x: 1\n", "\t", "\r\n", "[]", "u00"];
        let mut seed = 7_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
            }
            let _sound_or_not = parse(&text);
        }
    }
}
