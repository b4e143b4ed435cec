"""Clusters off the wire.

Source: Envoy ``Cluster``, whose defaults hold for what is not set; gRFCs A27, A32, A37, A42, A48, A50, A52, A75. A name
of Istio's form tells service, port and subset; any other is the service itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from meshlib.model.cluster import Cluster, Discovery, Protocol, parse_cluster_name, sni_name
from meshlib.model.policy import (
    CircuitBreaker,
    ConnectionPool,
    Http2KeepAlive,
    RetryBudget,
    TcpKeepalive,
    Tls,
    TlsMode,
)
from meshlib.xds.decode.balancers import balancer
from meshlib.xds.decode.endpoints import Assigned, assigned
from meshlib.xds.decode.findings import Decoded, Findings, Place, Profile
from meshlib.xds.decode.outlier import error_codes, outlier_detection
from meshlib.xds.decode.tls import SecretNames, sockets
from meshlib.xds.decode.values import metadata, optional_duration, optional_uint, read, unpack
from meshlib.xds.messages import aggregate_pb2, cluster_pb2, http_protocol_options_pb2

__all__ = ["DecodedCluster", "cluster"]

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
UNLIMITED = 4294967295

_KNOWN = {
    "name",
    "type",
    "cluster_type",
    "eds_cluster_config",
    "load_assignment",
    "connect_timeout",
    "lb_policy",
    "load_balancing_policy",
    "ring_hash_lb_config",
    "maglev_lb_config",
    "least_request_lb_config",
    "round_robin_lb_config",
    "original_dst_lb_config",
    "common_lb_config",
    "lb_subset_config",
    "circuit_breakers",
    "outlier_detection",
    "typed_extension_protocol_options",
    "transport_socket",
    "transport_socket_matches",
    "upstream_connection_options",
    "metadata",
    "dns_refresh_rate",
    "respect_dns_ttl",
    "alt_stat_name",
    "wait_for_warm_on_init",
    "max_requests_per_connection",
    "lrs_server",
}
_HARMLESS = {"dns_jitter", "dns_lookup_family", "filters"}
_DISCOVERY = {"STATIC": Discovery.ENDPOINTS, "EDS": Discovery.ENDPOINTS}
_DISCOVERY |= {name: Discovery[name] for name in ("STRICT_DNS", "LOGICAL_DNS", "ORIGINAL_DST")}


@dataclass(frozen=True, slots=True)
class DecodedCluster:
    """A ``Cluster``.

    Attributes:
        cluster: What it says.
        endpoints: Those that came inside, None when they are to be asked for.
        service_name: What to ask endpoint discovery for, ``""`` when there is nothing to ask.
        children: Of an aggregate, clusters to use in this order.
        reports_load: Its control plane wants to know how much is sent to it (LRS).
        secrets: What its TLS is made of besides.
    """

    cluster: Cluster
    endpoints: Assigned | None = None
    service_name: str = ""
    children: tuple[str, ...] = ()
    reports_load: bool = False
    secrets: SecretNames = SecretNames()


def cluster(resource: Any, profile: Profile = Profile.HTTP) -> Decoded[DecodedCluster]:
    """A cluster of a message or of protobuf JSON.

    Raises:
        InvalidResource: With everything that is wrong.
    """
    message, findings = read(resource, cluster_pb2.Cluster), Findings(profile)
    return findings.close("Cluster", message.name, _read(message, Place(findings)))


def _read(message: Any, at: Place) -> DecodedCluster:
    inbound = message.name.startswith(("inbound|", "InboundPassthroughCluster"))
    at.only(message, _KNOWN | _HARMLESS | ({"upstream_bind_config"} if inbound else set()))
    if not message.name:
        at.field("name").error("is empty")
    options = _options(message, at)
    ours = metadata(message, "meshlib")
    service, port, subset, namespace = _service(message)
    endpoints = _endpoints(message, at)
    children = _children(message, at)
    full = endpoints.overprovisioning if endpoints is not None else 1.4
    tls, version, secrets = sockets(message, sni_name(service, port, subset), at)
    codes = error_codes(options, at)
    made = Cluster(
        message.name,
        service,
        port,
        subset,
        _DISCOVERY.get(cluster_pb2.Cluster.DiscoveryType.Name(message.type), Discovery.ENDPOINTS),
        Protocol.TCP if ours.get("protocol") == "TCP" else _protocol(options),
        replace(balancer(message, at), overprovisioning=full),
        _circuit_breaker(message, float(ours.get("retry_budget_interval", 0.0)), at),
        outlier_detection(message.outlier_detection, codes, at.field("outlier_detection"))
        if message.HasField("outlier_detection")
        else None,
        replace(_pool(message, options, at), proxy_protocol=version),
        replace(_named(tls, options), refused=str(ours.get("refused", ""))),
        message.original_dst_lb_config.upstream_port_override.value,
        namespace,
        ours.get("external") is True,
        dns_refresh=_dns_refresh(message, at),
    )
    return DecodedCluster(made, endpoints, _service_name(message, at), children, _reports_load(message, at), secrets)


def _reports_load(message: Any, at: Place) -> bool:
    """Reports go to the server that the cluster came from, and to no other."""
    if not message.HasField("lrs_server"):
        return False
    own = message.lrs_server.WhichOneof("config_source_specifier") == "self"
    if not own and at.is_grpc:
        at.field("lrs_server").error("must be self")
    elif not own:
        at.ignored("lrs_server")
    return bool(own)


def _service(message: Any) -> tuple[str, int, str, str]:
    istio, name = metadata(message, "istio"), parse_cluster_name(message.name)
    first: dict[str, Any] = next(iter(istio.get("services", ())), {})
    namespace = str(first.get("namespace", ""))
    if name.host:
        return name.host, name.port, name.subset, namespace
    host, port = str(first.get("host") or message.name), int(istio.get("default_original_port", 0))
    return host, port, str(istio.get("subset", "")), namespace


# Discovery ------------------------------------------------------------------------------------------------------------


def _endpoints(message: Any, at: Place) -> Assigned | None:
    if message.HasField("cluster_type") or message.type == cluster_pb2.Cluster.EDS:
        return None
    kind = cluster_pb2.Cluster.DiscoveryType.Name(message.type)
    if at.is_grpc and kind != "LOGICAL_DNS":
        at.field("type").error(f"gRPC does not know {kind}")
    if message.type == cluster_pb2.Cluster.ORIGINAL_DST:
        return None
    place = at.field("load_assignment")
    found = assigned(message.load_assignment, place, names=kind.endswith("DNS"))
    if kind == "LOGICAL_DNS" and [len(group.endpoints) for group in found.assignment] != [1]:
        place.error("LOGICAL_DNS needs one locality with one endpoint")
    return found


def _service_name(message: Any, at: Place) -> str:
    if message.type != cluster_pb2.Cluster.EDS or message.HasField("cluster_type"):
        return ""
    place = at.field("eds_cluster_config")
    if not message.HasField("eds_cluster_config"):
        place.error("is missing")
    source = message.eds_cluster_config.eds_config.WhichOneof("config_source_specifier")
    if at.is_grpc and source not in ("ads", "self"):
        place.field("eds_config").error("must be ads or self")
    return str(message.eds_cluster_config.service_name or message.name)


def _children(message: Any, at: Place) -> tuple[str, ...]:
    if not message.HasField("cluster_type"):
        return ()
    place, name = at.field("cluster_type"), aggregate_pb2.ClusterConfig.DESCRIPTOR.full_name
    config = unpack(message.cluster_type.typed_config, {name: aggregate_pb2.ClusterConfig}, place)
    if config is None:
        place.error(f"{message.cluster_type.name!r} is not known")
    elif not config.clusters:
        place.error("an aggregate of no clusters")
    return () if config is None else tuple(config.clusters)


def _dns_refresh(message: Any, at: Place) -> float:
    given = optional_duration(message, "dns_refresh_rate", at)
    return 60.0 if given is None else given


# Connections ----------------------------------------------------------------------------------------------------------


def _options(message: Any, at: Place) -> Any:
    kind = http_protocol_options_pb2.HttpProtocolOptions
    for name, packed in message.typed_extension_protocol_options.items():
        place = at.field("typed_extension_protocol_options", name)
        found = unpack(packed, {kind.DESCRIPTOR.full_name: kind}, place) if name == HTTP_OPTIONS else None
        if found is None:
            place.has_no_effect()
            continue
        known = {"common_http_protocol_options", "upstream_http_protocol_options", "outlier_detection"}
        place.only(found, {*known, "explicit_http_config", "use_downstream_protocol_config", "auto_config"})
        return found
    return kind()


def _protocol(options: Any) -> Protocol:
    kind = options.WhichOneof("upstream_protocol_options")
    if kind == "explicit_http_config" and options.explicit_http_config.HasField("http2_protocol_options"):
        return Protocol.HTTP2
    return Protocol.CALLER if kind in ("use_downstream_protocol_config", "auto_config") else Protocol.HTTP1


def _http2(options: Any) -> Any:
    kind = options.WhichOneof("upstream_protocol_options")
    return getattr(options, kind).http2_protocol_options if kind is not None else None


def _pool(message: Any, options: Any, at: Place) -> ConnectionPool:
    connect = optional_duration(message, "connect_timeout", at)
    if connect is not None and connect <= 0:
        at.field("connect_timeout").error("must be above 0")
    common, http2 = options.common_http_protocol_options, _http2(options)
    place = at.field("common_http_protocol_options")
    place.only(common, {"idle_timeout", "max_connection_duration", "max_requests_per_connection"})
    idle = optional_duration(common, "idle_timeout", place)
    per_connection = optional_uint(common, "max_requests_per_connection")
    return ConnectionPool(
        5.0 if connect is None else connect,
        3600.0 if idle is None else idle or None,
        optional_duration(common, "max_connection_duration", place),
        optional_uint(message, "max_requests_per_connection") if per_connection is None else per_connection,
        optional_uint(http2, "max_concurrent_streams") if http2 is not None else None,
        _tcp_keepalive(message),
        _ping(http2, at),
    )


def _tcp_keepalive(message: Any) -> TcpKeepalive | None:
    if not message.upstream_connection_options.HasField("tcp_keepalive"):
        return None
    given = message.upstream_connection_options.tcp_keepalive
    time, interval = optional_uint(given, "keepalive_time"), optional_uint(given, "keepalive_interval")
    return TcpKeepalive(optional_uint(given, "keepalive_probes"), time, interval)


def _ping(http2: Any, at: Place) -> Http2KeepAlive | None:
    if http2 is None or not http2.HasField("connection_keepalive"):
        return None
    place, given = at.field("connection_keepalive"), http2.connection_keepalive
    interval, timeout = optional_duration(given, "interval", place), optional_duration(given, "timeout", place)
    return None if interval is None else Http2KeepAlive(interval, timeout or interval)


def _named(tls: Tls, options: Any) -> Tls:
    """Names that are taken from each request's host; a peer of the mesh is known by its identity."""
    if tls.mode is TlsMode.DISABLE:
        return tls
    if tls.mode in (TlsMode.ISTIO_MUTUAL, TlsMode.AUTO):
        return replace(tls, verify_host=False)
    return replace(tls, verify_host=options.upstream_http_protocol_options.auto_san_validation)


