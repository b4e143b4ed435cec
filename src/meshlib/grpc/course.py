"""One RPC whose attempts follow one another, driven by what happens to them: streams and futures of both colours.

Nobody need wait for it: an attempt that ends tells the course (``over``), which settles it, and begins the next one
after its back-off or ends the call. It is committed, and no longer retried, as soon as anything of an answer was given
to the caller. Each attempt is judged once, whoever sees its end first.

A colour adds how an attempt is begun, how waiting is done aside, and who is told of changes. ``lock`` is held for a few
lines, never across a wait nor while grpcio is called.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from meshlib.dataplane.attempt import Attempt
from meshlib.dataplane.call import Call
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.errors import ConnectFailure, MeshError, NoHealthyUpstream
from meshlib.grpc.failures import answered, broken, noted, stopped, translated
from meshlib.grpc.message_replay import KeptMessages
from meshlib.grpc.outcomes import OK
from meshlib.grpc.rpc import headers_of, metadata_of
from meshlib.grpc.subchannels import Subchannel
from meshlib.grpc.unary import TAKES_REPORTS, Sent, raised
from meshlib.grpc.unheard import UnheardCall
from meshlib.grpc.ways import Ways

__all__ = ["Course"]

_LOG = logging.getLogger("meshlib")

_UNREADY = (NoHealthyUpstream, ConnectFailure)
_OWN_STATUS = {Failure.BODY: 2, Failure.LOCAL: 13}
"""Status of what this process could not do, as grpcio has it: UNKNOWN, INTERNAL."""
_READY_AGAIN = 0.1
"""Seconds after which an RPC that waits for readiness is begun anew."""


class Course:
    """See the module.

    Args:
        ways: Of the channel.
        sent: What every attempt sends alike.
        begin: Routes the RPC; again where it waits for somebody to be ready.
        source: The one message, or the stream.

    Attributes:
        call: The routed call.
        attempt: The one under way, or the last.
        real: grpcio's call of it; None between two attempts and before the first.
        committed: Something of an answer was given to the caller.
        ended: It is over: ``error`` says how, None for well.
        status: gRPC status of the end.
        moved: When a message was given to the caller last, or the attempt was sent; kept where ``idles``.
        idles: The attempt may be without a message for so long only.
        cancelled: By the caller, or as ``reason`` says.
        reason: What it ends with when it was cancelled for another reason than that the caller has asked for it.
    """

    weigh: Callable[[Any], int | None] = len
    """Bytes of a message; None where that is not known."""

    def __init__(self, ways: Ways, sent: Sent, begin: Callable[[], Call], source: bytes | KeptMessages) -> None:
        self.ways = ways
        self.sent = sent
        self.source = source
        self.clock = ways.mesh.clock
        self.lock = threading.RLock()
        self.attempt: Attempt | None = None
        self.real: Any = None
        self.committed = self.ended = self.cancelled = False
        self.error: Any = None
        self.reason: Any = None
        self.status = 0
        self.moved = 0.0
        self.idles = False
        self._begin = begin
        self._subchannel: Subchannel | None = None
        self._judged: Any = None
        self._late = False
        self._callbacks: list[Callable[[], None]] = []
        self._among: set[Any] | None = None
        self.call = begin()

    # What a colour adds -----------------------------------------------------------------------------------------------

    def dial(self, attempt: Attempt) -> tuple[Any, Subchannel]:
        """Begin an attempt: grpcio's call and the subchannel that was entered for it."""
        raise NotImplementedError

    def watch(self, real: Any) -> None:
        """Have ``over(real)`` called when it has ended."""
        raise NotImplementedError

    def end_of(self, real: Any, attempt: Attempt, now: float) -> Outcome:
        """How an attempt ended."""
        raise NotImplementedError

    def trailing(self, real: Any) -> Any:
        """Trailing metadata of an attempt that has ended."""
        raise NotImplementedError

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Do ``work`` after so many seconds, unless the event loop or the process has ended."""
        raise NotImplementedError

    def hear(self, call: UnheardCall) -> None:
        """Wait, aside, until it can be routed; then ``heard``."""
        raise NotImplementedError

    def prelude(self) -> None:
        """Delay, rate limit: what comes before the first attempt and waits; then ``after_prelude``."""
        raise NotImplementedError

    def race(self) -> None:
        """Have the driver of hedged calls send attempts side by side; then ``finish``."""
        raise NotImplementedError

    def pass_gate(self, attempt: Attempt) -> None:
        """Wait, aside, until a connection is allowed; then ``send`` or ``fail``."""
        raise NotImplementedError

    def changed(self) -> None:
        """Wake whoever waits for ``real`` or the end; ``lock`` is held."""
        raise NotImplementedError

    # The course -------------------------------------------------------------------------------------------------------

    def start(self, among: set[Any] | None = None) -> None:
        """Begin; never waits. ``among`` holds it until it is over."""
        call = self.call
        if among is not None:
            self._among = among
            among.add(self)
        if isinstance(call, UnheardCall):
            self.hear(call)
        elif call.hedge is not None:
            self.race()
        elif call.delay or call.limiter is not None:
            self.prelude()
        else:
            self.after_prelude()

    def heard(self, call: UnheardCall, error: MeshError | None) -> None:
        """What was waited for is there, or was not in time."""
        if error is not None:
            self.fail(call.unanswered(error, self.clock.now()))
            return
        self._anew()
        if self.call.mirrors and isinstance(self.source, bytes):
            self.mirror([self.source])

    def after_prelude(self) -> None:
        """Give the configuration's answer, or begin the first attempt."""
        if self.call.answer is None:
            self.next_attempt()
            return
        call = self.call
        metadata = metadata_of(call.response_headers(call.answer.headers)) if call.answer is not None else ()
        call.settle_answer(self.clock.now())
        error = answered(call, metadata, aio=self.ways.aio)
        self.finish(error, error.code().value[0])

    def next_attempt(self) -> None:
        """Pick an endpoint and send to it."""
        with self.lock:
            if self.ended:
                return
            try:
                attempt = self.attempt = self.call.next_attempt(self.clock.now())
            except MeshError as error:
                self.fail(error)
                return
        if attempt.fault is not None:
            delay, answer = attempt.fault
            left = delay if attempt.deadline is None else min(delay, max(0.0, attempt.deadline - self.clock.now()))
            self.later(left, partial(self._after_fault, attempt, left < delay, answer))
        elif not attempt.passes():
            self.pass_gate(attempt)
        else:
            self.send(attempt)

    def send(self, attempt: Attempt) -> None:
        """Put an attempt on the wire."""
        try:
            real, subchannel = self.dial(attempt)
        except Exception as error:
            self.unsent(attempt, error)
            return
        self.sent_off(attempt, real, subchannel)

    def unsent(self, attempt: Attempt, error: BaseException) -> None:
        """An attempt could not even be begun."""
        self._settle(attempt, raised(error), "", None)

    def sent_off(self, attempt: Attempt, real: Any, subchannel: Subchannel | None) -> None:
        """An attempt is on the wire."""
        with self.lock:
            self._subchannel, self.real = subchannel, real
            self.changed()
            stop = self.ended or self.cancelled
        if stop:
            real.cancel()
        limit = attempt.deadline
        if limit is not None and not attempt.deadline_is_overall and self.sent.kind.endswith("stream"):
            self.later(max(0.0, limit - self.clock.now()), partial(self._too_slow, real))
        self.idles = attempt.idle_limit is not None
        if attempt.idle_limit is not None:
            self.moved = self.clock.now()
            self.later(attempt.idle_limit, partial(self._idle, real, attempt.idle_limit))
        self.watch(real)

    def commit(self, real: Any) -> bool:
        """Something of the answer of ``real`` goes to the caller: whether that is the attempt that counts."""
        with self.lock:
            if self.real is not real or self.attempt is None:
                return False
            if not self.committed:
                self.committed = True
                if self._judged is not real:
                    self.call.take(self.attempt, OK, self.clock.now())
                if isinstance(self.source, KeptMessages) and not self.call.mirrors:
                    self.source.release()
        return True

    def over(self, real: Any) -> None:
        """An attempt has ended; whoever sees it first says so, and it counts once."""
        with self.lock:
            if self.real is not real or self._judged is real:
                return
            self._judged = real
            attempt, subchannel, self._subchannel = self.attempt, self._subchannel, None
        assert attempt is not None
        outcome = self._blamed(self.end_of(real, attempt, self.clock.now()))
        if subchannel is not None:
            subchannel.leave()
        if self._late and outcome is not OK:
            outcome = Outcome.of_failure(Failure.PER_TRY_TIMEOUT, outcome.error)
        if attempt.cluster.load_balancer.kind is TAKES_REPORTS:
            self.call.take_report(headers_of(self.trailing(real) or ()), self.clock.now())
        self._settle(attempt, outcome, "" if outcome is OK else self.words_of(real), real)

    def _blamed(self, outcome: Outcome) -> Outcome:
        """An RPC that ended because the caller's stream broke says nothing of the wire or the peer."""
        source = self.source
        if outcome is OK or self.cancelled or not isinstance(source, KeptMessages) or source.broken is None:
            return outcome
        return Outcome.of_failure(Failure.BODY, source.broken)

    def words_of(self, real: Any) -> str:
        """Details of an attempt that has ended."""
        return ""

    def cancel(self, reason: Any = None) -> bool:
        """The caller gives up, or it ends with ``reason``; False when it was over already."""
        with self.lock:
            if self.ended or self.cancelled:
                return False
            self.cancelled, self.reason = True, reason
            real = self.real
        if real is not None:
            real.cancel()
            return True
        self.call.abandon(self.clock.now())
        self._stopped()
        return True

    @property
    def given_up(self) -> bool:
        """Whether the caller asked for its end, and it has not ended well all the same."""
        return self.cancelled and self.reason is None and not (self.ended and self.error is None)

    def abandon(self) -> None:
        """Nobody will ask any more."""
        if not self.ended:
            self.cancel()

    def on_end(self, callback: Callable[[], None]) -> bool:
        """Have ``callback`` called at the end; False when it is over already."""
        with self.lock:
            if self.ended:
                return False
            self._callbacks.append(callback)
            return True

    def fail(self, error: MeshError) -> None:
        """It could not be sent, or time ran out."""
        call = self.call
        if self._waits_on(error):
            return
        call.close(self.clock.now())
        made = translated(error, call, aio=self.ways.aio)
        self.finish(made, made.code().value[0])

    def finish(self, error: Any, status: int) -> None:
        """It is over."""
        with self.lock:
            if self.ended:
                return
            self.ended, self.error, self.status = True, error, status
            self.changed()
            callbacks, self._callbacks = self._callbacks, []
        if self._among is not None:
            self._among.discard(self)
        if isinstance(self.source, KeptMessages):
            self._let_go(self.source)
        for callback in callbacks:
            try:
                callback()
            except Exception:  # the caller's; the others are told all the same, and so is whoever waits
                _LOG.exception("a callback of an RPC failed")

    # Inside -----------------------------------------------------------------------------------------------------------

    def _settle(self, attempt: Attempt, outcome: Outcome, words: str, real: Any) -> None:
        """Decide what comes after an attempt."""
        call, now = self.call, self.clock.now()
        if self.cancelled and outcome is not OK:
            call.abandon(now)
            self._stopped()
            return
        if self.committed:
            call.close(now, None if outcome is OK else outcome)
            self._conclude(outcome, words)
            return
        wait = call.settle(attempt, outcome, now)
        if wait is not None:
            with self.lock:
                if self.real is real:
                    self.real = None
                self._late = False
            self.later(call.within(wait, now), self.next_attempt)
            return
        if outcome.failure is None:
            call.close(now)
        self._conclude(outcome, words)

    def _stopped(self) -> None:
        error = self.reason or stopped(self.call, aio=self.ways.aio)
        self.finish(error, error.code().value[0])

    def _conclude(self, outcome: Outcome, words: str) -> None:
        if outcome is OK:
            self.finish(None, 0)
            return
        call, cause = self.call, outcome.error
        if outcome.failure is None:
            error = noted(cause, call) if cause is not None else self._injected(outcome, words)
        elif outcome.failure in (Failure.CONNECT, Failure.TLS) and self._waits_on(ConnectFailure(words)):
            return
        else:
            known: Any = cause if hasattr(cause, "code") else None
            status = known.code().value[0] if known is not None else _OWN_STATUS.get(outcome.failure, 14)
            if outcome.failure is Failure.BODY:
                words = known.details() if known is not None else "Exception iterating requests!"
            error = broken(call, outcome, status, words or str(cause or ""), aio=self.ways.aio)
            if known is None:
                error.__cause__ = cause
        self.finish(error, error.code().value[0] if hasattr(error, "code") else 13)

    def _injected(self, outcome: Outcome, words: str) -> Any:
        return broken(self.call, outcome, outcome.grpc_status or 2, words, aio=self.ways.aio)

    def _waits_on(self, error: MeshError) -> bool:
        """Whether the RPC waits for somebody to be ready; it is then begun anew, in what is left of its time."""
        call = self.call
        if not self.sent.wait_for_ready or not isinstance(error, _UNREADY) or not call.request.replayable:
            return False
        now = self.clock.now()
        call.close(now)
        left = None if call.request.timeout is None else call.started + call.request.timeout - now
        if left is not None and left <= 0:
            return False
        with self.lock:
            self.real = None
        self.later(_READY_AGAIN if left is None else min(left, _READY_AGAIN), self._anew)
        return True

    def _anew(self) -> None:
        before = self.call
        if self.ended:
            return
        try:
            self.call = self._begin()
        except MeshError as error:
            self.fail(error)
            return
        if isinstance(self.source, KeptMessages):
            self.source.follow(self.call.request)
        spent = self.clock.now() - before.started
        if before.request.timeout is not None and self.call.request.timeout is not None:
            self.call.request.timeout = before.request.timeout - spent
        self.start()

    def _after_fault(self, attempt: Attempt, late: bool, answer: Any) -> None:
        """An injected delay has passed, or the attempt's time ran out in it."""
        attempt.fault = None
        if late:
            failure = Failure.DEADLINE if attempt.deadline_is_overall else Failure.PER_TRY_TIMEOUT
            self._settle(attempt, Outcome.of_failure(failure), "", None)
        elif answer is not None:
            words = answer.body.decode("utf-8", "replace")
            self._settle(attempt, Outcome.of_status(answer.status, grpc_status=answer.grpc_status), words, None)
        else:
            self.send(attempt)

    def _too_slow(self, real: Any) -> None:
        """The per-try timeout of an attempt: nothing of its answer has come."""
        with self.lock:
            if self.real is not real or self.committed or self._judged is real:
                return
            self._late = True
        real.cancel()

    def _idle(self, real: Any, limit: float) -> None:
        """The idle timeout of an attempt: nothing has come for so long, committed or not (Envoy)."""
        with self.lock:
            if self.real is not real or self._judged is real:
                return
            left = self.moved + limit - self.clock.now()
            self._late = left <= 0
        if left > 0:
            self.later(left, partial(self._idle, real, limit))
        else:
            real.cancel()

    def _let_go(self, kept: KeptMessages) -> None:
        """The stream is kept no longer; one that was sent whole is copied to the mirrors."""
        messages = kept.whole() if self.call.mirrors else None
        kept.release()
        kept.stop()
        if messages is not None:
            self.mirror(messages)

    def mirror(self, messages: list[bytes]) -> None:
        """Send copies of a stream."""
