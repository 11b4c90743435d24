//! The steps of a program: what each computes of some rows. No row sees another one.
//!
//! A step trusts its program: registers have the width that it takes, and its lists belong to each other. To add one: a variant of [`Step`], its
//! arm in [`Step::run`], and whoever makes it, in [`super::ops`].

use super::affine::{Affine, relu};
use crate::runtime::forest::Forest;
use std::collections::HashMap;

/// The values of some rows: register by register, and in a register one row behind the other.
#[derive(Clone, Copy)]
pub struct Registers<'r> {
    pub values: &'r [f64],
    /// Where each register begins, and its width; all in numbers of one row.
    pub places: &'r [(usize, usize)],
    /// How many rows there are, and how many there is room for.
    pub rows: usize,
    pub room: usize,
}

impl<'r> Registers<'r> {
    /// A register of all rows.
    pub fn all(&self, register: usize) -> &'r [f64] {
        let (from, width) = self.places[register];
        &self.values[from * self.room..][..width * self.rows]
    }
    /// Computes row by row.
    fn each(&self, out: &mut [f64], mut one: impl FnMut(Row<'r>, &mut [f64])) {
        for (number, out) in out.chunks_exact_mut(out.len() / self.rows).enumerate() {
            one(Row { of: *self, number }, out);
        }
    }
}

/// A row of the registers.
#[derive(Clone, Copy)]
struct Row<'r> {
    of: Registers<'r>,
    number: usize,
}

impl<'r> Row<'r> {
    fn get(self, register: usize) -> &'r [f64] {
        let (from, width) = self.of.places[register];
        &self.of.values[from * self.of.room + self.number * width..][..width]
    }
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
    /// `x * weights + bias`.
    Affine(usize, Affine),
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

impl Step {
    /// Computes the numbers of all rows; those that have no answer are `lost`, whatever stands in their place.
    pub fn run(&self, of: &Registers<'_>, out: &mut [f64], lost: &mut Vec<usize>) {
        match self {
            Step::Join(from) => {
                let (all, mut place) = (out.len() / of.rows, 0);
                for register in from {
                    let width = of.places[*register].1;
                    for (out, row) in out.chunks_exact_mut(all).zip(of.all(*register).chunks_exact(width)) {
                        out[place..place + width].iter_mut().zip(row).for_each(|(out, x)| *out = *x);
                    }
                    place += width;
                }
            }
            Step::Pick(from, columns) => of.each(out, |row, out| {
                let from = row.get(*from);
                out.iter_mut().zip(columns).for_each(|(out, column)| *out = from[*column]);
            }),
            Step::Scale { from, offset, scale } => of.each(out, |row, out| {
                for (((out, x), offset), scale) in out.iter_mut().zip(row.get(*from)).zip(offset).zip(scale) {
                    *out = (x - offset) * scale;
                }
            }),
            Step::Fill { from, missing, by } => of.each(out, |row, out| {
                for ((out, x), by) in out.iter_mut().zip(row.get(*from)).zip(by) {
                    *out = if x == missing || x.is_nan() && missing.is_nan() { *by } else { *x };
                }
            }),
            Step::Normalize(from, norm) => of.each(out, |row, out| {
                let row = row.get(*from);
                let norm = match norm {
                    Norm::Max => row.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    Norm::Sum => row.iter().map(|x| x.abs()).sum(),
                    Norm::Euclid => row.iter().map(|x| x * x).sum::<f64>().sqrt(),
                };
                out.iter_mut().zip(row).for_each(|(out, x)| *out = if norm == 0.0 { *x } else { x / norm });
            }),
            Step::Affine(from, affine) => affine.run(of.all(*from), out),
            Step::Map(from, function) => {
                let each = of.all(*from).iter().zip(out);
                match function {
                    // Known before the loop, so that vectors do it.
                    Function::Relu => each.for_each(|(x, out)| *out = relu(*x)),
                    Function::Sigmoid => each.for_each(|(x, out)| *out = Function::Sigmoid.of(*x)),
                    function => each.for_each(|(x, out)| *out = function.of(*x)),
                }
            }
            Step::Softmax(from) => of.each(out, |row, out| {
                let row = row.get(*from);
                let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                out.iter_mut().zip(row).for_each(|(out, x)| *out = (x - top).exp());
                let sum: f64 = out.iter().sum();
                out.iter_mut().for_each(|x| *x /= sum);
            }),
            Step::OneHot { from, keys, strict } => of.each(out, |row, out| {
                out.fill(0.0);
                match keys.get(&key(from.of(row))) {
                    Some(place) => out[*place] = 1.0,
                    None if *strict => lost.push(row.number),
                    None => {}
                }
            }),
            Step::Lookup { from, keys, values, otherwise } => of.each(out, |row, out| {
                out[0] = keys.get(&key(from.of(row))).map_or(*otherwise, |place| values[*place]);
            }),
            Step::Embed { from, table, width } => {
                let count = (table.len() / width) as f64;
                of.each(out, |row, out| {
                    for (out, x) in out.chunks_exact_mut(*width).zip(row.get(*from)) {
                        // Counted from the end below 0, as arrays of Python are.
                        let place = if *x < 0.0 { x + count } else { *x };
                        match (0.0..count).contains(&place) {
                            true => out.copy_from_slice(&table[place as usize * width..][..*width]),
                            false => return lost.push(row.number),
                        }
                    }
                });
            }
            Step::Standardize { from, epsilon, scale, bias } => of.each(out, |row, out| {
                let row = row.get(*from);
                let count = row.len() as f64;
                let mean = row.iter().sum::<f64>() / count;
                let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
                for (column, (out, x)) in out.iter_mut().zip(row).enumerate() {
                    *out = (x - mean) / (variance + epsilon).sqrt() * scale[column] + bias[column];
                }
            }),
            // Known before the loop, as above.
            Step::Arithmetic(left, by, right) => match by {
                Arithmetic::Add => by_column(of, out, left, right, |left, right| left + right),
                Arithmetic::Subtract => by_column(of, out, left, right, |left, right| left - right),
                Arithmetic::Multiply => by_column(of, out, left, right, |left, right| left * right),
                Arithmetic::Divide => by_column(of, out, left, right, |left, right| left / right),
            },
            Step::Forest(from, forest) => forest.score_rows(of.all(*from), of.rows, out),
            Step::Pair(from, pair) => of.each(out, |row, out| {
                let score = row.get(*from)[0];
                let (first, second) = match pair {
                    Pair::Complement => (1.0 - score, score),
                    Pair::Opposite => (-score, score),
                    Pair::Logistic => (Function::Sigmoid.of(-score), Function::Sigmoid.of(score)),
                };
                out.copy_from_slice(&[first, second]);
            }),
        }
    }
}

