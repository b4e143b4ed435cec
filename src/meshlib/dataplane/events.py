"""What the data plane tells whoever watches: telemetry implements these two protocols.

They live beside the calls that make the events, so that the core imports no telemetry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from meshlib.dataplane.change import Change

if TYPE_CHECKING:
    from meshlib.dataplane.call import Attempt, Call
    from meshlib.dataplane.outcome import Outcome
    from meshlib.dataplane.state import State

__all__ = ["CallObserver", "ConnectionObserver", "Observer"]


class CallObserver(Protocol):
    """Watches one call. Every method is called at most once per event and must neither raise nor wait."""

    def attempt_started(self, attempt: Attempt, now: float) -> None:
        """An endpoint was picked and the attempt is about to be sent.

        May append to ``attempt.headers`` what is to be sent in addition (trace context).
        """
        ...

    def attempt_ended(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """The attempt is over, its body included, or given up."""
        ...

    def call_ended(self, call: Call, outcome: Outcome | None, now: float) -> None:
        """The call is over: ``outcome`` is that of the last attempt, None when nothing was ever attempted."""
        ...


@runtime_checkable
class ConnectionObserver(Protocol):
    """What a ``CallObserver`` may offer besides, for calls that are raw connections."""

    def connected(self, call: Call, now: float) -> None:
        """The connection stands."""
        ...

    def bytes_moved(self, call: Call, now: float) -> None:
        """``call.request_bytes`` were written and ``call.response_bytes`` read so far; told every few seconds."""
        ...


class Observer(Protocol):
    """Watches all calls of a mesh."""

    def call_started(self, call: Call, now: float) -> CallObserver | None:
        """A call was routed; None when nobody wants to know more of it."""
        ...

    def health_changed(self, cluster: str, endpoint: str, change: Change) -> None:
        """An endpoint, or with ``""`` the cluster as a whole, was ejected, came back, or its breaker or checks turned.

        Called while the cluster's state is locked: must neither raise nor wait, nor look at that state.
        """
        ...

    def watch(self, state: State) -> None:
        """The live state of the mesh, for values that are read when somebody collects; told once, to be held weakly."""
        ...

    def lagged(self, seconds: float, where: str) -> None:
        """An event loop was so late; ``where`` is ``background`` or ``caller``."""
        ...
