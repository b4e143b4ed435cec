"""The snapshot: all that the data plane may know at one moment.

A process calls a handful of the mesh's hosts, so a snapshot does not hold ten thousand compiled hosts: it asks its
``Source`` at first use of a host and remembers the answer. The source is pure and its inputs are frozen, so the
answer is the same whenever it is asked; that is what makes a lazy snapshot immutable.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Protocol, runtime_checkable

from meshlib.model.cluster import Cluster
from meshlib.model.endpoint import Assignment, Locality, no_labels
from meshlib.model.informed import Informed, PolicyValue
from meshlib.model.route import VirtualHost
from meshlib.model.tcp import TcpHost

__all__ = [
    "ANYONE",
    "EMPTY",
    "Awaiting",
    "CertificateFiles",
    "Client",
    "OutboundPolicy",
    "PathNormalization",
    "Snapshot",
    "Source",
]


class CertificateFiles(NamedTuple):
    """PEM files that stand for a workload's identity, for one that the mesh's CA does not sign."""

    chain: str
    key: str
    roots: str


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls: what Istio reads off the calling workload.

    Attributes:
        namespace: Namespace of the caller; short host names resolve inside it.
        labels: Labels of the caller, for ``sourceLabels`` and selectors.
        locality: Where the caller runs.
        cluster_domain: DNS suffix of the Kubernetes cluster.
        service_account: For the caller's identity, ``""`` when unknown.
        network: Istio network id.
        cluster: Kubernetes cluster id.
        node: Kubernetes node name, for ``internalTrafficPolicy: Local``.
        address: IP address of the caller, for hashing by source; ``""`` when unknown.
        certificate: Files with the caller's identity (Istio's ``TLS_CLIENT_CERT_CHAIN`` and kin); None takes the
            identity that the mesh's CA signs.
    """

    namespace: str = "default"
    labels: Mapping[str, str] = field(default_factory=no_labels)
    locality: Locality = Locality()
    cluster_domain: str = "cluster.local"
    service_account: str = ""
    network: str = ""
    cluster: str = ""
    node: str = ""
    certificate: CertificateFiles | None = None
    address: str = ""


ANYONE = Client()


class OutboundPolicy(Enum):
    """What happens to a host that the mesh does not know (Istio ``outboundTrafficPolicy.mode``)."""

    ALLOW_ANY = "ALLOW_ANY"
    REGISTRY_ONLY = "REGISTRY_ONLY"


class PathNormalization(Enum):
    """What is done to a path before it is matched and sent (Istio ``pathNormalization``); each does more."""

    NONE = "NONE"
    BASE = "BASE"
    MERGE_SLASHES = "MERGE_SLASHES"
    DECODE_AND_MERGE_SLASHES = "DECODE_AND_MERGE_SLASHES"


class Source(Protocol):
    """Answers for one client and one state of the configuration; pure, and never raises for bad config."""

    outbound_policy: OutboundPolicy
    path_normalization: PathNormalization

    def virtual_host(self, host: str, port: int) -> VirtualHost | None:
        """What the client knows of ``host`` (lower case, no port, as the caller wrote it) on ``port``."""
        ...

    def tcp_host(self, host: str, port: int) -> TcpHost | None:
        """What the client knows of connections to ``host`` (a name or an IP address) on ``port``."""
        ...

    def cluster(self, name: str) -> Cluster | None:
        """The cluster of that name, None when host, port or subset do not exist."""
        ...

    def assignment(self, name: str) -> Assignment:
        """The endpoints of that cluster, by locality and priority; empty when there are none."""
        ...

    def listing(self) -> Iterable[tuple[str, int]]:
        """Every (full host name, port) that the client can address, for ``config routes`` and ``dump``."""
        ...


@runtime_checkable
class Awaiting(Protocol):
    """A source that asks others before it knows its endpoints."""

    def awaited(self, name: str) -> tuple[str, ...]:
        """DNS names without which nothing is known yet of the endpoints of that cluster; empty once they are known."""
        ...


