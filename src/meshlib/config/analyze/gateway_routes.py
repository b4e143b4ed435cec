"""Routes of the Gateway API: the objects that they attach to, and send to, exist.

A check beside Istio's, which waits for the status that a controller writes (IST0171); files have none. Source of the
rules: Gateway API, ``parentRefs`` and ``backendRefs``; Istio adds ``Hostname`` of ``networking.istio.io``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from meshlib.config.analyze.hosts import KnownHost, Registry
from meshlib.config.analyze.world import ISTIO, Item, World
from meshlib.model.problem import Problem

__all__ = ["routes"]

GROUP = "gateway.networking.k8s.io"
_ROUTES = ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute")
_PARENTS = {(GROUP, "Gateway"), ("", "Service"), (ISTIO, "ServiceEntry")}


def routes(world: World) -> Iterator[Problem]:
    """Parents, backends and mirrors that do not exist, and ports that a backend does not have."""
    registry = Registry(world)
    for kind in _ROUTES:
        for item in world.of(kind, GROUP):
            for number, parent in enumerate(item.spec.get("parentRefs") or []):
                yield from _parent(world, item, f"spec.parentRefs[{number}]", parent)
            for path, backend in _backends(item):
                yield from _backend(world, registry, item, path, backend)


def _parent(world: World, item: Item, path: str, given: Mapping[str, Any]) -> Iterator[Problem]:
    group, kind = str(given.get("group", GROUP)), str(given.get("kind", "Gateway"))
    name = f"{given.get('namespace') or item.namespace}/{given.get('name')}"
    if (group, kind) not in _PARENTS:
        return
    known = world.of(kind, group) if group else world.of(kind)
    if not any(each.full_name == name for each in known):
        yield item.missing(kind, name, f"{path}.name")


def _backends(item: Item) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, rule in enumerate(item.spec.get("rules") or []):
        path = f"spec.rules[{number}]"
        for index, backend in enumerate(rule.get("backendRefs") or []):
            yield f"{path}.backendRefs[{index}]", backend
        for index, each in enumerate(rule.get("filters") or []):
            mirrored = (each.get("requestMirror") or {}).get("backendRef")
            if mirrored:
                yield f"{path}.filters[{index}].requestMirror.backendRef", mirrored


def _backend(world: World, registry: Registry, item: Item, path: str, given: Mapping[str, Any]) -> Iterator[Problem]:
    group, kind, name = str(given.get("group") or ""), str(given.get("kind", "Service")), str(given.get("name"))
    if (group, kind) == (ISTIO, "Hostname"):
        known = registry.find(name.lower(), item.namespace)
    elif (group, kind) == ("", "Service"):
        known = _service(world, registry, str(given.get("namespace") or item.namespace), name)
    else:
        return
    if known is None:
        yield item.missing(kind, name, f"{path}.name")
    elif given.get("port") and given["port"] not in known.ports:
        has = ", ".join(map(str, known.ports)) or "none"
        yield item.report("IST0101", f"{path}.port", f"{kind} {name!r} has no port {given['port']}; it has {has}")


def _service(world: World, registry: Registry, namespace: str, name: str) -> KnownHost | None:
    return registry.find(f"{name}.{namespace}.svc.{world.domain}", namespace)
