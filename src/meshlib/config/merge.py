"""What all providers know, as one set of valid objects: the earlier provider wins, the last good is kept.

Only what differs from the last publication is looked at, so that a change of one among a hundred thousand costs that
one. An object that is the same Python object as before, or that only moved in its file, is not checked again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from meshlib.config.difference import difference
from meshlib.config.resources.base import Resource
from meshlib.config.validation import validate
from meshlib.model.problem import Level, Problem
from meshlib.providers.base import Facts

__all__ = ["Change", "Merge"]

Key = tuple[str, str, str, str]
"""API group, kind, namespace, name."""

Change = tuple[Resource[Any] | None, Resource[Any] | None]
"""An object as it was in force, and as it is; None where it was or is not."""


class _Checked(NamedTuple):
    """One object of one provider and what is wrong with it; ``good`` is whether it may be used."""

    resource: Resource[Any]
    provider: int
    problems: list[Problem]
    good: bool

    @property
    def rank(self) -> tuple[int, str]:
        """What comes first counts: providers, then their files."""
        return (self.provider, self.resource.origin.source)


class Merge:
    """Remembers what it checked and what was good.

    Args:
        namespace: For objects that name none.
        providers: How many there are.

    Attributes:
        facts: What each provider said last; None before its first.
        problems: What is wrong, as of the last ``merge``; the same tuple while nothing of it changes.
    """

    def __init__(self, namespace: str, providers: int) -> None:
        self.facts: list[Facts | None] = [None] * providers
        self.problems: tuple[Problem, ...] = ()
        self._namespace = namespace
        self._places: dict[Key, list[_Checked]] = {}
        self._good: dict[Key, _Checked] = {}
        self._said: dict[Key, list[Problem]] = {}
        self._dirty: dict[Key, None] = {}
        self._kept: set[Key] = set()
        self._crowded: list[set[Key]] = [set() for _ in range(providers)]
        self._told_anew = True
        self._bad_objects: set[tuple[str, str]] = set()
        self._bad_files: set[str] = set()

    # Taking in ------------------------------------------------------------------------------------------------------

    def take(self, provider: int, facts: Facts) -> None:
        """The provider of that number knows this now."""
        before = self.facts[provider]
        gone, come = difference(before.resources if before is not None else (), facts.resources)
        self.facts[provider] = facts
        for resource in come:
            self._add(provider, resource)
        for resource in gone:
            self._drop(provider, resource)
        if self._crowded[provider]:
            self._put_in_order(provider, facts)
        if before is None or before.problems is not facts.problems:
            self._told_anew = True

    def _add(self, provider: int, resource: Resource[Any]) -> None:
        key = self._key(resource)
        places = self._places.setdefault(key, [])
        places.append(_check(resource, provider, places))
        if len(places) > 1:
            places.sort(key=lambda each: each.provider)
            if sum(each.provider == provider for each in places) > 1:
                self._crowded[provider].add(key)
        self._dirty[key] = None

    def _drop(self, provider: int, resource: Resource[Any]) -> None:
        key = self._key(resource)
        places = self._places[key]
        gone = (n for n, each in enumerate(places) if each.resource is resource and each.provider == provider)
        del places[next(gone)]
        if not places:
            del self._places[key]
        if sum(each.provider == provider for each in places) < 2:
            self._crowded[provider].discard(key)
        self._dirty[key] = None

    def _put_in_order(self, provider: int, facts: Facts) -> None:
        """Objects that stand several times in one provider count in the order in which they stand now."""
        order = {id(resource): number for number, resource in enumerate(facts.resources)}
        for key in self._crowded[provider]:
            self._places[key].sort(key=lambda each: (each.provider, order.get(id(each.resource), 0)))
            self._dirty[key] = None

    def _key(self, resource: Resource[Any]) -> Key:
        group, _, _ = resource.api_version.rpartition("/")
        return (group, resource.kind, resource.metadata.namespace or self._namespace, resource.metadata.name)

    @property
    def waiting(self) -> set[str]:
        """The kinds of what was taken in and not merged yet."""
        return {kind for _, kind, _, _ in self._dirty}

    # Merging --------------------------------------------------------------------------------------------------------

    def merge(self) -> list[Change]:
        """What changed in the set of objects in force since the last call; equal objects are no change."""
        if self._told_anew:
            self._read_problems()
        changes = [self._settle(key) for key in (*self._dirty, *self._kept.difference(self._dirty))]
        self._dirty = {}
        if self._told_anew:
            theirs = [problem for facts in self.facts if facts is not None for problem in facts.problems]
            self.problems = (*theirs, *(problem for said in self._said.values() for problem in said))
            self._told_anew = False
        return [change for change in changes if change is not None]

    def resources(self) -> list[Resource[Any]]:
        """The objects in force, in the order of the providers and of their files; callable from any thread."""
        keys = {self._key(each): None for facts in self.facts if facts is not None for each in facts.resources}
        keys.update(dict.fromkeys(list(self._kept)))
        good = self._good
        return [each.resource for key in keys if (each := good.get(key)) is not None]

    def _settle(self, key: Key) -> Change | None:
        """Decide anew about one object."""
        places = self._places.get(key)
        before, first = self._good.get(key), places[0] if places else None
        self._say(key, places or ())
        after = first if first is not None and first.good else None
        self._kept.discard(key)
        if before is not None and self._is_lost(before, places or ()) and (after is None or before.rank < after.rank):
            after = before
            self._kept.add(key)
        if before is after:
            return None
        if after is None:
            del self._good[key]
        else:
            self._good[key] = after
        old, new = (each.resource if each is not None else None for each in (before, after))
        return None if old == new else (old, new)

    def _say(self, key: Key, places: Sequence[_Checked]) -> None:
        first = places[0] if places else None
        found = [problem for each in places[1:] for problem in _duplicate(places[0].resource, each.resource)]
        found.extend(first.problems if first is not None else ())
        if found != self._said.get(key, []):
            self._told_anew = True
        if found:
            self._said[key] = found
        else:
            self._said.pop(key, None)

    def _is_lost(self, before: _Checked, places: Sequence[_Checked]) -> bool:
        """An object that turned invalid stays as it last was; so does all of a file that cannot be read."""
        name = (before.resource.id, before.resource.origin.source)
        if name in self._bad_objects or name[1] in self._bad_files:
            return True
        errors = (p for each in places[:1] for p in each.problems if p.level is Level.ERROR)
        return any((problem.resource, problem.file) == name for problem in errors)

    def _read_problems(self) -> None:
        errors = [p for facts in self.facts if facts is not None for p in facts.problems if p.level is Level.ERROR]
        self._bad_objects = {(problem.resource, problem.file) for problem in errors if problem.resource}
        self._bad_files = {problem.file for problem in errors if not problem.resource}


def _check(resource: Resource[Any], provider: int, known: Sequence[_Checked]) -> _Checked:
    for each in known:
        same = each.resource.spec is resource.spec and each.resource.metadata is resource.metadata
        if same and not each.problems and each.resource.status == resource.status:
            return _Checked(resource, provider, [], True)
    found = validate(resource)
    return _Checked(resource, provider, found, all(each.level is not Level.ERROR for each in found))


def _duplicate(first: Resource[Any], second: Resource[Any]) -> Iterator[Problem]:
    if first is second or first == second or first.kind == "Namespace":
        return
    origin = second.origin
    message = f"stands in {first.origin.source} too, which comes first and is used"
    path = "metadata.name"
    line = origin.line(path)
    yield Problem("MESH001", "DuplicateResource", Level.WARNING, second.id, message, origin.source, line, path)
