"""The connections of all threads to one endpoint with HTTP/2: one, and more where the peer allows few streams."""

from __future__ import annotations

import threading
from dataclasses import replace
from time import monotonic

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import Target, Timeouts, WireError, WireRequest, WireResponse
from meshlib.transport.blocking_dial import dial
from meshlib.transport.handshake import sessions_of
from meshlib.transport.http1.blocking_pools import BlockingEndpointPool
from meshlib.transport.http1.idle import connect_limit
from meshlib.transport.http2.blocking import Connection
from meshlib.transport.http2.head import head
from meshlib.transport.http2.shelf import Shelf

__all__ = ["BlockingHttp2Pool"]


class _Making:
    """A connection that a thread makes, for all who wait for it."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.error: WireError | None = None
        self.made: Connection | None = None


class BlockingHttp2Pool:
    """The connections to one endpoint. Safe to share between threads.

    Locks are taken in this order: a connection's, then the pool's.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._sessions = sessions_of(target)
        self._lock = threading.RLock()
        self._shelf: Shelf[Connection] = Shelf()
        self._making: _Making | None = None
        self._http1: BlockingEndpointPool | None = None
        self._is_retired = False

    def send(self, request: WireRequest) -> WireResponse:
        """See ``BlockingTransport.send``."""
        headers = head(request)
        while self._http1 is None:
            with self._lock:
                connection = self._shelf.first()
            if connection is None:
                request.awaits_connection()
                self._wait(request.timeouts)
            elif (stream := connection.open(request, headers)) is not None:
                request.has_connection()
                return connection.exchange(stream, request)
        return self._http1.send(request)

    # What connections say -------------------------------------------------------------------------------------------

    def put(self, connection: Connection) -> None:
        """There may be room on it."""
        with self._lock:
            self._shelf.put(connection)

    def set_aside(self, connection: Connection) -> None:
        """There is none."""
        with self._lock:
            self._shelf.set_aside(connection)

    def forget(self, connection: Connection) -> None:
        """It is gone."""
        with self._lock:
            self._shelf.forget(connection)

    # Making one -----------------------------------------------------------------------------------------------------

    def _wait(self, timeouts: Timeouts) -> None:
        """Make a connection, or wait for the thread that does.

        Raises:
            WireError: There is none, or not in this caller's time, or it is of no use.
        """
        with self._lock:
            making, is_mine = self._making, self._making is None
            if making is None:
                if self._shelf.first() is not None:
                    return
                making = self._making = _Making()
        if is_mine:
            self._make(making, timeouts)
        else:
            self._await(making, timeouts)
        if making.made is not None:
            making.made.session.check()

    def _await(self, making: _Making, timeouts: Timeouts) -> None:
        limit, deadline_first = connect_limit(self._target, timeouts)
        if not making.over.wait(limit):
            failure = Failure.DEADLINE if deadline_first else Failure.CONNECT_TIMEOUT
            raise WireError(failure, f"no connection within {limit:.3g} s", sent=False)
        if making.error is not None:
            raise WireError(making.error.failure, str(making.error), sent=False) from making.error

    def _make(self, making: _Making, timeouts: Timeouts) -> None:
        try:
            making.made = self._connect(timeouts)
        except WireError as error:
            if not self._is_impatient(error, timeouts):
                making.error = error
            raise
        finally:
            with self._lock:
                self._making = None
            making.over.set()

    def _is_impatient(self, error: WireError, timeouts: Timeouts) -> bool:
        """Whether it failed for want of this caller's time alone, so that another may try longer."""
        connect = timeouts.connect
        hasty = connect is not None and connect < self._target.settings.connect_timeout
        return error.failure is Failure.DEADLINE or (error.failure is Failure.CONNECT_TIMEOUT and hasty)

    def _connect(self, timeouts: Timeouts) -> Connection | None:
        limit, _ = connect_limit(self._target, timeouts)
        ends = monotonic() + limit
        sock = dial(self._target, timeouts, self._sessions)
        if self._target.http1_too and getattr(sock, "selected_alpn_protocol", lambda: None)() != "h2":
            sock.close()
            self._http1 = BlockingEndpointPool(replace(self._target, http2=False, http1_too=False))
            return None
        if self._target.gate is not None:
            self._target.gate.multiplexes = True
        connection = Connection(self._target, sock, self, self._sessions)
        connection.is_retired = self._is_retired
        try:
            connection.greet(max(0.0, ends - monotonic()), timeouts)
        except BaseException:
            connection.abort()
            raise
        return connection

    def retire(self) -> None:
        """Close connections as they fall idle."""
        self._is_retired = True
        for connection in self._all():
            connection.retire()
        if self._http1 is not None:
            self._http1.retire()

    def tend(self) -> None:
        """See ``BlockingTransport.tend``."""
        for connection in self._all():
            connection.tend()
        if self._http1 is not None:
            self._http1.tend()

    def close(self) -> None:
        """Close every connection, those that carry exchanges included."""
        for connection in self._all():
            connection.abort()
        if self._http1 is not None:
            self._http1.close()

    def _all(self) -> list[Connection]:
        with self._lock:
            return list(self._shelf.all)
