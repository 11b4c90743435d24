//! What a search asks for: a boolean expression over the fields of a thing, and an order.
//!
//! Protocols parse their own texts into this; stores translate it into their queries. [`Filter::holds`] is the meaning: whatever a store does,
//! it gives what this gives.
//!
//! Meaning: a comparison with a field that is absent does not hold, `!=` and `NOT LIKE`-like ones neither, except where
//! [`Test::or_absent`] says so. `LIKE` knows `%` and `_`; `ILIKE` folds ASCII case; `RLIKE` is a regular expression.

use std::cmp::Ordering;

/// A field of a thing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Field {
    /// A column of its own, by its canonical name: `status`, `start_time`, `name`.
    Attribute(String),
    /// The latest value of a metric; of a logged model, every value that was logged about it (holds if it holds for any of them).
    Metric(String),
    /// Of a logged model: the values of a metric that were measured on one dataset (its name, and its digest if given).
    MetricOn(String, (String, Option<String>)),
    /// A parameter.
    Param(String),
    /// A tag.
    Tag(String),
    /// Of a dataset it reads: `name`, `digest` or `context`. Holds if it holds for any of them.
    Dataset(String),
}

/// A value to compare with.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// How to compare.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// `=`
    Equal(Value),
    /// `!=`
    NotEqual(Value),
    /// `<`
    Less(Value),
    /// `<=`
    LessOrEqual(Value),
    /// `>`
    Greater(Value),
    /// `>=`
    GreaterOrEqual(Value),
    /// `LIKE`
    Like(String),
    /// `ILIKE`
    ILike(String),
    /// `RLIKE`
    RLike(String),
    /// `IN`
    In(Vec<Value>),
    /// `NOT IN`
    NotIn(Vec<Value>),
    /// `BETWEEN`, both ends included
    Between(Value, Value),
    /// `IS NULL`
    IsNull,
    /// `IS NOT NULL`
    IsNotNull,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// The field.
    pub field: Field,
    /// The comparison.
    pub op: Op,
    /// Whether it holds for an absent field too: `tags.x != 'y'` of registered models does.
    pub or_absent: bool,
}

/// A boolean expression; `All([])` holds always.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Every one holds.
    All(Vec<Filter>),
    /// One of them holds.
    Any(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// A comparison.
    Test(Test),
}

impl Default for Filter {
    fn default() -> Filter {
        Filter::All(Vec::new())
    }
}

/// One key of an order. Absent values and NaN come last, whichever the direction.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderBy {
    /// The field.
    pub field: Field,
    /// Upwards.
    pub ascending: bool,
    /// For metrics of logged models: only those measured on this dataset (name, and digest if given).
    pub dataset: Option<(String, Option<String>)>,
}

/// What a filter looks at.
pub trait Fields {
    /// The values of a field: none if absent, several for datasets.
    fn values(&self, field: &Field) -> Vec<Value>;
}

impl Filter {
    /// Whether it holds for a thing: the meaning that stores are held to.
    pub fn holds(&self, thing: &dyn Fields) -> bool {
        match self {
            Filter::All(parts) => parts.iter().all(|p| p.holds(thing)),
            Filter::Any(parts) => parts.iter().any(|p| p.holds(thing)),
            Filter::Not(part) => !part.holds(thing),
            Filter::Test(test) => test.holds(&thing.values(&test.field)),
        }
    }
}

impl Test {
    fn holds(&self, values: &[Value]) -> bool {
        match &self.op {
            Op::IsNull => values.is_empty(),
            Op::IsNotNull => !values.is_empty(),
            _ if values.is_empty() => self.or_absent,
            op => values.iter().any(|value| op.holds(value)),
        }
    }
}

