"""What is refused, and how: missing and wrong fields on every classical route, unknown things, wrong content types."""

from . import scenario

RUN = "0123456789abcdef0123456789abcdef"
# route, method, the fields of its request and a good value of each (None: not looked at here).
FIELDS = {
    ("POST", "experiments/create"): {"name": "E", "artifact_location": None, "tags": [{"key": "k", "value": "v"}]},
    ("POST", "experiments/delete"): {"experiment_id": "987654"},
    ("POST", "experiments/restore"): {"experiment_id": "987654"},
    ("POST", "experiments/update"): {"experiment_id": "987654", "new_name": "N"},
    ("POST", "experiments/set-experiment-tag"): {"experiment_id": "987654", "key": "k", "value": "v"},
    ("POST", "experiments/delete-experiment-tag"): {"experiment_id": "987654", "key": "k"},
    ("POST", "experiments/search"): {"max_results": 5, "page_token": None, "filter": "name = 'E'", "order_by": ["name"], "view_type": "ALL"},
    ("POST", "runs/create"): {"experiment_id": "987654", "user_id": "u", "start_time": 5, "tags": [{"key": "k", "value": "v"}], "run_name": "n"},
    ("POST", "runs/update"): {"run_id": RUN, "status": "FINISHED", "end_time": 5, "run_name": "n"},
    ("POST", "runs/delete"): {"run_id": RUN},
    ("POST", "runs/restore"): {"run_id": RUN},
    ("POST", "runs/log-metric"): {"run_id": RUN, "key": "k", "value": 1.5, "timestamp": 5, "step": 1},
    ("POST", "runs/log-parameter"): {"run_id": RUN, "key": "k", "value": "v"},
    ("POST", "runs/set-tag"): {"run_id": RUN, "key": "k", "value": "v"},
    ("POST", "runs/delete-tag"): {"run_id": RUN, "key": "k"},
    ("POST", "runs/log-batch"): {
        "run_id": RUN,
        "metrics": [{"key": "k", "value": 1.5, "timestamp": 5}],
        "params": [{"key": "k", "value": "v"}],
        "tags": [{"key": "k", "value": "v"}],
    },
    ("POST", "runs/log-model"): {"run_id": RUN, "model_json": '{"artifact_path": "m", "flavors": {}, "utc_time_created": "now", "run_id": "r"}'},
    ("POST", "runs/log-inputs"): {
        "run_id": RUN,
        "datasets": [{"dataset": {"name": "d", "digest": "1", "source_type": "s", "source": "{}"}}],
        "models": [{"model_id": "m-1"}],
    },
    ("POST", "runs/outputs"): {"run_id": RUN, "models": [{"model_id": "m-1", "step": 1}]},
    ("POST", "runs/search"): {
        "experiment_ids": ["987654"],
        "filter": "metrics.m > 1",
        "run_view_type": "ALL",
        "max_results": 5,
        "order_by": ["metrics.m"],
        "page_token": None,
    },
    ("POST", "logged-models"): {
        "experiment_id": "987654",
        "name": "n",
        "model_type": "t",
        "source_run_id": RUN,
        "params": [{"key": "k", "value": "v"}],
        "tags": [{"key": "k", "value": "v"}],
    },
    ("POST", "logged-models/search"): {
        "experiment_ids": ["987654"],
        "filter": "name = 'n'",
        "max_results": 5,
        "order_by": [{"field_name": "name"}],
        "page_token": None,
        "datasets": [{"dataset_name": "d"}],
    },
    ("POST", "registered-models/create"): {"name": "R", "tags": [{"key": "k", "value": "v"}], "description": "d"},
    ("POST", "registered-models/rename"): {"name": "never-1a", "new_name": "S"},
    ("PATCH", "registered-models/update"): {"name": "never-1a", "description": "d"},
    ("DELETE", "registered-models/delete"): {"name": "never-1a"},
    ("POST", "registered-models/get-latest-versions"): {"name": "never-1a", "stages": ["None"]},
    ("POST", "registered-models/set-tag"): {"name": "never-1a", "key": "k", "value": "v"},
    ("DELETE", "registered-models/delete-tag"): {"name": "never-1a", "key": "k"},
    ("POST", "registered-models/alias"): {"name": "never-1a", "alias": "a", "version": "1"},
    ("DELETE", "registered-models/alias"): {"name": "never-1a", "alias": "a"},
    ("POST", "model-versions/create"): {
        "name": "never-1a",
        "source": f"runs:/{RUN}/m",
        "run_id": RUN,
        "tags": [{"key": "k", "value": "v"}],
        "run_link": "l",
        "description": "d",
        "model_id": None,
    },
    ("PATCH", "model-versions/update"): {"name": "never-1a", "version": "1", "description": "d"},
    ("POST", "model-versions/transition-stage"): {"name": "never-1a", "version": "1", "stage": "Production", "archive_existing_versions": True},
    ("DELETE", "model-versions/delete"): {"name": "never-1a", "version": "1"},
    ("POST", "model-versions/set-tag"): {"name": "never-1a", "version": "1", "key": "k", "value": "v"},
    ("DELETE", "model-versions/delete-tag"): {"name": "never-1a", "version": "1", "key": "k"},
}
QUERIES = {
    "experiments/get": {"experiment_id": "987654"},
    "experiments/get-by-name": {"experiment_name": "never"},
    "experiments/search": {"max_results": 5, "filter": "name = 'E'", "view_type": "ALL"},
    "runs/get": {"run_id": RUN},
    "metrics/get-history": {"run_id": RUN, "metric_key": "k"},
    "artifacts/list": {"run_id": RUN, "path": "p"},
    "registered-models/get": {"name": "never-1a"},
    "registered-models/search": {"filter": "name = 'never-1a'", "max_results": 5},
    "registered-models/alias": {"name": "never-1a", "alias": "a"},
    "registered-models/get-latest-versions": {"name": "never-1a"},
    "model-versions/get": {"name": "never-1a", "version": "1"},
    "model-versions/search": {"filter": "name = 'never-1a'", "max_results": 5},
    "model-versions/get-download-uri": {"name": "never-1a", "version": "1"},
    f"logged-models/m-{RUN}": {},
}
WRONG = {
    str: [None, "", 5, 1.5, True, [], {}, ["x"], {"a": 1}],
    int: [None, "", "x", "5", 1.5, True, [], {}, -1, 0, 2**31, 2**63],
    float: [None, "", "x", "5", True, [], {}],
    bool: [None, "", "x", "true", 0, 1, []],
    list: [None, "", "x", 5, {}, [None], [5], ["x"], [[]], [{}]],
}


