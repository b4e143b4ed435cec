"""Whether an outcome is worth another attempt, and how long to wait before it.

Source: Envoy router filter, ``RetryPolicy``: the interval starts at ``base`` and doubles up to ``cap``; the wait is
uniform in [0, interval). With reset headers configured a server's own word is kept instead, jittered by half.
"""

from __future__ import annotations

import random

from meshlib.dataplane.outcome import Outcome, RetryOn, parse_retry_on
from meshlib.model.policy import RetryPolicy

__all__ = ["BoundRetry"]

_STATUS_CODES = int(RetryOn.RETRIABLE_STATUS_CODES)


class BoundRetry:
    """A retry policy with its words turned into bits.

    Attributes:
        policy: The policy itself.
        bits: The conditions it retries on.
    """

    __slots__ = ("bits", "policy")

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self.bits = int(parse_retry_on(policy.retry_on))

    def wants(self, outcome: Outcome) -> bool:
        """Whether the policy's words cover ``outcome``."""
        hit = outcome.retry & self.bits
        if not hit:
            return False
        if hit == _STATUS_CODES:
            return outcome.status in self.policy.retriable_status_codes
        return True

    def back_off(self, attempts: int, rng: random.Random) -> float:
        """Seconds before the next attempt; ``attempts`` is how many were begun, at least 1."""
        return rng.random() * min(self.policy.cap, self.policy.base * 2.0 ** min(attempts - 1, 30))
