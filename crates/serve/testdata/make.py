"""Makes the golden models of `foreign/`: small models of LightGBM, XGBoost and ONNX, rows, and what the libraries themselves predict for them.

    python make.py new      # with lightgbm 4, xgboost 3, scikit-learn, pandas, onnx, skl2onnx, onnxruntime, mlflow
    python make.py old      # with lightgbm 3.3 and xgboost 1.7: the files that older clients wrote

Each case is `NAME.json` (kind, rows, predictions) beside its model file. Missing values are null. Run from this folder.
"""

import json
import os
import sys

import numpy as np

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "foreign")


def data(seed, rows=400, width=5, missing=0.0, zeros=0.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, width))
    X[:, 0] = np.round(X[:, 0], 1)
    if zeros:
        X[rng.random(X.shape) < zeros] = 0.0
    if missing:
        X[rng.random(X.shape) < missing] = np.nan
    return rng, X


def target(X):
    Z = np.nan_to_num(X)
    return Z[:, 0] * 1.5 - Z[:, 1] * Z[:, 2] + np.abs(Z[:, 3])


def probes(rng, X, count=40):
    """Rows to predict for: some of the training's, some beyond, borders, zeros, missing ones."""
    rows = X[:count].copy()
    rows[1] = 0.0
    rows[2] = np.nan
    rows[3] = 1e30
    rows[4] = -1e30
    rows[5] = -0.0
    rows[6] = 1e-36
    rows[7, 0] = np.nan
    return rows


def write(name, file, rows, predictions, **more):
    def cells(matrix):
        return [[None if isinstance(x, float) and np.isnan(x) else x for x in row] for row in np.asarray(matrix, dtype=object).tolist()]

    predictions = np.asarray(predictions, dtype=np.float64)
    if predictions.ndim == 1:
        predictions = predictions[:, None]
    case = {"file": file, **more, "rows": cells(rows), "predictions": predictions.tolist()}
    with open(os.path.join(HERE, name + ".json"), "w") as out:
        json.dump(case, out)
        out.write("\n")


def lgb_case(name, params, y, X, rounds=6, probe=None, rng=None, task="regression", prefix="lgb", **dataset):
    import lightgbm as lgb

    rows = probes(rng, X) if probe is None else probe
    params = {"num_leaves": 7, "min_data_in_leaf": 5, "verbosity": -1, "seed": 1, "deterministic": True, "num_threads": 1, **params}
    booster = lgb.train(params, lgb.Dataset(X, label=y, free_raw_data=False, **dataset), num_boost_round=rounds)
    file = f"{prefix}_{name}.txt"
    booster.save_model(os.path.join(HERE, file))
    codes = rows
    if hasattr(rows, "columns"):
        rows = [[None if x != x else x for x in row] for row in rows.astype(object).values.tolist()]
    write(f"{prefix}_{name}", file, rows, booster.predict(codes), kind="lightgbm", task=task)