@scenario(raw=True)
def unknown_things(cx):
    """Good requests about what does not exist."""
    for (method, route), fields in FIELDS.items():
        cx.step(f"{method} {route}")
        good = {k: v for k, v in fields.items() if v is not None}
        if (method, route) not in (("POST", "experiments/create"), ("POST", "registered-models/create")):
            cx.raw(method, f"/api/2.0/mlflow/{route}", good)
    for route, query in QUERIES.items():
        cx.step(f"GET {route}")
        cx.get(route, query)


def _with(fields, **changed):
    return {k: v for k, v in {**fields, **changed}.items() if v is not _LEFT_OUT}


_LEFT_OUT = object()


@scenario(raw=True)
def missing_fields(cx):
    for (method, route), fields in FIELDS.items():
        cx.step(f"{method} {route}")
        good = {k: v for k, v in fields.items() if v is not None}
        cx.raw(method, f"/api/2.0/mlflow/{route}", {}) if route != "experiments/search" else None
        for field in good:
            if (method, route, field) in (
                ("POST", "experiments/create", "tags"),
                ("POST", "registered-models/create", "tags"),
                ("POST", "registered-models/create", "description"),
            ):
                continue
            cx.raw(method, f"/api/2.0/mlflow/{route}", _with(good, **{field: _LEFT_OUT}))
    for route, query in QUERIES.items():
        cx.step(f"GET {route}")
        if route == "registered-models/search" or route == "model-versions/search" or route == "experiments/search":
            continue
        cx.get(route, {})
        for field in query:
            cx.get(route, _with(query, **{field: _LEFT_OUT}))
            cx.get(route, _with(query, **{field: ""}))


@scenario(raw=True)
def wrong_types(cx):
    for (method, route), fields in FIELDS.items():
        cx.step(f"{method} {route}")
        good = {k: v for k, v in fields.items() if v is not None}
        for field, value in good.items():
            for wrong in WRONG[type(value)]:
                if (route, field) == ("experiments/search", "filter") and not wrong:
                    # Lists everything there is.
                    continue
                if route.endswith("/create") and route.startswith(("exp", "reg")) and (field != "name" or wrong in ("", "x")):
                    # Would make something whose name another run of this scenario meets again.
                    if not (field == "name"):
                        cx.raw(
                            method,
                            f"/api/2.0/mlflow/{route}",
                            _with(good, **{field: wrong, "name": cx.name(f"{field}_{WRONG[type(value)].index(wrong)}_{type(wrong).__name__}")}),
                        )
                        continue
                cx.raw(method, f"/api/2.0/mlflow/{route}", _with(good, **{field: wrong}))


