"""The usual churn script, by itself: `churn_script.py`, run as a user would run it."""

import subprocess
import sys
from pathlib import Path

from . import scenario

SCRIPT = Path(__file__).parent.parent / "churn_script.py"


@scenario(since=(2, 0), needs=("sklearn", "pandas"))
def script(cx):
    ran = subprocess.run([sys.executable, str(SCRIPT), "--data", str(cx.folder / "churn_data.csv"), "--model", cx.name()], capture_output=True, text=True)
    cx.see("exit", ran.returncode)
    cx.see("said", [line for line in ran.stdout.splitlines() if line.startswith(("auc", "version", "predicts"))])
    if ran.returncode:
        cx.see("error", ran.stderr[-2000:])
    cx.step("registered")
    cx.see("versions", [(v.version, v.current_stage) for v in cx.client.search_model_versions(f"name = '{cx.name()}'")])
