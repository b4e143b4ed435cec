"""Validation of VirtualService.

Source: Istio ``pkg/config/validation/virtualservice.go`` and the ``http`` rules of ``validation.go``.
"""

from __future__ import annotations

from meshlib.config.resources import virtual_service as api
from meshlib.config.validation import primitives as check
from meshlib.config.validation.http_rule import destination, http_rule, weights
from meshlib.config.validation.report import Report
from meshlib.config.validation.selectors import labels
from meshlib.config.validation.unreachable import unreachable
from meshlib.model.hosts import is_ip, matches, subset_of

__all__ = ["virtual_service"]


def virtual_service(report: Report, spec: api.VirtualServiceSpec) -> None:
    """Everything about a VirtualService that one object shows."""
    delegate = not spec.hosts
    if delegate:
        _delegate(report, spec)
    in_mesh = not spec.gateways or "mesh" in spec.gateways
    _hosts(report, spec, in_mesh)
    _gateways(report, spec.gateways, "spec.gateways")
    if not (spec.http or spec.tcp or spec.tls):
        report.error("spec", "one of http, tls and tcp is needed")
    for number, rule in enumerate(spec.http):
        http_rule(report, rule, f"spec.http[{number}]", delegate=delegate, at_gateways=not in_mesh)
        for index, match in enumerate(rule.match):
            _gateways(report, match.gateways, f"spec.http[{number}].match[{index}].gateways")
    _tls(report, spec)
    _tcp(report, spec)
    report.refuse("spec.exportTo", check.export_to(spec.export_to, report.resource.metadata.namespace or ""))
    unreachable(report, spec)


def _delegate(report: Report, spec: api.VirtualServiceSpec) -> None:
    for name in ("gateways", "tls", "tcp"):
        if getattr(spec, name):
            report.error(f"spec.{name}", f"a delegate (a VirtualService without hosts) has no {name}")
    if not spec.http:
        report.error("spec.http", "a delegate (a VirtualService without hosts) needs http rules")


def _hosts(report: Report, spec: api.VirtualServiceSpec, in_mesh: bool) -> None:
    passed_through = not in_mesh and any(match.sni_hosts for rule in spec.tls for match in rule.match)
    for number, host in enumerate(spec.hosts):
        path = f"spec.hosts[{number}]"
        problem = None if is_ip(host) else check.sni_host(host, generated=passed_through)
        if problem:
            report.error(path, problem)
        elif host == "*" and in_mesh:
            report.error(path, "host '*' is not allowed for the mesh: name gateways, or a domain as in '*.example.com'")
        elif any(matches(host, other) for other in spec.hosts[:number]):
            report.error(path, f"{host!r} and a host before it match the same names")


def _gateways(report: Report, gateways: list[str], path: str) -> None:
    for number, name in enumerate(gateways):
        where = f"{path}[{number}]"
        namespace, slash, rest = name.partition("/")
        if slash and (not namespace or not rest or "/" in rest):
            report.error(where, f"{name!r} is not a gateway name such as 'namespace/name'")
            continue
        parts = [part for part in ((rest if slash else name), namespace if slash else "") if part and part != "."]
        part = check.dns_label if slash else check.fqdn
        problem = next(filter(None, map(part, parts)), None) if parts else "the gateway name is empty"
        if problem:
            report.error(where, problem)
        elif not slash and "." in name:
            report.warn(where, f"{name!r} uses the old form of gateway names, write 'namespace/name'")


def _destinations(report: Report, routes: list[api.RouteDestination], path: str) -> None:
    if not routes:
        report.error(path, "route is required")
    for number, entry in enumerate(routes):
        destination(report, entry.destination, f"{path}[{number}].destination")
    weights(report, [entry.weight for entry in routes], path)


def _tls(report: Report, spec: api.VirtualServiceSpec) -> None:
    for number, rule in enumerate(spec.tls):
        path = f"spec.tls[{number}]"
        if not rule.match:
            report.error(path, "match is required")
        for index, match in enumerate(rule.match):
            where = f"{path}.match[{index}]"
            if not match.sni_hosts:
                report.error(where, "sniHosts is required")
            for host in match.sni_hosts:
                _sni(report, host, spec, f"{where}.sniHosts")
            _l4(report, match, where)
        _destinations(report, rule.route, f"{path}.route")


def _sni(report: Report, host: str, spec: api.VirtualServiceSpec, path: str) -> None:
    if is_ip(host):
        report.warn(path, f"an SNI is never an IP address such as {host!r}")
        return
    problem = check.sni_host(host, generated="mesh" not in spec.gateways)
    if problem:
        report.error(path, problem)
    elif not any(subset_of(host, other) for other in spec.hosts):
        report.error(path, f"{host!r} is not covered by any host of this VirtualService")


def _l4(report: Report, match: api.TLSMatchAttributes | api.L4MatchAttributes, path: str) -> None:
    for number, text in enumerate(match.destination_subnets):
        report.refuse(f"{path}.destinationSubnets[{number}]", check.subnet(text))
    if match.port:
        report.refuse(f"{path}.port", check.port(match.port))
    labels(report, match.source_labels, f"{path}.sourceLabels")
    _gateways(report, match.gateways, f"{path}.gateways")


def _tcp(report: Report, spec: api.VirtualServiceSpec) -> None:
    for number, rule in enumerate(spec.tcp):
        path = f"spec.tcp[{number}]"
        for index, match in enumerate(rule.match):
            _l4(report, match, f"{path}.match[{index}]")
        _destinations(report, rule.route, f"{path}.route")
