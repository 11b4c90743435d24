//! Filters as clients write them: taken, meant, refused, and round trips of everything that can be meant.

use super::*;
use gristmill_kernel::tracking::filter::Fields;
use proptest::prelude::*;

fn test_of(field: Field, op: Op) -> Filter {
    Filter::Test(Test { field, op, or_absent: false })
}
fn text(text: &str) -> Value {
    Value::Text(text.into())
}
fn metric(key: &str) -> Field {
    Field::Metric(key.into())
}
fn attribute_of(name: &str) -> Field {
    Field::Attribute(name.into())
}

#[test]
fn comparisons_of_runs_are_read() {
    let number = |n: f64| Value::Number(n);
    for (written, field, op) in [
        ("metrics.auc > 0.8", metric("auc"), Op::Greater(number(0.8))),
        ("metric.auc>=1e-3", metric("auc"), Op::GreaterOrEqual(number(1e-3))),
        ("metrics.'val loss' = 2", metric("val loss"), Op::Equal(number(2.0))),
        ("metrics.`val loss` < -0.5", metric("val loss"), Op::Less(number(-0.5))),
        ("metrics.\"a.b/c\" <= 2", metric("a.b/c"), Op::LessOrEqual(number(2.0))),
        ("metrics.val.loss = 3", metric("val.loss"), Op::Equal(number(3.0))),
        ("params.lr = '0.1'", Field::Param("lr".into()), Op::Equal(text("0.1"))),
        ("param.lr != \"0.1\"", Field::Param("lr".into()), Op::NotEqual(text("0.1"))),
        ("parameters.model LIKE 'Linear%'", Field::Param("model".into()), Op::Like("Linear%".into())),
        ("tags.`mlflow.source.name` ilike '%x_'", Field::Tag("mlflow.source.name".into()), Op::ILike("%x_".into())),
        ("tag.a IS NULL", Field::Tag("a".into()), Op::IsNull),
        ("tags.a is not null", Field::Tag("a".into()), Op::IsNotNull),
        ("attributes.status = 'FINISHED'", attribute_of("status"), Op::Equal(text("FINISHED"))),
        ("attr.user_id = 'it''s'", attribute_of("user_id"), Op::Equal(text("it's"))),
        ("run.run_name = 'x'", attribute_of("run_name"), Op::Equal(text("x"))),
        ("`Run Name` = 'x'", attribute_of("run_name"), Op::Equal(text("x"))),
        ("attributes.\"Run name\" = 'x'", attribute_of("run_name"), Op::Equal(text("x"))),
        ("Created > 17", attribute_of("start_time"), Op::Greater(number(17.0))),
        ("end_time BETWEEN 1 AND 2", attribute_of("end_time"), Op::Between(number(1.0), number(2.0))),
        ("run_id IN ('a', 'b')", attribute_of("run_id"), Op::In(vec![text("a"), text("b")])),
        ("run_id not in ('a',)", attribute_of("run_id"), Op::NotIn(vec![text("a")])),
        ("metrics.k in (1, 2.5)", metric("k"), Op::In(vec![number(1.0), number(2.5)])),
        ("dataset.name = 'd'", Field::Dataset("name".into()), Op::Equal(text("d"))),
        ("datasets.context NOT IN ('train')", Field::Dataset("context".into()), Op::NotIn(vec![text("train")])),
    ] {
        assert_eq!(runs(written).expect(written), test_of(field, op), "{written}");
    }
    assert_eq!(runs("  ").expect("empty"), Filter::default());
}

#[test]
fn ands_that_are_too_many_or_too_few_are_passed_over_as_mlflow_does() {
    let wanted = runs("metrics.a > 1 AND metrics.b > 2").expect("fits");
    for written in ["metrics.a > 1 metrics.b > 2", "and metrics.a > 1 AND AND metrics.b > 2 AND", "(metrics.a > 1) (AND metrics.b > 2)"] {
        assert_eq!(runs(written).expect(written), wanted, "{written}");
    }
    assert_eq!(runs("AND").expect("nothing"), Filter::default());
}

#[test]
fn and_binds_more_than_or() {
    let test = |n: f64| test_of(metric("a"), Op::Equal(Value::Number(n)));
    let wanted = Filter::Any(vec![test(1.0), Filter::All(vec![test(2.0), test(3.0)]), Filter::Not(Box::new(test(4.0)))]);
    assert_eq!(runs("metrics.a = 1 OR metrics.a = 2 and metrics.a = 3 or NOT metrics.a = 4").expect("fits"), wanted);
    let wanted = Filter::All(vec![Filter::Any(vec![test(1.0), test(2.0)]), test(3.0)]);
    assert_eq!(runs("(metrics.a = 1 OR (metrics.a = 2)) AND metrics.a = 3").expect("fits"), wanted);
}

