"""Attempts of one call side by side: whose turn it is to start, and whose answer is taken.

Asked like ``Call``, by drivers that own the waiting: ``begin``, then whatever comes first of a result (``settle``,
``refused``) and the moment ``wakes_at`` (``due``), until one stands; ``end`` gives up the others. Nothing here waits.

- A good answer ends the race: an answer below 500 that no retry word covers.
- A bad one is dropped while others are under way or about to be; the last one stands, good or bad.
- Every attempt beyond the first holds a place of the retry budget; without one it is not made.
- An attempt that loses says nothing about its endpoint. One whose per-try timeout ran out has timed out, once, whatever
  comes of it later.

Source: Envoy router filter, ``onSoftPerTryTimeout``; gRFC A6.
"""

from __future__ import annotations

from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.outcome import Failure, Outcome

__all__ = ["Race"]

_FINAL = frozenset({Failure.CANCELLED, Failure.LOCAL, Failure.BODY, Failure.DEADLINE})
"""What ends the call whoever else is under way: it is the caller's doing, ours, or time is up."""

_LOST = Outcome.of_failure(Failure.CANCELLED)


class Race:
    """The attempts of one call that is hedged.

    Attributes:
        running: Those whose response headers are awaited.
    """

    def __init__(self, call: Call) -> None:
        assert call.hedge is not None
        self.running: list[Attempt] = []
        self._call = call
        self._hedge = call.hedge
        self._hedge_at: float | None = None
        self._retries: list[float] = []
        self._slow: set[Attempt] = set()

    def begin(self, now: float) -> Attempt:
        """The first attempt; raises as ``Call.next_attempt``."""
        return self._started(self._call.next_attempt(now), now)

    @property
    def wakes_at(self) -> float | None:
        """When ``due`` has something to do; None as long as nothing comes."""
        deadline = self._call.deadline
        moments = [at if deadline is None else min(at, deadline) for at in self._retries]
        moments += [attempt.slow_at for attempt in self.running if attempt.slow_at is not None]
        if self._hedge_at is not None:
            moments.append(self._hedge_at)
        return min(moments, default=None)

    def due(self, now: float) -> list[Attempt]:
        """The attempts to be sent now; raises as ``Call.next_attempt`` when nothing else is under way."""
        for attempt in self.running:
            if attempt.slow_at is not None and now >= attempt.slow_at:
                self._slow_down(attempt, now)
        started: list[Attempt] = []
        ends = self._call.deadline
        for at in sorted(self._retries):
            if now >= at or (ends is not None and now >= ends):
                self._retries.remove(at)
                started += self._another(now)
        if self._hedge_at is not None and now >= self._hedge_at:
            self._hedge_at = None
            if self._call.promise_attempt(now):
                self._call.hedges += 1
                started += self._another(now)
        return started

    def settle(self, attempt: Attempt, outcome: Outcome, now: float) -> bool:
        """Whether ``outcome`` stands; if not it is to be thrown away."""
        call = self._call
        self._left(attempt)
        if outcome.failure not in _FINAL:
            wait = call.retry_after(attempt, outcome, now) if attempt not in self._slow else None
            if wait is not None:
                self._retries.append(now + wait)
            bad = outcome.failure is not None or outcome.judged >= 500
            if wait is not None or (bad and self._is_open):
                call.lose(attempt, outcome, now)
                return False
        call.take(attempt, outcome, now)
        return True

    def refused(self, attempt: Attempt, now: float) -> bool:
        """An attempt could not be sent, for want of a connection; whether that ends the call."""
        self._left(attempt)
        self._call.lose(attempt, _LOST, now)
        if self._is_open:
            self._call.error_status = 0
        return not self._is_open

    def end(self, now: float) -> list[Attempt]:
        """It is decided, or given up: the others lose. Returns those that were under way."""
        lost, self.running = self.running, []
        for attempt in lost:
            self._call.lose(attempt, _LOST, now)
        self._call.forgo_promises()
        return lost

    def _left(self, attempt: Attempt) -> None:
        self.running.remove(attempt)
        if not self.running:
            self._hedge_at = None  # nobody is slow: who comes next waits for its back-off

    @property
    def _is_open(self) -> bool:
        """Whether somebody else may still answer."""
        return bool(self.running or self._retries)

    def _started(self, attempt: Attempt, now: float) -> Attempt:
        self.running.append(attempt)
        hedge = self._hedge
        more = hedge.after is not None and self._call.hedges + 1 < hedge.most
        self._hedge_at = now + hedge.after if more and hedge.after is not None else None
        return attempt

    def _another(self, now: float) -> list[Attempt]:
        """One more attempt for a place that was promised; where it cannot be made, the others go on without it."""
        if not self._is_open:
            return [self._started(self._call.next_attempt(now), now)]
        attempt = self._call.attempt_beside(now)
        return [self._started(attempt, now)] if attempt is not None else []

    def _slow_down(self, attempt: Attempt, now: float) -> None:
        attempt.slow_at = None
        self._slow.add(attempt)
        wait = self._call.retry_beside(attempt, now)
        if wait is not None:
            self._retries.append(now + wait)
