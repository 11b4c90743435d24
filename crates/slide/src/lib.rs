//! Windows that slide over rows in the order of time.
//!
//! Promise: each row enters and leaves each window once, and what a window answers is, to the bit, what the same aggregate over the rows inside
//! says, whatever entered and left before. Nothing here knows SQL, tables or plans: the crate that does compiles a view to [`Window`]s and
//! [`Call`]s over columns. It is a crate of its own so that it is always optimised fully, while everything around it is compiled fast.
//!
//! [`walk`] goes through rows and questions ([`known`]: of which a question may know only some), [`state`] is what a call keeps meanwhile,
//! [`argument`] is how it reads its values, [`entities`] whose rows are whose, [`place`] where they are, [`gather`] the columns of those that are
//! answers, [`exact`] sums whose bits do not depend on the order, [`quantile`] what lies below a share of the values, [`ordered`] the values of a
//! window in order.
//!
//! To add an aggregate: a case of [`What`], what it keeps in [`state`], its types in [`argument::supported`]. If it cannot give back what leaves, it
//! does not belong here.

pub mod argument;
pub mod entities;
pub mod exact;
pub mod gather;
pub mod known;
pub mod ordered;
pub mod place;
pub mod quantile;
pub mod state;
pub mod walk;

/// The rows that a call looks at, by their time, as distances from the moment in microseconds; `true` where the edge itself belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Where it begins; `None` at the first row there is.
    pub from: Option<(i64, bool)>,
    /// Where it ends.
    pub to: (i64, bool),
}

impl Window {
    /// Narrows it to what begins here.
    pub fn begin(&mut self, edge: i64, inside: bool) {
        self.from = Some(match self.from {
            Some((at, also)) if at > edge || (at == edge && !also) => (at, also),
            _ => (edge, inside),
        });
    }
    /// Whether a row of this time is inside, seen from a moment.
    pub fn holds(&self, time: i64, moment: i64) -> bool {
        let (time, moment) = (i128::from(time), i128::from(moment));
        let after = |edge: i64, inside: bool| time > moment + i128::from(edge) || inside && time == moment + i128::from(edge);
        let before = |edge: i64, inside: bool| time < moment + i128::from(edge) || inside && time == moment + i128::from(edge);
        self.from.is_none_or(|(edge, inside)| after(edge, inside)) && before(self.to.0, self.to.1)
    }
    /// Narrows it to what ends here.
    pub fn end(&mut self, edge: i64, inside: bool) {
        if edge < self.to.0 || (edge == self.to.0 && !inside) {
            self.to = (edge, inside);
        }
    }
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What it computes.
    pub what: What,
    /// The number of its argument.
    pub argument: Option<usize>,
    /// The number of the argument that says which row is the first, where that is not the time.
    pub by: Option<usize>,
    /// The number of its filter.
    pub filter: Option<usize>,
    /// The number of its window.
    pub window: usize,
}

/// What a call computes of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// How many rows have a value, or how many there are.
    Count,
    /// How many different values there are.
    CountDistinct,
    /// The sum of the values.
    Sum,
    /// Their mean.
    Avg,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// The oldest row.
    First,
    /// The newest row.
    Last,
    /// The first row in an order of its own, the oldest of equal ones.
    FirstBy(Direction),
    /// The last row in an order of its own, the newest of equal ones.
    LastBy(Direction),
    /// What lies above this share of the values, in proportion between two of them.
    Quantile(Share),
    /// Variance, over the count less this, or its root.
    Spread {
        /// Whether it is the root: the standard deviation.
        root: bool,
        /// 0 of a population, 1 of a sample.
        less: u64,
    },
}

impl What {
    /// Whether it is a row, of which any column may be wanted.
    pub fn is_row(self) -> bool {
        matches!(self, What::First | What::Last | What::FirstBy(_) | What::LastBy(_))
    }
}

/// Which of two values comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direction {
    /// Whether the greatest does.
    pub descending: bool,
    /// Whether NULL comes before every value.
    pub nulls_first: bool,
}

/// A share of some values, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u64);

impl Share {
    /// Half of them.
    pub const HALF: Share = Share(0x3fe0_0000_0000_0000);
    /// `None` if it is not from 0 to 1.
    pub fn new(share: f64) -> Option<Share> {
        // Zero has one sign here.
        (0.0..=1.0).contains(&share).then(|| Share((share + 0.0).to_bits()))
    }
    /// As a float.
    pub fn value(self) -> f64 {
        f64::from_bits(self.0)
    }
}
