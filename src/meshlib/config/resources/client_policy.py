"""ClientPolicy: what users ask of a client and Istio has no field for (``meshlib.dev/v1alpha1``, a kind of our own).

apiVersion: meshlib.dev/v1alpha1
kind: ClientPolicy
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]                # short names are of the object's namespace, as in a DestinationRule
  circuitBreaker: {consecutiveErrors: 5, openFor: 30s}
  retryBudget: {percent: 20, minConcurrency: 3}
  healthCheck: {path: /healthz, interval: 5s}
  rateLimit: {requestsPerUnit: 100, unit: SECOND, burst: 20, by: [{header: x-user}]}  # or global: {service: ...}
  hedge: {after: 50ms, maxAttempts: 2, methods: [GET]}
  loadBalancer: {algorithm: PEAK_EWMA, subsetSize: 50}
  stickyWeights: {by: [{httpHeaderName: x-user}]}
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from meshlib.config.resources.base import Duration, Message, UInt32, numbered, one_of
from meshlib.config.resources.client_balancing import ClientLoadBalancer, StickyWeights

__all__ = [
    "BreakerScope",
    "CircuitBreaker",
    "ClientPolicySpec",
    "ClientRetryBudget",
    "GlobalRateLimit",
    "GrpcCheck",
    "HealthCheck",
    "Hedge",
    "HttpCheck",
    "RateLimit",
    "RateLimitKey",
    "RateLimitUnit",
    "TcpCheck",
    "WhenLimited",
]


class BreakerScope(StrEnum):
    """What a circuit breaker opens for: one endpoint, or the whole cluster."""

    ENDPOINT = "Endpoint"
    CLUSTER = "Cluster"


class CircuitBreaker(Message):
    """Stops calls for a while after errors, then lets a few probes through.

    It opens when errors in a row reach ``consecutive_errors``, or when at least ``min_requests`` were seen in the
    window and their share of errors reaches ``error_rate``; a rule that is None is off.

    Attributes:
        consecutive_errors: Errors in a row, at least 1.
        window: Seconds that ``error_rate`` looks back.
        min_requests: Fewer requests in the window than these say nothing.
        error_rate: Above 0, at most 1.
        open_for: Seconds until probes are let through.
        half_open_requests: How many trials may be under way; when as many have passed, the breaker closes. One that is
            not heard of for ``open_for`` seconds makes room for another.
        scope: What it opens for.
    """

    consecutive_errors: UInt32 | None = None
    window: Duration = 10.0
    min_requests: UInt32 = 20
    error_rate: float | None = None
    open_for: Duration = 30.0
    half_open_requests: UInt32 = 1
    scope: Annotated[BreakerScope, numbered(*BreakerScope)] = BreakerScope.ENDPOINT


class ClientRetryBudget(Message):
    """How many retries may be under way.

    Attributes:
        percent: Of the requests under way, 0 to 100.
        min_concurrency: Allowed however few requests are under way.
    """

    percent: float = 20.0
    min_concurrency: UInt32 = 3


class HttpCheck(Message):
    """Healthy when the answer's status is expected.

    Attributes:
        path: With a leading slash.
        host: The Host header; ``""`` takes the service's host.
        method: For example ``GET``.
        headers: Further headers.
        expected_statuses: Empty expects 200 to 299.
    """

    path: str = "/"
    host: str = ""
    method: str = "GET"
    headers: dict[str, str] = Field(default_factory=dict)
    expected_statuses: list[int] = Field(default_factory=list)


class GrpcCheck(Message):
    """Healthy when ``grpc.health.v1.Health/Check`` answers SERVING.

    Attributes:
        service: The name that is asked for; ``""`` asks for the server as a whole.
        authority: ``:authority``; ``""`` takes the service's host.
    """

    service: str = ""
    authority: str = ""


class TcpCheck(Message):
    """Healthy when a connection is taken."""


class HealthCheck(Message):
    """Asks every endpoint now and then, apart from the calls.

    Attributes:
        path: Short for ``http: {path: ...}``.
        http: By a request.
        grpc: By gRPC's health protocol.
        tcp: By a connection alone.
        port: Asked instead of the endpoint's port; 0 keeps that.
        interval: Seconds between two checks of one endpoint.
        timeout: Seconds for one check.
        unhealthy_threshold: Checks in a row without an answer that take an endpoint out; an answer that it is not well
            (a status not expected, anything but SERVING) does so at once, as in Envoy.
        healthy_threshold: Successes in a row that bring it back.
    """

    path: str | None = None
    http: HttpCheck | None = None
    grpc: GrpcCheck | None = None
    tcp: TcpCheck | None = None
    port: UInt32 = 0
    interval: Duration = 5.0
    timeout: Duration = 1.0
    unhealthy_threshold: UInt32 = 3
    healthy_threshold: UInt32 = 2

    _kind = one_of("path", "http", "grpc", "tcp")


class RateLimitUnit(StrEnum):
    """What ``requests_per_unit`` counts per."""

    SECOND = "SECOND"
    MINUTE = "MINUTE"
    HOUR = "HOUR"
    DAY = "DAY"


class RateLimitKey(Message):
    """One part of the key that requests are counted by; exactly one field is set.

    Attributes:
        header: The value of this request header; requests without it share one count.
        query_param: The value of this query parameter.
        cookie: The value of this cookie.
        label: The value of this label of the caller.
        path: True for the path without its query.
        method: True for the method.
        host: True for the service's full name.
        generic_key: This text, for a rate limit service.
        descriptor_key: What a rate limit service knows the part by; None takes the name of the header, parameter,
            cookie or label, else ``path``, ``method``, ``host`` or ``generic_key``.
    """

    header: str | None = None
    query_param: str | None = None
    cookie: str | None = None
    label: str | None = None
    path: bool | None = None
    method: bool | None = None
    host: bool | None = None
    generic_key: str | None = None
    descriptor_key: str | None = None

    _part = one_of("header", "query_param", "cookie", "label", "path", "method", "host", "generic_key")


class GlobalRateLimit(Message):
    """A service that counts for many processes, by Envoy's ``RateLimitService`` (v3, gRPC).

    Attributes:
        service: ``host:port``; a host of the mesh is called as the mesh says, any other at its address, in plaintext.
        domain: What the limits are kept under there.
        timeout: How long a call waits for its word.
        fail_open: Calls pass when it does not answer in time; else they are answered 500.
    """

    service: str = ""
    domain: str = ""
    timeout: Duration = 0.02
    fail_open: bool = True


class WhenLimited(StrEnum):
    """What becomes of a call too many: a response with status 429, or an error."""

    ANSWER = "Answer"
    RAISE = "Raise"


class RateLimit(Message):
    """Token buckets in this process, a service that counts for many, or both; the buckets are asked first.

    Attributes:
        requests_per_unit: Tokens that flow in per unit; None keeps no buckets here.
        unit: The unit.
        burst: Size of a bucket; None makes it ``requests_per_unit``.
        by: Parts of the key; empty counts all calls together.
        global_: The service, None for none.
        when_limited: What becomes of a call too many.
    """

    requests_per_unit: UInt32 | None = None
    unit: Annotated[RateLimitUnit, numbered(*RateLimitUnit)] = RateLimitUnit.SECOND
    burst: UInt32 | None = None
    by: list[RateLimitKey] = Field(default_factory=list)
    global_: GlobalRateLimit | None = Field(None, alias="global")
    when_limited: Annotated[WhenLimited, numbered(*WhenLimited)] = WhenLimited.ANSWER


class Hedge(Message):
    """Sends a second attempt when the first is slow, and takes the answer that comes first.

    Attributes:
        after: Seconds until the next attempt starts.
        max_attempts: All attempts, the first included.
        methods: Only requests with these methods; they must be safe to send twice.
    """

    after: Duration | None = None
    max_attempts: UInt32 = 2
    methods: list[str] = Field(default_factory=lambda: ["GET", "HEAD"])


class ClientPolicySpec(Message):
    """Policies towards some hosts.

    Attributes:
        hosts: Names or wildcards, as in a DestinationRule.
        subsets: Only calls to these subsets; empty means every subset and the service itself.
        load_balancer: Algorithms and limits beyond Istio's.
        sticky_weights: A key stays with one of the weighted destinations of a route to these hosts.
        faults_below_retries: Injected faults count as answers of the endpoint, so that retries see them; Istio's
            order has them above, where they end the call.
    """

    hosts: list[str] = Field(default_factory=list)
    subsets: list[str] = Field(default_factory=list)
    circuit_breaker: CircuitBreaker | None = None
    retry_budget: ClientRetryBudget | None = None
    load_balancer: ClientLoadBalancer | None = None
    sticky_weights: StickyWeights | None = None
    health_check: HealthCheck | None = None
    rate_limit: RateLimit | None = None
    hedge: Hedge | None = None
    faults_below_retries: bool = False
