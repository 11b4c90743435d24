"""How much fits: keys, values, batches. The last size that fits and the first that does not."""

from . import scenario

T = 1_600_000_000_000


@scenario(raw=True)
def keys_and_values(cx):
    run = cx.new_run(cx.new_experiment())
    cx.step("lengths")
    for n in (1, 249, 250, 251, 500):
        cx.post("runs/log-parameter", {"run_id": run, "key": "k" * n, "value": "v"})
        cx.post("runs/log-metric", {"run_id": run, "key": "k" * n, "value": 1, "timestamp": T, "step": 0})
        cx.post("runs/set-tag", {"run_id": run, "key": "k" * n, "value": "v"})
    for n in (0, 500, 501, 6000, 6001, 9000):
        cx.post("runs/log-parameter", {"run_id": run, "key": f"value{n}", "value": "v" * n})
    for n in (0, 5000, 5001, 8000, 8001):
        cx.post("runs/set-tag", {"run_id": run, "key": f"value{n}", "value": "v" * n})
    cx.post("runs/log-parameter", {"run_id": run, "key": "umlauts", "value": "ü" * 6001})
    cx.step("what was kept")
    _, answer = cx.get("runs/get", {"run_id": run})
    cx.see("params", sorted((p["key"][:12], len(p["key"]), len(p.get("value", ""))) for p in answer["run"]["data"].get("params", [])))
    cx.see("tags", sorted((p["key"][:12], len(p["key"]), len(p.get("value", ""))) for p in answer["run"]["data"].get("tags", [])))
    cx.step("characters")
    for key in (
        "a/b",
        "a.b",
        "a b",
        "a-b_c",
        "a:b",
        "ünïcode",
        "☃",
        "a\\b",
        "a,b",
        "a#b",
        "a%b",
        "a(b)",
        "a'b",
        'a"b',
        "a`b",
        "a$b",
        "a=b",
        "/a",
        "a/",
        "a//b",
        "./a",
        "../a",
        "a/../b",
        ".",
        "..",
        "...",
        "a/.",
        " ",
        " a",
        "a ",
        "",
        "a\nb",
        "a\tb",
        "a\u0000b",
    ):
        cx.post("runs/log-parameter", {"run_id": run, "key": key, "value": "v"})
        cx.post("runs/log-metric", {"run_id": run, "key": key, "value": 1, "timestamp": T, "step": 0})
        cx.post("runs/set-tag", {"run_id": run, "key": key, "value": "v"})


