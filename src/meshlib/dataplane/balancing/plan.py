"""Who may be picked, and with what share: priorities, panic, localities, zones, and this process's few of very many."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from meshlib.dataplane.balancing.priority import Load, PriorityHealth, loads
from meshlib.dataplane.balancing.subsetting import kept
from meshlib.dataplane.balancing.zone_aware import Zone, zone_weights
from meshlib.dataplane.state import EndpointState
from meshlib.model.endpoint import Health, Locality, LocalityEndpoints
from meshlib.model.policy import LoadBalancer

__all__ = ["Group", "Level", "Part", "is_healthy", "plan"]

Group = tuple[LocalityEndpoints, list[EndpointState]]
"""A locality of one priority, and the states of its endpoints in the same order."""

_Test = Callable[[EndpointState], bool]


def is_healthy(state: EndpointState, ejected: bool | None = None, shut: bool | None = None) -> bool:
    """Discovery, active checks, breaker and ejection all agree that it may be picked.

    A degraded endpoint may be picked too, where not enough others are left. ``ejected`` and ``shut`` foresee what the
    next pick will change.
    """
    out = state.ejected_at is not None if ejected is None else ejected
    closed = state.shut if shut is None else shut
    return not out and state.health_ok and not closed and state.endpoint.health in _USABLE


_USABLE = (Health.HEALTHY, Health.DEGRADED)


def _is_degraded(state: EndpointState) -> bool:
    return state.endpoint.health is Health.DEGRADED


class Part(NamedTuple):
    """Endpoints among which one draw is made.

    Attributes:
        locality: Where they run; None when localities are not weighted and the part is the whole priority.
        weight: Relative to the other parts of the priority.
        usable: Who may be picked.
    """

    locality: Locality | None
    weight: float
    usable: list[EndpointState]


class Level(NamedTuple):
    """One priority, or the degraded endpoints of one.

    Attributes:
        priority: Its number, 0 is used first.
        percent: Share of the traffic, 0..100.
        panic: Unhealthy endpoints are used too.
        parts: Those that have an endpoint and a weight.
        degraded: It is the degraded endpoints that this is about.
    """

    priority: int
    percent: int
    panic: bool
    parts: tuple[Part, ...]
    degraded: bool = False


def plan(
    settings: LoadBalancer,
    groups: Sequence[Group],
    healthy: _Test = is_healthy,
    seed: int = 0,
    excluded: Collection[int] = (),
) -> list[Level]:
    """Who may be picked, priority by priority, and with what share.

    Args:
        settings: How.
        groups: Every endpoint, by priority and locality.
        healthy: Which of them may be picked while nobody panics.
        seed: Of this process, for its choice among very many.
        excluded: Priorities that get nothing, as if nobody were there.
    """
    by_priority = [_Priority(settings, level, healthy, seed) for level in _by_priority(groups)]
    shares = loads(
        [each.health(each.number in excluded) for each in by_priority],
        overprovisioning=round(settings.overprovisioning * 100),
        panic_threshold=round(settings.panic_ratio * 100),
    )
    pairs = list(zip(by_priority, shares, strict=True))
    first = [each.level(share) for each, share in pairs]
    return first + [each.degraded(share) for each, share in pairs if share.degraded and not share.panic]


def _by_priority(groups: Sequence[Group]) -> list[list[Group]]:
    numbers = sorted({group.priority for group, _ in groups})
    return [[pair for pair in groups if pair[0].priority == number] for number in numbers]


class _Priority:
    """The groups of one priority, with those of their endpoints that are healthy, and those that are degraded."""

    def __init__(self, settings: LoadBalancer, groups: Sequence[Group], healthy: _Test, seed: int) -> None:
        self.number = groups[0][0].priority
        self._settings = settings
        self._groups = groups
        self._seed = seed
        up = [[state for state in states if healthy(state)] for _, states in groups]
        self._healthy = [[state for state in states if not _is_degraded(state)] for states in up]
        self._degraded = [[state for state in states if _is_degraded(state)] for states in up]

    def health(self, excluded: bool) -> PriorityHealth:
        if excluded:
            return PriorityHealth(0, 0)
        total = sum(len(states) for _, states in self._groups)
        return PriorityHealth(total, sum(map(len, self._healthy)), sum(map(len, self._degraded)))

    def level(self, share: Load) -> Level:
        """The healthy endpoints; in panic all of them, whatever their locality, or none.

        Even in panic nobody passes a breaker.
        """
        if not share.panic:
            return Level(self.number, share.percent, False, tuple(self._parts(self._healthy)))
        open_to_all = [[state for state in states if not state.shut] for _, states in self._groups]
        everybody = [] if self._settings.fail_on_panic else open_to_all
        return Level(self.number, share.percent, True, tuple(self._whole(everybody)))

    def degraded(self, share: Load) -> Level:
        """The degraded endpoints."""
        return Level(self.number, share.degraded, False, tuple(self._parts(self._degraded)), degraded=True)

    def _whole(self, usable: Sequence[list[EndpointState]]) -> Iterator[Part]:
        everybody = self._kept([state for states in usable for state in states])
        if everybody:
            yield Part(None, 1.0, everybody)

    def _kept(self, states: Sequence[EndpointState]) -> list[EndpointState]:
        return kept(list(dict.fromkeys(states)), self._settings.subset_size, self._seed)

    def _parts(self, usable: Sequence[list[EndpointState]]) -> Iterator[Part]:
        """One part for each locality, where those have weights; else one for all."""
        weights = self._weights(usable)
        if weights is None:
            yield from self._whole(usable)
            return
        mine = set(self._kept([state for states in usable for state in states]))
        for (group, _), states, weight in zip(self._groups, usable, weights, strict=True):
            chosen = [state for state in dict.fromkeys(states) if state in mine]
            if chosen and weight:
                yield Part(group.locality, weight, chosen)

    def _weights(self, usable: Sequence[list[EndpointState]]) -> list[float] | None:
        settings = self._settings
        if settings.locality_weighted:
            pairs = zip(self._groups, usable, strict=True)
            return [self._weight(group, len(states), len(up)) for (group, states), up in pairs]
        if settings.zone_aware is None or self.number != 0 or settings.kind.hashes:
            return None
        pairs = zip(self._groups, usable, strict=True)
        zones = [Zone(len(up), group.callers, group.near) for (group, _), up in pairs]
        return zone_weights(zones, settings.zone_aware.min_cluster_size)

    def _weight(self, group: LocalityEndpoints, total: int, usable: int) -> float:
        """A locality's weight, shrunk by its health; a ring takes it whole, as Envoy's does."""
        weight = float(group.weight or 0)
        if not total or self._settings.kind.hashes:
            return weight
        return weight * min(1.0, self._settings.overprovisioning * usable / total)
