"""ProxyConfig: the kind (``networking.istio.io``), and the message that MeshConfig and pod annotations hold.

Most of it is for a proxy's process; a client library reads tracing, metadata, headers, mesh id and extra roots.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from meshlib.config.resources.base import Duration, Message, UInt32, numbered, one_of
from meshlib.config.resources.destination_rule import ClientTLSSettings, TcpKeepalive
from meshlib.config.resources.extension_providers import Nothing, OpenCensusTraceContext
from meshlib.config.resources.selectors import WorkloadSelector
from meshlib.config.resources.workload_group import ReadinessProbe

__all__ = [
    "ConnectionSettings",
    "ProxyConfig",
    "ProxyConfigSpec",
    "ProxyHeaders",
    "ProxyImage",
    "ProxyTracing",
    "TracingServiceName",
]


class ProxyImage(Message):
    """Which image of the proxy."""

    image_type: str = ""


class ProxyConfigSpec(Message):
    """The kind ProxyConfig: settings of the proxies of some workloads."""

    selector: WorkloadSelector | None = None
    concurrency: Annotated[int, Field(ge=0)] | None = None
    environment_variables: dict[str, str] = Field(default_factory=dict)
    image: ProxyImage | None = None


class TracerAddress(Message):
    """A collector; ``$(HOST_IP)`` stands for the node's address."""

    address: str = ""


class Lightstep(TracerAddress):
    """Lightstep's collector."""

    access_token: str = ""


class Stackdriver(Message):
    """Stackdriver's limits."""

    debug: bool = False
    max_number_of_attributes: int | None = None
    max_number_of_annotations: int | None = None
    max_number_of_message_events: int | None = None


class OpenCensusAgent(TracerAddress):
    """An OpenCensus agent."""

    context: list[Annotated[OpenCensusTraceContext, numbered(*OpenCensusTraceContext)]] = Field(default_factory=list)


class TagLiteral(Message):
    """A text."""

    value: str = ""


class TagDefault(Message):
    """A header's or an environment variable's name, and what stands in where it is absent."""

    name: str = ""
    default_value: str = ""


class ProxyCustomTag(Message):
    """A tag of spans."""

    literal: TagLiteral | None = None
    environment: TagDefault | None = None
    header: TagDefault | None = None

    _type = one_of("literal", "environment", "header")


class ProxyTracing(Message):
    """Tracing where no Telemetry says otherwise; ``sampling`` is in percent, 0 means unset."""

    zipkin: TracerAddress | None = None
    lightstep: Lightstep | None = None
    datadog: TracerAddress | None = None
    stackdriver: Stackdriver | None = None
    open_census_agent: OpenCensusAgent | None = None
    custom_tags: dict[str, ProxyCustomTag | None] = Field(default_factory=dict)
    max_path_tag_length: UInt32 = 0
    sampling: float = 0.0
    tls_settings: ClientTLSSettings | None = None
    enable_istio_tags: bool | None = None

    _tracer = one_of("zipkin", "lightstep", "datadog", "stackdriver", "open_census_agent")


class ForwardClientCertDetails(StrEnum):
    """What happens to ``x-forwarded-client-cert``."""

    UNDEFINED = "UNDEFINED"
    SANITIZE = "SANITIZE"
    FORWARD_ONLY = "FORWARD_ONLY"
    APPEND_FORWARD = "APPEND_FORWARD"
    SANITIZE_SET = "SANITIZE_SET"
    ALWAYS_FORWARD_ONLY = "ALWAYS_FORWARD_ONLY"


_ForwardClientCert = Annotated[ForwardClientCertDetails, numbered(*ForwardClientCertDetails)]


class Topology(Message):
    """Proxies in front of a gateway."""

    num_trusted_proxies: UInt32 = 0
    forward_client_cert_details: _ForwardClientCert = ForwardClientCertDetails.UNDEFINED
    proxy_protocol: Nothing | None = None


class KeyAccelerator(Message):
    """A private key provider in hardware; ``poll_delay`` in seconds."""

    poll_delay: Duration | None = None
    fallback: bool | None = None


