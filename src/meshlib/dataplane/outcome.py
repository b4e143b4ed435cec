"""How an attempt ended, classified once; retry, ejection, breaker, span and metric all read the same ``Outcome``.

Rules, with their sources:

- which retry words an outcome satisfies: Envoy router filter, ``x-envoy-retry-on`` and ``x-envoy-retry-grpc-on``;
- whose fault it is: an answer or a broken connection speaks about the host; a full pool, a cancelled task or a
  refused permit says nothing about it;
- which status an outcome counts as for ejection: Envoy outlier detection, "locally originated events mapped to
  HTTP": connect failure and reset 503, timeout 504; a gRPC status in the headers counts as its HTTP status.
"""

from __future__ import annotations

from enum import Enum, IntFlag, auto

from meshlib.model.grpc_status import grpc_of_http, http_of_grpc

__all__ = [
    "CONNECTED",
    "GRPC_RETRY_WORDS",
    "GRPC_WORDS",
    "HTTP_RETRY_WORDS",
    "Blame",
    "Failure",
    "Outcome",
    "RetryOn",
    "parse_retry_on",
]


class RetryOn(IntFlag):
    """Envoy's retry words as bits, so that one ``&`` decides."""

    NONE = 0
    SERVER_ERROR = auto()
    GATEWAY_ERROR = auto()
    RESET = auto()
    RESET_BEFORE_REQUEST = auto()
    CONNECT_FAILURE = auto()
    REFUSED_STREAM = auto()
    RETRIABLE_4XX = auto()
    RETRIABLE_STATUS_CODES = auto()
    RETRIABLE_HEADERS = auto()
    ENVOY_RATELIMITED = auto()
    CANCELLED = auto()
    DEADLINE_EXCEEDED = auto()
    INTERNAL = auto()
    RESOURCE_EXHAUSTED = auto()
    UNAVAILABLE = auto()


_WORDS = {
    "5xx": RetryOn.SERVER_ERROR,
    "gateway-error": RetryOn.GATEWAY_ERROR,
    "reset": RetryOn.RESET,
    "reset-before-request": RetryOn.RESET_BEFORE_REQUEST,
    "connect-failure": RetryOn.CONNECT_FAILURE,
    "refused-stream": RetryOn.REFUSED_STREAM,
    "retriable-4xx": RetryOn.RETRIABLE_4XX,
    "retriable-status-codes": RetryOn.RETRIABLE_STATUS_CODES,
    "retriable-headers": RetryOn.RETRIABLE_HEADERS,
    "envoy-ratelimited": RetryOn.ENVOY_RATELIMITED,
    "cancelled": RetryOn.CANCELLED,
    "deadline-exceeded": RetryOn.DEADLINE_EXCEEDED,
    "internal": RetryOn.INTERNAL,
    "resource-exhausted": RetryOn.RESOURCE_EXHAUSTED,
    "unavailable": RetryOn.UNAVAILABLE,
}

GRPC_WORDS = {
    1: RetryOn.CANCELLED,
    4: RetryOn.DEADLINE_EXCEEDED,
    8: RetryOn.RESOURCE_EXHAUSTED,
    13: RetryOn.INTERNAL,
    14: RetryOn.UNAVAILABLE,
}
"""gRPC status number -> the retry word it satisfies."""

GRPC_RETRY_WORDS = frozenset(word for word, bit in _WORDS.items() if bit in GRPC_WORDS.values())
"""What ``x-envoy-retry-grpc-on`` may say."""

HTTP_RETRY_WORDS = frozenset(_WORDS) - GRPC_RETRY_WORDS
"""What ``x-envoy-retry-on`` may say."""


def parse_retry_on(words: frozenset[str]) -> RetryOn:
    """The bits of Envoy's retry words; a word that means nothing to a client (HTTP/3) has none."""
    bits = RetryOn.NONE
    for word in words:
        bits |= _WORDS.get(word, RetryOn.NONE)
    return bits


class Blame(Enum):
    """Whose doing an outcome is; only ``HOST`` may count against an endpoint."""

    NONE = "none"
    HOST = "host"
    LOCAL = "local"
    CALLER = "caller"
    APPLICATION = "application"


