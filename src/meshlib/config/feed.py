"""From what providers publish to the next snapshot: merge, validate, keep the last good, compile.

``Feed`` never waits; whoever runs the providers calls ``take`` for each publication and ``publish`` after a short pause
that lets a burst of changes settle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from meshlib.config.compile.registry import ENDPOINT_KINDS
from meshlib.config.compile.universe import Universe
from meshlib.config.resources.base import Resource
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.mesh_config_map import carries_mesh_config, mesh_settings
from meshlib.config.resources.not_honoured import not_honoured
from meshlib.config.validation import validate
from meshlib.model.problem import Level, Problem
from meshlib.model.snapshot import Client, Snapshot
from meshlib.providers.base import Facts

__all__ = ["Feed", "Options"]

Key = tuple[str, str, str, str]
"""API group, kind, namespace, name."""


@dataclass(frozen=True, slots=True)
class Options:
    """What compiling depends on besides the objects.

    Attributes:
        client: Who calls.
        mesh: Mesh-wide settings; None takes them from a ConfigMap ``istio``, else Istio's defaults.
    """

    client: Client
    mesh: MeshConfig | None = None


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
        self._good: dict[Key, Resource[Any]] = {}
        self._ranks: dict[Key, int] = {}
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
        resources, problems = self._merge()
        self.problems = tuple(problems)
        if self.snapshot is not None and resources == self._in_force:
            return None
        version = self.snapshot.version + 1 if self.snapshot is not None else 1
        if self.universe is not None and self.snapshot is not None and self._only_endpoints_differ(resources):
            self.universe = self.universe.with_endpoints(resources)
            routing: object | None = self.snapshot.routing
        else:
            self.universe, routing = self._compile(resources), None
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

    def _compile(self, resources: Sequence[Resource[Any]]) -> Universe:
        client = self.options.client
        mesh = self.options.mesh or _mesh_config(resources)
        return Universe(resources, client.namespace, client.cluster_domain, mesh)

    def _only_endpoints_differ(self, resources: Sequence[Resource[Any]]) -> bool:
        return _routing(resources) == _routing(self._in_force)

    # Merging --------------------------------------------------------------------------------------------------------

    def _merge(self) -> tuple[list[Resource[Any]], list[Problem]]:
        chosen: dict[Key, Resource[Any]] = {}
        ranks: dict[Key, int] = {}
        problems: list[Problem] = []
        for provider, facts in enumerate(self._facts):
            if facts is not None:
                problems.extend(facts.problems)
                for resource in facts.resources:
                    ranks.setdefault(self._choose(chosen, resource, problems), provider)
        good = self._validated(chosen, problems)
        self._keep_last_good(good, ranks, problems)
        self._good, self._ranks = good, ranks
        return list(good.values()), problems

    def _choose(self, chosen: dict[Key, Resource[Any]], resource: Resource[Any], problems: list[Problem]) -> Key:
        key = self._key(resource)
        first = chosen.setdefault(key, resource)
        if first is not resource and first != resource and first.kind != "Namespace":
            message = f"stands in {first.origin.source} too, which comes first and is used"
            origin = resource.origin
            problems.append(
                Problem(
                    "MESH001",
                    "DuplicateResource",
                    Level.WARNING,
                    resource.id,
                    message,
                    origin.source,
                    origin.line("metadata.name"),
                    "metadata.name",
                )
            )
        return key

    def _key(self, resource: Resource[Any]) -> Key:
        group = resource.api_version.rpartition("/")[0]
        namespace = resource.metadata.namespace or self.options.client.namespace
        return (group, resource.kind, namespace, resource.metadata.name)

    def _validated(self, chosen: dict[Key, Resource[Any]], problems: list[Problem]) -> dict[Key, Resource[Any]]:
        good: dict[Key, Resource[Any]] = {}
        for key, resource in chosen.items():
            found = _problems(resource)
            problems.extend(found)
            if not any(problem.level is Level.ERROR for problem in found):
                good[key] = resource
        return good

    def _keep_last_good(
        self, good: dict[Key, Resource[Any]], ranks: dict[Key, int], problems: Sequence[Problem]
    ) -> None:
        """An object that turned invalid stays as it last was; so does all of a file that cannot be read."""
        errors = [problem for problem in problems if problem.level is Level.ERROR]
        bad_objects = {(problem.resource, problem.file) for problem in errors if problem.resource}
        bad_files = {problem.file for problem in errors if not problem.resource}
        for key, resource in self._good.items():
            source = resource.origin.source
            if (resource.id, source) not in bad_objects and source not in bad_files:
                continue
            rank = self._ranks[key]
            if key not in good or (rank, source) < (ranks[key], good[key].origin.source):
                good[key], ranks[key] = resource, rank


def _problems(resource: Resource[Any]) -> list[Problem]:
    """What is wrong with an object by itself; the mesh's settings stand in an object of no kind of ours."""
    return mesh_settings(resource).problems if carries_mesh_config(resource) else validate(resource)


def _mesh_config(resources: Sequence[Resource[Any]]) -> MeshConfig | None:
    return next((mesh_settings(each).config for each in resources if carries_mesh_config(each)), None)


def _routing(resources: Sequence[Resource[Any]]) -> list[Resource[Any]]:
    return [resource for resource in resources if resource.kind not in ENDPOINT_KINDS]
