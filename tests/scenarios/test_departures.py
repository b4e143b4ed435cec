"""Endpoints that drain or go: no new request, running ones finish, and connections are let go when idle."""

from __future__ import annotations

import asyncio
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import trio

from meshlib import AsyncMeshClient, Mesh, MeshClient
from meshlib.dataplane.departed import departed
from meshlib.testing import StaticProvider
from meshlib.transport.base import Target, WireRequest
from meshlib.transport.kept.blocking import KeptPool
from tests.conftest import service


class Slow(ThreadingHTTPServer):
    """Answers ``/slow`` only when told; knows which of its connections are open."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.go, self.began = threading.Event(), threading.Event()
        self.open = self.requests = 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        return self.server_address[1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Slow

    def setup(self) -> None:
        super().setup()
        self.server.open += 1

    def finish(self) -> None:
        self.server.open -= 1
        super().finish()

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(200)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"do")
        if self.path == "/slow":
            self.server.began.set()
            self.server.go.wait(20)
        self.wfile.write(b"ne")

    def log_message(self, *args) -> None: ...


@pytest.fixture
def servers():
    made = [Slow(), Slow()]
    yield made
    for server in made:
        server.go.set()
        server.shutdown()
        server.server_close()


def slices(*endpoints: tuple[int, str]) -> str:
    text = service("shop")
    for number, (port, conditions) in enumerate(endpoints):
        text += f"""---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: shop-{number}, labels: {{kubernetes.io/service-name: shop}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1], conditions: {{{conditions}}}}}]
"""
    return text


def until(holds, limit: float = 10.0) -> None:
    ends = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.01)


URL = "http://shop:9080"
GOING = "ready: false, serving: true, terminating: true"


@pytest.mark.parametrize("left", [GOING, "ready: false, serving: false, terminating: true", ""])
def test_one_that_terminates_or_is_gone_gets_nothing_new_and_finishes_what_runs(servers, left):
    first, second = servers
    provider = StaticProvider(slices((first.port, "ready: true")))
    answers: list[httpx.Response] = []
    with Mesh(provider) as mesh, MeshClient(mesh) as client:
        client.get(f"{URL}/")
        running = threading.Thread(target=lambda: answers.append(client.get(f"{URL}/slow")))
        running.start()
        first.began.wait(5)
        rest = (second.port, "ready: true")
        provider.replace(slices((first.port, left), rest) if left else slices(rest))
        until(lambda: mesh.snapshot.version > 1)
        before = first.requests
        for _ in range(20):
            client.get(f"{URL}/")
        assert (first.requests, second.requests) == (before, 20)
        first.go.set()
        running.join(10)
        assert answers[0].text == "done"
        until(lambda: first.open == 0)
        assert second.open > 0


def test_idle_connections_to_one_that_left_are_closed_at_once(servers):
    first, second = servers
    provider = StaticProvider(slices((first.port, "ready: true")))
    with Mesh(provider) as mesh, MeshClient(mesh) as client:
        client.get(f"{URL}/")
        assert first.open == 1
        provider.replace(slices((second.port, "ready: true")))
        until(lambda: first.open == 0)
        client.get(f"{URL}/")
        assert second.open == 1


def test_they_are_closed_when_the_whole_service_goes(servers):
    first, _ = servers
    provider = StaticProvider(slices((first.port, "ready: true")))
    with Mesh(provider) as mesh, MeshClient(mesh) as client:
        client.get(f"{URL}/")
        provider.replace(service("other"))
        until(lambda: first.open == 0)


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_connections_of_tasks_are_let_go_too(servers, library):
    first, second = servers
    provider = StaticProvider(slices((first.port, "ready: true")))

    async def main() -> None:
        pause = asyncio.sleep if library == "asyncio" else trio.sleep
        async with Mesh(provider) as mesh, AsyncMeshClient(mesh) as client:
            await client.get(f"{URL}/")
            assert first.open == 1
            provider.replace(slices((second.port, "ready: true")))
            for _ in range(500):
                if not first.open:
                    break
                await pause(0.01)
            assert first.open == 0
            assert (await client.get(f"{URL}/")).text == "done"

    asyncio.run(main()) if library == "asyncio" else trio.run(main)


def test_the_same_endpoints_again_close_nothing(servers):
    first, _ = servers
    provider = StaticProvider(slices((first.port, "ready: true")))
    with Mesh(provider) as mesh, MeshClient(mesh) as client:
        client.get(f"{URL}/")
        (connection,) = (pool for pool in mesh.blocking._pools.values())
        for number in range(20):
            version = mesh.snapshot.version
            provider.replace(slices((first.port, "ready: true")) + f"---\n{service(f'other{number}')}")
            until(lambda version=version: mesh.snapshot.version > version)
            client.get(f"{URL}/")
        assert list(mesh.blocking._pools.values()) == [connection]
        assert (first.open, len(connection._open)) == (1, 1)


def test_an_address_that_another_cluster_still_names_is_kept():
    both = slices((1, "ready: true")) + "---\n" + slices((1, "ready: true")).replace("shop", "store")
    provider = StaticProvider(both)
    with Mesh(provider) as mesh:
        mesh.ready()
        states = []
        for name in ("shop", "store"):
            cluster = mesh.prepared.cluster(f"outbound|9080||{name}.default.svc.cluster.local")
            (state,) = cluster.members
            state.target = (None, None, state.endpoint)
            states.append(state)
        provider.replace(slices((1, "ready: true")))
        until(lambda: states[1].left_at is not None)
        assert departed(mesh.state, mesh.prepared, 0.0) == set()
        assert states[0].target is not None


def test_pools_of_httpcore_close_when_their_last_exchange_is_over(servers):
    first, _ = servers
    pool = KeptPool(Target("127.0.0.1", first.port))
    reply = pool.send(WireRequest(b"GET", b"/slow", b"http", [(b"Host", b"shop")]))
    pool.retire()
    assert first.open == 1, "what runs there runs on"
    first.go.set()
    assert b"".join(reply.body) == b"done"
    reply.body.close()
    until(lambda: first.open == 0)
