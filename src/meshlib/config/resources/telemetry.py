"""Telemetry: tracing, metrics and access logs of workloads (``telemetry.istio.io``)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from meshlib.config.resources.base import Duration, Message, numbered, one_of
from meshlib.config.resources.selectors import PolicyTargetReference, WorkloadSelector

__all__ = [
    "AccessLogging",
    "CustomTag",
    "DefaultedName",
    "FilledValue",
    "IstioMetric",
    "LogFilter",
    "MetricSelector",
    "Metrics",
    "MetricsOverrides",
    "ModeSelector",
    "ProviderRef",
    "TagOperation",
    "TagOverride",
    "TelemetrySpec",
    "Tracing",
    "WorkloadMode",
]

_Filled = Annotated[str, Field(min_length=1)]


class WorkloadMode(StrEnum):
    """Which side of a call is meant."""

    CLIENT_AND_SERVER = "CLIENT_AND_SERVER"
    CLIENT = "CLIENT"
    SERVER = "SERVER"


_Mode = Annotated[WorkloadMode, numbered(*WorkloadMode)]


class ModeSelector(Message):
    """Restricts an entry to one side."""

    mode: _Mode = WorkloadMode.CLIENT_AND_SERVER


class ProviderRef(Message):
    """An extension provider of MeshConfig."""

    name: _Filled


class FilledValue(Message):
    """A value as it stands (``literal``), or a format as in access logs (``formatter``)."""

    value: _Filled


class DefaultedName(Message):
    """A header's or an environment variable's name, and what stands in where it is absent."""

    name: _Filled
    default_value: str = ""


class CustomTag(Message):
    """A tag of spans."""

    literal: FilledValue | None = None
    environment: DefaultedName | None = None
    header: DefaultedName | None = None
    formatter: FilledValue | None = None

    _type = one_of("literal", "environment", "header", "formatter")


class Tracing(Message):
    """Spans; only the first entry of a list, and its first provider, are used.

    Attributes:
        random_sampling_percentage: 0 to 100; None takes what is said further out.
    """

    match: ModeSelector | None = None
    providers: list[ProviderRef] = Field(default_factory=list)
    random_sampling_percentage: Annotated[float, Field(ge=0, le=100)] | None = None
    disable_span_reporting: bool | None = None
    custom_tags: dict[str, CustomTag] = Field(default_factory=dict)
    use_request_id_for_trace_sampling: bool | None = None
    enable_istio_tags: bool | None = None
    disable_context_propagation: bool | None = None


class IstioMetric(StrEnum):
    """Istio's standard metrics."""

    ALL_METRICS = "ALL_METRICS"
    REQUEST_COUNT = "REQUEST_COUNT"
    REQUEST_DURATION = "REQUEST_DURATION"
    REQUEST_SIZE = "REQUEST_SIZE"
    RESPONSE_SIZE = "RESPONSE_SIZE"
    TCP_OPENED_CONNECTIONS = "TCP_OPENED_CONNECTIONS"
    TCP_CLOSED_CONNECTIONS = "TCP_CLOSED_CONNECTIONS"
    TCP_SENT_BYTES = "TCP_SENT_BYTES"
    TCP_RECEIVED_BYTES = "TCP_RECEIVED_BYTES"
    GRPC_REQUEST_MESSAGES = "GRPC_REQUEST_MESSAGES"
    GRPC_RESPONSE_MESSAGES = "GRPC_RESPONSE_MESSAGES"


class MetricSelector(Message):
    """Which metric on which side; nothing given means all."""

    metric: Annotated[IstioMetric, numbered(*IstioMetric)] | None = None
    custom_metric: _Filled | None = None
    mode: _Mode = WorkloadMode.CLIENT_AND_SERVER

    _match = one_of("metric", "custom_metric")


class TagOperation(StrEnum):
    """Set a tag, or leave it out."""

    UPSERT = "UPSERT"
    REMOVE = "REMOVE"


class TagOverride(Message):
    """A change of one tag; ``value`` is a CEL expression over Envoy's attributes."""

    operation: Annotated[TagOperation, numbered(*TagOperation)] = TagOperation.UPSERT
    value: str = ""


class MetricsOverrides(Message):
    """A change of some metrics."""

    match: MetricSelector | None = None
    disabled: bool | None = None
    tag_overrides: dict[str, TagOverride] = Field(default_factory=dict)


class Metrics(Message):
    """Metrics."""

    providers: list[ProviderRef] = Field(default_factory=list)
    overrides: list[MetricsOverrides] = Field(default_factory=list)
    reporting_interval: Duration | None = None


class LogFilter(Message):
    """Which calls are logged: a CEL expression, for example ``response.code >= 400``."""

    expression: str = ""


class AccessLogging(Message):
    """Access logs."""

    match: ModeSelector | None = None
    providers: list[ProviderRef] = Field(default_factory=list)
    disabled: bool | None = None
    filter: LogFilter | None = None


class TelemetrySpec(Message):
    """What workloads tell of their calls."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: Annotated[list[PolicyTargetReference], Field(max_length=16)] = Field(default_factory=list)
    tracing: list[Tracing] = Field(default_factory=list)
    metrics: list[Metrics] = Field(default_factory=list)
    access_logging: list[AccessLogging] = Field(default_factory=list)

    _target = one_of("selector", "target_ref", "target_refs")
