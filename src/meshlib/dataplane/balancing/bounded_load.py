"""Consistent hashing with bounded load: no endpoint gets much more than its share of the requests under way.

Source: Envoy ``hash_balance_factor``. A key whose endpoint is full goes through the others in an order that the key
alone decides (a Mersenne Twister seeded as C++ seeds it, then Fisher-Yates), so that it has a second home too.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from meshlib.dataplane.balancing.consistent import Maglev, Ring, WeightedMember
from meshlib.dataplane.state import EndpointState

__all__ = ["BoundedLoad", "mersenne_twister", "shuffled"]

_WORD = (1 << 32) - 1


class BoundedLoad:
    """A hash balancer that passes on what would be too much.

    Args:
        inner: Whom a key belongs to.
        members: The set with its weights.
        percent: The most that an endpoint may have of its even share, above 100.
        active: How many requests of the cluster are under way.
    """

    __slots__ = ("_active", "_inner", "_members", "_percent", "_weights")

    def __init__(
        self, inner: Ring | Maglev, members: Sequence[WeightedMember], percent: int, active: Callable[[], int]
    ) -> None:
        self._inner = inner
        self._percent = percent
        self._active = active
        self._members = [state for state, _ in members]
        total = sum(weight for _, weight in members)
        self._weights = {state: weight / total for state, weight in members}

    def pick(self, rng: random.Random, now: float, hash_key: int | None, attempt: int) -> EndpointState:
        """The owner of the key, the first of the others with room, or the least loaded of all."""
        key = rng.getrandbits(64) if hash_key is None else hash_key
        owner = self._inner.pick(rng, now, key, attempt)
        slots = ((self._active() + 1) * self._percent + 99) // 100
        least = self._load(owner, slots)
        if least <= 1.0:
            return owner
        best = owner
        for index in shuffled(len(self._members), key):
            other = self._members[index]
            load = self._load(other, slots)
            if other is not owner and load <= 1.0:
                return other
            if load < least:
                best, least = other, load
        return best

    def owner(self, hash_key: int) -> EndpointState:
        """Whom a key belongs to while nobody is full."""
        return self._inner.pick(random.Random(0), 0.0, hash_key, 0)  # noqa: S311 - not drawn from

    def _load(self, state: EndpointState, slots: int) -> float:
        return state.active / max(1, math.ceil(slots * self._weights[state]))


def mersenne_twister(seed: int) -> random.Random:
    """C++'s ``std::mt19937(seed)``; ``getrandbits(32)`` gives its numbers."""
    words = [seed & _WORD]
    for number in range(1, 624):
        last = words[-1]
        words.append((1812433253 * (last ^ (last >> 30)) + number) & _WORD)
    made = random.Random()  # noqa: S311 - the state is set below
    made.setstate((3, (*words, 624), None))
    return made


def shuffled(size: int, seed: int) -> list[int]:
    """The numbers below ``size``, in the order that Envoy walks them for that hash."""
    twister = mersenne_twister(seed)
    order = list(range(size))
    for place in range(size):
        left = size - place
        drawn = left
        while drawn >= left:
            drawn = twister.getrandbits(32) // ((1 << 32) // left)
        order[place], order[place + drawn] = order[place + drawn], order[place]
    return order