class Failure(Enum):
    """How the wire failed, in the transport's words: (retry bits, blame, status for ejection, flag)."""

    CONNECT = "connection could not be made"
    CONNECT_TIMEOUT = "connection timed out"
    TLS = "TLS handshake failed"
    REFUSED_STREAM = "stream refused before it was processed"
    RESET = "stream reset by the peer"
    CLOSED = "connection closed before the response was complete"
    WRITE = "request could not be written"
    READ_TIMEOUT = "no data within the read timeout"
    WRITE_TIMEOUT = "request could not be written in time"
    PER_TRY_TIMEOUT = "per-try timeout"
    DEADLINE = "overall timeout"
    PROTOCOL = "malformed response"
    POOL_TIMEOUT = "no free connection in time"
    OVERFLOW = "too many requests wait for a connection"
    BODY = "request body could not be produced"
    CANCELLED = "cancelled by the caller"
    LOCAL = "error in this process"


_TIMEOUTS = frozenset(
    {
        Failure.CONNECT_TIMEOUT,
        Failure.READ_TIMEOUT,
        Failure.WRITE_TIMEOUT,
        Failure.PER_TRY_TIMEOUT,
        Failure.DEADLINE,
    }
)
_NO_ANSWER = RetryOn.SERVER_ERROR | RetryOn.GATEWAY_ERROR | RetryOn.RESET
_CONNECT = _NO_ANSWER | RetryOn.CONNECT_FAILURE | RetryOn.RESET_BEFORE_REQUEST
_REFUSED = _NO_ANSWER | RetryOn.REFUSED_STREAM

_FAILURES: dict[Failure, tuple[RetryOn, Blame, int, str]] = {
    Failure.CONNECT: (_CONNECT, Blame.HOST, 503, "UF"),
    Failure.CONNECT_TIMEOUT: (_CONNECT, Blame.HOST, 503, "UF"),
    Failure.TLS: (_CONNECT, Blame.HOST, 503, "UF"),
    Failure.REFUSED_STREAM: (_REFUSED, Blame.HOST, 503, "UR"),
    Failure.RESET: (_NO_ANSWER, Blame.HOST, 503, "UR"),
    Failure.CLOSED: (_NO_ANSWER, Blame.HOST, 503, "UC"),
    Failure.WRITE: (_NO_ANSWER, Blame.HOST, 503, "UC"),
    Failure.READ_TIMEOUT: (_NO_ANSWER, Blame.HOST, 504, "UT"),
    Failure.WRITE_TIMEOUT: (_NO_ANSWER, Blame.HOST, 504, "UT"),
    Failure.PER_TRY_TIMEOUT: (_NO_ANSWER, Blame.HOST, 504, "UT"),
    Failure.DEADLINE: (RetryOn.NONE, Blame.HOST, 504, "UT"),
    Failure.PROTOCOL: (_NO_ANSWER, Blame.HOST, 502, "UPE"),
    Failure.POOL_TIMEOUT: (RetryOn.NONE, Blame.LOCAL, 503, "UO"),
    Failure.OVERFLOW: (RetryOn.NONE, Blame.LOCAL, 503, "UO"),
    Failure.BODY: (RetryOn.NONE, Blame.CALLER, 0, "DPE"),
    Failure.CANCELLED: (RetryOn.NONE, Blame.CALLER, 0, "DC"),
    Failure.LOCAL: (RetryOn.NONE, Blame.LOCAL, 0, "LR"),
}


