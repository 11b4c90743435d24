"""Feast's own answers, and ours held against them. Runs in Feast's environment.

    moved.py make DIR       two repositories in DIR, applied: Feast's quickstart as `feast init` makes it, and one with the hard cases;
                            what their users ask (DIR/asked_*.csv) and what Feast answers (DIR/*.pickle)
    moved.py compare DIR    training sets of ours (DIR/*.parquet) against that, to the bit
    moved.py online DIR URL [TOKEN]
                            online values of ours against what `feast materialize` put online, then the SDK over our server

Prints what it found as one line of JSON; ends with an error at the first difference.
"""

import json
import math
import os
import pickle
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

os.environ["FEAST_USAGE"] = "False"

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from feast import FeatureStore  # noqa: E402

FEAST = str(Path(sys.executable).parent / "feast")
US = timedelta(microseconds=1)

# View -> its keys and features, as asked for.
QUICK = {
    "driver_hourly_stats": (["driver_id"], ["conv_rate", "acc_rate", "avg_daily_trips", "driver_metadata", "driver_config", "driver_profile"]),
    "driver_hourly_stats_fresh": (["driver_id"], ["conv_rate", "acc_rate", "avg_daily_trips"]),
}
HARD = {
    "renamed": (["driver_id", "city"], ["rate", "n", "label"]),
    "forever": (["driver_id"], ["x", "flag"]),
}
# What JSON carries without loss, for the online comparison.
ONLINE = {"conv_rate", "acc_rate", "avg_daily_trips", "rate", "n", "label", "x", "flag"}

HARD_REPO = '''
from datetime import timedelta
from feast import Entity, FeatureView, Field, FileSource
from feast.types import Bool, Float32, Float64, Int64, String
from feast.value_type import ValueType

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
city = Entity(name="city", join_keys=["city"], value_type=ValueType.STRING)
log = FileSource(
    name="log", path="data/log.parquet", timestamp_field="at", created_timestamp_column="made",
    field_mapping={"ts": "at", "drv": "driver_id", "r": "rate", "written": "made"},
)
renamed = FeatureView(
    name="renamed", entities=[driver, city], ttl=timedelta(days=3), source=log,
    schema=[Field(name="driver_id", dtype=Int64), Field(name="city", dtype=String), Field(name="rate", dtype=Float32),
            Field(name="n", dtype=Int64), Field(name="label", dtype=String)],
)
forever = FeatureView(
    name="forever", entities=[driver], ttl=timedelta(0),
    source=FileSource(path="data/plain.parquet", timestamp_field="event_timestamp"),
    schema=[Field(name="driver_id", dtype=Int64), Field(name="x", dtype=Float64), Field(name="flag", dtype=Bool)],
)
'''


def feast(repo, *words):
    subprocess.run([FEAST, *words], cwd=repo, check=True, stdout=sys.stderr, stderr=sys.stderr)


def make(folder):
    feast(folder, "init", "quick")
    quick, hard = folder / "quick/feature_repo", folder / "hard"
    feast(quick, "apply")
    (hard / "data").mkdir(parents=True)
    (hard / "feature_store.yaml").write_text(
        "project: hard\nprovider: local\nregistry:\n  registry_type: file\n  path: data/registry.db\n"
        "online_store:\n  type: sqlite\n  path: data/online.db\nentity_key_serialization_version: 3\n"
    )
    (hard / "views.py").write_text(HARD_REPO)
    hard_data(hard)
    feast(hard, "apply")
    stats = pq.read_table(quick / "data/driver_stats.parquet", columns=["driver_id", "event_timestamp"]).to_pandas()
    ask(folder, quick, "quick", QUICK, quick_rows(stats))
    ask(folder, hard, "hard", HARD, hard_rows(hard))
    print(json.dumps({"made": str(folder)}))


