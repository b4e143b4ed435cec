"""What both httpx faces share: requests read, attempts sent, responses counted, failures named.

Nothing here imports httpx: a face hands in its own classes (``Faces``), so that httpx and its successor httpx2 run
the same code. An exchange lives for one call.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

from meshlib.clock import Clock
from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.dataplane.policies.rate_limit import Question, Verdict
from meshlib.dataplane.reply import LocalReply
from meshlib.errors import ConnectFailure, DeadlineExceeded, MeshError, NotSent, Overflow
from meshlib.model.policy import BalancerKind
from meshlib.outgoing import Outgoing
from meshlib.replay import AsyncReplay, Replay, ReplayMemory
from meshlib.transport.base import (
    BlockingTransport,
    BreakOff,
    CooperativeTransport,
    Headers,
    WireError,
    WireRequest,
    WireResponse,
)
from meshlib.transport.injected import InjectedBody
from meshlib.transport.targets import Targets
from meshlib.transport.tls import TlsUnavailable

__all__ = [
    "AsyncCallExchange",
    "CallExchange",
    "CommonExchange",
    "Faces",
    "translated",
    "whole",
]


@dataclass(frozen=True, slots=True)
class Faces:
    """The host library's classes that a face hands in.

    Attributes:
        response: ``Response``.
        ready: ``Response`` of a body that has come, made of status, headers, body, request, extensions
            and the seconds that it took.
        body: A ``SyncByteStream`` made from a ``CountedBody``.
        async_body: An ``AsyncByteStream`` made from a ``CountedAsyncBody``.
        fixed_body: ``ByteStream``.
        ssl_context: ``create_ssl_context``.
        direct: ``HTTPTransport``.
        async_direct: ``AsyncHTTPTransport``.
        errors: Failure -> exception type of the host library.
        both: Our error type -> a type that is also the host library's.
    """

    response: Any
    ready: Callable[..., Any]
    body: Callable[[CallExchange, WireResponse], Any]
    async_body: Callable[[AsyncCallExchange, WireResponse], Any]
    fixed_body: type[Any]
    ssl_context: Callable[..., ssl.SSLContext]
    direct: Callable[..., Any]
    async_direct: Callable[..., Any]
    errors: dict[Failure, Callable[..., Exception]]
    both: dict[type[MeshError], type[MeshError]]


def translated(error: MeshError, faces: Faces, request: Any) -> MeshError:
    """Our error as a type that is also the host library's; one that is already comes back as it is."""
    if type(error) in faces.both.values():
        return error
    kind = next((both for ours, both in faces.both.items() if isinstance(error, ours)), None)
    if kind is None:
        return error
    route, cluster, endpoint = error.route, error.cluster, error.endpoint
    both = kind(str(error), route=route, cluster=cluster, endpoint=endpoint, attempts=error.attempts)
    both.request = request  # type: ignore[attr-defined]  # httpx's errors carry it
    return both


class Services(Protocol):
    """Who asks rate limit services."""

    def ask(self, question: Question, seconds: float, transport: BlockingTransport) -> Verdict:
        """See ``Exchange.ask``."""
        ...

    async def aask(self, question: Question, seconds: float, transport: CooperativeTransport) -> Verdict:
        """See ``AsyncExchange.ask``."""
        ...


_TAKES_REPORTS = BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN


