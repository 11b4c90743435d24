//! Graphs as programs: a list of steps over registers, each register the numbers of one value for some rows.
//!
//! Promise: a [`Program`] was checked whole: every register is written before it is read, every list has the width its reader takes, and all widths
//! together are bounded. So running it can neither fail nor panic. A row that the graph itself has no answer to, such as a word that an encoder
//! does not know, is answered by NaN.
//!
//! Texts never move: a value of texts is a list of columns of the row, whose words stand there by their places in [`Program::words`].

use super::affine::Affine;
use super::proto::{Graph, Node, Tensor};
use super::steps::{Column, Function, Operand, Registers, Step};
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

/// How many numbers the registers of the rows hold that go through a program together: what the nearest caches take.
const NUMBERS_AT_ONCE: usize = 16 * 1024;

/// A graph that runs.
#[derive(Debug)]
pub struct Program {
    slots: Vec<Slot>,
    words: Vec<Vec<Vec<String>>>,
    steps: Vec<Step>,
    /// Where each register begins, and its width; the first ones are the slots.
    places: Vec<(usize, usize)>,
    /// The width of all.
    width: usize,
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
            uses: uses(graph, answer),
            named: HashMap::new(),
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
                        if let Held::Numbers(register) = held {
                            build.named.entry(register).or_insert(name);
                        }
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
        let mut width = 0;
        let place = |of: &usize| {
            width += of;
            (width - of, *of)
        };
        let places = build.widths.iter().map(place).collect();
        Ok((Program { slots: slots.to_vec(), words, steps: build.steps, places, width, answer, single }, given))
    }

    /// The words that the graph knows, by slot and column, in the order of the codes that stand for them; none for slots of numbers.
    pub fn words(&self) -> &[Vec<Vec<String>>] {
        &self.words
    }

    /// The answers of some rows, both one row behind the other.
    pub fn run(&self, matrix: &[f64], rows: usize) -> Vec<f64> {
        let inputs: usize = self.slots.iter().map(|slot| slot.width).sum();
        let given = self.places[self.answer].1;
        let mut answers = Vec::with_capacity(rows * given);
        if rows == 0 {
            return answers;
        }
        let room = (NUMBERS_AT_ONCE / self.width).clamp(1, rows);
        let mut values = vec![0.0; self.width * room];
        let mut lost = Vec::new();
        for first in (0..rows).step_by(room) {
            let rows = room.min(rows - first);
            let matrix = &matrix[first * inputs..][..rows * inputs];
            for (at, (slot, (from, width))) in self.slots.iter().zip(&self.places).enumerate() {
                let register = &mut values[from * room..][..width * rows];
                for (to, row) in register.chunks_exact_mut(*width).zip(matrix.chunks_exact(inputs)) {
                    to.copy_from_slice(&row[slot.from..][..*width]);
                }
                self.round(at, register);
            }
            for (step, (at, (from, width))) in self.steps.iter().zip(self.places.iter().enumerate().skip(self.slots.len())) {
                let (before, behind) = values.split_at_mut(from * room);
                let out = &mut behind[..width * rows];
                step.run(&Registers { values: before, places: &self.places, rows, room }, out, &mut lost);
                self.round(at, out);
            }
            let begin = answers.len();
            answers.extend_from_slice(&values[self.places[self.answer].0 * room..][..given * rows]);
            for row in lost.drain(..) {
                answers[begin + row * given..][..given].fill(f64::NAN);
            }
        }
        answers
    }

    fn round(&self, register: usize, values: &mut [f64]) {
        if self.single[register] {
            values.iter_mut().for_each(|x| *x = f64::from(*x as f32));
        }
    }
}

