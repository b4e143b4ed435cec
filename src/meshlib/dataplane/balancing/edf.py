"""Earliest deadline first: weighted turns without bursts (Envoy's scheduler)."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["Edf"]

T = TypeVar("T")


class Edf(Generic[T]):
    """Hands out items in proportion to their weights, spread as evenly as they allow.

    ``weight`` is asked anew each time an item is put back, so weights may depend on load. After building, a random
    number of turns is skipped, so that many processes do not walk in step.
    """

    __slots__ = ("_heap", "_sequence", "_weight")

    def __init__(self, items: Sequence[T], weight: Callable[[T], float], rng: random.Random) -> None:
        self._weight = weight
        self._heap = [(1.0 / max(weight(item), 1e-9), number, item) for number, item in enumerate(items)]
        self._sequence = len(items)
        heapq.heapify(self._heap)
        for _ in range(rng.randrange(len(items)) if items else 0):
            self.next()

    def next(self) -> T:
        """The item whose turn it is. Not thread-safe: the caller holds a lock."""
        deadline, _, item = self._heap[0]
        self._sequence += 1
        heapq.heapreplace(self._heap, (deadline + 1.0 / max(self._weight(item), 1e-9), self._sequence, item))
        return item