@scenario(raw=True)
def batches(cx):
    run = cx.new_run(cx.new_experiment())
    metric = lambda i: {"key": f"m{i % 7}", "value": i / 4, "timestamp": T + i, "step": i}  # noqa: E731
    param = lambda i: {"key": f"p{i}", "value": str(i)}  # noqa: E731
    tag = lambda i: {"key": f"t{i}", "value": str(i)}  # noqa: E731
    cx.step("sizes")
    for metrics, params, tags in (
        (0, 0, 0),
        (1, 0, 0),
        (1000, 0, 0),
        (1001, 0, 0),
        (0, 100, 0),
        (0, 101, 0),
        (0, 0, 100),
        (0, 0, 101),
        (800, 100, 100),
        (801, 100, 100),
        (1000, 1, 0),
    ):
        cx.post(
            "runs/log-batch",
            {"run_id": run, "metrics": [metric(i) for i in range(metrics)], "params": [param(i) for i in range(params)], "tags": [tag(i) for i in range(tags)]},
        )
    cx.step("duplicates")
    cx.post("runs/log-batch", {"run_id": run, "params": [{"key": "d", "value": "1"}, {"key": "d", "value": "1"}]})
    cx.post("runs/log-batch", {"run_id": run, "params": [{"key": "d", "value": "1"}, {"key": "d", "value": "2"}]})
    cx.post("runs/log-batch", {"run_id": run, "tags": [{"key": "d", "value": "1"}, {"key": "d", "value": "2"}]})
    cx.post("runs/log-batch", {"run_id": run, "metrics": [metric(1), metric(1), metric(1)]})
    cx.step("a changed param keeps the rest out")
    cx.post("runs/log-batch", {"run_id": run, "params": [{"key": "fixed", "value": "1"}]})
    cx.post(
        "runs/log-batch",
        {
            "run_id": run,
            "params": [{"key": "fixed", "value": "2"}, {"key": "newer", "value": "2"}],
            "metrics": [{"key": "kept out", "value": 1, "timestamp": T, "step": 0}],
            "tags": [{"key": "kept out", "value": "x"}],
        },
    )
    cx.post("runs/log-batch", {"run_id": run, "params": [{"key": "fixed", "value": "2"}, {"key": "fixed", "value": "3"}]})
    cx.step("the run")
    cx.get("runs/get", {"run_id": run})
    # On a run of their own, which is not read back: the peer takes half of what it cannot read.
    run = cx.new_run(cx.new_experiment("odd"))
    cx.step("wrong members")
    for body in (
        {"run_id": run, "metrics": [{"key": "m", "timestamp": T}]},
        {"run_id": run, "metrics": [{"value": 1.0, "timestamp": T}]},
        {"run_id": run, "metrics": [{"key": "m", "value": 1.0}]},
        {"run_id": run, "metrics": [{"key": "m", "value": "x", "timestamp": T}]},
        {"run_id": run, "metrics": [{"key": "m", "value": 1, "timestamp": "x"}]},
        {"run_id": run, "metrics": [{"key": "m", "value": 1, "timestamp": T, "step": 1.5}]},
        {"run_id": run, "metrics": [{"key": "m", "value": 1, "timestamp": T, "step": "5"}]},
        {"run_id": run, "metrics": [{"key": "m", "value": 1, "timestamp": -1, "step": 0}]},
        {"run_id": run, "metrics": [{"key": "m", "value": True, "timestamp": T}]},
        {"run_id": run, "metrics": [{"key": "", "value": 1, "timestamp": T}]},
        {"run_id": run, "metrics": [{"key": None, "value": 1, "timestamp": T}]},
        {"run_id": run, "metrics": [{"key": 5, "value": 1, "timestamp": T}]},
        {"run_id": run, "metrics": [{"key": "k" * 251, "value": 1, "timestamp": T}]},
        {"run_id": run, "metrics": ["x"]},
        {"run_id": run, "metrics": {"key": "m"}},
        {"run_id": run, "metrics": "x"},
        {"run_id": run, "metrics": None},
        {"run_id": run, "params": [{"key": "x"}]},
        {"run_id": run, "params": [{"value": "x"}]},
        {"run_id": run, "params": [{"key": "n", "value": 5}]},
        {"run_id": run, "params": [{"key": "k" * 251, "value": "v"}]},
        {"run_id": run, "params": [{"key": "../x", "value": "v"}]},
        {"run_id": run, "params": [{"key": "nul", "value": None}]},
        {"run_id": run, "tags": [{"key": "x"}]},
        {"run_id": run, "tags": [{"value": "x"}]},
        {"run_id": run, "tags": [{"key": "n", "value": 5}]},
        {"run_id": run, "tags": [{"key": "k" * 251, "value": "v"}]},
        {
            "run_id": run,
            "metrics": [{"key": "ok", "value": v, "timestamp": T, "step": i} for i, v in enumerate(["NaN", "Infinity", "-Infinity", 1e308, -0.0, 0])],
        },
        {"run_id": run, "metrics": [{"key": "big steps", "value": 1, "timestamp": T, "step": s} for s in (2**31, 2**53, 2**63 - 1, -(2**63))]},
        {"run_id": run, "metrics": [{"key": "too big", "value": 1, "timestamp": T, "step": 2**63}]},
        {"run_id": run, "unknown": 1},
        {"metrics": [metric(1)]},
        {"run_id": "0" * 32, "metrics": [metric(1)]},
        {"run_id": "", "metrics": [metric(1)]},
    ):
        cx.post("runs/log-batch", body)
    cx.step("too large a body")
    cx.post("runs/log-batch", {"run_id": run, "tags": [{"key": f"t{i}", "value": "x" * 8000} for i in range(100)]})
    cx.post("runs/log-batch", {"run_id": run, "tags": [{"key": f"t{i}", "value": "x" * 20_000} for i in range(100)]})


@scenario()
def through_the_client(cx):
    """The client cuts and refuses before it sends; what it sends must be taken."""
    from mlflow.entities import Metric, Param, RunTag

    client, experiment = cx.client, cx.experiment()
    run_id = client.create_run(experiment, start_time=T).info.run_id
    cx.try_("long value", client.log_param, run_id, "long", "v" * 6001)
    cx.try_("long key", client.log_param, run_id, "k" * 251, "v")
    cx.try_("long tag", client.set_tag, run_id, "tag", "v" * 9000)
    cx.try_("wrong metric", client.log_metric, run_id, "m", "text")
    cx.try_("batch", client.log_batch, run_id, [Metric("m", i, T, i) for i in range(1001)], [Param("p", "1")], [RunTag("t", "1")])
    with cx.mlflow.start_run(run_id=run_id):
        cx.try_("250 params", cx.mlflow.log_params, {f"p{i}": i for i in range(250)})
        cx.try_("2500 metrics", cx.mlflow.log_metrics, {f"m{i}": i / 2 for i in range(2500)}, step=1)
    cx.see("counts", [len(client.get_run(run_id).data.params), len(client.get_run(run_id).data.metrics)])
