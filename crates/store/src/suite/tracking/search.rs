//! What searches promise.

use super::{ada, input, model, ms, point, points, refused, run_id, search, tracked, words};
use gristmill_kernel::port::Tracking;
use gristmill_kernel::tracking::filter::{Field, Filter, Op, OrderBy, Test, Value};
use gristmill_kernel::tracking::{
    Batch, DatasetKey, ExperimentId, Lifecycle, LoggedModelStatus, Page, Point, RunUpdate, Search, TrackedRun, ViewType,
};
use gristmill_kernel::{Code, RunStatus};

fn test(field: Field, op: Op) -> Filter {
    Filter::Test(Test { field, op, or_absent: false })
}

fn by(field: Field, ascending: bool) -> OrderBy {
    OrderBy { field, ascending, dataset: None }
}

pub(super) fn numbers(page: &Page<TrackedRun>) -> Vec<u32> {
    page.items.iter().map(|run| u32::from_str_radix(&run.id.0, 16).expect("a number")).collect()
}

pub(super) async fn searches_find_what_holds(tracking: &dyn Tracking) {
    for number in 1..=6u32 {
        tracking.create_run(tracked(number), &ada(), ms(i64::from(number))).await.expect("create");
        let auc = [0.5, 0.9, f64::NAN, 0.7, 0.7, f64::NEG_INFINITY][number as usize - 1];
        let batch = Batch {
            metrics: if number == 5 { vec![] } else { vec![point("auc", auc, 1)] },
            params: if number % 2 == 0 { words(&[("kind", "Tree")]) } else { words(&[("kind", "linear_x")]) },
            tags: if number < 4 { words(&[("team", "100%_a")]) } else { words(&[]) },
        };
        tracking.log(&run_id(number), batch, ms(7)).await.expect("log");
    }
    let ended = RunUpdate { status: Some(RunStatus::Failed), ended_at: Some(ms(70)), name: None };
    tracking.update_run(&run_id(2), ended, &ada(), ms(70)).await.expect("end");
    tracking.log_inputs(&run_id(4), vec![input("rows", "d", "training")], vec![]).await.expect("inputs");
    let auc = || Field::Metric("auc".into());
    let kind = || Field::Param("kind".into());
    let attribute = |name: &str| Field::Attribute(name.into());
    let text = |text: &str| Value::Text(text.into());
    let found = async |filter: Filter, order: Vec<OrderBy>| numbers(&tracking.search_runs(&search(filter, order)).await.expect("search"));
    let all = Filter::default;

    assert_eq!(found(all(), vec![]).await, [6, 5, 4, 3, 2, 1], "newest start first");
    assert_eq!(found(all(), vec![by(auc(), false)]).await, [2, 4, 1, 6, 5, 3], "NaN and absent last");
    assert_eq!(found(all(), vec![by(auc(), true)]).await, [6, 1, 4, 2, 5, 3], "whichever the direction");
    assert_eq!(found(all(), vec![by(kind(), true), by(attribute("start_time"), true)]).await, [2, 4, 6, 1, 3, 5], "capitals first");
    assert_eq!(found(test(auc(), Op::GreaterOrEqual(Value::Number(0.7))), vec![]).await, [4, 2]);
    assert_eq!(found(test(auc(), Op::NotEqual(Value::Number(0.7))), vec![]).await, [6, 2, 1], "neither NaN nor absent");
    assert_eq!(found(Filter::Not(Box::new(test(auc(), Op::Equal(Value::Number(0.7))))), vec![]).await, [6, 5, 3, 2, 1]);
    assert_eq!(found(test(auc(), Op::IsNull), vec![]).await, [5]);
    assert_eq!(found(test(auc(), Op::NotIn(vec![Value::Number(0.7)])), vec![]).await, [6, 3, 2, 1], "NaN is in no list");
    assert_eq!(found(test(auc(), Op::Between(Value::Number(0.5), Value::Number(0.7))), vec![]).await, [4, 1]);
    assert_eq!(found(test(kind(), Op::Like("t%".into())), vec![]).await, [0; 0], "LIKE minds case");
    assert_eq!(found(test(kind(), Op::Like("T_e%".into())), vec![]).await, [6, 4, 2]);
    assert_eq!(found(test(kind(), Op::ILike("t_EE".into())), vec![]).await, [6, 4, 2]);
    assert_eq!(found(test(kind(), Op::Like("linear?x".into())), vec![]).await, [0; 0], "no other wildcards");
    assert_eq!(found(test(Field::Tag("team".into()), Op::Equal(text("100%_a"))), vec![]).await, [3, 2, 1]);
    let not_a = |or_absent| Filter::Test(Test { field: Field::Tag("team".into()), op: Op::NotEqual(text("100%_a")), or_absent });
    assert_eq!((found(not_a(false), vec![]).await, found(not_a(true), vec![]).await), (vec![], vec![6, 5, 4]));
    assert_eq!(found(test(attribute("status"), Op::Equal(text("FAILED"))), vec![]).await, [2]);
    assert_eq!(found(test(attribute("end_time"), Op::Greater(text("69"))), vec![]).await, [2], "a text is read as a number");
    assert_eq!(found(test(attribute("start_time"), Op::Less(Value::Number(3.0))), vec![]).await, [2, 1]);
    assert_eq!(found(test(attribute("run_id"), Op::In(vec![text(&run_id(3).0), text("x")])), vec![]).await, [3]);
    let uri = format!("mlflow-artifacts:/0/{}/artifacts", run_id(1));
    assert_eq!(found(test(attribute("artifact_uri"), Op::Equal(text(&uri))), vec![]).await, [1]);
    for (key, value) in [("name", "rows"), ("digest", "d"), ("context", "training")] {
        assert_eq!(found(test(Field::Dataset(key.into()), Op::Equal(text(value))), vec![]).await, [4], "{key}");
    }
    let either = Filter::Any(vec![test(auc(), Op::Less(Value::Number(0.0))), test(kind(), Op::Equal(text("Tree")))]);
    assert_eq!(found(Filter::All(vec![either, test(auc(), Op::Less(Value::Number(0.8)))]), vec![]).await, [6, 4]);
    assert_eq!(found(Filter::Any(vec![]), vec![]).await, [0; 0]);
    assert_eq!(found(test(kind(), Op::Equal(Value::Number(1.0))), vec![]).await, [0; 0], "a text is no number");

    let page = async |limit, offset| {
        let page = tracking.search_runs(&Search { limit, offset, ..search(all(), vec![by(auc(), false)]) }).await.expect("search");
        (numbers(&page), page.more)
    };
    assert_eq!(page(2, 0).await, (vec![2, 4], true));
    assert_eq!(page(3, 2).await, (vec![1, 6, 5], true), "a page across what has no metric");
    assert_eq!(page(4, 4).await, (vec![5, 3], false));
    assert_eq!(page(4, 9).await, (vec![], false));

    tracking.set_run_lifecycle(&run_id(6), Lifecycle::Deleted, &ada(), ms(8)).await.expect("delete");
    for (view, expected) in [(ViewType::ActiveOnly, 5), (ViewType::DeletedOnly, 1), (ViewType::All, 6)] {
        let page = tracking.search_runs(&Search { view, ..search(all(), vec![]) }).await.expect("search");
        assert_eq!(page.items.len(), expected);
    }
    let nowhere = tracking.search_runs(&Search { experiments: vec![], ..search(all(), vec![]) }).await.expect("search");
    assert!(nowhere.items.is_empty(), "no experiments, no runs");
    let bad = tracking.search_runs(&search(test(attribute("colour"), Op::IsNull), vec![])).await;
    refused(bad.map(|_| ()), Code::BAD_FILTER, "runs have no attribute `colour`");
}

