"""Everyday tracking through the client: params, metrics, tags, nested runs, update, delete and restore."""

from . import scenario


@scenario()
def logging(cx):
    mlflow = cx.mlflow
    cx.experiment()
    cx.step("one run")
    with mlflow.start_run(run_name="first", description="what it is", tags={"team": "growth"}) as run:
        mlflow.log_param("depth", 10)
        mlflow.log_params({"trees": 100, "criterion": "gini", "nothing": None, "text": "ünïcödé ☃ 'quoted' \"too\"", "json": {"a": [1, 2]}})
        mlflow.log_metric("auc", 0.875)
        mlflow.log_metric("loss", 1.5, step=1)
        mlflow.log_metric("loss", 1.25, step=2)
        mlflow.log_metrics({"precision": 0.5, "recall": 0.25}, step=3)
        mlflow.set_tag("stage", "try")
        mlflow.set_tags({"a": 1, "b": "two", "empty": ""})
        mlflow.log_text("some text", "notes/readme.txt")
        mlflow.log_dict({"k": [1, 2, {"x": None}]}, "conf/x.json")
    cx.step("read back")
    back = cx.client.get_run(run.info.run_id)
    cx.see("run", back.to_dictionary())
    cx.see("last metric", sorted(back.data.metrics.items()))
    cx.step("the end of a failed run")
    try:
        with mlflow.start_run(run_name="fails"):
            mlflow.log_metric("before", 1)
            raise ValueError("on purpose")
    except ValueError:
        pass
    cx.see("search", [(r.info.run_name, r.info.status) for r in mlflow.search_runs(output_format="list", order_by=["start_time ASC"])])
    cx.step("a frame")
    frame = mlflow.search_runs(order_by=["attributes.run_name ASC"])
    cx.see("columns", sorted(frame.columns))


@scenario()
def nested(cx):
    mlflow = cx.mlflow
    cx.experiment()
    with mlflow.start_run(run_name="parent") as parent:
        mlflow.log_param("who", "parent")
        for i in range(3):
            with mlflow.start_run(run_name=f"child{i}", nested=True):
                mlflow.log_metric("score", i / 2, step=i)
                if i == 1:
                    with mlflow.start_run(run_name="grandchild", nested=True):
                        mlflow.log_param("deep", True)
    cx.step("children by tag")
    found = mlflow.search_runs(filter_string=f"tags.mlflow.parentRunId = '{parent.info.run_id}'", order_by=["metrics.score DESC"], output_format="list")
    cx.see("children", [r.info.run_name for r in found])
    if cx.version >= (2, 4):
        cx.see("parent", cx.client.get_parent_run(found[0].info.run_id).info.run_name)
        cx.try_("no parent", lambda: cx.client.get_parent_run(parent.info.run_id))


@scenario()
def resume(cx):
    mlflow = cx.mlflow
    cx.experiment()
    with mlflow.start_run() as run:
        mlflow.log_param("p", 1)
    cx.step("again")
    with mlflow.start_run(run_id=run.info.run_id):
        mlflow.log_param("p", 1)
        cx.try_("another value", mlflow.log_param, "p", 2)
        mlflow.log_metric("m", 1.0, step=5, timestamp=1_600_000_000_123)
    cx.see("run", cx.client.get_run(run.info.run_id).to_dictionary())
    cx.try_("unknown run", lambda: mlflow.start_run(run_id="0" * 32))


