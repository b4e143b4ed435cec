"""Validation of DestinationRule. Source: Istio ``pkg/config/validation/validation.go``."""

from __future__ import annotations

from meshlib.config.resources import destination_rule as api
from meshlib.config.validation import primitives as check
from meshlib.config.validation.report import Report

__all__ = ["destination_rule"]

_MAGLEV_LIMIT = 5_000_011


def destination_rule(report: Report, spec: api.DestinationRuleSpec) -> None:
    """Everything about a DestinationRule that one object shows."""
    if problem := check.wildcard_host(spec.host):
        report.error("spec.host", problem)
    if spec.traffic_policy is not None:
        _policy(report, spec.traffic_policy, "spec.trafficPolicy")
    names: set[str] = set()
    for number, subset in enumerate(spec.subsets):
        _subset(report, subset, names, f"spec.subsets[{number}]")
    own = report.resource.metadata.namespace or ""
    selector = spec.workload_selector
    if selector is not None and any(name not in (".", own) for name in spec.export_to):
        report.error("spec.exportTo", "with a workloadSelector a rule is for its own namespace only")
    if problem := check.export_to(spec.export_to, own):
        report.error("spec.exportTo", problem)


def _subset(report: Report, subset: api.Subset, names: set[str], path: str) -> None:
    if problem := check.dns_label(subset.name):
        report.error(f"{path}.name", problem)
    if subset.name in names:
        report.error(f"{path}.name", f"subset {subset.name!r} stands twice")
    names.add(subset.name)
    for key, value in subset.labels.items():
        if problem := check.label_pair(key, value):
            report.error(f"{path}.labels.{key}", problem)
    if subset.traffic_policy is not None:
        _policy(report, subset.traffic_policy, f"{path}.trafficPolicy")


def _policy(report: Report, policy: api.TrafficPolicy, path: str) -> None:
    if not policy.model_fields_set:
        report.error(path, "the policy is empty")
    if policy.tunnel is not None and policy.proxy_protocol is not None:
        report.error(path, "tunnel and proxyProtocol exclude each other")
    _blocks(report, policy, path)
    for number, level in enumerate(policy.port_level_settings):
        where = f"{path}.portLevelSettings[{number}]"
        if level.port is None or not level.port.number:
            report.error(f"{where}.port", "port.number is required")
        elif problem := check.port(level.port.number):
            report.error(f"{where}.port.number", problem)
        if not any((level.load_balancer, level.connection_pool, level.outlier_detection, level.tls)):
            report.error(where, "a port needs at least one setting")
        _blocks(report, level, where)


def _blocks(report: Report, policy: api.TrafficPolicy | api.PortTrafficPolicy, path: str) -> None:
    if policy.load_balancer is not None:
        ejects = policy.outlier_detection is not None
        _load_balancer(report, policy.load_balancer, f"{path}.loadBalancer", ejects=ejects)
    if policy.connection_pool is not None:
        _connection_pool(report, policy.connection_pool, f"{path}.connectionPool")
    if policy.outlier_detection is not None:
        _outlier_detection(report, policy.outlier_detection, f"{path}.outlierDetection")
    if policy.tls is not None:
        _tls(report, policy.tls, f"{path}.tls")


def _load_balancer(report: Report, settings: api.LoadBalancerSettings, path: str, *, ejects: bool) -> None:
    if settings.simple is not None and settings.consistent_hash is not None:
        report.error(path, "simple and consistentHash exclude each other")
    if settings.locality_lb_setting is not None and settings.zone_aware_lb_setting is not None:
        report.error(path, "localityLbSetting and zoneAwareLbSetting exclude each other")
    if settings.consistent_hash is not None:
        _consistent_hash(report, settings.consistent_hash, f"{path}.consistentHash")
    warmup = settings.warmup
    if warmup is not None:
        if warmup.duration is None:
            report.error(f"{path}.warmup.duration", "duration is required")
        _duration(report, warmup.duration, f"{path}.warmup.duration")
        if warmup.minimum_percent is not None and not 0 <= warmup.minimum_percent <= 100:
            report.error(f"{path}.warmup.minimumPercent", f"{warmup.minimum_percent:g} is not within 0..100")
        if warmup.aggression is not None and warmup.aggression <= 0:
            report.error(f"{path}.warmup.aggression", f"{warmup.aggression:g} is not above 0")
    if settings.locality_lb_setting is not None:
        _locality(report, settings.locality_lb_setting, f"{path}.localityLbSetting", ejects=ejects)
    if settings.zone_aware_lb_setting is not None:
        _zone_aware(report, settings.zone_aware_lb_setting, f"{path}.zoneAwareLbSetting", ejects=ejects)


