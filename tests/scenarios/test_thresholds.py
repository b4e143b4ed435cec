"""What bounds a cluster under real concurrency: the retry budget, and requests under way over HTTP/2."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from contextlib import suppress

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
import trio

from meshlib import errors
from meshlib.httpx import AsyncMeshTransport, MeshTransport
from meshlib.testing import ScriptedTransport, mesh_of
from tests.conftest import endpoint_slice, service

CALLS = 1000
BUDGET = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc}
spec: {host: svc, trafficPolicy: {retryBudget: {percent: 20, minRetryConcurrency: 3}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: svc}
spec:
  hosts: [svc]
  http: [{retries: {attempts: 3, retryOn: 5xx, backoff: 1ms}, route: [{destination: {host: svc}}]}]
"""


class Waves(ScriptedTransport):
    """Answers 503, to all calls at once: no attempt is answered before every call that is not over waits for an answer.

    So a whole burst fails before the first of it comes back.
    """

    def __init__(self, look):
        super().__init__({"10.0.0.1:80": [503], "10.0.0.2:80": [503]})
        self.live, self.sizes, self._held, self._lock, self._look = CALLS, [], [], threading.Lock(), look

    def hold(self, release):
        with self._lock:
            self._held.append(release)
        self._go()

    def over(self):
        with self._lock:
            self.live -= 1
        self._go()

    def _go(self):
        with self._lock:
            if not self._held or len(self._held) < self.live:
                return
            released, self._held = self._held, []
        self.sizes.append(len(released))
        self._look()
        for release in released:
            release()

    def send(self, target, request):
        held = threading.Event()
        self.hold(held.set)
        assert held.wait(60)
        return super().send(target, request)

    def cooperative(self):
        return CooperativeWaves(self)


class CooperativeWaves:
    keeps_deadlines = False

    def __init__(self, waves):
        self.waves = waves

    async def send(self, target, request):
        held = asyncio.Event()
        self.waves.hold(held.set)
        await held.wait()
        return self.waves._answer(target, request)

    async def aclose(self):
        """Nothing is open."""


def in_threads(mesh, waves):
    statuses = []

    def call():
        statuses.append(client.get("http://svc/").status_code)
        waves.over()

    with httpx.Client(transport=MeshTransport(mesh, transport=waves), timeout=None) as client:
        workers = [threading.Thread(target=call) for _ in range(CALLS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
    return statuses


def in_tasks(mesh, waves):
    async def main():
        async def call():
            response = await client.get("http://svc/")
            waves.over()
            return response.status_code

        face = AsyncMeshTransport(mesh, transport=waves.cooperative())
        async with httpx.AsyncClient(transport=face, timeout=None) as client:
            return await asyncio.gather(*(call() for _ in range(CALLS)))

    return asyncio.run(main())


@pytest.mark.parametrize("run", [in_threads, in_tasks])
def test_a_budget_of_a_fifth_holds_while_a_thousand_calls_fail_at_once(run):
    slices = endpoint_slice("svc", "v1", ("10.0.0.1", 80), ("10.0.0.2", 80))
    with mesh_of(service("svc", 80), slices, BUDGET, telemetry=False) as mesh:
        mesh.ready()
        seen = []

        def look():
            (cluster,) = mesh.status().clusters
            seen.append((cluster["active"], cluster["retries"]))

        waves = Waves(look)
        assert run(mesh, waves) == [503] * CALLS
        assert waves.sizes[0] == CALLS
        assert 1100 < sum(waves.sizes) <= 1200, waves.sizes
        for (_, retries), before in zip(seen[1:], waves.sizes, strict=False):
            assert retries <= max(3, before // 5)
        (cluster,) = mesh.status().clusters
        assert (cluster["active"], cluster["retries"]) == (0, 0)
        assert cluster["retry_overflows"] >= CALLS - waves.sizes[1]


# HTTP/2 ---------------------------------------------------------------------------------------------------------------

LIMIT = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc}
spec: {host: svc, trafficPolicy: {connectionPool: {http: {http2MaxRequests: 2%s}}}}
"""


class Holding:
    """An HTTP/2 server that answers nothing until it is told to."""

    def __init__(self):
        self.released, self.streams = threading.Event(), threading.Semaphore(0)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.released.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock):
        connection, waiting = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False)), []
        connection.initiate_connection()
        with suppress(OSError), sock:
            while True:
                sock.sendall(connection.data_to_send())
                if select.select([sock], [], [], 0.01)[0]:
                    data = sock.recv(65536)
                    if not data:
                        return
                    for event in connection.receive_data(data):
                        if isinstance(event, h2.events.StreamEnded):
                            waiting.append(event.stream_id)
                            self.streams.release()
                while waiting and self.released.is_set():
                    stream = waiting.pop()
                    connection.send_headers(stream, [(":status", "200")])
                    connection.send_data(stream, b"ok", end_stream=True)


@pytest.mark.parametrize("run", ["threads", "asyncio", "trio"])
@pytest.mark.parametrize(("protocol", "more"), [("grpc", ""), ("http", ", h2UpgradePolicy: UPGRADE")])
def test_requests_under_way_over_http2_are_bounded_wherever_it_comes_from(run, protocol, more):
    server = Holding()
    slices = endpoint_slice("svc", "v1", ("127.0.0.1", server.port), protocol=protocol)
    try:
        with mesh_of(service("svc", 80, protocol), slices, LIMIT % more, telemetry=False) as mesh:
            answers = []

            def send():
                answers.append(fetch(mesh, run))

            workers = [threading.Thread(target=send) for _ in range(2)]
            for worker in workers:
                worker.start()
            for _ in workers:
                assert server.streams.acquire(timeout=20)
            with pytest.raises(errors.Overflow, match="2 requests are under way") as caught:
                fetch(mesh, run)
            assert caught.value.flag == "UO"
            server.released.set()
            for worker in workers:
                worker.join(20)
            assert [(answer.status_code, answer.http_version) for answer in answers] == [(200, "HTTP/2")] * 2
            assert fetch(mesh, run).status_code == 200, "there is room again"
            (cluster,) = mesh.status().clusters
            assert cluster["active"] == 0
    finally:
        server.close()


def fetch(mesh, run):
    if run == "threads":
        with httpx.Client(transport=MeshTransport(mesh)) as client:
            return client.get("http://svc/")

    async def main():
        async with httpx.AsyncClient(transport=AsyncMeshTransport(mesh)) as client:
            return await client.get("http://svc/")

    return asyncio.run(main()) if run == "asyncio" else trio.run(main)
