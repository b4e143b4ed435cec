"""Outlier ejection: endpoints that fail, in a row or more than the others, are left out for a while.

Rules (Envoy ``outlier_detection_impl``; what Istio leaves off is off by default):

- every answer is a status, a failed connection counts as 503 and a timeout as 504, unless local-origin failures are
  split off into a counter of their own; gRPC's status counts as the HTTP status it is translated to;
- a counter that reaches its threshold tries to eject and starts over;
- at each sweep, success rate and failure percentage judge what was answered since the sweep before;
- an ejection is allowed while ``100 * (ejected + 1) / all <= max_ejection_percent``, so with Istio's 10 percent a
  cluster of fewer than ten endpoints never loses one;
- an endpoint is out for ``min(base * times, max(max, base))`` seconds plus jitter and comes back at a sweep only; each
  sweep that finds it in takes one off its count;
- what this process or the caller did (cancelled, full pool) says nothing about an endpoint.

Nothing here waits for a timer: sweeps that fell due while nobody called are made up for at the next pick or report, to
the same effect.
"""

from __future__ import annotations

import math
import random

from meshlib.dataplane.change import Change
from meshlib.dataplane.outcome import Blame, Outcome
from meshlib.dataplane.policies.outlier_rates import Results, Volumes, failing, outliers
from meshlib.dataplane.state import ClusterState, EndpointState
from meshlib.model.policy import OutlierDetection

__all__ = ["Detector"]

_GATEWAY = frozenset({502, 503, 504})
_5XX = frozenset(range(500, 600))


