"""Models of scikit-learn, converted with skl2onnx. The graph computes in `float`, scikit-learn in `double`: hence the tolerance."""

import case
import numpy as np
import skl2onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

WORDS = ["plan", "region"]


def pipeline(last):
    """Numbers filled and scaled, words as one column each."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    return make_pipeline(ColumnTransformer([("numbers", numbers, case.NUMBERS), ("words", OneHotEncoder(handle_unknown="ignore"), WORDS)]), last)


def write(out, name, model, rows, task, inputs, tolerance, zipmap=True):
    classifier = hasattr(model, "predict_proba")
    options = {"zipmap": False} if classifier and not zipmap else None
    graph = skl2onnx.to_onnx(model, initial_types=inputs, options=options)
    expected = model.predict_proba(rows) if classifier else model.predict(rows)
    classes = [str(c) for c in model.classes_] if classifier else None
    case.write(
        out / f"sklearn_{name}",
        "scikit-learn",
        "onnx",
        ("model.onnx", graph.SerializeToString()),
        rows,
        expected[:, 1] if task == "binary" else expected,
        task=task,
        classes=classes,
        tolerance=tolerance,
        packages=["scikit-learn", "skl2onnx", "onnx"],
    )


def make(out):
    train, rows = case.people(3000, 3), case.asked()
    holes, rows_with_holes = case.people(3000, 3, missing=0.08), case.asked(missing=0.08)
    numbers = [("X", FloatTensorType([None, len(case.NUMBERS)]))]
    columns = [(n, FloatTensorType([None, 1])) for n in case.NUMBERS] + [(n, StringTensorType([None, 1])) for n in WORDS]
    two, three = case.labels(train), case.levels(train)
    X, asked = train[case.NUMBERS], rows[case.NUMBERS]

    scaled = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, two)
    write(out, "logistic", scaled, asked, "binary", numbers, 1e-6)
    scaled3 = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, three)
    write(out, "logistic3", scaled3, asked, "multiclass", numbers, 1e-6, zipmap=False)
    small = {"n_estimators": 12, "max_depth": 6, "random_state": 1}
    write(out, "forest", RandomForestClassifier(**small).fit(X, three), asked, "multiclass", numbers, 1e-6)
    write(out, "forest_regression", RandomForestRegressor(**small).fit(X, case.score(train)), asked, "regression", numbers, 1e-6)
    write(out, "boosting", GradientBoostingClassifier(n_estimators=40, random_state=1).fit(X, two), asked, "binary", numbers, 1e-6, zipmap=False)
    hist = HistGradientBoostingRegressor(max_iter=20, max_leaf_nodes=15, random_state=1).fit(holes[case.NUMBERS], case.score(holes))
    write(out, "hist_boosting_missing", hist, rows_with_holes[case.NUMBERS], "regression", numbers, 1e-6)

    # Words that training has not seen, and numbers that are missing.
    mixed = rows.copy()
    mixed.loc[20:30, "plan"] = "unheard of"
    mixed[case.NUMBERS] = rows_with_holes[case.NUMBERS]
    write(out, "pipeline", pipeline(LogisticRegression(max_iter=500)).fit(train, two), mixed, "binary", columns, 1e-6)
    boosted = pipeline(GradientBoostingClassifier(n_estimators=12, random_state=1)).fit(train, three)
    write(out, "pipeline_boosting", boosted, mixed, "multiclass", columns, 1e-6, zipmap=False)

    # A category for missing words, codes for words, numbers as categories, of which `branch` does not fit into `float`. A plan that training has
    # not seen is an error of its row.
    encoded = make_pipeline(
        ColumnTransformer(
            [
                ("plan", OneHotEncoder(drop="first"), ["plan"]),
                ("region", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["region"]),
                ("codes", OneHotEncoder(handle_unknown="ignore"), ["branch", "calls"]),
                ("numbers", "passthrough", case.NUMBERS[:-1]),
            ]
        ),
        RandomForestClassifier(n_estimators=8, max_depth=6, random_state=1),
    )
    branch = {name: 40_000_001 + place for place, name in enumerate(case.REGIONS)}
    without_plan, asked_without = (t.assign(branch=t["region"].map(branch).astype("int64")) for t in (train, rows))
    without_plan.loc[::9, "plan"] = np.nan
    asked_without.loc[::7, "plan"] = np.nan
    asked_without.loc[40:50, "region"] = "unheard of"
    write(out, "pipeline_forest", encoded.fit(without_plan, two), asked_without, "binary", [*columns, ("branch", Int64TensorType([None, 1]))], 1e-6)
