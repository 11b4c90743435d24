//! Graphs as programs: a list of steps over registers, each register the numbers of one value for one row.
//!
//! Promise: a [`Program`] was checked whole: every register is written before it is read, every list has the width its reader takes, and all widths
//! together are bounded. So running it can neither fail nor panic. A row that the graph itself has no answer to, such as a word that an encoder
//! does not know, is answered by NaN.
//!
//! Texts never move: a value of texts is a list of columns of the row, whose words stand there by their places in [`Program::words`].

use super::proto::{Graph, Node, Tensor};
use super::{Slot, ops, proto};
use crate::runtime::forest::Forest;
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
    /// Whether values are rounded to `f32` after each step.
    single: bool,
}

/// One step: writes the next register.
#[derive(Debug)]
pub enum Step {
    /// Registers side by side.
    Join(Vec<usize>),
    /// Some columns.
    Pick(usize, Vec<usize>),
    /// `(x - offset) * scale`, by column.
    Scale { from: usize, offset: Vec<f64>, scale: Vec<f64> },
    /// Another number in the place of one; NaN stands for missing ones.
    Fill { from: usize, missing: f64, by: Vec<f64> },
    /// Divided by a norm of the row.
    Normalize(usize, Norm),
    /// `weights * x + bias`; `weights[output * inputs + input]`.
    Affine { from: usize, weights: Vec<f64>, bias: Vec<f64> },
    /// A function of each number.
    Map(usize, Function),
    /// Softmax over the row.
    Softmax(usize),
    /// One column of words or numbers as a column for each category; if `strict`, any other value has no answer.
    OneHot { from: Column, keys: Keys, strict: bool },
    /// What a table says of a word or a number.
    Lookup { from: Column, keys: Keys, values: Vec<f64>, otherwise: f64 },
    /// The rows of a table that some numbers choose, one behind the other; each row has `width` numbers.
    Embed { from: usize, table: Vec<f64>, width: usize },
    /// `(x - mean) / sqrt(variance + epsilon) * scale + bias`, with mean and variance of the row.
    Standardize { from: usize, epsilon: f64, scale: Vec<f64>, bias: Vec<f64> },
    /// Arithmetic by column; a side with one number stands for every column.
    Arithmetic(Operand, Arithmetic, Operand),
    /// Trees.
    Forest(usize, Box<Forest>),
    /// One score, of the second of two classes, as two.
    Pair(usize, Pair),
}

/// What a row is divided by.
#[derive(Debug, Clone, Copy)]
pub enum Norm {
    Max,
    Sum,
    Euclid,
}

/// A function of one number.
#[derive(Debug, Clone, Copy)]
pub enum Function {
    Relu,
    Sigmoid,
    Tanh,
    Exp,
    Sqrt,
    Log,
    Absolute,
    Negate,
    /// The error function.
    Erf,
    /// `ln(1 + exp(x))`.
    Softplus,
    /// `x` by the normal distribution's share below it.
    Gelu,
    /// `x * scale` below 0.
    Leaky(f64),
    /// `scale * (exp(x) - 1)` below 0.
    Elu(f64),
    /// Not below and not above.
    Clip(f64, f64),
    /// Without its fraction.
    Whole,
    /// 1 unless it is 0.
    Truth,
    /// Rounded to `f32`.
    Single,
}

/// A column of a register.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub register: usize,
    pub place: usize,
}

/// Categories by the bits of the numbers that stand for them, each with its place in the list.
pub type Keys = HashMap<u64, usize>;

/// Where a number stands in a list of categories; -0 is 0.
pub fn key(x: f64) -> u64 {
    (x + 0.0).to_bits()
}

/// Arithmetic of two numbers.
#[derive(Debug, Clone, Copy)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// A side of arithmetic.
#[derive(Debug, Clone)]
pub enum Operand {
    Register(usize),
    Constant(Vec<f64>),
}

/// How one score becomes two.
#[derive(Debug, Clone, Copy)]
pub enum Pair {
    /// `1 - s`, `s`.
    Complement,
    /// `-s`, `s`.
    Opposite,
    /// `sigmoid(-s)`, `sigmoid(s)`.
    Logistic,
}

