"""What all tests share: third-party data where it lies, real servers, and a mesh of texts."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.tally import Tally

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
DATA = Path(os.environ.get("MESHLIB_TEST_DATA", _BESIDE))
ABSENT = f"third-party test data is absent: set MESHLIB_TEST_DATA, or lay it at {_BESIDE.name} beside the checkout"


settings.register_profile("meshlib", deadline=None)  # a busy machine makes no rule wrong
settings.load_profile("meshlib")


def pytest_configure(config: pytest.Config) -> None:
    """Count the third-party cases."""
    config.addinivalue_line("markers", "family(name, case): a case of the third-party data")
    config.pluginmanager.register(Tally(), "tally")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of third-party test data; tests that read it skip where it is absent."""
    if not DATA.is_dir():
        pytest.skip(ABSENT)
    return DATA


def data_cases(family: str) -> list[Any]:
    """The cases of a family, as parameters; one skipped parameter where the data is absent."""
    path = DATA / family
    if not path.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(reason=ABSENT), id="absent")]
    name = family.removesuffix(".json")
    return [
        pytest.param(case, id=case["id"], marks=pytest.mark.family(name, case["id"]))
        for case in json.loads(path.read_text("utf-8"))["cases"]
    ]


class Echo(ThreadingHTTPServer):
    """A real server that says who it is and what it saw; ``failing`` makes it answer that status instead."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _EchoHandler)
        self.name = name
        self.failing: int | None = None
        self.seen: list[dict[str, Any]] = []
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join(5)


class _EchoHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Echo

    def do_GET(self) -> None:
        body = self._body()
        seen = {
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body.decode("utf-8", "replace"),
        }
        self.server.seen.append(seen)
        raw = json.dumps({"name": self.server.name, **seen}).encode()
        self.send_response(self.server.failing or 200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def echo() -> Iterator[Any]:
    """Makes echo servers that are stopped after the test."""
    servers: list[Echo] = []

    def make(name: str) -> Echo:
        servers.append(Echo(name))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


def service(name: str, port: int = 9080, protocol: str = "http") -> str:
    """A Kubernetes Service as YAML."""
    return (
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n"
        f"spec: {{ports: [{{name: {protocol}, port: {port}}}], selector: {{app: {name}}}}}\n"
    )


def endpoint_slice(name: str, version: str, *addresses: tuple[str, int], protocol: str = "http") -> str:
    """EndpointSlices of one version of a service, one for each address."""
    return "---\n".join(
        f"""apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-{version}-{number}
  labels: {{kubernetes.io/service-name: {name}, version: {version}}}
addressType: IPv4
ports: [{{name: {protocol}, port: {port}}}]
endpoints: [{{addresses: [{address}]}}]
"""
        for number, (address, port) in enumerate(addresses)
    )
