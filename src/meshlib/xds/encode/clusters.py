"""Clusters on the wire.

Source: Istio ``core/cluster_builder.go``, ``core/cluster_traffic_policy.go``. The model's None for a threshold means
unlimited, which Envoy writes as the largest number; unset would mean Envoy's own 1024.
"""

from __future__ import annotations

from typing import Any

from meshlib.model.cluster import Cluster, Discovery, Protocol
from meshlib.model.endpoint import Assignment
from meshlib.model.policy import BalancerKind, CircuitBreaker, LoadBalancer, SlowStart, TcpKeepalive
from meshlib.xds.encode.endpoints import load_assignment
from meshlib.xds.encode.outlier import write_error_codes, write_outlier_detection
from meshlib.xds.encode.tls import needs_auto_sni, write_tls
from meshlib.xds.encode.values import duration, extension, struct, uint32
from meshlib.xds.messages import (
    circuit_breaker_pb2,
    client_side_weighted_round_robin_pb2,
    cluster_pb2,
    http_protocol_options_pb2,
    wrr_locality_pb2,
)

__all__ = ["HTTP_OPTIONS", "UNLIMITED", "cluster"]

UNLIMITED = 4294967295
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

_DNS = {Discovery.STRICT_DNS: "STRICT_DNS", Discovery.LOGICAL_DNS: "LOGICAL_DNS"}
_LB_POLICY = {
    BalancerKind.ROUND_ROBIN: "ROUND_ROBIN",
    BalancerKind.LEAST_REQUEST: "LEAST_REQUEST",
    BalancerKind.RANDOM: "RANDOM",
    BalancerKind.PASSTHROUGH: "CLUSTER_PROVIDED",
    BalancerKind.RING_HASH: "RING_HASH",
    BalancerKind.MAGLEV: "MAGLEV",
    BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN: "LOAD_BALANCING_POLICY_CONFIG",
}


def cluster(cluster: Cluster, assignment: Assignment = (), *, inline: bool = False) -> Any:
    """``Cluster``.

    Args:
        cluster: What to write.
        assignment: Its endpoints, where they travel with the cluster: for DNS names always, else when ``inline``.
        inline: Make the cluster STATIC, for a bootstrap without a control plane, rather than EDS over ADS.
    """
    made = cluster_pb2.Cluster(name=cluster.name, connect_timeout=duration(cluster.connection_pool.connect_timeout))
    _write_discovery(cluster, assignment, made, inline)
    _write_balancer(cluster.load_balancer, cluster.discovery, made)
    made.circuit_breakers.thresholds.append(_thresholds(cluster.circuit_breaker))
    if cluster.outlier_detection is not None:
        write_outlier_detection(cluster.outlier_detection, made.outlier_detection)
    made.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(extension(_http_options(cluster)))
    if cluster.connection_pool.tcp_keepalive is not None:
        _write_keepalive(cluster.connection_pool.tcp_keepalive, made.upstream_connection_options.tcp_keepalive)
    write_tls(cluster, made)
    _write_metadata(cluster, made)
    return made


def _write_discovery(cluster: Cluster, assignment: Assignment, made: Any, inline: bool) -> None:
    if cluster.discovery in _DNS:
        made.type = cluster_pb2.Cluster.DiscoveryType.Value(_DNS[cluster.discovery])
        made.load_assignment.CopyFrom(load_assignment(cluster, assignment))
    elif cluster.discovery is Discovery.ORIGINAL_DST:
        made.type = cluster_pb2.Cluster.ORIGINAL_DST
        if cluster.target_port:
            made.original_dst_lb_config.upstream_port_override.value = cluster.target_port
    elif inline:
        made.type = cluster_pb2.Cluster.STATIC
        made.load_assignment.CopyFrom(load_assignment(cluster, assignment))
    else:
        made.type = cluster_pb2.Cluster.EDS
        made.eds_cluster_config.service_name = cluster.name
        made.eds_cluster_config.eds_config.ads.SetInParent()
        made.eds_cluster_config.eds_config.resource_api_version = "V3"


def _write_balancer(balancer: LoadBalancer, discovery: Discovery, made: Any) -> None:
    policy = "CLUSTER_PROVIDED" if discovery is Discovery.ORIGINAL_DST else _LB_POLICY[balancer.kind]
    made.lb_policy = cluster_pb2.Cluster.LbPolicy.Value(policy)
    made.common_lb_config.healthy_panic_threshold.value = balancer.panic_ratio * 100
    if balancer.locality_weighted:
        made.common_lb_config.locality_weighted_lb_config.SetInParent()
    if balancer.kind is BalancerKind.RING_HASH:
        made.ring_hash_lb_config.minimum_ring_size.value = balancer.min_ring_size
    elif balancer.kind is BalancerKind.MAGLEV:
        made.maglev_lb_config.table_size.value = balancer.table_size
    elif balancer.kind is BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN:
        _write_client_side(balancer, made)
    elif balancer.slow_start is not None and balancer.kind is BalancerKind.ROUND_ROBIN:
        write_slow_start(balancer.slow_start, made.round_robin_lb_config.slow_start_config)
    elif balancer.slow_start is not None and balancer.kind is BalancerKind.LEAST_REQUEST:
        write_slow_start(balancer.slow_start, made.least_request_lb_config.slow_start_config)


