"""Tracing: spans of decorated functions, search, tags, assessments, deletion."""

import time

from . import scenario


def _search(cx, ids, **more):
    """Traces of an experiment; `locations` since 3.?; before that `experiment_ids`."""
    key = "locations" if cx.version >= (3, 5) else "experiment_ids"
    return cx.mlflow.search_traces(**{key: ids}, return_type="list", **more)


def _some(cx):
    mlflow = cx.mlflow

    @mlflow.trace(name="inner", span_type="TOOL", attributes={"k": 1})
    def inner(x):
        return {"twice": x * 2}

    @mlflow.trace
    def outer(x, flag=False):
        with mlflow.start_span(name="manual") as span:
            span.set_inputs({"x": x})
            span.set_outputs([1, 2])
            span.set_attribute("note", "ü")
        if x < 0:
            raise ValueError("negative")
        return inner(x)["twice"] + 1

    for x in (1, 2, 3):
        outer(x)
        # The next one begins in another millisecond.
        time.sleep(0.01)
    try:
        outer(-1, flag=True)
    except ValueError:
        pass
    time.sleep(0.2)


@scenario(since=(3, 0))
def decorated(cx):
    mlflow, experiment = cx.mlflow, cx.experiment()
    cx.step("trace")
    _some(cx)
    last = mlflow.get_last_active_trace_id()
    cx.step("get")
    trace = mlflow.get_trace(last)
    cx.see("spans", sorted((s.name, s.span_type, str(s.status.status_code), s.inputs, s.outputs) for s in trace.data.spans))
    cx.see("state", str(trace.info.state))
    cx.step("search")
    cx.see("all", sorted((t.info.request_preview, t.info.response_preview, str(t.info.state)) for t in _search(cx, [experiment])))
    for text in (
        "trace.status = 'OK'",
        "trace.status = 'ERROR'",
        "status != 'OK'",
        "attributes.status = 'OK'",
        "trace.name = 'outer'",
        "name LIKE 'out%'",
        "timestamp_ms > 0",
        "trace.timestamp_ms < 5",
        "execution_time_ms >= 0",
        "tags.mlflow.traceName = 'outer'",
        "tag.never = 'x'",
        "metadata.never = 'x'",
        "request_metadata.`mlflow.source.type` = 'LOCAL'",
        "trace.status = 'NOPE'",
        "never = 'x'",
        "trace.status",
        "status = 'OK' OR status = 'ERROR'",
        "trace.text LIKE '%twice%'",
        "span.name = 'inner'",
        "span.type = 'TOOL'",
        "span.attributes.k = '1'",
        "trace.run_id = 'x'",
    ):
        cx.step(f"filter {text}")
        cx.try_("found", lambda text=text: sorted(t.info.request_preview for t in _search(cx, [experiment], filter_string=text)))
    cx.step("order")
    for order in (["timestamp_ms DESC"], ["timestamp ASC"], ["never"]):
        cx.try_(f"by {order[0]}", lambda order=order: len(_search(cx, [experiment], order_by=order)))
    cx.step("pages")
    cx.try_("two", lambda: len(_search(cx, [experiment], max_results=2)))
    cx.step("tags")
    mlflow.set_trace_tag(last, "k", "v")
    mlflow.set_trace_tag(last, "k2", "v2")
    mlflow.delete_trace_tag(last, "k2")
    cx.try_("tag not there", mlflow.delete_trace_tag, last, "k2")
    cx.try_("unknown trace", mlflow.set_trace_tag, "tr-" + "0" * 32, "k", "v")
    cx.see("by tag", len(_search(cx, [experiment], filter_string="tags.k = 'v'")))
    cx.step("delete")
    cx.see("deleted", cx.client.delete_traces(experiment, trace_ids=[last]))
    cx.see("deleted again", cx.client.delete_traces(experiment, trace_ids=[last]))
    cx.try_("gone", lambda: mlflow.get_trace(last))
    cx.see("left", len(_search(cx, [experiment])))


