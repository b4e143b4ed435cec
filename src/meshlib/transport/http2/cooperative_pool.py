"""The connections of one event loop to one endpoint with HTTP/2: one, and more where the peer allows few streams.

However many tasks need a connection, one is made; all wait for it, each within its own time, and none takes it away
from the others by being cancelled.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Coroutine
from dataclasses import replace
from time import monotonic
from typing import Any, Protocol

import anyio
import anyio.lowlevel

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import Target, Timeouts, WireError, WireRequest, WireResponse
from meshlib.transport.handshake import connect_failure, sessions_of
from meshlib.transport.http1.idle import connect_limit
from meshlib.transport.http2.cooperative import CooperativeConnection, Shelving
from meshlib.transport.http2.shelf import Shelf

__all__ = ["CooperativeHttp2Pool", "Http1Pool"]


class Http1Pool(Protocol):
    """What serves a peer that would rather speak HTTP/1.1."""

    def send(self, request: WireRequest) -> Coroutine[Any, Any, WireResponse]: ...

    def retire(self) -> None: ...

    async def aclose(self) -> None: ...


class _Making:
    """A connection that is being made, and who waits for it."""

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.scope = anyio.CancelScope()
        self.error: WireError | None = WireError(Failure.CONNECT, "the connection was given up", sent=False)
        self.made: CooperativeConnection | None = None

    def check(self) -> None:
        """Raise why it was not made, or why it is of no use to anybody."""
        if self.error is not None:
            raise WireError(self.error.failure, str(self.error), sent=False) from self.error
        if self.made is not None:
            self.made.session.check()


class CooperativeHttp2Pool(Shelving):
    """The connections to one endpoint; what the event loop does in its own way is left to two subclasses."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.sessions = sessions_of(target)
        self._shelf: Shelf[CooperativeConnection] = Shelf()
        self._making: _Making | None = None
        self._http1: Http1Pool | None = None
        self._is_retired = False

    async def send(self, request: WireRequest) -> WireResponse:
        """See ``CooperativeTransport.send``."""
        while self._http1 is None:
            connection = self._shelf.first()
            if connection is None:
                request.awaits_connection()
                await self._wait(request.timeouts)
            elif connection.has_room(monotonic()):
                request.has_connection()
                return await connection.exchange(request)
            else:
                self._shelf.set_aside(connection)
        return await self._http1.send(request)

    def put(self, connection: CooperativeConnection) -> None:
        """See ``Shelving.put``."""
        self._shelf.put(connection)

    def forget(self, connection: CooperativeConnection) -> None:
        """See ``Shelving.forget``."""
        self._shelf.forget(connection)

    def retire(self) -> None:
        """Close connections as they fall idle."""
        self._is_retired = True
        for connection in list(self._shelf.all):
            connection.retire()
        if self._http1 is not None:
            self._http1.retire()

    async def aclose(self) -> None:
        """Close every connection, those that carry exchanges included."""
        self._is_retired = True
        if self._making is not None:
            self._making.scope.cancel()
            await self._making.over.wait()
        for connection in list(self._shelf.all):
            connection.hang_up()
        if self._http1 is not None:
            await self._http1.aclose()
        await anyio.lowlevel.checkpoint()  # lets the event loop close the sockets

    # Making one -----------------------------------------------------------------------------------------------------

    async def _wait(self, timeouts: Timeouts) -> None:
        """Until there is a connection with room; this caller's patience ends before that of the one who makes it."""
        limit, deadline_first = connect_limit(self.target, timeouts)
        if self._making is None:
            self._making = _Making()
            self.spawn(self._make)
        making = self._making
        with anyio.move_on_after(limit):
            await making.over.wait()
            making.check()
            return
        failure = Failure.DEADLINE if deadline_first else Failure.CONNECT_TIMEOUT
        raise WireError(failure, f"no connection within {limit:.3g} s", sent=False)

    async def _make(self) -> None:
        making = self._making
        assert making is not None
        try:
            with making.scope:
                await self._connect(making)
        finally:
            self._making = None
            making.over.set()

    async def _connect(self, making: _Making) -> None:
        limit, connection = self.target.settings.connect_timeout, None
        try:
            with anyio.fail_after(limit):
                connection = await self.dial()
                await self._made(making, connection)
        except TimeoutError:
            making.error = WireError(Failure.CONNECT_TIMEOUT, f"no connection within {limit:.3g} s", sent=False)
        except OSError as error:
            if self.sessions is not None:
                self.sessions.forget()
            making.error = connect_failure(self.target, error)
            making.error.__cause__ = error
        except Exception as error:  # told to those who wait, who would else try again for ever
            making.error = WireError(Failure.LOCAL, f"{type(error).__name__}: {error}", sent=False)
        else:
            making.error = None
        finally:
            if connection is not None and making.error is not None:
                connection.hang_up()

    async def _made(self, making: _Making, connection: CooperativeConnection) -> None:
        """It stands; it is of use once the peer's settings have come, as for gRPC: until then nothing is sent on it."""
        if self.target.http1_too and _protocol(connection) != "h2":
            connection.hang_up()
            self._http1 = self.fall_back(replace(self.target, http2=False, http1_too=False))
            return
        if self.target.gate is not None:
            self.target.gate.multiplexes = True
        making.made = connection
        connection.is_retired = self._is_retired
        connection.begin()
        await connection.greeted.wait()

    # What each event loop does in its own way -------------------------------------------------------------------------

    @abstractmethod
    async def dial(self) -> CooperativeConnection:
        """Connect, TLS included; raises ``OSError``."""

    @abstractmethod
    def spawn(self, work: Any) -> None:
        """Run ``work`` beside the callers, who may be cancelled."""

    @abstractmethod
    def fall_back(self, target: Target) -> Http1Pool:
        """The pool for a peer that chose HTTP/1.1."""


def _protocol(connection: CooperativeConnection) -> str | None:
    secured = connection.get_extra_info("ssl_object")
    return secured.selected_alpn_protocol() if secured is not None else None