class PrivateKeyProvider(Message):
    """Who computes with private keys."""

    cryptomb: KeyAccelerator | None = None
    qat: KeyAccelerator | None = None

    _provider = one_of("cryptomb", "qat")


class DroppedHeader(Message):
    """A header that is added unless it is disabled."""

    disabled: bool | None = None


class AddedHeader(Message):
    """A header that is added when it is enabled."""

    enabled: bool | None = None


class ServerHeader(Message):
    """The header ``server``."""

    disabled: bool | None = None
    value: str = ""


class MetadataExchangeMode(StrEnum):
    """To whom ``x-envoy-peer-metadata`` is sent; ``IN_MESH`` only where mutual TLS is spoken."""

    UNDEFINED = "UNDEFINED"
    IN_MESH = "IN_MESH"


class MetadataExchangeHeaders(Message):
    """The headers ``x-envoy-peer-metadata`` and ``-id``."""

    mode: Annotated[MetadataExchangeMode, numbered(*MetadataExchangeMode)] = MetadataExchangeMode.UNDEFINED


class SetCurrentClientCertDetails(Message):
    """What of the client's certificate is forwarded."""

    subject: bool | None = None
    cert: bool | None = None
    chain: bool | None = None
    dns: bool | None = None
    uri: bool | None = None


class ProxyHeaders(Message):
    """Which headers a proxy adds."""

    forwarded_client_cert: _ForwardClientCert = ForwardClientCertDetails.UNDEFINED
    set_current_client_cert_details: SetCurrentClientCertDetails | None = None
    request_id: DroppedHeader | None = None
    server: ServerHeader | None = None
    attempt_count: DroppedHeader | None = None
    envoy_debug_headers: DroppedHeader | None = None
    metadata_exchange_headers: MetadataExchangeHeaders | None = None
    preserve_http1_header_case: bool | None = None
    x_forwarded_host: AddedHeader | None = None
    x_forwarded_port: AddedHeader | None = None


class RemoteService(TracerAddress):
    """A service that the proxy reports to."""

    tls_settings: ClientTLSSettings | None = None
    tcp_keepalive: TcpKeepalive | None = None


class ProxyStatsMatcher(Message):
    """Which of the proxy's statistics are kept."""

    inclusion_prefixes: list[str] = Field(default_factory=list)
    inclusion_suffixes: list[str] = Field(default_factory=list)
    inclusion_regexps: list[str] = Field(default_factory=list)


class SDS(Message):
    """Where a token for secrets lies; deprecated by Istio."""

    enabled: bool = False
    k8s_sa_jwt_path: str = ""


class ConnectionProfile(StrEnum):
    """Which defaults of limits."""

    SIDECAR = "SIDECAR"
    EDGE = "EDGE"


class HeadersWithUnderscores(StrEnum):
    """What happens to headers whose names hold a ``_``."""

    UNSPECIFIED = "HEADERS_WITH_UNDERSCORES_UNSPECIFIED"
    ALLOW = "HEADERS_WITH_UNDERSCORES_ALLOW"
    REJECT_REQUEST = "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST"
    DROP_HEADER = "HEADERS_WITH_UNDERSCORES_DROP_HEADER"


class EscapedSlashes(StrEnum):
    """What happens to paths with ``%2F``."""

    UNSPECIFIED = "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED"
    KEEP_UNCHANGED = "KEEP_UNCHANGED"
    REJECT_REQUEST = "REJECT_REQUEST"
    UNESCAPE_AND_REDIRECT = "UNESCAPE_AND_REDIRECT"
    UNESCAPE_AND_FORWARD = "UNESCAPE_AND_FORWARD"