def hard_data(hard):
    """Equal event times of which the latest created counts, wherever it stands in the file; NULLs; no tie among the newest."""
    random = np.random.default_rng(7)
    base = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0) - timedelta(days=5)
    rows = []
    for driver in (1, 2, 3):
        for city in ("a", "b"):
            for hour in range(0, 117, 3):
                at = base + timedelta(hours=hour, microseconds=int(random.integers(0, 2)))
                made = [at + timedelta(minutes=int(m)) for m in random.permutation(60)[: 1 if hour == 114 else int(random.integers(1, 4))]]
                for number, moment in enumerate(made):
                    rate = None if random.random() < 0.1 else np.float32(random.random())
                    rows.append((at, driver, city, rate, hour * 10 + number, f"{city}{hour}" if random.random() < 0.9 else None, moment))
    rows = [rows[i] for i in random.permutation(len(rows))]
    table = pa.table(
        {
            "ts": pa.array([r[0] for r in rows], pa.timestamp("us", "UTC")),
            "drv": pa.array([r[1] for r in rows], pa.int64()),
            "city": pa.array([r[2] for r in rows], pa.string()),
            "r": pa.array([r[3] for r in rows], pa.float32()),
            "n": pa.array([r[4] for r in rows], pa.int32()),
            "label": pa.array([r[5] for r in rows], pa.string()),
            "written": pa.array([r[6] for r in rows], pa.timestamp("us", "UTC")),
        }
    )
    pq.write_table(table, hard / "data/log.parquet")
    moments = [datetime(2020, 1, 1, tzinfo=timezone.utc), base, base + timedelta(days=4)]
    plain = [(d, at, x, x is None or x > 0) for d in (1, 2) for at, x in zip(moments, (-0.0, 5e-324 * d, 0.1 + 0.2))]
    pq.write_table(
        pa.table(
            {
                "driver_id": pa.array([p[0] for p in plain], pa.int64()),
                "event_timestamp": pa.array([p[1] for p in plain], pa.timestamp("us", "UTC")),
                "x": pa.array([p[2] for p in plain], pa.float64()),
                "flag": pa.array([p[3] for p in plain], pa.bool_()),
            }
        ),
        hard / "data/plain.parquet",
    )


def quick_rows(stats):
    """Moments at, just before and just after rows; exactly as old as the ttl, and older; long before the first; of an unknown driver; twice."""
    random = np.random.default_rng(1)
    rows, first, last = [], stats["event_timestamp"].sort_values().iloc[5], stats["event_timestamp"].max()
    for driver in stats["driver_id"].unique():
        own = stats[stats["driver_id"] == driver]["event_timestamp"].to_list()
        for at in random.choice(len(own), 12, replace=False):
            rows += [(driver, own[at] + shift) for shift in (-US, timedelta(0), US)]
        rows += [(driver, first + (last - first) * float(share)) for share in random.random(20)]
        day, old = timedelta(days=1), pd.Timestamp("2021-04-12 07:00:00", tz="UTC")
        for edge in (last, old):
            rows += [(driver, edge + shift) for shift in (day - US, day, day + US)]
        rows += [(driver, old - day), (driver, first + day), (driver, first + day)]
    rows += [(9999, last)]
    return pd.DataFrame({"driver_id": [int(d) for d, _ in rows], "event_timestamp": [pd.Timestamp(t).floor("us") for _, t in rows]})


def hard_rows(hard):
    log = pq.read_table(hard / "data/log.parquet").to_pandas()
    rows = []
    for driver in (1, 2, 3):
        for city in ("a", "b"):
            own = sorted(set(log[(log["drv"] == driver) & (log["city"] == city)]["ts"]))
            for at in own[::5] + own[-1:]:
                rows += [(driver, city, at + shift) for shift in (-US, timedelta(0), US, timedelta(hours=1))]
            rows += [(driver, city, own[-1] + timedelta(days=3) + shift) for shift in (timedelta(0), US)]
            rows += [(driver, city, own[0] - US), (driver, city, pd.Timestamp("2019-01-01", tz="UTC"))]
    rows += [(7, "a", own[-1]), (1, "c", own[-1])]
    return pd.DataFrame({"driver_id": [r[0] for r in rows], "city": [r[1] for r in rows], "event_timestamp": [r[2] for r in rows]})


