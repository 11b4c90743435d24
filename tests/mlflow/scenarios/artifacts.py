"""Files: logged, listed, downloaded, deleted, in folders; and the proxy's routes by themselves."""

import pathlib

from . import scenario


def _tree(folder):
    (folder / "tree/a/b").mkdir(parents=True)
    (folder / "tree/top.txt").write_text("top")
    (folder / "tree/empty.txt").write_text("")
    (folder / "tree/a/one.csv").write_text("x,y\n1,2\n")
    (folder / "tree/a/b/two.json").write_text('{"k": [1, 2]}')
    (folder / "tree/a/b/sp ace ü%20.bin").write_bytes(bytes(range(256)) * 40)
    return folder / "tree"


@scenario()
def files(cx):
    mlflow, client = cx.mlflow, cx.client
    cx.experiment()
    tree = _tree(cx.folder)
    with mlflow.start_run() as run:
        run_id = run.info.run_id
        cx.step("log")
        mlflow.log_artifact(str(tree / "top.txt"))
        mlflow.log_artifact(str(tree / "top.txt"), "sub/sub")
        mlflow.log_artifacts(str(tree), "all")
        mlflow.log_artifacts(str(tree))
        mlflow.log_text("<b>ü</b>", "page.html")
        mlflow.log_dict({"a": 1}, "d.yaml")
        cx.see("uri", mlflow.get_artifact_uri("x/y.txt"))
    cx.step("list")
    for path in (None, "", "all", "all/a", "all/a/b", "all/top.txt", "none", "sub", "sub/sub", "all/", "a"):
        cx.try_(f"list {path}", lambda path=path: [(f.path, f.is_dir, f.file_size) for f in client.list_artifacts(run_id, path)])
    cx.step("download")
    for path in ("top.txt", "all/a/b/sp ace ü%20.bin", "all/empty.txt"):
        local = client.download_artifacts(run_id, path, str(cx.folder))
        cx.see(path, open(local, "rb").read().decode("latin-1")[:300])
    where = client.download_artifacts(run_id, "all", str(cx.folder))
    cx.see("tree", sorted(str(p.relative_to(where)) for p in pathlib.Path(where).rglob("*")))
    cx.try_("nothing there", client.download_artifacts, run_id, "nope.txt", str(cx.folder))
    cx.see("text", mlflow.artifacts.load_text(f"runs:/{run_id}/page.html"))
    cx.see("dict", mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/all/a/b/two.json"))
    (cx.folder / "whole").mkdir()
    cx.see("everything", sorted(p.name for p in pathlib.Path(mlflow.artifacts.download_artifacts(run_id=run_id, dst_path=str(cx.folder / "whole"))).iterdir()))
    cx.step("again: the last one counts")
    client.log_text(run_id, "first", "same.txt")
    client.log_text(run_id, "second", "same.txt")
    cx.see("same", mlflow.artifacts.load_text(f"runs:/{run_id}/same.txt"))
    cx.step("rest list")
    for query in (
        {"run_id": run_id},
        {"run_id": run_id, "path": "all"},
        {"run_id": run_id, "path": "all/top.txt"},
        {"run_id": run_id, "path": "none"},
        {"run_id": run_id, "path": "../.."},
        {"run_id": run_id, "path": "/etc"},
        {"run_id": run_id, "page_token": "x"},
        {"run_uuid": run_id},
    ):
        cx.get("artifacts/list", query)
    cx.step("get-artifact")
    for path in ("top.txt", "page.html", "all/a/one.csv", "all/a/b/two.json", "d.yaml", "none", "all", "../../x", "%2e%2e/x"):
        cx.raw("GET", "/get-artifact", query={"run_id": run_id, "path": path})
    cx.raw("GET", "/get-artifact", query={"run_id": run_id})
    cx.raw("GET", "/get-artifact", query={"path": "top.txt"})
    cx.raw("GET", "/get-artifact", query={"run_uuid": run_id, "path": "top.txt"})


@scenario(raw=True)
def proxy(cx):
    experiment = cx.new_experiment()
    run = cx.new_run(experiment)
    base = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts"
    cx.step("put and get")
    for name, kind in (
        ("a.txt", "text/plain"),
        ("b.json", "application/json"),
        ("c.bin", None),
        ("noext", None),
        ("d.html", "text/html"),
        ("MLmodel", None),
        ("sub/e.png", "image/png"),
        ("sp%20ace.txt", None),
        ("%C3%BC.txt", None),
        ("plus+amp&.txt", None),
        ("f.parquet", None),
        ("g.tar.gz", None),
        ("h.svg", None),
        ("i.py", None),
        ("j.yaml", None),
        ("k.md", None),
        ("l.csv", None),
        ("m.ipynb", None),
        ("n.xml", None),
        ("o.js", None),
        ("p.pdf", None),
        ("q.zip", None),
        ("r.log", None),
        ("conda.env", None),
    ):
        cx.step(f"put {name}")
        cx.raw("PUT", f"{base}/{name}", data=b"body of " + name.encode(), headers={"Content-Type": kind} if kind else {})
        cx.raw("GET", f"{base}/{name}")
    cx.step("list")
    root = "/api/2.0/mlflow-artifacts/artifacts"
    for path in (
        f"{experiment}/{run}/artifacts",
        f"{experiment}/{run}/artifacts/sub",
        f"{experiment}/{run}/artifacts/none",
        f"{experiment}/{run}",
        f"{experiment}/{run}/artifacts/a.txt",
        f"{experiment}/{run}/artifacts/sub/",
    ):
        cx.raw("GET", root, query={"path": path})
    cx.step("ranges")
    for given in ("bytes=0-3", "bytes=5-", "bytes=-4", "bytes=1000-", "bytes=3-1", "lines=1-2"):
        cx.raw("GET", f"{base}/a.txt", headers={"Range": given})
    cx.raw("HEAD", f"{base}/a.txt")
    cx.step("what is not there")
    cx.raw("GET", f"{base}/none.txt")
    cx.raw("GET", f"{base}/sub")
    cx.raw("DELETE", f"{base}/none.txt")
    cx.step("delete")
    cx.raw("DELETE", f"{base}/a.txt")
    cx.raw("GET", f"{base}/a.txt")
    cx.raw("DELETE", f"{base}/sub")
    cx.raw("GET", root, query={"path": f"{experiment}/{run}/artifacts"})
    cx.step("other methods")
    cx.raw("POST", f"{base}/x.txt", data=b"x")
    cx.raw("PATCH", f"{base}/x.txt", data=b"x")
    cx.step("bodies")
    cx.raw("PUT", f"{base}/empty", data=b"")
    cx.raw("GET", f"{base}/empty")
    cx.raw("PUT", f"{base}/big.bin", data=bytes(range(256)) * 8192)
    cx.raw("GET", f"{base}/big.bin")
    cx.raw("PUT", f"{base}/folder/x", data=b"x")
    cx.raw("PUT", f"{base}/folder", data=b"a file where a folder is")
    cx.raw("PUT", f"{base}/b.json/under-a-file", data=b"x")


EVIL = [
    "..",
    "../x",
    "../../x",
    "a/../../x",
    "a/../b",
    "./x",
    "x/.",
    "x//y",
    "/etc/passwd",
    "//etc/passwd",
    "%2e%2e/x",
    "%2e%2e%2fx",
    "..%2fx",
    "%252e%252e%252fx",
    "..\\x",
    "..%5cx",
    "a%00b",
    "a%0ab",
    "file:/etc/passwd",
    "file:%2f%2f%2fetc%2fpasswd",
    "C:\\x",
    "C:/x",
    "%5c%5chost%5cshare",
    "x#y",
    "x%23y",
    "x?y",
    "x%3fy",
    "x;y",
    "~/x",
    "~root/x",
    "$HOME/x",
    "x%20",
    "%20x",
    "...",
    "....//x",
    "..;/x",
    "%c0%ae%c0%ae/x",
    "%ef%bc%8e%ef%bc%8e/x",
    "a" * 300,
    "/".join("d" for _ in range(60)),
    "CON",
    "x:y",
    "x*y",
    "x|y",
    "%7f",
    "%ff",
]


@scenario(raw=True)
def evil_paths(cx):
    experiment = cx.new_experiment()
    run = cx.new_run(experiment)
    root = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts"
    for path in EVIL:
        cx.step(f"path {path[:40]}")
        cx.raw("PUT", f"{root}/{path}", data=b"evil")
        cx.raw("GET", f"{root}/{path}")
        cx.raw("DELETE", f"{root}/{path}")
        cx.raw("GET", f"/api/2.0/mlflow-artifacts/artifacts?path={experiment}/{run}/artifacts/{path.replace('?', '%3f').replace('#', '%23')}")
        cx.get("artifacts/list", {"run_id": run, "path": path})
        cx.raw("GET", "/get-artifact", query={"run_id": run, "path": path})
    cx.step("outside of a run")
    for path in ("", "x", "0", f"{experiment}/x", f"{experiment}/{run}/x", "../x", f"{experiment}/../0/x"):
        cx.raw("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", data=b"x")
        cx.raw("GET", f"/api/2.0/mlflow-artifacts/artifacts/{path}")


@scenario(raw=True)
def multipart(cx):
    experiment = cx.new_experiment()
    run = cx.new_run(experiment)
    folder = f"{experiment}/{run}/artifacts"
    cx.step("as the client asks")
    status, answer = cx.raw("POST", f"/api/2.0/mlflow-artifacts/mpu/create/{folder}", {"path": "big.bin", "num_parts": 2})
    if status == 200:
        parts = []
        for credential in answer["credentials"]:
            url = credential["url"]
            path = url[url.index("/", 8) :]
            cx.raw("PUT", path, data=bytes([credential["part_number"]]) * 1000)
            parts.append({"part_number": credential["part_number"], "etag": "x", "url": url})
        cx.raw("POST", f"/api/2.0/mlflow-artifacts/mpu/complete/{folder}", {"path": "big.bin", "upload_id": answer["upload_id"], "parts": parts})
    cx.step("wrong ones")
    for verb, body in (
        ("create", {}),
        ("create", {"path": "x"}),
        ("create", {"path": "x", "num_parts": 0}),
        ("create", {"path": "../x", "num_parts": 1}),
        ("complete", {"path": "x", "upload_id": "nope", "parts": []}),
        ("complete", {}),
        ("abort", {"path": "x", "upload_id": "nope"}),
        ("abort", {}),
    ):
        cx.raw("POST", f"/api/2.0/mlflow-artifacts/mpu/{verb}/{folder}", body)
    cx.step("presigned")
    cx.raw("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{folder}/a.txt", data=b"a")
    cx.raw("GET", f"/api/2.0/mlflow-artifacts/presigned/{folder}/a.txt")
    cx.raw("GET", f"/api/2.0/mlflow-artifacts/presigned/{folder}/none")
    cx.raw("GET", f"/api/2.0/mlflow-artifacts/presigned/{folder}/../x")
    for route in ("artifacts/presigned-download-url", "artifacts/presigned-upload-url"):
        for body in ({}, {"run_id": run}, {"run_id": run, "path": "a.txt"}, {"run_id": "0" * 32, "path": "a.txt"}, {"run_id": run, "path": "../x"}):
            cx.post(route, body)