def _write_client_side(balancer: LoadBalancer, made: Any) -> None:
    config = client_side_weighted_round_robin_pb2.ClientSideWeightedRoundRobin()
    if not balancer.locality_weighted:
        entry = made.load_balancing_policy.policies.add().typed_extension_config
        entry.name = "envoy.load_balancing_policies.client_side_weighted_round_robin"
        entry.typed_config.CopyFrom(extension(config))
        return
    outer = wrr_locality_pb2.WrrLocality()
    inner = outer.endpoint_picking_policy.policies.add().typed_extension_config
    inner.name = "envoy.load_balancing_policies.client_side_weighted_round_robin"
    inner.typed_config.CopyFrom(extension(config))
    entry = made.load_balancing_policy.policies.add().typed_extension_config
    entry.name = "envoy.load_balancing_policies.wrr_locality"
    entry.typed_config.CopyFrom(extension(outer))


def write_slow_start(slow_start: SlowStart, made: Any) -> None:
    """``SlowStartConfig``."""
    made.slow_start_window.CopyFrom(duration(slow_start.window))
    made.min_weight_percent.value = slow_start.min_ratio * 100
    made.aggression.default_value = slow_start.aggression
    made.aggression.runtime_key = "meshlib.slow_start.aggression"


def _thresholds(breaker: CircuitBreaker) -> Any:
    def limit(value: int | None) -> Any:
        return uint32(UNLIMITED if value is None else value)

    made = circuit_breaker_pb2.CircuitBreakers.Thresholds(
        max_connections=limit(breaker.max_connections),
        max_pending_requests=limit(breaker.max_pending_requests),
        max_requests=limit(breaker.max_requests),
        max_retries=limit(breaker.max_retries),
        track_remaining=True,
    )
    if breaker.retry_budget is not None:
        made.retry_budget.budget_percent.value = breaker.retry_budget.ratio * 100
        made.retry_budget.min_retry_concurrency.value = breaker.retry_budget.min_concurrency
    return made


def _http_options(cluster: Cluster) -> Any:
    made = http_protocol_options_pb2.HttpProtocolOptions()
    _write_protocol(cluster, made)
    pool, common = cluster.connection_pool, made.common_http_protocol_options
    common.idle_timeout.CopyFrom(duration(pool.idle_timeout or 0.0))
    if pool.max_connection_duration is not None:
        common.max_connection_duration.CopyFrom(duration(pool.max_connection_duration))
    if pool.max_requests_per_connection is not None:
        common.max_requests_per_connection.value = pool.max_requests_per_connection
    if needs_auto_sni(cluster.tls):
        made.upstream_http_protocol_options.auto_sni = True
        made.upstream_http_protocol_options.auto_san_validation = not cluster.tls.subject_alt_names
    if cluster.outlier_detection is not None:
        write_error_codes(cluster.outlier_detection.error_codes, made)
    return made


def _write_protocol(cluster: Cluster, made: Any) -> None:
    streams = cluster.connection_pool.max_concurrent_streams
    if cluster.protocol is Protocol.CALLER:
        where = made.use_downstream_protocol_config
        where.http_protocol_options.SetInParent()
    else:
        where = made.explicit_http_config
    if cluster.protocol is Protocol.HTTP1:
        where.http_protocol_options.SetInParent()
        return
    where.http2_protocol_options.SetInParent()
    if streams is not None:
        where.http2_protocol_options.max_concurrent_streams.value = streams


def _write_keepalive(keepalive: TcpKeepalive, made: Any) -> None:
    made.SetInParent()
    if keepalive.probes is not None:
        made.keepalive_probes.value = keepalive.probes
    if keepalive.time is not None:
        made.keepalive_time.value = round(keepalive.time)
    if keepalive.interval is not None:
        made.keepalive_interval.value = round(keepalive.interval)


def _write_metadata(cluster: Cluster, made: Any) -> None:
    """Istio's own metadata, and beside it what Envoy has no field for."""
    name = cluster.service.partition(".")[0]
    service = {"host": cluster.service, "name": name, "namespace": cluster.namespace}
    istio: dict[str, Any] = {"services": [service], "default_original_port": cluster.port}
    if cluster.subset:
        istio["subset"] = cluster.subset
    made.metadata.filter_metadata["istio"].CopyFrom(struct(istio))
    ours: dict[str, Any] = {"external": True} if cluster.external else {}
    if cluster.protocol is Protocol.TCP:
        ours["protocol"] = "TCP"
    if ours:
        made.metadata.filter_metadata["meshlib"].CopyFrom(struct(ours))
