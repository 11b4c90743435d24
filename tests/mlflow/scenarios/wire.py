"""The wire itself: the `ajax-api` twins, GET and POST twins, and the routes that only the web pages call."""

from . import scenario

T = 1_600_000_000_000


@scenario(raw=True)
def twins(cx):
    experiment = cx.new_experiment()
    run = cx.new_run(experiment, run_name="twin")
    cx.step("get")
    for prefix in ("/api", "/ajax-api"):
        for route, query in (
            ("experiments/get", {"experiment_id": experiment}),
            ("experiments/get-by-name", {"experiment_name": cx.name()}),
            ("experiments/search", {"filter": f"name = '{cx.name()}'", "max_results": 5}),
            ("runs/get", {"run_id": run}),
            ("artifacts/list", {"run_id": run}),
            ("registered-models/search", {"filter": f"name = '{cx.name()}'"}),
            ("model-versions/search", {"filter": f"name = '{cx.name()}'"}),
        ):
            cx.raw("GET", f"{prefix}/2.0/mlflow/{route}", query=query)
        cx.raw("POST", f"{prefix}/2.0/mlflow/runs/search", {"experiment_ids": [experiment]})
        cx.raw("POST", f"{prefix}/2.0/mlflow/runs/set-tag", {"run_id": run, "key": prefix, "value": "v"})
        cx.raw("POST", f"{prefix}/2.0/mlflow/runs/log-metric", {"run_id": run, "key": "m", "value": 1, "timestamp": T, "step": 0})
        cx.raw("POST", f"{prefix}/2.0/mlflow/logged-models/search", {"experiment_ids": [experiment]})
        cx.raw("GET", f"{prefix}/2.0/mlflow-artifacts/artifacts", query={"path": f"{experiment}/{run}/artifacts"})
    cx.step("3.0 and 2.0")
    for version in ("2.0", "3.0"):
        for route in ("traces/search", "datasets/search", "server-info", "workspaces", "experiments/search", "runs/search", "logged-models/search"):
            cx.raw("GET", f"/api/{version}/mlflow/{route}", query={"max_results": 1} if route == "experiments/search" and version == "3.0" else {})
    cx.step("upload by the pages")
    cx.raw("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=x/y.json", {"a": 1})
    cx.raw("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=../y.json", {"a": 1})
    cx.raw("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}", {"a": 1})
    cx.raw("POST", "/ajax-api/2.0/mlflow/upload-artifact?path=y.json", {"a": 1})
    cx.raw("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={'0' * 32}&path=y.json", {"a": 1})
    cx.raw("GET", "/get-artifact", query={"run_id": run, "path": "x/y.json"})


@scenario(raw=True)
def runs(cx):
    """runs/create in all its forms."""
    experiment = cx.new_experiment()
    for body in (
        {},
        {"run_name": "named"},
        {"run_name": ""},
        {"run_name": "both", "tags": [{"key": "mlflow.runName", "value": "both"}]},
        {"run_name": "one", "tags": [{"key": "mlflow.runName", "value": "two"}]},
        {"tags": [{"key": "mlflow.runName", "value": "by tag"}]},
        {"user_id": "ann", "start_time": T},
        {"start_time": T, "tags": [{"key": "mlflow.user", "value": "bob"}, {"key": "k", "value": "v"}]},
        {"start_time": T, "tags": [{"key": "k", "value": "1"}, {"key": "k", "value": "2"}]},
        {"start_time": 0},
        {"start_time": -1},
        {"tags": []},
        {"tags": [{"key": "k" * 251, "value": "v"}]},
        {"tags": [{"key": "k", "value": "v" * 8001}]},
        {"tags": [{"key": "../k", "value": "v"}]},
        {"run_name": "x" * 251},
        {"run_name": "x" * 1000},
    ):
        cx.post("runs/create", {"experiment_id": experiment, **body})
    cx.post("runs/create", {})
    cx.step("update")
    run = cx.new_run(experiment)
    for body in (
        {"status": "RUNNING"},
        {"status": "SCHEDULED"},
        {"status": "FINISHED", "end_time": T + 5},
        {"end_time": T + 9},
        {"run_name": "renamed"},
        {"run_name": ""},
        {"status": "NOPE"},
        {"status": 3},
        {"status": "finished"},
        {"end_time": "x"},
        {},
    ):
        cx.post("runs/update", {"run_id": run, **body})
    cx.get("runs/get", {"run_id": run})
    cx.get("runs/get", {"run_uuid": run})
    cx.step("log-model")
    model = '{"artifact_path": "m", "flavors": {"python_function": {}}, "utc_time_created": "2020-01-01 00:00:00", "run_id": "%s", "model_uuid": "x"}' % run
    for body in ({"model_json": model}, {"model_json": model}, {"model_json": "not json"}, {"model_json": "{}"}, {"model_json": '{"artifact_path": 5}'}, {}):
        cx.post("runs/log-model", {"run_id": run, **body})
    cx.get("runs/get", {"run_id": run})
    cx.step("metrics with a dataset")
    for more in (
        {"dataset_name": "d", "dataset_digest": "1"},
        {"model_id": "m-" + "0" * 32},
        {"dataset_name": "d"},
        {"dataset_digest": "1"},
        {"run_uuid": run},
    ):
        cx.post("runs/log-metric", {"run_id": run, "key": "m", "value": 1, "timestamp": T, "step": 0, **more})
    for value in (1, 1.5, "1.5", "NaN", "nan", "Infinity", "-Infinity", "inf", "-inf", "x", "", 1e308, -1e-320, 12345678901234567890, True, None):
        cx.post("runs/log-metric", {"run_id": run, "key": "v", "value": value, "timestamp": T, "step": 0})
    cx.get("metrics/get-history", {"run_id": run, "metric_key": "v"})
    cx.step("names of metrics")
    cx.post("runs/log-metric", {"run_id": run, "key": "a/b c:d", "value": 1, "timestamp": T, "step": 0})
    cx.step("system tags")
    for key in ("mlflow.user", "mlflow.runName", "mlflow.note.content", "mlflow.source.name", "mlflow.parentRunId", "mlflow.artifactLocation"):
        cx.post("runs/set-tag", {"run_id": run, "key": key, "value": "changed"})
    cx.post("runs/delete-tag", {"run_id": run, "key": "mlflow.runName"})
    cx.get("runs/get", {"run_id": run})


