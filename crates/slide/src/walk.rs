//! The walk: rows and questions of one entity in the order of time, each row entering and leaving each window once.
//!
//! Rows of entities that nobody asks for are dropped before. The others are put into one bucket per entity and sorted there; threads take
//! runs of entities. So n rows and m questions cost n log n (in small sorts) and one step per row, window and question. A row and a
//! question are 16 bytes each: half of the time of a large walk goes into memory.

use crate::argument::Argument;
use crate::known::{Arriving, Known, Then};
use crate::state::{Answer, State};
use crate::{Call, Window};
use std::cmp::Ordering;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// A row or a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its time, or the moment that is asked about, in microseconds.
    pub time: i64,
    /// The number of its entity.
    pub entity: u32,
    /// A row's place in the arguments, a question's among the answers.
    pub at: u32,
}

/// Which of two rows of one time is the older one. Without it, the one with the smaller place.
pub type Ties<'a> = &'a (dyn Fn(u32, u32) -> Ordering + Sync);

/// Entries from which more than one thread is worth it.
const MANY: usize = 50_000;

/// Answers that wait for their places, per call: few enough for the caches.
const BLOCK: usize = 4_096;

/// Entries in one bucket per entity.
#[derive(Debug)]
pub struct Buckets {
    entries: Vec<Entry>,
    /// Where each entity's begin; one more than there are entities.
    starts: Vec<usize>,
}

impl Buckets {
    /// Sorts entries into buckets by their entity; those of one entity stay in the order of the parts.
    pub fn of(entities: usize, parts: Vec<Vec<Entry>>, threads: usize) -> Buckets {
        let mut starts = vec![0usize; entities + 1];
        for entry in parts.iter().flatten() {
            starts[entry.entity as usize + 1] += 1;
        }
        for at in 0..entities {
            starts[at + 1] += starts[at];
        }
        let mut entries = vec![Entry { time: 0, entity: 0, at: 0 }; starts[entities]];
        let shares = if entries.len() < MANY { vec![(0, entities)] } else { shares(entities, threads, |entity| starts[entity]) };
        // Each thread looks at all entries and takes those of its entities.
        std::thread::scope(|scope| {
            let (mut rest, parts, starts) = (entries.as_mut_slice(), &parts, &starts);
            let last = shares.len().saturating_sub(1);
            for (number, (from, to)) in shares.into_iter().enumerate() {
                let (mine, others) = rest.split_at_mut(starts[to] - starts[from]);
                rest = others;
                let mut fill = move || {
                    let mut next: Vec<usize> = starts[from..to].iter().map(|start| start - starts[from]).collect();
                    let (from, count) = (from as u32, (to - from) as u32);
                    for entry in parts.iter().flatten().filter(|entry| entry.entity.wrapping_sub(from) < count) {
                        let slot = &mut next[(entry.entity - from) as usize];
                        mine[*slot] = *entry;
                        *slot += 1;
                    }
                };
                if number == last { fill() } else { drop(scope.spawn(fill)) }
            }
        });
        Buckets { entries, starts }
    }
    fn entities(&self) -> usize {
        self.starts.len() - 1
    }
    /// The bucket of an entity, in a part of the entries that begins with those of entity `from`.
    fn bucket<'e>(starts: &[usize], entries: &'e mut [Entry], from: usize, entity: usize) -> &'e mut [Entry] {
        &mut entries[starts[entity] - starts[from]..starts[entity + 1] - starts[from]]
    }
}

/// What is walked over, and what is asked of it.
pub struct Walk<'a> {
    /// The windows.
    pub windows: &'a [Window],
    /// What is computed of the rows inside.
    pub calls: &'a [Call],
    /// What the calls read.
    pub arguments: &'a [Argument],
    /// Per filter and place of a row, whether it passes.
    pub filters: &'a [Vec<bool>],
    /// The order of rows of one time.
    pub ties: Option<Ties<'a>>,
    /// Which rows each question knows; `None`: all.
    pub known: Option<Known<'a>>,
}

