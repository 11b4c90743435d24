"""BentoML in front of ONNX Runtime: `bentoml serve bento_onnx:Scores`. The model's folder is BENCH_MODEL."""

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Scores:
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = os.path.join(os.environ["BENCH_MODEL"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.given = self.session.get_inputs()[0].name

    @bentoml.api
    async def predict(self, rows: list[list[float]]) -> list[float]:
        return self.session.run(["probabilities"], {self.given: np.array(rows, dtype=np.float32)})[0][:, 1].tolist()
