"""``loadBalancer`` of an effective policy, and the keys that a rule hashes by.

Source: Istio ``core/cluster_traffic_policy.go`` (``applyLoadBalancer``, ``setWarmup``), ``loadbalancer.go``.
"""

from __future__ import annotations

from dataclasses import replace

from meshlib.config.compile.destination_rules import Rule
from meshlib.config.compile.locality import LocalitySetting
from meshlib.config.compile.traffic_policy import EffectivePolicy
from meshlib.config.resources import destination_rule as api
from meshlib.model.policy import BalancerKind, HashKey, LoadBalancer, SlowStart, ZoneAware

__all__ = ["hash_key", "load_balancer", "route_hash_keys"]

_SIMPLE = {
    api.SimpleLB.RANDOM: BalancerKind.RANDOM,
    api.SimpleLB.ROUND_ROBIN: BalancerKind.ROUND_ROBIN,
    api.SimpleLB.PASSTHROUGH: BalancerKind.PASSTHROUGH,
}
_WARMED = (BalancerKind.ROUND_ROBIN, BalancerKind.LEAST_REQUEST)


def load_balancer(policy: EffectivePolicy, setting: LocalitySetting, address: str = "") -> LoadBalancer:
    """How an endpoint is picked under ``policy``, with the locality ``setting`` in force.

    A locality is drawn by weight only where weights are given, or where failover is given and can happen. ``address``
    is the client's.
    """
    detection = policy.outlier_detection
    distributes = setting.locality is not None and bool(setting.locality.distribute)
    return replace(
        _algorithm(policy.load_balancer or api.LoadBalancerSettings(), address),
        panic_ratio=detection.min_health_percent / 100 if detection is not None else 0.0,
        locality_weighted=setting.weighted and (distributes or detection is not None),
        zone_aware=_zone_aware(setting.zone_aware),
    )


def _algorithm(settings: api.LoadBalancerSettings, address: str) -> LoadBalancer:
    if settings.consistent_hash is not None:
        return _consistent(settings.consistent_hash, address)
    kind = _SIMPLE.get(settings.simple, BalancerKind.LEAST_REQUEST) if settings.simple else BalancerKind.LEAST_REQUEST
    return LoadBalancer(kind, slow_start=_slow_start(settings) if kind in _WARMED else None)


def _consistent(settings: api.ConsistentHashLB, address: str) -> LoadBalancer:
    """Ring hash unless Maglev is asked for; the old ``minimumRingSize`` counts only where neither is."""
    key = hash_key(settings, address)
    keys = (key,) if key is not None else ()
    if settings.maglev is not None:
        return LoadBalancer(BalancerKind.MAGLEV, keys, table_size=settings.maglev.table_size or 65537)
    ring = settings.ring_hash.minimum_ring_size if settings.ring_hash is not None else settings.minimum_ring_size
    return LoadBalancer(BalancerKind.RING_HASH, keys, min_ring_size=ring or 1024)


def hash_key(settings: api.ConsistentHashLB, address: str = "") -> HashKey | None:
    """Where the key comes from; None when no source is named, which makes the hash random.

    Args:
        settings: What to hash by.
        address: IP address of the client, ``""`` when unknown.
    """
    cookie = settings.http_cookie
    if settings.http_header_name:
        return HashKey("header", settings.http_header_name.lower())
    if cookie is not None:
        attributes = tuple((a.name, a.value) for a in cookie.attributes)
        return HashKey("cookie", cookie.name, cookie.ttl, cookie.path, attributes)
    if settings.use_source_ip:
        return HashKey("source_ip", address)
    if settings.http_query_parameter_name:
        return HashKey("query", settings.http_query_parameter_name)
    return None


def route_hash_keys(rule: Rule | None, subset: str, port: int, address: str = "") -> tuple[HashKey, ...]:
    """What a route to ``subset`` hashes by: the subset's at the port, the subset's, the host's at the port, the host's.

    Args:
        rule: The DestinationRule of the destination.
        subset: Subset name, ``""`` for the whole service.
        port: Port that the rule names; 0 leaves settings of ports out.
        address: IP address of the client, ``""`` when unknown.

    Source: Istio ``route.go`` (``HashForHTTPDestination``).
    """
    policies: list[api.TrafficPolicy | None] = []
    if rule is not None:
        policies.append(rule.subsets[subset][0].traffic_policy if subset in rule.subsets else None)
        policies.append(rule.policy[0] if rule.policy is not None else None)
    for policy in policies:
        if policy is not None:
            levels = [each for each in policy.port_level_settings if each.port is not None and each.port.number == port]
            for balancer in (*(level.load_balancer for level in levels[:1]), policy.load_balancer):
                given = balancer.consistent_hash if balancer is not None else None
                if given is not None:
                    key = hash_key(given, address)
                    return () if key is None else (key,)
    return ()


def _slow_start(settings: api.LoadBalancerSettings) -> SlowStart | None:
    warmup = settings.warmup
    if warmup is not None and warmup.duration is not None:
        minimum = 10.0 if warmup.minimum_percent is None else warmup.minimum_percent
        return SlowStart(warmup.duration, minimum / 100, warmup.aggression or 1.0)
    if settings.warmup_duration_secs is not None:
        return SlowStart(settings.warmup_duration_secs)
    return None


def _zone_aware(setting: api.ZoneAwareLoadBalancerSetting | None) -> ZoneAware | None:
    if setting is None or setting.enabled is False:
        return None
    return ZoneAware(6 if setting.min_cluster_size is None else setting.min_cluster_size)
