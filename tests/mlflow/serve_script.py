"""Trains models with LightGBM, XGBoost and scikit-learn, registers each with an unmodified client, points `champion` at it, and compares what the
endpoint `upsell` answers with the model's own predictions. The argument is the server's URL.

A scikit-learn model itself must be refused: the endpoint goes on answering with the version before.
"""

import json
import sys
import time
import urllib.error
import urllib.request

import lightgbm
import mlflow
import numpy
import pandas
import xgboost
from sklearn.linear_model import LogisticRegression

NAME = "Upsell EU"
URL = sys.argv[1]


def data():
    rng = numpy.random.default_rng(11)
    table = pandas.DataFrame(
        {
            "age": rng.integers(18, 80, 500),
            "monthly fee": rng.normal(30, 10, 500).round(2),
            "is new": rng.random(500) < 0.3,
            "plan": pandas.Categorical(rng.choice(["basic", "plus", "pro"], 500)),
        }
    )
    table.loc[::17, "monthly fee"] = numpy.nan
    bought = (table["age"] > 40) ^ (table["monthly fee"].fillna(0) > 35) | (table["plan"] == "pro")
    return table, bought.astype(int)


def answers(table):
    rows = json.loads(table.assign(plan=table["plan"].astype(str)).to_json(orient="records"))
    request = urllib.request.Request(f"{URL}/predict/upsell", json.dumps({"rows": rows}).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        predictions = json.load(response)["predictions"]
    return predictions[0]["model"], numpy.array([p["score"] for p in predictions])


def wait_for(version, table):
    for _ in range(300):
        try:
            model, scores = answers(table)
            if model.endswith(f"@{version}"):
                return scores
        except urllib.error.HTTPError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"version {version} does not answer")


def register(client, flavor, model, table, **more):
    with mlflow.start_run():
        signature = mlflow.models.infer_signature(table.assign(plan=table["plan"].astype(str)), [0.5])
        info = flavor.log_model(model, name="model", signature=signature, **more)
    version = mlflow.register_model(info.model_uri, NAME).version
    client.set_registered_model_alias(NAME, "champion", version)
    return version


def main():
    client = mlflow.MlflowClient()
    table, bought = data()
    probe = table[:50]
    booster = lightgbm.train({"objective": "binary", "verbosity": -1}, lightgbm.Dataset(table, label=bought), num_boost_round=20)
    expected = booster.predict(probe)
    got = wait_for(register(client, mlflow.lightgbm, booster, table), probe)
    assert numpy.abs(got - expected).max() < 1e-12, "LightGBM differs"
    forest = xgboost.XGBClassifier(n_estimators=20, max_depth=4, enable_categorical=True, tree_method="hist").fit(table, bought)
    expected = forest.predict_proba(probe)[:, 1]
    version = register(client, mlflow.xgboost, forest, table)
    got = wait_for(version, probe)
    assert numpy.abs(got - expected).max() < 1e-6, "XGBoost differs"
    numbers = table[["age", "is new"]].astype(float)
    register(client, mlflow.sklearn, LogisticRegression().fit(numbers, bought), table, serialization_format="cloudpickle")
    time.sleep(3)
    model, again = answers(probe)
    assert model.endswith(f"@{version}") and (again == got).all(), "a pickle was let in"
    print("all answers agree")


if __name__ == "__main__":
    main()
