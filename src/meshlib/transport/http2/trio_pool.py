"""HTTP/2 under trio: the pool of one endpoint, and a connection that two tasks of trio's own feed and empty."""

from __future__ import annotations

import contextlib
import math
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Any

import trio

from meshlib.transport.base import Target
from meshlib.transport.eyeballs import race
from meshlib.transport.handshake import Sessions
from meshlib.transport.http2.cooperative import CooperativeConnection, Shelving
from meshlib.transport.http2.cooperative_pool import CooperativeHttp2Pool, Http1Pool
from meshlib.transport.http2.stream import Stream
from meshlib.transport.kept.cooperative import AsyncKeptPool
from meshlib.transport.proxy_header import header_of
from meshlib.transport.sockets import tune

__all__ = ["TrioHttp2Pool"]

_READ_SIZE = 64 * 1024
_PIECE = 64 * 1024
_UNSENT = 1024 * 1024
"""Bytes that a peer may leave untaken while it makes us answer; uploads stop long before."""

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Connection(CooperativeConnection):
    """See ``CooperativeConnection``.

    Args:
        target: Where it leads.
        stream: The connected stream, under TLS when that is asked for.
        pool: Is told of room, and of the end.
        sessions: Where the TLS session is remembered for the next connection; None for plaintext.
    """

    def __init__(self, target: Target, stream: trio.abc.Stream, pool: Shelving, sessions: Sessions | None) -> None:
        super().__init__(target, pool, sessions)
        self._stream = stream
        self._token = trio.lowlevel.current_trio_token()
        self._scope = trio.CancelScope()
        self._unsent = b""
        self._is_sendable = trio.Event()
        self._is_planned = trio.Event()
        self._planned = math.inf
        trio.lowlevel.spawn_system_task(self._run)

    # What trio runs -------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._watch)
                    await self._read()
                    nursery.cancel_scope.cancel()
        finally:
            self.ended()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)

    async def _read(self) -> None:
        with contextlib.suppress(*_BROKEN):
            while data := await self._stream.receive_some(_READ_SIZE):
                self.heard(bytes(data))
                if len(self._unsent) > _UNSENT:
                    return

    async def _write(self) -> None:
        while True:
            await self._is_sendable.wait()
            self._is_sendable = trio.Event()
            while self._unsent:
                data, self._unsent = self._unsent, b""
                self.is_writable = False
                try:
                    await self._stream.send_all(data)
                except _BROKEN:
                    self.hang_up()
                    return
                self.is_writable = True
                self.session.wake_all()

    async def _watch(self) -> None:
        while True:
            moment = self.next_moment()
            self._planned = math.inf if moment is None else moment
            self._is_planned = trio.Event()
            with trio.move_on_after(max(0.0, self._planned - monotonic())):
                await self._is_planned.wait()
                continue
            self.tick()

    # What tasks do --------------------------------------------------------------------------------------------------

    async def sleep(self, stream: Stream, until: float | None) -> bool:
        """See ``CooperativeConnection.sleep``."""
        woken = trio.Event()
        stream.wake = woken.set
        try:
            if until is None:
                await woken.wait()
                return True
            with trio.move_on_after(max(0.0, until - monotonic())):
                await woken.wait()
                return True
            return False
        finally:
            stream.wake = _nobody

    def flush(self) -> None:
        """See ``CooperativeConnection.flush``."""
        data = self.session.outgoing()
        if data:
            self._unsent += data
            self._is_sendable.set()

    send_now = flush

    def plan(self) -> None:
        """See ``CooperativeConnection.plan``."""
        moment = self.next_moment()
        if moment is not None and moment < self._planned:
            self._is_planned.set()

    def soon(self, call: Callable[..., object], *args: Any) -> None:
        """See ``CooperativeConnection.soon``."""
        self._token.run_sync_soon(call, *args)

    def cut(self) -> None:
        """See ``CooperativeConnection.cut``."""
        self._scope.cancel()

    def get_extra_info(self, name: str) -> Any:
        """See ``CooperativeConnection.get_extra_info``."""
        stream = self._stream
        if name == "ssl_object":
            return stream if isinstance(stream, trio.SSLStream) else None
        raw: Any = _beneath(stream).socket
        if name in ("client_addr", "server_addr"):
            return raw.getsockname() if name == "client_addr" else raw.getpeername()
        return raw if name == "socket" else None


class TrioHttp2Pool(CooperativeHttp2Pool):
    """See ``CooperativeHttp2Pool``."""

    def __init__(self, target: Target, loop: Any) -> None:
        super().__init__(target)
        self._loop = loop

    async def dial(self) -> Connection:
        """See ``CooperativeHttp2Pool.dial``."""
        target = self.target
        try:
            stream = await _connected(target)
            try:
                stream = await self._secured(stream)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(stream)
                raise
        except trio.BrokenResourceError as error:
            raise _as_os_error(error) from error
        return Connection(target, stream, self, self.sessions)

    async def _secured(self, stream: trio.abc.Stream) -> trio.abc.Stream:
        target, raw = self.target, _beneath(stream).socket
        if target.settings.proxy_protocol:
            await stream.send_all(header_of(target.settings.proxy_protocol, raw))
        if self.sessions is None:
            return stream
        context: Any = self.sessions  # as trio takes it
        secured = trio.SSLStream(stream, context, server_hostname=target.server_name or None, https_compatible=True)
        await secured.do_handshake()
        return secured

    def spawn(self, work: Any) -> None:
        """See ``CooperativeHttp2Pool.spawn``."""
        trio.lowlevel.spawn_system_task(work)

    def fall_back(self, target: Target) -> Http1Pool:
        """See ``CooperativeHttp2Pool.fall_back``."""
        return AsyncKeptPool(target, self._loop)


async def _connected(target: Target) -> trio.abc.Stream:
    if target.address.startswith("unix://"):
        return await trio.open_unix_socket(target.address[7:])

    async def to(address: str) -> trio.SocketStream:
        return await trio.open_tcp_stream(address, target.port)

    stream = await race(target.addresses, to, trio.aclose_forcefully)
    tune(stream.socket, target.settings.tcp_keepalive)
    return stream


def _beneath(stream: Any) -> trio.SocketStream:
    found: trio.SocketStream = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    return found


def _as_os_error(error: trio.BrokenResourceError) -> OSError:
    """Turn round how trio wraps what went wrong in a handshake."""
    cause = error.__cause__
    return cause if isinstance(cause, OSError) else ssl.SSLError(f"{error}")


def _nobody() -> None:
    """Nobody waits."""
