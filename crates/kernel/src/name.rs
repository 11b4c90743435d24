//! Names and addresses: the wiring of a project.
//!
//! One address everywhere: `[models.churn]` in the file is `gristmill run models.churn`, `/models/churn` in the
//! UI and the audit target `models.churn`. A value of these types is valid; parsing is the only way in.

use crate::error::{Code, Fault, Result};
use crate::limits::{ALIAS_CHARS_MAX, NAME_CHARS_MAX};
use std::{fmt, str::FromStr};

/// The name of one asset: a lowercase letter, then lowercase letters, digits and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Checks and takes a name.
    pub fn new(text: impl Into<String>) -> Result<Name> {
        let text = text.into();
        let mut chars = text.chars();
        let well_formed =
            chars.next().is_some_and(|c| c.is_ascii_lowercase()) && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !well_formed || text.len() > NAME_CHARS_MAX {
            return Err(Fault::invalid(Code::BAD_VALUE, format!("`{text}` is not a name"))
                .fix(format!("use a lowercase letter, then lowercase letters, digits and `_`, at most {NAME_CHARS_MAX}")));
        }
        Ok(Name(text))
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = Fault;
    fn try_from(text: String) -> Result<Name> {
        Name::new(text)
    }
}
impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}
impl FromStr for Name {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Name> {
        Name::new(text)
    }
}
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kinds of asset, in the order the data takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssetKind {
    /// Rows as they arrived, before validation.
    Raw,
    /// Rows that passed validation: what a table name in SQL means.
    Sources,
    /// Rows that did not.
    Quarantine,
    /// What validation saw: a profile of every column and the verdict of every expectation.
    Profiles,
    /// A feature view.
    Features,
    /// A label set.
    Labels,
    /// Labels joined with features as of each label's moment, split.
    TrainingSets,
    /// A trained model.
    Models,
    /// What the gates of a model said about a version.
    Gates,
    /// What an endpoint answers with: a deployment.
    Endpoints,
    /// What an endpoint answered.
    Predictions,
    /// What monitoring of an endpoint saw.
    Monitors,
    /// A whole pass over part of the graph.
    Flows,
    /// A group of tracked runs that clients write: `experiments.e7`.
    Experiments,
}

impl AssetKind {
    /// Every kind, in order.
    pub const ALL: [AssetKind; 14] = [
        AssetKind::Raw,
        AssetKind::Sources,
        AssetKind::Quarantine,
        AssetKind::Profiles,
        AssetKind::Features,
        AssetKind::Labels,
        AssetKind::TrainingSets,
        AssetKind::Models,
        AssetKind::Gates,
        AssetKind::Endpoints,
        AssetKind::Predictions,
        AssetKind::Monitors,
        AssetKind::Flows,
        AssetKind::Experiments,
    ];
    /// The word in an address.
    pub fn as_str(self) -> &'static str {
        match self {
            AssetKind::Raw => "raw",
            AssetKind::Sources => "sources",
            AssetKind::Quarantine => "quarantine",
            AssetKind::Profiles => "profiles",
            AssetKind::Features => "features",
            AssetKind::Labels => "labels",
            AssetKind::TrainingSets => "training_sets",
            AssetKind::Models => "models",
            AssetKind::Gates => "gates",
            AssetKind::Endpoints => "endpoints",
            AssetKind::Predictions => "predictions",
            AssetKind::Monitors => "monitors",
            AssetKind::Flows => "flows",
            AssetKind::Experiments => "experiments",
        }
    }
}

impl fmt::Display for AssetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names one asset: `models.churn`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// What it is.
    pub kind: AssetKind,
    /// Which one.
    pub name: Name,
}

impl Address {
    /// An address from its two parts.
    pub fn new(kind: AssetKind, name: Name) -> Address {
        Address { kind, name }
    }
}
impl FromStr for Address {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Address> {
        let kinds = || AssetKind::ALL.map(AssetKind::as_str).join(", ");
        let (kind, name) = text.split_once('.').ok_or_else(|| {
            Fault::invalid(Code::UNKNOWN_ADDRESS, format!("`{text}` is not an address"))
                .fix(format!("write KIND.NAME, for example models.churn; kinds are {}", kinds()))
        })?;
        let kind = AssetKind::ALL.into_iter().find(|k| k.as_str() == kind).ok_or_else(|| {
            Fault::invalid(Code::UNKNOWN_ADDRESS, format!("`{kind}` is not a kind of asset")).fix(format!("kinds are {}", kinds()))
        })?;
        Ok(Address { kind, name: Name::new(name)? })
    }
}
impl TryFrom<String> for Address {
    type Error = Fault;
    fn try_from(text: String) -> Result<Address> {
        text.parse()
    }
}
impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind, self.name)
    }
}

/// The name of an alias: `champion`, `challenger`, `live`: letters and digits of any script, `_` and `-`. `latest` and `vN` are reserved, in
/// any case: they mean the newest version and a number wherever a version is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AliasName(String);

impl AliasName {
    /// Checks and takes an alias name.
    pub fn new(text: impl Into<String>) -> Result<AliasName> {
        let text = text.into();
        let looks_like_number = text.strip_prefix(['v', 'V']).is_some_and(|rest| !rest.is_empty() && rest.chars().all(char::is_numeric));
        let well_formed = !text.is_empty()
            && text.chars().count() <= ALIAS_CHARS_MAX
            && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        if !well_formed || looks_like_number || text.eq_ignore_ascii_case("latest") {
            return Err(Fault::invalid(Code::BAD_VALUE, format!("`{}` is not a free alias name", text.escape_debug()))
                .fix(format!("use letters, digits, `_` and `-`, at most {ALIAS_CHARS_MAX}; `latest` and `v1`, `v2`, ... are reserved")));
        }
        Ok(AliasName(text))
    }
    /// The model version that answers in production.
    pub fn champion() -> AliasName {
        AliasName("champion".into())
    }
    /// The model version that passed its gates and waits for, or is in, its rollout.
    pub fn challenger() -> AliasName {
        AliasName("challenger".into())
    }
    /// The deployment that an endpoint follows.
    pub fn live() -> AliasName {
        AliasName("live".into())
    }
    /// The model version whose rollout was aborted last.
    pub fn rejected() -> AliasName {
        AliasName("rejected".into())
    }
    /// The model version that somebody has approved, for endpoints that ask for it.
    pub fn approved() -> AliasName {
        AliasName("approved".into())
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl TryFrom<String> for AliasName {
    type Error = Fault;
    fn try_from(text: String) -> Result<AliasName> {
        AliasName::new(text)
    }
}
impl From<AliasName> for String {
    fn from(name: AliasName) -> String {
        name.0
    }
}
impl fmt::Display for AliasName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_is_no_name() {
        for good in ["a", "churn", "a_1"] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "1a", "a-b", "a.b", "../x", "é", &"a".repeat(64)] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_round_trip() {
        for kind in AssetKind::ALL {
            let address = Address::new(kind, Name::new("x").expect("a name"));
            assert_eq!(address.to_string().parse::<Address>().expect("round trip"), address);
        }
        assert!("model.churn".parse::<Address>().is_err());
    }

    #[test]
    fn aliases_are_words() {
        for good in ["champion", "v1a", "v", "été-2024", "_", "-", "123", "latest2", &"a".repeat(255), &"é".repeat(255)] {
            assert!(AliasName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "latest", "Latest", "v12", "V12", "v٣", "a b", "a.b", "a/b", "a@b", "../x", "a\n", &"a".repeat(256)] {
            assert!(AliasName::new(bad).is_err(), "{bad}");
        }
    }
}
