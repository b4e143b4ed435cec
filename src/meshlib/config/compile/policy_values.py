"""The traffic policy in force, value by value: what it is, and the object and field that it stands in.

A value that an object sets has that object's field; the rest is the mesh's or Istio's own. The values are read off the
compiled cluster, so that what is printed is what runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel

from meshlib.config.compile.services import Service
from meshlib.config.compile.traffic_policy import BLOCKS, EffectivePolicy
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.model.cluster import Cluster
from meshlib.model.informed import BUILT_IN, PolicyValue
from meshlib.model.policy import BalancerKind, LoadBalancer
from meshlib.model.words import plain

__all__ = ["policy_values"]

_MESH_FIELDS = {
    "connectionPool.tcp.connectTimeout": "connect_timeout",
    "connectionPool.tcp.tcpKeepalive": "tcp_keepalive",
    "tls.mode": "enable_auto_mtls",
    "loadBalancer.localityLbSetting": "locality_lb_setting",
    "loadBalancer.zoneAwareLbSetting": "zone_aware_lb_setting",
}
"""Values that fall back to a field of MeshConfig."""
_BEYOND_ISTIO = (BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN, BalancerKind.PEAK_EWMA)
_PLAIN = LoadBalancer()
_BLOCKS = frozenset(spelled for _, spelled in BLOCKS)
_CLIENT_POLICY = (
    ("breaker", "circuitBreaker"),
    ("health_check", "healthCheck"),
    ("rate_limit", "rateLimit"),
    ("hedge", "hedge"),
)
"""Blocks of a ClientPolicy: in the model, and as the object spells them."""


def policy_values(
    cluster: Cluster, policy: EffectivePolicy, service: Service, mesh: MeshConfig
) -> tuple[PolicyValue, ...]:
    """Every value in force towards the cluster, in the order of DestinationRule's fields."""
    given = {**_given(policy), **_of_client_policy(cluster)}
    return tuple(
        PolicyValue(field, value, given.get(field) or _fallback(field, given, service, mesh))
        for field, value in _in_force(cluster, policy, service, mesh)
    )


def _given(policy: EffectivePolicy) -> dict[str, str]:
    """Field that an object sets -> its place."""
    origins = dict(policy.origins)
    found: dict[str, str] = {}
    for name, spelled in BLOCKS:
        block = getattr(policy, name)
        if block is not None:
            found.update({f"{spelled}{path}": f"{origins[spelled]}{path}" for path in _paths(block)})
    return found


def _of_client_policy(cluster: Cluster) -> dict[str, str]:
    """Its blocks, and a retry budget that stands in for the DestinationRule's, under other names."""
    origins = dict(cluster.origins)
    found = {field: where for field, where in origins.items() if field not in _BLOCKS}
    place = origins.get("retryBudget", "")
    if place.startswith("ClientPolicy"):
        found["retryBudget.percent"] = f"{place}.percent"
        found["retryBudget.minRetryConcurrency"] = f"{place}.minConcurrency"
    place = origins.get("loadBalancer", "")
    if place.startswith("ClientPolicy"):
        found.update({f"loadBalancer.{field}": f"{place}.{field}" for field, _ in _beyond_istio(cluster.load_balancer)})
        if cluster.load_balancer.kind in _BEYOND_ISTIO:
            found["loadBalancer.simple"] = f"{place}.algorithm"
    return found


def _beyond_istio(balancer: LoadBalancer) -> Iterator[tuple[str, Any]]:
    """What only a ClientPolicy can say of balancing, where it says something else than the default."""
    reports, ewma = balancer.load_reports, balancer.peak_ewma
    if balancer.choice_count != _PLAIN.choice_count:
        yield "leastRequest.choiceCount", balancer.choice_count
    if balancer.active_request_bias != _PLAIN.active_request_bias:
        yield "leastRequest.activeRequestBias", balancer.active_request_bias
    if balancer.kind is BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN:
        yield "loadReports", {key: plain(value) for key, value in asdict(reports).items()}
    if balancer.kind is BalancerKind.PEAK_EWMA:
        yield "peakEwma", asdict(ewma)
    if balancer.hash_balance_factor:
        yield "hashBalanceFactor", balancer.hash_balance_factor
    if balancer.subset_size:
        yield "subsetSize", balancer.subset_size


def _paths(message: BaseModel) -> Iterator[str]:
    """The path of each field that is set, the messages between included."""
    for name in message.model_fields_set:
        value = getattr(message, name, None)
        field = type(message).model_fields.get(name)
        path = f".{(field.alias if field is not None else None) or name}"
        yield path
        if isinstance(value, BaseModel):
            for deeper in _paths(value):
                yield path + deeper


def _fallback(field: str, given: dict[str, str], service: Service, mesh: MeshConfig) -> str:
    if field == "loadBalancer.localityLbSetting" and service.traffic_distribution is not None:
        return f"{service.object} spec.trafficDistribution"
    if field == "connectionPool.http.idleTimeout" and "connectionPool.tcp.idleTimeout" in given:
        return given["connectionPool.tcp.idleTimeout"]
    name = _MESH_FIELDS.get(field)
    if name is not None and name in mesh.model_fields_set:
        alias = type(mesh).model_fields[name].alias
        return f"MeshConfig.{alias}"
    return BUILT_IN


