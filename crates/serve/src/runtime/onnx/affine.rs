//! `x * weights + bias`: what a network spends its time with.
//!
//! Promise: each sum begins at 0 and grows input by input, each product fused with its sum (rounded once, as IEEE 754 has it), then comes the bias,
//! and last what is below 0 becomes 0 if that is asked for. So a row has the same bits alone and among others, with the vectors of every processor
//! and without.

#[cfg(target_arch = "x86_64")]
use super::panels;
use multiversion::multiversion;
use multiversion::target::match_target;
use std::ops::AddAssign;

/// Outputs that are summed up at once. How many there are is not known to the compiler, and must not be: of a known number it makes as many sums
/// one by one instead of vectors.
const BLOCK: usize = 64;

/// Fewer outputs than this are not worth a vector.
const NARROW: usize = 8;
/// Rows that are summed up side by side.
pub const ROWS: usize = 8;

/// The weights and the bias, in the precision of the graph.
#[derive(Debug)]
pub enum Affine {
    Double(Sums<f64>),
    Single(Sums<f32>),
}

impl Affine {
    /// With `weights[input * outputs + output]`; as many outputs as `bias` has, at least one. `single`: the graph computes in `f32`.
    pub fn of(single: bool, weights: &[f64], bias: &[f64]) -> Affine {
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
    /// With a bias, if it has none and the sums stay what they are in the precision of the graph.
    pub fn with_bias(&mut self, bias: &[f64]) -> bool {
        match self {
            Affine::Double(sums) => sums.with_bias(bias),
            Affine::Single(sums) => bias.iter().all(is_single) && sums.with_bias(bias),
        }
    }
    /// With 0 for every output below 0.
    pub fn with_relu(&mut self) {
        match self {
            Affine::Double(sums) => sums.relu = true,
            Affine::Single(sums) => sums.relu = true,
        }
    }
    /// The outputs of some rows, both one behind the other; `f32` inputs give `f32` outputs where the weights are that.
    pub fn run(&self, matrix: &[f64], out: &mut [f64]) {
        match self {
            Affine::Double(sums) => double(sums, matrix, out),
            Affine::Single(sums) => single(sums, matrix, out),
        }
    }
}

/// 0 for what is below it; NaN stays NaN.
#[inline(always)]
pub fn relu<T: Number>(x: T) -> T {
    if x < T::default() { T::default() } else { x }
}

/// Weights of a file may be more exact than its inputs.
fn is_single(x: &f64) -> bool {
    f64::from(*x as f32).to_bits() == x.to_bits()
}

/// Numbers that are summed up.
pub trait Number: Copy + Default + PartialOrd + AddAssign {
    /// The nearest one.
    fn of(x: f64) -> Self;
    /// As it is.
    fn wide(self) -> f64;
    /// `sum + self * x`, rounded once.
    fn times(self, x: Self, sum: Self) -> Self;
}

impl Number for f64 {
    #[inline(always)]
    fn of(x: f64) -> f64 {
        x
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    #[inline(always)]
    fn times(self, x: f64, sum: f64) -> f64 {
        self.mul_add(x, sum)
    }
}

impl Number for f32 {
    #[inline(always)]
    fn of(x: f64) -> f32 {
        x as f32
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn times(self, x: f32, sum: f32) -> f32 {
        self.mul_add(x, sum)
    }
}

/// Weights and bias.
#[derive(Debug)]
pub struct Sums<T> {
    /// `[input * outputs + output]`.
    pub weights: Vec<T>,
    pub bias: Vec<T>,
    pub relu: bool,
}

impl<T: Number> Sums<T> {
    fn of(weights: &[f64], bias: &[f64]) -> Sums<T> {
        let typed = |numbers: &[f64]| numbers.iter().map(|x| T::of(*x)).collect();
        Sums { weights: typed(weights), bias: typed(bias), relu: false }
    }

    fn with_bias(&mut self, bias: &[f64]) -> bool {
        let fits = !self.relu && bias.len() == self.bias.len() && self.bias.iter().all(|x| *x == T::default());
        if fits {
            self.bias = bias.iter().map(|x| T::of(*x)).collect();
        }
        fits
    }

