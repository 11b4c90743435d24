//! Parity: whether served features are, to the bit, what the same definition gives for the same moment from the stored tables. Pure.
//!
//! A served vector that differs from what is computed now is held against what is computed from the rows that serving had then. If that is
//! equal, nothing is wrong: rows came later ([`Found::Late`]), or were there and not yet applied online ([`Found::Behind`]). If it differs
//! too, training and serving do not agree ([`Found::Mismatch`]). To tell more causes apart, add a case to [`Found`] and its count to [`Parity`].

use gristmill_kernel::condition::{Figures, Judged};
use gristmill_kernel::limits::PARITY_SHOWN;
use gristmill_kernel::logged;
use gristmill_kernel::run::Metric;
use gristmill_kernel::{Check, Verdict};
use serde_json::{Map, Value};

/// What was found out about a served vector, the worst last: a vector of several views is what the worst of them is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// It is what is computed now.
    Equal,
    /// It is what is computed without the rows that came after the answer.
    Late,
    /// It is what is computed without the rows that were not applied online when the answer was given, although some had come before.
    Behind,
    /// The rows of then cannot be told from others any more, because a table has been overwritten.
    Unknown,
    /// It is not what is computed from the rows of then.
    Mismatch,
}

/// What an audit came to.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Parity {
    /// Predictions whose features were computed again.
    pub checked: u64,
    /// Those that differ from what is computed now only by rows that came after the answer.
    pub late: u64,
    /// Those that differ only by rows that serving had not yet applied, although some had come before the answer.
    pub behind: u64,
    /// Those that differ from what serving should have answered.
    pub mismatched: u64,
    /// Those that could not be judged, because a table has been overwritten since; they are not among the checked ones.
    pub unknown: u64,
    /// Whether the project's condition holds; `None` where it has none.
    pub verdict: Option<Verdict>,
    /// Some of the mismatches: `prediction 5f3a: activity.spend_90d was 3.5 and is 4.0`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shown: Vec<String>,
}

impl Parity {
    /// Counts one vector.
    pub fn add(&mut self, found: Found) {
        self.checked += u64::from(found != Found::Unknown);
        match found {
            Found::Equal => {}
            Found::Late => self.late += 1,
            Found::Behind => self.behind += 1,
            Found::Unknown => self.unknown += 1,
            Found::Mismatch => self.mismatched += 1,
        }
    }

    /// Shows a difference, as long as there is room.
    pub fn show(&mut self, line: String) {
        if self.shown.len() < PARITY_SHOWN {
            self.shown.push(line);
        }
    }

    /// The share of checked vectors that is wrong; `None` while nothing was checked.
    pub fn mismatch_rate(&self) -> Option<f64> {
        self.rate(self.mismatched)
    }

    fn rate(&self, count: u64) -> Option<f64> {
        (self.checked > 0).then(|| count as f64 / self.checked as f64)
    }

    /// What the project's condition sees: `mismatch_rate`, `late_rate`, `behind_rate`, `checked`.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        for (name, count) in [("mismatch_rate", self.mismatched), ("late_rate", self.late), ("behind_rate", self.behind)] {
            match self.rate(count) {
                Some(rate) => figures.number(name, rate),
                None => figures.missing(name),
            }
        }
        figures.number("checked", self.checked as f64);
        figures
    }

    /// The check of a condition that means trouble.
    pub fn check(&self, condition: &str, judged: &Judged) -> Check {
        let verdict = match judged.holds {
            Some(true) => Verdict::Fail,
            Some(false) => Verdict::Pass,
            None => Verdict::Inconclusive,
        };
        let observed = match (verdict, self.shown.first()) {
            (Verdict::Fail, Some(first)) => format!("{}; {first}", self.summary()),
            _ => self.summary(),
        };
        Check { condition: format!("parity: {condition}"), verdict, observed }
    }

    /// The metrics of the run.
    pub fn metrics(&self) -> Vec<Metric> {
        let counts = [
            ("parity_checked", self.checked),
            ("parity_late", self.late),
            ("parity_behind", self.behind),
            ("parity_mismatched", self.mismatched),
            ("parity_unknown", self.unknown),
        ];
        let counts = counts.into_iter().map(|(name, count)| Metric::new(name, count as f64));
        counts.chain(self.mismatch_rate().map(|rate| Metric::new("mismatch_rate", rate))).collect()
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let mut text = match self.mismatched {
            0 => format!("{} feature vectors computed again, none differs", self.checked),
            n => format!("{} feature vectors computed again, {n} differ", self.checked),
        };
        for (count, why) in [(self.late, "late rows"), (self.behind, "rows not yet applied"), (self.unknown, "not to be judged")] {
            if count > 0 {
                text += &format!(", {count} {why}");
            }
        }
        text
    }
}

