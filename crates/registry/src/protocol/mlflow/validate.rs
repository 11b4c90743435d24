//! What names and values clients may use: MLflow's limits and rules, in its words.
//!
//! One rule per kind of name, used wherever that name comes in.

use super::error::{invalid, unknown};
use super::request::{EnumWord, Int, invalid_text};
use gristmill_kernel::limits::SEARCH_RUNS_MAX;
use gristmill_kernel::tracking::ExperimentId;
use gristmill_kernel::{Code, Fault, Result, RunId};
use serde_json::Value;

/// Longest name of a metric, parameter or tag.
pub(crate) const KEY_CHARS_MAX: usize = 250;
/// Longest value of a parameter; what is longer is cut.
pub(crate) const PARAM_CHARS_MAX: usize = 6_000;
/// Longest value of a run's tag; what is longer is cut.
pub(crate) const RUN_TAG_CHARS_MAX: usize = 8_000;
/// Longest value of an experiment's tag.
pub(crate) const EXPERIMENT_TAG_CHARS_MAX: usize = 20_000;
/// Longest name of an experiment.
pub(crate) const EXPERIMENT_NAME_CHARS_MAX: usize = 500;
/// Longest place of artifacts.
pub(crate) const LOCATION_CHARS_MAX: usize = 2_048;

/// A name of a metric, parameter or tag: letters, digits, `_-.: /`, and as a path it names nothing else.
pub(crate) fn key(name: &str, path: &str) -> Result<()> {
    let allowed = |c: char| c.is_alphanumeric() || "/_.- :".contains(c);
    if !name.chars().all(allowed) {
        let why = "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/).";
        return Err(invalid(invalid_text(path, &Value::from(name), Some(why))));
    }
    if let Some(resolved) = resolves_elsewhere(name) {
        let why = bad_path_text(&resolved);
        return Err(invalid(invalid_text(path, &Value::from(name), Some(&why))));
    }
    Ok(())
}

/// MLflow's words for a name that is another name as a path.
pub(crate) fn bad_path_text(resolved: &str) -> String {
    format!(
        "Names may be treated as files in certain cases, and must not resolve to other names when treated as such. \
         This name would resolve to {}",
        python_quoted(resolved)
    )
}

/// What a name is as a path, if that is another name, leads out, or begins at the root.
pub(crate) fn resolves_elsewhere(name: &str) -> Option<String> {
    let normal = normal_path(name);
    let elsewhere = normal != name || normal == "." || normal.starts_with("..") || normal.starts_with('/');
    elsewhere.then_some(normal)
}

/// A path without empty and dot segments, as POSIX normalises it.
fn normal_path(path: &str) -> String {
    if path.is_empty() {
        return ".".into();
    }
    // Exactly two slashes at the front are kept; three are one.
    let root = match path.len() - path.trim_start_matches('/').len() {
        0 => "",
        2 => "//",
        _ => "/",
    };
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match (part, kept.last()) {
            ("..", Some(&last)) if last != ".." => {
                kept.pop();
            }
            ("..", None) if !root.is_empty() => {}
            _ => kept.push(part),
        }
    }
    let normal = format!("{root}{}", kept.join("/"));
    if normal.is_empty() { ".".into() } else { normal }
}

/// A text in quotes, as Python shows it.
pub(crate) fn python_quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// Refuses a text above a limit; `what` names it.
pub(crate) fn within(what: &str, limit: usize, text: &str) -> Result<()> {
    // The length in bytes is never smaller than that in characters, and is known.
    if text.len() > limit && text.chars().count() > limit {
        return Err(invalid(format!("'{what}' exceeds the maximum length of {limit} characters")));
    }
    Ok(())
}

/// Cuts a text at a limit.
pub(crate) fn cut(text: String, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((at, _)) => text[..at].to_owned(),
        None => text,
    }
}

/// The name of an experiment.
pub(crate) fn experiment_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(invalid("Invalid experiment name: ''"));
    }
    within("name", EXPERIMENT_NAME_CHARS_MAX, name)
}

/// A tag of an experiment. Nothing is cut.
pub(crate) fn experiment_tag(name: &str, value: &str) -> Result<()> {
    key(name, "key")?;
    within("key", KEY_CHARS_MAX, name)?;
    within("value", EXPERIMENT_TAG_CHARS_MAX, value)
}

