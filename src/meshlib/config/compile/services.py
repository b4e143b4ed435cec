"""The registry's view of a service, whatever kind of object it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import ip_address

from meshlib.model.endpoint import no_labels

__all__ = ["DECLARED_HTTP", "AppProtocol", "Port", "Resolution", "Service", "parse_protocol"]


class AppProtocol(Enum):
    """What is spoken on a port; ``UNSUPPORTED`` is detected from the traffic."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    HTTP_PROXY = "HTTP_PROXY"
    GRPC = "GRPC"
    GRPC_WEB = "GRPC-Web"
    HTTPS = "HTTPS"
    TLS = "TLS"
    TCP = "TCP"
    UDP = "UDP"
    MONGO = "Mongo"
    REDIS = "Redis"
    MYSQL = "MySQL"
    UNSUPPORTED = "UnsupportedProtocol"

    @property
    def is_http(self) -> bool:
        """Whether VirtualService ``http`` rules apply on such a port, detected ports included."""
        return self in DECLARED_HTTP or self is AppProtocol.UNSUPPORTED

    @property
    def is_http2(self) -> bool:
        """Whether endpoints are talked to in HTTP/2."""
        return self in _HTTP2

    @property
    def is_tls(self) -> bool:
        """Whether the application itself speaks TLS there."""
        return self in (AppProtocol.HTTPS, AppProtocol.TLS)


DECLARED_HTTP = frozenset(
    {AppProtocol.HTTP, AppProtocol.HTTP2, AppProtocol.HTTP_PROXY, AppProtocol.GRPC, AppProtocol.GRPC_WEB}
)
_HTTP2 = frozenset({AppProtocol.HTTP2, AppProtocol.GRPC, AppProtocol.GRPC_WEB})
_BY_NAME = {kind.value.lower(): kind for kind in AppProtocol}
_WELL_KNOWN_TCP = frozenset({25, 53, 3306, 27017})


def parse_protocol(text: str) -> AppProtocol:
    """A protocol by its name, in any case; unknown and empty names are detected from the traffic."""
    return _BY_NAME.get(text.lower(), AppProtocol.UNSUPPORTED)


def kubernetes_protocol(transport: str, app_protocol: str | None, name: str, number: int) -> AppProtocol:
    """The protocol of a Kubernetes service port: UDP, then ``appProtocol``, then the port name up to its first ``-``.

    Source: Istio ``pkg/config/kube/conversion.go``.
    """
    if transport == "UDP":
        return AppProtocol.UDP
    special = {"kubernetes.io/h2c": "http2", "kubernetes.io/ws": "http", "kubernetes.io/wss": "https"}
    text = special.get(app_protocol or "", app_protocol or name)
    if text.lower().startswith("grpc-web"):
        return AppProtocol.GRPC_WEB
    found = _BY_NAME.get(text.partition("-")[0].lower(), AppProtocol.UNSUPPORTED)
    if found is AppProtocol.UNSUPPORTED and not app_protocol and number in _WELL_KNOWN_TCP:
        return AppProtocol.TCP
    return found


class Resolution(Enum):
    """How the endpoints of a service are found."""

    ENDPOINTS = "endpoints"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"
    DYNAMIC_DNS = "DYNAMIC_DNS"
    NONE = "NONE"
    ALIAS = "alias"


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a service; ``target`` is where endpoints listen unless they say otherwise."""

    number: int
    name: str
    protocol: AppProtocol
    target: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A host with ports, in one namespace.

    Attributes:
        host: Full name, lower case; may start with ``*``.
        namespace: Where the object stands.
        ports: In the object's order.
        resolution: How endpoints are found.
        addresses: Virtual IPs that callers may dial.
        export_to: Namespaces that may see it, as written; empty means the mesh's default.
        external: Outside the mesh.
        kubernetes: From a Kubernetes Service rather than a ServiceEntry.
        headless: Kubernetes ``clusterIP: None``.
        created: Creation time in seconds, 0 when unknown; the older wins.
        alias_of: ALIAS only: the host that is meant.
        publish_not_ready: Unready endpoints count as ready.
        object: Kind and name, for ``explain`` and problems.
        traffic_distribution: ``PreferSameZone``, ``PreferSameNode``, or None for any.
        identities: SPIFFE ids and other names that its servers may have besides those of their service accounts.
        same_node: Only endpoints on the caller's node (Kubernetes ``internalTrafficPolicy: Local``).
        keeps_sessions: Endpoints that are going away stay for callers who hold a session with them.
        races_addresses: One endpoint, whose addresses are all tried at once, instead of one for each address.
        labels: Of the object.
        selector: Labels of the workloads behind it, None where others say which those are.
    """

    host: str
    namespace: str
    ports: tuple[Port, ...]
    resolution: Resolution
    addresses: tuple[str, ...] = ()
    export_to: tuple[str, ...] = ()
    external: bool = False
    kubernetes: bool = False
    headless: bool = False
    created: float = 0.0
    alias_of: str = ""
    publish_not_ready: bool = False
    object: str = ""
    traffic_distribution: str | None = None
    identities: tuple[str, ...] = ()
    same_node: bool = False
    keeps_sessions: bool = False
    races_addresses: bool = False
    labels: Mapping[str, str] = field(default_factory=no_labels, compare=False)
    selector: Mapping[str, str] | None = field(default=None, compare=False)

    def port(self, number: int) -> Port | None:
        """The port of that number."""
        return next((port for port in self.ports if port.number == number), None)

    @property
    def has_address(self) -> bool:
        """Whether callers dial an IP of its own, so that nothing else is needed to tell it from other services.

        A Kubernetes Service has one, written down or not; so have the pods of a headless one.
        """
        return self.kubernetes or any("/" not in address for address in self.addresses)

    def is_at(self, address: str) -> bool:
        """Whether that IP is one of its own."""
        wanted = ip_address(address)
        return any("/" not in own and ip_address(own) == wanted for own in self.addresses)

    @property
    def ranges(self) -> tuple[str, ...]:
        """The address ranges (CIDR) that stand for it."""
        return tuple(address for address in self.addresses if "/" in address)

    def same_but_ports(self, other: Service) -> bool:
        """Whether both are one service whose ports are spread over two objects."""
        return (self.resolution, self.labels, self.selector, set(self.export_to)) == (
            other.resolution,
            other.labels,
            other.selector,
            set(other.export_to),
        )

    def with_ports(self, ports: Iterable[Port]) -> Service:
        """With further ports; of two with one number the one that is there stays."""
        numbers = {port.number for port in self.ports}
        return replace(self, ports=(*self.ports, *(port for port in ports if port.number not in numbers)))
