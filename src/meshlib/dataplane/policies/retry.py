"""Whether an outcome is worth another attempt, and how long to wait before it.

Source: Envoy router filter, ``RetryPolicy``: the interval starts at ``base`` and doubles up to ``cap``; the wait is
uniform in [0, interval). Where the response says itself when to come back, that is kept instead (``reset_after``).
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from meshlib.dataplane.outcome import Outcome, RetryOn, parse_retry_on
from meshlib.dataplane.policies.reset_after import reset_after
from meshlib.model.policy import RetryPolicy

__all__ = ["BoundRetry"]

_STATUS_CODES = int(RetryOn.RETRIABLE_STATUS_CODES)
_RATELIMITED = int(RetryOn.ENVOY_RATELIMITED)
_BY_HEADER = int(RetryOn.RETRIABLE_HEADERS | RetryOn.ENVOY_RATELIMITED)

Headers = Iterable[tuple[bytes, bytes]]


class BoundRetry:
    """A retry policy with its words turned into bits.

    Attributes:
        policy: The policy itself.
        bits: The conditions it retries on.
        reads_headers: Some of them are told by the response's headers.
    """

    __slots__ = ("_retriable_headers", "bits", "policy", "reads_headers")

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self.bits = int(parse_retry_on(policy.retry_on))
        self.reads_headers = bool(self.bits & _BY_HEADER)
        self._retriable_headers = frozenset(name.encode("latin-1") for name in policy.retriable_headers)

    def wants(self, outcome: Outcome, headers: Headers = ()) -> bool:
        """Whether the policy's words cover ``outcome``, whose response came with ``headers``.

        A response with ``x-envoy-ratelimited`` is covered by that word alone, whatever else it carries (Envoy).
        """
        hit = outcome.retry & self.bits
        if hit & ~_STATUS_CODES:
            return True
        if self.reads_headers and outcome.failure is None:
            names = {name.lower() for name, _ in headers}
            if b"x-envoy-ratelimited" in names:
                return bool(self.bits & _RATELIMITED)
            if self.bits & RetryOn.RETRIABLE_HEADERS and not self._retriable_headers.isdisjoint(names):
                return True
        return bool(hit) and outcome.status in self.policy.retriable_status_codes

    def back_off(self, retries: int, rng: random.Random) -> float:
        """Seconds before the next attempt; ``retries`` is its number among the retries, at least 1."""
        return rng.random() * min(self.policy.cap, self.policy.base * 2.0 ** min(retries - 1, 30))

    def asked_wait(self, headers: Headers, rng: random.Random) -> float | None:
        """Seconds that the response itself asks to wait, half as much again at most; None where it says nothing."""
        policy = self.policy
        if not policy.reset_headers or not headers:
            return None
        seconds = reset_after(policy.reset_headers, headers, policy.reset_cap)
        return None if seconds is None else seconds * (1 + rng.random() / 2)
