"""Whether a call is within its rate limits: that of this process at once, the shared one as a question to its service.

Asked after the injected faults and before the first attempt, once for the whole call: retries are not counted, copies
are not asked about. A refusal is final and is answered here; it says nothing about any endpoint.

Source: Envoy ``local_ratelimit`` and ``ratelimit`` filters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from meshlib.dataplane.matchers import query_value
from meshlib.dataplane.policies.cookie import cookie_value
from meshlib.dataplane.policies.token_buckets import TokenBuckets
from meshlib.dataplane.reply import LocalReply, fitted
from meshlib.dataplane.request import Request
from meshlib.errors import RateLimited
from meshlib.model.client_policy import KeySource, RateLimit, RateLimitKey, RateLimitService

if TYPE_CHECKING:
    from meshlib.dataplane.call import Call

__all__ = ["PASSED", "Question", "RateLimiter", "Verdict", "count", "judge", "refusal", "unanswered"]

_LOCAL_BODY = b"local_rate_limited"
_RESOURCE_EXHAUSTED = 8
Pairs = list[tuple[bytes, bytes]]
Read = Callable[[Request], str | None]


class Question(NamedTuple):
    """What a rate limit service is asked: one descriptor.

    Attributes:
        service: Whom to ask.
        entries: Keys and values, in the order of the policy.
    """

    service: RateLimitService
    entries: tuple[tuple[str, str], ...]


class Verdict(NamedTuple):
    """What the service said.

    Attributes:
        refused: The answer to the call, None lets it pass.
        request_headers: To add to the request.
        response_headers: To add to the response.
    """

    refused: LocalReply | None = None
    request_headers: Sequence[tuple[bytes, bytes]] = ()
    response_headers: Sequence[tuple[bytes, bytes]] = ()


PASSED = Verdict()


class RateLimiter:
    """The rate limit towards one cluster.

    Args:
        limit: The limit.
        host: Full name of the service.
        buckets: Those of the policy, which all of its clusters share; None where only the shared service counts.

    Attributes:
        limit: The limit.
    """

    __slots__ = ("_buckets", "_reads", "limit")

    def __init__(self, limit: RateLimit, host: str, buckets: TokenBuckets | None) -> None:
        self.limit = limit
        self._buckets = buckets
        self._reads = [_reader(part, host) for part in limit.by]

    def question(self, request: Request) -> Question | None:
        """What to ask the service; None without one, and where the request lacks a part of the key (Envoy)."""
        service = self.limit.service
        if service is None:
            return None
        entries = [(part.descriptor, read(request)) for part, read in zip(self.limit.by, self._reads, strict=True)]
        known = tuple((key, value) for key, value in entries if value is not None)
        if len(known) < len(entries):
            return None
        return Question(service, known or (("generic_key", self.limit.name.partition(" ")[2]),))

    def take(self, request: Request, now: float) -> LocalReply | None:
        """Count a call; the refusal when it is one too many. Calls without some part of the key share one count."""
        if self._buckets is None:
            return None
        taken = self._buckets.take(tuple(read(request) for read in self._reads), now)
        if taken.granted:
            return None
        told = (("limit", self.limit.max_tokens), ("remaining", taken.remaining), ("reset", math.ceil(taken.reset)))
        return refusal(_LOCAL_BODY, [(f"x-ratelimit-{name}".encode(), b"%d" % value) for name, value in told])


def count(call: Call, now: float) -> Question | None:
    """Count a call before its first attempt; what a service is to be asked as well.

    Raises:
        RateLimited: It is one too many, and the policy asks to raise.
    """
    limiter = call.limiter
    if limiter is None or call.answer is not None:
        return None
    refused = limiter.take(call.request, now)
    if refused is None:
        return limiter.question(call.request)
    _refuse(call, limiter, refused)
    return None


def judge(call: Call, verdict: Verdict) -> None:
    """What the service said of a call.

    Raises:
        RateLimited: As ``count``.
    """
    call.added = verdict.response_headers
    call.request.add(verdict.request_headers)
    if verdict.refused is not None and call.limiter is not None:
        _refuse(call, call.limiter, verdict.refused)


def _refuse(call: Call, limiter: RateLimiter, reply: LocalReply) -> None:
    if reply.flag == RateLimited.flag and limiter.limit.raises:
        raise call.error(RateLimited, f"the rate limit of {limiter.limit.name} is used up")
    call.flag(reply.flag)
    call.answer = fitted(reply, call.request)


def unanswered(service: RateLimitService) -> Verdict:
    """The service failed: the call passes, or is answered 500 where the policy would rather have none (RLSE)."""
    return PASSED if service.fail_open else Verdict(LocalReply(500, [(b"content-length", b"0")], b"", "RLSE"))


def refusal(body: bytes, headers: Pairs) -> LocalReply:
    """The answer to a call that is one too many; gRPC callers get RESOURCE_EXHAUSTED."""
    framing = [(b"content-length", b"%d" % len(body))] + ([(b"content-type", b"text/plain")] if body else [])
    told = [(b"x-envoy-ratelimited", b"true"), *headers]
    return LocalReply(RateLimited.status, [*framing, *told], body, RateLimited.flag, _RESOURCE_EXHAUSTED)


def _reader(part: RateLimitKey, host: str) -> Read:
    """What reads one part of the key; None where the request has no such part."""
    source, name = part.source, part.name
    if source is KeySource.HEADER:
        return lambda request: request.header(name)
    if source is KeySource.QUERY:
        return lambda request: query_value(request.path, name)
    if source is KeySource.COOKIE:
        return lambda request: cookie_value(request.header("cookie") or "", name)
    if source is KeySource.PATH:
        return lambda request: request.path.partition("?")[0]
    if source is KeySource.METHOD:
        return lambda request: request.method
    constant = host if source is KeySource.HOST else part.value
    return lambda request: constant
