"""Objects that stand in several files: one of them is used, as when the configuration is served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meshlib.config.analyze.world import CLUSTER
from meshlib.config.resources.base import Resource
from meshlib.model.problem import Level, Problem

__all__ = ["distinct"]


def distinct(resources: Sequence[Resource[Any]], namespace: str) -> tuple[list[Resource[Any]], list[Problem]]:
    """The objects that are used, the first of each name; and a finding for each other one that differs from it."""
    chosen: dict[object, Resource[Any]] = {}
    problems: list[Problem] = []
    for resource in resources:
        meta = resource.metadata
        group = resource.api_version.rpartition("/")[0]
        key = (group, resource.kind, meta.namespace or namespace, meta.name)
        unnamed = not meta.name or bool(meta.generate_name)
        first = chosen.setdefault(id(resource) if unnamed else key, resource)
        if first is not resource and first != resource and not _elsewhere(first, resource):
            problems.append(_repeated(resource, first))
    return list(chosen.values()), problems


def _elsewhere(one: Resource[Any], other: Resource[Any]) -> bool:
    """Whether they are one Service in two clusters."""
    first, second = (each.metadata.labels.get(CLUSTER) for each in (one, other))
    return one.kind == "Service" and first is not None and second is not None and first != second


def _repeated(resource: Resource[Any], first: Resource[Any]) -> Problem:
    origin = resource.origin
    message = f"stands in {first.origin.source} too, which comes first and is used"
    line, path = origin.line("metadata.name"), "metadata.name"
    return Problem("MESH001", "DuplicateResource", Level.WARNING, resource.id, message, origin.source, line, path)
