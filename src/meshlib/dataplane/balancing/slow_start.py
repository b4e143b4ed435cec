"""Slow start: a new endpoint's weight grows over a window, so that cold caches are not flooded.

Source: Envoy ``applySlowStartFactor``; the time counts from when the endpoint joined, or passed its first check.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshlib.dataplane.balancing.algorithms import Weigh
from meshlib.dataplane.state import EndpointState
from meshlib.model.policy import SlowStart

__all__ = ["STEPS", "factor", "next_step", "ramped"]

STEPS = 100
"""How often in a window schedulers are made anew, so that an endpoint's next turn follows its present weight."""

_LEAST_AGE = 0.001


def factor(settings: SlowStart, age: float) -> float:
    """Share (0..1) of its weight that an endpoint has after ``age`` seconds."""
    if age >= settings.window:
        return 1.0
    grown: float = (max(age, _LEAST_AGE) / settings.window) ** (1.0 / settings.aggression)
    return min(1.0, max(settings.min_ratio, grown))


def ramped(settings: SlowStart, weigh: Weigh) -> Weigh:
    """``weigh``, with the share of each endpoint."""
    return lambda state, now: weigh(state, now) * factor(settings, now - state.warm_since)


def next_step(settings: SlowStart, members: Iterable[EndpointState], now: float) -> float | None:
    """When weights should be looked at again; None when every endpoint has its full weight."""
    ends = max((state.warm_since + settings.window for state in members), default=now)
    return min(ends, now + settings.window / STEPS) if ends > now else None
