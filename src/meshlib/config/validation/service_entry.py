"""Validation of ServiceEntry, WorkloadEntry and Sidecar. Source: Istio ``pkg/config/validation/validation.go``."""

from __future__ import annotations

from meshlib.config.resources import service_entry as api
from meshlib.config.resources.sidecar import SidecarSpec
from meshlib.config.validation import primitives as check
from meshlib.config.validation.report import Report
from meshlib.model.hosts import is_ip

__all__ = ["service_entry", "sidecar", "workload_entry"]

_PROTOCOLS = frozenset(["http", "https", "grpc", "grpc-web", "http2", "mongo", "tcp", "tls", "redis", "mysql", "udp"])
_DNS = frozenset({api.Resolution.DNS, api.Resolution.DNS_ROUND_ROBIN})


def service_entry(report: Report, spec: api.ServiceEntrySpec) -> None:
    """Everything about a ServiceEntry that one object shows."""
    if not spec.hosts:
        report.error("spec.hosts", "at least one host is needed")
    for number, host in enumerate(spec.hosts):
        path = f"spec.hosts[{number}]"
        problem = "host '*' alone is not allowed" if host == "*" else check.wildcard_host(host)
        if problem:
            report.error(path, problem)
        elif host.startswith("*") and not host.startswith("*."):
            report.warn(path, f"{host!r} has a wildcard inside a label")
    _ports(report, spec.ports)
    for number, address in enumerate(spec.addresses):
        if problem := check.subnet(address):
            report.error(f"spec.addresses[{number}]", problem)
    _resolution(report, spec)
    if spec.workload_selector is not None and spec.endpoints:
        report.error("spec.workloadSelector", "endpoints and workloadSelector exclude each other")
    if problem := check.export_to(spec.export_to, report.resource.metadata.namespace or "", nobody=True):
        report.error("spec.exportTo", problem)


def _ports(report: Report, ports: list[api.ServicePort]) -> None:
    names: set[str] = set()
    numbers: set[int] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        if problem := check.port(port.number):
            report.error(f"{path}.number", problem)
        if problem := check.dns_label(port.name):
            report.error(f"{path}.name", problem)
        if port.protocol and port.protocol.lower() not in _PROTOCOLS:
            report.error(f"{path}.protocol", f"{port.protocol!r} is not a protocol")
        if port.target_port and (problem := check.port(port.target_port)):
            report.error(f"{path}.targetPort", problem)
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
    if resolution is api.Resolution.DNS_ROUND_ROBIN and len(spec.endpoints) > 1:
        report.error("spec.endpoints", "DNS_ROUND_ROBIN takes one endpoint")
    if resolution in _DNS:
        if not spec.endpoints and spec.workload_selector is None:
            for number, host in enumerate(spec.hosts):
                if problem := check.fqdn(host):
                    report.error(f"spec.hosts[{number}]", f"without endpoints DNS needs names to resolve: {problem}")
        for number, address in enumerate(spec.addresses):
            if "/" in address:
                report.error(f"spec.addresses[{number}]", "DNS takes no address ranges")
    if resolution is api.Resolution.DYNAMIC_DNS:
        _dynamic(report, spec)
    _addresses(report, spec)
    names = {port.name for port in spec.ports}
    if len(spec.ports) != 1 and any(e.address.startswith("unix://") for e in spec.endpoints):
        report.error("spec.endpoints", "a unix socket serves exactly one port")
    for number, endpoint in enumerate(spec.endpoints):
        _endpoint(report, endpoint, names, resolution, f"spec.endpoints[{number}]")


_DYNAMIC_PROTOCOLS = frozenset({"http", "http2", "grpc", "tls"})


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


def _addresses(report: Report, spec: api.ServiceEntrySpec) -> None:
    """A port that is not HTTP is told apart by its address, which is given or, for resolved hosts, allocated."""
    allocated = spec.resolution is not api.Resolution.NONE and not any(host.startswith("*") for host in spec.hosts)
    if spec.addresses or allocated:
        return
    for number, port in enumerate(spec.ports):
        if port.protocol.lower() in ("", "tcp") and spec.resolution is api.Resolution.NONE:
            report.warn(f"spec.ports[{number}]", "a port without an HTTP or TLS protocol needs addresses to be told by")


def _endpoint(
    report: Report, endpoint: api.WorkloadEntrySpec, names: set[str], resolution: api.Resolution, path: str
) -> None:
    _address(report, endpoint, path, dns=resolution in _DNS)
    for name, number in endpoint.ports.items():
        if name not in names:
            report.error(f"{path}.ports.{name}", f"the service has no port named {name!r}")
        if problem := check.port(number):
            report.error(f"{path}.ports.{name}", problem)
    for key, value in endpoint.labels.items():
        if problem := check.label_pair(key, value):
            report.error(f"{path}.labels.{key}", problem)


def _address(report: Report, endpoint: api.WorkloadEntrySpec, path: str, *, dns: bool) -> None:
    address = endpoint.address
    if not address:
        if not endpoint.network:
            report.error(f"{path}.address", "address is required")
        else:
            report.warn(f"{path}.address", "without an address the workload is reached through its network's gateway")
    elif address.startswith("unix://") and not dns:
        if not address.removeprefix("unix://").startswith("/"):
            report.error(f"{path}.address", "the path of a unix socket is absolute")
        if endpoint.ports:
            report.error(f"{path}.ports", "a unix socket has no ports")
    elif not is_ip(address) and (not dns or check.fqdn(address)):
        wanted = "an IP address or a domain name" if dns else "an IP address"
        report.error(f"{path}.address", f"{address!r} is not {wanted}")


def workload_entry(report: Report, spec: api.WorkloadEntrySpec) -> None:
    """Everything about a WorkloadEntry that one object shows."""
    _address(report, spec, "spec", dns=not spec.address.startswith("unix:"))
    for name, number in spec.ports.items():
        if problem := check.port(number):
            report.error(f"spec.ports.{name}", problem)
    for key, value in spec.labels.items():
        if problem := check.label_pair(key, value):
            report.error(f"spec.labels.{key}", problem)


def sidecar(report: Report, spec: SidecarSpec) -> None:
    """What of a Sidecar concerns a client."""
    if not any((spec.egress, spec.ingress, spec.outbound_traffic_policy, spec.inbound_connection_pool)):
        report.error("spec", "one of egress, ingress, outboundTrafficPolicy and inboundConnectionPool is needed")
    for number, listener in enumerate(spec.egress):
        path = f"spec.egress[{number}].hosts"
        if not listener.hosts:
            report.error(path, "at least one host is needed")
        for index, host in enumerate(listener.hosts):
            namespace, slash, name = host.partition("/")
            bare = namespace.removeprefix("~")
            if not slash or not name:
                report.error(f"{path}[{index}]", f"{host!r} is not of the form 'namespace/dnsName'")
            elif (bare not in ("*", ".", "") and (problem := check.dns_label(bare))) or (
                name != "*" and (problem := check.wildcard_host(name))
            ):
                report.error(f"{path}[{index}]", problem)
