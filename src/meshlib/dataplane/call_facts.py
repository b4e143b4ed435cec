"""What is known of one call: what was asked, how far it has come, and how that is said in errors and logs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from meshlib.dataplane import headers as header_ops
from meshlib.dataplane.attempt import Attempt, Injection
from meshlib.dataplane.events import CallObserver
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.policies.hedge import Hedging
from meshlib.dataplane.policies.priorities import PreviousPriorities
from meshlib.dataplane.reply import LocalReply
from meshlib.dataplane.request import Request
from meshlib.dataplane.state import EndpointState
from meshlib.errors import MeshError
from meshlib.model.cluster import Cluster
from meshlib.model.grpc_status import grpc_of_http
from meshlib.model.route import Route, VirtualHost

if TYPE_CHECKING:
    from meshlib.dataplane.bound_route import BoundRoute
    from meshlib.dataplane.call import Call
    from meshlib.dataplane.cluster import PreparedCluster
    from meshlib.dataplane.destination import Destination
    from meshlib.dataplane.policies.rate_limit import RateLimiter
    from meshlib.dataplane.state import State

__all__ = ["CallFacts", "ErrorT"]

ErrorT = TypeVar("ErrorT", bound=MeshError)

_CANCELLED, _DEADLINE_EXCEEDED = 1, 4


class CallFacts:
    """One logical request as it stands.

    Attributes:
        request: What was asked.
        host: The virtual host, None for a host the mesh does not know.
        added: Headers that a rate limit service adds to the response.
        answer: The reply that the configuration asks for instead of sending, or None.
        delay: Seconds of injected delay before anything else.
        attempts: How many attempts were begun.
        started: When the call was begun.
        deadline: Moment at which everything must be over, the body included, or None.
        hash_key: For consistent hashing, or None.
        hedge: How its attempts may run side by side; None lets one follow the other.
        draw_fault: Draws the fault of an attempt, where faults count as answers of the endpoint; else None.
        cookies: ``Set-Cookie`` values that keep a generated key.
        limiter: What bounds the rate of calls to its cluster, or None.
        outcome: Classification of the last settled attempt.
        hedges: How many of them were begun beside another that was slow.
        error_status: The status that a sidecar would have answered with where we raise; 0 where we do not.
        request_bytes: Counted by the face: body bytes handed to the wire, over all attempts.
        response_bytes: Counted by the face: body bytes handed to the caller.
        request_messages: Counted by the face of RPCs: messages handed to the wire, over all attempts.
        response_messages: Counted by the face of RPCs: messages handed to the caller.
        target: Path and query as rewritten, once that has been done.
    """

    __slots__ = (
        "_base_headers",
        "_bound",
        "_clock_started",
        "_current",
        "_ended",
        "_faults",
        "_flags",
        "_last",
        "_observer",
        "_prepared",
        "_priorities",
        "_promised",
        "_rng",
        "_tried",
        "added",
        "answer",
        "attempts",
        "cookies",
        "deadline",
        "delay",
        "destination",
        "draw_fault",
        "error_status",
        "hash_key",
        "hedge",
        "hedges",
        "host",
        "limiter",
        "outcome",
        "request",
        "request_bytes",
        "request_messages",
        "response_bytes",
        "response_messages",
        "started",
        "target",
    )

    def __init__(
        self,
        request: Request,
        host: VirtualHost,
        bound: BoundRoute | None,
        destination: Destination | None,
        now: float,
        rng: random.Random,
    ) -> None:
        self.request = request
        self.host = host
        self.destination = destination
        self.answer: LocalReply | None = None
        self.delay = 0.0
        self.attempts = self.hedges = 0
        self.started = now
        self.deadline: float | None = None
        self.hash_key: int | None = None
        self.hedge: Hedging | None = None
        self.draw_fault: Callable[[Call], Injection | None] | None = None
        self.limiter: RateLimiter | None = None
        self.cookies: tuple[bytes, ...] = ()
        self.outcome: Outcome | None = None
        self.error_status = 0
        self.request_bytes = self.request_messages = 0
        self.response_bytes = self.response_messages = 0
        self._bound = bound
        self._prepared: PreparedCluster | None = destination.cluster if destination is not None else None
        self._rng = rng
        self._observer: CallObserver | None = None
        self._current: Attempt | None = None
        self._last: Attempt | None = None
        self._promised = 0
        self.added: Sequence[tuple[bytes, bytes]] = ()
        self._priorities: PreviousPriorities | None = None
        self._tried: list[EndpointState] = []
        self._flags = ""
        self._ended = False
        self._base_headers: header_ops.Pairs | None = None
        self._clock_started: float | None = None
        self._faults: tuple[State, int] | None = None
        self.target = request.path

    @property
    def route(self) -> Route | None:
        """The rule in force, None while no rule matched."""
        return self._bound.route if self._bound is not None else None

    @property
    def cluster(self) -> Cluster | None:
        """The chosen cluster, None when the call is answered without one."""
        return self._prepared.cluster if self._prepared is not None else None

    @property
    def last_attempt(self) -> Attempt | None:
        """The attempt that was begun last."""
        return self._last

    @property
    def status(self) -> int:
        """The status of the call as a sidecar would report it; 0 when the caller went away first."""
        if self.error_status:
            return self.error_status
        return self.outcome.status if self.outcome is not None else 0

    @property
    def rpc_status(self) -> int:
        """The gRPC status that the caller of an RPC gets to see; 1 when it went away first."""
        if self.error_status:
            return _DEADLINE_EXCEEDED if self.error_status == 504 else grpc_of_http(self.error_status)
        if self.outcome is None or self.is_abandoned:
            return _CANCELLED
        return self.outcome.rpc_status

    @property
    def is_abandoned(self) -> bool:
        """The caller went away before the call was over."""
        return "DC" in self._flags.split(",")

    @property
    def flags(self) -> str:
        """Envoy's response flags, joined with ``,``; ``-`` for none."""
        own = self.outcome.flag if self.outcome is not None else ""
        if not own:
            return self._flags or "-"
        if own in self._flags.split(","):
            return self._flags
        return f"{self._flags},{own}" if self._flags else own

    @property
    def mirrors(self) -> tuple[tuple[int, BoundRoute], ...]:
        """Shares and rules of the copies that may be sent elsewhere; none when the call is answered here."""
        return self._bound.mirrors if self._bound is not None and self.answer is None else ()

    def flag(self, flag: str) -> None:
        """Add a response flag to those of the call itself."""
        if flag not in self._flags.split(","):
            self._flags = f"{self._flags},{flag}" if self._flags else flag

    def error(self, kind: type[ErrorT], message: str) -> ErrorT:
        """An error of ``kind`` that says where it happened; its flag becomes the call's."""
        self.flag(kind.flag)
        self.error_status = kind.status
        attempt, route, cluster = self._last, self.route, self.cluster
        return kind(
            f"{message} ({self.where()})",
            route=route.name if route is not None else None,
            cluster=cluster.name if cluster is not None else None,
            endpoint=attempt.state.key if attempt is not None else None,
            attempts=self.attempts,
        )

    def within(self, seconds: float, now: float) -> float:
        """``seconds``, or what is left of them until the deadline."""
        deadline = self.deadline
        if deadline is None and self.request.timeout is not None:
            deadline = self.started + self.request.timeout
        return seconds if deadline is None else min(seconds, max(0.0, deadline - now))

    def ran_out(self) -> str:
        """Whose overall timeout ran out, in words; it is the one that ends first."""
        bound, given = self._bound, self.request.timeout
        limit = bound.timeout if bound is not None else None
        ends = None if given is None else self.started + given
        began = self._clock_started
        if bound is not None and limit is not None and (ends is None or began is None or began + limit <= ends):
            return f"{bound.whose} of {limit:g} s ran out"
        left = given or 0.0
        if not self.request.timeout_of:
            return f"the caller's timeout of {left:g} s ran out"
        when = f"{left:.3g} s after the call began" if left > 0 else "before the call began"
        return f"{self.request.timeout_of} ran out {when}"

    def where(self) -> str:
        """Route, cluster, endpoint and attempt, for error texts."""
        route, cluster, attempt = self.route, self.cluster, self._last
        parts = [_route_words(route) if route is not None else f"host {self.request.host}"]
        if cluster is not None:
            parts.append(f"cluster {cluster.name}")
        if attempt is not None:
            parts.append(f"endpoint {attempt.state.key}, attempt {attempt.number}")
        return ", ".join(parts)


def _route_words(route: Route) -> str:
    if route.name:
        return f"route {route.name!r}"
    return f"{route.origin.object} rule {route.origin.rule}"
