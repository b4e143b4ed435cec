"""Connections of one event loop to one endpoint each, made at need, the one used last reused first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from time import monotonic
from typing import Any

from meshlib.dataplane.outcome import Failure
from meshlib.transport.asyncio_dial import dial
from meshlib.transport.base import Target, Timeouts, WireError, WireRequest, WireResponse
from meshlib.transport.handshake import connect_failure, sessions_of
from meshlib.transport.http1.idle import Idle, connect_limit
from meshlib.transport.http1.protocol import Connection
from meshlib.transport.sockets import tune

__all__ = ["EndpointPool"]


class EndpointPool:
    """The connections to one endpoint. How many there may be is decided before, by the cluster's gate."""

    def __init__(self, target: Target, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop
        self._sessions = sessions_of(target)
        self._idle: Idle[Connection] = Idle()
        self._open: set[Connection] = set()
        self._reaper: asyncio.TimerHandle | None = None
        self._retired = False
        self._counted = target.gate.connections if target.gate is not None else None

    def send(self, request: WireRequest) -> Coroutine[Any, Any, WireResponse]:
        """See ``CooperativeTransport.send``; to be awaited at once, for a connection that rested is taken already."""
        connection = self._idle.take(monotonic())
        if connection is None:
            return self._send_anew(request)
        if self._counted is not None:
            self._counted.taken(connection)
        request.has_connection()
        return connection.exchange(request)

    async def _send_anew(self, request: WireRequest) -> WireResponse:
        request.awaits_connection()
        connection = await self._made(request.timeouts)
        request.has_connection()
        return await connection.exchange(request)

    async def _made(self, timeouts: Timeouts) -> Connection:
        """Another connection, one of those that are counted where the cluster bounds them."""
        counted = self._counted
        if counted is None:
            return await self._connect(timeouts)
        counted.making()
        try:
            connection = await self._connect(timeouts)
        except BaseException:
            counted.failed()
            raise
        counted.made(connection)
        return connection

    def make_way(self, connection: Connection) -> None:
        """See ``Keeper.make_way``."""
        with contextlib.suppress(RuntimeError):  # no loop runs in this thread
            if asyncio.get_running_loop() is self._loop:
                self._make_way(connection)
                return
        with contextlib.suppress(RuntimeError):  # a loop that is gone took its connections with it
            self._loop.call_soon_threadsafe(self._make_way, connection)

    def _make_way(self, connection: Connection) -> None:
        if self._idle.drop(connection):
            connection.abort()
        elif self._counted is not None:
            self._counted.stays(connection)

    async def _connect(self, timeouts: Timeouts) -> Connection:
        limit, deadline_first = connect_limit(self._target, timeouts)
        try:
            async with asyncio.timeout(limit):
                connection = await dial(self._target, self._loop, self._make, self._sessions)
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

    def _make(self) -> Connection:
        return Connection(self._target, self._loop, self._give_back, self._forget, self._sessions)

    def retire(self) -> None:
        """Close connections as they fall idle; from the event loop."""
        self._retired = True
        self._stop_reaping()
        for connection in self._idle.clear():
            connection.abort()

    def _give_back(self, connection: Connection) -> None:
        if self._retired:
            connection.abort()
            return
        self._idle.give(connection)
        if self._counted is not None:
            self._counted.rests(connection, self)
        if self._reaper is None and connection.age.rests_until is not None:
            self._reap_at(connection.age.rests_until)

    def _forget(self, connection: Connection) -> None:
        self._idle.drop(connection)
        self._open.discard(connection)
        if self._counted is not None:
            self._counted.closed(connection)

    def _reap_at(self, moment: float) -> None:
        self._reaper = self._loop.call_later(max(0.0, moment - monotonic()), self._reap)

    def _reap(self) -> None:
        self._reaper = None
        following = self._idle.reap(monotonic())
        if following is not None:
            self._reap_at(following)

    def _stop_reaping(self) -> None:
        """Else the timer, an hour away by default, would keep a pool that nobody needs."""
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None

    async def aclose(self) -> None:
        """Close every connection, those that carry an exchange included."""
        self._stop_reaping()
        self._idle.clear()
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)  # lets the event loop close the sockets
