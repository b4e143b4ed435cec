"""Extension providers of MeshConfig: tracers, metrics, access logs, external authorization, secrets."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from meshlib.config.resources.base import Duration, Message, UInt32, numbered, one_of

__all__ = [
    "DatadogTracingProvider",
    "EnvoyExternalAuthorizationGrpcProvider",
    "EnvoyExternalAuthorizationHttpProvider",
    "EnvoyFileAccessLogProvider",
    "EnvoyHttpGrpcV3LogProvider",
    "EnvoyOpenTelemetryLogProvider",
    "EnvoyTcpGrpcV3LogProvider",
    "ExtensionProvider",
    "GrpcService",
    "HttpHeader",
    "HttpService",
    "LightstepTracingProvider",
    "Nothing",
    "OpenCensusTraceContext",
    "OpenTelemetryTracingProvider",
    "SDSProvider",
    "Served",
    "SkyWalkingTracingProvider",
    "StackdriverProvider",
    "TraceContextOption",
    "ZipkinTracingProvider",
]


class HttpHeader(Message):
    """A header, from a text or from an environment variable."""

    name: str = ""
    value: str | None = None
    env_name: str | None = None

    _value = one_of("value", "env_name")


class HttpService(Message):
    """How a collector is reached over HTTP."""

    path: str = ""
    timeout: Duration | None = None
    headers: list[HttpHeader] = Field(default_factory=list)


class GrpcService(Message):
    """How a collector is reached over gRPC."""

    timeout: Duration | None = None
    initial_metadata: list[HttpHeader] = Field(default_factory=list)


class Served(Message):
    """Something that a service of the registry serves: ``host`` or ``namespace/host``, and its port."""

    service: str = ""
    port: UInt32 = 0


class RequestBody(Message):
    """How much of the body an authorizer sees."""

    max_request_bytes: UInt32 = 0
    allow_partial_message: bool = False
    pack_as_bytes: bool = False


class EnvoyExternalAuthorizationHttpProvider(Served):
    """Asks an authorizer over HTTP."""

    timeout: Duration | None = None
    path_prefix: str = ""
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: str = ""
    include_headers_in_check: list[str] = Field(default_factory=list)
    include_request_headers_in_check: list[str] = Field(default_factory=list)
    include_additional_headers_in_check: dict[str, str] = Field(default_factory=dict)
    include_request_body_in_check: RequestBody | None = None
    headers_to_upstream_on_allow: list[str] = Field(default_factory=list)
    headers_to_downstream_on_deny: list[str] = Field(default_factory=list)
    headers_to_downstream_on_allow: list[str] = Field(default_factory=list)


class EnvoyExternalAuthorizationGrpcProvider(Served):
    """Asks an authorizer over gRPC (``envoy.service.auth.v3``)."""

    timeout: Duration | None = None
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: str = ""
    include_request_body_in_check: RequestBody | None = None


class TraceContextOption(StrEnum):
    """Which headers Zipkin's tracer reads and writes."""

    USE_B3 = "USE_B3"
    USE_B3_WITH_W3C_PROPAGATION = "USE_B3_WITH_W3C_PROPAGATION"


class ZipkinTracingProvider(Served):
    """Spans to Zipkin."""

    max_tag_length: UInt32 = 0
    enable_64bit_trace_id: bool = False
    path: str = ""
    trace_context_option: Annotated[TraceContextOption, numbered(*TraceContextOption)] = TraceContextOption.USE_B3
    timeout: Duration | None = None
    headers: list[HttpHeader] = Field(default_factory=list)


class LightstepTracingProvider(Served):
    """Spans to Lightstep; deprecated by Istio."""

    access_token: str = ""
    max_tag_length: UInt32 = 0


class DatadogTracingProvider(Served):
    """Spans to Datadog."""

    max_tag_length: UInt32 = 0


class SkyWalkingTracingProvider(Served):
    """Spans to SkyWalking."""

    access_token: str = ""


class StackdriverLogging(Message):
    """Labels of log entries."""

    labels: dict[str, str] = Field(default_factory=dict)


class StackdriverProvider(Message):
    """Spans, metrics and logs to Stackdriver."""

    debug: bool = False
    max_number_of_attributes: int | None = None
    max_number_of_annotations: int | None = None
    max_number_of_message_events: int | None = None
    max_tag_length: UInt32 = 0
    logging: StackdriverLogging | None = None


class OpenCensusTraceContext(StrEnum):
    """A form of trace headers."""

    UNSPECIFIED = "UNSPECIFIED"
    W3C_TRACE_CONTEXT = "W3C_TRACE_CONTEXT"
    GRPC_BIN = "GRPC_BIN"
    CLOUD_TRACE_CONTEXT = "CLOUD_TRACE_CONTEXT"
    B3 = "B3"


