//! What was measured, as a table for people, Markdown for a page and JSON for tools. A goal that was missed is said as plainly as one that was
//! reached; nothing here fails because of a time.

use super::super::figures::middle;
use super::server::Who;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a figure is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// Ours is at most this share of theirs.
    AtMost(Who, f64),
    /// Ours is at least so many times theirs.
    AtLeast(Who, f64),
    /// Ours is below this, in the figure's unit.
    Below(f64),
    /// Ours is at most so many times another figure of ours.
    TimesOwn(&'static str, f64),
}

/// One figure of everybody who was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// One value per round.
    pub values: BTreeMap<Who, Vec<f64>>,
    /// What was aimed at.
    pub goals: Vec<Goal>,
}

impl Figure {
    /// The middle value of one of them.
    pub fn median(&self, who: Who) -> Option<f64> {
        middle(self.values.get(&who)?.clone())
    }

    /// Ours as so many times theirs: the middle of the rounds' ratios, since in one round the machine was the same for both. Of the medians
    /// if somebody was not measured in every round.
    pub fn ratio(&self, who: Who) -> Option<f64> {
        let (ours, theirs) = (self.values.get(&Who::Gristmill)?, self.values.get(&who)?);
        if ours.len() != theirs.len() {
            return Some(self.median(Who::Gristmill)? / self.median(who)?);
        }
        middle(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect())
    }
}

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The figures.
    pub figures: Vec<Figure>,
    /// Machine, versions, commands.
    pub facts: Vec<(String, String)>,
    /// What was left out, and why.
    pub missing: Vec<String>,
}

impl Report {
    /// What a goal says, and whether it was reached.
    fn judged(&self, figure: &Figure, goal: Goal) -> Option<(String, bool)> {
        let ours = figure.median(Who::Gristmill)?;
        Some(match goal {
            Goal::AtMost(who, share) => {
                let ratio = figure.ratio(who)?;
                let wanted =
                    if share < 1.0 { format!("1/{:.0} of {}", 1.0 / share, who.name()) } else { format!("{share}x the {}", who.name()) };
                (format!("{wanted}: {ratio:.3}x"), ratio <= share)
            }
            Goal::AtLeast(who, times) => {
                let ratio = figure.ratio(who)?;
                (format!("{times:.0}x {}: {ratio:.1}x", who.name()), ratio >= times)
            }
            Goal::Below(limit) => (format!("under {limit} {}", figure.unit), ours < limit),
            Goal::TimesOwn(other, times) => {
                let base = self.figures.iter().find(|f| f.name == other)?.median(Who::Gristmill)?;
                (format!("{times}x of `{other}`: {:.2}x", ours / base), ours <= base * times)
            }
        })
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let shown = |figure: &Figure, who: Who| figure.median(who).map_or_else(|| "-".to_owned(), number);
        self.figures
            .iter()
            .map(|figure| {
                let goals: Vec<String> = figure
                    .goals
                    .iter()
                    .filter_map(|goal| self.judged(figure, *goal))
                    .map(|(text, reached)| format!("{} {text}", if reached { "reached" } else { "MISSED" }))
                    .collect();
                let ratio =
                    |who: Who| figure.ratio(who).filter(|ratio| ratio.is_finite()).map_or("-".to_owned(), |ratio| format!("{ratio:.4}"));
                let mut row = vec![figure.name.to_owned(), figure.unit.to_owned()];
                row.extend([Who::Gristmill, Who::Mlflow, Who::FastTrackMl, Who::Floor, Who::SyncedFloor].map(|who| shown(figure, who)));
                row.extend([ratio(Who::Mlflow), ratio(Who::FastTrackMl), goals.join("; ")]);
                row
            })
            .collect()
    }

    /// For a terminal.
    pub fn table(&self) -> String {
        let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
        rows.extend(self.rows());
        let widths: Vec<usize> = (0..HEAD.len()).map(|i| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join("  ").trim_end().to_owned() + "\n"
        };
        let mut text: String = rows.iter().map(line).collect();
        for missing in &self.missing {
            text += &format!("left out: {missing}\n");
        }
        text
    }

