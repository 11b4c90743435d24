"""Starts and ends the two servers for the scripts of this folder: on loopback, on free ports, in temporary folders, ended by process id."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url, seconds, process, log):
    """Waits until the URL answers with 200."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError, urllib.error.URLError):
            if NO_PROXY.open(url, timeout=5).status == 200:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise SystemExit(f"no answer from {url} (exit {process.poll()}); the end of its log:\n{Path(log).read_text(errors='replace')[-3000:]}")


def end(process):
    """Ends a server and what it started: each was given a process group of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        pass
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def peer(python, log, folder=None, extra=(), env=None):
    """MLflow's own server with SQLite and proxied artifacts, as `mlflow server` starts it; gives its URL."""
    with contextlib.ExitStack() as stack:
        folder = Path(folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="mlflow-peer-")))
        port = free_port()
        command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"), *extra]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **(env or {})}
        with open(log, "ab") as out:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=environment
            )
        stack.callback(end, process)
        answers(f"http://127.0.0.1:{port}/health", 180, process, log)
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def gristmill(binary, log, folder=None):
    """Gristmill over an empty project; gives its URL."""
    with contextlib.ExitStack() as stack:
        folder = Path(folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="mlflow-ours-")))
        binary = str(Path(binary).resolve()) if os.sep in str(binary) else binary
        if not (folder / "gristmill.toml").exists():
            subprocess.run([binary, "init", ".", "--example", "empty"], cwd=folder, check=True, capture_output=True)
        with open(log, "ab") as out:
            process = subprocess.Popen(
                [binary, "dev", "--port", "0"], cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        stack.callback(end, process)
        place, until, url = folder / ".gristmill/server.json", time.monotonic() + 60, None
        while time.monotonic() < until and process.poll() is None and url is None:
            with contextlib.suppress(OSError, ValueError, KeyError):
                url = json.loads(place.read_text())["url"]
            time.sleep(0.01)
        answers(f"{url}/healthz", 60, process, log)
        yield url