@scenario(raw=True)
def logged_models(cx):
    experiment = cx.new_experiment()
    run = cx.new_run(experiment)
    cx.step("create")
    status, answer = cx.post(
        "logged-models",
        {
            "experiment_id": experiment,
            "name": "net",
            "source_run_id": run,
            "model_type": "t",
            "params": [{"key": "p", "value": "1"}],
            "tags": [{"key": "t", "value": "1"}],
        },
    )
    model = answer["model"]["info"]["model_id"] if status == 200 else "none"
    for body in (
        {"experiment_id": experiment},
        {"experiment_id": experiment, "name": ""},
        {"experiment_id": experiment, "name": "a/b"},
        {"experiment_id": experiment, "name": "a:b"},
        {"experiment_id": experiment, "name": "a.b%'\""},
        {"experiment_id": experiment, "name": "../x"},
        {"experiment_id": experiment, "name": "n" * 500},
        {"experiment_id": experiment, "source_run_id": "nope"},
        {"experiment_id": experiment, "params": [{"key": "k" * 251, "value": "v"}]},
        {"experiment_id": experiment, "params": [{"key": "k", "value": "v" * 6001}]},
        {"experiment_id": experiment, "tags": [{"key": "k" * 251, "value": "v"}]},
        {"experiment_id": experiment, "params": [{"key": "k", "value": "1"}, {"key": "k", "value": "2"}]},
    ):
        cx.post("logged-models", body)
    cx.step("change")
    for body in (
        {"status": "LOGGED_MODEL_READY"},
        {"status": "LOGGED_MODEL_UPLOAD_FAILED"},
        {"status": "LOGGED_MODEL_PENDING"},
        {"status": "READY"},
        {"status": 2},
        {"model_id": "other", "status": "LOGGED_MODEL_READY"},
        {},
    ):
        cx.raw("PATCH", f"/api/2.0/mlflow/logged-models/{model}", {"model_id": model, **body})
    cx.raw("PATCH", f"/api/2.0/mlflow/logged-models/{model}", {"status": "LOGGED_MODEL_READY"})
    for body in (
        {"tags": [{"key": "a", "value": "1"}]},
        {"tags": [{"key": "a", "value": "2"}, {"key": "b", "value": ""}]},
        {"tags": []},
        {},
        {"tags": [{"key": "k" * 251, "value": "v"}]},
        {"tags": [{"key": "../k", "value": "v"}]},
    ):
        cx.raw("PATCH", f"/api/2.0/mlflow/logged-models/{model}/tags", body)
    for body in (
        {"params": [{"key": "q", "value": "1"}]},
        {"params": [{"key": "q", "value": "1"}]},
        {"params": [{"key": "q", "value": "2"}]},
        {"params": [{"key": "p", "value": "2"}]},
        {"params": []},
        {},
    ):
        cx.raw("POST", f"/api/2.0/mlflow/logged-models/{model}/params", {"model_id": model, **body})
    cx.raw("POST", f"/api/2.0/mlflow/logged-models/{model}/params", {"params": [{"key": "r", "value": "1"}]})
    for key in ("a", "never", "a%2Fb", "..%2fx", "b"):
        cx.raw("DELETE", f"/api/2.0/mlflow/logged-models/{model}/tags/{key}")
    cx.get(f"logged-models/{model}")
    cx.step("of nothing")
    for id_ in ("m-" + "0" * 32, "none", "m-..%2fx", "m-" + "0" * 300):
        cx.get(f"logged-models/{id_}")
        cx.raw("PATCH", f"/api/2.0/mlflow/logged-models/{id_}", {"model_id": id_, "status": "LOGGED_MODEL_READY"})
        cx.raw("PATCH", f"/api/2.0/mlflow/logged-models/{id_}/tags", {"tags": [{"key": "a", "value": "1"}]})
        cx.raw("DELETE", f"/api/2.0/mlflow/logged-models/{id_}")
        cx.raw("GET", f"/api/2.0/mlflow/logged-models/{id_}/artifacts/directories")
    cx.step("outputs and inputs")
    for body in (
        {"run_id": run, "models": [{"model_id": model, "step": 1}]},
        {"run_id": run, "models": [{"model_id": model, "step": 2}]},
        {"run_id": run, "models": [{"model_id": "m-" + "0" * 32}]},
        {"run_id": run, "models": []},
        {"run_id": run},
        {"models": [{"model_id": model}]},
    ):
        cx.post("runs/outputs", body)
    cx.post("runs/log-inputs", {"run_id": run, "models": [{"model_id": model}]})
    cx.get("runs/get", {"run_id": run})
    cx.step("delete")
    cx.raw("DELETE", f"/api/2.0/mlflow/logged-models/{model}")
    cx.raw("DELETE", f"/api/2.0/mlflow/logged-models/{model}")
    cx.get(f"logged-models/{model}")
    cx.get("runs/get", {"run_id": run})


