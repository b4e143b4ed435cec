"""A socket whose operations end in time: by their own limit or at the exchange's deadline, whichever is nearer.

A limit holds for one operation and not for a body: an upload may take hours as long as the peer takes something now
and then. While the peer takes nothing it may well be answering, so who writes listens as well; else two ends that both
write would wait for each other.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Any

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import Timeouts, WireError
from meshlib.transport.http1.idle import Quiet

__all__ = ["BoundedSocket"]

_READ_SIZE = 64 * 1024
_PIECE = 64 * 1024
"""Bytes handed to the socket at once; a first write of at most these finds an empty buffer, and is simply sent."""

_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class BoundedSocket:
    """Reads and writes for one thread at a time.

    Attributes:
        sent: Whether any byte of the present exchange may have reached the peer; the owner resets it.
    """

    __slots__ = ("_allowed", "_quiet", "_ready", "_socket", "sent")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._quiet = Quiet(sock.fileno())
        self._ready: select.poll | None = None
        self._allowed = sock.gettimeout()
        self.sent = False

    def read(self, timeouts: Timeouts, most: float | None) -> bytes:
        """What comes next; empty when the peer closed its side.

        Raises:
            WireError: Nothing came within ``most`` seconds or before the deadline, or the connection broke.
        """
        limit, is_deadline = _limit(timeouts, most)
        try:
            self._allow(limit)
            return self._socket.recv(_READ_SIZE)
        except TimeoutError as error:
            failure = Failure.DEADLINE if is_deadline else Failure.READ_TIMEOUT
            raise WireError(failure, "nothing came in time", sent=True) from error
        except OSError as error:
            raise WireError(Failure.CLOSED, f"the connection broke: {error}", sent=True) from error

    def _allow(self, seconds: float | None) -> None:
        """How long the next operation may take; setting that is a system call, and most often it stands already."""
        if seconds != self._allowed:
            self._socket.settimeout(seconds)
            self._allowed = seconds

    def glance(self) -> bytes | None:
        """What has come already, without waiting; empty when the peer is gone, None when nothing came.

        Under TLS something may wait on the socket that is none of ours: tickets for sessions, for instance.
        """
        if self._quiet:
            return None
        try:
            self._allow(0.0)
            return self._socket.recv(_READ_SIZE)
        except _NOT_NOW:
            return None
        except OSError:
            return b""

    def write(self, data: bytes | memoryview, timeouts: Timeouts, is_answered: Callable[[], bool]) -> bool:
        """Send all of ``data``; False when the peer answered, or closed, before it was whole.

        Args:
            data: At least one byte.
            timeouts: The write timeout and the deadline.
            is_answered: Reads what came, and says whether an answer, or the end, is among it.

        Raises:
            WireError: The peer took nothing in time, or the connection broke and no answer came.
        """
        is_deadline = False
        try:
            if self.sent or len(data) > _PIECE:
                return self._push(memoryview(data), timeouts, is_answered)
            limit, is_deadline = _limit(timeouts, timeouts.write)
            self._allow(limit)
            self._socket.sendall(data)
            self.sent = True
            return True
        except TimeoutError as error:
            raise _taken_nothing(is_deadline) from error
        except OSError as error:
            if self.sent and is_answered():
                return False
            raise WireError(Failure.WRITE, f"the request could not be written: {error}", sent=self.sent) from error

    def _push(self, data: memoryview, timeouts: Timeouts, is_answered: Callable[[], bool]) -> bool:
        while data:
            if not self._may_send(timeouts, is_answered):
                return False
            self._allow(0.0)
            with contextlib.suppress(*_NOT_NOW):
                data = data[self._socket.send(data[:_PIECE]) :]
                self.sent = True
        return True

    def _may_send(self, timeouts: Timeouts, is_answered: Callable[[], bool]) -> bool:
        """Wait until the peer takes more; False when it answered instead."""
        if self._ready is None:
            self._ready = select.poll()
            self._ready.register(self._socket.fileno(), select.POLLIN | select.POLLOUT)
        limit, is_deadline = _limit(timeouts, timeouts.write)
        while events := self._ready.poll(None if limit is None else limit * 1000):
            if events[0][1] & ~select.POLLOUT and is_answered():
                return False
            if events[0][1] & select.POLLOUT:
                return True
        raise _taken_nothing(is_deadline)

    def is_quiet(self) -> bool:
        """Whether nothing waits on the socket."""
        return bool(self._quiet)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def hang_up(self) -> None:
        """Make whatever another thread does on it fail at once."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # of the socket beneath TLS, which says no goodbye

    def get_extra_info(self, name: str) -> Any:
        """Facts about the connection, under httpcore's names."""
        if name in ("client_addr", "server_addr"):
            return self._socket.getsockname() if name == "client_addr" else self._socket.getpeername()
        if name == "ssl_object":
            return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        return self._socket if name == "socket" else None


def _taken_nothing(is_deadline: bool) -> WireError:
    failure = Failure.DEADLINE if is_deadline else Failure.WRITE_TIMEOUT
    return WireError(failure, "the peer took nothing in time", sent=True)


def _limit(timeouts: Timeouts, most: float | None) -> tuple[float | None, bool]:
    """Seconds that an operation may take, and whether the deadline is what bounds it."""
    if timeouts.deadline is None:
        return most, False
    left = max(timeouts.deadline - monotonic(), 1e-4)
    return (left, True) if most is None or left < most else (most, False)
