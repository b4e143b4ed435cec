"""Round robin, plain and weighted, and random: what needs no more than the set and its weights.

Source: Envoy ``round_robin`` and ``random``.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from meshlib.dataplane.balancing.edf import Edf
from meshlib.dataplane.state import EndpointState

__all__ = ["Balancer", "RandomChoice", "RoundRobin", "Turns", "Weigh", "plain_weight"]

Weigh = Callable[[EndpointState, float], float]
"""The weight of an endpoint at a moment."""


class Balancer(Protocol):
    """Picks among a fixed, non-empty set."""

    def pick(self, rng: random.Random, now: float, hash_key: int | None, attempt: int) -> EndpointState:
        """One endpoint.

        Args:
            rng: Where draws come from.
            now: Seconds on the mesh's clock.
            hash_key: Matters to consistent hashing only.
            attempt: How many endpoints were drawn for this pick and turned down; a hash leads elsewhere each time.
        """
        ...


class RoundRobin:
    """Equal turns from a random start."""

    __slots__ = ("_members", "_next")

    def __init__(self, members: Sequence[EndpointState], rng: random.Random) -> None:
        self._members = members
        self._next = rng.randrange(len(members))

    def pick(self, rng: random.Random, now: float, hash_key: int | None, attempt: int) -> EndpointState:
        """The next in turn. Two threads may now and then take the same turn, which harms nothing."""
        turn = self._next
        self._next = turn + 1
        return self._members[turn % len(self._members)]


class Turns:
    """Turns in proportion to weights, which may change from turn to turn."""

    __slots__ = ("_edf", "_lock")

    def __init__(self, members: Sequence[EndpointState], weigh: Weigh, rng: random.Random, now: float) -> None:
        self._lock = threading.Lock()
        self._edf = Edf(members, weigh, rng, now)

    def pick(self, rng: random.Random, now: float, hash_key: int | None, attempt: int) -> EndpointState:
        """Whose turn it is."""
        with self._lock:
            return self._edf.next(now)


def plain_weight(state: EndpointState, now: float) -> float:
    """What discovery says."""
    return state.endpoint.weight


class RandomChoice:
    """Uniform, weights ignored, as Envoy's RANDOM does."""

    __slots__ = ("_members",)

    def __init__(self, members: Sequence[EndpointState]) -> None:
        self._members = members

    def pick(self, rng: random.Random, now: float, hash_key: int | None, attempt: int) -> EndpointState:
        """Any."""
        return self._members[int(rng.random() * len(self._members))]
