"""One HTTP/1.1 connection for threads: a socket, asked by one thread at a time.

Every operation is bounded by the read, write or connect timeout and by the deadline of the exchange, whichever is
nearer, so that a body that trickles cannot outlive the deadline. A thread cannot be cancelled; a socket can be closed.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from time import monotonic
from typing import Any

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import BreakOff, Headers, Target, Timeouts, WireError, WireRequest, WireResponse
from meshlib.transport.handshake import Sessions
from meshlib.transport.http1 import writer
from meshlib.transport.http1.bounded import BoundedSocket
from meshlib.transport.http1.idle import Age
from meshlib.transport.http1.reader import MANY, MUCH, Malformed, Reader

__all__ = ["Connection", "SocketBody"]

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
            if len(chunks) > MANY:
                chunks[:] = [b"".join(chunks)]
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
        sessions: Where the TLS session is remembered for the next connection; None for plaintext.
    """

    def __init__(self, target: Target, sock: socket.socket, pool: Any, sessions: Sessions | None = None) -> None:
        self.age = Age(target.settings, monotonic())
        self._socket = BoundedSocket(sock)
        self._pool = pool
        self._sessions = sessions
        self._reader = Reader()
        self._open = True
        self._cut = self._is_last = False
        self._break_off: BreakOff | None = None

    def exchange(self, request: WireRequest) -> WireResponse:
        """Send ``request`` and return once the response's headers are there.

        Raises:
            WireError: See ``BlockingTransport.send``. Whatever is raised, the connection is closed.
        """
        body = SocketBody(self, request.timeouts)
        reader = self._reader
        self._socket.sent = self._cut = self._is_last = False
        self._break_off = request.break_off
        if request.break_off is not None:
            request.break_off.carried(self._socket.hang_up)
        try:
            head = writer.head(request)
            self._is_last = head.closes
            reader.expect(request.method, body.chunks)
            self._send(head, request)
            while not reader.has_headers:
                self._read(request.timeouts, request.timeouts.read)
        except BaseException:
            self.abort()
            raise
        body.trailers = reader.trailers
        version, reason = reader.http_version, reader.reason
        extensions: dict[str, Any] = {"http_version": version, "reason_phrase": reason, "network_stream": self}
        extensions["trailing_headers"] = reader.trailers
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

    def _send(self, head: writer.Head, request: WireRequest) -> None:
        """Head and body; an answer that comes before the body is whole may cut it short."""
        body, timeouts, text = request.body, request.timeouts, head.text
        if body is None:
            self._write(text + head.end(), timeouts)
            return
        if head.waits:
            self._write(text, timeouts)
            if not self._may_continue(timeouts):
                self._cut = True
                return
            text = b""
        if isinstance(body, bytes):
            self._write(text + head.whole(body), timeouts)
            return
        self._write(text, timeouts)
        for piece in body:  # type: ignore[union-attr]
            if self._is_answered():
                self._cut = True
                return
            self._write(head.piece(piece), timeouts)
        if not self._cut:
            self._write(head.end(), timeouts)

    def _write(self, data: bytes | memoryview, timeouts: Timeouts) -> None:
        """Send it, unless an answer cut the request short before or does so now."""
        if data and not self._cut:
            self._cut = not self._socket.write(data, timeouts, self._is_answered)

    def _is_answered(self) -> bool:
        """Whether the rest of the request is for nobody: refused, or the peer is gone, or has too much to say itself.

        An answer that is none of these may come while the peer still reads, and the request goes on.
        """
        data = self._socket.glance()
        if data:
            self._take(data)
        reader = self._reader
        return data == b"" or reader.stops_request or (data is not None and sum(map(len, reader.chunks)) > MUCH)

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
        data = self._socket.read(timeouts, most)
        if data:
            self._take(data)
        elif not self._reader.end():
            before = "the response was complete" if self._reader.has_headers else "a response came"
            raise WireError(Failure.CLOSED, f"the peer closed the connection before {before}", sent=True)

    def _take(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except Malformed as error:
            raise WireError(Failure.PROTOCOL, f"malformed response: {error}", sent=True) from error

    # Ends -----------------------------------------------------------------------------------------------------------

    def _settle(self, body: SocketBody) -> None:
        """Request and response are whole: keep the connection if it may carry another."""
        body.complete = True
        self._carry_nothing()
        reader = self._reader
        if self._sessions is not None and not self.age.served:
            self._sessions.learn(self._socket.get_extra_info("ssl_object"))
        if reader.rests is not None:
            self.age.shorten(reader.rests)
        is_left = reader.overrun or self._cut or self._is_last or not self._open
        if reader.keep_alive and not is_left and self.age.rest(monotonic()):
            self._pool.give_back(self)
        else:
            self.abort()

    def is_quiet(self) -> bool:
        """Whether it is open and nothing came in while it was idle."""
        return self._open and self._socket.is_quiet()

    def abort(self) -> None:
        """Close it, whatever it does."""
        self._carry_nothing()
        if self._open:
            self._open = False
            self._pool.forget(self)
            self._socket.close()

    def _carry_nothing(self) -> None:
        if self._break_off is not None:
            self._break_off.over()
            self._break_off = None

    def get_extra_info(self, name: str) -> Any:
        """Facts about the connection, under httpcore's names."""
        return self._socket.get_extra_info(name)
