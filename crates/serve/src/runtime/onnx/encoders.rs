//! Operators that turn words and codes into numbers. A row has no answer where its word or code is one that the graph refuses.

use super::graph::{Build, Failed};
use super::ops::{Added, attribute, broken, float, floats, int, ints, unknown};
use super::proto::Node;
use super::steps::{Column, Keys, Step, key};

/// Rows of a constant table, chosen by numbers.
pub fn embed<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Added {
    let table = build.constant(node, 0).filter(|table| table.dims.len() == 2).ok_or_else(|| unknown(node))?;
    let (from, count) = build.input(node, 1)?;
    let (rows, width) = (table.dims[0], usize::try_from(table.dims[1]).unwrap_or(0));
    if rows < 1 || width == 0 {
        return Err(broken(node, "a table without rows"));
    }
    Ok((build.push(Step::Embed { from, table: table.numbers.clone(), width }, count.saturating_mul(width))?, 0))
}

/// The columns of a value, and whether they are words.
fn columns_of<'a>(build: &Build<'a>, node: &Node<'a>) -> Result<(Vec<Column>, bool), Failed> {
    if let Some(columns) = build.texts(node, 0) {
        return Ok((columns.to_vec(), true));
    }
    let (register, width) = build.input(node, 0)?;
    Ok(((0..width).map(|place| Column { register, place }).collect(), false))
}

/// The categories that a node lists, by what stands for each of them in a column.
fn keys(build: &mut Build<'_>, column: Column, words: &[&[u8]], numbers: &[f64]) -> Result<Keys, Failed> {
    build.allow(words.len() + numbers.len())?;
    let mut keys = Keys::new();
    for place in 0..words.len() + numbers.len() {
        let x = match words.get(place) {
            Some(word) => build.code(column, word),
            None => numbers[place - words.len()],
        };
        // The first of two equal categories wins.
        keys.entry(key(x)).or_insert(place);
    }
    // scikit-learn puts what is missing behind the other categories, and its converter writes it as a word.
    if let Some(b"nan" | b"None") = words.last().copied() {
        keys.entry(key(f64::NAN)).or_insert(words.len() - 1);
    }
    Ok(keys)
}

/// A column as one column per category.
pub fn one_hot<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Added {
    let (columns, are_texts) = columns_of(build, node)?;
    let words = attribute(node, "cats_strings").map_or(&[][..], |a| &a.texts);
    let numbers: Vec<f64> = ints(node, "cats_int64s").iter().map(|x| *x as f64).collect();
    // Several columns make a third dimension, which a row of numbers has not.
    let ([column], true) = (columns.as_slice(), are_texts != words.is_empty() && words.is_empty() != numbers.is_empty()) else {
        return Err(unknown(node));
    };
    let count = words.len() + numbers.len();
    let keys = keys(build, *column, words, &numbers)?;
    let strict = int(node, "zeros").unwrap_or(1) == 0;
    Ok((build.push(Step::OneHot { from: *column, keys, strict }, count)?, 0))
}

/// Words or numbers as what a list says of them.
pub fn look_up<'a>(build: &mut Build<'a>, node: &Node<'a>) -> Added {
    let (columns, are_texts) = columns_of(build, node)?;
    let words = attribute(node, "keys_strings").map_or(&[][..], |a| &a.texts);
    let whole = ints(node, "keys_int64s").iter().map(|x| *x as f64);
    let numbers: Vec<f64> = floats(node, "keys_floats").into_iter().chain(whole).collect();
    let (values, otherwise) = match (ints(node, "values_int64s"), floats(node, "values_floats")) {
        ([], values) => (values, f64::from(float(node, "default_float").unwrap_or(-0.0))),
        (values, _) => (values.iter().map(|x| *x as f64).collect(), int(node, "default_int64").unwrap_or(-1) as f64),
    };
    let count = words.len() + numbers.len();
    if count == 0 || values.len() != count || are_texts == words.is_empty() || words.is_empty() == numbers.is_empty() {
        return Err(unknown(node));
    }
    // Each column of texts has codes of its own.
    let mut found = Vec::with_capacity(columns.len());
    for from in columns {
        let keys = keys(build, from, words, &numbers)?;
        found.push(build.push(Step::Lookup { from, keys, values: values.clone(), otherwise }, 1)?);
    }
    match found.as_slice() {
        [one] => Ok((*one, 0)),
        several => Ok((build.push(Step::Join(several.to_vec()), several.len())?, 0)),
    }
}
