"""How much of the traffic each priority gets: overprovisioning, spill-over and panic, in Envoy's integer arithmetic.

Source: Envoy priority levels and panic threshold; measured rows in Envoy's own documentation differ from its code,
and we follow the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Load", "PriorityHealth", "loads"]


class PriorityHealth(NamedTuple):
    """Endpoints of one priority: all of them, and how many are healthy."""

    total: int
    healthy: int


class Load(NamedTuple):
    """Percent (0..100) of the traffic for one priority, and whether it uses unhealthy endpoints too."""

    percent: int
    panic: bool


def loads(priorities: Sequence[PriorityHealth], *, overprovisioning: int = 140, panic_threshold: int = 0) -> list[Load]:
    """The share of every priority, in order.

    Args:
        priorities: Counts, priority 0 first.
        overprovisioning: Percent by which health is inflated; 140 keeps traffic until 71 percent are healthy.
        panic_threshold: Percent of healthy endpoints below which a priority may panic; 0 never does.
    """
    health = [min(100, overprovisioning * p.healthy // p.total) if p.total else 0 for p in priorities]
    norm = min(100, sum(health))
    panic = [norm < 100 and p.total > 0 and 100 * p.healthy < panic_threshold * p.total for p in priorities]
    if norm == 0 or all(panicking or not p.total for p, panicking in zip(priorities, panic, strict=True)):
        return _by_size(priorities, panic) if any(panic) else [Load(0, False) for _ in priorities]
    return _by_health(health, norm, panic)


def _by_size(priorities: Sequence[PriorityHealth], panic: Sequence[bool]) -> list[Load]:
    total = sum(p.total for p in priorities)
    shares = [100 * p.total // total for p in priorities]
    first = next(number for number, p in enumerate(priorities) if p.total)
    shares[first] += 100 - sum(shares)
    return [Load(share, panicking) for share, panicking in zip(shares, panic, strict=True)]


def _by_health(health: Sequence[int], norm: int, panic: Sequence[bool]) -> list[Load]:
    shares, remaining = [], 100
    for value in health:
        share = min(remaining, value * 100 // norm)
        shares.append(share)
        remaining -= share
    first = next(number for number, value in enumerate(health) if value)
    shares[first] += remaining
    return [Load(share, panicking) for share, panicking in zip(shares, panic, strict=True)]