/// How many nodes take each value, and whether it is the answer.
fn uses<'a>(graph: &Graph<'a>, answer: &'a str) -> HashMap<&'a str, usize> {
    let mut uses = HashMap::from([(answer, 1)]);
    for name in graph.nodes.iter().flat_map(|node| &node.inputs) {
        *uses.entry(*name).or_default() += 1;
    }
    uses
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
    /// How often each value is taken.
    uses: HashMap<&'a str, usize>,
    /// The first name of each register; it may have others.
    named: HashMap<usize, &'a str>,
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
    /// The register of the product that an input of a node is and what computes it, if only that node takes it and it is computed in the precision
    /// of the graph.
    fn product(&mut self, node: &Node<'a>, place: usize) -> Option<(usize, &mut Affine)> {
        let name = node.inputs.get(place)?;
        let register = match self.known.get(name)? {
            Held::Numbers(register) if self.uses.get(name) == Some(&1) && self.named.get(register) == Some(name) => *register,
            _ => return None,
        };
        // Registers of steps follow those of the slots.
        let at = register.checked_sub(self.widths.len() - self.steps.len())?;
        match self.steps.get_mut(at)? {
            Step::Affine(_, affine) if affine.is_single() == self.single => Some((register, affine)),
            _ => None,
        }
    }
    /// Adds a bias to the product that an input of a node is, if only that node takes it and its bits are the same then; the register of both.
    pub fn with_bias(&mut self, node: &Node<'a>, place: usize, bias: &[f64]) -> Option<usize> {
        let (register, affine) = self.product(node, place)?;
        let added = affine.with_bias(bias);
        // The node's output is what it is called now.
        added.then(|| self.named.remove(&register)).map(|_| register)
    }
    /// The same with 0 for what is below it.
    pub fn with_relu(&mut self, node: &Node<'a>) -> Option<usize> {
        let (register, affine) = self.product(node, 0)?;
        affine.with_relu();
        self.named.remove(&register);
        Some(register)
    }
    /// Whether a register holds nothing but `f32`.
    pub fn is_single(&self, register: usize) -> bool {
        self.single && !self.are_whole[register]
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
    use super::super::proto::Attribute;
    use super::*;

    /// What `y` of a graph is for a row of two inputs, `a` and `b`, of these element types.
    fn answer<const NODES: usize>(nodes: [Node<'_>; NODES], kinds: [i64; 2], row: [f64; 2]) -> Vec<f64> {
        let mut weights = Tensor::default();
        (weights.name, weights.dims, weights.kind, weights.numbers) = ("weights", vec![1, 1], proto::DOUBLE, vec![0.1]);
        let graph = Graph { nodes: nodes.into(), constants: vec![weights], ..Graph::default() };
        let slot = |(from, name): (usize, &str)| Slot { name: name.to_owned(), from, width: 1, kind: kinds[from] };
        let slots: Vec<Slot> = ["a", "b"].into_iter().enumerate().map(slot).collect();
        let (program, _) = Program::of(&graph, &slots, "y").expect("a graph that runs");
        // Together rows give what they give alone.
        let alone = program.run(&row, 1);
        let many = program.run(&row.repeat(10_000), 10_000);
        assert!(many.chunks_exact(alone.len()).all(|row| row == alone) && many.len() == 10_000 * alone.len());
        alone
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
        // A cast of what is one already is none.
        let cast = |kinds, x| {
            let attributes = vec![Attribute { name: "to", int: Some(proto::FLOAT), ..Attribute::default() }];
            answer([Node { attributes, ..node("Cast", &["a"], "y") }], kinds, [x, 0.0])
        };
        assert_eq!((cast(floats, 0.1), cast(codes, 16_777_217.0)), (vec![single(0.1)], vec![16_777_216.0]));
        assert_eq!(cast([proto::DOUBLE, proto::DOUBLE], 0.1), [single(0.1)]);
        // Weights of f64 are computed with as they are, and the sum is rounded.
        assert_eq!(answer([node("MatMul", &["a", "weights"], "y")], floats, [0.3, 0.0]), [single(single(0.3) * 0.1)]);
        assert_eq!(answer([node("Sigmoid", &["a"], "y")], floats, [0.3, 0.0]), [single(1.0 / (1.0 + (-single(0.3)).exp()))]);
        // In a graph of f64 nothing is rounded.
        let doubles = [proto::DOUBLE, proto::DOUBLE];
        assert_eq!(answer([node("MatMul", &["a", "weights"], "y")], doubles, [0.3, 0.0]), [0.3 * 0.1]);
        assert_eq!(answer([node("Relu", &["a"], "y")], doubles, [0.3, 0.0]), [0.3]);
    }

    #[test]
    fn a_row_without_an_answer_takes_none_from_the_others() {
        let attribute = |name, ints: &[i64], int| Attribute { name, ints: ints.to_vec(), int, ..Attribute::default() };
        let attributes = vec![attribute("cats_int64s", &[1, 2], None), attribute("zeros", &[], Some(0))];
        let known = Node { op: "OneHotEncoder", inputs: vec!["a"], outputs: vec!["known"], attributes };
        let nodes = vec![known, node("Flatten", &["known"], "flat"), node("FeatureVectorizer", &["flat", "b"], "y")];
        let slot = |(from, name): (usize, &str)| Slot { name: name.to_owned(), from, width: 1, kind: proto::INT64 };
        let slots: Vec<Slot> = ["a", "b"].into_iter().enumerate().map(slot).collect();
        let (program, _) = Program::of(&Graph { nodes, ..Graph::default() }, &slots, "y").expect("a graph that runs");
        // More rows than go through it together, and a third of them unknown.
        let rows: Vec<[f64; 2]> = (0..10_000).map(|row| [f64::from(row % 3), f64::from(row)]).collect();
        let answers = program.run(rows.as_flattened(), rows.len());
        assert_eq!(answers.len(), 3 * rows.len());
        for ([a, b], answer) in rows.into_iter().zip(answers.chunks_exact(3)) {
            match a {
                1.0 => assert_eq!(answer, [1.0, 0.0, b]),
                2.0 => assert_eq!(answer, [0.0, 1.0, b]),
                _ => assert!(answer.iter().all(|x| x.is_nan()), "{b}: {answer:?}"),
            }
        }
        assert!(program.run(&[], 0).is_empty());
    }

    #[test]
    fn a_sum_behind_a_product_is_its_bias_unless_others_take_the_product() {
        let steps = |nodes: Vec<Node<'static>>| {
            let constant = |name, kind, number| {
                let mut tensor = Tensor::default();
                (tensor.name, tensor.dims, tensor.kind, tensor.numbers) = (name, vec![1, 1], kind, vec![number]);
                tensor
            };
            let constants = vec![
                constant("weights", proto::FLOAT, 3.0),
                constant("bias", proto::FLOAT, 0.5),
                constant("wide", proto::DOUBLE, 0.1),
                constant("less", proto::FLOAT, -10.0),
            ];
            let slots = [Slot { name: "a".to_owned(), from: 0, width: 1, kind: proto::FLOAT }];
            let (program, _) = Program::of(&Graph { nodes, constants, ..Graph::default() }, &slots, "y").expect("a graph that runs");
            (program.steps.len(), program.run(&[2.0], 1))
        };
        let product = || node("MatMul", &["a", "weights"], "p");
        assert_eq!(steps(vec![product(), node("Add", &["p", "bias"], "y")]), (1, vec![6.5]));
        assert_eq!(steps(vec![product(), node("Add", &["bias", "p"], "y")]), (1, vec![6.5]));
        assert_eq!(steps(vec![product(), node("Add", &["p", "bias"], "q"), node("Add", &["q", "bias"], "y")]), (2, vec![7.0]));
        assert_eq!(steps(vec![product(), node("Add", &["p", "bias"], "q"), node("Mul", &["q", "p"], "y")]), (3, vec![39.0]));
        let alias = vec![product(), node("Identity", &["p"], "i"), node("Add", &["i", "bias"], "q"), node("Mul", &["q", "p"], "y")];
        assert_eq!(steps(alias), (3, vec![39.0]));
        let single = |x: f64| f64::from(x as f32);
        let exact = vec![node("MatMul", &["a", "wide"], "p"), node("Add", &["p", "bias"], "y")];
        assert_eq!(steps(exact), (2, vec![single(single(0.2) + 0.5)]), "what is computed in f64 is rounded first");
        // So is what cuts off behind it.
        let layer = |bias, behind: Vec<Node<'static>>| {
            let layer = [product(), node("Add", &["p", bias], "q"), node("Relu", &["q"], if behind.is_empty() { "y" } else { "r" })];
            steps(layer.into_iter().chain(behind).collect())
        };
        assert_eq!(layer("bias", vec![]), (1, vec![6.5]));
        assert_eq!(layer("less", vec![]), (1, vec![0.0]));
        assert_eq!(layer("less", vec![node("Add", &["r", "q"], "y")]), (3, vec![-4.0]), "others take it uncut");
        assert_eq!(layer("less", vec![node("Add", &["r", "bias"], "y")]), (2, vec![0.5]), "what comes later is no bias");
        assert_eq!(steps(vec![product(), node("Relu", &["p"], "r"), node("Relu", &["r"], "y")]), (1, vec![6.0]));
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
        assert_eq!(of("Sub", &["ab", "weights"]), [7.0 - 0.1, 2.0 - 0.1]);
        assert_eq!(of("Div", &["weights", "ab"]), [0.1 / 7.0, 0.1 / 2.0]);
    }
}
