"""A real Envoy on loopback, configured by the resources that meshlib encodes from its own snapshots."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from meshlib.xds import encode
from meshlib.xds.messages import address_pb2, http_connection_manager_pb2
from tests.envoy import EnvoyProcess

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
        self._process = EnvoyProcess("bootstrap.pb", bootstrap.SerializeToString())
        self._connections: dict[tuple[int, int], http.client.HTTPConnection] = {}
        try:
            self.ports = self._listening()
        except BaseException:
            self.close()
            raise

    def _listening(self) -> dict[int, int]:
        """Service port -> the port that Envoy chose, as soon as it is live."""
        ends = time.monotonic() + 60
        while time.monotonic() < ends and self._process.runs():
            if self._process.admin("/ready") == b"LIVE\n":
                found = json.loads(self._process.admin("/listeners?format=json"))
                return {
                    int(status["name"]): status["local_address"]["socket_address"]["port_value"]
                    for status in found["listener_statuses"]
                }
            time.sleep(0.02)
        raise Rejected(f"{'not live within 60 s' if self._process.runs() else 'ended'}: {self._process.output()}")

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
        for connection in self._connections.values():
            connection.close()
        self._process.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
