"""Load-balancing policies off the wire: the newer list of policies, else the older enumeration with its settings.

Of the list the first policy that is known counts.

Source: Envoy ``Cluster.lb_policy``, ``LoadBalancingPolicy``; gRFCs A42, A48, A52, A58.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from meshlib.model.policy import BalancerKind, LoadBalancer, LoadReports, PeakEwma, SlowStart, ZoneAware
from meshlib.xds.decode.findings import Place
from meshlib.xds.decode.subsets import subsets
from meshlib.xds.decode.values import duration, metadata, optional_duration, optional_uint, unpack
from meshlib.xds.messages import (
    client_side_weighted_round_robin_pb2,
    cluster_pb2,
    least_request_pb2,
    maglev_pb2,
    random_pb2,
    ring_hash_pb2,
    round_robin_pb2,
    wrr_locality_pb2,
)

__all__ = ["balancer"]

_ENUM = {
    "ROUND_ROBIN": BalancerKind.ROUND_ROBIN,
    "LEAST_REQUEST": BalancerKind.LEAST_REQUEST,
    "RANDOM": BalancerKind.RANDOM,
    "RING_HASH": BalancerKind.RING_HASH,
    "MAGLEV": BalancerKind.MAGLEV,
    "CLUSTER_PROVIDED": BalancerKind.PASSTHROUGH,
}
_EXTENSIONS = {
    client_side_weighted_round_robin_pb2.ClientSideWeightedRoundRobin: BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN,
    least_request_pb2.LeastRequest: BalancerKind.LEAST_REQUEST,
    maglev_pb2.Maglev: BalancerKind.MAGLEV,
    random_pb2.Random: BalancerKind.RANDOM,
    ring_hash_pb2.RingHash: BalancerKind.RING_HASH,
    round_robin_pb2.RoundRobin: BalancerKind.ROUND_ROBIN,
}
_KINDS = {kind.DESCRIPTOR.full_name: kind for kind in (*_EXTENSIONS, wrr_locality_pb2.WrrLocality)}
_GRPC = {BalancerKind.ROUND_ROBIN, BalancerKind.RING_HASH, BalancerKind.LEAST_REQUEST}
_LARGEST_RING = 8_388_608
_LARGEST_TABLE = 5_000_011
_DEEPEST = 16
_MOST_GRPC_CHOICES = 10


def balancer(cluster: Any, at: Place) -> LoadBalancer:
    """The policy of a ``Cluster``."""
    if cluster.HasField("load_balancing_policy"):
        found = _of_list(cluster.load_balancing_policy, at.field("load_balancing_policy"), 0)
    else:
        found = _of_enum(cluster, at)
    found = _with_common(found, cluster.common_lb_config, at.field("common_lb_config"))
    if cluster.HasField("lb_subset_config"):
        found = replace(found, subsets=subsets(cluster.lb_subset_config, at.field("lb_subset_config")))
    return _with_ours(found, metadata(cluster, "meshlib"))


def _with_ours(found: LoadBalancer, ours: dict[str, Any]) -> LoadBalancer:
    """What only meshlib's own control plane says, beside what Envoy would do instead."""
    if "peak_ewma" in ours:
        times = ours["peak_ewma"]
        ewma = PeakEwma(float(times["decay"]), float(times["initial"]))
        found = replace(found, kind=BalancerKind.PEAK_EWMA, peak_ewma=ewma)
    if "subset_size" in ours:
        found = replace(found, subset_size=int(ours["subset_size"]))
    return replace(found, fail_on_panic=True) if ours.get("fail_on_panic") is True else found


def _of_enum(cluster: Any, at: Place) -> LoadBalancer:
    name = cluster_pb2.Cluster.LbPolicy.Name(cluster.lb_policy)
    kind = _ENUM.get(name)
    place = at.field("lb_policy")
    if kind is None or (at.is_grpc and kind not in _GRPC and not cluster.HasField("cluster_type")):
        place.error(f"{name} is not known here")
        return LoadBalancer()
    if (
        kind is BalancerKind.PASSTHROUGH
        and cluster.type == cluster_pb2.Cluster.EDS
        and not cluster.HasField("cluster_type")
    ):
        place.error("CLUSTER_PROVIDED cannot balance endpoints")
    if kind is BalancerKind.RING_HASH:
        return _ring(cluster.ring_hash_lb_config, at.field("ring_hash_lb_config"))
    if kind is BalancerKind.MAGLEV:
        return _maglev(cluster.maglev_lb_config, at.field("maglev_lb_config"))
    if kind is BalancerKind.LEAST_REQUEST:
        return _least_request(cluster.least_request_lb_config, at.field("least_request_lb_config"))
    slow = _slow_start(cluster.round_robin_lb_config, at.field("round_robin_lb_config"))
    return LoadBalancer(kind, slow_start=slow if kind is BalancerKind.ROUND_ROBIN else None)


def _of_list(policy: Any, at: Place, depth: int) -> LoadBalancer:
    if depth > _DEEPEST:
        at.error(f"is nested deeper than {_DEEPEST}")
        return LoadBalancer()
    for number, each in enumerate(policy.policies):
        place = at.field("policies", number)
        message = unpack(each.typed_extension_config.typed_config, _KINDS, place)
        if message is not None:
            return _of_extension(message, place, depth)
    at.error("no policy that is known")
    return LoadBalancer()


