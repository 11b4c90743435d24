//! The walk over rows that are not known all the time: a question sees a row only if it was known by then, whatever the row's own time.
//!
//! Each row says since when it is known, each question how far its knowledge reaches; the two are numbers that mean nothing here. As long as what
//! becomes known is newer than all that is inside, a window slides as always. A late row belongs into the middle, where no state takes it: then, and
//! only then, the window is filled anew. So what is never late costs one look more per row, and what is late costs its window once.

use crate::state::State;
use crate::walk::{Entry, Slot, Walk, moved};

/// What is known, and how much of it each question knows.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Per place of a row: since when it is known.
    pub rows: &'a [i64],
    /// Per question: how far its knowledge reaches. A row is seen if its number is not greater.
    pub questions: &'a [i64],
}

/// The rows of one entity in the order in which they became known.
pub(crate) struct Arriving {
    /// Places in the entity's rows.
    order: Vec<u32>,
    /// How many of them are known to the question before.
    seen: usize,
    /// How far that question's knowledge reached.
    reach: i64,
}

/// What changed between two questions.
pub(crate) enum News<'a> {
    /// These became known.
    Rows(&'a [u32]),
    /// Less is known than before.
    Less,
}

impl Arriving {
    pub(crate) fn of(known: &Known<'_>, rows: &[Entry]) -> Arriving {
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        let since = |place: &u32| known.rows[rows[*place as usize].at as usize];
        if !order.is_sorted_by_key(since) {
            order.sort_by_key(since);
        }
        Arriving { order, seen: 0, reach: i64::MIN }
    }

    /// Goes on to a question. Returns the reach of the one before, and what changed.
    pub(crate) fn go_on(&mut self, known: &Known<'_>, rows: &[Entry], reach: i64) -> (i64, News<'_>) {
        let before = std::mem::replace(&mut self.reach, reach);
        let since = |place: &u32| known.rows[rows[*place as usize].at as usize];
        let seen = self.order.partition_point(|place| since(place) <= reach);
        let first = std::mem::replace(&mut self.seen, seen);
        (before, if seen < first { News::Less } else { News::Rows(&self.order[first..seen]) })
    }
}

/// A question, and what is known then.
pub(crate) struct Then<'a> {
    /// Its moment.
    pub moment: i64,
    /// How far its knowledge reaches.
    pub reach: i64,
    /// How far that of the question before reached.
    pub before: i64,
    /// What changed since.
    pub news: News<'a>,
}

impl Walk<'_> {
    /// Moves one window to a question: afterwards the states hold the rows between its edges that are known then, in the order of time.
    pub(crate) fn slide_known(
        &self,
        known: &Known<'_>,
        rows: &[Entry],
        then: &Then<'_>,
        (number, edges): (usize, &mut (usize, usize)),
        (slots, inside): (&[Slot<'_>], &[usize]),
        states: &mut [State],
    ) {
        let (first, end) = *edges;
        *edges = moved(rows, then.moment, &self.windows[number], *edges);
        let (next_first, next_end) = *edges;
        let since = |row: &&Entry| known.rows[row.at as usize];
        let late = match then.news {
            News::Less => true,
            News::Rows(new) => new.iter().any(|place| (next_first..end).contains(&(*place as usize))),
        };
        let (leaving, entering) = if late {
            (0..0, next_first..next_end)
        } else {
            (first.min(end)..next_first.min(end), next_first.max(end).min(next_end)..next_end)
        };
        for at in inside {
            let (call, state) = (slots[*at].call(), &mut states[*at]);
            let argument = self.argument(call);
            let passes = |row: &u32| call.filter.is_none_or(|filter| self.filters[filter][*row as usize]);
            if late {
                state.clear();
            }
            let gone = rows[leaving.clone()].iter().filter(|row| since(row) <= then.before).map(|row| row.at);
            state.remove(argument, gone.filter(passes));
            let come = rows[entering.clone()].iter().filter(|row| since(row) <= then.reach).map(|row| row.at);
            state.add(argument, come.filter(passes));
        }
    }
}
