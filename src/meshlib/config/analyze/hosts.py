"""The hosts that destinations and DestinationRules may name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshlib.config.analyze.world import Item, World
from meshlib.config.compile.visibility import visible
from meshlib.model.hosts import expand, matches

__all__ = ["KnownHost", "Registry", "all_hosts", "export_scope", "names_of"]


@dataclass(frozen=True, slots=True)
class KnownHost:
    """A host of a Service or ServiceEntry.

    Attributes:
        item: The object.
        host: In full, perhaps a wildcard.
        ports: Its port numbers.
        export_to: Who may see it.
    """

    item: Item
    host: str
    ports: tuple[int, ...]
    export_to: tuple[str, ...]


class Registry:
    """Every host, found by name and by who asks."""

    def __init__(self, world: World) -> None:
        self._exact: dict[str, list[KnownHost]] = {}
        self._wildcards: list[KnownHost] = []
        for known in all_hosts(world):
            if known.host.startswith("*"):
                self._wildcards.append(known)
            else:
                self._exact.setdefault(known.host, []).append(known)

    def find(self, host: str, viewer: str) -> KnownHost | None:
        """The host that ``host`` (in full) means for ``viewer``; a wildcard host matches what it covers."""
        candidates = self._everything() if host.startswith("*") else (*self._exact.get(host, ()), *self._wildcards)
        for known in candidates:
            if matches(known.host, host) and visible(known.export_to, known.item.namespace, viewer):
                return known
        return None

    def _everything(self) -> tuple[KnownHost, ...]:
        return (*(known for group in self._exact.values() for known in group), *self._wildcards)


def all_hosts(world: World) -> Iterator[KnownHost]:
    """The hosts of every Service and ServiceEntry, in the order of the objects."""
    for item in world.of("Service"):
        yield from _service(world, item)
    for item in world.of("ServiceEntry"):
        ports = tuple(_number(port, "number") for port in item.spec.get("ports") or [])
        scope = export_scope(item, world.mesh, "defaultServiceExportTo")
        for host in item.spec.get("hosts") or []:
            yield KnownHost(item, host.lower(), ports, scope)


def _service(world: World, item: Item) -> Iterator[KnownHost]:
    ports = tuple(_number(port, "port") for port in item.spec.get("ports") or [])
    said = item.annotations.get("networking.istio.io/exportTo", "")
    scope = tuple(word.strip() for word in said.split(",") if word.strip())
    yield KnownHost(item, f"{item.name}.{item.namespace}.svc.{world.domain}", ports, scope or ("*",))


def export_scope(item: Item, mesh: Mapping[str, Any], default: str) -> tuple[str, ...]:
    """``exportTo``, or the mesh's default for the kind, or everybody."""
    return tuple(item.spec.get("exportTo") or mesh.get(default) or ("*",))


def names_of(world: World, host: str, namespace: str) -> set[str]:
    """What a host written in ``namespace`` stands for; ``reviews.prod`` may mean the service, where prod exists."""
    names = {expand(host, namespace, world.domain)}
    if host.count(".") == 1 and host.partition(".")[2] in world.namespaces:
        names.add(f"{host}.svc.{world.domain}")
    return names


def _number(port: Any, field: str) -> int:
    value = port.get(field) if isinstance(port, Mapping) else None
    return value if isinstance(value, int) else 0