def lightgbm_cases(prefix="lgb"):
    import pandas as pd

    rng, X = data(1, missing=0.1)
    y = target(X)
    lgb_case("regression", {"objective": "regression"}, y, X, rng=rng, prefix=prefix)
    lgb_case("binary", {"objective": "binary", "sigmoid": 0.7}, (y > 0.5).astype(int), X, rng=rng, task="binary", prefix=prefix)
    lgb_case("multiclass", {"objective": "multiclass", "num_class": 3}, np.digitize(y, [0, 1.5]), X, rng=rng, task="multiclass", prefix=prefix)
    lgb_case("rf", {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6, "feature_fraction": 0.7}, (y > 0.5).astype(int), X, rng=rng, task="binary", prefix=prefix)
    codes = rng.integers(0, 40, size=len(X)).astype(float)
    codes[rng.random(len(X)) < 0.05] = np.nan
    C = np.column_stack([X[:, 0], codes])
    yc = np.where(np.nan_to_num(codes) % 3 == 1, 2.0, -1.0) + 0.3 * np.nan_to_num(X[:, 0])
    probe = C[:40].copy()
    probe[:6, 1] = [-1, 39, 40, 1e9, np.nan, 7.9]
    lgb_case("categories", {"objective": "regression", "min_data_per_group": 5, "cat_smooth": 1, "max_cat_to_onehot": 2}, yc, C, rng=rng, probe=probe, categorical_feature=[1], prefix=prefix)
    if prefix != "lgb":
        return
    lgb_case("ova", {"objective": "multiclassova", "num_class": 3, "sigmoid": 1.3}, np.digitize(y, [0, 1.5]), X, rng=rng, task="multiclass")
    lgb_case("sqrt", {"objective": "regression", "reg_sqrt": True}, y, X, rng=rng)
    lgb_case("poisson", {"objective": "poisson"}, np.round(np.exp(y / 3)), X, rng=rng)
    lgb_case("quantile", {"objective": "quantile", "alpha": 0.8}, y, X, rng=rng)
    lgb_case("xentlambda", {"objective": "cross_entropy_lambda"}, 1 / (1 + np.exp(-y)), X, rng=rng)
    lgb_case("xentropy", {"objective": "cross_entropy"}, 1 / (1 + np.exp(-y)), X, rng=rng)
    lgb_case("dart", {"objective": "regression", "boosting": "dart", "drop_rate": 0.5}, y, X, rng=rng, rounds=10)
    lgb_case("stump", {"objective": "regression", "min_data_in_leaf": 10_000}, y, X, rng=rng)
    rngz, Z = data(2, missing=0.05, zeros=0.3)
    lgb_case("zero_missing", {"objective": "regression", "zero_as_missing": True}, target(Z), Z, rng=rngz)
    lgb_case("no_missing", {"objective": "regression", "use_missing": False}, target(Z), Z, rng=rngz)
    group = np.full(20, 20)
    lgb_case("rank", {"objective": "lambdarank"}, np.clip(np.digitize(y, [0, 1, 2]), 0, 3), X, rng=rng, task="ranking", group=group)
    words = pd.Series(rng.choice(["basic", "plus", "pro", "é 1"], size=len(X)))
    table = pd.DataFrame({"x y": X[:, 0], "plan": words.astype("category"), "unused": pd.Series(["same"] * len(X)).astype("category")})
    yw = words.map({"basic": 0.0, "plus": 1.0, "pro": 5.0, "é 1": -3.0}).to_numpy() + np.nan_to_num(X[:, 0])
    probe = table[:20].copy()
    probe["plan"] = probe["plan"].cat.add_categories(["other"])
    probe.loc[0, "plan"] = "other"
    probe.loc[1, "plan"] = None
    lgb_case("words", {"objective": "regression", "min_data_per_group": 5, "cat_smooth": 1, "max_cat_to_onehot": 2}, yw, table, probe=probe)
    import lightgbm as lgb

    full = np.nan_to_num(X)
    linear = lgb.train({"objective": "regression", "linear_tree": True, "verbosity": -1, "num_threads": 1, "num_leaves": 4}, lgb.Dataset(full, label=y), num_boost_round=2)
    linear.save_model(os.path.join(HERE, "lgb_refused_linear.txt"))


def xgb_case(name, params, y, X, rounds=6, rng=None, probe=None, task="regression", prefix="xgb", best=False, formats=("json", "ubj"), **matrix):
    import xgboost as xgb

    rows = probes(rng, X) if probe is None else probe
    params = {"max_depth": 3, "nthread": 1, "seed": 1, "verbosity": 0, **params}
    dtrain = xgb.DMatrix(X, label=y, **matrix)
    booster = xgb.train(params, dtrain, num_boost_round=rounds)
    ask = {key: value for key, value in matrix.items() if key in ("enable_categorical", "feature_types")}
    probability = params.get("objective") == "multi:softmax"
    out = booster.predict(xgb.DMatrix(rows, **ask), output_margin=probability)
    if probability:
        e = np.exp(out - out.max(axis=1, keepdims=True))
        out = e / e.sum(axis=1, keepdims=True)
    if hasattr(rows, "columns"):
        rows = [[None if x != x else x for x in row] for row in rows.astype(object).values.tolist()]
    for form in formats:
        file = f"{prefix}_{name}.model.{form}"
        booster.save_model(os.path.join(HERE, file))
        write(f"{prefix}_{name}_{form}", file, rows, out, kind="xgboost", task=task)
    return booster


