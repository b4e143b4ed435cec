"""From what providers publish to the next snapshot: merge, validate, keep the last good, compile.

``Feed`` never waits; whoever runs the providers calls ``take`` for each publication and ``publish`` after a short pause
that lets a burst of changes settle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from meshlib.config.compile.registry import ENDPOINT_KINDS
from meshlib.config.compile.universe import Universe
from meshlib.config.resources.base import Resource
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.validation import validate
from meshlib.model.problem import Level, Problem, schema_error
from meshlib.model.snapshot import Client, Snapshot
from meshlib.providers.base import Facts

__all__ = ["Feed", "Options"]

Key = tuple[str, str, str]


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
    """Merges what the providers know; earlier providers win over later ones.

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
        self._in_force: list[Resource[Any]] = []

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

    def _compile(self, resources: Sequence[Resource[Any]]) -> Universe:
        client = self.options.client
        mesh = self.options.mesh or self._mesh_config(resources)
        return Universe(resources, client.namespace, client.cluster_domain, mesh)

    def _only_endpoints_differ(self, resources: Sequence[Resource[Any]]) -> bool:
        return _routing(resources) == _routing(self._in_force)

    # Merging --------------------------------------------------------------------------------------------------------

    def _merge(self) -> tuple[list[Resource[Any]], list[Problem]]:
        chosen: dict[Key, Resource[Any]] = {}
        problems: list[Problem] = []
        for facts in self._facts:
            if facts is not None:
                problems.extend(facts.problems)
                for resource in facts.resources:
                    self._choose(chosen, resource, problems)
        good = self._validated(chosen, problems)
        self._keep_last_good(good, problems)
        self._good = good
        return list(good.values()), problems

    def _choose(self, chosen: dict[Key, Resource[Any]], resource: Resource[Any], problems: list[Problem]) -> None:
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

    def _key(self, resource: Resource[Any]) -> Key:
        return (resource.kind, resource.metadata.namespace or self.options.client.namespace, resource.metadata.name)

    def _validated(self, chosen: dict[Key, Resource[Any]], problems: list[Problem]) -> dict[Key, Resource[Any]]:
        good: dict[Key, Resource[Any]] = {}
        for key, resource in chosen.items():
            found = validate(resource)
            problems.extend(found)
            if not any(problem.level is Level.ERROR for problem in found):
                good[key] = resource
        return good

    def _keep_last_good(self, good: dict[Key, Resource[Any]], problems: Sequence[Problem]) -> None:
        """An object that turned invalid stays as it last was; so does all of a file that cannot be read."""
        errors = [problem for problem in problems if problem.level is Level.ERROR]
        bad_objects = {(problem.resource, problem.file) for problem in errors if problem.resource}
        bad_files = {problem.file for problem in errors if not problem.resource}
        for key, resource in self._good.items():
            source = resource.origin.source
            if key not in good and ((resource.id, source) in bad_objects or source in bad_files):
                good[key] = resource

    def _mesh_config(self, resources: Sequence[Resource[Any]]) -> MeshConfig | None:
        for resource in resources:
            if resource.kind == "ConfigMap" and resource.metadata.name == "istio":
                text = (resource.spec.get("data") or {}).get("mesh", "")
                try:
                    return MeshConfig.model_validate(yaml.safe_load(text) or {})
                except (yaml.YAMLError, ValidationError) as error:
                    line = str(error).partition("\n")[0]
                    problem = schema_error(resource.id, f"data.mesh: {line}", resource.origin.source)
                    self.problems = (*self.problems, problem)
        return None


def _routing(resources: Sequence[Resource[Any]]) -> list[Resource[Any]]:
    return [resource for resource in resources if resource.kind not in ENDPOINT_KINDS]
