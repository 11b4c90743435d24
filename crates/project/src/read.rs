//! TOML to typed values, keeping the place of everything and collecting every error.
//!
//! serde stops at its first error, so reading goes on after taking the offending entry out, until what is left is whole.
//! Environments are laid over the file as trees of TOML before reading, so an override is checked like what it overrides,
//! and all environments are checked, not only the chosen one.

use crate::file::File;
use crate::text::{Text, did_you_mean, nearest};
use gristmill_kernel::{Code, Fault};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Most errors that one file is read for.
const ERRORS_MAX: usize = 50;

/// Where one key stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The key.
    pub key: Range<usize>,
    /// Its value.
    pub value: Range<usize>,
    /// The environment that set it.
    pub env: Option<String>,
}

/// Where everything stands: `models.churn.gates.1` -> its place.
pub type Places = BTreeMap<String, Place>;

/// A file that was read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Its content, the environment laid over it.
    pub file: File,
    /// Where everything stands.
    pub places: Places,
    /// The environments it defines.
    pub envs: Vec<String>,
}

/// Reads `gristmill.toml` for an environment. On failure: everything that is wrong with it.
pub fn project_file(text: &Text, env: Option<&str>) -> Result<Reading, Vec<Fault>> {
    let mut root = parse(text)?;
    let mut faults = old_toml(text, root.get_ref());
    let envs = take_envs(text, &mut root, &mut faults);
    let (plain, mut structure) = typed::<File>(&root, text);
    faults.append(&mut structure);
    let mut chosen = plain.map(|file| (file, root.get_ref().clone()));
    let mut set_by_env = BTreeSet::new();
    for (name, over) in &envs {
        let mut tree = root.clone();
        let mut paths = BTreeSet::new();
        overlay(text, name, tree.get_mut(), over, "", &mut paths, &mut faults);
        let (file, structure) = typed::<File>(&tree, text);
        // What is wrong without the environment was said before.
        let inside = |f: &Fault| f.spot.as_ref().is_some_and(|spot| covers(text, over, spot.line));
        faults.extend(structure.into_iter().filter(inside));
        if env == Some(name.as_str()) {
            chosen = file.map(|file| (file, tree.get_ref().clone()));
            set_by_env = paths;
        }
    }
    if let Some(wanted) = env.filter(|wanted| !envs.contains_key(*wanted)) {
        let known = envs.keys().map(String::as_str);
        let fault = Fault::not_found(Code::UNKNOWN_ENV, format!("{} has no environment `{wanted}`", text.file));
        faults.push(fault.fix(did_you_mean(wanted, "environments", known.clone().collect::<Vec<_>>())));
    }
    match chosen {
        Some((file, tree)) if faults.is_empty() => {
            let mut places = Places::new();
            index(&tree, "", &mut places);
            for (path, place) in &mut places {
                place.env = env.filter(|_| set_by_env.contains(path)).map(str::to_owned);
            }
            Ok(Reading { file, places, envs: envs.into_keys().collect() })
        }
        _ => {
            if faults.is_empty() {
                faults.push(Fault::internal("a project file was neither read nor refused"));
            }
            Err(sorted(faults))
        }
    }
}

/// Reads any TOML text of ours (a header, a test file) as a type.
pub fn other_file<T: DeserializeOwned>(text: &Text) -> Result<(T, Places), Vec<Fault>> {
    let root = parse(text)?;
    let mut faults = old_toml(text, root.get_ref());
    let (value, mut structure) = typed(&root, text);
    faults.append(&mut structure);
    match value {
        Some(value) if faults.is_empty() => {
            let mut places = Places::new();
            index(root.get_ref(), "", &mut places);
            Ok((value, places))
        }
        _ => Err(sorted(faults)),
    }
}

fn sorted(mut faults: Vec<Fault>) -> Vec<Fault> {
    faults.sort_by_key(|f| f.spot.as_ref().map_or((usize::MAX, 0), |s| (s.line, s.column)));
    faults.dedup_by(|a, b| a.message == b.message && a.spot == b.spot);
    faults
}

