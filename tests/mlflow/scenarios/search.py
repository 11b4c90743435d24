"""Search: filters, orders, pages and views; right ones, odd ones and wrong ones."""

from . import scenario

T = 1_600_000_000_000

RUN_FILTERS = [
    "",
    " ",
    "metrics.acc > 0.5",
    "metrics.acc >= 0.5",
    "metrics.acc < 0.5",
    "metrics.acc <= 0.5",
    "metrics.acc = 0.5",
    "metrics.acc != 0.5",
    "metric.acc > 0.2 and metric.acc < 0.8",
    "metrics.acc > 0.2 AND params.depth = '3'",
    "metrics.acc>0.2 aNd tags.team='red'",
    "metrics.`acc` > 0.5",
    'metrics."acc" > 0.5',
    "metrics.`with space` > 1",
    'metrics."with space" > 1',
    "metrics.with space > 1",
    "metrics.nested/loss < 3",
    "metrics.'acc' > 0.5",
    "metrics.never > 0",
    "metrics.never != 0",
    "metrics.nan = 1",
    "metrics.nan != 1",
    "metrics.nan > 0",
    "metrics.nan = 0",
    "metrics.nan != 0",
    "metrics.nan < 1",
    "metrics.nan >= -1",
    "metrics.inf > 1e300",
    "metrics.acc > -1",
    "metrics.acc > 1e-1",
    "metrics.acc > .5",
    "metrics.acc > '0.5'",
    'metrics.acc > "0.5"',
    "metrics.acc > abc",
    "metrics.acc > NaN",
    "metrics.acc LIKE '0.5'",
    "metrics.acc IN (0.5)",
    "metrics.acc IS NULL",
    "params.depth = '3'",
    'params.depth = "3"',
    "params.depth != '3'",
    "param.depth = '3'",
    "parameters.depth = '3'",
    "params.depth = 3",
    "params.depth > '3'",
    "params.depth LIKE '%3%'",
    "params.kind LIKE 'Forest%'",
    "params.kind ILIKE 'forest%'",
    "params.kind LIKE '%o_est'",
    "params.kind like '%FOREST%'",
    "params.kind IN ('Forest', 'Tree')",
    "params.never = 'x'",
    "params.never != 'x'",
    "params.depth IS NULL",
    "params.never IS NULL",
    "params.depth IS NOT NULL",
    "params.never is not null",
    "params.`depth` = '3'",
    'params.quote = "it\'s"',
    "params.quote = 'it''s'",
    "params.quote = 'it\\'s'",
    "params.percent LIKE '%\\%%'",
    "params.empty = ''",
    "tags.team = 'red'",
    "tags.team != 'red'",
    "tag.team = 'red'",
    "tags.team LIKE 'r%'",
    "tags.team ILIKE 'R%'",
    "tags.team IN ('red', 'blue')",
    "tags.team IS NULL",
    "tags.team IS NOT NULL",
    "tags.`mlflow.runName` = 'run 3'",
    "tags.mlflow.runName = 'run 3'",
    "tags.\"mlflow.runName\" LIKE 'run%'",
    "tags.never != 'x'",
    "attributes.status = 'FINISHED'",
    "attribute.status = 'FINISHED'",
    "attr.status = 'FINISHED'",
    "run.status = 'FINISHED'",
    "status = 'FINISHED'",
    "status != 'FINISHED'",
    "status = 'finished'",
    "status LIKE 'FIN%'",
    "status ILIKE 'fin%'",
    "status IN ('FINISHED', 'FAILED')",
    "status NOT IN ('FINISHED')",
    "status = 'NOPE'",
    "status = FINISHED",
    "attributes.run_name = 'run 3'",
    "run_name LIKE 'run %'",
    "run_name ILIKE 'RUN 3'",
    "`run name` = 'run 3'",
    "attributes.`Run name` = 'run 3'",
    "\"Run Name\" = 'run 3'",
    "run_name IN ('run 1', 'run 2')",
    "run_name NOT IN ('run 1', 'run 2')",
    "run_name != 'run 3'",
    "run_name IS NULL",
    "run_id = 'x'",
    "run_id IN ('x', 'y')",
    "attributes.run_id NOT IN ('x', 'y')",
    "run_id LIKE '%'",
    "run_id IN ()",
    "run_id IN ('x' 'y')",
    "run_id IN 'x'",
    "run_id IN (1, 2)",
    "run_id > 'x'",
    f"start_time > {T + 3}",
    f"attributes.start_time >= {T + 3}",
    f"start_time = {T + 3}",
    f"start_time != {T + 3}",
    f"start_time < {T + 3}",
    f"start_time <= '{T + 3}'",
    "start_time > 'yesterday'",
    "start_time LIKE '1%'",
    f"end_time > {T + 100}",
    f"created > {T + 3}",
    f"attributes.Created > {T + 3}",
    "user_id = 'ann'",
    "user_id != 'ann'",
    "user_id LIKE 'a%'",
    "attributes.user = 'ann'",
    "artifact_uri LIKE '%artifacts'",
    "attributes.experiment_id = '0'",
    "attributes.lifecycle_stage = 'active'",
    "lifecycle_stage = 'active'",
    "attributes.never = 'x'",
    "never = 'x'",
    "datasets.name = 'train'",
    "dataset.name = 'train'",
    "datasets.digest = 'abc'",
    "datasets.context = 'training'",
    "dataset.name LIKE 'tr%'",
    "dataset.name ILIKE 'TR%'",
    "dataset.name IN ('train', 'test')",
    "dataset.name NOT IN ('train')",
    "dataset.name != 'train'",
    "dataset.never = 'x'",
    "datasets.name > 'x'",
    "datasets.name = 'train' and metrics.acc > 0.1",
    # Wrong ones.
    "metrics.acc > 0.5 OR metrics.acc < 0.1",
    "(metrics.acc > 0.5)",
    "(metrics.acc > 0.5) AND (params.depth = '3')",
    "NOT metrics.acc > 0.5",
    "metrics.acc BETWEEN 0.1 AND 0.5",
    "metrics.acc > 0.5 AND",
    "AND metrics.acc > 0.5",
    "metrics.acc > 0.5 AND AND metrics.acc < 1",
    "metrics.acc > 0.5, metrics.acc < 1",
    "metrics.acc > 0.5 metrics.acc < 1",
    "metrics.acc > 0.5;",
    "metrics.acc > 0.5; DROP TABLE runs",
    "metrics.acc > 0.5 -- comment",
    "metrics.acc > 0.5 /* comment */",
    "metrics.acc",
    "metrics.acc >",
    "> 0.5",
    "metrics.acc == 0.5",
    "metrics.acc <> 0.5",
    "metrics.acc = = 0.5",
    "metrics. > 0.5",
    "metrics > 0.5",
    ".acc > 0.5",
    "metrics.acc > 0.5'",
    "params.depth = '3",
    "params.depth = ''3'",
    "params.depth = \u201c3\u201d",
    "0.5 < metrics.acc",
    "'3' = params.depth",
    "model.name = 'x'",
    "m.acc > 0.5",
    "params.depth = params.depth",
    "params.depth = NULL",
    "params.depth IS",
    "params.depth IS NOT",
    "params.depth IS 'x'",
    "params.depth NOT LIKE 'x'",
    "params.depth = '3' AND params.depth = '4'",
    "metrics.acc > 0.5 and params.kind = 'a and b'",
    "params.kind = 'a AND b OR (c)'",
    "\n metrics.acc \t > \n 0.5 ",
    "METRICS.acc > 0.5",
    "Params.depth = '3'",
    "metrics.ünï > 0",
    "tags.`ключ` = 'значение'",
    "tags.a=b = 'x'",
    "tags.`a=b` = 'x'",
    "tags.`tick``tick` = 'x'",
    "trace.status = 'OK'",
    "x",
    "'x'",
    "5",
    "1 = 1",
    "select * from runs",
]

