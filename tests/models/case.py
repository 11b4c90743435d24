"""What every case has in common: the rows, and the files of its folder.

A folder holds the model file, `MLmodel` as MLflow's client writes it, `rows.csv.gz` (what is asked), `expected.csv.gz` (what the library that trained the
model says, and the class it picks) and `case.json` (versions, task, tolerance). An empty cell is a missing value.
"""

import csv
import gzip
import importlib.metadata
import io
import json

import numpy as np
import pandas as pd

PLANS = ["basic", "plus", "pro", "family plan"]
REGIONS = ["north", "south", "east", "west", "centre", "coast", "hills", "isles"]
NUMBERS = ["age", "income", "balance", "tenure", "calls"]


def people(count, seed, missing=0.0):
    """Synthetic customers: numbers of very different size, and words. `missing` is the share of empty cells."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 90, count).astype(np.float64),
            "income": np.round(rng.lognormal(10.3, 0.6, count)),
            "balance": np.round(rng.normal(0.0, 300.0, count), 2),
            "tenure": rng.integers(0, 240, count).astype(np.float64),
            "calls": rng.poisson(2.5, count).astype(np.float64),
            "plan": rng.choice(PLANS, count, p=[0.4, 0.3, 0.2, 0.1]),
            "region": rng.choice(REGIONS, count),
        }
    )
    if missing:
        holes = rng.random(table.shape) < missing
        for place, column in enumerate(table.columns):
            table.loc[holes[:, place], column] = None if table[column].dtype == object else np.nan
    return table


def asked(missing=0.0, count=1040):
    """The rows that are predicted: drawn like the training's, then borders: zeros, numbers far outside, and, where there may be some, only missing ones."""
    table = people(count, 2024, missing)
    for row, value in enumerate([0.0, 1e6, -1e6, 1.0, -1.0]):
        table.loc[row, NUMBERS] = value
    if missing:
        table.loc[5, NUMBERS] = np.nan
        for row, column in enumerate(NUMBERS):
            table.loc[6 + row, column] = np.nan
    return table


def score(table):
    """What the labels are made of: not linear, with words that matter, and noise by a seed of its own."""
    t = table
    age, income = t["age"].fillna(50.0), t["income"].fillna(20_000.0)
    words = t["plan"].map({"basic": -0.8, "plus": 0.1, "pro": 0.9, "family plan": 1.6}).astype(float).fillna(0.0)
    places = t["region"].map({name: (place % 3 - 1) * 0.5 for place, name in enumerate(REGIONS)}).astype(float).fillna(0.0)
    smooth = (age - 50.0) / 20.0 * np.sign(t["balance"].fillna(0.0)) + np.log(income / 30_000.0) + words + places
    return smooth + 0.02 * t["tenure"].fillna(40.0) * (t["calls"].fillna(2.0) > 3) - 1.0 + np.random.default_rng(7).normal(0.0, 0.4, len(t))


def labels(table):
    """Two classes: `stays`, `leaves`."""
    return np.where(score(table) > 0.0, "stays", "leaves")


def levels(table):
    """Three classes: `high`, `low`, `middle`."""
    return np.array(["low", "middle", "high"])[np.digitize(score(table), [-0.8, 0.8])]


def write(folder, origin, flavour, model, rows, expected, *, task, tolerance, entries=None, classes=None, packages=(), name_rows=None):
    """Writes a case. `model` is its file name and content; `expected` has one column per output; `classes` are in the order of the outputs."""
    file, content = model
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / file).write_bytes(content)
    expected = np.asarray(expected, dtype=np.float64).reshape(len(rows), -1)
    assert np.isfinite(expected).all() and len(rows) >= 1000, folder.name
    given = list(rows.columns) if name_rows is None else name_rows
    (folder / "rows.csv.gz").write_bytes(packed(given, [[cell(x) for x in row] for row in rows.astype(object).values.tolist()]))
    names = [f"p_{c}" for c in classes] if classes and expected.shape[1] > 1 else ["score"]
    (folder / "expected.csv.gz").write_bytes(packed(names, [[repr(x) for x in row] for row in expected.tolist()]))
    (folder / "MLmodel").write_text(described(flavour, {"data": file, **(entries or {})}, rows, given))
    about = {
        "origin": f"{origin} {importlib.metadata.version(packages[0])}",
        "flavour": flavour,
        "model": file,
        "task": task,
        "classes": classes or [],
        "rows": len(rows),
        "tolerance": tolerance,
        "made_with": {name: importlib.metadata.version(name) for name in [*packages, "numpy", "pandas"]},
    }
    (folder / "case.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    sizes = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{folder.name:<28} {len(rows)} rows, {sizes / 1000:.0f} kB")


def cell(x):
    return "" if x is None or x != x else x if isinstance(x, str) else repr(float(x)).removesuffix(".0")


def packed(names, rows):
    """A CSV table, compressed; the same bytes for the same table."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(names)
    out.writerows(rows)
    return gzip.compress(text.getvalue().encode(), mtime=0)


def described(flavour, entries, rows, names):
    """`MLmodel`, with a signature of the rows' columns."""
    kinds = ["long" if pd.api.types.is_integer_dtype(t) else "double" if pd.api.types.is_numeric_dtype(t) else "string" for t in rows.dtypes]
    inputs = json.dumps([{"type": kind, "name": name, "required": True} for kind, name in zip(kinds, names)])
    lines = ["flavors:", f"  {flavour}:", *(f"    {key}: {value}" for key, value in entries.items()), "signature:", f"  inputs: '{inputs}'"]
    return "\n".join(lines) + "\n"
