"""Two hundred requests wait for four connections over real sockets; some give up: in order, bounded, nothing lost."""

from __future__ import annotations

import asyncio
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from meshlib import AsyncMeshClient, MeshClient
from meshlib.testing import mesh_of
from tests.conftest import endpoint_slice, service

MOST = 4
POLICY = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc}}
spec: {{host: svc, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {MOST}}}}}}}}}
"""


class Counting(ThreadingHTTPServer):
    """Remembers in which order requests came, how many at a time, over how many connections."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.order, self.now, self.most, self.connections = threading.Lock(), [], 0, 0, 0
        self.answers = threading.Event()
        self.answers.set()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def process_request(self, request, client_address):
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        with self.server.lock:
            self.server.order.append(int(self.path[1:]))
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        self.server.answers.wait(30)
        time.sleep(0.005)
        with self.server.lock:
            self.server.now -= 1
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


def world():
    server = Counting()
    slices = endpoint_slice("svc", "v1", ("127.0.0.1", server.server_address[1]))
    return server, mesh_of(service("svc", 80), slices, POLICY, telemetry=False)


def ended(server, mesh):
    [cluster] = mesh.state.clusters()
    assert (cluster.active, cluster._gate.inside, cluster._gate.pending) == (0, 0, 0)
    mesh.close()
    server.shutdown()
    server.server_close()


def test_tasks_wait_in_their_order_and_those_that_give_up_lose_nothing():
    server, mesh = world()

    async def main():
        async with AsyncMeshClient(mesh, timeout=30) as client:
            await client.get("http://svc/0")
            server.answers.clear()  # else some of those that are to give up may have been served by then
            tasks = []
            for number in range(1, 201):
                tasks.append(asyncio.create_task(client.get(f"http://svc/{number}")))
                await asyncio.sleep(0)
            gone = tasks[50::3]
            for task in gone:
                task.cancel()
            server.answers.set()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert sum(isinstance(each, asyncio.CancelledError) for each in found) == len(gone)
            assert all(each.status_code == 200 for each in found if not isinstance(each, BaseException))
            return {number for number, task in enumerate(tasks, 1) if task in gone}

    gone = asyncio.run(main())
    assert server.most <= MOST
    waited = [number for number in server.order if number > MOST]
    assert not gone & set(waited)
    assert len(waited) == 200 - MOST - len(gone)
    late = [abs(place - number) for place, number in zip(sorted(waited), waited, strict=True)]
    assert max(late) <= 3 * MOST, "first come, first served, as exactly as four connections at once can tell"
    ended(server, mesh)


def test_threads_share_the_connections_and_leave_nothing():
    server, mesh = world()
    statuses = []
    with MeshClient(mesh, timeout=30) as client:
        call = [
            threading.Thread(
                target=lambda number=number: statuses.append(client.get(f"http://svc/{number}").status_code)
            )
            for number in range(200)
        ]
        for each in call:
            each.start()
        for each in call:
            each.join(30)
    assert statuses == [200] * 200
    assert server.most <= MOST
    assert server.connections <= 2 * MOST, "connections are kept, not made anew"
    ended(server, mesh)
