"""SageMaker's client, unmodified: sagemaker_client.py URL TOKEN ENDPOINT. Arrays are what its SDK's NumpySerializer and NumpyDeserializer make of them."""

import io
import json
import sys

import boto3
import numpy as np
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

CUSTOMERS = [7, 8, 777]


def client_of(url, token=None):
    config = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1})
    client = boto3.client("sagemaker-runtime", endpoint_url=url, region_name="us-east-1", config=config)
    if token:
        client.meta.events.register("before-send", lambda request, **_: request.headers.update(Authorization=f"Bearer {token}"))
    return client


def main(url, token, endpoint):
    client = client_of(url, token)

    def ask(body, kind, accept, **more):
        return client.invoke_endpoint(EndpointName=endpoint, Body=body, ContentType=kind, Accept=accept, **more)

    def refused(body=b"", kind="text/csv", **more):
        try:
            client.invoke_endpoint(**{"EndpointName": endpoint, "Body": body, "ContentType": kind, **more})
        except ClientError as error:
            return [error.response["Error"]["Code"], error.response["Error"]["Message"], error.response["ResponseMetadata"]["HTTPStatusCode"]]
        return None

    def saved(array, **how):
        buffer = io.BytesIO()
        np.save(buffer, array, **how)
        return buffer.getvalue()

    answer = ask(json.dumps({"instances": [{"customer_id": c} for c in CUSTOMERS]}), "application/json", "application/json")
    told = {"json": json.load(answer["Body"])["predictions"], "variant": answer["InvokedProductionVariant"], "type": answer["ContentType"]}
    csv = "customer_id\n" + "".join(f"{c}\n" for c in CUSTOMERS)
    told["csv"] = [float(line) for line in ask(csv, "text/csv", "text/csv")["Body"].read().split()]
    arrays = {
        "column": np.array(CUSTOMERS),
        "rows": np.array(CUSTOMERS, dtype=np.int32).reshape(-1, 1),
        "turned": np.asfortranarray(np.array(CUSTOMERS, dtype=">i8").reshape(-1, 1)),
    }
    for name, array in arrays.items():
        answer = ask(saved(array), "application/x-npy", "application/x-npy")
        read = np.load(io.BytesIO(answer["Body"].read()))
        assert read.dtype == np.float64 and read.shape == (3,), read
        told[name] = read.tolist()
    answer = ask(csv, "text/csv", "text/csv", TargetVariant="stable")
    told["stable"] = [float(line) for line in answer["Body"].read().split()]
    told["no_endpoint"] = refused(csv, EndpointName="nobody")
    told["no_variant"] = refused(csv, TargetVariant="canary")
    told["objects"] = refused(saved(np.array([{}]), allow_pickle=True), "application/x-npy")
    told["other"] = refused(b"x", "image/png")
    try:
        client_of(url).invoke_endpoint(EndpointName=endpoint, Body=csv, ContentType="text/csv")
    except ClientError as error:
        told["stranger"] = error.response["Error"]["Code"]
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
