"""Validation of Sidecar. Source: Istio ``pkg/config/validation/validation.go``."""

from __future__ import annotations

from meshlib.config.resources import sidecar as api
from meshlib.config.resources.server_tls import ServerTLSMode, ServerTLSSettings
from meshlib.config.validation import primitives as check
from meshlib.config.validation.connection_pool import connection_pool
from meshlib.config.validation.http_rule import destination
from meshlib.config.validation.protocols import is_http, is_tls, protocol
from meshlib.config.validation.report import Report
from meshlib.config.validation.selectors import labels_selector
from meshlib.config.validation.server_tls import server_tls

__all__ = ["sidecar"]

_UNIX = "unix://"
_LOCAL = frozenset({"", "127.0.0.1", "0.0.0.0", "[::1]", "[::]"})  # noqa: S104 - names that Istio allows


def sidecar(report: Report, spec: api.SidecarSpec) -> None:
    """Everything about a Sidecar that one object shows."""
    labels_selector(report, spec.workload_selector, "spec.workloadSelector")
    if not (spec.egress or spec.ingress or spec.outbound_traffic_policy or spec.inbound_connection_pool):
        report.error("spec", "one of egress, ingress, outboundTrafficPolicy and inboundConnectionPool is needed")
    ports: set[int] = set()
    for number, listener in enumerate(spec.ingress):
        _ingress(report, listener, ports, f"spec.ingress[{number}]")
    connection_pool(report, spec.inbound_connection_pool, "spec.inboundConnectionPool")
    _egress(report, spec.egress)
    if spec.outbound_traffic_policy is not None:
        _outbound(report, spec.outbound_traffic_policy, "spec.outboundTrafficPolicy")


def _ingress(report: Report, listener: api.IstioIngressListener, ports: set[int], path: str) -> None:
    port = listener.port
    if port is None:
        report.error(f"{path}.port", "port is required")
        return
    _port(report, port, f"{path}.port")
    report.refuse(f"{path}.port.number", check.port(port.number))
    if listener.bind:
        report.refuse(f"{path}.bind", check.ip(listener.bind))
    if port.number in ports:
        report.error(f"{path}.port.number", f"port {port.number} stands twice")
    ports.add(port.number)
    if listener.default_endpoint:
        report.refuse(f"{path}.defaultEndpoint", _endpoint(listener.default_endpoint))
    if listener.tls is not None:
        _ingress_tls(report, listener.tls, port.protocol, f"{path}.tls")
    connection_pool(report, listener.connection_pool, f"{path}.connectionPool")
    if listener.connection_pool is not None and listener.connection_pool.http and not is_http(port.protocol):
        report.warn(
            f"{path}.connectionPool.http", f"protocol {port.protocol or 'unknown'!r} is not HTTP: tcp alone counts"
        )


def _port(report: Report, port: api.SidecarPort, path: str) -> None:
    if port.name:
        report.refuse(f"{path}.name", check.dns_label(port.name))
    report.refuse(f"{path}.protocol", protocol(port.protocol))
    if port.target_port:
        report.error(f"{path}.targetPort", "targetPort means nothing in a Sidecar")


def _endpoint(text: str) -> str | None:
    if text.startswith(_UNIX):
        return check.unix_path(text.removeprefix(_UNIX))
    host, colon, number = text.rpartition(":")
    if not colon or host not in _LOCAL or not number.isdigit():
        return f"{text!r} is none of 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT and unix:///PATH"
    return check.port(int(number))


_NOT_AT_SIDECARS = {
    "subject_alt_names": "subjectAltNames",
    "https_redirect": "httpsRedirect",
    "credential_name": "credentialName",
    "credential_names": "credentialNames",
    "tls_certificates": "tlsCertificates",
}


