"""Connections of all threads to one endpoint, made at need, the one used last reused first."""

from __future__ import annotations

import socket
import threading
from time import monotonic

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import Target, Timeouts, WireError, WireRequest, WireResponse
from meshlib.transport.handshake import Sessions, connect_failure
from meshlib.transport.http1.connection import Connection
from meshlib.transport.http1.idle import Idle, connect_limit
from meshlib.transport.proxy_header import header_of
from meshlib.transport.sockets import tune

__all__ = ["BlockingEndpointPool"]


class BlockingEndpointPool:
    """The connections to one endpoint. How many there may be is decided before, by the cluster's gate."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._sessions = Sessions(target.tls) if target.tls is not None else None
        self._lock = threading.RLock()
        self._idle: Idle[Connection] = Idle()
        self._open: set[Connection] = set()
        self._retired = False
        self._reaped = monotonic()

    def send(self, request: WireRequest) -> WireResponse:
        """See ``BlockingTransport.send``."""
        with self._lock:
            connection = self._idle.take(monotonic())
        if connection is None:
            connection = self._connect(request.timeouts)
        return connection.exchange(request)

    def give_back(self, connection: Connection) -> None:
        """``connection`` may carry another exchange."""
        with self._lock:
            if not self._retired:
                self._idle.give(connection)
                return
        connection.abort()

    def forget(self, connection: Connection) -> None:
        """``connection`` is gone."""
        self._open.discard(connection)

    def _connect(self, timeouts: Timeouts) -> Connection:
        limit, deadline_first = connect_limit(self._target, timeouts)
        ends = monotonic() + limit
        try:
            sock = self._secured(self._dial(limit), ends)
        except TimeoutError as error:
            failure = Failure.DEADLINE if deadline_first else Failure.CONNECT_TIMEOUT
            raise WireError(failure, f"no connection within {limit:.3g} s", sent=False) from error
        except OSError as error:
            if self._sessions is not None:
                self._sessions.forget()
            raise connect_failure(self._target, error) from error
        connection = Connection(self._target, sock, self, self._sessions)
        self._open.add(connection)
        return connection

    def _dial(self, limit: float) -> socket.socket:
        target = self._target
        if target.address.startswith("unix://"):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(limit)
                sock.connect(target.address[7:])
            except BaseException:
                sock.close()
                raise
            return sock
        sock = socket.create_connection((target.address, target.port), limit)
        tune(sock, target.settings.tcp_keepalive)
        return sock

    def _secured(self, sock: socket.socket, ends: float) -> socket.socket:
        target = self._target
        try:
            sock.settimeout(max(ends - monotonic(), 1e-3))
            if target.settings.proxy_protocol:
                sock.sendall(header_of(target.settings.proxy_protocol, sock))
            if self._sessions is None:
                return sock
            return self._sessions.wrap_socket(sock, target.server_name or None)
        except BaseException:
            sock.close()
            raise

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
