"""Validation of the limits towards a destination, and of when its endpoints are left out."""

from __future__ import annotations

from meshlib.config.resources import destination_rule as api
from meshlib.config.validation import primitives as check
from meshlib.config.validation.report import Report

__all__ = ["connection_pool", "optional_duration", "outlier_detection"]

_TCP = {"max_connections": "maxConnections"}
_HTTP = {
    "http1_max_pending_requests": "http1MaxPendingRequests",
    "http2_max_requests": "http2MaxRequests",
    "max_requests_per_connection": "maxRequestsPerConnection",
    "max_retries": "maxRetries",
    "max_concurrent_streams": "maxConcurrentStreams",
}


def optional_duration(report: Report, seconds: float | None, path: str) -> None:
    """A duration that may be absent."""
    if seconds is not None:
        report.refuse(path, check.duration(seconds))


def connection_pool(report: Report, pool: api.ConnectionPoolSettings | None, path: str) -> None:
    """Limits; 0 means unset, and a pool that is given says something."""
    if pool is None:
        return
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
    _not_negative(report, tcp, _TCP, path)
    optional_duration(report, tcp.connect_timeout, f"{path}.connectTimeout")
    optional_duration(report, tcp.max_connection_duration, f"{path}.maxConnectionDuration")
    disabled = tcp.idle_timeout is not None and abs(tcp.idle_timeout) < 0.001
    optional_duration(report, None if disabled else tcp.idle_timeout, f"{path}.idleTimeout")
    if tcp.tcp_keepalive is not None:
        optional_duration(report, tcp.tcp_keepalive.time, f"{path}.tcpKeepalive.time")
        optional_duration(report, tcp.tcp_keepalive.interval, f"{path}.tcpKeepalive.interval")


def _http(report: Report, http: api.HTTPSettings, path: str) -> None:
    _not_negative(report, http, _HTTP, path)
    optional_duration(report, http.idle_timeout, f"{path}.idleTimeout")
    if http.use_client_protocol and http.h2_upgrade_policy is api.H2UpgradePolicy.UPGRADE:
        report.error(f"{path}.h2UpgradePolicy", "UPGRADE does not go with useClientProtocol")
    keepalive = http.http2_keep_alive
    if keepalive is not None:
        if keepalive.interval is None or keepalive.timeout is None:
            report.error(f"{path}.http2KeepAlive", "interval and timeout are both needed")
        optional_duration(report, keepalive.interval, f"{path}.http2KeepAlive.interval")
        optional_duration(report, keepalive.timeout, f"{path}.http2KeepAlive.timeout")


def outlier_detection(report: Report, detection: api.OutlierDetection, path: str) -> None:
    """When endpoints are left out, for how long, and how many at most."""
    optional_duration(report, detection.interval, f"{path}.interval")
    optional_duration(report, detection.base_ejection_time, f"{path}.baseEjectionTime")
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
