"""FastAPI in front of scikit-learn, as its users write it: `uvicorn fastapi_sklearn:app`. The model's folder is BENCH_MODEL."""

import os

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load(os.path.join(os.environ["BENCH_MODEL"], "model.joblib"))
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
    return Answer(predictions=model.predict_proba(np.array(ask.rows, dtype=np.float32))[:, 1].tolist())
