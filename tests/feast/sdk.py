"""The unmodified Feast SDK against a Gristmill server: sdk.py URL TOKEN. Prints what it read, as JSON.

The repository is that of Feast's quickstart (drivers and their hourly statistics), with one line of `feature_store.yaml` changed: the online
store is `remote`. Everything else (registry, offline store) is Feast's own, on local files.
"""

import json
import os
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

os.environ["FEAST_USAGE"] = "False"

import pandas as pd  # noqa: E402
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource  # noqa: E402
from feast.data_source import PushMode  # noqa: E402
from feast.types import Float32, Int64  # noqa: E402

FEATURES = [f"driver_hourly_stats:{name}" for name in ("conv_rate", "acc_rate", "avg_daily_trips")]


def repository(folder, url, token):
    host = url.removeprefix("http://")
    (folder / "feature_store.yaml").write_text(
        "project: drivers\nprovider: local\nregistry: registry.db\n"
        f"online_store:\n  type: remote\n  path: http://feast:{token}@{host}\n"
        "offline_store:\n  type: file\nentity_key_serialization_version: 3\n"
    )
    driver = Entity(name="driver", join_keys=["driver_id"])
    batch = FileSource(name="driver_stats", path=str(folder / "stats.parquet"), timestamp_field="event_timestamp", created_timestamp_column="created")
    fields = [Field(name="conv_rate", dtype=Float32), Field(name="acc_rate", dtype=Float32), Field(name="avg_daily_trips", dtype=Int64)]
    pushed = PushSource(name="driver_stats_push_source", batch_source=batch)
    view = FeatureView(name="driver_hourly_stats", entities=[driver], ttl=timedelta(days=365), schema=fields, online=True, source=pushed)
    rows(0, 0.5).to_parquet(folder / "stats.parquet")
    store = FeatureStore(repo_path=str(folder))
    store.apply([driver, view, FeatureService(name="driver_activity", features=[view])])
    return store


def rows(minute, rate):
    at = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=minute)
    return pd.DataFrame(
        {
            "driver_id": [1001, 1002],
            "event_timestamp": [at, at],
            "created": [at, at],
            "conv_rate": [rate, rate / 2],
            "acc_rate": [0.25, None],
            "avg_daily_trips": [100 + minute, 200 + minute],
        }
    )


def read(store, features):
    asked = [{"driver_id": driver} for driver in (1001, 1002, 9)]
    return store.get_online_features(features=features, entity_rows=asked).to_dict()


def until(store, rate):
    """Reads until a pushed row is seen."""
    end = time.monotonic() + 60
    while True:
        seen = read(store, FEATURES)
        if seen["conv_rate"][0] is not None and abs(seen["conv_rate"][0] - rate) < 1e-6:
            return seen
        if time.monotonic() > end:
            raise SystemExit(f"a pushed row is not seen: {seen}")
        time.sleep(0.05)


def main(url, token):
    with tempfile.TemporaryDirectory() as folder:
        store = repository(Path(folder), url, token)
        store.push("driver_stats_push_source", rows(10, 0.75), to=PushMode.ONLINE)
        pushed = until(store, 0.75)
        store.write_to_online_store("driver_hourly_stats", df=rows(20, 0.125))
        written = until(store, 0.125)
        # A service is an endpoint here, and no model is deployed in this project.
        service = failure(lambda: read(store, store.get_feature_service("driver_activity")))
        refused = failure(lambda: store.write_to_online_store("driver_hourly_stats", df=rows(30, 0.5).assign(driver_id=["a", "b"])))
    print(json.dumps({"pushed": pushed, "written": written, "service": service, "refused": refused}))


def failure(work):
    """The name of the error that it ends with."""
    try:
        work()
    except Exception as error:
        return type(error).__name__
    raise SystemExit("it should have failed")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