/// The features of one view that differ between a served vector and the same computed again: name, what was served, what is computed.
pub fn differing<'a>(view: &str, served: &'a Map<String, Value>, again: &'a Map<String, Value>) -> Vec<(&'a str, &'a Value, &'a Value)> {
    let prefix = format!("{view}.");
    let own = served.iter().filter(|(name, _)| name.starts_with(&prefix));
    own.filter_map(|(name, was)| {
        let is = again.get(&name[prefix.len()..]).unwrap_or(&Value::Null);
        (!logged::same(was, is)).then_some((name.as_str(), was, is))
    })
    .collect()
}

/// A difference for people.
pub fn line(prediction: &str, differences: &[(&str, &Value, &Value)]) -> String {
    let short: String = prediction.chars().take(8).collect();
    match differences {
        [] => format!("prediction {short}"),
        [(name, was, is)] => format!("prediction {short}: {name} was {was} and is {is}"),
        [(name, was, is), rest @ ..] => format!("prediction {short}: {name} was {was} and is {is}, and {} more", rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn bits_decide_and_other_views_do_not() {
        let served = map(json!({ "v.a": 0.1 + 0.2, "v.b": 5, "v.n": null, "v.x": "NaN", "w.a": 7 }));
        assert!(differing("v", &served, &map(json!({ "a": 0.1 + 0.2, "b": 5, "n": null, "x": "NaN", "more": 1 }))).is_empty());
        let again = map(json!({ "a": 0.3, "b": 5.0, "n": 0.0, "x": null }));
        let found = differing("v", &served, &again);
        assert_eq!(found.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), ["v.a", "v.b", "v.n", "v.x"]);
        assert_eq!(line("0123456789", &found[..1]), "prediction 01234567: v.a was 0.30000000000000004 and is 0.3");
        assert_eq!(line("0123456789", &found), "prediction 01234567: v.a was 0.30000000000000004 and is 0.3, and 3 more");
        assert!(differing("u", &served, &again).is_empty());
    }

    #[test]
    fn what_cannot_be_judged_is_not_checked() {
        let mut parity = Parity::default();
        assert_eq!((parity.mismatch_rate(), parity.metrics().len()), (None, 5));
        for found in [Found::Equal, Found::Equal, Found::Late, Found::Behind, Found::Unknown] {
            parity.add(found);
        }
        assert_eq!(
            parity.summary(),
            "4 feature vectors computed again, none differs, 1 late rows, 1 rows not yet applied, 1 not to be judged"
        );
        parity.add(Found::Mismatch);
        assert_eq!((parity.checked, parity.unknown, parity.mismatch_rate()), (5, 1, Some(0.2)));
        assert_eq!(parity.metrics().last().map(|m| (m.key.as_str(), m.value)), Some(("mismatch_rate", 0.2)));
        let holds = |holds| parity.check("mismatch_rate > 0", &Judged { holds, observed: String::new() }).verdict;
        assert_eq!((holds(Some(true)), holds(Some(false)), holds(None)), (Verdict::Fail, Verdict::Pass, Verdict::Inconclusive));
    }

    #[test]
    fn only_some_differences_are_shown() {
        let mut parity = Parity::default();
        (0..PARITY_SHOWN + 5).for_each(|n| parity.show(n.to_string()));
        assert_eq!(parity.shown.len(), PARITY_SHOWN);
    }
}