impl Op {
    fn holds(&self, value: &Value) -> bool {
        let is = |other: &Value, wanted: fn(Ordering) -> bool| value.compare(other).is_some_and(wanted);
        match self {
            Op::Equal(other) => is(other, Ordering::is_eq),
            Op::NotEqual(other) => is(other, Ordering::is_ne),
            Op::Less(other) => is(other, Ordering::is_lt),
            Op::LessOrEqual(other) => is(other, Ordering::is_le),
            Op::Greater(other) => is(other, Ordering::is_gt),
            Op::GreaterOrEqual(other) => is(other, Ordering::is_ge),
            Op::Like(pattern) => value.text().is_some_and(|text| like(pattern, text, false)),
            Op::ILike(pattern) => value.text().is_some_and(|text| like(pattern, text, true)),
            // Needs a regular expression engine, which the kernel has not; stores that offer it test this themselves.
            Op::RLike(_) => false,
            Op::In(others) => others.iter().any(|other| is(other, Ordering::is_eq)),
            Op::NotIn(others) => !others.iter().any(|other| is(other, Ordering::is_eq)),
            Op::Between(low, high) => is(low, Ordering::is_ge) && is(high, Ordering::is_le),
            Op::IsNull => false,
            Op::IsNotNull => true,
        }
    }
}

impl Value {
    fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Number(_) => None,
        }
    }
    /// The order of two values of one kind; NaN compares with nothing.
    pub fn compare(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Number(a), Value::Number(b)) => a.partial_cmp(b),
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

/// SQL's `LIKE`: `%` is any text, `_` any character. `fold` ignores ASCII case.
pub fn like(pattern: &str, text: &str, fold: bool) -> bool {
    let same = |a: char, b: char| if fold { a.eq_ignore_ascii_case(&b) } else { a == b };
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // The usual two-pointer walk: on a mismatch go back to the last `%` and let it take one character more.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('%') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '_' || same(c, text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    p = at + 1;
                    t = taken + 1;
                    star = Some((at, taken + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '%')
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One(Vec<(Field, Value)>);
    impl Fields for One {
        fn values(&self, field: &Field) -> Vec<Value> {
            self.0.iter().filter(|(f, _)| f == field).map(|(_, v)| v.clone()).collect()
        }
    }

    #[test]
    fn like_is_sqls() {
        for (pattern, text, fold, holds) in [
            ("%", "", false, true),
            ("a%c", "abbc", false, true),
            ("a%c", "abbd", false, false),
            ("a_c", "abc", false, true),
            ("a_c", "ac", false, false),
            ("%aab", "aaaab", false, true),
            ("ABC%", "abcd", true, true),
            ("ABC%", "abcd", false, false),
            ("", "a", false, false),
        ] {
            assert_eq!(like(pattern, text, fold), holds, "{pattern} {text}");
        }
    }

    #[test]
    fn absent_fields_hold_nothing_unless_asked() {
        let metric = Field::Metric("auc".into());
        let run = One(vec![(metric.clone(), Value::Number(0.8))]);
        let test = |field: &Field, op, or_absent| Filter::Test(Test { field: field.clone(), op, or_absent });
        let absent = Field::Tag("x".into());
        assert!(test(&metric, Op::Greater(Value::Number(0.7)), false).holds(&run));
        assert!(!test(&absent, Op::NotEqual(Value::Text("y".into())), false).holds(&run));
        assert!(test(&absent, Op::NotEqual(Value::Text("y".into())), true).holds(&run));
        assert!(test(&absent, Op::IsNull, false).holds(&run));
        assert!(Filter::default().holds(&run));
        assert!(!Filter::Any(Vec::new()).holds(&run));
    }

    #[test]
    fn nan_compares_with_nothing() {
        let metric = Field::Metric("auc".into());
        let run = One(vec![(metric.clone(), Value::Number(f64::NAN))]);
        for op in [Op::Equal(Value::Number(0.0)), Op::NotEqual(Value::Number(0.0)), Op::Less(Value::Number(1.0))] {
            assert!(!Filter::Test(Test { field: metric.clone(), op, or_absent: false }).holds(&run));
        }
    }
}
