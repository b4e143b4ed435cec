"""Faults that the configuration injects."""

from __future__ import annotations

from dataclasses import dataclass

from meshlib.model.match import HeaderMatch

__all__ = ["Abort", "Delay", "Fault"]


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait before anything is sent.

    Attributes:
        seconds: How long; None takes it from the request header ``x-envoy-fault-delay-request``, milliseconds.
        parts_per_million: Share of the requests; where a header names the time, a header may lower the share.
        denominator: What that header counts in: 100, 10,000 or 1,000,000.
    """

    seconds: float | None
    parts_per_million: int
    denominator: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Abort:
    """Answer instead of sending.

    Attributes:
        parts_per_million: Share of the requests; where a header names the status, a header may lower the share.
        http_status: At most one of this and ``grpc_status`` is set; neither takes the status from the request header
            ``x-envoy-fault-abort-request`` or ``x-envoy-fault-abort-grpc-request``.
        grpc_status: See above.
        denominator: What the header for the share counts in: 100, 10,000 or 1,000,000.
    """

    parts_per_million: int
    http_status: int | None = None
    grpc_status: int | None = None
    denominator: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Fault:
    """Injected faults of a route (Istio ``HTTPFaultInjection``); both draws are independent, delay first.

    Attributes:
        delay: See ``Delay``.
        abort: See ``Abort``.
        max_active: Faults that may be under way at once in the whole mesh; None is unlimited, 0 is never.
        then: A further fault filter, asked where this one let the request pass.
        headers: Only requests for which all of these hold.
        cluster: Only requests that go to this cluster; ``""`` is any.
    """

    delay: Delay | None = None
    abort: Abort | None = None
    max_active: int | None = None
    then: Fault | None = None
    headers: tuple[HeaderMatch, ...] = ()
    cluster: str = ""
