//! Graphs as programs: a list of steps over registers, each register the numbers of one value for one row.
//!
//! Promise: a [`Program`] was checked whole: every register is written before it is read, every list has the width its reader takes, and all widths
//! together are bounded. So running it can neither fail nor panic. A row that the graph itself has no answer to, such as a word that an encoder
//! does not know, is answered by NaN.
//!
//! Texts never move: a value of texts is a list of columns of the row, whose words stand there by their places in [`Program::words`].

use super::proto::{Graph, Node, Tensor};
use super::steps::{Column, Function, Operand, Step};
use super::{Slot, ops, proto};
use gristmill_kernel::limits::MODEL_INPUTS_MAX;
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};

/// Why there is no program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// The file is wrong.
    Broken(String),
    /// It asks for something that these steps have not: "the operator Conv".
    Unknown(String),
}

/// A graph that runs.
#[derive(Debug)]
pub struct Program {
    slots: Vec<Slot>,
    words: Vec<Vec<Vec<String>>>,
    steps: Vec<Step>,
    /// The width of each register; the first ones are the slots.
    widths: Vec<usize>,
    /// The register of the answer.
    answer: usize,
    /// The registers whose values are rounded to `f32`.
    single: Vec<bool>,
}

impl Program {
    /// Makes a program of a graph that gives one of its values, and the width of that value.
    pub fn of(graph: &Graph<'_>, slots: &[Slot], answer: &str) -> Result<(Program, usize), Failed> {
        let needed = needed(graph, answer);
        let single = slots.iter().all(|slot| slot.kind != proto::DOUBLE);
        // A whole number of 64 bits, such as the code of a category, stays what it is.
        let is_whole = |slot: &Slot| [proto::INT32, proto::INT64, proto::TEXT].contains(&slot.kind);
        let held = |(register, slot): (usize, &Slot)| match slot.kind {
            proto::TEXT => Held::Texts((0..slot.width).map(|place| Column { register, place }).collect()),
            _ => Held::Numbers(register),
        };
        let mut build = Build {
            known: slots.iter().map(|slot| slot.name.as_str()).zip(slots.iter().enumerate().map(held)).collect(),
            constants: graph.constants.iter().map(|constant| (constant.name, constant)).collect(),
            widths: slots.iter().map(|slot| slot.width).collect(),
            categories: 0,
            forms: vec![Form::Flat; slots.len()],
            are_whole: slots.iter().map(is_whole).collect(),
            are_rounded: vec![false; slots.len()],
            words: slots.iter().map(|slot| vec![IndexMap::new(); if slot.kind == proto::TEXT { slot.width } else { 0 }]).collect(),
            steps: Vec::new(),
            single,
        };
        for node in graph.nodes.iter().filter(|node| node.outputs.iter().any(|name| needed.contains(name))) {
            match (node.op, node.outputs.first()) {
                ("Constant", Some(name)) => {
                    let value = node.attributes.iter().find(|a| a.name == "value").and_then(|a| a.tensor.as_ref());
                    let value = value.ok_or_else(|| Failed::Unknown("the operator Constant without a tensor".into()))?;
                    build.constants.insert(name, value);
                }
                _ => {
                    let (held, output) = ops::add(&mut build, node)?;
                    if let Some(name) = node.outputs.get(output) {
                        build.known.insert(name, held);
                    }
                }
            }
        }
        let answer = match build.known.get(answer) {
            Some(Held::Numbers(answer)) => *answer,
            Some(Held::Texts(_)) => return Err(Failed::Broken(format!("its output `{}` is text", answer.escape_debug()))),
            None => return Err(Failed::Broken(format!("nothing gives its output `{}`", answer.escape_debug()))),
        };
        let given = build.widths[answer];
        let words = build.words.into_iter().map(|columns| columns.into_iter().map(|words| words.into_keys().collect()).collect()).collect();
        let single = build.are_whole.iter().zip(&build.are_rounded).map(|(whole, rounded)| single && !whole && !rounded).collect();
        Ok((Program { slots: slots.to_vec(), words, steps: build.steps, widths: build.widths, answer, single }, given))
    }

