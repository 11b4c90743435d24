"""Makes the Python environments of the clients, once, and prints the path of their Python.

    python tests/clients/venvs.py mlflow-3.17 [mlflow-3.1 mlflow-2.22 feast] [--cache DIR]

One environment for each file of `requirements/`; it is made again when the file changes. The folder is `--cache`, else `$GRISTMILL_VENVS`, else
`~/.cache/gristmill-venvs`. Made by `uv`, which takes a tenth of the time that `pip` takes: the installed one, or one that is installed in the
same folder; where there is none for the machine, by `venv` and `pip`. This is the only part of the tests that needs PyPI.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
UV = "uv==0.13.9"
# What is printed is the path of a Python, and nothing else.
QUIET = {"stdout": sys.stderr, "check": True}


def make(name, cache):
    """The Python of the environment `name`."""
    wanted = REQUIREMENTS / f"{name}.txt"
    if not wanted.exists():
        raise SystemExit(f"no environment {name}; there are: {', '.join(sorted(p.stem for p in REQUIREMENTS.glob('*.txt')))}")
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()[:16]
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / name
    python, stamp = place / "bin/python", place / "made-from"
    with open(cache / f".lock-{name}", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == digest and python.exists():
            return python
        print(f"making {place}", file=sys.stderr, flush=True)
        shutil.rmtree(place, ignore_errors=True)
        uv = uv_in(cache)
        if uv:
            subprocess.run([uv, "venv", "-q", "--seed", "--python", sys.executable, str(place)], **QUIET)
            subprocess.run([uv, "pip", "install", "-q", "--python", str(python), "-r", str(wanted)], **QUIET)
        else:
            subprocess.run([sys.executable, "-m", "venv", str(place)], **QUIET)
            subprocess.run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", str(wanted)], **QUIET)
        stamp.write_text(digest)
    return python


def uv_in(cache):
    """The path of `uv`, if there is one for this machine."""
    installed = shutil.which("uv")
    place = cache / UV.replace("==", "-")
    program = place / "bin/uv"
    if installed or program.exists():
        return installed or str(program)
    with open(cache / ".lock-uv", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            subprocess.run([sys.executable, "-m", "venv", str(place)], **QUIET)
            said = subprocess.run([str(place / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", UV], stdout=sys.stderr)
            return str(program) if said.returncode == 0 else None
    return str(program)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="+")
    arguments.add_argument("--cache", type=Path, default=Path(os.environ.get("GRISTMILL_VENVS") or Path.home() / ".cache/gristmill-venvs"))
    given = arguments.parse_args()
    for name in given.names:
        print(make(name, given.cache.expanduser()))


if __name__ == "__main__":
    main()
