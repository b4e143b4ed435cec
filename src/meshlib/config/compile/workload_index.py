"""WorkloadEntries by label, so that a service finds its twenty among a hundred thousand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from meshlib.config.resources.base import Resource
from meshlib.config.resources.service_entry import WorkloadEntrySpec

__all__ = ["Workloads"]

Entry = Resource[WorkloadEntrySpec]
Label = tuple[str, str]
Moved = tuple[str, Entry | None, Entry | None]
"""Namespace, the entry as it was and as it is."""


class Workloads:
    """The WorkloadEntries of all namespaces.

    They are indexed by a label's name when a selector with it is first asked for.

    Args:
        entries: Each with its namespace.
    """

    LATELY = 1024
    """Changes that are remembered beside the entries before they are worked in."""

    def __init__(self, entries: Iterable[tuple[str, Entry]] = ()) -> None:
        self._all = {(namespace, entry.metadata.name): entry for namespace, entry in entries}
        self._lately: tuple[Moved, ...] = ()
        self._by_label: dict[Label, dict[str, list[Entry]]] = {}

    def of(self, namespace: str, selector: Mapping[str, str]) -> Sequence[Entry]:
        """At least those of a namespace that have all labels of ``selector``; an empty one selects none."""
        lists = [self._indexed(namespace, name).get(value, []) for name, value in selector.items()]
        return min(lists, key=len, default=[])

    def with_changes(self, changes: Sequence[Moved]) -> Workloads:
        """The same after some changes; this one stays as it is."""
        if not changes:
            return self
        other = Workloads()
        other._all, other._lately = self._all, (*self._lately, *changes)
        if len(other._lately) > self.LATELY:
            other._all, other._lately = other._now(), ()
        for (namespace, name), values in self._by_label.copy().items():
            here = [change for change in changes if change[0] == namespace]
            other._by_label[namespace, name] = _applied(values, name, here)
        return other

    def _now(self) -> dict[tuple[str, str], Entry]:
        if not self._lately:
            return self._all
        made = self._all.copy()
        for namespace, before, after in self._lately:
            if before is not None:
                made.pop((namespace, before.metadata.name), None)
            if after is not None:
                made[namespace, after.metadata.name] = after
        return made

    def _indexed(self, namespace: str, name: str) -> dict[str, list[Entry]]:
        found = self._by_label.get((namespace, name))
        if found is None:
            found = {}
            for (space, _), entry in self._now().items():
                value = _label(entry, name) if space == namespace else None
                if value is not None:
                    found.setdefault(value, []).append(entry)
            self._by_label[namespace, name] = found
        return found


def _label(entry: Entry, name: str) -> str | None:
    """A label of the workload; the object's own comes before that of its spec."""
    own = entry.metadata.labels.get(name)
    return own if own is not None else entry.spec.labels.get(name)


def _applied(values: dict[str, list[Entry]], name: str, changes: Iterable[Moved]) -> dict[str, list[Entry]]:
    """An index after changes; an entry that keeps its label keeps its place."""
    made = dict(values)
    for _, before, after in changes:
        old = _label(before, name) if before is not None else None
        new = _label(after, name) if after is not None else None
        if before is not None and old is not None:
            stays, gone = [after] if old == new and after is not None else [], before.metadata.name
            made[old] = [kept for e in made.get(old, ()) for kept in (stays if e.metadata.name == gone else [e])]
        if new is not None and after is not None and new != old:
            made[new] = [*made.get(new, ()), after]
    return made
