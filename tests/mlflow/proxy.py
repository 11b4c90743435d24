"""A loopback proxy that writes down every HTTP exchange between an unmodified MLflow client and a server.

The client under test is pointed at the proxy and nothing inside it is patched, so what is written down is what went over the wire, also from
client versions and helper processes we know nothing about. Bodies are kept whole (tests are small). Requests for `/__mark` and `/__see` come
from the scenarios themselves: they are written down as marks and never reach the server.
"""

import http.client
import http.server
import json
import threading
import urllib.parse

# Headers that belong to one connection, not to the message.
HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
    "accept-encoding",
    "expect",
}
# Response headers that clients read.
KEPT = ("content-type", "content-disposition", "x-content-type-options", "content-range")
# What a scenario's own requests carry: they come one after the other, a client's may come from several threads.
RAW = "x-scenario-raw"


class Recorder:
    """One proxy in front of one server; `events` grows in the order in which requests arrive."""

    def __init__(self, server_url):
        parts = urllib.parse.urlsplit(server_url)
        self.server_url = f"{parts.scheme}://{parts.netloc}"
        self.target = (parts.hostname, parts.port)
        self.netloc = parts.netloc
        self.events = []
        self.lock = threading.Lock()
        recorder = self

        class Handler(_Handler):
            owner = recorder

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def add(self, event):
        with self.lock:
            self.events.append(event)
        return event

    def take(self):
        """The events so far; the next recording starts empty."""
        with self.lock:
            events, self.events = self.events, []
        return events

    def close(self):
        self.http.shutdown()
        self.http.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    owner = None
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_args):
        pass

    def handle_one_request(self):
        # Any method is forwarded: the base class looks for `do_METHOD`.
        super().handle_one_request()

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.forward
        raise AttributeError(name)

    def body(self):
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            parts = []
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                if size == 0:
                    while self.rfile.readline().strip():
                        pass
                    return b"".join(parts)
                parts.append(self.rfile.read(size))
                self.rfile.readline()
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def forward(self):
        body = self.body()
        if self.path.startswith("/__"):
            self.owner.add({"kind": self.path[3:], **json.loads(body)})
            return self.answer(200, [("content-type", "application/json")], b"{}")
        event = self.owner.add(
            {"kind": "http", "method": self.command, "path": self.path, "type": self.headers.get("content-type"), "body": body, "raw": RAW in self.headers}
        )
        try:
            connection = http.client.HTTPConnection(*self.owner.target, timeout=300)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", self.owner.netloc)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP and name.lower() != RAW:
                    connection.putheader(name, value)
            if body or self.command in ("POST", "PUT", "PATCH"):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            answer = response.read()
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            event["failed"] = f"{type(error).__name__}: {error}"
            return self.answer(599, [("content-type", "text/plain")], str(error).encode())
        headers = [(k, v) for k, v in response.getheaders() if k.lower() not in HOP_BY_HOP]
        event["status"] = response.status
        event["headers"] = {k.lower(): v for k, v in headers if k.lower() in KEPT}
        event["answer"] = answer
        # A server that names itself (capability URLs) must lead back through the proxy.
        answer = answer.replace(self.owner.server_url.encode(), self.owner.url.encode())
        return self.answer(response.status, headers, answer)

    def answer(self, status, headers, body):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)
        self.wfile.flush()
