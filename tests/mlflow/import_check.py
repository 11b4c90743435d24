"""Fills an MLflow with everything that an import takes, imports it into a fresh project, and compares what the client reads from both.

    python tests/mlflow/import_check.py --binary target/release/gristmill --kind folder|database|server [--points 3000] [--kills 5]

The source is MLflow's own: a folder `mlruns`, an SQLite file with a folder of artifacts, or a running server. The import is first counted
(`--dry-run`), then killed several times in the middle (kill -9) and brought to its end, then made once more: it must find nothing new. After that
the unmodified client reads both sides: ids, moments, histories point by point, files byte by byte, predictions by alias. Prints one JSON
document; exit code 0 when nothing differs.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Before the client is imported: it reads them once.
os.environ.update(
    MLFLOW_DISABLE_TELEMETRY="true",
    DO_NOT_TRACK="true",
    NO_PROXY="127.0.0.1,localhost",
    MLFLOW_HTTP_REQUEST_MAX_RETRIES="1",
    MLFLOW_ALLOW_FILE_STORE="true",
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
    GIT_PYTHON_REFRESH="quiet",
)

import servers  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402

BIG = 1.7976931348623157e308
START = 1_600_000_000_000
# What is another place on another server; everything else must be equal.
PLACES = {"artifact_location", "artifact_uri", "artifact_path", "source"}
NAMES = ["simple", "with space/and folder", "ümlaut"]


def use(uri):
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow, mlflow.MlflowClient(uri, uri)


def table():
    import numpy
    import pandas

    rng = numpy.random.default_rng(5)
    frame = pandas.DataFrame({"age": rng.integers(18, 80, 120).astype(float), "fee": rng.normal(30, 9, 120).round(2)})
    return frame, (frame["age"] + frame["fee"] > 75).astype(int)


def fill(uri, points, location):
    """Everything an import has to take over."""
    from mlflow.entities import Metric, Param, RunTag

    mlflow, client = use(uri)
    place = (lambda name: f"{location}/{name}") if location else (lambda name: None)
    frame, target = table()

    # A run with long histories, values that JSON lacks, equal points, steps that go back.
    one = client.create_experiment("histories", artifact_location=place("histories"), tags={"team": "credit", "mlflow.note.content": "a *note*"})
    run = client.create_run(one, start_time=START, run_name="long", tags={"a": "1", "ümlaut key": "wört", "empty": ""}).info.run_id
    for first in range(0, points, 1000):
        batch = [Metric("loss", 1 / (1 + step), START + step, step) for step in range(first, min(first + 1000, points))]
        client.log_batch(run, metrics=batch)
    strange = [(math.nan, 0), (math.inf, 1), (-math.inf, 2), (1e-300, 3), (-0.0, 4), (7.0, 4), (3.5, -2)]
    client.log_batch(run, metrics=[Metric("val/auc at 5", value, START + n, step) for n, (value, step) in enumerate(strange)])
    client.log_batch(run, params=[Param(f"p{n:03}", "v" * (n * 50 % 5900) or "0") for n in range(100)], tags=[RunTag("b.c/d", "x\ny\tz")])
    client.set_terminated(run, "FINISHED", START + 5_000)
    running = client.create_run(one, start_time=START + 1, run_name="still running").info.run_id
    client.log_metric(running, "loss", 2.0, START + 2, 0)
    for status in ("FAILED", "KILLED"):
        client.set_terminated(client.create_run(one, start_time=START + 3, run_name=status.lower()).info.run_id, status, START + 9)
    gone = client.create_run(one, start_time=START + 4, run_name="deleted").info.run_id
    client.log_param(gone, "kept", "yes")
    client.delete_run(gone)
    for n in range(120):
        small = client.create_run(one, start_time=START + 100 + n, run_name=f"small {n}").info.run_id
        client.log_batch(small, [Metric(f"m{k}", n * k / 7, START, 0) for k in range(5)], [Param("n", str(n))], [RunTag("kind", "small")])

    # Nested runs, datasets, files in folders, by the fluent interface.
    two = client.create_experiment("models", artifact_location=place("models"))
    with mlflow.start_run(experiment_id=two, run_name="parent", description="the parent"):
        with tempfile.TemporaryDirectory() as folder:
            for name, content in {"a.txt": b"text", "deep/er/b.bin": random.Random(1).randbytes(300_000), "ümlaut & co.txt": b"", "c d.json": b"{}"}.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            mlflow.log_artifacts(folder, "files")
        mlflow.log_dict({"a": [1, 2]}, "config/a.json")
        mlflow.log_input(mlflow.data.from_pandas(frame, source="s3://bucket/train.csv", name="train"), context="training", tags={"v": "1"})
        for depth in (1, 4):
            with mlflow.start_run(nested=True, run_name=f"depth {depth}"):
                model = LogisticRegression(C=depth / 1000, max_iter=500).fit(frame, target)
                mlflow.log_params(model.get_params())
                mlflow.log_metric("accuracy", model.score(frame, target), step=depth)
                info = mlflow.sklearn.log_model(model, name="scores", input_example=frame[:2], params={"depth": depth}, tags={"by": "import"})
                data = mlflow.data.from_pandas(frame, name="test")
                mlflow.log_metric("held out", 0.5 + depth / 100, model_id=info.model_id, dataset=data)
                mlflow.register_model(info.model_uri, "churn", tags={"depth": str(depth)})
    with mlflow.start_run(experiment_id=two, run_name="by run") as by_run:
        info = mlflow.sklearn.log_model(LogisticRegression(max_iter=500).fit(frame, target), name="linear")
        mlflow.register_model(f"runs:/{by_run.info.run_id}/linear", "churn")
    loose = mlflow.initialize_logged_model("unfinished", model_type="agent", tags={"t": "1"}, experiment_id=two)
    client.log_model_params(loose.model_id, {"temperature": "0.1"})

    # The registry.
    client.update_registered_model("churn", "who leaves")
    client.set_registered_model_tag("churn", "owner", "ada")
    client.update_model_version("churn", "1", "the first")
    client.set_model_version_tag("churn", "2", "checked", "yes")
    client.set_registered_model_alias("churn", "champion", "2")
    client.set_registered_model_alias("churn", "Fallback_1", "1")
    client.transition_model_version_stage("churn", "1", "Archived")
    client.transition_model_version_stage("churn", "3", "Production")
    client.create_registered_model("empty one", {"k": "v"}, "has no versions")
    mlflow.register_model(info.model_uri, "holes")
    mlflow.register_model(info.model_uri, "holes")
    client.delete_model_version("holes", "1")
    with contextlib.suppress(AttributeError, NotImplementedError):
        mlflow.genai.register_prompt("greeting", "Hello {{name}}", commit_message="first", tags={"lang": "en"})
        mlflow.genai.register_prompt("greeting", "Good day {{name}}")
        mlflow.genai.set_prompt_alias("greeting", "live", 2)

    # A deleted experiment with runs, one with a renamed name, one without anything.
    three = client.create_experiment("thrown away", artifact_location=place("thrown"))
    client.log_param(client.create_run(three, start_time=START).info.run_id, "x", "1")
    client.delete_experiment(three)
    client.rename_experiment(client.create_experiment("old name"), "new name")
    for name in NAMES:
        client.create_experiment(name)
    client.log_metric(client.create_run("0", start_time=START, run_name="in the default one").info.run_id, "m", 1.0, START, 0)


def plain(value):
    """JSON of an entity's value. The two infinities and -0.0 are what MLflow's SQL store makes of them; nothing is the same as an empty text,
    because only MLflow's folder makes a difference between them."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else max(-BIG, min(BIG, value)) + 0.0
    if value is None:
        return ""
    if hasattr(value, "to_dictionary"):
        return plain(value.to_dictionary())
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items() if k not in PLACES}
    if isinstance(value, str | int):
        return value
    try:
        return [plain(v) for v in value]
    except TypeError:
        return str(value)


