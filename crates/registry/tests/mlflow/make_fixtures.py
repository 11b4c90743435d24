"""Makes the golden data of the MLflow import with a real MLflow 3.17.

    PYTHON make_fixtures.py            PYTHON has mlflow==3.17.2; run in this folder; writes /srv/mlflow while it works

The same content is written three times: into a folder (`mlruns/`), into a database (`mlflow.db`, `mlartifacts/`), and into a server whose answers
are recorded (`rest.json`). What each store says about itself is in `expected-*.json`, read through MLflow's own client. Standard library and
mlflow only. Tables of parts that are not imported are dropped from the database, which is then packed, so that it is small.
"""

import json
import math
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["GIT_PYTHON_REFRESH"] = "quiet"

import mlflow  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, LoggedModelOutput, LoggedModelParameter  # noqa: E402
from mlflow.entities import LoggedModelStatus, Metric, Param, RunTag, ViewType  # noqa: E402

HERE = Path(__file__).resolve().parent
WORK = Path("/srv/mlflow")
LONG = json.dumps({"mlflow_colspec": [{"type": "double", "name": f"feature number {i}: it's \"quoted\"", "required": True} for i in range(6)]})
KEPT = """alembic_version experiments experiment_tags runs metrics latest_metrics params tags datasets inputs input_tags logged_models
logged_model_params logged_model_tags logged_model_metrics registered_models registered_model_tags registered_model_aliases model_versions
model_version_tags""".split()


def upload(client, run, path, text):
    folder, name = os.path.split(path)
    place = WORK / "upload" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    client.log_artifact(run, str(place), folder or None)


def fill(client):
    """Writes the content; the same calls for every store."""
    churn = client.create_experiment("churn", tags={"team": "growth", "note": "first line\nsecond: line\n\n  é 'q' \"d\" # \t end"})
    start = 1_700_000_000_000
    one = client.create_run(churn, start_time=start, run_name="bold-hen", tags={"mlflow.user": "ada", "text": "a\nb", "empty": "", "größe": "ü 😀"}).info.run_id
    params = {"depth": "3", "lr/rate": "0.1", "long": "x " * 200, "yaml": "- a: 'b'"}
    points = [Metric("auc", v, start + i * 1000, i) for i, v in enumerate([0.5, 0.75, float("nan"), 0.6251234567890123, 1e-300])]
    points += [Metric("loss/train", v, start, s) for s, v in [(0, 3.0), (0, 2.0), (-5, float("inf")), (7, -0.0)]]
    client.log_batch(one, points, [Param(k, v) for k, v in params.items()], [RunTag("k", "v")])
    data = Dataset("rows and more", "abc123", "local", json.dumps({"uri": "data/rows.csv"}), LONG, json.dumps({"rows": 5}))
    client.log_inputs(one, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])
    upload(client, one, "notes/readme.txt", "hello\n")
    upload(client, one, "model/MLmodel", "flavors: {}\n")
    upload(client, one, "model/data/größe 1%.txt", "ü")
    upload(client, one, "top.bin", "\0\1\2")
    model = client.create_logged_model(churn, name="forest", source_run_id=one, tags={"kind": "tree"}, params={"trees": "100"}, model_type="sklearn")
    client.log_model_artifact(model.model_id, str(WORK / "upload" / "MLmodel"))
    about = [Metric("auc", 0.9, start + 9000, 9, model_id=model.model_id, dataset_name="rows", dataset_digest="abc123", run_id=one)]
    client.log_batch(one, about)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(one, [LoggedModelOutput(model.model_id, 9)])
    client.set_terminated(one, "FINISHED", start + 60_000)
    failed = client.create_logged_model(churn, name="broken")
    client.finalize_logged_model(failed.model_id, LoggedModelStatus.FAILED)
    two = client.create_run(churn, start_time=start + 1, tags={"mlflow.parentRunId": one}).info.run_id
    client.log_inputs(two, models=[LoggedModelInput(model.model_id)])
    client.set_terminated(two, "FAILED", start + 2)
    gone = client.create_run(churn, start_time=start + 3, run_name="gone").info.run_id
    client.log_param(gone, "p", "1")
    client.set_terminated(gone, "KILLED", start + 4)
    client.delete_run(gone)
    client.create_run(churn, start_time=start + 5, run_name="still-running")
    client.log_metric(client.create_run("0", start_time=start + 6).info.run_id, "m", 1.5, start, 0)

    old = client.create_experiment("old and gone", tags={"a": "b"})
    ended = client.create_run(old, start_time=start, run_name="ended").info.run_id
    client.log_metric(ended, "m", 2.5, start, 1)
    client.set_terminated(ended, "FINISHED", start + 1)
    client.delete_experiment(old)

    client.create_registered_model("churn", tags={"owner": "ada"}, description="who leaves,\nand when")
    root = client.get_run(one).info.artifact_uri
    client.create_model_version("churn", f"{root}/model", one, tags={"v": "1"}, description="first")
    client.create_model_version("churn", f"{root}/model", one)
    client.create_model_version("churn", f"models:/{model.model_id}", one, model_id=model.model_id)
    client.delete_model_version("churn", "2")
    client.transition_model_version_stage("churn", "1", "Production")
    client.set_registered_model_alias("churn", "champion", "3")
    client.set_registered_model_alias("churn", "old-one", "1")
    client.create_registered_model("My Model é")
    client.register_prompt("greeting", "Hello {{name}},\nwelcome!", commit_message="first", tags={"lang": "en"})