# Thresholds -----------------------------------------------------------------------------------------------------------


def _circuit_breaker(message: Any, interval: float, at: Place) -> CircuitBreaker:
    """Those of the default priority; Envoy's defaults are 1024 of everything and 3 retries, gRPC's 1024 requests."""
    place = at.field("circuit_breakers")
    found = next((each for each in message.circuit_breakers.thresholds if each.priority == 0), None)
    if found is None:
        return CircuitBreaker(None, None, 1024) if at.is_grpc else CircuitBreaker(1024, 1024, 1024, 3)
    known = {"priority", "max_connections", "max_pending_requests", "max_requests", "max_retries", "retry_budget"}
    place.field("thresholds").only(found, {*known, "track_remaining"})

    def limit(name: str, default: int) -> int | None:
        value = optional_uint(found, name)
        return default if value is None else None if value == UNLIMITED else value

    if at.is_grpc:
        return CircuitBreaker(None, None, limit("max_requests", 1024))
    budget = None
    if found.HasField("retry_budget"):
        given = found.retry_budget
        percent = given.budget_percent.value if given.HasField("budget_percent") else 20.0
        least = optional_uint(given, "min_retry_concurrency")
        budget = RetryBudget(percent / 100, 3 if least is None else least, interval)
    return CircuitBreaker(
        limit("max_connections", 1024),
        limit("max_pending_requests", 1024),
        limit("max_requests", 1024),
        limit("max_retries", 3),
        budget,
    )
