"""What schemathesis is told about the project under test: names that exist, and bodies that can be answered.

Random names are never there, so a part of the cases names what is: the value that was made decides, so the same seed makes the same cases.
"""

import os
import zlib

import schemathesis

ENDPOINT = os.environ.get("GRISTMILL_ENDPOINT", "buys")
SOURCE = os.environ.get("GRISTMILL_SOURCE", "events")
ROWS = [{"customer_id": 7}, {"customer_id": 8}]
NAMES = {
    "endpoint": [ENDPOINT],
    "model": [ENDPOINT, f"{ENDPOINT}:predict", f"{ENDPOINT}:explain", f"{ENDPOINT}:classify"],
    "source": [SOURCE],
    "version": ["1", f"models.{ENDPOINT}@1", f"endpoints.{ENDPOINT}", "1:predict"],
    "label": ["stable", "stable:predict"],
    "address": [f"models.{ENDPOINT}", f"raw.{SOURCE}", f"endpoints.{ENDPOINT}"],
}
BODIES = {
    "/predict/{endpoint}": [{"rows": ROWS}, {"rows": ROWS, "explain": True}, ROWS[0]],
    "/invocations": [{"instances": ROWS}, ROWS, {"dataframe_records": ROWS}],
    "/models/{model}/invoke": [{"instances": ROWS}, {"rows": ROWS}],
    "/v1/models/{model}": [{"instances": ROWS}, {"inputs": {"customer_id": [7, 8]}}, {"examples": ROWS}],
    "/v1/models/{model}/versions/{version}": [{"instances": ROWS}],
    "/v1/models/{model}/labels/{label}": [{"instances": ROWS}],
    "/v2/models/{model}/infer": [{"inputs": [{"name": "customer_id", "shape": [2], "datatype": "INT64", "data": [7, 8]}]}],
    "/v2/models/{model}/versions/{version}/infer": [{"inputs": [{"name": "customer_id", "shape": [2], "datatype": "INT64", "data": [7, 8]}]}],
    "/get-online-features": [
        {"entities": {"customer_id": [7, 8]}, "features": ["activity:orders_7d"]},
        {"entities": {"customer_id": [7]}, "feature_service": ENDPOINT},
    ],
    "/ingest/{source}": [[{"id": 9_000, "customer_id": 7, "at": "2024-05-01T00:00:00Z", "amount": 1.5, "kind": "sale"}]],
    "/api/v1/runs": [{"targets": [f"sources.{SOURCE}"], "reason": "asked by a test"}],
    "/api/v1/aliases": [{"version": f"models.{ENDPOINT}@1", "alias": "challenger", "reason": "asked by a test"}],
}


def chosen(made, among):
    """One of these, for half of what is made."""
    number = zlib.crc32(repr(made).encode("utf-8", "surrogatepass"))
    return among[(number >> 1) % len(among)] if among and number % 2 == 0 else made


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if not path_parameters:
        return path_parameters
    return {name: chosen(value, NAMES.get(name)) for name, value in path_parameters.items()}


@schemathesis.hook
def map_body(context, body):
    return chosen(body, BODIES.get(context.operation.path))


def as_bytes(context, value):
    """Bytes as they are."""
    data = value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogatepass")
    return {"data": data}


for media_type in ("application/grpc", "application/x-ndjson", "application/jsonlines"):
    schemathesis.serializer(media_type)(as_bytes)