impl Column {
    fn of(self, row: Row<'_>) -> f64 {
        row.get(self.register)[self.place]
    }
}

impl Function {
    fn of(self, x: f64) -> f64 {
        match self {
            Function::Relu => relu(x),
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

/// A side with one number stands for every column.
#[inline(always)]
fn by_column(registers: &Registers<'_>, out: &mut [f64], left: &Operand, right: &Operand, of: impl Fn(f64, f64) -> f64) {
    let width = out.len() / registers.rows;
    let all =
        |side: &Operand| side.register().filter(|register| registers.places[*register].1 == width).map(|register| registers.all(register));
    let one = |side: &Operand| match side {
        Operand::Constant(numbers) if numbers.len() == 1 => numbers.first().copied(),
        _ => None,
    };
    match (all(left), one(left), all(right), one(right)) {
        (Some(left), _, Some(right), _) => {
            return out.iter_mut().zip(left).zip(right).for_each(|((out, left), right)| *out = of(*left, *right));
        }
        (Some(left), _, _, Some(right)) => return out.iter_mut().zip(left).for_each(|(out, left)| *out = of(*left, right)),
        (_, Some(left), Some(right), _) => return out.iter_mut().zip(right).for_each(|(out, right)| *out = of(left, *right)),
        _ => {}
    }
    registers.each(out, |row, out| match (left.of(row), right.of(row)) {
        ([left], right) if right.len() != 1 => out.iter_mut().zip(right).for_each(|(out, right)| *out = of(*left, *right)),
        (left, [right]) => out.iter_mut().zip(left).for_each(|(out, left)| *out = of(*left, *right)),
        (left, right) => out.iter_mut().zip(left).zip(right).for_each(|((out, left), right)| *out = of(*left, *right)),
    });
}

impl Operand {
    /// The register, if it is one.
    pub fn register(&self) -> Option<usize> {
        match self {
            Operand::Register(register) => Some(*register),
            Operand::Constant(_) => None,
        }
    }
    fn of<'r>(&'r self, row: Row<'r>) -> &'r [f64] {
        match self {
            Operand::Register(register) => row.get(*register),
            Operand::Constant(numbers) => numbers,
        }
    }
}
