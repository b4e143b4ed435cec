"""DestinationRule: how a service and its subsets are talked to (``networking.istio.io``)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from meshlib.config.resources.base import Duration, Int32, Message, UInt32, numbered, one_of
from meshlib.config.resources.selectors import WorkloadSelector
from meshlib.config.resources.support import Approximated, Ignored
from meshlib.config.resources.virtual_service import PortSelector

__all__ = [
    "ClientTLSMode",
    "ClientTLSSettings",
    "ConnectionPoolSettings",
    "ConsistentHashLB",
    "CookieAttribute",
    "DestinationRuleSpec",
    "LoadBalancerSettings",
    "LocalityFailover",
    "LocalityLoadBalancerSetting",
    "OutlierDetection",
    "PortTrafficPolicy",
    "ProxyProtocol",
    "ProxyProtocolVersion",
    "RetryBudget",
    "SimpleLB",
    "Subset",
    "TrafficPolicy",
    "TunnelSettings",
    "ZoneAwareLoadBalancerSetting",
]


class SimpleLB(StrEnum):
    """Algorithms without a key; ``LEAST_CONN`` is the old name of ``LEAST_REQUEST``."""

    UNSPECIFIED = "UNSPECIFIED"
    LEAST_CONN = "LEAST_CONN"
    RANDOM = "RANDOM"
    PASSTHROUGH = "PASSTHROUGH"
    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_REQUEST = "LEAST_REQUEST"


class CookieAttribute(Message):
    """A further attribute of a cookie that is made, for example ``SameSite=Strict``; without a value ``Secure``."""

    name: str = ""
    value: str = ""


class HTTPCookie(Message):
    """Hash by a cookie, made when missing if ``ttl`` is set; ``0s`` makes a session cookie."""

    name: str = ""
    path: str = ""
    ttl: Duration | None = None
    attributes: list[CookieAttribute] = Field(default_factory=list)


_Size = Annotated[int, Field(ge=0)]


class RingHash(Message):
    """Ring hash."""

    minimum_ring_size: _Size = 0


class MagLev(Message):
    """Maglev."""

    table_size: _Size = 0


class ConsistentHashLB(Message):
    """Hash by one key."""

    http_header_name: str = ""
    http_cookie: HTTPCookie | None = None
    use_source_ip: bool = False
    http_query_parameter_name: str = ""
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: _Size = 0

    _key = one_of("http_header_name", "http_cookie", "use_source_ip", "http_query_parameter_name")
    _algorithm = one_of("ring_hash", "maglev")


class LocalityDistribute(Message):
    """Weights by locality for one origin."""

    from_: str = Field(default="", alias="from")
    to: dict[str, UInt32] = Field(default_factory=dict)


class LocalityFailover(Message):
    """Where one region fails over to."""

    from_: str = Field(default="", alias="from")
    to: str = ""


class LocalityLoadBalancerSetting(Message):
    """Preference by locality."""

    distribute: list[LocalityDistribute] = Field(default_factory=list)
    failover: list[LocalityFailover] = Field(default_factory=list)
    failover_priority: list[str] = Field(default_factory=list)
    enabled: bool | None = None


class ZoneAwareLoadBalancerSetting(Message):
    """Envoy's zone-aware routing."""

    failover: list[LocalityFailover] = Field(default_factory=list)
    failover_priority: list[str] = Field(default_factory=list)
    min_cluster_size: Annotated[int, Field(ge=1)] | None = None
    enabled: bool | None = None


class WarmupConfiguration(Message):
    """Slow start."""

    duration: Duration | None = None
    minimum_percent: Annotated[float, Field(ge=0, le=100)] | None = None
    aggression: Annotated[float, Field(ge=0)] | None = None


class LoadBalancerSettings(Message):
    """Which endpoint."""

    simple: Annotated[SimpleLB, numbered(*SimpleLB)] | None = None
    consistent_hash: ConsistentHashLB | None = None
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    warmup_duration_secs: Duration | None = None
    warmup: WarmupConfiguration | None = None

    _policy = one_of("simple", "consistent_hash")
    _warmup = one_of("warmup_duration_secs", "warmup")


class TcpKeepalive(Message):
    """Keepalive probes."""

    probes: UInt32 = 0
    time: Duration | None = None
    interval: Duration | None = None


class TCPSettings(Message):
    """Limits of connections."""

    max_connections: Int32 = 0
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None