@scenario()
def lifecycle(cx):
    client, experiment = cx.client, cx.experiment()
    run = client.create_run(experiment, start_time=1_600_000_000_000, tags={"t": "1"}, run_name="mine")
    run_id = run.info.run_id
    cx.see("created", run.to_dictionary())
    cx.step("update")
    client.update_run(run_id, status="FAILED", name="renamed")
    cx.see("updated", client.get_run(run_id).to_dictionary())
    client.set_terminated(run_id, status="KILLED", end_time=1_600_000_001_000)
    cx.see("ended", client.get_run(run_id).info.status)
    cx.step("name by tag")
    client.set_tag(run_id, "mlflow.runName", "by tag")
    cx.see("renamed", client.get_run(run_id).info.run_name)
    client.set_tag(run_id, "mlflow.note.content", "a note")
    client.delete_tag(run_id, "t")
    cx.try_("delete a tag twice", client.delete_tag, run_id, "t")
    cx.try_("delete an unknown tag", client.delete_tag, run_id, "never")
    cx.step("delete")
    client.delete_run(run_id)
    cx.see("deleted", client.get_run(run_id).info.lifecycle_stage)
    for label, act in {
        "log metric": lambda: client.log_metric(run_id, "m", 1),
        "log param": lambda: client.log_param(run_id, "p", 1),
        "set tag": lambda: client.set_tag(run_id, "k", "v"),
        "delete tag": lambda: client.delete_tag(run_id, "mlflow.note.content"),
        "update": lambda: client.update_run(run_id, name="x"),
        "terminate": lambda: client.set_terminated(run_id),
        "delete again": lambda: client.delete_run(run_id),
        "history": lambda: client.get_metric_history(run_id, "m"),
        "artifacts": lambda: client.list_artifacts(run_id),
    }.items():
        cx.try_(label, act)
    cx.step("restore")
    client.restore_run(run_id)
    cx.try_("restore again", client.restore_run, run_id)
    client.log_metric(run_id, "m", 2.0, timestamp=1_600_000_002_000)
    cx.see("back", client.get_run(run_id).to_dictionary())


@scenario()
def histories(cx):
    client, experiment = cx.client, cx.experiment()
    run_id = client.create_run(experiment, start_time=1_600_000_000_000).info.run_id
    cx.step("special values")
    for step, value in enumerate([1.0, float("nan"), float("inf"), float("-inf"), -0.0, 1e-320, 1.7976931348623157e308, 0.1 + 0.2, 2**53, -5]):
        client.log_metric(run_id, "special", value, timestamp=1_600_000_000_000 + step, step=step)
    cx.see("special", [(m.step, m.timestamp, m.value) for m in client.get_metric_history(run_id, "special")])
    cx.step("the same point twice")
    for _ in range(3):
        client.log_metric(run_id, "again", 1.0, timestamp=1_600_000_000_000, step=1)
    client.log_metric(run_id, "again", 2.0, timestamp=1_600_000_000_000, step=1)
    cx.see("again", [(m.step, m.timestamp, m.value) for m in client.get_metric_history(run_id, "again")])
    cx.step("which is the latest")
    points = {
        "by step": [(1.0, 50, 1), (2.0, 40, 2), (3.0, 60, 0)],
        "by time": [(1.0, 50, 1), (2.0, 60, 1), (3.0, 40, 1)],
        "by value": [(3.0, 50, 1), (1.0, 50, 1), (2.0, 50, 1)],
        "negative steps": [(1.0, 50, -5), (2.0, 40, -10)],
        "nan first": [(float("nan"), 50, 1), (1.0, 50, 1)],
        "nan last": [(1.0, 50, 1), (float("nan"), 50, 1)],
        "nan by time": [(1.0, 50, 1), (float("nan"), 60, 1)],
        "inf": [(float("inf"), 50, 1), (1.0, 50, 1)],
        "zero time": [(1.0, 0, 0)],
        "unordered": [(float(i), 100 - i, (i * 7) % 11) for i in range(11)],
    }
    for key, written in points.items():
        for value, timestamp, step in written:
            client.log_metric(run_id, key, value, timestamp=timestamp, step=step)
        cx.see(key, [(m.step, m.timestamp, m.value) for m in client.get_metric_history(run_id, key)])
    cx.see("latest", sorted((k, v) for k, v in client.get_run(run_id).data.metrics.items()))
    cx.see("unknown key", client.get_metric_history(run_id, "never logged"))
    cx.step("pages")
    from mlflow.entities import Metric

    client.log_batch(run_id, [Metric("long", i / 8, 1_600_000_000_000 + i, i) for i in range(1000)])
    for query in (
        {"run_id": run_id, "metric_key": "long", "max_results": 3},
        {"run_uuid": run_id, "metric_key": "again"},
        {"run_id": run_id, "metric_key": "long", "max_results": 25_000},
        {"run_id": run_id, "metric_key": "long", "max_results": 25_001},
        {"run_id": run_id, "metric_key": "long", "max_results": 0},
        {"run_id": run_id, "metric_key": "long", "max_results": -1},
        {"run_id": run_id, "metric_key": "long", "max_results": "x"},
        {"run_id": run_id, "metric_key": "long", "page_token": "nonsense"},
        {"run_id": run_id},
        {"metric_key": "long"},
        {"run_id": "0" * 32, "metric_key": "long"},
        {"run_id": "", "metric_key": "long"},
    ):
        cx.get("metrics/get-history", query)
    status, page = cx.get("metrics/get-history", {"run_id": run_id, "metric_key": "long", "max_results": 400})
    while status == 200 and page.get("next_page_token"):
        status, page = cx.get("metrics/get-history", {"run_id": run_id, "metric_key": "long", "max_results": 400, "page_token": page["next_page_token"]})


