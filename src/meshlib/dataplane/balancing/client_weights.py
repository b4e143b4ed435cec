"""Client-side weighted round robin: turns by the weights that endpoints' own load reports give them.

Source: gRFC A58 and A114, Envoy ``client_side_weighted_round_robin``.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from itertools import count

from meshlib.dataplane.balancing.load_report import LoadReport
from meshlib.dataplane.balancing.slow_start import factor
from meshlib.dataplane.balancing.stride import scaled, turn
from meshlib.dataplane.state import EndpointState
from meshlib.model.policy import LoadReports, SlowStart

__all__ = ["ClientWeights", "ReportedWeight", "take_report"]


class ReportedWeight:
    """The weight of one endpoint by its reports.

    Attributes:
        weight: By the last report that said something.
        since: Moment since which there have been reports; None before the first, and after they expired.
        last: Moment of the last one.
    """

    __slots__ = ("last", "since", "weight")

    def __init__(self) -> None:
        self.weight = 0.0
        self.since: float | None = None
        self.last = 0.0

    def report(self, settings: LoadReports, report: LoadReport, now: float) -> None:
        """Take a report; one without rate or utilization says nothing."""
        utilization = report.utilization(settings.metrics)
        if report.rps_fractional <= 0 or utilization <= 0:
            return
        errors = report.eps / report.rps_fractional if report.eps > 0 else 0.0
        self.weight = report.rps_fractional / (utilization + errors * settings.error_penalty)
        self.last = now
        if self.since is None:
            self.since = now

    def at(self, settings: LoadReports, now: float) -> float:
        """The weight at a moment; 0 is unknown: not reported, not for long enough, or not lately."""
        if self.since is None:
            return 0.0
        if now - self.last >= settings.expiration:
            self.since = None
            return 0.0
        return 0.0 if now - self.since < settings.blackout else self.weight


def take_report(state: EndpointState, settings: LoadReports, report: LoadReport, now: float) -> None:
    """What an endpoint says about itself, kept at its live state."""
    if state.reported is None:
        state.reported = ReportedWeight()
    state.reported.report(settings, report, now)


class ClientWeights:
    """Turns by reported weights, computed anew once in a while; equal turns while fewer than two are known."""

    __slots__ = ("_counter", "_due", "_lock", "_members", "_settings", "_slow_start", "_weights")

    def __init__(
        self,
        members: Sequence[EndpointState],
        settings: LoadReports,
        slow_start: SlowStart | None,
        rng: random.Random,
        now: float,
    ) -> None:
        self._members = members
        self._settings = settings
        self._slow_start = slow_start
        self._lock = threading.RLock()
        self._counter = count(rng.getrandbits(32))
        self._renew(now)

    def _renew(self, now: float) -> None:
        weights = [self._weight(state, now) for state in self._members]
        if self._slow_start is not None:
            weights = self._warming(weights, self._slow_start, now)
        self._weights = scaled(weights)
        self._due = now + max(0.1, self._settings.update)

    def _weight(self, state: EndpointState, now: float) -> float:
        return state.reported.at(self._settings, now) if state.reported is not None else 0.0

    def _warming(self, weights: Sequence[float], slow_start: SlowStart, now: float) -> list[float]:
        """Unknown weights are the mean, so that a new endpoint, of which nothing is known, ramps up as well."""
        known = [weight for weight in weights if weight > 0]
        mean = sum(known) / len(known) if known else 1.0
        return [
            (weight or mean) * factor(slow_start, now - state.warm_since)
            for weight, state in zip(weights, self._members, strict=True)
        ]

    def pick(self, rng: random.Random, now: float, hash_key: int | None, attempt: int) -> EndpointState:
        """Whose turn it is."""
        if now >= self._due:
            with self._lock:
                if now >= self._due:
                    self._renew(now)
        weights = self._weights
        if weights is None:
            return self._members[next(self._counter) % len(self._members)]
        return self._members[turn(weights, self._counter)]
