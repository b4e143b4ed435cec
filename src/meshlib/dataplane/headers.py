"""Header operations of a route, bound once.

Order within one level: all removes, then sets, then adds. Several levels run one after the other: the destination's
first, then the rule's, so that the rule has the last word. A value that names a request header (``%REQ(x)%``) sees the
first line of it, on requests as the levels and removes before left it, on responses as it was sent.

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

__all__ = ["BoundOps", "Pairs", "Seen", "apply", "bind_ops"]

Pairs = list[tuple[bytes, bytes]]

_LOCAL = "127.0.0.1"
"""The address of callers in this process, as a sidecar sees them."""

_COMMAND = re.compile(r"%%|%([A-Z_]+)(?:\(([^)]*)\))?%")


class Seen:
    """The request as values see it: the first line of each header, and the pseudo headers."""

    __slots__ = ("_found", "_headers", "_request", "_target")

    def __init__(self, request: Request, headers: Pairs, target: str | None = None) -> None:
        self._request = request
        self._headers = headers
        self._target = request.path if target is None else target
        self._found: dict[str, str] | None = None

    def get(self, name: str) -> str:
        """The value of a header by its lower-case name, ``""`` when absent."""
        if self._found is None:
            self._found = {
                raw.decode("latin-1").lower(): value.decode("latin-1") for raw, value in reversed(self._headers)
            }
            request, host = self._request, self._found.get("host", self._request.authority)
            pseudo = {":method": request.method, ":scheme": request.scheme, ":path": self._target, ":authority": host}
            self._found.update(pseudo)
        return self._found.get(name, "")


Value = bytes | Callable[[Seen], bytes]


class BoundOps(NamedTuple):
    """One level of operations; ``removed`` holds lower-case names."""

    removed: frozenset[bytes]
    sets: tuple[tuple[bytes, Value], ...]
    adds: tuple[tuple[bytes, Value], ...]
    sets_present: tuple[tuple[bytes, Value], ...] = ()
    adds_absent: tuple[tuple[bytes, Value], ...] = ()


def bind_ops(*levels: HeaderOps) -> tuple[BoundOps, ...]:
    """The levels that do anything, most specific first."""
    return tuple(_bind_level(level) for level in levels if level)


def _bind_level(ops: HeaderOps) -> BoundOps:
    removed = frozenset(name.lower().encode("latin-1") for name in ops.remove)
    return BoundOps(removed, *map(_bind_pairs, (ops.set, ops.add, ops.set_present, ops.add_absent)))


def _bind_pairs(pairs: Sequence[tuple[str, str]]) -> tuple[tuple[bytes, Value], ...]:
    return tuple((name.encode("latin-1"), _bind_value(value)) for name, value in pairs)


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
        headers = _one_level(level, headers, sent or Seen(request, headers))
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


def _bind_value(text: str) -> Value:
    """A literal, or a function where the text holds Envoy's ``%COMMAND%``; ``%%`` is a percent sign."""
    pieces: list[Callable[[Seen], str] | str] = []
    end = 0
    for hit in _COMMAND.finditer(text):
        pieces.append(text[end : hit.start()])
        pieces.append("%" if hit.group() == "%%" else _command(hit.group(1), hit.group(2), hit.group()))
        end = hit.end()
    pieces.append(text[end:])
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(piece for piece in pieces if isinstance(piece, str)).encode("latin-1", "replace")
    return lambda seen: "".join(p if isinstance(p, str) else p(seen) for p in pieces).encode("latin-1", "replace")


def _command(name: str, argument: str | None, whole: str) -> Callable[[Seen], str] | str:
    """What a command stands for; one that this process cannot know is ``-``, as Envoy writes an absent value."""
    if name == "REQ" and argument:
        first, _, other = argument.lower().partition("?")
        return lambda seen: seen.get(first) or (seen.get(other) if other else "")
    if name in ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT"):
        return _LOCAL
    if name == "HOSTNAME":
        return socket.gethostname()
    if name == "ENVIRONMENT" and argument:
        return os.environ.get(argument, "-")
    if name == "PROTOCOL":
        return "HTTP/1.1"
    return "-"
