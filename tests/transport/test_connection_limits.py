"""How many connections a cluster has, those that rest included, and how many requests may wait for one."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress

import httpx
import pytest
import trio

from meshlib import errors
from meshlib.dataplane.policies.gate import Gate
from meshlib.httpx import AsyncMeshTransport, MeshTransport
from meshlib.testing import mesh_of
from tests.conftest import endpoint_slice, service

RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc}}
spec: {{host: svc, trafficPolicy: {{loadBalancer: {{simple: RANDOM}}, {policy}}}}}
"""


class Server:
    """Answers each request over HTTP/1.1 after a moment; knows how many connections are open."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.lock, self.open, self.made = threading.Lock(), 0, 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with self.lock:
                    self.open += 1
                    self.made += 1
                threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock):
        with sock, suppress(OSError):
            while sock.recv(65536):
                time.sleep(0.002)
                sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        with self.lock:
            self.open -= 1

    def close(self):
        self._listener.close()


class Mute(Server):
    """Takes connections and says nothing: no TLS handshake and no HTTP/2 settings ever come."""

    def _talk(self, sock):
        with sock, suppress(OSError):
            while sock.recv(65536):
                pass


def burst(mesh, run, requests, url="http://svc/", **options):
    """So many requests at once; answers and errors."""
    outcomes = []

    def threads():
        def call():
            try:
                outcomes.append(client.get(url))
            except Exception as error:
                outcomes.append(error)

        with httpx.Client(transport=MeshTransport(mesh, **options), timeout=None) as client:
            workers = [threading.Thread(target=call) for _ in range(requests)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join(30)

    async def tasks():
        import anyio

        async def call():
            try:
                outcomes.append(await client.get(url))
            except Exception as error:
                outcomes.append(error)

        face = AsyncMeshTransport(mesh, **options)
        async with httpx.AsyncClient(transport=face, timeout=None) as client, anyio.create_task_group() as group:
            for _ in range(requests):
                group.start_soon(call)

    {"threads": threads, "asyncio": lambda: asyncio.run(tasks()), "trio": lambda: trio.run(tasks)}[run]()
    return outcomes


def settled(servers, most):
    """How many connections are open, once no more than ``most`` are or it is too late."""
    ends = time.monotonic() + 10
    while (number := sum(server.open for server in servers)) > most and time.monotonic() < ends:
        time.sleep(0.01)
    return number


@pytest.mark.parametrize("run", ["threads", "asyncio"])
def test_those_that_rest_count_and_the_one_that_rested_longest_makes_way(run):
    with ExitStack() as stack:
        servers = [Server() for _ in range(3)]
        for server in servers:
            stack.callback(server.close)
        slices = endpoint_slice("svc", "v1", *(("127.0.0.1", server.port) for server in servers))
        rule = RULE.format(policy="connectionPool: {tcp: {maxConnections: 4}}")
        mesh = stack.enter_context(mesh_of(service("svc", 80), slices, rule, telemetry=False))
        with httpx.Client(transport=MeshTransport(mesh)) as keeper:
            for _ in range(20):
                keeper.get("http://svc/")
            assert settled(servers, 4) == 3, "one for each endpoint rests"
            assert sum(server.made for server in servers) == 3, "and is used again"
            outcomes = burst(mesh, run, 60)
            assert [answer.status_code for answer in outcomes] == [200] * 60
            [cluster] = mesh.state.clusters()
            assert settled(servers, 4) <= 4
            assert len(cluster._gate.connections) <= 4
            [told] = mesh.status().clusters
            assert (told["connections"], told["pending"]) == (0, 0)


def test_under_trio_every_endpoint_keeps_its_share():
    with ExitStack() as stack:
        servers = [Server() for _ in range(2)]
        for server in servers:
            stack.callback(server.close)
        slices = endpoint_slice("svc", "v1", *(("127.0.0.1", server.port) for server in servers))
        rule = RULE.format(policy="connectionPool: {tcp: {maxConnections: 4}}")
        mesh = stack.enter_context(mesh_of(service("svc", 80), slices, rule, telemetry=False))
        face = AsyncMeshTransport(mesh)

        async def main():
            async with httpx.AsyncClient(transport=face, timeout=None) as client:
                async with trio.open_nursery() as nursery:
                    for _ in range(60):
                        nursery.start_soon(client.get, "http://svc/")
                assert await trio.to_thread.run_sync(settled, servers, 4) <= 4

        trio.run(main)


@pytest.mark.parametrize("run", ["threads", "asyncio", "trio"])
@pytest.mark.parametrize("protocol", ["https", "http2"])
def test_a_request_whose_connection_is_being_made_is_pending(run, protocol):
    server = Mute()
    pool = "connectionPool: {tcp: {connectTimeout: 1s}, http: {http1MaxPendingRequests: 2%s}}"
    policy = pool % (", h2UpgradePolicy: UPGRADE" if protocol == "http2" else "")
    policy += ", tls: {mode: SIMPLE}" if protocol == "https" else ""
    slices = endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    rules = RULE.format(policy=policy), NO_RETRIES
    try:
        with mesh_of(service("svc", 80), slices, *rules, telemetry=False) as mesh:
            outcomes = burst(mesh, run, 5)
            refused = [error for error in outcomes if isinstance(error, errors.Overflow)]
            waited = [error for error in outcomes if isinstance(error, httpx.ConnectTimeout)]
            assert (len(refused), len(waited)) == (3, 2), outcomes
            assert {error.flag for error in refused} == {"UO"}
            assert "2 requests wait for a connection" in str(refused[0])
            [cluster] = mesh.state.clusters()
            assert (cluster.active, cluster._gate.inside, cluster._gate.pending) == (0, 0, 0)
    finally:
        server.close()


NO_RETRIES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: svc}
spec:
  hosts: [svc]
  http: [{retries: {attempts: 0}, route: [{destination: {host: svc}}]}]
"""