class CommonExchange:
    """What the two colours of an exchange share."""

    _idle_is_config = False
    """The time without a byte is bounded by the rule, not by the caller."""

    _transport: Any

    def __init__(
        self,
        transport: Any,
        given: Outgoing,
        faces: Faces,
        targets: Targets,
        clock: Clock,
        tls: ssl.SSLContext | None,
        http2: bool,
        memory: ReplayMemory,
        services: Services | None = None,
    ) -> None:
        self._transport = transport
        self.given = given
        self.faces = faces
        self.clock = clock
        self._targets = targets
        self._tls = tls
        self._http2 = http2
        self._memory = memory
        self._services = services
        self.timeouts = given.timeouts
        self.pool_timeout = given.timeouts.pool
        self.call: Call | None = None

    @property
    def request(self) -> Any:
        """The host library's request."""
        return self.given.request

    def classify(self, attempt: Attempt, reply: WireResponse) -> Outcome:
        """The status, and the two headers that change what a status means; a load report is handed on."""
        if attempt.cluster.load_balancer.kind is _TAKES_REPORTS and self.call is not None:
            self.call.take_report(reply.headers, self.clock.now())
        status = reply.status
        attempt.received = reply.headers
        grpc = self.call is not None and self.call.request.is_grpc
        if status < 400 and not grpc:
            return Outcome.of_status(status)
        limited, grpc_status = False, None
        for name, value in reply.headers:
            lower = name.lower()
            if lower == b"x-envoy-ratelimited":
                limited = True
            elif grpc and lower == b"grpc-status" and value.isdigit():
                grpc_status = int(value)
        return Outcome.of_status(status, ratelimited=limited, grpc_status=grpc_status)

    def ended(self, call: Call, body: Any) -> None:
        """The body has come to its end: the call is over, and its trailers may hold a load report."""
        now = self.clock.now()
        trailers = getattr(body, "trailers", None)
        if trailers:
            call.take_report(trailers, now)
        call.close(now)

    def failed(self, attempt: Attempt, error: BaseException) -> Outcome:
        """A wire failure in its own words; everything else is the caller's or ours, and is raised as it came."""
        if isinstance(error, WireError):
            failure = error.failure
            late = failure is Failure.DEADLINE and not attempt.deadline_is_overall
            if late or (failure is Failure.READ_TIMEOUT and self._idle_is_config):
                failure = Failure.PER_TRY_TIMEOUT
            outcome = Outcome.of_failure(failure, error, sent=error.sent)
            return outcome.excused() if failure is Failure.CONNECT and _lacks(error) else outcome
        if isinstance(error, TlsUnavailable):
            return Outcome.of_failure(Failure.TLS, error, sent=False).excused()
        if isinstance(error, Exception):
            return Outcome.of_failure(Failure.LOCAL, error)
        return Outcome.of_failure(Failure.CANCELLED, error)

    def broken(self, error: WireError) -> Outcome:
        """The outcome of a response whose body broke; its reading is bounded by the overall deadline only."""
        idle = error.failure is Failure.READ_TIMEOUT and self._idle_is_config
        return Outcome.of_failure(Failure.PER_TRY_TIMEOUT if idle else error.failure, error)

    def error(self, call: Call, outcome: Outcome) -> BaseException:
        """The host library's exception for a failure that stands, with the mesh's facts as a note."""
        cause, failure = outcome.error, outcome.failure
        if failure is Failure.DEADLINE:
            return self._ours(call.error(DeadlineExceeded, call.ran_out()))
        if failure is Failure.PER_TRY_TIMEOUT:
            return self._ours(call.error(DeadlineExceeded, "the per-try timeout ran out"))
        if failure in (Failure.CONNECT, Failure.TLS):
            return self._ours(call.error(ConnectFailure, f"connecting failed: {cause}"))
        if failure is Failure.OVERFLOW:
            return self._ours(call.error(Overflow, str(cause)))
        kind = self.faces.errors.get(failure) if failure is not None and not _is_own(cause) else None
        if kind is None:
            return cause if cause is not None else call.error(NotSent, "the request was given up")
        raised = kind(str(cause), request=self.request)
        raised.add_note(f"mesh: {call.where()}, flags {call.flags}")
        return raised

    def _ours(self, error: MeshError) -> MeshError:
        return translated(error, self.faces, self.request)

    def answer(self, call: Call) -> Any:
        """The response that the configuration asks for."""
        reply = call.answer
        assert reply is not None
        headers = call.response_headers(reply.headers)
        call.settle_answer(self.clock.now())
        return self.faces.response(reply.status, headers=headers, content=reply.body, extensions=_note(call))

    def answer_injected(self, answer: LocalReply) -> WireResponse:
        """The reply of an endpoint that an injected fault stands for."""
        return WireResponse(answer.status, list(answer.headers), InjectedBody(answer.body))

    def parts(self, given: Outgoing) -> tuple[Any, ...]:
        """What another exchange, of ``given``, is made of."""
        return given, self.faces, self._targets, self.clock, self._tls, self._http2, self._memory, self._services

    def _give_own(self, branch: CommonExchange) -> None:
        """What changes from one attempt to the next is each branch's own."""
        branch.call, branch.timeouts = self.call, replace(self.timeouts)

    def wire_request(self, call: Call, attempt: Attempt) -> WireRequest:
        """What goes on the wire for this attempt."""
        target, headers = call.head(attempt)
        self.timeouts.deadline = attempt.deadline
        if attempt.idle_limit is not None:
            self._idle_is_config = self._idle_is_config or _is_shorter(attempt.idle_limit, self.timeouts.read)
            self.timeouts.read = attempt.idle_limit if self._idle_is_config else self.timeouts.read
        given, content = self.given, self.given.content
        if content is not None:
            call.request_bytes += len(content)
        return WireRequest(
            given.method,
            target.encode("ascii", "replace"),
            _SCHEMES[call.request.scheme],
            headers,
            content,
            self.timeouts,
            given.trace,
            given.upgrades,
            ticket=attempt.ticket,
        )

    def ready(self, call: Call, reply: WireResponse) -> Any:
        """The response whose body has come already, which ends the call; None for one that is still to be read."""
        headers = call.response_headers(reply.headers)
        content = None if _is_coded(headers) else whole(reply.body)
        if content is None:
            return None
        call.response_bytes += len(content)
        self.ended(call, reply.body)
        extensions = reply.extensions
        extensions["mesh"] = call
        took = self.clock.now() - call.started
        return self.faces.ready(reply.status, headers, content, self.given, extensions, took)

    def response(self, call: Call, reply: WireResponse, body: Any) -> Any:
        """The host library's response around ``body``; its reading is bounded by the overall deadline only."""
        self.timeouts.deadline = call.deadline
        extensions = {**reply.extensions, **_note(call)}
        return self.faces.response(
            reply.status, headers=call.response_headers(reply.headers), stream=body, extensions=extensions
        )


