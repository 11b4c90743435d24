"""Compares two recordings of one scenario, modulo what may differ: ids, times, generated names, hosts, page tokens.

A recording is first *normalised*: every id becomes `<kind:N>` (which of ours is which of the peer's is learned on the way), every moment near the recording's becomes
`<time>`, and so on. What is left is compared exactly: the order of requests, their bodies, status, content type and JSON. Requests that a client
sends from several threads (artifacts, traces) are compared as a set within their step.

What still differs and is listed in `differences.toml` is allowed; the listing is also what the documentation says.
"""

import json
import re
import tomllib
import urllib.parse
from pathlib import Path

HERE = Path(__file__).parent
# How far from the recording a moment may be to count as "now": clients also ask for the last days.
NEAR_MS = 40 * 86_400_000

# Names that MLflow invents for runs and models: adjective-noun-number.
# What a scenario put into its names, so that two runs on one server do not meet: also of scenarios before this one.
NONCE = re.compile(r"(?<![a-z0-9])k[bcdfghjkmnpqrstvwxz]{7}(?![a-z0-9])")
# Python prints a set in any order.
PRINTED_SET = re.compile(r"\{('[^{}]*')\}")
INVENTED = re.compile(r"\b[a-z]+-[a-z]+-\d{1,4}\b")
ID = re.compile(r"(?<![0-9a-zA-Z])((?:[a-z]{1,4}-)?)([0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?![0-9a-f])", re.I)
# Where experiment ids, which are plain numbers, stand in texts.
EXPERIMENT_TEXT = [
    re.compile(r"(mlflow-artifacts:(?://[^/]*)?/)(\d+)(?=/|$)"),
    re.compile(r"(mlflow-artifacts/[a-z/]+/)(\d+)(?=/)"),
    re.compile(r"((?:^|[/'\"(= ]))(\d+)(?=/(?:<[a-z]+:\d+>|models/|traces/))"),
    re.compile(r"(?i)(\bexperiment (?:with )?(?:id|'|ID)?[ =:']*)(\d+)"),
    re.compile(r"(#/experiments/)(\d+)"),
]
EXPERIMENT_FILTER = re.compile(r"(experiment_id\s*(?:!?=|(?:NOT\s+)?IN)\s*)(\([^)]*\)|'\d+')", re.I)
PORT = re.compile(r"host='127\.0\.0\.1', port=\d+")
# What SQLAlchemy says about a failed statement of the peer.
BOUND = re.compile(r"\[parameters: .*?\]\n", re.S)
MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?")
DURATION = re.compile(r"^\d+(\.\d+)?s$")
NUMBER = re.compile(r"(?<![\w.])(\d{10}|\d{13}|\d{16}|\d{19})(?![\w.])")
EXPERIMENT_KEYS = {"experiment_id", "experiment_ids", "source_experiment_id"}
TOKEN_KEYS = {"page_token", "next_page_token"}
# Keys whose values measure the machine or the moment.
MEASURED = {"execution_time_ms", "execution_duration", "duration_ns", "model_size_bytes", "mlflow.trace.sizeBytes", "mlflow.trace.sizeStats"}
SPAN_KEYS = {"span_id", "parent_span_id"}
# Sent from several threads by the clients.
UNORDERED = re.compile(
    r"^(PUT|GET|DELETE) /api/2\.0/mlflow-artifacts/|^POST /v1/traces|^(POST|PATCH|GET) /api/[23]\.0/mlflow/traces|^POST /api/3\.0/mlflow/traces|^GET /api/2\.0/mlflow/metrics/get-history$"
)


