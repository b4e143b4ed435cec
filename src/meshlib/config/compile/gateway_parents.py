"""Which hosts and ports a Gateway API route is attached to: those of a Service, or of a ServiceEntry.

``port`` narrows to one port, and so does ``sectionName``, which is the name of a port; given both, both must say the
same. Parents that are not there, and Gateways, attach a route to nothing.

Source: Istio ``conversion.go`` (``extractParentReferenceInfo``); Gateway API ``ParentReference.sectionName``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from meshlib.config.resources.base import Resource
from meshlib.config.resources.gateway_api import ParentReference
from meshlib.config.resources.service_entry import ServiceEntrySpec
from meshlib.model.hosts import expand

if TYPE_CHECKING:
    from meshlib.config.compile.registry import Registry

__all__ = ["Parents"]

Attached = tuple[str, int]
"""Full host and port number; port 0 is every port."""


class Parents:
    """Everything that a route may be attached to."""

    def __init__(self, resources: Iterable[Resource[Any]], namespace: str, domain: str, registry: Registry) -> None:
        self._domain = domain
        self._registry = registry
        self._entries: Mapping[tuple[str, str], ServiceEntrySpec] = {
            (r.metadata.namespace or namespace, r.metadata.name): r.spec for r in resources if r.kind == "ServiceEntry"
        }

    def of(self, refs: Sequence[ParentReference], namespace: str) -> Iterable[Attached]:
        """Where a route of ``namespace`` is attached, each place once."""
        return dict.fromkeys(attached for ref in refs for attached in self._find(ref, ref.namespace or namespace))

    def _find(self, ref: ParentReference, namespace: str) -> Iterator[Attached]:
        if (ref.group, ref.kind) == ("", "Service"):
            host = expand(ref.name, namespace, self._domain)
            for service in self._registry.named(host):
                if service.kubernetes and service.namespace == namespace:
                    yield from _ports(host, ref, {port.name: port.number for port in service.ports})
        elif (ref.group, ref.kind) == ("networking.istio.io", "ServiceEntry"):
            entry = self._entries.get((namespace, ref.name))
            if entry is not None:
                named = {port.name: port.number for port in entry.ports}
                for host in entry.hosts:
                    yield from _ports(host.lower(), ref, named)


def _ports(host: str, ref: ParentReference, named: Mapping[str, int]) -> Iterator[Attached]:
    if not ref.section_name:
        yield host, ref.port or 0
    elif ref.section_name in named and ref.port in (None, named[ref.section_name]):
        yield host, named[ref.section_name]
