"""How the sources of configuration are doing, for whoever collects metrics: their age, and what is held back of them.

All meshes of the process are told of together, by one callback an instrument; of two sources of one name the older
counts.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from meshlib.dataplane.state import Source, State

__all__ = ["report_providers", "watch"]

_states: weakref.WeakSet[State] = weakref.WeakSet()


def watch(state: State) -> None:
    """Tell of the sources of this mesh too, while it lives."""
    _states.add(state)


def report_providers(meter: Meter) -> None:
    """Make the instruments, each by ``provider``."""
    for name, unit, words, value in (
        ("age_seconds", "s", "Seconds since a source published", lambda each: each.age),
        ("failures", "", "How often a source broke since it published", lambda each: float(each.failures)),
        ("held_empty", "", "1 where an empty answer on a new connection is held", lambda each: float(each.held_empty)),
    ):
        meter.create_observable_gauge(f"meshlib_provider_{name}", [_observer(value)], unit=unit, description=words)


def _observer(value: Callable[[Source], float | None]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        found: dict[str, float] = {}
        for state in list(_states):
            for source in state.sources():
                told = value(source)
                if told is not None:
                    found[source.name] = max(told, found.get(source.name, told))
        return [Observation(each, {"provider": name}) for name, each in found.items()]

    return observe
