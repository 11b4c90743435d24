//! Page tokens: base64 of `{"offset": n}`, as MLflow makes them. Clients pass them back and look at nothing.

use super::error::invalid;
use super::validate::{python_bytes, python_shown};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gristmill_kernel::Result;
use serde_json::Value;

/// The token of the page that begins behind `offset` items.
pub(crate) fn write(offset: usize) -> String {
    STANDARD.encode(format!("{{\"offset\": {offset}}}"))
}

/// The token of the next page, if there is one.
pub(crate) fn next(more: bool, offset: usize, items: usize) -> Option<String> {
    more.then(|| write(offset + items))
}

/// How many items a page leaves out. Without a token, none.
pub(crate) fn read(token: Option<&str>) -> Result<usize> {
    let Some(token) = token.filter(|t| !t.is_empty()) else { return Ok(0) };
    let decoded = decode(token).ok_or_else(|| invalid("Invalid page token, could not base64-decode"))?;
    let parsed: Value =
        serde_json::from_slice(&decoded).map_err(|_| invalid(format!("Invalid page token, decoded value={}", python_bytes(&decoded))))?;
    let unreadable = || invalid(format!("Invalid page token, parsed value={}", python_shown(&parsed)));
    let offset = match parsed.get("offset") {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) if !text.is_empty() => text.parse().ok(),
        _ => return Err(unreadable()),
    };
    match offset {
        Some(0) => Err(unreadable()),
        Some(offset) if offset < 1 << 48 => usize::try_from(offset).map_err(|_| unreadable()),
        _ => {
            let offset = parsed.get("offset").map(|o| o.as_str().map_or_else(|| o.to_string(), str::to_owned)).unwrap_or_default();
            Err(invalid(format!("Invalid page token, not stringable {offset}")))
        }
    }
}

/// Decodes base64 as Python does: what is not of its alphabet is passed over.
fn decode(token: &str) -> Option<Vec<u8>> {
    let known: String = token.chars().filter(|c| c.is_ascii_alphanumeric() || "+/=".contains(*c)).collect();
    STANDARD.decode(known).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_others_are_refused() {
        assert_eq!(write(5), "eyJvZmZzZXQiOiA1fQ==");
        for offset in [1, 17, 50_000] {
            assert_eq!(read(Some(&write(offset))).expect("ours"), offset);
        }
        assert_eq!((read(None).expect("none"), read(Some("")).expect("empty")), (0, 0));
        for (token, text) in [
            ("abc", "Invalid page token, could not base64-decode"),
            ("%%%", "Invalid page token, decoded value=b''"),
            ("nonsense", "Invalid page token, decoded value=b'\\x9e\\x89\\xecz{\\x1e'"),
            ("bm9uc2Vuc2U=", "Invalid page token, decoded value=b'nonsense'"),
            ("e30=", "Invalid page token, parsed value={}"),
            ("eyJvZmZzZXQiOiAwfQ==", "Invalid page token, parsed value={'offset': 0}"),
            ("eyJvZmZzZXQiOiAtNX0=", "Invalid page token, not stringable -5"),
            ("eyJvZmZzZXQiOiAieCJ9", "Invalid page token, not stringable x"),
        ] {
            let message = read(Some(token)).expect_err(token).message;
            assert_eq!(message, text);
        }
    }
}