@scenario(since=(3, 0))
def in_a_run(cx):
    mlflow, experiment = cx.mlflow, cx.experiment()
    with mlflow.start_run() as run:
        _some(cx)
    cx.step("by run")
    cx.see("count", len(_search(cx, [experiment], run_id=run.info.run_id)))
    if hasattr(cx.client, "link_traces_to_run"):
        cx.step("link")
        with mlflow.start_run() as other:
            pass
        ids = [t.info.trace_id for t in _search(cx, [experiment])][:2]
        cx.try_("link", cx.client.link_traces_to_run, ids, other.info.run_id)
        cx.see("linked", len(_search(cx, [experiment], run_id=other.info.run_id)))


@scenario(since=(3, 2))
def assessments(cx):
    from mlflow.entities import AssessmentSource

    mlflow, experiment = cx.mlflow, cx.experiment()
    _some(cx)
    last = mlflow.get_last_active_trace_id()
    human = AssessmentSource(source_type="HUMAN", source_id="ann@example.com")
    cx.step("log")
    feedback = mlflow.log_feedback(trace_id=last, name="good", value=True, source=human, rationale="because", metadata={"k": "v"})
    mlflow.log_feedback(trace_id=last, name="score", value=0.5, source=AssessmentSource(source_type="LLM_JUDGE", source_id="judge"))
    mlflow.log_feedback(trace_id=last, name="many", value={"a": 1, "b": 2.5})
    mlflow.log_expectation(trace_id=last, name="answer", value={"a": [1, "x"]}, source=human)
    cx.try_("of nothing", lambda: mlflow.log_feedback(trace_id="tr-" + "0" * 32, name="x", value=1))
    cx.step("read")
    cx.see("feedback", mlflow.get_assessment(last, feedback.assessment_id).to_dictionary())
    cx.see("on the trace", sorted(([a.name, a.value] for a in mlflow.get_trace(last).info.assessments), key=lambda pair: pair[0]))
    cx.step("update")
    from mlflow.entities import Feedback

    cx.try_("updated", lambda: mlflow.update_assessment(last, feedback.assessment_id, Feedback(name="good", value=False, rationale="no")).to_dictionary())
    cx.try_("override", lambda: mlflow.override_feedback(trace_id=last, assessment_id=feedback.assessment_id, value=True, source=human).to_dictionary())
    cx.step("search")
    for text in ("feedback.good = 'true'", "feedback.score = '0.5'", "expectation.answer LIKE '%x%'", "feedback.never = 'x'", "assessment.good = 'x'"):
        cx.try_(text, lambda text=text: len(_search(cx, [experiment], filter_string=text)))
    cx.step("delete")
    cx.try_("deleted", mlflow.delete_assessment, last, feedback.assessment_id)
    cx.try_("again", mlflow.delete_assessment, last, feedback.assessment_id)
    cx.try_("gone", mlflow.get_assessment, last, feedback.assessment_id)