def ask(folder, repo, name, views, asked):
    """Asks Feast, now and online; remembers its answers."""
    asked = asked.assign(row_id=range(len(asked)))
    written = asked.assign(asked_at=[t.isoformat() for t in asked["event_timestamp"]]).drop(columns="event_timestamp")
    written.to_csv(folder / f"asked_{name}.csv", index=False)
    store = FeatureStore(repo_path=str(repo))
    end = datetime.now(timezone.utc)
    feast(repo, "materialize", (end - timedelta(days=5000)).strftime("%Y-%m-%dT%H:%M:%S"), end.strftime("%Y-%m-%dT%H:%M:%S"), *[
        word for view in views for word in ("--views", view)
    ])
    found = {}
    for view, (keys, features) in views.items():
        refs = [f"{view}:{feature}" for feature in features]
        history = store.get_historical_features(entity_df=asked[[*keys, "event_timestamp", "row_id"]], features=refs).to_df()
        entities = asked[keys].drop_duplicates().to_dict("records")
        online = store.get_online_features(features=[f"{view}:{f}" for f in features if f in ONLINE], entity_rows=entities).to_dict()
        found[view] = {"history": history, "online": online, "entities": entities}
    (folder / f"{name}.pickle").write_bytes(pickle.dumps(found))


def same(ours, theirs):
    """Whether two values are the same; floats to the bit, a map as what its JSON says."""
    missing = lambda v: v is None or v is pd.NaT or (isinstance(v, float) and math.isnan(v))  # noqa: E731
    if isinstance(theirs, (np.floating, np.integer, np.bool_)):
        theirs = theirs.item()
    if missing(ours) or missing(theirs):
        return missing(ours) and missing(theirs)
    if isinstance(theirs, dict):
        return (json.loads(ours) if isinstance(ours, str) else ours) == theirs
    if isinstance(theirs, float) or isinstance(ours, float):
        return np.float64(ours).tobytes() == np.float64(theirs).tobytes()
    return ours == theirs


def compare(folder):
    counts = {}
    for name, views in (("quick", QUICK), ("hard", HARD)):
        asked = pd.read_csv(folder / f"asked_{name}.csv")
        answers = pickle.loads((folder / f"{name}.pickle").read_bytes())
        for view, (keys, features) in views.items():
            ours = {int(row["__label"]): row for row in pq.read_table(folder / f"{view}.parquet").to_pylist()}
            history = answers[view]["history"]
            assert sorted(ours) == sorted(asked["row_id"]), f"{view}: {len(ours)} rows of {len(asked)} labels"
            values = agreed = 0
            for row in history.to_dict("records"):
                # Of equal event times Feast means the one created last, but its file store sorts by time unstably: which it takes is chance.
                wanted = latest_created(folder, row) if view == "renamed" else row
                agreed += all(same(wanted[feature], row[feature]) for feature in features)
                for feature in features:
                    mine = ours[row["row_id"]][f"{view}.{feature}"]
                    if not same(mine, wanted[feature]):
                        raise SystemExit(f"{view}:{feature} of {row}: ours is {mine!r}, Feast's {row[feature]!r}")
                    values += not same(row[feature], None)
            # What Feast leaves out: rows that are too old, and the second of two equal rows.
            dropped = asked[~asked["row_id"].isin(history["row_id"])]
            kept = {tuple([*[row[k] for k in keys], row["event_timestamp"]]): row["row_id"] for row in history.to_dict("records")}
            empty = 0
            for row in dropped.to_dict("records"):
                mine = [ours[row["row_id"]][f"{view}.{feature}"] for feature in features]
                twin = kept.get(tuple([*[row[k] for k in keys], pd.Timestamp(row["asked_at"])]))
                wanted = [None] * len(features) if twin is None else [ours[twin][f"{view}.{feature}"] for feature in features]
                assert mine == wanted, f"{view} of {row}: {mine}, wanted {wanted}"
                empty += twin is None
            counts[view] = {"asked": len(asked), "feast": len(history), "agreed": agreed, "values": values, "too_old": empty, "twins": len(dropped) - empty}
    print(json.dumps(counts))


