"""Compares two recordings of one scenario, modulo what may differ: ids, times, generated names, hosts, page tokens.

A recording is first *normalised*: every id becomes `<kind:N>` with N counting first appearances, every moment near the recording's becomes
`<time>`, and so on. What is left is compared exactly: the order of requests, their bodies, status, content type and JSON. Requests that a client
sends from several threads (artifacts, traces) are compared as a set within their step.

What still differs and is listed in `differences.toml` is allowed; the listing is also what the documentation says.
"""

import hashlib
import json
import re
import tomllib
import urllib.parse
from pathlib import Path

HERE = Path(__file__).parent
HOUR_MS = 3_600_000

# Names that MLflow invents for runs and models: adjective-noun-number.
INVENTED = re.compile(r"\b[a-z]+-[a-z]+-\d{1,4}\b")
ID = re.compile(r"(?<![0-9a-zA-Z])((?:[a-z]{1,4}-)?)([0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?![0-9a-f])")
MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?")
DURATION = re.compile(r"^\d+(\.\d+)?s$")
NUMBER = re.compile(r"(?<![\w.])(\d{10}|\d{13}|\d{16}|\d{19})(?![\w.])")
EXPERIMENT_KEYS = {"experiment_id", "experiment_ids", "source_experiment_id"}
TOKEN_KEYS = {"page_token", "next_page_token"}
# Keys whose values measure the machine or the moment.
MEASURED = {"execution_time_ms", "execution_duration", "duration_ns", "model_size_bytes", "sizeBytes"}
# Sent from several threads by the clients.
UNORDERED = re.compile(r"^(PUT|GET|DELETE) /api/2\.0/mlflow-artifacts/|^POST /v1/traces|^(POST|PATCH|GET) /api/[23]\.0/mlflow/traces|^POST /api/3\.0/mlflow/traces|^GET /api/2\.0/mlflow/metrics/get-history$")


class Routes:
    """The path templates of `routes.txt`; a path that fits none stays as it is."""

    def __init__(self, text):
        self.known = []
        for line in text.splitlines():
            match = re.match(r"\[(.*?)\] (\S+)$", line)
            methods, template = match[1].split(", "), match[2]
            pattern = "".join(
                ("(?:.+)" if part.startswith("<path:") else "[^/]+") if part.startswith("<") else re.escape(part)
                for part in re.split(r"(<[^>]+>)", template)
            )
            for method in methods:
                self.known.append((method, template, re.compile(pattern + r"\Z")))
        # The more fixed text, the better the fit.
        self.known.sort(key=lambda k: -len(re.sub(r"<[^>]+>", "", k[1])))

    def of(self, method, path):
        path = path.split("?")[0].replace("/ajax-api/", "/api/", 1)
        for known, template, pattern in self.known:
            if known == method and pattern.match(path):
                return f"{method} {template}"
        return f"{method} {path}"

    def all(self):
        return {f"{m} {t}" for m, t, _ in self.known}


ROUTES = Routes((HERE / "routes.txt").read_text())