/// What a call answers to every question: bits of an integer, of a float or the place of a row, and whether there is an answer.
#[derive(Debug)]
pub struct Answers {
    pub(crate) bits: Vec<u64>,
    pub(crate) there: Vec<bool>,
}

impl Answers {
    /// The places of the rows that are answers, of a call that answers by rows.
    pub fn rows(&self) -> impl Iterator<Item = Option<u32>> {
        self.bits.iter().zip(&self.there).map(|(bits, there)| there.then_some(*bits as u32))
    }
}

/// Columns of answers that threads fill, each the places of its own questions.
struct Filling {
    bits: Vec<AtomicU64>,
    there: Vec<AtomicBool>,
}

impl Filling {
    fn new(of_nothing: Answer, asked: usize) -> Filling {
        let (bits, there) = written(of_nothing);
        let mut filling = Filling { bits: Vec::new(), there: Vec::new() };
        filling.bits.resize_with(asked, || AtomicU64::new(bits));
        filling.there.resize_with(asked, || AtomicBool::new(there));
        filling
    }
    fn done(self) -> Answers {
        let bits = self.bits.into_iter().map(AtomicU64::into_inner).collect();
        Answers { bits, there: self.there.into_iter().map(AtomicBool::into_inner).collect() }
    }
}

/// Answers of some questions, before they go to their places: there one column after the other is written, which the caches like better
/// than a question after the other.
struct Block {
    questions: Vec<u32>,
    /// Per call.
    answers: Vec<Vec<(u64, bool)>>,
}

impl Block {
    fn new(calls: usize) -> Block {
        Block { questions: Vec::with_capacity(BLOCK), answers: (0..calls).map(|_| Vec::with_capacity(BLOCK)).collect() }
    }
    fn put(&mut self, question: u32, answers: &[(u64, bool)], columns: &[Filling]) {
        self.questions.push(question);
        self.answers.iter_mut().zip(answers).for_each(|(column, answer)| column.push(*answer));
        if self.questions.len() >= BLOCK {
            self.empty(columns);
        }
    }
    fn empty(&mut self, columns: &[Filling]) {
        for (column, answers) in columns.iter().zip(&mut self.answers) {
            for (question, (bits, there)) in self.questions.iter().zip(answers.drain(..)) {
                column.bits[*question as usize].store(bits, Relaxed);
                column.there[*question as usize].store(there, Relaxed);
            }
        }
        self.questions.clear();
    }
}

#[inline]
fn written(answer: Answer) -> (u64, bool) {
    match answer {
        Answer::Null => (0, false),
        Answer::Int(value) => (value.cast_unsigned(), true),
        Answer::Float(value) => (value.to_bits(), true),
        Answer::Row(row) => (u64::from(row), true),
    }
}

/// A state that one or more calls read: a sum is also half of a mean.
pub(crate) struct Slot<'c> {
    /// The first of them.
    call: &'c Call,
    /// The numbers of all.
    calls: Vec<usize>,
}

impl<'c> Slot<'c> {
    /// What is kept.
    pub(crate) fn call(&self) -> &'c Call {
        self.call
    }
}