@scenario(raw=True)
def raw(cx):
    """The routes by themselves, with times that are given."""
    experiment = cx.new_experiment()
    trace_id = lambda n: f"tr-{n:032x}"  # noqa: E731
    import hashlib

    ids = ["tr-" + hashlib.md5(f"{cx.nonce}{n}".encode()).hexdigest() for n in range(4)]
    cx.step("start")
    for n, id_ in enumerate(ids):
        cx.post(
            "traces",
            {
                "trace": {
                    "trace_info": {
                        "trace_id": id_,
                        "client_request_id": f"c{n}",
                        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}},
                        "request_preview": f"q{n}",
                        "response_preview": f"a{n}",
                        "request_time": f"2020-09-13T12:26:4{n}Z",
                        "execution_duration": f"{n}.5s",
                        "state": ["OK", "ERROR", "IN_PROGRESS", "STATE_UNSPECIFIED"][n],
                        "trace_metadata": {"m": str(n)},
                        "tags": {"t": str(n % 2)},
                    }
                }
            },
            version="3.0",
        )
    for body in (
        {},
        {"trace": {}},
        {"trace": {"trace_info": {}}},
        {"trace": {"trace_info": {"trace_id": "x"}}},
        {
            "trace": {
                "trace_info": {
                    "trace_id": trace_id(5),
                    "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "987654"}},
                    "request_time": "2020-09-13T12:26:40Z",
                    "state": "OK",
                }
            }
        },
        {"trace": {"trace_info": {"trace_id": trace_id(6), "state": "NOPE"}}},
        {"trace": "x"},
    ):
        cx.post("traces", body, version="3.0")
    cx.step("get")
    for id_ in (ids[0], trace_id(9), "x", "..%2fx"):
        cx.get(f"traces/{id_}", version="3.0")
        cx.get("traces/get", {"trace_id": id_}, version="3.0")
        cx.get(f"traces/{id_}/info")
    cx.get("traces/batchGet", {"trace_ids": ids[:2]}, version="3.0")
    cx.get("traces/batchGet", {}, version="3.0")
    cx.post("traces/batchGetInfos", {"trace_ids": ids[:2] + [trace_id(9)]}, version="3.0")
    cx.step("search")
    here = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}]
    for body in (
        {"locations": here},
        {"locations": here, "order_by": ["timestamp_ms ASC"]},
        {"locations": here, "max_results": 2, "order_by": ["timestamp_ms DESC"]},
        {"locations": here, "filter": "trace.status = 'OK'"},
        {"locations": here, "filter": "request_metadata.m = '1'"},
        {"locations": here, "filter": "tags.t = '1'", "order_by": ["execution_time_ms DESC"]},
        {"locations": here, "filter": "timestamp_ms > 1600000001000"},
        {"locations": here, "filter": "execution_time_ms > 600", "order_by": ["timestamp_ms"]},
        {"locations": here, "filter": "client_request_id = 'c1'"},
        {"locations": here, "filter": "nope"},
        {"locations": here, "max_results": 501},
        {"locations": here, "max_results": 0},
        {"locations": here, "max_results": "x"},
        {"locations": here, "page_token": "nonsense"},
        {"locations": []},
        {},
        {"locations": "x"},
        {"locations": here, "order_by": ["never"]},
    ):
        cx.post("traces/search", body, version="3.0")
    cx.get("traces", {"experiment_ids": [experiment], "max_results": 10})
    cx.step("tags")
    cx.raw("PATCH", f"/api/3.0/mlflow/traces/{ids[0]}/tags", {"key": "k", "value": "v"})
    cx.raw("PATCH", f"/api/2.0/mlflow/traces/{ids[0]}/tags", {"key": "k2", "value": "v"})
    cx.raw("PATCH", f"/api/3.0/mlflow/traces/{ids[0]}/tags", {"key": "k" * 251, "value": "v"})
    cx.raw("PATCH", f"/api/3.0/mlflow/traces/{ids[0]}/tags", {"key": "long", "value": "v" * 9000})
    cx.raw("PATCH", f"/api/3.0/mlflow/traces/{ids[0]}/tags", {"value": "v"})
    cx.raw("DELETE", f"/api/3.0/mlflow/traces/{ids[0]}/tags", {"key": "k"})
    cx.raw("DELETE", f"/api/2.0/mlflow/traces/{ids[0]}/tags?key=k2")
    cx.raw("DELETE", f"/api/2.0/mlflow/traces/{ids[0]}/tags", {"key": "k2"})
    cx.raw("DELETE", f"/api/3.0/mlflow/traces/{trace_id(9)}/tags", {"key": "k"})
    cx.get(f"traces/{ids[0]}", version="3.0")
    cx.step("assessments")
    status, answer = cx.post(
        f"traces/{ids[0]}/assessments",
        {
            "assessment": {
                "assessment_name": "good",
                "trace_id": ids[0],
                "source": {"source_type": "HUMAN", "source_id": "ann"},
                "feedback": {"value": True},
                "create_time": "2020-09-13T12:26:40Z",
                "last_update_time": "2020-09-13T12:26:40Z",
            }
        },
        version="3.0",
    )
    made = answer.get("assessment", {}).get("assessment_id", "none") if status == 200 else "none"
    for body in (
        {},
        {"assessment": {}},
        {"assessment": {"assessment_name": "x", "trace_id": ids[0], "source": {"source_type": "NOPE", "source_id": "x"}, "feedback": {"value": 1}}},
        {"assessment": {"assessment_name": "", "source": {"source_type": "HUMAN", "source_id": "x"}, "feedback": {"value": 1}}},
    ):
        cx.post(f"traces/{ids[0]}/assessments", body, version="3.0")
    cx.get(f"traces/{ids[0]}/assessments/{made}", version="3.0")
    cx.get(f"traces/{ids[0]}/assessments/none", version="3.0")
    cx.raw("PATCH", f"/api/3.0/mlflow/traces/{ids[0]}/assessments/{made}", {"assessment": {"rationale": "because"}, "update_mask": "rationale"})
    cx.raw("DELETE", f"/api/3.0/mlflow/traces/{ids[0]}/assessments/{made}")
    cx.raw("DELETE", f"/api/3.0/mlflow/traces/{ids[0]}/assessments/{made}")
    cx.step("delete")
    cx.post("traces/delete-traces", {"experiment_id": experiment, "request_ids": [ids[1]]})
    cx.post("traces/delete-traces", {"experiment_id": experiment, "max_timestamp_millis": 1_600_000_003_000, "max_traces": 1})
    for body in (
        {},
        {"experiment_id": experiment},
        {"experiment_id": experiment, "max_traces": 0, "max_timestamp_millis": 5},
        {"experiment_id": experiment, "request_ids": [], "max_traces": 1},
        {"experiment_id": experiment, "max_timestamp_millis": 5, "request_ids": ["x"]},
        {"experiment_id": "987654", "request_ids": ["x"]},
    ):
        cx.post("traces/delete-traces", body)
    cx.post("traces/delete-traces", {"experiment_id": experiment, "trace_ids": ids}, version="3.0")
    cx.post("traces/search", {"locations": here}, version="3.0")