def xgboost_cases(prefix="xgb"):
    import pandas as pd
    import xgboost as xgb

    rng, X = data(3, missing=0.1)
    y = target(X)
    classes = np.digitize(y, [0, 1.5])
    labels = (y > 0.5).astype(int)
    xgb_case("squared", {"objective": "reg:squarederror"}, y, X, rng=rng, prefix=prefix)
    xgb_case("logistic", {"objective": "binary:logistic"}, labels, X, rng=rng, task="binary", prefix=prefix)
    xgb_case("softprob", {"objective": "multi:softprob", "num_class": 3}, classes, X, rng=rng, task="multiclass", prefix=prefix)
    xgb_case("dart", {"objective": "reg:squarederror", "booster": "dart", "rate_drop": 0.4}, y, X, rng=rng, rounds=8, prefix=prefix)
    codes = rng.integers(0, 40, size=len(X)).astype(float)
    C = np.column_stack([X[:, 0], codes])
    yc = np.where(codes % 3 == 1, 2.0, -1.0) + 0.3 * np.nan_to_num(X[:, 0])
    probe = C[:40].copy()
    probe[:4, 1] = [39, 17, np.nan, 38]
    kinds = {"enable_categorical": True, "feature_types": ["float", "c"]}
    for onehot in (1, 100):
        xgb_case(f"categories{onehot}", {"objective": "reg:squarederror", "tree_method": "hist", "max_cat_to_onehot": onehot}, yc, C, rng=rng, probe=probe, prefix=prefix, **kinds)
    if prefix != "xgb":
        return
    json_only = {"formats": ("json",)}
    xgb_case("softmax", {"objective": "multi:softmax", "num_class": 3}, classes, X, rng=rng, task="multiclass", **json_only)
    xgb_case("hinge", {"objective": "binary:hinge"}, labels, X, rng=rng, task="binary", **json_only)
    xgb_case("poisson", {"objective": "count:poisson"}, np.round(np.exp(y / 3)), X, rng=rng, **json_only)
    xgb_case("gamma", {"objective": "reg:gamma"}, np.exp(y / 3), X, rng=rng, **json_only)
    xgb_case("logitraw", {"objective": "binary:logitraw", "base_score": 0.3}, labels, X, rng=rng, **json_only)
    xgb_case("pseudohuber", {"objective": "reg:pseudohubererror"}, y, X, rng=rng, **json_only)
    xgb_case("forest", {"objective": "binary:logistic", "num_parallel_tree": 4, "subsample": 0.5, "colsample_bynode": 0.6}, labels, X, rng=rng, rounds=2, task="binary", **json_only)
    xgb_case("dart_logistic", {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.4, "base_score": 0.2}, labels, X, rng=rng, rounds=8, task="binary", **json_only)
    xgb_case("rank", {"objective": "rank:ndcg"}, np.clip(np.digitize(y, [0, 1, 2]), 0, 3), X, rng=rng, task="ranking", group=np.full(20, 20), **json_only)
    xgb_case("pruned", {"objective": "reg:squarederror", "gamma": 8.0, "tree_method": "exact"}, y, X, rng=rng, **json_only)
    # ASCII alone: XGBoost 3.2 saves categories by their characters and cuts the bytes of others.
    words = pd.Series(rng.choice(["basic", "plus", "pro", "e 1"], size=len(X)))
    table = pd.DataFrame({"x y": X[:, 0], "plan": words.astype("category")})
    yw = words.map({"basic": 0.0, "plus": 1.0, "pro": 5.0, "e 1": -3.0}).to_numpy() + np.nan_to_num(X[:, 0])
    probe = table[:20].copy()
    probe.loc[1, "plan"] = None
    xgb_case("words", {"objective": "reg:squarederror", "tree_method": "hist", "max_cat_to_onehot": 1}, yw, table, probe=probe, enable_categorical=True)
    # scikit-learn's way: training stops early, and predictions take the best round.
    model = xgb.XGBClassifier(n_estimators=60, max_depth=3, early_stopping_rounds=2, n_jobs=1, learning_rate=0.9)
    model.fit(X[:250], labels[:250], eval_set=[(X[250:], labels[250:])], verbose=False)
    model.save_model(os.path.join(HERE, "xgb_early.model.ubj"))
    rows = probes(rng, X)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    write("xgb_early", "xgb_early.model.ubj", rows, model.predict_proba(rows)[:, 1], kind="xgboost", task="binary", best=True)
    write("xgb_early_all", "xgb_early.model.ubj", rows, model.get_booster().predict(xgb.DMatrix(rows)), kind="xgboost", task="binary")
    linear = xgb.train({"booster": "gblinear", "verbosity": 0}, xgb.DMatrix(np.nan_to_num(X), label=y), num_boost_round=2)
    linear.save_model(os.path.join(HERE, "xgb_refused_linear.json"))
    several = xgb.train({"multi_strategy": "multi_output_tree", "verbosity": 0, "max_depth": 2}, xgb.DMatrix(X, label=np.column_stack([y, -y])), num_boost_round=2)
    several.save_model(os.path.join(HERE, "xgb_refused_targets.json"))


