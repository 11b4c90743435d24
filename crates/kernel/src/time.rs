//! Moments and spans. A moment is microseconds since 1970 in UTC, the resolution of every table.

use crate::error::{Code, Fault, Result};
use std::{fmt, str::FromStr};

/// A moment, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Timestamp {
        Timestamp(micros)
    }
    /// Microseconds since 1970.
    pub const fn micros(self) -> i64 {
        self.0
    }
    /// Milliseconds since 1970.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }
    /// This moment plus a span; stops at the end of time.
    pub fn plus(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_add(span.micros()))
    }
    /// This moment minus a span.
    pub fn minus(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_sub(span.micros()))
    }
    /// The time from `earlier` to here, never negative.
    pub fn since(self, earlier: Timestamp) -> Span {
        Span::from_micros(self.0.saturating_sub(earlier.0).max(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(t) => write!(f, "{t}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}
impl FromStr for Timestamp {
    type Err = Fault;
    /// RFC 3339 with an offset; `2011-09-01` and `2011-09-01 12:00:00` are read as UTC.
    fn from_str(text: &str) -> Result<Timestamp> {
        let bad = || {
            Fault::invalid(Code::BAD_VALUE, format!("`{text}` is not a moment"))
                .fix("write it as 2011-09-01, 2011-09-01T12:00:00 or 2011-09-01T12:00:00Z")
        };
        if let Ok(t) = text.parse::<jiff::Timestamp>() {
            return Ok(Timestamp(t.as_microsecond()));
        }
        let civil = text
            .parse::<jiff::civil::DateTime>()
            .or_else(|_| text.parse::<jiff::civil::Date>().map(|d| d.at(0, 0, 0, 0)))
            .map_err(|_| bad())?;
        let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| bad())?;
        Ok(Timestamp(zoned.timestamp().as_microsecond()))
    }
}
impl TryFrom<String> for Timestamp {
    type Error = Fault;
    fn try_from(text: String) -> Result<Timestamp> {
        text.parse()
    }
}
impl From<Timestamp> for String {
    fn from(t: Timestamp) -> String {
        t.to_string()
    }
}

/// A length of time that is never negative: `"250ms"`, `"30m"`, `"1h30m"`, `"7d"`, `"2w"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(i64);

const UNITS: [(&str, i64); 7] =
    [("w", 7 * 86_400_000_000), ("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

impl Span {
    /// From microseconds; negative becomes zero.
    pub const fn from_micros(micros: i64) -> Span {
        Span(if micros < 0 { 0 } else { micros })
    }
    /// From milliseconds.
    pub const fn from_millis(millis: u64) -> Span {
        Span(millis as i64 * 1_000)
    }
    /// From whole seconds.
    pub const fn from_secs(seconds: u64) -> Span {
        Span(seconds as i64 * 1_000_000)
    }
    /// Microseconds.
    pub const fn micros(self) -> i64 {
        self.0
    }
    /// As the standard library has it.
    pub const fn std(self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0 as u64)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in UNITS {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}
impl FromStr for Span {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Span> {
        let bad =
            || Fault::invalid(Code::BAD_VALUE, format!("`{text}` is not a duration")).fix("write it as 250ms, 30s, 10m, 1h30m, 7d or 2w");
        let mut rest = text.trim();
        let mut total: i64 = 0;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
            let (unit, tail) = tail.split_at(letters);
            let size = UNITS.iter().find(|(u, _)| *u == unit).ok_or_else(bad)?.1;
            let number: i64 = number.parse().map_err(|_| bad())?;
            total = number.checked_mul(size).and_then(|n| total.checked_add(n)).ok_or_else(bad)?;
            rest = tail.trim_start();
        }
        if text.trim().is_empty() {
            return Err(bad());
        }
        Ok(Span(total))
    }
}
impl TryFrom<String> for Span {
    type Error = Fault;
    fn try_from(text: String) -> Result<Span> {
        text.parse()
    }
}
impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_round_trip() {
        for text in ["0s", "250ms", "30m", "1h30m", "2w", "6d23h"] {
            assert_eq!(text.parse::<Span>().expect(text).to_string(), text);
        }
        for bad in ["", "m", "3", "-3m", "3 parsecs", "99999999999999w"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn moments_read_as_utc() {
        let a: Timestamp = "2011-09-01".parse().expect("date");
        let b: Timestamp = "2011-09-01T02:00:00+02:00".parse().expect("offset");
        assert_eq!(a, b);
        assert_eq!(a.to_string().parse::<Timestamp>().expect("round trip"), a);
    }
}
