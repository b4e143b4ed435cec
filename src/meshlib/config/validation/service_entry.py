"""Validation of ServiceEntry. Source: Istio ``pkg/config/validation/validation.go``."""

from __future__ import annotations

from meshlib.config.resources import service_entry as api
from meshlib.config.validation import primitives as check
from meshlib.config.validation.protocols import is_http, is_tcp, is_tls, protocol
from meshlib.config.validation.report import Report
from meshlib.config.validation.selectors import labels, labels_selector
from meshlib.config.validation.workload_entry import address, ports
from meshlib.model.hosts import is_ip

__all__ = ["service_entry"]

_DNS = frozenset({api.Resolution.DNS, api.Resolution.DNS_ROUND_ROBIN})
_DYNAMIC_PROTOCOLS = frozenset({"http", "http2", "grpc", "tls"})
_NO_ALLOCATION = "networking.istio.io/enable-autoallocate-ip"
_WAYPOINT = "istio.io/use-waypoint"


def service_entry(report: Report, spec: api.ServiceEntrySpec) -> None:
    """Everything about a ServiceEntry that one object shows."""
    labels_selector(report, spec.workload_selector, "spec.workloadSelector")
    if spec.workload_selector is not None and "endpoints" in spec.model_fields_set:
        report.error("spec.workloadSelector", "endpoints and workloadSelector exclude each other")
    _hosts(report, spec)
    for number, text in enumerate(spec.addresses):
        report.refuse(f"spec.addresses[{number}]", check.subnet(text))
    _ports(report, spec.ports)
    _resolution(report, spec)
    _told_apart(report, spec)
    own = report.resource.metadata.namespace or ""
    report.refuse("spec.exportTo", check.export_to(spec.export_to, own, nobody=True))


def _hosts(report: Report, spec: api.ServiceEntrySpec) -> None:
    if not spec.hosts:
        report.error("spec.hosts", "at least one host is needed")
    for number, host in enumerate(spec.hosts):
        path = f"spec.hosts[{number}]"
        problem = "host '*' alone is not allowed" if host == "*" else check.wildcard_host(host)
        if problem:
            report.error(path, problem)
        elif host.startswith("*") and host[1] != "." and spec.resolution is not api.Resolution.DYNAMIC_DNS:
            report.warn(path, f"{host!r} has a wildcard inside a label")


def _ports(report: Report, given: list[api.ServicePort]) -> None:
    names: set[str] = set()
    numbers: set[int] = set()
    for index, port in enumerate(given):
        path = f"spec.ports[{index}]"
        report.refuse(f"{path}.number", check.port(port.number))
        report.refuse(f"{path}.name", check.dns_label(port.name))
        report.refuse(f"{path}.protocol", protocol(port.protocol))
        if "target_port" in port.model_fields_set:
            report.refuse(f"{path}.targetPort", check.port(port.target_port))
        if port.name in names:
            report.error(f"{path}.name", f"port name {port.name!r} stands twice")
        if port.number in numbers:
            report.error(f"{path}.number", f"port {port.number} stands twice")
        names.add(port.name)
        numbers.add(port.number)


def _resolution(report: Report, spec: api.ServiceEntrySpec) -> None:
    resolution = spec.resolution
    if resolution is api.Resolution.NONE:
        if spec.endpoints:
            report.error("spec.endpoints", "resolution NONE has no endpoints")
        if spec.workload_selector is not None:
            report.warn("spec.workloadSelector", "with resolution NONE the selector means nothing")
    elif resolution is api.Resolution.STATIC:
        _static(report, spec)
    elif resolution is api.Resolution.DYNAMIC_DNS:
        _dynamic(report, spec)
    else:
        _dns(report, spec)


def _static(report: Report, spec: api.ServiceEntrySpec) -> None:
    names = {port.name for port in spec.ports}
    for number, endpoint in enumerate(spec.endpoints):
        path = f"spec.endpoints[{number}]"
        address(report, endpoint, path, names=False)
        ports(report, endpoint, path, names)
        labels(report, endpoint.labels, f"{path}.labels")
        if endpoint.address.startswith("unix://") and len(names) != 1:
            report.error(path, "a unix socket serves exactly one port")


def _dns(report: Report, spec: api.ServiceEntrySpec) -> None:
    """What is resolved are the endpoints' addresses; without endpoints the hosts themselves."""
    if spec.resolution is api.Resolution.DNS_ROUND_ROBIN and len(spec.endpoints) > 1:
        report.error("spec.endpoints", "DNS_ROUND_ROBIN takes one endpoint")
    if not spec.endpoints:
        for number, host in enumerate(spec.hosts):
            if problem := check.fqdn(host):
                report.error(f"spec.hosts[{number}]", f"without endpoints DNS needs names to resolve: {problem}")
    for number, text in enumerate(spec.addresses):
        if "/" in text:
            report.error(f"spec.addresses[{number}]", "DNS takes no address ranges")
    names = {port.name for port in spec.ports}
    for number, endpoint in enumerate(spec.endpoints):
        path = f"spec.endpoints[{number}]"
        if not is_ip(endpoint.address) and check.fqdn(endpoint.address):
            report.error(f"{path}.address", f"{endpoint.address!r} is not an IP address or a domain name")
        ports(report, endpoint, path, names)
        labels(report, endpoint.labels, f"{path}.labels")
    if spec.addresses and len(spec.hosts) > 1 and any(is_tcp(port.protocol) for port in spec.ports):
        report.warn("spec.hosts", "several hosts share addresses, and a TCP port cannot tell them apart")


def _dynamic(report: Report, spec: api.ServiceEntrySpec) -> None:
    """DYNAMIC_DNS resolves what callers name, below a wildcard."""
    for number, host in enumerate(spec.hosts):
        if not host.startswith("*"):
            report.error(f"spec.hosts[{number}]", "DYNAMIC_DNS takes wildcard hosts only")
    for name in ("addresses", "endpoints"):
        if getattr(spec, name):
            report.error(f"spec.{name}", f"DYNAMIC_DNS takes no {name}")
    for number, port in enumerate(spec.ports):
        if port.protocol.lower() not in _DYNAMIC_PROTOCOLS:
            report.error(f"spec.ports[{number}].protocol", f"DYNAMIC_DNS does not go with protocol {port.protocol!r}")
    waypoint = report.resource.metadata.labels.get(_WAYPOINT, "")
    if spec.location is api.Location.MESH_INTERNAL and waypoint.lower() not in ("", "none"):
        report.error("spec.location", "DYNAMIC_DNS inside the mesh does not go with a waypoint")


def _told_apart(report: Report, spec: api.ServiceEntrySpec) -> None:
    """A port that is not HTTP or TLS is told apart by its address, which is given or, for resolved hosts, allocated."""
    static = spec.resolution is api.Resolution.NONE
    switched_off = report.resource.metadata.labels.get(_NO_ALLOCATION, "").lower() == "false"
    if not spec.addresses and (static or switched_off):
        for number, port in enumerate(spec.ports):
            if port.protocol in ("", "TCP"):
                message = "a port without an HTTP or TLS protocol needs addresses to be told by"
                report.warn(f"spec.ports[{number}]", message)
    if not static and len(spec.hosts) > 1:
        for number, port in enumerate(spec.ports):
            if not is_http(port.protocol) and not is_tls(port.protocol):
                message = f"protocol {port.protocol or 'unknown'!r} cannot tell several hosts apart"
                report.error(f"spec.ports[{number}].protocol", message)
                break
