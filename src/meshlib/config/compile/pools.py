"""``connectionPool``, ``outlierDetection`` and their like of an effective policy; 0 means unset throughout.

Source: Istio ``core/cluster_traffic_policy.go`` (``applyConnectionPool``, ``applyTCPKeepalive``,
``applyOutlierDetection``).
"""

from __future__ import annotations

from meshlib.config.compile.traffic_policy import EffectivePolicy
from meshlib.config.resources import destination_rule as api
from meshlib.model.policy import (
    CircuitBreaker,
    ConnectionPool,
    Http2KeepAlive,
    OutlierDetection,
    RetryBudget,
    TcpKeepalive,
    Tunnel,
)

__all__ = ["IDLE", "circuit_breaker", "connection_pool", "outlier_detection", "tunnel"]

IDLE = 3600.0
"""Seconds without use after which Envoy closes a connection unless told otherwise."""


def connection_pool(
    policy: EffectivePolicy,
    *,
    http: bool,
    http2: bool,
    connect_timeout: float = 10.0,
    keepalive: api.TcpKeepalive | None = None,
) -> ConnectionPool:
    """How connections are made and kept.

    Args:
        policy: The effective policy.
        http: Whether HTTP is spoken; the ``http`` half says nothing about other connections.
        http2: Whether HTTP/2 may be, which streams and PINGs belong to.
        connect_timeout: The mesh's, in seconds.
        keepalive: The mesh's.
    """
    pool = policy.connection_pool or api.ConnectionPoolSettings()
    tcp = pool.tcp or api.TCPSettings()
    settings = (pool.http if http else None) or api.HTTPSettings()
    ping = settings.http2_keep_alive if http2 else None
    return ConnectionPool(
        connect_timeout=tcp.connect_timeout or connect_timeout,
        idle_timeout=_idle(tcp, settings),
        max_connection_duration=tcp.max_connection_duration,
        max_requests_per_connection=settings.max_requests_per_connection or None,
        max_concurrent_streams=(settings.max_concurrent_streams or None) if http2 else None,
        tcp_keepalive=_keepalive(keepalive, tcp.tcp_keepalive),
        http2_keepalive=None if ping is None else Http2KeepAlive(ping.interval or 0.0, ping.timeout or 0.0),
        proxy_protocol=_proxy_protocol(policy.proxy_protocol),
    )


def _idle(tcp: api.TCPSettings, http: api.HTTPSettings) -> float | None:
    """The HTTP idle time, else that of TCP, else an hour; ``0s`` switches it off."""
    if http.idle_timeout is not None:
        return http.idle_timeout or None
    return IDLE if tcp.idle_timeout is None else tcp.idle_timeout or None


def _keepalive(mesh: api.TcpKeepalive | None, own: api.TcpKeepalive | None) -> TcpKeepalive | None:
    """The rule's values over the mesh's, each by itself; an object without values leaves the system's."""
    given = [each for each in (own, mesh) if each is not None]
    if not given:
        return None
    return TcpKeepalive(
        next((each.probes for each in given if each.probes), None),
        next((each.time for each in given if each.time is not None), None),
        next((each.interval for each in given if each.interval is not None), None),
    )


def _proxy_protocol(given: api.ProxyProtocol | None) -> int:
    return 0 if given is None else 2 if given.version is api.ProxyProtocolVersion.V2 else 1


def tunnel(given: api.TunnelSettings | None) -> Tunnel | None:
    """Where raw TCP is tunnelled to."""
    return None if given is None else Tunnel(given.target_host, given.target_port, given.protocol or "CONNECT")


def circuit_breaker(policy: EffectivePolicy) -> CircuitBreaker:
    """Envoy's thresholds; a retry budget stands in for ``maxRetries``, also without a ``connectionPool``."""
    pool, budget = policy.connection_pool or api.ConnectionPoolSettings(), policy.retry_budget
    tcp, http = pool.tcp or api.TCPSettings(), pool.http or api.HTTPSettings()
    return CircuitBreaker(
        tcp.max_connections or None,
        http.http1_max_pending_requests or None,
        http.http2_max_requests or None,
        http.max_retries or None,
        None if budget is None else _retry_budget(budget),
    )


def _retry_budget(budget: api.RetryBudget) -> RetryBudget:
    percent = 20.0 if budget.percent is None else budget.percent
    return RetryBudget(percent / 100, budget.min_retry_concurrency or 3, budget.budget_interval or 0.0)


def outlier_detection(detection: api.OutlierDetection | None) -> OutlierDetection | None:
    """When endpoints are ejected; the deprecated ``consecutiveErrors`` says nothing."""
    if detection is None:
        return None
    errors, local = detection.consecutive_5xx_errors, detection.consecutive_local_origin_failures
    base = detection.base_ejection_time or 30.0
    return OutlierDetection(
        consecutive_5xx=5 if errors is None else errors,
        consecutive_gateway=detection.consecutive_gateway_errors or 0,
        split_local_origin=detection.split_external_local_origin_errors,
        consecutive_local_origin=5 if local is None else local,
        interval=detection.interval or 10.0,
        base_ejection_time=base,
        max_ejection_time=max(300.0, base),
        max_ejection_percent=detection.max_ejection_percent or 10,
        error_codes=frozenset(detection.outlier_detection_http_error_codes),
    )
