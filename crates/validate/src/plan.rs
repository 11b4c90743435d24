//! Which raw rows to judge now, what becomes of a row, and what an expectation came to. Values in, decisions out.

use crate::spec::{Expectation, Otherwise, ValidateSpec};
use gristmill_kernel::error::{Code, Fault, Kind, Result};
use gristmill_kernel::{Check, Digest, Span, Timestamp, Verdict};

/// What a commit of the accepted or the quarantine table remembers; the stored form is this JSON.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// Format of the record.
    pub format: u32,
    /// Digest of the expectations.
    pub spec: Digest,
    /// The generation of the raw table.
    pub raw_generation: u64,
    /// The pass that wrote this.
    pub pass: i64,
    /// The last raw load before the pass.
    pub after: i64,
    /// The last raw load in it.
    pub upto: i64,
    /// The pass began anew.
    pub rebuilt: bool,
    /// Rows read since the last rebuilding.
    pub read: u64,
    /// Of them accepted.
    pub accepted: u64,
    /// Of them quarantined.
    pub quarantined: u64,
    /// What each expectation saw in this pass.
    #[serde(default)]
    pub counts: Vec<Count>,
}

impl Mark {
    /// The format written and the newest read.
    pub const FORMAT: u32 = 1;

    /// Reads a table's note.
    pub fn of(note: &serde_json::Value, table: &str) -> Result<Option<Mark>> {
        if note.is_null() {
            return Ok(None);
        }
        if note.get("format").and_then(serde_json::Value::as_u64).is_some_and(|f| f > u64::from(Mark::FORMAT)) {
            return Err(Fault::new(Kind::Damaged, Code::NEWER_FORMAT, format!("the record of {table} was written by a newer gristmill"))
                .fix("use that version or a newer one"));
        }
        serde_json::from_value(note.clone()).map(Some).map_err(|e| Fault::damaged(format!("the record of {table} cannot be read: {e}")))
    }
}

/// The digest of what decides about rows.
pub fn spec_digest(spec: &ValidateSpec) -> Digest {
    Digest::of_json(&serde_json::json!({ "time": spec.time, "expect": spec.expect }))
}

/// What to judge now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// Its number.
    pub number: i64,
    /// Loads behind this one.
    pub after: i64,
    /// Up to this one.
    pub upto: i64,
    /// Whether both tables begin anew.
    pub rebuild: bool,
    /// Whether an interrupted pass must be finished exactly as it began: its quarantine is written, its accepted rows are not.
    pub finish: bool,
}

/// Decides the next pass; `None` when everything is judged.
///
/// Both tables count their passes. A quarantine that is ahead belongs to a pass that was interrupted between its two commits: the same pass is finished,
/// with the same loads, unless the rules or the raw table have changed since; then everything begins anew under the next number.
pub fn next_pass(accepted: Option<&Mark>, quarantine: Option<&Mark>, spec: Digest, raw_generation: u64, raw_last: i64) -> Option<Pass> {
    let done = accepted.map_or(0, |m| m.pass);
    let ahead = quarantine.filter(|q| q.pass > done);
    let number = done.max(quarantine.map_or(0, |q| q.pass)) + 1;
    let rebuild = Pass { number, after: 0, upto: raw_last, rebuild: true, finish: false };
    if let Some(begun) = ahead {
        let same = begun.spec == spec && begun.raw_generation == raw_generation && begun.upto <= raw_last;
        return Some(match same {
            true => Pass { number: begun.pass, after: begun.after, upto: begun.upto, rebuild: begun.rebuilt, finish: true },
            false => rebuild,
        });
    }
    let Some(accepted) = accepted else { return Some(rebuild) };
    if accepted.spec != spec || accepted.raw_generation != raw_generation {
        return Some(rebuild);
    }
    (accepted.upto < raw_last).then_some(Pass { number, after: accepted.upto, upto: raw_last, rebuild: false, finish: false })
}

