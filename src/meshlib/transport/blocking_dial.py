"""Connections for threads: dialled, with the PROXY header first and TLS around, all within the caller's time."""

from __future__ import annotations

import socket
from time import monotonic

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import Target, Timeouts, WireError
from meshlib.transport.eyeballs import connect
from meshlib.transport.handshake import Sessions, connect_failure
from meshlib.transport.http1.idle import connect_limit
from meshlib.transport.proxy_header import header_of
from meshlib.transport.sockets import tune

__all__ = ["dial"]


def dial(target: Target, timeouts: Timeouts, sessions: Sessions | None) -> socket.socket:
    """A connected socket, under TLS when there are ``sessions``.

    Raises:
        WireError: It cannot be made, or not in time; nothing was sent.
    """
    limit, deadline_first = connect_limit(target, timeouts)
    ends = monotonic() + limit
    try:
        return _secured(target, _connected(target, limit), sessions, ends)
    except TimeoutError as error:
        failure = Failure.DEADLINE if deadline_first else Failure.CONNECT_TIMEOUT
        raise WireError(failure, f"no connection within {limit:.3g} s", sent=False) from error
    except OSError as error:
        if sessions is not None:
            sessions.forget()
        raise connect_failure(target, error) from error


def _connected(target: Target, limit: float) -> socket.socket:
    if not target.address.startswith("unix://"):
        sock = connect(target.addresses, target.port, limit)
        tune(sock, target.settings.tcp_keepalive)
        return sock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(limit)
        sock.connect(target.address[7:])
    except BaseException:
        sock.close()
        raise
    return sock


def _secured(target: Target, sock: socket.socket, sessions: Sessions | None, ends: float) -> socket.socket:
    try:
        sock.settimeout(max(ends - monotonic(), 1e-3))
        if target.settings.proxy_protocol:
            sock.sendall(header_of(target.settings.proxy_protocol, sock))
        return sock if sessions is None else sessions.wrap_socket(sock, target.server_name or None)
    except BaseException:
        sock.close()
        raise