class Detector:
    """Ejection for one cluster.

    Attributes:
        settings: What the configuration asks for.
    """

    __slots__ = ("_cluster", "_errors", "_rated", "_rng", "settings")

    def __init__(self, settings: OutlierDetection, cluster: ClusterState, rng: random.Random | None = None) -> None:
        self.settings = settings
        self._cluster = cluster
        self._rng = rng if rng is not None else random.Random(0)  # noqa: S311 - draws jitter
        self._errors = settings.error_codes or _5XX
        self._rated = settings.success_rate is not None or settings.failure_percentage is not None

    @property
    def next_sweep(self) -> float | None:
        """When ``sweep`` is due; None until something was reported."""
        return self._cluster.next_sweep

    def watch(self, members: list[EndpointState]) -> None:
        """These are all endpoints of the cluster now."""
        self._cluster.members = members
        for state in members if self._rated else ():
            state.results = state.results or Results()

    @property
    def _members(self) -> list[EndpointState]:
        """Those of the cluster, also for a detector that a newer configuration has replaced."""
        return self._cluster.members

    def ejected(self) -> list[EndpointState]:
        """Who is out now."""
        return [state for state in self._members if state.ejected_at is not None]

    # Results --------------------------------------------------------------------------------------------------------

    def report(self, state: EndpointState, outcome: Outcome, now: float) -> bool:
        """Count an outcome; True when it ejected ``state``."""
        if outcome.blame in (Blame.CALLER, Blame.LOCAL):
            return False
        error = outcome.failure is not None or outcome.judged in self._errors
        counted = state.consecutive_5xx or state.consecutive_gateway or state.consecutive_local
        if not (error or counted or self._rated):
            return False  # nothing to forget, so no lock
        if self.is_due(now):
            self.sweep(now)
        with self._cluster.lock:
            if self._cluster.next_sweep is None:
                self._cluster.next_sweep = now + self.settings.interval
            if self.settings.split_local_origin and outcome.failure is not None:
                return self._count_local(state, now)
            return self._count_answer(state, outcome.judged, error, now)

    def _count_local(self, state: EndpointState, now: float) -> bool:
        results = state.results
        if results is not None:
            results.local_total += 1
            results.local_errors += 1
        state.consecutive_local += 1
        if state.consecutive_local != self.settings.consecutive_local_origin:
            return False
        state.consecutive_local = 0
        return self._eject(state, now)

    def _count_answer(self, state: EndpointState, status: int, error: bool, now: float) -> bool:
        results = state.results
        if results is not None:
            results.total += 1
            results.local_total += 1
            results.errors += error
        state.consecutive_local = 0
        if not error:
            state.consecutive_5xx = state.consecutive_gateway = 0
            return False
        state.consecutive_5xx += 1
        state.consecutive_gateway = state.consecutive_gateway + 1 if status in _GATEWAY else 0
        return self._reached_gateway(state, now) | self._reached_5xx(state, now)

    def _reached_gateway(self, state: EndpointState, now: float) -> bool:
        if state.consecutive_gateway != self.settings.consecutive_gateway or not state.consecutive_gateway:
            return False
        state.consecutive_gateway = 0
        return self._eject(state, now)

    def _reached_5xx(self, state: EndpointState, now: float) -> bool:
        if state.consecutive_5xx != self.settings.consecutive_5xx or not state.consecutive_5xx:
            return False
        state.consecutive_5xx = 0
        return self._eject(state, now)

    # Sweeps ---------------------------------------------------------------------------------------------------------

    def is_due(self, now: float) -> bool:
        """Whether it is time to sweep."""
        due = self._cluster.next_sweep
        return due is not None and now >= due

    def sweep(self, now: float) -> bool:
        """Make every sweep that is due at ``now``; True when somebody came back.

        Brings back those whose time is over, lets the others' counts decay, and judges the rates of the interval.
        """
        interval = self.settings.interval
        with self._cluster.lock:
            first = self._cluster.next_sweep
            if first is None or now < first:
                return False  # another thread was faster
            further = int((now - first) / interval)
            self._cluster.next_sweep = first + (further + 1) * interval
            back = [self._age(state, first, 1) for state in self._members]
            if self._rated:
                self._judge(first)
            if further:
                back += [self._age(state, first + interval, further) for state in self._members]
        return any(back)

    def _age(self, state: EndpointState, first: float, sweeps: int) -> bool:
        """What ``sweeps`` sweeps do to an endpoint, the first of them at ``first``; whether it came back."""
        if state.ejected_at is None:
            state.ejections = max(0, state.ejections - sweeps)
            return False
        wait = self._sweeps_until(state.ejected_at + self.term(state), first)
        if wait >= sweeps:
            return False
        self._cluster.release(state)
        state.ejections = max(0, state.ejections - (sweeps - wait - 1))
        return True

    def _sweeps_until(self, moment: float, first: float) -> int:
        """How many sweeps, one at ``first`` included, come before ``moment``."""
        return max(0, math.ceil((moment - first) / self.settings.interval - 1e-9))

    def back_at(self, state: EndpointState) -> float | None:
        """The sweep that will bring ``state`` back; None when it is not out."""
        if state.ejected_at is None:
            return None
        over = state.ejected_at + self.term(state)
        first = self._cluster.next_sweep
        return over if first is None else first + self._sweeps_until(over, first) * self.settings.interval

    def _judge(self, now: float) -> None:
        """Success rate and failure percentage of the interval that ends now."""
        settings = self.settings
        inside = [state for state in self._members if state.ejected_at is None]
        answers: Volumes[EndpointState] = {s: (s.results.total, s.results.errors) for s in inside if s.results}
        local: Volumes[EndpointState] = {
            s: (s.results.local_total, s.results.local_errors) for s in inside if s.results
        }
        rate, failures = settings.success_rate, settings.failure_percentage
        if rate is not None:
            self._enforce(outliers(answers, rate), rate.enforcing, now)
        if failures is not None:
            self._enforce(failing(answers, failures), failures.enforcing, now)
        if settings.split_local_origin and rate is not None:
            self._enforce(outliers(local, rate), rate.enforcing_local_origin, now)
        if settings.split_local_origin and failures is not None:
            self._enforce(failing(local, failures), failures.enforcing_local_origin, now)
        for state in self._members:
            if state.results is not None:
                state.results.clear()

    def _enforce(self, found: list[EndpointState], percent: int, now: float) -> None:
        """Eject ``percent`` of those found."""
        for state in found:
            if self._rng.random() * 100 < percent:
                self._eject(state, now)

    # Out and in -----------------------------------------------------------------------------------------------------

    def term(self, state: EndpointState) -> float:
        """Seconds for which ``state``, once ejected, is out at least; it comes back at the first sweep after."""
        longest = min(self.settings.base_ejection_time * state.ejections, self._longest())
        return longest + state.ejection_jitter

    def _longest(self) -> float:
        return max(self.settings.max_ejection_time, self.settings.base_ejection_time)

    def _eject(self, state: EndpointState, now: float) -> bool:
        if state.ejected_at is not None or not self._may_eject():
            return False
        settings = self.settings
        state.ejected_at = now
        state.ejection_jitter = self._rng.random() * settings.max_ejection_time_jitter
        if state.ejections * settings.base_ejection_time < self._longest() + settings.base_ejection_time:
            state.ejections += 1
        self._cluster.changed(Change.EJECTED, state)
        return True

    def _may_eject(self) -> bool:
        out = sum(state.ejected_at is not None for state in self._members)
        if self.settings.always_eject_one and not out:
            return True
        return 100 * (out + 1) <= self.settings.max_ejection_percent * len(self._members)
