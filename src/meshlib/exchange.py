"""What both httpx faces share: requests read, attempts sent, responses counted, failures named.

Nothing here imports httpx: a face hands in its own classes (``Faces``), so that httpx and its successor httpx2 run
the same code. An exchange lives for one call.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from meshlib.clock import Clock
from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.dataplane.request import Request
from meshlib.errors import ConnectFailure, DeadlineExceeded, MeshError, NotSent
from meshlib.transport.base import (
    BlockingTransport,
    CooperativeTransport,
    Timeouts,
    WireError,
    WireRequest,
    WireResponse,
)
from meshlib.transport.targets import Targets
from meshlib.transport.tls import TlsUnavailable

__all__ = [
    "AsyncCallExchange",
    "CallExchange",
    "Faces",
    "read_request",
    "translated",
]

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Faces:
    """The host library's classes that a face hands in.

    Attributes:
        response: ``Response``.
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
    body: Callable[[CallExchange, WireResponse], Any]
    async_body: Callable[[AsyncCallExchange, WireResponse], Any]
    fixed_body: type[Any]
    ssl_context: Callable[..., ssl.SSLContext]
    direct: Callable[..., Any]
    async_direct: Callable[..., Any]
    errors: dict[Failure, Callable[..., Exception]]
    both: dict[type[MeshError], type[MeshError]]


def read_request(request: Any, fixed_body: type[Any]) -> Request:
    """The core's view of an httpx request; nothing of it is converted."""
    url = request.url
    raw = request.headers.raw
    authority, content_type = "", b""
    for name, value in raw:
        lower = name.lower()
        if lower == b"host":
            authority = value.decode("latin-1")
        elif lower == b"content-type":
            content_type = value
    scheme = url.scheme
    return Request(
        request.method,
        scheme,
        authority or url.netloc.decode("ascii"),
        url.port or _DEFAULT_PORTS.get(scheme, 0),
        url.raw_path.decode("ascii"),
        raw,
        dialled=url.raw_host.decode("ascii").rstrip("."),
        replayable=isinstance(request.stream, fixed_body),
        is_grpc=content_type.startswith(b"application/grpc"),
    )


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


class _Base:
    """What the two colours of an exchange share."""

    def __init__(
        self, request: Any, faces: Faces, targets: Targets, clock: Clock, tls: ssl.SSLContext | None, http2: bool
    ) -> None:
        self.request = request
        self.faces = faces
        self.clock = clock
        self._targets = targets
        self._tls = tls
        self._http2 = http2
        given = request.extensions.get("timeout") or {}
        self.pool_timeout: float | None = given.get("pool")
        self.timeouts = Timeouts(given.get("connect"), given.get("read"), given.get("write"), given.get("pool"))
        self.call: Call | None = None

    def classify(self, attempt: Attempt, reply: WireResponse) -> Outcome:
        """The status, and the two headers that change what a status means."""
        status = reply.status
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

    def failed(self, attempt: Attempt, error: BaseException) -> Outcome:
        """A wire failure in its own words; everything else is the caller's or ours, and is raised as it came."""
        if isinstance(error, WireError):
            failure = error.failure
            if failure is Failure.DEADLINE and not attempt.deadline_is_overall:
                failure = Failure.PER_TRY_TIMEOUT
            return Outcome.of_failure(failure, error, sent=error.sent)
        if isinstance(error, TlsUnavailable):
            return Outcome.of_failure(Failure.TLS, error, sent=False)
        if isinstance(error, Exception):
            return Outcome.of_failure(Failure.LOCAL, error)
        return Outcome.of_failure(Failure.CANCELLED, error)

    def error(self, call: Call, outcome: Outcome) -> BaseException:
        """The host library's exception for a failure that stands, with the mesh's facts as a note."""
        cause, failure = outcome.error, outcome.failure
        if failure is Failure.DEADLINE:
            return self._ours(call.error(DeadlineExceeded, call.ran_out()))
        if failure is Failure.PER_TRY_TIMEOUT:
            return self._ours(call.error(DeadlineExceeded, "the per-try timeout ran out"))
        if failure in (Failure.CONNECT, Failure.TLS):
            return self._ours(call.error(ConnectFailure, f"connecting failed: {cause}"))
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

    def wire_request(self, call: Call, attempt: Attempt) -> WireRequest:
        """What goes on the wire for this attempt."""
        target, headers = call.head(attempt)
        self.timeouts.deadline = attempt.deadline
        request = self.request
        return WireRequest(
            request.method.encode("ascii"),
            target.encode("ascii", "replace"),
            call.request.scheme.encode("ascii"),
            headers,
            None,
            self.timeouts,
            request.extensions.get("trace"),
        )

    def _fixed(self, call: Call) -> bytes:
        """A body that is all there; counted for each attempt."""
        body = b"".join(self.request.stream)
        call.request_bytes += len(body)
        return body

    def response(self, call: Call, reply: WireResponse, body: Any) -> Any:
        """The host library's response around ``body``; its reading is bounded by the overall deadline only."""
        self.timeouts.deadline = call.deadline
        extensions = {**reply.extensions, **_note(call)}
        return self.faces.response(
            reply.status, headers=call.response_headers(reply.headers), stream=body, extensions=extensions
        )


def _is_own(cause: BaseException | None) -> bool:
    return cause is not None and not isinstance(cause, WireError)


def _note(call: Call) -> dict[str, Any]:
    """Facts for whoever asks the response where it came from."""
    return {"mesh": call}


def _has_body(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers)


class CallExchange(_Base):
    """One call on the blocking path."""

    def __init__(self, transport: BlockingTransport, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._transport = transport

    def send(self, call: Call, attempt: Attempt) -> WireResponse:
        """Send an attempt; see ``Exchange.send``."""
        wire = self.wire_request(call, attempt)
        if _has_body(wire.headers):
            wire.body = self._fixed(call) if call.request.replayable else self._chunks(call)
        target = self._targets.get(call, attempt, self._tls, http2=self._http2)
        return self._transport.send(target, wire)

    def _chunks(self, call: Call) -> Iterator[bytes]:
        for chunk in self.request.stream:
            call.request.body_started = True
            call.request_bytes += len(chunk)
            yield chunk

    def discard(self, reply: WireResponse) -> None:
        """Close a reply that is given up."""
        reply.body.close()

    def accept(self, call: Call, reply: WireResponse) -> Any:
        """The response; its body closes the call."""
        return self.response(call, reply, self.faces.body(self, reply))


class AsyncCallExchange(_Base):
    """One call on the cooperative path."""

    def __init__(self, transport: CooperativeTransport, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._transport = transport
        self.keeps_deadlines: bool = getattr(transport, "keeps_deadlines", False)

    async def send(self, call: Call, attempt: Attempt) -> WireResponse:
        """Send an attempt; see ``AsyncExchange.send``."""
        wire = self.wire_request(call, attempt)
        if _has_body(wire.headers):
            wire.body = self._fixed(call) if call.request.replayable else self._chunks(call)
        target = self._targets.get(call, attempt, self._tls, http2=self._http2)
        return await self._transport.send(target, wire)

    async def _chunks(self, call: Call) -> AsyncIterator[bytes]:
        async for chunk in self.request.stream:
            call.request.body_started = True
            call.request_bytes += len(chunk)
            yield chunk

    async def discard(self, reply: WireResponse) -> None:
        """Close a reply that is given up."""
        await reply.body.aclose()

    def accept(self, call: Call, reply: WireResponse) -> Any:
        """The response; its body closes the call."""
        return self.response(call, reply, self.faces.async_body(self, reply))
