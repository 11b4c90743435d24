//! What the user writes about features, labels and training sets.

use gristmill_kernel::Name;
use gristmill_kernel::training::{KnownRows, Split};
use gristmill_kernel::view::{LabelDef, ViewDef};
use std::collections::BTreeMap;

/// The spec of the three kinds of node of this stage. SQL in it is normalised, so comments and formatting change nothing.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "make")]
pub enum FeaturesSpec {
    /// Node `features.NAME`: brings the kept rows up to date with the sources.
    View {
        /// The view.
        view: ViewDef,
        /// Table name in SQL -> event time column (`None`: snapshot), for every source it reads.
        tables: BTreeMap<String, Option<String>>,
    },
    /// Node `labels.NAME`: runs the label query.
    Labels {
        /// The label set.
        labels: LabelDef,
        /// Table name in SQL -> event time column.
        tables: BTreeMap<String, Option<String>>,
    },
    /// Node `training_sets.NAME`: labels joined with features as of each label's moment, split.
    TrainingSet(TrainingSetSpec),
}

/// What a training set is made of.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TrainingSetSpec {
    /// The model it is for.
    pub name: Name,
    /// The label set.
    pub labels: Name,
    /// The views, in order.
    pub views: Vec<Name>,
    /// How rows are held out.
    pub split: Split,
    /// The column of the label query whose equal values form a group (ranking).
    pub group: Option<String>,
    /// Which rows each label sees.
    #[serde(default, skip_serializing_if = "KnownRows::is_now")]
    pub known: KnownRows,
}
