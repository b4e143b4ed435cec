"""The active health checks of one cluster: when whom to ask, and what the answers do. Sans-IO.

Checks run while the cluster is in use, which means from a pick until none came for ``IDLE`` seconds. Before the first
round all endpoints count as healthy, for a caller does not wait for it; one that joins later waits for its first check
while another is known to be well. When checks end, their verdicts are forgotten.
"""

from __future__ import annotations

import random

from meshlib.dataplane.change import Change
from meshlib.dataplane.policies.checked import Checked, Probe
from meshlib.dataplane.state import ClusterState, EndpointState
from meshlib.model.client_policy import HealthCheck
from meshlib.model.endpoint import Health

__all__ = ["Checks"]

_JITTER = 0.1
"""Share of the interval by which checks are spread, so that processes started together do not ask together."""


class Checks:
    """Health checks for one cluster; their state is kept with its live state.

    Args:
        settings: What the configuration asks for.
        cluster: The live state.
        pardons: A check that passes brings an ejected endpoint back (Envoy
            ``successful_active_health_check_uneject_host``).
    """

    IDLE = 60.0
    """Seconds without a pick after which a cluster is not in use any more."""

    __slots__ = ("_cluster", "_pardons", "settings")

    def __init__(self, settings: HealthCheck, cluster: ClusterState, *, pardons: bool = True) -> None:
        self.settings = settings
        self._pardons = pardons
        self._cluster = cluster

    # Use ------------------------------------------------------------------------------------------------------------

    def used(self, now: float) -> None:
        """A pick is made; the first wakes whoever does the checking."""
        cluster = self._cluster
        cluster.used_at = now
        if not cluster.checking:
            with cluster.lock:
                first, cluster.checking = not cluster.checking, True
            if first:
                self.watch(cluster.members, now)

    def watch(self, members: list[EndpointState], now: float) -> None:
        """These are all endpoints of the cluster now; new ones are due at once."""
        cluster = self._cluster
        if not cluster.checking:
            return
        with cluster.lock:
            well = any(state.checked is not None and state.checked.healthy for state in members)
            for state in members:
                if state.checked is None:
                    state.checked = Checked(now)
                    self._judge(state, not well)
        cluster.wake_checks()

    def is_idle(self, now: float) -> bool:
        """Nobody has used the cluster for long."""
        return now - self._cluster.used_at >= self.IDLE

    # Rounds ---------------------------------------------------------------------------------------------------------

    def due(self, now: float, rng: random.Random) -> list[EndpointState]:
        """Endpoints to ask now; each is due again an interval later, give or take the jitter.

        One that is about to leave is not asked, nor one whose last check is still under way.
        """
        found = []
        for state in self._cluster.members:
            checked = state.checked
            if checked is None or now < checked.due or state.endpoint.health is Health.DRAINING:
                continue
            checked.due = now + self.settings.interval * (1.0 + _JITTER * rng.random())
            if not checked.running:
                checked.running = True
                found.append(state)
        return found

    def next_due(self) -> float | None:
        """When somebody is to be asked next."""
        members = self._cluster.members
        asked = (state for state in members if state.endpoint.health is not Health.DRAINING)
        return min((state.checked.due for state in asked if state.checked is not None), default=None)

    def record(self, state: EndpointState, probe: Probe, now: float, words: str = "") -> Change | None:
        """Take the result of a check in; the change that it made. Slow start begins when an endpoint turns well."""
        with self._cluster.lock:
            checked = state.checked
            if checked is None:
                return None
            turned = checked.record(self.settings, probe, words)
            if self._pardons and probe is Probe.PASSED and checked.healthy and state.ejected_at is not None:
                self._cluster.release(state)
            if not turned:
                return None
            if checked.healthy:
                state.warm_since = now
            return self._judge(state, checked.healthy is True)

    def _judge(self, state: EndpointState, healthy: bool) -> Change | None:
        if state.health_ok is healthy:
            return None
        state.health_ok = healthy
        change = Change.CHECKS_PASS if healthy else Change.CHECKS_FAIL
        self._cluster.changed(change, state)
        return change
