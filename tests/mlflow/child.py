"""Runs scenarios with the client of the Python it is started with. `run.py` starts it; the tracking URI is that of the recording proxy.

python child.py --list
python child.py --url URL --serve

With `--serve` it imports the client once and takes one scenario a line from its standard input, `{"name", "nonce", "folder", "log", "seconds"}`.
Each runs in a fork of its own, so that no scenario sees what another one left in the client, and answers with a line: its exit code or "timeout".
"""

import argparse
import importlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# What most of the time of a scenario would be spent on.
IMPORTS = ("mlflow", "mlflow.pyfunc", "mlflow.sklearn", "mlflow.data", "numpy", "pandas", "sklearn.ensemble", "sklearn.linear_model", "lightgbm", "xgboost")


def listing(known):
    from mlflow.version import VERSION

    version = tuple(int(p) for p in VERSION.split(".")[:2])
    runnable = [n for n, s in known.items() if version >= s["since"] and all(find_spec(p) for p in s["needs"])]
    return {
        "version": VERSION,
        "scenarios": runnable,
        "raw": [n for n in runnable if known[n]["raw"]],
        "left_out": [n for n in known if n not in runnable],
    }


def run(known, url, asked):
    """One scenario, in this process."""
    import scenarios

    cx = scenarios.Context(url, asked["nonce"], asked["name"])
    try:
        known[asked["name"]]["run"](cx)
        return 0
    except BaseException as error:  # noqa: BLE001 - whatever it was, the parent compares it
        cx.see("scenario ended", {"raised": type(error).__name__, "message": str(error)[:2000]})
        traceback.print_exc()
        return 1
    finally:
        if cx._folder:
            shutil.rmtree(cx._folder, ignore_errors=True)
        sys.stdout.flush()
        sys.stderr.flush()


def fork(known, url, asked):
    """One scenario, in a process of its own that begins where the imports ended."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        # A group of its own, so that whatever it starts ends with it.
        os.setpgid(0, 0)
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ["HOME"] = asked["folder"]
        os.chdir(asked["folder"])
        os._exit(run(known, url, asked))
    until = time.monotonic() + asked["seconds"]
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timeout"
        time.sleep(0.02)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--list", action="store_true")
    arguments.add_argument("--serve", action="store_true")
    arguments.add_argument("--url")
    given = arguments.parse_args()
    import scenarios

    known = scenarios.load()
    if given.list:
        print(json.dumps(listing(known)))
        return 0
    for name in IMPORTS:
        if find_spec(name.split(".")[0]):
            importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(fork(known, given.url, json.loads(line))), flush=True)
    return 0


if __name__ == "__main__":
    os._exit(main())
