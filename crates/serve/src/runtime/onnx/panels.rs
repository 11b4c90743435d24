//! Sums of `f32` with AVX2 and FMA: those of two rows by 32 outputs stay in the processor's registers over all inputs.
//!
//! The compiler makes such loops of plain code, but not this one: it keeps the sums in memory, which took two and a half times as long. Each sum is the
//! one that [`super::affine`] promises, to the bit.

use super::affine::{ROWS, Sums};
use std::arch::x86_64::{__m256, _mm256_add_ps, _mm256_fmadd_ps, _mm256_max_ps, _mm256_set1_ps, _mm256_setr_ps, _mm256_setzero_ps};

/// Numbers of a vector.
const LANES: usize = 8;
/// Rows whose sums are in registers at once.
const PAIR: usize = 2;

/// The outputs of all rows.
#[target_feature(enable = "avx2,fma")]
pub fn sum(sums: &Sums<f32>, matrix: &[f64], out: &mut [f64]) {
    let (outputs, inputs) = (sums.bias.len(), sums.weights.len() / sums.bias.len());
    // Rounded once, not for each vector of outputs anew.
    let mut rounded = vec![0.0; inputs * ROWS.min(out.len() / outputs)];
    for (rows, out) in matrix.chunks(ROWS * inputs).zip(out.chunks_mut(ROWS * outputs)) {
        let rounded = &mut rounded[..rows.len()];
        rounded.iter_mut().zip(rows).for_each(|(rounded, x)| *rounded = *x as f32);
        for (rows, out) in rounded.chunks(PAIR * inputs).zip(out.chunks_mut(PAIR * outputs)) {
            match rows.split_at(inputs) {
                (row, []) => panels(sums, [row], out),
                (first, second) => panels(sums, [first, second], out),
            }
        }
        sums.narrow(outputs - outputs % LANES, rounded, |x| x, out);
    }
}

#[target_feature(enable = "avx2,fma")]
fn panels<const ROWS: usize>(sums: &Sums<f32>, rows: [&[f32]; ROWS], out: &mut [f64]) {
    let (mut from, outputs) = (0, sums.bias.len());
    while outputs - from >= 4 * LANES {
        panel::<ROWS, 4>(sums, from, rows, out);
        from += 4 * LANES;
    }
    while outputs - from >= LANES {
        panel::<ROWS, 1>(sums, from, rows, out);
        from += LANES;
    }
}

/// Some vectors of outputs, from one on.
#[target_feature(enable = "avx2,fma")]
fn panel<const ROWS: usize, const VECTORS: usize>(of: &Sums<f32>, from: usize, rows: [&[f32]; ROWS], out: &mut [f64]) {
    let outputs = of.bias.len();
    let inputs = of.weights.len() / outputs;
    let rows = rows.map(|row| &row[..inputs]);
    let mut sums = [[_mm256_setzero_ps(); VECTORS]; ROWS];
    for (input, weights) in of.weights.chunks_exact(outputs).enumerate().take(inputs) {
        let weights = vectors::<VECTORS>(&weights[from..]);
        for (sums, row) in sums.iter_mut().zip(rows) {
            let x = _mm256_set1_ps(row[input]);
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = _mm256_fmadd_ps(weights, x, *sum);
            }
        }
    }
    let bias = vectors::<VECTORS>(&of.bias[from..]);
    for (sums, out) in sums.into_iter().zip(out.chunks_exact_mut(outputs)) {
        for ((sum, bias), out) in sums.into_iter().zip(bias).zip(out[from..].as_chunks_mut::<LANES>().0) {
            let sum = _mm256_add_ps(sum, bias);
            // Of 0 and NaN, and of two zeros, it takes the second.
            let sum = if of.relu { _mm256_max_ps(_mm256_setzero_ps(), sum) } else { sum };
            *out = bytemuck::cast::<__m256, [f32; LANES]>(sum).map(f64::from);
        }
    }
}

/// The first numbers.
#[target_feature(enable = "avx2,fma")]
fn vectors<const VECTORS: usize>(numbers: &[f32]) -> [__m256; VECTORS] {
    let (numbers, _) = numbers[..VECTORS * LANES].as_chunks::<LANES>();
    std::array::from_fn(|vector| {
        let [a, b, c, d, e, f, g, h] = numbers[vector];
        _mm256_setr_ps(a, b, c, d, e, f, g, h)
    })
}
