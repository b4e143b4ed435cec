"""Clusters: a service on a port, or a subset of it, with the policies towards it (Envoy ``Cluster``)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from meshlib.model.client_policy import NO_CLIENT_POLICY, ClientPolicy
from meshlib.model.policy import CircuitBreaker, ConnectionPool, LoadBalancer, OutlierDetection, Tls, Tunnel

__all__ = ["Cluster", "ClusterName", "Discovery", "Protocol", "cluster_name", "parse_cluster_name", "sni_name"]


class Discovery(Enum):
    """Where the endpoints of a cluster come from.

    ``ENDPOINTS`` are known addresses; ``STRICT_DNS`` turns every address of every name into an endpoint;
    ``LOGICAL_DNS`` is one endpoint, a name that each new connection is dialled by; ``ORIGINAL_DST`` dials what the
    caller named.
    """

    ENDPOINTS = "ENDPOINTS"
    STRICT_DNS = "STRICT_DNS"
    LOGICAL_DNS = "LOGICAL_DNS"
    ORIGINAL_DST = "ORIGINAL_DST"

    @property
    def by_name(self) -> bool:
        """Whether DNS says what the endpoints are, or how to reach them."""
        return self in _BY_NAME


_BY_NAME = frozenset({Discovery.STRICT_DNS, Discovery.LOGICAL_DNS})


class Protocol(Enum):
    """What is spoken to the endpoints. ``CALLER`` keeps the caller's version; ``TCP`` is not HTTP at all."""

    HTTP1 = "HTTP1"
    HTTP2 = "HTTP2"
    CALLER = "CALLER"
    TCP = "TCP"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A destination and everything that is decided about it before a request exists.

    Attributes:
        name: ``outbound|<port>|<subset>|<service>``.
        service: Full host name of the service.
        port: Service port number.
        subset: Subset name, ``""`` for the whole service.
        discovery: See ``Discovery``.
        protocol: See ``Protocol``.
        load_balancer: How endpoints are picked.
        circuit_breaker: Thresholds.
        outlier_detection: None never ejects.
        connection_pool: How connections are made and kept.
        tls: What is wrapped around the connection.
        target_port: ORIGINAL_DST only: replaces the port that the caller dialled; 0 keeps it.
        namespace: Namespace of the service, ``""`` when it has none.
        external: The service lies outside the mesh (ServiceEntry ``MESH_EXTERNAL``).
        tunnel: Raw TCP only: where it is carried to, inside HTTP; None sends it as it is.
        dns_refresh: DNS only: seconds after which a look-up that failed is repeated; answers hold as long as they say.
        client_policy: What the client does beyond a sidecar.
        origins: Field -> object and field that its value came from, for ``explain``.
    """

    name: str
    service: str
    port: int
    subset: str = ""
    discovery: Discovery = Discovery.ENDPOINTS
    protocol: Protocol = Protocol.HTTP1
    load_balancer: LoadBalancer = LoadBalancer()
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    outlier_detection: OutlierDetection | None = None
    connection_pool: ConnectionPool = ConnectionPool()
    tls: Tls = Tls()
    target_port: int = 0
    namespace: str = ""
    external: bool = False
    tunnel: Tunnel | None = None
    dns_refresh: float = 60.0
    client_policy: ClientPolicy = NO_CLIENT_POLICY
    origins: tuple[tuple[str, str], ...] = ()


def cluster_name(service: str, port: int, subset: str = "") -> str:
    """Istio's name of an outbound cluster, for example ``outbound|9080|v2|reviews.default.svc.cluster.local``."""
    return f"outbound|{port}|{subset}|{service}"


def sni_name(service: str, port: int, subset: str = "") -> str:
    """The name as a TLS server name, for example ``outbound_.9080_.v2_.reviews.default.svc.cluster.local``."""
    return f"outbound_.{port}_.{subset}_.{service}"


class ClusterName(NamedTuple):
    """The parts of a cluster's name; port 0 and empty texts where a part is missing."""

    direction: str = ""
    port: int = 0
    subset: str = ""
    host: str = ""


def parse_cluster_name(name: str) -> ClusterName:
    """The parts of either form of a cluster's name; all empty for anything else.

    Source: Istio ``ParseSubsetKey``.
    """
    first = name.find("|"), name.find("_.")
    separator = "|" if first[0] >= 0 and (first[1] < 0 or first[0] < first[1]) else "_."
    parts = name.split(separator, 3)
    if len(parts) != 4:
        return ClusterName()
    direction, port, subset, host = parts
    return ClusterName(direction, int(port) if port.isdecimal() else 0, subset, host)
