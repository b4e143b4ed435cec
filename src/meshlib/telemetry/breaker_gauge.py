"""How many circuit breakers stand open and half open now, for whoever collects metrics.

All meshes of the process are told of together, by one callback: an instrument has one, whoever made it first.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from meshlib.dataplane.policies.breaker import Breaker, Phase
from meshlib.dataplane.state import State

__all__ = ["report_breakers", "watch"]

_TOLD = (Phase.OPEN, Phase.HALF_OPEN)
_states: weakref.WeakSet[State] = weakref.WeakSet()


def watch(state: State) -> None:
    """Tell of the breakers of this mesh too, while it lives."""
    _states.add(state)


def report_breakers(meter: Meter) -> None:
    """Make the instrument: by ``cluster``, ``scope`` (``endpoint`` or ``cluster``) and ``state``."""
    words = "Circuit breakers that are open or half open"
    meter.create_observable_gauge("meshlib_circuit_breakers", [_observe], description=words)


def _observe(_options: CallbackOptions) -> Iterable[Observation]:
    """One value for each state of every cluster that has breakers, so that what has closed is told as 0."""
    found: Counter[tuple[str, str, str]] = Counter()
    for state in list(_states):
        for cluster in state.clusters():
            with cluster.lock:
                breakers = [(each.breaker, "endpoint") for each in cluster.members]
            for breaker, scope in [*breakers, (cluster.breaker, "cluster")]:
                if breaker is not None:
                    found.update({(cluster.name, scope, phase.value): _one(breaker, phase) for phase in _TOLD})
    for (name, scope, phase), count in found.items():
        yield Observation(count, {"cluster": name, "scope": scope, "state": phase})


def _one(breaker: Breaker, phase: Phase) -> int:
    return int(breaker.phase is phase)