def onnx_cases():
    import onnx
    import onnxruntime
    import skl2onnx
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    rng, X = data(4)
    X = X.astype(np.float32)
    y = target(X)
    labels, classes = (y > 0.5).astype(int), np.digitize(y, [0, 1.5])
    words, words3 = np.array(["no", "yes"])[labels], np.array(["a", "b", "c"])[classes]

    def case(name, model, y, task, zipmap=False, **more):
        model.fit(X, y)
        options = {"zipmap": zipmap} if hasattr(model, "predict_proba") else None
        graph = skl2onnx.to_onnx(model, X[:1], options=options, target_opset={"": 17, "ai.onnx.ml": 3})
        file = f"onnx_{name}.onnx"
        onnx.save_model(graph, os.path.join(HERE, file))
        rows = X[:30].copy()
        if name == "imputed":
            rows[::3, 1] = np.nan
        if zipmap:
            return
        session = onnxruntime.InferenceSession(graph.SerializeToString())
        out = session.run(None, {session.get_inputs()[0].name: rows})
        out = out[1] if task in ("binary", "multiclass") else out[0]
        write(f"onnx_{name}", file, rows, out, kind="onnx", task=task, **more)

    case("forest", RandomForestClassifier(n_estimators=5, max_depth=4, random_state=1), labels, "binary")
    case("forest_words", RandomForestClassifier(n_estimators=5, max_depth=4, random_state=1), words, "binary", classes=["no", "yes"])
    case("forest3", RandomForestClassifier(n_estimators=5, max_depth=4, random_state=1), classes, "multiclass")
    case("regressor", RandomForestRegressor(n_estimators=5, max_depth=4, random_state=1), y, "regression")
    case("boosted", GradientBoostingClassifier(n_estimators=5, random_state=1), labels, "binary")
    case("logistic", LogisticRegression(), labels, "binary")
    case("logistic3", LogisticRegression(), classes, "multiclass")
    case("linear", LinearRegression(), y, "regression")
    case("scaled", make_pipeline(StandardScaler(), LogisticRegression()), labels, "binary")
    case("scaled_forest", make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=5, max_depth=4, random_state=1)), labels, "binary")
    case("network", make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=50, random_state=1)), labels, "binary")
    case("zipmap", RandomForestClassifier(n_estimators=2, max_depth=2, random_state=1), labels, "binary", zipmap=True)
    case("boosted3", GradientBoostingClassifier(n_estimators=4, random_state=1), classes, "multiclass")
    case("imputed", make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()), labels, "binary")
    case("network3", make_pipeline(StandardScaler(), MLPClassifier((8, 4), activation="tanh", max_iter=50, random_state=1)), words3, "multiclass", classes=["a", "b", "c"])
    case("minmax", make_pipeline(MinMaxScaler(), LogisticRegression()), labels, "binary")

    # An operator that only ONNX Runtime or the feature `onnx` brings.
    def beyond():
        value = onnx.helper.make_tensor_value_info
        nodes = [onnx.helper.make_node("Erf", ["x"], ["e"]), onnx.helper.make_node("ReduceSum", ["e", "axes"], ["y"], keepdims=1)]
        axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
        graph = onnx.helper.make_graph(nodes, "g", [value("x", onnx.TensorProto.FLOAT, ["n", 5])], [value("y", onnx.TensorProto.FLOAT, ["n", 1])], [axes])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
        model.ir_version = 9
        onnx.save_model(model, os.path.join(HERE, "onnx_beyond.onnx"))
        session = onnxruntime.InferenceSession(model.SerializeToString())
        write("onnx_beyond", "onnx_beyond.onnx", X[:30], session.run(None, {"x": X[:30]})[0], kind="onnx", task="regression", beyond=True)

    beyond()
    beyond_slots()

    # A graph of tensors alone, with a weight large enough to be saved outside of it.
    W = onnx.numpy_helper.from_array(rng.normal(size=(5, 300)).astype(np.float32), "W")
    V = onnx.numpy_helper.from_array(rng.normal(size=(300, 1)).astype(np.float32), "V")
    nodes = [onnx.helper.make_node("MatMul", ["x", "W"], ["h"]), onnx.helper.make_node("Relu", ["h"], ["r"]), onnx.helper.make_node("MatMul", ["r", "V"], ["y"])]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(nodes, "g", [value("x", onnx.TensorProto.FLOAT, ["n", 5])], [value("y", onnx.TensorProto.FLOAT, ["n", 1])], [W, V])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save_model(model, os.path.join(HERE, "onnx_dense.onnx"))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    write("onnx_dense", "onnx_dense.onnx", X[:30], session.run(None, {"x": X[:30]})[0], kind="onnx", task="regression")
    onnx.save_model(model, os.path.join(HERE, "onnx_refused_external.onnx"), save_as_external_data=True, location="weights.bin", size_threshold=100)
    os.remove(os.path.join(HERE, "weights.bin"))