@scenario(since=(2, 14))
def old_client(cx):
    """Tracing as every client since 2.14 has it."""
    mlflow = cx.mlflow
    cx.experiment()

    @mlflow.trace
    def twice(x):
        return x * 2

    twice(2)
    time.sleep(0.5)
    cx.try_("found", lambda: len(mlflow.search_traces()))


@scenario(raw=True)
def second_generation(cx):
    """The routes that clients before 3.0 use: start, end, search, info."""
    experiment = cx.new_experiment()
    cx.step("start and end")
    status, answer = cx.post(
        "traces",
        {
            "experiment_id": experiment,
            "timestamp_ms": 1_600_000_000_000,
            "request_metadata": [{"key": "mlflow.traceInputs", "value": "1"}],
            "tags": [{"key": "mlflow.traceName", "value": "old"}],
        },
    )
    made = answer["trace_info"]["request_id"] if status == 200 else "none"
    cx.raw(
        "PATCH",
        f"/api/2.0/mlflow/traces/{made}",
        {
            "request_id": made,
            "timestamp_ms": 1_600_000_000_500,
            "status": "OK",
            "request_metadata": [{"key": "mlflow.traceOutputs", "value": "2"}],
            "tags": [{"key": "t", "value": "v"}],
        },
    )
    cx.raw("PATCH", f"/api/2.0/mlflow/traces/tr-{'0' * 32}", {"request_id": f"tr-{'0' * 32}", "timestamp_ms": 5, "status": "OK"})
    cx.step("read")
    cx.get(f"traces/{made}/info")
    cx.get("traces", {"experiment_ids": [experiment], "max_results": 5, "order_by": ["timestamp_ms DESC"]})
    cx.get("traces", {"experiment_ids": [experiment], "filter": "status = 'OK'"})
    cx.get("traces", {"max_results": 5})
    for body in ({}, {"experiment_id": experiment}, {"experiment_id": "987654", "timestamp_ms": 5}, {"experiment_id": experiment, "timestamp_ms": "x"}):
        cx.post("traces", body)
    cx.step("figures")
    cx.post(
        "traces/metrics",
        {"experiment_ids": [experiment], "view_type": "TRACES", "metric_name": "trace_count", "aggregations": [{"aggregation_type": "COUNT"}]},
        version="3.0",
    )
    cx.post(
        "traces/calculate-filter-correlation",
        {"experiment_ids": [experiment], "filter_string1": "status = 'OK'", "filter_string2": "status = 'ERROR'"},
        version="3.0",
    )
