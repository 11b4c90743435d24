"""Runs MLflow's own REST tests against Gristmill, and says for each whether it passed.

    python tests/mlflow/upstream/run.py --tests DIR --binary target/release/gristmill [--only WORD] [--json]
    python tests/mlflow/upstream/run.py --tests DIR                   # against MLflow itself: what the tests' age has broken

Run it with the Python of the environment `upstream` (`tests/clients/venvs.py mlflow-upstream`). DIR is a folder with MLflow's `tests/` and `pyproject.toml`; none of
it is in this repository. To get it:

    git clone --depth 1 --filter=blob:none --sparse https://github.com/mlflow/mlflow DIR && git -C DIR sparse-checkout set tests

`expected_failures.txt` lists what does not pass, one test a line with the reason; `*` stands for anything. Exit code 0 when what failed is what
is listed. A listed test that passes is reported, so that the list shrinks.
"""

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

HERE = Path(__file__).parent
FILES = ("test_rest_tracking.py", "test_model_registry.py", "test_mlflow_artifacts.py", "test_client_webhooks.py")


def expected():
    """[(pattern, reason)]"""
    lines = (HERE / "expected_failures.txt").read_text().splitlines()
    pairs = (line.split("#", 1) for line in lines if line.strip() and not line.startswith("#"))
    return [(pattern.strip(), reason[0].strip() if reason else "") for pattern, *reason in pairs]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tests", type=Path, required=True)
    arguments.add_argument("--binary")
    arguments.add_argument("--only", help="pytest's -k")
    arguments.add_argument("--file", action="append", help="only this file; may be repeated")
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--log", help="where the servers write")
    given = arguments.parse_args()
    folder = given.tests / "tests/tracking"
    files = [folder / f for f in given.file or FILES]
    if not all(f.exists() for f in files):
        raise SystemExit(f"{given.tests} has no tests/tracking/{files[0].name}\n{__doc__}")
    env = {**os.environ, "PYTHONPATH": f"{given.tests}{os.pathsep}{HERE}", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', os.defpath)}"
    env.pop("GRISTMILL_BINARY", None)
    if given.binary:
        env["GRISTMILL_BINARY"] = str(Path(given.binary).resolve())
    if given.log:
        env["GRISTMILL_SERVER_LOG"] = given.log
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "gristmill_plugin",
            "-p",
            "no:cacheprovider",
            "-q",
            "--no-showlocals",
            "--tb=line",
            "--durations=0",
            f"--junitxml={report}",
        ]
        command += [str(f) for f in files] + (["-k", given.only] if given.only else [])
        ran = subprocess.run(command, cwd=given.tests, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if not report.exists():
            raise SystemExit(ran.stdout[-4000:])
        cases = list(ET.parse(report).iter("testcase"))
    known, outcomes = expected(), {}
    for case in cases:
        name = f"{case.get('classname').rsplit('.', 1)[-1]}::{case.get('name')}"
        bad = next((case.find(k) for k in ("failure", "error") if case.find(k) is not None), None)
        skipped = case.find("skipped")
        reason = next((r for p, r in known if fnmatch.fnmatchcase(name, p.replace("[", "[[]"))), None)
        outcomes[name] = {
            "outcome": "failed" if bad is not None else "skipped" if skipped is not None else "passed",
            "expected": reason,
            "message": ((bad if bad is not None else skipped).get("message") or "")[:300] if bad is not None or skipped is not None else "",
        }
    of = lambda kind: [n for n, o in outcomes.items() if o["outcome"] == kind]  # noqa: E731
    new = [n for n in of("failed") if given.binary and outcomes[n]["expected"] is None]
    better = [n for n in of("passed") if given.binary and outcomes[n]["expected"] is not None]
    if given.json:
        print(
            json.dumps(
                {"passed": len(of("passed")), "failed": len(of("failed")), "skipped": len(of("skipped")), "unexpected": new, "outcomes": outcomes}, indent=1
            )
        )
    else:
        for name, o in outcomes.items():
            note = f"  (expected: {o['expected']})" if o["expected"] is not None else ""
            print(f"{o['outcome']:8}{name}{note}" + (f"\n            {o['message']}" if o["outcome"] == "failed" else ""))
        print(
            f"\n{len(of('passed'))} passed, {len(of('failed'))} failed, {len(of('skipped'))} skipped; {len(new)} not expected, {len(better)} listed but passing"
        )
        for name in better:
            print(f"  passes now: {name}")
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main())
