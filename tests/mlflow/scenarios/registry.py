"""The model registry: models, versions, aliases, stages, tags, search."""

from . import scenario

T = 1_600_000_000_000


def _run(cx):
    return cx.new_run(cx.new_experiment("runs"))


def _source(run, path="model"):
    return f"runs:/{run}/{path}"


def _version(cx, name, run, **extra):
    return cx.post(
        "model-versions/create", {"name": name, "source": f"mlflow-artifacts:/{extra.pop('experiment')}/{run}/artifacts/model", "run_id": run, **extra}
    )


@scenario()
def models(cx):
    client, name = cx.client, cx.name("m")
    cx.step("create")
    cx.see("created", dict(client.create_registered_model(name, tags={"a": "1", "n": 5}, description="a model")))
    cx.try_("twice", client.create_registered_model, name)
    cx.see("got", dict(client.get_registered_model(name)))
    cx.try_("unknown", client.get_registered_model, cx.name("never"))
    cx.step("update")
    cx.try_("described", lambda: client.update_registered_model(name, "another").description)
    client.set_registered_model_tag(name, "b", "two")
    client.set_registered_model_tag(name, "a", "")
    client.delete_registered_model_tag(name, "n")
    cx.try_("tag not there", client.delete_registered_model_tag, name, "n")
    cx.try_("tag of nothing", client.set_registered_model_tag, cx.name("never"), "k", "v")
    cx.see("tags", client.get_registered_model(name).tags)
    cx.step("rename")
    client.rename_registered_model(name, cx.name("n"))
    cx.see("renamed", dict(client.get_registered_model(cx.name("n"))))
    cx.try_("old name", client.get_registered_model, name)
    client.create_registered_model(name)
    cx.try_("to a taken name", client.rename_registered_model, name, cx.name("n"))
    cx.try_("to nothing", client.rename_registered_model, name, "")
    cx.step("delete")
    client.delete_registered_model(name)
    cx.try_("delete again", client.delete_registered_model, name)
    cx.try_("gone", client.get_registered_model, name)
    client.create_registered_model(name)
    cx.see("again", dict(client.get_registered_model(name)))


@scenario()
def versions(cx):
    client, name = cx.client, cx.name("m")
    experiment = cx.new_experiment("runs")
    run = cx.new_run(experiment)
    client.create_registered_model(name)
    cx.step("create")
    for extra in ({}, {"description": "second", "tags": [{"key": "k", "value": "v"}]}, {"run_link": "http://127.0.0.1:1/run"}):
        _version(cx, name, run, experiment=experiment, **extra)
    cx.try_("through the client", lambda: dict(client.create_model_version(name, _source(run), run, tags={"x": "y"}, await_creation_for=0)))
    cx.see("got", dict(client.get_model_version(name, "1")))
    cx.see("latest", [v.version for v in client.get_latest_versions(name)])
    cx.see("model", [v.version for v in client.get_registered_model(name).latest_versions])
    for version in ("1", "4"):
        cx.try_(f"uri {version}", client.get_model_version_download_uri, name, version)
    cx.step("not there")
    for version in ("9", "0", "-1", "abc", "", "1.5", "01", "9999999999", "../1"):
        cx.get("model-versions/get", {"name": name, "version": version})
        cx.get("model-versions/get-download-uri", {"name": name, "version": version})
        cx.raw("PATCH", "/api/2.0/mlflow/model-versions/update", {"name": name, "version": version, "description": "d"})
    cx.step("update")
    cx.see("described", client.update_model_version(name, "1", "first").description)
    client.set_model_version_tag(name, "1", "t", "1")
    client.set_model_version_tag(name, "1", "t", "2")
    cx.see("tags", client.get_model_version(name, "1").tags)
    client.delete_model_version_tag(name, "1", "t")
    cx.try_("tag not there", client.delete_model_version_tag, name, "1", "t")
    cx.step("delete")
    client.delete_model_version(name, "2")
    cx.try_("delete again", client.delete_model_version, name, "2")
    cx.try_("gone", client.get_model_version, name, "2")
    cx.try_("tag of the gone", client.set_model_version_tag, name, "2", "t", "1")
    _version(cx, name, run, experiment=experiment)
    cx.see("numbers are not used again", sorted(v.version for v in client.search_model_versions(f"name = '{name}'")))
    cx.step("sources")
    for source in (
        "",
        "file:///etc/passwd",
        "/etc/passwd",
        "../x",
        "relative/path",
        "s3://bucket/x",
        "http://127.0.0.1:1/x",
        "mlflow-artifacts:/0/x/artifacts/model",
        f"mlflow-artifacts:/{experiment}/{run}/artifacts/../../x",
        "runs:/nope/model",
        "models:/m-00000000000000000000000000000000",
        f"models:/{name}/1",
        f"models:/{name}/77",
        "mlflow-artifacts://evil.example/x",
        "file:relative",
        "dbfs:/x",
        f"runs:/{run}/../x",
        "mlflow-artifacts:/%2e%2e/x",
        "mlflow-artifacts:/x#/../y",
        "\\\\host\\share",
    ):
        cx.step(f"source {source.replace(run, 'RUN').replace(name, 'NAME')}")
        cx.post("model-versions/create", {"name": name, "source": source, "run_id": run})
        cx.post("model-versions/create", {"name": name, "source": source})


