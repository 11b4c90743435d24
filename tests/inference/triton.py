"""tritonclient, unmodified, over HTTP and gRPC: triton.py URL TOKEN ENDPOINT. Prints what it was told as JSON, once per way.

Everything that REST and gRPC both say must be the same; the test compares.
"""

import asyncio
import json
import sys

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from tritonclient.utils import InferenceServerException

CUSTOMERS = np.array([7, 8, 777], dtype=np.int64)


def inputs(module, **how):
    tensor = module.InferInput("customer_id", [3], "INT64")
    tensor.set_data_from_numpy(CUSTOMERS, **how)
    return [tensor]


def said(answer):
    return {"score": answer.as_numpy("score").tolist(), "outcome": [w.decode() if isinstance(w, bytes) else w for w in answer.as_numpy("outcome").tolist()]}


def refused(ask):
    try:
        ask()
    except InferenceServerException as error:
        return error.message()
    raise SystemExit("it was not refused")


def metadata(about):
    return {"name": about["name"], "versions": list(about["versions"]), "inputs": sorted(t["name"] for t in about["inputs"]), "outputs": [t["name"] for t in about["outputs"]]}


# The client writes into the headers it is given, and would send the length of one request with the next one.
def over_http(address, headers, model):
    with http.InferenceServerClient(address) as client:
        wanted = [http.InferRequestedOutput("score", binary_data=False), http.InferRequestedOutput("outcome", binary_data=True)]
        index = client.get_model_repository_index(headers=dict(headers))
        client.load_model(model, headers=dict(headers))
        bad = http.InferInput("customer_id", [3], "INT64")
        bad.set_data_from_numpy(CUSTOMERS)
        told = {
            "live": client.is_server_live() and client.is_server_ready() and client.is_model_ready(model, headers=dict(headers)),
            "server": client.get_server_metadata()["name"],
            "metadata": metadata(client.get_model_metadata(model, headers=dict(headers))),
            "config": [t["data_type"] for t in client.get_model_config(model, headers=dict(headers))["input"]],
            "index": [[m["name"], m["version"], m["state"]] for m in index],
            "binary": said(client.infer(model, inputs(http), headers=dict(headers), request_id="a1")),
            "json": said(client.infer(model, inputs(http, binary_data=False), outputs=wanted, headers=dict(headers))),
            "version": said(client.infer(model, inputs(http), model_version="1", headers=dict(headers))),
            "urgent": said(client.infer(model, inputs(http), priority=1, timeout=5_000_000, headers=dict(headers))),
            "async": said(client.async_infer(model, inputs(http), headers=dict(headers)).get_result()),
            "no_model": refused(lambda: client.infer("nobody", inputs(http), headers=dict(headers))),
            "no_version": refused(lambda: client.infer(model, inputs(http), model_version="99", headers=dict(headers))),
            "no_output": refused(lambda: client.infer(model, inputs(http), outputs=[http.InferRequestedOutput("y")], headers=dict(headers))),
            "no_token": refused(lambda: client.infer(model, inputs(http))),
            "unload": refused(lambda: client.unload_model(model, headers=dict(headers))),
        }
        for coding in ("gzip", "deflate"):
            answer = client.infer(model, inputs(http), headers=dict(headers), request_compression_algorithm=coding, response_compression_algorithm=coding)
            told[coding] = said(answer)
        statistics = client.get_inference_statistics(model, headers=dict(headers))["model_stats"][0]
        told["counted"] = statistics["inference_count"] > 0 and statistics["inference_stats"]["success"]["ns"] > 0
    return told


def over_grpc(address, headers, model):
    with grpc.InferenceServerClient(address) as client:
        answers = []
        client.start_stream(lambda result, error: answers.append(error or result), headers=headers)
        for _ in range(3):
            client.async_stream_infer(model, inputs(grpc))
        client.async_stream_infer("nobody", inputs(grpc))
        client.stop_stream()
        later = []
        client.async_infer(model, inputs(grpc), lambda result, error: later.append(error or result), headers=headers)
        config = client.get_model_config(model, headers=headers, as_json=True)["config"]
        index = client.get_model_repository_index(headers=headers).models
        client.load_model(model, headers=headers)
        told = {
            "live": client.is_server_live() and client.is_server_ready() and client.is_model_ready(model, headers=headers),
            "server": client.get_server_metadata().name,
            "metadata": metadata(client.get_model_metadata(model, headers=headers, as_json=True)),
            "config": [t["data_type"] for t in config["input"]],
            "index": [[m.name, m.version, m.state] for m in index],
            "binary": said(client.infer(model, inputs(grpc), headers=headers, request_id="a1")),
            "version": said(client.infer(model, inputs(grpc), model_version="1", headers=headers)),
            "urgent": said(client.infer(model, inputs(grpc), priority=1, timeout=5_000_000, headers=headers)),
            "no_model": refused(lambda: client.infer("nobody", inputs(grpc), headers=headers)),
            "no_version": refused(lambda: client.infer(model, inputs(grpc), model_version="99", headers=headers)),
            "no_output": refused(lambda: client.infer(model, inputs(grpc), outputs=[grpc.InferRequestedOutput("y")], headers=headers)),
            "no_token": refused(lambda: client.infer(model, inputs(grpc))),
            "unload": refused(lambda: client.unload_model(model, headers=headers)),
            "shared_memory": refused(lambda: client.get_system_shared_memory_status(headers=headers)),
        }
        for coding in ("gzip", "deflate"):
            told[coding] = said(client.infer(model, inputs(grpc), headers=headers, compression_algorithm=coding))
        statistics = client.get_inference_statistics(model, headers=headers).model_stats[0]
        told["counted"] = statistics.inference_count > 0 and statistics.inference_stats.success.ns > 0
        while not later:
            pass
        told["async"] = said(later[0])
        told["stream"] = [said(a) for a in answers[:3]]
        told["stream_error"] = answers[3].message() if len(answers) > 3 else None
    return told


async def over_aio(address, headers, model):
    async with http_aio.InferenceServerClient(address) as client:
        by_http = said(await client.infer(model, inputs(http_aio), headers=dict(headers)))
    async with grpc_aio.InferenceServerClient(address) as client:
        many = await asyncio.gather(*(client.infer(model, inputs(grpc_aio), headers=dict(headers)) for _ in range(64)))
        by_grpc = [said(answer) for answer in many]
    return {"http": by_http, "grpc": by_grpc[0], "all_the_same": all(a == by_grpc[0] for a in by_grpc)}


def main(url, token, model):
    address, headers = url.removeprefix("http://"), {"Authorization": f"Bearer {token}"}
    told = {
        "http": over_http(address, headers, model),
        # Metadata of gRPC are in lower case.
        "grpc": over_grpc(address, {"authorization": headers["Authorization"]}, model),
        "aio": asyncio.run(over_aio(address, {"authorization": headers["Authorization"]}, model)),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
