"""Models of CatBoost, saved in its ONNX format, which takes numbers alone: CatBoost refuses to save models with categories so."""

import tempfile
from pathlib import Path

import case
import catboost

FIXED = {"iterations": 30, "depth": 4, "random_seed": 1, "thread_count": 1, "verbose": False, "allow_writing_files": False}


def make(out):
    train, rows = case.people(3000, 4, missing=0.08), case.asked(missing=0.08)
    X, asked = train[case.NUMBERS], rows[case.NUMBERS]
    for name, model, y, task in [
        ("binary", catboost.CatBoostClassifier(**FIXED), case.labels(train), "binary"),
        ("multiclass", catboost.CatBoostClassifier(**FIXED, loss_function="MultiClass"), case.levels(train), "multiclass"),
        ("regression", catboost.CatBoostRegressor(**FIXED), case.score(train), "regression"),
    ]:
        model.fit(X, y)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            model.save_model(str(path), format="onnx")
            content = path.read_bytes()
        classes = [str(c) for c in model.classes_] if task != "regression" else None
        expected = model.predict(asked) if task == "regression" else model.predict_proba(asked)
        case.write(
            out / f"catboost_{name}",
            "CatBoost",
            "onnx",
            ("model.onnx", content),
            asked,
            expected[:, 1] if task == "binary" else expected,
            task=task,
            classes=classes,
            tolerance=1e-6,
            packages=["catboost"],
        )