def _ingress_tls(report: Report, tls: ServerTLSSettings, name: str, path: str) -> None:
    for field, spelled in _NOT_AT_SIDECARS.items():
        if getattr(tls, field):
            report.error(f"{path}.{spelled}", f"{spelled} is not supported in a Sidecar")
    if tls.mode in (ServerTLSMode.ISTIO_MUTUAL, ServerTLSMode.AUTO_PASSTHROUGH):
        report.error(f"{path}.mode", f"mode {tls.mode} is not supported in a Sidecar")
    if not is_tls(name):
        report.error(path, "TLS settings are for ports of protocol HTTPS or TLS")
    server_tls(report, tls, path)


def _egress(report: Report, listeners: list[api.IstioEgressListener]) -> None:
    ports: set[int] = set()
    sockets: set[str] = set()
    for number, listener in enumerate(listeners):
        path = f"spec.egress[{number}]"
        if listener.port is None:
            if number != len(listeners) - 1:
                report.error(path, "only the last listener may be without a port: it takes what the others leave")
        else:
            _egress_port(report, listener, listener.port, path)
            _unique(report, listener, listener.port.number, ports, sockets, path)
        if not listener.hosts:
            report.error(f"{path}.hosts", "at least one host is needed")
        for index, host in enumerate(listener.hosts):
            report.refuse(f"{path}.hosts[{index}]", check.namespaced_host(host))
        _repeated(report, listener.hosts, f"{path}.hosts")


def _egress_port(report: Report, listener: api.IstioEgressListener, port: api.SidecarPort, path: str) -> None:
    _port(report, port, f"{path}.port")
    bind = listener.bind
    if port.number:
        report.refuse(f"{path}.port.number", check.port(port.number))
        report.refuse(f"{path}.bind", check.ip(bind) if bind else None)
        return
    if bind.startswith(_UNIX):
        report.refuse(f"{path}.bind", check.unix_path(bind.removeprefix(_UNIX)))
    else:
        report.error(f"{path}.bind", "port number 0 goes with a unix socket as bind")
    if listener.capture_mode is api.CaptureMode.IPTABLES:
        report.error(f"{path}.captureMode", "nothing is captured for a unix socket: DEFAULT or NONE")


def _unique(
    report: Report, listener: api.IstioEgressListener, number: int, ports: set[int], sockets: set[str], path: str
) -> None:
    if number and number in ports:
        report.error(f"{path}.port.number", f"port {number} stands twice")
    if not number and listener.bind in sockets:
        report.error(f"{path}.bind", f"{listener.bind!r} stands twice")
    (ports.add(number) if number else sockets.add(listener.bind))


def _repeated(report: Report, hosts: list[str], path: str) -> None:
    """Hosts that are imported already by one before, or that ``*/*`` makes pointless."""
    own = report.resource.metadata.namespace or ""
    seen: dict[str, set[str]] = {}
    for number, text in enumerate(hosts):
        namespace, slash, host = text.partition("/")
        if not slash or namespace.startswith("~"):
            continue
        known = seen.setdefault(own if namespace == "." else namespace, set())
        if known if host == "*" else known & {host, "*"}:
            report.warn(f"{path}[{number}]", f"{text!r} is imported by a host of the same namespace before it")
        known.add(host)
    if "*" in seen.get("*", ()) and len(seen) > 1:
        report.warn(path, "'*/*' imports everything, other hosts beside it mean nothing")


def _outbound(report: Report, policy: api.OutboundTrafficPolicy, path: str) -> None:
    if policy.mode is api.OutboundTrafficMode.ALLOW_ANY_DYNAMIC_DNS:
        report.error(f"{path}.mode", "ALLOW_ANY_DYNAMIC_DNS is for MeshConfig, not for a Sidecar")
        return
    proxy = policy.egress_proxy
    if proxy is None:
        return
    where = f"{path}.egressProxy"
    if policy.mode is not api.OutboundTrafficMode.ALLOW_ANY:
        report.error(where, "egressProxy goes with mode ALLOW_ANY")
        return
    report.refuse(f"{where}.host", check.fqdn(proxy.host))
    if proxy.port is None:
        report.error(f"{where}.port", "port is required")
    else:
        destination(report, proxy, where)
