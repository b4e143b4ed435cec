"""The objects of one collection as resources; what did not change stays the very same Python object."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from meshlib.providers.base import Facts
from meshlib.providers.kubernetes.collections import ResourceType
from meshlib.providers.kubernetes.conditions import is_stale
from meshlib.providers.kubernetes.lean import lean
from meshlib.providers.objects import Objects

__all__ = ["Key", "Store", "key_of", "version_of"]

Key = tuple[str, str]
"""Namespace and name."""


def _metadata(value: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = value.get("metadata")
    if not isinstance(metadata, Mapping):
        raise ValueError("an object without metadata")
    return metadata


def key_of(value: Mapping[str, Any]) -> Key:
    """What an object is known by.

    Raises:
        ValueError: It has no name.
    """
    metadata = _metadata(value)
    name, namespace = metadata.get("name"), metadata.get("namespace") or ""
    if not isinstance(name, str) or not name or not isinstance(namespace, str):
        raise ValueError("an object without a name")
    return (namespace, name)


def version_of(value: Mapping[str, Any]) -> str:
    """The resource version of an object or a list.

    Raises:
        ValueError: It has none.
    """
    version = _metadata(value).get("resourceVersion")
    if not isinstance(version, str) or not version:
        raise ValueError("an object without a resource version")
    return version


class Store:
    """What is known of a collection.

    Args:
        type: What its objects are.
        source: Where problems say that they stand.
        strict: Refuse objects with unknown fields.
        rename: The name under which its only object is known to us, ``""`` for its own.

    Attributes:
        changes: Counts what changed, so that others see whether anything did.
        stale: Objects whose status has a word of ours about an earlier generation.
    """

    def __init__(self, type: ResourceType, source: str, strict: bool = False, rename: str = "") -> None:
        self.type = type
        self.changes = 0
        self.stale: set[Key] = set()
        self._objects = Objects(source, strict=strict)
        self._rename = rename
        self._has_status = bool(type.group)

    def __len__(self) -> int:
        """How many objects there are, those that cannot be read included."""
        return len(self._objects)

    def put(self, value: Mapping[str, Any], listed: bool = False) -> Key:
        """An object as a list has it, or as an event does, which may be about the past.

        Raises:
            ValueError: It has no name or resource version.
        """
        key, version = key_of(value), version_of(value)
        if self._has_status:
            (self.stale.add if is_stale(value) else self.stale.discard)(key)
        known = self._objects.version(key)
        if known != version and (listed or not _is_older(version, known)):
            self.changes += self._objects.put(key, self._plain(value), version)
        return key

    def _plain(self, value: Mapping[str, Any]) -> dict[str, Any]:
        plain = lean(self.type.api_version, self.type.kind, value)
        if self._rename and isinstance(plain["metadata"], dict):
            plain["metadata"]["name"] = self._rename
        return plain

    def remove(self, value: Mapping[str, Any]) -> None:
        """An object was deleted.

        Raises:
            ValueError: It has no name or resource version.
        """
        key = key_of(value)
        self.stale.discard(key)
        if not _is_older(version_of(value), self._objects.version(key)):
            self.changes += self._objects.remove(key)

    def keep(self, keys: Collection[Key]) -> None:
        """There are no others than these."""
        self.stale.intersection_update(keys)
        self.changes += self._objects.keep(keys)

    def facts(self) -> Facts:
        """All that can be read, in chunks that stay while nothing in them changes, and what is wrong with the rest."""
        return self._objects.facts()


def _is_older(one: str, other: str) -> bool:
    """Whether an event repeats the past: two versions of one object, both decimal numbers, the first the smaller.

    Versions that are no numbers are opaque, and never older. Across lists nothing is compared: a server whose history
    was set back counts from a lower number.
    """
    return one.isdecimal() and other.isdecimal() and int(one) < int(other)
