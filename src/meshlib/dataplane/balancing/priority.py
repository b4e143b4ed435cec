"""How much of the traffic each priority gets: overprovisioning, spill-over and panic, in Envoy's integer arithmetic.

Source: Envoy priority levels and panic threshold; measured rows in Envoy's own documentation differ from its code,
and we follow the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Load", "PriorityHealth", "loads"]


class PriorityHealth(NamedTuple):
    """Endpoints of one priority: all of them, how many are healthy, and how many are degraded."""

    total: int
    healthy: int
    degraded: int = 0


class Load(NamedTuple):
    """Shares of one priority.

    Attributes:
        percent: Of the traffic, 0..100, for its healthy endpoints.
        panic: All of its endpoints are used, the unhealthy too.
        degraded: Percent of the traffic, 0..100, for its degraded endpoints.
    """

    percent: int
    panic: bool
    degraded: int = 0


def loads(priorities: Sequence[PriorityHealth], *, overprovisioning: int = 140, panic_threshold: int = 0) -> list[Load]:
    """The share of every priority, in order.

    Args:
        priorities: Counts, priority 0 first.
        overprovisioning: Percent by which health is inflated; 140 keeps traffic until 71 percent are healthy.
        panic_threshold: Percent of healthy endpoints below which a priority may panic; 0 never does.
    """
    healthy = [_health(p.healthy, p.total, overprovisioning) for p in priorities]
    degraded = [_health(p.degraded, p.total, overprovisioning) for p in priorities]
    norm = min(100, sum(healthy) + sum(degraded))
    panic = [norm < 100 and p.total > 0 and _percent(p) < panic_threshold for p in priorities]
    if norm == 0 or all(panicking or not p.total for p, panicking in zip(priorities, panic, strict=True)):
        return _by_size(priorities, panic) if any(panic) else [Load(0, False) for _ in priorities]
    return _by_health(healthy, degraded, norm, panic)


def _health(count: int, total: int, overprovisioning: int) -> int:
    return min(100, overprovisioning * count // total) if total else 0


def _percent(priority: PriorityHealth) -> int:
    return 100 * priority.healthy // priority.total + 100 * priority.degraded // priority.total


def _by_size(priorities: Sequence[PriorityHealth], panic: Sequence[bool]) -> list[Load]:
    total = sum(p.total for p in priorities)
    shares = [100 * p.total // total for p in priorities]
    first = next(number for number, p in enumerate(priorities) if p.total)
    shares[first] += 100 - sum(shares)
    return [Load(share, panicking) for share, panicking in zip(shares, panic, strict=True)]


def _by_health(healthy: Sequence[int], degraded: Sequence[int], norm: int, panic: Sequence[bool]) -> list[Load]:
    """The healthy of every priority first, then the degraded of every priority; roundings go to the first that has."""
    first, left = _shares(healthy, norm, 100)
    second, left = _shares(degraded, norm, left)
    some = first if any(healthy) else second
    some[next(number for number, value in enumerate(healthy if any(healthy) else degraded) if value)] += left
    return [Load(*each) for each in zip(first, panic, second, strict=True)]


def _shares(health: Sequence[int], norm: int, left: int) -> tuple[list[int], int]:
    shares = []
    for value in health:
        share = min(left, value * 100 // norm)
        shares.append(share)
        left -= share
    return shares, left
