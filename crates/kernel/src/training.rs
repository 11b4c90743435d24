//! The training set: what `features` writes and `train` reads. One Parquet blob and the record here in the version's `meta`.
//!
//! Columns of the blob, in this order: the entity's columns, [`TIME`] (Timestamp(us, UTC)), [`LABEL`] (Boolean, Int64, Float64 or Utf8), [`SPLIT`] (Utf8:
//! `train` or `test`), [`GROUP`] (Utf8, only with a group), then one column per feature named `view.column`. Rows are in the order of the label query.

use crate::view::FeatureType;

/// The moment of a row.
pub const TIME: &str = "__time";
/// The outcome of a row.
pub const LABEL: &str = "__label";
/// `train` or `test`.
pub const SPLIT: &str = "__split";
/// The group of a row, for grouped splits and ranking.
pub const GROUP: &str = "__group";

/// How rows are held out for the figures that gates judge. Rows of `test` are never trained or tuned on.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Split {
    /// The latest moments: the share of distinct moments (at least one) that makes at least `test` of the rows.
    Time {
        /// Share of the rows, between 0 and 1.
        test: f64,
    },
    /// A draw by a hash of entity and moment, the same in every run.
    Random {
        /// Share of the rows.
        test: f64,
    },
    /// Whole groups, by a hash of the group column.
    Group {
        /// Share of the groups.
        test: f64,
        /// The column of the label set or entity that names the group.
        column: String,
    },
}

impl Default for Split {
    fn default() -> Split {
        Split::Time { test: 0.2 }
    }
}

/// Which rows a label sees, besides that they lie before its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownRows {
    /// All that are known now, those too that came later than the label's moment (the default).
    #[default]
    Now,
    /// Those that were available at the label's moment: what serving would have seen.
    Then,
}

impl KnownRows {
    /// Whether it is the default, which is not written.
    pub fn is_now(&self) -> bool {
        *self == KnownRows::Now
    }
}

/// One feature column.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FeatureColumn {
    /// The view.
    pub view: String,
    /// The column in the view.
    pub column: String,
    /// Its type as models see it.
    #[serde(rename = "type")]
    pub kind: FeatureType,
}

impl FeatureColumn {
    /// The column's name in the blob: `view.column`.
    pub fn qualified(&self) -> String {
        format!("{}.{}", self.view, self.column)
    }
}

/// The `meta` of a `training_sets.NAME` version.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TrainingSetMeta {
    /// Format of blob and record.
    pub format: u32,
    /// The entity's columns.
    pub entity: Vec<String>,
    /// The feature columns, in order.
    pub features: Vec<FeatureColumn>,
    /// How the rows were split.
    pub split: Split,
    /// Which rows each label saw.
    #[serde(default, skip_serializing_if = "KnownRows::is_now")]
    pub known: KnownRows,
    /// Rows to train on.
    pub train_rows: u64,
    /// Rows held out.
    pub test_rows: u64,
    /// The first moment held out, for a split by time.
    pub test_from: Option<crate::Timestamp>,
}

impl TrainingSetMeta {
    /// The format this binary writes and the newest it reads.
    pub const FORMAT: u32 = 1;
}
