"""Objects that claim the same thing.

Source: Istio ``analyzers/virtualservice/conflictingmeshgatewayhosts.go``,
``analyzers/serviceentry/conflictingserviceentries.go``.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshlib.config.analyze.hosts import export_scope
from meshlib.config.analyze.world import Item, World
from meshlib.model.hosts import HostIndex, expand, matches
from meshlib.model.problem import Problem

__all__ = ["mesh_hosts", "service_entry_protocols"]


def _viewers(item: Item, scope: tuple[str, ...]) -> frozenset[str]:
    """Namespaces that see it; ``*`` for all of them."""
    if "~" in scope:
        return frozenset()
    return frozenset({"*"}) if "*" in scope else frozenset(item.namespace if word == "." else word for word in scope)


def _meet(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether some namespace sees both."""
    return bool(one and other and ("*" in one or "*" in other or one & other))


def mesh_hosts(world: World) -> Iterator[Problem]:
    """Two VirtualServices of the mesh with a host in common, where some namespace sees both."""
    index: HostIndex[Item] = HostIndex()
    scopes: dict[int, frozenset[str]] = {}
    served = [item for item in world.of("VirtualService") if "mesh" in (item.spec.get("gateways") or ["mesh"])]
    for item in served:
        scopes[id(item)] = _viewers(item, export_scope(item, world.mesh, "defaultVirtualServiceExportTo"))
        for host in item.spec.get("hosts") or []:
            index.add(expand(host, item.namespace, world.domain), item)
    clashes = _clashes(index, scopes)
    for item in served:
        found = clashes.get(id(item))
        if found is not None:
            host, rivals = found
            message = f"host {host!r} is routed by {', '.join(sorted(set(rivals)))} too; only one of them applies"
            yield item.report("IST0109", "spec.hosts", message)


def _clashes(index: HostIndex[Item], scopes: dict[int, frozenset[str]]) -> dict[int, tuple[str, list[str]]]:
    """By object: its first host in conflict, and the names of the others. Exact hosts are found by hash."""
    found: dict[int, tuple[str, list[str]]] = {}
    patterns = [host for host, _ in index.items() if host.startswith("*")]
    for host, items in index.items():
        rivals = [(other, item) for other in (host, *patterns) if matches(host, other) for item in index.exact(other)]
        for item in items:
            for other, rival in rivals:
                if rival is not item and _meet(scopes[id(item)], scopes[id(rival)]):
                    found.setdefault(id(item), (host, []))[1].append(rival.full_name)
                    found.setdefault(id(rival), (other, []))[1].append(item.full_name)
    return found


def service_entry_protocols(world: World) -> Iterator[Problem]:
    """One host and port with different protocols, in ServiceEntries that some namespace both sees."""
    claims: dict[tuple[str, int], list[tuple[Item, str, frozenset[str]]]] = {}
    for item in world.of("ServiceEntry"):
        viewers = _viewers(item, export_scope(item, world.mesh, "defaultServiceExportTo"))
        for host in item.spec.get("hosts") or []:
            for port in item.spec.get("ports") or []:
                protocol = str(port.get("protocol") or "").upper()
                claims.setdefault((host.lower(), port.get("number") or 0), []).append((item, protocol, viewers))
    for (host, number), claimed in claims.items():
        yield from _different_protocols(host, number, claimed)


def _different_protocols(host: str, number: int, claimed: list[tuple[Item, str, frozenset[str]]]) -> Iterator[Problem]:
    for item, protocol, viewers in claimed:
        rivals = [
            f"{other.full_name} ({theirs or 'none'})"
            for other, theirs, scope in claimed
            if other is not item and theirs != protocol and _meet(viewers, scope)
        ]
        if rivals:
            message = f"{host}:{number} is {protocol or 'without protocol'} here, and not so in {', '.join(rivals)}"
            yield item.report("IST0177", "spec.ports", message)
