"""Connections for tasks, under asyncio and trio: anyio byte streams."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

from meshlib.model.policy import Tunnel
from meshlib.tcp import tunnel
from meshlib.tcp.connector import Connector, Opening, Plan
from meshlib.tcp.lease import Lease
from meshlib.transport.cooperative import running_loop
from meshlib.transport.eyeballs import race
from meshlib.transport.proxy_header import header_of
from meshlib.transport.sockets import tune

__all__ = ["MeshStream", "open_stream"]


class MeshStream(ByteStream):
    """A connection that ends its lease when it is closed or dropped.

    Attributes:
        lease: What it counts for; tells the endpoint.
    """

    def __init__(self, stream: ByteStream, lease: Lease) -> None:
        self._stream = stream
        self._loop = running_loop()
        self.lease = lease
        lease.connected(partial(stream.extra(SocketAttribute.raw_socket).shutdown, socket.SHUT_RDWR))

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """At least one byte; ``anyio.EndOfStream`` when no more come."""
        data = await self._stream.receive(max_bytes)
        self.lease.moved(received=len(data))
        return data

    async def send(self, item: bytes) -> None:
        """All of it."""
        await self._stream.send(item)
        self.lease.moved(sent=len(item))

    async def send_eof(self) -> None:
        """No more will be sent. Over TLS that cannot be said."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close; the connection stops counting at once, also when this is cancelled."""
        self.lease.close()
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Those of the socket and of TLS."""
        return self._stream.extra_attributes

    def __del__(self) -> None:
        lease = self.__dict__.get("lease")
        if lease is not None and not lease.ended:
            lease.close()
            _close_soon(self._loop, self._stream.aclose)


async def open_stream(connector: Connector, opening: Opening) -> MeshStream:
    """A connected byte stream.

    Raises:
        MeshError: What kept the connection from being made; an ``OSError`` too.
    """
    while True:
        lease, limit = opening.lease(), 0.0
        try:
            plan = opening.plan(lease)
            limit = plan.limit
            with anyio.fail_after(plan.limit):
                stream = await _dial(plan)
            return MeshStream(stream, lease)
        except BaseException as error:
            wait = opening.failed(lease, error)
            if wait is None:
                raise (opening.error(error, limit) if isinstance(error, Exception) else error) from error.__cause__
        await connector.clock.asleep(wait)


async def _dial(plan: Plan) -> ByteStream:
    stream = await _connect(plan)
    try:
        raw = stream.extra(SocketAttribute.raw_socket)
        if plan.settings.proxy_protocol:
            await stream.send(header_of(plan.settings.proxy_protocol, raw, plan.dialled))
        if plan.around:
            stream = await _secured(stream, plan)
        if plan.tunnel is not None:
            await _tunnelled(stream, plan.tunnel)
        if not plan.around:
            stream = await _secured(stream, plan)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(stream)
        raise
    return stream


async def _connect(plan: Plan) -> ByteStream:
    if plan.addresses[0].startswith("unix://"):
        return await anyio.connect_unix(plan.addresses[0][7:])
    port = plan.port
    stream = await race(plan.addresses, lambda each: anyio.connect_tcp(each, port), anyio.aclose_forcefully)
    tune(stream.extra(SocketAttribute.raw_socket), plan.settings.tcp_keepalive)
    return stream


async def _secured(stream: ByteStream, plan: Plan) -> ByteStream:
    if plan.tls is None:
        return stream
    return await TLSStream.wrap(
        stream, hostname=plan.server_name, ssl_context=plan.tls, server_side=False, standard_compatible=False
    )


async def _tunnelled(stream: ByteStream, through: Tunnel) -> None:
    await stream.send(tunnel.request(through))
    answer = tunnel.Answer()
    while not answer.feed(await _byte(stream)):
        pass


async def _byte(stream: ByteStream) -> bytes:
    try:
        return await stream.receive(1)
    except anyio.EndOfStream:
        return b""


_closing: set[asyncio.Task[None]] = set()


def _close_soon(loop: Any, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have the event loop close it, from whichever thread collects the garbage."""
    with contextlib.suppress(Exception):  # a loop that is gone took its connections with it
        if isinstance(loop, asyncio.AbstractEventLoop):
            loop.call_soon_threadsafe(_spawn, close)
        else:
            import trio

            loop.run_sync_soon(trio.lowlevel.spawn_system_task, close)


def _spawn(close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    task = asyncio.ensure_future(close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)
