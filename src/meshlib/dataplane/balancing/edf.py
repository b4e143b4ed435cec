"""Earliest deadline first: weighted turns without bursts (Envoy's scheduler)."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["Edf"]

T = TypeVar("T")
_LEAST = 1e-9


class Edf(Generic[T]):
    """Hands out items in proportion to their weights, spread as evenly as they allow.

    Each item starts at a random point of its own period. Envoy skips a random number of turns instead, to keep
    processes from walking in step; our start is fair too where schedulers are made anew after every few turns, as
    under slow start: whatever the moment, the next turn is an item's with a chance that follows its weight.

    Args:
        items: Non-empty.
        weight: Weight of an item at a moment, in seconds; asked anew each time that the item is put back.
        rng: For the start.
        now: Moment of the start.
    """

    __slots__ = ("_heap", "_sequence", "_weight")

    def __init__(
        self, items: Sequence[T], weight: Callable[[T, float], float], rng: random.Random, now: float = 0.0
    ) -> None:
        self._weight = weight
        self._heap = [
            (rng.random() / max(weight(item, now), _LEAST), number, item) for number, item in enumerate(items)
        ]
        self._sequence = len(items)
        heapq.heapify(self._heap)

    def next(self, now: float = 0.0) -> T:
        """The item whose turn it is. Not thread-safe: the caller holds a lock."""
        deadline, _, item = self._heap[0]
        self._sequence += 1
        heapq.heapreplace(self._heap, (deadline + 1.0 / max(self._weight(item, now), _LEAST), self._sequence, item))
        return item