def _consistent_hash(report: Report, settings: api.ConsistentHashLB, path: str) -> None:
    keys = [settings.http_header_name, settings.http_cookie, settings.use_source_ip, settings.http_query_parameter_name]
    if sum(map(bool, keys)) > 1:
        report.error(path, "only one key may be named")
    if settings.http_cookie is not None and not settings.http_cookie.name:
        report.error(f"{path}.httpCookie.name", "name is required")
    names = [attribute.name for attribute in settings.http_cookie.attributes] if settings.http_cookie else []
    if "" in names or len(set(names)) != len(names):
        report.error(f"{path}.httpCookie.attributes", "each attribute needs a name, and one of its own")
    if settings.minimum_ring_size and (settings.ring_hash is not None or settings.maglev is not None):
        report.error(f"{path}.minimumRingSize", "minimumRingSize does not go with ringHash or maglev")
    if settings.minimum_ring_size:
        report.warn(f"{path}.minimumRingSize", "minimumRingSize is deprecated, use ringHash")
    if settings.maglev is not None and not _is_table_size(settings.maglev.table_size):
        size = settings.maglev.table_size
        report.error(f"{path}.maglev.tableSize", f"{size} is not a prime number below {_MAGLEV_LIMIT}")


def _is_table_size(size: int) -> bool:
    return 2 <= size < _MAGLEV_LIMIT and all(size % divisor for divisor in range(2, int(size**0.5) + 1))


_REGION_LABELS = frozenset(
    {"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"}
)


def _locality(report: Report, settings: api.LocalityLoadBalancerSetting, path: str, *, ejects: bool) -> None:
    if settings.distribute and (settings.failover or settings.failover_priority):
        report.error(path, "distribute and failover exclude each other")
    for number, entry in enumerate(settings.distribute):
        _distribute(report, entry, f"{path}.distribute[{number}]")
    froms = [entry.from_ for entry in settings.distribute]
    for number, pattern in enumerate(froms):
        _pattern(report, pattern, froms[:number], f"{path}.distribute[{number}].from")
    _failover(report, settings.failover, path)
    if settings.failover:
        _no_region_labels(report, settings.failover_priority, path)
    if (settings.failover or settings.failover_priority) and not ejects:
        report.warn(path, "without outlierDetection failover has no effect")


def _zone_aware(report: Report, settings: api.ZoneAwareLoadBalancerSetting, path: str, *, ejects: bool) -> None:
    _failover(report, settings.failover, path)
    _no_region_labels(report, settings.failover_priority, path)
    if (settings.failover or settings.failover_priority) and not ejects:
        report.warn(path, "without outlierDetection failover has no effect")


def _distribute(report: Report, entry: api.LocalityDistribute, path: str) -> None:
    if sum(entry.to.values()) != 100:
        report.error(f"{path}.to", f"the weights sum up to {sum(entry.to.values())}, not to 100")
    names = list(entry.to)
    for number, (name, weight) in enumerate(entry.to.items()):
        if not 1 <= weight <= 100:
            report.error(f"{path}.to.{name}", f"weight {weight} is not within 1..100")
        _pattern(report, name, names[:number], f"{path}.to.{name}")


def _pattern(report: Report, pattern: str, others: list[str], path: str) -> None:
    """A locality ``region/zone/subzone`` whose last part may be ``*``; two patterns must not cover the same."""
    parts = pattern.split("/")
    if not all(parts) or len(parts) > 3 or "*" in "".join(parts[:-1]) or ("*" in parts[-1] and parts[-1] != "*"):
        report.error(path, f"{pattern!r} is not a locality such as 'region/zone/*'")
    elif any(_overlap(parts, other.split("/")) for other in others):
        report.error(path, f"{pattern!r} and a pattern before it cover the same localities")


def _overlap(one: list[str], other: list[str]) -> bool:
    for mine, theirs in zip(one, other, strict=False):
        if "*" in (mine, theirs):
            return True
        if mine != theirs:
            return False
    return True


def _failover(report: Report, entries: list[api.LocalityFailover], path: str) -> None:
    for number, failover in enumerate(entries):
        where = f"{path}.failover[{number}]"
        if failover.from_ == failover.to:
            report.error(where, "from and to are the same region")
        if any(mark in name for name in (failover.from_, failover.to) for mark in "/*"):
            report.error(where, "from and to are regions, without zones and wildcards")


def _no_region_labels(report: Report, names: list[str], path: str) -> None:
    for number, name in enumerate(names):
        if name.partition("=")[0] in _REGION_LABELS:
            report.error(f"{path}.failoverPriority[{number}]", f"{name!r} says what failover says already")


