"""The effective policy of a host, subset and port, block by block, with the object and field of each value.

Source: Istio ``util.go`` / ``cluster_builder.go``: a port-level entry replaces everything for its port; a
subset's block replaces the host's whole block, never a part of it; what is left out falls back to the mesh's defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from meshlib.config.compile.destination_rules import Rule
from meshlib.config.resources.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    LoadBalancerSettings,
    OutlierDetection,
    PortTrafficPolicy,
    ProxyProtocol,
    RetryBudget,
    TrafficPolicy,
    TunnelSettings,
)
from meshlib.config.resources.mesh_config import DefaultTrafficPolicy

__all__ = ["BLOCKS", "EffectivePolicy", "effective_policy"]

_EXTRAS = (
    ("tunnel", "tunnel"),
    ("proxy_protocol", "proxyProtocol"),
    ("retry_budget", "retryBudget"),
)
"""What has no place at port level, and survives a subset's port-level entry."""
BLOCKS = (
    ("load_balancer", "loadBalancer"),
    ("connection_pool", "connectionPool"),
    ("outlier_detection", "outlierDetection"),
    ("tls", "tls"),
    *_EXTRAS,
)
"""The blocks of a policy: here, and in Istio's spelling."""


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """What is in force; a block of None has Istio's default.

    Attributes:
        origins: Block, in Istio's spelling -> object and field that it came from.
    """

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None
    origins: tuple[tuple[str, str], ...] = ()


def effective_policy(
    rule: Rule | None, subset: str, port: int, mesh_default: DefaultTrafficPolicy | None = None
) -> EffectivePolicy:
    """The policy towards ``subset`` (``""`` for the whole host) on service port ``port``."""
    base = _with_defaults(_of(rule.policy, port) if rule is not None else EffectivePolicy(), mesh_default)
    if rule is None or not subset or subset not in rule.subsets:
        return base
    definition, where = rule.subsets[subset]
    if definition.traffic_policy is None:
        return base
    return _over(base, definition.traffic_policy, f"{where}.trafficPolicy", port)


def _of(policy: tuple[TrafficPolicy, str] | None, port: int) -> EffectivePolicy:
    if policy is None:
        return EffectivePolicy()
    value, where = policy
    level = _port_level(value, port)
    if level is None:
        return _take(EffectivePolicy(), value, where)
    number, entry = level
    return _take(EffectivePolicy(), entry, f"{where}.portLevelSettings[{number}]")


def _over(base: EffectivePolicy, policy: TrafficPolicy, where: str, port: int) -> EffectivePolicy:
    level = _port_level(policy, port)
    if level is None:
        return _take(base, policy, where)
    number, entry = level
    extras = {name: getattr(base, name) for name, _ in _EXTRAS}
    kept = tuple(pair for pair in base.origins if any(pair[0] == spelled for _, spelled in _EXTRAS))
    return _take(EffectivePolicy(**extras, origins=kept), entry, f"{where}.portLevelSettings[{number}]")


def _port_level(policy: TrafficPolicy, port: int) -> tuple[int, PortTrafficPolicy] | None:
    for number, entry in enumerate(policy.port_level_settings):
        if entry.port is not None and entry.port.number == port:
            return number, entry
    return None


def _take(base: EffectivePolicy, policy: TrafficPolicy | PortTrafficPolicy, where: str) -> EffectivePolicy:
    """``base`` with the blocks that ``policy`` sets."""
    origins = dict(base.origins)
    changes: dict[str, Any] = {}
    for name, spelled in BLOCKS:
        block = getattr(policy, name, None)
        if block is not None:
            changes[name] = block
            origins[spelled] = f"{where}.{spelled}"
    return replace(base, **changes, origins=tuple(origins.items()))


def _with_defaults(base: EffectivePolicy, default: DefaultTrafficPolicy | None) -> EffectivePolicy:
    if default is None:
        return base
    origins = list(base.origins)
    pool, detection = base.connection_pool, base.outlier_detection
    if pool is None and default.connection_pool is not None:
        pool = default.connection_pool
        origins.append(("connectionPool", "MeshConfig.defaultTrafficPolicy.connectionPool"))
    if detection is None and default.outlier_detection is not None:
        detection = default.outlier_detection
        origins.append(("outlierDetection", "MeshConfig.defaultTrafficPolicy.outlierDetection"))
    return replace(base, connection_pool=pool, outlier_detection=detection, origins=tuple(origins))
