//! Kept rows per entity, ready to be read at once. Never the only copy.

use crate::{Result, Span, Timestamp};
use async_trait::async_trait;
use bytes::Bytes;

/// One kept row of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlineRow {
    /// The entity's encoded key.
    pub key: Bytes,
    /// The row's event time.
    pub at: Timestamp,
    /// The load that brought it.
    pub load: i64,
    /// Its number within the load. `(load, row)` identifies it: writing it again changes nothing.
    pub row: i64,
    /// The encoded row.
    pub value: Bytes,
}

/// How far a slot has followed its table.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct SlotState {
    /// Identifies what the rows mean (table, key columns, encoding). Another layout means: rebuild.
    pub layout: String,
    /// The table's generation.
    pub generation: u64,
    /// Every load up to here is in the slot.
    pub load: i64,
    /// How far back from now its rows are needed; `None`: all of them. It only ever grows: several views read one slot.
    #[serde(default)]
    pub window: Option<Span>,
    /// Rows older than this may have been forgotten. The store's own: a write does not change it.
    #[serde(default)]
    pub kept_from: Option<Timestamp>,
}

impl SlotState {
    /// The state of a slot that has this one, once `written` has been written to it.
    #[must_use]
    pub fn then(&self, written: &SlotState) -> SlotState {
        let window = widest(self.window, written.window);
        // A writer that did not know how far back rows are needed cannot say that all of them are there.
        let load = if window == written.window { written.load } else { written.load.min(self.load) };
        SlotState { load, window, kept_from: self.kept_from, ..written.clone() }
    }
    /// Rows older than this are needed by no moment from `now` on; `None`: all are needed.
    pub fn needed_from(&self, now: Timestamp) -> Option<Timestamp> {
        self.window.map(|window| now.minus(window))
    }
}

/// The wider of two windows; `None` is all of history.
pub fn widest(a: Option<Span>, b: Option<Span>) -> Option<Span> {
    a.zip(b).map(|(a, b)| a.max(b))
}

/// Which rows are read: those of some keys with `from <= at < before`. `None` leaves a side open.
#[derive(Debug, Clone, Copy)]
pub struct OnlineRead<'k> {
    /// The keys, in the order of the answer.
    pub keys: &'k [Bytes],
    /// The first moment inside.
    pub from: Option<Timestamp>,
    /// The first moment outside.
    pub before: Option<Timestamp>,
    /// Only the newest of these rows of each key.
    pub newest: bool,
}

/// What was read, of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WholeRows {
    /// The slot's state, `None` if it was never written.
    pub state: Option<SlotState>,
    /// The rows per key, in order, of the loads that are in as a whole by that state.
    pub rows: Vec<Vec<OnlineRow>>,
}

/// Rows kept per entity, ready to be read at once. Never the only copy: a slot can be rebuilt from its table.
///
/// A slot belongs to one (table, key columns). Within a slot rows are ordered by (key, time, load, row).
#[async_trait]
pub trait Online: Send + Sync {
    /// Writes rows and the slot's new state ([`SlotState::then`]) in one atomic step.
    async fn write(&self, slot: &str, rows: Vec<OnlineRow>, state: &SlotState) -> Result<()>;
    /// The rows of a key with `from <= at < before`, in order. `None` leaves a side open.
    async fn read(&self, slot: &str, key: &[u8], from: Option<Timestamp>, before: Option<Timestamp>) -> Result<Vec<OnlineRow>>;
    /// The rows of whole loads, and the state that says which loads those are: both of one moment, whatever is written or cleared meanwhile.
    async fn read_whole(&self, slot: &str, read: OnlineRead<'_>) -> Result<WholeRows>;
    /// The slot's state, `None` if it was never written.
    async fn state(&self, slot: &str) -> Result<Option<SlotState>>;
    /// Forgets rows that no moment from `now` on needs: those older than the window of the slot's state. Returns how many. The state says so
    /// (`kept_from`) before the first of them is gone.
    async fn expire(&self, slot: &str, now: Timestamp) -> Result<u64>;
    /// Empties the slot and its state.
    async fn clear(&self, slot: &str) -> Result<()>;
    /// How many different keys the slot has, counted up to `limit`.
    async fn keys(&self, slot: &str, limit: usize) -> Result<Vec<Bytes>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(load: i64, days: Option<u64>) -> SlotState {
        SlotState { load, window: days.map(|d| Span::from_secs(d * 86_400)), ..SlotState::default() }
    }

    #[test]
    fn a_window_only_grows() {
        assert_eq!(state(5, Some(7)).then(&state(9, Some(7))), state(9, Some(7)));
        assert_eq!(state(5, Some(7)).then(&state(0, Some(90))), state(0, Some(90)), "rows are applied again");
        assert_eq!(state(0, Some(90)).then(&state(9, Some(7))), state(0, Some(90)), "who knew of less does not say that all is there");
        assert_eq!(state(3, None).then(&state(9, Some(7))), state(3, None));
    }

    #[test]
    fn what_was_forgotten_stays_known() {
        let forgot = SlotState { kept_from: Some(Timestamp::from_micros(5)), ..state(1, Some(7)) };
        assert_eq!(forgot.then(&state(2, Some(7))).kept_from, forgot.kept_from);
    }

    #[test]
    fn a_state_of_before_windows_keeps_everything() {
        let old: SlotState = serde_json::from_str(r#"{"layout":"l","generation":1,"load":2}"#).expect("reads");
        assert_eq!((old.window, old.kept_from, old.needed_from(Timestamp::from_micros(9))), (None, None, None));
    }
}
