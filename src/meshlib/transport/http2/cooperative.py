"""Exchanges in tasks, on a connection that carries many: what asyncio and trio have in common.

A task that waits sleeps on something of its event loop's; whoever feeds the session wakes it. Cancelling a task, or
closing a body early, resets its stream and leaves the others alone.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

import anyio

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import Target, WireError, WireRequest, WireResponse
from meshlib.transport.handshake import Sessions
from meshlib.transport.http1.idle import Age
from meshlib.transport.http1.reader import MANY
from meshlib.transport.http1.writer import wants_continue
from meshlib.transport.http2.frames import Malformed
from meshlib.transport.http2.head import head
from meshlib.transport.http2.keepalive import Keepalive
from meshlib.transport.http2.session import Session
from meshlib.transport.http2.stream import Stream
from meshlib.transport.http2.waits import due, timed_out
from meshlib.transport.http2.wire import WINDOW

__all__ = ["CONTINUE", "CooperativeConnection", "Shelving", "TaskStream"]

CONTINUE = 1.0
"""Seconds to wait for ``100 Continue`` before the body is sent anyway (RFC 9110 section 10.1.1)."""


class TaskStream(Stream):
    """An exchange, and its body for a task."""

    __slots__ = ("_connection",)

    def __init__(self, connection: CooperativeConnection, request: WireRequest) -> None:
        super().__init__(request.timeouts)
        self._connection = connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks as they came."""
        chunks, connection = self.chunks, self._connection
        while True:
            if len(chunks) > MANY:
                chunks[:] = [b"".join(chunks)]
            while chunks:
                chunk = chunks.pop(0)
                connection.taken(self, len(chunk))
                yield chunk
            if self.complete:
                return
            await connection.more(self)

    async def aclose(self) -> None:
        """Reset the stream unless it came to its end. Never waits."""
        self._connection.drop(self)

    def abandon(self) -> None:
        """The same, from whichever thread collects the garbage."""
        if not self.complete:
            with contextlib.suppress(Exception):  # a loop that is gone took its connections with it
                self._connection.soon(self._connection.drop, self)


class Shelving(ABC):
    """Who keeps connections."""

    @abstractmethod
    def put(self, connection: Any) -> None:
        """There may be room on it."""

    @abstractmethod
    def forget(self, connection: Any) -> None:
        """It is gone."""


