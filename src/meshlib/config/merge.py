"""What all providers know, as one list of valid objects: the earlier provider wins, the last good is kept.

An object that is the same Python object as at the last merge, or that only moved in its file, is not checked again, so
that a change of one among ten thousand costs that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from meshlib.config.resources.base import Resource
from meshlib.config.validation import validate
from meshlib.model.problem import Level, Problem
from meshlib.providers.base import Facts

__all__ = ["Merge"]

Key = tuple[str, str, str, str]
"""API group, kind, namespace, name."""


class _Checked(NamedTuple):
    """One object and what is wrong with it; ``good`` is whether it may be used."""

    resource: Resource[Any]
    key: Key
    problems: list[Problem]
    good: bool


class _Placed(NamedTuple):
    """An object and the number of its provider."""

    resource: Resource[Any]
    provider: int

    @property
    def rank(self) -> tuple[int, str]:
        """What comes first counts: providers, then their files."""
        return (self.provider, self.resource.origin.source)


class Merge:
    """Remembers what it checked and what was good.

    Args:
        namespace: For objects that name none.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._checked: dict[int, _Checked] = {}
        self._good: dict[Key, _Placed] = {}

    def merge(self, facts: Iterable[Facts | None]) -> tuple[list[Resource[Any]], list[Problem]]:
        """The objects in force, and everything that is wrong."""
        checked: dict[int, _Checked] = {}
        chosen: dict[Key, tuple[_Checked, int]] = {}
        problems: list[Problem] = []
        for provider, known in enumerate(facts):
            if known is not None:
                problems.extend(known.problems)
                for resource in known.resources:
                    each = self._check(resource)
                    checked[id(resource.spec)] = each
                    first, _ = chosen.setdefault(each.key, (each, provider))
                    if first.resource is not resource:
                        problems.extend(_duplicate(first.resource, resource))
        self._checked = checked
        self._good = self._usable(chosen, problems)
        return [placed.resource for placed in self._good.values()], problems

    def _check(self, resource: Resource[Any]) -> _Checked:
        before = self._checked.get(id(resource.spec))
        if before is not None:
            known = before.resource
            if known is resource:
                return before
            if known.spec is resource.spec and known.metadata is resource.metadata and not before.problems:
                return _Checked(resource, before.key, [], True)
        found = validate(resource)
        return _Checked(resource, self._key(resource), found, all(each.level is not Level.ERROR for each in found))

    def _key(self, resource: Resource[Any]) -> Key:
        group, _, _ = resource.api_version.rpartition("/")
        return (group, resource.kind, resource.metadata.namespace or self._namespace, resource.metadata.name)

    def _usable(self, chosen: dict[Key, tuple[_Checked, int]], problems: list[Problem]) -> dict[Key, _Placed]:
        good: dict[Key, _Placed] = {}
        for key, (each, provider) in chosen.items():
            if each.problems:
                problems.extend(each.problems)
            if each.good:
                good[key] = _Placed(each.resource, provider)
        errors = [problem for problem in problems if problem.level is Level.ERROR]
        if errors:
            self._keep_last_good(good, errors)
        return good

    def _keep_last_good(self, good: dict[Key, _Placed], errors: Sequence[Problem]) -> None:
        """An object that turned invalid stays as it last was; so does all of a file that cannot be read."""
        bad_objects = {(problem.resource, problem.file) for problem in errors if problem.resource}
        bad_files = {problem.file for problem in errors if not problem.resource}
        for key, placed in self._good.items():
            resource, source = placed.resource, placed.resource.origin.source
            if (resource.id, source) not in bad_objects and source not in bad_files:
                continue
            if key not in good or placed.rank < good[key].rank:
                good[key] = placed


def _duplicate(first: Resource[Any], second: Resource[Any]) -> list[Problem]:
    if first == second or first.kind == "Namespace":
        return []
    origin = second.origin
    message = f"stands in {first.origin.source} too, which comes first and is used"
    path = "metadata.name"
    line = origin.line(path)
    return [Problem("MESH001", "DuplicateResource", Level.WARNING, second.id, message, origin.source, line, path)]
