"""Header operations of a route, bound once.

Order within one level: all removes, then sets, then adds. Several levels run one after the other: the destination's
first, then the rule's, so that the rule has the last word. A value that names a request header (``%REQ(x)%``) sees the
first line of it, on requests as the levels and removes before left it, on responses as it was sent.

Source: Istio ``Headers``; Envoy ``HeaderParser`` and ``WeightedCluster``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from meshlib.dataplane.formatter import NOBODY, Answered, Names, Pairs, Seen, Value, bind_value
from meshlib.dataplane.request import Request
from meshlib.model.route import HeaderOps

__all__ = ["Answered", "BoundOps", "Names", "Pairs", "Seen", "apply", "bind_ops"]


class BoundOps(NamedTuple):
    """One level of operations; ``removed`` holds lower-case names."""

    removed: frozenset[bytes]
    sets: tuple[tuple[bytes, Value], ...]
    adds: tuple[tuple[bytes, Value], ...]
    sets_present: tuple[tuple[bytes, Value], ...] = ()
    adds_absent: tuple[tuple[bytes, Value], ...] = ()


def bind_ops(*levels: HeaderOps, names: Names = NOBODY) -> tuple[BoundOps, ...]:
    """The levels that do anything, most specific first; values may tell the ``names`` of rule and destination."""
    return tuple(_bind_level(level, names) for level in levels if level)


def _bind_level(ops: HeaderOps, names: Names) -> BoundOps:
    removed = frozenset(name.lower().encode("latin-1") for name in ops.remove)
    pairs = (ops.set, ops.add, ops.set_present, ops.add_absent)
    return BoundOps(removed, *(_bind_pairs(each, names) for each in pairs))


def _bind_pairs(pairs: Sequence[tuple[str, str]], names: Names) -> tuple[tuple[bytes, Value], ...]:
    return tuple((name.encode("latin-1"), bind_value(value, names)) for name, value in pairs)


def apply(levels: Sequence[BoundOps], headers: Pairs, request: Request, sent: Seen | None = None) -> Pairs:
    """``headers`` after all operations, as a new list; empty values are not set or added.

    Args:
        levels: What to do, level by level.
        headers: The request's, or the response's when ``sent`` is given.
        request: The request.
        sent: What was sent, for operations on a response.
    """
    for level in levels:
        if level.removed:
            headers = [pair for pair in headers if pair[0].lower() not in level.removed]
        seen = sent.facing(headers) if sent is not None else Seen(request, headers)
        headers = _one_level(level, headers, seen)
    return headers


def _one_level(level: BoundOps, headers: Pairs, seen: Seen) -> Pairs:
    """All values are computed first, then the sets run, then the adds."""
    sets, adds = _computed(level.sets, seen), _computed(level.adds, seen)
    if level.sets_present or level.adds_absent:
        names = {name.lower() for name, _ in headers}
        sets += [pair for pair in _computed(level.sets_present, seen) if pair[0].lower() in names]
        adds += [pair for pair in _computed(level.adds_absent, seen) if pair[0].lower() not in names]
    if not sets:
        return [*headers, *adds]
    last = {name.lower(): (name, text) for name, text in sets}
    return [*(pair for pair in headers if pair[0].lower() not in last), *last.values(), *adds]


def _computed(pairs: Sequence[tuple[bytes, Value]], seen: Seen) -> Pairs:
    found = ((name, value if isinstance(value, bytes) else value(seen)) for name, value in pairs)
    return [(name, text) for name, text in found if text]
