//! A light reading of Rust sources: comments and literals are blanked, tests are cut out, paths are spelled out.
//!
//! Not a parser. It knows enough of the language that a word in a comment or a string is never mistaken for code, and that
//! `use std::{env, fs}` is seen as `std::env` and `std::fs`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One file, read.
#[derive(Debug, Clone)]
pub struct Source {
    /// Relative to the workspace, with `/`.
    pub path: String,
    /// As written.
    pub text: String,
    /// Every path in code outside tests, with its line.
    pub paths: Vec<Used>,
    /// Whether the whole file is compiled for tests only.
    pub test_only: bool,
}

/// A path such as `std::env::var` in code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Its segments.
    pub segments: Vec<String>,
    /// The line, from 1.
    pub line: usize,
}

impl Used {
    /// Whether the path begins with these segments.
    pub fn starts_with(&self, head: &[&str]) -> bool {
        self.segments.len() >= head.len() && self.segments.iter().zip(head).all(|(a, b)| a == b)
    }
}

/// Reads every `.rs` file under a folder, sorted by path. `root` is the workspace.
pub fn read_tree(root: &Path, folder: &Path) -> anyhow::Result<Vec<Source>> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    let mut texts = Vec::new();
    let mut tests: BTreeSet<PathBuf> = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        tests.extend(test_modules(&file, &text));
        texts.push((file, text));
    }
    let sources = texts.into_iter().map(|(file, text)| {
        let test_only = tests.iter().any(|t| file.starts_with(t));
        let paths = if test_only { Vec::new() } else { paths(&without_tests(&blank(&text))) };
        let path = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
        Source { path, text, paths, test_only }
    });
    Ok(sources.collect())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The text with comments and the insides of literals replaced by spaces; same length, same lines.
pub fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = match bytes[i] {
            b'/' if bytes.get(i + 1) == Some(&b'/') => find(bytes, i, b"\n"),
            b'/' if bytes.get(i + 1) == Some(&b'*') => block_comment(bytes, i),
            b'"' => quoted(bytes, i),
            b'r' | b'b' | b'c' if !within_word(bytes, i) => match literal_start(bytes, i) {
                Some(Literal::Raw { hashes, open }) => {
                    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
                    (find(bytes, open + 1, &close) + close.len()).min(bytes.len())
                }
                Some(Literal::Plain { open }) => quoted(bytes, open),
                None => {
                    i += 1;
                    continue;
                }
            },
            b'\'' => match char_literal(bytes, i) {
                Some(end) => end,
                None => {
                    i += 1;
                    continue;
                }
            },
            _ => {
                i += 1;
                continue;
            }
        };
        for byte in &mut out[i..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        i = end.max(i + 1);
    }
    String::from_utf8(out).unwrap_or_default()
}

enum Literal {
    Raw { hashes: usize, open: usize },
    Plain { open: usize },
}

fn within_word(bytes: &[u8], i: usize) -> bool {
    i > 0 && (bytes[i - 1].is_ascii_alphanumeric() || bytes[i - 1] == b'_')
}

/// `r"`, `r#"`, `b"`, `br"`, `c"`, `cr"`: where the quote opens.
fn literal_start(bytes: &[u8], i: usize) -> Option<Literal> {
    let mut at = i;
    if matches!(bytes[at], b'b' | b'c') {
        at += 1;
    }
    let raw = bytes.get(at) == Some(&b'r');
    at += usize::from(raw);
    let hashes = if raw { bytes[at.min(bytes.len())..].iter().take_while(|b| **b == b'#').count() } else { 0 };
    at += hashes;
    match (bytes.get(at), raw) {
        (Some(b'"'), true) => Some(Literal::Raw { hashes, open: at }),
        (Some(b'"'), false) => Some(Literal::Plain { open: at }),
        _ => None,
    }
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    let from = from.min(bytes.len());
    bytes[from..].windows(what.len()).position(|w| w == what).map_or(bytes.len(), |p| from + p)
}

