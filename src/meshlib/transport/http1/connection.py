"""One HTTP/1.1 connection for threads: a socket, asked by one thread at a time.

Every operation is bounded by the read, write or connect timeout and by the deadline of the exchange, whichever is
nearer, so that a body that trickles cannot outlive the deadline. A thread cannot be cancelled; a socket can be closed.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from time import monotonic
from typing import Any

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import BreakOff, Headers, Target, Timeouts, WireError, WireRequest, WireResponse
from meshlib.transport.http1 import writer
from meshlib.transport.http1.idle import Age, Quiet
from meshlib.transport.http1.reader import Malformed, Reader

__all__ = ["Connection", "SocketBody"]

_READ_SIZE = 64 * 1024
_CONTINUE = 1.0
"""Seconds to wait for ``100 Continue`` before the body is sent anyway (RFC 9110 section 10.1.1)."""


class SocketBody:
    """A response body, read off the socket as it is iterated."""

    __slots__ = ("_connection", "_timeouts", "chunks", "complete", "trailers")

    def __init__(self, connection: Connection, timeouts: Timeouts) -> None:
        self._connection = connection
        self._timeouts = timeouts
        self.chunks: list[bytes] = []
        self.trailers: Headers = []
        self.complete = False

    def whole(self) -> bytes | None:
        """All of a body that is complete and of which nothing was taken, else None."""
        if not self.complete:
            return None
        chunks = self.chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        return body

    def __iter__(self) -> Iterator[bytes]:
        """The chunks as they came."""
        chunks = self.chunks
        while True:
            while chunks:
                yield chunks.pop(0)
            if self.complete:
                return
            self._connection.more(self, self._timeouts)

    def close(self) -> None:
        """Drop the connection unless the body came to its end."""
        if not self.complete:
            self._connection.abort()

    def abandon(self) -> None:
        """The same."""
        self.close()


class Connection:
    """Carries one exchange after another.

    Args:
        target: Where it leads.
        sock: The connected socket.
        pool: Is told when the connection may carry another exchange, and when it is gone.
    """

    def __init__(self, target: Target, sock: socket.socket, pool: Any) -> None:
        self.age = Age(target.settings, monotonic())
        self._socket = sock
        self._pool = pool
        self._quiet = Quiet(sock.fileno())
        self._reader = Reader()
        self._open = True
        self._sent = self._cut = False
        self._break_off: BreakOff | None = None

    def exchange(self, request: WireRequest) -> WireResponse:
        """Send ``request`` and return once the response's headers are there.

        Raises:
            WireError: See ``BlockingTransport.send``. Whatever is raised, the connection is closed.
        """
        body = SocketBody(self, request.timeouts)
        reader = self._reader
        self._sent = self._cut = False
        self._break_off = request.break_off
        if request.break_off is not None:
            request.break_off.carried(self._hang_up)
        try:
            head = writer.head(request)
            reader.expect(request.method, body.chunks)
            self._send(head, request)
            while not reader.has_headers:
                self._read(request.timeouts, request.timeouts.read)
        except BaseException:
            self.abort()
            raise
        body.trailers = reader.trailers
        version, reason = reader.http_version, reader.reason
        extensions = {"http_version": version, "reason_phrase": reason, "network_stream": self}
        response = WireResponse(reader.status, reader.headers, body, version, reason, extensions)
        if reader.done:
            self._settle(body)
        return response

    def more(self, body: SocketBody, timeouts: Timeouts) -> None:
        """Read until there are body bytes, or the body is complete.

        Raises:
            WireError: It broke; the connection is closed.
        """
        reader = self._reader
        try:
            while not body.chunks and not reader.done:
                self._read(timeouts, timeouts.read)
        except BaseException:
            self.abort()
            raise
        if reader.done:
            self._settle(body)

    # Bytes ----------------------------------------------------------------------------------------------------------

    def _send(self, head: bytes, request: WireRequest) -> None:
        body, timeouts = request.body, request.timeouts
        if body is not None and writer.wants_continue(request):
            self._write(head, timeouts)
            if not self._may_continue(timeouts):
                self._cut = True
                return
            head = b""
        if body is None or isinstance(body, bytes):
            self._write(head + body if body else head, timeouts)
            return
        if head:
            self._write(head, timeouts)
        chunked = writer.is_chunked(request)
        for piece in body:  # type: ignore[union-attr]
            if not self._quiet:
                self._cut = True  # answered, or hung up, before the body was whole
                return
            self._write(writer.chunk(piece) if chunked else piece, timeouts)
        if chunked:
            self._write(writer.END_OF_CHUNKS, timeouts)

    def _write(self, data: bytes, timeouts: Timeouts) -> None:
        limit, is_deadline = _limit(timeouts, timeouts.write)
        try:
            self._socket.settimeout(limit)
            self._socket.sendall(data)
        except TimeoutError as error:
            failure = Failure.DEADLINE if is_deadline else Failure.WRITE_TIMEOUT
            raise WireError(failure, "the peer took nothing in time", sent=True) from error
        except OSError as error:
            if self._answered_early():
                self._cut = True
                return
            raise WireError(Failure.WRITE, f"the request could not be written: {error}", sent=self._sent) from error
        self._sent = True

    def _answered_early(self) -> bool:
        """Whether a peer that closed while we wrote has said why."""
        return self._sent and not self._quiet

    def _may_continue(self, timeouts: Timeouts) -> bool:
        """Whether the body is wanted: after ``100 Continue``, or when the peer says nothing for a while."""
        ends, reader = monotonic() + _CONTINUE, self._reader
        while not reader.continued and not reader.has_headers:
            left = ends - monotonic()
            if left <= 0:
                return True
            try:
                self._read(timeouts, left)
            except WireError as error:
                if error.failure is not Failure.READ_TIMEOUT:
                    raise
        return not reader.has_headers

    def _read(self, timeouts: Timeouts, most: float | None) -> None:
        limit, is_deadline = _limit(timeouts, most)
        try:
            self._socket.settimeout(limit)
            data = self._socket.recv(_READ_SIZE)
        except TimeoutError as error:
            failure = Failure.DEADLINE if is_deadline else Failure.READ_TIMEOUT
            raise WireError(failure, "nothing came in time", sent=True) from error
        except OSError as error:
            raise WireError(Failure.CLOSED, f"the connection broke: {error}", sent=True) from error
        reader = self._reader
        if not data:
            if not reader.end():
                before = "the response was complete" if reader.has_headers else "a response came"
                raise WireError(Failure.CLOSED, f"the peer closed the connection before {before}", sent=True)
            return
        try:
            reader.feed(data)
        except Malformed as error:
            raise WireError(Failure.PROTOCOL, f"malformed response: {error}", sent=True) from error

    # Ends -----------------------------------------------------------------------------------------------------------

    def _settle(self, body: SocketBody) -> None:
        """Request and response are whole: keep the connection if it may carry another."""
        body.complete = True
        self._carry_nothing()
        reader = self._reader
        usable = reader.keep_alive and not reader.overrun and not self._cut and self._open
        if usable and self.age.rest(monotonic()):
            self._pool.give_back(self)
        else:
            self.abort()

    def is_quiet(self) -> bool:
        """Whether it is open and nothing came in while it was idle."""
        return self._open and bool(self._quiet)

    def abort(self) -> None:
        """Close it, whatever it does."""
        self._carry_nothing()
        if self._open:
            self._open = False
            self._pool.forget(self)
            self._socket.close()

    def _hang_up(self) -> None:
        """Make whatever another thread does on it fail at once; that thread then closes it."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # of the socket beneath TLS, which says no goodbye

    def _carry_nothing(self) -> None:
        if self._break_off is not None:
            self._break_off.over()
            self._break_off = None

    def get_extra_info(self, name: str) -> Any:
        """Facts about the connection, under httpcore's names."""
        if name in ("client_addr", "server_addr"):
            return self._socket.getsockname() if name == "client_addr" else self._socket.getpeername()
        if name == "ssl_object":
            return self._socket if isinstance(self._socket, ssl.SSLSocket) else None
        return self._socket if name == "socket" else None


def _limit(timeouts: Timeouts, most: float | None) -> tuple[float | None, bool]:
    """Seconds that an operation may take, and whether the deadline is what bounds it."""
    if timeouts.deadline is None:
        return most, False
    left = max(timeouts.deadline - monotonic(), 1e-4)
    return (left, True) if most is None or left < most else (most, False)
