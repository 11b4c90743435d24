"""Writes the runs of the search benchmark straight into MLflow's database: fill_mlflow.py DATABASE EXPERIMENT RUNS METRICS BEGAN.

The same formula as `fill.rs`. The server that owns the database must not run. Standard library only.
"""

import sqlite3
import sys
import uuid


def main(path, experiment, runs, metrics, began):
    db = sqlite3.connect(path)
    db.execute("PRAGMA synchronous = off")
    for first in range(0, runs, 1000):
        rows = {table: [] for table in ["runs", "metrics", "latest", "params", "tags"]}
        for i in range(first, min(first + 1000, runs)):
            run, name = uuid.uuid4().hex, f"r{i:06}"
            uri = f"mlflow-artifacts:/{experiment}/{run}/artifacts"
            rows["runs"].append((run, name, "LOCAL", "", "", "", "FINISHED", began + i, began + i + 1, "", "active", uri, experiment))
            for k in range(metrics):
                point = (f"m{k:02}", ((i * 7919 + k * 104729) % 10007) / 10007.0, began + i, run, 0, 0)
                rows["metrics"].append(point)
                rows["latest"].append(point)
            params = [("p0", str(i % 10)), ("p1", "abcd"[i % 4]), ("p2", str(i % 1000)), ("p3", "constant"), ("p4", f"value {i}")]
            rows["params"] += [(key, value, run) for key, value in params]
            rows["tags"] += [("mlflow.runName", name, run), ("team", "xyz"[i % 3], run)]
        db.executemany(
            "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time, source_version,"
            " lifecycle_stage, artifact_uri, experiment_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows["runs"],
        )
        for table, kind in [("metrics", "metrics"), ("latest_metrics", "latest")]:
            query = f"INSERT INTO {table} (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, ?)"
            db.executemany(query, rows[kind])
        db.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", rows["params"])
        db.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", rows["tags"])
        db.commit()
    db.execute("ANALYZE")
    db.commit()
    db.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
