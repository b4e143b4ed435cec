"""How long to wait before a source is asked again: random up to a bound that doubles, so that clients come apart."""

from __future__ import annotations

from tenacity import RetryCallState, wait_random_exponential

__all__ = ["backoff"]

_LONGEST = 30.0
_waits = wait_random_exponential(multiplier=0.5, max=_LONGEST)


def backoff(failures: int) -> float:
    """Seconds, for the number of failures in a row, the first being 1."""
    attempt = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    attempt.attempt_number = min(failures, 32)
    return _waits(attempt)
