"""What a request asks for by Envoy's own headers, beyond the route: retries, timeouts, hedging.

A call begins in this process, so it is what Envoy calls an internal request: its headers count, and are not sent on.
Words for retries add to the route's; numbers take their place. A value that is no number is as good as absent.

Source: Envoy router filter, ``RetryStateImpl`` and ``FilterUtility::finalTimeout``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from meshlib.dataplane.outcome import GRPC_RETRY_WORDS, HTTP_RETRY_WORDS
from meshlib.dataplane.request import Request
from meshlib.dataplane.timeout_headers import read_grpc_timeout
from meshlib.model.policy import RetryPolicy

__all__ = ["NAMES", "Asked", "asked", "grpc_timeout", "may_ask"]

TIMEOUT = "x-envoy-upstream-rq-timeout-ms"
PER_TRY = "x-envoy-upstream-rq-per-try-timeout-ms"
RETRY_ON, RETRY_GRPC_ON = "x-envoy-retry-on", "x-envoy-retry-grpc-on"
MAX_RETRIES = "x-envoy-max-retries"
STATUS_CODES, HEADER_NAMES = "x-envoy-retriable-status-codes", "x-envoy-retriable-header-names"
HEDGE = "x-envoy-hedge-on-per-try-timeout"

NAMES = frozenset(
    name.encode()
    for name in (TIMEOUT, PER_TRY, RETRY_ON, RETRY_GRPC_ON, MAX_RETRIES, STATUS_CODES, HEADER_NAMES, HEDGE)
)
"""All of them: read here, and left out of what is sent."""

_NO_POLICY = RetryPolicy(1, frozenset(), avoid_previous_hosts=False, host_selection_attempts=1)
"""Where only the request asks for retries: one of them, and nothing said of where."""


class Asked(NamedTuple):
    """The route's policy as the request changed it.

    Attributes:
        retry: None never retries, and no attempt is bounded.
        timeout: Seconds for the whole call; None is unbounded.
        whose: Whose timeout it is, in words.
    """

    retry: RetryPolicy | None
    timeout: float | None
    whose: str


def may_ask(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether any header is one of Envoy's, or gRPC's timeout."""
    for name, _ in headers:
        if name[:8].lower() == b"x-envoy-" or (len(name) == _TIMEOUT_LENGTH and name.lower() == _GRPC_TIMEOUT):
            return True
    return False


_GRPC_TIMEOUT = b"grpc-timeout"
_TIMEOUT_LENGTH = len(_GRPC_TIMEOUT)


def asked(retry: RetryPolicy | None, timeout: float | None, whose: str, request: Request) -> Asked | None:
    """The policy of a request that carries some of Envoy's headers; None when it asks for nothing."""
    found = {name for name in request.headers if name.encode("latin-1") in NAMES}
    if not found:
        return None
    if TIMEOUT in found and (limit := _number(request, TIMEOUT)) is not None:
        timeout, whose = limit / 1000 or None, f"the request's {TIMEOUT}"
    return Asked(_retry(retry, request), timeout, whose)


def grpc_timeout(request: Request) -> float | None:
    """Seconds of the caller's ``grpc-timeout``; None where it is absent, malformed or 0."""
    return read_grpc_timeout(request.header("grpc-timeout") or "")


def _retry(route: RetryPolicy | None, request: Request) -> RetryPolicy | None:
    policy = route or _NO_POLICY
    words = policy.retry_on | _words(request, RETRY_ON, HTTP_RETRY_WORDS)
    words |= _words(request, RETRY_GRPC_ON, GRPC_RETRY_WORDS)
    most, per_try = _number(request, MAX_RETRIES), _number(request, PER_TRY)
    hedge = request.header(HEDGE)
    policy = replace(
        policy,
        retry_on=words,
        attempts=policy.attempts if most is None or not words else most,
        retriable_status_codes=policy.retriable_status_codes | _codes(request),
        retriable_headers=policy.retriable_headers | _list(request, HEADER_NAMES),
        per_try_timeout=policy.per_try_timeout if per_try is None else per_try / 1000 or None,
        hedge_on_per_try_timeout=policy.hedge_on_per_try_timeout if hedge not in ("true", "false") else hedge == "true",
    )
    return policy if words or policy.per_try_timeout is not None else None


def _words(request: Request, name: str, known: frozenset[str]) -> frozenset[str]:
    return _list(request, name) & known


def _codes(request: Request) -> frozenset[int]:
    return frozenset(int(text) for text in _list(request, STATUS_CODES) if text.isascii() and text.isdigit())


def _list(request: Request, name: str) -> frozenset[str]:
    text = request.header(name) or ""
    return frozenset(part.strip().lower() for part in text.split(",") if part.strip())


def _number(request: Request, name: str) -> int | None:
    text = (request.header(name) or "").strip()
    return int(text) if text.isascii() and text.isdigit() else None
