//! `x * weights + bias`: what a network spends its time with.
//!
//! Promise: each sum begins at 0 and grows input by input, the bias comes last, and no product is fused with its sum. So a row has the same bits
//! alone and among others, with the vectors of every processor and without.

use multiversion::multiversion;
use std::ops::{AddAssign, Mul};

/// Outputs that are summed up at once. How many there are is not known to the compiler, and must not be: of a known number it makes as many sums
/// one by one instead of vectors.
const BLOCK: usize = 64;

/// The weights and the bias, in the precision of the graph.
#[derive(Debug)]
pub enum Affine {
    Double(Sums<f64>),
    Single(Sums<f32>),
}

impl Affine {
    /// With `weights[input * outputs + output]`; as many outputs as `bias` has, at least one. `single`: the graph computes in `f32`.
    pub fn of(single: bool, weights: &[f64], bias: &[f64]) -> Affine {
        // Weights of a file may be more exact than its inputs.
        let is_single = |x: &f64| f64::from(*x as f32).to_bits() == x.to_bits();
        if single && weights.iter().chain(bias).all(is_single) {
            Affine::Single(Sums::of(weights, bias))
        } else {
            Affine::Double(Sums::of(weights, bias))
        }
    }
    /// Whether its outputs are `f32`.
    pub fn is_single(&self) -> bool {
        matches!(self, Affine::Single(_))
    }
    /// The outputs of a row; `f32` inputs give `f32` outputs where the weights are that.
    pub fn run(&self, row: &[f64], out: &mut [f64]) {
        match self {
            Affine::Double(sums) => double(sums, row, out),
            Affine::Single(sums) => single(sums, row, out),
        }
    }
}

/// Numbers that are summed up.
pub trait Number: Copy + Default + AddAssign + Mul<Output = Self> {
    /// The nearest one.
    fn of(x: f64) -> Self;
    /// As it is.
    fn wide(self) -> f64;
}

impl Number for f64 {
    fn of(x: f64) -> f64 {
        x
    }
    fn wide(self) -> f64 {
        self
    }
}

impl Number for f32 {
    fn of(x: f64) -> f32 {
        x as f32
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

/// Weights and bias.
#[derive(Debug)]
pub struct Sums<T> {
    /// `[input * outputs + output]`.
    weights: Vec<T>,
    bias: Vec<T>,
}

impl<T: Number> Sums<T> {
    fn of(weights: &[f64], bias: &[f64]) -> Sums<T> {
        let typed = |numbers: &[f64]| numbers.iter().map(|x| T::of(*x)).collect();
        Sums { weights: typed(weights), bias: typed(bias) }
    }

    #[inline(always)]
    fn sum(&self, row: &[f64], out: &mut [f64]) {
        let mut sums = [T::default(); BLOCK];
        for (out, from) in out.chunks_mut(BLOCK).zip((0..).step_by(BLOCK)) {
            let (sums, to) = (&mut sums[..out.len()], from + out.len());
            sums.fill(T::default());
            // Four inputs at a time, one after the other in each sum: a sum is loaded and stored once for them.
            let (fours, rest) = row.as_chunks::<4>();
            let mut weights = self.weights.chunks_exact(self.bias.len()).map(|weights| &weights[from..to]);
            for xs in fours {
                let [a, b, c, d] = xs.map(T::of);
                let [Some(of_a), Some(of_b), Some(of_c), Some(of_d)] = std::array::from_fn(|_| weights.next()) else { break };
                for ((((sum, of_a), of_b), of_c), of_d) in sums.iter_mut().zip(of_a).zip(of_b).zip(of_c).zip(of_d) {
                    let mut four = *sum;
                    four += *of_a * a;
                    four += *of_b * b;
                    four += *of_c * c;
                    four += *of_d * d;
                    *sum = four;
                }
            }
            for (x, weights) in rest.iter().zip(weights) {
                let x = T::of(*x);
                sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += *weight * x);
            }
            sums.iter_mut().zip(&self.bias[from..to]).for_each(|(sum, bias)| *sum += *bias);
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum.wide());
        }
    }
}

/// With the vectors that this processor has.
#[multiversion(targets("x86_64+avx2"))]
fn double(sums: &Sums<f64>, row: &[f64], out: &mut [f64]) {
    sums.sum(row, out);
}

/// With the vectors that this processor has.
#[multiversion(targets("x86_64+avx2"))]
fn single(sums: &Sums<f32>, row: &[f64], out: &mut [f64]) {
    sums.sum(row, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::prelude::*;
    use rand::rngs::StdRng;

    /// As it is defined, without a vector.
    fn defined<T: Number>(row: &[f64], weights: &[f64], bias: &[f64]) -> Vec<f64> {
        let output = |output: usize| {
            let mut sum = T::default();
            for (input, x) in row.iter().enumerate() {
                sum += T::of(weights[input * bias.len() + output]) * T::of(*x);
            }
            sum += T::of(bias[output]);
            sum.wide()
        };
        (0..bias.len()).map(output).collect()
    }

    #[test]
    fn vectors_give_the_bits_of_the_definition() {
        let mut random = StdRng::seed_from_u64(5);
        for (inputs, outputs) in [(1, 1), (3, 7), (20, 8), (5, 9), (20, 64), (64, 33), (7, 100), (130, 40)] {
            for single in [false, true] {
                let mut number = || {
                    let x: f64 = random.random_range(-3.0..3.0);
                    if single { f64::from(x as f32) } else { x }
                };
                let weights: Vec<f64> = (0..inputs * outputs).map(|_| number()).collect();
                let bias: Vec<f64> = (0..outputs).map(|_| number()).collect();
                let mut row: Vec<f64> = (0..inputs).map(|_| number()).collect();
                let affine = Affine::of(single, &weights, &bias);
                assert_eq!(affine.is_single(), single);
                for special in [0.5, f64::NAN, f64::INFINITY, -0.0] {
                    row[inputs / 2] = special;
                    let mut out = vec![7.0; outputs];
                    affine.run(&row, &mut out);
                    let wanted = if single { defined::<f32>(&row, &weights, &bias) } else { defined::<f64>(&row, &weights, &bias) };
                    let same = out.iter().zip(&wanted).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
                    assert!(same, "{inputs} x {outputs}, {special}: {out:?} and {wanted:?}");
                }
            }
        }
    }

    #[test]
    fn weights_that_are_no_f32_stay_what_they_are() {
        let affine = Affine::of(true, &[0.1], &[0.0]);
        let mut out = [0.0];
        affine.run(&[1.0], &mut out);
        assert_eq!(out, [0.1]);
    }
}
