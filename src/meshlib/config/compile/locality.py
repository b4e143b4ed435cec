"""Preference by locality: which priority and weight each group of endpoints gets, as one client sees it.

Source: Istio ``core/loadbalancer/loadbalancer.go``: the first setting that is present wins as a whole; ``distribute``
gives weights, everything else gives priorities, and those only where ejection is configured or forced.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from meshlib.config.compile.topology import CLUSTER, HOSTNAME, NETWORK, TOPOLOGY
from meshlib.config.resources.destination_rule import (
    LocalityFailover,
    LocalityLoadBalancerSetting,
    ZoneAwareLoadBalancerSetting,
)
from meshlib.model.endpoint import Assignment, Endpoint, Health, Locality, LocalityEndpoints
from meshlib.model.snapshot import Client

__all__ = ["LocalitySetting", "assign", "effective_setting", "matches_pattern", "traffic_distribution", "with_topology"]

_ZONE = (NETWORK, *TOPOLOGY[:2])
_DISTRIBUTIONS = {
    "PreferSameZone": _ZONE,
    "PreferSameNode": (NETWORK, *TOPOLOGY, HOSTNAME),
}
_SPELLINGS = {"preferclose": "PreferSameZone", "prefersamezone": "PreferSameZone", "prefersamenode": "PreferSameNode"}


@dataclass(frozen=True, slots=True)
class LocalitySetting:
    """What is in force; nothing set means that locality has no influence.

    Attributes:
        locality: Distribution or failover.
        zone_aware: Failover between regions; one that is switched off stands here too, and stops the search.
        forced: Priorities apply even where nothing is ever ejected.
    """

    locality: LocalityLoadBalancerSetting | None = None
    zone_aware: ZoneAwareLoadBalancerSetting | None = None
    forced: bool = False

    @property
    def weighted(self) -> bool:
        """Whether a locality is drawn by weight before an endpoint is."""
        setting = self.locality
        return setting is not None and bool(setting.distribute or setting.failover or setting.failover_priority)


def effective_setting(
    rule_locality: LocalityLoadBalancerSetting | None = None,
    rule_zone_aware: ZoneAwareLoadBalancerSetting | None = None,
    distribution: str | None = None,
    mesh_zone_aware: ZoneAwareLoadBalancerSetting | None = None,
    mesh_locality: LocalityLoadBalancerSetting | None = None,
) -> LocalitySetting:
    """The DestinationRule's, else the Service's ``trafficDistribution``, else the mesh's; zone-aware goes first."""
    if rule_zone_aware is not None or rule_locality is not None:
        return _of_level(rule_zone_aware, rule_locality)
    labels = _DISTRIBUTIONS.get(traffic_distribution(distribution) or "")
    if labels is not None:
        wanted = LocalityLoadBalancerSetting(enabled=True, failover_priority=list(labels))
        return LocalitySetting(wanted, forced=True)
    return _of_level(mesh_zone_aware, mesh_locality)


def traffic_distribution(*wishes: str | None) -> str | None:
    """``PreferSameZone`` or ``PreferSameNode``, by the first of ``wishes`` that names one in any case; None for any.

    The wishes are those of the Service's field, its annotation, and its Namespace's annotation, in that order.
    """
    return next((_SPELLINGS[wish.lower()] for wish in wishes if wish and wish.lower() in _SPELLINGS), None)


def _of_level(
    zone_aware: ZoneAwareLoadBalancerSetting | None, locality: LocalityLoadBalancerSetting | None
) -> LocalitySetting:
    if zone_aware is not None:
        return LocalitySetting(zone_aware=zone_aware, forced=zone_aware.enabled is not False)
    if locality is None or locality.enabled is False:
        return LocalitySetting()
    return LocalitySetting(locality)


def with_topology(client: Client) -> Client:
    """The client with the labels that the place it runs at stands for, as Istio adds them; its own labels win."""
    places = (*client.locality, client.network, client.cluster, client.node)
    names = (*TOPOLOGY, NETWORK, CLUSTER, HOSTNAME)
    known = {name: value for name, value in zip(names, places, strict=True) if value}
    return replace(client, labels={**known, **client.labels})


def assign(
    client: Client,
    endpoints: Sequence[Endpoint],
    setting: LocalitySetting,
    *,
    ejects: bool,
    peers: Callable[[], Sequence[Endpoint]] = tuple,
) -> Assignment:
    """Groups of endpoints with priority and weight.

    Args:
        client: Where the caller runs, and its labels.
        endpoints: All of them.
        setting: What is in force.
        ejects: Whether the cluster has outlier detection, without which failover would never be noticed.
        peers: The workloads of the caller's kind, for zone-aware routing.
    """
    if setting.zone_aware is not None and setting.zone_aware.enabled is not False:
        groups = _zone_aware(client, endpoints, setting.zone_aware)
        return _with_callers(groups, client.locality, peers())
    locality = setting.locality
    if locality is None:
        return _grouped(endpoints, lambda endpoint: 0)
    if locality.distribute:
        return _distributed(client, endpoints, locality)
    if not (ejects or setting.forced):
        return _grouped(endpoints, lambda endpoint: 0)
    return _failed_over(client, endpoints, locality)


