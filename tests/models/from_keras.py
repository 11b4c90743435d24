"""Networks of Keras on TensorFlow, saved by `model.export` and converted with tf2onnx. Both sides compute in `float`; sums of products are taken in another order."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import case
import keras
import numpy as np
import onnx


def exported(model):
    with tempfile.TemporaryDirectory() as folder:
        saved, path = Path(folder) / "saved", Path(folder) / "model.onnx"
        model.export(str(saved), verbose=False)
        convert = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(saved), "--output", str(path), "--opset", "17"]
        subprocess.run(convert, check=True, capture_output=True)
        graph = onnx.load(path)
        # They name the folder it was converted in.
        graph.ClearField("doc_string")
        graph.graph.ClearField("doc_string")
        return graph.SerializeToString()


def network(x, outputs, last, hidden):
    scaled = keras.layers.Normalization()
    scaled.adapt(x)
    layers = [keras.Input((x.shape[1],)), scaled, keras.layers.Dense(16, activation=hidden), keras.layers.BatchNormalization()]
    return keras.Sequential([*layers, keras.layers.Dense(8, activation="relu"), keras.layers.Dense(outputs, activation=last)])


def make(out):
    keras.utils.set_random_seed(1)
    train, rows = case.people(3000, 6), case.asked()
    x, asked = train[case.NUMBERS].to_numpy(np.float32), rows[case.NUMBERS].to_numpy(np.float32)
    three = np.searchsorted(sorted(set(case.levels(train))), case.levels(train))
    for name, outputs, last, hidden, loss, y, task, classes in [
        ("regression", 1, None, "elu", "mse", case.score(train).to_numpy(np.float32), "regression", None),
        ("multiclass", 3, "softmax", "swish", "sparse_categorical_crossentropy", three, "multiclass", ["0", "1", "2"]),
    ]:
        model = network(x, outputs, last, hidden)
        model.compile("adam", loss)
        model.fit(x, y, epochs=4, batch_size=64, verbose=0, shuffle=False)
        expected = model.predict(asked, verbose=0)
        case.write(
            out / f"keras_{name}",
            "Keras",
            "onnx",
            ("model.onnx", exported(model)),
            rows[case.NUMBERS],
            expected,
            task=task,
            classes=classes,
            tolerance=1e-5,
            packages=["keras", "tensorflow-cpu", "tf2onnx"],
        )
