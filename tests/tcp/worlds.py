"""Servers and meshes for raw connections, and one way to drive them from threads, asyncio and trio."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import trio

RUNS = ["threads", "asyncio", "trio"]


class Server:
    """Answers ``name:`` and what it was sent; remembers the first bytes of each connection, and who still is there."""

    def __init__(
        self, name: str, tls: ssl.SSLContext | None = None, greet: Callable[[socket.socket], bytes] | None = None
    ):
        self.name, self.tls, self.greet = name, tls, greet
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.heads: list[bytes] = []
        self.server_names: list[str | None] = []
        self.sockets: list[socket.socket] = []
        self.accepted = self.ended = 0
        if tls is not None:
            tls.sni_callback = lambda _sock, name, _context: self.server_names.append(name)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            self.sockets.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            if self.greet is not None:
                self.heads.append(self.greet(sock))
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True, suppress_ragged_eofs=True)
                self.sockets.append(sock)
            while data := sock.recv(65536):
                sock.sendall(self.name.encode() + b":" + data)
        self.ended += 1

    def stop(self) -> None:
        """No more connections, and those that stand are cut."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join(5)
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@contextlib.contextmanager
def servers(*made: Server) -> Iterator[None]:
    try:
        yield
    finally:
        for each in made:
            each.stop()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Line:
    """One connection in one colour, asked from plain code."""

    def __init__(self, ask: Callable[[bytes], bytes], close: Callable[[], None], raw: Any) -> None:
        self.ask, self.close, self.raw = ask, close, raw


@contextlib.contextmanager
def colour(run: str) -> Iterator[Callable[..., Line]]:
    """A function that opens connections of a mesh; for tasks an event loop runs in a thread meanwhile."""
    if run == "threads":

        def open_here(mesh: Any, host: str, port: int, **options: Any) -> Line:
            sock = mesh.open_tcp(host, port, **options)

            def ask(data: bytes) -> bytes:
                sock.settimeout(10)
                sock.sendall(data)
                return sock.recv(65536)

            return Line(ask, sock.close, sock)

        yield open_here
        return
    with anyio.from_thread.start_blocking_portal(run) as portal:

        def open_there(mesh: Any, host: str, port: int, **options: Any) -> Line:
            async def make() -> Any:
                return await mesh.aopen_tcp(host, port, **options)

            stream = portal.call(make)

            async def ask(data: bytes) -> bytes:
                with anyio.fail_after(10):
                    await stream.send(data)
                    try:
                        return await stream.receive()
                    except anyio.EndOfStream:
                        return b""

            return Line(lambda data: portal.call(ask, data), lambda: portal.call(stream.aclose), stream)

        yield open_there


def run_in(run: str, function: Callable[[], Any]) -> Any:
    return asyncio.run(function()) if run == "asyncio" else trio.run(function)


def entry(*ports: int, port: int = 6379, protocol: str = "TCP", name: str = "db.example", more: str = "") -> str:
    """A ServiceEntry with one endpoint for each port, on loopback."""
    endpoints = ", ".join(
        f"{{address: 127.0.0.1, ports: {{main: {each}}}, labels: {{version: v{number}}}}}"
        for number, each in enumerate(ports, 1)
    )
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}]
  ports: [{{number: {port}, name: main, protocol: {protocol}}}]
  resolution: STATIC
  location: MESH_INTERNAL
  endpoints: [{endpoints}]{more}
"""


def policy(text: str, host: str = "db.example", more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: policy}}
spec: {{host: {host}, trafficPolicy: {{{text}}}{more}}}
"""


def taken(mesh: Any) -> list[tuple[int, int, int]]:
    """Active and connections of every cluster, and of its endpoints together."""
    return [
        (c.active, sum(e.active for e in c.endpoints.values()), c._gate.inside if c._gate else 0)
        for c in mesh.state.clusters()
    ]


def nothing_taken(mesh: Any) -> bool:
    return all(each == (0, 0, 0) for each in taken(mesh)) and not len(mesh.connector.watch)
