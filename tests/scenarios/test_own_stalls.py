"""Real sockets, a real stall: nobody is ejected for what this process did to itself."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
import threading
import time

import httpx
import pytest

from meshlib.client import AsyncMeshClient, MeshClient
from meshlib.dataplane.outcome import Failure
from meshlib.httpx import MeshTransport
from meshlib.testing import ManualClock, ScriptedTransport, mesh_of
from meshlib.transport.base import WireError

RULES = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: silent}}
spec:
  hosts: [silent.example]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: silent}}
spec:
  host: silent.example
  trafficPolicy: {{outlierDetection: {{consecutive5xxErrors: 1, maxEjectionPercent: 100}}}}
"""


@pytest.fixture
def silent():
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def ejected(mesh) -> bool:
    (cluster,) = [each for each in mesh.status().clusters if "silent" in each["name"]]
    return cluster["endpoints"][0]["ejected"]


@pytest.mark.parametrize("stall", [True, False], ids=["stalled", "not-stalled"])
def test_a_blocked_event_loop_ejects_nobody(silent, stall):
    async def main() -> bool:
        async with AsyncMeshClient(mesh_of(RULES.format(port=silent)), timeout=0.6) as client, client.mesh:
            call = asyncio.ensure_future(client.get("http://silent.example/"))
            await asyncio.sleep(0.1)
            if stall:
                time.sleep(1.5)
            with pytest.raises(httpx.TimeoutException):
                await call
            return ejected(client.mesh)

    assert asyncio.run(main()) is not stall


@pytest.mark.parametrize("stall", [True, False], ids=["stalled", "not-stalled"])
def test_a_thread_that_keeps_the_interpreters_lock_ejects_nobody(silent, stall):
    def hold() -> None:
        time.sleep(0.1)
        if stall:
            ctypes.PyDLL(None).usleep(1_500_000)  # the lock is not given up, as in a long call into C

    mesh = mesh_of(RULES.format(port=silent))
    with mesh, MeshClient(mesh, timeout=0.6) as client:
        time.sleep(0.1)  # the background has begun to beat
        holder = threading.Thread(target=hold)
        holder.start()
        with pytest.raises(httpx.TimeoutException):
            client.get("http://silent.example/")
        holder.join(5)
        assert ejected(mesh) is not stall


@pytest.mark.parametrize(("number", "counts"), [(errno.EMFILE, False), (errno.EADDRNOTAVAIL, False), (111, True)])
def test_what_is_lacking_here_ejects_nobody(number, counts):
    error = WireError(Failure.CONNECT, "no connection", sent=False)
    error.__cause__ = OSError(number, "no connection")
    mesh = mesh_of(RULES.format(port=80), clock=ManualClock())
    with mesh, httpx.Client(transport=MeshTransport(mesh, transport=ScriptedTransport({"127.0.0.1:80": [error]}))) as c:
        with pytest.raises(httpx.ConnectError):
            c.get("http://silent.example/")
        assert ejected(mesh) is counts


def test_tls_files_that_are_missing_here_eject_nobody():
    rules = RULES.format(port=80).replace(
        "{outlierDetection", "{tls: {mode: SIMPLE, caCertificates: /nowhere.pem}, outlierDetection"
    )
    with mesh_of(rules) as mesh, MeshClient(mesh) as client:
        with pytest.raises(httpx.ConnectError, match="tls mode SIMPLE"):
            client.get("http://silent.example/")
        assert not ejected(mesh)
