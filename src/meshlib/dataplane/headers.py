"""Header operations of a route, bound once.

Order within one level: all removes, then sets, then adds; values are computed from the headers as they came. Several
levels run one after the other: the destination's first, then the rule's, so that the rule has the last word.

Source: Istio ``Headers``; Envoy ``HeaderParser`` and ``WeightedCluster``.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from meshlib.dataplane.request import Request
from meshlib.model.route import HeaderOps

__all__ = ["BoundOps", "Pairs", "apply", "bind_ops"]

Pairs = list[tuple[bytes, bytes]]
Value = bytes | Callable[[Request], bytes]

_COMMAND = re.compile(r"%%|%([A-Z_]+)(?:\(([^)]*)\))?%")


class BoundOps(NamedTuple):
    """One level of operations; ``removed`` holds every lower-case name that goes, overwritten ones included."""

    removed: frozenset[bytes]
    sets: tuple[tuple[bytes, Value], ...]
    adds: tuple[tuple[bytes, Value], ...]


def bind_ops(*levels: HeaderOps) -> tuple[BoundOps, ...]:
    """The levels that do anything, most specific first."""
    return tuple(_bind_level(level) for level in levels if level)


def _bind_level(ops: HeaderOps) -> BoundOps:
    sets = tuple((name.encode("latin-1"), _bind_value(value)) for name, value in ops.set)
    adds = tuple((name.encode("latin-1"), _bind_value(value)) for name, value in ops.add)
    return BoundOps(frozenset(name.lower().encode("latin-1") for name in ops.remove), sets, adds)


def apply(levels: Sequence[BoundOps], headers: Pairs, request: Request) -> Pairs:
    """``headers`` after all operations, as a new list; empty values are not set or added."""
    for level in levels:
        sets = [(name, text) for name, value in level.sets if (text := _text(value, request))]
        gone = level.removed.union(name.lower() for name, _ in sets)
        headers = [pair for pair in headers if pair[0].lower() not in gone] if gone else list(headers)
        headers.extend(sets)
        headers.extend((name, text) for name, value in level.adds if (text := _text(value, request)))
    return headers


def _text(value: Value, request: Request) -> bytes:
    return value if isinstance(value, bytes) else value(request)


def _bind_value(text: str) -> Value:
    """A literal, or a function where the text holds Envoy's ``%COMMAND%``; ``%%`` is a percent sign."""
    pieces: list[Callable[[Request], str] | str] = []
    end = 0
    for hit in _COMMAND.finditer(text):
        pieces.append(text[end : hit.start()])
        pieces.append("%" if hit.group() == "%%" else _command(hit.group(1), hit.group(2), hit.group()))
        end = hit.end()
    pieces.append(text[end:])
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(piece for piece in pieces if isinstance(piece, str)).encode("latin-1", "replace")
    return lambda request: "".join(p if isinstance(p, str) else p(request) for p in pieces).encode("latin-1", "replace")


def _command(name: str, argument: str | None, whole: str) -> Callable[[Request], str] | str:
    """What a command stands for; one that this process cannot know is ``-``, as Envoy writes an absent value."""
    if name == "REQ" and argument:
        first, _, other = argument.lower().partition("?")
        return lambda request: request.header(first) or (request.header(other) if other else None) or ""
    if name == "HOSTNAME":
        return socket.gethostname()
    if name == "ENVIRONMENT" and argument:
        return os.environ.get(argument, "-")
    if name == "PROTOCOL":
        return "HTTP/1.1"
    return "-"
