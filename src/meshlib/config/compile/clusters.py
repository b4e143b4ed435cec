"""From an effective policy to a cluster.

Source: Istio ``core/cluster_traffic_policy.go``, ``core/cluster_tls.go``; 0 means unset throughout.
"""

from __future__ import annotations

from dataclasses import replace

from meshlib.config.compile.locality import LocalitySetting, effective_setting
from meshlib.config.compile.services import Port, Resolution, Service
from meshlib.config.compile.traffic_policy import EffectivePolicy
from meshlib.config.resources import destination_rule as api
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.model.cluster import Cluster, Discovery, Protocol, cluster_name
from meshlib.model.policy import (
    BalancerKind,
    CircuitBreaker,
    ConnectionPool,
    HashKey,
    LoadBalancer,
    OutlierDetection,
    RetryBudget,
    SlowStart,
    TcpKeepalive,
    Tls,
    TlsMode,
)

__all__ = ["build_cluster", "hash_key", "locality_of"]

_DISCOVERY = {
    Resolution.ENDPOINTS: Discovery.ENDPOINTS,
    Resolution.DNS: Discovery.STRICT_DNS,
    Resolution.DNS_ROUND_ROBIN: Discovery.LOGICAL_DNS,
    Resolution.NONE: Discovery.ORIGINAL_DST,
    Resolution.ALIAS: Discovery.LOGICAL_DNS,
}

_SIMPLE = {
    api.SimpleLB.RANDOM: BalancerKind.RANDOM,
    api.SimpleLB.ROUND_ROBIN: BalancerKind.ROUND_ROBIN,
    api.SimpleLB.PASSTHROUGH: BalancerKind.PASSTHROUGH,
}


def build_cluster(service: Service, port: Port, subset: str, policy: EffectivePolicy, mesh: MeshConfig) -> Cluster:
    """The cluster of ``subset`` (``""`` for the whole service) on ``port``."""
    setting = locality_of(policy, service, mesh)
    distributes = setting.locality is not None and bool(setting.locality.distribute)
    weighted = setting.weighted and (distributes or policy.outlier_detection is not None)
    balancer = replace(_load_balancer(policy), locality_weighted=weighted)
    passthrough = balancer.kind is BalancerKind.PASSTHROUGH
    return Cluster(
        cluster_name(service.host, port.number, subset),
        service.host,
        port.number,
        subset,
        Discovery.ORIGINAL_DST if passthrough else _DISCOVERY[service.resolution],
        _protocol(port, policy.connection_pool, mesh),
        balancer,
        _circuit_breaker(policy),
        _outlier_detection(policy.outlier_detection),
        _connection_pool(policy.connection_pool, mesh),
        _tls(policy.tls, service, mesh),
        target_port=port.target,
        namespace=service.namespace,
        external=service.external,
        origins=policy.origins,
    )


def locality_of(policy: EffectivePolicy, service: Service, mesh: MeshConfig) -> LocalitySetting:
    """The locality setting towards a service under a policy."""
    balancer = policy.load_balancer or api.LoadBalancerSettings()
    return effective_setting(
        balancer.locality_lb_setting,
        balancer.zone_aware_lb_setting,
        service.traffic_distribution,
        mesh.zone_aware_lb_setting,
        mesh.locality_lb_setting,
    )


def _protocol(port: Port, pool: api.ConnectionPoolSettings | None, mesh: MeshConfig) -> Protocol:
    http = pool.http if pool is not None else None
    if http is not None and http.use_client_protocol:
        return Protocol.CALLER
    if port.protocol.is_http2:
        return Protocol.HTTP2
    upgrade = http.h2_upgrade_policy if http is not None else api.H2UpgradePolicy.DEFAULT
    if upgrade is api.H2UpgradePolicy.UPGRADE:
        return Protocol.HTTP2
    declared = port.protocol.is_http and port.protocol.name != "UNSUPPORTED"
    mesh_wide = mesh.h2_upgrade_policy is api.H2UpgradePolicy.UPGRADE
    if upgrade is api.H2UpgradePolicy.DEFAULT and mesh_wide and declared:
        return Protocol.HTTP2
    return Protocol.HTTP1 if declared else Protocol.CALLER


def _load_balancer(policy: EffectivePolicy) -> LoadBalancer:
    settings, detection = policy.load_balancer, policy.outlier_detection
    panic = detection.min_health_percent / 100 if detection is not None else 0.0
    if settings is None:
        return LoadBalancer(panic_ratio=panic)
    if settings.consistent_hash is not None:
        return _consistent(settings.consistent_hash, panic)
    kind = _SIMPLE.get(settings.simple, BalancerKind.LEAST_REQUEST) if settings.simple else BalancerKind.LEAST_REQUEST
    return LoadBalancer(kind, slow_start=_slow_start(settings), panic_ratio=panic)