def _of_extension(message: Any, at: Place, depth: int) -> LoadBalancer:
    if isinstance(message, wrr_locality_pb2.WrrLocality):
        inner = _of_list(message.endpoint_picking_policy, at.field("endpoint_picking_policy"), depth + 1)
        return replace(inner, locality_weighted=True)
    kind = _EXTENSIONS[type(message)]
    if kind is BalancerKind.RING_HASH:
        return _ring(message, at)
    if kind is BalancerKind.MAGLEV:
        return _maglev(message, at)
    if kind is BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN:
        return _client_side(message, at)
    found = _least_request(message, at) if kind is BalancerKind.LEAST_REQUEST else LoadBalancer(kind)
    if kind is BalancerKind.ROUND_ROBIN:
        found = replace(found, slow_start=_slow_start(message, at))
    config = getattr(message, "locality_lb_config", None)
    weighted = config is not None and config.HasField("locality_weighted_lb_config")
    return replace(found, locality_weighted=weighted)


def _ring(config: Any, at: Place) -> LoadBalancer:
    at.only(config, {"minimum_ring_size", "maximum_ring_size", "hash_function"})
    least, most = optional_uint(config, "minimum_ring_size"), optional_uint(config, "maximum_ring_size")
    least, most = 1024 if least is None else least, _LARGEST_RING if most is None else most
    if not 1 <= least <= most <= _LARGEST_RING:
        at.error(f"ring sizes {least} to {most} are not within 1..{_LARGEST_RING}")
    if "MURMUR" in type(config).HashFunction.Name(config.hash_function):
        at.field("hash_function").error("only XX_HASH is known")
    return LoadBalancer(BalancerKind.RING_HASH, min_ring_size=least, max_ring_size=most)


def _maglev(config: Any, at: Place) -> LoadBalancer:
    at.only(config, {"table_size"})
    given = optional_uint(config, "table_size")
    size = 65537 if given is None else given
    if not 1 < size <= _LARGEST_TABLE or any(size % factor == 0 for factor in range(2, int(size**0.5) + 1)):
        at.field("table_size").error(f"{size} is no prime up to {_LARGEST_TABLE}")
    return LoadBalancer(BalancerKind.MAGLEV, table_size=size)


def _least_request(config: Any, at: Place) -> LoadBalancer:
    at.only(config, {"choice_count", "active_request_bias", "slow_start_config", "locality_lb_config"})
    given = optional_uint(config, "choice_count")
    choices = 2 if given is None else given
    if choices < 2:
        at.field("choice_count").error("must be at least 2")
    bias = config.active_request_bias.default_value if config.HasField("active_request_bias") else 1.0
    return LoadBalancer(
        BalancerKind.LEAST_REQUEST,
        slow_start=_slow_start(config, at),
        choice_count=min(choices, _MOST_GRPC_CHOICES) if at.is_grpc else choices,
        active_request_bias=bias,
    )


def _client_side(config: Any, at: Place) -> LoadBalancer:
    known = {"blackout_period", "weight_expiration_period", "weight_update_period", "error_utilization_penalty"}
    asked = {"enable_oob_load_report", "oob_reporting_period"}
    at.only(config, {*known, *asked, "metric_names_for_computing_utilization", "slow_start_config"})
    update = _seconds(config, "weight_update_period", 1.0, at)
    penalty = config.error_utilization_penalty.value if config.HasField("error_utilization_penalty") else 1.0
    if penalty < 0:
        at.field("error_utilization_penalty").error("must not be negative")
    return LoadBalancer(
        BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN,
        slow_start=_slow_start(config, at),
        load_reports=LoadReports(
            _seconds(config, "blackout_period", 10.0, at),
            _seconds(config, "weight_expiration_period", 180.0, at),
            max(0.1, update),
            penalty,
            tuple(config.metric_names_for_computing_utilization),
            _seconds(config, "oob_reporting_period", 10.0, at) if config.enable_oob_load_report.value else None,
        ),
    )


def _seconds(config: Any, name: str, default: float, at: Place) -> float:
    given = optional_duration(config, name, at)
    return default if given is None else given


def _slow_start(config: Any, at: Place) -> SlowStart | None:
    if not config.HasField("slow_start_config"):
        return None
    given, place = config.slow_start_config, at.field("slow_start_config")
    least = given.min_weight_percent.value if given.HasField("min_weight_percent") else 10.0
    aggression = given.aggression.default_value if given.HasField("aggression") else 1.0
    return SlowStart(duration(given.slow_start_window, place.field("slow_start_window")), least / 100, aggression)


def _with_common(found: LoadBalancer, common: Any, at: Place) -> LoadBalancer:
    known = {"healthy_panic_threshold", "locality_weighted_lb_config", "zone_aware_lb_config"}
    at.only(common, {*known, "update_merge_window", "consistent_hashing_lb_config"})
    panic = common.healthy_panic_threshold.value if common.HasField("healthy_panic_threshold") else 50.0
    kind = common.WhichOneof("locality_config_specifier")
    zone = _zone_aware(common.zone_aware_lb_config, at) if kind == "zone_aware_lb_config" else None
    bounded, place = common.consistent_hashing_lb_config, at.field("consistent_hashing_lb_config")
    place.only(bounded, {"hash_balance_factor"})
    return replace(
        found,
        panic_ratio=0.0 if at.is_grpc else panic / 100,
        locality_weighted=found.locality_weighted or kind == "locality_weighted_lb_config" or at.is_grpc,
        zone_aware=zone,
        hash_balance_factor=optional_uint(bounded, "hash_balance_factor") or 0,
        fail_on_panic=zone is not None and common.zone_aware_lb_config.fail_traffic_on_panic,
    )


def _zone_aware(config: Any, at: Place) -> ZoneAware:
    at.field("zone_aware_lb_config").only(config, {"min_cluster_size", "fail_traffic_on_panic"})
    size = optional_uint(config, "min_cluster_size")
    return ZoneAware(6 if size is None else size)