def _grouped(endpoints: Sequence[Endpoint], priority: Callable[[Endpoint], int]) -> Assignment:
    """By priority and locality; priorities without gaps; a group weighs as much as its endpoints."""
    groups: dict[tuple[int, Locality], list[Endpoint]] = {}
    for endpoint in endpoints:
        groups.setdefault((priority(endpoint), endpoint.locality), []).append(endpoint)
    compact = {raw: number for number, raw in enumerate(sorted({raw for raw, _ in groups}))}
    return tuple(
        LocalityEndpoints(tuple(members), where, compact[raw], sum(endpoint.weight for endpoint in members))
        for (raw, where), members in groups.items()
    )


def _failed_over(client: Client, endpoints: Sequence[Endpoint], setting: LocalityLoadBalancerSetting) -> Assignment:
    by_label = _by_labels(client, setting.failover_priority)
    by_region = setting.failover or not setting.failover_priority

    def priority(endpoint: Endpoint) -> int:
        value = by_label(endpoint) if by_label is not None else 0
        if by_region:
            value = value * 5 + _distance(client.locality, endpoint.locality, setting.failover)
        return value

    return _grouped(endpoints, priority)


def _distance(own: Locality, other: Locality, failover: Sequence[LocalityFailover]) -> int:
    """0 same sub-zone, 1 same zone, 2 same region, 3 the region to fail over to, 4 the rest."""
    if own.region == other.region:
        if own.zone == other.zone:
            return 0 if own.sub_zone == other.sub_zone else 1
        return 2
    target = next((entry.to for entry in failover if entry.from_ == own.region), None)
    return 3 if target is None or target == other.region else 4


def _by_labels(client: Client, names: Sequence[str]) -> Callable[[Endpoint], int] | None:
    """How far down the list an endpoint first differs from the client; a differing network goes on counting."""
    if not names or not client.labels:
        return None
    wanted = [(name, value if given else client.labels.get(name, "")) for name, given, value in map(_split, names)]

    def priority(endpoint: Endpoint) -> int:
        lowest = 0
        for number, (name, value) in enumerate(wanted):
            if endpoint.labels.get(name, "") == value:
                continue
            if number == 0 and names[0] == NETWORK:
                lowest = len(wanted)
                continue
            return lowest + len(wanted) - number
        return lowest

    return priority


def _split(name: str) -> tuple[str, bool, str]:
    key, equals, value = name.partition("=")
    return key, bool(equals), value


def _zone_aware(client: Client, endpoints: Sequence[Endpoint], setting: ZoneAwareLoadBalancerSetting) -> Assignment:
    by_label = _by_labels(client, setting.failover_priority)
    target = next((entry.to for entry in setting.failover if entry.from_ == client.locality.region), None)

    def priority(endpoint: Endpoint) -> int:
        region = endpoint.locality.region
        distance = 0 if region == client.locality.region else 1 if region == target else 2
        return (by_label(endpoint) if by_label is not None else 0) * 3 + distance

    return _grouped(endpoints, priority)


def _with_callers(groups: Assignment, own: Locality, peers: Sequence[Endpoint]) -> Assignment:
    """Priority 0 with how many of the caller's kind run in each locality, where that is known for every one.

    Envoy routes by zone only where the callers' cluster spans the same localities as the one that is called.
    """
    callers = Counter(peer.locality for peer in peers if peer.health is Health.HEALTHY)
    first = {group.locality for group in groups if group.priority == 0}
    if first != {peer.locality for peer in peers}:
        return groups
    return tuple(
        group if group.priority else replace(group, near=group.locality == own, callers=callers[group.locality])
        for group in groups
    )


def _distributed(client: Client, endpoints: Sequence[Endpoint], setting: LocalityLoadBalancerSetting) -> Assignment:
    groups = _grouped(endpoints, lambda endpoint: 0)
    entry = next((entry for entry in setting.distribute if matches_pattern(entry.from_, client.locality)), None)
    if entry is None:
        return groups
    claimed: dict[Hashable, int] = {}
    for pattern, share in entry.to.items():
        mine = [g for g in groups if matches_pattern(pattern, g.locality) and g.locality not in claimed]
        total = sum(group.weight or 0 for group in mine)
        claimed.update({group.locality: math.ceil((group.weight or 0) * share / total) for group in mine})
    return _weighted(groups, claimed)


def _weighted(groups: Assignment, weights: Mapping[Hashable, int]) -> Assignment:
    return tuple(
        LocalityEndpoints(group.endpoints, group.locality, 0, weights[group.locality])
        for group in groups
        if group.locality in weights
    )


def matches_pattern(pattern: str, locality: Locality) -> bool:
    """Whether ``region/zone/*`` and the like hold for a locality; missing parts hold for anything."""
    return all(part in ("*", own) for part, own in zip(pattern.split("/"), locality, strict=False))
