//! Versions and aliases. A version is immutable; an alias is the only thing that moves, and each move has
//! an actor and a reason.

use crate::error::{Code, Fault, Result};
use crate::{Actor, Address, AliasName, Digest, RunId, Timestamp};
use std::{fmt, str::FromStr};

/// Names one version: `models.churn@3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct VersionRef {
    /// The asset.
    pub asset: Address,
    /// Its number, from 1. Without gaps per asset, but for versions that were imported with their numbers.
    pub number: u64,
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.asset, self.number)
    }
}

/// Where a version's content is. Never a client's string.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "in")]
pub enum Place {
    /// A content-addressed blob.
    Blob {
        /// The blob's digest.
        digest: Digest,
    },
    /// One version of a table.
    Table {
        /// The table's name.
        table: crate::table::TableName,
        /// The table's version.
        version: u64,
    },
    /// The version is its own `meta`; there is nothing else to read.
    Meta,
}

/// A version about to be written; the ledger gives it a number.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NewVersion {
    /// The asset.
    pub asset: Address,
    /// Digest of the content.
    pub digest: Digest,
    /// Where the content is.
    pub place: Place,
    /// Rows, where that means something.
    pub rows: Option<u64>,
    /// What the stage wants to remember about it (schema, split, positions). Part of the stage's stored format.
    pub meta: serde_json::Value,
}

/// An immutable version of an asset.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Version {
    /// Its name.
    #[serde(flatten)]
    pub id: VersionRef,
    /// Digest of the content.
    pub digest: Digest,
    /// Where the content is.
    pub place: Place,
    /// Rows, where that means something.
    pub rows: Option<u64>,
    /// What the stage remembers about it.
    pub meta: serde_json::Value,
    /// The run that made it.
    pub run: RunId,
    /// When it became visible.
    pub made_at: Timestamp,
}

impl Version {
    /// The blob behind it, if it is a blob.
    pub fn blob(&self) -> Result<Digest> {
        match &self.place {
            Place::Blob { digest } => Ok(*digest),
            _ => Err(Fault::damaged(format!("{} has no blob", self.id))),
        }
    }
}

/// Which version of an asset is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    Latest,
    /// By number.
    Number(u64),
    /// By alias.
    Alias(AliasName),
}

/// An address with an optional version: `models.churn`, `models.churn@3`, `models.churn@champion`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// The asset.
    pub asset: Address,
    /// Which version.
    pub which: Which,
}

impl FromStr for Selector {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Selector> {
        let (asset, which) = text.split_once('@').unwrap_or((text, "latest"));
        let number = which.strip_prefix('v').unwrap_or(which);
        let which = match (which, number.parse::<u64>()) {
            ("latest", _) => Which::Latest,
            (_, Ok(0)) => return Err(Fault::invalid(Code::BAD_VALUE, "version numbers start at 1")),
            (_, Ok(number)) => Which::Number(number),
            (alias, Err(_)) => Which::Alias(AliasName::new(alias)?),
        };
        Ok(Selector { asset: asset.parse()?, which })
    }
}

/// Stands in an alias move inside a [`Finish`](crate::run::Finish) for "the version this run makes of the asset": numbers start
/// at 1 and are given inside the transaction.
pub const NEW_OUTPUT: u64 = 0;

/// A wish to move an alias.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AliasMove {
    /// The asset.
    pub asset: Address,
    /// The alias.
    pub alias: AliasName,
    /// The version it shall name; `None` takes the alias away.
    pub to: Option<u64>,
    /// What it must name now, if that matters: `Some(None)` means "must not exist". A mismatch is a conflict.
    pub expect: Option<Option<u64>>,
    /// Who moves it.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// The run whose verdict allows the move. Without one only a person with `force` may move a gated alias;
    /// `registry` decides, the ledger records.
    pub run: Option<RunId>,
}

/// Where an alias stands.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AliasState {
    /// The asset.
    pub asset: Address,
    /// The alias.
    pub alias: AliasName,
    /// The version it names; `None` in a history line that took it away.
    pub number: Option<u64>,
    /// The version it named before.
    pub previous: Option<u64>,
    /// Who moved it last.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// The run that allowed it.
    pub run: Option<RunId>,
    /// When.
    pub moved_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_parse() {
        let s: Selector = "models.churn@v3".parse().expect("number");
        assert_eq!(s.which, Which::Number(3));
        assert_eq!("models.churn".parse::<Selector>().expect("latest").which, Which::Latest);
        assert_eq!("models.churn@champion".parse::<Selector>().expect("alias").which, Which::Alias(AliasName::champion()));
        assert!("models.churn@0".parse::<Selector>().is_err());
    }
}
