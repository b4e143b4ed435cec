"""Clusters on the wire.

Source: Istio ``core/cluster_builder.go``, ``core/cluster_traffic_policy.go``. The model's None for a threshold means
unlimited, which Envoy writes as the largest number; unset would mean Envoy's own 1024.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meshlib.model.cluster import Cluster, Discovery, Protocol
from meshlib.model.endpoint import Assignment
from meshlib.model.policy import BalancerKind, CircuitBreaker, LoadBalancer, SlowStart, TcpKeepalive, TlsMode
from meshlib.xds.encode.endpoints import load_assignment
from meshlib.xds.encode.outlier import write_error_codes, write_outlier_detection
from meshlib.xds.encode.subsets import write_subsets
from meshlib.xds.encode.tls import write_tls
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
    BalancerKind.PEAK_EWMA: "LEAST_REQUEST",
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
        made.dns_refresh_rate.CopyFrom(duration(cluster.dns_refresh))
        made.respect_dns_ttl = True
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
    if balancer.zone_aware is not None:
        made.common_lb_config.zone_aware_lb_config.min_cluster_size.value = balancer.zone_aware.min_cluster_size
        made.common_lb_config.zone_aware_lb_config.fail_traffic_on_panic = balancer.fail_on_panic
    elif balancer.locality_weighted:
        made.common_lb_config.locality_weighted_lb_config.SetInParent()
    if balancer.hash_balance_factor:
        bounded = made.common_lb_config.consistent_hashing_lb_config
        bounded.hash_balance_factor.value = balancer.hash_balance_factor
    if balancer.subsets is not None:
        write_subsets(balancer.subsets, made.lb_subset_config)
    writer = _WRITERS.get(balancer.kind)
    if writer is not None:
        writer(balancer, made)


def _write_ring(balancer: LoadBalancer, made: Any) -> None:
    made.ring_hash_lb_config.minimum_ring_size.value = balancer.min_ring_size
    made.ring_hash_lb_config.maximum_ring_size.value = balancer.max_ring_size


def _write_maglev(balancer: LoadBalancer, made: Any) -> None:
    made.maglev_lb_config.table_size.value = balancer.table_size


def _write_round_robin(balancer: LoadBalancer, made: Any) -> None:
    if balancer.slow_start is not None:
        write_slow_start(balancer.slow_start, made.round_robin_lb_config.slow_start_config)


def _write_least_request(balancer: LoadBalancer, made: Any) -> None:
    config = made.least_request_lb_config
    config.choice_count.value = balancer.choice_count
    config.active_request_bias.default_value = balancer.active_request_bias
    config.active_request_bias.runtime_key = "meshlib.least_request.active_request_bias"
    if balancer.slow_start is not None:
        write_slow_start(balancer.slow_start, config.slow_start_config)


def _write_client_side(balancer: LoadBalancer, made: Any) -> None:
    reports = balancer.load_reports
    config = client_side_weighted_round_robin_pb2.ClientSideWeightedRoundRobin(
        blackout_period=duration(reports.blackout),
        weight_expiration_period=duration(reports.expiration),
        weight_update_period=duration(reports.update),
        metric_names_for_computing_utilization=reports.metrics,
    )
    config.error_utilization_penalty.value = reports.error_penalty
    if reports.out_of_band is not None:
        config.enable_oob_load_report.value = True
        config.oob_reporting_period.CopyFrom(duration(reports.out_of_band))
    if balancer.slow_start is not None:
        write_slow_start(balancer.slow_start, config.slow_start_config)
    name = "envoy.load_balancing_policies.client_side_weighted_round_robin"
    if balancer.locality_weighted:
        outer = wrr_locality_pb2.WrrLocality()
        _add_policy(outer.endpoint_picking_policy, name, config)
        name, config = "envoy.load_balancing_policies.wrr_locality", outer
    _add_policy(made.load_balancing_policy, name, config)


def _add_policy(policy: Any, name: str, config: Any) -> None:
    entry = policy.policies.add().typed_extension_config
    entry.name = name
    entry.typed_config.CopyFrom(extension(config))


_WRITERS: dict[BalancerKind, Callable[[LoadBalancer, Any], None]] = {
    BalancerKind.RING_HASH: _write_ring,
    BalancerKind.MAGLEV: _write_maglev,
    BalancerKind.ROUND_ROBIN: _write_round_robin,
    BalancerKind.LEAST_REQUEST: _write_least_request,
    BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN: _write_client_side,
}


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
    if cluster.tls.mode in (TlsMode.SIMPLE, TlsMode.MUTUAL):
        made.upstream_http_protocol_options.auto_sni = not cluster.tls.sni
        made.upstream_http_protocol_options.auto_san_validation = cluster.tls.verify_host
    if cluster.outlier_detection is not None:
        write_error_codes(cluster.outlier_detection.error_codes, made)
    return made


def _write_protocol(cluster: Cluster, made: Any) -> None:
    streams, keepalive = cluster.connection_pool.max_concurrent_streams, cluster.connection_pool.http2_keepalive
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
    if keepalive is not None:
        where.http2_protocol_options.connection_keepalive.interval.CopyFrom(duration(keepalive.interval))
        where.http2_protocol_options.connection_keepalive.timeout.CopyFrom(duration(keepalive.timeout))


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
    if cluster.tls.refused:
        ours["refused"] = cluster.tls.refused
    if cluster.circuit_breaker.retry_budget is not None and cluster.circuit_breaker.retry_budget.interval:
        ours["retry_budget_interval"] = cluster.circuit_breaker.retry_budget.interval
    ours |= _beyond(cluster.load_balancer)
    if ours:
        made.metadata.filter_metadata["meshlib"].CopyFrom(struct(ours))


def _beyond(balancer: LoadBalancer) -> dict[str, Any]:
    """What Envoy's balancers cannot be told."""
    found: dict[str, Any] = {}
    if balancer.kind is BalancerKind.PEAK_EWMA:
        found["peak_ewma"] = {"decay": balancer.peak_ewma.decay, "initial": balancer.peak_ewma.initial}
    if balancer.subset_size:
        found["subset_size"] = balancer.subset_size
    if balancer.fail_on_panic and balancer.zone_aware is None:
        found["fail_on_panic"] = True
    return found
