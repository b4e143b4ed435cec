"""The algorithms: each picks one endpoint out of a fixed set that may be picked.

Sources: Envoy load balancers; gRFC A48 for least request. We draw two *different* endpoints: drawing with replacement
would compare an endpoint with itself in half of the draws of a pair. Sets of up to ``FULL_SCAN`` are scanned whole.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from itertools import permutations
from typing import Protocol

from meshlib.dataplane.balancing.edf import Edf
from meshlib.dataplane.state import EndpointState

__all__ = ["FULL_SCAN", "Balancer", "LeastRequest", "RandomChoice", "RoundRobin", "Weighted", "balanced"]

FULL_SCAN = 4
"""Least request looks at every endpoint of sets up to this size."""


class Balancer(Protocol):
    """Picks among a fixed, non-empty set."""

    def pick(self, rng: random.Random, hash_key: int | None) -> EndpointState:
        """One endpoint; ``hash_key`` matters to consistent hashing only."""
        ...


class RoundRobin:
    """Equal turns from a random start."""

    __slots__ = ("_members", "_next")

    def __init__(self, members: Sequence[EndpointState], rng: random.Random) -> None:
        self._members = members
        self._next = rng.randrange(len(members))

    def pick(self, rng: random.Random, hash_key: int | None) -> EndpointState:
        """The next in turn. Two threads may now and then take the same turn, which harms nothing."""
        turn = self._next
        self._next = turn + 1
        return self._members[turn % len(self._members)]


class Weighted:
    """Turns in proportion to weight; with ``by_load`` the weight shrinks with the requests under way."""

    __slots__ = ("_edf", "_lock")

    def __init__(self, members: Sequence[EndpointState], rng: random.Random, *, by_load: bool) -> None:
        self._lock = threading.Lock()
        weight = _weight_by_load if by_load else _weight
        self._edf = Edf(members, weight, rng)

    def pick(self, rng: random.Random, hash_key: int | None) -> EndpointState:
        """Whose turn it is."""
        with self._lock:
            return self._edf.next()


def _weight(state: EndpointState) -> float:
    return state.endpoint.weight


def _weight_by_load(state: EndpointState) -> float:
    return state.endpoint.weight / (state.active + 1)


class RandomChoice:
    """Uniform, weights ignored, as Envoy's RANDOM does."""

    __slots__ = ("_members",)

    def __init__(self, members: Sequence[EndpointState]) -> None:
        self._members = members

    def pick(self, rng: random.Random, hash_key: int | None) -> EndpointState:
        """Any."""
        return self._members[int(rng.random() * len(self._members))]


class LeastRequest:
    """The less loaded of two different endpoints drawn at random, or the least loaded of a small set."""

    __slots__ = ("_members", "_orders")

    def __init__(self, members: Sequence[EndpointState]) -> None:
        self._members = members
        self._orders = tuple(permutations(members)) if len(members) <= FULL_SCAN else ()

    def pick(self, rng: random.Random, hash_key: int | None) -> EndpointState:
        """Ties go to any of the least loaded with equal chance."""
        orders = self._orders
        if orders:
            order = orders[int(rng.random() * len(orders))]
            best = order[0]
            for state in order:
                if state.active < best.active:
                    best = state
            return best
        members = self._members
        size = len(members)
        first = int(rng.random() * size)
        second = int(rng.random() * (size - 1))
        one, other = members[first], members[second + (second >= first)]
        return other if other.active < one.active else one


def balanced(members: Sequence[EndpointState], kind: str, rng: random.Random) -> Balancer:
    """The balancer of that kind (``ROUND_ROBIN``, ``LEAST_REQUEST``, ``RANDOM``) over ``members``."""
    if kind == "RANDOM":
        return RandomChoice(members)
    if len({state.endpoint.weight for state in members}) > 1:
        return Weighted(members, rng, by_load=kind == "LEAST_REQUEST")
    return RoundRobin(members, rng) if kind == "ROUND_ROBIN" else LeastRequest(members)
