"""How many requests came lately, for retry budgets that look back over an interval.

Whole calls are counted, once each, however many attempts they make; the interval slides in tenths of itself.

Source: Envoy ``retry_budget.budget_interval``; Istio ``retryBudget.budgetInterval``.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Window"]

_PARTS = 10


class Window:
    """Counts over the last ``interval`` seconds; guarded by the cluster's lock.

    Attributes:
        interval: Seconds.
    """

    __slots__ = ("_counts", "interval")

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._counts: deque[list[int]] = deque()

    def add(self, now: float) -> None:
        """One more call begins."""
        part = int(now * _PARTS / self.interval)
        if not self._counts or self._counts[-1][0] != part:
            self._counts.append([part, 0])
        self._counts[-1][1] += 1
        while self._counts[0][0] <= part - _PARTS:
            self._counts.popleft()

    def count(self, now: float) -> int:
        """Calls that began within the interval."""
        oldest = now * _PARTS / self.interval - _PARTS
        return sum(count for part, count in self._counts if part > oldest)