    #[inline(always)]
    fn sum(&self, matrix: &[f64], out: &mut [f64]) {
        let outputs = self.bias.len();
        if outputs < NARROW {
            return self.narrow(0, matrix, T::of, out);
        }
        for (row, out) in matrix.chunks(self.weights.len() / outputs).zip(out.chunks_mut(outputs)) {
            self.one(row, out);
        }
    }

    /// Of a few outputs, those from one on, no vectors are made. Eight rows go side by side, so that the processor does not wait for one sum at a time.
    #[inline(always)]
    pub fn narrow<X: Copy>(&self, from: usize, matrix: &[X], of: impl Fn(X) -> T + Copy, out: &mut [f64]) {
        let outputs = self.bias.len();
        let inputs = self.weights.len() / outputs;
        for (rows, out) in matrix.chunks(ROWS * inputs).zip(out.chunks_mut(ROWS * outputs)) {
            for output in from..outputs {
                let weights = self.weights[output..].iter().step_by(outputs);
                let mut sums = [T::default(); ROWS];
                if rows.len() == ROWS * inputs {
                    let rows: [&[X]; ROWS] = std::array::from_fn(|row| &rows[row * inputs..][..inputs]);
                    for (input, weight) in weights.enumerate().take(inputs) {
                        for (sum, row) in sums.iter_mut().zip(rows) {
                            *sum = weight.times(of(row[input]), *sum);
                        }
                    }
                } else {
                    for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(inputs)) {
                        row.iter().zip(weights.clone()).for_each(|(x, weight)| *sum = weight.times(of(*x), *sum));
                    }
                }
                for (sum, out) in sums.iter().zip(out.chunks_exact_mut(outputs)) {
                    out[output] = self.ended(*sum, output);
                }
            }
        }
    }

    /// A sum of all products as an output.
    #[inline(always)]
    fn ended(&self, mut sum: T, output: usize) -> f64 {
        sum += self.bias[output];
        if self.relu { relu(sum) } else { sum }.wide()
    }

    #[inline(always)]
    fn one(&self, row: &[f64], out: &mut [f64]) {
        let mut sums = [T::default(); BLOCK];
        for (out, from) in out.chunks_mut(BLOCK).zip((0..).step_by(BLOCK)) {
            let sums = &mut sums[..out.len()];
            sums.fill(T::default());
            // Four inputs at a time, one after the other in each sum: a sum is loaded and stored once for them.
            let (fours, rest) = row.as_chunks::<4>();
            let mut weights = self.weights_of(from, out.len());
            for xs in fours {
                let xs = xs.map(T::of);
                let [Some(a), Some(b), Some(c), Some(d)] = std::array::from_fn(|_| weights.next()) else { break };
                for ((((sum, a), b), c), d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    *sum = d.times(xs[3], c.times(xs[2], b.times(xs[1], a.times(xs[0], *sum))));
                }
            }
            for (x, weights) in rest.iter().zip(weights) {
                let x = T::of(*x);
                sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum = weight.times(x, *sum));
            }
            self.give(sums, from, out);
        }
    }

    /// The weights of some outputs, input by input.
    #[inline(always)]
    fn weights_of(&self, from: usize, outputs: usize) -> impl Iterator<Item = &[T]> {
        self.weights.chunks_exact(self.bias.len()).map(move |weights| &weights[from..from + outputs])
    }

