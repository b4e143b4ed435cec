"""The services that one client sees: by name, by address, by pattern, and as destinations of routes.

Source: Istio ``sidecar.go``: of a host in several namespaces the client's own is used, else one from Kubernetes, else
the oldest; what a listener imports comes first, and what imported VirtualServices merely name as destinations is
added to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.config.compile.services import Port, Resolution, Service
from meshlib.config.compile.sidecar import Listener, Scope
from meshlib.config.compile.visibility import visible
from meshlib.model.hosts import spellings
from meshlib.model.snapshot import Client

if TYPE_CHECKING:
    from meshlib.config.compile.registry import Registry

__all__ = ["Seen"]

_ALIASES = 8
"""ExternalName on ExternalName: how far a chain is followed."""


class Seen:
    """The services that a client sees.

    Args:
        registry: All services.
        client: Who looks.
        scope: What its Sidecar imports.
        domain: DNS suffix of the cluster.
        default_export: The mesh's ``defaultServiceExportTo``.
    """

    def __init__(
        self, registry: Registry, client: Client, scope: Scope, domain: str, default_export: Sequence[str]
    ) -> None:
        self.registry = registry
        self.client = client
        self.scope = scope
        self.domain = domain
        self._default_export = default_export

    def spellings(self, name: str) -> Iterator[str]:
        """What the client may mean by ``name``, the literal reading first."""
        return spellings(name, self.client.namespace, self.domain)

    # One service ----------------------------------------------------------------------------------------------------

    def named(self, name: str) -> Service | None:
        """The service of that full name that any listener imports."""
        return self._best(s for s in self._visible(name) if self.scope.imports(s.namespace, s.host))

    def on(self, name: str, listener: Listener) -> Service | None:
        """The service of that full name that ``listener`` imports."""
        return self._best(s for s in self._visible(name) if _imports(listener, s))

    def destination(self, name: str) -> Service | None:
        """The service that a route names: scope does not hide it, but what is imported comes first."""
        return self.named(name) or self._best(self._visible(name))

    def target(self, service: Service) -> Service | None:
        """The service that an ExternalName stands for in the end; None while its name is not in the registry."""
        for _ in range(_ALIASES):
            found = self.destination(service.alias_of)
            if found is None or found.resolution is not Resolution.ALIAS:
                return found
            service = found
        return None

    def addressed(self, address: str, port: int, listener: Listener) -> Service | None:
        """The service with that virtual IP, else with the smallest range around it, else the headless pod's."""
        for service in self.registry.addressed(address):
            found = self.on(service.host, listener)
            if found is not None and found.namespace == service.namespace and found.port(port):
                return found
        return self._of_pod(address, port, listener)

    def _of_pod(self, address: str, port: int, listener: Listener) -> Service | None:
        for service in self.registry.headless():
            number = service.port(port)
            if number is None or self.on(service.host, listener) is not service:
                continue
            if any(e.address == address and e.port == port for e in self.registry.endpoints(service, number)):
                return service
        return None

    def wildcards(self, name: str, listener: Listener) -> Iterator[tuple[str, Service]]:
        """The services over ``name`` with their patterns, the longest first: wildcard hosts, and headless services.

        ``pod-0.db.ns.svc...`` belongs to the headless service ``db``, in every spelling and at every depth.
        """
        found = [(known[0].host, self.on(known[0].host, listener)) for known in self.registry.wildcard(name)]
        _, dot, rest = name.partition(".")
        while dot:
            for spelling in self.spellings(rest):
                service = self.on(spelling, listener)
                if service is not None and service.headless:
                    found.append((f"*.{rest}", service))
                    break
            _, dot, rest = rest.partition(".")
        kept = [(pattern, service) for pattern, service in found if service is not None]
        return iter(sorted(kept, key=lambda pair: -len(pair[0])))

    # All of them ----------------------------------------------------------------------------------------------------

    def all_on(self, listener: Listener) -> Iterator[Service]:
        """Every service that ``listener`` imports, one for each host."""
        for host in self.registry.hosts():
            service = self.on(host, listener)
            if service is not None:
                yield service

    def ports_on(self, listener: Listener, service: Service) -> tuple[Port, ...]:
        """The ports of an imported service: a listener that is bound to a port imports that one only."""
        if not listener.trims:
            return service.ports
        return tuple(port for port in service.ports if port.number == listener.port)

    def _visible(self, name: str) -> Iterator[Service]:
        own, default = self.client.namespace, self._default_export
        return (s for s in self.registry.named(name) if visible(s.export_to or default, s.namespace, own))

    def _best(self, known: Iterable[Service]) -> Service | None:
        """Of one host in several namespaces: the client's own, else the last from Kubernetes, else the oldest."""
        chosen: Service | None = None
        for service in known:
            if service.namespace == self.client.namespace:
                return service
            if chosen is None or service.kubernetes:
                chosen = service
        return chosen


def _imports(listener: Listener, service: Service) -> bool:
    if listener.trims and service.port(listener.port) is None:
        return False
    return listener.imports(service.namespace, service.host)
