"""Connections for threads: a plain connected socket, or a TLS socket where the configuration or the caller asks."""

from __future__ import annotations

import socket
from time import monotonic

from meshlib.model.policy import Tunnel
from meshlib.tcp import tunnel
from meshlib.tcp.connector import Connector, Opening, Plan
from meshlib.tcp.sockets import watched
from meshlib.transport.eyeballs import connect
from meshlib.transport.proxy_header import header_of
from meshlib.transport.sockets import tune

__all__ = ["open_socket"]


def open_socket(connector: Connector, opening: Opening) -> socket.socket:
    """A connected socket without a timeout.

    Raises:
        MeshError: What kept the connection from being made; an ``OSError`` too.
    """
    while True:
        lease, limit = opening.lease(), 0.0
        try:
            plan = opening.plan(lease)
            limit = plan.limit
            sock = _dial(plan)
            return watched(sock, lease)
        except BaseException as error:
            wait = opening.failed(lease, error)
            if wait is None:
                raise (opening.error(error, limit) if isinstance(error, Exception) else error) from error.__cause__
        connector.clock.sleep(wait)


def _dial(plan: Plan) -> socket.socket:
    ends = monotonic() + plan.limit
    sock = _connect(plan)
    try:
        if plan.settings.proxy_protocol:
            sock.sendall(header_of(plan.settings.proxy_protocol, sock, plan.dialled))
        if plan.around:
            sock = _secured(sock, plan, ends)
        if plan.tunnel is not None:
            _tunnelled(sock, plan.tunnel, ends)
        if not plan.around:
            sock = _secured(sock, plan, ends)
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(plan: Plan) -> socket.socket:
    if not plan.addresses[0].startswith("unix://"):
        sock = connect(plan.addresses, plan.port, plan.limit)
        tune(sock, plan.settings.tcp_keepalive)
        return sock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(plan.limit)
        sock.connect(plan.addresses[0][7:])
    except BaseException:
        sock.close()
        raise
    return sock


def _secured(sock: socket.socket, plan: Plan, ends: float) -> socket.socket:
    if plan.tls is None:
        return sock
    sock.settimeout(max(ends - monotonic(), 1e-3))
    return plan.tls.wrap_socket(sock, server_hostname=plan.server_name)


def _tunnelled(sock: socket.socket, through: Tunnel, ends: float) -> None:
    sock.settimeout(max(ends - monotonic(), 1e-3))
    sock.sendall(tunnel.request(through))
    answer = tunnel.Answer()
    while not answer.feed(sock.recv(1)):
        sock.settimeout(max(ends - monotonic(), 1e-3))
