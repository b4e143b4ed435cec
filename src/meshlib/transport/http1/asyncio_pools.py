"""Connections of one event loop to one endpoint each, made at need, the one used last reused first."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import Target, Timeouts, WireError, WireRequest, WireResponse
from meshlib.transport.handshake import Sessions, connect_failure
from meshlib.transport.http1.idle import Idle, connect_limit
from meshlib.transport.http1.protocol import Connection
from meshlib.transport.proxy_header import header_of
from meshlib.transport.sockets import tune

__all__ = ["EndpointPool"]

_ATTEMPT_DELAY = 0.25
"""Seconds before the next address of a name is tried beside the first (RFC 8305)."""


class EndpointPool:
    """The connections to one endpoint. How many there may be is decided before, by the cluster's gate."""

    def __init__(self, target: Target, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop
        self._sessions = Sessions(target.tls) if target.tls is not None else None
        self._tls: Any = self._sessions  # as asyncio takes it
        self._idle: Idle[Connection] = Idle()
        self._open: set[Connection] = set()
        self._reaper: asyncio.TimerHandle | None = None
        self._retired = False

    async def send(self, request: WireRequest) -> WireResponse:
        """See ``CooperativeTransport.send``."""
        connection = self._idle.take(monotonic())
        if connection is None:
            connection = await self._connect(request.timeouts)
        return await connection.exchange(request)

    async def _connect(self, timeouts: Timeouts) -> Connection:
        limit, deadline_first = connect_limit(self._target, timeouts)
        try:
            async with asyncio.timeout(limit):
                connection: Connection = (await self._dial())[1]
        except TimeoutError as error:
            failure = Failure.DEADLINE if deadline_first else Failure.CONNECT_TIMEOUT
            raise WireError(failure, f"no connection within {limit:.3g} s", sent=False) from error
        except OSError as error:
            if self._sessions is not None:
                self._sessions.forget()
            raise connect_failure(self._target, error) from error
        self._open.add(connection)
        tune(connection.get_extra_info("socket"), self._target.settings.tcp_keepalive)
        return connection

    async def _dial(self) -> Any:
        target, tls = self._target, self._tls
        name = target.server_name if target.tls is not None else None

        def make() -> Connection:
            return Connection(target, self._loop, self._give_back, self._forget, self._sessions)

        loop = self._loop
        if target.settings.proxy_protocol:
            return await self._dial_with_header(make, name)
        if target.address.startswith("unix://"):
            return await loop.create_unix_connection(make, target.address[7:], ssl=tls, server_hostname=name)
        return await loop.create_connection(
            make, target.address, target.port, ssl=tls, server_hostname=name, **_eyeballs(target.address, loop)
        )

    def retire(self) -> None:
        """Close connections as they fall idle."""
        self._retired = True
        for connection in self._idle.clear():
            connection.abort()

    async def _dial_with_header(self, make: Callable[[], Connection], name: str | None) -> Any:
        """The PROXY header goes out before TLS, so the socket is connected by itself."""
        target, loop = self._target, self._loop
        sock = await _connected(loop, target)
        try:
            await loop.sock_sendall(sock, header_of(target.settings.proxy_protocol, sock))
            return await loop.create_connection(make, sock=sock, ssl=self._tls, server_hostname=name)
        except BaseException:
            sock.close()
            raise

    def _give_back(self, connection: Connection) -> None:
        if self._retired:
            connection.abort()
            return
        self._idle.give(connection)
        if self._reaper is None and connection.age.rests_until is not None:
            self._reap_at(connection.age.rests_until)

    def _forget(self, connection: Connection) -> None:
        self._idle.drop(connection)
        self._open.discard(connection)

    def _reap_at(self, moment: float) -> None:
        self._reaper = self._loop.call_later(max(0.0, moment - monotonic()), self._reap)

    def _reap(self) -> None:
        self._reaper = None
        following = self._idle.reap(monotonic())
        if following is not None:
            self._reap_at(following)

    async def aclose(self) -> None:
        """Close every connection, those that carry an exchange included."""
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        self._idle.clear()
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)  # lets the event loop close the sockets


async def _connected(loop: asyncio.AbstractEventLoop, target: Target) -> socket.socket:
    """A connected socket; the addresses of a name are tried one after the other."""
    if target.address.startswith("unix://"):
        ways: list[Any] = [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", target.address[7:])]
    else:
        ways = await loop.getaddrinfo(target.address, target.port, type=socket.SOCK_STREAM)
    problem = OSError(f"{target.address} has no address")
    for family, kind, protocol, _, address in ways:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
            return sock
        except OSError as error:
            sock.close()
            problem = error
        except BaseException:
            sock.close()
            raise
    raise problem


def _eyeballs(address: str, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """For a name, try its addresses side by side; an IP address has nothing to race, and uvloop tries them in turn."""
    if not isinstance(loop, asyncio.BaseEventLoop):
        return {}
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address)
        except OSError:
            continue
        return {}
    return {"happy_eyeballs_delay": _ATTEMPT_DELAY, "interleave": 1}