def _consistent(settings: api.ConsistentHashLB, panic: float) -> LoadBalancer:
    key = hash_key(settings)
    keys = (key,) if key is not None else ()
    if settings.maglev is not None:
        size = settings.maglev.table_size or 65537
        return LoadBalancer(BalancerKind.MAGLEV, keys, table_size=size, panic_ratio=panic)
    ring = settings.ring_hash.minimum_ring_size if settings.ring_hash is not None else settings.minimum_ring_size
    return LoadBalancer(BalancerKind.RING_HASH, keys, min_ring_size=ring or 1024, panic_ratio=panic)


def hash_key(settings: api.ConsistentHashLB) -> HashKey | None:
    """Where the key comes from; None when no source is named, which makes the hash random."""
    cookie = settings.http_cookie
    if settings.http_header_name:
        return HashKey("header", settings.http_header_name.lower())
    if cookie is not None:
        attributes = tuple((a.name, a.value) for a in cookie.attributes)
        return HashKey("cookie", cookie.name, cookie.ttl, cookie.path, attributes)
    if settings.use_source_ip:
        return HashKey("source_ip")
    if settings.http_query_parameter_name:
        return HashKey("query", settings.http_query_parameter_name)
    return None


def _slow_start(settings: api.LoadBalancerSettings) -> SlowStart | None:
    warmup = settings.warmup
    if warmup is not None and warmup.duration is not None:
        minimum = 10.0 if warmup.minimum_percent is None else warmup.minimum_percent
        return SlowStart(warmup.duration, minimum / 100, warmup.aggression or 1.0)
    if settings.warmup_duration_secs is not None:
        return SlowStart(settings.warmup_duration_secs)
    return None


def _circuit_breaker(policy: EffectivePolicy) -> CircuitBreaker:
    pool, budget = policy.connection_pool, policy.retry_budget
    tcp = pool.tcp if pool is not None else None
    http = pool.http if pool is not None else None
    return CircuitBreaker(
        (tcp.max_connections or None) if tcp is not None else None,
        (http.http1_max_pending_requests or None) if http is not None else None,
        (http.http2_max_requests or None) if http is not None else None,
        (http.max_retries or None) if http is not None else None,
        None if budget is None else _retry_budget(budget),
    )


def _retry_budget(budget: api.RetryBudget) -> RetryBudget:
    percent = 20.0 if budget.percent is None else budget.percent
    return RetryBudget(percent / 100, budget.min_retry_concurrency or 3)


def _outlier_detection(detection: api.OutlierDetection | None) -> OutlierDetection | None:
    if detection is None:
        return None
    split = detection.split_external_local_origin_errors
    local = detection.consecutive_local_origin_failures
    base = detection.base_ejection_time or 30.0
    return OutlierDetection(
        consecutive_5xx=5 if detection.consecutive_5xx_errors is None else detection.consecutive_5xx_errors,
        consecutive_gateway=detection.consecutive_gateway_errors or 0,
        split_local_origin=split,
        consecutive_local_origin=5 if local is None else local,
        interval=detection.interval or 10.0,
        base_ejection_time=base,
        max_ejection_time=max(300.0, base),
        max_ejection_percent=detection.max_ejection_percent or 10,
        error_codes=frozenset(detection.outlier_detection_http_error_codes),
    )


def _connection_pool(pool: api.ConnectionPoolSettings | None, mesh: MeshConfig) -> ConnectionPool:
    tcp = pool.tcp if pool is not None else None
    http = pool.http if pool is not None else None
    idle: float | None = 3600.0
    if http is not None and http.idle_timeout is not None:
        idle = http.idle_timeout
    elif tcp is not None and tcp.idle_timeout is not None:
        idle = tcp.idle_timeout or None
    keepalive = tcp.tcp_keepalive if tcp is not None and tcp.tcp_keepalive is not None else mesh.tcp_keepalive
    return ConnectionPool(
        connect_timeout=(tcp.connect_timeout if tcp is not None else None) or mesh.connect_timeout,
        idle_timeout=idle,
        max_connection_duration=tcp.max_connection_duration if tcp is not None else None,
        max_requests_per_connection=(http.max_requests_per_connection or None) if http is not None else None,
        max_concurrent_streams=(http.max_concurrent_streams or None) if http is not None else None,
        tcp_keepalive=_keepalive(keepalive),
    )


def _keepalive(keepalive: api.TcpKeepalive | None) -> TcpKeepalive | None:
    if keepalive is None:
        return None
    return TcpKeepalive(keepalive.probes or None, keepalive.time, keepalive.interval)


def _tls(tls: api.ClientTLSSettings | None, service: Service, mesh: MeshConfig) -> Tls:
    if tls is None:
        automatic = mesh.enable_auto_mtls and not service.external
        return Tls(TlsMode.AUTO if automatic else TlsMode.DISABLE)
    return Tls(
        TlsMode[tls.mode.value],
        tls.sni,
        tuple(tls.subject_alt_names) or service.subject_alt_names,
        tls.ca_certificates,
        tls.client_certificate,
        tls.private_key,
        tls.credential_name,
        verify=not tls.insecure_skip_verify,
        ca_crl=tls.ca_crl,
    )
