"""Runs scenarios with the client of the Python it is started with. `run.py` starts it; the tracking URI is that of the recording proxy.

python child.py --list
python child.py --url URL --nonce WORD NAME
"""

import argparse
import json
import os
import shutil
import sys
import traceback
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--list", action="store_true")
    arguments.add_argument("--url")
    arguments.add_argument("--nonce")
    arguments.add_argument("name", nargs="?")
    given = arguments.parse_args()
    import scenarios

    known = scenarios.load()
    if given.list:
        from mlflow.version import VERSION

        version = tuple(int(p) for p in VERSION.split(".")[:2])
        runnable = [n for n, s in known.items() if version >= s["since"] and all(find_spec(p) for p in s["needs"])]
        print(
            json.dumps(
                {
                    "version": VERSION,
                    "scenarios": runnable,
                    "raw": [n for n in runnable if known[n]["raw"]],
                    "left_out": [n for n in known if n not in runnable],
                }
            )
        )
        return 0
    cx = scenarios.Context(given.url, given.nonce, given.name)
    try:
        known[given.name]["run"](cx)
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


if __name__ == "__main__":
    os._exit(main())
