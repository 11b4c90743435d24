//! As it was known then: rows that came later than a question was asked, although their own time is before it, are not seen.
//!
//! A row says since when it is known, by the moment it became available or by the load that brought it ([`KnownBy`]); each asked row says how far its
//! knowledge of each table reaches ([`Reach`]). Both are whole numbers, so a row is seen if its number is not the greater one: one more condition
//! for what is joined, one more for what is run word for word, and a walk of its own for what slides (`gristmill_slide::known`). Of a
//! snapshot the reach chooses among the loads.

use arrow::array::{Array, Int64Array};
use arrow::datatypes::Int64Type;
use gristmill_kernel::error::{Fault, Result};
use gristmill_kernel::port::Known;
use gristmill_kernel::table::{LOAD, LOADED_AT};

/// By what a row says since when it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownBy {
    /// The moment it became available.
    Moment,
    /// The load that brought it.
    Load,
}

impl KnownBy {
    /// What an evaluation goes by; `None` if it knows everything.
    pub fn of(known: Known<'_>) -> Option<KnownBy> {
        match known {
            Known::Now => None,
            Known::Available(_) => Some(KnownBy::Moment),
            Known::Loads(_) => Some(KnownBy::Load),
        }
    }

    /// SQL for the number of a row; NULL where it does not say.
    pub fn since(self, alias: &str) -> String {
        match self {
            KnownBy::Moment => format!("CAST({} AS BIGINT)", super::view::column_of(alias, LOADED_AT)),
            KnownBy::Load => super::view::column_of(alias, LOAD).to_string(),
        }
    }
}

/// How far the knowledge of asked rows reaches, of one table. A row that does not say knows nothing.
#[derive(Debug, Clone)]
pub struct Reach {
    /// What it is compared with.
    pub by: KnownBy,
    /// Per asked row.
    pub of: Int64Array,
}

impl Reach {
    /// Of a table, for this many asked rows; `None` if everything is known.
    pub fn of(known: Known<'_>, table: &str, asked: usize) -> Result<Option<Reach>> {
        let reach = match known {
            Known::Now => return Ok(None),
            Known::Available(moments) => Reach { by: KnownBy::Moment, of: moments.reinterpret_cast::<Int64Type>() },
            Known::Loads(loads) => {
                let of = loads.get(table).ok_or_else(|| Fault::internal(format!("nobody said which loads of `{table}` are known")))?;
                Reach { by: KnownBy::Load, of: of.clone() }
            }
        };
        if reach.of.len() != asked {
            return Err(Fault::internal(format!("{asked} rows were asked and {} say what they know", reach.of.len())));
        }
        Ok(Some(reach))
    }

    /// Of one asked row.
    pub fn at(&self, row: usize) -> Option<i64> {
        self.of.is_valid(row).then(|| self.of.value(row))
    }
}
