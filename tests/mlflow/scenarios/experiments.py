"""Experiments: create, get, rename, tags, delete and restore, search."""

from . import scenario


@scenario()
def lifecycle(cx):
    client = cx.client
    cx.step("create")
    eid = client.create_experiment(cx.name("a"), tags={"owner": "ann", "empty": ""})
    cx.try_("twice", client.create_experiment, cx.name("a"))
    cx.see("got", dict(client.get_experiment(eid)))
    cx.see("by name", dict(client.get_experiment_by_name(cx.name("a"))))
    cx.see("nobody", client.get_experiment_by_name(cx.name("nobody")))
    cx.try_("unknown", client.get_experiment, "987654")
    cx.step("rename")
    client.rename_experiment(eid, cx.name("b"))
    cx.see("old name", client.get_experiment_by_name(cx.name("a")))
    cx.see("new name", client.get_experiment_by_name(cx.name("b")).name)
    other = client.create_experiment(cx.name("c"))
    cx.try_("to a taken name", client.rename_experiment, other, cx.name("b"))
    cx.try_("to nothing", client.rename_experiment, other, "")
    cx.step("tags")
    client.set_experiment_tag(eid, "owner", "bob")
    cx.try_("key of two lines", client.set_experiment_tag, eid, "multi\nline", "v")
    client.set_experiment_tag(eid, "lines", "a\nb")
    client.set_experiment_tag(eid, "long", "x" * 5000)
    cx.try_("too long a key", client.set_experiment_tag, eid, "k" * 251, "v")
    cx.try_("too long a value", client.set_experiment_tag, eid, "k", "v" * 20_001)
    if hasattr(client, "delete_experiment_tag"):
        client.delete_experiment_tag(eid, "owner")
        cx.try_("delete again", client.delete_experiment_tag, eid, "owner")
    cx.see("tags", sorted((k, len(v)) for k, v in client.get_experiment(eid).tags.items()))
    cx.step("delete")
    run = client.create_run(eid, start_time=1_600_000_000_000)
    client.delete_experiment(eid)
    cx.see("stage", client.get_experiment(eid).lifecycle_stage)
    cx.see("by name too", client.get_experiment_by_name(cx.name("b")).lifecycle_stage)
    for label, act in {
        "create a run": lambda: client.create_run(eid),
        "name is taken": lambda: client.create_experiment(cx.name("b")),
        "rename": lambda: client.rename_experiment(eid, cx.name("d")),
        "tag": lambda: client.set_experiment_tag(eid, "k", "v"),
        "delete again": lambda: client.delete_experiment(eid),
        "set": lambda: cx.mlflow.set_experiment(cx.name("b")),
        "its run": lambda: client.get_run(run.info.run_id).info.lifecycle_stage,
        "log to its run": lambda: client.log_metric(run.info.run_id, "m", 1),
        "its runs": lambda: len(client.search_runs([eid])),
    }.items():
        cx.try_(label, act)
    cx.step("restore")
    client.restore_experiment(eid)
    cx.try_("restore again", client.restore_experiment, eid)
    cx.see("run is back", client.get_run(run.info.run_id).info.lifecycle_stage)
    client.log_metric(run.info.run_id, "m", 1)


