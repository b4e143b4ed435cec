"""Copies go elsewhere and change nothing of the call that they mirror."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from meshlib.dataplane.outcome import Failure
from meshlib.mirror import Mirrors
from meshlib.testing import ScriptedTransport, mesh_of
from meshlib.transport.base import WireError
from tests.conftest import endpoint_slice, service
from tests.scenarios.colours import COLOURS

YAML = "---\n".join(
    [
        service("svc", 80),
        service("shadow", 80),
        endpoint_slice("svc", "v1", ("10.0.0.1", 80)),
        endpoint_slice("shadow", "v1", ("10.0.0.2", 80)),
        """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: svc}
spec:
  hosts: [svc]
  http:
  - match: [{uri: {prefix: /always}}]
    rewrite: {uri: /copied}
    headers: {request: {set: {x-set: a}}}
    mirror: {host: shadow}
    route: [{destination: {host: svc}}]
  - match: [{uri: {prefix: /never}}]
    mirror: {host: shadow}
    mirrorPercentage: {value: 0}
    route: [{destination: {host: svc}}]
  - match: [{uri: {prefix: /nowhere}}]
    mirror: {host: shadow, subset: v9}
    route: [{destination: {host: svc}}]
""",
    ]
)


@pytest.fixture
def mesh():
    made = mesh_of(YAML, telemetry=False)
    yield made
    made.close()


def settled(mesh):
    ends = time.monotonic() + 10
    while mesh.mirrors.running:
        assert time.monotonic() < ends
        time.sleep(0.005)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("answer", [200, 500, WireError(Failure.CONNECT, "refused", sent=False)], ids=str)
def test_a_copy_is_sent_as_the_rule_says_and_its_fate_matters_to_nobody(colour, answer, mesh):
    wire = ScriptedTransport({"10.0.0.2:80": [answer]})
    if colour.run == "threads":
        assert colour.send(mesh, "POST", "http://svc/always/x", wire, content=b"body").status_code == 200
    else:
        assert _async(colour, mesh, wire).status_code == 200
    settled(mesh)
    assert sorted(wire.seen) == ["10.0.0.1:80", "10.0.0.2:80"]
    assert wire.bodies == [b"body", b"body"]
    for request in wire.requests:
        headers = dict(request.headers)
        assert request.target == b"/copied/x"
        assert (headers[b"Host"], headers[b"x-set"]) == (b"svc", b"a"), "the authority stays the caller's"
    assert wire.open == 0
    assert all(cluster.active == 0 for cluster in mesh.state.clusters())


def _async(colour, mesh, wire):
    """The event loop stays until the copy is through, as a service's would."""
    import anyio

    async def main():
        face = colour.faces.AsyncMeshTransport(mesh, transport=wire.cooperative())
        async with colour.library.AsyncClient(transport=face) as client:
            response = await client.post("http://svc/always/x", content=b"body")
            while mesh.mirrors.running:
                await anyio.sleep(0.005)
            return response

    return colour.main(main)


@pytest.mark.parametrize("colour", COLOURS)
def test_no_copy_at_zero_percent_or_to_nowhere_or_of_a_stream_too_long_to_keep(colour, mesh):
    wire = ScriptedTransport()
    colour.send(mesh, "GET", "http://svc/never", wire)
    colour.send(mesh, "GET", "http://svc/nowhere", wire)
    if colour.run == "threads":
        colour.send(mesh, "POST", "http://svc/always", wire, content=iter([b"x" * 65537]))
    settled(mesh)
    assert set(wire.seen) == {"10.0.0.1:80"}


def test_what_comes_beyond_the_limit_is_dropped():
    mirrors, go = Mirrors(limit=2), threading.Event()
    for _ in range(5):
        mirrors.in_thread(lambda: go.wait(10) and None)
    assert (mirrors.running, mirrors.dropped) == (2, 3)
    go.set()
    ends = time.monotonic() + 10
    while mirrors.running:
        assert time.monotonic() < ends
    mirrors.close()


ASKED = {"x-envoy-retry-on": "5xx", "x-envoy-upstream-rq-timeout-ms": "5000"}


@pytest.mark.parametrize("colour", [COLOURS[0]])
def test_a_copy_is_sent_what_the_call_sends_and_is_not_retried(colour, mesh):
    wire = ScriptedTransport({"10.0.0.2:80": [503]})
    assert colour.send(mesh, "GET", "http://svc/always/x", wire, headers=ASKED).status_code == 200
    settled(mesh)
    assert wire.seen.count("10.0.0.2:80") == 1
    for request in wire.requests:
        sent = {name.lower(): value for name, value in request.headers}
        assert not sent.keys() & {name.encode() for name in ASKED}
        assert int(sent[b"x-envoy-expected-rq-timeout-ms"]) <= 5000
    assert mesh.status().mirrors == {"running": 0, "sent": 1, "failed": 0, "dropped": 0}


def test_a_copy_that_never_ends_holds_up_neither_the_call_nor_the_end_of_the_process():
    program = """
import subprocess
import sys
import threading
from meshlib.mirror import Mirrors
mirrors = Mirrors()
for _ in range(20):
    mirrors.in_thread(lambda: threading.Event().wait())
mirrors.close()
print(mirrors.running, mirrors.dropped)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert done.stdout.split() == ["8", "12"], done.stderr
