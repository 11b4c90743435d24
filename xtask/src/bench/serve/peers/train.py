"""Trains what is served, a forest of boosted trees and a small network: train.py FOLDER.

Each model has a folder with the same model in every form that a server takes: `model.onnx`, `model.joblib`, and the folders that MLflow's client
saves. Beside them stand the rows that are asked for and the probability of the second class that scikit-learn itself gives for each.
Values are multiples of 1/256, so that JSON, float32 and float64 say the same numbers.
"""

import json
import sys
from pathlib import Path

import joblib
import mlflow
import numpy as np
import pandas as pd
import skl2onnx
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.neural_network import MLPClassifier

FEATURES = 20
TRAINED, ASKED = 8_000, 1_024
NAMES = [f"f{number:02}" for number in range(FEATURES)]


def data():
    rng = np.random.default_rng(7)
    rows = (np.round(rng.normal(size=(TRAINED + ASKED, FEATURES)) * 256) / 256).astype(np.float32)
    signal = rows[:, 0] * rows[:, 1] + np.sin(2 * rows[:, 2]) + np.abs(rows[:, 3]) + 0.5 * rows[:, 4:10].sum(axis=1)
    return rows, (signal + rng.normal(scale=0.3, size=len(rows)) > 0.8).astype(int)


def main(folder):
    rows, labels = data()
    asked = rows[TRAINED:]
    models = {
        "trees": GradientBoostingClassifier(n_estimators=100, max_depth=None, max_leaf_nodes=63, subsample=0.5, random_state=1),
        "network": MLPClassifier((64, 32), max_iter=30, random_state=1),
    }
    for name, model in models.items():
        place = Path(folder) / name
        place.mkdir(parents=True)
        model.fit(rows[:TRAINED], labels[:TRAINED])
        graph = skl2onnx.to_onnx(model, asked[:1], options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3})
        (place / "model.onnx").write_bytes(graph.SerializeToString())
        joblib.dump(model, place / "model.joblib")
        # Registered with named columns; MLflow's own server cannot put labels and probabilities of such into one table, and gets a matrix.
        for form, example in {"mlflow": pd.DataFrame(asked[:5], columns=NAMES), "mlflow-matrix": asked[:5]}.items():
            mlflow.onnx.save_model(graph, place / form, signature=mlflow.models.infer_signature(example))
        (place / "expected.json").write_text(json.dumps(model.predict_proba(asked)[:, 1].tolist()))
        print(name, "right for", float((model.predict(asked) == labels[TRAINED:]).mean()), "of the rows", file=sys.stderr)
    (Path(folder) / "rows.json").write_text(json.dumps(asked.tolist()))


if __name__ == "__main__":
    main(*sys.argv[1:])