def fields(entity, *names):
    return {name: plain(getattr(entity, name, None)) for name in names}


def pages(ask):
    token = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def files(uri):
    """Every file with the digest of its content, as the client downloads it."""
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        try:
            got = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))
        except Exception as error:  # noqa: BLE001 - nothing there is said in many ways
            if os.environ.get("IMPORT_CHECK_VERBOSE"):
                print(uri, error, file=sys.stderr)
            return {}
        # The client puts a note beside a model that it loads, in a source's own folder too.
        found = [p for p in sorted(got.rglob("*")) if p.is_file() and p.name != "registered_model_meta"]
        return {str(p.relative_to(got)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def read(uri):
    """Everything, as the unmodified client sees it."""
    from mlflow.entities import ViewType

    mlflow, client = use(uri)
    frame, _ = table()
    seen = {"experiments": {}, "runs": {}, "histories": {}, "files": {}, "logged": {}, "registered": {}, "versions": {}, "predictions": {}}
    experiments = list(pages(lambda t: client.search_experiments(ViewType.ALL, max_results=3, page_token=t)))
    for e in experiments:
        seen["experiments"][e.experiment_id] = fields(e, "name", "lifecycle_stage", "creation_time", "last_update_time", "tags")
        for found in pages(lambda t: client.search_runs([e.experiment_id], "", ViewType.ALL, 50, page_token=t)):
            run = client.get_run(found.info.run_id)
            info, key = run.info, run.info.run_id
            inputs = run.inputs.to_dictionary() if run.inputs else {}
            seen["runs"][key] = {
                **fields(info, "experiment_id", "run_name", "user_id", "status", "start_time", "end_time", "lifecycle_stage"),
                "params": dict(run.data.params),
                "tags": dict(run.data.tags),
                "latest": plain(dict(run.data.metrics)),
                "inputs": plain({k: sorted(v, key=str) for k, v in inputs.items() if v}),
                "outputs": sorted(plain([o.to_dictionary() for o in (run.outputs.model_outputs if run.outputs else [])]), key=str),
            }
            for metric in run.data.metrics:
                history = client.get_metric_history(key, metric)
                # Digested: thousands of points are not read by people.
                rows = sorted([plain(p.value), p.timestamp, p.step] for p in history if not math.isnan(p.value))
                rows += [["NaN", p.timestamp, p.step] for p in history if math.isnan(p.value)]
                seen["histories"][f"{key} {metric}"] = [len(rows), hashlib.sha256(json.dumps(rows).encode()).hexdigest(), rows[:8]]
            if info.lifecycle_stage == "active" and e.lifecycle_stage == "active" and "kind" not in run.data.tags:
                seen["files"][key] = files(info.artifact_uri)
        if e.lifecycle_stage != "active":
            continue
        for m in pages(lambda t: client.search_logged_models([e.experiment_id], max_results=2, page_token=t)):
            m = client.get_logged_model(m.model_id)
            seen["logged"][m.model_id] = {
                **fields(m, "experiment_id", "name", "model_type", "source_run_id", "status", "creation_timestamp", "last_updated_timestamp", "tags", "params"),
                "metrics": sorted(plain([fields(x, "key", "value", "timestamp", "step", "dataset_name", "dataset_digest", "run_id") for x in m.metrics or []]), key=str),
            }
            seen["files"][m.model_id] = files(m.artifact_location)
    for m in pages(lambda t: client.search_registered_models(max_results=2, page_token=t)):
        m = client.get_registered_model(m.name)
        seen["registered"][m.name] = fields(m, "creation_timestamp", "last_updated_timestamp", "description", "tags")
        seen["registered"][m.name]["aliases"] = {alias: str(number) for alias, number in m.aliases.items()}
        for v in pages(lambda t: client.search_model_versions(f"name='{m.name}'", 2, page_token=t)):
            v = client.get_model_version(m.name, v.version)
            key = f"{m.name} {v.version}"
            seen["versions"][key] = fields(
                v, "creation_timestamp", "last_updated_timestamp", "description", "run_id", "current_stage", "status", "tags", "user_id", "aliases"
            )
            seen["versions"][key]["version"] = str(v.version)
            loaded = mlflow.pyfunc.load_model(f"models:/{m.name}/{v.version}")
            seen["predictions"][key] = hashlib.sha256(json.dumps(loaded.predict(frame).tolist()).encode()).hexdigest()
        for alias in m.aliases:
            loaded = mlflow.pyfunc.load_model(f"models:/{m.name}@{alias}")
            seen["predictions"][f"{m.name}@{alias}"] = hashlib.sha256(json.dumps(loaded.predict(frame).tolist()).encode()).hexdigest()
    with contextlib.suppress(AttributeError, NotImplementedError):
        for name, versions in (("greeting", (1, 2)),):
            prompts = [client.get_prompt_version(name, str(v)) for v in versions]
            seen["versions"][name] = [fields(p, "template", "commit_message", "tags") for p in prompts]
            seen["predictions"][f"{name}@live"] = mlflow.genai.load_prompt(f"prompts:/{name}@live").template
    return seen


def differences(there, here, where=""):
    """[(where, there, here)]"""
    if isinstance(there, dict) and isinstance(here, dict):
        return [d for key in sorted(there.keys() | here.keys()) for d in differences(there.get(key), here.get(key), f"{where}/{key}")]
    return [] if there == here else [(where, there, here)]


class Importer:
    def __init__(self, binary, source, folder, extra):
        self.command = [binary, "import", "mlflow", source, *extra, "--json", "--no-input"]
        self.folder = folder
        subprocess.run([binary, "init", ".", "--example", "empty"], cwd=folder, check=True, capture_output=True)

    def run(self, *flags):
        ran = subprocess.run([*self.command, *flags], cwd=self.folder, capture_output=True, text=True)
        if ran.returncode != 0 or not ran.stdout.strip():
            raise SystemExit(f"{' '.join(ran.args)} ended with {ran.returncode}:\n{ran.stdout}\n{ran.stderr}")
        return json.loads(ran.stdout)

    def killed(self, after):
        """Whether it was killed before it had ended."""
        process = subprocess.Popen(self.command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=after)
            return False
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return True


def state(folder):
    """What a project keeps: files by their content, the ledger by its rows. The ledger's file may change without them: SQLite moves pages."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith("ledger.db")]
    kept = {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    with contextlib.closing(sqlite3.connect(folder / ".gristmill/ledger.db")) as ledger:
        for line in ledger.iterdump():
            table = line.split("VALUES", 1)[0]
            kept[table] = hashlib.sha256((kept.get(table, "") + line).encode()).hexdigest()
    return kept


TALLIES = ("experiments", "runs", "logged_models", "models", "versions", "aliases")


def check(given, source, extra, uri, out):
    """Imports, and compares."""
    there = read(uri)
    out["there"] = {kind: len(things) for kind, things in there.items()}
    with tempfile.TemporaryDirectory(prefix="import-") as folder:
        folder = Path(folder)
        importer = Importer(given.binary, source, folder, extra)
        importer.run("--dry-run")  # makes the empty ledger
        before = state(folder)
        out["dry_run"] = importer.run("--dry-run")
        wrong = differences(before, state(folder), "dry run changed")
        with tempfile.TemporaryDirectory(prefix="import-") as elsewhere:
            began = time.monotonic()
            out["import_alone"] = Importer(given.binary, source, elsewhere, extra).run()
            out["import_alone_seconds"] = whole = round(time.monotonic() - began, 2)
        wrong += differences({k: out["dry_run"][k]["new"] for k in TALLIES}, {k: out["import_alone"][k]["new"] for k in TALLIES}, "promised as new")
        dice, kills = random.Random(given.seed), 0
        for _ in range(given.kills):
            kills += importer.killed(dice.uniform(0.05, 0.5) * whole)
        began = time.monotonic()
        out["import"] = importer.run()
        out["import_seconds"], out["kills"] = round(time.monotonic() - began, 2), kills
        for kind in TALLIES:
            counted, taken = out["dry_run"][kind], out["import"][kind]
            wrong += differences(sum(counted.values()), sum(taken.values()), f"dry run counts {kind}")
        before = state(folder)
        out["again"] = importer.run()
        for kind in TALLIES:
            wrong += differences(0, out["again"][kind]["new"] + out["again"][kind]["added"], f"second import of {kind}")
        wrong += differences(before, state(folder), "second import changed")
        with servers.gristmill(given.binary, folder / "server.log", folder) as url:
            here = read(url)
        verified = subprocess.run([given.binary, "logs", "--verify"], cwd=folder, capture_output=True, text=True)
        if verified.returncode != 0:
            wrong.append(("logs --verify", 0, verified.stdout + verified.stderr))
        wrong += differences(there, here)
    out["differences"] = wrong


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--kind", choices=["folder", "database", "server"], required=True)
    arguments.add_argument("--points", type=int, default=3_000)
    arguments.add_argument("--kills", type=int, default=5)
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    given.binary = str(Path(given.binary).resolve())
    out = {"kind": given.kind}
    # The client prints addresses of runs.
    quiet = contextlib.redirect_stdout(sys.stderr)
    with tempfile.TemporaryDirectory(prefix="mlflow-source-") as folder, contextlib.chdir(folder), quiet:
        if given.kind == "folder":
            uri = f"file://{folder}/mlruns"
            fill(uri, given.points, None)
            check(given, f"{folder}/mlruns", [], uri, out)
        elif given.kind == "database":
            uri = f"sqlite:///{folder}/mlflow.db"
            fill(uri, given.points, f"{folder}/artifacts")
            check(given, uri, ["--artifacts", f"{folder}/artifacts"], uri, out)
        else:
            with servers.peer(sys.executable, f"{folder}/server.log", folder) as uri:
                fill(uri, given.points, None)
                check(given, uri, [], uri, out)
    print(json.dumps(out, indent=1, default=str))
    return 1 if out["differences"] else 0


if __name__ == "__main__":
    sys.exit(main())
