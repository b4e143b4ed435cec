"""Courses on ``grpc`` channels: waiting happens in threads, and grpcio's own thread tells what has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc

from meshlib.dataplane.attempt import Attempt
from meshlib.dataplane.call import Call
from meshlib.dataplane.drivers import blocking, blocking_attempt
from meshlib.dataplane.drivers.workers import Workers
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.policies import rate_limit
from meshlib.dataplane.reply import LocalReply
from meshlib.errors import MeshError
from meshlib.grpc.course import Course
from meshlib.grpc.failures import answered, peer_error
from meshlib.grpc.message_replay import KeptMessages, MessageReplay
from meshlib.grpc.mirroring import mirror_stream
from meshlib.grpc.outcomes import OK
from meshlib.grpc.rpc import authority_of, metadata_of
from meshlib.grpc.subchannels import Subchannel
from meshlib.grpc.unary import FRAME, Sent, UnaryExchange, ended
from meshlib.grpc.unheard import UnheardCall
from meshlib.grpc.ways import Ways

__all__ = ["BlockingCourse"]

_aside = Workers("meshlib-grpc")


class BlockingCourse(Course):
    """See ``Course``.

    Attributes:
        reading: A thread takes a message, or has taken one that is not counted yet.
        unread_end: The attempt that ended meanwhile, or None.
    """

    def __init__(self, ways: Ways, sent: Sent, begin: Callable[[], Call], source: bytes | KeptMessages) -> None:
        super().__init__(ways, sent, begin, source)
        self._moved = threading.Condition(self.lock)
        self.reading = False
        self.unread_end: Any = None

    # What the caller's threads wait for -------------------------------------------------------------------------------

    def current(self) -> Any:
        """The real call of the attempt under way or of the last, waiting for the next; None at an early end."""
        with self._moved:
            while self.real is None and not self.ended:
                self._moved.wait()
            return self.real

    def pass_by(self, real: Any) -> None:
        """Wait until it is decided what comes after ``real``, which has ended."""
        self.over(real)
        with self._moved:
            while self.real is real and not self.ended:
                self._moved.wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; whether it has come."""
        with self._moved:
            return self._moved.wait_for(lambda: self.ended, timeout)

    # See ``Course`` ---------------------------------------------------------------------------------------------------

    def dial(self, attempt: Attempt) -> tuple[Any, Subchannel]:
        """See ``Course``."""
        call, sent, ways = self.call, self.sent, self.ways
        target, headers = call.head(attempt)
        kind, source = sent.kind, self.source
        request: Any = source.messages() if isinstance(source, MessageReplay) else source
        if isinstance(source, bytes):
            call.request_bytes += len(source) + FRAME
            call.request_messages += 1
        bounded = attempt.deadline_is_overall or not kind.endswith("stream")
        until = attempt.deadline if bounded else call.deadline
        timeout = None if until is None else until - self.clock.now()
        subchannel = ways.subchannel(attempt, authority_of(headers, ways.service.authority))
        stub = subchannel.stub(kind, target, sent.registered)
        invoke = stub if kind.endswith("stream") else stub.future
        try:
            return invoke(request, timeout, metadata_of(headers), sent.credentials, None, sent.compression), subchannel
        except BaseException:
            subchannel.leave()
            raise

    def watch(self, real: Any) -> None:
        """See ``Course``."""
        if not real.add_callback(partial(self._told, real)):
            self.over(real)

    def _told(self, real: Any) -> None:
        """In the thread that brings grpcio's news.

        Initial metadata of a failed attempt may be among those to come. A message may be in the hands of a reader who
        has not counted it yet, and by which the RPC is committed: the end is then the reader's to tell.
        """
        if self.reading:
            self.unread_end = real
            if self.reading:
                return
        if real.code().value[0]:
            _aside.run(partial(self.over, real))
        else:
            self.over(real)

    def end_of(self, real: Any, attempt: Attempt, now: float) -> Outcome:
        """See ``Course``."""
        code, call = real.code(), self.call
        if not code.value[0]:
            if self.sent.kind.endswith("unary"):
                call.response_bytes += (self.weigh(real.result()) or 0) + FRAME
                call.response_messages += 1
            return OK
        words, initial, trailing = real.details(), real.initial_metadata() or (), real.trailing_metadata() or ()
        error = peer_error(code, words or "", (initial, trailing))
        cancelled = self.cancelled and not self._late
        return ended(attempt, code, words, [*initial, *trailing], now, cancelled=cancelled, error=error)

    def trailing(self, real: Any) -> Any:
        """See ``Course``."""
        return real.trailing_metadata()

    def words_of(self, real: Any) -> str:
        """See ``Course``."""
        return real.details() or ""

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """See ``Course``."""
        _aside.run(partial(self._after, seconds, work))

    def _after(self, seconds: float, work: Callable[[], None]) -> None:
        if seconds > 0:
            self.clock.sleep(seconds)
        work()

    def hear(self, call: UnheardCall) -> None:
        """See ``Course``."""
        _aside.run(partial(self._hear, call))

    def _hear(self, call: UnheardCall) -> None:
        try:
            call.wait(self.ways.mesh)
        except MeshError as error:
            self.heard(call, error)
        else:
            self.heard(call, None)

    def prelude(self) -> None:
        """See ``Course``."""
        _aside.run(self._prelude)

    def _prelude(self) -> None:
        call, clock = self.call, self.clock
        if call.delay:
            clock.sleep(call.within(call.delay, clock.now()))
        try:
            question = rate_limit.count(call, clock.now()) if call.limiter is not None else None
            if question is not None:
                left = call.within(question.service.timeout, clock.now())
                rate_limit.judge(call, self.ways.services.ask(question, left, self.ways.mesh.blocking))
        except MeshError as error:
            self.fail(error)
            return
        self.after_prelude()

    def race(self) -> None:
        """See ``Course``."""
        _aside.run(self._race)

    def _race(self) -> None:
        call, source = self.call, self.source
        assert isinstance(source, bytes)
        try:
            reply: Any = blocking.drive(call, UnaryExchange(self.ways, call, source, self.sent), self.clock)
        except MeshError as error:
            self.fail(error)
        except grpc.RpcError as error:
            failed: Any = error
            self.finish(failed, failed.code().value[0])
        else:
            if isinstance(reply, LocalReply):
                call.answer = reply
                made = answered(call, metadata_of(call.response_headers(reply.headers)))
                self.finish(made, made.code().value[0])
                return
            with self.lock:
                self.real = self._judged = reply[1]
            self.finish(None, 0)

    def pass_gate(self, attempt: Attempt) -> None:
        """See ``Course``."""
        _aside.run(partial(self._pass_gate, attempt))

    def _pass_gate(self, attempt: Attempt) -> None:
        try:
            blocking_attempt.pass_gate(self.call, attempt, None, self.clock)
        except MeshError as error:
            self.fail(error)
            return
        self.send(attempt)

    def changed(self) -> None:
        """See ``Course``."""
        self._moved.notify_all()

    def mirror(self, messages: list[bytes]) -> None:
        """See ``Course``."""
        mirror_stream(self.ways, self.call, messages, self.sent)
