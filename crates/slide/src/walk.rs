//! The walk: rows and questions of one entity in the order of time, each row entering and leaving each window once.
//!
//! Rows of entities that nobody asks for are dropped first. The others are put into one bucket per entity and sorted there; threads take
//! runs of entities. So n rows and m questions cost n log n (in small sorts) and one step per row, window and question.

use crate::argument::Argument;
use crate::state::{Answer, State};
use crate::{Call, Window};
use std::cmp::Ordering;

/// A row: where it stands in time, and where its values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its time, in microseconds.
    pub time: i64,
    /// The load it came with.
    pub load: Option<i64>,
    /// Its number within the load.
    pub number: Option<i64>,
    /// Its place in the arguments.
    pub at: u32,
}

impl Row {
    /// Time, load, number; what is absent comes last, as in the order of a query.
    fn order(&self, other: &Row) -> Ordering {
        let absent_last = |a: Option<i64>, b: Option<i64>| match (a, b) {
            (Some(a), Some(b)) => a.cmp(&b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        self.time.cmp(&other.time).then_with(|| absent_last(self.load, other.load)).then_with(|| absent_last(self.number, other.number))
    }
}

/// A question: its moment and its place among the asked.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// The moment, in microseconds.
    pub moment: i64,
    /// Its place among the asked.
    pub at: u32,
}

/// Items in one bucket per entity.
#[derive(Debug)]
pub struct Buckets<T> {
    items: Vec<T>,
    /// Where each entity's begin; one more than there are entities.
    starts: Vec<usize>,
}

impl<T: Copy> Buckets<T> {
    /// Sorts items into buckets by the entity beside them, in the order in which they come.
    pub fn of(entities: usize, items: &[(u32, T)]) -> Buckets<T> {
        let mut starts = vec![0usize; entities + 1];
        for (entity, _) in items {
            starts[*entity as usize + 1] += 1;
        }
        for at in 0..entities {
            starts[at + 1] += starts[at];
        }
        let Some((_, any)) = items.first() else { return Buckets { items: Vec::new(), starts } };
        let mut next = starts.clone();
        let mut placed = vec![*any; items.len()];
        for (entity, item) in items {
            let slot = &mut next[*entity as usize];
            placed[*slot] = *item;
            *slot += 1;
        }
        Buckets { items: placed, starts }
    }
    fn of_entity(&self, entity: usize) -> &[T] {
        &self.items[self.starts[entity]..self.starts[entity + 1]]
    }
    fn entities(&self) -> usize {
        self.starts.len() - 1
    }
}

/// What is walked over, and what is asked of it.
pub struct Walk<'a> {
    /// Rows per entity.
    pub rows: &'a Buckets<Row>,
    /// Questions per entity.
    pub questions: &'a Buckets<Question>,
    /// The windows.
    pub windows: &'a [Window],
    /// What is computed of the rows inside.
    pub calls: &'a [Call],
    /// What the calls read.
    pub arguments: &'a [Argument],
    /// Per filter and place of a row, whether it passes.
    pub filters: &'a [Vec<bool>],
}

/// Questions by their place, and a column of answers per call.
type Answers = (Vec<u32>, Vec<Vec<Answer>>);

