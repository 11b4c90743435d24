"""Makes testdata/feast/data/registry.db with Feast 0.67.0 itself: python make_feast.py

One of everything that an import has to tell apart. The sources' files need not be there: only the definitions are read.
"""

import os
import tempfile
from datetime import timedelta
from pathlib import Path

os.environ["FEAST_USAGE"] = "False"

from feast import Entity, FeatureService, FeatureView, Field, FileSource, KafkaSource, Project, PushSource, RequestSource  # noqa: E402
from feast.aggregation import Aggregation  # noqa: E402
from feast.data_format import DeltaFormat, JsonFormat  # noqa: E402
from feast.infra.offline_stores.bigquery_source import BigQuerySource  # noqa: E402
from feast.infra.registry.registry import Registry  # noqa: E402
from feast.on_demand_feature_view import on_demand_feature_view  # noqa: E402
from feast.repo_config import RegistryConfig  # noqa: E402
from feast.saved_dataset import SavedDataset  # noqa: E402
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage  # noqa: E402
from feast.stream_feature_view import StreamFeatureView  # noqa: E402
from feast.types import Array, Float32, Int64, Json, Map, String  # noqa: E402
from feast.value_type import ValueType  # noqa: E402

HERE = Path(__file__).parent
PROJECT = "rides"


def entity(name, key, kind=ValueType.INT64):
    return Entity(name=name, join_keys=[key], value_type=kind)


def main():
    driver, customer = entity("driver", "driver_id"), entity("customer", "customer_id", ValueType.STRING)
    odd = entity("odd", "Order")
    plain = FileSource(name="driver_stats", path="data/driver_stats.parquet", timestamp_field="event_timestamp")
    created = FileSource(
        name="driver_hourly_stats",
        path="data/hourly.parquet",
        timestamp_field="at",
        created_timestamp_column="made",
        field_mapping={"ts": "at", "drv": "driver_id", "cr": "conv_rate", "written": "made"},
    )
    unnamed = FileSource(path="data/nested/Trips Of Day.parquet", timestamp_field="event_timestamp")
    bucket = FileSource(name="bucket", path="s3://bucket/x.parquet", timestamp_field="event_timestamp")
    delta = FileSource(name="lake", path="data/lake", timestamp_field="event_timestamp", file_format=DeltaFormat())
    warehouse = BigQuerySource(name="warehouse", table="a.b.c", timestamp_field="event_timestamp")
    push = PushSource(name="driver_stats_push", batch_source=plain)
    kafka = KafkaSource(
        name="events",
        kafka_bootstrap_servers="broker:9092",
        topic="ride_events",
        timestamp_field="event_timestamp",
        message_format=JsonFormat(schema_json="driver_id integer"),
        batch_source=FileSource(name="ride_log", path="data/rides", timestamp_field="event_timestamp"),
    )
    stats = [Field(name="conv_rate", dtype=Float32), Field(name="acc_rate", dtype=Float32)]
    views = [
        FeatureView(name="driver_stats", entities=[driver], ttl=timedelta(days=1), schema=stats, source=plain),
        FeatureView(name="driver_fresh", entities=[driver], ttl=timedelta(minutes=90), schema=stats, source=push),
        FeatureView(name="hourly", entities=[driver], ttl=timedelta(seconds=1, microseconds=500), schema=stats, source=created),
        FeatureView(
            name="Trips-Of Day",
            entities=[driver, customer],
            ttl=timedelta(0),
            schema=[Field(name="tags", dtype=Array(String)), Field(name="info", dtype=Map), Field(name="raw", dtype=Json)],
            source=unnamed,
            online=False,
        ),
        FeatureView(name="order_things", entities=[odd], schema=[Field(name='a "b"', dtype=Int64)], source=plain),
        FeatureView(name="global_stats", schema=stats, source=plain),
        FeatureView(name="far_away", entities=[driver], schema=stats, source=bucket),
        FeatureView(name="in_a_lake", entities=[driver], schema=stats, source=delta),
        FeatureView(name="in_a_warehouse", entities=[driver], schema=stats, source=warehouse),
        StreamFeatureView(
            name="ride_counts",
            entities=[driver],
            ttl=timedelta(days=30),
            schema=[Field(name="sum_amount_3600s", dtype=Float32), Field(name="rides", dtype=Int64)],
            source=kafka,
            timestamp_field="event_timestamp",
            aggregations=[
                Aggregation(column="amount", function="sum", time_window=timedelta(hours=1), slide_interval=timedelta(minutes=5)),
                Aggregation(column="amount", function="mean", time_window=timedelta(days=7)),
                Aggregation(column="ride_id", function="count_distinct", name="rides"),
            ],
        ),
        StreamFeatureView(
            name="ride_modes",
            entities=[driver],
            schema=[Field(name="mode_kind", dtype=String)],
            source=kafka,
            timestamp_field="event_timestamp",
            aggregations=[Aggregation(column="kind", function="mode", time_window=timedelta(hours=1))],
        ),
    ]
    request = RequestSource(name="asked", schema=[Field(name="x", dtype=Int64)])

    @on_demand_feature_view(sources=[views[0], request], schema=[Field(name="more", dtype=Float32)])
    def rate_plus(inputs):
        return inputs

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "registry.db"
        registry = Registry(PROJECT, RegistryConfig(path=str(place)), None)
        for project in (PROJECT, "other"):
            registry.apply_project(Project(name=project), commit=False)
        for thing in (driver, customer, odd):
            registry.apply_entity(thing, PROJECT, commit=False)
        for source in (plain, created, unnamed, bucket, delta, warehouse, push, kafka):
            registry.apply_data_source(source, PROJECT, commit=False)
        for view in views:
            # `apply` of the store infers keys from entities and files; there are no files here.
            keys = [key for named in (driver, customer, odd) if named.name in view.entities for key in [named.join_key]]
            view.entity_columns = [Field(name=key, dtype=Int64) for key in keys or ["__dummy_id"]]
            registry.apply_feature_view(view, PROJECT, commit=False)
        elsewhere = FeatureView(name="elsewhere", entities=[driver], schema=stats, source=plain)
        elsewhere.entity_columns = [Field(name="driver_id", dtype=Int64)]
        registry.apply_feature_view(elsewhere, "other", commit=False)
        registry.apply_feature_view(rate_plus, PROJECT, commit=False)
        registry.apply_feature_service(FeatureService(name="rides_v1", features=[views[0], views[3], rate_plus]), PROJECT, commit=False)
        registry.apply_saved_dataset(
            SavedDataset(name="january", features=["driver_stats:conv_rate"], join_keys=["driver_id"],
                         storage=SavedDatasetFileStorage(path="data/january.parquet")),
            PROJECT, commit=False,
        )
        registry.commit()
        (HERE / "feast/data/registry.db").write_bytes(place.read_bytes())


if __name__ == "__main__":
    main()
