"""Compiled views of control planes beside what is compiled here, as one source.

Objects come first, whatever the order of the providers: what somebody writes into a file or a cluster's API is meant
to stand over what a control plane makes of it. Among the views the earlier provider's counts. A host is one
source's whole: rules, clusters and endpoints of two sources are never mixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from meshlib.model.cluster import Cluster
from meshlib.model.endpoint import Assignment
from meshlib.model.informed import Informed, PolicyValue
from meshlib.model.route import VirtualHost
from meshlib.model.snapshot import OutboundPolicy, PathNormalization, Source
from meshlib.model.tcp import TcpHost

__all__ = ["chained"]


def chained(first: Source, others: Sequence[Source]) -> Source:
    """The first source that knows a host, or a cluster, answers; with no others it is ``first`` itself."""
    return Chained((first, *others)) if others else first


class Chained:
    """Several sources, asked in their order. Where one refuses hosts that it does not know, those of all are meant.

    Args:
        sources: At least one; the first is what was compiled here.
    """

    def __init__(self, sources: tuple[Source, ...]) -> None:
        self._sources = sources
        first = sources[0]
        policies = {each.outbound_policy for each in sources}
        refused = OutboundPolicy.REGISTRY_ONLY
        self.outbound_policy: OutboundPolicy = refused if refused in policies else first.outbound_policy
        self.path_normalization: PathNormalization = first.path_normalization

    def virtual_host(self, host: str, port: int) -> VirtualHost | None:
        """See ``Source.virtual_host``."""
        return next((found for each in self._sources if (found := each.virtual_host(host, port)) is not None), None)

    def tcp_host(self, host: str, port: int) -> TcpHost | None:
        """See ``Source.tcp_host``."""
        return next((found for each in self._sources if (found := each.tcp_host(host, port)) is not None), None)

    def cluster(self, name: str) -> Cluster | None:
        """See ``Source.cluster``."""
        return next((found for each in self._sources if (found := each.cluster(name)) is not None), None)

    def assignment(self, name: str) -> Assignment:
        """See ``Source.assignment``: of the source whose cluster it is."""
        owner = next((each for each in self._sources if each.cluster(name) is not None), None)
        return owner.assignment(name) if owner is not None else ()

    def listing(self) -> Iterable[tuple[str, int]]:
        """See ``Source.listing``."""
        return sorted({pair for each in self._sources for pair in each.listing()})

    # Accounts -------------------------------------------------------------------------------------------------------

    def host_reasons(self, host: str, port: int) -> tuple[str, ...]:
        """See ``Informed.host_reasons``."""
        known = (each for each in self._sources if each.virtual_host(host, port) is not None)
        owner = next(known, self._sources[0])
        return owner.host_reasons(host, port) if isinstance(owner, Informed) else ()

    def connection_reasons(self, host: str, port: int) -> tuple[str, ...]:
        """See ``Informed.connection_reasons``."""
        owner = next((each for each in self._sources if each.tcp_host(host, port) is not None), self._sources[0])
        return owner.connection_reasons(host, port) if isinstance(owner, Informed) else ()

    def left_out(self, cluster: str) -> tuple[tuple[str, str], ...]:
        """See ``Informed.left_out``."""
        owner = self._owner(cluster)
        return owner.left_out(cluster) if isinstance(owner, Informed) else ()

    def policy_values(self, cluster: str) -> tuple[PolicyValue, ...]:
        """See ``Informed.policy_values``."""
        owner = self._owner(cluster)
        return owner.policy_values(cluster) if isinstance(owner, Informed) else ()

    def seen_by(self, namespace: str | None, labels: Mapping[str, str] | None) -> Source:
        """See ``Informed.seen_by``; a control plane's view is that of one client and stays."""
        seen = (each.seen_by(namespace, labels) if isinstance(each, Informed) else each for each in self._sources)
        return Chained(tuple(seen))

    def _owner(self, cluster: str) -> Source | None:
        return next((each for each in self._sources if each.cluster(cluster) is not None), None)
