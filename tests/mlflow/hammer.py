"""Many processes with the unmodified client log batches to one run; then everything is read back and counted.

    python tests/mlflow/hammer.py --url URL [--processes 64] [--seconds 120] [--batch 1000]

Prints one JSON document: batches acknowledged, errors that reached the caller (after the client's own retries) by kind, and of the acknowledged
metrics how many are missing, doubled or changed. Exit code 0 when errors, missing and doubled are 0.
"""

import argparse
import collections
import json
import multiprocessing
import os
import sys
import time
import urllib.parse
import urllib.request

START = 1_600_000_000_000
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url, route, query=None, body=None):
    """One plain request: reading back does not depend on the client."""
    target = f"{url}/api/2.0/mlflow/{route}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
    request = urllib.request.Request(
        target, json.dumps(body).encode() if body is not None else None, {"Content-Type": "application/json"} if body is not None else {}
    )
    for attempt in range(20):
        try:
            with OPENER.open(request, timeout=300) as answer:
                return json.loads(answer.read())
        except OSError:
            if attempt == 19:
                raise
            time.sleep(1)


def value(process, step):
    return process + step / 1024


def writer(process, given, run_id, began, out):
    """Logs whole batches until the time is over; metric `pN`, steps counting up from 0."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client, key = MlflowClient(given.url), f"p{process}"
    acked, unknown, errors, waits, batch = [], [], collections.Counter(), [], 0
    began.wait()
    until = time.monotonic() + given.seconds
    while time.monotonic() < until:
        first = batch * given.batch
        metrics = [Metric(key, value(process, s), START + s, s) for s in range(first, first + given.batch)]
        sent = time.monotonic()
        try:
            client.log_batch(run_id, metrics)
            acked.append(batch)
        except Exception as error:  # noqa: BLE001 - counted by kind
            errors[f"{type(error).__name__}: {str(error)[:160]}"] += 1
            unknown.append(batch)
        waits.append(time.monotonic() - sent)
        batch += 1
    out.put((process, acked, unknown, dict(errors), waits))


def history(url, run_id, key):
    query = {"run_id": run_id, "metric_key": key, "max_results": 25_000}
    while True:
        page = ask(url, "metrics/get-history", query)
        yield from page.get("metrics", [])
        if not page.get("next_page_token"):
            return
        query["page_token"] = page["next_page_token"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--url", required=True)
    arguments.add_argument("--processes", type=int, default=64)
    arguments.add_argument("--seconds", type=float, default=120)
    arguments.add_argument("--batch", type=int, default=1000)
    given = arguments.parse_args()
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", NO_PROXY="127.0.0.1,localhost", MLFLOW_TRACKING_URI=given.url)
    # Imported once and shared by the forks: 64 copies of the client would not fit into memory.
    import mlflow  # noqa: F401
    import mlflow.tracking  # noqa: F401

    run_id = ask(given.url, "runs/create", body={"experiment_id": "0", "start_time": START, "run_name": "hammered"})["run"]["info"]["run_id"]
    context = multiprocessing.get_context("fork")
    began, out = context.Event(), context.Queue()
    processes = [context.Process(target=writer, args=(n, given, run_id, began, out)) for n in range(given.processes)]
    for process in processes:
        process.start()
    time.sleep(1)
    start = time.monotonic()
    began.set()
    written = [out.get() for _ in processes]
    for process in processes:
        process.join()
    took = time.monotonic() - start

    missing = doubled = changed = strange = read = 0
    for process, acked, unknown, _, _ in written:
        seen = collections.Counter()
        for metric in history(given.url, run_id, f"p{process}"):
            step = int(metric.get("step", 0))
            seen[step] += 1
            changed += metric["value"] != value(process, step) or int(metric["timestamp"]) != START + step
        read += sum(seen.values())
        steps = {b * given.batch + i for b in acked for i in range(given.batch)}
        possible = steps | {b * given.batch + i for b in unknown for i in range(given.batch)}
        missing += len(steps - seen.keys())
        strange += len(seen.keys() - possible)
        doubled += sum(count > 1 for count in seen.values())
    waits = sorted(w for _, _, _, _, ws in written for w in ws)
    errors = collections.Counter()
    for _, _, _, kinds, _ in written:
        errors.update(kinds)
    batches = sum(len(acked) for _, acked, _, _, _ in written)
    result = {
        "url": given.url,
        "processes": given.processes,
        "seconds": round(took, 1),
        "batches": batches,
        "metrics_per_second": round(batches * given.batch / took),
        "p50_ms": round(waits[len(waits) // 2] * 1000, 1),
        "p99_ms": round(waits[int(len(waits) * 0.99)] * 1000, 1),
        "errors": sum(errors.values()),
        "kinds": dict(errors.most_common(5)),
        "read": read,
        "missing": missing,
        "doubled": doubled,
        "changed": changed,
        "never_sent": strange,
    }
    print(json.dumps(result))
    return 0 if not (result["errors"] or missing or doubled or changed or strange) else 1


if __name__ == "__main__":
    sys.exit(main())