impl Walk<'_> {
    /// What every call answers to each of `asked` questions; those of nobody's bucket are answered by no rows.
    pub fn answers(&self, mut rows: Buckets, mut questions: Buckets, asked: usize, threads: usize) -> Vec<Answers> {
        let slots = self.slots();
        let shares = shares(questions.entities(), threads, |entity| rows.starts[entity] + questions.starts[entity]);
        let (mut row_entries, mut question_entries) = (rows.entries.as_mut_slice(), questions.entries.as_mut_slice());
        let mut work = Vec::with_capacity(shares.len());
        for (from, to) in shares {
            let (mine, others) = row_entries.split_at_mut(rows.starts[to] - rows.starts[from]);
            let (my_questions, other_questions) = question_entries.split_at_mut(questions.starts[to] - questions.starts[from]);
            (row_entries, question_entries) = (others, other_questions);
            work.push(Share {
                from,
                to,
                row_starts: &rows.starts,
                rows: mine,
                question_starts: &questions.starts,
                questions: my_questions,
            });
        }
        let columns = self.columns(asked, if asked < MANY { 1 } else { threads });
        if work.len() <= 1 {
            work.into_iter().for_each(|share| self.walk(share, &slots, &columns));
        } else {
            let (slots, columns) = (&slots, &columns);
            std::thread::scope(|scope| {
                work.into_iter().for_each(|share| drop(scope.spawn(move || self.walk(share, slots, columns))));
            });
        }
        columns.into_iter().map(Filling::done).collect()
    }

    /// A column per call, of the answers to questions that no row answers. Fresh memory is slow, so threads share that work.
    fn columns(&self, asked: usize, threads: usize) -> Vec<Filling> {
        let of_nothing: Vec<Answer> = self.calls.iter().map(|call| self.state(call).answer(call.what)).collect();
        if threads <= 1 {
            return of_nothing.into_iter().map(|answer| Filling::new(answer, asked)).collect();
        }
        let share = of_nothing.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let fill = |answers: &[Answer]| answers.iter().map(|answer| Filling::new(*answer, asked)).collect::<Vec<Filling>>();
            let at_work: Vec<_> = of_nothing.chunks(share).map(|answers| scope.spawn(move || fill(answers))).collect();
            at_work.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    }

    fn state(&self, call: &Call) -> State {
        State::new(call.what, self.argument(call))
    }

    pub(crate) fn argument(&self, call: &Call) -> &Argument {
        call.argument.map_or(&Argument::None, |number| &self.arguments[number])
    }

    /// The states that are kept.
    fn slots(&self) -> Vec<Slot<'_>> {
        let mut slots: Vec<Slot> = Vec::new();
        for (number, call) in self.calls.iter().enumerate() {
            let same = |other: &Call| {
                let looks_at = |call: &Call| (call.argument, call.filter, call.window);
                looks_at(call) == looks_at(other) && State::serves_both(call.what, other.what, self.argument(call))
            };
            match slots.iter_mut().find(|slot| same(slot.call)) {
                Some(slot) => slot.calls.push(number),
                None => slots.push(Slot { call, calls: vec![number] }),
            }
        }
        slots
    }

    fn walk(&self, share: Share, slots: &[Slot], columns: &[Filling]) {
        let mut block = Block::new(self.calls.len());
        let mut states: Vec<State> = slots.iter().map(|slot| self.state(slot.call)).collect();
        let in_window: Vec<Vec<usize>> =
            (0..self.windows.len()).map(|window| (0..slots.len()).filter(|at| slots[*at].call.window == window).collect()).collect();
        let mut edges = vec![(0usize, 0usize); self.windows.len()];
        let mut answers = vec![(0u64, false); self.calls.len()];
        for entity in share.from..share.to {
            let questions = Buckets::bucket(share.question_starts, share.questions, share.from, entity);
            if questions.is_empty() {
                continue;
            }
            // How far a question's knowledge reaches; the same for all where all is known.
            let reach = |q: &Entry| self.known.map_or(0, |known| known.questions[q.at as usize]);
            match self.known {
                None => questions.sort_unstable_by_key(|q| q.time),
                Some(_) => questions.sort_unstable_by_key(|q| (q.time, reach(q))),
            }
            let rows = Buckets::bucket(share.row_starts, share.rows, share.from, entity);
            self.sort(rows);
            let mut arriving = self.known.map(|known| Arriving::of(&known, rows));
            states.iter_mut().for_each(State::clear);
            edges.fill((0, 0));
            let mut answered = None;
            for question in questions.iter() {
                let asked = (question.time, reach(question));
                if answered != Some(asked) {
                    if let (Some(known), Some(arriving)) = (&self.known, &mut arriving) {
                        let (before, news) = arriving.go_on(known, rows, asked.1);
                        let then = Then { moment: asked.0, reach: asked.1, before, news };
                        for (number, edges) in edges.iter_mut().enumerate() {
                            self.slide_known(known, rows, &then, (number, edges), (slots, &in_window[number]), &mut states);
                        }
                    } else {
                        for (number, window) in self.windows.iter().enumerate() {
                            self.slide(rows, question.time, window, slots, &in_window[number], &mut edges[number], &mut states);
                        }
                    }
                    for (slot, state) in slots.iter().zip(&states) {
                        slot.calls.iter().for_each(|call| answers[*call] = written(state.answer(self.calls[*call].what)));
                    }
                    answered = Some(asked);
                }
                block.put(question.at, &answers, columns);
            }
        }
        block.empty(columns);
    }

    fn sort(&self, rows: &mut [Entry]) {
        let Some(ties) = self.ties else {
            if !rows.is_sorted_by_key(|row| (row.time, row.at)) {
                rows.sort_unstable_by_key(|row| (row.time, row.at));
            }
            return;
        };
        let order = |a: &Entry, b: &Entry| a.time.cmp(&b.time).then_with(|| ties(a.at, b.at));
        if !rows.is_sorted_by(|a, b| order(a, b).is_le()) {
            rows.sort_by(order);
        }
    }

    /// Moves one window to a moment. The rows from the first edge to the second are inside; both only ever move on. `inside` are the states
    /// that look through it.
    #[expect(clippy::too_many_arguments, reason = "the inner loop: what it changes is apart from what it reads")]
    fn slide(
        &self,
        rows: &[Entry],
        moment: i64,
        window: &Window,
        slots: &[Slot],
        inside: &[usize],
        edges: &mut (usize, usize),
        states: &mut [State],
    ) {
        let (first, end) = *edges;
        *edges = moved(rows, moment, window, *edges);
        let (next_first, next_end) = *edges;
        let leaving = &rows[first.min(end)..next_first.min(end)];
        // What is before the window already never enters it.
        let entering = &rows[next_first.max(end).min(next_end)..next_end];
        for at in inside {
            let (call, state) = (slots[*at].call, &mut states[*at]);
            let argument = self.argument(call);
            match call.filter {
                None => {
                    state.remove(argument, leaving.iter().map(|row| row.at));
                    state.add(argument, entering.iter().map(|row| row.at));
                }
                Some(filter) => {
                    let passes = |row: &u32| self.filters[filter][*row as usize];
                    state.remove(argument, leaving.iter().map(|row| row.at).filter(passes));
                    state.add(argument, entering.iter().map(|row| row.at).filter(passes));
                }
            }
        }
    }
}

/// The edges of a window after it has moved on to a moment: the rows from the first to the second are inside.
#[inline]
pub(crate) fn moved(rows: &[Entry], moment: i64, window: &Window, (first, end): (usize, usize)) -> (usize, usize) {
    let rest = |from: usize| rows.get(from..).unwrap_or_default();
    let before = |edge: i64, inside: bool| move |row: &&Entry| row.time < edge || (row.time == edge && inside);
    let next_first = match window.from {
        None => first,
        Some((distance, inclusive)) => first + rest(first).iter().take_while(before(moment.saturating_add(distance), !inclusive)).count(),
    };
    let next_end = end + rest(end).iter().take_while(before(moment.saturating_add(window.to.0), window.to.1)).count();
    (next_first, next_end)
}

/// The entities of one thread, with their entries.
struct Share<'s> {
    from: usize,
    to: usize,
    row_starts: &'s [usize],
    rows: &'s mut [Entry],
    question_starts: &'s [usize],
    questions: &'s mut [Entry],
}

/// Runs of entities with about as much work each; `work` is that of all entities before one.
fn shares(entities: usize, threads: usize, work: impl Fn(usize) -> usize) -> Vec<(usize, usize)> {
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