@pytest.mark.parametrize("run", ["threads", "asyncio", "trio"])
def test_requests_that_find_a_connection_are_not_pending(run):
    server = Server()
    slices = endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    rule = RULE.format(policy="connectionPool: {http: {http1MaxPendingRequests: 1}}")
    try:
        with mesh_of(service("svc", 80), slices, rule, telemetry=False) as mesh:
            for _ in range(3):
                [answer] = burst(mesh, run, 1)
                assert answer.status_code == 200
    finally:
        server.close()


def test_a_request_that_has_waited_is_never_refused_afterwards():
    gate = Gate(1, 1)
    first, second = gate.enter(lambda: None), gate.enter(lambda: None)
    assert (first.admitted, second.admitted, gate.enter(lambda: None)) == (True, False, None)
    gate.leave(first)
    assert second.admitted
    assert gate.enter(lambda: None) is None, "who was let in is pending until a connection carries it"
    assert gate.awaits_connection(second)
    gate.has_connection(second)
    assert gate.pending == 0
    assert gate.enter(lambda: None) is not None


def test_one_that_closed_before_it_was_said_to_rest_is_not_remembered():
    class Connection:
        """Closed by the thread that took it first."""

    connections, connection = Gate(1).connections, Connection()
    connections.making()
    connections.made(connection)
    connections.closed(connection)
    connections.rests(connection, connection)
    assert not connections._resting
    assert len(connections) == 0


def test_threads_that_take_and_give_while_others_make_way_disturb_nobody():
    class Connection:
        """Rests and is taken, again and again."""

    class Keeper:
        def make_way(self, connection):
            connections.closed(connection)

    connections, keeper, errors = Gate(8).connections, Keeper(), []

    def use():
        try:
            for _ in range(300):
                connection = Connection()
                connections.making()
                connections.made(connection)
                for _ in range(5):
                    connections.rests(connection, keeper)
                    connections.taken(connection)
                connections.rests(connection, keeper)
        except Exception as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        workers = [threading.Thread(target=use) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert not errors
    gc.collect()
    assert len(connections) <= 8


def test_connections_of_an_event_loop_that_is_gone_count_no_longer():
    class Connection:
        """Of a loop that told nobody."""

    class Keeper:
        def make_way(self, connection):
            asked.append(connection)

    connections, asked, keeper = Gate(1).connections, [], Keeper()
    lost = Connection()
    connections.making()
    connections.made(lost)
    connections.rests(lost, keeper)
    del lost
    gc.collect()
    connections.making()
    assert (asked, len(connections)) == ([], 1)
