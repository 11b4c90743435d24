"""Autologging: what the client does by itself when a model is fitted."""

from . import scenario
from .models import data


@scenario(needs=("sklearn",))
def sklearn(cx):
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV

    mlflow, (x, y) = cx.mlflow, data()
    cx.experiment()
    mlflow.sklearn.autolog(log_model_signatures=False, extra_tags={"auto": "yes"})
    cx.step("fit", loose=True)
    forest = RandomForestClassifier(n_estimators=5, max_depth=3, random_state=1, n_jobs=1)
    with mlflow.start_run():
        forest.fit(x, y)
        forest.score(x, y)
    cx.step("search over a grid", loose=True)
    GridSearchCV(RandomForestClassifier(random_state=1, n_jobs=1), {"n_estimators": [2, 3]}, cv=2).fit(x, y)
    mlflow.sklearn.autolog(disable=True)
    # Loose: runs of a search begin in the same millisecond, and some of its metrics are times.
    cx.step("read", loose=True)
    runs = mlflow.search_runs(output_format="list")
    cx.see(
        "runs",
        sorted(
            [sorted(r.data.params.items()), sorted((k, round(v, 9)) for k, v in r.data.metrics.items() if "time" not in k), sorted(r.data.tags)] for r in runs
        ),
    )
    cx.see("children", sum("mlflow.parentRunId" in r.data.tags for r in runs))


@scenario(needs=("lightgbm",))
def lightgbm(cx):
    import lightgbm

    mlflow, (x, y) = cx.mlflow, data()
    cx.experiment()
    mlflow.lightgbm.autolog()
    cx.step("train", loose=True)
    with mlflow.start_run() as run:
        train = lightgbm.Dataset(x[:40], y[:40])
        lightgbm.train(
            {"objective": "binary", "num_leaves": 4, "verbose": -1, "num_threads": 1, "seed": 1, "deterministic": True},
            train,
            num_boost_round=5,
            valid_sets=[train, lightgbm.Dataset(x[40:], y[40:], reference=train)],
            valid_names=["train", "valid"],
        )
    mlflow.lightgbm.autolog(disable=True)
    cx.step("read")
    cx.see("history", [(m.step, round(m.value, 9)) for m in cx.client.get_metric_history(run.info.run_id, "valid-binary_logloss")])
    cx.see("artifacts", sorted(a.path for a in cx.client.list_artifacts(run.info.run_id)))
    loaded = mlflow.lightgbm.load_model(f"runs:/{run.info.run_id}/model")
    cx.see("predicts", [round(float(v), 9) for v in loaded.predict(x[:3])])


@scenario(needs=("xgboost",))
def xgboost(cx):
    import xgboost

    mlflow, (x, y) = cx.mlflow, data()
    cx.experiment()
    mlflow.xgboost.autolog()
    cx.step("train", loose=True)
    with mlflow.start_run() as run:
        train = xgboost.DMatrix(x[:40], y[:40])
        xgboost.train(
            {"objective": "binary:logistic", "max_depth": 2, "nthread": 1, "seed": 1},
            train,
            num_boost_round=5,
            evals=[(train, "train"), (xgboost.DMatrix(x[40:], y[40:]), "valid")],
            early_stopping_rounds=3,
            verbose_eval=False,
        )
    mlflow.xgboost.autolog(disable=True)
    cx.step("read")
    cx.see("history", [(m.step, round(m.value, 6)) for m in cx.client.get_metric_history(run.info.run_id, "valid-logloss")])
    loaded = mlflow.xgboost.load_model(f"runs:/{run.info.run_id}/model")
    cx.see("predicts", [round(float(v), 6) for v in loaded.predict(xgboost.DMatrix(x[:3]))])


@scenario(needs=("sklearn", "lightgbm"))
def everything(cx):
    """`mlflow.autolog()`, as the tutorials write it."""
    from sklearn.linear_model import LinearRegression

    mlflow, (x, y) = cx.mlflow, data()
    cx.experiment()
    mlflow.autolog(log_models=False)
    cx.step("fit", loose=True)
    LinearRegression().fit(x, y)
    mlflow.autolog(disable=True)
    cx.step("read")
    run = mlflow.search_runs(output_format="list")[0]
    cx.see("params", run.data.params)
    cx.see("metrics", sorted(run.data.metrics))
