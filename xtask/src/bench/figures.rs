//! What was measured: figures by round, their medians, and a table of them for people.

use anyhow::Result;
use std::collections::BTreeMap;

/// Figures of one round: name -> (value, unit).
pub type Figures = BTreeMap<String, (f64, String)>;

/// The values of one figure of one contender.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// The unit.
    pub unit: String,
    /// One value per round.
    pub values: Vec<f64>,
}

impl Series {
    /// The middle value; NaN without values.
    pub fn median(&self) -> f64 {
        middle(self.values.clone()).unwrap_or(f64::NAN)
    }
    /// The smallest and the largest value.
    pub fn range(&self) -> (f64, f64) {
        self.values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)))
    }
}

/// The middle one of some values.
pub fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[n / 2]),
        n => Some((values[n / 2 - 1] + values[n / 2]) / 2.0),
    }
}

/// Figure -> contender -> values.
pub type Measured = BTreeMap<String, BTreeMap<String, Series>>;

/// Measures round by round; the first round is thrown away.
pub fn rounds(count: usize, contenders: &[&str], mut measure: impl FnMut() -> Result<BTreeMap<String, Figures>>) -> Result<Measured> {
    let mut measured = Measured::new();
    for round in 0..=count {
        let figures = measure()?;
        eprintln!("round {round} of {count}: {}", contenders.join(", "));
        if round == 0 {
            continue;
        }
        for (contender, figures) in figures {
            for (name, (value, unit)) in figures {
                let series = measured.entry(name).or_default().entry(contender.clone()).or_default();
                series.unit = unit;
                series.values.push(value);
            }
        }
    }
    Ok(measured)
}

/// A table: a line per figure and contender, with the ratio to the first contender.
pub fn table(contenders: &[&str], measured: &Measured) -> String {
    let mut text = format!("{:<20} {:<10} {:>12} {:>12} {:>12}  {:<10} {:>7}\n", "figure", "who", "median", "min", "max", "unit", "ratio");
    for (figure, by) in measured {
        let base = contenders.first().and_then(|c| by.get(*c)).map_or(f64::NAN, Series::median);
        for contender in contenders {
            let Some(series) = by.get(*contender) else { continue };
            let (low, high) = series.range();
            let median = series.median();
            let ratio = median / base;
            text += &format!("{figure:<20} {contender:<10} {median:>12.3} {low:>12.3} {high:>12.3}  {:<10} {ratio:>7.2}\n", series.unit);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_does_not_count_and_the_median_does() {
        let mut next = 0.0;
        let measured = rounds(2, &["a", "b"], || {
            next += 1.0;
            let figures = |v: f64| Figures::from([("read".to_owned(), (v, "us".to_owned()))]);
            Ok(BTreeMap::from([("a".to_owned(), figures(next)), ("b".to_owned(), figures(next * 10.0))]))
        })
        .unwrap();
        assert_eq!(measured["read"]["a"].values, [2.0, 3.0]);
        assert_eq!(measured["read"]["b"].median(), 25.0);
        let table = table(&["a", "b"], &measured);
        assert!(table.contains("10.00") && table.lines().count() == 3, "{table}");
    }
}