    /// The words that the graph knows, by slot and column, in the order of the codes that stand for them; none for slots of numbers.
    pub fn words(&self) -> &[Vec<Vec<String>>] {
        &self.words
    }

    /// The answers of some rows, both one row behind the other.
    pub fn run(&self, matrix: &[f64], rows: usize) -> Vec<f64> {
        let width: usize = self.slots.iter().map(|slot| slot.width).sum();
        let mut registers: Vec<Vec<f64>> = self.widths.iter().map(|width| vec![0.0; *width]).collect();
        let mut answers = Vec::with_capacity(rows * self.widths[self.answer]);
        'rows: for row in 0..rows {
            let row = &matrix[row * width..(row + 1) * width];
            for (at, (register, slot)) in registers.iter_mut().zip(&self.slots).enumerate() {
                register.copy_from_slice(&row[slot.from..slot.from + slot.width]);
                self.round(at, register);
            }
            for (step, at) in self.steps.iter().zip(self.slots.len()..) {
                let (before, behind) = registers.split_at_mut(at);
                if !step.run(before, &mut behind[0]) {
                    answers.extend(std::iter::repeat_n(f64::NAN, self.widths[self.answer]));
                    continue 'rows;
                }
                self.round(at, &mut behind[0]);
            }
            answers.extend_from_slice(&registers[self.answer]);
        }
        answers
    }

    fn round(&self, register: usize, values: &mut [f64]) {
        if self.single[register] {
            values.iter_mut().for_each(|x| *x = f64::from(*x as f32));
        }
    }
}

/// The values that the answer takes, directly or not.
fn needed<'a>(graph: &Graph<'a>, answer: &'a str) -> HashSet<&'a str> {
    let mut needed = HashSet::from([answer]);
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().any(|name| needed.contains(name)) {
            needed.extend(node.inputs.iter().copied());
        }
    }
    needed
}

/// What a value of the graph is here.
#[derive(Debug, Clone)]
pub enum Held {
    /// A register.
    Numbers(usize),
    /// Columns of words.
    Texts(Vec<Column>),
}

/// What a register is in the graph, where it is more than a row of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `[rows, columns]`.
    Flat,
    /// `[rows, 1, columns]`.
    Row,
    /// `[rows, several, columns]`: its last dimension is less than our row, so only what makes it flat takes it.
    Grid,
}

/// A program being made.
pub struct Build<'a> {
    known: HashMap<&'a str, Held>,
    constants: HashMap<&'a str, &'a Tensor<'a>>,
    widths: Vec<usize>,
    /// How many categories its encoders list, once for each column.
    categories: usize,
    /// What each register is in the graph.
    forms: Vec<Form>,
    /// Whether a register holds whole numbers.
    are_whole: Vec<bool>,
    /// Whether a register of a graph of `f32` holds such numbers as they were computed.
    are_rounded: Vec<bool>,
    /// The words known so far, by slot and column, each with its code.
    words: Vec<Vec<IndexMap<String, usize>>>,
    steps: Vec<Step>,
    /// Whether the graph computes in `f32`.
    pub single: bool,
}

/// Operators that take a grid.
const MAKES_FLAT: [&str; 4] = ["Identity", "Dropout", "Flatten", "Reshape"];

