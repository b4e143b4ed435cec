"""What calls of one kind add up to, counted here and asked of nobody.

A ``Series`` is one set of labels. A call adds to it under a lock held for a microsecond; whoever collects takes out
what has come in since, and adds it to the books of the readers (``ledger``). So a call costs the same however many
readers there are, and a reader of differences resets nothing that another one needs.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Mapping

__all__ = ["BUCKETS", "Distribution", "Labels", "Series", "Tally"]

Labels = Mapping[str, str | bool]

BUCKETS = (
    0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000
)  # fmt: skip
"""Upper bounds of histogram buckets, for milliseconds and bytes alike; a value at a bound is below it."""


class Distribution:
    """A histogram.

    Attributes:
        counts: Values by bucket, those above the last bound behind it.
        sum: Of all values.
        low: The least, infinite while there is none.
        high: The greatest.
    """

    __slots__ = ("counts", "high", "low", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, value: float) -> None:
        """One value."""
        self.counts[bisect_left(BUCKETS, value)] += 1
        self.sum += value
        if value < self.low:
            self.low = value
        if value > self.high:
            self.high = value

    def merge(self, other: Distribution) -> None:
        """All values of another."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)


class Tally:
    """Calls and their distributions.

    Attributes:
        count: How many.
        duration: Milliseconds.
        sent: Bytes of requests, headers included.
        received: Bytes of response bodies.
        asked: Messages of RPCs, to the server.
        answered: Messages of RPCs, from the server.
    """

    __slots__ = ("answered", "asked", "count", "duration", "received", "sent")

    def __init__(self) -> None:
        self.count = self.asked = self.answered = 0
        self.duration = Distribution()
        self.sent = Distribution()
        self.received = Distribution()

    def merge(self, other: Tally) -> None:
        """All calls of another."""
        self.count += other.count
        self.asked += other.asked
        self.answered += other.answered
        self.duration.merge(other.duration)
        self.sent.merge(other.sent)
        self.received.merge(other.received)


class Series:
    """One set of labels and what came in since the last collection.

    Attributes:
        labels: The labels.
        began: When it was first counted, nanoseconds of Unix time.
    """

    __slots__ = ("_fresh", "_lock", "began", "labels")

    def __init__(self, labels: Labels, began: int) -> None:
        self.labels = labels
        self.began = began
        self._fresh = Tally()
        self._lock = threading.RLock()

    def add(self, duration: float, sent: int, received: int, asked: int = 0, answered: int = 0) -> None:
        """A call that is over; from any thread."""
        with self._lock:
            fresh = self._fresh
            fresh.count += 1
            fresh.asked += asked
            fresh.answered += answered
            fresh.duration.add(duration)
            fresh.sent.add(sent)
            fresh.received.add(received)

    def take(self) -> Tally | None:
        """What came in since the last time; None for nothing."""
        if not self._fresh.count:
            return None
        with self._lock:
            taken, self._fresh = self._fresh, Tally()
        return taken

    def after_fork(self) -> None:
        """In a forked child: nobody holds the lock."""
        self._lock = threading.RLock()