class Normaliser:
    """Turns one recording into something two servers can agree on."""

    def __init__(self, nonce, now_ms, hosts):
        self.nonce, self.now_ms, self.hosts = nonce, now_ms, hosts
        self.symbols = {}
        self.counts = {}

    def symbol(self, kind, value):
        key = (kind, value)
        if key not in self.symbols:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.symbols[key] = f"<{kind}:{self.counts[kind]}>"
        return self.symbols[key]

    def experiment(self, value):
        return value if value in ("0", "") or not value.isdigit() else self.symbol("experiment", value)

    def near_now(self, digits):
        number, scale = int(digits), {10: 1000, 13: 1, 16: 1e-3, 19: 1e-6}.get(len(digits))
        return scale is not None and abs(number * scale - self.now_ms) < HOUR_MS

    def text(self, text):
        for host in self.hosts:
            text = text.replace(host, "<host>")
        text = text.replace(self.nonce, "<nonce>")
        text = ID.sub(lambda m: self.symbol(m[1].rstrip("-") or "id", m[0]), text)
        text = re.sub(r"(mlflow-artifacts:(?://[^/]*)?/)(\d+)(?=/|$)", lambda m: m[1] + self.experiment(m[2]), text)
        text = re.sub(r"(mlflow-artifacts/[a-z/]+/)(\d+)(?=/)", lambda m: m[1] + self.experiment(m[2]), text)
        text = re.sub(r"(?i)\b(experiment (?:with )?(?:id|'|ID)[ =:']*)(\d+)", lambda m: m[1] + self.experiment(m[2]), text)
        text = MOMENT.sub("<time>", text)
        text = NUMBER.sub(lambda m: "<time>" if self.near_now(m[0]) else m[0], text)
        return INVENTED.sub("<name>", text)

    def value(self, value, key=None):
        if isinstance(value, dict):
            return {self.text(k): self.value(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [self.value(v, key) for v in value]
        if key in MEASURED and value is not None:
            return "<measured>"
        if key in TOKEN_KEYS and value:
            return "<token>"
        if key in EXPERIMENT_KEYS and isinstance(value, (str, int)):
            return self.experiment(str(value))
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int) and self.near_now(str(value)):
            return "<time>"
        if isinstance(value, float) and abs(value) < 1e19 and self.near_now(str(int(value))):
            return "<time>"
        if isinstance(value, str):
            if DURATION.match(value):
                return "<measured>"
            inner = parse(value) if value[:1] in "{[" else None
            return {"<json in a string>": self.value(inner)} if inner is not None else self.text(value)
        return value

    def body(self, content_type, body):
        if not body:
            return None
        kind = (content_type or "").split(";")[0].strip()
        parsed = parse(body)
        if parsed is not None and kind in ("application/json", ""):
            return self.value(parsed)
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return "<binary>"
        return self.text(text) if len(text) <= 65_536 else "<long text>"

    def query(self, path):
        if "?" not in path:
            return {}
        pairs = urllib.parse.parse_qsl(path.split("?", 1)[1], keep_blank_values=True)
        query = {}
        for key, value in pairs:
            query.setdefault(key, []).append(self.value(value, key))
        return query

    def exchange(self, event, stored):
        route = ROUTES.of(event["method"], event["path"])
        artifact = "mlflow-artifacts/artifacts/" in event["path"]
        answer = event.get("answer") or b""
        out = {
            "route": self.text(route),
            "path": self.text(urllib.parse.unquote(event["path"].split("?")[0])),
            "query": self.query(event["path"]),
            # What a client stores is its own affair; that it comes back whole is checked below.
            "request": "<artifact>" if artifact and event["method"] == "PUT" else self.body(event["type"], event["body"]),
            "status": event.get("status"),
            "headers": {k: self.text(v) for k, v in event.get("headers", {}).items()},
        }
        if "failed" in event:
            out["failed"] = event["failed"]
        if artifact and event["method"] == "PUT" and out["status"] == 200:
            stored[event["path"].split("?")[0]] = hashlib.sha256(event["body"]).hexdigest()
        if artifact and event["method"] == "GET" and out["status"] == 200:
            digest = stored.get(event["path"].split("?")[0])
            out["response"] = "<not stored by this scenario>" if digest is None else "<as stored>" if digest == hashlib.sha256(answer).hexdigest() else "<NOT AS STORED>"
        else:
            out["response"] = self.body(out["headers"].get("content-type"), answer)
        return out

    def steps(self, events):
        """[(label, ordered exchanges, unordered exchanges, things seen)]"""
        steps, stored = [["start", [], [], []]], {}
        for event in events:
            if event["kind"] == "mark":
                steps.append([event["label"], [], [], []])
            elif event["kind"] == "see":
                steps[-1][3].append(event)
            else:
                unordered = UNORDERED.search(ROUTES.of(event["method"], event["path"]))
                steps[-1][2 if unordered else 1].append(event)
        out = []
        for label, ordered, unordered, seen in steps:
            ordered = [self.exchange(e, stored) for e in ordered]
            unordered.sort(key=lambda e: (e["method"], ID.sub("?", e["path"]), ID.sub("?", e["body"].decode("latin-1"))))
            unordered = [self.exchange(e, stored) for e in unordered]
            unordered.sort(key=lambda e: json.dumps([e["route"], e["path"], e["query"], e["request"]], sort_keys=True))
            out.append((label, ordered, unordered, [{"label": s["label"], "value": self.value(s["value"])} for s in seen]))
        return out


def parse(text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def walk(peer, ours, where):
    """Yields (where, peer's, ours) of every place at which two normalised values differ."""
    if isinstance(peer, dict) and isinstance(ours, dict):
        for key in sorted(set(peer) | set(ours)):
            yield from walk(peer.get(key, ABSENT), ours.get(key, ABSENT), f"{where}.{key}")
    elif isinstance(peer, list) and isinstance(ours, list):
        if len(peer) != len(ours):
            yield (f"{where}.length", len(peer), len(ours))
        for i, (p, o) in enumerate(zip(peer, ours)):
            yield from walk(p, o, f"{where}[{i}]")
    elif peer != ours and not (peer != peer and ours != ours):
        yield (where, peer, ours)


class _Absent:
    def __repr__(self):
        return "absent"


ABSENT = _Absent()


def as_set(pairs):
    """{key: value} for the tag-like lists of MLflow, whose order means nothing."""
    return isinstance(pairs, list) and len(pairs) > 1 and all(isinstance(p, dict) and "key" in p for p in pairs)


def settle(value, where=""):
    """Sorts lists whose order MLflow does not promise: tags, params, latest metrics, aliases."""
    if isinstance(value, dict):
        return {k: settle(v, k) for k, v in value.items()}
    if isinstance(value, list):
        value = [settle(v, where) for v in value]
        if where in ("tags", "params", "aliases", "request_metadata", "trace_metadata") or (where == "metrics" and as_set(value)):
            value.sort(key=lambda v: json.dumps(v, sort_keys=True, default=repr))
    return value


def compare(peer_steps, our_steps):
    """[{step, route, where, peer, ours}] of all differences."""
    found = []

    def note(step, route, where, peer, ours):
        found.append({"step": step, "route": route, "where": where, "peer": peer, "ours": ours})

    if [s[0] for s in peer_steps] != [s[0] for s in our_steps]:
        note("all", "-", "steps", [s[0] for s in peer_steps], [s[0] for s in our_steps])
    for (label, *peer), (_, *ours) in zip(peer_steps, our_steps):
        for peers, mine in zip(peer[:2], ours[:2]):
            for p, o in align(peers, mine):
                if p is None or o is None:
                    one = p or o
                    note(label, one["route"], "exchange", short(one) if p else ABSENT, short(one) if o else ABSENT)
                    continue
                for where, a, b in walk(settle(p), settle(o), ""):
                    note(label, p["route"], where.lstrip("."), a, b)
        seen = {s["label"]: s["value"] for s in ours[2]}
        for s in peer[2]:
            for where, a, b in walk(settle(s["value"]), settle(seen.pop(s["label"], ABSENT)), s["label"]):
                note(label, "client", where, a, b)
        for name, value in seen.items():
            note(label, "client", name, ABSENT, value)
    return found


def align(peers, mine):
    """Pairs exchanges of two sequences by route, so that one extra request does not shift all that follow."""
    import difflib

    keys = lambda side: [e["route"] for e in side]  # noqa: E731
    for op, a0, a1, b0, b1 in difflib.SequenceMatcher(None, keys(peers), keys(mine), autojunk=False).get_opcodes():
        if op == "equal":
            yield from zip(peers[a0:a1], mine[b0:b1])
        else:
            yield from ((p, None) for p in peers[a0:a1])
            yield from ((None, o) for o in mine[b0:b1])


def short(exchange):
    return f"{exchange['status']} {exchange['path']}"


class Allowed:
    """`differences.toml`: what may differ, and why."""

    def __init__(self, path=HERE / "differences.toml"):
        self.entries = tomllib.loads(path.read_text()).get("difference", []) if path.exists() else []
        self.used = [0] * len(self.entries)

    def covers(self, scenario, difference):
        for i, entry in enumerate(self.entries):
            if all(
                (
                    matches(entry.get("scenario", "*"), scenario),
                    matches(entry.get("route", "*"), difference["route"]),
                    matches(entry.get("step", "*"), difference["step"]),
                    matches(entry["where"], difference["where"]),
                    "peer" not in entry or re.search(entry["peer"], json.dumps(difference["peer"], default=repr)),
                    "ours" not in entry or re.search(entry["ours"], json.dumps(difference["ours"], default=repr)),
                )
            ):
                self.used[i] += 1
                return entry
        return None


def matches(pattern, text):
    """`*` stands for anything; a list is one or the other."""
    if isinstance(pattern, list):
        return any(matches(p, text) for p in pattern)
    return re.fullmatch(".*".join(re.escape(p) for p in pattern.split("*")), text) is not None