class Outcome:
    """The one classification of an attempt.

    Attributes:
        status: HTTP status of the answer; for a failure the status a sidecar would have made of it, or 0.
        retry: The retry words that this outcome satisfies, as the bits of ``RetryOn``; a plain int, for speed.
        blame: Whose doing it is.
        flag: Envoy's response flag, ``""`` for an ordinary answer.
        failure: How the wire failed; None for an answer.
        sent: Whether any byte of the request may have reached the peer.
        grpc_status: From the response headers or the trailers; None when there is none.
        judged: The status by which the endpoint is judged: ``status``, or what the gRPC status stands for.
        error: The exception of a failure.
    """

    __slots__ = ("blame", "error", "failure", "flag", "grpc_status", "judged", "retry", "sent", "status")

    def __init__(
        self,
        status: int,
        retry: RetryOn = RetryOn.NONE,
        blame: Blame = Blame.NONE,
        flag: str = "",
        *,
        failure: Failure | None = None,
        sent: bool = True,
        grpc_status: int | None = None,
        error: BaseException | None = None,
    ) -> None:
        self.status = status
        self.retry = int(retry)
        self.blame = blame
        self.flag = flag
        self.failure = failure
        self.sent = sent
        self.grpc_status = grpc_status
        self.judged = http_of_grpc(grpc_status) if grpc_status and status == 200 else status
        self.error = error

    @property
    def ok(self) -> bool:
        """An answer below 500 that carries no bad gRPC status."""
        return self.failure is None and self.status < 500 and not self.grpc_status

    @property
    def rpc_status(self) -> int:
        """The gRPC status that it is to the caller of an RPC."""
        if self.grpc_status is not None:
            return self.grpc_status
        if self.failure in _TIMEOUTS and self.failure is not Failure.CONNECT_TIMEOUT:
            return 4
        if self.failure is Failure.CANCELLED:
            return 1
        return 0 if self.status == 200 else grpc_of_http(self.status)

    @property
    def is_timeout(self) -> bool:
        """Nobody answered in time; whose doing that is depends on who was slow."""
        return self.failure in _TIMEOUTS

    def excused(self) -> Outcome:
        """The same, but the doing of this process: it counts against no endpoint."""
        copy = Outcome(self.status, RetryOn(self.retry), Blame.LOCAL, self.flag, failure=self.failure, sent=self.sent)
        copy.error, copy.grpc_status = self.error, self.grpc_status
        return copy

    @classmethod
    def of_status(cls, status: int, *, ratelimited: bool = False, grpc_status: int | None = None) -> Outcome:
        """An answer. ``ratelimited``: it carries ``x-envoy-ratelimited``, so no other word makes it retriable."""
        if not ratelimited and grpc_status is None:
            known = _ANSWERS.get(status)
            if known is not None:
                return known
        retry = _retry_of_status(status)
        if grpc_status:
            retry |= GRPC_WORDS.get(grpc_status, RetryOn.NONE)
        if ratelimited:
            retry = RetryOn.ENVOY_RATELIMITED
        judged = http_of_grpc(grpc_status) if grpc_status and status == 200 else status
        return cls(status, retry, _blame_of_status(judged), grpc_status=grpc_status)

    @classmethod
    def of_failure(cls, failure: Failure, error: BaseException | None = None, *, sent: bool = True) -> Outcome:
        """A failure on the wire, or before it. ``sent`` False adds ``reset-before-request``."""
        retry, blame, status, flag = _FAILURES[failure]
        if not sent and retry:
            retry |= RetryOn.RESET_BEFORE_REQUEST
        return cls(status, retry, blame, flag, failure=failure, sent=sent, error=error)

    def __repr__(self) -> str:
        """For logs and test output."""
        what = self.failure.name if self.failure else f"status {self.status}"
        return f"<Outcome {what} blame={self.blame.value} flag={self.flag or '-'}>"


def _retry_of_status(status: int) -> RetryOn:
    if status in (502, 503, 504):
        return RetryOn.SERVER_ERROR | RetryOn.GATEWAY_ERROR | RetryOn.RETRIABLE_STATUS_CODES
    if status >= 500:
        return RetryOn.SERVER_ERROR | RetryOn.RETRIABLE_STATUS_CODES
    if status == 409:
        return RetryOn.RETRIABLE_4XX | RetryOn.RETRIABLE_STATUS_CODES
    return RetryOn.RETRIABLE_STATUS_CODES


def _blame_of_status(status: int) -> Blame:
    if status >= 500:
        return Blame.HOST
    return Blame.APPLICATION if status >= 400 else Blame.NONE


_ANSWERS = {status: Outcome(status, _retry_of_status(status), _blame_of_status(status)) for status in range(100, 600)}

CONNECTED = Outcome(0)
"""A raw connection that stands: no status, and nobody's fault."""
