"""Models and their peers in process, one thread each.

    peers.py make FOLDER              trains a forest and a network; writes them and the rows that are asked for
    peers.py WHO MODEL FOLDER         measures; WHO is lleaves, lightgbm or onnxruntime, MODEL is trees or network

The answer is one line of JSON: microseconds per row of a call with all rows, and of a call with one row, every row once. The probabilities lie in
FOLDER as `WHO.MODEL.f64`. Values are multiples of 1/256, so that float32 and float64 say the same numbers.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

FEATURES, TRAINED, ASKED = 20, 20_000, 10_000
ROUNDS = 7


def make(folder):
    import lightgbm
    import onnxmltools
    import skl2onnx
    from onnxmltools.convert.common.data_types import FloatTensorType
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(7)
    rows = (np.round(rng.normal(size=(TRAINED + ASKED, FEATURES)) * 256) / 256).astype(np.float32)
    signal = rows[:, 0] * rows[:, 1] + np.sin(2 * rows[:, 2]) + np.abs(rows[:, 3]) + 0.5 * rows[:, 4:10].sum(axis=1)
    labels = (signal + rng.normal(scale=0.3, size=len(rows)) > 0.8).astype(int)
    asked = rows[TRAINED:].astype(np.float64)
    assert len(np.unique(asked, axis=0)) == ASKED
    asked.tofile(folder / "rows.f64")
    params = {"objective": "binary", "num_leaves": 63, "verbosity": -1, "seed": 1, "num_threads": 1}
    forest = lightgbm.train(params, lightgbm.Dataset(rows[:TRAINED].astype(np.float64), labels[:TRAINED]), num_boost_round=100)
    forest.save_model(folder / "trees.txt")
    graph = onnxmltools.convert_lightgbm(forest, initial_types=[("rows", FloatTensorType([None, FEATURES]))], zipmap=False)
    (folder / "trees.onnx").write_bytes(graph.SerializeToString())
    network = MLPClassifier((64, 32), max_iter=30, random_state=1).fit(rows[:TRAINED], labels[:TRAINED])
    graph = skl2onnx.to_onnx(network, rows[:1], options={"zipmap": False}, target_opset={"": 17, "ai.onnx.ml": 3})
    (folder / "network.onnx").write_bytes(graph.SerializeToString())


def onnxruntime_of(model, folder):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / f"{model}.onnx", options, providers=["CPUExecutionProvider"])
    given, wanted = session.get_inputs()[0].name, session.get_outputs()[1].name
    return np.float32, lambda rows: session.run([wanted], {given: rows})[0][:, 1]


def lightgbm_of(_, folder):
    import lightgbm

    forest = lightgbm.Booster(model_file=folder / "trees.txt")
    return np.float64, lambda rows: forest.predict(rows, num_threads=1)


def lleaves_of(_, folder):
    import lleaves

    forest = lleaves.Model(model_file=str(folder / "trees.txt"))
    forest.compile(cache=str(folder / "trees.lleaves"))
    return np.float64, lambda rows: forest.predict(rows, n_jobs=1)


def measure(who, model, folder):
    kind, predict = {"lleaves": lleaves_of, "lightgbm": lightgbm_of, "onnxruntime": onnxruntime_of}[who](model, folder)
    rows = np.fromfile(folder / "rows.f64").reshape(-1, FEATURES).astype(kind)
    np.asarray(predict(rows), dtype=np.float64).tofile(folder / f"{who}.{model}.f64")
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        predict(rows)
        times.append(time.perf_counter() - begun)
    alone = [row.reshape(1, -1) for row in rows]
    one = []
    for row in alone:
        begun = time.perf_counter()
        predict(row)
        one.append(time.perf_counter() - begun)
    print(json.dumps({"all": float(np.median(times)) / len(rows) * 1e6, "one": float(np.median(one)) * 1e6}))


if __name__ == "__main__":
    make(Path(sys.argv[2])) if sys.argv[1] == "make" else measure(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