@scenario(raw=True)
def registry_of_models(cx):
    """A version whose source is a logged model: the run is found, the model is tagged."""
    experiment = cx.new_experiment()
    run = cx.new_run(experiment)
    _, answer = cx.post("logged-models", {"experiment_id": experiment, "name": "net", "source_run_id": run})
    model = answer["model"]["info"]["model_id"]
    cx.post("registered-models/create", {"name": cx.name()})
    cx.step("versions")
    for body in (
        {"source": f"models:/{model}"},
        {"source": f"models:/{model}", "model_id": model},
        {"source": f"models:/{model}", "run_id": run},
        {"source": f"mlflow-artifacts:/{experiment}/models/{model}/artifacts", "model_id": model},
        {"source": f"mlflow-artifacts:/{experiment}/models/{model}/artifacts"},
        {"source": f"models:/{model}/sub"},
        {"source": f"models:/{cx.name()}/1"},
    ):
        cx.post("model-versions/create", {"name": cx.name(), **body})
    cx.get(f"logged-models/{model}")
    cx.get("model-versions/get-download-uri", {"name": cx.name(), "version": "1"})
    cx.get("model-versions/get", {"name": cx.name(), "version": "1"})
    cx.get("registered-models/get", {"name": cx.name()})
    cx.step("delete the model first")
    cx.raw("DELETE", f"/api/2.0/mlflow/logged-models/{model}")
    cx.get("model-versions/get", {"name": cx.name(), "version": "1"})
    cx.post("model-versions/create", {"name": cx.name(), "source": f"models:/{model}"})


@scenario(raw=True)
def not_ours(cx):
    """Routes of MLflow's other products: the answer must be clean, whatever it is."""
    for path in (
        "gateway/endpoints/list",
        "gateway/secrets/list",
        "scorers/list",
        "jobs",
        "issues/search",
        "prompt-optimization/jobs",
        "review-queues",
        "label-schemas",
        "mcp-servers",
        "users/get",
        "skills",
    ):
        cx.get(path, {"experiment_id": "0"}, version="3.0")
    cx.raw("POST", "/graphql", {"query": '{ test(inputString: "x") { output } }', "operationName": None})
    cx.raw("GET", "/ajax-api/2.0/mlflow/gateway-proxy", query={"gateway_path": "x"})
