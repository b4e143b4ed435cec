"""Outlier ejection: endpoints that fail in a row are left out for a while.

Rules (Envoy ``outlier_detection_impl``, as Istio configures it):

- every answer is a status, a failed connection counts as 503 and a timeout as 504, unless local-origin failures are
  split off into a counter of their own;
- a counter that reaches its threshold tries to eject and starts over;
- an ejection is allowed while ``100 * (ejected + 1) / all <= max_ejection_percent``, so with Istio's 10 percent a
  cluster of fewer than ten endpoints never loses one;
- an endpoint is out for ``min(base * times, max(max, base))`` seconds and comes back at a sweep only; each sweep in
  which it is not out takes one off its count;
- what this process or the caller did (cancelled, full pool) says nothing about an endpoint.
"""

from __future__ import annotations

from meshlib.dataplane.outcome import Blame, Failure, Outcome
from meshlib.dataplane.state import ClusterState, EndpointState
from meshlib.model.policy import OutlierDetection

__all__ = ["Detector"]

_GATEWAY = frozenset({502, 503, 504})


class Detector:
    """Ejection for one cluster.

    Attributes:
        settings: What the configuration asks for.
        next_sweep: When ``sweep`` is due; None until something was reported.
    """

    __slots__ = ("_cluster", "_members", "next_sweep", "settings")

    def __init__(self, settings: OutlierDetection, cluster: ClusterState) -> None:
        self.settings = settings
        self._cluster = cluster
        self._members: list[EndpointState] = []
        self.next_sweep: float | None = cluster.next_sweep

    def watch(self, members: list[EndpointState]) -> None:
        """These are all endpoints of the cluster now."""
        self._members = members

    def ejected(self) -> list[EndpointState]:
        """Who is out now."""
        return [state for state in self._members if state.ejected_at is not None]

    def report(self, state: EndpointState, outcome: Outcome, now: float) -> bool:
        """Count an outcome; True when it ejected ``state``."""
        if outcome.blame in (Blame.CALLER, Blame.LOCAL):
            return False
        if outcome.blame is Blame.NONE and not (state.consecutive_5xx or state.consecutive_local):
            return False  # nothing to forget, so no lock
        with self._cluster.lock:
            if self.next_sweep is None:
                self._schedule(now)
            if self.settings.split_local_origin and outcome.failure is not None:
                return self._count_local(state, now)
            return self._count_answer(state, outcome, now)

    def is_due(self, now: float) -> bool:
        """Whether it is time to sweep."""
        return self.next_sweep is not None and now >= self.next_sweep

    def sweep(self, now: float) -> bool:
        """Bring back those whose time is over, let the others' counts decay; True when somebody came back."""
        back = False
        with self._cluster.lock:
            self._schedule(now)
            for state in self._members:
                if state.ejected_at is None:
                    state.ejections = max(0, state.ejections - 1)
                elif now - state.ejected_at >= self.term(state):
                    state.ejected_at = None
                    state.consecutive_5xx = state.consecutive_gateway = state.consecutive_local = 0
                    self._cluster.health_version += 1
                    back = True
        return back

    def term(self, state: EndpointState) -> float:
        """Seconds for which ``state``, once ejected, is out at least; it comes back at the first sweep after."""
        settings = self.settings
        longest = max(settings.max_ejection_time, settings.base_ejection_time)
        return min(settings.base_ejection_time * state.ejections, longest)

    def _schedule(self, now: float) -> None:
        self.next_sweep = self._cluster.next_sweep = now + self.settings.interval

    def _count_local(self, state: EndpointState, now: float) -> bool:
        state.consecutive_local += 1
        if state.consecutive_local != self.settings.consecutive_local_origin:
            return False
        state.consecutive_local = 0
        return self._eject(state, now)

    def _count_answer(self, state: EndpointState, outcome: Outcome, now: float) -> bool:
        status = outcome.judged or 503
        state.consecutive_local = 0
        if not self._is_error(status, outcome.failure):
            state.consecutive_5xx = state.consecutive_gateway = 0
            return False
        state.consecutive_5xx += 1
        state.consecutive_gateway = state.consecutive_gateway + 1 if status in _GATEWAY else 0
        return self._reached_gateway(state, now) | self._reached_5xx(state, now)

    def _is_error(self, status: int, failure: Failure | None) -> bool:
        codes = self.settings.error_codes
        if codes and failure is None:
            return status in codes
        return status >= 500

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

    def _eject(self, state: EndpointState, now: float) -> bool:
        if state.ejected_at is not None or not self._may_eject():
            return False
        state.ejected_at = now
        self._cluster.health_version += 1
        longest = max(self.settings.max_ejection_time, self.settings.base_ejection_time)
        if state.ejections * self.settings.base_ejection_time < longest:
            state.ejections += 1
        return True

    def _may_eject(self) -> bool:
        out = sum(state.ejected_at is not None for state in self._members)
        if self.settings.always_eject_one and not out:
            return True
        return 100 * (out + 1) <= self.settings.max_ejection_percent * len(self._members)
