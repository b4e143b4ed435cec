"""Values of header operations: literals with Envoy's ``%COMMAND%`` in them, bound once.

Commands are answered as far as a client in a process has an answer. One whose value is absent is empty, and so is one
that only a proxy could answer (addresses of its listener, its counters, its filters' state); a value that comes out
empty adds no header. ``%%`` is a percent sign.

Source: Envoy's header formatter; checked against Envoy 1.40, request and response side.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import unquote

from meshlib.dataplane.request import Request

__all__ = ["NOBODY", "Answered", "Names", "Pairs", "Seen", "Value", "bind_value"]

Pairs = list[tuple[bytes, bytes]]

_LOCAL = "127.0.0.1"
"""The address of callers in this process, as a sidecar sees them."""

_COMMAND = re.compile(r"%%|%([A-Z_0-9]+)(?:\(((?:[^()\\]|\\.)*)\))?(?::(\d+))?%")


class Names(NamedTuple):
    """What a rule and a destination are called."""

    route: str = ""
    cluster: str = ""


class Answered(NamedTuple):
    """What is known once there is a response.

    Attributes:
        headers: Of the response, as levels and removes before left them.
        status: Its status; 0 for an answer made here, as Envoy has it at that moment.
        upstream: ``address:port`` of the endpoint, ``""`` for an answer made here.
        attempts: How many were made.
        flags: Envoy's response flags, ``-`` for none.
    """

    headers: Pairs
    status: int
    upstream: str
    attempts: int
    flags: str


class Seen:
    """The exchange as values see it: the first line of each header, the pseudo headers, and what came back."""

    __slots__ = ("_found", "_headers", "_response", "answered", "request", "target")

    def __init__(
        self, request: Request, headers: Pairs, target: str | None = None, answered: Answered | None = None
    ) -> None:
        self.request = request
        self.target = request.path if target is None else target
        self.answered = answered
        self._headers = headers
        self._found: dict[str, str] | None = None
        self._response: dict[str, str] | None = None

    def get(self, name: str) -> str:
        """The value of a request header by its lower-case name, ``""`` when absent."""
        return self.find(name) or ""

    def find(self, name: str) -> str | None:
        """As ``get``, but None when absent."""
        if self._found is None:
            self._found = _first_lines(self._headers)
            request, host = self.request, self._found.get("host", self.request.authority)
            pseudo = {":method": request.method, ":scheme": request.scheme, ":path": self.target, ":authority": host}
            self._found.update(pseudo)
        return self._found.get(name)

    def facing(self, headers: Pairs) -> Seen:
        """The same with the response's headers as they are now."""
        if self.answered is not None:
            self.answered, self._response = self.answered._replace(headers=headers), None
        return self

    def response(self, name: str) -> str:
        """The value of a response header, ``""`` when absent or while there is no response."""
        if self._response is None:
            self._response = _first_lines(self.answered.headers) if self.answered is not None else {}
        return self._response.get(name, "")


def _first_lines(headers: Pairs) -> dict[str, str]:
    return {raw.decode("latin-1").lower(): value.decode("latin-1") for raw, value in reversed(headers)}


NOBODY = Names()
Read = Callable[[Seen], str]
Value = bytes | Callable[[Seen], bytes]


def bind_value(text: str, names: Names = NOBODY) -> Value:
    """A literal, or a function where the text holds commands that differ between requests."""
    pieces: list[Read | str] = []
    end = 0
    for hit in _COMMAND.finditer(text):
        pieces.append(text[end : hit.start()])
        pieces.append("%" if hit.group() == "%%" else _bounded(_command(hit[1], hit[2] or "", names), hit[3]))
        end = hit.end()
    pieces.append(text[end:])
    literal = [piece for piece in pieces if isinstance(piece, str)]
    if len(literal) == len(pieces):
        return "".join(literal).encode("latin-1", "replace")
    return lambda seen: "".join(p if isinstance(p, str) else p(seen) for p in pieces).encode("latin-1", "replace")


def _bounded(value: Read | str, length: str | None) -> Read | str:
    """``:Z`` after a command keeps the first Z characters."""
    if length is None:
        return value
    limit = int(length)
    return value[:limit] if isinstance(value, str) else lambda seen: value(seen)[:limit]


def _command(name: str, argument: str, names: Names) -> Read | str:
    fixed = _fixed(name, argument, names)
    if fixed is not None:
        return fixed
    if name in ("REQ", "RESP"):
        return _header(name == "RESP", argument)
    if name == "START_TIME":
        return lambda seen: _moment(seen.request.start_time, argument)
    if name == "QUERY_PARAM":
        return lambda seen: _parameter(seen.target, argument)
    if name == "PATH":
        return _path(argument.upper())
    read = _READS.get(name)
    return read if read is not None else ""


def _fixed(name: str, argument: str, names: Names) -> str | None:
    """What is known before there is a request; None when it is not."""
    if name == "HOSTNAME":
        return socket.gethostname()
    if name == "ENVIRONMENT":
        return os.environ.get(argument, "-")
    if name == "ROUTE_NAME":
        return names.route
    if name == "UPSTREAM_CLUSTER":
        return names.cluster
    if name == "PROTOCOL":
        return "HTTP/1.1"
    if name in ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT"):
        return _LOCAL
    return None


def _header(of_response: bool, argument: str) -> Read:
    first, _, other = argument.lower().partition("?")
    if of_response:
        return lambda seen: seen.response(first) or (seen.response(other) if other else "")
    return lambda seen: seen.get(other) if other and seen.find(first) is None else seen.get(first)


def _path(argument: str) -> Read:
    """With its query or without (``NQ``), after rewriting (``PATH``) or before (``ORIG``), by default before."""
    query, _, which = argument.partition(":")

    def whole(seen: Seen) -> str:
        original = seen.get("x-envoy-original-path") if which != "PATH" else ""
        return original or ("" if which == "ORIG" else seen.target)

    return (lambda seen: whole(seen).partition("?")[0]) if query == "NQ" else whole


def _parameter(target: str, name: str) -> str:
    for pair in target.partition("?")[2].split("&"):
        key, _, value = pair.partition("=")
        if unquote(key) == name:
            return unquote(value)
    return ""


_FRACTION = re.compile(r"%([369])?f")


def _moment(start: float | None, pattern: str) -> str:
    """The time at which a call began, UTC; the pattern is strftime's, with ``%3f`` for milliseconds and ``%s``."""
    if start is None:
        return ""
    moment = datetime.fromtimestamp(start, UTC)
    if not pattern:
        return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
    nanoseconds = f"{moment.microsecond:06d}000"
    pattern = _FRACTION.sub(lambda hit: nanoseconds[: int(hit[1] or 9)], pattern).replace("%s", str(int(start)))
    return moment.strftime(pattern)


def _upstream(seen: Seen) -> str:
    return seen.answered.upstream if seen.answered is not None else ""


_READS: dict[str, Read] = {
    "UPSTREAM_HOST": _upstream,
    "UPSTREAM_REMOTE_ADDRESS": _upstream,
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda seen: _upstream(seen).rpartition(":")[0].strip("[]"),
    "UPSTREAM_REMOTE_PORT": lambda seen: _upstream(seen).rpartition(":")[2],
    "RESPONSE_CODE": lambda seen: str(seen.answered.status if seen.answered is not None else 0),
    "RESPONSE_FLAGS": lambda seen: seen.answered.flags if seen.answered is not None else "-",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": lambda seen: str(seen.answered.attempts if seen.answered is not None else 1),
}
