"""Hedged calls in every colour: the slow one is overtaken, and nothing is left of it."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager

import anyio
import pytest

from meshlib import errors
from meshlib.dataplane.outcome import Failure
from meshlib.testing import ScriptedTransport, mesh_of
from meshlib.transport.base import WireError
from tests.conftest import endpoint_slice, service
from tests.scenarios.colours import COLOURS

YAML = "---\n".join(
    [
        service("svc", 80),
        endpoint_slice("svc", "v1", ("10.0.0.1", 80), ("10.0.0.2", 80)),
        """
apiVersion: meshlib.dev/v1alpha1
kind: ClientPolicy
metadata: {name: svc}
spec:
  hosts: [svc]
  hedge: {after: 10ms, maxAttempts: 2, methods: [GET]}
""",
    ]
)


class Stalling(ScriptedTransport):
    """The first attempt gets no answer before the second has one; ``cut`` counts attempts that were ended."""

    def __init__(self, script=None):
        super().__init__(script)
        self.cut = 0
        self.begun = 0
        self.stall_all = False
        self.hung_up = threading.Event()

    def send(self, target, request):
        self.begun += 1
        if self.begun > 1:
            return super().send(target, request)
        assert request.break_off is not None
        request.break_off.carried(self.hung_up.set)
        assert self.hung_up.wait(10)
        self.cut += 1
        raise WireError(Failure.CLOSED, "hung up", sent=True)

    def cooperative(self):
        outer, inner = self, super().cooperative()

        class Cooperative:
            keeps_deadlines = False

            async def send(self, target, request):
                outer.begun += 1
                if outer.begun > 1 and not outer.stall_all:
                    return await inner.send(target, request)
                try:
                    await anyio.sleep_forever()
                finally:
                    outer.cut += 1

            async def aclose(self):
                """Nothing is open."""

            def enter(self, user):
                """Nothing is kept."""

        return Cooperative()


@pytest.fixture
def mesh():
    made = mesh_of(YAML, telemetry=False)
    yield made
    made.close()


def taken(mesh):
    return [(c.active, c.retries, sum(e.active for e in c.endpoints.values())) for c in mesh.state.clusters()]


@contextmanager
def soon():
    """For what another thread does at once, but not before it is scheduled."""
    ends = time.monotonic() + 10

    def until(condition):
        while not condition():
            assert time.monotonic() < ends
            time.sleep(0.002)

    yield until


@pytest.mark.parametrize("colour", COLOURS)
def test_a_slow_attempt_is_overtaken_and_cut_off(colour, mesh):
    wire = Stalling()
    response = colour.send(mesh, "GET", "http://svc/", wire)
    assert (response.status_code, response.text) == (200, "ok")
    call = response.extensions["mesh"]
    assert (call.attempts, call.hedges, call.flags) == (2, 1, "-")
    assert taken(mesh) == [(0, 0, 0)]
    with soon() as until:
        until(lambda: wire.cut == 1)
    assert wire.open == 0


@pytest.mark.parametrize("colour", COLOURS)
def test_the_second_is_not_started_when_the_first_is_quick(colour, mesh):
    wire = ScriptedTransport()
    for _ in range(5):
        assert colour.send(mesh, "GET", "http://svc/", wire).status_code == 200
    assert (len(wire.seen), taken(mesh)) == (5, [(0, 0, 0)])


@pytest.mark.parametrize("colour", COLOURS)
def test_a_failure_of_all_is_raised_as_that_of_one(colour, mesh):
    wire = ScriptedTransport({f"10.0.0.{n}:80": [WireError(Failure.CLOSED, "gone", sent=True)] for n in (1, 2)})
    with pytest.raises(colour.library.RemoteProtocolError):
        colour.send(mesh, "GET", "http://svc/", wire)
    refused = ScriptedTransport({f"10.0.0.{n}:80": [WireError(Failure.CONNECT, "no", sent=False)] for n in (1, 2)})
    with pytest.raises(errors.ConnectFailure):
        colour.send(mesh, "GET", "http://svc/", refused)
    assert len(refused.seen) == 3, "Istio's own retries are made all the same"
    assert taken(mesh) == [(0, 0, 0)]


@pytest.mark.parametrize("colour", [param for param in COLOURS if "threads" not in param.id])
def test_cancelling_a_hedged_call_leaves_nothing(colour, mesh):
    wire = Stalling()
    wire.stall_all = True

    async def main():
        face = colour.faces.AsyncMeshTransport(mesh, transport=wire.cooperative())
        async with colour.library.AsyncClient(transport=face) as client:
            with anyio.fail_after(10), anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(client.get, "http://svc/")
                    while wire.begun < 2:
                        await anyio.sleep(0.005)
                    scope.cancel()
            return scope.cancelled_caught

    assert colour.main(main)
    assert (wire.begun, wire.cut) == (2, 2)
    assert taken(mesh) == [(0, 0, 0)]


def test_a_thread_that_lost_is_hung_up_on_over_a_real_socket(echo):
    listener, ended = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def stall():
        connection, _ = listener.accept()
        with connection:
            while connection.recv(65536):
                pass
        ended.set()

    threading.Thread(target=stall, daemon=True).start()
    ports = listener.getsockname()[1], echo("quick").port
    slices = endpoint_slice("svc", "v1", *(("127.0.0.1", port) for port in ports))
    mesh = mesh_of(service("svc", 80), slices, YAML.split("---\n")[-1], telemetry=False)
    colour = COLOURS[0].values[0]
    try:
        with colour.library.Client(transport=colour.faces.MeshTransport(mesh), timeout=30) as client:
            for _ in range(100):
                response = client.get("http://svc/")
                assert response.json()["name"] == "quick"
                if ended.is_set() or (response.extensions["mesh"].attempts == 2 and ended.wait(5)):
                    break
            assert ended.is_set(), "the loser's connection is closed at once"
            assert taken(mesh) == [(0, 0, 0)]
    finally:
        mesh.close()
        listener.close()