RUN_ORDERS = [
    [],
    ["metrics.acc"],
    ["metrics.acc ASC"],
    ["metrics.acc DESC"],
    ["metric.acc desc"],
    ["metrics.nan ASC"],
    ["metrics.nan DESC"],
    ["metrics.some DESC", "metrics.acc ASC"],
    ["metrics.never"],
    ["metrics.`with space` DESC"],
    ['metrics."with space" DESC'],
    ["params.depth"],
    ["params.depth DESC", "params.kind ASC"],
    ["params.never"],
    ["tags.team"],
    ["tags.`mlflow.runName` DESC"],
    ["attributes.start_time"],
    ["start_time DESC"],
    ["attributes.end_time DESC"],
    ["status", "run_name DESC"],
    ["attributes.run_name"],
    # Not by run_id or artifact_uri: ids are the server's own, so is their order.
    ["user_id", "start_time"],
    ["Created DESC"],
    ["duration"],
    ["attributes.never"],
    ["never"],
    ["metrics.acc SIDEWAYS"],
    ["metrics.acc ASC DESC"],
    ["metrics.acc, metrics.some"],
    ["metrics"],
    [""],
    ["metrics.acc; drop table runs"],
    ["dataset.name"],
    ["metrics.acc ", " params.depth"],
    ["experiment_id"],
    [5],
]