impl Walk<'_> {
    /// What every call answers to each of `asked` questions, `answers[call][question]`; those of nobody's bucket are answered by no rows.
    pub fn answers(&self, asked: usize, threads: usize) -> Vec<Vec<Answer>> {
        let shares = self.shares(threads);
        let parts: Vec<Answers> = if shares.len() <= 1 {
            shares.into_iter().map(|(from, to)| self.entities(from, to)).collect()
        } else {
            std::thread::scope(|scope| {
                let at_work: Vec<_> = shares.into_iter().map(|(from, to)| scope.spawn(move || self.entities(from, to))).collect();
                at_work.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
            })
        };
        let of_nothing = |call: &Call| self.state(call).answer();
        let mut answers: Vec<Vec<Answer>> = self.calls.iter().map(|call| vec![of_nothing(call); asked]).collect();
        for (places, columns) in parts {
            for (column, values) in answers.iter_mut().zip(columns) {
                for (place, value) in places.iter().zip(values) {
                    column[*place as usize] = value;
                }
            }
        }
        answers
    }

    fn state(&self, call: &Call) -> State {
        State::new(call.what, self.argument(call))
    }

    fn argument(&self, call: &Call) -> &Argument {
        call.argument.map_or(&Argument::None, |number| &self.arguments[number])
    }

    /// Runs of entities with about as much work each.
    fn shares(&self, threads: usize) -> Vec<(usize, usize)> {
        let entities = self.questions.entities();
        let work = |entity: usize| self.rows.starts[entity] + self.questions.starts[entity];
        let share = work(entities).div_ceil(threads.max(1)).max(1);
        let mut shares = Vec::new();
        let mut from = 0;
        for to in 1..=entities {
            if to == entities || work(to) - work(from) >= share {
                shares.push((from, to));
                from = to;
            }
        }
        shares
    }

    fn entities(&self, from: usize, to: usize) -> Answers {
        let many = self.questions.starts[to] - self.questions.starts[from];
        let mut places = Vec::with_capacity(many);
        let mut columns: Vec<Vec<Answer>> = self.calls.iter().map(|_| Vec::with_capacity(many)).collect();
        let mut states: Vec<State> = self.calls.iter().map(|call| self.state(call)).collect();
        let in_window: Vec<Vec<usize>> =
            (0..self.windows.len()).map(|window| (0..self.calls.len()).filter(|at| self.calls[*at].window == window).collect()).collect();
        let (mut rows, mut questions) = (Vec::new(), Vec::new());
        for entity in from..to {
            questions.clear();
            questions.extend_from_slice(self.questions.of_entity(entity));
            questions.sort_unstable_by_key(|q: &Question| q.moment);
            rows.clear();
            rows.extend_from_slice(self.rows.of_entity(entity));
            if !rows.is_sorted_by(|a: &Row, b: &Row| a.order(b).is_le()) {
                rows.sort_by(Row::order);
            }
            states.iter_mut().for_each(State::clear);
            let mut edges = vec![(0usize, 0usize); self.windows.len()];
            for question in &questions {
                for (number, window) in self.windows.iter().enumerate() {
                    self.slide(&rows, question.moment, window, &in_window[number], &mut edges[number], &mut states);
                }
                places.push(question.at);
                for (column, state) in columns.iter_mut().zip(&states) {
                    column.push(state.answer());
                }
            }
        }
        (places, columns)
    }

    /// Moves one window to a moment. The rows from the first edge to the second are inside; both only ever move on. `calls` are those that
    /// look through it.
    fn slide(&self, rows: &[Row], moment: i64, window: &Window, calls: &[usize], edges: &mut (usize, usize), states: &mut [State]) {
        let (mut first, mut end) = *edges;
        if let Some((distance, inside)) = window.from {
            let edge = moment.saturating_add(distance);
            while rows.get(first).is_some_and(|row| row.time < edge || (row.time == edge && !inside)) {
                if first < end {
                    self.each(calls, states, &rows[first], State::remove);
                }
                first += 1;
            }
        }
        let edge = moment.saturating_add(window.to.0);
        while rows.get(end).is_some_and(|row| row.time < edge || (row.time == edge && window.to.1)) {
            // One that is before the window already never enters it.
            if end >= first {
                self.each(calls, states, &rows[end], State::add);
            }
            end += 1;
        }
        *edges = (first, end);
    }

    #[inline]
    fn each(&self, calls: &[usize], states: &mut [State], row: &Row, change: impl Fn(&mut State, &Argument, u32)) {
        for at in calls {
            let call = &self.calls[*at];
            if call.filter.is_none_or(|filter| self.filters[filter][row.at as usize]) {
                change(&mut states[*at], self.argument(call), row.at);
            }
        }
    }
}
