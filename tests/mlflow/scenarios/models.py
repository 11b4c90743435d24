"""Models through the client: log_model, register, load, and logged models."""

from . import scenario

T = 1_600_000_000_000
# With requirements given, the client does not start a helper process to find them.
PINNED = ["scikit-learn"]


def data():
    import numpy

    rng = numpy.random.default_rng(7)
    x = rng.normal(size=(60, 3))
    return x, (x[:, 0] + x[:, 1] > 0).astype(int)


def log_model(cx, model, name, **extra):
    """`name` was `artifact_path` before 3.0."""
    key = "name" if cx.version >= (3, 0) else "artifact_path"
    return cx.mlflow.sklearn.log_model(model, **{key: name}, pip_requirements=PINNED, **extra)


@scenario(needs=("sklearn",))
def sklearn_pickle(cx):
    from sklearn.linear_model import LogisticRegression

    mlflow, (x, y) = cx.mlflow, data()
    cx.experiment()
    model = LogisticRegression().fit(x, y)
    cx.step("log")
    with mlflow.start_run(run_name="trains") as run:
        mlflow.log_metric("accuracy", model.score(x, y))
        info = log_model(cx, model, "model", serialization_format="cloudpickle", input_example=x[:2])
    cx.step("load by run")
    loaded = mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/model")
    cx.see("same predictions", (loaded.predict(x) == model.predict(x)).all())
    cx.step("load by its uri")
    cx.see("pyfunc", mlflow.pyfunc.load_model(info.model_uri).predict(x[:5]))
    cx.step("register")
    version = mlflow.register_model(f"runs:/{run.info.run_id}/model", cx.name("clf"))
    cx.see("version", version.version)
    again = mlflow.register_model(f"runs:/{run.info.run_id}/model", cx.name("clf"), tags={"second": "yes"})
    cx.see("again", again.version)
    cx.step("alias and stage")
    cx.client.set_registered_model_alias(cx.name("clf"), "champion", "1")
    cx.client.transition_model_version_stage(cx.name("clf"), "2", "Production")
    cx.step("load by alias")
    cx.see("alias", mlflow.pyfunc.load_model(f"models:/{cx.name('clf')}@champion").predict(x[:5]))
    cx.step("load by version")
    cx.see("1", mlflow.sklearn.load_model(f"models:/{cx.name('clf')}/1").predict(x[:5]))
    cx.step("load by stage")
    cx.see("stage", mlflow.pyfunc.load_model(f"models:/{cx.name('clf')}/Production").predict(x[:5]))
    cx.see("latest", mlflow.pyfunc.load_model(f"models:/{cx.name('clf')}/latest").predict(x[:5]))
    cx.step("what is not there")
    cx.try_("no alias", mlflow.pyfunc.load_model, f"models:/{cx.name('clf')}@nobody")
    cx.try_("no version", mlflow.pyfunc.load_model, f"models:/{cx.name('clf')}/9")
    cx.try_("no model", mlflow.pyfunc.load_model, f"models:/{cx.name('none')}/1")
    cx.try_("no stage", mlflow.pyfunc.load_model, f"models:/{cx.name('clf')}/Staging")
    cx.try_("no path", mlflow.pyfunc.load_model, f"runs:/{run.info.run_id}/nothing")
    cx.step("model info")
    described = mlflow.models.get_model_info(f"models:/{cx.name('clf')}@champion")
    cx.see("flavors", sorted(described.flavors))
    cx.see("search", [(v.version, v.run_id == run.info.run_id) for v in cx.client.search_model_versions(f"name = '{cx.name('clf')}'")])
    if hasattr(cx.client, "copy_model_version"):
        cx.step("copy")
        cx.try_("copied", lambda: cx.client.copy_model_version(f"models:/{cx.name('clf')}@champion", cx.name("copy")).version)
        cx.try_("loads", lambda: mlflow.pyfunc.load_model(f"models:/{cx.name('copy')}/1").predict(x[:5]))


@scenario(since=(3, 9), needs=("sklearn", "skops"))
def sklearn_skops(cx):
    """What the newest client does when nothing is asked for."""
    from sklearn.linear_model import LogisticRegression

    mlflow, (x, y) = cx.mlflow, data()
    cx.experiment()
    model = LogisticRegression().fit(x, y)
    cx.step("log and register at once")
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(model, name="model", pip_requirements=PINNED, registered_model_name=cx.name("skops"))
    cx.see("version", info.registered_model_version)
    cx.step("load")
    cx.see("loads", mlflow.sklearn.load_model(f"models:/{cx.name('skops')}/1").predict(x[:5]))
    cx.see("by id", mlflow.pyfunc.load_model(f"models:/{info.model_id}").predict(x[:5]))