def _runs(cx, experiment):
    """Eight runs with what the filters ask for; made in an order that no sort gives."""
    made = []
    for i in (3, 1, 4, 0, 5, 2, 6, 7):
        run = cx.new_run(experiment, run_name=f"run {i}", start_time=T + i, user_id=["ann", "bob"][i % 2])
        metrics = {"acc": i / 8, "with space": float(i), "nested/loss": 8.0 - i}
        if i % 2:
            metrics["some"] = i // 4
        if i == 2:
            metrics["nan"] = "NaN"
        if i in (3, 4):
            metrics["nan"] = float(i - 3)
        if i == 5:
            metrics["inf"] = "Infinity"
        params = {"depth": str(i % 5), "kind": ["Forest", "forest", "Tree", "a and b"][i % 4], "empty": ""}
        if i == 6:
            params.update(quote="it's", percent="100%")
        tags = {"team": ["red", "blue", "Red"][i % 3]} if i != 7 else {"ключ": "значение"}
        cx.post(
            "runs/log-batch",
            {
                "run_id": run,
                "metrics": [{"key": k, "value": v, "timestamp": T + i, "step": 0} for k, v in metrics.items()],
                "params": [{"key": k, "value": v} for k, v in params.items()],
                "tags": [{"key": k, "value": v} for k, v in tags.items()],
            },
        )
        if i in (1, 2, 5):
            cx.post(
                "runs/log-inputs",
                {
                    "run_id": run,
                    "datasets": [
                        {
                            "tags": [{"key": "mlflow.data.context", "value": "training"}],
                            "dataset": {"name": "train" if i != 5 else "test", "digest": "abc", "source_type": "local", "source": "{}"},
                        }
                    ],
                },
            )
        if i % 3 == 0:
            cx.post("runs/update", {"run_id": run, "status": "FINISHED" if i else "FAILED", "end_time": T + 100 + i})
        made.append(run)
    return made


@scenario(raw=True)
def runs(cx):
    experiment = cx.new_experiment()
    _runs(cx, experiment)
    for text in RUN_FILTERS:
        cx.step(f"filter {text}")
        status, answer = cx.post("runs/search", {"experiment_ids": [experiment], "filter": text, "order_by": ["start_time ASC"]})
        if status == 200:
            cx.see("found", [r["info"]["run_name"] for r in answer.get("runs", [])])