def number(value):
    return str(value) if math.isnan(value) or math.isinf(value) else value


def point(p):
    return [p.timestamp, p.step, number(p.value)]


def describe(client):
    """What a store says about itself, in the words of the test."""
    experiments = client.search_experiments(ViewType.ALL)
    ids = [e.experiment_id for e in experiments]
    told = {"experiments": [], "runs": [], "logged_models": [], "models": [], "files": {}}
    for e in experiments:
        told["experiments"].append(
            dict(id=int(e.experiment_id), name=e.name, deleted=e.lifecycle_stage == "deleted", created=e.creation_time, tags=e.tags)
        )
    for r in client.search_runs(ids, run_view_type=ViewType.ALL):
        r = client.get_run(r.info.run_id)  # a search leaves out which models a run read
        i, d = r.info, r.data
        told["runs"].append(
            dict(
                id=i.run_id, experiment=int(i.experiment_id), name=i.run_name, user=i.user_id, status=i.status,
                deleted=i.lifecycle_stage == "deleted", started=i.start_time, ended=i.end_time, params=d.params, tags=d.tags,
                metrics={k: sorted((point(p) for p in client.get_metric_history(i.run_id, k)), key=str) for k in d.metrics},
                datasets=[
                    dict(name=x.dataset.name, digest=x.dataset.digest, source_type=x.dataset.source_type, source=x.dataset.source,
                         schema=x.dataset.schema, profile=x.dataset.profile, tags={t.key: t.value for t in x.tags})
                    for x in r.inputs.dataset_inputs
                ],
                read=[m.model_id for m in r.inputs.model_inputs],
                made=[[m.model_id, m.step] for m in r.outputs.model_outputs],
            )
        )
        told["files"][i.run_id] = files(lambda path: client.list_artifacts(i.run_id, path))
    for m in client.search_logged_models(ids):
        told["logged_models"].append(
            dict(
                id=m.model_id, experiment=int(m.experiment_id), name=m.name, kind=m.model_type, run=m.source_run_id, status=str(m.status),
                created=m.creation_timestamp, params=m.params, tags=m.tags,
                metrics=[[p.key, *point(p), p.run_id, p.dataset_name, p.dataset_digest] for p in m.metrics or []],
            )
        )
        told["files"][m.model_id] = files(lambda path: client.list_logged_model_artifacts(m.model_id, path))
    store = client._get_registry_client().store
    listed = {m.name: m for m in store.search_registered_models(max_results=100)}
    listed |= {m.name: m for m in store.search_registered_models("tags.`mlflow.prompt.is_prompt` = 'true'", max_results=100)}
    for name in sorted(listed):
        m = store.get_registered_model(name)
        prompt = " AND tags.`mlflow.prompt.is_prompt` = 'true'" if "mlflow.prompt.is_prompt" in m._tags else ""
        found = store.search_model_versions(f"name = '{name}'{prompt}", max_results=100)
        versions = [
            dict(number=int(v.version), created=v.creation_timestamp, stage=v.current_stage, description=v.description or "",
                 run=v.run_id or None, tags=v.tags, source=v.source)
            for v in sorted(found, key=lambda v: int(v.version))
        ]
        told["models"].append(
            dict(name=name, created=m.creation_timestamp, description=m.description or "", tags=m._tags,
                 aliases={k: int(v) for k, v in m.aliases.items()}, versions=versions)
        )
    return told


def files(listing, path=None):
    found = {}
    for f in listing(path):
        found |= files(listing, f.path) if f.is_dir else {f.path: f.file_size}
    return found


def write(name, value):
    (HERE / name).write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def folder():
    place = WORK / "mlruns"
    client = MlflowClient(str(place))
    mlflow.set_tracking_uri(str(place))
    fill(client)
    expected = describe(client)
    # The folder's own reader forgets the step of a point that was measured on a dataset; the file has it.
    for points in (run["metrics"].get("auc", []) for run in expected["runs"]):
        points[:] = [[at, 9 if at == 1_700_000_009_000 else step, value] for at, step, value in points]
    write("expected-folder.json", expected)
    shutil.rmtree(HERE / "mlruns", ignore_errors=True)
    shutil.copytree(place, HERE / "mlruns")


