"""The picker of a cluster: priority, then locality, then endpoint.

Everything that depends on health and membership is computed when those change (``Picker`` is rebuilt), so that the
common pick, one priority and no weighted localities, is one call into one balancer. ``plan`` says which endpoints may
be picked; the picker puts a balancer over each part of it, and ``explain`` shows it.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate

from meshlib.dataplane.balancing.algorithms import Balancer
from meshlib.dataplane.balancing.balancers import Moment, balancer_over, hash_balancer
from meshlib.dataplane.balancing.bounded_load import BoundedLoad
from meshlib.dataplane.balancing.consistent import Maglev, Ring, WeightedMember
from meshlib.dataplane.balancing.localities import Localities
from meshlib.dataplane.balancing.plan import Group, Level, Part, is_healthy, plan
from meshlib.dataplane.state import EndpointState
from meshlib.model.policy import LoadBalancer

__all__ = ["Group", "Level", "Moment", "Part", "Picker", "is_healthy", "plan"]


class Picker:
    """Picks for one cluster in one state of health; immutable, replaced when health or membership changes.

    Attributes:
        levels: Who may be picked, see ``plan``.
        panic: Some priority uses everybody.
        stale_at: Seconds on the mesh's clock at which weights want to be looked at again; infinite is never.
    """

    __slots__ = (
        "_cumulative",
        "_levels",
        "_moment",
        "_only",
        "_settings",
        "_used",
        "levels",
        "panic",
        "stale_at",
    )

    def __init__(
        self,
        settings: LoadBalancer,
        groups: Sequence[Group],
        moment: Moment,
        healthy: Callable[[EndpointState], bool] = is_healthy,
        excluded: Collection[int] = (),
    ) -> None:
        self._settings, self._moment = settings, moment
        self.levels = plan(settings, groups, healthy, moment.seed, excluded)
        self.panic = any(level.panic for level in self.levels)
        self.stale_at = math.inf
        self._used = [level for level in self.levels if level.percent and level.parts]
        self._levels: list[Balancer] = [self._balancer_of(level) for level in self._used]
        self._cumulative = list(accumulate(level.percent for level in self._used))
        self._only = self._levels[0] if len(self._levels) == 1 else None

    def _balancer_of(self, level: Level) -> Balancer:
        if self._settings.kind.hashes:
            return hash_balancer(self._settings, _weighted_members(level.parts), self._moment)
        made = [self._balancer_over(part.usable) for part in level.parts]
        if len(made) == 1:
            return made[0]
        return Localities([(part.weight, each) for part, each in zip(level.parts, made, strict=True)])

    def _balancer_over(self, members: Sequence[EndpointState]) -> Balancer:
        made, stale_at = balancer_over(self._settings, members, self._moment)
        if stale_at is not None:
            self.stale_at = min(self.stale_at, stale_at)
        return made

    def pick(
        self,
        rng: random.Random,
        now: float = 0.0,
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
        state = self._draw(rng, now, hash_key, 0)
        attempt = 0
        while attempt < redraws and state in tried:
            attempt += 1
            state = self._draw(rng, now, hash_key, attempt)
            if attempt == redraws and state in tried:
                untried = [other for other in self._usable() if other not in tried]
                return untried[int(rng.random() * len(untried))] if untried else state
        return state

    def _usable(self) -> list[EndpointState]:
        """Everybody who may be picked."""
        return list(dict.fromkeys(state for level in self._used for part in level.parts for state in part.usable))

    def reach(self, hash_key: int | None = None) -> list[EndpointState]:
        """Everybody whom the first draw of a call may give; with a key there is less left to chance."""
        if hash_key is None or not self._levels:
            return self._usable()
        index = self._index(hash_key % 100)
        balancer = self._levels[index]
        if isinstance(balancer, BoundedLoad):
            return [balancer.owner(hash_key)]
        if isinstance(balancer, Ring | Maglev):
            return [balancer.pick(self._moment.rng, 0.0, hash_key, 0)]
        return [state for part in self._used[index].parts for state in part.usable]

    def _draw(self, rng: random.Random, now: float, hash_key: int | None, attempt: int) -> EndpointState:
        if self._only is not None:
            return self._only.pick(rng, now, hash_key, attempt)
        index = self._index(rng.random() * 100 if hash_key is None else hash_key % 100)
        return self._levels[index].pick(rng, now, hash_key, attempt)

    def _index(self, percent: float) -> int:
        point = percent * self._cumulative[-1] / 100
        return min(bisect_right(self._cumulative, point), len(self._levels) - 1)


def _weighted_members(parts: Sequence[Part]) -> list[WeightedMember]:
    """All endpoints of a priority for one ring: the weight of each is its share of its locality's.

    Source: Envoy ``normalizeLocalityWeights``.
    """
    if len(parts) == 1:
        return [(state, state.endpoint.weight) for state in parts[0].usable]
    found: list[WeightedMember] = []
    whole = sum(part.weight for part in parts)
    for part in parts:
        total = sum(state.endpoint.weight for state in part.usable)
        found += [(state, part.weight / whole * state.endpoint.weight / total) for state in part.usable]
    return found
