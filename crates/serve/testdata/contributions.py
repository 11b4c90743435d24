"""Makes `contributions/`: what LightGBM and XGBoost themselves answer to `pred_contrib=True` and `pred_contribs=True` for the golden models of `foreign/`.

    python contributions.py      # with lightgbm 4 and xgboost 3

Each file is named as its case of `foreign/` and holds the first rows of that case. Per row and output there is one value for each input and the
base value behind them, on the scale before the link. Run after `make.py`; models and rows are read from what it wrote.
"""

import json
import os

import lightgbm as lgb
import numpy as np
import xgboost as xgb

HERE = os.path.dirname(os.path.abspath(__file__))
FOREIGN, OUT = os.path.join(HERE, "foreign"), os.path.join(HERE, "contributions")
ROWS = 16
# Cases of the same model in another format or of an objective that changes the link alone are left out, and those whose rows hold words.
CASES = """
lgb_regression lgb_binary lgb_multiclass lgb_rf lgb_dart lgb_categories lgb_zero_missing lgb_no_missing lgb_sqrt lgb_stump lgb_rank
lgb3_regression lgb3_binary lgb3_categories
xgb_squared_json xgb_squared_ubj xgb_logistic_ubj xgb_softprob_json xgb_dart_json xgb_dart_logistic_json xgb_categories1_ubj xgb_categories100_json
xgb_forest_json xgb_pruned_json xgb_poisson_json xgb_early xgb_early_all xgb1_logistic_json xgb1_categories1_ubj xgb1_dart_ubj
""".split()


def of_lightgbm(case, rows):
    booster = lgb.Booster(model_file=os.path.join(FOREIGN, case["file"]))
    found = booster.predict(rows, pred_contrib=True).reshape(len(rows), booster.num_model_per_iteration(), -1)
    margin = booster.predict(rows, raw_score=True).reshape(len(rows), -1)
    # Of a random forest LightGBM gives contributions to the sum of the trees, but scores by their mean.
    with open(os.path.join(FOREIGN, case["file"])) as file:
        rounds = booster.current_iteration() if "average_output" in file.read() else 1
    return found / rounds, margin / rounds


def of_xgboost(name, case, rows):
    booster = xgb.Booster(model_file=os.path.join(FOREIGN, case["file"]))
    kinds = {"enable_categorical": True, "feature_types": ["float", "c"]} if "categories" in name else {}
    best = (0, int(booster.attr("best_iteration")) + 1) if case.get("best") else (0, 0)
    matrix = xgb.DMatrix(rows, **kinds)
    found = booster.predict(matrix, pred_contribs=True, iteration_range=best)
    margin = booster.predict(matrix, output_margin=True, iteration_range=best).reshape(len(rows), -1)
    return found.reshape(len(rows), margin.shape[1], -1), margin


def main():
    os.makedirs(OUT, exist_ok=True)
    for name in CASES:
        with open(os.path.join(FOREIGN, name + ".json")) as file:
            case = json.load(file)
        rows = np.array([[np.nan if x is None else x for x in row] for row in case["rows"][:ROWS]], dtype=np.float64)
        found, margin = of_lightgbm(case, rows) if case["kind"] == "lightgbm" else of_xgboost(name, case, rows)
        off = np.abs(found.sum(axis=2) - margin).max()
        assert off < 1e-4, f"{name}: contributions and margin differ by {off}"
        with open(os.path.join(OUT, name + ".json"), "w") as out:
            json.dump({"contributions": found.astype(np.float64).tolist(), "margins": margin.astype(np.float64).tolist()}, out)
            out.write("\n")


if __name__ == "__main__":
    main()
