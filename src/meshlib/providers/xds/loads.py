"""How much is sent where, for control planes that ask (LRS): counts of attempts by cluster and locality.

Source: gRFCs A27, A64; ``envoy/config/endpoint/v3/load_report.proto``. Counts are since the last report; what is in
progress is as it is now. An error is what is one to ejection: no answer, a status of 500 and above, a bad gRPC status.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from meshlib.model.endpoint import Locality

if TYPE_CHECKING:
    from meshlib.dataplane.call import Attempt, Call
    from meshlib.dataplane.change import Change
    from meshlib.dataplane.events import CallObserver, Observer
    from meshlib.dataplane.outcome import Outcome
    from meshlib.dataplane.state import State

__all__ = ["Load", "Loads"]

_OVERFLOW = "UO"


class Load(NamedTuple):
    """What was sent to one locality of one cluster.

    Attributes:
        issued: Attempts that were begun.
        succeeded: That ended well.
        failed: That did not.
        in_progress: Under way now.
    """

    issued: int = 0
    succeeded: int = 0
    failed: int = 0
    in_progress: int = 0


@dataclass(slots=True)
class _Cluster:
    localities: dict[Locality, list[int]] = field(default_factory=dict)
    dropped: int = 0


class Loads:
    """The counts of one mesh; from any thread.

    Attributes:
        clusters: Those that are counted.
    """

    def __init__(self) -> None:
        self.clusters: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._counts: dict[str, _Cluster] = {}

    def observing(self, inner: Observer | None) -> Observer:
        """An observer that counts, and tells ``inner`` everything."""
        return _Observer(self, inner)

    def _row(self, attempt: Attempt) -> list[int]:
        cluster = self._counts.setdefault(attempt.cluster.name, _Cluster())
        return cluster.localities.setdefault(attempt.endpoint.locality, [0, 0, 0, 0])

    def started(self, attempt: Attempt) -> None:
        """An attempt is on its way."""
        with self._lock:
            row = self._row(attempt)
            row[0] += 1
            row[3] += 1

    def ended(self, attempt: Attempt, ok: bool) -> None:
        """It is over."""
        with self._lock:
            row = self._row(attempt)
            row[1 if ok else 2] += 1
            row[3] -= 1

    def dropped(self, cluster: str) -> None:
        """A threshold of the cluster let a call not pass."""
        with self._lock:
            self._counts.setdefault(cluster, _Cluster()).dropped += 1

    def take(self) -> dict[str, tuple[dict[Locality, Load], int]]:
        """Cluster -> loads by locality, and calls that were dropped; what was counted is set back to nothing."""
        with self._lock:
            found = {
                name: ({place: Load(*row) for place, row in each.localities.items()}, each.dropped)
                for name, each in self._counts.items()
            }
            for each in self._counts.values():
                each.dropped = 0
                for row in each.localities.values():
                    row[:3] = 0, 0, 0
        return found


class _Observer:
    """See ``Observer``."""

    def __init__(self, loads: Loads, inner: Observer | None) -> None:
        self._loads = loads
        self._inner = inner

    def call_started(self, call: Call, now: float) -> CallObserver | None:
        """See ``Observer.call_started``; raw connections are not counted."""
        inner = self._inner.call_started(call, now) if self._inner is not None else None
        destination = call.destination
        if destination is None or destination.name not in self._loads.clusters or call.request.method == "CONNECT":
            return inner
        return _Call(self._loads, inner)

    def health_changed(self, cluster: str, endpoint: str, change: Change) -> None:
        """See ``Observer.health_changed``."""
        if self._inner is not None:
            self._inner.health_changed(cluster, endpoint, change)

    def watch(self, state: State) -> None:
        """See ``Observer.watch``."""
        if self._inner is not None:
            self._inner.watch(state)

    def lagged(self, seconds: float, where: str) -> None:
        """See ``Observer.lagged``."""
        if self._inner is not None:
            self._inner.lagged(seconds, where)

    def __getattr__(self, name: str) -> Any:
        """Whatever else the inner observer is asked for."""
        return getattr(self._inner, name)


class _Call:
    """See ``CallObserver``."""

    __slots__ = ("_inner", "_loads")

    def __init__(self, loads: Loads, inner: CallObserver | None) -> None:
        self._loads = loads
        self._inner = inner

    def attempt_started(self, attempt: Attempt, now: float) -> None:
        """See ``CallObserver.attempt_started``."""
        self._loads.started(attempt)
        if self._inner is not None:
            self._inner.attempt_started(attempt, now)

    def attempt_ended(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """See ``CallObserver.attempt_ended``."""
        self._loads.ended(attempt, outcome.ok)
        if self._inner is not None:
            self._inner.attempt_ended(attempt, outcome, now)

    def call_ended(self, call: Call, outcome: Outcome | None, now: float) -> None:
        """See ``CallObserver.call_ended``."""
        if outcome is None and call.destination is not None and _OVERFLOW in call.flags:
            self._loads.dropped(call.destination.name)
        if self._inner is not None:
            self._inner.call_ended(call, outcome, now)