def _duration(report: Report, seconds: float | None, path: str) -> None:
    problem = check.duration(seconds) if seconds is not None else None
    if problem:
        report.error(path, problem)


def _connection_pool(report: Report, pool: api.ConnectionPoolSettings, path: str) -> None:
    if pool.tcp is None and pool.http is None:
        report.error(path, "one of tcp and http is needed")
    if pool.tcp is not None:
        _tcp(report, pool.tcp, f"{path}.tcp")
    if pool.http is not None:
        _http(report, pool.http, f"{path}.http")


def _not_negative(report: Report, settings: object, fields: dict[str, str], path: str) -> None:
    for name, spelled in fields.items():
        value = getattr(settings, name)
        if value < 0:
            report.error(f"{path}.{spelled}", f"{value} is below 0")


def _tcp(report: Report, tcp: api.TCPSettings, path: str) -> None:
    _not_negative(report, tcp, {"max_connections": "maxConnections"}, path)
    _duration(report, tcp.connect_timeout, f"{path}.connectTimeout")
    _duration(report, tcp.max_connection_duration, f"{path}.maxConnectionDuration")
    _duration(report, tcp.idle_timeout or None, f"{path}.idleTimeout")
    if tcp.tcp_keepalive is not None:
        _duration(report, tcp.tcp_keepalive.time, f"{path}.tcpKeepalive.time")
        _duration(report, tcp.tcp_keepalive.interval, f"{path}.tcpKeepalive.interval")


def _http(report: Report, http: api.HTTPSettings, path: str) -> None:
    fields = {
        "http1_max_pending_requests": "http1MaxPendingRequests",
        "http2_max_requests": "http2MaxRequests",
        "max_requests_per_connection": "maxRequestsPerConnection",
        "max_retries": "maxRetries",
        "max_concurrent_streams": "maxConcurrentStreams",
    }
    _not_negative(report, http, fields, path)
    _duration(report, http.idle_timeout, f"{path}.idleTimeout")
    if http.use_client_protocol and http.h2_upgrade_policy is api.H2UpgradePolicy.UPGRADE:
        report.error(f"{path}.h2UpgradePolicy", "UPGRADE does not go with useClientProtocol")
    keepalive = http.http2_keep_alive
    if keepalive is not None:
        if keepalive.interval is None or keepalive.timeout is None:
            report.error(f"{path}.http2KeepAlive", "interval and timeout are both needed")
        _duration(report, keepalive.interval, f"{path}.http2KeepAlive.interval")
        _duration(report, keepalive.timeout, f"{path}.http2KeepAlive.timeout")


def _outlier_detection(report: Report, detection: api.OutlierDetection, path: str) -> None:
    _duration(report, detection.interval, f"{path}.interval")
    _duration(report, detection.base_ejection_time, f"{path}.baseEjectionTime")
    if detection.consecutive_errors:
        report.warn(f"{path}.consecutiveErrors", "consecutiveErrors is ignored, use consecutive5xxErrors")
    if not detection.split_external_local_origin_errors and detection.consecutive_local_origin_failures:
        report.error(
            f"{path}.consecutiveLocalOriginFailures",
            "consecutiveLocalOriginFailures needs splitExternalLocalOriginErrors",
        )
    for name, spelled in (("max_ejection_percent", "maxEjectionPercent"), ("min_health_percent", "minHealthPercent")):
        value = getattr(detection, name)
        if not 0 <= value <= 100:
            report.error(f"{path}.{spelled}", f"{value} is not within 0..100")
    for number, code in enumerate(detection.outlier_detection_http_error_codes):
        if not 100 <= code <= 599:
            report.error(f"{path}.outlierDetectionHttpErrorCodes[{number}]", f"{code} is not within 100..599")


def _tls(report: Report, tls: api.ClientTLSSettings, path: str) -> None:
    files = (tls.client_certificate, tls.private_key, tls.ca_certificates)
    if tls.credential_name and any(files):
        report.error(f"{path}.credentialName", "credentialName does not go with certificate files")
    if tls.mode is api.ClientTLSMode.MUTUAL and not tls.credential_name:
        for name, value in (("clientCertificate", tls.client_certificate), ("privateKey", tls.private_key)):
            if not value:
                report.error(f"{path}.{name}", f"{name} is required in mode MUTUAL")
    if tls.ca_crl and tls.credential_name:
        report.error(f"{path}.caCrl", "caCrl does not go with credentialName")
    unverified = tls.insecure_skip_verify and tls.mode in (api.ClientTLSMode.SIMPLE, api.ClientTLSMode.MUTUAL)
    if unverified and (tls.ca_certificates or tls.subject_alt_names):
        report.error(f"{path}.insecureSkipVerify", "nothing is verified, so CA and names mean nothing")