/// How many results a client wants, with what it means not to say.
pub(crate) fn max_results(wanted: Option<Int>, unsaid: usize) -> Result<usize> {
    let wanted = wanted.map_or(unsaid as i64, |wanted| wanted.0);
    match usize::try_from(wanted) {
        Ok(wanted) if wanted > SEARCH_RUNS_MAX => {
            Err(invalid(format!("Invalid value {wanted} for parameter 'max_results' supplied. It must be at most {SEARCH_RUNS_MAX}")))
        }
        Ok(wanted) if wanted > 0 => Ok(wanted),
        _ => Err(invalid(format!("Invalid value {wanted} for parameter 'max_results' supplied. It must be a positive integer"))),
    }
}

/// A word of an enum that is none of its words.
pub(crate) fn bad_word(path: &str, word: Option<&EnumWord>) -> Fault {
    let word = word.map_or(Value::Null, |w| Value::from(w.0.as_str()));
    invalid(invalid_text(path, &word, None))
}

/// The id of an experiment, as a number is written. Empty is the default experiment.
pub(crate) fn experiment_id(text: &str) -> Result<ExperimentId> {
    if text.is_empty() {
        return Ok(ExperimentId(0));
    }
    let number = written_number(text)?;
    id_of_number(number).ok_or_else(|| unknown(Code::UNKNOWN_EXPERIMENT, format!("No Experiment with id={number} exists")))
}

/// The ids of experiments to look in; those that cannot be are left out.
pub(crate) fn experiment_ids(texts: &[String]) -> Result<Vec<ExperimentId>> {
    let ids = texts.iter().map(|text| written_number(text).map(id_of_number));
    Ok(ids.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn id_of_number(number: i128) -> Option<ExperimentId> {
    i64::try_from(number).ok().and_then(|number| u64::try_from(number).ok()).map(ExperimentId)
}

/// A whole number as Python reads one: with spaces around it, a sign, zeros before it.
fn written_number(text: &str) -> Result<i128> {
    let bad = || invalid(format!("Invalid experiment ID '{text}'. Experiment ID must be a valid integer."));
    text.trim().parse().map_err(|_| bad())
}

/// The id of a run where MLflow looks at its letters.
pub(crate) fn run_id(text: String) -> Result<RunId> {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = text.chars().skip(1).all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    if first && rest && text.chars().count() <= 256 {
        return Ok(RunId(text));
    }
    Err(invalid(invalid_text("run_id", &Value::from(text), None)))
}

/// A float as Python shows it.
pub(crate) fn python_float(value: f64) -> String {
    match value {
        v if v.is_nan() => "nan".into(),
        v if v.is_infinite() => if v > 0.0 { "inf" } else { "-inf" }.into(),
        v => format!("{v:?}"),
    }
}

/// Bytes as Python shows them.
pub(crate) fn python_bytes(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    let mut out = format!("b{quote}");
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b if char::from(*b) == quote => out.extend(['\\', quote]),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push(quote);
    out
}

/// JSON as Python shows what it read.
pub(crate) fn python_shown(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => python_quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(python_shown).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{}: {}", python_quoted(key), python_shown(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_other_names_as_paths_are_refused() {
        for good in ["loss", "val/loss", "a b", "a:b", "größe", "a.b-c_d", ".hidden", "a..b"] {
            assert!(key(good, "key").is_ok(), "{good}");
        }
        for (bad, resolved) in [
            ("../x", "../x"),
            ("a/../b", "b"),
            ("/a", "/a"),
            ("a//b", "a/b"),
            ("./a", "a"),
            ("a/", "a"),
            ("", "."),
            ("..", ".."),
            ("//a", "//a"),
            ("///a", "/a"),
            ("/..", "/"),
        ] {
            let text = key(bad, "metrics[0].name").expect_err(bad).message;
            assert!(
                text.starts_with(&format!(
                    "Invalid value {} for parameter 'metrics[0].name' supplied: Names may be treated as files",
                    Value::from(bad)
                )),
                "{text}"
            );
            assert!(text.ends_with(&format!("would resolve to '{resolved}'")), "{text}");
        }
        for bad in ["a\\b", "a\0b", "a#b", "a%2f", "a?b", "a\nb", "a,b"] {
            assert!(key(bad, "key").expect_err(bad).message.contains("Names may only contain alphanumerics"));
        }
    }

    #[test]
    fn lengths_count_characters() {
        assert!(within("key", 3, "äöü").is_ok());
        assert_eq!(within("key", 3, "äöüa").expect_err("long").message, "'key' exceeds the maximum length of 3 characters");
        assert_eq!(cut("äöüa".into(), 3), "äöü");
        assert_eq!(cut("abc".into(), 3), "abc");
    }

    #[test]
    fn quotes_are_pythons() {
        assert_eq!(python_quoted("a"), "'a'");
        assert_eq!(python_quoted("it's"), "\"it's\"");
        assert_eq!(python_quoted("a\"'\n"), "'a\"\\'\\n'");
    }
}