class OpenCensusAgentTracingProvider(Served):
    """Spans to an OpenCensus agent; deprecated by Istio."""

    context: list[Annotated[OpenCensusTraceContext, numbered(*OpenCensusTraceContext)]] = Field(default_factory=list)
    max_tag_length: UInt32 = 0


class Nothing(Message):
    """A provider or detector without settings."""


class ResourceDetectors(Message):
    """Where attributes of the resource come from."""

    environment: Nothing | None = None
    dynatrace: Nothing | None = None


class DynatraceApi(Served):
    """Dynatrace's API."""

    http: HttpService | None = None


class DynatraceSampler(Message):
    """Sampling that Dynatrace decides."""

    tenant: str = ""
    cluster_id: int = 0
    root_spans_per_minute: UInt32 = 0
    http_service: DynatraceApi | None = None


class ServiceAttributeEnrichment(StrEnum):
    """How ``service.name`` and kin are found."""

    ISTIO_CANONICAL = "ISTIO_CANONICAL"
    OTEL_SEMANTIC_CONVENTIONS = "OTEL_SEMANTIC_CONVENTIONS"


class OpenTelemetryTracingProvider(Served):
    """Spans by OTLP; over gRPC unless ``http`` is given."""

    max_tag_length: UInt32 = 0
    http: HttpService | None = None
    grpc: GrpcService | None = None
    resource_detectors: ResourceDetectors | None = None
    service_attribute_enrichment: Annotated[ServiceAttributeEnrichment, numbered(*ServiceAttributeEnrichment)] = (
        ServiceAttributeEnrichment.ISTIO_CANONICAL
    )
    dynatrace_sampler: DynatraceSampler | None = None


class LogFormat(Message):
    """A line of text, or a JSON object, with Envoy's ``%VARIABLES%``."""

    text: str | None = None
    labels: dict[str, Any] | None = None

    _format = one_of("text", "labels")


class EnvoyFileAccessLogProvider(Message):
    """Access logs to a file, ``/dev/stdout`` for example."""

    path: str = ""
    log_format: LogFormat | None = None
    omit_empty_values: bool = False


class EnvoyTcpGrpcV3LogProvider(Served):
    """Access logs of connections to a service."""

    log_name: str = ""
    filter_state_objects_to_log: list[str] = Field(default_factory=list)


class EnvoyHttpGrpcV3LogProvider(EnvoyTcpGrpcV3LogProvider):
    """Access logs of requests to a service."""

    additional_request_headers_to_log: list[str] = Field(default_factory=list)
    additional_response_headers_to_log: list[str] = Field(default_factory=list)
    additional_response_trailers_to_log: list[str] = Field(default_factory=list)


class OpenTelemetryLogFormat(Message):
    """The body of a log record, and its attributes; both may be given."""

    text: str = ""
    labels: dict[str, Any] | None = None


class EnvoyOpenTelemetryLogProvider(Served):
    """Access logs by OTLP."""

    log_name: str = ""
    log_format: OpenTelemetryLogFormat | None = None


class SDSProvider(Served):
    """Where secrets come from."""

    name: str = ""


class ExtensionProvider(Message):
    """One provider under the name by which Telemetry and AuthorizationPolicy ask for it."""

    name: str = ""
    envoy_ext_authz_http: EnvoyExternalAuthorizationHttpProvider | None = None
    envoy_ext_authz_grpc: EnvoyExternalAuthorizationGrpcProvider | None = None
    zipkin: ZipkinTracingProvider | None = None
    lightstep: LightstepTracingProvider | None = None
    datadog: DatadogTracingProvider | None = None
    stackdriver: StackdriverProvider | None = None
    opencensus: OpenCensusAgentTracingProvider | None = None
    skywalking: SkyWalkingTracingProvider | None = None
    opentelemetry: OpenTelemetryTracingProvider | None = None
    prometheus: Nothing | None = None
    envoy_file_access_log: EnvoyFileAccessLogProvider | None = None
    envoy_http_als: EnvoyHttpGrpcV3LogProvider | None = None
    envoy_tcp_als: EnvoyTcpGrpcV3LogProvider | None = None
    envoy_otel_als: EnvoyOpenTelemetryLogProvider | None = None
    sds: SDSProvider | None = None

    @property
    def given(self) -> dict[str, Message]:
        """What is configured under the name, by field; a valid provider has exactly one."""
        parts = {name: getattr(self, name) for name in type(self).model_fields if name != "name"}
        return {name: part for name, part in parts.items() if part is not None}
