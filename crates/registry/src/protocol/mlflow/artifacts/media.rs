//! What a stored file is called when it is sent: its media type by its name, its name in a header, and which part of it was asked for.
//!
//! Every file is sent as an attachment with `nosniff`, so that no browser shows what somebody uploaded as a page of ours.

use gristmill_web::HeaderMap;
use std::ops::Range;

/// Endings that are text, whatever else knows them: what MLflow's own server shows as text.
const TEXT: &[&str] = &[
    "txt",
    "log",
    "err",
    "cfg",
    "conf",
    "cnf",
    "cf",
    "ini",
    "properties",
    "prop",
    "hocon",
    "toml",
    "yaml",
    "yml",
    "xml",
    "json",
    "js",
    "py",
    "py3",
    "csv",
    "tsv",
    "md",
    "rst",
    "ipynb",
    "MLmodel",
    "mlproject",
];

/// Media types by ending, in lower case.
const TYPES: &[(&str, &str)] = &[
    ("html", "text/html"),
    ("htm", "text/html"),
    ("css", "text/css"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("svg", "image/svg+xml"),
    ("webp", "image/webp"),
    ("bmp", "image/bmp"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("ico", "image/vnd.microsoft.icon"),
    ("pdf", "application/pdf"),
    ("zip", "application/zip"),
    ("tar", "application/x-tar"),
    ("tgz", "application/x-tar"),
    ("h5", "application/x-hdf5"),
    ("bat", "text/plain"),
    ("c", "text/plain"),
    ("h", "text/plain"),
    ("mp3", "audio/mpeg"),
    ("wav", "audio/x-wav"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("wasm", "application/wasm"),
    ("sh", "application/x-sh"),
];

/// The media type of a file by its name; what is not known is bytes.
pub(crate) fn media_type(name: &str) -> &'static str {
    // A name that begins with its only dot has no ending; a name without one is an ending itself (`MLmodel`).
    let ending = name.trim_start_matches('.').rsplit_once('.').map_or(name, |(_, ending)| ending);
    if TEXT.contains(&ending) {
        return "text/plain";
    }
    // Of what is compressed, the type of what is inside.
    if ["gz", "bz2", "xz", "br"].contains(&ending) && name != ending {
        let inside = name.strip_suffix(ending).and_then(|n| n.strip_suffix('.')).unwrap_or_default();
        return if inside.contains('.') { media_type(inside) } else { "application/octet-stream" };
    }
    let lower = ending.to_ascii_lowercase();
    TYPES.iter().find(|(known, _)| *known == lower && ending != name).map_or("application/octet-stream", |(_, kind)| kind)
}

/// `Content-Disposition` of a file that is not to be shown but saved. Names beyond ASCII are given twice, as RFC 6266 wants.
pub(crate) fn attachment(name: &str) -> String {
    if name.is_ascii() {
        return format!("attachment; filename={}", quoted(name));
    }
    let plain: String = name.chars().filter(char::is_ascii).collect();
    let plain = if plain.is_empty() { "download" } else { &plain };
    let mut encoded = String::new();
    for byte in name.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&b) => encoded.push(char::from(b)),
            b => encoded.push_str(&format!("%{b:02X}")),
        }
    }
    format!("attachment; filename={}; filename*=UTF-8''{encoded}", quoted(plain))
}

fn quoted(name: &str) -> String {
    let is_token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if is_token { name.to_owned() } else { format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")) }
}

/// Which bytes of a file of this length to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of them.
    Whole,
    /// These.
    Part(Range<u64>),
    /// Some that are not there.
    Nothing,
}

