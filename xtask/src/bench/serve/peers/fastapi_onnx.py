"""FastAPI in front of ONNX Runtime, as its users write it: `uvicorn fastapi_onnx:app`. The model's folder is BENCH_MODEL."""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
# It has one core: more threads would only get into each other's way.
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.path.join(os.environ["BENCH_MODEL"], "model.onnx"), options, providers=["CPUExecutionProvider"])
given = session.get_inputs()[0].name
app = FastAPI()


class Ask(BaseModel):
    rows: list[list[float]]


class Answer(BaseModel):
    predictions: list[float]


@app.get("/health")
async def health():
    return {}


@app.post("/predict")
async def predict(ask: Ask) -> Answer:
    probabilities = session.run(["probabilities"], {given: np.array(ask.rows, dtype=np.float32)})[0]
    return Answer(predictions=probabilities[:, 1].tolist())
