//! Which model an endpoint answers with, as it is written: `churn`, or `mlflow:churn@champion`.
//!
//! The text is the stored form, so that a plain name means today what it meant before there were other choices.

use crate::error::{Code, Fault, Result};
use crate::limits::{ALIAS_CHARS_MAX, MODEL_NAME_CHARS_MAX};
use crate::{AliasName, Name};
use std::{fmt, str::FromStr};

/// What stands before the name of a registered model.
const SCHEME: &str = "mlflow";

/// The model of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ModelChoice {
    /// A model that the project trains.
    Own(Name),
    /// A version that a client registered.
    Registered(RegisteredChoice),
}

/// A version of a registered model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredChoice {
    /// The registered name: free text without `/` and `:`.
    pub name: String,
    /// Which of its versions.
    pub which: RegisteredWhich,
}

/// Which version of a registered model is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisteredWhich {
    /// The newest.
    Latest,
    /// By number: always this one.
    Number(u64),
    /// By alias: whichever it names.
    Alias(AliasName),
}

impl ModelChoice {
    /// The name of the project's own model.
    pub fn own(&self) -> Option<&Name> {
        match self {
            ModelChoice::Own(name) => Some(name),
            ModelChoice::Registered(_) => None,
        }
    }
    /// The registered version.
    pub fn registered(&self) -> Option<&RegisteredChoice> {
        match self {
            ModelChoice::Own(_) => None,
            ModelChoice::Registered(choice) => Some(choice),
        }
    }
}

impl FromStr for ModelChoice {
    type Err = Fault;
    fn from_str(text: &str) -> Result<ModelChoice> {
        let bad = |message: String, fix: String| Err(Fault::invalid(Code::BAD_VALUE, message).fix(fix));
        match text.split_once(':') {
            None => match (Name::new(text), text.split_once('@')) {
                (Ok(name), _) => Ok(ModelChoice::Own(name)),
                (Err(_), Some((name, which))) => bad(
                    format!("`{text}` names a version, but an endpoint follows its own model by itself"),
                    format!("write \"{name}\" for a model of this project, \"{SCHEME}:{name}@{which}\" for a registered one"),
                ),
                (Err(fault), None) => Err(fault),
            },
            Some((SCHEME, version)) => Ok(ModelChoice::Registered(version.parse()?)),
            Some((scheme, version)) => {
                let version = version.trim_start_matches('/');
                let version = if version.contains('@') { version.to_owned() } else { format!("{version}@champion") };
                bad(
                    format!("`{scheme}:` is not where an endpoint's model can be"),
                    format!("write the name of one of the project's models, or \"{SCHEME}:{version}\" for a registered one"),
                )
            }
        }
    }
}

impl FromStr for RegisteredChoice {
    type Err = Fault;
    fn from_str(text: &str) -> Result<RegisteredChoice> {
        let bad = |message: String, fix: String| Err(Fault::invalid(Code::BAD_VALUE, message).fix(fix));
        let (name, which) = match text.rsplit_once('@') {
            Some((name, which)) if !which.is_empty() => (name, which),
            _ => {
                let name = text.trim_end_matches('@');
                return bad(
                    format!("`{SCHEME}:{text}` does not say which version"),
                    format!("add an alias or a number: \"{SCHEME}:{name}@champion\", \"{SCHEME}:{name}@3\""),
                );
            }
        };
        let odd = |c: char| c == '/' || c == ':' || c.is_control();
        if name.trim().is_empty() || name.contains(odd) || name.chars().count() > MODEL_NAME_CHARS_MAX {
            return bad(
                format!("`{}` is not the name of a registered model", name.escape_debug()),
                "use its name as registered, which has no `/` and `:`".into(),
            );
        }
        let digits = which.strip_prefix(['v', 'V']).unwrap_or(which);
        let which = if which.eq_ignore_ascii_case("latest") {
            RegisteredWhich::Latest
        } else if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            match digits.parse() {
                Ok(number) if number > 0 => RegisteredWhich::Number(number),
                _ => return bad(format!("`{which}` is not the number of a version"), "numbers start at 1".into()),
            }
        } else if which.chars().count() > ALIAS_CHARS_MAX {
            return bad(format!("an alias has at most {ALIAS_CHARS_MAX} characters"), "check the alias".into());
        } else {
            RegisteredWhich::Alias(AliasName::new(which)?)
        };
        Ok(RegisteredChoice { name: name.to_owned(), which })
    }
}

impl TryFrom<String> for ModelChoice {
    type Error = Fault;
    fn try_from(text: String) -> Result<ModelChoice> {
        text.parse()
    }
}
impl From<ModelChoice> for String {
    fn from(choice: ModelChoice) -> String {
        choice.to_string()
    }
}
impl From<Name> for ModelChoice {
    fn from(name: Name) -> ModelChoice {
        ModelChoice::Own(name)
    }
}
impl fmt::Display for ModelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelChoice::Own(name) => name.fmt(f),
            ModelChoice::Registered(choice) => choice.fmt(f),
        }
    }
}
impl fmt::Display for RegisteredChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}:{}@", self.name)?;
        match &self.which {
            RegisteredWhich::Latest => f.write_str("latest"),
            RegisteredWhich::Number(number) => number.fmt(f),
            RegisteredWhich::Alias(alias) => alias.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_round_trip() {
        for text in ["churn", "mlflow:churn@champion", "mlflow:churn@3", "mlflow:Churn Model@prod-eu", "mlflow:a@b@latest"] {
            let choice: ModelChoice = text.parse().expect(text);
            assert_eq!(choice.to_string(), text);
            let json = serde_json::to_string(&choice).expect("json");
            assert_eq!(serde_json::from_str::<ModelChoice>(&json).expect("reads"), choice);
        }
        let number: ModelChoice = "mlflow:churn@v12".parse().expect("a number");
        assert_eq!(number.registered().map(|c| &c.which), Some(&RegisteredWhich::Number(12)));
        assert_eq!("churn".parse::<ModelChoice>().expect("own").own().map(Name::as_str), Some("churn"));
    }

    #[test]
    fn what_is_no_choice_says_what_to_write() {
        for (text, fix) in [
            ("churn@champion", "\"mlflow:churn@champion\""),
            ("mlflow:churn", "\"mlflow:churn@champion\""),
            ("mlflow:churn@", "\"mlflow:churn@3\""),
            ("mlflw:churn@champion", "\"mlflow:churn@champion\""),
            ("models:/churn@champion", "\"mlflow:churn@champion\""),
            ("models:/churn", "\"mlflow:churn@champion\""),
            ("mlflow:@3", "its name as registered"),
            ("mlflow:a/b@3", "no `/`"),
            ("mlflow:churn@0", "start at 1"),
            ("mlflow:churn@99999999999999999999", "start at 1"),
            ("mlflow:churn@a b", "use letters"),
            ("Churn", "lowercase"),
        ] {
            let fault = text.parse::<ModelChoice>().expect_err(text);
            assert!(fault.fix.as_deref().is_some_and(|f| f.contains(fix)), "{text}: {fault}");
        }
    }
}