class CooperativeConnection(ABC):
    """Carries many exchanges at once, from the moment when the peer's settings have come.

    Args:
        target: Where it leads.
        pool: Is told of room, and of the end.
        sessions: Where the TLS session is remembered for the next connection; None for plaintext.

    Attributes:
        greeted: Set when the peer's settings have come, or the connection is gone.
    """

    def __init__(self, target: Target, pool: Shelving, sessions: Sessions | None) -> None:
        now = monotonic()
        self.is_shelved = False
        self.age = Age(target.settings, now)
        self.is_retired = self._is_gone = False
        self.greeted = anyio.Event()
        self._pool = pool
        self._sessions = sessions
        self.session = Session(target.settings.max_concurrent_streams, now, self._left)
        self.keepalive = Keepalive(target.settings.http2_keepalive, self.session, now)

    def begin(self) -> None:
        """Speak HTTP/2, now that it is known that the peer will."""
        self.flush()
        self.plan()

    # One exchange ---------------------------------------------------------------------------------------------------

    async def exchange(self, request: WireRequest) -> WireResponse:
        """Send ``request`` and return once the response's headers are there.

        Raises:
            WireError: See ``CooperativeTransport.send``. Whatever is raised, the stream is over.
        """
        stream = TaskStream(self, request)
        self.session.open(stream, head(request), end=not request.body)
        self.age.served += 1
        self.flush()
        try:
            if request.body:
                await self._send(stream, request)
            while not stream.answered:
                await self._wait(stream, request.timeouts.read)
        except BaseException:
            self.drop(stream)
            raise
        return stream.response(stream, self)

    async def more(self, stream: Stream) -> None:
        """Wait until there are body bytes, or the body is complete."""
        while not stream.chunks and not stream.complete:
            await self._wait(stream, stream.timeouts.read)

    def taken(self, stream: Stream, size: int) -> None:
        """The caller took bytes of the body."""
        if self.session.take(stream, size):
            self.flush()

    def drop(self, stream: Stream) -> None:
        """Nobody waits for the rest of it."""
        if not stream.complete or not stream.is_written:
            self.session.cancel(stream)
            self.flush()

    async def _send(self, stream: Stream, request: WireRequest) -> None:
        """The body; an answer that comes before it is whole may cut it short."""
        body: Any = request.body
        if wants_continue(request) and not await self._may_continue(stream):
            stream.is_cut = True
        elif isinstance(body, bytes):
            await self._push(stream, memoryview(body))
        else:
            async for piece in body:
                await self._push(stream, memoryview(piece))
                if stream.stops_request:
                    break
        self.session.finish(stream)
        self.flush()

    async def _push(self, stream: Stream, data: memoryview) -> None:
        write = stream.timeouts.write
        while data and not stream.stops_request:
            sent = self.session.send(stream, data) if self.is_writable else 0
            data = data[sent:]
            if sent:
                self.flush()
            elif stream.answered and stream.owed - stream.taken > WINDOW // 2:
                stream.is_cut = True  # it answers at length, and takes no more before that is read
            else:
                await self._wait(stream, write, Failure.WRITE_TIMEOUT)

    async def _may_continue(self, stream: Stream) -> bool:
        """Whether the body is wanted: after ``100 Continue``, or when the peer says nothing for a while."""
        ends = monotonic() + CONTINUE
        while not stream.continued and not stream.answered and (left := ends - monotonic()) > 0:
            try:
                await self._wait(stream, left)
            except WireError as error:
                if error.failure is not Failure.READ_TIMEOUT:
                    raise
        return not stream.answered

    async def _wait(self, stream: Stream, limit: float | None, failure: Failure = Failure.READ_TIMEOUT) -> None:
        """Until something happened, at most ``limit`` seconds and not past the deadline."""
        if stream.error is not None:
            raise stream.error
        moment, failure = due(stream.timeouts, limit, failure)
        if not await self.sleep(stream, moment):
            raise timed_out(failure)
        if stream.error is not None:
            raise stream.error

    # The connection -------------------------------------------------------------------------------------------------

    def has_room(self, now: float) -> bool:
        """Whether it may carry one exchange more; if it never will again, and carries none, it hangs up."""
        session, age = self.session, self.age
        if not session.streams and (age.is_over(now) or age.is_spent(now) or session.is_closed_to_all):
            self.hang_up()
        return session.has_room and not age.is_spent(now)

    def heard(self, data: bytes) -> None:
        """The peer sent something."""
        now = monotonic()
        try:
            self.session.receive(data, now)
        except Malformed as error:
            self.session.fail(Failure.PROTOCOL, f"malformed response: {error}")
            self.session.say_goodbye(malformed=True)
            self.send_now()
            self.hang_up()
            return
        if self.keepalive.answered(now):
            self.plan()
        self.flush()

    def ended(self, why: str = "") -> None:
        """The connection is gone."""
        self.session.end(why)
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connection, whatever it carries. Idempotent."""
        if not self._is_gone:
            self._is_gone = True
            self._pool.forget(self)
            self.cut()
            self.greeted.set()
            self.session.fail(Failure.CLOSED, "the connection was closed")

    def retire(self) -> None:
        """Take no more exchanges, and hang up after the last one."""
        self.is_retired = True
        self._left()

    def tick(self) -> None:
        """A moment has come that ``next_moment`` told: ask the peer, give it up, or give up resting."""
        now = monotonic()
        if not self.keepalive.act(now):
            self.session.fail(Failure.CLOSED, "the peer answered no PING")
            self.hang_up()
        elif not self.session.streams and self.age.is_over(now):
            self.hang_up()
        else:
            self.flush()

    def next_moment(self) -> float | None:
        """When ``tick`` is due."""
        rests = self.age.rests_until if not self.session.streams else None
        return min((each for each in (self.keepalive.due, rests) if each is not None), default=None)

    def _left(self) -> None:
        """There is room again, or nothing left to do."""
        session = self.session
        if session.is_greeted:
            self.greeted.set()
        if session.streams:
            if not self.is_retired:
                self._pool.put(self)
            return
        if self._sessions is not None and self.age.served == 1:
            self._sessions.learn(self.get_extra_info("ssl_object"))
        if self.is_retired or session.going is not None or session.broken or not self.age.settle(monotonic()):
            self.hang_up()
        else:
            self._pool.put(self)
            self.plan()

    # What each event loop does in its own way -------------------------------------------------------------------------

    is_writable = True
    """The peer takes what it is sent."""

    @abstractmethod
    async def sleep(self, stream: Stream, until: float | None) -> bool:
        """Until ``stream`` is woken; False when ``until`` comes first."""

    @abstractmethod
    def flush(self) -> None:
        """Have sent what the session wants to send, soon."""

    @abstractmethod
    def send_now(self) -> None:
        """Send it now, as far as that goes without waiting."""

    @abstractmethod
    def plan(self) -> None:
        """Have ``tick`` called at ``next_moment``, if that is sooner than planned."""

    @abstractmethod
    def soon(self, call: Callable[..., object], *args: Any) -> None:
        """Have something called by the event loop, from any thread."""

    @abstractmethod
    def cut(self) -> None:
        """Close the connection at once; called once."""

    @abstractmethod
    def get_extra_info(self, name: str) -> Any:
        """Facts about the connection, under httpcore's names."""
