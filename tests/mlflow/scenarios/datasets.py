"""Datasets: inputs of runs, their search, and evaluation datasets of 3.x."""

from . import scenario

T = 1_600_000_000_000


@scenario(since=(2, 4), needs=("pandas",))
def inputs(cx):
    import numpy
    import pandas

    mlflow = cx.mlflow
    cx.experiment()
    frame = pandas.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5], "c": ["x", "y", "z"]})
    cx.step("log")
    with mlflow.start_run() as run:
        mlflow.log_input(mlflow.data.from_pandas(frame, source="/data/churn.csv", name="churn", targets="c"), context="training")
        mlflow.log_input(mlflow.data.from_pandas(frame, name="churn", source="/data/churn.csv", targets="c"), context="training")
        mlflow.log_input(
            mlflow.data.from_numpy(numpy.arange(6).reshape(3, 2), name="np"), context="validation", tags={"k": "v"} if cx.version >= (2, 13) else None
        )
    cx.step("read")
    back = cx.client.get_run(run.info.run_id)
    cx.see("inputs", back.inputs.to_dictionary())
    cx.see(
        "by dataset",
        [
            r.info.run_id == run.info.run_id
            for r in mlflow.search_runs(filter_string="datasets.name = 'churn' AND datasets.context = 'training'", output_format="list")
        ],
    )
    cx.see("source", mlflow.data.get_source(back.inputs.dataset_inputs[0]).to_dict())


@scenario(raw=True)
def raw_inputs(cx):
    experiment = cx.new_experiment()
    run, other = cx.new_run(experiment), cx.new_run(experiment)
    dataset = lambda **more: {"name": "d", "digest": "abc", "source_type": "local", "source": '{"uri": "x"}', **more}  # noqa: E731
    tag = lambda value, key="mlflow.data.context": [{"key": key, "value": value}]  # noqa: E731
    cx.step("the same twice")
    for _ in range(2):
        cx.post("runs/log-inputs", {"run_id": run, "datasets": [{"dataset": dataset(schema="s", profile="p"), "tags": tag("training")}]})
    cx.post("runs/log-inputs", {"run_id": run, "datasets": [{"dataset": dataset(), "tags": tag("testing")}]})
    cx.post("runs/log-inputs", {"run_id": run, "datasets": [{"dataset": dataset(digest="def", source="other"), "tags": tag("training") + tag("1", "k")}]})
    cx.post("runs/log-inputs", {"run_id": other, "datasets": [{"dataset": dataset(schema="changed")}]})
    cx.get("runs/get", {"run_id": run})
    cx.get("runs/get", {"run_id": other})
    cx.step("limits")
    for label, body in {
        "name 500": dataset(name="n" * 500),
        "name 501": dataset(name="n" * 501),
        "digest 36": dataset(digest="n" * 36),
        "digest 37": dataset(digest="n" * 37),
        "source 65535": dataset(digest="1", source="s" * 65_535),
        "source 65536": dataset(digest="2", source="s" * 65_536),
        "no name": {"digest": "x", "source_type": "s", "source": "s"},
        "no digest": {"name": "x", "source_type": "s", "source": "s"},
        "no source": {"name": "x", "digest": "x", "source_type": "s"},
        "no type": {"name": "x", "digest": "x", "source": "s"},
        "empty name": dataset(name=""),
    }.items():
        cx.step(label)
        cx.post("runs/log-inputs", {"run_id": other, "datasets": [{"dataset": body}]})
    for label, tags in {
        "tag key 255": [{"key": "k" * 255, "value": "v"}],
        "tag key 256": [{"key": "k" * 256, "value": "v"}],
        "tag value 500": [{"key": "v", "value": "v" * 500}],
        "tag value 501": [{"key": "v", "value": "v" * 501}],
        "no value": [{"key": "k"}],
        "twice": [{"key": "k", "value": "1"}, {"key": "k", "value": "2"}],
    }.items():
        cx.step(label)
        cx.post("runs/log-inputs", {"run_id": other, "datasets": [{"dataset": dataset(digest=label), "tags": tags}]})
    for body in (
        {"run_id": other},
        {"run_id": other, "datasets": []},
        {"run_id": other, "datasets": [{}]},
        {"run_id": other, "datasets": [{"tags": []}]},
        {"run_id": other, "datasets": "x"},
        {"datasets": [{"dataset": dataset()}]},
    ):
        cx.post("runs/log-inputs", body)
    cx.step("search of datasets")
    for path in (
        "/ajax-api/2.0/mlflow/experiments/search-datasets",
        "/api/2.0/mlflow/experiments/search-datasets",
        "/api/2.0mlflow/experiments/search-datasets",
    ):
        for body in (
            {"experiment_ids": [experiment]},
            {"experiment_ids": []},
            {},
            {"experiment_ids": ["987654"]},
            {"experiment_ids": [f"{i}" for i in range(1000, 1022)]},
        ):
            cx.raw("POST", path, body)


