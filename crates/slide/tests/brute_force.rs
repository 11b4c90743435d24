//! Walks over random rows and questions, held against looking at every row for every question.
//!
//! Keys of every form, NULLs, rows of nobody, rows in any number of batches, arrivals that are told, untold or in part, times that tie with each
//! other and with every edge. The engine's `same_answer` holds the whole against an oracle; here nothing is between the walk and the question.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic; clippy knows only the test functions themselves")]

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use gristmill_slide::argument::{Argument, Form, column_of};
use gristmill_slide::entities::Entities;
use gristmill_slide::gather::Chosen;
use gristmill_slide::place::{Arrivals, Places};
use gristmill_slide::walk::{Buckets, Ties, Walk};
use gristmill_slide::{Call, Direction, Share, What, Window};
use rand::prelude::*;
use rand::rngs::StdRng;
use std::cmp::Reverse;
use std::sync::Arc;

#[derive(Debug, Clone)]
struct Row {
    key: Option<i64>,
    time: Option<i64>,
    load: Option<i64>,
    number: Option<i64>,
    value: Option<i64>,
    passes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Keys {
    /// The view has no entity.
    One,
    Close,
    Far,
    Text,
    Two,
}

const EDGES: [i64; 5] = [-10, -7, -3, 0, 2];
const UP: Direction = Direction { descending: false, nulls_first: false };
const DOWN: Direction = Direction { descending: true, nulls_first: true };

fn windows() -> Vec<Window> {
    let mut windows = Vec::new();
    for (at, to) in EDGES.into_iter().enumerate() {
        for inside in [false, true] {
            windows.push(Window { from: None, to: (to, inside) });
            for from in &EDGES[..=at] {
                windows.push(Window { from: Some((*from, !inside)), to: (to, inside) });
                windows.push(Window { from: Some((*from, inside)), to: (to, inside) });
            }
        }
    }
    windows
}

fn whats() -> [What; 11] {
    [
        What::Count,
        What::CountDistinct,
        What::Sum,
        What::Min,
        What::Max,
        What::First,
        What::Last,
        What::FirstBy(UP),
        What::LastBy(UP),
        What::LastBy(DOWN),
        What::Quantile(Share::HALF),
    ]
}

/// Key columns of a form; equal numbers make equal keys.
fn keys(form: Keys, values: &[Option<i64>]) -> Vec<ArrayRef> {
    let text = || Arc::new(values.iter().map(|v| v.map(|v| format!("k{v}"))).collect::<StringArray>()) as ArrayRef;
    let whole = |by: i64| Arc::new(values.iter().map(|v| v.map(|v| v * by - 3)).collect::<Int64Array>()) as ArrayRef;
    match form {
        Keys::One => Vec::new(),
        Keys::Close => vec![whole(1)],
        Keys::Far => vec![whole(1 << 40)],
        Keys::Text => vec![text()],
        Keys::Two => vec![text(), whole(1)],
    }
}

fn types(form: Keys) -> Vec<DataType> {
    match form {
        Keys::One => Vec::new(),
        Keys::Close | Keys::Far => vec![DataType::Int64],
        Keys::Text => vec![DataType::Utf8],
        Keys::Two => vec![DataType::Utf8, DataType::Int64],
    }
}

fn times(values: impl Iterator<Item = Option<i64>>) -> TimestampMicrosecondArray {
    values.collect::<TimestampMicrosecondArray>().with_timezone("UTC")
}

/// An answer: a number, or the place of a row.
type Cell = Option<i64>;

/// What every call answers to every question.
fn walked(form: Keys, batches: &[Vec<Row>], asked: &[(Option<i64>, Option<i64>)], calls: &[Call], threads: usize) -> Vec<Vec<Cell>> {
    let keys_asked: Vec<Option<i64>> = asked.iter().map(|(key, _)| *key).collect();
    let entities = Entities::of(&types(form), &keys(form, &keys_asked), asked.len()).unwrap();
    let questions = entities.questions(&times(asked.iter().map(|(_, moment)| *moment)));
    let (mut of_entities, mut arrivals) = (Vec::new(), Vec::new());
    for batch in batches {
        let batch_keys: Vec<Option<i64>> = batch.iter().map(|r| r.key).collect();
        of_entities.push(entities.rows(&keys(form, &batch_keys), &times(batch.iter().map(|r| r.time))).unwrap());
        arrivals.push(Arrivals::new(batch.iter().map(|r| r.load).collect(), batch.iter().map(|r| r.number).collect()));
    }
    let places = Places::of(arrivals, &mut of_entities).unwrap();
    let all: Vec<&Row> = batches.iter().flatten().collect();
    let values: ArrayRef = Arc::new(all.iter().map(|r| r.value).collect::<Int64Array>());
    let filters = vec![all.iter().map(|r| r.passes).collect::<Vec<bool>>()];
    let gives = |what: What| if matches!(what, What::Quantile(_)) { DataType::Float64 } else { DataType::Int64 };
    let mut arguments: Vec<Argument> = Vec::new();
    let calls: Vec<Call> = calls
        .iter()
        .map(|call| {
            arguments.push(Argument::of(Form::of(call.what, &gives(call.what)), &values).unwrap());
            Call { argument: Some(arguments.len() - 1), ..call.clone() }
        })
        .collect();
    let order = |a: u32, b: u32| places.order(a, b);
    let ties = if places.in_order() { None } else { Some(&order as Ties<'_>) };
    let walk = Walk { windows: &windows(), calls: &calls, arguments: &arguments, filters: &filters, ties, known: None };
    let rows = Buckets::of(entities.count, of_entities, threads);
    let answers = walk.answers(rows, Buckets::of(entities.count, vec![questions], threads), asked.len(), threads);
    let mut columns = Vec::new();
    for (call, answers) in calls.iter().zip(answers) {
        columns.push(if call.what.is_row() {
            rows_of(&Chosen::of(&places, &answers), batches)
        } else {
            let column = column_of(answers, Some(&arguments[call.argument.unwrap()]), &gives(call.what)).unwrap();
            match column.data_type() {
                // A half is a whole number of halves.
                DataType::Float64 => column.as_primitive::<Float64Type>().iter().map(|v| v.map(|v| (v * 2.0) as i64)).collect(),
                _ => column.as_primitive::<Int64Type>().iter().collect(),
            }
        });
    }
    columns
}

/// The places of the rows that are answers, among those of all batches.
fn rows_of(chosen: &Chosen, batches: &[Vec<Row>]) -> Vec<Cell> {
    let mut places = 0..;
    let numbers: Vec<Int64Array> = batches.iter().map(|batch| places.by_ref().take(batch.len()).map(Some).collect()).collect();
    let column = |of: &dyn Fn(&Int64Array) -> ArrayRef, to: DataType| {
        let columns: Vec<ArrayRef> = numbers.iter().map(of).collect();
        chosen.column(&columns.iter().map(AsRef::as_ref).collect::<Vec<_>>(), &to).unwrap()
    };
    let rows = column(&|numbers| Arc::new(numbers.clone()), DataType::Int64).as_primitive::<Int64Type>().clone();
    let even = |row: Cell| row.filter(|row| row % 2 == 0);
    let holed = column(&|numbers| Arc::new(numbers.iter().map(even).collect::<Int64Array>()), DataType::Int64);
    assert!(holed.as_primitive::<Int64Type>().iter().eq(rows.iter().map(even)));
    let texts = |numbers: &Int64Array| numbers.iter().map(|n| n.map(|n| n.to_string())).collect::<StringArray>();
    assert_eq!(column(&|numbers| Arc::new(texts(numbers)), DataType::Utf8).as_string::<i32>(), &texts(&rows));
    rows.iter().collect()
}

/// The same by looking at every row of an entity for every question.
fn looked(form: Keys, batches: &[Vec<Row>], asked: &[(Option<i64>, Option<i64>)], calls: &[Call]) -> Vec<Vec<Cell>> {
    let mut all: Vec<(usize, &Row)> = batches.iter().flatten().enumerate().filter(|(_, r)| r.time.is_some()).collect();
    // What is not told comes last.
    all.sort_by_key(|(place, r)| (r.time, r.load.is_none(), r.load, r.number.is_none(), r.number, *place));
    let windows = windows();
    let mut columns = vec![Vec::new(); calls.len()];
    for (key, moment) in asked {
        let mine: Vec<&(usize, &Row)> = all.iter().filter(|(_, r)| form == Keys::One || (r.key.is_some() && r.key == *key)).collect();
        for (call, column) in calls.iter().zip(&mut columns) {
            let window = windows[call.window];
            let inside = |r: &Row| {
                let (Some(time), Some(moment)) = (r.time, *moment) else { return false };
                let begun = window.from.is_none_or(|(edge, also)| time > moment + edge || (also && time == moment + edge));
                let (edge, also) = window.to;
                begun && (time < moment + edge || (also && time == moment + edge)) && (call.filter.is_none() || r.passes)
            };
            let asked_for = form == Keys::One || key.is_some();
            let rows: Vec<&(usize, &Row)> = mine.iter().copied().filter(|(_, r)| asked_for && inside(r)).collect();
            column.push(answer(call.what, &rows));
        }
    }
    columns
}

fn answer(what: What, rows: &[&(usize, &Row)]) -> Cell {
    let mut values: Vec<i64> = rows.iter().filter_map(|(_, r)| r.value).collect();
    let place = |row: Option<&&(usize, &Row)>| row.map(|(place, _)| *place as i64);
    // In the order of the walk, so that the first of equals is the oldest and the last the newest.
    let by = |down: bool| {
        let mut rows = rows.to_vec();
        match down {
            false => rows.sort_by_key(|(_, r)| (r.value.is_none(), r.value)),
            true => rows.sort_by_key(|(_, r)| (r.value.is_some(), Reverse(r.value))),
        }
        rows
    };
    match what {
        What::Count => Some(values.len() as i64),
        What::CountDistinct => {
            values.sort_unstable();
            values.dedup();
            Some(values.len() as i64)
        }
        What::Sum => (!values.is_empty()).then(|| values.iter().sum()),
        What::Min => values.into_iter().min(),
        What::Max => values.into_iter().max(),
        What::First => place(rows.first()),
        What::Last => place(rows.last()),
        What::FirstBy(direction) => place(by(direction.descending).first()),
        What::LastBy(direction) => place(by(direction.descending).last()),
        What::Quantile(_) => {
            values.sort_unstable();
            let at = values.len().checked_sub(1)?;
            Some(values[at / 2] + values[at.div_ceil(2)])
        }
        other => unreachable!("{other:?}"),
    }
}

/// Rows in batches, questions, and calls.
type Drawn = (Vec<Vec<Row>>, Vec<(Option<i64>, Option<i64>)>, Vec<Call>);

fn draw(rng: &mut StdRng, rows: usize, keys: i64) -> Drawn {
    let (loads, numbers) = ([0.0, 0.5, 1.0][rng.random_range(0..3)], [0.0, 0.5, 1.0][rng.random_range(0..3)]);
    let span = if rng.random_bool(0.5) { 20 } else { 200 };
    let mut all: Vec<Row> = (0..rows)
        .map(|_| Row {
            key: rng.random_bool(0.95).then(|| rng.random_range(0..keys)),
            time: rng.random_bool(0.95).then(|| rng.random_range(0..span)),
            load: rng.random_bool(loads).then(|| rng.random_range(0..4)),
            number: rng.random_bool(numbers).then(|| rng.random_range(0..6)),
            value: rng.random_bool(0.8).then(|| rng.random_range(-4..5)),
            passes: rng.random_bool(0.6),
        })
        .collect();
    // Sometimes in an order that places tell, or in time's.
    match rng.random_range(0..4) {
        0 => all.sort_by_key(|r| (r.load.is_none(), r.load, r.number.is_none(), r.number)),
        1 => all.sort_by_key(|r| r.time),
        2 => all.sort_by_key(|r| Reverse(r.time)),
        _ => {}
    }
    let size = rng.random_range(1..=rows.max(1));
    let mut batches: Vec<Vec<Row>> = all.chunks(size).map(<[Row]>::to_vec).collect();
    if rng.random_bool(0.3) {
        batches.insert(rng.random_range(0..=batches.len()), Vec::new());
    }
    let asked = (0..rng.random_range(1..30))
        .map(|_| {
            (rng.random_bool(0.95).then(|| rng.random_range(0..keys + 1)), rng.random_bool(0.95).then(|| rng.random_range(-5..span + 15)))
        })
        .collect();
    let many = windows().len();
    let mut calls = Vec::new();
    for what in whats() {
        for filter in [None, Some(0)] {
            calls.push(Call { what, argument: None, by: None, filter, window: rng.random_range(0..many) });
        }
    }
    (batches, asked, calls)
}

#[test]
fn a_walk_answers_as_looking_at_every_row_does() {
    let mut rng = StdRng::seed_from_u64(17);
    let windows = windows();
    for round in 0..1_000 {
        let form = [Keys::One, Keys::Close, Keys::Far, Keys::Text, Keys::Two][round % 5];
        let (rows, keys) = (rng.random_range(0..60), rng.random_range(1..5));
        let (batches, asked, calls) = draw(&mut rng, rows, keys);
        let (walked, looked) = (walked(form, &batches, &asked, &calls, 1), looked(form, &batches, &asked, &calls));
        for (call, (walked, looked)) in calls.iter().zip(walked.iter().zip(&looked)) {
            let window = windows[call.window];
            assert_eq!(walked, looked, "round {round}, {form:?}, {call:?}, {window:?}, asked {asked:?}, of {batches:?}");
        }
    }
}

/// Enough entries that several threads share them.
#[test]
fn threads_share_the_work_and_not_the_answers() {
    let mut rng = StdRng::seed_from_u64(18);
    let (batches, _, calls) = draw(&mut rng, 60_000, 20_000);
    let asked: Vec<_> = (0..60_000).map(|_| (Some(rng.random_range(0..20_000)), Some(rng.random_range(0..200)))).collect();
    let one = walked(Keys::Close, &batches, &asked, &calls, 1);
    for threads in [2, 3, 7] {
        assert!(walked(Keys::Close, &batches, &asked, &calls, threads) == one, "{threads} threads");
    }
    // The walk of one thread over many is as right as over few.
    let some: Vec<usize> = (0..200).map(|_| rng.random_range(0..asked.len())).collect();
    let looked = looked(Keys::Close, &batches, &some.iter().map(|at| asked[*at]).collect::<Vec<_>>(), &calls);
    for (column, looked) in one.iter().zip(looked) {
        assert_eq!(some.iter().map(|at| column[*at]).collect::<Vec<_>>(), looked);
    }
}
