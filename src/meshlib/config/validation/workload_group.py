"""Validation of WorkloadGroup. Source: Istio ``pkg/config/validation/validation.go``."""

from __future__ import annotations

from meshlib.config.resources import workload_group as api
from meshlib.config.validation import primitives as check
from meshlib.config.validation.report import Report
from meshlib.config.validation.selectors import labels

__all__ = ["readiness_probe", "workload_group"]


def workload_group(report: Report, spec: api.WorkloadGroupSpec) -> None:
    """Everything about a WorkloadGroup that one object shows."""
    if spec.template is None:
        report.error("spec.template", "template is required")
    else:
        for name, number in spec.template.ports.items():
            report.refuse(f"spec.template.ports.{name}", check.port(number))
    if spec.metadata is not None:
        labels(report, spec.metadata.labels, "spec.metadata.labels")
    readiness_probe(report, spec.probe, "spec.probe")


def readiness_probe(report: Report, probe: api.ReadinessProbe | None, path: str) -> None:
    """How readiness is found out: by one method, with its port or command."""
    if probe is None:
        return
    if probe.http_get is not None:
        for number, header in enumerate(probe.http_get.http_headers):
            if "_" in header.name:
                report.error(f"{path}.httpGet.httpHeaders[{number}].name", f"{header.name!r} holds a '_'")
        report.refuse(f"{path}.httpGet.port", check.port(probe.http_get.port))
        if probe.http_get.scheme not in ("", "HTTP", "HTTPS"):
            report.error(f"{path}.httpGet.scheme", f"{probe.http_get.scheme!r} is neither HTTP nor HTTPS")
    elif probe.tcp_socket is not None:
        report.refuse(f"{path}.tcpSocket.port", check.port(probe.tcp_socket.port))
    elif probe.exec is not None:
        if not probe.exec.command:
            report.error(f"{path}.exec.command", "command is required")
    elif probe.grpc is not None:
        report.error(f"{path}.grpc", "Istio's webhook refuses probes by gRPC")
    else:
        report.error(path, "one of httpGet, tcpSocket and exec is needed")
