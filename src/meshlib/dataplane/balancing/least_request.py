"""Least request: the less loaded of a few endpoints drawn at random, or the least loaded of a small set.

Source: Envoy ``least_request``; gRFC A48. Envoy draws with replacement, which compares an endpoint with itself in half
of the draws of a pair; we draw different ones, and look at all of a small set, where a slow endpoint hurts most.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import permutations

from meshlib.dataplane.balancing.algorithms import Weigh
from meshlib.dataplane.state import EndpointState

__all__ = ["FULL_SCAN", "LeastRequest", "weight_by_load"]

FULL_SCAN = 8
"""Every endpoint of sets up to this size is looked at."""

_ORDERED = 4
"""Sets up to this size are walked in one of all their orders, which settles ties for nothing."""


class LeastRequest:
    """Among endpoints of equal weight.

    Args:
        members: The set.
        choices: How many are drawn and compared, at least 2.
    """

    __slots__ = ("_choices", "_members", "_orders")

    def __init__(self, members: Sequence[EndpointState], choices: int = 2) -> None:
        self._members = members
        self._choices = choices if len(members) > max(FULL_SCAN, choices) else 0
        self._orders = tuple(permutations(members)) if len(members) <= _ORDERED else ()

    def pick(self, rng: random.Random, now: float, hash_key: int | None, attempt: int) -> EndpointState:
        """Ties go to any of the least loaded with equal chance."""
        orders = self._orders
        if orders:
            return _first_least(orders[int(rng.random() * len(orders))])
        if not self._choices:
            return _any_least(self._members, rng)
        members = self._members
        if self._choices > 2:
            return _first_least(rng.sample(members, self._choices))
        size = len(members)
        first = int(rng.random() * size)
        second = int(rng.random() * (size - 1))
        one, other = members[first], members[second + (second >= first)]
        return other if other.active < one.active else one


def _first_least(members: Sequence[EndpointState]) -> EndpointState:
    best = members[0]
    for state in members:
        if state.active < best.active:
            best = state
    return best


def _any_least(members: Sequence[EndpointState], rng: random.Random) -> EndpointState:
    least = min([state.active for state in members])
    ties = [state for state in members if state.active <= least] or members  # another thread may have added to all
    return ties[int(rng.random() * len(ties))]


def weight_by_load(bias: float) -> Weigh:
    """Endpoints of unequal weight take turns, each by its weight over (requests under way + 1) to the ``bias``."""
    if bias == 1.0:
        return lambda state, now: state.endpoint.weight / (state.active + 1)
    return lambda state, now: state.endpoint.weight / (state.active + 1) ** bias