    /// For a page.
    pub fn markdown(&self) -> String {
        let mut text = String::from("# Experiment tracking, side by side\n\n");
        text += "Medians over the rounds, and of the rounds' ratios; the first round is thrown away. Servers on one core, clients on another, measured in turn.\n\n";
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        text += &line(&HEAD.map(str::to_owned));
        text += &line(&HEAD.map(|_| "---".to_owned()));
        for row in self.rows() {
            text += &line(&row);
        }
        for missing in &self.missing {
            text += &format!("\nLeft out: {missing}\n");
        }
        text += "\n## Machine, versions, commands\n\n";
        for (name, value) in &self.facts {
            text += &format!("- {name}: `{value}`\n");
        }
        text
    }

    /// For tools.
    pub fn json(&self) -> Value {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|figure| {
                let by: serde_json::Map<String, Value> = figure
                    .values
                    .iter()
                    .map(|(who, values)| (who.name().to_owned(), json!({ "median": figure.median(*who), "values": values })))
                    .collect();
                let goals: Vec<Value> = figure
                    .goals
                    .iter()
                    .filter_map(|goal| self.judged(figure, *goal))
                    .map(|(goal, reached)| json!({ "goal": goal, "reached": reached }))
                    .collect();
                json!({ "figure": figure.name, "unit": figure.unit, "by": by, "goals": goals })
            })
            .collect();
        let facts: serde_json::Map<String, Value> = self.facts.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect();
        json!({ "bench": "tracking", "figures": figures, "facts": facts, "left_out": self.missing })
    }
}

const HEAD: [&str; 10] =
    ["figure", "unit", "Gristmill", "MLflow", "FastTrackML", "floor", "synced floor", "/ MLflow", "/ FastTrackML", "goals"];

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1_000.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged_both_ways() {
        let figure = |name, ours: f64, theirs: f64, goals| Figure {
            name,
            unit: "ms",
            values: BTreeMap::from([(Who::Gristmill, vec![ours, ours * 3.0, ours / 2.0]), (Who::Mlflow, vec![theirs])]),
            goals,
        };
        let report = Report {
            figures: vec![
                figure("a", 1.0, 60.0, vec![Goal::AtMost(Who::Mlflow, 0.02), Goal::Below(0.5)]),
                figure("b", 4.0, 1.0, vec![Goal::AtLeast(Who::Mlflow, 3.0), Goal::TimesOwn("a", 3.0)]),
            ],
            ..Report::default()
        };
        let table = report.table();
        assert!(table.contains("reached 1/50 of MLflow: 0.017x; MISSED under 0.5 ms"), "{table}");
        assert!(table.contains("reached 3x MLflow: 4.0x; MISSED 3x of `a`: 4.00x"), "{table}");
        assert_eq!(report.json()["figures"][0]["by"]["Gristmill"]["median"], 1.0);
    }

    #[test]
    fn those_of_one_round_are_compared() {
        // The machine was twice as slow in two rounds, in which ours is compared with theirs of that round.
        let values =
            BTreeMap::from([(Who::Gristmill, vec![1.1, 2.2, 2.2]), (Who::Floor, vec![1.0, 2.0, 2.0]), (Who::Mlflow, vec![60.0, 50.0])]);
        let figure = Figure { name: "a", unit: "ms", values, goals: vec![] };
        assert!(figure.ratio(Who::Floor).is_some_and(|ratio| (ratio - 1.1).abs() < 1e-9));
        let uneven =
            Figure { values: BTreeMap::from([(Who::Gristmill, vec![1.0, 2.0, 9.0]), (Who::Floor, vec![3.0, 1.0, 2.0])]), ..figure };
        // A third, twice and 4.5 times; the medians are equal.
        assert_eq!((uneven.ratio(Who::Floor), uneven.ratio(Who::Mlflow)), (Some(2.0), None));
        let short = BTreeMap::from([(Who::Gristmill, vec![1.0, 4.0, 2.0]), (Who::Floor, vec![4.0])]);
        assert_eq!(Figure { values: short, ..uneven }.ratio(Who::Floor), Some(0.5));
    }
}
