//! What everything that comes from another tracker has to pass: ids, keys, moments, numbers.
//!
//! Keys and values may be longer than clients may send today (older trackers let them), never unlimited, and never without a name.

use gristmill_kernel::tracking::{ExperimentId, LoggedModelStatus};
use gristmill_kernel::{Code, Fault, Result, RunId, RunStatus, Timestamp};

/// Longest key, in characters.
const KEY_CHARS_MAX: usize = 500;
/// Longest value of a parameter or tag, in bytes.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// Longest name, in characters.
const NAME_CHARS_MAX: usize = 500;

fn bad(text: String) -> Fault {
    Fault::invalid(Code::BAD_VALUE, text)
}

/// The id of a run: a letter or digit, then letters, digits, `_` and `-`.
pub fn run_id(text: &str) -> Result<RunId> {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let sound = text.len() <= 256 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if first && sound { Ok(RunId(text.to_owned())) } else { Err(bad(format!("`{}` is not the id of a run", shown(text)))) }
}

/// The id of a logged model.
pub fn model_id(text: &str) -> Result<String> {
    run_id(text).map(|id| id.0).map_err(|_| bad(format!("`{}` is not the id of a logged model", shown(text))))
}

/// The id of an experiment: a number.
pub fn experiment_id(text: &str) -> Result<ExperimentId> {
    // The store keeps ids as signed integers.
    let id = text.parse::<u64>().ok().filter(|id| i64::try_from(*id).is_ok());
    id.map(ExperimentId).ok_or_else(|| bad(format!("experiment id `{}` is not a number", shown(text))))
}

/// A key of a metric, parameter or tag.
pub fn key(text: &str) -> Result<String> {
    let sound = !text.trim().is_empty() && text.chars().count() <= KEY_CHARS_MAX && !text.contains('\0');
    if sound { Ok(text.to_owned()) } else { Err(bad(format!("`{}` is not a key", shown(text)))) }
}

/// A value of a parameter or tag.
pub fn value(text: &str) -> Result<String> {
    if text.len() > VALUE_BYTES_MAX {
        return Err(bad(format!("a value of {} bytes is above the limit of {VALUE_BYTES_MAX}", text.len())));
    }
    Ok(text.to_owned())
}

/// A key and a value.
pub fn pair((k, v): (&str, &str)) -> Result<(String, String)> {
    Ok((key(k)?, value(v).map_err(|fault| bad(format!("`{}`: {}", shown(k), fault.message)))?))
}

/// The name of an experiment.
pub fn name(text: &str) -> Result<String> {
    let sound = !text.trim().is_empty() && text.chars().count() <= NAME_CHARS_MAX;
    if sound { Ok(text.to_owned()) } else { Err(bad(format!("`{}` is not a name", shown(text)))) }
}

/// A version's number.
pub fn number(number: i64) -> Result<u64> {
    u64::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| bad(format!("{number} is not the number of a version")))
}

/// Milliseconds since 1970, as everything of MLflow's is dated.
pub fn moment(millis: i64) -> Result<Timestamp> {
    millis.checked_mul(1_000).map(Timestamp::from_micros).ok_or_else(|| bad(format!("{millis} ms is not a moment")))
}

/// A run's state, as a word or as the number that old folders have.
pub fn status(text: &str) -> Result<RunStatus> {
    match text {
        "RUNNING" | "1" => Ok(RunStatus::Running),
        "SCHEDULED" | "2" => Ok(RunStatus::Queued),
        "FINISHED" | "3" => Ok(RunStatus::Succeeded),
        "FAILED" | "4" => Ok(RunStatus::Failed),
        "KILLED" | "5" => Ok(RunStatus::Cancelled),
        other => Err(bad(format!("`{}` is not the state of a run", shown(other)))),
    }
}

/// A logged model's state, as a word or as a number.
pub fn model_status(text: &str) -> Result<LoggedModelStatus> {
    match text {
        "LOGGED_MODEL_STATUS_UNSPECIFIED" | "LOGGED_MODEL_PENDING" | "UNSPECIFIED" | "PENDING" | "0" | "1" => {
            Ok(LoggedModelStatus::Pending)
        }
        "LOGGED_MODEL_READY" | "READY" | "2" => Ok(LoggedModelStatus::Ready),
        "LOGGED_MODEL_UPLOAD_FAILED" | "FAILED" | "3" => Ok(LoggedModelStatus::Failed),
        other => Err(bad(format!("`{}` is not the state of a logged model", shown(other)))),
    }
}

/// A text of somebody else for a message: short and without control characters.
pub fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_not_paths() {
        for good in ["0123456789abcdef0123456789abcdef", "a", "Run_1-x"] {
            assert!(run_id(good).is_ok(), "{good}");
        }
        for bad in ["", "../x", "a/b", "-a", "a\0", "a b", "ä", ".", &"a".repeat(257)] {
            assert!(run_id(bad).is_err(), "{bad}");
        }
        assert!(experiment_id("18446744073709551615").is_err() && experiment_id("-1").is_err() && experiment_id("0").is_ok());
    }

    #[test]
    fn a_message_shows_no_control_characters() {
        assert_eq!(shown("a\u{1b}[31m"), "a\\u{1b}[31m");
    }

    #[test]
    fn states_are_words_or_numbers() {
        assert_eq!(status("5").unwrap(), RunStatus::Cancelled);
        assert_eq!(status("FINISHED").unwrap(), RunStatus::Succeeded);
        assert!(status("DONE").is_err() && moment(i64::MAX).is_err());
    }
}
