"""One HTTP/1.1 connection under asyncio: fed by the event loop, asked by one task at a time.

There is no reader task and no queue: bytes go from the event loop straight into the ``Reader``, and the task that sent
the request sleeps on one future. What belongs to one exchange lives in its ``StreamedBody``, so that the connection may
carry the next one while the caller still holds the last answer. Timeouts cost one timer that is moved when it fires,
not one for each request.

An exchange ends in one of two ways: the response is complete, and the connection goes back to its pool if it may; or
anything else happened (an error, a cancelled task, a body closed early), and the connection is aborted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable
from time import monotonic
from typing import Any

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import Headers, Target, Timeouts, WireError, WireRequest, WireResponse
from meshlib.transport.handshake import Sessions
from meshlib.transport.http1 import writer
from meshlib.transport.http1.idle import Age, Quiet
from meshlib.transport.http1.reader import MANY, MUCH, Malformed, Reader

__all__ = ["Connection", "StreamedBody"]

_PIECE = 64 * 1024
"""Bytes of a request that are written at once, each within the write timeout."""

_CONTINUE = 1.0
"""Seconds to wait for ``100 Continue`` before the body is sent anyway (RFC 9110 section 10.1.1)."""


class StreamedBody:
    """A response body, and what is known of the exchange that it belongs to.

    Attributes:
        chunks: Bytes that came and were not taken.
        answered: The headers are there.
        response: What the exchange answers, until it has: who holds an answer would else hold a circle.
        complete: The response is whole.
        error: What broke it.
        trailers: Behind a chunked body; complete when the body is.
    """

    __slots__ = ("_connection", "answered", "chunks", "complete", "error", "response", "trailers")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.chunks: list[bytes] = []
        self.answered = False
        self.response: WireResponse | None = None
        self.complete = False
        self.error: WireError | None = None
        self.trailers: Headers = []

    def whole(self) -> bytes | None:
        """All of a body that is complete and of which nothing was taken, else None."""
        if not self.complete:
            return None
        chunks = self.chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        return body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks as they came."""
        chunks = self.chunks
        while True:
            if len(chunks) > MANY:
                chunks[:] = [b"".join(chunks)]
            while chunks:
                yield chunks.pop(0)
            if self.complete:
                return
            await self._connection.more(self)

    async def aclose(self) -> None:
        """Drop the connection unless the body came to its end. Never waits."""
        if not self.complete:
            self._connection.abort()

    def abandon(self) -> None:
        """The same, from whichever thread collects the garbage."""
        if not self.complete:
            with contextlib.suppress(RuntimeError):  # a loop that is gone took its connections with it
                self._connection.loop.call_soon_threadsafe(self._connection.abort)


