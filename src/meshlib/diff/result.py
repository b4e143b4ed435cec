"""The answer of ``diff`` as values, with the JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from meshlib.diff.traffic import Recorded

__all__ = ["Alarm", "Change", "Diff", "Kind", "ObjectChange", "RequestGroup", "Side"]

_SECTIONS = {"hosts": "host", "clusters": "cluster", "endpoints": "endpoints"}


class Kind(Enum):
    """What happened to a thing."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    MOVED = "moved"


class Alarm(Enum):
    """What nobody should overlook."""

    UNROUTED = "unrouted"
    """More of these requests than before reach nobody: no rule, no cluster or no endpoint."""
    LEAVES_MESH = "leaves the mesh"
    """The mesh no longer knows the host: the requests go straight to its address, without any policy."""


class Change(NamedTuple):
    """One value that differs.

    Attributes:
        field: What it is.
        old: Before; None where there was none.
        new: After.
        origin: The object and field where the new value stands, ``""`` where that says nothing.
    """

    field: str
    old: Any
    new: Any
    origin: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"field": self.field, "old": self.old, "new": self.new, "origin": self.origin or None}


@dataclass(frozen=True, slots=True)
class Side:
    """What one configuration does to the requests of a group.

    Attributes:
        action: As in ``Decision``.
        rule: The rule that decides, in words.
        shares: Place -> percent: cluster names, local answers, ``no route``, ``straight to its address``.
        why: Why nobody is reached, ``""`` otherwise.
    """

    action: str
    rule: str
    shares: Mapping[str, float]
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"action": self.action, "rule": self.rule, "shares": dict(self.shares), "why": self.why or None}


@dataclass(frozen=True, slots=True)
class RequestGroup:
    """Requests that the change treats alike.

    Attributes:
        requests: Each request, and how often it was recorded.
        old: Before.
        new: After.
        moves: (from, to, percent of the group).
        changes: What else differs; values that belong to single requests are those of the first.
        alarm: See ``Alarm``.
    """

    requests: tuple[tuple[Recorded, int], ...]
    old: Side
    new: Side
    moves: tuple[tuple[str, str, float], ...] = ()
    changes: tuple[Change, ...] = ()
    alarm: Alarm | None = None

    @property
    def count(self) -> int:
        """How many requests were recorded."""
        return sum(count for _, count in self.requests)

    @property
    def moved_percent(self) -> float:
        """How much of the group goes elsewhere."""
        return round(sum(percent for _, _, percent in self.moves), 4)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "count": self.count,
            "alarm": self.alarm.value if self.alarm is not None else None,
            "moved_percent": self.moved_percent,
            "moves": [{"from": source, "to": target, "percent": percent} for source, target, percent in self.moves],
            "changes": [change.to_dict() for change in self.changes],
            "old": self.old.to_dict(),
            "new": self.new.to_dict(),
            "requests": [{**request.to_dict(), "count": count} for request, count in self.requests],
        }


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """A host, rule, cluster or set of endpoints that differs.

    Attributes:
        what: ``host``, ``rule``, ``cluster`` or ``endpoints``.
        name: For example ``reviews.default.svc.cluster.local:9080``; of a rule its condition.
        kind: See ``Kind``.
        changes: Which values differ.
        rules: Of a host: its rules that differ.
    """

    what: str
    name: str
    kind: Kind
    changes: tuple[Change, ...] = ()
    rules: tuple[ObjectChange, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        found: dict[str, Any] = {"name": self.name, "change": self.kind.value}
        if self.changes:
            found["values"] = [change.to_dict() for change in self.changes]
        if self.rules:
            found["rules"] = [rule.to_dict() for rule in self.rules]
        return found


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between two configurations.

    Attributes:
        groups: Requests that are treated differently, alarms first, then by how many move.
        total: Requests that were compared, repetitions included; None where no traffic was given.
        distinct: The same without repetitions.
        unusable: Requests that could not be asked about, and why.
        objects: Compiled hosts, clusters and endpoints that differ; None where traffic was given.
    """

    groups: tuple[RequestGroup, ...] = ()
    total: int | None = None
    distinct: int = 0
    unusable: tuple[tuple[Recorded, str], ...] = ()
    objects: tuple[ObjectChange, ...] | None = None

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.groups or self.objects)

    @property
    def changed(self) -> int:
        """How many of the recorded requests are treated differently."""
        return sum(group.count for group in self.groups)

    @property
    def moved(self) -> float:
        """How many of them go elsewhere, by expectation: 100 requests of which 40 percent move are 40."""
        return round(sum(group.count * group.moved_percent / 100 for group in self.groups), 2)

    def alarmed(self, alarm: Alarm) -> int:
        """How many requests an alarm is about."""
        return sum(group.count for group in self.groups if group.alarm is alarm)

    def to_dict(self) -> dict[str, Any]:
        """The JSON of ``meshlib diff``."""
        if self.objects is not None:
            return {
                "changed": bool(self),
                **{
                    name: [each.to_dict() for each in self.objects if each.what == what]
                    for name, what in _SECTIONS.items()
                },
            }
        return {
            "changed": bool(self),
            "requests": {
                "total": self.total,
                "distinct": self.distinct,
                "changed": self.changed,
                "moved": self.moved,
                "unrouted": self.alarmed(Alarm.UNROUTED),
                "leaving_mesh": self.alarmed(Alarm.LEAVES_MESH),
            },
            "groups": [group.to_dict() for group in self.groups],
            "unusable": [{**request.to_dict(), "why": why} for request, why in self.unusable],
        }
