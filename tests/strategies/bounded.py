"""How much is tried: a little and always the same in the suite, more and other things where somebody asks for it."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

__all__ = ["bounded"]

TIMES = int(os.environ.get("MESHLIB_FUZZ", "0"))
"""Times the usual number of examples, drawn anew at each run; 0 draws the usual ones."""


def bounded(examples: int) -> settings:
    """Settings of a property test."""
    return settings(
        max_examples=examples * max(TIMES, 1),
        derandomize=not TIMES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
