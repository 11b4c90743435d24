"""Models of LightGBM, in its text format: missing values, and words as pandas' categories. Both sides compute in `double`."""

import case
import lightgbm as lgb
import numpy as np

FIXED = {"num_leaves": 15, "min_data_in_leaf": 20, "verbosity": -1, "seed": 1, "deterministic": True, "force_row_wise": True, "num_threads": 1}


def table(rows, words):
    """With the words as categories; a word that training has not seen counts as missing."""
    rows = rows.copy()
    for column in ("plan", "region"):
        rows[column] = rows[column].astype("category").cat.set_categories(words[column])
    return rows


def make(out):
    train, rows = case.people(3000, 1, missing=0.08), case.asked(missing=0.08)
    rows.loc[20:30, "plan"] = "unheard of"
    words = {"plan": sorted(case.PLANS), "region": sorted(case.REGIONS)}
    small = {"max_cat_to_onehot": 4, "min_data_per_group": 20, "cat_smooth": 2.0}
    levels = sorted(set(case.levels(train)))
    for name, params, y, task, classes in [
        ("binary", {"objective": "binary"}, (case.labels(train) == "stays").astype(int), "binary", ["0", "1"]),
        ("multiclass", {"objective": "multiclass", "num_class": 3}, np.searchsorted(levels, case.levels(train)), "multiclass", ["0", "1", "2"]),
        ("regression", {"objective": "regression"}, case.score(train), "regression", None),
        ("dart", {"objective": "poisson", "boosting": "dart", "drop_rate": 0.3}, np.round(np.exp(np.clip(case.score(train), -3, 3))), "regression", None),
    ]:
        rounds = 8 if task == "multiclass" else 25
        booster = lgb.train({**FIXED, **small, **params}, lgb.Dataset(table(train, words), label=y), num_boost_round=rounds)
        case.write(
            out / f"lightgbm_{name}",
            "LightGBM",
            "lightgbm",
            ("model.lgb", booster.model_to_string().encode()),
            rows,
            booster.predict(table(rows, words)),
            task=task,
            classes=classes,
            tolerance=1e-14,
            packages=["lightgbm"],
        )