@scenario(needs=("sklearn",))
def register_at_once(cx):
    from sklearn.dummy import DummyClassifier

    mlflow, (x, y) = cx.mlflow, data()
    cx.experiment()
    for step in ("first", "second"):
        cx.step(step)
        with mlflow.start_run():
            log_model(
                cx,
                DummyClassifier().fit(x, y),
                "m",
                registered_model_name=cx.name("r"),
                serialization_format="cloudpickle",
                signature=mlflow.models.infer_signature(x, y),
            )
    cx.see("versions", sorted(v.version for v in cx.client.search_model_versions(f"name = '{cx.name('r')}'")))


@scenario(since=(3, 0))
def logged(cx):
    client, experiment = cx.client, cx.experiment()
    cx.step("create")
    run = client.create_run(experiment, start_time=T)
    model = client.create_logged_model(experiment, name="net", source_run_id=run.info.run_id, tags={"t": "1"}, params={"lr": "0.1"}, model_type="torch")
    cx.see("created", model.to_dictionary())
    unnamed = client.create_logged_model(experiment)
    cx.step("update")
    client.log_model_params(model.model_id, {"depth": "3"})
    client.set_logged_model_tags(model.model_id, {"a": "b", "t": "2"})
    client.delete_logged_model_tag(model.model_id, "a")
    cx.try_("tag not there", client.delete_logged_model_tag, model.model_id, "a")
    cx.see("ready", client.finalize_logged_model(model.model_id, "READY").status)
    cx.see("failed", client.finalize_logged_model(unnamed.model_id, "FAILED").status)
    cx.try_("to nothing", client.finalize_logged_model, model.model_id, "NOPE")
    cx.step("metrics of a model")
    client.log_metric(run.info.run_id, "acc", 0.5, timestamp=T, step=1, model_id=model.model_id)
    client.log_metric(run.info.run_id, "acc", 0.75, timestamp=T + 1, step=2, model_id=model.model_id, dataset_name="train", dataset_digest="abc")
    from mlflow.entities import LoggedModelInput, LoggedModelOutput

    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, 3)])
    client.log_inputs(run.info.run_id, models=[LoggedModelInput(unnamed.model_id)])
    cx.see("model", client.get_logged_model(model.model_id).to_dictionary())
    cx.see("run", client.get_run(run.info.run_id).to_dictionary())
    cx.step("artifacts")
    file = cx.folder / "weights.bin"
    file.write_bytes(bytes(range(256)))
    client.log_model_artifact(model.model_id, str(file))
    (cx.folder / "deep/er").mkdir(parents=True)
    (cx.folder / "deep/er/x.txt").write_text("x")
    client.log_model_artifacts(model.model_id, str(cx.folder / "deep"))
    cx.see("listed", [(f.path, f.is_dir, f.file_size) for f in client.list_logged_model_artifacts(model.model_id)])
    cx.see("inside", [(f.path, f.is_dir, f.file_size) for f in client.list_logged_model_artifacts(model.model_id, "er")])
    cx.raw("GET", f"/api/2.0/mlflow/logged-models/{model.model_id}/artifacts/directories")
    cx.raw("GET", f"/ajax-api/2.0/mlflow/logged-models/{model.model_id}/artifacts/directories", query={"path": "er"})
    cx.raw("GET", f"/ajax-api/2.0/mlflow/logged-models/{model.model_id}/artifacts/files", query={"artifact_file_path": "er/x.txt"})
    cx.raw("GET", f"/ajax-api/2.0/mlflow/logged-models/{model.model_id}/artifacts/files", query={"artifact_file_path": "../x"})
    cx.step("delete")
    client.delete_logged_model(unnamed.model_id)
    cx.try_("delete again", client.delete_logged_model, unnamed.model_id)
    cx.try_("gone", client.get_logged_model, unnamed.model_id)
    cx.see("left", [m.name for m in client.search_logged_models([experiment])])


