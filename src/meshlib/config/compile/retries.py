"""Retry policies: the rule's, the mesh's, or Istio's built-in one.

Source: Istio ``core/route/retry/retry.go``.
"""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

from meshlib.config.resources.virtual_service import HTTPRetry
from meshlib.model.policy import RetryPolicy

__all__ = ["BUILT_IN", "retry_policy"]

RESET_HEADERS = (("retry-after", False),)
"""A server that says when to come back is believed; Istio has no field for it, and a sidecar would come sooner."""

BUILT_IN = RetryPolicy(
    2,
    frozenset({"connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes"}),
    reset_headers=RESET_HEADERS,
)
"""Two retries, only where the request was provably not processed or gRPC says that it may be repeated."""

_STATUSES = frozenset(status.value for status in HTTPStatus)


def retry_policy(given: HTTPRetry | None, *, consistent_hash: bool = False) -> RetryPolicy | None:
    """The policy of ``retries``; None when it switches retries off, the built-in one when there is none.

    Args:
        given: The rule's ``retries``, else the mesh's default.
        consistent_hash: The only destination balances by hash, so previous hosts are not avoided by default.
    """
    if given is None:
        if not consistent_hash:
            return BUILT_IN
        return replace(BUILT_IN, avoid_previous_hosts=False)
    if given.attempts <= 0:
        return None
    words, codes = _retry_on(given.retry_on)
    base = given.backoff or BUILT_IN.base
    avoid = given.retry_ignore_previous_hosts
    return RetryPolicy(
        given.attempts,
        words,
        codes,
        per_try_timeout=given.per_try_timeout,
        base=base,
        cap=base * 10,
        avoid_previous_hosts=not consistent_hash if avoid is None else avoid,
        remote_localities=bool(given.retry_remote_localities),
        reset_headers=RESET_HEADERS,
    )


def _retry_on(text: str) -> tuple[frozenset[str], frozenset[int]]:
    """Words and status codes; numbers that are registered statuses become codes."""
    if not text:
        return BUILT_IN.retry_on, frozenset()
    words: set[str] = set()
    codes: set[int] = set()
    for token in (part.strip() for part in text.split(",")):
        if token.isdigit() and int(token) in _STATUSES:
            codes.add(int(token))
        elif token:
            words.add(token)
    if codes:
        words.add("retriable-status-codes")
    return frozenset(words), frozenset(codes)
