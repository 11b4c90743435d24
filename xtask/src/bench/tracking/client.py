"""The unmodified client, timed from the outside: client.py URL RUN FIRST TIMES. Prints what each `log_metric` took, in microseconds."""

import json
import os
import sys
import time

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from mlflow import MlflowClient  # noqa: E402


def main(url, run, first, times):
    client = MlflowClient(url)
    took = []
    for i in range(-100, times):
        begun = time.perf_counter()
        client.log_metric(run, "loss", 1.0 / (first + i + 101), step=first + i + 100)
        if i >= 0:
            took.append((time.perf_counter() - begun) * 1e6)
    took.sort()
    rank = lambda share: took[min(len(took) - 1, int(len(took) * share))]
    print(json.dumps({"count": times, "seconds": sum(took) / 1e6, "p50_us": rank(0.5), "p99_us": rank(0.99)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
