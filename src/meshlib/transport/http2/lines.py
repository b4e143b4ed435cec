"""A socket that never blocks, and a bell that ends the listener's wait."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
from collections.abc import Iterator
from typing import Any

__all__ = ["Lines"]

_READ_SIZE = 64 * 1024
_PIECE = 64 * 1024
_UNSENT = 1024 * 1024
"""Bytes that a peer may leave untaken while it makes us answer; uploads stop long before."""

_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Lines:
    """One thread at a time may call anything but ``wait`` and ``kick``; one other may be in ``wait``."""

    __slots__ = ("_bell", "_is_open", "_poll", "_ring", "_socket", "_unsent")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._is_open = True
        self._unsent = b""
        self._ring, self._bell = os.pipe()
        os.set_blocking(self._ring, False)
        os.set_blocking(self._bell, False)
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN)
        self._poll.register(self._ring, select.POLLIN)

    @property
    def is_writable(self) -> bool:
        """Whether more of a body may be made ready to be sent."""
        return len(self._unsent) < _PIECE

    def wait(self, limit: float | None) -> None:
        """Until there is something to read, or room for what is unsent, or somebody kicks."""
        self._poll.modify(self._socket.fileno(), select.POLLIN | (select.POLLOUT if self._unsent else 0))
        self._poll.poll(None if limit is None else limit * 1000)
        with contextlib.suppress(OSError):
            os.read(self._ring, 64)

    def kick(self) -> None:
        """End a ``wait``, or the next one."""
        with contextlib.suppress(OSError):
            os.write(self._bell, b"!")

    def read(self) -> Iterator[bytes]:
        """What has come, without waiting; empty when the peer closed its side.

        Raises:
            OSError: The connection broke.
        """
        more = True
        while more and self._is_open:
            try:
                data = self._socket.recv(_READ_SIZE)
            except _NOT_NOW:
                return
            yield data
            pending = getattr(self._socket, "pending", None)
            more = bool(data) and self._is_open and pending is not None and pending() > 0

    def send(self, data: bytes) -> bool:
        """Send ``data`` behind what is unsent, without waiting; whether nothing is left.

        Raises:
            OSError: The connection broke, or the peer makes us answer and takes no answers.
        """
        unsent = self._unsent + data if self._unsent else data
        try:
            while unsent:
                unsent = unsent[self._socket.send(unsent[:_PIECE]) :]
        except _NOT_NOW:
            pass
        self._unsent = unsent
        if len(unsent) > _UNSENT:
            raise BlockingIOError("the peer takes no answers")
        return not unsent

    def close(self) -> None:
        """Close everything. Idempotent; nobody may be in ``wait``."""
        if self._is_open:
            self._is_open = False
            self._socket.close()
            os.close(self._ring)
            os.close(self._bell)
            self._bell = self._ring = -1

    def get_extra_info(self, name: str) -> Any:
        """Facts about the connection, under httpcore's names."""
        if name in ("client_addr", "server_addr"):
            return self._socket.getsockname() if name == "client_addr" else self._socket.getpeername()
        if name == "ssl_object":
            return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        return self._socket if name == "socket" else None
