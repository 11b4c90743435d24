//! Small texts with a meaning: `"5%"`, `"0.01..0.3"`, `"direct"`, an expectation that is a string or a table.
//!
//! Invariant: a value of these types is valid. Their errors carry kind, code and fix in the form of
//! [`Fault`]'s display, which [`crate::read`] takes apart again, because serde passes on only a text.

use gristmill_kernel::{Code, Fault};
use gristmill_train::spec::Range;
use gristmill_validate::spec::Otherwise;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

pub(crate) fn custom<E: Error>(fault: Fault) -> E {
    E::custom(fault)
}

/// A share of the traffic, in per mille: `"5%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

impl std::str::FromStr for Share {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Share, Fault> {
        let bad = || Fault::invalid(Code::BAD_VALUE, format!("`{text}` is not a share")).fix("write it as \"5%\", above 0% and up to 100%");
        let number: f64 = text.trim().strip_suffix('%').ok_or_else(bad)?.trim().parse().map_err(|_| bad())?;
        let mille = (number * 10.0).round();
        if !(1.0..=1000.0).contains(&mille) || (mille - number * 10.0).abs() > 1e-9 {
            return Err(bad());
        }
        Ok(Share(mille as u32))
    }
}
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(10) { write!(f, "{}%", self.0 / 10) } else { write!(f, "{}.{}%", self.0 / 10, self.0 % 10) }
    }
}
impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Share, D::Error> {
        String::deserialize(from)?.parse().map_err(custom)
    }
}
impl serde::Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// A searched parameter: `"low..high"` or a list of choices.
#[derive(Debug, Clone, PartialEq)]
pub struct Searched(pub Range);

impl Searched {
    /// Reads `low..high`.
    pub fn parse(text: &str) -> Result<Searched, Fault> {
        let fix = "write it as \"low..high\" with low below high, for example \"0.01..0.3\" or \"3..8\", or as a list of choices";
        let bad = || Fault::invalid(Code::BAD_VALUE, format!("`{text}` is not a range")).fix(fix);
        let (low, high) = text.split_once("..").ok_or_else(bad)?;
        let (low, high) = (low.trim(), high.trim());
        if let (Ok(low), Ok(high)) = (low.parse::<i64>(), high.parse::<i64>()) {
            return if low < high { Ok(Searched(Range::Int { low, high })) } else { Err(bad()) };
        }
        let (low, high) = (low.parse::<f64>().map_err(|_| bad())?, high.parse::<f64>().map_err(|_| bad())?);
        if low.is_finite() && high.is_finite() && low < high { Ok(Searched(Range::Float { low, high })) } else { Err(bad()) }
    }
}
impl<'de> Deserialize<'de> for Searched {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Searched, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Searched;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a range \"low..high\" or a list of choices")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Searched, E> {
                Searched::parse(text).map_err(custom)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Searched, A::Error> {
                let mut choices = Vec::new();
                while let Some(choice) = list.next_element::<serde_json::Value>()? {
                    choices.push(choice);
                }
                if choices.is_empty() {
                    return Err(custom(Fault::invalid(Code::BAD_VALUE, "an empty list of choices").fix("list at least one choice")));
                }
                Ok(Searched(Range::Choice { choices }))
            }
        }
        from.deserialize_any(V)
    }
}
impl serde::Serialize for Searched {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Range::Int { low, high } => to.collect_str(&format_args!("{low}..{high}")),
            Range::Float { low, high } => to.collect_str(&format_args!("{low}..{high}")),
            Range::Choice { choices } => choices.serialize(to),
        }
    }
}

/// One entry of `expect`: a condition, or a table with a severity.
#[derive(Debug, Clone, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct Expect {
    /// A SQL boolean over a row, or `unique(column, ...)`, `fresh('2 minutes')`.
    pub that: String,
    /// The share of rows that must hold for the verdict to pass; all of them unless given. Quarantined rows only warn unless a share is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// What happens to rows that fail: `quarantine` (the default), `warn` or `fail`.
    #[serde(rename = "else")]
    #[schemars(with = "String")]
    pub otherwise: Otherwise,
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Expect, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            that: String,
            at_least: Option<Fraction>,
            #[serde(default, rename = "else")]
            otherwise: Otherwise,
        }
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Expect;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a condition, or a table with `that`, `at_least` and `else`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Expect, E> {
                Ok(Expect { that: text.to_owned(), at_least: None, otherwise: Otherwise::Quarantine })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Expect, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Expect { that: table.that, at_least: table.at_least.map(|f| f.0), otherwise: table.otherwise })
            }
        }
        from.deserialize_any(V)
    }
}

/// A number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Fraction(pub f64);

impl<'de> Deserialize<'de> for Fraction {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Fraction, D::Error> {
        let number = f64::deserialize(from)?;
        if (0.0..=1.0).contains(&number) {
            return Ok(Fraction(number));
        }
        Err(custom(Fault::invalid(Code::BAD_VALUE, format!("`{number}` is not a share between 0 and 1")).fix("write 20 % as 0.2")))
    }
}

/// One text or several: `to = "..."`, `entity = ["user_id", "ad_id"]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Many(pub Vec<String>);

impl<'de> Deserialize<'de> for Many {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Many, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Many;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Many, E> {
                Ok(Many(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Many, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    all.push(one);
                }
                Ok(Many(all))
            }
        }
        from.deserialize_any(V)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_per_mille() {
        for (text, mille) in [("5%", 5 * 10), ("0.5%", 5), ("100%", 1000)] {
            assert_eq!(text.parse::<Share>().expect(text), Share(mille));
            assert_eq!(Share(mille).to_string(), text);
        }
        for bad in ["0%", "101%", "5", "-1%", "0.01%", "x%"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_keep_their_kind() {
        assert_eq!(Searched::parse("3..8").expect("int").0, Range::Int { low: 3, high: 8 });
        assert_eq!(Searched::parse("1e-4..1e-2").expect("float").0, Range::Float { low: 1e-4, high: 1e-2 });
        for bad in ["3", "8..3", "a..b", "..", "1..inf", "3..3"] {
            assert!(Searched::parse(bad).is_err(), "{bad}");
        }
    }
}