def _in_force(
    cluster: Cluster, policy: EffectivePolicy, service: Service, mesh: MeshConfig
) -> Iterator[tuple[str, Any]]:
    yield from _load_balancer(cluster, policy)
    yield from _locality(policy, service, mesh)
    yield from _connection_pool(cluster)
    yield from _outlier_detection(cluster)
    yield "tls.mode", cluster.tls.mode.value
    for field, value in (
        ("sni", cluster.tls.sni),
        ("subjectAltNames", list(cluster.tls.subject_alt_names)),
        ("caCertificates", cluster.tls.ca_certificates),
        ("clientCertificate", cluster.tls.client_certificate),
        ("credentialName", cluster.tls.credential_name),
        ("insecureSkipVerify", not cluster.tls.verify),
    ):
        if value:
            yield f"tls.{field}", value
    budget = cluster.circuit_breaker.retry_budget
    if budget is not None:
        yield "retryBudget.percent", budget.ratio * 100
        yield "retryBudget.minRetryConcurrency", budget.min_concurrency
    if cluster.tunnel is not None:
        yield "tunnel.targetHost", cluster.tunnel.host
        yield "tunnel.targetPort", cluster.tunnel.port
        yield "tunnel.protocol", cluster.tunnel.method
    if cluster.connection_pool.proxy_protocol:
        yield "proxyProtocol.version", f"V{cluster.connection_pool.proxy_protocol}"
    yield from _client_policy(cluster)


def _client_policy(cluster: Cluster) -> Iterator[tuple[str, Any]]:
    """Whole blocks: what one object says beyond Istio's kinds is said together."""
    policy = cluster.client_policy
    for name, spelled in _CLIENT_POLICY:
        block = getattr(policy, name)
        if block is not None:
            yield spelled, {key: plain(value) for key, value in asdict(block).items()}
    if policy.faults_below_retries:
        yield "faultsBelowRetries", True


def _load_balancer(cluster: Cluster, policy: EffectivePolicy) -> Iterator[tuple[str, Any]]:
    settings, balancer = policy.load_balancer, cluster.load_balancer
    if settings is None or settings.consistent_hash is None:
        yield "loadBalancer.simple", balancer.kind.value
    else:
        hashing = settings.consistent_hash
        for path in _paths(hashing):
            value = _plain(hashing, path)
            if not isinstance(value, BaseModel):
                yield f"loadBalancer.consistentHash{path}", value
    slow = balancer.slow_start
    if slow is not None:
        field = "warmup.duration" if settings is not None and settings.warmup is not None else "warmupDurationSecs"
        yield f"loadBalancer.{field}", slow.window
    for field, value in _beyond_istio(balancer):
        yield f"loadBalancer.{field}", value


def _plain(message: BaseModel, path: str) -> Any:
    value: Any = message
    for part in path[1:].split("."):
        fields = type(value).model_fields
        name = next((name for name, field in fields.items() if field.alias == part), part)
        value = getattr(value, name)
    return value


def _locality(policy: EffectivePolicy, service: Service, mesh: MeshConfig) -> Iterator[tuple[str, Any]]:
    balancer = policy.load_balancer
    own = balancer is not None and (balancer.locality_lb_setting, balancer.zone_aware_lb_setting) != (None, None)
    zone_aware = balancer.zone_aware_lb_setting if own and balancer is not None else None
    locality = balancer.locality_lb_setting if own and balancer is not None else None
    if not own and service.traffic_distribution is not None:
        yield "loadBalancer.localityLbSetting", service.traffic_distribution
        return
    if not own:
        zone_aware, locality = mesh.zone_aware_lb_setting, mesh.locality_lb_setting
    if zone_aware is not None:
        yield "loadBalancer.zoneAwareLbSetting", zone_aware.model_dump(by_alias=True, exclude_unset=True)
    elif locality is not None:
        yield "loadBalancer.localityLbSetting", locality.model_dump(by_alias=True, exclude_unset=True)


def _connection_pool(cluster: Cluster) -> Iterator[tuple[str, Any]]:
    pool, limits = cluster.connection_pool, cluster.circuit_breaker
    keepalive = pool.tcp_keepalive
    yield "connectionPool.tcp.maxConnections", limits.max_connections
    yield "connectionPool.tcp.connectTimeout", pool.connect_timeout
    if keepalive is not None:
        yield "connectionPool.tcp.tcpKeepalive", [keepalive.probes, keepalive.time, keepalive.interval]
    yield "connectionPool.tcp.maxConnectionDuration", pool.max_connection_duration
    yield "connectionPool.http.http1MaxPendingRequests", limits.max_pending_requests
    yield "connectionPool.http.http2MaxRequests", limits.max_requests
    yield "connectionPool.http.maxRequestsPerConnection", pool.max_requests_per_connection
    yield "connectionPool.http.maxRetries", limits.max_retries
    yield "connectionPool.http.idleTimeout", pool.idle_timeout
    yield "connectionPool.http.maxConcurrentStreams", pool.max_concurrent_streams
    if pool.http2_keepalive is not None:
        yield "connectionPool.http.http2KeepAlive.interval", pool.http2_keepalive.interval
        yield "connectionPool.http.http2KeepAlive.timeout", pool.http2_keepalive.timeout


def _outlier_detection(cluster: Cluster) -> Iterator[tuple[str, Any]]:
    detection = cluster.outlier_detection
    if detection is None:
        return
    yield "outlierDetection.consecutive5xxErrors", detection.consecutive_5xx
    yield "outlierDetection.consecutiveGatewayErrors", detection.consecutive_gateway
    if detection.split_local_origin:
        yield "outlierDetection.splitExternalLocalOriginErrors", True
        yield "outlierDetection.consecutiveLocalOriginFailures", detection.consecutive_local_origin
    yield "outlierDetection.interval", detection.interval
    yield "outlierDetection.baseEjectionTime", detection.base_ejection_time
    yield "outlierDetection.maxEjectionPercent", detection.max_ejection_percent
    yield "outlierDetection.minHealthPercent", cluster.load_balancer.panic_ratio * 100
    if detection.error_codes:
        yield "outlierDetection.outlierDetectionHttpErrorCodes", sorted(detection.error_codes)