class Snapshot:
    """One state of the world as one client sees it.

    Attributes:
        version: Grows by one with each publication.
        source: Compiles on first use.
        routing: Identity of everything but endpoints: two snapshots whose ``routing`` is the same object differ
            in endpoints only, and take the short way when published.
    """

    __slots__ = ("_accounts", "_clusters", "_hosts", "routing", "source", "version")

    MEMORY = 8192
    """Host names remembered; a client that invents names (wildcards) must not grow without bound."""

    def __init__(self, source: Source, version: int = 0, routing: object | None = None) -> None:
        self.source = source
        self.version = version
        self.routing = routing if routing is not None else source
        self._hosts: dict[tuple[str, int], VirtualHost | None] = {}
        self._clusters: dict[str, Cluster | None] = {}
        self._accounts: dict[Hashable, tuple[Any, ...]] = {}

    @property
    def outbound_policy(self) -> OutboundPolicy:
        """What happens to unknown hosts."""
        return self.source.outbound_policy

    @property
    def path_normalization(self) -> PathNormalization:
        """What is done to paths."""
        return self.source.path_normalization

    def virtual_host(self, host: str, port: int) -> VirtualHost | None:
        """What the client knows of ``host`` on ``port``; None for a host the mesh does not know."""
        key = (host, port)
        try:
            return self._hosts[key]
        except KeyError:
            found = self.source.virtual_host(host, port)
        if len(self._hosts) >= self.MEMORY:
            self._hosts.clear()
        self._hosts[key] = found
        return found

    def tcp_host(self, host: str, port: int) -> TcpHost | None:
        """What the client knows of connections to ``host`` on ``port``; None for what the mesh does not know."""
        return self.source.tcp_host(host, port)

    def cluster(self, name: str) -> Cluster | None:
        """The cluster of that name, or None."""
        if name not in self._clusters:
            self._clusters[name] = self.source.cluster(name)
        return self._clusters[name]

    def assignment(self, name: str) -> Assignment:
        """The endpoints of the cluster of that name."""
        return self.source.assignment(name)

    def awaited(self, name: str) -> tuple[str, ...]:
        """See ``Awaiting.awaited``."""
        return self.source.awaited(name) if isinstance(self.source, Awaiting) else ()

    def host_reasons(self, host: str, port: int) -> tuple[str, ...]:
        """See ``Informed.host_reasons``; nothing where the source knows nothing about itself."""
        return self._told(("host", host, port), lambda known: known.host_reasons(host, port))

    def connection_reasons(self, host: str, port: int) -> tuple[str, ...]:
        """See ``Informed.connection_reasons``."""
        return self._told(("connection", host, port), lambda known: known.connection_reasons(host, port))

    def left_out(self, cluster: str) -> tuple[tuple[str, str], ...]:
        """See ``Informed.left_out``."""
        return self._told(("left out", cluster), lambda known: known.left_out(cluster))

    def policy_values(self, cluster: str) -> tuple[PolicyValue, ...]:
        """See ``Informed.policy_values``."""
        return self._told(("policy", cluster), lambda known: known.policy_values(cluster))

    def _told(self, key: Hashable, ask: Callable[[Informed], tuple[Any, ...]]) -> tuple[Any, ...]:
        """What the source says about itself, remembered: whoever explains many requests asks the same again."""
        if key not in self._accounts:
            if len(self._accounts) >= self.MEMORY:
                self._accounts.clear()
            self._accounts[key] = ask(self.source) if isinstance(self.source, Informed) else ()
        return self._accounts[key]

    def seen_by(self, namespace: str | None, labels: Mapping[str, str] | None) -> Snapshot:
        """The same state as another client sees it; this one where the source serves a single client."""
        if not isinstance(self.source, Informed):
            return self
        return Snapshot(self.source.seen_by(namespace, labels), self.version)


class _Nothing:
    outbound_policy = OutboundPolicy.ALLOW_ANY
    path_normalization = PathNormalization.BASE

    def virtual_host(self, host: str, port: int) -> VirtualHost | None:
        return None

    def tcp_host(self, host: str, port: int) -> TcpHost | None:
        return None

    def cluster(self, name: str) -> Cluster | None:
        return None

    def assignment(self, name: str) -> Assignment:
        return ()

    def listing(self) -> Iterable[tuple[str, int]]:
        return ()


EMPTY = Snapshot(_Nothing())
"""A mesh that knows no host."""
