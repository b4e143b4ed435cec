"""Validation of Gateway. Source: Istio ``pkg/config/validation/validation.go``."""

from __future__ import annotations

from meshlib.config.resources import gateway as api
from meshlib.config.resources.server_tls import ServerTLSMode
from meshlib.config.validation import primitives as check
from meshlib.config.validation.protocols import is_http, is_tls, protocol
from meshlib.config.validation.report import Report
from meshlib.config.validation.server_tls import server_tls

__all__ = ["gateway"]

_UNIX = "unix://"


def gateway(report: Report, spec: api.GatewaySpec) -> None:
    """Everything about a Gateway that one object shows."""
    report.refuse("metadata.name", check.dns_label(report.resource.metadata.name))
    if not spec.servers:
        report.error("spec.servers", "at least one server is needed")
    names: set[str] = set()
    for number, server in enumerate(spec.servers):
        path = f"spec.servers[{number}]"
        _server(report, server, path)
        if server.port is None:
            continue
        if server.port.name in names:
            report.error(f"{path}.port.name", f"port name {server.port.name!r} stands twice")
        names.add(server.port.name)
        if server.tls is not None and server.tls.https_redirect and not is_http(server.port.protocol):
            report.warn(f"{path}.tls.httpsRedirect", "httpsRedirect is for HTTP ports")


def _server(report: Report, server: api.Server, path: str) -> None:
    if not server.hosts:
        report.error(f"{path}.hosts", "at least one host is needed")
    for number, host in enumerate(server.hosts):
        report.refuse(f"{path}.hosts[{number}]", check.namespaced_host(host, gateway=True))
    before = len(report.problems)
    _port(report, server.port, server.bind, f"{path}.port")
    known = len(report.problems) == before
    _bind(report, server, f"{path}.bind")
    server_tls(report, server.tls, f"{path}.tls")
    if known and server.port is not None:
        _tls_of_port(report, server, server.port.protocol, f"{path}.tls")


def _port(report: Report, port: api.GatewayPort | None, bind: str, path: str) -> None:
    if port is None:
        report.error(path, "port is required")
        return
    report.refuse(f"{path}.protocol", protocol(port.protocol) if port.protocol else "protocol is required")
    if port.number or not bind.startswith(_UNIX):
        report.refuse(f"{path}.number", check.port(port.number))
    if port.target_port:
        report.error(f"{path}.targetPort", "targetPort means nothing at a Gateway")
    if not port.name:
        report.error(f"{path}.name", "name is required")


def _bind(report: Report, server: api.Server, path: str) -> None:
    if server.bind.startswith(_UNIX):
        report.refuse(path, check.unix_path(server.bind.removeprefix(_UNIX)))
        if server.port is not None and server.port.number:
            report.error(path, "a unix socket goes with port number 0")
    elif server.bind:
        report.refuse(path, check.ip(server.bind))


def _tls_of_port(report: Report, server: api.Server, name: str, path: str) -> None:
    tls = server.tls
    if is_tls(name):
        if tls is None:
            report.error(path, f"a port of protocol {name} needs TLS settings")
    elif tls is not None and not is_http(name):
        report.error(path, f"a port of protocol {name} takes no TLS settings")
    elif tls is not None:
        passing = tls.mode in (ServerTLSMode.PASSTHROUGH, ServerTLSMode.AUTO_PASSTHROUGH)
        if not passing or tls.ca_certificates or tls.private_key or tls.server_certificate:
            report.error(path, "a plain HTTP port takes no TLS settings but httpsRedirect")
