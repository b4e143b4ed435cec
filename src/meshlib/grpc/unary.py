"""One message out, one message back, in the caller's thread: the exchange that the blocking driver asks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import grpc

from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.dataplane.policies.rate_limit import Question, Verdict
from meshlib.dataplane.reply import LocalReply
from meshlib.errors import ConnectFailure
from meshlib.grpc.failures import broken, noted, translated
from meshlib.grpc.outcomes import OK, outcome_of
from meshlib.grpc.rpc import authority_of, headers_of, metadata_of
from meshlib.grpc.ways import TAKES_REPORTS, Ways
from meshlib.transport.tls import TlsUnavailable

__all__ = ["FRAME", "TAKES_REPORTS", "Sent", "UnaryExchange", "UnaryReading", "ended", "judged", "name_of", "raised"]

FRAME = 5
"""Bytes in front of each message on the wire."""


class Sent(NamedTuple):
    """What every attempt of an RPC sends alike.

    Attributes:
        kind: ``unary_unary``, ``unary_stream``, ``stream_unary`` or ``stream_stream``.
        registered: The generated stub has asked for a registered method.
        credentials: Of the call, or None.
        compression: Of the call, else of the channel, or None.
        wait_for_ready: Wait until there is somebody to send to.
    """

    kind: str
    registered: bool
    credentials: Any
    compression: Any
    wait_for_ready: bool


def name_of(attempt: Attempt) -> str:
    """What grpcio's words call the endpoint; ``""`` where a name is dialled."""
    endpoint = attempt.endpoint
    return attempt.state.key if endpoint.address[-1:].isdigit() or ":" in endpoint.address else ""


def judged(attempt: Attempt, error: Any, now: float) -> Outcome:
    """The outcome of an attempt that ended with a status other than OK; what came with it is noted in the attempt."""
    return ended(
        attempt,
        error.code(),
        error.details(),
        [*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())],
        now,
        cancelled=False,
        error=error,
    )


def ended(
    attempt: Attempt,
    code: Any,
    details: str | None,
    metadata: Iterable[tuple[str, str | bytes]],
    now: float,
    *,
    cancelled: bool,
    error: BaseException | None,
) -> Outcome:
    """As ``judged``, from its parts."""
    received = headers_of(metadata)
    attempt.received = received
    deadline = attempt.deadline
    return outcome_of(
        code.value[0],
        details,
        metadata=received,
        endpoint=name_of(attempt),
        late=deadline is not None and now >= deadline - 0.001,
        overall=attempt.deadline_is_overall,
        cancelled=cancelled,
        ratelimited=any(name == b"x-envoy-ratelimited" for name, _ in received),
        error=error,
    )


def raised(error: BaseException) -> Outcome:
    """The outcome of an attempt that could not even be begun."""
    if isinstance(error, TlsUnavailable):
        return Outcome.of_failure(Failure.TLS, error, sent=False).excused()
    kind = Failure.LOCAL if isinstance(error, Exception) else Failure.CANCELLED
    return Outcome.of_failure(kind, error)


class UnaryReading:
    """What both colours of an exchange share; a reply is (bytes, the real call)."""

    pool_timeout: float | None = None

    def __init__(self, ways: Ways, call: Call, content: bytes, sent: Sent) -> None:
        self.ways = ways
        self.call = call
        self.content = content
        self.sent = sent
        self._clock = ways.mesh.clock

    def failed(self, attempt: Attempt, error: BaseException) -> Outcome:
        """See ``Exchange.failed``; a status that the peer sent is an answer all the same."""
        if isinstance(error, grpc.RpcError):
            ended: Any = error
            if attempt.cluster.load_balancer.kind is TAKES_REPORTS:
                self.call.take_report(headers_of(ended.trailing_metadata() or ()), self._clock.now())
            return judged(attempt, ended, self._clock.now())
        return raised(error)

    def error(self, call: Call, outcome: Outcome) -> BaseException:
        """See ``Exchange.error``."""
        cause: Any = outcome.error
        aio = self.ways.aio
        made: BaseException
        if outcome.failure is None and cause is not None:
            call.close(self._clock.now())
            made = cause if hasattr(cause, "mesh") else noted(cause, call)
        elif isinstance(cause, TlsUnavailable):
            made = translated(call.error(ConnectFailure, str(cause)), call, aio=aio)
        elif isinstance(cause, grpc.RpcError):
            known: Any = cause
            made = broken(call, outcome, known.code().value[0], known.details(), aio=aio)
        else:
            made = cause if cause is not None else broken(call, outcome, 4, "", aio=aio)
        return made

    def accept(self, call: Call, reply: Any) -> Any:
        """The reply; the call is over."""
        if not isinstance(reply, LocalReply):
            call.response_bytes += len(reply[0]) + FRAME
            call.response_messages += 1
        call.close(self._clock.now())
        return reply

    def answer_injected(self, answer: LocalReply) -> Any:
        """The reply of an endpoint that an injected fault stands for."""
        return answer

    def answer(self, call: Call) -> Any:
        """The answer that the configuration asks for."""
        call.settle_answer(self._clock.now())
        return call.answer


class UnaryExchange(UnaryReading):
    """One RPC with one message each way, on the blocking path."""

    _running: Any = None
    _is_branch = False
    wants_call = True
    """The caller wants grpcio's call beside the response."""

    def send(self, call: Call, attempt: Attempt) -> Any:
        """See ``Exchange.send``."""
        target, headers = call.head(attempt)
        ways, sent, content = self.ways, self.sent, self.content
        call.request_bytes += len(content) + FRAME
        call.request_messages += 1
        deadline = attempt.deadline
        timeout = None if deadline is None else deadline - self._clock.now()
        subchannel = ways.subchannel(attempt, authority_of(headers, ways.service.authority))
        try:
            stub = subchannel.stub("unary_unary", target, sent.registered)
            metadata = metadata_of(headers)
            if not self._is_branch:
                if not self.wants_call and attempt.cluster.load_balancer.kind is not TAKES_REPORTS:
                    return stub(content, timeout, metadata, sent.credentials, None, sent.compression), None
                return stub.with_call(content, timeout, metadata, sent.credentials, None, sent.compression)
            self._running = stub.future(content, timeout, metadata, sent.credentials, None, sent.compression)
            return self._running.result(), self._running
        finally:
            subchannel.leave()

    def classify(self, attempt: Attempt, reply: Any) -> Outcome:
        """See ``Exchange.classify``."""
        if isinstance(reply, LocalReply):
            return Outcome.of_status(reply.status, grpc_status=reply.grpc_status)
        if attempt.cluster.load_balancer.kind is TAKES_REPORTS:
            self.call.take_report(headers_of(reply[1].trailing_metadata() or ()), self._clock.now())
        return OK

    def ask(self, question: Question, seconds: float) -> Verdict:
        """See ``Exchange.ask``."""
        return self.ways.services.ask(question, seconds, self.ways.mesh.blocking)

    def branch(self) -> Self:
        """See ``Exchange.branch``."""
        branch = type(self)(self.ways, self.call, self.content, self.sent)
        branch._is_branch = True
        return branch

    def break_off(self) -> None:
        """See ``Exchange.break_off``."""
        if self._running is not None:
            self._running.cancel()

    def discard(self, reply: Any) -> None:
        """Nothing is open behind a reply."""
