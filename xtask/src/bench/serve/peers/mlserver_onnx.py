"""A runtime of MLServer that asks ONNX Runtime; MLServer has none of its own for ONNX. The model's folder is BENCH_MODEL."""

import os

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Onnx(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = os.path.join(os.environ["BENCH_MODEL"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.given = self.session.get_inputs()[0].name
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        probabilities = self.session.run(["probabilities"], {self.given: rows})[0]
        score = NumpyCodec.encode_output("score", probabilities[:, 1])
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[score])