/// What an expectation asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// A SQL boolean over each row.
    Row(String),
    /// `fresh('2 minutes')`: the newest event time is not older.
    Fresh(Span),
}

impl Rule {
    /// Reads an expectation.
    pub fn of(that: &str) -> Result<Rule> {
        let text = that.trim();
        let Some(rest) = text.get(..5).filter(|w| w.eq_ignore_ascii_case("fresh")).and_then(|_| text[5..].trim_start().strip_prefix('('))
        else {
            return Ok(Rule::Row(that.to_owned()));
        };
        let age = rest.strip_suffix(')').map(str::trim).and_then(|t| t.strip_prefix('\'')?.strip_suffix('\''));
        age.and_then(read_age).map(Rule::Fresh).ok_or_else(|| {
            Fault::invalid(Code::BAD_CONDITION, format!("`{that}` is not an age"))
                .fix("write it as fresh('2 minutes'), fresh('30s') or fresh('7 days')")
        })
    }
    /// Whether it must see all rows of a load at once.
    pub fn spans_rows(&self) -> bool {
        matches!(self, Rule::Row(sql) if sql.to_ascii_lowercase().contains("unique"))
    }
}

/// `2 minutes`, `30s`, `1h30m`.
fn read_age(text: &str) -> Option<Span> {
    if let Ok(span) = text.parse::<Span>() {
        return Some(span);
    }
    let (number, unit) = text.trim().split_once(' ')?;
    let unit = match unit.trim().trim_end_matches('s') {
        "second" => "s",
        "minute" => "m",
        "hour" => "h",
        "day" => "d",
        "week" => "w",
        _ => return None,
    };
    format!("{number}{unit}").parse().ok()
}

/// How many rows an expectation saw, and how many failed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Count {
    /// Rows judged.
    pub rows: u64,
    /// Rows for which it does not hold.
    pub failed: u64,
}

/// What an expectation over rows came to. Too many failing rows: `fail` refuses the load, `warn` warns; `quarantine` warns, because the rows are out of
/// the way, unless a share below all of them was demanded and not reached.
pub fn check_rows(expectation: &Expectation, count: Count) -> Check {
    let holds = count.rows - count.failed;
    let enough = count.failed == 0 || holds as f64 >= expectation.at_least * count.rows as f64;
    let verdict = match (count.rows, enough, expectation.otherwise) {
        (0, _, _) => Verdict::Inconclusive,
        (_, true, _) => Verdict::Pass,
        (_, false, Otherwise::Fail) => Verdict::Fail,
        (_, false, Otherwise::Quarantine) if expectation.at_least < 1.0 => Verdict::Fail,
        (_, false, _) => Verdict::Warn,
    };
    let observed = match count.rows {
        0 => "no rows".to_owned(),
        rows => format!("{} failed ({} of {})", percent(count.failed, rows), grouped(count.failed), grouped(rows)),
    };
    Check { condition: expectation.that.clone(), verdict, observed }
}

/// What `fresh` came to.
pub fn check_fresh(expectation: &Expectation, age: Span, newest: Option<Timestamp>, now: Timestamp) -> Check {
    let (verdict, observed) = match newest {
        None => (Verdict::Inconclusive, "no event has a time".to_owned()),
        Some(newest) if now.since(newest) <= age => (Verdict::Pass, format!("newest event at {newest}")),
        Some(newest) => {
            let verdict = if expectation.otherwise == Otherwise::Fail { Verdict::Fail } else { Verdict::Warn };
            (verdict, format!("newest event at {newest}, {} ago", Span::from_micros(now.since(newest).micros() / 1_000_000 * 1_000_000)))
        }
    };
    Check { condition: expectation.that.clone(), verdict, observed }
}

/// The verdict of a run: the worst check; a run without expectations that read rows passes.
pub fn verdict(checks: &[Check], rows: u64) -> Verdict {
    match checks {
        [] if rows > 0 => Verdict::Pass,
        _ => Verdict::worst(checks.iter().map(|c| c.verdict)),
    }
}

