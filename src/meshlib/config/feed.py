"""From what providers publish to the next snapshot: merge, validate, keep the last good, compile.

``Feed`` never waits; whoever runs the providers calls ``take`` for each publication and ``publish`` after a short pause
that lets a burst of changes settle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from meshlib.config.chained import chained
from meshlib.config.compile.universe import ENDPOINT_KINDS, Universe, View
from meshlib.config.merge import Change, Merge
from meshlib.config.resolved import Expansions, Resolved, Table
from meshlib.config.resources.base import Resource
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.mesh_config_map import carries_mesh_config, mesh_settings
from meshlib.config.resources.not_honoured import not_honoured
from meshlib.model.problem import Problem
from meshlib.model.snapshot import Client, Snapshot, Source
from meshlib.providers.base import Facts

__all__ = ["Feed", "Options"]

_URGENT = ENDPOINT_KINDS | {"ServiceEntry"}


@dataclass(frozen=True, slots=True)
class Options:
    """What compiling depends on besides the objects.

    Attributes:
        client: Who calls.
        mesh: Mesh-wide settings; None takes them from a ConfigMap ``istio``, else Istio's defaults.
        revision: Control plane revision whose objects count beside those of no revision; ``""`` takes all.
    """

    client: Client
    mesh: MeshConfig | None = None
    revision: str = ""


class Feed:
    """Merges what the providers know.

    Of one object (API group, kind, namespace, name) in several places the first counts, by the order of the providers
    and then of their files; the others are reported (MESH001), unless they are equal. An object that turns bad stays
    as it last was, also where a later provider has a good one: a slip of the pen does not change who is in charge.

    Args:
        providers: How many there are.
        options: What compiling depends on besides the objects.
        expansions: Makes addresses of DNS names; None leaves them names.

    Attributes:
        problems: What was found at the last publication.
        universe: What the last snapshot was compiled from; None before the first.
        snapshot: The last published, or None.
    """

    def __init__(self, providers: int, options: Options, expansions: Expansions | None = None) -> None:
        self.options = options
        self._expansions = expansions
        self._table: Table = {}
        self.problems: tuple[Problem, ...] = ()
        self.universe: Universe | None = None
        self.snapshot: Snapshot | None = None
        self._merge = Merge(options.client.namespace, providers)
        self._view: View | None = None
        self._sources: tuple[tuple[Source, object], ...] = ()
        self._not_honoured: tuple[Snapshot | None, tuple[Problem, ...]] = (None, ())

    def take(self, provider: int, facts: Facts) -> None:
        """The provider of that number knows this now."""
        self._merge.take(provider, facts)

    def taken(self, provider: int) -> Facts | None:
        """What the provider of that number said last; None before its first."""
        return self._merge.facts[provider]

    @property
    def complete(self) -> bool:
        """Whether every provider has said something."""
        return None not in self._merge.facts

    @property
    def begun(self) -> bool:
        """Whether any provider has said something."""
        return any(facts is not None for facts in self._merge.facts)

    @property
    def is_urgent(self) -> bool:
        """Whether what waits is about endpoints alone, as far as kinds tell; it need not wait for more."""
        return self._merge.waiting <= _URGENT and _same(self._given(), self._sources, 1)

    @property
    def resources(self) -> list[Resource[Any]]:
        """The objects in force."""
        return self._merge.resources()

    def publish(self) -> Snapshot | None:
        """The next snapshot, or None when nothing changed.

        A change of endpoints costs what changed, whatever the size of the mesh; any other indexes the kinds anew that
        it is of.
        """
        changes = self._merge.merge()
        self.problems = self._merge.problems
        sources = self._given()
        table = self._expansions.table() if self._expansions is not None else self._table
        same = _same(sources, self._sources, 0) and table is self._table
        if self.snapshot is not None and not changes and same:
            return None
        view, same_routing = self._advance(changes)
        before = self.snapshot
        same_routing = same_routing and _same(sources, self._sources, 1)
        self._view, self._sources, self._table = view, sources, table
        routing = before.routing if before is not None and same_routing else None
        version = before.version + 1 if before is not None else 1
        source = chained(view, [source for source, _ in sources])
        if self._expansions is not None:
            source = Resolved(source, self._expansions, table)
        self.snapshot = Snapshot(source, version, routing)
        return self.snapshot

    def _given(self) -> tuple[tuple[Source, object], ...]:
        """The compiled views of providers, in their order, each with the identity of its routing."""
        facts = self._merge.facts
        return tuple((f.view, f.view if f.routing is None else f.routing) for f in facts if f and f.view is not None)

    def _advance(self, changes: Sequence[Change]) -> tuple[View, bool]:
        """The view after some changes, and whether routing stayed as it was."""
        view, before = self._view, self.universe
        if view is not None and (not changes or (view := view.with_endpoints(changes)) is not None):
            self.universe = view.universe
            return view, True
        self.universe = self._index(before)
        return self.universe.view(self.options.client), before is not None and self.universe.has_routing_of(before)

    def _index(self, before: Universe | None) -> Universe:
        resources, client = self._merge.resources(), self.options.client
        mesh = self.options.mesh or _mesh_config(resources)
        return Universe(
            resources,
            client.namespace,
            client.cluster_domain,
            mesh,
            before,
            cluster=client.cluster,
            revision=self.options.revision,
        )

    @property
    def not_honoured(self) -> tuple[Problem, ...]:
        """What the objects in force ask for and do not get; found out when asked, once for each publication."""
        now = self.snapshot
        if self._not_honoured[0] is not now:
            found = tuple(problem for each in self.resources for problem in not_honoured(each))
            self._not_honoured = (now, found)
        return self._not_honoured[1]


def _mesh_config(resources: Sequence[Resource[Any]]) -> MeshConfig | None:
    return next((mesh_settings(each).config for each in resources if carries_mesh_config(each)), None)


def _same(these: Sequence[tuple[object, object]], those: Sequence[tuple[object, object]], place: int) -> bool:
    """Whether two rows hold the same objects at a place of each pair."""
    return len(these) == len(those) and all(one[place] is other[place] for one, other in zip(these, those, strict=True))