#[test]
fn filters_that_mean_nothing_are_refused_in_mlflows_words() {
    for (written, told) in [
        ("metrics.acc = LR", "Expected numeric value type for metric. Found LR"),
        ("metrics.acc = 'LR'", "Expected numeric value type for metric. Found 'LR'"),
        ("tags.acc = LR", "value is either not quoted or unidentified quote types used for string value LR"),
        ("params.acc = 123", "Expected a quoted string value for parameter (e.g. 'my-value'). Got value 123"),
        ("params.acc = (1, 2)", "Expected a quoted string value for parameter"),
        ("attributes.acc = 'x'", "Invalid attribute key 'acc' specified. Valid keys are '{'run_id'"),
        ("acc > 0.9", "Invalid attribute key 'acc' specified"),
        ("start_time = 'x'", "Expected numeric value type for numeric attribute: start_time. Found 'x'"),
        ("dataset.size = 'x'", "Invalid dataset key 'size' specified"),
        ("dataset.name = 5", "Expected a quoted string value for dataset attributes"),
        ("m.acc = 1", "Invalid entity type 'm'"),
        ("metrics.acc ~ 1", "Invalid comparator '~' not one of"),
        ("metrics.acc LIKE 1", "Invalid comparator 'LIKE' not one of"),
        ("params.acc > '1'", "Invalid comparator '>' not one of"),
        ("status RLIKE 'x'", "Invalid comparator 'RLIKE' not one of"),
        ("metrics.acc > 1 metrics.b", "Invalid clause(s) in filter string: 'metrics.b'"),
        ("metrics.acc <> 1", "Invalid comparator '<>' not one of"),
        ("metrics.acc > 1 OR", "Invalid clause(s) in filter string"),
        ("OR metrics.acc > 1", "Invalid clause(s) in filter string: 'OR metrics.acc > 1'"),
        ("()", "Invalid clause(s) in filter string: '( )'"),
        ("NOT", "Invalid clause(s) in filter string"),
        ("metrics.acc", "Invalid clause(s) in filter string: 'metrics.acc'"),
        ("metrics.acc >", "Invalid clause(s) in filter string"),
        ("(metrics.acc > 1", "Invalid clause(s) in filter string: '( metrics.acc > 1'"),
        ("metrics.acc > 1)", "Invalid clause(s) in filter string: ')'"),
        ("params.a = 'x", "Invalid clause(s) in filter string: ''x'"),
        ("metrics.acc > 1; metrics.b > 2", "Search filter contained multiple expression"),
        ("run_id IN ()", "expected a non-empty list of string values, but got empty list"),
        ("run_id IN ('a' 'b')", "ill-formed list"),
        ("run_id IN (1, 2)", "got different type in list: 1"),
        ("run_id IN 'a'", "ill-formed list"),
        ("%%", "Invalid clause(s) in filter string: '%'"),
    ] {
        let fault = runs(written).expect_err(written);
        assert!(fault.message.contains(told), "{written}: {}", fault.message);
        assert_eq!(fault.code, Code::BAD_FILTER);
    }
    assert!(runs(&"(".repeat(100)).expect_err("deep").message.contains("nested deeper"));
    assert!(runs(&format!("{} metrics.a = 1", "NOT ".repeat(100_000))).expect_err("deep").message.contains("nested deeper"));
}

/// A thing with these values.
struct Thing(Vec<(Field, Value)>);
impl Fields for Thing {
    fn values(&self, field: &Field) -> Vec<Value> {
        self.0.iter().filter(|(f, _)| f == field).map(|(_, v)| v.clone()).collect()
    }
}

#[test]
fn what_is_not_a_number_differs_from_every_number_and_what_is_absent_from_none() {
    let nan = Thing(vec![(metric("a"), Value::Number(f64::NAN))]);
    let absent = Thing(Vec::new());
    for (written, of_nan) in
        [("metrics.a != 1", true), ("metrics.a = 1", false), ("metrics.a < 1", false), ("metrics.a NOT BETWEEN 0 AND 1", true)]
    {
        let filter = runs(written).expect(written);
        assert_eq!((filter.holds(&nan), filter.holds(&absent)), (of_nan, false), "{written}");
    }
    assert!(!runs("tags.a NOT LIKE 'x'").expect("fits").holds(&absent));
}

