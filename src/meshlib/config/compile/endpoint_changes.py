"""Changes that move endpoints and nothing else, and which services they are about.

Such a change takes the short way: routes, clusters, and the endpoints of all other services stay the objects they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from meshlib.config.compile.endpoints import selects
from meshlib.config.compile.services import Service
from meshlib.config.resources.base import Resource
from meshlib.config.resources.service_entry import ServiceEntrySpec

__all__ = ["Change", "EndpointChanges", "moves_endpoints_only"]

Change = tuple[Resource[Any] | None, Resource[Any] | None]
"""An object as it was and as it is; None where it was or is not."""

_ALWAYS = frozenset({"EndpointSlice", "Endpoints", "WorkloadEntry", "Pod"})
_FIELDS = tuple(name for name in ServiceEntrySpec.model_fields if name != "endpoints")


def moves_endpoints_only(change: Change) -> bool:
    """Whether it is about endpoints, or about the inline endpoints of a ServiceEntry alone.

    A Node is not: it may move endpoints of any service.
    """
    before, after = change
    known = before if before is not None else after
    if known is None or isinstance(known.spec, dict) or known.kind in _ALWAYS:
        return known is not None and known.kind in _ALWAYS and not isinstance(known.spec, dict)
    if known.kind != "ServiceEntry" or before is None or after is None or before.status != after.status:
        return False
    one, other = before.metadata, after.metadata
    return (
        (one.labels, one.annotations, one.creation_timestamp)
        == (other.labels, other.annotations, other.creation_timestamp)
        and bool(before.spec.endpoints) == bool(after.spec.endpoints)  # without any, the host itself is the endpoint
        and all(getattr(before.spec, name) == getattr(after.spec, name) for name in _FIELDS)
    )


class EndpointChanges:
    """Which services some changes are about.

    Args:
        changes: Each moves endpoints only.
        namespace: For objects that name none.
    """

    def __init__(self, changes: Sequence[Change], namespace: str) -> None:
        self._namespace = namespace
        self.owners: set[tuple[str, str]] = set()
        self.entries: list[Change] = []
        self._workloads: list[Resource[Any]] = []
        self._pods: list[Resource[Any]] = []
        self._named: set[tuple[str, str]] = set()
        for change in changes:
            for resource in change:
                if resource is not None:
                    self._note(resource)
            if (change[0] or change[1]).kind == "ServiceEntry":  # type: ignore[union-attr]
                self.entries.append(change)

    def _note(self, resource: Resource[Any]) -> None:
        space = self.space(resource)
        match resource.kind:
            case "EndpointSlice":
                self.owners.add((space, resource.metadata.labels.get("kubernetes.io/service-name", "")))
            case "Endpoints":
                self.owners.add((space, resource.metadata.name))
            case "WorkloadEntry":
                self._workloads.append(resource)
            case "Pod":
                self._pods.append(resource)
            case "ServiceEntry":
                self._named.update((host.lower(), space) for host in resource.spec.hosts)

    def space(self, resource: Resource[Any]) -> str:
        """The namespace of an object."""
        return resource.metadata.namespace or self._namespace

    def may_concern(self, host: str, namespace: str) -> bool:
        """A quick look, before ``concern``: False for a service that is surely not concerned."""
        if self._workloads or self._pods:  # these do not say whose they are
            return True
        return (namespace, host.partition(".")[0]) in self.owners or (host, namespace) in self._named

    def concern(self, service: Service, slices: Iterable[Resource[Any]], endpoints: Iterable[Resource[Any]]) -> bool:
        """Whether a service's endpoints may have changed.

        Args:
            service: Any service.
            slices: Its EndpointSlices, before or after: a Pod matters where one of its addresses names it.
            endpoints: Its Endpoints objects.
        """
        if service.kubernetes:
            return (service.namespace, service.host.partition(".")[0]) in self.owners or self._name_pods(
                slices, endpoints
            )
        if any(service.host in (host.lower() for host in new.spec.hosts) for new in self._in(service.namespace)):
            return True
        selector = service.selector
        if not selector:
            return False
        labelled = ({**getattr(w.spec, "labels", {}), **w.metadata.labels} for w in self._of(service.namespace))
        return any(selects(selector, labels) for labels in labelled)

    def _in(self, namespace: str) -> Iterable[Resource[Any]]:
        return (new for _, new in self.entries if new is not None and self.space(new) == namespace)

    def _of(self, namespace: str) -> Iterable[Resource[Any]]:
        return (each for each in (*self._workloads, *self._pods) if self.space(each) == namespace)

    def _name_pods(self, slices: Iterable[Resource[Any]], endpoints: Iterable[Resource[Any]]) -> bool:
        if not self._pods:
            return False
        names = {pod.metadata.name for pod in self._pods}
        if any(not names.isdisjoint(each.spec.known.pods) for each in slices):
            return True
        addresses = (
            address
            for each in endpoints
            for subset in each.spec.subsets
            for address in (*subset.addresses, *subset.not_ready_addresses)
        )
        return any(address.target_ref is not None and address.target_ref.name in names for address in addresses)
