"""One try of a call at one endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.dataplane import headers as header_ops
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.reply import LocalReply
from meshlib.dataplane.state import EndpointState
from meshlib.model.cluster import Cluster
from meshlib.model.endpoint import Endpoint

if TYPE_CHECKING:
    from meshlib.dataplane.policies.gate import Gate, Ticket

__all__ = ["Attempt", "Injection"]

Injection = tuple[float, LocalReply | None]
"""Seconds of delay, and the answer, of an injected fault."""

_COUNTS = [str(number).encode() for number in range(32)]


class Attempt:
    """One try of a call at one endpoint.

    Attributes:
        number: 1 for the first try.
        state: Live state of the picked endpoint.
        cluster: The cluster it belongs to.
        deadline: Moment at which response headers must be there, or None; the tighter of per-try and overall.
        deadline_is_overall: Which of the two it is.
        idle_limit: Seconds without a byte that it may last, or None.
        slow_at: Hedged only: when its per-try timeout runs out, which ends nothing; None once that was seen.
        fault: What the configuration injects in its place: seconds to wait, and a reply or None to send all the same.
        headers: Added to the request of this attempt only: attempt count, trace context.
        started: When it was begun.
        gate: What the driver has to pass before sending, or None.
        ticket: The place in that gate while waiting or inside, or None.
        trial: The number of a circuit breaker's trial, 0 where it is none.
        token: It is a retry or a hedge, and holds a place among those that may be under way.
        reported: Whether the cluster's detectors have heard of it.
        received: The response's headers as they came, for policies that read them; empty until then.
        note: Room for the observer's own.
        outcome: Its classification, once known.
    """

    __slots__ = (
        "_ended",
        "cluster",
        "deadline",
        "deadline_is_overall",
        "fault",
        "gate",
        "headers",
        "idle_limit",
        "note",
        "number",
        "outcome",
        "received",
        "reported",
        "slow_at",
        "started",
        "state",
        "ticket",
        "token",
        "trial",
    )

    def __init__(self, number: int, state: EndpointState, cluster: Cluster, now: float, gate: Gate | None) -> None:
        self.number = number
        self.state = state
        self.cluster = cluster
        self.started = now
        self.gate = gate
        self.ticket: Ticket | None = None
        self.token = False
        self.reported = False
        self.trial = 0
        self.received: header_ops.Pairs = []
        self.note: object = None
        self.deadline: float | None = None
        self.deadline_is_overall = True
        self.idle_limit: float | None = None
        self.slow_at: float | None = None
        self.fault: Injection | None = None
        self.outcome: Outcome | None = None
        self.headers: header_ops.Pairs = [(b"x-envoy-attempt-count", _COUNTS[min(number, 31)])]
        self._ended = False

    @property
    def endpoint(self) -> Endpoint:
        """The picked endpoint, as discovery describes it now."""
        return self.state.endpoint

    def passes(self) -> bool:
        """Whether nothing bounds its connections, or the gate lets it through at once; else it has to wait there."""
        if self.gate is None or self.ticket is not None:
            return True
        self.ticket = self.gate.enter_now()
        return self.ticket is not None

    def end(self) -> bool:
        """Mark as over; False when it was over already."""
        if self._ended:
            return False
        self._ended = True
        return True