/// Reads `Range`. Several ranges, other units and what cannot be read are answered with the whole, as the standard allows; so is a range of
/// something else than the asker saw (`If-Range`).
pub(crate) fn wanted(headers: &HeaderMap, tag: &str, length: u64) -> Wanted {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let Some(spec) = text("range").and_then(|range| range.trim().strip_prefix("bytes=")) else { return Wanted::Whole };
    if text("if-range").is_some_and(|seen| seen.trim() != tag) {
        return Wanted::Whole;
    }
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
    let number = |digits: &str| {
        let digits = digits.trim();
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten()
    };
    match (first.trim().is_empty(), number(first), last.trim().is_empty(), number(last)) {
        // The last so many bytes.
        (true, _, false, Some(0)) => Wanted::Nothing,
        (true, _, false, Some(count)) if length > 0 => Wanted::Part(length.saturating_sub(count)..length),
        (false, Some(start), true, _) if start < length => Wanted::Part(start..length),
        (false, Some(start), false, Some(end)) if start <= end && start < length => Wanted::Part(start..end.saturating_add(1).min(length)),
        (false, Some(start), false, Some(end)) if start > end => Wanted::Whole,
        (true, _, false, Some(_)) | (false, Some(_), true, _) | (false, Some(_), false, Some(_)) => Wanted::Nothing,
        _ => Wanted::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_types_that_mlflow_gives_them() {
        for (name, kind) in [
            ("a.txt", "text/plain"),
            ("MLmodel", "text/plain"),
            ("b.pkl", "application/octet-stream"),
            ("c.png", "image/png"),
            ("C.PNG", "image/png"),
            ("d.pdf", "application/pdf"),
            ("e.html", "text/html"),
            ("f.tar", "application/x-tar"),
            ("png", "application/octet-stream"),
            ("a.tar.gz", "application/x-tar"),
            ("a.gz", "application/octet-stream"),
            (".png", "application/octet-stream"),
            ("model.onnx", "application/octet-stream"),
            ("x.yaml", "text/plain"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(media_type(name), kind, "{name}");
        }
    }

    #[test]
    fn names_in_headers_are_quoted_and_encoded() {
        for (name, text) in [
            ("a.txt", "attachment; filename=a.txt"),
            ("a b.txt", "attachment; filename=\"a b.txt\""),
            ("a\"b;c", "attachment; filename=\"a\\\"b;c\""),
            ("größe.csv", "attachment; filename=gre.csv; filename*=UTF-8''gr%C3%B6%C3%9Fe.csv"),
            ("日本", "attachment; filename=download; filename*=UTF-8''%E6%97%A5%E6%9C%AC"),
        ] {
            assert_eq!(attachment(name), text);
        }
    }

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        for (range, length, answer) in [
            ("bytes=0-9", 100, Wanted::Part(0..10)),
            ("bytes=90-", 100, Wanted::Part(90..100)),
            ("bytes=-10", 100, Wanted::Part(90..100)),
            ("bytes=-200", 100, Wanted::Part(0..100)),
            ("bytes=0-1000", 100, Wanted::Part(0..100)),
            ("bytes=99-99", 100, Wanted::Part(99..100)),
            ("bytes=0-18446744073709551615", 100, Wanted::Part(0..100)),
            ("bytes=100-", 100, Wanted::Nothing),
            ("bytes=100-200", 100, Wanted::Nothing),
            ("bytes=-0", 100, Wanted::Nothing),
            ("bytes=0-0", 0, Wanted::Nothing),
            ("bytes=-1", 0, Wanted::Nothing),
            ("bytes=5-2", 100, Wanted::Whole),
            ("bytes=0-1,5-6", 100, Wanted::Whole),
            ("bytes=a-b", 100, Wanted::Whole),
            ("bytes=+1-2", 100, Wanted::Whole),
            ("bytes=-", 100, Wanted::Whole),
            ("bytes=99999999999999999999-", 100, Wanted::Whole),
            ("items=0-1", 100, Wanted::Whole),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("range", range.parse().expect("a header"));
            assert_eq!(wanted(&headers, "\"t\"", length), answer, "{range} of {length}");
            headers.insert("if-range", "\"other\"".parse().expect("a header"));
            assert_eq!(wanted(&headers, "\"t\"", length), Wanted::Whole);
        }
    }
}