@scenario()
def stages(cx):
    client, name = cx.client, cx.name("m")
    experiment = cx.new_experiment("runs")
    run = cx.new_run(experiment)
    client.create_registered_model(name)
    for _ in range(4):
        _version(cx, name, run, experiment=experiment)
    cx.step("move")
    for version, stage, archive in (
        ("1", "Staging", False),
        ("2", "production", False),
        ("3", "Production", True),
        ("4", "STAGING", True),
        ("1", "Archived", False),
        ("1", "None", False),
        ("1", "none", False),
        ("1", "Nope", False),
        ("1", "Archived", True),
        ("1", "None", True),
        ("9", "Staging", False),
        ("1", "", False),
    ):
        cx.post("model-versions/transition-stage", {"name": name, "version": version, "stage": stage, "archive_existing_versions": archive})
    cx.post("model-versions/transition-stage", {"name": name, "version": "1", "stage": "Staging", "archive_existing_versions": "true"})
    cx.post("model-versions/transition-stage", {"name": name, "version": "2", "stage": "Staging"})
    cx.step("latest")
    for stages_ in (None, [], ["Production"], ["Staging", "None"], ["production"], ["Nope"], ["Archived"]):
        cx.post("registered-models/get-latest-versions", {"name": name, **({"stages": stages_} if stages_ is not None else {})})
        cx.get("registered-models/get-latest-versions", {"name": name, **({"stages": stages_} if stages_ is not None else {})})
    cx.see("client", sorted((v.version, v.current_stage) for v in client.get_latest_versions(name)))
    cx.see("stages", client.get_model_version_stages(name, "1"))
    cx.step("delete what is in a stage")
    client.delete_model_version(name, "3")
    cx.get("registered-models/get", {"name": name})


