"""The usual churn script: reads a CSV with pandas, fits a forest, logs, registers and loads back. Only the tracking URI says which server.

    MLFLOW_TRACKING_URI=http://127.0.0.1:7300 python churn_script.py [--data churn_data.csv] [--model churn]

Without the CSV it is made, the same one every time.
"""

import argparse
from pathlib import Path

import mlflow
import mlflow.sklearn
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from sklearn.model_selection import train_test_split


def make(path, rows=2000):
    """Customers of a telephone company; who leaves is a matter of tenure, contract, price and calls for help."""
    import numpy as np

    rng = np.random.default_rng(42)
    tenure = rng.integers(0, 72, rows)
    monthly = rng.uniform(20, 120, rows).round(2)
    calls = rng.poisson(1.2, rows)
    contract = rng.choice(["month", "year", "two years"], rows, p=[0.55, 0.25, 0.2])
    pull = 0.8 * calls + 0.03 * (monthly - 60) - 0.05 * tenure - 1.5 * (contract == "two years") - 0.6 * (contract == "year")
    churned = (rng.random(rows) < 1 / (1 + np.exp(-pull))).astype(int)
    frame = pd.DataFrame(
        {"customer_id": range(rows), "tenure": tenure, "monthly_charges": monthly, "support_calls": calls, "contract": contract, "churn": churned}
    )
    frame.to_csv(path, index=False)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--data", type=Path, default=Path("churn_data.csv"))
    arguments.add_argument("--model", default="churn")
    given = arguments.parse_args()
    if not given.data.exists():
        make(given.data)

    df = pd.read_csv(given.data)
    X = pd.get_dummies(df.drop(columns=["customer_id", "churn"]))
    y = df["churn"]
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)

    mlflow.set_experiment(f"{given.model} experiment")
    with mlflow.start_run() as run:
        model = RandomForestClassifier(n_estimators=100, max_depth=10, random_state=42)
        model.fit(X_train, y_train)
        scores = model.predict_proba(X_test)[:, 1]
        mlflow.log_param("n_estimators", 100)
        mlflow.log_param("max_depth", 10)
        mlflow.log_metric("accuracy", accuracy_score(y_test, scores > 0.5))
        mlflow.log_metric("f1", f1_score(y_test, scores > 0.5))
        mlflow.log_metric("auc", roc_auc_score(y_test, scores))
        # Said aloud, because the default of the newest clients refuses forests, whatever the server.
        mlflow.sklearn.log_model(model, "model", serialization_format="cloudpickle")
    print("auc", round(roc_auc_score(y_test, scores), 6))

    version = mlflow.register_model(f"runs:/{run.info.run_id}/model", given.model)
    print("version", version.version)

    loaded = mlflow.pyfunc.load_model(f"models:/{given.model}/{version.version}")
    same = (loaded.predict(X_test) == model.predict(X_test)).all()
    print("predicts", "the same" if same else "SOMETHING ELSE")


if __name__ == "__main__":
    main()
