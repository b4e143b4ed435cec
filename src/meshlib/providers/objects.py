"""The objects of one source, kept by key, for providers that hear of changes one by one and publish whole sets.

    objects = Objects("consul")
    objects.put("web", {"apiVersion": ..., "kind": "ServiceEntry", ...}, version="17")
    publish(objects.facts())

An object is read only when its version changed, and one that comes out equal stays the very object it was, so that
nobody downstream looks at it again. The set is handed over in chunks: one change among a hundred thousand objects costs
its chunk.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any, NamedTuple

from meshlib.config.resources.base import Resource
from meshlib.config.resources.load import Loaded, load_dict
from meshlib.config.resources.parts import Parts
from meshlib.model.problem import Problem
from meshlib.providers.base import Facts

__all__ = ["Objects"]

_CHUNK = 256
"""Objects in a chunk: about the square root of a hundred thousand, where chunks and their number weigh the same."""


class _Entry(NamedTuple):
    version: str
    resources: tuple[Resource[Any], ...]
    problems: tuple[Problem, ...]
    chunk: int


class Objects:
    """What one source holds now.

    Args:
        source: Its name in problems, for example ``consul:dc1``.
        strict: Refuse objects with unknown fields.
    """

    def __init__(self, source: str, *, strict: bool = False) -> None:
        self._source = source
        self._strict = strict
        self._entries: dict[Hashable, _Entry] = {}
        self._chunks: list[dict[Hashable, tuple[Resource[Any], ...]]] = []
        self._made: list[tuple[Resource[Any], ...] | None] = []
        self._with_room: dict[int, None] = {}
        self._bad: dict[Hashable, tuple[Problem, ...]] = {}
        self._problems: tuple[Problem, ...] = ()
        self._facts: Facts | None = None

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        """Whether there is something under ``key``."""
        return key in self._entries

    def version(self, key: Hashable) -> str:
        """The version of what stands under ``key``, ``""`` for nothing."""
        known = self._entries.get(key)
        return known.version if known is not None else ""

    def put(self, key: Hashable, given: Mapping[str, Any] | Resource[Any] | Loaded, version: str = "") -> bool:
        """What stands under ``key`` now.

        Args:
            key: Of the source's own making.
            given: The object as a plain mapping (a ``List`` of objects too), or ready made, or what a text held.
            version: While it stays the same, and is not ``""``, ``given`` is not even read.

        Returns:
            Whether anything changed.
        """
        known = self._entries.get(key)
        if known is not None and version and known.version == version:
            return False
        resources, problems = self._read(given)
        if known is not None and known.resources == resources and known.problems == problems:
            self._entries[key] = known._replace(version=version)
            return False
        chunk = known.chunk if known is not None else self._room()
        self._entries[key] = _Entry(version, resources, problems, chunk)
        self._chunks[chunk][key] = resources
        self._changed(chunk, key, problems)
        return True

    def remove(self, key: Hashable) -> bool:
        """Nothing stands under ``key`` any more; whether something did."""
        known = self._entries.pop(key, None)
        if known is None:
            return False
        del self._chunks[known.chunk][key]
        self._with_room[known.chunk] = None
        self._changed(known.chunk, key, ())
        return True

    def keep(self, keys: Collection[Hashable]) -> bool:
        """Remove all but ``keys``, after everything was listed anew; whether anything went."""
        gone = [key for key in self._entries if key not in keys]
        for key in gone:
            self.remove(key)
        return bool(gone)

    def facts(self, version: str = "") -> Facts:
        """Everything, to be published; the very value of before while nothing changed, ``version`` included."""
        if self._facts is None or self._facts.version != version:
            for number, chunk in enumerate(self._chunks):
                if self._made[number] is None:
                    self._made[number] = tuple(resource for resources in chunk.values() for resource in resources)
            chunks = tuple(made for made in self._made if made)
            problems = tuple(problem for found in self._bad.values() for problem in found)
            self._problems = self._problems if self._problems == problems else problems
            self._facts = Facts(Parts(chunks), self._problems, version)
        return self._facts

    def _read(
        self, given: Mapping[str, Any] | Resource[Any] | Loaded
    ) -> tuple[tuple[Resource[Any], ...], tuple[Problem, ...]]:
        if isinstance(given, Resource):
            return (given,), ()
        loaded = given if isinstance(given, Loaded) else load_dict(given, self._source, strict=self._strict)
        return tuple(loaded.resources), tuple(loaded.problems)

    def _room(self) -> int:
        """A chunk that takes one more."""
        for chunk in list(self._with_room):
            if len(self._chunks[chunk]) < _CHUNK:
                return chunk
            del self._with_room[chunk]
        self._chunks.append({})
        self._made.append(None)
        self._with_room[len(self._chunks) - 1] = None
        return len(self._chunks) - 1

    def _changed(self, chunk: int, key: Hashable, problems: tuple[Problem, ...]) -> None:
        self._made[chunk] = self._facts = None
        if problems:
            self._bad[key] = problems
        else:
            self._bad.pop(key, None)