@scenario()
def aliases(cx):
    client, name = cx.client, cx.name("m")
    experiment = cx.new_experiment("runs")
    run = cx.new_run(experiment)
    client.create_registered_model(name)
    for _ in range(3):
        _version(cx, name, run, experiment=experiment)
    cx.step("set and move")
    client.set_registered_model_alias(name, "champion", "1")
    client.set_registered_model_alias(name, "Champion", "2")
    client.set_registered_model_alias(name, "challenger", "2")
    client.set_registered_model_alias(name, "champion", "3")
    client.set_registered_model_alias(name, "a-b_c9", "3")
    cx.see("model", dict(client.get_registered_model(name).aliases))
    cx.see("version", sorted(client.get_model_version(name, "3").aliases))
    cx.see("by alias", client.get_model_version_by_alias(name, "champion").version)
    cx.step("wrong ones")
    for alias in ("latest", "LATEST", "v1", "V12", "v", "v1x", "1", "a b", "a/b", "a.b", "ü", "", "x" * 255, "x" * 256, "a@b", "../x", "a\n", "-", "_"):
        cx.step(f"alias {alias[:20]!r}")
        cx.post("registered-models/alias", {"name": name, "alias": alias, "version": "1"})
        cx.get("registered-models/alias", {"name": name, "alias": alias})
        cx.raw("DELETE", "/api/2.0/mlflow/registered-models/alias", {"name": name, "alias": alias})
    cx.step("unknown")
    cx.try_("no such alias", client.get_model_version_by_alias, name, "nobody")
    cx.try_("delete no such alias", client.delete_registered_model_alias, name, "nobody")
    cx.try_("no such version", client.set_registered_model_alias, name, "x", "77")
    cx.try_("version abc", client.set_registered_model_alias, name, "x", "abc")
    cx.try_("no such model", client.set_registered_model_alias, cx.name("never"), "x", "1")
    cx.try_("alias of no model", client.get_model_version_by_alias, cx.name("never"), "x")
    cx.step("delete")
    client.delete_registered_model_alias(name, "challenger")
    cx.try_("gone", client.get_model_version_by_alias, name, "challenger")
    client.delete_model_version(name, "3")
    cx.see("aliases of a deleted version", dict(client.get_registered_model(name).aliases))
    cx.try_("champion", client.get_model_version_by_alias, name, "champion")
    client.rename_registered_model(name, cx.name("n"))
    cx.see("after a rename", dict(client.get_registered_model(cx.name("n")).aliases))


@scenario()
def search(cx):
    client, base = cx.client, cx.name()
    experiment = cx.new_experiment("runs")
    run = cx.new_run(experiment)
    for n, tags in (("Alpha", {"team": "red"}), ("beta", {"team": "blue"}), ("gamma", {}), ("prompted", {"mlflow.prompt.is_prompt": "true"})):
        cx.post("registered-models/create", {"name": f"{base}_{n}", "tags": [{"key": k, "value": v} for k, v in tags.items()]})
    for n in ("Alpha", "beta", "Alpha", "Alpha"):
        _version(cx, f"{base}_{n}", run, experiment=experiment, tags=[{"key": "of", "value": n}])
    client.set_registered_model_alias(f"{base}_Alpha", "champion", "2")
    mine = f"name LIKE '{base}%'"
    for text in (
        mine,
        f"name = '{base}_beta'",
        f"name ILIKE '{base}_ALPHA'",
        f"name != '{base}_beta' AND {mine}",
        f"name IN ('{base}_beta', '{base}_Alpha')",
        f"{mine} AND tags.team = 'red'",
        f"{mine} AND tags.team != 'red'",
        f"{mine} AND tag.`team` LIKE 'r%'",
        f"{mine} AND tags.`mlflow.prompt.is_prompt` != 'true'",
        f"{mine} AND tags.`mlflow.prompt.is_prompt` = 'true'",
        f"{mine} AND tags.never != 'x'",
        f"{mine} OR name = 'x'",
        "name > 'a'",
        "names = 'x'",
        "name LIKE",
        "version = 1",
        "params.x = '1'",
        "name = 'a' name = 'b'",
        "creation_timestamp > 5",
    ):
        cx.step(f"models {text.replace(base, 'BASE')}")
        cx.get("registered-models/search", {"filter": text, "max_results": 50})
    for order in (
        ["name"],
        ["name DESC"],
        ["last_updated_timestamp"],
        ["timestamp DESC"],
        ["last_updated_timestamp DESC", "name"],
        ["creation_timestamp"],
        ["never"],
        ["name SIDEWAYS"],
        ["tags.team"],
        [""],
    ):
        cx.step(f"models by {order}")
        cx.get("registered-models/search", {"filter": mine, "order_by": order})
    cx.step("model pages")
    token = None
    for _ in range(5):
        status, answer = cx.get("registered-models/search", {"filter": mine, "max_results": 2, **({"page_token": token} if token else {})})
        token = answer.get("next_page_token") if status == 200 else None
        if not token:
            break
    for extra in ({"max_results": 0}, {"max_results": 1000}, {"max_results": 1001}, {"max_results": "x"}, {"page_token": "nonsense"}):
        cx.get("registered-models/search", {"filter": f"name = '{base}_beta'", **extra})
    for text in (
        mine,
        f"name = '{base}_Alpha'",
        f"name ILIKE '{base}_alpha'",
        f"{mine} AND version_number = 2",
        f"{mine} AND version_number > 1",
        f"{mine} AND version_number IN (1, 2)",
        f"{mine} AND version_number = '2'",
        f"{mine} AND run_id = '{run}'",
        f"{mine} AND run_id IN ('{run}', 'x')",
        f"{mine} AND run_id LIKE 'x%'",
        f"{mine} AND source_path = 'x'",
        f"{mine} AND source_path LIKE '%model'",
        f"{mine} AND tags.of = 'beta'",
        f"{mine} AND tags.of != 'beta'",
        f"{mine} AND tags.never != 'x'",
        f"run_id = '{run}'",
        f"{mine} AND current_stage = 'None'",
        f"{mine} AND user_id = 'x'",
        f"{mine} AND creation_timestamp > 0",
        f"{mine} AND status = 'READY'",
        "version_number > 'x'",
        "version = '1'",
        f"{mine} OR run_id = 'x'",
        "name",
        "run_id IN ()",
        "run_id IN (1)",
    ):
        cx.step(f"versions {text.replace(base, 'BASE').replace(run, 'RUN')}")
        cx.get("model-versions/search", {"filter": text, "order_by": ["name", "version_number"]})
    for order in (
        ["name"],
        ["name DESC", "version_number DESC"],
        ["version_number"],
        ["creation_timestamp"],
        ["last_updated_timestamp DESC"],
        ["run_id"],
        ["never"],
        ["name UP"],
    ):
        cx.step(f"versions by {order}")
        cx.get("model-versions/search", {"filter": mine, "order_by": order})
    cx.step("version pages")
    token = None
    for _ in range(5):
        status, answer = cx.get(
            "model-versions/search", {"filter": mine, "max_results": 3, "order_by": ["name", "version_number"], **({"page_token": token} if token else {})}
        )
        token = answer.get("next_page_token") if status == 200 else None
        if not token:
            break
    for extra in ({"max_results": 0}, {"max_results": 200_000}, {"max_results": 200_001}, {"page_token": "nonsense"}):
        cx.get("model-versions/search", {"filter": f"name = '{base}_beta'", **extra})
    cx.step("client")
    cx.see("models", [m.name for m in client.search_registered_models(mine)])
    cx.see("versions", [(v.name, v.version) for v in client.search_model_versions(mine, order_by=["name ASC", "version_number DESC"])])