class Server:
    def __enter__(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{WORK}/mlflow.db", "--port", str(self.port)]
        command += ["--artifacts-destination", str(WORK / "mlartifacts"), "--workers", "1"]
        self.process = subprocess.Popen(command, cwd=WORK, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=1).read()
                return self
            except OSError:
                time.sleep(0.2)
        raise SystemExit("the server does not start")

    def __exit__(self, *_):
        os.killpg(self.process.pid, 15)
        self.process.wait()


class Recorder:
    """Asks what the import asks, in its order of parameters, and keeps the answers."""

    def __init__(self, url):
        self.url, self.kept = url, {}

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            answer = urllib.request.urlopen(request)
            status, content = answer.status, answer.read()
        except urllib.error.HTTPError as e:
            status, content = e.code, e.read()
        key = f"GET {path}" if body is None else f"POST {path} {json.dumps(body, sort_keys=True, separators=(',', ':'))}"
        try:
            self.kept[key] = [status, json.loads(content)]
            return json.loads(content)
        except ValueError:
            self.kept[key] = [status, content.decode("latin-1")]
            return {}

    def crawl(self):
        api = "/api/2.0/mlflow"
        q = lambda **pairs: "&".join(f"{k}={urllib.parse.quote(v, safe='-_.~')}" for k, v in pairs.items())
        for e in self.ask(f"{api}/experiments/search", {"max_results": 1000, "view_type": "ALL"})["experiments"]:
            search = {"experiment_ids": [e["experiment_id"]], "run_view_type": "ALL", "max_results": 200, "order_by": ["attributes.start_time ASC"]}
            for r in self.ask(f"{api}/runs/search", search).get("runs", []):
                run = r["info"]["run_id"]
                self.ask(f"{api}/runs/get?{q(run_id=run)}")
                for m in r["data"].get("metrics", []):
                    self.ask(f"{api}/metrics/get-history?{q(run_id=run, metric_key=m['key'], max_results='20000')}")
                self.files(lambda p: f"{api}/artifacts/list?{q(run_id=run, **p)}", lambda p: f"/get-artifact?{q(run_id=run, run_uuid=run, path=p)}", "path")
            for m in self.ask(f"{api}/logged-models/search", {"experiment_ids": [e["experiment_id"]], "max_results": 100}).get("models", []):
                model = m["info"]["model_id"]
                self.files(
                    lambda p: f"{api}/logged-models/{model}/artifacts/directories?{q(**p)}",
                    lambda p: f"/ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files?{q(artifact_file_path=p)}",
                    "artifact_directory_path",
                )
        prompts = "tags.`mlflow.prompt.is_prompt` = 'true'"
        self.ask(f"{api}/registered-models/search?{q(max_results='1000')}")
        for filter in [None, prompts]:
            more = {} if filter is None else {"filter": filter}
            for m in self.ask(f"{api}/registered-models/search?{q(max_results='100', **more)}").get("registered_models", []):
                is_prompt = any(t["key"] == "mlflow.prompt.is_prompt" for t in m.get("tags", []))
                name = f"name = '{m['name']}'" + (f" AND {prompts}" if is_prompt else "")
                self.ask(f"{api}/model-versions/search?{q(filter=name, max_results='1000')}")

    def files(self, listing, content, word, path=None):
        for f in self.ask(listing({word: path} if path else {})).get("files", []):
            if f.get("is_dir"):
                self.files(listing, content, word, f["path"])
            else:
                self.ask(content(f["path"]))


def served():
    with Server() as server:
        client = MlflowClient(server.url)
        mlflow.set_tracking_uri(server.url)
        fill(client)
        expected = describe(client)
        write("expected-database.json", expected)
        recorder = Recorder(server.url)
        recorder.crawl()
        write("rest.json", recorder.kept)
    shutil.rmtree(HERE / "mlartifacts", ignore_errors=True)
    shutil.copytree(WORK / "mlartifacts", HERE / "mlartifacts")
    packed = HERE / "mlflow.db"
    packed.unlink(missing_ok=True)
    shutil.copy(WORK / "mlflow.db", packed)
    with sqlite3.connect(packed, isolation_level=None) as db:
        db.execute("PRAGMA foreign_keys = off")
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").fetchall():
            if table not in KEPT:
                db.execute(f'DROP TABLE "{table}"')
        db.execute("PRAGMA journal_mode = delete")
        db.execute("PRAGMA page_size = 512")
        db.execute("VACUUM")
    db.close()


if __name__ == "__main__":
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    folder()
    served()
    shutil.rmtree(WORK)
