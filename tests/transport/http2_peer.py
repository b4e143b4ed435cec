"""The server's end of HTTP/2 over a socket, for tests: scripted, on its own thread; and a way to send many at once."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from meshlib.model.policy import ConnectionPool
from meshlib.transport.base import Target, Timeouts, WireError, WireRequest
from meshlib.transport.blocking import BlockingPools
from meshlib.transport.cooperative import CooperativePools

RUNS = ["threads", "asyncio", "trio"]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Wire:
    """One connection that a server got.

    Attributes:
        h2: Its state.
        events: All that came, in order.
    """

    def __init__(self, sock: socket.socket, **settings: int) -> None:
        self.sock = sock
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        if settings:
            values = {SettingCodes[name]: value for name, value in settings.items()}
            self.h2.local_settings = Settings(client=False, initial_values=values)
        self.h2.initiate_connection()
        self.events: list[Event] = []
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def raw(self, *frames: bytes) -> None:
        self.flush()
        self.sock.sendall(b"".join(frames))

    def come(self) -> Iterator[Event]:
        """Events until the client closes."""
        while data := self.sock.recv(65536):
            for event in self.h2.receive_data(data):
                self.events.append(event)
                yield event
            self.flush()

    def until(self, kind: type[Event], count: int = 1) -> list[Any]:
        """Wait until so many events of a kind came since the start."""
        while len(found := [event for event in self.events if isinstance(event, kind)]) < count:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("the client closed")
            self.events += self.h2.receive_data(data)
            self.flush()
        return found

    def is_open(self, stream: int) -> bool:
        """Whether the client still wants it."""
        try:
            self.h2.local_flow_control_window(stream)
        except ProtocolError:
            return False
        return True

    def answer(self, stream: int, body: bytes = b"ok", status: int = 200, *more: tuple[str, str]) -> None:
        headers = [(":status", str(status)), *more]
        self.h2.send_headers(stream, headers, end_stream=not body)
        if body:
            self.h2.send_data(stream, body, end_stream=True)
        self.flush()


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def answering(sock: socket.socket) -> None:
    """Answer every stream, as it ends, with the path."""
    wire = Wire(sock)
    paths: dict[int, str] = {}
    for event in wire.come():
        if isinstance(event, RequestReceived):
            paths[event.stream_id] = dict(event.headers)[":path"]
        elif isinstance(event, StreamEnded):
            wire.answer(event.stream_id, paths[event.stream_id].encode())


def at(server: Any, **settings: Any) -> Target:
    return Target("127.0.0.1", server.port, http2=True, settings=ConnectionPool(**settings))


def ask(method: bytes = b"GET", body: Any = None, path: bytes = b"/x", **limits: Any) -> WireRequest:
    headers = [(b"Host", b"svc"), *limits.pop("headers", [])]
    if isinstance(body, bytes):
        headers.append((b"Content-Length", b"%d" % len(body)))
    timeouts = Timeouts(**{"deadline": time.monotonic() + 20, **limits})
    return WireRequest(method, path, b"http", headers, body, timeouts)


class Talk:
    """Sends in one colour; a context manager that closes its pools."""

    def __init__(self, run: str, target: Target) -> None:
        self.run = run
        self.target = target
        self.responses: list[Any] = []

    def each(self, *requests: WireRequest) -> list[Any]:
        """One after the other, on one set of pools."""
        return self._main(requests, together=False)

    def all(self, *requests: WireRequest) -> list[Any]:
        """At once: status and body of each, or how it failed, as ``(Failure, sent)``."""
        return self._main(requests, together=True)

    def _main(self, requests: tuple[WireRequest, ...], *, together: bool) -> list[Any]:
        found: list[Any] = [None] * len(requests)
        if self.run == "threads":
            self._with_threads(requests, found, together)
        else:

            async def main() -> None:
                pools = CooperativePools()
                await self._with_tasks(pools, requests, found, together)
                await pools.aclose()

            asyncio.run(main()) if self.run == "asyncio" else trio.run(main)
        return found

    def _with_threads(self, requests: Any, found: list[Any], together: bool) -> None:
        pools = BlockingPools()

        def one(place: int) -> None:
            try:
                response = pools.send(self.target, requests[place])
                self.responses.append(response)
                found[place] = (response.status, b"".join(response.body))
                response.body.close()
            except WireError as error:
                found[place] = (error.failure, error.sent)

        threads = [threading.Thread(target=one, args=(place,)) for place in range(len(requests))]
        for thread in threads:
            thread.start()
            if not together:
                thread.join(30)
        for thread in threads:
            thread.join(30)
        pools.close()

    async def _with_tasks(self, pools: CooperativePools, requests: Any, found: list[Any], together: bool) -> None:
        async def one(place: int) -> None:
            request = requests[place]
            if request.body is not None and not isinstance(request.body, bytes):
                request.body = in_tasks(request.body)
            try:
                response = await pools.send(self.target, request)
                self.responses.append(response)
                found[place] = (response.status, b"".join([chunk async for chunk in response.body]))
                await response.body.aclose()
            except WireError as error:
                found[place] = (error.failure, error.sent)

        if not together:
            for place in range(len(requests)):
                await one(place)
        elif self.run == "asyncio":
            await asyncio.gather(*map(one, range(len(requests))))
        else:
            async with trio.open_nursery() as nursery:
                for place in range(len(requests)):
                    nursery.start_soon(one, place)


async def in_tasks(pieces: Any) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
