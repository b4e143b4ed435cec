"""MeshConfig: the mesh-wide settings (``istio.mesh.v1alpha1``), read from a ConfigMap ``istio`` or given in code."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from meshlib.config.resources.base import Duration, Message, numbered, one_of
from meshlib.config.resources.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    H2UpgradePolicy,
    LocalityLoadBalancerSetting,
    OutlierDetection,
    TcpKeepalive,
    ZoneAwareLoadBalancerSetting,
)
from meshlib.config.resources.extension_providers import (
    EnvoyFileAccessLogProvider,
    ExtensionProvider,
    Nothing,
    StackdriverProvider,
)
from meshlib.config.resources.proxy_config import ProxyConfig
from meshlib.config.resources.selectors import LabelSelector
from meshlib.config.resources.sidecar import OutboundTrafficMode
from meshlib.config.resources.support import Approximated, Ignored, ServerSide
from meshlib.config.resources.virtual_service import HTTPRetry

__all__ = [
    "CertificateData",
    "DefaultProviders",
    "DefaultTrafficPolicy",
    "MeshConfig",
    "MeshOutboundTrafficPolicy",
    "NormalizationType",
    "ServiceEntryVisibility",
    "ServiceSettings",
    "TLSConfig",
    "Visibility",
]


class MeshOutboundTrafficPolicy(Message):
    """What happens to unknown hosts; an empty object is REGISTRY_ONLY. ``tls`` is for ALLOW_ANY_DYNAMIC_DNS."""

    mode: Annotated[OutboundTrafficMode, numbered(OutboundTrafficMode.REGISTRY_ONLY, OutboundTrafficMode.ALLOW_ANY)] = (
        OutboundTrafficMode.REGISTRY_ONLY
    )
    tls: ClientTLSSettings | None = None


class InboundTrafficMode(StrEnum):
    """Where requests go that a sidecar took in."""

    PASSTHROUGH = "PASSTHROUGH"
    LOCALHOST = "LOCALHOST"


class InboundTrafficPolicy(Message):
    """Where requests go that a sidecar took in."""

    mode: Annotated[InboundTrafficMode, numbered(*InboundTrafficMode)] = InboundTrafficMode.PASSTHROUGH


class DefaultTrafficPolicy(Message):
    """Falls in where a DestinationRule leaves a block out."""

    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None


class CertificateData(Message):
    """An extra root of trust."""

    pem: str | None = None
    spiffe_bundle_url: str | None = None
    cert_signers: list[str] = Field(default_factory=list)
    trust_domains: list[str] = Field(default_factory=list)

    _data = one_of("pem", "spiffe_bundle_url")


class ClusterScope(Message):
    """Whether only endpoints of the own cluster count."""

    cluster_local: bool = False


class ServiceSettings(Message):
    """Settings of some hosts."""

    settings: ClusterScope | None = None
    hosts: list[str] = Field(default_factory=list)


class ServiceScope(StrEnum):
    """How far a service reaches, in ambient meshes."""

    LOCAL = "LOCAL"
    GLOBAL = "GLOBAL"


class ServiceScopeConfigs(Message):
    """Which services reach how far, in ambient meshes."""

    namespace_selector: LabelSelector | None = None
    services_selector: LabelSelector | None = None
    scope: Annotated[ServiceScope, numbered(*ServiceScope)] = ServiceScope.LOCAL


class Visibility(StrEnum):
    """Who may see a ServiceEntry at most."""

    VISIBILITY_UNSPECIFIED = "VISIBILITY_UNSPECIFIED"
    NONE = "NONE"
    NAMESPACE = "NAMESPACE"
    PUBLIC = "PUBLIC"


_Visibility = Annotated[Visibility, numbered(*Visibility)]


class NamespaceRule(Message):
    """Namespaces that a visibility policy is for."""

    namespace_selector: LabelSelector | None = None


class VisibilityPolicy(Message):
    """A bound for the ServiceEntries of some namespaces."""

    visibility: _Visibility = Visibility.VISIBILITY_UNSPECIFIED
    matching_rules: list[NamespaceRule] = Field(default_factory=list)


class ServiceEntryVisibility(Message):
    """A bound for ``exportTo`` of ServiceEntries."""

    default_visibility: _Visibility = Visibility.VISIBILITY_UNSPECIFIED
    apply_to_sidecars: bool = False
    policies: list[VisibilityPolicy] = Field(default_factory=list)


class NormalizationType(StrEnum):
    """What is done to a path before it is matched; DEFAULT is BASE."""

    DEFAULT = "DEFAULT"
    NONE = "NONE"
    BASE = "BASE"
    MERGE_SLASHES = "MERGE_SLASHES"
    DECODE_AND_MERGE_SLASHES = "DECODE_AND_MERGE_SLASHES"


class ProxyPathNormalization(Message):
    """What is done to a path before it is matched."""

    normalization: Annotated[NormalizationType, numbered(*NormalizationType)] = NormalizationType.DEFAULT


class MeshTLSProtocol(StrEnum):
    """The least version; ``TLS_AUTO`` is 1.2."""

    TLS_AUTO = "TLS_AUTO"
    TLSV1_2 = "TLSV1_2"
    TLSV1_3 = "TLSV1_3"


class TLSConfig(Message):
    """Bounds of TLS."""

    min_protocol_version: Annotated[MeshTLSProtocol, numbered(*MeshTLSProtocol)] = MeshTLSProtocol.TLS_AUTO
    ecdh_curves: list[str] = Field(default_factory=list)
    cipher_suites: list[str] = Field(default_factory=list)


class DefaultProviders(Message):
    """Names of extension providers that are used where no Telemetry says otherwise."""

    tracing: list[str] = Field(default_factory=list)
    metrics: list[str] = Field(default_factory=list)
    access_logging: list[str] = Field(default_factory=list)


class CertificateAuthority(Message):
    """An external CA."""

    address: str = ""
    tls_settings: ClientTLSSettings | None = None
    request_timeout: Duration = 10.0
    istiod_side: bool = True


class ConfigSource(Message):
    """Where a control plane reads from."""

    address: str = ""
    tls_settings: ClientTLSSettings | None = None
    subscribed_resources: list[str | int] = Field(default_factory=list)


class Certificate(Message):
    """A DNS certificate; deprecated by Istio."""

    secret_name: str = ""
    dns_names: list[str] = Field(default_factory=list)


class AccessLogEncoding(StrEnum):
    """Form of the default access log."""

    TEXT = "TEXT"
    JSON = "JSON"


class IngressControllerMode(StrEnum):
    """Which Ingress objects are taken."""

    UNSPECIFIED = "UNSPECIFIED"
    OFF = "OFF"
    DEFAULT = "DEFAULT"
    STRICT = "STRICT"


def _built_in_providers() -> list[ExtensionProvider]:
    """Istio has these whatever a mesh adds, unless it names one of its own so."""
    return [
        ExtensionProvider(name="prometheus", prometheus=Nothing()),
        ExtensionProvider(name="stackdriver", stackdriver=StackdriverProvider()),
        ExtensionProvider(name="envoy", envoy_file_access_log=EnvoyFileAccessLogProvider(path="/dev/stdout")),
    ]


def _with_built_in(given: list[ExtensionProvider]) -> list[ExtensionProvider]:
    names = {provider.name for provider in given}
    return [*given, *(provider for provider in _built_in_providers() if provider.name not in names)]


class MeshConfig(Message):
    """The mesh-wide settings, with Istio's defaults; ingress, listener and bootstrap fields are read, never used."""

    connect_timeout: Duration = 10.0
    tcp_keepalive: TcpKeepalive | None = None
    default_http_retry_policy: HTTPRetry | None = None
    default_inbound_http_retry_policy: Annotated[
        HTTPRetry | None, ServerSide("between a sidecar and its application")
    ] = None
    default_traffic_policy: DefaultTrafficPolicy | None = None
    outbound_traffic_policy: MeshOutboundTrafficPolicy = MeshOutboundTrafficPolicy(mode=OutboundTrafficMode.ALLOW_ANY)
    inbound_traffic_policy: Annotated[InboundTrafficPolicy, ServerSide("where a sidecar sends what it takes in")] = (
        InboundTrafficPolicy()
    )
    locality_lb_setting: LocalityLoadBalancerSetting | None = LocalityLoadBalancerSetting(enabled=True)
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    enable_auto_mtls: Annotated[
        bool,
        Approximated(
            "automatic mutual TLS stays plaintext: only clusters that an xDS control plane sends have an identity",
            (True,),
        ),
    ] = True
    h2_upgrade_policy: Annotated[H2UpgradePolicy, numbered(H2UpgradePolicy.DO_NOT_UPGRADE, H2UpgradePolicy.UPGRADE)] = (
        H2UpgradePolicy.DO_NOT_UPGRADE
    )
    dns_refresh_rate: Duration = 60.0
    protocol_detection_timeout: Annotated[Duration, ServerSide("a client knows what it speaks")] = 0.0
    default_service_export_to: list[str] = Field(default_factory=lambda: ["*"])
    default_virtual_service_export_to: list[str] = Field(default_factory=lambda: ["*"])
    default_destination_rule_export_to: list[str] = Field(default_factory=lambda: ["*"])
    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    trust_domain_aliases: list[str] = Field(default_factory=list)
    ca_certificates: Annotated[list[CertificateData], Ignored("there is no identity of the mesh yet")] = Field(
        default_factory=list
    )
    path_normalization: ProxyPathNormalization = ProxyPathNormalization()
    mesh_mtls: Annotated[TLSConfig | None, ServerSide("bounds for servers")] = Field(default=None, alias="meshMTLS")
    tls_defaults: Annotated[TLSConfig | None, Approximated("of several ecdhCurves OpenSSL chooses freely")] = None
    service_settings: Annotated[
        list[ServiceSettings], Approximated("for a caller that knows its cluster; others use the endpoints of all")
    ] = Field(default_factory=list)
    service_scope_configs: Annotated[list[ServiceScopeConfigs], Ignored("for ambient meshes")] = Field(
        default_factory=list
    )
    service_entry_visibility: ServiceEntryVisibility | None = None
    discovery_selectors: list[LabelSelector] = Field(default_factory=list)
    extension_providers: Annotated[
        list[ExtensionProvider],
        AfterValidator(_with_built_in),
        Ignored("spans and metrics go where OpenTelemetry is configured to send them"),
    ] = Field(default_factory=_built_in_providers)
    default_providers: Annotated[
        DefaultProviders, Ignored("spans and metrics go where OpenTelemetry is configured to send them")
    ] = DefaultProviders()
    default_config: Annotated[
        ProxyConfig, Approximated("proxyHeaders.xForwardedHost counts; the rest configures the proxy process")
    ] = ProxyConfig()
    enable_tracing: Annotated[bool, Ignored("Mesh(telemetry=False) switches spans off")] = True
    access_log_file: Annotated[str, Ignored("the access log goes to Python's logging")] = ""
    access_log_format: Annotated[str, Ignored("the access log goes to Python's logging")] = ""
    access_log_encoding: Annotated[
        AccessLogEncoding, numbered(*AccessLogEncoding), Ignored("the access log goes to Python's logging")
    ] = AccessLogEncoding.TEXT
    enable_envoy_access_log_service: Annotated[bool, Ignored("the access log goes to Python's logging")] = False
    disable_envoy_listener_log: Annotated[bool, ServerSide("for listeners")] = False
    enable_prometheus_merge: Annotated[bool, ServerSide("for sidecars")] = True
    inbound_cluster_stat_name: Annotated[str, ServerSide("for sidecars")] = ""
    outbound_cluster_stat_name: Annotated[str, Ignored("metrics carry the names of services")] = ""
    verify_certificate_at_client: Annotated[bool | None, Ignored("deprecated, and without effect in Istio too")] = None
    ca: Annotated[CertificateAuthority | None, Ignored("there is no identity of the mesh yet")] = None
    certificates: Annotated[list[Certificate], ServerSide("for istiod")] = Field(default_factory=list)
    config_sources: Annotated[list[ConfigSource], ServerSide("for istiod")] = Field(default_factory=list)
    hbone_idle_timeout: Annotated[Duration | None, Ignored("for ambient meshes")] = None
    proxy_listen_port: Annotated[int, ServerSide("for sidecars")] = 15001
    proxy_inbound_listen_port: Annotated[int, ServerSide("for sidecars")] = 15006
    proxy_http_port: Annotated[int, ServerSide("for sidecars")] = 0
    ingress_class: Annotated[str, ServerSide("for gateways")] = "istio"
    ingress_service: Annotated[str, ServerSide("for gateways")] = "istio-ingressgateway"
    ingress_selector: Annotated[str, ServerSide("for gateways")] = "ingressgateway"
    ingress_controller_mode: Annotated[
        IngressControllerMode, numbered(*IngressControllerMode), ServerSide("for gateways")
    ] = IngressControllerMode.STRICT

    def provider(self, name: str) -> ExtensionProvider | None:
        """The extension provider of that name, in any case; None when there is none."""
        wanted = name.casefold()
        return next((each for each in self.extension_providers if each.name.casefold() == wanted), None)
