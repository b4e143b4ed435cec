"""Validation of DestinationRule. Source: Istio ``pkg/config/validation/validation.go``."""

from __future__ import annotations

from meshlib.config.resources import destination_rule as api
from meshlib.config.validation import primitives as check
from meshlib.config.validation.client_tls import client_tls
from meshlib.config.validation.connection_pool import connection_pool, outlier_detection
from meshlib.config.validation.load_balancer import load_balancer
from meshlib.config.validation.report import Report
from meshlib.config.validation.selectors import labels, workload_selector
from meshlib.model.hosts import is_ip

__all__ = ["destination_rule"]


def destination_rule(report: Report, spec: api.DestinationRuleSpec) -> None:
    """Everything about a DestinationRule that one object shows."""
    report.refuse("spec.host", check.wildcard_host(spec.host))
    if spec.traffic_policy is not None:
        _policy(report, spec.traffic_policy, "spec.trafficPolicy")
    names: set[str] = set()
    for number, subset in enumerate(spec.subsets):
        _subset(report, subset, names, f"spec.subsets[{number}]")
    own = report.resource.metadata.namespace or ""
    report.refuse("spec.exportTo", check.export_to(spec.export_to, own, selected=spec.workload_selector is not None))
    workload_selector(report, spec.workload_selector, "spec.workloadSelector")


def _subset(report: Report, subset: api.Subset, names: set[str], path: str) -> None:
    report.refuse(f"{path}.name", check.dns_label(subset.name))
    if subset.name in names:
        report.error(f"{path}.name", f"subset {subset.name!r} stands twice")
    names.add(subset.name)
    labels(report, subset.labels, f"{path}.labels")
    if subset.traffic_policy is not None:
        _policy(report, subset.traffic_policy, f"{path}.trafficPolicy")


def _policy(report: Report, policy: api.TrafficPolicy, path: str) -> None:
    known = policy.model_fields_set & type(policy).model_fields.keys()
    if all(getattr(policy, name) is None for name in known):
        report.error(path, "the policy is empty")
    if policy.tunnel is not None and policy.proxy_protocol is not None:
        report.error(path, "tunnel and proxyProtocol exclude each other")
    if policy.tunnel is not None:
        _tunnel(report, policy.tunnel, f"{path}.tunnel")
    _blocks(report, policy, path)
    for number, level in enumerate(policy.port_level_settings):
        _port_level(report, level, f"{path}.portLevelSettings[{number}]")


def _tunnel(report: Report, tunnel: api.TunnelSettings, path: str) -> None:
    if tunnel.protocol not in ("", "CONNECT", "POST"):
        report.error(f"{path}.protocol", f"{tunnel.protocol!r} is neither CONNECT nor POST")
    if not is_ip(tunnel.target_host):
        report.refuse(f"{path}.targetHost", check.fqdn(tunnel.target_host))
    report.refuse(f"{path}.targetPort", check.port(tunnel.target_port))


def _port_level(report: Report, level: api.PortTrafficPolicy, path: str) -> None:
    if level.port is None:
        report.error(f"{path}.port", "port.number is required")
    else:
        report.refuse(f"{path}.port.number", check.port(level.port.number))
    blocks = (level.load_balancer, level.connection_pool, level.outlier_detection, level.tls)
    if all(block is None for block in blocks):
        report.error(path, "a port needs at least one setting")
    _blocks(report, level, path)


def _blocks(report: Report, policy: api.TrafficPolicy | api.PortTrafficPolicy, path: str) -> None:
    if policy.load_balancer is not None:
        ejects = policy.outlier_detection is not None
        load_balancer(report, policy.load_balancer, f"{path}.loadBalancer", ejects=ejects)
    connection_pool(report, policy.connection_pool, f"{path}.connectionPool")
    if policy.outlier_detection is not None:
        outlier_detection(report, policy.outlier_detection, f"{path}.outlierDetection")
    client_tls(report, policy.tls, f"{path}.tls")
