"""From what providers publish to the next snapshot: merge, validate, keep the last good, compile.

``Feed`` never waits; whoever runs the providers calls ``take`` for each publication and ``publish`` after a short pause
that lets a burst of changes settle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from meshlib.config.compile.universe import Universe
from meshlib.config.merge import Merge
from meshlib.config.resources.base import Resource
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.mesh_config_map import carries_mesh_config, mesh_settings
from meshlib.config.resources.not_honoured import not_honoured
from meshlib.model.problem import Problem
from meshlib.model.snapshot import Client, Snapshot
from meshlib.providers.base import Facts

__all__ = ["Feed", "Options"]


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

    Attributes:
        problems: What was found at the last publication.
        universe: What the last snapshot was compiled from; None before the first.
        snapshot: The last published, or None.
    """

    def __init__(self, providers: int, options: Options) -> None:
        self.options = options
        self.problems: tuple[Problem, ...] = ()
        self.universe: Universe | None = None
        self.snapshot: Snapshot | None = None
        self._facts: list[Facts | None] = [None] * providers
        self._merge = Merge(options.client.namespace)
        self._in_force: list[Resource[Any]] = []
        self._not_honoured: tuple[Sequence[Resource[Any]], tuple[Problem, ...]] = ((), ())

    def take(self, provider: int, facts: Facts) -> None:
        """The provider of that number knows this now."""
        self._facts[provider] = facts

    @property
    def complete(self) -> bool:
        """Whether every provider has said something."""
        return None not in self._facts

    def publish(self) -> Snapshot | None:
        """The next snapshot, or None when nothing changed."""
        resources, problems = self._merge.merge(self._facts)
        self.problems = tuple(problems)
        if self.snapshot is not None and resources == self._in_force:
            return None
        version = self.snapshot.version + 1 if self.snapshot is not None else 1
        client, before = self.options.client, self.universe
        mesh = self.options.mesh or _mesh_config(resources)
        self.universe = Universe(
            resources,
            client.namespace,
            client.cluster_domain,
            mesh,
            before,
            cluster=client.cluster,
            revision=self.options.revision,
        )
        same_routing = before is not None and self.universe.has_routing_of(before)
        routing = self.snapshot.routing if self.snapshot is not None and same_routing else None
        self._in_force = resources
        self.snapshot = Snapshot(self.universe.view(self.options.client), version, routing)
        return self.snapshot

    @property
    def not_honoured(self) -> tuple[Problem, ...]:
        """What the objects in force ask for and do not get; found out when asked, once for each publication."""
        resources = self._in_force
        if self._not_honoured[0] is not resources:
            self._not_honoured = (resources, tuple(problem for each in resources for problem in not_honoured(each)))
        return self._not_honoured[1]


def _mesh_config(resources: Sequence[Resource[Any]]) -> MeshConfig | None:
    return next((mesh_settings(each).config for each in resources if carries_mesh_config(each)), None)