@scenario()
def search(cx):
    client = cx.client
    base = cx.name()
    ids = [
        client.create_experiment(f"{base}/{n}", tags={"team": t, "n": str(i)})
        for i, (n, t) in enumerate((("Alpha", "red"), ("beta", "blue"), ("gamma%", "red"), ("Delta", "")))
    ]
    mine = f"name LIKE '{base}/%'"
    cx.step("filters")
    for text in (
        mine,
        f"{mine} AND name LIKE '%a'",
        f"attribute.name ILIKE '{base.upper()}/ALPHA'",
        f"attributes.name = '{base}/beta'",
        f"name != '{base}/beta' AND {mine}",
        f"{mine} AND tags.team = 'red'",
        f"{mine} AND tag.team != 'red'",
        f"{mine} AND tags.`team` LIKE 'r%'",
        f"{mine} AND tags.team ILIKE 'R%'",
        f"{mine} AND tags.never != 'x'",
        f"{mine} AND tags.team IS NULL",
        f"{mine} AND tags.team IS NOT NULL",
        f"{mine} AND creation_time > 0",
        f"{mine} AND last_update_time >= 0 AND creation_time < 5",
        f"{mine} AND creation_time > 'x'",
        f"{mine} AND experiment_id = '{ids[1]}'",
        f"{mine} AND experiment_id IN ('{ids[1]}', '{ids[2]}')",
        f"{mine} AND name IN ('{base}/beta')",
        f"{mine} OR name = 'x'",
        f"{mine} AND lifecycle_stage = 'active'",
        f"{mine} AND never = 'x'",
        f"{mine} AND params.x = 'y'",
        f"{mine} AND metrics.x > 1",
        "name LIKE",
        "name = 5",
        "name > 'a' AND name = 'zzzz'",
        "name",
        "(name = 'x')",
    ):
        cx.step(f"filter {text.replace(base, 'BASE')}")
        cx.post("experiments/search", {"filter": text, "order_by": ["name"], "max_results": 50})
    for order in (
        ["name"],
        ["name DESC"],
        ["attribute.name"],
        ["creation_time DESC", "name"],
        ["last_update_time"],
        ["experiment_id"],
        ["tags.team"],
        ["never"],
        ["name UP"],
        [""],
    ):
        cx.step(f"order {order}")
        cx.post("experiments/search", {"filter": mine, "order_by": order, "max_results": 50})
    cx.step("views")
    client.delete_experiment(ids[1])
    for view in ("ACTIVE_ONLY", "DELETED_ONLY", "ALL", "NOPE"):
        cx.post("experiments/search", {"filter": mine, "view_type": view, "order_by": ["name"], "max_results": 50})
    cx.step("pages")
    token = None
    for _ in range(5):
        status, answer = cx.post(
            "experiments/search", {"filter": mine, "view_type": "ALL", "order_by": ["name"], "max_results": 3, **({"page_token": token} if token else {})}
        )
        token = answer.get("next_page_token") if status == 200 else None
        if not token:
            break
    for body in ({}, {"max_results": 0}, {"max_results": -1}, {"max_results": 50_000}, {"max_results": 50_001}, {"max_results": 5, "page_token": "nonsense"}):
        cx.post("experiments/search", {"filter": f"name = '{base}/Alpha'", **body})
    cx.get("experiments/search", {"filter": mine, "max_results": 2, "order_by": ["name DESC", "creation_time"], "view_type": "ALL"})
    cx.step("client")
    cx.see("client", [e.name for e in cx.mlflow.search_experiments(filter_string=mine, order_by=["name DESC"])])


@scenario(raw=True)
def names_and_places(cx):
    base = cx.name()
    cx.step("names")
    for label, name in {
        "space": f" {base} ",
        "slash": f"/{base}/x",
        "dots": f"../{base}",
        "umlaut": f"{base} ünï ☃",
        "500": base + "x" * (500 - len(base)),
        "501": base + "x" * (501 - len(base)),
        "newline": f"{base}\n",
        "quote": f"{base}'\"",
        "number": f"{base}5",
    }.items():
        cx.step(label)
        cx.post("experiments/create", {"name": name})
        cx.get("experiments/get-by-name", {"experiment_name": name})
    cx.post("experiments/create", {"name": ""})
    cx.step("artifact locations")
    for i, place in enumerate(
        (
            "mlflow-artifacts:/somewhere",
            "mlflow-artifacts:/a/b/c",
            "file:///etc",
            "/etc/passwd",
            "../x",
            "s3://bucket/a",
            "s3://bucket/../x",
            "http://127.0.0.1:1/x",
            "mlflow-artifacts:/../x",
            "mlflow-artifacts:/a?x=1",
            "mlflow-artifacts:/a#x",
            "x y",
            "ftp://host/x",
            "dbfs:/x",
            "runs:/abc/x",
            "models:/x/1",
        )
    ):
        cx.step(f"location {place}")
        status, answer = cx.post("experiments/create", {"name": f"{base} at {i}", "artifact_location": place})
        if status == 200 and place.startswith("mlflow-artifacts"):
            cx.get("experiments/get", {"experiment_id": answer["experiment_id"]})
            cx.new_run(answer["experiment_id"])
