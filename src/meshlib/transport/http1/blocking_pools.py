"""Connections of all threads to one endpoint, made at need, the one used last reused first."""

from __future__ import annotations

import threading
from time import monotonic

from meshlib.transport.base import Target, Timeouts, WireRequest, WireResponse
from meshlib.transport.blocking_dial import dial
from meshlib.transport.handshake import sessions_of
from meshlib.transport.http1.connection import Connection
from meshlib.transport.http1.idle import Idle

__all__ = ["BlockingEndpointPool"]


class BlockingEndpointPool:
    """The connections to one endpoint. How many there may be is decided before, by the cluster's gate."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._sessions = sessions_of(target)
        self._lock = threading.RLock()
        self._idle: Idle[Connection] = Idle()
        self._open: set[Connection] = set()
        self._retired = False
        self._counted = target.gate.connections if target.gate is not None else None

    def send(self, request: WireRequest) -> WireResponse:
        """See ``BlockingTransport.send``."""
        with self._lock:
            connection = self._idle.take(monotonic())
        if connection is None:
            request.awaits_connection()
            connection = self._made(request.timeouts)
        elif self._counted is not None:
            self._counted.taken(connection)
        request.has_connection()
        return connection.exchange(request)

    def give_back(self, connection: Connection) -> None:
        """``connection`` may carry another exchange."""
        with self._lock:
            kept = not self._retired
            if kept:
                self._idle.give(connection)
        if not kept:
            connection.abort()
        elif self._counted is not None:
            self._counted.rests(connection, self)

    def forget(self, connection: Connection) -> None:
        """``connection`` is gone."""
        self._open.discard(connection)
        if self._counted is not None:
            self._counted.closed(connection)

    def make_way(self, connection: Connection) -> None:
        """See ``Keeper.make_way``."""
        with self._lock:
            rested = self._idle.drop(connection)
        if rested:
            connection.abort()
        elif self._counted is not None:
            self._counted.stays(connection)

    def _made(self, timeouts: Timeouts) -> Connection:
        """Another connection, one of those that are counted where the cluster bounds them."""
        counted = self._counted
        if counted is None:
            return self._connect(timeouts)
        counted.making()
        try:
            connection = self._connect(timeouts)
        except BaseException:
            counted.failed()
            raise
        counted.made(connection)
        return connection

    def _connect(self, timeouts: Timeouts) -> Connection:
        sock = dial(self._target, timeouts, self._sessions)
        connection = Connection(self._target, sock, self, self._sessions)
        self._open.add(connection)
        return connection

    def tend(self) -> None:
        """See ``BlockingTransport.tend``."""
        with self._lock:
            self._idle.reap(monotonic())

    def retire(self) -> None:
        """Close connections as they fall idle."""
        with self._lock:
            self._retired = True
            resting = self._idle.clear()
        for connection in resting:
            connection.abort()

    def close(self) -> None:
        """Close every connection, those that carry an exchange included."""
        with self._lock:
            self._idle.clear()
            connections = list(self._open)
        for connection in connections:
            connection.abort()
