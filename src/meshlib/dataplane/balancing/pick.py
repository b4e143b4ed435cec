"""The picker of a cluster: priority, then locality, then endpoint.

Everything that depends on health and membership is computed when those change (``Picker`` is rebuilt), so that the
common pick, one priority and no weighted localities, is one call into one balancer.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import accumulate

from meshlib.dataplane.balancing.algorithms import Balancer, balanced
from meshlib.dataplane.balancing.consistent import Maglev, Ring
from meshlib.dataplane.balancing.priority import PriorityHealth, loads
from meshlib.dataplane.balancing.xxhash import xxh64
from meshlib.dataplane.state import EndpointState
from meshlib.model.endpoint import Health, LocalityEndpoints
from meshlib.model.policy import BalancerKind, LoadBalancer

__all__ = ["Group", "Picker", "is_healthy"]

Group = tuple[LocalityEndpoints, list[EndpointState]]
"""A locality of one priority, and the states of its endpoints in the same order."""


def is_healthy(state: EndpointState) -> bool:
    """Discovery, active checks and ejection all agree that it may be picked."""
    return state.ejected_at is None and state.health_ok and state.endpoint.health is Health.HEALTHY


class Picker:
    """Picks for one cluster in one state of health; immutable, replaced when health or membership changes."""

    __slots__ = ("_cumulative", "_levels", "_only", "_usable", "panic")

    def __init__(self, settings: LoadBalancer, groups: Sequence[Group], rng: random.Random) -> None:
        levels = _by_priority(groups)
        members = [[state for _, states in level for state in states] for level in levels]
        shares = loads(
            [PriorityHealth(len(level), sum(map(is_healthy, level))) for level in members],
            overprovisioning=round(settings.overprovisioning * 100),
            panic_threshold=round(settings.panic_ratio * 100),
        )
        self.panic = any(share.panic for share in shares)
        self._usable = [s for level, share in zip(members, shares, strict=True) for s in _usable(level, share.panic)]
        self._levels: list[Balancer] = []
        percents: list[int] = []
        for level, share in zip(levels, shares, strict=True):
            balancer = _level(settings, level, share.panic, rng) if share.percent else None
            if balancer is not None:
                self._levels.append(balancer)
                percents.append(share.percent)
        self._cumulative = list(accumulate(percents))
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

    def _draw(self, rng: random.Random, hash_key: int | None) -> EndpointState:
        if self._only is not None:
            return self._only.pick(rng, hash_key)
        point = (rng.random() * 100 if hash_key is None else hash_key % 100) * self._cumulative[-1] / 100
        return self._levels[min(bisect_right(self._cumulative, point), len(self._levels) - 1)].pick(rng, hash_key)


class _Localities:
    """Draws a locality by weight, shrunk by its health, then an endpoint in it."""

    __slots__ = ("_balancers", "_cumulative")

    def __init__(self, weighted: Sequence[tuple[float, Balancer]]) -> None:
        self._balancers = [balancer for _, balancer in weighted]
        self._cumulative = list(accumulate(weight for weight, _ in weighted))

    def pick(self, rng: random.Random, hash_key: int | None) -> EndpointState:
        share = rng.random() if hash_key is None else xxh64(b"%d" % hash_key) / 2**64  # one key, one locality
        point = share * self._cumulative[-1]
        return self._balancers[min(bisect_right(self._cumulative, point), len(self._balancers) - 1)].pick(rng, hash_key)


def _by_priority(groups: Sequence[Group]) -> list[list[Group]]:
    numbers = sorted({group.priority for group, _ in groups})
    return [[pair for pair in groups if pair[0].priority == number] for number in numbers]


def _level(settings: LoadBalancer, groups: Sequence[Group], panic: bool, rng: random.Random) -> Balancer | None:
    if settings.locality_weighted:
        return _weighted_localities(settings, groups, panic, rng)
    usable = _usable([state for _, states in groups for state in states], panic)
    return _balancer(settings, usable, rng) if usable else None


def _weighted_localities(
    settings: LoadBalancer, groups: Sequence[Group], panic: bool, rng: random.Random
) -> Balancer | None:
    weighted: list[tuple[float, Balancer]] = []
    for group, members in groups:
        usable = _usable(members, panic)
        if usable and group.weight:
            health = min(1.0, settings.overprovisioning * len(usable) / len(members))
            weighted.append((group.weight * health, _balancer(settings, usable, rng)))
    return _Localities(weighted) if weighted else None


def _usable(members: Sequence[EndpointState], panic: bool) -> list[EndpointState]:
    unique = list(dict.fromkeys(members))
    return unique if panic else [state for state in unique if is_healthy(state)]


def _balancer(settings: LoadBalancer, members: Sequence[EndpointState], rng: random.Random) -> Balancer:
    if settings.kind is BalancerKind.RING_HASH:
        return Ring(members, settings.min_ring_size)
    if settings.kind is BalancerKind.MAGLEV:
        return Maglev(members, settings.table_size)
    return balanced(members, settings.kind.value, rng)
