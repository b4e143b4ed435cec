"""What may be used of the cache: a change counts when all that it refers to is there, and what it replaces serves on.

A cluster waits for its endpoints and secrets, a route table for its clusters, a listener for its table. Meanwhile their
old ones stay, and so does a cluster that is gone while a table in force still names it. So the order in which a control
plane tells things does not matter to requests. What does not come is waited for as long as it is not known to be
missing.

Source: Envoy's xDS protocol page (warming, make before break); gRFCs A31, A37, A74, A75.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from meshlib.model.domains import RouteTable
from meshlib.model.route import Forward
from meshlib.xds import decode
from meshlib.xds.ads.cache import Cache, Entry
from meshlib.xds.ads.keyed import Keyed
from meshlib.xds.ads.kinds import Kind, named
from meshlib.xds.decode.clusters import DecodedCluster
from meshlib.xds.decode.endpoints import Assigned
from meshlib.xds.decode.findings import InvalidResource
from meshlib.xds.decode.listeners import DecodedListener
from meshlib.xds.messages import any_pb2

__all__ = ["Served", "Warming", "World", "clusters_of"]

DEEPEST = 16
"""How far an aggregate of aggregates is followed (gRFC A37)."""

_NO_ROUTES = RouteTable("")
_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Served:
    """A listener with its routes.

    Attributes:
        listener: As it came.
        table: Its routes.
        names: The clusters that they name.
        missing: Those that were known not to be there when this came into force.
    """

    listener: DecodedListener
    table: RouteTable
    names: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class World:
    """All that requests may use.

    Attributes:
        listeners: By name.
        clusters: By name, aggregates included.
        assignments: Endpoints by the name that endpoint discovery knows them under.
        routing: The same object in two worlds that differ in endpoints only.
        waiting: What is not in force yet, for status pages.
    """

    listeners: Mapping[str, Served] = field(default_factory=lambda: _NONE)
    clusters: Mapping[str, DecodedCluster] = field(default_factory=lambda: _NONE)
    assignments: Mapping[str, Assigned] = field(default_factory=lambda: _NONE)
    routing: object = field(default_factory=object)
    waiting: frozenset[str] = frozenset()


def clusters_of(table: RouteTable) -> Iterator[str]:
    """The clusters that a table names, mirrors included; some more than once."""
    for host, _ in table.hosts:
        for route in host.routes:
            if isinstance(route.action, Forward):
                yield from (weighted.cluster for weighted in route.action.clusters)
                yield from (mirror.cluster for mirror in route.action.mirrors)


def _clusters_of_ways(listener: DecodedListener) -> Iterator[str]:
    for way in listener.ways:
        if isinstance(way.route.action, Forward):
            yield from (weighted.cluster for weighted in way.route.action.clusters)


class Warming:
    """Turns the cache into worlds, one after the other.

    Args:
        cache: What is known.
        every_cluster: All clusters are asked for, so that one that is not told does not exist.
        agent: There is an agent to ask for secrets of the mesh's own.
        patience: Seconds for which a table may wait for a cluster that nobody has told of.

    Attributes:
        world: The one in force.
        deadline: When ``advance`` will find something to do though nothing came; None for never.
    """

    def __init__(self, cache: Cache, *, every_cluster: bool, agent: bool = False, patience: float = 15.0) -> None:
        self.world = World()
        self.deadline: float | None = None
        self._cache = cache
        self._every_cluster = every_cluster
        self._patience = patience
        self._waiting: set[str] = set()
        self._keyed = Keyed(cache, agent=agent)
        self._tables: dict[str, tuple[Entry, bytes, Any, RouteTable]] = {}

    def advance(self, changes: Iterable[tuple[Kind, str]], now: float) -> World:
        """The world after ``changes``; the same one when they make no difference."""
        changed = set(changes)
        if not self.world.waiting and all(kind is Kind.ENDPOINT for kind, _ in changed):
            return self._with_endpoints([name for _, name in changed])
        self._waiting, self.deadline = set(), None
        clusters = self._clusters()
        listeners = self._listeners(clusters, now)
        self._keep_named(listeners, clusters)
        same = listeners == self.world.listeners and clusters == self.world.clusters
        routing = self.world.routing if same else object()
        waiting = frozenset(self._waiting)
        self.world = World(listeners, clusters, self._assignments(clusters), routing, waiting)
        return self.world

    def _with_endpoints(self, names: Sequence[str]) -> World:
        """The short way, for the most frequent of changes."""
        world, found = self.world, dict(self.world.assignments)
        for name in names:
            entry = self._cache.get(Kind.ENDPOINT, name)
            if entry is not None and entry.value is not None:
                found[name] = entry.value
            elif entry is not None:
                found.pop(name, None)
        if any(found.get(name) is not world.assignments.get(name) for name in names):
            self.world = World(world.listeners, world.clusters, found, world.routing, world.waiting)
        return self.world

    # Clusters -------------------------------------------------------------------------------------------------------

    def _clusters(self) -> dict[str, DecodedCluster]:
        before, found = self.world.clusters, {}
        for name, value in self._cache.with_values(Kind.CLUSTER):
            lacking = [f"secret {each}" for each in self._keyed.lacking(value)]
            if value.service_name and not self._cache.settled(Kind.ENDPOINT, value.service_name):
                lacking.append(f"endpoints {value.service_name}")
            if not lacking:
                found[name] = self._keyed.with_secrets(name, value)
                continue
            self._waiting.update(lacking)
            if name in before:
                found[name] = before[name]
        self._keyed.forget(before.keys() - found.keys())
        return self._aggregates(found)

    def _aggregates(self, found: dict[str, DecodedCluster]) -> dict[str, DecodedCluster]:
        """An aggregate waits for its clusters."""
        for name, value in list(found.items()):
            lacking = [child for child in value.children if not self._told(child, found)]
            if lacking:
                self._waiting.update(f"cluster {child}" for child in lacking)
                if name in self.world.clusters:
                    found[name] = self.world.clusters[name]
                else:
                    del found[name]
        return found

    def _told(self, name: str, clusters: Mapping[str, DecodedCluster]) -> bool:
        """Whether it is there, or known not to be."""
        if name in clusters:
            return True
        entry = self._cache.get(Kind.CLUSTER, name)
        return self._every_cluster if entry is None else entry.value is None and entry.settled

    def _keep_named(self, listeners: Mapping[str, Served], clusters: dict[str, DecodedCluster]) -> None:
        """What a table in force names is kept, though the control plane has it no more."""
        wanted = [name for served in listeners.values() for name in served.names if name not in clusters]
        for _ in range(DEEPEST):
            kept = {name: self.world.clusters[name] for name in wanted if name in self.world.clusters}
            clusters.update(kept)
            wanted = [child for each in kept.values() for child in each.children if child not in clusters]

    def _assignments(self, clusters: Mapping[str, DecodedCluster]) -> dict[str, Assigned]:
        found: dict[str, Assigned] = {}
        for cluster in clusters.values():
            name = cluster.service_name
            entry = self._cache.get(Kind.ENDPOINT, name) if name else None
            if entry is not None and entry.value is not None:
                found[name] = entry.value
            elif name in self.world.assignments and (entry is None or not entry.settled):
                found[name] = self.world.assignments[name]
        return found

    # Listeners ------------------------------------------------------------------------------------------------------

    def _listeners(self, clusters: Mapping[str, DecodedCluster], now: float) -> dict[str, Served]:
        found: dict[str, Served] = {}
        for name, listener in self._cache.with_values(Kind.LISTENER):
            before = self.world.listeners.get(name)
            served = self._served(listener, before, clusters, now)
            if served is not None:
                found[name] = served
        return found

    def _served(
        self, listener: DecodedListener, before: Served | None, clusters: Mapping[str, DecodedCluster], now: float
    ) -> Served | None:
        """The listener with its routes; as before while something is missing; None for what serves no calls."""
        manager = listener.manager
        if listener.inbound or (manager is None and not listener.ways):
            return None
        if manager is None:
            table, since = _NO_ROUTES, now
        elif manager.table is not None:
            table, since = manager.table, now
        else:
            entry = self._cache.get(Kind.ROUTE, manager.table_name)
            if entry is None or entry.value is None:
                if entry is None or not entry.settled:
                    self._waiting.add(f"routes {manager.table_name}")
                return before
            table, since = self._table(manager.table_name, entry, manager.filters), entry.updated
        if before is not None and before.listener is listener and before.table is table and not before.missing:
            return before
        names = frozenset((*clusters_of(table), *_clusters_of_ways(listener)))
        return self._complete(Served(listener, table, names), before, clusters, since, now)

    def _complete(
        self, new: Served, before: Served | None, clusters: Mapping[str, DecodedCluster], since: float, now: float
    ) -> Served | None:
        """``new``, unless it names clusters that are yet to come."""
        absent = {name for name in new.names if name not in clusters}
        lacking = {name for name in absent if not self._told(name, clusters)}
        if self._every_cluster and before is not None and now < since + self._patience:
            newly = absent - before.missing  # told of in the wrong order, perhaps
            if newly:
                due = since + self._patience
                self.deadline = due if self.deadline is None else min(self.deadline, due)
            lacking |= newly
        if lacking:
            self._waiting.update(f"cluster {name}" for name in lacking)
            return before
        made = Served(new.listener, new.table, new.names, frozenset(absent))
        return before if before == made else made

    def _table(self, name: str, entry: Entry, filters: Any) -> RouteTable:
        """The table as the listener's filters have it; read anew where it was read for others."""
        if entry.filters == filters:
            return entry.value  # type: ignore[no-any-return]
        known = self._tables.get(name)
        if known is None or known[0] is not entry or known[1] != entry.packed or known[2] != filters:
            known = self._tables[name] = entry, entry.packed, filters, self._read_anew(entry, filters)
        return known[3]

    def _read_anew(self, entry: Entry, filters: Any) -> RouteTable:
        packed = any_pb2.Any(type_url=Kind.ROUTE.url, value=entry.packed)
        try:
            _, made = named(Kind.ROUTE, packed)
            return decode.route_configuration(made, self._cache.profile, filters).value
        except InvalidResource:  # it was good for another listener, whose form of it is still the best there is
            return entry.value  # type: ignore[no-any-return]