class ConnectionSettings(Message):
    """Limits of a proxy's connections; durations in seconds."""

    profile: Annotated[ConnectionProfile, numbered(*ConnectionProfile)] = ConnectionProfile.SIDECAR
    listener_per_connection_buffer_limit_bytes: int | None = None
    cluster_per_connection_buffer_limit_bytes: int | None = None
    http_idle_timeout: Duration | None = None
    http_max_connection_duration: Duration | None = None
    http_drain_timeout: Duration | None = None
    http_request_timeout: Duration | None = None
    http_request_headers_timeout: Duration | None = None
    http_stream_idle_timeout: Duration | None = None
    http_max_stream_duration: Duration | None = None
    http_max_concurrent_streams: int | None = None
    http2_initial_stream_window_size: int | None = None
    http2_initial_connection_window_size: int | None = None
    http_headers_with_underscores_action: Annotated[HeadersWithUnderscores, numbered(*HeadersWithUnderscores)] = (
        HeadersWithUnderscores.UNSPECIFIED
    )
    http_merge_slashes: bool | None = None
    http_path_with_escaped_slashes_action: Annotated[EscapedSlashes, numbered(*EscapedSlashes)] = (
        EscapedSlashes.UNSPECIFIED
    )
    listener_connection_limit: int | None = None
    global_downstream_connection_limit: int | None = None


class TracingServiceName(StrEnum):
    """What spans call their service."""

    APP_LABEL_AND_NAMESPACE = "APP_LABEL_AND_NAMESPACE"
    CANONICAL_NAME_ONLY = "CANONICAL_NAME_ONLY"
    CANONICAL_NAME_AND_NAMESPACE = "CANONICAL_NAME_AND_NAMESPACE"


class AuthenticationPolicy(StrEnum):
    """How a proxy talks to the control plane."""

    NONE = "NONE"
    MUTUAL_TLS = "MUTUAL_TLS"
    INHERIT = "INHERIT"


class InboundInterceptionMode(StrEnum):
    """How inbound traffic is redirected."""

    REDIRECT = "REDIRECT"
    TPROXY = "TPROXY"
    NONE = "NONE"


class ProxyConfig(Message):
    """``MeshConfig.defaultConfig`` and the annotation ``proxy.istio.io/config``; the defaults are Istio's."""

    config_path: str = "./etc/istio/proxy"
    binary_path: str = "/usr/local/bin/envoy"
    service_cluster: str | None = None
    tracing_service_name: Annotated[TracingServiceName, numbered(*TracingServiceName)] = (
        TracingServiceName.APP_LABEL_AND_NAMESPACE
    )
    drain_duration: Duration = 45.0
    discovery_address: str = "istiod.istio-system.svc:15012"
    discovery_refresh_delay: Duration | None = None
    zipkin_address: str = ""
    statsd_udp_address: str = ""
    envoy_metrics_service_address: str = ""
    proxy_admin_port: int = 15000
    availability_zone: str = ""
    control_plane_auth_policy: Annotated[
        AuthenticationPolicy, numbered(AuthenticationPolicy.NONE, AuthenticationPolicy.MUTUAL_TLS)
    ] = AuthenticationPolicy.MUTUAL_TLS
    custom_config_file: str = ""
    stat_name_length: int = 189
    concurrency: int | None = None
    proxy_bootstrap_template_path: str = ""
    interception_mode: Annotated[InboundInterceptionMode, numbered(*InboundInterceptionMode)] = (
        InboundInterceptionMode.REDIRECT
    )
    tracing: ProxyTracing | None = None
    sds: SDS | None = None
    envoy_access_log_service: RemoteService | None = None
    envoy_metrics_service: RemoteService | None = None
    proxy_metadata: dict[str, str] = Field(default_factory=dict)
    runtime_values: dict[str, str] = Field(default_factory=dict)
    status_port: int = 15020
    extra_stat_tags: list[str] = Field(default_factory=list)
    gateway_topology: Topology | None = None
    termination_drain_duration: Duration = 5.0
    mesh_id: str = ""
    readiness_probe: ReadinessProbe | None = None
    proxy_stats_matcher: ProxyStatsMatcher | None = None
    hold_application_until_proxy_starts: bool | None = None
    ca_certificates_pem: list[str] = Field(default_factory=list)
    image: ProxyImage | None = None
    private_key_provider: PrivateKeyProvider | None = None
    proxy_headers: ProxyHeaders | None = None
    file_flush_interval: Duration | None = None
    file_flush_min_size_kb: UInt32 = 0
    stats_compression: bool | None = None
    connection_settings: ConnectionSettings | None = None

    _cluster_name = one_of("service_cluster", "tracing_service_name")