fn block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut i) = (0usize, start);
    while i < bytes.len() {
        match bytes.get(i..i + 2) {
            Some(b"/*") => (depth, i) = (depth + 1, i + 2),
            Some(b"*/") => {
                (depth, i) = (depth - 1, i + 2);
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    bytes.len()
}

fn quoted(bytes: &[u8], open: usize) -> usize {
    let mut i = open + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    bytes.len()
}

/// The end of a character literal; `None` for a lifetime.
fn char_literal(bytes: &[u8], open: usize) -> Option<usize> {
    if bytes.get(open + 1) == Some(&b'\\') {
        let close = (open + 3..(open + 14).min(bytes.len())).find(|i| bytes[*i] == b'\'')?;
        return Some(close + 1);
    }
    let width = match bytes.get(open + 1)? {
        b if *b < 0x80 => 1,
        b if *b >= 0xF0 => 4,
        b if *b >= 0xE0 => 3,
        _ => 2,
    };
    (bytes.get(open + 1 + width) == Some(&b'\'')).then_some(open + 2 + width)
}

/// Blanks every item behind `#[cfg(test)]`. Takes and gives blanked text.
pub fn without_tests(blanked: &str) -> String {
    let mut out = blanked.as_bytes().to_vec();
    for (start, end) in test_items(blanked) {
        for byte in &mut out[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

/// Where items behind `#[cfg(test)]` begin and end.
fn test_items(blanked: &str) -> Vec<(usize, usize)> {
    let mut items = Vec::new();
    let mut from = 0;
    while let Some(at) = blanked[from..].find("#[cfg(test)]").map(|p| p + from) {
        let body = at + "#[cfg(test)]".len();
        let mut end = blanked.len();
        let mut depth = 0usize;
        for (i, c) in blanked[body..].char_indices() {
            match c {
                '{' | '[' | '(' => depth += 1,
                '}' | ']' | ')' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 && c == '}' {
                        end = body + i + 1;
                        break;
                    }
                }
                ';' if depth == 0 => {
                    end = body + i + 1;
                    break;
                }
                _ => {}
            }
        }
        items.push((at, end));
        from = end;
    }
    items
}

/// Files and folders of modules declared as `#[cfg(test)] mod NAME;`.
fn test_modules(file: &Path, text: &str) -> Vec<PathBuf> {
    let blanked = blank(text);
    let mut found = Vec::new();
    for (start, end) in test_items(&blanked) {
        let item = &blanked[start..end];
        let words: Vec<&str> = item.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty()).collect();
        let Some(name) = words.iter().position(|w| *w == "mod").and_then(|at| words.get(at + 1)) else { continue };
        if item.contains('{') {
            continue;
        }
        let folder = file.parent().unwrap_or(Path::new(""));
        if let Some(named) = text[start..end].split_once("path = \"").and_then(|(_, rest)| rest.split_once('"')) {
            found.push(folder.join(named.0));
            continue;
        }
        let stem = file.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        let folder = if matches!(stem, "lib" | "main" | "mod") { folder.to_path_buf() } else { folder.join(stem) };
        found.push(folder.join(format!("{name}.rs")));
        found.push(folder.join(name));
    }
    found
}

/// Lines of `#[arg(env)]` and `#[arg(env = ...)]` in blanked code: clap reads the environment for these.
pub fn arguments_from_environment(blanked: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    for opening in ["#[arg(", "#[clap("] {
        for (at, _) in blanked.match_indices(opening) {
            let attribute = blanked[at..].split(']').next().unwrap_or_default();
            let words = attribute.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            if words.into_iter().any(|w| w == "env") {
                lines.push(blanked[..at].matches('\n').count() + 1);
            }
        }
    }
    lines
}

enum Token<'a> {
    Word(&'a str),
    Colons,
    Open,
    Close,
    Other,
}

/// Every path in blanked code. Groups of `use` are spelled out; a single word is a path of one segment.
pub fn paths(blanked: &str) -> Vec<Used> {
    let tokens = tokens(blanked);
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        i = match tokens[i].1 {
            Token::Word(_) => one_path(&tokens, i, &[], &mut found),
            _ => i + 1,
        };
    }
    found
}

fn one_path(tokens: &[(usize, Token<'_>)], start: usize, before: &[String], found: &mut Vec<Used>) -> usize {
    let mut segments = before.to_vec();
    let mut i = start;
    let line = tokens[start].0;
    while let Some((_, Token::Word(word))) = tokens.get(i) {
        segments.push((*word).to_owned());
        i += 1;
        if !matches!(tokens.get(i), Some((_, Token::Colons))) {
            break;
        }
        i += 1;
        if matches!(tokens.get(i), Some((_, Token::Open))) {
            return group(tokens, i + 1, &segments, found);
        }
    }
    found.push(Used { segments, line });
    i
}

fn group(tokens: &[(usize, Token<'_>)], start: usize, before: &[String], found: &mut Vec<Used>) -> usize {
    let mut i = start;
    while i < tokens.len() {
        i = match tokens[i].1 {
            Token::Close => return i + 1,
            Token::Word(_) => one_path(tokens, i, before, found),
            _ => i + 1,
        };
    }
    i
}

fn tokens(text: &str) -> Vec<(usize, Token<'_>)> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < bytes.len() {
        let byte = bytes[i];
        if byte == b'\n' {
            line += 1;
        }
        if byte.is_ascii_whitespace() {
            i += 1;
            continue;
        }
        if byte.is_ascii_alphabetic() || byte == b'_' {
            let end = bytes[i..].iter().position(|b| !(b.is_ascii_alphanumeric() || *b == b'_')).map_or(bytes.len(), |n| i + n);
            tokens.push((line, Token::Word(&text[i..end])));
            i = end;
            continue;
        }
        let token = match byte {
            b':' if bytes.get(i + 1) == Some(&b':') => {
                i += 1;
                Token::Colons
            }
            b'{' => Token::Open,
            b'}' => Token::Close,
            _ => Token::Other,
        };
        tokens.push((line, token));
        i += 1;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(code: &str) -> Vec<String> {
        paths(&without_tests(&blank(code))).into_iter().map(|u| u.segments.join("::")).filter(|p| p.contains("::")).collect()
    }

    #[test]
    fn words_in_comments_and_literals_are_no_code() {
        let code =
            "// std::env::var\n/* std::env /* nested */ std::env */ \"std::env\" r#\"a \" std::env\"# b\"std::env\" '\"' std::fs::read";
        assert_eq!(seen(code), ["std::fs::read"]);
        assert_eq!(seen("fn f<'a>(x: &'a str) -> char { '\\'' } std::env::var"), ["std::env::var"]);
        assert_eq!(seen("let q = '\\u{1F600}'; let e = 'é'; a::b"), ["a::b"]);
    }

    #[test]
    fn groups_are_spelled_out() {
        let code = "use std::{env, fs::{self, File}, process::{Command, ExitCode}};\nuse a::b as c;";
        let all = ["std::env", "std::fs::self", "std::fs::File", "std::process::Command", "std::process::ExitCode", "a::b"];
        assert_eq!(seen(code), all);
        let used = paths(&blank("\n\nstd::env::var(\"X\")"));
        assert_eq!(used[0].line, 3);
        assert!(used[0].starts_with(&["std", "env"]) && !used[0].starts_with(&["std", "fs"]));
    }

    #[test]
    fn test_items_are_cut_out_and_nothing_else() {
        let code = "a::b();\n#[cfg(test)]\nmod tests { fn t() { std::env::var(x); } }\nc::d();\n#[cfg(test)]\nuse e::f;\ng::h();";
        assert_eq!(seen(code), ["a::b", "c::d", "g::h"]);
    }

    #[test]
    fn test_modules_in_other_files_are_found() {
        let found =
            test_modules(Path::new("src/plan.rs"), "#[cfg(test)]\nmod tests;\n#[cfg(test)]\n#[path = \"plan_tests.rs\"]\nmod more;");
        assert_eq!(found, [Path::new("src/plan/tests.rs"), Path::new("src/plan/tests"), Path::new("src/plan_tests.rs")]);
        let found = test_modules(Path::new("src/lib.rs"), "#[cfg(test)]\nmod tests;");
        assert_eq!(found[0], Path::new("src/tests.rs"));
    }
}
