//! Page tokens: base64 of `{"offset": n}`, as MLflow makes them. Clients pass them back and look at nothing.

use super::error::invalid;
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
    let decoded = STANDARD.decode(token).map_err(|_| invalid("Invalid page token, could not base64-decode"))?;
    let shown = || String::from_utf8_lossy(&decoded).escape_debug().to_string();
    let parsed: Value = serde_json::from_slice(&decoded).map_err(|_| invalid(format!("Invalid page token, decoded value={}", shown())))?;
    let offset = match parsed.get("offset") {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.parse().ok(),
        _ => return Err(invalid(format!("Invalid page token, parsed value={}", shown()))),
    };
    offset
        .and_then(|offset| usize::try_from(offset).ok())
        .filter(|offset| *offset < 1 << 48)
        .ok_or_else(|| invalid(format!("Invalid page token, not stringable {}", shown())))
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
            ("%%%", "Invalid page token, could not base64-decode"),
            ("bm9uc2Vuc2U=", "Invalid page token, decoded value=nonsense"),
            ("e30=", "Invalid page token, parsed value={}"),
            ("eyJvZmZzZXQiOiAtNX0=", "Invalid page token, not stringable {\"offset\": -5}"),
        ] {
            let message = read(Some(token)).expect_err(token).message;
            assert_eq!(message.replace('\\', ""), text);
        }
    }
}
