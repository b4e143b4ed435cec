"""Socket options that the configuration asks for."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from meshlib.model.policy import TcpKeepalive

__all__ = ["socket_options", "tune"]


def socket_options(keepalive: TcpKeepalive | None) -> list[tuple[int, int, int]]:
    """No delay, and keepalive probes as asked; an option that this system lacks is left out."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    if keepalive is None:
        return options
    options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
    for name, value in (
        ("TCP_KEEPCNT", keepalive.probes),
        ("TCP_KEEPIDLE", keepalive.time),
        ("TCP_KEEPINTVL", keepalive.interval),
    ):
        if value is not None and hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), max(1, round(value))))
    return options


def tune(connection: Any, keepalive: TcpKeepalive | None) -> None:
    """Set the options on a connected socket; on a unix socket they mean nothing and are left out."""
    for level, name, value in socket_options(keepalive):
        with contextlib.suppress(OSError):
            connection.setsockopt(level, name, value)