_OUR_LACK = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""No descriptor, memory or port is left here; that says nothing about the endpoint."""


def _lacks(error: BaseException | None) -> bool:
    """Whether a connection failed for want of something in this process."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OUR_LACK:
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_coded(headers: Headers) -> bool:
    """Whether the library has to decode the body."""
    for name, _ in headers:
        if len(name) == len(_CODING) and name.lower() == _CODING:
            return True
    return False


_CODING = b"content-encoding"
_SCHEMES = {"http": b"http", "https": b"https"}


def whole(body: Any) -> bytes | None:
    """All of a body that has come completely, and of which nothing was taken; else None."""
    take = getattr(body, "whole", None)
    return take() if take is not None else None


def _is_shorter(limit: float, other: float | None) -> bool:
    return other is None or limit < other


def _is_own(cause: BaseException | None) -> bool:
    return cause is not None and not isinstance(cause, WireError)


def _note(call: Call) -> dict[str, Any]:
    """Facts for whoever asks the response where it came from."""
    return {"mesh": call}


class CallExchange(CommonExchange):
    """One call on the blocking path."""

    replay: Replay | None = None
    _transport: BlockingTransport
    _break_off: BreakOff | None = None

    def send(self, call: Call, attempt: Attempt) -> WireResponse:
        """Send an attempt; see ``Exchange.send``."""
        wire = self.wire_request(call, attempt)
        if self.given.streamed:
            self.replay = self.replay or Replay(self.request.stream, call.request, self._memory)
            wire.body = self.replay.pieces(call.count_sent)
        wire.break_off = self._break_off
        target = self._targets.get(call, attempt, self._tls, http2=self._http2)
        return self._transport.send(target, wire)

    def ask(self, question: Question, seconds: float) -> Verdict:
        """See ``Exchange.ask``."""
        assert self._services is not None, "questions are not counted"
        return self._services.ask(question, seconds, self._transport)

    def branch(self) -> Self:
        """See ``Exchange.branch``."""
        branch = type(self)(self._transport, *self.parts(self.given))
        self._give_own(branch)
        branch._break_off = BreakOff()
        return branch

    def break_off(self) -> None:
        """See ``Exchange.break_off``."""
        if self._break_off is not None:
            self._break_off()

    def discard(self, reply: WireResponse) -> None:
        """Close a reply that is given up."""
        reply.body.close()

    def accept(self, call: Call, reply: WireResponse) -> Any:
        """The response; its body closes the call."""
        return self.ready(call, reply) or self.response(call, reply, self.faces.body(self, reply))


class AsyncCallExchange(CommonExchange):
    """One call on the cooperative path."""

    replay: AsyncReplay | None = None
    _transport: CooperativeTransport

    @property
    def keeps_deadlines(self) -> bool:
        """Whether the transport does; one of another make may not know the question."""
        return getattr(self._transport, "keeps_deadlines", False)

    def send(self, call: Call, attempt: Attempt) -> Coroutine[Any, Any, WireResponse]:
        """Send an attempt; see ``AsyncExchange.send``."""
        wire = self.wire_request(call, attempt)
        if self.given.streamed:
            self.replay = self.replay or AsyncReplay(self.request.stream, call.request, self._memory)
            wire.body = self.replay.pieces(call.count_sent, self.timeouts, self.clock.now)
        target = self._targets.get(call, attempt, self._tls, http2=self._http2)
        return self._transport.send(target, wire)

    async def ask(self, question: Question, seconds: float) -> Verdict:
        """See ``AsyncExchange.ask``."""
        assert self._services is not None, "questions are not counted"
        return await self._services.aask(question, seconds, self._transport)

    def branch(self) -> Self:
        """See ``AsyncExchange.branch``."""
        branch = type(self)(self._transport, *self.parts(self.given))
        self._give_own(branch)
        return branch

    async def discard(self, reply: WireResponse) -> None:
        """Close a reply that is given up."""
        await reply.body.aclose()

    def accept(self, call: Call, reply: WireResponse) -> Any:
        """The response; its body closes the call."""
        return self.ready(call, reply) or self.response(call, reply, self.faces.async_body(self, reply))
