//! Sums of `f32` with AVX2 and FMA: those of two rows by 32 outputs stay in the processor's registers over all inputs.
//!
//! The compiler makes such loops of plain code, but not this one: it keeps the sums in memory, which took two and a half times as long. Each sum is the
//! one that [`super::affine`] promises, to the bit.

use std::arch::x86_64::{__m256, _mm256_fmadd_ps, _mm256_set1_ps, _mm256_setr_ps, _mm256_setzero_ps};

/// Numbers of a vector.
const LANES: usize = 8;

/// Sums up as many outputs as whole vectors take, from the first one on, for all rows; how many that are.
#[target_feature(enable = "avx2,fma")]
pub fn sum(weights: &[f32], bias: &[f32], matrix: &[f64], out: &mut [f64]) -> usize {
    let (outputs, inputs) = (bias.len(), weights.len() / bias.len());
    for (rows, out) in matrix.chunks(2 * inputs).zip(out.chunks_mut(2 * outputs)) {
        match rows.split_at(inputs) {
            (row, []) => panels(weights, bias, [row], out),
            (first, second) => panels(weights, bias, [first, second], out),
        }
    }
    outputs - outputs % LANES
}

#[target_feature(enable = "avx2,fma")]
fn panels<const ROWS: usize>(weights: &[f32], bias: &[f32], rows: [&[f64]; ROWS], out: &mut [f64]) {
    let mut from = 0;
    while bias.len() - from >= 4 * LANES {
        panel::<ROWS, 4>(weights, bias, from, rows, out);
        from += 4 * LANES;
    }
    while bias.len() - from >= LANES {
        panel::<ROWS, 1>(weights, bias, from, rows, out);
        from += LANES;
    }
}

/// Some vectors of outputs, from one on.
#[target_feature(enable = "avx2,fma")]
fn panel<const ROWS: usize, const VECTORS: usize>(weights: &[f32], bias: &[f32], from: usize, rows: [&[f64]; ROWS], out: &mut [f64]) {
    let outputs = bias.len();
    let rows = rows.map(|row| &row[..weights.len() / outputs]);
    let mut sums = [[_mm256_setzero_ps(); VECTORS]; ROWS];
    for (input, weights) in weights.chunks_exact(outputs).enumerate() {
        let (weights, _) = weights[from..from + VECTORS * LANES].as_chunks::<LANES>();
        let weights: [__m256; VECTORS] = std::array::from_fn(|vector| {
            let [a, b, c, d, e, f, g, h] = weights[vector];
            _mm256_setr_ps(a, b, c, d, e, f, g, h)
        });
        for (sums, row) in sums.iter_mut().zip(rows) {
            let x = _mm256_set1_ps(row[input] as f32);
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = _mm256_fmadd_ps(weights, x, *sum);
            }
        }
    }
    for (sums, out) in sums.into_iter().zip(out.chunks_exact_mut(outputs)) {
        let places = out[from..].chunks_exact_mut(LANES).zip(bias[from..].chunks_exact(LANES));
        for (sums, (out, bias)) in sums.into_iter().zip(places) {
            let sums: [f32; LANES] = bytemuck::cast(sums);
            for ((out, sum), bias) in out.iter_mut().zip(sums).zip(bias) {
                *out = f64::from(sum + bias);
            }
        }
    }
}