impl Program {
    /// Makes a program of a graph that gives one of its values, and the width of that value.
    pub fn of(graph: &Graph<'_>, slots: &[Slot], answer: &str) -> Result<(Program, usize), Failed> {
        let needed = needed(graph, answer);
        let single = slots.iter().all(|slot| slot.kind != proto::DOUBLE);
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
            for (register, slot) in registers.iter_mut().zip(&self.slots) {
                register.copy_from_slice(&row[slot.from..slot.from + slot.width]);
                self.round(register);
            }
            for (step, at) in self.steps.iter().zip(self.slots.len()..) {
                let (before, behind) = registers.split_at_mut(at);
                if !step.run(before, &mut behind[0]) {
                    answers.extend(std::iter::repeat_n(f64::NAN, self.widths[self.answer]));
                    continue 'rows;
                }
                self.round(&mut behind[0]);
            }
            answers.extend_from_slice(&registers[self.answer]);
        }
        answers
    }

    fn round(&self, values: &mut [f64]) {
        if self.single {
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

impl Step {
    /// Computes a row's numbers. False if the row has no answer.
    fn run(&self, registers: &[Vec<f64>], out: &mut [f64]) -> bool {
        match self {
            Step::Join(from) => {
                let joined = from.iter().flat_map(|register| &registers[*register]);
                out.iter_mut().zip(joined).for_each(|(out, x)| *out = *x);
            }
            Step::Pick(from, columns) => {
                out.iter_mut().zip(columns).for_each(|(out, column)| *out = registers[*from][*column]);
            }
            Step::Scale { from, offset, scale } => {
                for (column, (out, x)) in out.iter_mut().zip(&registers[*from]).enumerate() {
                    *out = (x - offset[column]) * scale[column];
                }
            }
            Step::Fill { from, missing, by } => {
                for (column, (out, x)) in out.iter_mut().zip(&registers[*from]).enumerate() {
                    *out = if x == missing || x.is_nan() && missing.is_nan() { by[column] } else { *x };
                }
            }
            Step::Normalize(from, norm) => {
                let row = &registers[*from];
                let norm = match norm {
                    Norm::Max => row.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    Norm::Sum => row.iter().map(|x| x.abs()).sum(),
                    Norm::Euclid => row.iter().map(|x| x * x).sum::<f64>().sqrt(),
                };
                out.iter_mut().zip(row).for_each(|(out, x)| *out = if norm == 0.0 { *x } else { x / norm });
            }
            Step::Affine { from, weights, bias } => {
                let row = &registers[*from];
                for ((out, weights), bias) in out.iter_mut().zip(weights.chunks_exact(row.len())).zip(bias) {
                    *out = weights.iter().zip(row).map(|(w, x)| w * x).sum::<f64>() + bias;
                }
            }
            Step::Map(from, function) => {
                out.iter_mut().zip(&registers[*from]).for_each(|(out, x)| *out = function.of(*x));
            }
            Step::Softmax(from) => {
                let row = &registers[*from];
                let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                out.iter_mut().zip(row).for_each(|(out, x)| *out = (x - top).exp());
                let sum: f64 = out.iter().sum();
                out.iter_mut().for_each(|x| *x /= sum);
            }
            Step::OneHot { from, keys, strict } => {
                out.fill(0.0);
                match keys.get(&key(from.of(registers))) {
                    Some(place) => out[*place] = 1.0,
                    None => return !strict,
                }
            }
            Step::Lookup { from, keys, values, otherwise } => {
                out[0] = keys.get(&key(from.of(registers))).map_or(*otherwise, |place| values[*place]);
            }
            Step::Embed { from, table, width } => {
                let count = (table.len() / width) as f64;
                for (out, x) in out.chunks_exact_mut(*width).zip(&registers[*from]) {
                    // Counted from the end below 0, as arrays of Python are.
                    let place = if *x < 0.0 { x + count } else { *x };
                    if !(0.0..count).contains(&place) {
                        return false;
                    }
                    out.copy_from_slice(&table[place as usize * width..][..*width]);
                }
            }
            Step::Standardize { from, epsilon, scale, bias } => {
                let row = &registers[*from];
                let count = row.len() as f64;
                let mean = row.iter().sum::<f64>() / count;
                let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
                for (column, (out, x)) in out.iter_mut().zip(row).enumerate() {
                    *out = (x - mean) / (variance + epsilon).sqrt() * scale[column] + bias[column];
                }
            }
            Step::Arithmetic(left, by, right) => {
                for (column, out) in out.iter_mut().enumerate() {
                    *out = by.of(left.at(registers, column), right.at(registers, column));
                }
            }
            Step::Forest(from, forest) => forest.score(&registers[*from], out),
            Step::Pair(from, pair) => {
                let score = registers[*from][0];
                let (first, second) = match pair {
                    Pair::Complement => (1.0 - score, score),
                    Pair::Opposite => (-score, score),
                    Pair::Logistic => (Function::Sigmoid.of(-score), Function::Sigmoid.of(score)),
                };
                out.copy_from_slice(&[first, second]);
            }
        }
        true
    }
}

impl Column {
    fn of(self, registers: &[Vec<f64>]) -> f64 {
        registers[self.register][self.place]
    }
}

impl Function {
    fn of(self, x: f64) -> f64 {
        match self {
            // NaN stays NaN.
            Function::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Function::Tanh => x.tanh(),
            Function::Exp => x.exp(),
            Function::Sqrt => x.sqrt(),
            Function::Log => x.ln(),
            Function::Absolute => x.abs(),
            Function::Erf => libm::erf(x),
            Function::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Function::Gelu => 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Function::Leaky(scale) => {
                if x < 0.0 {
                    x * scale
                } else {
                    x
                }
            }
            Function::Elu(scale) => {
                if x < 0.0 {
                    scale * x.exp_m1()
                } else {
                    x
                }
            }
            // NaN stays NaN.
            Function::Clip(least, most) => {
                if x < least {
                    least
                } else if x > most {
                    most
                } else {
                    x
                }
            }
            Function::Negate => -x,
            Function::Whole => x.trunc(),
            Function::Truth => f64::from(u8::from(x != 0.0)),
            Function::Single => f64::from(x as f32),
        }
    }
}

impl Arithmetic {
    fn of(self, left: f64, right: f64) -> f64 {
        match self {
            Arithmetic::Add => left + right,
            Arithmetic::Subtract => left - right,
            Arithmetic::Multiply => left * right,
            Arithmetic::Divide => left / right,
        }
    }
}

impl Operand {
    fn register(&self) -> Option<usize> {
        match self {
            Operand::Register(register) => Some(*register),
            Operand::Constant(_) => None,
        }
    }
    fn at(&self, registers: &[Vec<f64>], column: usize) -> f64 {
        let numbers = match self {
            Operand::Register(register) => &registers[*register],
            Operand::Constant(numbers) => numbers,
        };
        if numbers.len() == 1 { numbers[0] } else { numbers[column] }
    }
}