/// What becomes of the rows of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sorted {
    /// Per row whether it is accepted.
    pub accepted: Vec<bool>,
    /// Why not, for the others, in order: all the conditions that failed, joined by `; `.
    pub reasons: Vec<String>,
}

/// Sorts rows. `judged` has for each expectation (`None`: not over rows) a boolean per row; `without_time` marks rows without an event time.
pub fn sort(expect: &[Expectation], judged: &[Option<Vec<bool>>], without_time: Option<(&str, Vec<bool>)>, rows: usize) -> Result<Sorted> {
    for column in judged.iter().flatten() {
        if column.len() != rows {
            return Err(Fault::internal(format!("{} judgements for {rows} rows", column.len())));
        }
    }
    let mut sorted = Sorted { accepted: Vec::with_capacity(rows), reasons: Vec::new() };
    for row in 0..rows {
        let mut reasons: Vec<&str> = Vec::new();
        let time_reason = without_time.as_ref().filter(|(_, missing)| missing[row]).map(|(column, _)| format!("{column} is not null"));
        if let Some(reason) = &time_reason {
            reasons.push(reason);
        }
        for (expectation, column) in expect.iter().zip(judged) {
            let fails = column.as_ref().is_some_and(|c| !c[row]);
            if fails && expectation.otherwise == Otherwise::Quarantine && time_reason.as_deref() != Some(&expectation.that) {
                reasons.push(&expectation.that);
            }
        }
        sorted.accepted.push(reasons.is_empty());
        if !reasons.is_empty() {
            sorted.reasons.push(reasons.join("; "));
        }
    }
    Ok(sorted)
}

/// A share for people: `22.77 %`.
pub fn percent(part: u64, whole: u64) -> String {
    let share = if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    if part > 0 && share < 0.01 { "under 0.01 %".to_owned() } else { format!("{share:.2} %") }
}

