"""Validation of ProxyConfig: the kind, and the message in MeshConfig and annotations."""

from __future__ import annotations

from meshlib.config.resources import proxy_config as api
from meshlib.config.validation import primitives as check
from meshlib.config.validation.client_tls import client_tls
from meshlib.config.validation.report import Report
from meshlib.config.validation.selectors import workload_selector
from meshlib.config.validation.workload_group import readiness_probe

__all__ = ["proxy_config", "proxy_settings"]

_ALLOCATE = "ISTIO_META_DNS_AUTO_ALLOCATE"
_LEAST_WINDOW = 65535


def proxy_config(report: Report, spec: api.ProxyConfigSpec) -> None:
    """Everything about a ProxyConfig object that it shows by itself."""
    workload_selector(report, spec.selector, "spec.selector")


def proxy_settings(report: Report, config: api.ProxyConfig, path: str) -> None:
    """``MeshConfig.defaultConfig``."""
    for name, spelled in (("config_path", "configPath"), ("binary_path", "binaryPath")):
        if not getattr(config, name):
            report.error(f"{path}.{spelled}", "a path is required")
    if config.service_cluster == "":
        report.error(f"{path}.serviceCluster", "the name is empty")
    drain = check.duration(config.drain_duration)
    if drain is None and config.drain_duration % 1:
        drain = f"{config.drain_duration:g}s is not a whole number of seconds"
    report.refuse(f"{path}.drainDuration", drain)
    _addresses(report, config, path)
    _tracing(report, config.tracing, f"{path}.tracing")
    if _ALLOCATE in config.proxy_metadata:
        report.warn(f"{path}.proxyMetadata.{_ALLOCATE}", "the setting is deprecated")
    report.refuse(f"{path}.proxyAdminPort", check.port(config.proxy_admin_port))
    report.refuse(f"{path}.statusPort", check.port(config.status_port))
    if config.control_plane_auth_policy is api.AuthenticationPolicy.INHERIT:
        report.error(f"{path}.controlPlaneAuthPolicy", "INHERIT has nothing to inherit from")
    if config.private_key_provider is not None:
        _private_key_provider(report, config.private_key_provider, f"{path}.privateKeyProvider")
    if config.connection_settings is not None:
        _connection_settings(report, config.connection_settings, f"{path}.connectionSettings")
    readiness_probe(report, config.readiness_probe, f"{path}.readinessProbe")


def _addresses(report: Report, config: api.ProxyConfig, path: str) -> None:
    report.refuse(f"{path}.discoveryAddress", check.host_port(config.discovery_address))
    if config.statsd_udp_address:
        report.refuse(f"{path}.statsdUdpAddress", check.host_port(config.statsd_udp_address))
    if config.envoy_metrics_service_address:
        report.refuse(f"{path}.envoyMetricsServiceAddress", check.host_port(config.envoy_metrics_service_address))
        report.warn(f"{path}.envoyMetricsServiceAddress", "deprecated, use envoyMetricsService")
    services = (("envoyMetricsService", config.envoy_metrics_service),)
    for spelled, service in (*services, ("envoyAccessLogService", config.envoy_access_log_service)):
        if service is not None and service.address:
            report.refuse(f"{path}.{spelled}.address", check.host_port(service.address))


def _tracing(report: Report, tracing: api.ProxyTracing | None, path: str) -> None:
    if tracing is None:
        return
    for name in ("zipkin", "lightstep", "datadog"):
        tracer = getattr(tracing, name)
        if tracer is not None:
            address = tracer.address if name == "lightstep" else tracer.address.replace("$(HOST_IP)", "127.0.0.1", 1)
            report.refuse(f"{path}.{name}.address", check.host_port(address))
    if tracing.lightstep is not None and not tracing.lightstep.access_token:
        report.error(f"{path}.lightstep.accessToken", "accessToken is required")
    client_tls(report, tracing.tls_settings, f"{path}.tlsSettings")
    for name, tag in tracing.custom_tags.items():
        if tag is None:
            report.error(f"{path}.customTags.{name}", "the tag is null")


def _private_key_provider(report: Report, provider: api.PrivateKeyProvider, path: str) -> None:
    if provider.cryptomb is None and provider.qat is None:
        report.error(path, "one of cryptomb and qat is needed")
    for name in ("cryptomb", "qat"):
        accelerator = getattr(provider, name)
        if accelerator is not None and not accelerator.poll_delay:
            report.error(f"{path}.{name}.pollDelay", "a pollDelay above 0 is required")


_NOT_NEGATIVE = (
    "listener_per_connection_buffer_limit_bytes",
    "cluster_per_connection_buffer_limit_bytes",
    "http_idle_timeout",
    "http_max_connection_duration",
    "http_drain_timeout",
    "http_request_timeout",
    "http_request_headers_timeout",
    "http_stream_idle_timeout",
    "http_max_stream_duration",
)
_POSITIVE = ("http_max_concurrent_streams", "listener_connection_limit", "global_downstream_connection_limit")
_WINDOWS = ("http2_initial_stream_window_size", "http2_initial_connection_window_size")


def _connection_settings(report: Report, settings: api.ConnectionSettings, path: str) -> None:
    for names, least in ((_NOT_NEGATIVE, 0), (_POSITIVE, 1), (_WINDOWS, _LEAST_WINDOW)):
        for name in names:
            value = getattr(settings, name)
            if value is not None and value < least:
                alias = type(settings).model_fields[name].alias
                report.error(f"{path}.{alias}", f"{value:g} is below {least}")