@scenario(raw=True)
def orders(cx):
    experiment = cx.new_experiment()
    made = _runs(cx, experiment)
    for order in RUN_ORDERS:
        cx.step(f"order {order}")
        status, answer = cx.post("runs/search", {"experiment_ids": [experiment], "order_by": order})
        if status == 200:
            cx.see("found", [r["info"]["run_name"] for r in answer.get("runs", [])])
    cx.step("views")
    cx.post("runs/delete", {"run_id": made[0]})
    for view in ("ACTIVE_ONLY", "DELETED_ONLY", "ALL", None, "NOPE", 1, 3):
        cx.post("runs/search", {"experiment_ids": [experiment], "run_view_type": view, "order_by": ["start_time"]})
    cx.step("several experiments")
    other = cx.new_experiment("other")
    cx.new_run(other, run_name="elsewhere", start_time=T + 50)
    for ids in ([experiment, other], [other], ["987654", other], [other, other]):
        cx.post("runs/search", {"experiment_ids": ids, "order_by": ["start_time"], "max_results": 20})
    cx.step("pages")
    for size in (1, 3, 7, 8):
        token = None
        for _ in range(9):
            status, answer = cx.post(
                "runs/search",
                {"experiment_ids": [experiment], "max_results": size, "order_by": ["metrics.acc DESC"], **({"page_token": token} if token else {})},
            )
            token = answer.get("next_page_token") if status == 200 else None
            if not token:
                break
    cx.step("wrong pages")
    for body in (
        {"max_results": 0},
        {"max_results": -1},
        {"max_results": 50_000},
        {"max_results": 50_001},
        {"max_results": "5"},
        {"max_results": 1.5},
        {"page_token": "nonsense"},
        {"page_token": "bm9uc2Vuc2U="},
        {"page_token": ""},
        {"page_token": 5},
        {"order_by": "metrics.acc"},
        {"filter": 5},
    ):
        cx.post("runs/search", {"experiment_ids": [experiment], **body})


@scenario(raw=True)
def by_run_id(cx):
    experiment = cx.new_experiment()
    a, b, c = [cx.new_run(experiment, run_name=f"r{i}", start_time=T + i) for i in range(3)]
    for text in (
        f"run_id = '{a}'",
        f"run_id != '{a}'",
        f"attributes.run_id IN ('{a}', '{b}')",
        f"run_id NOT IN ('{a}','{b}')",
        f"run_id LIKE '%{c}'",
        f"run_id ILIKE '{c.upper()}'",
        f"tags.mlflow.runName = 'r1' and run_id = '{b}'",
        f"artifact_uri LIKE '%{c}%'",
    ):
        cx.step(text)
        cx.post("runs/search", {"experiment_ids": [experiment], "filter": text, "order_by": ["start_time"]})


@scenario()
def through_the_client(cx):
    mlflow = cx.mlflow
    names = [cx.experiment(s) for s in ("one", "two")]
    _runs(cx, names[0])
    cx.step("client")
    cx.see("list", [r.info.run_name for r in mlflow.search_runs(names, filter_string="metrics.acc > 0.3", order_by=["metrics.acc DESC"], output_format="list")])
    cx.see("names", [r.info.run_name for r in mlflow.search_runs(experiment_names=[cx.name("one")], max_results=3, output_format="list")])
    frame = mlflow.search_runs(names[:1], order_by=["start_time"])
    cx.see("frame", sorted(frame.columns))
    cx.see("values", frame[["metrics.acc", "params.depth"]].values.tolist())
    cx.see("paged", [r.info.run_name for r in cx.client.search_runs(names[:1], max_results=2)])
    first = cx.client.search_runs(names[:1], max_results=5, order_by=["start_time"])
    cx.see("second page", [r.info.run_name for r in cx.client.search_runs(names[:1], max_results=5, order_by=["start_time"], page_token=first.token)])
    cx.try_("wrong", cx.client.search_runs, names, "metrics.acc ~ 5")
    cx.see("view all", len(cx.client.search_runs(names, run_view_type=mlflow.entities.ViewType.ALL)))