#[test]
fn registered_models_leave_prompts_out_unless_asked() {
    let prompt = Thing(vec![(Field::Tag(IS_PROMPT.into()), text("true")), (attribute_of("name"), text("p"))]);
    let model = Thing(vec![(attribute_of("name"), text("m"))]);
    for (written, of_prompt, of_model) in [
        ("", false, true),
        ("name ILIKE '%'", false, true),
        ("tags.`mlflow.prompt.is_prompt` != 'true'", false, true),
        ("tags.`mlflow.prompt.is_prompt` = 'false'", false, true),
        ("tags.`mlflow.prompt.is_prompt` = 'true'", true, false),
        ("tags.`mlflow.prompt.is_prompt` != 'false'", true, false),
        ("name = 'p' AND tag.`mlflow.prompt.is_prompt` = 'True'", true, false),
    ] {
        for filter in [registered_models(written).expect(written), model_versions(written).expect(written)] {
            assert_eq!((filter.holds(&prompt), filter.holds(&model)), (of_prompt, of_model), "{written}");
        }
    }
    assert_eq!(
        registered_models("metrics.a > 1").expect_err("no metrics").message,
        "Invalid entity type 'metrics'. Valid entity types are ('attribute', 'tag', 'tags')"
    );
    assert!(model_versions("version_number > 3 AND run_id IN ('a') AND source_path LIKE 's3%'").is_ok());
    assert!(model_versions("version_number > '3'").is_ok(), "clients quote numbers");
    assert!(model_versions("version_number > 'x'").is_err());
}

#[test]
fn experiments_are_found_by_their_number() {
    let wanted = test_of(attribute_of("experiment_id"), Op::In(vec![Value::Number(1.0), Value::Number(2.0)]));
    assert_eq!(experiments("experiment_id IN ('1', '2')").expect("fits"), wanted);
    assert!(experiments("experiment_id = 'x'").expect_err("no number").message.contains("Experiment ID must be a valid integer"));
    assert!(experiments("experiment_id LIKE '1%'").is_err());
    assert!(experiments("attribute.name LIKE 'a%' AND tags.x IS NULL AND creation_time > 5").is_ok());
    assert!(experiments("attr.name = 'a'").is_err());
}

#[test]
fn logged_models_are_found_by_what_was_measured_on_a_dataset() {
    let on = |key: &str, name: &str| Field::MetricOn(key.into(), (name.into(), None));
    let datasets = [("train".to_owned(), None), ("test".to_owned(), Some("d1".to_owned()))];
    let filter = logged_models("metrics.auc > 0.5 AND status = 'READY'", &datasets).expect("fits");
    let measured = |field: Field, value: f64| Thing(vec![(field, Value::Number(value)), (attribute_of("status"), text("READY"))]);
    assert!(filter.holds(&measured(on("auc", "train"), 0.6)));
    assert!(!filter.holds(&measured(on("auc", "train"), 0.4)));
    assert!(!filter.holds(&measured(metric("auc"), 0.6)));
    assert!(filter.holds(&measured(Field::MetricOn("auc".into(), datasets[1].clone()), 0.6)));
    let filter = logged_models("status = 'READY'", &datasets).expect("fits");
    assert!(filter.holds(&Thing(vec![(attribute_of("status"), text("READY")), (Field::Dataset("name".into()), text("train"))])));
    assert!(!filter.holds(&Thing(vec![(attribute_of("status"), text("READY"))])));
    assert_eq!(
        logged_models("creation_time > 3", &[]).expect("fits"),
        test_of(attribute_of("creation_timestamp"), Op::Greater(Value::Number(3.0)))
    );
}

/// A filter as it may be written; what `parse` understands of it is the filter again.
fn written(filter: &Filter) -> String {
    let joined = |parts: &[Filter], word: &str| format!("({})", parts.iter().map(written).collect::<Vec<_>>().join(word));
    match filter {
        Filter::All(parts) => joined(parts, " AND "),
        Filter::Any(parts) => joined(parts, " OR "),
        Filter::Not(part) => format!("NOT ({})", written(part)),
        Filter::Test(test) => format!("{} {}", written_field(&test.field), written_op(&test.op)),
    }
}

fn written_field(field: &Field) -> String {
    let quoted = |key: &str| format!("`{}`", key.replace('`', "``"));
    match field {
        Field::Attribute(name) => format!("attributes.{}", quoted(name)),
        Field::Metric(key) => format!("metrics.{}", quoted(key)),
        Field::Param(key) => format!("params.{}", quoted(key)),
        Field::Tag(key) => format!("tags.{}", quoted(key)),
        Field::Dataset(key) => format!("datasets.{key}"),
        other => panic!("{other:?} is not written"),
    }
}