def beyond_slots():
    """Inputs of several types and shapes, of which it takes one row at a time; for ONNX Runtime alone."""
    import onnx
    import onnxruntime

    value, node, types = onnx.helper.make_tensor_value_info, onnx.helper.make_node, onnx.TensorProto
    inputs = [value("a", types.FLOAT, [1, 2]), value("n", types.INT64, [1]), value("d", types.DOUBLE, [1, 1]), value("b", types.BOOL, [1, 1])]
    nodes = [node("Cast", [name], [name + "f"], to=types.FLOAT) for name in "ndb"]
    nodes += [node("Reshape", ["nf", "shape"], ["nr"]), node("Mul", ["nr", "ten"], ["nt"]), node("Concat", ["a", "nt", "df", "bf"], ["all"], axis=1)]
    nodes += [node("ReduceSum", ["all", "axes"], ["y"], keepdims=1)]
    constants = {"shape": np.array([1, 1]), "ten": np.array([[10]], np.float32), "axes": np.array([1])}
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = onnx.helper.make_graph(nodes, "g", inputs, [value("y", types.FLOAT, [1, 1])], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save_model(model, os.path.join(HERE, "onnx_beyond_slots.onnx"))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    rows = [[0.5 * row, -0.25, row - 3, 1 / (row + 1), row % 2 == 0] for row in range(8)]
    ask = lambda a, b, n, d, t: session.run(None, {"a": np.array([[a, b]], np.float32), "n": np.array([n]), "d": np.array([[d]]), "b": np.array([[t]])})[0]
    answers = np.concatenate([ask(*row) for row in rows])
    columns = ["a0", "a1", "n", "d", "b"]
    write("onnx_beyond_slots", "onnx_beyond_slots.onnx", rows, answers, kind="onnxruntime", task="regression", columns=columns)


def mlmodel_cases():
    """`MLmodel` files as the client writes them."""
    import shutil
    import tempfile

    import lightgbm as lgb
    import mlflow
    import pandas as pd
    import xgboost as xgb
    from sklearn.linear_model import LogisticRegression

    rng, X = data(5)
    table = pd.DataFrame(X, columns=["age", "monthly fee", "mean radius of the thing (worst)", "tenure", "calls"])
    table["calls"] = (table["calls"] > 0)
    table["tenure"] = (table["tenure"] * 10).astype("int64")
    y = (table["age"] > 0).astype(int)
    signature = mlflow.models.infer_signature(table, y)

    def save(name, flavor, model, keep=(), **more):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "m")
            flavor.save_model(model, path, signature=signature, input_example=table[:2], **more)
            shutil.copy(os.path.join(path, "MLmodel"), os.path.join(HERE, f"mlmodel_{name}.yaml"))
            for file in keep:
                shutil.copy(os.path.join(path, file), os.path.join(HERE, f"mlmodel_{name}.{file}"))

    booster = lgb.train({"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 5}, lgb.Dataset(table, label=y), num_boost_round=3)
    save("lightgbm", mlflow.lightgbm, booster, ["model.lgb"])
    write("mlmodel_lightgbm", "mlmodel_lightgbm.model.lgb", table[:10].astype(object).values, booster.predict(table[:10]), kind="mlmodel", columns=list(table.columns))
    classifier = lgb.LGBMClassifier(n_estimators=2, verbosity=-1).fit(table, y)
    save("lightgbm_sklearn", mlflow.lightgbm, classifier)
    classifier = xgb.XGBClassifier(n_estimators=3, max_depth=2, n_jobs=1).fit(table, y)
    save("xgboost", mlflow.xgboost, classifier, ["model.ubj"])
    write("mlmodel_xgboost", "mlmodel_xgboost.model.ubj", table[:10].astype(object).values, classifier.predict_proba(table[:10])[:, 1], kind="mlmodel", columns=list(table.columns))
    save("sklearn", mlflow.sklearn, LogisticRegression().fit(table, y), serialization_format="cloudpickle")


if __name__ == "__main__":
    os.makedirs(HERE, exist_ok=True)
    if sys.argv[1:] == ["old"]:
        lightgbm_cases("lgb3")
        xgboost_cases("xgb1")
    else:
        lightgbm_cases()
        xgboost_cases()
        onnx_cases()
        mlmodel_cases()
