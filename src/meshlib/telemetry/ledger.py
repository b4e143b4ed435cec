"""All series of a process, and the books of those who read them.

Readers of totals share one book. A reader of differences has its own, which starts over with each reading.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import time_ns
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from meshlib.telemetry.series import Labels, Series, Tally

__all__ = ["OVERFLOW", "Entry", "Ledger"]

OVERFLOW: Labels = {"otel.metric.overflow": True}
"""Counts what comes after the last set of labels that is told apart (OpenTelemetry, cardinality limits)."""


class Entry(NamedTuple):
    """A series as a reader finds it; ``since`` is the start of what it tells, nanoseconds of Unix time."""

    labels: Labels
    since: int
    tally: Tally


class _Book:
    """What a reader has still to be told."""

    def __init__(self) -> None:
        self.tallies: dict[Series, Tally] = {}
        self.since = 0

    def add(self, series: Series, fresh: Tally) -> None:
        """Something came in."""
        self.tallies.setdefault(series, Tally()).merge(fresh)

    def entries(self) -> list[Entry]:
        """All of it, copied, for collections go on while a reader reads."""
        return [Entry(s.labels, max(self.since, s.began), _copy(tally)) for s, tally in self.tallies.items()]


def _copy(tally: Tally) -> Tally:
    copied = Tally()
    copied.merge(tally)
    return copied


class Ledger:
    """Series by their labels; from any thread."""

    LIMIT = 2000
    """Sets of labels that are told apart, as in OpenTelemetry."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._series: dict[tuple[tuple[str, str | bool], ...], Series] = {}
        self._totals = _Book()
        self._differences: WeakKeyDictionary[Any, _Book] = WeakKeyDictionary()

    def series(self, labels: Labels) -> Series:
        """The series of these labels; beyond ``LIMIT`` that of the overflow."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            found = self._series.get(key)
            if found is None:
                if len(self._series) >= self.LIMIT:
                    labels, key = OVERFLOW, ()
                found = self._series.setdefault(key, Series(labels, time_ns()))
            return found

    def follow(self, reader: Any) -> None:
        """``reader`` will ask for differences: keep a book for it from now on."""
        with self._lock:
            self._differences.setdefault(reader, _Book())

    def totals(self) -> list[Entry]:
        """Every series since it began."""
        with self._lock:
            self._take()
            return self._totals.entries()

    def differences(self, reader: Any) -> list[Entry]:
        """The series that something was added to since ``reader`` asked last."""
        with self._lock:
            self._take()
            book = self._differences.setdefault(reader, _Book())
            entries = book.entries()
            book.tallies, book.since = {}, time_ns()
            return entries

    def _take(self) -> None:
        for series, fresh in self._fresh():
            self._totals.add(series, fresh)
            for book in self._differences.values():
                book.add(series, fresh)

    def _fresh(self) -> Iterator[tuple[Series, Tally]]:
        for series in list(self._series.values()):
            fresh = series.take()
            if fresh is not None:
                yield series, fresh

    def after_fork(self) -> None:
        """In a forked child: nobody holds a lock."""
        self._lock = threading.RLock()
        for series in self._series.values():
            series.after_fork()