def latest_created(folder, row):
    """What Feast's documentation promises of `created_timestamp_column`, read off the file; of rows without a tie it is Feast's answer itself."""
    log = pq.read_table(folder / "hard/data/log.parquet").to_pandas()
    at = row["event_timestamp"]
    own = log[(log["drv"] == row["driver_id"]) & (log["city"] == row["city"]) & (log["ts"] <= at) & (log["ts"] >= at - timedelta(days=3))]
    equal = own[own["ts"] == own["ts"].max()]
    if len(equal) < 2:
        return row
    last = equal.loc[equal["written"].idxmax()]
    assert row["n"] in equal["n"].to_list(), f"Feast took none of the equal rows: {row}"
    return {"rate": last["r"], "n": last["n"], "label": last["label"]}


def online(folder, url, token):
    import requests

    login = {"Authorization": f"Bearer {token}"} if token else {}
    counts = {}
    for name, views in (("quick", QUICK), ("hard", HARD)):
        answers = pickle.loads((folder / f"{name}.pickle").read_bytes())
        for view, (keys, features) in views.items():
            features = [feature for feature in features if feature in ONLINE]
            entities = answers[view]["entities"]
            body = {"entities": {k: [e[k] for e in entities] for k in keys}, "features": [f"{view}:{f}" for f in features]}
            answer = requests.post(f"{url}/get-online-features", json=body, headers=login, timeout=60)
            assert answer.status_code == 200, answer.text
            counts[view] = check_online(view, features, answers[view]["online"], [c["values"] for c in answer.json()["results"][len(keys):]])
    repo = folder / "quick/feature_repo"
    host = url.removeprefix("http://")
    text = (repo / "feature_store.yaml").read_text()
    remote = f"online_store:\n    type: remote\n    path: http://{f'feast:{token}@' if token else ''}{host}\n"
    (repo / "feature_store.yaml").write_text(text.replace("online_store:\n    type: sqlite\n    path: data/online_store.db\n", remote))
    store = FeatureStore(repo_path=str(repo))
    assert store.config.online_store.type == "remote"
    now = datetime.now(timezone.utc)
    store.materialize(now - timedelta(days=1), now)
    store.materialize_incremental(now, feature_views=["driver_hourly_stats"])
    store.materialize_incremental(now, run_async=True)
    try:
        store.materialize(now - timedelta(days=1), now, feature_views=["nobody"])
        raise SystemExit("an unknown view was materialized")
    except Exception as error:
        counts["unknown"] = type(error).__name__
    answers = pickle.loads((folder / "quick.pickle").read_bytes())["driver_hourly_stats"]
    features = ["conv_rate", "acc_rate", "avg_daily_trips"]
    read = store.get_online_features(features=[f"driver_hourly_stats:{f}" for f in features], entity_rows=answers["entities"]).to_dict()
    counts["sdk"] = check_online("sdk", features, answers["online"], [read[f] for f in features])
    print(json.dumps(counts))


def check_online(view, features, theirs, ours):
    values = 0
    for feature, column in zip(features, ours):
        for mine, wanted in zip(column, theirs[feature], strict=True):
            if not same(mine, wanted):
                raise SystemExit(f"{view}:{feature} online: ours is {mine!r}, Feast's {wanted!r}")
            values += wanted is not None
    return values


if __name__ == "__main__":
    command, folder = sys.argv[1], Path(sys.argv[2])
    if command == "make":
        make(folder)
    elif command == "compare":
        compare(folder)
    else:
        online(folder, sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else "")
