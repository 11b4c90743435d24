//! The beginning of a request or a response, for people: of a chat its last message, else the JSON.

use super::any::Any;

/// Attribute of a root that holds the request.
pub(crate) const REQUEST: &str = "mlflow.spanInputs";
/// Attribute of a root that holds the response.
pub(crate) const RESPONSE: &str = "mlflow.spanOutputs";
/// Longest preview.
const PREVIEW_CHARS_MAX: usize = 1_000;
/// How many requests may be wrapped in each other.
const WRAPPINGS_MAX: usize = 8;

/// The preview of a JSON text. `role` is whose message is shown.
pub(crate) fn preview(json: &str, role: &str) -> String {
    let value = Any::of_json(json);
    let said = messages(&value, WRAPPINGS_MAX).and_then(|messages| last_said(&messages, role)).filter(|text| !text.is_empty());
    let text = said.unwrap_or_else(|| json.to_owned());
    if text.chars().count() <= PREVIEW_CHARS_MAX {
        return text;
    }
    text.chars().take(PREVIEW_CHARS_MAX - 3).chain("...".chars()).collect()
}

/// The messages of a chat, in the shapes that OpenAI's interfaces have.
fn messages(value: &Any, wrappings: usize) -> Option<Vec<&Any>> {
    let listed = |name: &str| match value.get(name) {
        Some(Any::List(items)) if !items.is_empty() => Some(items.iter().filter(|item| is_message(item)).collect()),
        _ => None,
    };
    if let Some(messages) = listed("messages") {
        return Some(messages);
    }
    if let Some(Any::List(choices)) = value.get("choices")
        && let Some(message) = choices.first().and_then(|choice| choice.get("message")).filter(|message| is_message(message))
    {
        return Some(vec![message]);
    }
    listed("input").or_else(|| listed("output")).or_else(|| match wrappings {
        0 => None,
        _ => messages(value.get("request")?, wrappings - 1),
    })
}

fn is_message(value: &Any) -> bool {
    value.get("role").is_some() && value.get("content").is_some()
}

/// The text of the last message of a role, or of the last one.
fn last_said(messages: &[&Any], role: &str) -> Option<String> {
    let of_role = messages.iter().rev().find(|message| message.get("role").and_then(Any::as_text) == Some(role));
    let message = of_role.or(messages.last())?;
    match message.get("content")? {
        Any::Text(text) => Some(text.clone()),
        Any::List(parts) => parts.iter().find_map(|part| match part {
            Any::Text(text) => Some(text.clone()),
            part => {
                let kind = part.get("type").and_then(Any::as_text);
                let is_text = matches!(kind, Some("text" | "output_text"));
                part.get("text").filter(|_| is_text).and_then(Any::as_text).map(str::to_owned)
            }
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_shows_its_last_message() {
        for (json, role, wanted) in [
            (r#"{"x": 1}"#, "user", r#"{"x": 1}"#),
            ("\"text\"", "user", "\"text\""),
            ("no JSON", "user", "no JSON"),
            (
                r#"{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "system", "content": "c"}]}"#,
                "user",
                "b",
            ),
            (r#"{"messages": [{"role": "system", "content": "c"}]}"#, "user", "c"),
            (r#"{"choices": [{"message": {"role": "assistant", "content": "yes"}}]}"#, "assistant", "yes"),
            (r#"{"request": {"input": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "t"}]}]}}"#, "user", "t"),
            (r#"{"output": [{"role": "assistant", "content": [{"type": "output_text", "text": "o"}]}]}"#, "assistant", "o"),
            (r#"{"messages": []}"#, "user", r#"{"messages": []}"#),
            (r#"{"messages": [{"role": "user", "content": ""}]}"#, "user", r#"{"messages": [{"role": "user", "content": ""}]}"#),
        ] {
            assert_eq!(preview(json, role), wanted, "{json}");
        }
        let long = preview(&"é".repeat(3_000), "user");
        assert_eq!((long.chars().count(), long.ends_with("...")), (1_000, true));
        let wrapped = (0..100).fold(String::from("1"), |inner, _| format!("{{\"request\": {inner}}}"));
        assert_eq!(preview(&wrapped, "user").chars().count(), 1_000);
    }
}
