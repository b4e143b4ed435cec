"""The circuit breakers of one cluster: who may be sent to, and what results do to that.

An endpoint whose breaker is open, or half open with no permit left, is shut: pickers leave it out, and calls go to the
others. A cluster whose breaker is open refuses its calls. Only what the host did counts.
"""

from __future__ import annotations

import math

from meshlib.dataplane.change import Change
from meshlib.dataplane.outcome import Blame, Outcome
from meshlib.dataplane.policies.breaker import Breaker, Phase
from meshlib.dataplane.state import ClusterState, EndpointState
from meshlib.model.client_policy import BreakerScope, ErrorBreaker

__all__ = ["Breakers"]

_CHANGES = {
    Phase.OPEN: Change.BREAKER_OPEN,
    Phase.HALF_OPEN: Change.BREAKER_HALF_OPEN,
    Phase.CLOSED: Change.BREAKER_CLOSED,
}


class Breakers:
    """Breakers for one cluster; their state is kept with its live state.

    Attributes:
        settings: What the configuration asks for.
        whole: One breaker for the cluster instead of one for each endpoint.
    """

    __slots__ = ("_cluster", "settings", "whole")

    def __init__(self, settings: ErrorBreaker, cluster: ClusterState) -> None:
        self.settings = settings
        self.whole = settings.scope is BreakerScope.CLUSTER
        self._cluster = cluster

    def of(self, state: EndpointState) -> Breaker:
        """The breaker that decides about ``state``; made at first use."""
        if self.whole:
            cluster = self._cluster
            cluster.breaker = cluster.breaker or Breaker()
            return cluster.breaker
        state.breaker = state.breaker or Breaker()
        return state.breaker

    def acquire(self, state: EndpointState, now: float) -> int | None:
        """See ``Breaker.acquire``; the cluster's lock is held."""
        breaker = self.of(state)
        if breaker.phase is Phase.CLOSED:
            return 0
        before = breaker.phase
        trial = breaker.acquire(self.settings, now)
        self._told(breaker, before, state)
        self._shut(breaker, state, now)
        return trial

    def report(
        self, state: EndpointState, trial: int, outcome: Outcome, now: float, since: float | None = None
    ) -> None:
        """A result of an attempt that began at ``since``, or the end of a trial that says nothing."""
        blame, breaker = outcome.blame, self.of(state)
        if blame is not Blame.HOST and not trial and breaker.is_idle(self.settings):
            return
        with self._cluster.lock:
            before = breaker.phase
            if blame in (Blame.CALLER, Blame.LOCAL):
                breaker.give_back(trial)
            else:
                breaker.record(self.settings, trial, blame is Blame.HOST, now, since)
            self._told(breaker, before, state)
            self._shut(breaker, state, now)

    def refusal(self, state: EndpointState | None, now: float) -> str:
        """Why nothing may be sent at ``now``; ``""`` when something may. None asks for the cluster's own breaker."""
        breaker = self._cluster.breaker if state is None or self.whole else state.breaker
        if breaker is None or breaker.admits(self.settings, now):
            return ""
        if breaker.phase is Phase.HALF_OPEN:
            return "its circuit breaker is half open, and the trials are under way"
        left = f"; trials start in {breaker.until - now:.3g} s" if math.isfinite(now) else ""
        return f"its circuit breaker is open after {breaker.why}{left}"

    def phase(self, state: EndpointState | None) -> Phase:
        """Where the breaker of an endpoint stands, or with None that of the cluster; one never used is closed."""
        breaker = self._cluster.breaker if state is None else state.breaker
        return breaker.phase if breaker is not None else Phase.CLOSED

    # Who is shut ----------------------------------------------------------------------------------------------------

    def is_due(self, now: float) -> bool:
        """Whether somebody who is shut may be tried again."""
        due = self._cluster.next_trial
        return due is not None and now >= due

    def reopen(self, now: float) -> None:
        """Unshut those who may be tried again, and note when the next will be."""
        with self._cluster.lock:
            self._cluster.next_trial = None
            for state in self._cluster.members:
                if state.shut and state.breaker is not None:
                    self._shut(state.breaker, state, now)

    def admits(self, state: EndpointState, now: float) -> bool:
        """Whether a pick at ``now`` may give ``state``; nothing changes."""
        return state.breaker is None or self.whole or state.breaker.admits(self.settings, now)

    def _shut(self, breaker: Breaker, state: EndpointState, now: float) -> None:
        if self.whole:
            return
        shut = not breaker.admits(self.settings, now)
        if shut is not state.shut:
            state.shut = shut
            self._cluster.health_version += 1
        if shut:
            again, due = breaker.admits_from(), self._cluster.next_trial
            if again is not None and (due is None or again < due):
                self._cluster.next_trial = again

    def _told(self, breaker: Breaker, before: Phase, state: EndpointState) -> None:
        if breaker.phase is not before:
            self._cluster.changed(_CHANGES[breaker.phase], None if self.whole else state)
