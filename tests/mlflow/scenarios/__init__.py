"""Scenarios: what a user does with MLflow, written once, run against both servers.

A scenario is a function of a `Context`, decorated with `@scenario`. It uses the public client API and raw requests; the proxy writes down what
goes over the wire. `cx.step` names the part that follows, `cx.see` notes what the client gave back, `cx.try_` notes a result or the error.
Rules: names come from `cx.name`; times are given where they matter; nothing reads the clock; lists are filtered to the scenario's own names, so
that a scenario can run twice on one server.

To add one: a function in a module of this folder, and the module in `MODULES`.
"""

import http.client
import importlib
import json
import math
import os
import tempfile
import urllib.parse
from pathlib import Path

MODULES = (
    "plain",
    "limits",
    "errors",
    "search",
    "experiments",
    "registry",
    "models",
    "autolog",
    "artifacts",
    "datasets",
    "traces",
    "evaluate",
    "webhooks",
    "wire",
    "churn",
)
ALL = {}


def scenario(since=(0,), needs=(), raw=False):
    """Registers a scenario; `since` is the oldest client version with that API, `needs` are packages, `raw` that no client takes part."""

    def register(function):
        name = f"{function.__module__.rsplit('.', 1)[-1]}.{function.__name__.rstrip('_')}"
        assert name not in ALL, name
        ALL[name] = {"run": function, "since": tuple(since), "needs": tuple(needs), "raw": raw}
        return function

    return register


def load():
    for module in MODULES:
        importlib.import_module(f"scenarios.{module}")
    return ALL


class Context:
    """What a scenario is given."""

    def __init__(self, url, nonce, name):
        self.url, self.nonce, self.scenario = url, nonce, name
        self._folder = None
        parts = urllib.parse.urlsplit(url)
        self.address = (parts.hostname, parts.port)

    @property
    def folder(self):
        """An empty folder of this scenario."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="mlflow-scenario-"))
        return self._folder

    @property
    def mlflow(self):
        import mlflow

        return mlflow

    @property
    def client(self):
        return self.mlflow.MlflowClient()

    @property
    def version(self):
        import mlflow.version

        return tuple(int(p) for p in mlflow.version.VERSION.split(".")[:2] if p.isdigit())

    def name(self, suffix=""):
        """A name that no other run of a scenario uses."""
        return f"{self.scenario.replace('.', '_')}_{self.nonce}{'_' + suffix if suffix else ''}"

    def experiment(self, suffix=""):
        """A new experiment, made the current one; gives its id."""
        return self.mlflow.set_experiment(self.name(suffix)).experiment_id

    def _tell(self, kind, **what):
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        connection.request("POST", f"/__{kind}", json.dumps(what, default=str), {"content-type": "application/json"})
        connection.getresponse().read()
        connection.close()

    def step(self, label, loose=False):
        """Names what follows. `loose`: the client sends from threads that batch by time, so only which routes were called and how they were
        answered is compared; read back what must be there in the next step."""
        self._tell("mark", label=label, loose=loose)

    def see(self, label, value):
        self._tell("see", label=label, value=as_json(value))

    def try_(self, label, function, *args, **kwargs):
        """Calls; notes the result, or the kind and text of the error."""
        try:
            result = function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - what the client raises is the thing compared
            self.see(label, {"raised": type(error).__name__, "error_code": getattr(error, "error_code", None), "message": str(error)})
            return None
        self.see(label, result)
        return result

    def raw(self, method, path, body=None, query=None, headers=None, data=None):
        """One request as written: no client in between, no tidying of the path. Gives (status, parsed or text)."""
        if query:
            path = f"{path}?{urllib.parse.urlencode(query, doseq=True)}"
        headers = {"X-Scenario-Raw": "1", **(headers or {})}
        if body is not None:
            data = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(*self.address, timeout=300)
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        try:
            return response.status, json.loads(answer)
        except ValueError:
            return response.status, answer.decode("latin-1")

    def post(self, route, body, version="2.0"):
        return self.raw("POST", f"/api/{version}/mlflow/{route}", body)

    def get(self, route, query=None, version="2.0"):
        return self.raw("GET", f"/api/{version}/mlflow/{route}", query=query)

    def new_run(self, experiment_id="0", **extra):
        """A run made by a raw request; gives its id."""
        status, answer = self.post("runs/create", {"experiment_id": experiment_id, "start_time": 1_600_000_000_000, "run_name": "made", **extra})
        assert status == 200, answer
        return answer["run"]["info"]["run_id"]

    def new_experiment(self, suffix="", **extra):
        status, answer = self.post("experiments/create", {"name": self.name(suffix), **extra})
        assert status == 200, answer
        return answer["experiment_id"]


def as_json(value, depth=0):
    """Anything a client gives back, as JSON."""
    if depth > 12:
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {str(k): as_json(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)) or type(value).__name__ == "PagedList":
        return [as_json(v, depth + 1) for v in value]
    if isinstance(value, os.PathLike):
        return "<path>"
    if type(value).__module__.startswith("numpy"):
        return as_json(value.tolist(), depth + 1)
    if type(value).__module__.startswith("pandas"):
        return as_json(json.loads(value.to_json()), depth + 1)
    for way in ("to_dictionary", "to_dict"):
        if hasattr(value, way):
            try:
                return as_json(getattr(value, way)(), depth + 1)
            except Exception:  # noqa: BLE001 - then the next way
                pass
    if type(value).__module__.startswith("mlflow."):
        properties = [n for n in dir(type(value)) if isinstance(getattr(type(value), n, None), property)]
        return {n: as_json(getattr(value, n), depth + 1) for n in properties}
    return str(value)