/// A number with commas: 1,067,371.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(pass: i64, after: i64, upto: i64) -> Mark {
        Mark {
            format: 1,
            spec: Digest::of("a"),
            raw_generation: 1,
            pass,
            after,
            upto,
            rebuilt: false,
            read: 0,
            accepted: 0,
            quarantined: 0,
            counts: vec![],
        }
    }
    fn expectation(that: &str, at_least: f64, otherwise: Otherwise) -> Expectation {
        Expectation { that: that.into(), at_least, otherwise }
    }

    #[test]
    fn new_loads_are_judged_once() {
        let spec = Digest::of("a");
        assert_eq!(next_pass(None, None, spec, 1, 2), Some(Pass { number: 1, after: 0, upto: 2, rebuild: true, finish: false }));
        let accepted = mark(1, 0, 2);
        assert_eq!(next_pass(Some(&accepted), None, spec, 1, 2), None);
        assert_eq!(
            next_pass(Some(&accepted), None, spec, 1, 3),
            Some(Pass { number: 2, after: 2, upto: 3, rebuild: false, finish: false })
        );
        // The quarantine is behind: the last passes had nothing for it.
        let accepted = mark(5, 4, 5);
        assert_eq!(
            next_pass(Some(&accepted), Some(&mark(3, 2, 3)), spec, 1, 6),
            Some(Pass { number: 6, after: 5, upto: 6, rebuild: false, finish: false })
        );
    }

    #[test]
    fn other_rules_or_other_raw_rows_begin_anew() {
        let accepted = mark(4, 2, 3);
        for (spec, generation) in [(Digest::of("b"), 1), (Digest::of("a"), 2)] {
            assert_eq!(
                next_pass(Some(&accepted), Some(&mark(4, 2, 3)), spec, generation, 3),
                Some(Pass { number: 5, after: 0, upto: 3, rebuild: true, finish: false })
            );
        }
    }

    #[test]
    fn an_interrupted_pass_is_finished_as_it_began() {
        let (accepted, quarantine) = (mark(1, 0, 1), mark(2, 1, 2));
        let expected = Pass { number: 2, after: 1, upto: 2, rebuild: false, finish: true };
        assert_eq!(next_pass(Some(&accepted), Some(&quarantine), Digest::of("a"), 1, 7), Some(expected));
        // Unless the rules have changed since: then the half pass is swept away under a number of its own.
        let anew = Pass { number: 3, after: 0, upto: 7, rebuild: true, finish: false };
        assert_eq!(next_pass(Some(&accepted), Some(&quarantine), Digest::of("b"), 1, 7), Some(anew));
        // The very first pass.
        let first = Mark { rebuilt: true, ..mark(1, 0, 2) };
        assert_eq!(
            next_pass(None, Some(&first), Digest::of("a"), 1, 7),
            Some(Pass { number: 1, after: 0, upto: 2, rebuild: true, finish: true })
        );
    }

    #[test]
    fn verdicts_follow_share_and_severity() {
        let check = |at_least, otherwise, rows, failed| check_rows(&expectation("x", at_least, otherwise), Count { rows, failed }).verdict;
        use Otherwise::{Fail, Quarantine, Warn};
        assert_eq!(check(1.0, Quarantine, 10, 0), Verdict::Pass);
        assert_eq!(check(1.0, Quarantine, 10, 1), Verdict::Warn);
        assert_eq!(check(0.9, Quarantine, 10, 1), Verdict::Pass);
        assert_eq!(check(0.9, Quarantine, 10, 2), Verdict::Fail);
        assert_eq!(check(1.0, Warn, 10, 1), Verdict::Warn);
        assert_eq!(check(1.0, Fail, 10, 1), Verdict::Fail);
        assert_eq!(check(0.9, Fail, 10, 1), Verdict::Pass);
        assert_eq!(check(1.0, Quarantine, 0, 0), Verdict::Inconclusive);
        assert_eq!(verdict(&[], 1), Verdict::Pass);
        assert_eq!(verdict(&[], 0), Verdict::Inconclusive);
        let shown = check_rows(&expectation("customer_id is not null", 1.0, Quarantine), Count { rows: 1_067_371, failed: 243_007 });
        assert_eq!(shown.observed, "22.77 % failed (243,007 of 1,067,371)");
    }

    #[test]
    fn rows_are_sorted_with_all_their_reasons() {
        let expect = [
            expectation("a", 1.0, Otherwise::Quarantine),
            expectation("b", 1.0, Otherwise::Warn),
            expectation("c", 1.0, Otherwise::Quarantine),
        ];
        let judged = [Some(vec![true, false, false, true]), Some(vec![false; 4]), Some(vec![true, true, false, true])];
        let sorted = sort(&expect, &judged, Some(("at", vec![false, false, false, true])), 4).expect("sorted");
        assert_eq!(sorted.accepted, [true, false, false, false]);
        assert_eq!(sorted.reasons, ["a", "a; c", "at is not null"]);
        assert!(sort(&expect, &[Some(vec![true])], None, 4).is_err());
    }

    #[test]
    fn ages_are_read() {
        assert_eq!(Rule::of("fresh('2 minutes')").expect("age"), Rule::Fresh(Span::from_secs(120)));
        assert_eq!(Rule::of("FRESH ( '30s' )").expect("age"), Rule::Fresh(Span::from_secs(30)));
        assert_eq!(Rule::of("freshness > 2").expect("row"), Rule::Row("freshness > 2".into()));
        assert!(Rule::of("fresh('soon')").is_err());
        let now = Timestamp::from_micros(100_000_000);
        let fresh =
            |newest| check_fresh(&expectation("fresh('30s')", 1.0, Otherwise::Quarantine), Span::from_secs(30), newest, now).verdict;
        assert_eq!(fresh(Some(Timestamp::from_micros(70_000_000))), Verdict::Pass);
        assert_eq!(fresh(Some(Timestamp::from_micros(69_000_000))), Verdict::Warn);
        assert_eq!(fresh(None), Verdict::Inconclusive);
    }
}