fn written_op(op: &Op) -> String {
    let value = |value: &Value| match value {
        Value::Number(number) => format!("{number:?}"),
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
    };
    let list = |values: &[Value]| format!("({})", values.iter().map(value).collect::<Vec<_>>().join(", "));
    let quoted = |pattern: &str| value(&text(pattern));
    match op {
        Op::Equal(v) => format!("= {}", value(v)),
        Op::NotEqual(v) => format!("!= {}", value(v)),
        Op::Less(v) => format!("< {}", value(v)),
        Op::LessOrEqual(v) => format!("<= {}", value(v)),
        Op::Greater(v) => format!("> {}", value(v)),
        Op::GreaterOrEqual(v) => format!(">= {}", value(v)),
        Op::Like(pattern) => format!("LIKE {}", quoted(pattern)),
        Op::ILike(pattern) => format!("ILIKE {}", quoted(pattern)),
        Op::RLike(pattern) => format!("RLIKE {}", quoted(pattern)),
        Op::In(values) => format!("IN {}", list(values)),
        Op::NotIn(values) => format!("NOT IN {}", list(values)),
        Op::Between(low, high) => format!("BETWEEN {} AND {}", value(low), value(high)),
        Op::IsNull => "IS NULL".into(),
        Op::IsNotNull => "IS NOT NULL".into(),
    }
}

fn numeric_test() -> impl Strategy<Value = Filter> {
    let number = || prop_oneof![any::<i32>().prop_map(f64::from), (-1e300f64..1e300), Just(-0.5), Just(1e-7)].prop_map(Value::Number);
    let op = prop_oneof![
        number().prop_map(Op::Equal),
        number().prop_map(Op::Less),
        number().prop_map(Op::LessOrEqual),
        number().prop_map(Op::Greater),
        number().prop_map(Op::GreaterOrEqual),
        (number(), number()).prop_map(|(low, high)| Op::Between(low, high)),
        prop::collection::vec(number(), 1..4).prop_map(Op::In),
        prop::collection::vec(number(), 1..4).prop_map(Op::NotIn),
        Just(Op::IsNull),
        Just(Op::IsNotNull),
    ];
    let field = prop_oneof![any::<String>().prop_map(Field::Metric), Just(attribute_of("start_time")), Just(attribute_of("end_time"))];
    (field, op).prop_map(|(field, op)| test_of(field, op))
}

fn text_test() -> impl Strategy<Value = Filter> {
    let words = || any::<String>().prop_map(Value::Text);
    let op = prop_oneof![
        words().prop_map(Op::Equal),
        words().prop_map(Op::NotEqual),
        any::<String>().prop_map(Op::Like),
        any::<String>().prop_map(Op::ILike),
        prop::collection::vec(words(), 1..4).prop_map(Op::In),
        prop::collection::vec(words(), 1..4).prop_map(Op::NotIn),
        Just(Op::IsNull),
        Just(Op::IsNotNull),
    ];
    let field = prop_oneof![
        any::<String>().prop_map(Field::Param),
        any::<String>().prop_map(Field::Tag),
        Just(attribute_of("run_id")),
        Just(attribute_of("user_id")),
        Just(Field::Dataset("digest".into())),
    ];
    (field, op).prop_map(|(field, op)| test_of(field, op))
}

fn any_filter() -> impl Strategy<Value = Filter> {
    prop_oneof![numeric_test(), text_test()].prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Filter::All),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Filter::Any),
            inner.prop_map(|f| Filter::Not(Box::new(f))),
        ]
    })
}

/// Texts that look like filters, and go wrong anywhere.
fn almost_a_filter() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "metrics.",
            "params.a",
            "tags.`x",
            "`",
            "\"",
            "'",
            "(",
            ")",
            ",",
            "=",
            "!=",
            "<>",
            "~",
            " AND ",
            " OR ",
            " NOT ",
            " IN ",
            " IS ",
            "NULL",
            " BETWEEN ",
            " LIKE ",
            "1",
            "-",
            ".",
            "1e",
            "1e5",
            "..",
            "é",
            ";",
            "\0",
            "run_id",
            "attribute.",
            "''",
            " ",
            "\n",
            "😀",
        ])
        .prop_map(str::to_owned),
        ".{0,3}",
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(filter in any_filter()) {
        prop_assert_eq!(runs(&written(&filter)).expect("ours"), filter);
    }

    #[test]
    fn no_text_makes_the_readers_panic(text in almost_a_filter()) {
        let _ = (runs(&text), experiments(&text), registered_models(&text), model_versions(&text), logged_models(&text, &[]));
        let _ = crate::protocol::mlflow::order::runs(std::slice::from_ref(&text));
        let _ = crate::protocol::mlflow::page_token::read(Some(&text));
        let _ = crate::protocol::mlflow::validate::key(&text, "key");
    }
}
