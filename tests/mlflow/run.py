"""The differential harness: the same unmodified client against MLflow's own server and against Gristmill.

    python tests/mlflow/run.py --peer URL --ours URL [--python PYTHON] [--scenario NAME ...] [--json] [--keep DIR]
    python tests/mlflow/run.py --peer URL                  # the peer against itself: what differs is the harness's fault
    python tests/mlflow/run.py --peer start --ours start   # starts both and ends them; --binary names Gristmill's
    python tests/mlflow/run.py --list                      # the scenarios
    python tests/mlflow/run.py --differences               # writes the table of docs/mlflow.md from differences.toml

PYTHON is that of the client's environment (see `tests/clients/venvs.py`); the server may be another version. Standard library only.
Exit code 0: every scenario is equal but for `differences.toml`. 1: something differs. 2: the harness could not run.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import compare  # noqa: E402
import servers  # noqa: E402
from proxy import Recorder  # noqa: E402

# One environment for both servers: nothing leaves the machine, nothing waits for a network, no colours.
CLIENT_ENV = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_TRACKING_USERNAME": "",
    "NO_PROXY": "127.0.0.1,localhost",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "NO_COLOR": "1",
    "TQDM_DISABLE": "1",
    "MPLBACKEND": "Agg",
}


class Client:
    """A process of the client, which has imported everything and runs one scenario after the other in forks of itself."""

    def __init__(self, python, recorder, log):
        self.recorder, self.log = recorder, log
        env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_") and not k.lower().endswith("_proxy")}
        env.update(CLIENT_ENV, MLFLOW_TRACKING_URI=recorder.url, GIT_PYTHON_REFRESH="quiet")
        self.errors = open(log, "ab")
        command = [python, str(HERE / "child.py"), "--url", recorder.url, "--serve"]
        self.child = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        self.child.wait(timeout=60)
        self.errors.close()

    def record(self, nonce, name, seconds):
        """Runs one scenario; gives its events and how it ended."""
        self.recorder.take()
        with tempfile.TemporaryDirectory(prefix="mlflow-client-") as folder:
            self.errors.write(f"\n=== {name} against {self.recorder.server_url}\n".encode())
            self.errors.flush()
            asked = {"name": name, "nonce": nonce, "folder": folder, "log": str(self.log), "seconds": seconds}
            self.child.stdin.write(json.dumps(asked) + "\n")
            self.child.stdin.flush()
            answer = self.child.stdout.readline()
        if not answer:
            raise SystemExit(f"the client ended; see {self.log}")
        return self.recorder.take(), json.loads(answer)


def normalise(events, nonce, recorder):
    return compare.Normaliser(nonce, time.time() * 1000, [recorder.url, recorder.server_url, recorder.url[7:], recorder.server_url[7:]]).steps(events)


def keep(folder, side, name, events, steps):
    folder.mkdir(parents=True, exist_ok=True)
    readable = [{k: (v.decode("latin-1") if isinstance(v, bytes) else v) for k, v in e.items()} for e in events]
    (folder / f"{name}.{side}.raw.json").write_text(json.dumps(readable, indent=1))
    (folder / f"{name}.{side}.json").write_text(json.dumps(steps, indent=1, default=repr))


def show(value, width):
    text = value if isinstance(value, str) else repr(value) if value is compare.ABSENT else json.dumps(value, default=repr)
    return text if len(text) <= width else text[: width - 1] + "…"


def print_scenario(name, outcome, width):
    mark = "equal  " if outcome["equal"] else "DIFFERS"
    allowed = f", {outcome['allowed']} allowed" if outcome["allowed"] else ""
    print(f"{mark} {name}: {outcome['exchanges']} exchanges{allowed}, exit {outcome['exit']}", flush=True)
    for d in outcome["differences"][:200]:
        print(f"    [{d['step']}] {d['route']}\n        {d['where']}\n          peer {show(d['peer'], width)}\n          ours {show(d['ours'], width)}")
    if len(outcome["differences"]) > 200:
        print(f"    … and {len(outcome['differences']) - 200} more")


def write_differences():
    page = HERE.parent.parent / "docs/mlflow.md"
    text = page.read_text()
    start, end = text.index("\n", text.index("<!-- differences")) + 1, text.index("<!-- end of differences")
    rows = "".join(f"| `{e['id']}` | {e['why']} |\n" for e in compare.Allowed().entries if "follows" not in e)
    page.write_text(f"{text[:start]}\n| | |\n|---|---|\n{rows}\n{text[end:]}")
    return 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--peer", help="URL of MLflow's server, or `start`")
    arguments.add_argument("--ours", help="URL of Gristmill, or `start`; left out, the peer is compared with itself")
    arguments.add_argument("--python", default=sys.executable, help="the client's Python")
    arguments.add_argument("--peer-python", help="the peer's Python, for `--peer start`; the client's if left out")
    arguments.add_argument("--binary", default="gristmill", help="Gristmill's binary, for `--ours start`")
    arguments.add_argument("--scenario", action="append", default=[], help="only scenarios whose name starts so; may be repeated")
    arguments.add_argument("--json", action="store_true", help="one JSON document on standard output")
    arguments.add_argument("--keep", type=Path, help="folder for the recordings, raw and normalised")
    arguments.add_argument("--seconds", type=int, default=600, help="time limit of one scenario on one server")
    arguments.add_argument("--width", type=int, default=300, help="cut values in the diff after so many characters")
    arguments.add_argument("--list", action="store_true", help="list the scenarios that this client can run")
    arguments.add_argument("--client-only", action="store_true", help="leave out what no client takes part in: enough for a second client")
    arguments.add_argument("--routes", action="store_true", help="say at the end which routes no scenario reached")
    arguments.add_argument("--differences", action="store_true", help="write the allowed differences into docs/mlflow.md")
    given = arguments.parse_args()
    if given.differences:
        return write_differences()

    listed = json.loads(
        subprocess.run([given.python, str(HERE / "child.py"), "--list"], check=True, capture_output=True, env={**os.environ, **CLIENT_ENV}).stdout.splitlines()[
            -1
        ]
    )
    names = [n for n in listed["scenarios"] if not given.scenario or any(n.startswith(s) for s in given.scenario)]
    if given.client_only:
        names = [n for n in names if n not in listed["raw"]]
    if given.list:
        print("\n".join(names + [f"({n}: not with this client)" for n in listed["left_out"]]))
        return 0
    if not given.peer or not names:
        arguments.error("--peer is needed" if names else "no such scenario")

    say = (lambda *_a, **_k: None) if given.json else print
    allowed, results, reached = compare.Allowed(), {}, set()
    with contextlib.ExitStack() as stack:
        logs = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlflow-logs-")))
        logs.mkdir(parents=True, exist_ok=True)
        peer_url, our_url = given.peer, given.ours or given.peer
        if peer_url == "start":
            peer_url = stack.enter_context(servers.peer(given.peer_python or given.python, logs / "peer-server.log"))
            our_url = given.ours or peer_url
        if our_url == "start":
            our_url = stack.enter_context(servers.gristmill(given.binary, logs / "our-server.log"))
        sides = [("peer", Recorder(peer_url)), ("ours", Recorder(our_url))]
        clients = {side: stack.enter_context(Client(given.python, recorder, logs / f"{side}-client.log")) for side, recorder in sides}
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(2))
        say(f"client mlflow {listed['version']}, peer {peer_url}, ours {our_url}, {len(names)} scenarios", flush=True)
        began = time.time()
        for name in names:

            def one_side(side_and_recorder):
                side, recorder = side_and_recorder
                nonce = "k" + "".join(random.choices("bcdfghjkmnpqrstvwxz", k=7))
                events, code = clients[side].record(nonce, name, given.seconds)
                steps = normalise(events, nonce, recorder)
                if given.keep:
                    keep(given.keep, side, name, events, steps)
                return events, code, steps

            # Both at once: nothing here measures time.
            recorded = list(pool.map(one_side, sides))
            (peer_events, peer_code, peer_steps), (_, our_code, our_steps) = recorded
            reached |= {compare.ROUTES.of(e["method"], e["path"]) for e in peer_events if e["kind"] == "http"}
            differences = compare.compare(peer_steps, our_steps)
            # A scenario that does not end well at the peer compares nothing after its end: that is for its writer to mend.
            if (peer_code, our_code) != (0, 0):
                differences.append({"step": "all", "route": "client", "where": "exit", "peer": peer_code, "ours": our_code})
            left = allowed.left(name, differences)
            results[name] = {
                "equal": not left,
                "exchanges": sum(e["kind"] == "http" for e in peer_events),
                "allowed": len(differences) - len(left),
                "exit": peer_code,
                "differences": left,
            }
            if not given.json:
                print_scenario(name, results[name], given.width)
        for _, recorder in sides:
            recorder.close()

    equal = sum(r["equal"] for r in results.values())
    unused = [e["id"] for e, used in zip(allowed.entries, allowed.used) if not used]
    exchanges = sum(r["exchanges"] for r in results.values())
    missed = sorted(compare.ROUTES.all() - reached)
    if given.json:
        print(
            json.dumps(
                {
                    "client": listed["version"],
                    "equal": equal,
                    "scenarios": results,
                    "allowed_used": dict(zip([e["id"] for e in allowed.entries], allowed.used)),
                    "routes_missed": missed,
                },
                indent=1,
                default=repr,
            )
        )
    else:
        print(f"\n{equal} of {len(results)} scenarios equal, {exchanges} exchanges, {sum(allowed.used)} allowed differences, {time.time() - began:.0f} s")
        if unused and not given.scenario and given.ours:
            print(f"entries of differences.toml that nothing used: {', '.join(unused)}")
        if given.routes:
            print(f"{len(compare.ROUTES.all() & reached)} of {len(compare.ROUTES.all())} routes reached; not reached:\n  " + "\n  ".join(missed))
    return 0 if equal == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
