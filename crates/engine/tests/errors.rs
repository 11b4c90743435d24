//! The words, places and fixes of errors, as users read them.

use crate::support::*;
use arrow::datatypes::{DataType, Field, Schema};
use gristmill_kernel::error::{Code, Fault};
use gristmill_kernel::port::{Engine, TableShape};
use gristmill_kernel::view::{Ties, ViewAt};
use std::collections::BTreeMap;
use std::sync::Arc;

fn shapes() -> BTreeMap<String, TableShape> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("customer_id", DataType::Utf8, true),
        Field::new("event_time", moment_type(), true),
        Field::new("amount", DataType::Float64, true),
        Field::new("kind", DataType::Utf8, true),
    ]));
    BTreeMap::from([("events".to_string(), TableShape { schema, time: Some("event_time".into()) })])
}

async fn fault_of(sql: &str) -> Fault {
    let bench = bench();
    match bench.engine.compile(&view(sql, &["customer_id"], ViewAt::Sources, Ties::Exclude), &shapes()).await {
        Ok(plan) => panic!("{sql} compiled as {}", plan.shape().shape),
        Err(fault) => fault,
    }
}

/// Place, message, code, fix, the marked text.
async fn check(sql: &str, expected: &str, marked: &str) {
    let fault = fault_of(sql).await;
    assert_eq!(fault.to_string(), expected, "{sql}");
    let spot = fault.spot.expect("a place");
    let under: String = spot.text.chars().skip(spot.column - 1).take(spot.width).collect();
    assert_eq!(under, marked, "{sql}");
}

#[tokio::test]
async fn now_in_a_feature() {
    check(
        "select customer_id,\n  count(*) as n\nfrom events\nwhere event_time > now() - interval '7 days'\ngroup by customer_id",
        "features/tested.sql:7:20: `now` in a feature would give training and serving different values [E0207]; \
         fix: write `as_of()`, the moment the feature is asked for",
        "now()",
    )
    .await;
    for word in ["current_timestamp", "current_date"] {
        assert_eq!(
            fault_of(&format!("select customer_id, max({word}) as x from events group by customer_id")).await.code,
            Code::NOW_IN_FEATURE
        );
    }
    for word in ["random()", "uuid()"] {
        assert_eq!(fault_of(&format!("select customer_id, {word} as x from events")).await.code, Code::NOW_IN_FEATURE);
    }
}

#[tokio::test]
async fn an_unknown_table() {
    check(
        "select customer_id, count(*) as n from event group by customer_id",
        "features/tested.sql:4:40: there is no table `event` [E0202]; fix: did you mean `events`? there are: events",
        "event",
    )
    .await;
}

#[tokio::test]
async fn an_unknown_column() {
    check(
        "select customer_id,\n       sum(ammount) as spend\nfrom events group by customer_id",
        "features/tested.sql:5:12: there is no column `ammount` [E0203]; fix: did you mean `amount`? \
         there are: amount, customer_id, event_time, kind",
        "ammount",
    )
    .await;
}

#[tokio::test]
async fn a_text_that_does_not_parse() {
    check(
        "select customer_id\n  sum(amount) as spend\nfrom events",
        "features/tested.sql:5:6: the SQL does not parse: expected: end of statement, found: ( [E0201]; fix: correct the query at the mark",
        "(",
    )
    .await;
}

#[tokio::test]
async fn what_has_no_meaning_as_of_a_moment() {
    for (sql, words) in [
        ("select customer_id, count(*) as n from events group by customer_id order by n", "ORDER BY"),
        ("select customer_id, count(*) as n from events group by customer_id limit 3", "LIMIT"),
        ("select customer_id, count(*) as n from events group by customer_id having count(*) > 1", "HAVING"),
        ("select customer_id, kind, count(*) as n from events group by customer_id, kind", "groups by"),
        ("select count(*) as n from events", "lacks the entity's column"),
        ("select customer_id from events", "no feature"),
        (
            "select customer_id, approx_percentile_cont_with_weight(amount, 1, 0.5) as n from events group by customer_id",
            "approx_percentile_cont_with",
        ),
        ("select customer_id, corr(amount, amount) as n from events group by customer_id", "corr"),
        ("select customer_id, amount + 1 from events", "needs a name"),
    ] {
        let fault = fault_of(sql).await;
        assert_eq!(fault.code, Code::AS_OF_UNSUPPORTED, "{sql}: {fault}");
        assert!(fault.message.contains(words), "{sql}: {fault}");
        assert!(fault.fix.is_some(), "{sql}");
    }
}
