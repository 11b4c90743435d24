//! Times in which no new version takes a step: `fri 16:00 to mon 07:00`, `2026-12-20 to 2027-01-03`. In UTC, the end not included.

use gristmill_kernel::{Code, Fault, Result, Span, Timestamp};
use std::fmt;
use std::str::FromStr;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MINUTE: i64 = 60 * 1_000_000;
const DAY: i64 = 24 * 60 * MINUTE;
const WEEK: i64 = 7 * DAY;
/// Days from the Monday before it to 1970-01-01, a Thursday.
const EPOCH_DAY: i64 = 3;

/// A time in which no new version takes a step.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Freeze {
    text: String,
    when: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Once(Timestamp, Timestamp),
    /// Microseconds since Monday, 00:00.
    Weekly(i64, i64),
}

impl Freeze {
    /// When it ends, if it is on at this moment.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        match self.when {
            When::Once(from, to) => (from <= now && now < to).then_some(to),
            When::Weekly(from, to) => {
                let of_week = (now.micros() + EPOCH_DAY * DAY).rem_euclid(WEEK);
                let length = (to - from).rem_euclid(WEEK);
                let passed = (of_week - from).rem_euclid(WEEK);
                (passed < length).then(|| now.plus(Span::from_micros(length - passed)))
            }
        }
    }
}

/// The last of the freezes that are on, and when it ends.
pub fn frozen(freezes: &[Freeze], now: Timestamp) -> Option<(&Freeze, Timestamp)> {
    freezes.iter().filter_map(|freeze| freeze.until(now).map(|until| (freeze, until))).max_by_key(|(_, until)| *until)
}

fn of_week(text: &str) -> Option<i64> {
    let (day, time) = text.trim().split_once(' ').unwrap_or((text.trim(), "00:00"));
    let day = DAYS.iter().position(|known| day.to_ascii_lowercase().starts_with(known))? as i64;
    let (hour, minute) = time.trim().split_once(':')?;
    let (hour, minute) = (hour.parse::<i64>().ok()?, minute.parse::<i64>().ok()?);
    ((0..24).contains(&hour) && (0..60).contains(&minute)).then_some(day * DAY + (hour * 60 + minute) * MINUTE)
}

impl FromStr for Freeze {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Freeze> {
        let bad = || {
            Fault::invalid(Code::BAD_VALUE, format!("`{text}` is no time to freeze"))
                .fix("write \"fri 16:00 to mon 07:00\" or \"2026-12-20 to 2027-01-03\", in UTC")
        };
        let (from, to) = text.split_once(" to ").ok_or_else(bad)?;
        let when = match (of_week(from), of_week(to)) {
            (Some(from), Some(to)) => When::Weekly(from, to),
            _ => When::Once(from.trim().parse().map_err(|_| bad())?, to.trim().parse().map_err(|_| bad())?),
        };
        let empty = match when {
            When::Once(from, to) => from >= to,
            When::Weekly(from, to) => from == to,
        };
        if empty { Err(bad()) } else { Ok(Freeze { text: text.trim().to_owned(), when }) }
    }
}

impl TryFrom<String> for Freeze {
    type Error = Fault;
    fn try_from(text: String) -> Result<Freeze> {
        text.parse()
    }
}
impl From<Freeze> for String {
    fn from(freeze: Freeze) -> String {
        freeze.text
    }
}
impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a moment")
    }
    fn until(freeze: &str, now: &str) -> Option<Timestamp> {
        freeze.parse::<Freeze>().expect("a freeze").until(at(now))
    }

    #[test]
    fn a_weekend_is_frozen_every_week() {
        // 2026-11-27 is a Friday.
        let weekend = "Friday 16:00 to mon 07:00";
        assert_eq!(until(weekend, "2026-11-27T15:59:59Z"), None);
        for inside in ["2026-11-27T16:00:00Z", "2026-11-29T12:00:00Z", "2026-11-30T06:59:59Z"] {
            assert_eq!(until(weekend, inside), Some(at("2026-11-30T07:00:00Z")), "{inside}");
        }
        assert_eq!(until(weekend, "2026-11-30T07:00:00Z"), None);
        assert_eq!(until("tue to wed", "2026-12-01T23:00:00Z"), Some(at("2026-12-02")));
        assert_eq!(until("tue to wed", "1969-12-30T23:00:00Z"), Some(at("1969-12-31")), "before 1970 too");
    }

    #[test]
    fn a_season_is_frozen_once() {
        let season = "2026-12-20 to 2027-01-03";
        assert_eq!(until(season, "2026-12-19T23:59:59Z"), None);
        assert_eq!(until(season, "2026-12-20"), Some(at("2027-01-03")));
        assert_eq!(until(season, "2027-01-03"), None);
    }

    #[test]
    fn the_freeze_that_ends_last_counts() {
        let all: Vec<Freeze> = ["2026-12-20 to 2027-01-03", "sat to mon"].iter().map(|f| f.parse().expect("a freeze")).collect();
        let now = at("2026-12-26T12:00:00Z");
        assert_eq!(frozen(&all, now).map(|(freeze, until)| (freeze.to_string(), until)), Some((all[0].to_string(), at("2027-01-03"))));
        assert_eq!(frozen(&all, at("2027-02-03")), None);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "friday", "fri 16:00 - mon 07:00", "fri 24:00 to mon", "mon to mon", "2027-01-03 to 2026-12-20", "x to y"] {
            assert!(text.parse::<Freeze>().is_err(), "{text}");
        }
    }
}