impl<'a> Build<'a> {
    /// The register and the width of an input of a node.
    pub fn input(&self, node: &Node<'a>, place: usize) -> Result<(usize, usize), Failed> {
        let name = node.inputs.get(place).copied().unwrap_or_default();
        match (self.known.get(name), self.constants.contains_key(name)) {
            (Some(Held::Numbers(register)), _) if self.forms[*register] == Form::Grid && !MAKES_FLAT.contains(&node.op) => {
                Err(Failed::Unknown(format!("the operator {} on three dimensions", node.op.escape_debug())))
            }
            (Some(Held::Numbers(register)), _) => Ok((*register, self.widths[*register])),
            (Some(Held::Texts(_)), _) => Err(Failed::Unknown(format!("the operator {} on texts", node.op.escape_debug()))),
            (None, true) => Err(Failed::Unknown(format!("the operator {} on a constant", node.op.escape_debug()))),
            (None, false) => Err(Failed::Unknown(format!("labels or other values that are no numbers, in {}", node.op.escape_debug()))),
        }
    }
    /// An input of a node that is texts.
    pub fn texts(&self, node: &Node<'a>, place: usize) -> Option<&[Column]> {
        match self.known.get(node.inputs.get(place)?) {
            Some(Held::Texts(columns)) => Some(columns),
            _ => None,
        }
    }
    /// Allows for as many categories of a column.
    pub fn allow(&mut self, categories: usize) -> Result<(), Failed> {
        // A graph can look up many columns in one long list.
        self.categories += categories;
        match self.categories > 10 * MODEL_INPUTS_MAX {
            true => Err(Failed::Broken("its encoders list too many categories".into())),
            false => Ok(()),
        }
    }
    /// The code of a word of a column, a new one if the column did not know it.
    pub fn code(&mut self, column: Column, word: &[u8]) -> f64 {
        let words = &mut self.words[column.register][column.place];
        let next = words.len();
        *words.entry(String::from_utf8_lossy(word).into_owned()).or_insert(next) as f64
    }
    /// An input of a node that is a whole constant.
    pub fn constant(&self, node: &Node<'a>, place: usize) -> Option<&'a Tensor<'a>> {
        self.constants.get(node.inputs.get(place)?).copied().filter(|constant| constant.is_whole())
    }
    /// Adds a step that gives `width` numbers.
    pub fn push(&mut self, step: Step, width: usize) -> Result<usize, Failed> {
        // A graph can double a value again and again.
        let total: usize = self.widths.iter().sum();
        if width == 0 || total + width > 10 * MODEL_INPUTS_MAX {
            return Err(Failed::Broken(format!("a value of it has {width} columns, or all of them too many")));
        }
        self.forms.push(self.form(&step));
        self.are_whole.push(match &step {
            Step::Map(_, Function::Whole) => true,
            Step::Pick(from, _) => self.are_whole[*from],
            Step::Join(from) => from.iter().all(|register| self.are_whole[*register]),
            _ => false,
        });
        self.are_rounded.push(match &step {
            Step::Affine(_, affine) => affine.is_single(),
            Step::Map(_, Function::Single) => true,
            // What was rounded stays it; a whole number of 64 bits is not an `f32` yet.
            Step::Map(from, Function::Relu | Function::Absolute | Function::Negate) | Step::Pick(from, _) => !self.are_whole[*from],
            Step::Join(from) => from.iter().all(|register| !self.are_whole[*register]),
            _ => false,
        });
        self.steps.push(step);
        self.widths.push(width);
        Ok(self.widths.len() - 1)
    }
    /// Whether a register is a row of numbers in the graph too.
    pub fn is_flat(&self, register: usize) -> bool {
        self.forms[register] == Form::Flat
    }
    /// A register as a row of numbers.
    pub fn flat(&mut self, register: usize) -> Result<usize, Failed> {
        if self.is_flat(register) {
            return Ok(register);
        }
        let copy = self.push(Step::Join(vec![register]), self.widths[register])?;
        self.forms[copy] = Form::Flat;
        Ok(copy)
    }