fn parse(text: &Text) -> Result<Spanned<DeTable<'_>>, Vec<Fault>> {
    DeTable::parse(&text.text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().lines().next().unwrap_or("not TOML").trim_end_matches('.').to_owned();
        let fix = if message.contains("duplicate key") {
            "keep one of the two"
        } else {
            "write it as TOML 1.0: key = \"text\", key = 3, key = [\"a\", \"b\"], [table.name]"
        };
        vec![Fault::invalid(Code::PROJECT_SYNTAX, message).fix(fix).at(text.spot(span))]
    })
}

/// Deserialises, taking out what does not fit until the rest does.
fn typed<T: DeserializeOwned>(root: &Spanned<DeTable<'_>>, text: &Text) -> (Option<T>, Vec<Fault>) {
    let mut tree = root.clone();
    let mut faults = Vec::new();
    let mut taken = BTreeSet::new();
    while faults.len() + taken.len() < 2 * ERRORS_MAX {
        match T::deserialize(toml::de::Deserializer::from(tree.clone())) {
            Ok(value) => return (Some(value), faults),
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let mut places = Places::new();
                index(tree.get_ref(), "", &mut places);
                let here = path_of(&span, &places);
                // A key that is gone because it was wrong is not missing too.
                let missing = error.message().strip_prefix("missing field `").and_then(|m| m.split('`').next());
                if !missing.is_some_and(|key| taken.contains(&format!("{here}.{key}"))) {
                    faults.push(explain(error.message(), &span, &places, text));
                }
                taken.insert(here.to_owned());
                if !take_out(tree.get_mut(), &span) {
                    break;
                }
            }
        }
    }
    (None, faults)
}

/// The deepest key that has a span.
fn path_of<'p>(span: &Range<usize>, places: &'p Places) -> &'p str {
    let hits = places.iter().filter(|(_, p)| p.key == *span || p.value == *span);
    hits.max_by_key(|(path, _)| path.len()).map_or("", |(path, _)| path.as_str())
}

/// Turns serde's words into ours.
fn explain(message: &str, span: &Range<usize>, places: &Places, text: &Text) -> Fault {
    let message = message.trim_end().trim_end_matches('\n');
    let here = path_of(span, places);
    let (parent, key) = here.rsplit_once('.').unwrap_or(("", here));
    let table = |path: &str| if path.is_empty() { format!("the top of {}", text.file) } else { format!("[{path}]") };
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let fault = if message.starts_with("unknown field") {
        let (word, known) = quoted.split_first().map_or((key, &[][..]), |(w, k)| (*w, k));
        Fault::invalid(Code::UNKNOWN_KEY, format!("unknown key `{word}` in {}", table(parent))).fix(did_you_mean(
            word,
            "keys here",
            known.to_vec(),
        ))
    } else if message.starts_with("missing field") {
        let word = quoted.first().copied().unwrap_or_default();
        Fault::invalid(Code::BAD_VALUE, format!("{} lacks the key `{word}`", table(here))).fix(format!("add a line `{word} = ...`"))
    } else if message.starts_with("unknown variant") {
        let (word, known) = quoted.split_first().map_or((key, &[][..]), |(w, k)| (*w, k));
        Fault::invalid(Code::BAD_VALUE, format!("`{word}` is no value of `{key}`")).fix(did_you_mean(word, "values", known.to_vec()))
    } else if let Some((found, wanted)) =
        message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: ")).and_then(|m| m.split_once(", expected "))
    {
        let mut fault = Fault::invalid(Code::BAD_VALUE, format!("`{key}` must be {}, not {found}", plain(wanted)));
        if parent.ends_with(".tune") && nearest(key, ["trials", "search", "parallel"]).is_some() {
            fault = fault.fix(did_you_mean(key, "keys", ["trials", "search", "parallel"]));
        } else {
            fault = fault.fix(format!("write {}", example(wanted)));
        }
        fault
    } else {
        from_display(message)
    };
    fault.at(text.spot(span.clone()))
}

fn plain(wanted: &str) -> String {
    match wanted {
        "a string" => "a text in quotes".into(),
        w if w.starts_with("struct ") || w == "a map" => "a table".into(),
        "a sequence" => "a list".into(),
        "a boolean" => "true or false".into(),
        "u64" | "u32" => "a whole number, not negative".into(),
        "f64" => "a number".into(),
        other => other.to_owned(),
    }
}

