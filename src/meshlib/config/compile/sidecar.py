"""Sidecar objects: what a client may see, and what happens to the rest.

A Sidecar has listeners. One that is bound to a port decides alone for calls to that port; the one without a port is
for all others. A proxy that listens for HTTP CONNECT and absolute URLs (``HTTP_PROXY``) is reached by every port, and a
unix socket by none, so the first stands in where no listener is left and the second only lends services to routes.

Source: Istio ``pilot/pkg/model/sidecar.go``: the client's namespace with a fitting selector, then without, then
the root namespace without; an object without ``egress`` imports everything; an empty ``outboundTrafficPolicy``
is REGISTRY_ONLY.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from meshlib.config.compile.endpoints import selects
from meshlib.config.compile.registry import age
from meshlib.config.resources.base import Resource
from meshlib.config.resources.mesh_config import MeshConfig, MeshOutboundTrafficPolicy
from meshlib.config.resources.sidecar import IstioEgressListener, OutboundTrafficPolicy, SidecarSpec
from meshlib.model.hosts import matches, subset_of
from meshlib.model.snapshot import Client

__all__ = ["EVERYTHING", "Listener", "Scope", "chosen_sidecar", "scope_for"]

Pattern = tuple[str, str]
"""Namespace (``*`` for any) and host."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One egress listener.

    Attributes:
        port: The port it is bound to; 0 for every port, or for a unix socket.
        bind: Address or ``unix://`` path, ``""`` for none.
        proxy: It is an HTTP proxy.
        hosts: What it imports.
        excluded: What is taken out again.
    """

    port: int = 0
    bind: str = ""
    proxy: bool = False
    hosts: tuple[Pattern, ...] = (("*", "*"),)
    excluded: tuple[Pattern, ...] = ()

    @property
    def trims(self) -> bool:
        """Whether it imports of each service only the port that it is bound to."""
        return self.port > 0 and not self.proxy

    def imports(self, namespace: str, host: str) -> bool:
        """Whether a service of that name is imported: all that it stands for must be."""
        return _any(self.hosts, namespace, host) and not _any(self.excluded, namespace, host)

    def imports_rules(self, namespace: str, hosts: Iterable[str]) -> bool:
        """Whether a VirtualService is imported: one of its hosts must share a name with an import."""
        return any(
            any(ns in ("*", namespace) and matches(pattern, host) for ns, pattern in self.hosts)
            and not _any(self.excluded, namespace, host)
            for host in hosts
        )


def _any(patterns: Sequence[Pattern], namespace: str, host: str) -> bool:
    return any(ns in ("*", namespace) and subset_of(host, pattern) for ns, pattern in patterns)


EVERYTHING = (Listener(),)
"""The listeners of a client without a Sidecar: ``*/*``."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is imported.

    Attributes:
        unknown: What happens to hosts that are not.
        listeners: In the object's order.
        object: The Sidecar in force, ``""`` for none.
    """

    unknown: OutboundTrafficPolicy | MeshOutboundTrafficPolicy
    listeners: tuple[Listener, ...] = EVERYTHING
    object: str = ""

    @property
    def is_open(self) -> bool:
        """Whether everything is imported on every port."""
        return self.listeners is EVERYTHING

    def listener(self, port: int) -> Listener | None:
        """The listener that decides about calls to ``port``.

        Source: Istio ``GetEgressListenerForRDS``; an HTTP proxy last, for the library stands in for it.
        """
        for listener in self.listeners:
            if listener.trims and listener.port == port:
                return listener
            if not listener.port and not listener.bind.startswith("unix:") and not listener.proxy:
                return listener
        return next((listener for listener in self.listeners if listener.proxy), None)

    def imports(self, namespace: str, host: str) -> bool:
        """Whether a service of that name is imported by any listener."""
        return self.is_open or any(listener.imports(namespace, host) for listener in self.listeners)


def scope_for(sidecars: Sequence[Resource[Any]], client: Client, default_namespace: str, mesh: MeshConfig) -> Scope:
    """The scope of a client."""
    found = chosen_sidecar(sidecars, client, default_namespace, mesh.root_namespace)
    policy: OutboundTrafficPolicy | MeshOutboundTrafficPolicy = mesh.outbound_traffic_policy
    if found is None:
        return Scope(policy)
    spec: SidecarSpec = found.spec
    policy = spec.outbound_traffic_policy or policy
    if not spec.egress:
        return Scope(policy, object=found.id)
    return Scope(policy, tuple(_listener(given, client.namespace) for given in spec.egress), found.id)


def chosen_sidecar(
    sidecars: Sequence[Resource[Any]], client: Client, default_namespace: str, root: str
) -> Resource[Any] | None:
    """The Sidecar that applies to a client, None for none."""
    own = sorted((s for s in sidecars if (s.metadata.namespace or default_namespace) == client.namespace), key=age)
    for sidecar in own:
        selector = sidecar.spec.workload_selector
        if selector is not None and selector.labels and selects(selector.labels, client.labels):
            return sidecar
    everywhere = sorted((s for s in sidecars if (s.metadata.namespace or default_namespace) == root), key=age)
    for sidecar in (*own, *everywhere):
        if sidecar.spec.workload_selector is None or not sidecar.spec.workload_selector.labels:
            return sidecar
    return None


def _listener(given: IstioEgressListener, own: str) -> Listener:
    pairs = [_pair(text, own) for text in given.hosts if "/" in text]
    return Listener(
        given.port.number if given.port is not None else 0,
        given.bind,
        given.port is not None and given.port.protocol.upper() == "HTTP_PROXY",
        tuple(pair for pair in pairs if not pair[0].startswith("~")),
        tuple((ns[1:] or "*", host) for ns, host in pairs if ns.startswith("~")),
    )


def _pair(text: str, own: str) -> Pattern:
    """``ns/host``; ``.`` is the client's namespace, also in an object of the root namespace."""
    namespace, _, host = text.partition("/")
    bare = namespace.removeprefix("~")
    prefix = "~" if namespace.startswith("~") else ""
    return prefix + (own if bare == "." else bare), host.lower()
