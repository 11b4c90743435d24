"""The peers of `cargo xtask bench features`, one per call: peers.py NAME VIEW FOLDER. Prints seconds, rows and peak memory as JSON.

The clock runs from opening the two Parquet files until the answers are in memory. Importing and writing the answer (NAME.parquet) are not in it.

    peers.py retail SOURCE FOLDER     writes labels.parquet and events.parquet from the retail data: every row of a customer is a label
    peers.py check VIEW FOLDER A B    compares two answers, row by row
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

COLUMNS = [f"x{i}" for i in range(10)]
DAYS = (1, 7, 30)


def duckdb(view, folder):
    import duckdb

    db = duckdb.connect()
    db.execute("SET threads = 2")
    if view == "latest":
        text = f"""SELECT l.label_id, {', '.join('e.' + c for c in COLUMNS)}
            FROM '{folder}/labels.parquet' l ASOF LEFT JOIN '{folder}/events.parquet' e
            ON l.customer_id = e.customer_id AND l.time > e.event_time"""
    else:
        # Every row is its own label: strictly earlier rows of its customer, within so many days.
        calls, windows = [], []
        for days in DAYS:
            calls.append(f"count(*) OVER w{days} AS n{days}, sum(amount) OVER w{days} AS s{days}, avg(amount) OVER w{days} AS a{days}, max(amount) OVER w{days} AS m{days}")
            reach = days * 86_400_000_000 - 1
            windows.append(
                f"w{days} AS (PARTITION BY customer_id ORDER BY event_time RANGE BETWEEN INTERVAL '{reach} microseconds' PRECEDING AND CURRENT ROW EXCLUDE GROUP)"
            )
        text = f"SELECT label_id, {', '.join(calls)} FROM '{folder}/events.parquet' WINDOW {', '.join(windows)}"
    begun = time.perf_counter()
    answer = db.execute(text).to_arrow_table()
    return time.perf_counter() - begun, answer


def polars(view, folder):
    os.environ["POLARS_MAX_THREADS"] = "2"
    import polars as pl

    begun = time.perf_counter()
    if view == "latest":
        labels = pl.read_parquet(f"{folder}/labels.parquet").sort("time")
        events = pl.read_parquet(f"{folder}/events.parquet").sort("event_time")
        answer = labels.join_asof(
            events, left_on="time", right_on="event_time", by="customer_id", strategy="backward", allow_exact_matches=False, check_sortedness=False
        ).select("label_id", *COLUMNS)
    else:
        rows = pl.read_parquet(f"{folder}/events.parquet").sort("customer_id", "event_time")
        parts = [rows.select("label_id")]
        for days in DAYS:
            part = rows.rolling("event_time", period=f"{days}d", group_by="customer_id", closed="none").agg(
                pl.len().alias(f"n{days}"), pl.col("amount").sum().alias(f"s{days}"), pl.col("amount").mean().alias(f"a{days}"), pl.col("amount").max().alias(f"m{days}")
            )
            parts.append(part.drop("customer_id", "event_time"))
        answer = pl.concat(parts, how="horizontal")
    return time.perf_counter() - begun, answer.to_arrow()


def chdb(view, folder):
    import chdb

    if view != "latest":
        raise SystemExit("chDB has no window frame that leaves out its own row's peers")
    text = f"""SELECT l.label_id AS label_id, {', '.join('e.' + c + ' AS ' + c for c in COLUMNS)}
        FROM file('{folder}/labels.parquet', Parquet) l ASOF LEFT JOIN file('{folder}/events.parquet', Parquet) e
        ON l.customer_id = e.customer_id AND l.time > e.event_time
        SETTINGS max_threads = 2, join_use_nulls = 1"""
    begun = time.perf_counter()
    answer = chdb.query(text, "ArrowTable")
    return time.perf_counter() - begun, answer


def feast(view, folder):
    import tempfile
    from datetime import timedelta

    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource
    from feast.types import Float64

    if view != "latest":
        raise SystemExit("Feast has no windows")
    with tempfile.TemporaryDirectory() as repo:
        Path(repo, "feature_store.yaml").write_text(
            "project: bench\nprovider: local\nregistry: registry.db\nonline_store:\n  type: sqlite\n  path: online.db\n"
            "offline_store:\n  type: file\nentity_key_serialization_version: 3\n"
        )
        customer = Entity(name="customer", join_keys=["customer_id"])
        source = FileSource(path=f"{folder}/events.parquet", timestamp_field="event_time")
        fields = [Field(name=c, dtype=Float64) for c in COLUMNS]
        stats = FeatureView(name="stats", entities=[customer], ttl=timedelta(days=10_000), schema=fields, source=source)
        store = FeatureStore(repo_path=repo)
        store.apply([customer, stats])
        begun = time.perf_counter()
        labels = pd.read_parquet(f"{folder}/labels.parquet").rename(columns={"time": "event_timestamp"})
        answer = store.get_historical_features(entity_df=labels, features=[f"stats:{c}" for c in COLUMNS]).to_df()
        took = time.perf_counter() - begun
    import pyarrow as pa

    return took, pa.Table.from_pandas(answer[["label_id", *COLUMNS]], preserve_index=False)


def retail(source, folder):
    import duckdb

    Path(folder).mkdir(parents=True, exist_ok=True)
    rows = f"""SELECT row_number() OVER () - 1 AS label_id, customer_id::BIGINT AS customer_id, invoice_date::TIMESTAMP AT TIME ZONE 'UTC' AS event_time,
        quantity * price AS amount FROM '{source}' WHERE customer_id IS NOT NULL"""
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    db.execute(f"COPY ({rows}) TO '{folder}/events.parquet' (FORMAT parquet)")
    db.execute(f"COPY (SELECT label_id, customer_id, event_time AS time FROM '{folder}/events.parquet') TO '{folder}/labels.parquet' (FORMAT parquet)")


def check(view, folder, ours, theirs):
    """Lookups are equal; sums of floats may differ in their last digits, because not everybody's sums are exact."""
    import duckdb

    db = duckdb.connect()
    a, b = (f"'{folder}/{name}.parquet'" for name in (ours, theirs))
    names = [row[0] for row in db.execute(f"DESCRIBE SELECT * FROM {a}").fetchall() if row[0] != "label_id"]

    def differ(name):
        if view == "windows" and name[0] == "s":
            # A sum over nothing is NULL in SQL and 0 in Polars.
            return f"abs(coalesce(a.{name}, 0) - coalesce(b.{name}, 0)) > 1e-6"
        if view == "windows" and name[0] == "a":
            return f"(a.{name} IS NULL) <> (b.{name} IS NULL) OR abs(a.{name} - b.{name}) > 1e-6"
        return f"a.{name} IS DISTINCT FROM b.{name}"

    wrong = " OR ".join(f"({differ(name)})" for name in names)
    rows, other, both, different = db.execute(
        f"""SELECT (SELECT count(*) FROM {a}), (SELECT count(*) FROM {b}), count(*), count(*) FILTER (WHERE {wrong})
        FROM {a} a JOIN {b} b USING (label_id)"""
    ).fetchone()
    print(json.dumps({"rows": rows, "other": other, "both": both, "different": different}))


def main(name, *rest):
    if name == "retail":
        return retail(*rest)
    if name == "check":
        return check(*rest)
    view, folder = rest
    took, answer = {"duckdb": duckdb, "polars": polars, "chdb": chdb, "feast": feast}[name](view, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": took, "rows": answer.num_rows, "peak_mib": peak}), flush=True)
    import pyarrow.parquet

    pyarrow.parquet.write_table(answer, f"{folder}/{name}.parquet")


if __name__ == "__main__":
    main(*sys.argv[1:])