    fn form(&self, step: &Step) -> Form {
        let from: Vec<usize> = match step {
            Step::OneHot { .. } => return Form::Row,
            Step::Embed { from, .. } => return if self.widths[*from] == 1 { Form::Row } else { Form::Grid },
            Step::Join(from) => from.clone(),
            Step::Pick(from, _) | Step::Map(from, _) => vec![*from],
            Step::Arithmetic(left, _, right) => [left, right].into_iter().filter_map(Operand::register).collect(),
            _ => Vec::new(),
        };
        if from.iter().any(|register| !self.is_flat(*register)) { Form::Row } else { Form::Flat }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `y` of a graph is for a row of two inputs, `a` and `b`, of these element types.
    fn answer<const NODES: usize>(nodes: [Node<'_>; NODES], kinds: [i64; 2], row: [f64; 2]) -> Vec<f64> {
        let mut weights = Tensor::default();
        (weights.name, weights.dims, weights.kind, weights.numbers) = ("weights", vec![1, 1], proto::DOUBLE, vec![0.1]);
        let graph = Graph { nodes: nodes.into(), constants: vec![weights], ..Graph::default() };
        let slot = |(from, name): (usize, &str)| Slot { name: name.to_owned(), from, width: 1, kind: kinds[from] };
        let slots: Vec<Slot> = ["a", "b"].into_iter().enumerate().map(slot).collect();
        let (program, _) = Program::of(&graph, &slots, "y").expect("a graph that runs");
        program.run(&row, 1)
    }
    fn node<'a>(op: &'a str, inputs: &[&'a str], output: &'a str) -> Node<'a> {
        Node { op, inputs: inputs.to_vec(), outputs: vec![output], attributes: Vec::new() }
    }

    #[test]
    fn what_a_graph_of_f32_computes_is_f32() {
        let single = |x: f64| f64::from(x as f32);
        let floats = [proto::FLOAT, proto::FLOAT];
        assert_eq!(answer([node("FeatureVectorizer", &["a", "b"], "y")], floats, [0.1, 0.2]), [single(0.1), single(0.2)]);
        // A code beyond 2^24 is not an f32 before it meets one.
        let codes = [proto::INT64, proto::FLOAT];
        assert_eq!(answer([node("Identity", &["a"], "y")], codes, [16_777_217.0, 0.0]), [16_777_217.0]);
        assert_eq!(answer([node("FeatureVectorizer", &["a", "b"], "y")], codes, [16_777_217.0, 0.1]), [16_777_216.0, single(0.1)]);
        // Weights of f64 are computed with as they are, and the sum is rounded.
        assert_eq!(answer([node("MatMul", &["a", "weights"], "y")], floats, [0.3, 0.0]), [single(single(0.3) * 0.1)]);
        assert_eq!(answer([node("Sigmoid", &["a"], "y")], floats, [0.3, 0.0]), [single(1.0 / (1.0 + (-single(0.3)).exp()))]);
        // In a graph of f64 nothing is rounded.
        let doubles = [proto::DOUBLE, proto::DOUBLE];
        assert_eq!(answer([node("MatMul", &["a", "weights"], "y")], doubles, [0.3, 0.0]), [0.3 * 0.1]);
        assert_eq!(answer([node("Relu", &["a"], "y")], doubles, [0.3, 0.0]), [0.3]);
    }

    #[test]
    fn arithmetic_goes_by_column_and_one_number_stands_for_all() {
        let of = |op, inputs: &[&'static str]| {
            let columns = node("FeatureVectorizer", &["a", "b"], "ab");
            answer([columns, node(op, inputs, "y")], [proto::DOUBLE, proto::DOUBLE], [7.0, 2.0])
        };
        assert_eq!(of("Sub", &["ab", "b"]), [5.0, 0.0]);
        assert_eq!(of("Sub", &["b", "ab"]), [-5.0, 0.0]);
        assert_eq!(of("Div", &["ab", "ab"]), [1.0, 1.0]);
        assert_eq!(of("Mul", &["ab", "weights"]), [7.0 * 0.1, 2.0 * 0.1]);
        assert_eq!(of("Add", &["weights", "ab"]), [7.1, 2.1]);
        assert_eq!(of("Sub", &["a", "b"]), [5.0]);
    }
}
