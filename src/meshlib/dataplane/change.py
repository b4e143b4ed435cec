"""What can change about an endpoint, or about a whole cluster, without any change of configuration."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

__all__ = ["Change", "Tell", "Wake"]


class Change(Enum):
    """What became of it; the values are the words of metrics and logs."""

    EJECTED = "ejected"
    RETURNED = "returned"
    BREAKER_OPEN = "breaker_open"
    BREAKER_HALF_OPEN = "breaker_half_open"
    BREAKER_CLOSED = "breaker_closed"
    CHECKS_FAIL = "health_checks_fail"
    CHECKS_PASS = "health_checks_pass"  # noqa: S105 - a word, no secret


Tell = Callable[[str, str, Change], None]
"""Is told cluster, endpoint (``""`` for the cluster itself) and change; must neither raise nor wait."""

Wake = Callable[[str], None]
"""Is told the name of a cluster that wants health checks, from any thread; must neither raise nor wait."""
