"""Exchanges in threads, on a connection that carries many: a lock, a socket that never blocks, and one listener.

Of the threads that wait, one listens on the socket, feeds the session with what comes, and wakes whom it concerns.
When it has got what it waited for, another listens. The lock is never held while anybody waits or the caller's code
runs. A thread cannot be cancelled; its stream can be broken off.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Protocol

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import Headers, Target, Timeouts, WireError, WireRequest, WireResponse
from meshlib.transport.handshake import Sessions
from meshlib.transport.http1.idle import Age
from meshlib.transport.http1.writer import wants_continue
from meshlib.transport.http2.frames import Malformed
from meshlib.transport.http2.keepalive import Keepalive
from meshlib.transport.http2.lines import Lines
from meshlib.transport.http2.session import Session
from meshlib.transport.http2.stream import Stream
from meshlib.transport.http2.waits import due, timed_out
from meshlib.transport.http2.wire import WINDOW

__all__ = ["Connection", "ThreadStream"]

_CONTINUE = 1.0
"""Seconds to wait for ``100 Continue`` before the body is sent anyway (RFC 9110 section 10.1.1)."""


class ThreadStream(Stream):
    """An exchange, and its body for a thread."""

    __slots__ = ("_connection", "woken")

    def __init__(self, connection: Connection, timeouts: Timeouts) -> None:
        super().__init__(timeouts)
        self._connection = connection
        self.woken = threading.Condition(connection.lock)
        self.wake = self.woken.notify

    def __iter__(self) -> Iterator[bytes]:
        """The chunks as they came."""
        while chunks := self._connection.more(self):
            yield from chunks

    def close(self) -> None:
        """Reset the stream unless it came to its end."""
        if not self.complete or not self.is_written:
            with self._connection.lock:
                self._connection.drop(self)

    def abandon(self) -> None:
        """The same for the garbage collector, which may run in a thread that holds the lock."""
        if not self.complete or not self.is_written:
            self._connection.drop_soon(self)


class Pool(Protocol):
    """Who keeps connections; called with the connection's lock held."""

    def put(self, connection: Connection) -> None: ...

    def set_aside(self, connection: Connection) -> None: ...

    def forget(self, connection: Connection) -> None: ...


