"""A circuit breaker: closed, open, half open; of one endpoint or of a whole cluster.

Rules:

- closed, it counts: so many errors in a row open it, or so large a share of errors among enough results of a window;
- open, it refuses for ``open_for`` seconds; results of calls that began before it closed again say nothing any more;
- half open, it gives out ``half_open_requests`` permits for trials; when as many trials have passed it closes, and the
  first that fails opens it anew;
- a permit is a lease: a trial that says nothing about the host (cancelled, local) gives it back at once, and one that
  is never heard of loses it after ``open_for`` seconds, so that no breaker stays half open for ever. What a late trial
  has to say still counts, while the breaker is in the same half-open period.

Sans-IO and not locked: whoever owns a breaker guards it.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum

from meshlib.model.client_policy import ErrorBreaker

__all__ = ["Breaker", "Phase"]

_SLOTS = 10
"""Parts of a window; it moves on by one of them at a time."""


class Phase(Enum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """One breaker; the settings come with each question, so that its state outlives a change of them.

    Attributes:
        phase: Where it stands.
        until: While open: when trials are let through, on the mesh's clock.
        why: What opened it last, in words.
    """

    __slots__ = ("_closed_at", "_first", "_leases", "_number", "_passed", "_streak", "_window", "phase", "until", "why")

    def __init__(self) -> None:
        self.phase = Phase.CLOSED
        self.until = 0.0
        self.why = ""
        self._streak = 0
        self._window = _Window()
        self._number = 0
        self._first = 1
        self._passed = 0
        self._closed_at = -math.inf
        self._leases: dict[int, float] = {}

    # Permits --------------------------------------------------------------------------------------------------------

    def acquire(self, settings: ErrorBreaker, now: float) -> int | None:
        """Leave to send: 0 while closed, the number of a trial while half open, None for no."""
        if self.phase is Phase.CLOSED:
            return 0
        if not self.admits(settings, now):
            return None
        if self.phase is Phase.OPEN:
            self.phase = Phase.HALF_OPEN
            self._first, self._passed = self._number + 1, 0
            self._leases.clear()
        self._leases = {number: ends for number, ends in tuple(self._leases.items()) if now < ends}
        self._number += 1
        self._leases[self._number] = now + settings.open_for
        return self._number

    def admits(self, settings: ErrorBreaker, now: float) -> bool:
        """Whether ``acquire`` would say yes."""
        if self.phase is Phase.HALF_OPEN:
            held = sum(now < ends for ends in tuple(self._leases.values()))
            return held + self._passed < settings.half_open_requests
        return self.phase is Phase.CLOSED or now >= self.until

    def admits_from(self) -> float | None:
        """When it will admit somebody again if nothing is heard before; None when it does, or when all have passed."""
        if self.phase is Phase.OPEN:
            return self.until
        return min(self._leases.values(), default=None)

    def give_back(self, trial: int) -> None:
        """A trial that says nothing about the host is over."""
        self._leases.pop(trial, None)

    # Results --------------------------------------------------------------------------------------------------------

    def record(self, settings: ErrorBreaker, trial: int, failed: bool, now: float, since: float | None = None) -> None:
        """A result; ``trial`` is what ``acquire`` gave to the attempt that it is of, and ``since`` when that began."""
        if self.phase is Phase.CLOSED:
            if since is None or since >= self._closed_at:
                self._count(settings, failed, now)
        elif self.phase is Phase.HALF_OPEN and trial >= self._first:
            self._leases.pop(trial, None)
            if failed:
                self._open(settings, now, "a trial failed")
            else:
                self._passed += 1
                if self._passed >= settings.half_open_requests:
                    self._close(now)

    def is_idle(self, settings: ErrorBreaker) -> bool:
        """A success would change nothing: it is closed, no error is remembered, and shares are not counted."""
        return self.phase is Phase.CLOSED and not self._streak and not settings.error_rate

    def _count(self, settings: ErrorBreaker, failed: bool, now: float) -> None:
        self._streak = self._streak + 1 if failed else 0
        if settings.error_rate:
            self._window.add(now, failed, settings.window)
        if settings.consecutive_errors and self._streak >= settings.consecutive_errors:
            self._open(settings, now, f"{self._streak} errors in a row")
            return
        total, errors = self._window.total, self._window.errors
        if settings.error_rate and total >= settings.min_requests and errors / total >= settings.error_rate:
            self._open(settings, now, f"{errors} errors in {total} requests within {settings.window:g} s")

    def _open(self, settings: ErrorBreaker, now: float, why: str) -> None:
        self.phase, self.until, self.why = Phase.OPEN, now + settings.open_for, why
        self._forget()

    def _close(self, now: float) -> None:
        self.phase, self._closed_at = Phase.CLOSED, now
        self._forget()

    def _forget(self) -> None:
        self._streak = 0
        self._window.clear()
        self._leases.clear()


class _Window:
    """Results of the last seconds, in a few slots.

    Attributes:
        total: All results that are not older than the window.
        errors: The errors among them.
    """

    __slots__ = ("_length", "_slots", "errors", "total")

    def __init__(self) -> None:
        self._slots: deque[list[int]] = deque()
        self._length = 0.0
        self.total = self.errors = 0

    def add(self, now: float, failed: bool, length: float) -> None:
        """One result; another length of the window starts it over."""
        if length != self._length:
            self.clear()
            self._length = length
        number = int(now * _SLOTS / length)
        self._age(number)
        if not self._slots or self._slots[-1][0] != number:
            self._slots.append([number, 0, 0])
        last = self._slots[-1]
        last[1] += 1
        last[2] += failed
        self.total += 1
        self.errors += failed

    def _age(self, number: int) -> None:
        while self._slots and self._slots[0][0] <= number - _SLOTS:
            _, total, errors = self._slots.popleft()
            self.total -= total
            self.errors -= errors

    def clear(self) -> None:
        """Nothing was seen."""
        self._slots.clear()
        self.total = self.errors = 0
