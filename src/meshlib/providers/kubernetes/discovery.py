"""Which of the wanted types of resources a server has, asked again from time to time: CRDs come and go.

Asked are the list of groups and, of each group that matters, the versions whose objects are read. A group that cannot
be asked about now keeps what was found in it before; at the first look that is nothing, and the look has failed, for a
mesh without its routes would send requests to the wrong places.

Source: Kubernetes API discovery (``APIGroupList``, ``APIResourceList``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from meshlib.providers.kubernetes.collections import CORE, GROUPS, ResourceType
from meshlib.providers.kubernetes.failures import RequestFailed

__all__ = ["Discovery"]

Get = Callable[[str], Awaitable[Any]]


class Discovery:
    """Remembers what was found.

    Args:
        get: The JSON at a path.
    """

    def __init__(self, get: Get) -> None:
        self._get = get
        self._known: dict[str, tuple[ResourceType, ...]] = {}

    async def look(self) -> list[ResourceType]:
        """All wanted types that the server has now.

        Raises:
            RequestFailed: It cannot be asked for its groups, or for one that has never been seen.
        """
        groups = await self._get("/apis")
        offered = dict(_versions(groups))
        self._known = {group: await self._types(group, offered[group]) for group in GROUPS if group in offered}
        return [*CORE, *(each for types in self._known.values() for each in types)]

    async def _types(self, group: str, versions: list[str]) -> tuple[ResourceType, ...]:
        """The wanted kinds of a group, each in the server's preferred version among those that are read."""
        found: dict[str, ResourceType] = {}
        wanted = GROUPS[group]
        for version in versions:
            if not any(version in read and kind not in found for kind, read in wanted.items()):
                continue
            try:
                listed = await self._get(f"/apis/{group}/{version}")
            except RequestFailed as error:
                if error.failure.is_refused:
                    continue
                if group not in self._known:
                    raise
                return self._known[group]
            for each in _resources(listed, group, version):
                if version in wanted.get(each.kind, ()):
                    found.setdefault(each.kind, each)
        return tuple(found.values())


def _versions(groups: Any) -> Iterator[tuple[str, list[str]]]:
    """Group -> its versions, the preferred one first."""
    for group in _rows(groups, "groups"):
        preferred = group.get("preferredVersion")
        first = preferred.get("version") if isinstance(preferred, Mapping) else None
        versions = [each["version"] for each in _rows(group, "versions") if isinstance(each.get("version"), str)]
        yield str(group.get("name")), sorted(versions, key=lambda version: version != first)


def _resources(listed: Any, group: str, version: str) -> Iterator[ResourceType]:
    """What can be listed and watched; subresources such as ``pods/status`` cannot."""
    for each in _rows(listed, "resources"):
        name, kind, verbs = each.get("name"), each.get("kind"), each.get("verbs")
        if not isinstance(name, str) or not isinstance(kind, str) or "/" in name or not isinstance(verbs, list):
            continue
        if "list" in verbs and "watch" in verbs:
            yield ResourceType(group, version, name, kind, bool(each.get("namespaced")))


def _rows(value: Any, name: str) -> list[Mapping[str, Any]]:
    rows = value.get(name) if isinstance(value, Mapping) else None
    return [each for each in rows if isinstance(each, Mapping)] if isinstance(rows, list) else []
