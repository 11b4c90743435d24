//! Views that are computed in the call (`at = "request"`): the same text for label rows and for what callers send, the same bits.

use gristmill_tests::Project;
use serde_json::{Value, json};

const BASKET: &str = r"/*---
entity  = 'customer_id'
at      = 'request'
request = { customer_id = 'int', amount = 'float', kind = 'text' }
---*/
select
  q.customer_id,
  q.amount / avg(e.amount)         as share,
  q.kind = last_value(e.kind)      as same_kind,
  count(e.id)                      as orders_30d
from request q
left join events e on e.customer_id = q.customer_id and e.at > as_of() - interval '30 days'
group by q.customer_id, q.amount, q.kind
";

/// What callers send for a customer, as the label query says it too.
fn sent(customer: i64) -> Value {
    let kind = if customer % 2 == 0 { "sale" } else { "refund" };
    json!({ "customer_id": customer, "amount": customer as f64 * 1.5 + 10.0, "kind": kind })
}

fn shop() -> Project {
    let project = Project::shop();
    project.write("features/basket.sql", BASKET);
    project.edit("gristmill.toml", r#"["activity"]"#, r#"["activity", "basket"]"#);
    let columns = "count(e.id) > 0 as buys, c.customer_id * 1.5 + 10 as amount, case when c.customer_id % 2 = 0 then 'sale' else 'refund' end as kind";
    project.edit("labels/buys.sql", "count(e.id) > 0 as buys", columns);
    project
}

#[test]
fn what_callers_send_gives_the_bits_of_the_training_set() {
    let project = shop();
    project.run(&["apply", "--yes"]).good();
    let rows = project.run(&["dataset", "training_sets.buys", "--format", "jsonl"]).good().out;
    let rows: Vec<Value> = rows.lines().map(|l| serde_json::from_str(l).expect("a row")).collect();
    let shares = rows.iter().filter(|row| row["basket.share"].is_number()).count();
    assert!(rows.len() > 500 && shares > 300, "{shares} of {} rows", rows.len());
    let server = project.start(&["dev", "--port", "0"]);
    server.wait_for("the endpoint", 60, |s| (s.get("/readyz").0 == 200).then_some(()));
    for row in rows.iter().step_by(7) {
        let asked = sent(row["customer_id"].as_i64().expect("a customer"));
        let (status, answer) = server.post("/predict/buys", &json!({ "rows": [asked], "as_of": row["__time"], "explain": true }));
        assert_eq!(status, 200, "{answer}");
        let served = &answer["predictions"][0]["features"];
        for feature in ["basket.share", "basket.same_kind", "basket.orders_30d", "activity.spend_30d"] {
            let bits = |v: &Value| v.as_f64().map(f64::to_bits).or(v.as_bool().map(u64::from));
            assert_eq!(bits(&served[feature]), bits(row.get(feature).unwrap_or(&Value::Null)), "{feature} of {row}, served {served}");
        }
    }

    // Several rows at once; what is not known may be null; numbers of either kind and text that is a number are what was declared.
    let (status, answer) = server.post(
        "/predict/buys",
        &json!({ "rows": [sent(3), { "customer_id": 4, "amount": null, "kind": "sale" }, { "customer_id": 5, "amount": 7, "kind": null }], "explain": true }),
    );
    assert_eq!(status, 200, "{answer}");
    assert!(answer["predictions"][1]["features"]["basket.share"].is_null(), "{answer}");
    assert!(answer["predictions"][1]["features"]["basket.orders_30d"].as_f64().is_some_and(|n| n > 0.0), "{answer}");
    let expected = [
        (json!({ "customer_id": 3, "kind": "sale" }), "amount"),
        (json!({ "customer_id": 3, "amount": "much", "kind": "sale" }), "amount"),
        (json!({ "customer_id": 3, "amount": 1e3, "kind": [] }), "kind"),
    ];
    for (row, named) in expected {
        let (status, answer) = server.post("/predict/buys", &json!({ "rows": [row] }));
        assert_eq!(status, 400, "{answer}");
        let text = answer.to_string();
        assert!(text.contains(named) && answer["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{text}");
    }

    // Feast's clients send what is known only in the call as entities.
    let wanted = json!({ "entities": { "customer_id": [3, 4], "amount": [14.5, 16.0], "kind": ["refund", "sale"] },
                         "features": ["basket:share", "basket:orders_30d", "activity:orders_30d"] });
    let (status, found) = server.post("/get-online-features", &wanted);
    assert_eq!(status, 200, "{found}");
    let (_, one) = server.post("/predict/buys", &json!({ "rows": [sent(3)], "explain": true }));
    assert_eq!(found["results"][3]["values"][0], one["predictions"][0]["features"]["basket.share"], "{found} {one}");
    server.stop();
}

#[test]
fn a_view_says_what_callers_send_and_labels_give_it() {
    let project = shop();
    project.run(&["check"]).good();
    let undeclared = "request = { customer_id = 'int', amount = 'float', kind = 'text' }\n";
    for (from, to, code, told) in [
        (undeclared, "", "E0205", "the header does not say what callers send"),
        ("at      = 'request'\n", "", "E0205", "computed from sources"),
        ("customer_id = 'int', amount", "amount", "E0205", "not among the columns"),
        ("'float'", "'number'", "E0205", "`number`"),
        ("'float'", "'decimal(10,2)'", "E0205", "which JSON cannot say"),
        (", amount = 'float'", "", "E0203", "amount"),
    ] {
        project.write("features/basket.sql", &BASKET.replacen(from, to, 1));
        let ran = project.run(&["check"]).fails_with(1, code);
        assert!(ran.err.contains(told) || ran.out.contains(told), "{to:?}: {}{}", ran.out, ran.err);
    }
    project.write("features/basket.sql", BASKET);

    let case = r#"[[test]]
name    = "half of what is usual"
view    = "basket"
as_of   = "2024-03-10T00:00:00Z"
request = { customer_id = 7, amount = 5.0, kind = "sale" }
expect  = { share = 0.5, same_kind = true, orders_30d = 1 }
[[test.rows.events]]
id = 1
customer_id = 7
at = "2024-03-01T00:00:00Z"
amount = 10.0
kind = "sale"
"#;
    project.write("tests/basket.toml", case);
    project.run(&["test"]).good();
    project.write("tests/basket.toml", &case.replace("amount = 5.0", "amount = 6.0"));
    assert_eq!(project.run(&["test"]).code, 1);
    project.write("tests/basket.toml", &case.replace("amount = 5.0", "amonut = 5.0"));
    let ran = project.run(&["test"]);
    assert!(ran.code == 1 && (ran.err.clone() + &ran.out).contains("did you mean `amount`"), "{}{}", ran.out, ran.err);
    project.write("tests/basket.toml", case);

    project.edit("labels/buys.sql", "c.customer_id * 1.5 + 10 as amount, ", "");
    let ran = project.run(&["apply", "--yes"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.err.contains("amount") && ran.err.contains("label query"), "{}", ran.err);
}