@scenario(raw=True)
def bodies(cx):
    """Not JSON, not an object, not the right content type, too deep, twice the same key."""
    path = "/api/2.0/mlflow/runs/set-tag"
    good = b'{"run_id": "0123456789abcdef0123456789abcdef", "key": "k", "value": "v"}'
    for kind in (
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/xml",
        "",
        "application/jsonx",
        None,
    ):
        cx.step(f"type {kind}")
        cx.raw("POST", path, data=good, headers={} if kind is None else {"Content-Type": kind})
    json_type = {"Content-Type": "application/json"}
    for label, data in {
        "empty": b"",
        "space": b"  ",
        "cut": good[:-5],
        "garbage": b"\x00\x01\x02",
        "not utf-8": b'{"run_id": "\xff\xfe"}',
        "null": b"null",
        "array": b"[]",
        "number": b"5",
        "string": b'"x"',
        "string of an object": b'"{\\"run_id\\": \\"x\\"}"',
        "twice the same key": b'{"run_id": "a", "run_id": "b", "key": "k", "value": "v"}',
        "deep": b'{"run_id":' + b"[" * 200 + b"]" * 200 + b"}",
        "NaN token": b'{"run_id": "0123456789abcdef0123456789abcdef", "key": NaN, "value": "v"}',
        "single quotes": b"{'run_id': 'x'}",
        "trailing comma": good[:-1] + b",}",
        "bom": b"\xef\xbb\xbf" + good,
        "unknown fields": good[:-1] + b', "zzz": [1, 2], "workspace": "x"}',
        "camelCase": b'{"runId": "0123456789abcdef0123456789abcdef", "key": "k", "value": "v"}',
        "run_uuid": b'{"run_uuid": "0123456789abcdef0123456789abcdef", "key": "k", "value": "v"}',
        "escaped": b'{"run_id": "\\u0030123456789abcdef0123456789abcdef", "key": "k\\u0000", "value": "\\ud83d\\ude00"}',
        "lone surrogate": b'{"run_id": "0123456789abcdef0123456789abcdef", "key": "\\ud800", "value": "v"}',
    }.items():
        cx.step(label)
        cx.raw("POST", path, data=data, headers=json_type)


@scenario(raw=True)
def methods_and_paths(cx):
    cx.step("wrong methods")
    for method, path in (
        ("GET", "/api/2.0/mlflow/runs/create"),
        ("PUT", "/api/2.0/mlflow/runs/create"),
        ("POST", "/api/2.0/mlflow/runs/get"),
        ("POST", "/api/2.0/mlflow/registered-models/update"),
        ("GET", "/api/2.0/mlflow/registered-models/delete"),
        ("PATCH", "/api/2.0/mlflow/experiments/update"),
        ("DELETE", "/api/2.0/mlflow/experiments/delete"),
        ("OPTIONS", "/api/2.0/mlflow/runs/create"),
        ("HEAD", "/api/2.0/mlflow/experiments/search"),
    ):
        cx.raw(method, path, headers={"Content-Type": "application/json"}, data=b"{}" if method not in ("GET", "HEAD") else None)
    cx.step("wrong paths")
    for path in (
        "/api/2.0/mlflow/runs/nope",
        "/api/2.0/mlflow/",
        "/api/2.0/mlflow",
        "/api/2.0/mlflow/runs/get/",
        "/api/1.0/mlflow/runs/get",
        "/api/2.0/preview/mlflow/runs/get",
        "/api/3.0/mlflow/runs/get",
        "/ajax-api/2.0/mlflow/runs/get",
        "/ajax-api/2.0/preview/mlflow/experiments/search",
        "/api/2.0/mlflow//runs/get",
        "/api/2.0/MLFLOW/runs/get",
    ):
        cx.raw("GET", path, query={"run_id": RUN})
    cx.step("health and version")
    for path in ("/health", "/version", "/api/3.0/mlflow/server-info", "/ajax-api/3.0/mlflow/server-info"):
        cx.raw("GET", path)
    cx.step("query args")
    for query in (
        "run_id=a&run_id=b",
        "run_id=%00",
        "run_id=%ff",
        "run_id=a%2Fb",
        "run_id=" + "a" * 300,
        "runId=x",
        "run_id",
        "run_id=&run_uuid=" + RUN,
        "run_uuid=" + RUN,
    ):
        cx.raw("GET", f"/api/2.0/mlflow/runs/get?{query}")


@scenario(raw=True)
def run_ids(cx):
    """What a run id may look like, on every route that takes one."""
    for value in (
        "0" * 31,
        "0" * 33,
        "g" * 32,
        "A" * 32,
        "a b",
        "../../etc/passwd",
        "..",
        "a/b",
        "a%2fb",
        "%00",
        "a" * 256,
        "a" * 257,
        "-a",
        "_a",
        "a.b",
        "ü",
        "' OR 1=1 --",
    ):
        cx.step(value[:20])
        cx.get("runs/get", {"run_id": value})
        cx.get("artifacts/list", {"run_id": value})
        cx.get("metrics/get-history", {"run_id": value, "metric_key": "k"})
        cx.post("runs/update", {"run_id": value, "status": "FINISHED"})
        cx.post("runs/delete", {"run_id": value})
        cx.post("runs/log-metric", {"run_id": value, "key": "k", "value": 1, "timestamp": 5})
        cx.post("runs/log-batch", {"run_id": value, "params": [{"key": "k", "value": "v"}]})
    mine = cx.new_experiment()
    for shape in ("-1", "abc", "1.5", "", " ", "99999999999999999999", "0x10", "../1", "1/2", "0{}", "+{}", " {}", "{}.0", "{}/", "{}\n"):
        cx.step(f"experiment {shape}")
        value = shape.format(mine)
        cx.get("experiments/get", {"experiment_id": value})
        cx.post("experiments/delete", {"experiment_id": value})
        cx.post("runs/create", {"experiment_id": value})
        cx.post("runs/search", {"experiment_ids": [value]})
        cx.post("logged-models/search", {"experiment_ids": [value]})
