//! Unit tests as text, in the style of those that people write.

use super::{Case, Row};
use serde_json::Value;
use std::fmt::Write as _;

/// The file of some tests.
pub(super) fn file(address: &str, cases: &[Case]) -> String {
    let mut text = format!(
        "# Written by gristmill test --write {address}: rows as they are, and what the view says of them.\n\
         # Keep it while the view shall say this; write it again when it shall say something else.\n"
    );
    for case in cases {
        let _infallible = write!(
            text,
            "\n[[test]]\nname   = {}\nview   = {}\nas_of  = {}\n",
            string(&case.name),
            string(case.view.as_str()),
            string(&case.as_of.to_string())
        );
        for (key, row) in [("entity ", &case.entity), ("request", &case.request), ("expect ", &case.expect)] {
            if !row.is_empty() {
                let _infallible = writeln!(text, "{key}= {}", table(row));
            }
        }
        for (name, rows) in case.rows.iter().filter(|(_, rows)| !rows.is_empty()) {
            let lines: String = rows.iter().map(|row| format!("  {},\n", table(row))).collect();
            let _infallible = writeln!(text, "rows.{} = [\n{lines}]", key_of(name));
        }
    }
    text
}

fn table(row: &Row) -> String {
    let pairs: Vec<String> = row.iter().map(|(key, value)| format!("{} = {}", key_of(key), scalar(value))).collect();
    format!("{{ {} }}", pairs.join(", "))
}

/// TOML has no null; tests write it as a word.
fn scalar(value: &Value) -> String {
    match value {
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => i.to_string(),
            (None, Some(x)) => toml::Value::Float(x).to_string(),
            (None, None) => n.to_string(),
        },
        Value::String(text) => string(text),
        _ => string("null"),
    }
}

fn string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn key_of(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { name.to_owned() } else { string(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let row = json!({"a": 1, "b": 0.1, "c": 3.0, "d": "it's \"so\"\n", "e": null, "f": true, "g h": -1e300});
        let Value::Object(row) = row else { unreachable!("an object") };
        let text = format!("x = {}", table(&row));
        let back: Value = toml::from_str(&text).expect(&text);
        let mut expected = row;
        expected["e"] = "null".into();
        assert_eq!(back["x"], Value::Object(expected), "{text}");
    }
}