class Connection:
    """Carries many exchanges at once, from the moment when the peer's settings have come.

    Args:
        target: Where it leads.
        sock: The connected socket.
        pool: Is told of room, and of the end.
        sessions: Where the TLS session is remembered for the next connection; None for plaintext.
    """

    def __init__(self, target: Target, sock: Any, pool: Pool, sessions: Sessions | None = None) -> None:
        now = monotonic()
        self.lock = threading.Lock()
        self.is_shelved = self.is_retired = self._is_gone = False
        self.age = Age(target.settings, now)
        self._pool = pool
        self._sessions = sessions
        self._lines = Lines(sock)
        self.session = Session(target.settings.max_concurrent_streams, now, self._left)
        self._keepalive = Keepalive(target.settings.http2_keepalive, self.session, now)
        self._listener: Stream | None = None
        self._sleepers: dict[ThreadStream, None] = {}
        self._dropped: deque[ThreadStream] = deque()

    # One exchange ---------------------------------------------------------------------------------------------------

    def greet(self, limit: float, timeouts: Timeouts) -> None:
        """Wait for the peer's settings, as gRPC does: until then nothing is sent on the connection.

        Raises:
            WireError: They did not come, in time or at all.
        """
        session = self.session
        with self.lock:
            self._flush()
            self._wait(
                ThreadStream(self, timeouts),
                lambda: session.is_greeted or session.broken is not None,
                limit,
                Failure.CONNECT_TIMEOUT,
            )

    def open(self, request: WireRequest, headers: Headers) -> ThreadStream | None:
        """A stream for ``request``, whose headers are on the way; None when there is no room, or no peer any more."""
        with self.lock:
            is_done, session = self._is_done(), self.session
            if is_done or not session.has_room:
                self._pool.set_aside(self)
                return None
            stream = ThreadStream(self, request.timeouts)
            session.open(stream, headers, end=not request.body)
            self.age.served += 1
            self._flush()
            return stream

    def tend(self) -> None:
        """Take in what came while nobody called, ask the peer whether it is there, and hang up when all is done."""
        with self.lock:
            self._is_done()

    def _is_done(self) -> bool:
        """Whether no exchange may begin any more; if none is under way, or it rested too long, it hangs up."""
        self._look()
        now = monotonic()
        is_done = self.age.is_spent(now) or self.session.is_closed_to_all
        if not self.session.streams and (is_done or self.age.is_over(now)):
            self.hang_up()
        return is_done

    def exchange(self, stream: ThreadStream, request: WireRequest) -> WireResponse:
        """Send the rest of ``request`` and return once the response's headers are there.

        Raises:
            WireError: See ``BlockingTransport.send``. Whatever is raised, the stream is over.
        """
        if request.break_off is not None:
            request.break_off.carried(lambda: self._break_off(stream))
        try:
            if request.body:
                self._send(stream, request)
            with self.lock:
                self._wait(stream, lambda: stream.answered, request.timeouts.read)
        except BaseException:
            stream.close()
            raise
        return stream.response(stream, self)

    def more(self, stream: ThreadStream) -> list[bytes]:
        """What came of the body and was not taken, at least one piece; nothing at its end."""
        if stream.complete and not stream.chunks:
            return []
        with self.lock:
            self._wait(stream, lambda: bool(stream.chunks) or stream.complete, stream.timeouts.read)
            chunks, stream.chunks = stream.chunks, []
            if self.session.take(stream, sum(map(len, chunks))):
                self._flush()
            return chunks

    def drop(self, stream: Stream) -> None:
        """Nobody waits for the rest of it; the lock is held."""
        self.session.cancel(stream)
        self._flush()

    def drop_soon(self, stream: ThreadStream) -> None:
        """The same, with or without the lock."""
        self._dropped.append(stream)
        if self.lock.acquire(blocking=False):
            try:
                self._drop_dropped()
            finally:
                self.lock.release()

    def _send(self, stream: ThreadStream, request: WireRequest) -> None:
        """The body; an answer that comes before it is whole may cut it short."""
        body: Any = request.body
        if wants_continue(request) and not self._may_continue(stream):
            stream.is_cut = True
        for piece in (body,) if isinstance(body, bytes) else body:
            if stream.stops_request:
                break
            with self.lock:
                self._push(stream, memoryview(piece))
        with self.lock:
            self.session.finish(stream)
            self._flush()

    def _push(self, stream: ThreadStream, data: memoryview) -> None:
        while data and not stream.stops_request:
            sent = self.session.send(stream, data) if self._lines.is_writable else 0
            data = data[sent:]
            if sent:
                self._flush()
            elif stream.answered and stream.owed - stream.taken > WINDOW // 2:
                stream.is_cut = True  # it answers at length, and takes no more before that is read
            else:
                self._wait(stream, lambda: self._may_push(stream), stream.timeouts.write, Failure.WRITE_TIMEOUT)

    def _may_push(self, stream: Stream) -> bool:
        return stream.stops_request or (self._lines.is_writable and self.session.window(stream) > 0)

    def _may_continue(self, stream: ThreadStream) -> bool:
        """Whether the body is wanted: after ``100 Continue``, or when the peer says nothing for a while."""
        with self.lock:
            try:
                self._wait(stream, lambda: stream.continued or stream.answered, _CONTINUE)
            except WireError as error:
                if error.failure is not Failure.READ_TIMEOUT:
                    raise
        return not stream.answered

    def _break_off(self, stream: ThreadStream) -> None:
        with self.lock:
            if not stream.complete and stream.error is None:
                stream.error = WireError(Failure.CLOSED, "the exchange was broken off", sent=True)
                self.drop(stream)
                self._lines.kick()
                stream.wake()

    # Waiting --------------------------------------------------------------------------------------------------------

    def _wait(
        self,
        stream: ThreadStream,
        is_over: Callable[[], bool],
        limit: float | None,
        failure: Failure = Failure.READ_TIMEOUT,
    ) -> None:
        """Until ``is_over``, at most ``limit`` seconds and not past the deadline; the lock is held, and let go."""
        moment, failure = due(stream.timeouts, limit, failure)
        try:
            while not is_over():
                if stream.error is not None:
                    raise stream.error
                left = None if moment is None else moment - monotonic()
                if left is not None and left <= 0:
                    raise timed_out(failure)
                if self._listener is None:
                    self._listen(stream, left)
                else:
                    self._sleepers[stream] = None
                    stream.woken.wait(left)
                    self._sleepers.pop(stream, None)
        finally:
            self._sleepers.pop(stream, None)
            if self._listener is None and self._sleepers:
                next(iter(self._sleepers)).wake()  # somebody else has to listen now

    def _listen(self, stream: Stream, limit: float | None) -> None:
        """Until the peer sends something, or takes something, or somebody kicks."""
        ping = self._keepalive.due
        if ping is not None:
            left = max(0.0, ping - monotonic())
            limit = left if limit is None else min(limit, left)
        self._listener = stream
        self.lock.release()
        try:
            self._lines.wait(limit)
        finally:
            self.lock.acquire()
            self._listener = None
            if self._is_gone:
                self._lines.close()
        self._look()

    def _look(self) -> None:
        """Take in what has come, without waiting, unless somebody listens; and ask the peer whether it is there."""
        self._drop_dropped()
        if self._is_gone or self._listener is not None:
            return
        try:
            for data in self._lines.read():
                self._hear(data)
        except OSError as error:
            self._end(str(error))
            return
        if not self._is_gone and not self._keepalive.act(monotonic()):
            self.session.fail(Failure.CLOSED, "the peer answered no PING")
            self.hang_up()
        self._flush()

    def _hear(self, data: bytes) -> None:
        if not data:
            self._end("")
            return
        now = monotonic()
        try:
            self.session.receive(data, now)
        except Malformed as error:
            self.session.fail(Failure.PROTOCOL, f"malformed response: {error}")
            self.session.say_goodbye(malformed=True)
            self._flush()
            self.hang_up()
            return
        self._keepalive.answered(now)

    def _flush(self) -> None:
        """Send what there is, as far as that goes without waiting; the listener sends the rest."""
        if self._is_gone:
            return
        was_writable = self._lines.is_writable
        try:
            is_sent = self._lines.send(self.session.outgoing())
        except OSError as error:
            self._end(str(error))
            return
        if not is_sent and self._listener is not None:
            self._lines.kick()
        elif self._lines.is_writable and not was_writable:
            self.session.wake_all()

    def _drop_dropped(self) -> None:
        while self._dropped:
            self.drop(self._dropped.popleft())

    # The end --------------------------------------------------------------------------------------------------------

    def _end(self, why: str) -> None:
        self.session.end(why)
        self.hang_up()

    def _left(self) -> None:
        """There is room again, or nothing left to do; the lock is held."""
        session = self.session
        if session.streams:
            if not self.is_retired:
                self._pool.put(self)
            return
        if self._sessions is not None and self.age.served == 1:
            self._sessions.learn(self._lines.get_extra_info("ssl_object"))
        if self.is_retired or session.is_closed_to_all or session.broken or not self.age.settle(monotonic()):
            self.hang_up()
        else:
            self._pool.put(self)

    def retire(self) -> None:
        """Take no more exchanges, and hang up after the last one."""
        with self.lock:
            self.is_retired = True
            self._left()

    def abort(self) -> None:
        """Close the connection, whatever it carries."""
        with self.lock:
            self.hang_up()

    def hang_up(self) -> None:
        """The same with the lock held. Idempotent."""
        if self._is_gone:
            return
        self._is_gone = True
        self._pool.forget(self)
        self.session.fail(Failure.CLOSED, "the connection was closed")
        if self._listener is None:
            self._lines.close()
        else:
            self._lines.kick()

    def get_extra_info(self, name: str) -> Any:
        """Facts about the connection, under httpcore's names."""
        return self._lines.get_extra_info(name)
