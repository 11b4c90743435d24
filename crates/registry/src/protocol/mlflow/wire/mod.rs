//! MLflow's JSON, written out: requests and answers, one file per noun. These types never leave this protocol.
//!
//! 64-bit numbers are JSON numbers, what is unset is left out, floats that JSON lacks are words. Answers borrow what they show.

pub(crate) mod artifacts;
pub(crate) mod experiment;
pub(crate) mod logged_model;
pub(crate) mod metric;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod webhooks;

use super::request::{EnumWord, Field, filled};
use gristmill_kernel::Timestamp;
use gristmill_kernel::tracking::ViewType;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The fields of a tag or parameter.
pub(crate) const PAIR: &[Field] = &[Field::text("key"), Field::text("value")];
/// The same, where MLflow looks whether there is a name before it looks at the name.
pub(crate) const NAMED_PAIR: &[Field] = &[Field::text("key").required(), Field::text("value")];

/// A tag or parameter that a client sends.
#[derive(Debug, Deserialize)]
pub(crate) struct PairAsk {
    /// Its name; absent is empty.
    pub key: Option<String>,
    /// Its value; absent is empty.
    pub value: Option<String>,
}

impl PairAsk {
    /// Name and value.
    pub(crate) fn taken(self) -> (String, String) {
        (self.key.unwrap_or_default(), self.value.unwrap_or_default())
    }
}

/// The same, and the name is there.
#[derive(Debug, Deserialize)]
pub(crate) struct NamedPairAsk {
    /// Its name.
    #[serde(deserialize_with = "filled")]
    pub key: String,
    /// Its value; absent is empty.
    pub value: Option<String>,
}

impl From<NamedPairAsk> for PairAsk {
    fn from(pair: NamedPairAsk) -> PairAsk {
        PairAsk { key: Some(pair.key), value: pair.value }
    }
}

/// A tag or parameter as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Pair<'a> {
    key: &'a str,
    value: &'a str,
}

/// Tags or parameters as they are shown.
pub(crate) fn pairs(map: &BTreeMap<String, String>) -> Vec<Pair<'_>> {
    map.iter().map(|(key, value)| Pair { key, value }).collect()
}

/// A moment as clients count it. They keep milliseconds; we keep microseconds and lose nothing.
pub(crate) fn moment(millis: i64) -> Timestamp {
    Timestamp::from_micros(millis.saturating_mul(1_000))
}

/// Which lifecycles a client asks for: a word or its number. A word that does not exist says nothing: that is how protocol buffers take the
/// words of clients that are newer than their server.
pub(crate) fn view(word: Option<&EnumWord>) -> ViewType {
    match word.map(|w| w.0.as_str()) {
        Some("DELETED_ONLY" | "2") => ViewType::DeletedOnly,
        Some("ALL" | "3") => ViewType::All,
        _ => ViewType::ActiveOnly,
    }
}