@scenario(raw=True)
def names(cx):
    base = cx.name()
    for label, name in {
        "space": f"{base} x",
        "slash": f"{base}/x",
        "colon": f"{base}:x",
        "dots": f"../{base}",
        "umlaut": f"{base} ü ☃",
        "256": base + "x" * (256 - len(base)),
        "257": base + "x" * (257 - len(base)),
        "upper": base.upper() + "X",
        "quote": f"{base}'",
        "percent": f"{base}%2f",
        "at": f"{base}@x",
        "hash": f"{base}#x",
        "newline": f"{base}\n",
        "dot": f"{base}.x",
        "leading": f" {base}",
    }.items():
        cx.step(label)
        cx.post("registered-models/create", {"name": name})
        cx.get("registered-models/get", {"name": name})
        cx.post("registered-models/set-tag", {"name": name, "key": "k", "value": "v" * 5001 if label == "dot" else "v"})
    cx.step("tags")
    good = f"{base} x"
    for key, value in (("k" * 250, "v"), ("k" * 251, "v"), ("k", "v" * 100_000), ("k", "v" * 100_001), ("", "v"), ("../k", "v"), ("a/b", "v"), ("empty", "")):
        cx.post("registered-models/set-tag", {"name": good, "key": key, "value": value})
    cx.post("registered-models/create", {"name": f"{base}_d", "description": "d" * 5000})
    cx.post("registered-models/create", {"name": f"{base}_e", "description": "d" * 5001})
    cx.post("registered-models/create", {"name": f"{base}_f", "tags": [{"key": "k", "value": "1"}, {"key": "k", "value": "2"}]})