@scenario(raw=True)
def bulk_histories(cx):
    experiment = cx.new_experiment()
    runs = [cx.new_run(experiment, run_name=f"r{i}") for i in range(3)]
    for n, run in enumerate(runs):
        for start in range(0, 1000, 500):
            cx.post(
                "runs/log-batch",
                {
                    "run_id": run,
                    "metrics": [
                        {"key": "m", "value": (i * 37 % 101) / 4, "timestamp": 1_600_000_000_000 + i, "step": i * (n + 1)} for i in range(start, start + 500)
                    ],
                },
            )
    cx.post("runs/log-batch", {"run_id": runs[2], "metrics": [{"key": "m", "value": "NaN", "timestamp": 1_600_000_000_000, "step": 7}]})
    cx.step("sampled")
    interval = "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"
    for query in (
        {"run_ids": runs, "metric_key": "m", "max_results": 10},
        {"run_ids": runs[:1], "metric_key": "m", "max_results": 5},
        {"run_ids": runs[:1], "metric_key": "m"},
        {"run_ids": runs, "metric_key": "m", "start_step": 10, "end_step": 40, "max_results": 8},
        {"run_ids": runs, "metric_key": "m", "start_step": 10, "max_results": 8},
        {"run_ids": runs, "metric_key": "m", "start_step": 40, "end_step": 10, "max_results": 8},
        {"run_ids": runs, "metric_key": "m", "start_step": "a", "end_step": 10, "max_results": 8},
        {"run_ids": runs, "metric_key": "m", "max_results": 0},
        {"run_ids": runs, "metric_key": "m", "max_results": 2501},
        {"run_ids": runs, "metric_key": "none", "max_results": 10},
        {"run_ids": ["x" * 32], "metric_key": "m", "max_results": 10},
        {"run_ids": [f"{i:032x}" for i in range(101)], "metric_key": "m", "max_results": 10},
        {"metric_key": "m", "max_results": 10},
        {"run_ids": runs, "max_results": 10},
    ):
        cx.raw("GET", interval, query=query)
    cx.raw("GET", interval.replace("/ajax-api", "/api"), query={"run_ids": runs[:1], "metric_key": "m", "max_results": 3})
    cx.step("whole")
    for query in (
        # One run each: of several they come in the order of their ids, which are the server's own.
        {"run_id": runs[2:], "metric_key": "m", "max_results": 20},
        {"run_id": runs[:1], "metric_key": "m", "max_results": 3},
        {"run_id": runs, "metric_key": "none"},
        {"metric_key": "m"},
        {"run_id": runs},
    ):
        cx.raw("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk", query=query)


@scenario()
def default_experiment(cx):
    mlflow = cx.mlflow
    with mlflow.start_run(run_name="in the default experiment") as run:
        mlflow.log_metric("m", 1, timestamp=1_600_000_000_000)
    cx.see("experiment", run.info.experiment_id)
    cx.see("uri", run.info.artifact_uri)
    cx.get("experiments/get", {"experiment_id": "0"})
    cx.get("experiments/get-by-name", {"experiment_name": "Default"})
    cx.post("experiments/create", {"name": "Default"})


@scenario(since=(2, 8))
def asynchronous(cx):
    """Async logging: the client sends batches from a thread; what counts is what is there at the end."""
    client, experiment = cx.client, cx.experiment()
    run_id = client.create_run(experiment, start_time=1_600_000_000_000).info.run_id
    for i in range(3):
        client.log_metric(run_id, "a", i, timestamp=1_600_000_000_000, step=i, synchronous=False).wait()
    client.log_param(run_id, "p", "v", synchronous=False).wait()
    client.set_tag(run_id, "t", "v", synchronous=False).wait()
    cx.see("metrics", [(m.step, m.value) for m in client.get_metric_history(run_id, "a")])
