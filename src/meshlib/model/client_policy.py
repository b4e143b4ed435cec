"""What a client does of its own accord, beyond what a sidecar would (``ClientPolicy``), as values.

Times are float seconds, ratios 0..1. What the values do stands in ``dataplane.policies``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = [
    "NO_CLIENT_POLICY",
    "BreakerScope",
    "ClientPolicy",
    "ErrorBreaker",
    "HealthCheck",
    "Hedge",
    "KeySource",
    "ProbeKind",
    "RateLimit",
    "RateLimitKey",
    "RateLimitService",
]


class BreakerScope(Enum):
    """What a breaker opens for: one endpoint, or the whole cluster."""

    ENDPOINT = "ENDPOINT"
    CLUSTER = "CLUSTER"


@dataclass(frozen=True, slots=True)
class ErrorBreaker:
    """Stops calls after errors, then lets a few probes through; not Envoy's thresholds (``policy.CircuitBreaker``).

    Attributes:
        consecutive_errors: Errors in a row that open it; 0 is off.
        error_rate: Share of errors in the window, above 0 and at most 1, that opens it; 0 is off.
        window: Seconds that ``error_rate`` looks back.
        min_requests: With fewer requests in the window the rate says nothing.
        open_for: Seconds until probes are let through.
        half_open_requests: Trials that may be under way at once; when as many have passed, it closes.
        scope: What it opens for.
    """

    consecutive_errors: int = 0
    error_rate: float = 0.0
    window: float = 10.0
    min_requests: int = 20
    open_for: float = 30.0
    half_open_requests: int = 1
    scope: BreakerScope = BreakerScope.ENDPOINT


class ProbeKind(Enum):
    """How an endpoint is asked."""

    HTTP = "HTTP"
    GRPC = "GRPC"
    TCP = "TCP"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Endpoints are asked now and then, apart from the calls.

    Attributes:
        kind: See ``ProbeKind``.
        path: HTTP only: with a leading slash.
        method: HTTP only.
        host: Host header or ``:authority``; empty means the service's host.
        headers: HTTP only: further headers.
        statuses: HTTP only: what counts as healthy; empty means 200 to 299.
        service: gRPC only: the name asked for; empty asks for the server as a whole.
        port: Asked instead of the endpoint's port; 0 keeps that.
        interval: Seconds between two checks of one endpoint.
        timeout: Seconds for one check.
        unhealthy_threshold: Checks in a row without an answer that take an endpoint out; an answer that it is not well
            does so at once.
        healthy_threshold: Successes in a row that bring it back.
    """

    kind: ProbeKind = ProbeKind.TCP
    path: str = "/"
    method: str = "GET"
    host: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    statuses: frozenset[int] = frozenset()
    service: str = ""
    port: int = 0
    interval: float = 5.0
    timeout: float = 1.0
    unhealthy_threshold: int = 3
    healthy_threshold: int = 2


class KeySource(Enum):
    """What a part of a rate limit's key is read from."""

    HEADER = "HEADER"
    QUERY = "QUERY"
    COOKIE = "COOKIE"
    LABEL = "LABEL"
    PATH = "PATH"
    METHOD = "METHOD"
    HOST = "HOST"
    GENERIC = "GENERIC"


@dataclass(frozen=True, slots=True)
class RateLimitKey:
    """One part of the key.

    Attributes:
        source: What it is read from.
        name: Of a header (lower case), parameter, cookie or label, else empty.
        value: What the caller's label is, or the constant of ``GENERIC``.
        descriptor: What a rate limit service knows the part by.
    """

    source: KeySource
    name: str = ""
    value: str = ""
    descriptor: str = ""


@dataclass(frozen=True, slots=True)
class RateLimitService:
    """A service that counts for many processes; it speaks Envoy's protocol.

    Attributes:
        host: Full name of a service of the mesh, or whatever a resolver knows.
        port: Its port.
        domain: What the limits are kept under there.
        timeout: Seconds that a call waits for its word.
        fail_open: Calls pass when it does not answer; else they are answered 500.
    """

    host: str
    port: int
    domain: str
    timeout: float = 0.02
    fail_open: bool = True


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many calls may be made: a token bucket here for each key, a service to ask, or both.

    Attributes:
        name: Of the policy: clusters with the same one share their buckets.
        max_tokens: Size of a bucket, which starts full; 0 keeps no buckets here.
        tokens_per_fill: Tokens added at each interval.
        fill_interval: Seconds.
        by: Parts of the key; empty counts all calls together.
        service: None asks nobody.
        raises: A call too many raises instead of being answered 429.
    """

    name: str
    max_tokens: int
    tokens_per_fill: int = 1
    fill_interval: float = 1.0
    by: tuple[RateLimitKey, ...] = ()
    service: RateLimitService | None = None
    raises: bool = False


@dataclass(frozen=True, slots=True)
class Hedge:
    """A further attempt starts while one is slow, and the answer that comes first is taken.

    Attributes:
        after: Seconds until the next attempt starts.
        max_attempts: All attempts, the first included, at least 2.
        methods: Only for these.
    """

    after: float
    max_attempts: int = 2
    methods: frozenset[str] = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class ClientPolicy:
    """All of it towards one cluster; None is off.

    Its retry budget is not here: it stands where a DestinationRule's does, in ``policy.CircuitBreaker``.

    Attributes:
        breaker: See ``ErrorBreaker``.
        health_check: See ``HealthCheck``.
        rate_limit: See ``RateLimit``.
        hedge: See ``Hedge``.
        faults_below_retries: Injected faults count as answers of an endpoint, so that retries see them; Istio ends
            the call with them.
    """

    breaker: ErrorBreaker | None = None
    health_check: HealthCheck | None = None
    rate_limit: RateLimit | None = None
    hedge: Hedge | None = None
    faults_below_retries: bool = False


NO_CLIENT_POLICY = ClientPolicy()