class Connection(asyncio.Protocol):
    """Carries one exchange after another.

    Args:
        target: Where it leads.
        loop: The event loop it lives in.
        give_back: Called when it may carry another exchange.
        forget: Called when it is gone.
        sessions: Where the TLS session is remembered for the next connection; None for plaintext.
    """

    _transport: asyncio.Transport
    _quiet: Quiet

    def __init__(
        self,
        target: Target,
        loop: asyncio.AbstractEventLoop,
        give_back: Callable[[Connection], None],
        forget: Callable[[Connection], None],
        sessions: Sessions | None = None,
    ) -> None:
        self._sessions = sessions
        self.age = Age(target.settings, monotonic())
        self.loop = loop
        self._give_back = give_back
        self._forget = forget
        self._reader = Reader()
        self._body: StreamedBody | None = None
        self._timeouts = Timeouts()
        self._waiter: asyncio.Future[None] | None = None
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._writable = True
        self._paused = self._sent = self._written = self._cut = self._is_last = False

    # What the event loop calls --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = transport  # type: ignore[assignment]
        self._quiet = Quiet(transport.get_extra_info("socket").fileno())

    def data_received(self, data: bytes) -> None:
        """The peer sent something; what nobody asked for ends the connection."""
        body = self._body
        if body is None:
            self.abort()
            return
        try:
            self._reader.feed(data)
        except Malformed as error:
            self._fail(body, WireError(Failure.PROTOCOL, f"malformed response: {error}", sent=True))
            return
        self._hear(body)

    def eof_received(self) -> bool:
        """The peer has nothing more to say; that may be what completes the body."""
        if self._body is not None and self._reader.end():
            self._hear(self._body)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._body is not None:
            self._fail(self._body, self._lost(exc))
        self._forget(self)

    def pause_writing(self) -> None:
        """The peer takes the request more slowly than it is made."""
        self._writable = False

    def resume_writing(self) -> None:
        """It has taken what there was."""
        self._writable = True
        self._wake()

    def _hear(self, body: StreamedBody) -> None:
        """Something came: perhaps the headers, more of the body, or its end."""
        reader = self._reader
        if reader.has_headers and not body.answered:
            body.trailers = reader.trailers
            body.answered, body.response = True, self._response(reader, body)
        if reader.done:
            body.complete = True
            if self._written:
                self._settle()
        elif not self._paused and sum(map(len, body.chunks)) > MUCH:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def _response(self, reader: Reader, body: StreamedBody) -> WireResponse:
        version, reason = reader.http_version, reader.reason
        extensions: dict[str, Any] = {"http_version": version, "reason_phrase": reason, "network_stream": self}
        extensions["trailing_headers"] = reader.trailers
        return WireResponse(reader.status, reader.headers, body, version, reason, extensions)

    def _lost(self, exc: Exception | None) -> WireError:
        if not self._sent:
            return WireError(Failure.CLOSED, "the connection closed before the request was sent", sent=False)
        before = "the response was complete" if self._reader.has_headers else "a response came"
        why = f" ({exc})" if exc is not None else ""
        return WireError(Failure.CLOSED, f"the peer closed the connection before {before}{why}", sent=True)

    # One exchange ---------------------------------------------------------------------------------------------------

    async def exchange(self, request: WireRequest) -> WireResponse:
        """Send ``request`` and return once the response's headers are there.

        Raises:
            WireError: See ``CooperativeTransport.send``. Whatever is raised, the connection is closed.
        """
        try:
            head = writer.head(request)
            body = self._body = StreamedBody(self)
            self._reader.expect(request.method, body.chunks)
            self._timeouts = request.timeouts
            self._sent = self._written = self._cut = False
            self._is_last = head.closes
            if request.body is None:
                self._write(head.text + head.end(), body)
            else:
                await self._send(head, request.body, body)
            self._written = True
            if body.complete:
                self._settle()
            while not body.answered:
                await self._wait(body, request.timeouts.read)
        except BaseException:
            self.abort()
            raise
        response, body.response = body.response, None
        assert response is not None
        return response

    def _write(self, data: bytes | memoryview, body: StreamedBody) -> None:
        if self._transport.is_closing():
            if not body.answered:
                raise body.error or self._lost(None)
            self._cut = True
            return
        self._sent = True
        self._transport.write(data)

    async def _send(self, head: writer.Head, content: Any, body: StreamedBody) -> None:
        """Head and body; an answer that comes before the body is whole may cut it short."""
        text, at_hand = head.text, isinstance(content, bytes)
        framed = head.whole(content) if at_hand else b""
        if head.waits:
            self._write(text, body)
            if not await self._may_continue(body):
                self._cut = True
                return
        elif at_hand and len(framed) <= _PIECE:
            self._write(text + framed, body)
            await self._drain(body)
            return
        else:
            self._write(text, body)
        if at_hand:
            await self._send_whole(memoryview(framed), body)
        else:
            await self._send_pieces(head, content, body)

    async def _send_pieces(self, head: writer.Head, pieces: AsyncIterable[bytes], body: StreamedBody) -> None:
        async for piece in pieces:
            if self._is_answered():
                self._cut = True
                return
            self._write(head.piece(piece), body)
            await self._drain(body)
        if head.wants_more and self._is_answered():
            self._cut = True
        elif end := head.end():
            self._write(end, body)

    async def _send_whole(self, framed: memoryview, body: StreamedBody) -> None:
        """A body that is at hand, framed already."""
        for start in range(0, len(framed), _PIECE):
            if self._is_answered():
                self._cut = True
                return
            self._write(framed[start : start + _PIECE], body)
            await self._drain(body)

    async def _drain(self, body: StreamedBody) -> None:
        """Until the peer took nearly all, or an answer cut the request short."""
        while not self._writable and not self._is_answered():
            await self._wait(body, self._timeouts.write, Failure.WRITE_TIMEOUT)
        self._cut = self._cut or not self._writable

    def _is_answered(self) -> bool:
        """Whether the rest of the request is for nobody: refused, or the peer is gone, or has too much to say itself.

        An answer that is none of these may come while the peer still reads, and the request goes on.
        """
        gone = self._body is None or (self._body.answered and self._transport.is_closing())
        return self._reader.stops_request or self._paused or gone

    async def _may_continue(self, body: StreamedBody) -> bool:
        """Whether the body is wanted: after ``100 Continue``, or when the peer says nothing for a while."""
        ends = monotonic() + _CONTINUE
        timer = self.loop.call_later(_CONTINUE, self._wake)
        try:
            while not self._reader.continued and not body.answered and monotonic() < ends:
                await self._wait(body, None)
        finally:
            timer.cancel()
        return not body.answered

    async def more(self, body: StreamedBody) -> None:
        """Wait until there are body bytes, or the body is complete."""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        while not body.chunks and not body.complete:
            await self._wait(body, self._timeouts.read)

    # Waiting --------------------------------------------------------------------------------------------------------

    async def _wait(self, body: StreamedBody, limit: float | None, failure: Failure = Failure.READ_TIMEOUT) -> None:
        """Until something happened, at most ``limit`` seconds and not past the deadline."""
        if body.error is not None:
            raise body.error
        due, failure = self._due(limit, failure)
        if due is not None and (self._timer is None or due < self._timer_at):
            self._arm(due)
        waiter = self._waiter = self.loop.create_future()
        self._awaited = (due, failure)
        try:
            await waiter
        finally:
            if self._waiter is waiter:  # else the next exchange has begun, and waits for itself
                self._waiter = None
        if body.error is not None:
            raise body.error

    def _due(self, limit: float | None, failure: Failure) -> tuple[float | None, Failure]:
        deadline = self._timeouts.deadline
        if limit is None:
            return deadline, Failure.DEADLINE
        due = monotonic() + limit
        return (due, failure) if deadline is None or due < deadline else (deadline, Failure.DEADLINE)

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self.loop.call_later(max(0.0, due - monotonic()), self._tick)

    def _tick(self) -> None:
        """The timer fired: it was set for a wait that may be over, and moves on to the one that is not."""
        self._timer = None
        body, (due, failure) = self._body, self._awaited
        if self._waiter is None or body is None or due is None:
            return
        if monotonic() < due:
            self._arm(due)
            return
        self._fail(body, WireError(failure, _TIMED_OUT[failure], sent=self._sent))

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # Ends -----------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Request and response are whole: keep the connection if it may carry another."""
        reader = self._reader
        self._body = None
        if self._sessions is not None and not self.age.served:
            self._sessions.learn(self._transport.get_extra_info("ssl_object"))
        if reader.rests is not None:
            self.age.shorten(reader.rests)
        is_left = reader.overrun or self._cut or self._is_last or self._transport.is_closing()
        if reader.keep_alive and not is_left and self.age.rest(monotonic()):
            self._give_back(self)
        else:
            self._transport.close()

    def _fail(self, body: StreamedBody, error: WireError) -> None:
        if body.error is None:
            body.error = error
        self._wake()
        self.abort()

    def is_quiet(self) -> bool:
        """Whether it is open and nothing came in while it was idle."""
        return not self._transport.is_closing() and bool(self._quiet)

    def abort(self) -> None:
        """Close it at once, whatever it does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport.abort()

    def get_extra_info(self, name: str) -> Any:
        """Facts about the connection, under httpcore's names: ``ssl_object``, ``client_addr``, ``server_addr`` ..."""
        return self._transport.get_extra_info(_INFO.get(name, name))


_INFO = {"client_addr": "sockname", "server_addr": "peername"}
_TIMED_OUT = {
    Failure.READ_TIMEOUT: "nothing came within the read timeout",
    Failure.WRITE_TIMEOUT: "the peer took nothing within the write timeout",
    Failure.DEADLINE: "the timeout ran out",
}
