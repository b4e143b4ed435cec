"""Nothing is processed twice unasked, whenever a connection breaks; nothing leaks while much is retried."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import contextmanager

import anyio
import pytest

from meshlib.testing import ScriptedTransport, mesh_of
from tests.conftest import endpoint_slice, service
from tests.scenarios.colours import COLOURS

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
RULES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: svc}
spec:
  hosts: [svc]
  http:
  - match: [{uri: {prefix: /asked}}]
    retries: {attempts: 2, retryOn: "reset,503", backoff: 1ms}
    route: [{destination: {host: svc}}]
  - route: [{destination: {host: svc}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc}
spec: {host: svc, trafficPolicy: {connectionPool: {tcp: {maxConnections: 2}}}}
"""


class Peer:
    """A server that counts the requests that it has whole, and breaks off where it is told.

    That is after nothing (``unread``), the ``head``, a ``part`` of the body, the ``body``, a part of the answer's head
    (``answer``) or of its body (``reply``), once ``first`` exchanges of the connection went well.
    """

    def __init__(self, breaks="", first=0, status=200):
        self.breaks, self.first, self.status = breaks, first, status
        self.bodies = self.connections = self.open = self.most = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def port(self):
        return self._listener.getsockname()[1]

    def close(self):
        self._listener.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection):
        with self._lock:
            self.connections += 1
            self.open += 1
            self.most = max(self.most, self.open)
        try:
            for number in range(1000):
                if not self._exchange(connection, self.breaks if number >= self.first else ""):
                    break
        except OSError:
            """The client broke off itself."""
        finally:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            with self._lock:
                self.open -= 1

    def _exchange(self, connection, breaks):
        if breaks == "unread":
            return bool(connection.recv(1) and False)
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(1)
            if not piece:
                return False
            head += piece
        if breaks == "head":
            return False
        length = next(int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))
        for place in range(length):
            if breaks == "part" and place == length // 2:
                return False
            if not connection.recv(1):
                return False
        with self._lock:
            self.bodies += 1
        if breaks == "body":
            return False
        answer = b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % self.status
        connection.sendall(answer[: {"answer": 7, "reply": len(answer) - 1}.get(breaks, len(answer))])
        return not breaks


@contextmanager
def mesh_to(*peers):
    slices = endpoint_slice("svc", "v1", *(("127.0.0.1", peer.port) for peer in peers))
    mesh = mesh_of(service("svc", 80), slices, RULES, telemetry=False)
    try:
        yield mesh
        for cluster in mesh.state.clusters():
            assert (cluster.active, cluster.retries) == (0, 0)
    finally:
        mesh.close()
        for peer in peers:
            peer.close()


