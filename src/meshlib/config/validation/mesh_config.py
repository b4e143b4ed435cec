"""Validation of MeshConfig. Source: Istio ``pkg/config/validation/agent/validation.go``."""

from __future__ import annotations

from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.sidecar import OutboundTrafficMode
from meshlib.config.validation import primitives as check
from meshlib.config.validation.client_tls import client_tls
from meshlib.config.validation.connection_pool import connection_pool, outlier_detection
from meshlib.config.validation.extension_providers import extension_providers
from meshlib.config.validation.http_policies import retries
from meshlib.config.validation.load_balancer import locality, zone_aware
from meshlib.config.validation.proxy_config import proxy_settings
from meshlib.config.validation.report import Report
from meshlib.config.validation.server_tls import ECDH_CURVES

__all__ = ["mesh_config"]

_EXPORTS = ("default_service_export_to", "default_virtual_service_export_to", "default_destination_rule_export_to")


def mesh_config(report: Report, mesh: MeshConfig, path: str = "") -> None:
    """Everything about the mesh-wide settings that they show by themselves; ``path`` is where they stand."""
    at = f"{path}." if path else ""
    report.refuse(f"{at}proxyListenPort", check.port(mesh.proxy_listen_port))
    report.refuse(f"{at}connectTimeout", check.connect_timeout(mesh.connect_timeout))
    detection = mesh.protocol_detection_timeout
    report.refuse(f"{at}protocolDetectionTimeout", check.duration(detection) if detection else None)
    proxy_settings(report, mesh.default_config, f"{at}defaultConfig")
    locality(report, mesh.locality_lb_setting, f"{at}localityLbSetting", ejects=True)
    zone_aware(report, mesh.zone_aware_lb_setting, f"{at}zoneAwareLbSetting", ejects=True)
    _hosts_and_domains(report, mesh, at)
    extension_providers(report, mesh.extension_providers, f"{at}extensionProviders")
    _tls(report, mesh, at)
    _traffic(report, mesh, at)


def _hosts_and_domains(report: Report, mesh: MeshConfig, at: str) -> None:
    for number, entry in enumerate(mesh.service_settings):
        for index, host in enumerate(entry.hosts):
            report.refuse(f"{at}serviceSettings[{number}].hosts[{index}]", check.wildcard_host(host))
    report.refuse(f"{at}trustDomain", check.trust_domain(mesh.trust_domain))
    for number, alias in enumerate(mesh.trust_domain_aliases):
        report.refuse(f"{at}trustDomainAliases[{number}]", check.trust_domain(alias))
    for name in _EXPORTS:
        problem = check.export_to(getattr(mesh, name), nobody=True)
        report.refuse(f"{at}{type(mesh).model_fields[name].alias}", problem)


def _tls(report: Report, mesh: MeshConfig, at: str) -> None:
    if mesh.mesh_mtls is not None and mesh.mesh_mtls.ecdh_curves:
        report.error(f"{at}meshMTLS.ecdhCurves", "curves can be chosen in tlsDefaults, not for mutual TLS of the mesh")
    curves = mesh.tls_defaults.ecdh_curves if mesh.tls_defaults is not None else []
    for number, curve in enumerate(curves):
        where = f"{at}tlsDefaults.ecdhCurves[{number}]"
        if curve in curves[:number]:
            report.warn(where, f"{curve!r} stands twice")
        elif curve and curve not in ECDH_CURVES:
            report.warn(where, f"{curve!r} is not a curve that is known")


def _traffic(report: Report, mesh: MeshConfig, at: str) -> None:
    default = mesh.default_traffic_policy
    if default is not None:
        connection_pool(report, default.connection_pool, f"{at}defaultTrafficPolicy.connectionPool")
        if default.outlier_detection is not None:
            outlier_detection(report, default.outlier_detection, f"{at}defaultTrafficPolicy.outlierDetection")
    outbound = mesh.outbound_traffic_policy
    client_tls(report, outbound.tls, f"{at}outboundTrafficPolicy.tls")
    if outbound.tls is not None and outbound.mode is not OutboundTrafficMode.ALLOW_ANY_DYNAMIC_DNS:
        report.warn(f"{at}outboundTrafficPolicy.tls", "tls goes with mode ALLOW_ANY_DYNAMIC_DNS and means nothing here")
    for name in ("default_http_retry_policy", "default_inbound_http_retry_policy"):
        given = getattr(mesh, name)
        if given is not None:
            retries(report, given, f"{at}{type(mesh).model_fields[name].alias}")
