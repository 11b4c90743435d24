"""Clients that send rows: MLflow's scoring client, and what users of TensorFlow Serving, SageMaker and Vertex AI do, by `requests`: rows.py URL ENDPOINT."""

import json
import sys
from urllib.parse import urlsplit

import pandas as pd
import requests
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

CUSTOMERS = [7, 8, 777]


def main(url, model):
    at = urlsplit(url)
    client = ScoringServerClient(at.hostname, at.port)
    client.wait_server_ready(timeout=5)
    frame = pd.DataFrame({"customer_id": CUSTOMERS})
    scored = client.invoke(frame).get_predictions()
    told = {"mlflow": scored.iloc[:, 0].tolist() if hasattr(scored, "iloc") else list(scored)}

    def post(path, body, **headers):
        answer = requests.post(url + path, data=body, headers={"Content-Type": "application/json", **headers}, timeout=30)
        answer.raise_for_status()
        return answer

    rows = json.dumps({"instances": [{"customer_id": c} for c in CUSTOMERS]})
    told["tensorflow"] = post(f"/v1/models/{model}:predict", rows).json()["predictions"]
    told["columns"] = post(f"/v1/models/{model}:predict", json.dumps({"inputs": {"customer_id": CUSTOMERS}})).json()["outputs"]
    examples = json.dumps({"examples": [{"customer_id": c} for c in CUSTOMERS]})
    told["classify"] = [dict(r) for r in post(f"/v1/models/{model}:classify", examples).json()["results"]]
    csv = frame.to_csv(index=False)
    lines = post("/invocations", csv, **{"Content-Type": "text/csv", "Accept": "text/csv"}).text.split()
    told["sagemaker"] = [float(line) for line in lines]
    told["ping"] = requests.get(url + "/ping", timeout=30).status_code
    # As Python writes what is missing.
    told["nan"] = post(f"/v1/models/{model}:predict", '{"instances": [{"customer_id": 7, "unused": NaN}]}').json()["predictions"]
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