pub(super) async fn searches_of_experiments_and_models(tracking: &dyn Tracking) {
    for (number, name) in ["alpha", "Beta", "gamma"].into_iter().enumerate() {
        let tags = [("n".to_owned(), number.to_string())].into();
        tracking.create_experiment(name, None, tags, &ada(), ms(1_000)).await.expect("create");
    }
    tracking.set_experiment_lifecycle(ExperimentId(3), Lifecycle::Deleted, &ada(), ms(2_000)).await.expect("delete");
    let names = async |view, filter, order| {
        let page = tracking.search_experiments(&Search { view, ..search(filter, order) }).await.expect("search");
        page.items.into_iter().map(|e| e.name).collect::<Vec<_>>()
    };
    let name = || Field::Attribute("name".into());
    assert_eq!(names(ViewType::ActiveOnly, Filter::default(), vec![]).await, ["Beta", "alpha", "Default"], "newest first");
    assert_eq!(names(ViewType::All, Filter::default(), vec![by(name(), true)]).await, ["Beta", "Default", "alpha", "gamma"]);
    assert_eq!(names(ViewType::All, test(name(), Op::ILike("%A".into())), vec![]).await, ["gamma", "Beta", "alpha"]);
    assert_eq!(names(ViewType::All, test(Field::Tag("n".into()), Op::Equal(Value::Text("1".into()))), vec![]).await, ["Beta"]);
    let id = test(Field::Attribute("experiment_id".into()), Op::In(vec![Value::Number(0.0), Value::Text("1".into())]));
    assert_eq!(names(ViewType::All, id, vec![]).await, ["alpha", "Default"]);
    let metric = tracking.search_experiments(&search(test(Field::Metric("m".into()), Op::IsNull), vec![])).await;
    assert_eq!(metric.expect_err("experiments have none").code, Code::BAD_FILTER);

    tracking.create_run(tracked(1), &ada(), ms(1)).await.expect("create");
    for number in 1..=3 {
        tracking.create_logged_model(model(number, Some(1)), ms(1)).await.expect("create");
    }
    let about = |number: u32, value, step, on: &str| Point {
        model: Some(model(number, None).id),
        dataset: (!on.is_empty()).then(|| DatasetKey { name: on.into(), digest: "d".into() }),
        ..point("auc", value, step)
    };
    let logged = vec![about(1, 0.9, 1, "train"), about(1, 0.6, 2, "test"), about(2, 0.8, 1, "test"), about(2, f64::NAN, 9, "")];
    tracking.log(&run_id(1), points(logged), ms(2)).await.expect("log");
    tracking.finish_logged_model(&model(2, None).id, LoggedModelStatus::Ready, ms(3)).await.expect("finish");
    let found = async |filter, order| {
        let page = tracking.search_logged_models(&search(filter, order)).await.expect("search");
        page.items.into_iter().map(|m| m.name).collect::<Vec<_>>()
    };
    let auc = || Field::Metric("auc".into());
    let on_test = || Field::MetricOn("auc".into(), ("test".into(), None));
    let above = |limit| Op::Greater(Value::Number(limit));
    assert_eq!(found(Filter::default(), vec![]).await, ["model-3", "model-2", "model-1"]);
    assert_eq!(found(test(auc(), above(0.7)), vec![]).await, ["model-2", "model-1"], "any of its points");
    assert_eq!(found(test(on_test(), above(0.7)), vec![]).await, ["model-2"]);
    assert_eq!(found(test(Field::Dataset("name".into()), Op::Equal(Value::Text("train".into()))), vec![]).await, ["model-1"]);
    assert_eq!(found(Filter::default(), vec![by(auc(), true)]).await, ["model-1", "model-3", "model-2"], "by the newest; NaN is last");
    let on = OrderBy { dataset: Some(("test".into(), Some("d".into()))), ..by(auc(), false) };
    assert_eq!(found(Filter::default(), vec![on]).await, ["model-2", "model-1", "model-3"]);
    let ready = test(Field::Attribute("status".into()), Op::Equal(Value::Text("READY".into())));
    assert_eq!(found(ready, vec![]).await, ["model-2"]);
    tracking.delete_logged_model(&model(3, None).id, ms(4)).await.expect("delete");
    assert_eq!(found(Filter::default(), vec![]).await, ["model-2", "model-1"]);
}