@scenario(since=(3, 4))
def evaluation_datasets(cx):
    from mlflow.genai.datasets import create_dataset, delete_dataset, get_dataset, search_datasets, set_dataset_tags

    experiment = cx.experiment()
    cx.step("create")
    cx.try_("created", lambda: create_dataset(name=cx.name("set"), experiment_id=experiment, tags={"k": "v"}).name)
    cx.step("records")

    def records():
        dataset = search_datasets(experiment_ids=[experiment])[0]
        dataset.merge_records([{"inputs": {"q": "one"}, "expectations": {"a": "1"}}, {"inputs": {"q": "two"}, "tags": {"t": "x"}}])
        dataset.merge_records([{"inputs": {"q": "one"}, "expectations": {"b": "2"}}])
        return sorted(str(r.inputs) for r in get_dataset(dataset_id=dataset.dataset_id).records)

    cx.try_("records", records)
    cx.step("tags")

    def tags():
        dataset = search_datasets(experiment_ids=[experiment])[0]
        set_dataset_tags(dataset_id=dataset.dataset_id, tags={"k": None, "n": "m"})
        return get_dataset(dataset_id=dataset.dataset_id).tags

    cx.try_("tags", tags)
    cx.step("delete")
    cx.try_("deleted", lambda: delete_dataset(dataset_id=search_datasets(experiment_ids=[experiment])[0].dataset_id))
    cx.try_("gone", lambda: len(search_datasets(experiment_ids=[experiment])))


@scenario(raw=True)
def evaluation_datasets_raw(cx):
    """The routes of evaluation datasets by themselves."""
    first, second = cx.new_experiment("a"), cx.new_experiment("b")
    cx.step("create")
    status, answer = cx.post("datasets/create", {"name": cx.name(), "experiment_ids": [first], "tags": '{"k": "v"}'}, version="3.0")
    made = answer["dataset"]["dataset_id"] if status == 200 else "none"
    for body in ({}, {"name": ""}, {"name": cx.name(), "experiment_ids": ["987654"]}, {"name": cx.name("t"), "tags": "not json"}, {"name": 5}):
        cx.post("datasets/create", body, version="3.0")
    cx.step("change")
    base = f"/api/3.0/mlflow/datasets/{made}"
    cx.raw("POST", f"{base}/add-experiments", {"experiment_ids": [second]})
    cx.raw("GET", f"{base}/experiment-ids")
    cx.raw("POST", f"{base}/remove-experiments", {"experiment_ids": [first]})
    cx.raw("PATCH", f"{base}/tags", {"tags": '{"a": "b"}'})
    cx.raw("DELETE", f"{base}/tags/a")
    cx.raw("DELETE", f"{base}/tags/never")
    cx.raw("POST", f"{base}/records", {"records": '[{"inputs": {"q": 1}, "expectations": {"a": 2}}, {"inputs": {"q": 2}}]'})
    cx.raw("GET", f"{base}/records", query={"max_results": 1})
    cx.raw("POST", f"{base}/records", {"records": "not json"})
    cx.raw("DELETE", f"{base}/records", {"dataset_record_ids": ["none"]})
    cx.raw("GET", base)
    cx.step("of nothing")
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/records"), ("GET", "/experiment-ids"), ("PATCH", "/tags")):
        cx.raw(method, f"/api/3.0/mlflow/datasets/d-{'0' * 32}{path}", {"tags": "{}"} if method == "PATCH" else None)
    cx.step("delete")
    cx.raw("DELETE", base)
    cx.raw("DELETE", base)
