"""Evaluation: mlflow.evaluate / mlflow.models.evaluate with its metrics, plots and tables."""

from . import scenario
from .models import data, log_model


@scenario(since=(2, 8), needs=("sklearn", "pandas", "matplotlib"))
def classifier(cx):
    import pandas
    from sklearn.linear_model import LogisticRegression

    mlflow, (x, y) = cx.mlflow, data()
    cx.experiment()
    model = LogisticRegression().fit(x, y)
    frame = pandas.DataFrame(x, columns=["a", "b", "c"])
    frame["label"] = y
    with mlflow.start_run() as run:
        info = log_model(cx, model, "model", serialization_format="cloudpickle", signature=mlflow.models.infer_signature(x, y))
        cx.step("evaluate")
        result = mlflow.models.evaluate(
            info.model_uri, frame, targets="label", model_type="classifier", evaluator_config={"log_explainer": False, "log_model_explainability": False}
        )
    cx.see("metrics", {k: round(float(v), 9) for k, v in result.metrics.items()})
    cx.step("read")
    cx.see("logged", sorted(cx.client.get_run(run.info.run_id).data.metrics))
    cx.see("artifacts", sorted(a.path for a in cx.client.list_artifacts(run.info.run_id)))


@scenario(since=(2, 8), needs=("sklearn", "pandas"))
def table(cx):
    """A table without a model: predictions are a column."""
    import pandas

    mlflow = cx.mlflow
    cx.experiment()
    frame = pandas.DataFrame({"truth": [1.0, 2.0, 3.0, 4.0], "said": [1.1, 1.9, 3.2, 3.9]})
    with mlflow.start_run() as run:
        result = mlflow.models.evaluate(
            data=mlflow.data.from_pandas(frame, targets="truth", predictions="said"),
            model_type="regressor",
            evaluator_config={"log_explainer": False, "log_model_explainability": False},
        )
    cx.see("metrics", {k: round(float(v), 9) for k, v in result.metrics.items()})
    cx.step("log a table")
    mlflow.log_table(frame, "t.json", run_id=run.info.run_id)
    mlflow.log_table(frame, "t.json", run_id=run.info.run_id)
    cx.see("rows", len(mlflow.load_table("t.json", run_ids=[run.info.run_id])))
