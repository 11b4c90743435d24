"""A pytest plugin that puts Gristmill in the place of MLflow's server in MLflow's own tests.

Those tests start their server in three ways: `_init_server` and `ServerThread` of `tests.tracking.integration_test_utils`, and `_launch_server`
of `test_mlflow_artifacts`. All three become "start a Gristmill over an empty project". `GRISTMILL_BINARY` names the binary; without it the plugin
changes nothing, and the tests run against MLflow itself, which tells what their age has broken.
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import servers  # noqa: E402

BINARY = os.environ.get("GRISTMILL_BINARY")
LOG = os.environ.get("GRISTMILL_SERVER_LOG", os.devnull)


@contextlib.contextmanager
def started():
    with tempfile.TemporaryDirectory(prefix="mlflow-upstream-") as folder, servers.gristmill(BINARY, LOG, folder) as url:
        yield url


class ServerThread:
    """Takes the place of the thread that runs MLflow's application: a context that gives a URL."""

    def __init__(self, *_app_and_port):
        self.stack = contextlib.ExitStack()
        self.url = None

    def __enter__(self):
        import mlflow

        self.url = self.stack.enter_context(started())
        # MLflow's fixture gives the test's own process the server's database; here the process is a client like any other.
        mlflow.set_tracking_uri(self.url)
        return self.url

    def __exit__(self, *_error):
        import mlflow

        mlflow.set_tracking_uri(None)
        self.stack.close()


@contextlib.contextmanager
def init_server(*_args, **_kwargs):
    import mlflow

    mlflow.set_tracking_uri(None)
    with started() as url:
        yield url


class Process:
    pid = -1


def pytest_configure(config):
    if not BINARY:
        return
    # The test modules take these names when they are imported, which is later.
    import tests.tracking.integration_test_utils as utils
    from mlflow.server import handlers

    utils.ServerThread = ServerThread
    utils._init_server = init_server
    handlers.initialize_backend_stores = lambda *_args, **_kwargs: None


def pytest_collection_modifyitems(session, config, items):
    if not BINARY:
        return
    for module in {item.module for item in items if hasattr(item, "module")}:
        if hasattr(module, "_launch_server"):
            module._launch_server = launch_server
            module.kill_process_tree = lambda _pid: None


@contextlib.contextmanager
def launch_server(host, port, *_args, **_kwargs):
    """The tests of the artifact proxy choose the port themselves: a relay listens there."""
    import socket
    import threading

    with started() as url:
        address = url.rsplit("/", 1)[1].rsplit(":", 1)
        listener = socket.create_server((host, port))

        def pump(a, b):
            with contextlib.suppress(OSError):
                while data := a.recv(65_536):
                    b.sendall(data)
            with contextlib.suppress(OSError):
                b.shutdown(socket.SHUT_WR)

        def relay():
            with contextlib.suppress(OSError):
                while True:
                    here, _ = listener.accept()
                    there = socket.create_connection((address[0], int(address[1])))
                    for pair in ((here, there), (there, here)):
                        threading.Thread(target=pump, args=pair, daemon=True).start()

        threading.Thread(target=relay, daemon=True).start()
        try:
            yield Process()
        finally:
            listener.close()
