//! [`super::quick`] with AVX2: half as many instructions as the compiler makes of vectors that every processor has.

use super::quick::{Quick, Test};
use super::{BLOCK, Ranks};
use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_blendv_epi8, _mm256_cmpeq_epi8, _mm256_cmpgt_epi16, _mm256_or_si256, _mm256_packs_epi16,
    _mm256_permute4x64_epi64, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_setzero_si256, _mm256_sub_epi8,
};

/// The bits of one byte of a block's rows, half of them each. Their order is the one that packing leaves them in; [`in_order`] puts it right.
type Bits = [__m256i; 2];

/// The place of each row's lowest bit.
#[target_feature(enable = "avx2")]
pub fn places(quick: &Quick, ranks: &[Ranks]) -> [u8; BLOCK] {
    let zero = _mm256_setzero_si256();
    let (mut lowest, mut places) = ([_mm256_set1_epi8(-1); 2], [zero; 2]);
    for (byte, tests) in quick.bytes() {
        let bits = bits(tests, ranks);
        let here = _mm256_set1_epi8((8 * byte).cast_signed());
        for ((lowest, place), bits) in lowest.iter_mut().zip(&mut places).zip(bits) {
            let empty = _mm256_cmpeq_epi8(bits, zero);
            *lowest = _mm256_blendv_epi8(bits, *lowest, empty);
            *place = _mm256_blendv_epi8(here, *place, empty);
        }
    }
    for (place, lowest) in places.iter_mut().zip(lowest) {
        let alone = _mm256_and_si256(lowest, _mm256_sub_epi8(zero, lowest));
        for (mask, value) in [(0xaa_u8, 1), (0xcc, 2), (0xf0, 4)] {
            let without = _mm256_cmpeq_epi8(_mm256_and_si256(alone, _mm256_set1_epi8(mask.cast_signed())), zero);
            *place = _mm256_or_si256(*place, _mm256_blendv_epi8(_mm256_set1_epi8(value), zero, without));
        }
        *place = in_order(*place);
    }
    bytemuck::cast(places)
}

/// What all tests of a byte leave.
#[target_feature(enable = "avx2")]
fn bits(tests: &[Test], ranks: &[Ranks]) -> Bits {
    let mut bits = [_mm256_set1_epi8(-1); 2];
    for test in tests {
        let (limit, stays) = (_mm256_set1_epi16(test.rank), _mm256_set1_epi8(test.stays.cast_signed()));
        let ranks: [__m256i; 4] = bytemuck::cast(ranks[usize::from(test.column)].0);
        let [a, b, c, d] = ranks.map(|ranks| _mm256_cmpgt_epi16(limit, ranks));
        let below = [_mm256_packs_epi16(a, b), _mm256_packs_epi16(c, d)];
        for (bits, below) in bits.iter_mut().zip(below) {
            *bits = _mm256_and_si256(*bits, _mm256_or_si256(below, stays));
        }
    }
    bits
}

/// Packing takes the lower halves of two vectors first, then the upper ones.
#[target_feature(enable = "avx2")]
fn in_order(bytes: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes)
}