fn example(wanted: &str) -> String {
    match wanted {
        "a string" => "it in quotes: \"...\"".into(),
        w if w.starts_with("struct ") || w == "a map" => "{ key = value }".into(),
        "a sequence" => "[ ... ], also for a single one".into(),
        other => plain(other),
    }
}

/// Takes a [`Fault`]'s display apart: `message [E0104]; fix: ...`.
fn from_display(message: &str) -> Fault {
    let (said, fix) = match message.split_once("; fix: ") {
        Some((said, fix)) => (said, Some(fix)),
        None => (message, None),
    };
    let (said, code) = match said.rsplit_once(" [E") {
        Some((text, code)) => (text, gristmill_kernel::error::ALL_CODES.iter().find(|c| c.0[1..] == *code.trim_end_matches(']'))),
        None => (said, None),
    };
    let fault = Fault::invalid(code.copied().unwrap_or(Code::BAD_VALUE), said);
    if let Some(fix) = fix { fault.fix(fix) } else { fault }
}

/// Removes the smallest entry that holds the span.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>) -> bool {
    let holds = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let keys: Vec<String> = table.keys().map(|k| k.get_ref().to_string()).collect();
    for key in keys {
        let Some((k, v)) = table.get_key_value(key.as_str()) else { continue };
        let hit = k.span() == *span || v.span() == *span;
        // Spans of tables written in pieces do not cover their entries, so every table is searched.
        if !hit && let Some(value) = table.get_mut(key.as_str()) {
            if take_out_of(value.get_mut(), span) {
                return true;
            }
            if !holds(value.span()) || matches!(value.get_ref(), DeValue::Table(_)) && value.span() != *span {
                continue;
            }
        }
        table.remove(key.as_str());
        return true;
    }
    false
}

fn take_out_of(value: &mut DeValue<'_>, span: &Range<usize>) -> bool {
    match value {
        DeValue::Table(inner) => take_out(inner, span),
        DeValue::Array(list) => list.iter_mut().any(|item| take_out_of(item.get_mut(), span)),
        _ => false,
    }
}

fn index(table: &DeTable<'_>, prefix: &str, places: &mut Places) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        index_value(value, &path, places);
        places.insert(path, Place { key: key.span(), value: value.span(), env: None });
    }
}

fn index_value(value: &Spanned<DeValue<'_>>, path: &str, places: &mut Places) {
    match value.get_ref() {
        DeValue::Table(inner) => index(inner, path, places),
        DeValue::Array(list) => {
            for (i, item) in list.iter().enumerate() {
                let path = format!("{path}.{i}");
                index_value(item, &path, places);
                places.insert(path, Place { key: item.span(), value: item.span(), env: None });
            }
        }
        _ => {}
    }
}

fn take_envs<'i>(text: &Text, root: &mut Spanned<DeTable<'i>>, faults: &mut Vec<Fault>) -> BTreeMap<String, DeTable<'i>> {
    let mut envs = BTreeMap::new();
    let Some((key, env)) = root.get_mut().remove_entry("env") else { return envs };
    let wrong = |span| {
        Fault::invalid(Code::BAD_VALUE, "`env` holds tables of overrides")
            .fix("write [env.NAME] and overrides below it")
            .at(text.spot(span))
    };
    let DeValue::Table(table) = env.into_inner() else {
        faults.push(wrong(key.span()));
        return envs;
    };
    for (name, value) in table {
        let span = name.span();
        match value.into_inner() {
            DeValue::Table(over) => drop(envs.insert(name.get_ref().to_string(), over)),
            _ => faults.push(wrong(span)),
        }
    }
    envs
}

