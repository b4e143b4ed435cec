"""WorkloadGroup: the template of WorkloadEntries that register themselves (``networking.istio.io``)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from meshlib.config.resources.base import Message, UInt32, one_of
from meshlib.config.resources.service_entry import WorkloadEntrySpec

__all__ = [
    "ExecHealthCheckConfig",
    "GrpcHealthCheckConfig",
    "HTTPHeader",
    "HTTPHealthCheckConfig",
    "ReadinessProbe",
    "TCPHealthCheckConfig",
    "TemplateMeta",
    "WorkloadGroupSpec",
]

_Count = Annotated[int, Field(ge=0)]


class TemplateMeta(Message):
    """Metadata that each entry gets."""

    labels: Annotated[dict[str, str], Field(max_length=256)] = Field(default_factory=dict)
    annotations: Annotated[dict[str, str], Field(max_length=256)] = Field(default_factory=dict)


class HTTPHeader(Message):
    """A header of the probe's request."""

    name: Annotated[str, Field(pattern="^[-_A-Za-z0-9]+$")]
    value: str = ""


class HTTPHealthCheckConfig(Message):
    """Healthy when the answer is 200 to 399."""

    path: str = ""
    port: UInt32 = 0
    host: str = ""
    scheme: str = ""
    http_headers: list[HTTPHeader] = Field(default_factory=list)


class TCPHealthCheckConfig(Message):
    """Healthy when a connection is taken."""

    host: str = ""
    port: UInt32 = 0


class ExecHealthCheckConfig(Message):
    """Healthy when the command exits 0."""

    command: list[str] = Field(default_factory=list)


class GrpcHealthCheckConfig(Message):
    """Healthy when ``grpc.health.v1`` says SERVING."""

    port: UInt32 = 0
    service: str = ""


class ReadinessProbe(Message):
    """How the workload's agent finds out whether it is ready; seconds and counts, 0 takes Kubernetes' default."""

    initial_delay_seconds: _Count = 0
    timeout_seconds: _Count = 0
    period_seconds: _Count = 0
    success_threshold: _Count = 0
    failure_threshold: _Count = 0
    http_get: HTTPHealthCheckConfig | None = None
    tcp_socket: TCPHealthCheckConfig | None = None
    exec: ExecHealthCheckConfig | None = None
    grpc: GrpcHealthCheckConfig | None = None

    _method = one_of("http_get", "tcp_socket", "exec", "grpc")


class WorkloadGroupSpec(Message):
    """What entries of the group have in common."""

    metadata: TemplateMeta | None = None
    template: WorkloadEntrySpec | None = None
    probe: ReadinessProbe | None = None
