"""``meshlib diff``: reads recordings, and shows what a change of configuration does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from meshlib.cli.decision import place, spelled
from meshlib.diff import Alarm, Diff, Recorded, RequestGroup, Traffic, diff, read_traffic
from meshlib.diff.result import Change, Kind, ObjectChange, Side

__all__ = ["as_json", "diff", "recorded", "show"]

_OUT = Console(highlight=False, soft_wrap=True)
_EXAMPLES = 3
_SIGNS = {Kind.ADDED: "[green]+[/]", Kind.REMOVED: "[red]-[/]", Kind.CHANGED: "[yellow]~[/]", Kind.MOVED: "[cyan]>[/]"}
_ALARMS = {Alarm.UNROUTED: "UNROUTED", Alarm.LEAVES_MESH: "LEAVES THE MESH"}
_NAMES = {
    "host": ("host", "hosts"),
    "cluster": ("cluster", "clusters"),
    "endpoints": ("set of endpoints", "sets of endpoints"),
}
_LONGEST = 110


def recorded(paths: Sequence[str]) -> Traffic:
    """The requests of all recordings.

    Raises:
        OSError: A file cannot be read.
        ValueError: Not a single request could be read.
    """
    whole = Traffic()
    for path in paths:
        whole.merge(read_traffic(path))
    if not whole.counts:
        why = f": line {whole.unreadable[0][0]}: {whole.unreadable[0][1]}" if whole.unreadable else ""
        raise ValueError(f"no request in {', '.join(paths)}{why}")
    return whole


def as_json(found: Diff, traffic: Traffic | None) -> dict[str, Any]:
    """The answer, with what could not be read of the recordings."""
    if traffic is None:
        return found.to_dict()
    unreadable = [{"line": line, "why": why} for line, why in traffic.unreadable]
    return {
        **found.to_dict(),
        "unreadable": {"count": traffic.unreadable_count, "examples": unreadable},
        "skipped": dict(traffic.skipped),
    }


def show(found: Diff, traffic: Traffic | None) -> None:
    """The answer as text."""
    for line in _objects(found) if traffic is None else _requests(found, traffic):
        _OUT.print(line)


# Requests -----------------------------------------------------------------------------------------------------------


def _requests(found: Diff, traffic: Traffic) -> Iterator[str]:
    yield from _summary(found)
    for group in found.groups:
        yield ""
        yield from _group(group)
    yield from _unread(found, traffic)


def _summary(found: Diff) -> Iterator[str]:
    total = f"{found.total} requests ({found.distinct} distinct)"
    if not found:
        yield f"{total}: [green]nothing changes[/]"
        return
    moved = f"{found.moved:g} of them go elsewhere" if found.moved else "none of them goes elsewhere"
    yield f"{total}: [bold]{found.changed} change[/], {moved}"
    for alarm, words in _ALARMS.items():
        if found.alarmed(alarm):
            yield f"[bold red]{found.alarmed(alarm)} {words}[/]"


def _group(group: RequestGroup) -> Iterator[str]:
    alarm = f"[bold red]{_ALARMS[group.alarm]}[/]  " if group.alarm is not None else ""
    yield f"{alarm}[bold]{group.count} requests[/]"
    for recorded, count in group.requests[:_EXAMPLES]:
        yield f"    [dim]{count} x {_request(recorded)}[/]"
    if len(group.requests) > _EXAMPLES:
        yield f"    [dim]and {len(group.requests) - _EXAMPLES} more like these[/]"
    for source, target, percent in group.moves:
        yield f"    {percent:g}% of them move  {escape(place(source))} -> {escape(place(target))}"
    if group.old.rule != group.new.rule or group.alarm is not None:
        yield f"    before   {escape(_side(group.old))}"
        yield f"    after    {escape(_side(group.new))}"
    yield from (f"    {_change(change)}" for change in group.changes)


def _request(request: Recorded) -> str:
    headers = ", ".join(f"{name}: {value}" for name, value in request.headers)
    caller = [f"from {request.source_namespace}"] if request.source_namespace else []
    caller += [f"{name}={value}" for name, value in request.source_labels or ()]
    parts = [f"{request.method} {request.url}", headers, " ".join(caller)]
    return escape(_cut("  ".join(part for part in parts if part)))


def _side(side: Side) -> str:
    shares = ", ".join(f"{percent:g}% {place(where)}" for where, percent in side.shares.items())
    return _cut(" | ".join(part for part in (side.rule, shares, side.why) if part), 3 * _LONGEST)


def _change(change: Change) -> str:
    field, _, cluster = change.field.removesuffix("_s").partition(" of ")
    name = f"{field} of {place(cluster)}" if cluster else field
    old, new = change.old, change.new
    if field == "endpoints" and _texts(old) and _texts(new):
        gone, fresh = sorted(set(old) - set(new)), sorted(set(new) - set(old))
        return f"{escape(name)}  {escape(_cut(' '.join([f'+{key}' for key in fresh] + [f'-{key}' for key in gone])))}"
    origin = f"  [dim]{escape(change.origin)}[/]" if change.origin else ""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
        words = ", ".join(f"{key} {_value(old.get(key))} -> {_value(new.get(key))}" for key in keys)
        return f"{escape(name)}  {escape(words)}{origin}"
    return f"{escape(name)}  {escape(_value(old, field))} -> {escape(_value(new, field))}{origin}"


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _value(value: Any, field: str = "") -> str:
    if value is None or value == {} or value == []:
        return "none"
    if isinstance(value, bool | int | float):
        return spelled(field, value)
    if _texts(value):
        return _cut(", ".join(map(_share, value)), 2 * _LONGEST)
    return _cut(value if isinstance(value, str) else json.dumps(value))


def _share(text: str) -> str:
    """``90% outbound|80|v1|svc`` with the cluster in words."""
    percent, space, name = text.partition(" ")
    return percent + space + place(name)


def _cut(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _unread(found: Diff, traffic: Traffic) -> Iterator[str]:
    if traffic.unreadable_count:
        yield ""
        yield f"[yellow]{traffic.unreadable_count} records could not be read[/]"
        yield from (f"    line {line}: {escape(why)}" for line, why in traffic.unreadable[:_EXAMPLES])
    for why, count in traffic.skipped.items():
        yield f"[dim]{count} records skipped: {escape(why)}[/]"
    for request, why in found.unusable[:_EXAMPLES]:
        yield f"[yellow]not compared[/] {_request(request)}: {escape(why)}"


# Objects ------------------------------------------------------------------------------------------------------------


def _objects(found: Diff) -> Iterator[str]:
    objects = found.objects or ()
    if not objects:
        yield "[green]nothing changes[/]"
        return
    for title, what in (("hosts", "host"), ("clusters", "cluster"), ("endpoints", "endpoints")):
        mine = [each for each in objects if each.what == what]
        if mine:
            yield f"[bold]{title}[/]"
        for alike in _alike(mine):
            yield from _object(alike[0], ", ".join(_name(each) for each in alike))
    counts = [(what, sum(each.what == what for each in objects)) for what in _NAMES]
    yield ", ".join(f"{count} {_NAMES[what][count > 1]}" for what, count in counts if count) + " differ"


def _alike(objects: Sequence[ObjectChange]) -> list[list[ObjectChange]]:
    """Objects that changed in the same way are told together."""
    found: dict[str, list[ObjectChange]] = {}
    for each in objects:
        found.setdefault(repr((each.kind, each.changes, each.rules)), []).append(each)
    return list(found.values())


def _name(each: ObjectChange) -> str:
    return each.name if each.what == "host" else place(each.name)


def _object(each: ObjectChange, name: str) -> Iterator[str]:
    yield f"  {_SIGNS[each.kind]} {escape(name)}" + (f"  [dim]{each.kind.value}[/]" if not each.rules else "")
    if each.what == "endpoints":
        yield from (f"      {_endpoint(change)}" for change in each.changes)
    elif each.kind is Kind.CHANGED:
        yield from (f"      {_change(change)}" for change in each.changes)
    for rule in each.rules:
        yield f"      {_SIGNS[rule.kind]} {escape(_cut(rule.name))}"
        yield from (f"          {_rule_value(rule.kind, change)}" for change in rule.changes)


def _rule_value(kind: Kind, change: Change) -> str:
    """Of a rule that came or went only what it does."""
    if kind is Kind.ADDED:
        return f"{escape(change.field)}  {escape(_value(change.new))}"
    if kind is Kind.REMOVED:
        return f"{escape(change.field)}  {escape(_value(change.old))}"
    return _change(change)


def _endpoint(change: Change) -> str:
    if change.old is None:
        return f"{_SIGNS[Kind.ADDED]} {escape(change.field)}"
    if change.new is None:
        return f"{_SIGNS[Kind.REMOVED]} {escape(change.field)}"
    differing = [name for name in change.new if change.old.get(name) != change.new[name]]
    values = ", ".join(f"{name} {_value(change.old.get(name))} -> {_value(change.new[name])}" for name in differing)
    return f"{_SIGNS[Kind.CHANGED]} {escape(change.field)}  {escape(values)}"
