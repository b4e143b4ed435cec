"""A locality is drawn by weight, then an endpoint in it."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from meshlib.dataplane.balancing.algorithms import Balancer
from meshlib.dataplane.state import EndpointState

__all__ = ["Localities"]


class Localities:
    """Balancers of localities with their weights."""

    __slots__ = ("_balancers", "_cumulative")

    def __init__(self, weighted: Sequence[tuple[float, Balancer]]) -> None:
        self._balancers = [balancer for _, balancer in weighted]
        self._cumulative = list(accumulate(weight for weight, _ in weighted))

    def pick(self, rng: random.Random, now: float, hash_key: int | None, attempt: int) -> EndpointState:
        """One endpoint of one of them."""
        point = rng.random() * self._cumulative[-1]
        index = min(bisect_right(self._cumulative, point), len(self._balancers) - 1)
        return self._balancers[index].pick(rng, now, hash_key, attempt)
