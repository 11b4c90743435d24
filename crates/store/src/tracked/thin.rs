//! Which points of a long history are shown: the first of each of `limit` parts of equal size, and the very last.

use std::ops::Range;

/// The positions to show of `count` points, rising, at most `limit` (at least one).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thinned {
    /// How many points there are.
    pub count: u64,
    /// Parts; the first `larger` of them have `size + 1` points, the others `size`.
    pub parts: u64,
    pub size: u64,
    pub larger: u64,
}

impl Thinned {
    pub(crate) fn new(count: u64, limit: usize) -> Thinned {
        let parts = (limit.max(1) as u64).min(count.max(1));
        Thinned { count, parts, size: count / parts, larger: count % parts }
    }
    /// Where a part begins.
    pub(crate) fn begin(&self, part: u64) -> u64 {
        part * self.size + part.min(self.larger)
    }
    /// The positions. The last one takes the place of the last part's first where all places are taken, which they always are: a part that
    /// begins at the last position is that position.
    pub(crate) fn positions(&self) -> Vec<u64> {
        if self.count == 0 {
            return Vec::new();
        }
        let parts: Range<u64> = 0..self.parts - 1;
        parts.map(|part| self.begin(part)).chain([self.count - 1]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_and_last_are_kept_and_the_limit_holds() {
        for count in 0..200u64 {
            for limit in 1..30usize {
                let shown = Thinned::new(count, limit).positions();
                assert_eq!(shown.len() as u64, count.min(limit as u64), "{count} {limit}");
                assert!(shown.windows(2).all(|w| w[0] < w[1]), "{shown:?}");
                if limit > 1 && count > 0 {
                    assert_eq!((shown[0], shown[shown.len() - 1]), (0, count - 1));
                }
            }
        }
        assert_eq!(Thinned::new(10, 4).positions(), [0, 3, 6, 9]);
        assert_eq!(Thinned::new(7, 1).positions(), [6]);
        assert_eq!(Thinned::new(3, 100).positions(), [0, 1, 2]);
    }
}
