"""The picker of a cluster: priority, then locality, then endpoint.

Everything that depends on health and membership is computed when those change (``Picker`` is rebuilt), so that the
common pick, one priority and no weighted localities, is one call into one balancer. ``plan`` says which endpoints may
be picked; the picker puts a balancer over each part of it, and ``explain`` shows it.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from meshlib.dataplane.balancing.algorithms import Balancer, balanced
from meshlib.dataplane.balancing.consistent import Maglev, Ring
from meshlib.dataplane.balancing.priority import PriorityHealth, loads
from meshlib.dataplane.balancing.xxhash import xxh64
from meshlib.dataplane.state import EndpointState
from meshlib.model.endpoint import Health, Locality, LocalityEndpoints
from meshlib.model.policy import BalancerKind, LoadBalancer

__all__ = ["Group", "Level", "Part", "Picker", "is_healthy", "plan"]

Group = tuple[LocalityEndpoints, list[EndpointState]]
"""A locality of one priority, and the states of its endpoints in the same order."""


def is_healthy(state: EndpointState, ejected: bool | None = None, shut: bool | None = None) -> bool:
    """Discovery, active checks, breaker and ejection all agree that it may be picked.

    ``ejected`` and ``shut`` foresee what the next pick will change.
    """
    out = state.ejected_at is not None if ejected is None else ejected
    closed = state.shut if shut is None else shut
    return not out and state.health_ok and not closed and state.endpoint.health is Health.HEALTHY


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
    """One priority.

    Attributes:
        priority: Its number, 0 is used first.
        percent: Share of the traffic, 0..100.
        panic: Unhealthy endpoints are used too.
        parts: Those that have an endpoint and a weight.
    """

    priority: int
    percent: int
    panic: bool
    parts: tuple[Part, ...]


def plan(
    settings: LoadBalancer,
    groups: Sequence[Group],
    healthy: Callable[[EndpointState], bool] = is_healthy,
    excluded: Collection[int] = (),
) -> list[Level]:
    """Who may be picked, priority by priority, and with what share; ``excluded`` priorities get none."""
    levels = _by_priority(groups)
    members = [
        [state for _, states in level for state in states] if level[0][0].priority not in excluded else []
        for level in levels
    ]
    shares = loads(
        [PriorityHealth(len(level), sum(map(healthy, level))) for level in members],
        overprovisioning=round(settings.overprovisioning * 100),
        panic_threshold=round(settings.panic_ratio * 100),
    )
    return [
        Level(level[0][0].priority, share.percent, share.panic, tuple(_parts(settings, level, share.panic, healthy)))
        for level, share in zip(levels, shares, strict=True)
    ]


class Picker:
    """Picks for one cluster in one state of health; immutable, replaced when health or membership changes."""

    __slots__ = ("_cumulative", "_levels", "_only", "_usable", "levels", "panic")

    def __init__(
        self,
        settings: LoadBalancer,
        groups: Sequence[Group],
        rng: random.Random,
        healthy: Callable[[EndpointState], bool] = is_healthy,
        excluded: Collection[int] = (),
    ) -> None:
        self.levels = plan(settings, groups, healthy, excluded)
        self.panic = any(level.panic for level in self.levels)
        used = [level for level in self.levels if level.percent and level.parts]
        self._usable = list(dict.fromkeys(s for level in used for part in level.parts for s in part.usable))
        self._levels: list[Balancer] = [_balancer_of(settings, level, rng) for level in used]
        self._cumulative = list(accumulate(level.percent for level in used))
        self._only = self._levels[0] if len(self._levels) == 1 else None

    def pick(
        self,
        rng: random.Random,
        hash_key: int | None = None,
        tried: Collection[EndpointState] = (),
        redraws: int = 0,
    ) -> EndpointState | None:
        """One endpoint, or None when none may be picked.

        Draws again, at most ``redraws`` times, while the endpoint is among ``tried`` (Envoy ``previous_hosts``).
        Envoy would then take what it got; we look once for any that was not tried, so that a retry meets an
        endpoint twice only when it has met all of them.
        """
        if not self._levels:
            return None
        state = self._draw(rng, hash_key)
        while redraws > 0 and state in tried:
            redraws -= 1
            state = self._draw(rng, None if hash_key is None else rng.getrandbits(64))
            if not redraws and state in tried:
                untried = [other for other in self._usable if other not in tried]
                return untried[int(rng.random() * len(untried))] if untried else state
        return state

    def reach(self, hash_key: int | None = None) -> list[EndpointState]:
        """Everybody whom the first draw of a call may give; with a key there is less left to chance."""
        if hash_key is None:
            anywhere = (part for level in self.levels if level.percent for part in level.parts)
            return list(dict.fromkeys(state for part in anywhere for state in part.usable))
        if not self._levels:
            return []
        index = self._index(hash_key % 100)
        balancer = self._levels[index]
        parts = [level for level in self.levels if level.percent and level.parts][index].parts
        if isinstance(balancer, _Localities):
            index = balancer.index(_share(hash_key))
            return _owners(balancer.balancers[index], parts[index], hash_key)
        return _owners(balancer, parts[0], hash_key)

    def _draw(self, rng: random.Random, hash_key: int | None) -> EndpointState:
        if self._only is not None:
            return self._only.pick(rng, hash_key)
        return self._levels[self._index(rng.random() * 100 if hash_key is None else hash_key % 100)].pick(rng, hash_key)

    def _index(self, percent: float) -> int:
        point = percent * self._cumulative[-1] / 100
        return min(bisect_right(self._cumulative, point), len(self._levels) - 1)


class _Localities:
    """Draws a locality by weight, shrunk by its health, then an endpoint in it."""

    __slots__ = ("_cumulative", "balancers")

    def __init__(self, weighted: Sequence[tuple[float, Balancer]]) -> None:
        self.balancers = [balancer for _, balancer in weighted]
        self._cumulative = list(accumulate(weight for weight, _ in weighted))

    def pick(self, rng: random.Random, hash_key: int | None) -> EndpointState:
        share = rng.random() if hash_key is None else _share(hash_key)
        return self.balancers[self.index(share)].pick(rng, hash_key)

    def index(self, share: float) -> int:
        """Whose turn it is at this share (0..1) of the whole."""
        return min(bisect_right(self._cumulative, share * self._cumulative[-1]), len(self.balancers) - 1)


def _share(hash_key: int) -> float:
    """A share (0..1) made of a key: one key, one locality."""
    return xxh64(b"%d" % hash_key) / 2**64


def _owners(balancer: Balancer, part: Part, hash_key: int) -> list[EndpointState]:
    """Whom a key leads to: one endpoint where the balancer hashes, else any."""
    hashes = isinstance(balancer, Ring | Maglev)
    return [balancer.pick(random.Random(0), hash_key)] if hashes else part.usable  # noqa: S311 - not drawn from


def _by_priority(groups: Sequence[Group]) -> list[list[Group]]:
    numbers = sorted({group.priority for group, _ in groups})
    return [[pair for pair in groups if pair[0].priority == number] for number in numbers]


def _parts(
    settings: LoadBalancer, groups: Sequence[Group], panic: bool, healthy: Callable[[EndpointState], bool]
) -> Iterator[Part]:
    """One part for each weighted locality, its weight shrunk by its health; else one for all."""
    if not settings.locality_weighted:
        usable = _usable([state for _, states in groups for state in states], panic, healthy)
        if usable:
            yield Part(None, 1.0, usable)
        return
    for group, members in groups:
        usable = _usable(members, panic, healthy)
        if usable and group.weight:
            health = min(1.0, settings.overprovisioning * len(usable) / len(members))
            yield Part(group.locality, group.weight * health, usable)


def _usable(
    members: Sequence[EndpointState], panic: bool, healthy: Callable[[EndpointState], bool]
) -> list[EndpointState]:
    unique = list(dict.fromkeys(members))
    if panic:  # even then nobody passes a breaker
        return [state for state in unique if not state.shut]
    return [state for state in unique if healthy(state)]


def _balancer_of(settings: LoadBalancer, level: Level, rng: random.Random) -> Balancer:
    balancers = [_balancer(settings, part.usable, rng) for part in level.parts]
    if not settings.locality_weighted:
        return balancers[0]
    return _Localities([(part.weight, each) for part, each in zip(level.parts, balancers, strict=True)])


def _balancer(settings: LoadBalancer, members: Sequence[EndpointState], rng: random.Random) -> Balancer:
    if settings.kind is BalancerKind.RING_HASH:
        return Ring(members, settings.min_ring_size)
    if settings.kind is BalancerKind.MAGLEV:
        return Maglev(members, settings.table_size)
    return balanced(members, settings.kind.value, rng)
