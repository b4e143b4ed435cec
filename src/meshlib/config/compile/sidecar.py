"""Sidecar objects: what a client may see, and what happens to the rest.

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
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.sidecar import IstioEgressListener, OutboundTrafficMode, SidecarSpec
from meshlib.model.hosts import matches
from meshlib.model.snapshot import Client, OutboundPolicy

__all__ = ["Scope", "scope_for"]

Import = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Scope:
    """What is imported.

    Attributes:
        outbound_policy: For hosts that are not.
        hosts: (namespace, host pattern, port) of each import; None imports everything, port 0 every port.
        excluded: What is taken out again.
        object: The Sidecar in force, ``""`` for none.
    """

    outbound_policy: OutboundPolicy
    hosts: tuple[Import, ...] | None = None
    excluded: tuple[Import, ...] = ()
    object: str = ""

    def imports(self, namespace: str, host: str, port: int = 0) -> bool:
        """Whether a host that lives in ``namespace`` is imported, on ``port`` or (0) on any."""
        if self.hosts is None:
            return True
        return _any(self.hosts, namespace, host, port) and not _any(self.excluded, namespace, host, port)

    def imports_any(self, namespace: str, hosts: Iterable[str]) -> bool:
        """Whether any of the hosts of an object in ``namespace`` is imported."""
        return self.hosts is None or any(self.imports(namespace, host) for host in hosts)


def _any(imports: Sequence[Import], namespace: str, host: str, port: int) -> bool:
    return any(
        ns in ("*", namespace) and matches(pattern, host) and (not port or not bound or port == bound)
        for ns, pattern, bound in imports
    )


def scope_for(sidecars: Sequence[Resource[Any]], client: Client, default_namespace: str, mesh: MeshConfig) -> Scope:
    """The scope of a client."""
    found = _choose(sidecars, client, default_namespace, mesh.root_namespace)
    mode = mesh.outbound_traffic_policy.mode
    if found is None:
        return Scope(_policy(mode))
    spec: SidecarSpec = found.spec
    if spec.outbound_traffic_policy is not None:
        mode = spec.outbound_traffic_policy.mode
    if not spec.egress:
        return Scope(_policy(mode), object=found.id)
    imports = [(*_pair(host, client.namespace), _port(listener)) for listener in spec.egress for host in listener.hosts]
    imported = tuple(each for each in imports if not each[0].startswith("~"))
    excluded = tuple((ns[1:] or "*", host, port) for ns, host, port in imports if ns.startswith("~"))
    return Scope(_policy(mode), imported, excluded, found.id)


def _choose(
    sidecars: Sequence[Resource[Any]], client: Client, default_namespace: str, root: str
) -> Resource[Any] | None:
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


def _port(listener: IstioEgressListener) -> int:
    """The port that a listener is bound to; 0 for every port, which an HTTP proxy is for too."""
    if listener.port is None or listener.port.protocol.upper() == "HTTP_PROXY":
        return 0
    return listener.port.number


def _pair(text: str, own: str) -> tuple[str, str]:
    namespace, _, host = text.partition("/")
    bare = namespace.removeprefix("~")
    prefix = "~" if namespace.startswith("~") else ""
    return prefix + (own if bare == "." else bare), host.lower()


def _policy(mode: OutboundTrafficMode) -> OutboundPolicy:
    refuse = mode is OutboundTrafficMode.REGISTRY_ONLY
    return OutboundPolicy.REGISTRY_ONLY if refuse else OutboundPolicy.ALLOW_ANY