@scenario(since=(3, 0))
def logged_search(cx):
    client, experiment = cx.client, cx.experiment()
    run = client.create_run(experiment, start_time=T).info.run_id
    made = []
    for i in (2, 0, 3, 1):
        model = client.create_logged_model(
            experiment,
            name=f"net{i}",
            source_run_id=run if i % 2 else None,
            tags={"team": ["red", "blue"][i % 2]},
            params={"lr": str(i / 10)},
            model_type=["a", "b"][i // 2],
        )
        client.log_metric(run, "acc", i / 4, timestamp=T, step=i, model_id=model.model_id)
        # Another moment: the peer keeps one value of a model's metric per step and moment, whatever the dataset.
        client.log_metric(run, "acc", 1 - i / 4, timestamp=T + 1, step=i, model_id=model.model_id, dataset_name="test", dataset_digest="d1")
        if i != 3:
            client.finalize_logged_model(model.model_id, "READY")
        made.append(model.model_id)
    for text in (
        "",
        "name = 'net1'",
        "name != 'net1'",
        "name LIKE 'net%'",
        "name ILIKE 'NET2'",
        "name IN ('net1', 'net2')",
        "name NOT IN ('net1')",
        "attributes.name = 'net1'",
        f"model_id = '{made[0]}'",
        "model_type = 'a'",
        "model_type != 'a'",
        "status = 'READY'",
        "status = 'LOGGED_MODEL_READY'",
        "status != 'PENDING'",
        f"source_run_id = '{run}'",
        "creation_timestamp > 0",
        "creation_time > 0",
        "last_updated_timestamp > 0",
        "creation_timestamp_ms > 0",
        "metrics.acc > 0.3",
        "metrics.acc >= 0.5 AND params.lr = '0.2'",
        "metrics.never > 0",
        "params.lr = '0.1'",
        "params.lr != '0.1'",
        "params.lr LIKE '0.%'",
        "params.lr IN ('0.1')",
        "tags.team = 'red'",
        "tags.team != 'red'",
        "tags.`team` = 'red'",
        "tags.never != 'x'",
        "tags.team IS NULL",
        "name = 'a' OR name = 'b'",
        "never = 1",
        "name = 5",
        "name >",
        "metrics.acc > 'x'",
        "metrics.acc BETWEEN 1 AND 2",
        "experiment_id = '0'",
        "lifecycle_stage = 'active'",
    ):
        cx.step(f"filter {text.replace(run, 'RUN').replace(made[0], 'MODEL')}")
        cx.post("logged-models/search", {"experiment_ids": [experiment], "filter": text, "order_by": [{"field_name": "name"}]})
    for order in (
        [{"field_name": "name", "ascending": False}],
        [{"field_name": "metrics.acc", "ascending": False}],
        [{"field_name": "metrics.acc", "ascending": True, "dataset_name": "test"}],
        [{"field_name": "metrics.acc", "dataset_name": "test", "dataset_digest": "d1"}],
        [{"field_name": "metrics.acc", "dataset_name": "never"}],
        [{"field_name": "metrics.acc", "dataset_digest": "d1"}],
        [{"field_name": "creation_timestamp"}],
        [{"field_name": "creation_time"}, {"field_name": "name"}],
        [{"field_name": "params.lr"}],
        [{"field_name": "tags.team"}, {"field_name": "name"}],
        [{"field_name": "never"}],
        [{"ascending": True}],
        [{"field_name": "name", "ascending": "x"}],
        ["name"],
        [{"field_name": "metrics.never"}, {"field_name": "name"}],
        [],
    ):
        cx.step(f"order {order}")
        cx.post("logged-models/search", {"experiment_ids": [experiment], "order_by": order})
    for datasets in (
        [{"dataset_name": "test"}],
        [{"dataset_name": "test", "dataset_digest": "d1"}],
        [{"dataset_name": "never"}],
        [{"dataset_digest": "d1"}],
        [{}],
        ["x"],
    ):
        cx.step(f"datasets {datasets}")
        cx.post(
            "logged-models/search", {"experiment_ids": [experiment], "filter": "metrics.acc > 0.3", "datasets": datasets, "order_by": [{"field_name": "name"}]}
        )
    cx.step("pages")
    token = None
    for _ in range(4):
        status, answer = cx.post(
            "logged-models/search",
            {"experiment_ids": [experiment], "max_results": 2, "order_by": [{"field_name": "name"}], **({"page_token": token} if token else {})},
        )
        token = answer.get("next_page_token") if status == 200 else None
        if not token:
            break
    for extra in ({"max_results": 0}, {"max_results": -1}, {"max_results": 100}, {"max_results": 101}, {"page_token": "nonsense"}):
        cx.post("logged-models/search", {"experiment_ids": [experiment], "filter": "name = 'net1'", **extra})
    cx.post("logged-models/search", {"filter": "name = 'net1'"})
    cx.post("logged-models/search", {"experiment_ids": []})
