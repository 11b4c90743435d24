"""The unmodified client, timed from the outside. Reads lines of URL RUN FIRST TIMES; answers each with what a `log_metric` took, in microseconds.

One process measures everybody, so that all have the same one: two of them differ by more than what is looked for.
"""

import json
import os
import sys
import time

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from mlflow import MlflowClient  # noqa: E402


# Calls that do not count.
WARM = 40


def main(url, run, first, times):
    client = MlflowClient(url)
    took = []
    for i in range(-WARM, times):
        begun = time.perf_counter()
        client.log_metric(run, "loss", 1.0 / (first + i + WARM + 1), step=first + i + WARM)
        if i >= 0:
            took.append((time.perf_counter() - begun) * 1e6)
    took.sort()
    rank = lambda share: took[min(len(took) - 1, int(len(took) * share))]
    print(json.dumps({"count": times, "seconds": sum(took) / 1e6, "p50_us": rank(0.5), "p99_us": rank(0.99)}), flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        url, run, first, times = line.split()
        main(url, run, int(first), int(times))
