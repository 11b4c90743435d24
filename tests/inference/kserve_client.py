"""KServe's clients, unmodified: kserve_client.py URL TOKEN ENDPOINT."""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

CUSTOMERS = np.array([7, 8, 777], dtype=np.int64)


def request(model):
    tensor = InferInput("customer_id", [3], "INT64")
    tensor.set_data_from_numpy(CUSTOMERS)
    return InferRequest(model, [tensor])


def score(answer):
    return next(list(np.asarray(o.as_numpy()).tolist()) for o in answer.outputs if o.name == "score")


async def main(url, token, model):
    headers, told = {"Authorization": f"Bearer {token}"}, {}
    for protocol in ("v1", "v2"):
        client = InferenceRESTClient(RESTConfig(protocol=protocol))
        told[f"{protocol}_ready"] = await client.is_model_ready(url, model, headers=headers)
        if protocol == "v1":
            body = {"instances": [{"customer_id": int(c)} for c in CUSTOMERS]}
            told["v1"] = (await client.infer(url, body, model_name=model, headers=headers))["predictions"]
            told["v1_explained"] = len((await client.explain(url, model, body, headers=headers))["explanations"])
        else:
            told["v2_live"] = await client.is_server_live(url, headers=headers) and await client.is_server_ready(url, headers=headers)
            told["v2"] = score(await client.infer(url, request(model), model_name=model, headers=headers))
    channel = InferenceGRPCClient(url.removeprefix("http://"))
    metadata = (("authorization", headers["Authorization"]),)
    told["grpc_ready"] = await channel.is_model_ready(model, headers=metadata)
    told["grpc"] = score(await channel.infer(request(model), headers=metadata))
    # Values in their typed fields, as other languages' stubs send them.
    typed = pb.ModelInferRequest(model_name=model)
    tensor = typed.inputs.add(name="customer_id", datatype="INT64", shape=[3])
    tensor.contents.int64_contents.extend(int(c) for c in CUSTOMERS)
    answer = await channel._client_stub.ModelInfer(typed, metadata=metadata)
    told["typed"] = next(list(o.contents.fp64_contents) for o in answer.outputs if o.name == "score")
    await channel.close()
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