    #[inline(always)]
    fn give(&self, sums: &mut [T], from: usize, out: &mut [f64]) {
        sums.iter_mut().zip(&self.bias[from..]).for_each(|(sum, bias)| *sum += *bias);
        if self.relu {
            sums.iter_mut().for_each(|sum| *sum = relu(*sum));
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum.wide());
    }
}

/// With the vectors that this processor has.
#[multiversion(targets("x86_64+avx2+fma"))]
fn double(sums: &Sums<f64>, matrix: &[f64], out: &mut [f64]) {
    sums.sum(matrix, out);
}

/// With the vectors that this processor has.
#[multiversion(targets("x86_64+avx2+fma"))]
fn single(sums: &Sums<f32>, matrix: &[f64], out: &mut [f64]) {
    match_target! {
        "x86_64+avx2+fma" => panels::sum(sums, matrix, out),
        _ => sums.sum(matrix, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::prelude::*;
    use rand::rngs::StdRng;

    /// As it is defined, without a vector.
    fn defined<T: Number>(row: &[f64], weights: &[f64], bias: &[f64], relu: bool) -> Vec<f64> {
        let output = |output: usize| {
            let mut sum = T::default();
            for (input, x) in row.iter().enumerate() {
                sum = T::of(weights[input * bias.len() + output]).times(T::of(*x), sum);
            }
            sum += T::of(bias[output]);
            if relu && sum.wide() < 0.0 { 0.0 } else { sum.wide() }
        };
        (0..bias.len()).map(output).collect()
    }

    #[test]
    fn vectors_give_the_bits_of_the_definition() {
        let mut random = StdRng::seed_from_u64(5);
        for (inputs, outputs) in [(1, 1), (33, 1), (3, 7), (20, 8), (5, 9), (20, 64), (64, 33), (7, 100), (130, 40)] {
            for single in [false, true] {
                let mut number = || {
                    let x: f64 = random.random_range(-3.0..3.0);
                    if single { f64::from(x as f32) } else { x }
                };
                let weights: Vec<f64> = (0..inputs * outputs).map(|_| number()).collect();
                let bias: Vec<f64> = (0..outputs).map(|_| number()).collect();
                let mut rows: Vec<f64> = (0..17 * inputs).map(|_| number()).collect();
                let mut affine = Affine::of(single, &weights, &bias);
                assert_eq!(affine.is_single(), single);
                for (special, relu) in [0.5, f64::NAN, f64::INFINITY, -0.0].into_iter().flat_map(|x| [(x, false), (x, true)]) {
                    match &mut affine {
                        Affine::Double(sums) => sums.relu = relu,
                        Affine::Single(sums) => sums.relu = relu,
                    }
                    rows[inputs / 2] = special;
                    rows[inputs + inputs / 2] = special;
                    let wanted: Vec<f64> = rows
                        .chunks_exact(inputs)
                        .flat_map(|row| match single {
                            true => defined::<f32>(row, &weights, &bias, relu),
                            false => defined::<f64>(row, &weights, &bias, relu),
                        })
                        .collect();
                    for count in [1, 2, 3, 8, 17] {
                        let mut out = vec![7.0; count * outputs];
                        affine.run(&rows[..count * inputs], &mut out);
                        let same = out.iter().zip(&wanted).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
                        assert!(same, "{count} of {inputs} x {outputs}, {special}: {out:?} and {wanted:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn products_are_not_rounded_before_they_are_added() {
        // The square of 1 + 2^-13 is 1 + 2^-12 + 2^-26, whose last bit an f32 has only once the rest is taken away.
        let x = 1.0 + 2f64.powi(-13);
        let mut out = [0.0];
        Affine::of(true, &[-1.0, x], &[0.0]).run(&[1.0 + 2f64.powi(-12), x], &mut out);
        assert_eq!(out, [2f64.powi(-26)]);
    }

    #[test]
    fn a_bias_joins_where_there_is_none() {
        let mut affine = Affine::of(true, &[2.0, 3.0], &[0.0, 0.0]);
        assert!(!affine.with_bias(&[1.0]) && !affine.with_bias(&[1.0, 0.1]), "another width, and what is no f32");
        assert!(affine.with_bias(&[1.0, 0.5]) && !affine.with_bias(&[1.0, 0.5]), "it has one now");
        let mut out = [0.0; 2];
        affine.run(&[2.0], &mut out);
        assert_eq!(out, [5.0, 6.5]);
        let mut affine = Affine::of(false, &[-2.0, 3.0], &[0.0, 0.0]);
        affine.with_relu();
        assert!(!affine.with_bias(&[9.0, 9.0]), "it would come too late");
        affine.run(&[2.0], &mut out);
        assert_eq!(out, [0.0, 6.0]);
    }

    #[test]
    fn weights_that_are_no_f32_stay_what_they_are() {
        let affine = Affine::of(true, &[0.1], &[0.0]);
        let mut out = [0.0];
        affine.run(&[1.0], &mut out);
        assert_eq!(out, [0.1]);
    }
}