class H2UpgradePolicy(StrEnum):
    """Whether HTTP/1 callers are sent over HTTP/2."""

    DEFAULT = "DEFAULT"
    DO_NOT_UPGRADE = "DO_NOT_UPGRADE"
    UPGRADE = "UPGRADE"


class Http2KeepAlive(Message):
    """HTTP/2 PING."""

    interval: Duration | None = None
    timeout: Duration | None = None


class HTTPSettings(Message):
    """Limits of requests."""

    http1_max_pending_requests: Int32 = 0
    http2_max_requests: Int32 = 0
    max_requests_per_connection: Int32 = 0
    max_retries: Int32 = 0
    idle_timeout: Duration | None = None
    h2_upgrade_policy: Annotated[H2UpgradePolicy, numbered(*H2UpgradePolicy)] = H2UpgradePolicy.DEFAULT
    use_client_protocol: bool = False
    max_concurrent_streams: Int32 = 0
    http2_keep_alive: Http2KeepAlive | None = None


class ConnectionPoolSettings(Message):
    """Limits towards a destination; 0 means unset."""

    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None


class OutlierDetection(Message):
    """When endpoints are left out."""

    consecutive_errors: Annotated[int, Ignored("deprecated, and ignored by Istio too: write consecutive5xxErrors")] = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: UInt32 | None = None
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_5xx_errors: UInt32 | None = None
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: Int32 = 0
    min_health_percent: Int32 = 0
    outlier_detection_http_error_codes: list[UInt32] = Field(default_factory=list)


class ClientTLSMode(StrEnum):
    """TLS towards the endpoints."""

    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


class ClientTLSSettings(Message):
    """TLS towards the endpoints; an empty object is ``DISABLE``."""

    mode: Annotated[
        ClientTLSMode,
        numbered(*ClientTLSMode),
        Approximated(
            "refused with a clear error: the process has no identity of the mesh", (ClientTLSMode.ISTIO_MUTUAL,)
        ),
    ] = ClientTLSMode.DISABLE
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    credential_name: Annotated[str, Approximated("refused with a clear error: there is no source of secrets")] = ""
    subject_alt_names: list[str] = Field(default_factory=list)
    sni: str = ""
    insecure_skip_verify: bool | None = None
    ca_crl: str = ""


class PortTrafficPolicy(Message):
    """The policy of one service port; replaces everything for it."""

    port: PortSelector | None = None
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


class TunnelSettings(Message):
    """Tunnel TCP over HTTP: ``CONNECT`` (the default) or ``POST`` to a target."""

    protocol: Annotated[
        str, Approximated("connections are refused with a clear error: only CONNECT is spoken", ("POST",))
    ] = ""
    target_host: str = ""
    target_port: UInt32 = 0


class ProxyProtocolVersion(StrEnum):
    """Version of the PROXY protocol."""

    V1 = "V1"
    V2 = "V2"


class ProxyProtocol(Message):
    """A PROXY protocol header is written on connect."""

    version: Annotated[ProxyProtocolVersion, numbered(*ProxyProtocolVersion)] = ProxyProtocolVersion.V1


class RetryBudget(Message):
    """How many retries may be under way; takes the place of ``connectionPool.http.maxRetries``.

    Attributes:
        percent: Of the requests under way, 0 to 100; None is 20.
        min_retry_concurrency: Allowed however few requests are under way; 0 is 3.
        budget_interval: Seconds whose requests count; None or 0 counts those under way now.
    """

    percent: Annotated[float, Field(ge=0, le=100)] | None = None
    min_retry_concurrency: UInt32 = 0
    budget_interval: Duration | None = None


class TrafficPolicy(Message):
    """All policies towards a destination."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: Annotated[list[PortTrafficPolicy], Field(max_length=4096)] = Field(default_factory=list)
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


def _labels(value: Any) -> Any:
    return {} if value is None else value


class Subset(Message):
    """A named part of a service, chosen by labels."""

    name: str = ""
    labels: Annotated[dict[str, str], BeforeValidator(_labels)] = Field(default_factory=dict)
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Message):
    """Policies and subsets of a host."""

    host: str = ""
    traffic_policy: TrafficPolicy | None = None
    subsets: list[Subset] = Field(default_factory=list)
    export_to: list[str] = Field(default_factory=list)
    workload_selector: WorkloadSelector | None = None