class Routes:
    """The path templates of `routes.txt`; a path that fits none stays as it is."""

    def __init__(self, text):
        self.known = []
        for line in text.splitlines():
            match = re.match(r"\[(.*?)\] (\S+)$", line)
            methods, template = match[1].split(", "), match[2]
            pattern = "".join(
                ("(?:.+)" if part.startswith("<path:") else "[^/]+") if part.startswith("<") else re.escape(part) for part in re.split(r"(<[^>]+>)", template)
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
        self.measured = MEASURED

    def symbol(self, kind, value):
        key = (kind, value)
        if key not in self.symbols:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.symbols[key] = f"<{kind}:{self.counts[kind]}>"
        return self.symbols[key]

    def experiment(self, value):
        return re.sub(r"(?<!\d)(0*)([1-9]\d*)", lambda m: m[1] + self.symbol("experiment", m[2]), value)

    def id(self, match):
        symbol = self.symbol(match[1].rstrip("-").lower() or "id", match[0].lower())
        return symbol if match[0] == match[0].lower() else symbol.upper()

    def near_now(self, digits):
        number, scale = int(digits), {10: 1000, 13: 1, 16: 1e-3, 19: 1e-6}.get(len(digits))
        return scale is not None and abs(number * scale - self.now_ms) < NEAR_MS

    def text(self, text):
        for host in self.hosts:
            text = text.replace(host, "<host>")
        text = PORT.sub("<host>", text)
        text = text.replace(self.nonce, "<nonce>").replace(self.nonce.upper(), "<NONCE>")
        text = NONCE.sub("<another nonce>", text)
        text = BOUND.sub("<values of a statement>", text)
        text = PRINTED_SET.sub(lambda m: "{" + ", ".join(sorted(m[1].split(", "))) + "}", text)
        text = ID.sub(self.id, text)
        for pattern in EXPERIMENT_TEXT:
            text = pattern.sub(lambda m: m[1] + self.experiment(m[2]), text)
        text = EXPERIMENT_FILTER.sub(lambda m: m[1] + re.sub(r"\d+", lambda d: self.experiment(d[0]), m[2]), text)
        text = MOMENT.sub("<time>", text)
        text = NUMBER.sub(lambda m: "<time>" if self.near_now(m[0]) else m[0], text)
        return INVENTED.sub("<name>", text)

    def value(self, value, key=None):
        if isinstance(value, dict):
            return {self.text(k): self.value(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [self.value(v, key) for v in value]
        if key in self.measured and value is not None:
            return "<measured>"
        if key in SPAN_KEYS and isinstance(value, str) and value:
            return self.symbol("span", value)
        if key == "trace_id" and isinstance(value, str) and value.endswith("=="):
            return self.symbol("trace in base64", value)
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

    def exchange(self, event):
        route = ROUTES.of(event["method"], event["path"])
        artifact = "mlflow-artifacts/artifacts/" in event["path"]
        # The digest of an evaluation dataset is made of its ids and times.
        self.measured = MEASURED | {"digest"} if "/mlflow/datasets" in event["path"] else MEASURED
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
        out["response"] = event.get("round_trip") or self.body(out["headers"].get("content-type"), answer)
        return out

    def steps(self, events):
        """[(label, ordered exchanges, unordered exchanges, things seen)]"""
        steps, loose = [["start", [], [], []]], set()
        round_trips(events)
        for event in events:
            if event["kind"] == "mark":
                if event.get("loose"):
                    loose.add(len(steps))
                steps.append([self.text(event["label"]), [], [], []])
            elif event["kind"] == "see":
                steps[-1][3].append(event)
            else:
                unordered = not event["raw"] and UNORDERED.search(ROUTES.of(event["method"], event["path"]))
                steps[-1][2 if unordered else 1].append(event)
        out = []
        for number, (label, ordered, unordered, seen) in enumerate(steps):
            ordered = [self.exchange(e) for e in ordered]
            unordered.sort(key=lambda e: (e["method"], ID.sub("?", e["path"]), ID.sub("?", e["body"].decode("latin-1"))))
            unordered = [self.exchange(e) for e in unordered]
            unordered.sort(key=lambda e: json.dumps([e["route"], e["path"], e["query"], e["request"]], sort_keys=True))
            if number in loose:
                ordered, unordered = routes_called(ordered + unordered), []
            out.append((label, ordered, unordered, [{"label": s["label"], "value": self.value(s["value"])} for s in seen]))
        return out


def round_trips(events):
    """Says of each artifact that was read whether it is what was stored there last."""
    stored = {}
    for event in events:
        if event["kind"] != "http" or "mlflow-artifacts/artifacts/" not in event["path"] or event.get("status") != 200:
            continue
        path = urllib.parse.unquote(event["path"].split("?")[0])
        if event["method"] == "PUT":
            stored[path] = event["body"]
        elif event["method"] == "GET":
            known = stored.get(path)
            event["round_trip"] = "<not stored here>" if known is None else "<as stored>" if known == event["answer"] else "<NOT AS STORED>"


def routes_called(exchanges):
    """Of a loose step: each route once, with every status it gave."""
    called = {}
    for e in exchanges:
        called.setdefault(e["route"], set()).add(e["status"])
    return [{"route": route, "path": "", "status": sorted(statuses)} for route, statuses in sorted(called.items())]


def parse(text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


SYMBOL = re.compile(r"<[a-z][a-z 0-9]*:\d+>", re.I)


class Names:
    """Which id of ours is which id of the peer's: the first two that stand in the same place belong together, and stay so."""

    def __init__(self):
        self.ours_of, self.peers_of = {}, {}

    def same(self, peer, ours):
        if not isinstance(peer, str) or not isinstance(ours, str):
            return peer == ours or (peer != peer and ours != ours)
        if SYMBOL.sub("<>", peer) != SYMBOL.sub("<>", ours):
            return False
        pairs = list(zip(SYMBOL.findall(peer), SYMBOL.findall(ours)))
        return all(self.ours_of.setdefault(p, o) == o and self.peers_of.setdefault(o, p) == p for p, o in pairs)


def walk(peer, ours, where, names):
    """Yields (where, peer's, ours) of every place at which two normalised values differ."""
    if isinstance(peer, dict) and isinstance(ours, dict):
        for key in sorted(set(peer) | set(ours)):
            yield from walk(peer.get(key, ABSENT), ours.get(key, ABSENT), f"{where}.{key}", names)
    elif isinstance(peer, list) and isinstance(ours, list):
        if len(peer) != len(ours):
            yield (f"{where}.length", len(peer), len(ours))
        for i, (p, o) in enumerate(zip(peer, ours)):
            yield from walk(p, o, f"{where}[{i}]", names)
    elif not names.same(peer, ours):
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
        if where in ("tags", "params", "aliases", "request_metadata", "trace_metadata", "model_outputs") or (where == "metrics" and as_set(value)):
            value.sort(key=lambda v: json.dumps(v, sort_keys=True, default=repr))
    return value


def compare(peer_steps, our_steps):
    """[{step, route, where, peer, ours}] of all differences, each with status and message of the exchange it is in."""
    found, names = [], Names()

    def note(step, route, where, peer, ours, exchanges=(None, None)):
        difference = {"step": step, "route": route, "where": where, "peer": peer, "ours": ours}
        for side, exchange in zip(("peer", "our"), exchanges):
            difference[f"{side}_status"] = exchange and exchange["status"]
            difference[f"{side}_message"] = message(exchange)
        found.append(difference)

    if [s[0] for s in peer_steps] != [s[0] for s in our_steps]:
        note("all", "-", "steps", [s[0] for s in peer_steps], [s[0] for s in our_steps])
    for (label, *peer), (_, *ours) in zip(peer_steps, our_steps):
        for peers, mine in zip(peer[:2], ours[:2]):
            for p, o in align(peers, mine):
                if p is None or o is None:
                    one = p or o
                    note(label, one["route"], "exchange", short(one) if p else ABSENT, short(one) if o else ABSENT)
                    continue
                for where, a, b in walk(settle(p), settle(o), "", names):
                    note(label, p["route"], where.lstrip("."), a, b, (p, o))
        seen = {s["label"]: s["value"] for s in ours[2]}
        for s in peer[2]:
            for where, a, b in walk(settle(s["value"]), settle(seen.pop(s["label"], ABSENT)), s["label"], names):
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


def message(exchange):
    """What an exchange that was refused says."""
    response = exchange and exchange.get("response")
    return str(response.get("message", "")) if isinstance(response, dict) else ""


def short(exchange):
    return f"{exchange['status']} {exchange['path']}"


class Allowed:
    """`differences.toml`: what may differ, and why."""

    def __init__(self, path=HERE / "differences.toml"):
        self.entries = tomllib.loads(path.read_text()).get("difference", []) if path.exists() else []
        self.used = [0] * len(self.entries)

    def left(self, scenario, differences):
        """Those that no entry covers. What the client makes of an exchange that may differ is covered with it."""
        of_exchanges = [d for d in differences if d["route"] != "client"]
        left = [d for d in of_exchanges if not self.covers(scenario, d)]
        refused = {d["step"] for d in of_exchanges if d["where"] in ("status", "exchange")} - {d["step"] for d in left}
        of_clients = [d for d in differences if d["route"] == "client" and d["step"] not in refused]
        return left + [d for d in of_clients if not self.covers(scenario, d)]

    def covers(self, scenario, difference):
        for i, entry in enumerate(self.entries):
            if all(
                (
                    *(matches(entry.get(key, "*"), difference.get(key)) for key in ("route", "step", "where", "peer_status", "our_status")),
                    matches(entry.get("scenario", "*"), scenario),
                    *(re.search(entry[key], json.dumps(difference[key], default=repr)) for key in ("peer", "ours") if key in entry),
                    *(re.search(entry[key], difference.get(key) or "") for key in ("peer_message", "our_message") if key in entry),
                )
            ):
                self.used[i] += 1
                return entry
        return None


def matches(pattern, text):
    """`*` stands for anything; a list is one or the other."""
    if isinstance(pattern, list):
        return any(matches(p, text) for p in pattern)
    return re.fullmatch(".*".join(re.escape(p) for p in pattern.split("*")), str(text), re.S) is not None