POINTS = ["unread", "head", "part", "body", "answer", "reply"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("first", [0, 1], ids=["new", "kept-alive"])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_post_is_processed_once_wherever_the_connection_breaks(colour, first, point):
    peers = [Peer(point, first), Peer(point, first)]
    with mesh_to(*peers) as mesh:

        def post(client):
            return client.post("http://svc/", content=b"0123456789")

        if colour.run == "threads":
            with colour.library.Client(transport=colour.faces.MeshTransport(mesh)) as client:
                before = 0
                with pytest.raises(colour.library.TransportError):
                    while True:
                        post(client)
                        before += 1
        else:

            async def main():
                async with colour.library.AsyncClient(transport=colour.faces.AsyncMeshTransport(mesh)) as client:
                    count = 0
                    with pytest.raises(colour.library.TransportError):
                        while True:
                            await post(client)
                            count += 1
                    return count

            before = colour.main(main)
        time.sleep(0.02)
        processed = sum(peer.bodies for peer in peers) - before
        assert processed == (0 if point in ("unread", "head", "part") else 1)


@pytest.mark.parametrize("colour", COLOURS)
def test_where_the_config_asks_a_broken_exchange_is_repeated_elsewhere(colour):
    peers = [Peer("body"), Peer("body"), Peer()]
    with mesh_to(*peers) as mesh:
        response = colour.send(mesh, "POST", "http://svc/asked", content=b"0123456789")
        assert response.status_code == 200
        assert [peer.bodies for peer in peers][2] == 1
        assert max(peer.bodies for peer in peers) == 1, "nobody is asked twice"


@pytest.mark.parametrize("colour", COLOURS)
def test_fifty_calls_that_are_retried_keep_to_two_connections_and_leave_none(colour):
    peer = Peer(status=503)
    with mesh_to(peer) as mesh:
        if colour.run == "threads":
            with colour.library.Client(transport=colour.faces.MeshTransport(mesh), timeout=30) as client:
                seen = []

                def call():
                    seen.append(client.post("http://svc/asked", content=b"x").status_code)

                threads = [threading.Thread(target=call) for _ in range(50)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(60)
        else:

            async def main():
                seen = []
                face = colour.faces.AsyncMeshTransport(mesh)
                async with colour.library.AsyncClient(transport=face, timeout=30) as client:

                    async def call():
                        seen.append((await client.post("http://svc/asked", content=b"x")).status_code)

                    async with anyio.create_task_group() as group:
                        for _ in range(50):
                            group.start_soon(call)
                return seen

            seen = colour.main(main)
        assert seen == [503] * 50
        assert peer.bodies == 150
        gates = [cluster._gate for cluster in mesh.state.clusters() if cluster._gate is not None]
        assert [(gate.inside, gate.pending) for gate in gates] == [(0, 0)]
    ends = time.monotonic() + 10
    while peer.open:
        assert time.monotonic() < ends, "every socket is closed"
        time.sleep(0.01)


POLICIES = {
    "ROUND_ROBIN": "simple: ROUND_ROBIN",
    "LEAST_REQUEST": "simple: LEAST_REQUEST",
    "RANDOM": "simple: RANDOM",
    "ring": "consistentHash: {httpHeaderName: x-user}",
    "Maglev": "consistentHash: {httpHeaderName: x-user, maglev: {}}",
    "PEAK_EWMA": "",
    "CLIENT_SIDE_WEIGHTED_ROUND_ROBIN": "",
}


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize(("servers", "most"), [(3, 1), (2, 1), (1, 3)])
def test_no_call_meets_the_bad_one_of_several_twice_whatever_balances(kind, servers, most):
    """With consistentHash where it is asked for; a server that is alone is met by every attempt."""
    balanced = RULES.replace("trafficPolicy: {", f"trafficPolicy: {{loadBalancer: {{{POLICIES[kind]}}}, ")
    balanced = balanced.replace("retries: {attempts: 2,", "retries: {attempts: 2, retryIgnorePreviousHosts: true,")
    algorithm = f"spec: {{hosts: [svc], loadBalancer: {{algorithm: {kind}}}}}"
    own = f"apiVersion: meshlib.dev/v1alpha1\nkind: ClientPolicy\nmetadata: {{name: svc}}\n{algorithm}"
    slices = endpoint_slice("svc", "v1", *((f"10.0.0.{n}", 80) for n in range(1, servers + 1)))
    mesh = mesh_of(service("svc", 80), slices, balanced, *([] if POLICIES[kind] else [own]), telemetry=False)
    wire, colour = ScriptedTransport({"10.0.0.1:80": [503]}), COLOURS[0].values[0]
    met = []
    try:
        with colour.library.Client(transport=colour.faces.MeshTransport(mesh, transport=wire)) as client:
            for number in range(60):
                before = wire.seen.count("10.0.0.1:80")
                answer = client.get("http://svc/asked", headers={"x-user": f"user-{number}"})
                assert answer.status_code == (200 if servers > 1 else 503)
                met.append(wire.seen.count("10.0.0.1:80") - before)
    finally:
        mesh.close()
    assert max(met) <= most
    assert servers > 1 or set(met) == {most}


def test_a_call_through_two_layers_counts_once_for_the_budget():
    budget = "spec: {host: svc, trafficPolicy: {retryBudget: {percent: 20, budgetInterval: 60s}}}"
    rules = RULES[: RULES.index("spec: {host: svc, traffic")] + budget
    mesh = mesh_of(service("svc", 80), endpoint_slice("svc", "v1", ("10.0.0.1", 80)), rules, telemetry=False)
    wire, colour = ScriptedTransport({"10.0.0.1:80": [503, 503, 200]}), COLOURS[0].values[0]
    try:
        inner = colour.faces.MeshTransport(mesh, transport=wire)
        outer = colour.faces.MeshTransport(mesh, passthrough=inner, transport=wire)
        with colour.library.Client(transport=outer) as client:
            assert client.get("http://svc/asked").status_code == 200
        (cluster,) = [each for each in mesh.state.clusters() if each._window is not None]
        assert cluster._window.count(mesh.clock.now()) == 1, "one call, three attempts"
    finally:
        mesh.close()
