"""Real sockets: connections kept and given up, HTTP/2, deadlines, and every way a wire can fail."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
import trio

from meshlib import MeshClient, errors
from meshlib.dataplane.outcome import Failure
from meshlib.model.policy import ConnectionPool
from meshlib.testing import mesh_of
from meshlib.transport.base import Target, Timeouts, WireError, WireRequest
from meshlib.transport.blocking import BlockingPools
from meshlib.transport.cooperative import CooperativePools
from tests.conftest import endpoint_slice, service
from tests.scenarios.colours import COLOURS

RUNS = ["threads", "asyncio", "trio"]


class Script:
    """A server that does with each connection what a function says."""

    def __init__(self, handle: Callable[[socket.socket], None]) -> None:
        self.handle = handle
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = 0
        self.sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self.sockets.append(sock)
            threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, sock: socket.socket) -> None:
        try:
            self.handle(sock)
        except OSError:
            pass

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def script():
    made: list[Script] = []

    def make(handle: Callable[[socket.socket], None]) -> Script:
        made.append(Script(handle))
        return made[-1]

    yield make
    for each in made:
        each.close()


def head(sock: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = sock.recv(65536)
        if not chunk:
            raise OSError("the client hung up")
        received += chunk
    return received


def answering(raw: bytes) -> Callable[[socket.socket], None]:
    def handle(sock: socket.socket) -> None:
        while True:
            head(sock)
            sock.sendall(raw)

    return handle


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Case: Kept\r\n\r\nok"


def exchange(run: str, target: Target, count: int = 1, **options: Any) -> list[tuple[int, bytes]]:
    """Send some requests one after the other; status and body of each."""

    def request() -> WireRequest:
        timeouts = Timeouts(**options)
        return WireRequest(b"GET", b"/x", b"http", [(b"Host", b"svc")], timeouts=timeouts)

    if run == "threads":
        pools = BlockingPools()
        answers = []
        try:
            for _ in range(count):
                response = pools.send(target, request())
                try:
                    answers.append((response.status, b"".join(response.body)))
                finally:
                    response.body.close()
        finally:
            pools.close()
        return answers

    async def main() -> list[tuple[int, bytes]]:
        pools = CooperativePools()
        answers = []
        try:
            for _ in range(count):
                response = await pools.send(target, request())
                try:
                    answers.append((response.status, b"".join([chunk async for chunk in response.body])))
                finally:
                    await response.body.aclose()
        finally:
            await pools.aclose()
        return answers

    return asyncio.run(main()) if run == "asyncio" else trio.run(main)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    ("settings", "connections"),
    [
        (ConnectionPool(), 1),
        (ConnectionPool(max_requests_per_connection=1), 6),
        (ConnectionPool(max_requests_per_connection=2), 3),
        (ConnectionPool(max_connection_duration=0.0), 6),
    ],
)
def test_connections_are_kept_as_long_as_the_settings_say(run, settings, connections, script):
    server = script(answering(OK))
    assert exchange(run, Target("127.0.0.1", server.port, settings=settings), 6) == [(200, b"ok")] * 6
    assert server.connections == connections


@pytest.mark.parametrize("run", RUNS)
def test_a_connection_that_the_server_closed_meanwhile_is_not_used(run, script):
    def once(sock: socket.socket) -> None:
        head(sock)
        sock.sendall(OK)
        sock.close()

    server = script(once)
    target = Target("127.0.0.1", server.port)
    for _ in range(3):
        assert exchange(run, target) == [(200, b"ok")]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def closes(sock: socket.socket) -> None:
    head(sock)
    sock.close()


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    ("handle", "failure"),
    [
        (closes, Failure.CLOSED),
        (answering(b"SPAM\r\n\r\n"), Failure.PROTOCOL),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk"), Failure.PROTOCOL),
        (answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), Failure.PROTOCOL),
    ],
    ids=["closed", "garbage", "lengths", "chunks"],
)
def test_what_breaks_has_a_name(run, handle, failure, script):
    with pytest.raises(WireError) as caught:
        exchange(run, Target("127.0.0.1", script(handle).port))
    assert caught.value.failure is failure
    assert caught.value.sent


@pytest.mark.parametrize("run", RUNS)
def test_a_refused_connection_was_not_sent(run):
    with pytest.raises(WireError) as caught:
        exchange(run, Target("127.0.0.1", closed_port()))
    assert (caught.value.failure, caught.value.sent) == (Failure.CONNECT, False)


@pytest.mark.parametrize("run", RUNS)
def test_a_silent_server_is_a_read_timeout(run, script):
    with pytest.raises(WireError) as caught:
        exchange(run, Target("127.0.0.1", script(head).port), read=0.05)
    assert caught.value.failure is Failure.READ_TIMEOUT


def trickle(sock: socket.socket) -> None:
    head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        sock.sendall(b"x")
        time.sleep(0.02)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_trickling_body_does_not_outlive_the_timeout(colour, script):
    rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: svc}\n"
    rule += "spec: {hosts: [svc], http: [{timeout: 300ms, route: [{destination: {host: svc}}]}]}\n"
    slices = endpoint_slice("svc", "v1", ("127.0.0.1", script(trickle).port))
    with mesh_of(service("svc", 80), slices, rule, telemetry=False) as mesh:
        started = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded, match=r"timeout of 0\.3 s") as caught:
            colour.send(mesh, "GET", "http://svc/")
        assert time.monotonic() - started < 5
        assert isinstance(caught.value, colour.library.ReadTimeout)


@pytest.mark.parametrize("colour", COLOURS)
def test_more_requests_than_connections_wait_in_line_and_overflow(colour, script):
    rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: svc}\n"
    rule += "spec: {host: svc, trafficPolicy: {connectionPool: "
    rule += "{tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}}\n"
    taken, released = threading.Event(), threading.Event()

    def slow(sock: socket.socket) -> None:
        while True:
            head(sock)
            taken.set()
            released.wait(10)
            sock.sendall(OK)

    server = script(slow)
    slices = endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    with mesh_of(service("svc", 80), slices, rule, telemetry=False) as mesh:
        results: list[Any] = []

        def send() -> None:
            try:
                results.append(colour.send(mesh, "GET", "http://svc/").status_code)
            except errors.Overflow as error:
                results.append(error.flag)
                released.set()

        workers = [threading.Thread(target=send) for _ in range(3)]
        workers[0].start()
        assert taken.wait(20), "until a connection carries it, it is pending itself"
        for worker in workers[1:]:
            worker.start()
        for worker in workers:
            worker.join(20)
        assert sorted(map(str, results)) == ["200", "200", "UO"]
        assert [cluster.active for cluster in mesh.state.clusters()] == [0]


def h2_server(sock: socket.socket) -> None:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    sock.sendall(connection.data_to_send())
    while data := sock.recv(65536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.StreamEnded):
                connection.send_headers(event.stream_id, [(":status", "200"), ("x-version", "2")])
                connection.send_data(event.stream_id, b"over h2", end_stream=True)
        sock.sendall(connection.data_to_send())


@pytest.mark.parametrize("colour", COLOURS)
def test_http2_where_the_port_says_so(colour, script):
    server = script(h2_server)
    slices = endpoint_slice("svc", "v1", ("127.0.0.1", server.port), protocol="grpc")
    with mesh_of(service("svc", 80, "grpc"), slices, telemetry=False) as mesh:
        response = colour.send(mesh, "POST", "http://svc/x", content=b"hello")
        assert (response.status_code, response.text, response.http_version) == (200, "over h2", "HTTP/2")


@pytest.mark.parametrize("colour", COLOURS)
def test_bodies_stream_both_ways(colour, echo):
    server = echo("s")
    slices = endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    with mesh_of(service("svc", 80), slices, telemetry=False) as mesh:

        def chunks():
            for number in range(50):
                yield b"%04d" % number * 256

        async def achunks():
            for chunk in chunks():
                yield chunk

        content = chunks() if colour.run == "threads" else achunks()
        response = colour.send(mesh, "POST", "http://svc/", content=content)
        assert response.json()["body"] == b"".join(chunks()).decode()
        assert response.json()["headers"]["transfer-encoding"] == "chunked"
        assert response.extensions["mesh"].request_bytes == 50 * 1024
        assert response.extensions["mesh"].response_bytes == len(response.content)


def test_service_entries_none_dns_and_workloads(echo):
    none, dns, workload = echo("none"), echo("dns"), echo("workload")
    yaml = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: none}}
spec:
  hosts: [localhost]
  ports: [{{number: 81, targetPort: {none.port}, name: http, protocol: HTTP}}]
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: dns}}
spec:
  hosts: [dns.example]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: DNS
  endpoints: [{{address: localhost, ports: {{http: {dns.port}}}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: static}}
spec:
  hosts: [static.example]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  location: MESH_INTERNAL
  workloadSelector: {{labels: {{app: w}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: w1, labels: {{app: w}}}}
spec: {{address: 127.0.0.1, ports: {{http: {workload.port}}}}}
"""
    with mesh_of(yaml, telemetry=False) as mesh, MeshClient(mesh) as client:
        assert client.get("http://localhost:81/").json()["name"] == "none"
        assert client.get("http://dns.example/").json()["headers"]["host"] == "dns.example"
        assert client.get("http://static.example/").json()["name"] == "workload"


def test_istio_mutual_without_an_identity_is_never_plaintext(echo):
    server = echo("s")
    rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: svc}\n"
    rule += "spec: {host: svc, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}\n"
    slices = endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    with (
        mesh_of(service("svc", 80), slices, rule, telemetry=False) as mesh,
        MeshClient(mesh) as client,
        pytest.raises(httpx.ConnectError, match="ISTIO_MUTUAL needs a mesh identity"),
    ):
        client.get("http://svc/")
    assert server.seen == []


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("http2", [False, True])
def test_a_proxy_header_is_written_once_on_each_connection(run, http2, script):
    heads: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        line = b""
        while not line.endswith(b"\r\n"):
            line += sock.recv(1)
        heads.append(line)
        (h2_server if http2 else answering(OK))(sock)

    server = script(serve)
    target = Target("127.0.0.1", server.port, http2=http2, settings=ConnectionPool(proxy_protocol=1))
    assert [status for status, _ in exchange(run, target, 3)] == [200] * 3
    [head] = heads
    assert head.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
    assert head.endswith(b" %d\r\n" % server.port)
