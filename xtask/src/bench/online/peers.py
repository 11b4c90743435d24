"""Feast's side of `cargo xtask bench online`.

    peers.py data FOLDER ENTITIES           five tables of ten features each, as Parquet
    peers.py feast FOLDER DATA STORE        a repository over them, applied and materialised; STORE is `sqlite` or a Redis address; prints seconds
    peers.py ask URL ENTITY...              asks a server by Feast's protocol; prints the features of each entity as JSON
    peers.py hash ADDRESS                   a hash of fifty fields for `redis-benchmark`
"""

import json
import os
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

os.environ["FEAST_USAGE"] = "False"

VIEWS, FEATURES, ROWS_PER_ENTITY = 5, 10, 3
ALL = [f"view{view}:f{view}_{number}" for view in range(VIEWS) for number in range(FEATURES)]
BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)


def data(folder, entities):
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(7)
    for view in range(VIEWS):
        rows = entities * ROWS_PER_ENTITY
        frame = pd.DataFrame(
            {
                "driver_id": np.tile(np.arange(entities, dtype="int64"), ROWS_PER_ENTITY),
                "event_timestamp": np.repeat([BEGIN + timedelta(hours=hour) for hour in range(ROWS_PER_ENTITY)], entities),
                **{f"f{view}_{number}": rng.random(rows) for number in range(FEATURES)},
            }
        )
        frame["event_timestamp"] = pd.to_datetime(frame["event_timestamp"], utc=True).astype("datetime64[us, UTC]")
        frame.to_parquet(folder / f"s{view}.parquet", index=False)


def feast(folder, data, store):
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource
    from feast.types import Float64

    online = "  type: sqlite\n  path: online.db\n" if store == "sqlite" else f"  type: redis\n  connection_string: {store}\n"
    (folder / "feature_store.yaml").write_text(
        f"project: bench\nprovider: local\nregistry: registry.db\nonline_store:\n{online}"
        "offline_store:\n  type: file\nentity_key_serialization_version: 3\n"
    )
    driver = Entity(name="driver", join_keys=["driver_id"])
    views = []
    for view in range(VIEWS):
        source = FileSource(name=f"s{view}", path=str(data / f"s{view}.parquet"), timestamp_field="event_timestamp")
        fields = [Field(name=f"f{view}_{number}", dtype=Float64) for number in range(FEATURES)]
        views.append(FeatureView(name=f"view{view}", entities=[driver], ttl=timedelta(days=3650), schema=fields, source=source))
    repository = FeatureStore(repo_path=str(folder))
    repository.apply([driver, *views])
    begun = time.monotonic()
    repository.materialize(BEGIN - timedelta(days=1), BEGIN + timedelta(days=1))
    print(json.dumps({"seconds": time.monotonic() - begun}))


def ask(url, entities):
    import requests

    body = {"entities": {"driver_id": entities}, "features": ALL}
    answer = requests.post(f"{url}/get-online-features", json=body, headers=headers(), timeout=60)
    answer.raise_for_status()
    told = answer.json()
    columns = {name: result["values"] for name, result in zip(told["metadata"]["feature_names"], told["results"])}
    print(json.dumps([[columns[feature.split(":")[1]][row] for feature in ALL] for row in range(len(entities))]))


def headers():
    token = os.environ.get("BENCH_AUTHORIZATION")
    return {"Authorization": token} if token else {}


def hash_of(address):
    """A hash as Feast keeps one (50 fields of 9 bytes), under names that a command line can say."""
    import redis

    host, port = address.split(":")
    client = redis.Redis(host=host, port=int(port))
    client.hset("raw", mapping={f"field{number:02}": b"\x2d" + bytes(8) for number in range(VIEWS * FEATURES)})


def main(words):
    match words:
        case ["data", folder, entities]:
            data(Path(folder), int(entities))
        case ["feast", folder, data_folder, store]:
            feast(Path(folder), Path(data_folder), store)
        case ["ask", url, *entities]:
            ask(url, [int(entity) for entity in entities])
        case ["hash", address]:
            hash_of(address)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
