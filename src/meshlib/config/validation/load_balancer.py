"""Validation of how endpoints are picked: algorithms, hash keys, locality."""

from __future__ import annotations

from meshlib.config.resources import destination_rule as api
from meshlib.config.validation import primitives as check
from meshlib.config.validation.connection_pool import optional_duration
from meshlib.config.validation.report import Report

__all__ = ["load_balancer", "locality", "zone_aware"]

_MAGLEV_LIMIT = 5_000_011


def load_balancer(report: Report, settings: api.LoadBalancerSettings, path: str, *, ejects: bool) -> None:
    """One algorithm, one way to prefer localities; ``ejects``: whether an outlier detection stands beside it."""
    if settings.locality_lb_setting is not None and settings.zone_aware_lb_setting is not None:
        report.error(path, "localityLbSetting and zoneAwareLbSetting exclude each other")
    if settings.consistent_hash is not None:
        _consistent_hash(report, settings.consistent_hash, f"{path}.consistentHash")
    if settings.warmup is not None:
        _warmup(report, settings.warmup, f"{path}.warmup")
    locality(report, settings.locality_lb_setting, f"{path}.localityLbSetting", ejects=ejects)
    zone_aware(report, settings.zone_aware_lb_setting, f"{path}.zoneAwareLbSetting", ejects=ejects)


def _warmup(report: Report, warmup: api.WarmupConfiguration, path: str) -> None:
    if warmup.duration is None:
        report.error(f"{path}.duration", "duration is required")
    optional_duration(report, warmup.duration, f"{path}.duration")
    if warmup.aggression is not None and warmup.aggression <= 0:
        report.error(f"{path}.aggression", f"{warmup.aggression:g} is not above 0")


def _consistent_hash(report: Report, settings: api.ConsistentHashLB, path: str) -> None:
    if settings.http_cookie is not None:
        _cookie(report, settings.http_cookie, f"{path}.httpCookie")
    if settings.minimum_ring_size:
        report.warn(f"{path}.minimumRingSize", "minimumRingSize is deprecated, use ringHash")
        if settings.ring_hash is not None or settings.maglev is not None:
            report.error(f"{path}.minimumRingSize", "minimumRingSize does not go with ringHash or maglev")
    if settings.maglev is not None and not _is_table_size(settings.maglev.table_size):
        size = settings.maglev.table_size
        report.error(f"{path}.maglev.tableSize", f"{size} is not a prime number below {_MAGLEV_LIMIT}")


def _cookie(report: Report, cookie: api.HTTPCookie, path: str) -> None:
    if not cookie.name:
        report.error(f"{path}.name", "name is required")
    names = [attribute.name for attribute in cookie.attributes]
    for number, name in enumerate(names):
        if not name or name in names[:number]:
            problem = "stands twice" if name else "has no name"
            report.error(f"{path}.attributes[{number}].name", f"the attribute {name!r} {problem}")


def _is_table_size(size: int) -> bool:
    """Envoy takes 1 for prime."""
    return 1 <= size < _MAGLEV_LIMIT and all(size % divisor for divisor in range(2, int(size**0.5) + 1))


_REGION_LABELS = frozenset(
    {"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"}
)


def locality(report: Report, settings: api.LocalityLoadBalancerSetting | None, path: str, *, ejects: bool) -> None:
    """Weights or failover by locality, of a rule or of the mesh."""
    if settings is None:
        return
    if settings.distribute and settings.failover:
        report.error(path, "distribute and failover exclude each other")
    for number, entry in enumerate(settings.distribute):
        _distribute(report, entry, f"{path}.distribute[{number}]")
    report.refuse(f"{path}.distribute", check.localities([entry.from_ for entry in settings.distribute]))
    _failover(report, settings.failover, path)
    if settings.failover:
        _no_region_labels(report, settings.failover_priority, path)
    _needs_ejection(report, settings, path, ejects=ejects)


def zone_aware(report: Report, settings: api.ZoneAwareLoadBalancerSetting | None, path: str, *, ejects: bool) -> None:
    """Failover of zone-aware routing, of a rule or of the mesh."""
    if settings is None:
        return
    _failover(report, settings.failover, path)
    _no_region_labels(report, settings.failover_priority, path)
    _needs_ejection(report, settings, path, ejects=ejects)


def _needs_ejection(
    report: Report,
    settings: api.LocalityLoadBalancerSetting | api.ZoneAwareLoadBalancerSetting,
    path: str,
    *,
    ejects: bool,
) -> None:
    if (settings.failover or settings.failover_priority) and not ejects:
        report.warn(path, "without outlierDetection failover has no effect")


def _distribute(report: Report, entry: api.LocalityDistribute, path: str) -> None:
    if sum(entry.to.values()) != 100:
        report.error(f"{path}.to", f"the weights sum up to {sum(entry.to.values())}, not to 100")
    for name, weight in entry.to.items():
        if not 1 <= weight <= 100:
            report.error(f"{path}.to.{name}", f"weight {weight} is not within 1..100")
    report.refuse(f"{path}.to", check.localities(list(entry.to)))


def _failover(report: Report, entries: list[api.LocalityFailover], path: str) -> None:
    for number, failover in enumerate(entries):
        where = f"{path}.failover[{number}]"
        if failover.from_ == failover.to:
            report.error(where, "from and to are the same region")
        if any(mark in name for name in (failover.from_, failover.to) for mark in "/*"):
            report.error(where, "from and to are regions, without zones and wildcards")


def _no_region_labels(report: Report, names: list[str], path: str) -> None:
    for number, name in enumerate(names):
        if name in _REGION_LABELS:
            report.error(f"{path}.failoverPriority[{number}]", f"{name!r} says what failover says already")
