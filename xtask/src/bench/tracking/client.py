"""The unmodified client, timed from the outside. Reads lines of URL RUN FIRST TIMES; answers each with what every `log_metric` took, in microseconds.

One process measures everybody, so that all have the same one: two of them differ by more than what is looked for.
"""

import json
import os
import sys
import time

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from mlflow import MlflowClient  # noqa: E402


# Calls that do not count: whoever is asked was just held still.
WARM = 10


def main(url, run, first, times):
    client = MlflowClient(url)
    took = []
    for i in range(-WARM, times):
        begun = time.perf_counter()
        client.log_metric(run, "loss", 1.0 / (first + i + WARM + 1), step=first + i + WARM)
        if i >= 0:
            took.append((time.perf_counter() - begun) * 1e6)
    print(json.dumps(took), flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        url, run, first, times = line.split()
        main(url, run, int(first), int(times))