/// Lays an environment over the file. Tables are merged, everything else is replaced.
fn overlay<'i>(
    text: &Text,
    env: &str,
    base: &mut DeTable<'i>,
    over: &DeTable<'i>,
    path: &str,
    set: &mut BTreeSet<String>,
    faults: &mut Vec<Fault>,
) {
    for (key, value) in over {
        let word = key.get_ref();
        let here = if path.is_empty() { word.to_string() } else { format!("{path}.{word}") };
        if path.is_empty() && (word == "project" || word == "env") {
            let fault = Fault::invalid(Code::BAD_VALUE, format!("[env.{env}] may not override `{word}`"));
            faults.push(fault.fix("remove it").at(text.spot(key.span())));
            continue;
        }
        if ["sources", "models", "endpoints"].contains(&path) && !base.contains_key(word.as_ref()) {
            let known: Vec<String> = base.keys().map(|k| k.get_ref().to_string()).collect();
            let fault = Fault::invalid(Code::UNKNOWN_NAME, format!("[env.{env}] overrides {here}, which is not defined"));
            faults.push(fault.fix(did_you_mean(word, path, known.iter().map(String::as_str))).at(text.spot(key.span())));
            continue;
        }
        if let DeValue::Table(inner) = value.get_ref()
            && let Some(DeValue::Table(_)) = base.get(word.as_ref()).map(Spanned::get_ref)
            && let Some(slot) = base.get_mut(word.as_ref())
            && let DeValue::Table(below) = slot.get_mut()
        {
            overlay(text, env, below, inner, &here, set, faults);
            continue;
        }
        base.remove(word.as_ref());
        base.insert(key.clone(), value.clone());
        let mut below = Places::new();
        index_value(value, &here, &mut below);
        set.extend(below.into_keys());
        set.insert(here);
    }
}

/// Whether a line belongs to a tree.
fn covers(text: &Text, tree: &DeTable<'_>, line: usize) -> bool {
    let mut places = Places::new();
    index(tree, "", &mut places);
    places.values().any(|p| text.line(p.key.start) <= line && line <= text.line(p.value.end.max(p.key.end)))
}

/// What TOML 1.1 allows and 1.0 does not, so that every TOML tool can read a project: line breaks and trailing commas in
/// inline tables, and the escapes `\e` and `\x`.
fn old_toml(text: &Text, root: &DeTable<'_>) -> Vec<Fault> {
    let mut places = Places::new();
    index(root, "", &mut places);
    let mut faults = Vec::new();
    for place in places.values() {
        let raw = text.text.get(place.value.clone()).unwrap_or_default();
        let found = match raw.chars().next() {
            Some('{') => newer_inline_table(raw),
            Some('"') => newer_escape(raw),
            _ => None,
        };
        if let Some((at, what, fix)) = found {
            let start = place.value.start + at;
            faults.push(Fault::invalid(Code::PROJECT_SYNTAX, what).fix(fix).at(text.spot(start..start + 1)));
        }
    }
    sorted(faults)
}

type Newer = Option<(usize, &'static str, &'static str)>;

fn newer_escape(raw: &str) -> Newer {
    let mut escaped = false;
    for (at, c) in raw.char_indices() {
        if escaped && (c == 'e' || c == 'x') {
            return Some((at - 1, "this escape is TOML 1.1; projects are TOML 1.0", "write it as \\u001b, \\u00e9 and so on"));
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

fn newer_inline_table(raw: &str) -> Newer {
    let mut stack = Vec::new();
    let mut comma = None;
    let mut chars = raw.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' | '\'' => {
                let close = if raw[at..].starts_with(&c.to_string().repeat(3)) { 3 } else { 1 };
                let body = at + close;
                let end = string_end(&raw[body..], c, close).map_or(raw.len(), |e| body + e);
                while chars.next_if(|(i, _)| *i < end).is_some() {}
                comma = None;
            }
            '#' => while chars.next_if(|(_, c)| *c != '\n').is_some() {},
            '{' | '[' => {
                stack.push(c);
                comma = None;
            }
            '}' | ']' => {
                if c == '}'
                    && let Some(comma) = comma
                {
                    return Some((comma, "a trailing comma in an inline table is TOML 1.1; projects are TOML 1.0", "remove the comma"));
                }
                stack.pop();
                comma = None;
            }
            ',' => comma = Some(at),
            '\n' if stack.last() == Some(&'{') => {
                return Some((
                    at.saturating_sub(1),
                    "an inline table over several lines is TOML 1.1; projects are TOML 1.0",
                    "put it on one line, or write it as a [table]",
                ));
            }
            c if c.is_whitespace() => {}
            _ => comma = None,
        }
    }
    None
}

/// Where a string ends, behind its closing quotes.
fn string_end(body: &str, quote: char, close: usize) -> Option<usize> {
    let mut escaped = false;
    let end = quote.to_string().repeat(close);
    for (at, c) in body.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote == '"' {
            escaped = true;
        } else if body[at..].starts_with(&end) {
            return Some(at + close);
        }
    }
    None
}
