"""Models of XGBoost, in JSON and UBJSON: missing values, and words as pandas' categories. Both sides compute in `float`."""

import case
import numpy as np
import xgboost as xgb

FIXED = {"max_depth": 4, "nthread": 1, "seed": 1, "verbosity": 0, "tree_method": "hist", "eta": 0.3}


def table(rows):
    rows = rows.copy()
    for column, words in (("plan", case.PLANS), ("region", case.REGIONS)):
        rows[column] = rows[column].astype("category").cat.set_categories(sorted(words))
    return rows


def make(out):
    train, rows = case.people(3000, 2, missing=0.08), case.asked(missing=0.08)
    levels = sorted(set(case.levels(train)))
    for name, form, params, y, task, classes in [
        ("binary", "ubj", {"objective": "binary:logistic"}, (case.labels(train) == "stays").astype(int), "binary", ["0", "1"]),
        ("multiclass", "json", {"objective": "multi:softprob", "num_class": 3}, np.searchsorted(levels, case.levels(train)), "multiclass", ["0", "1", "2"]),
        ("regression", "json", {"objective": "reg:squarederror", "max_cat_to_onehot": 1}, case.score(train), "regression", None),
        ("dart", "ubj", {"objective": "reg:gamma", "booster": "dart", "rate_drop": 0.3}, np.exp(np.clip(case.score(train), -3, 3)), "regression", None),
    ]:
        rounds = 6 if task == "multiclass" else 12
        booster = xgb.train({**FIXED, **params}, xgb.DMatrix(table(train), label=y, enable_categorical=True), num_boost_round=rounds)
        case.write(
            out / f"xgboost_{name}",
            "XGBoost",
            "xgboost",
            (f"model.{form}", bytes(booster.save_raw(form))),
            rows,
            booster.predict(xgb.DMatrix(table(rows), enable_categorical=True)),
            task=task,
            classes=classes,
            entries={"model_class": "xgboost.core.Booster", "model_format": form},
            tolerance=float(np.finfo(np.float32).eps),
            packages=["xgboost"],
        )
