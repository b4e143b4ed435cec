"""Conditions of a route, bound once so that a request only calls functions.

A clause is a test with the words to say what it asked for; live routing calls the tests, ``explain`` calls the same
tests and prints the words of the first that failed.

Sources: Envoy ``RouteMatch``, ``HeaderMatcher``, ``QueryParameterMatcher``; Istio ``HTTPMatchRequest``. Regular
expressions are RE2 and must match the whole value. Of a header that stands on several lines one line that matches is
enough, as in Envoy since 1.39; gRPC joins the lines with ``,`` first.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import re2

from meshlib.dataplane.request import Request
from meshlib.model.route import HeaderMatch, MatchKind, QueryMatch, RouteMatch, StringMatch

__all__ = ["Clause", "Test", "bind", "bind_text", "compile_regex", "query_value"]

Test = Callable[[Request, random.Random], bool]
TextTest = Callable[[str], bool]


class Clause(NamedTuple):
    """One condition: ``test`` decides, ``wants`` and ``saw`` explain."""

    test: Test
    wants: str
    saw: Callable[[Request], str]


def compile_regex(pattern: str) -> Any:
    """An RE2 pattern; bad ones raise ``re2.error`` and write nothing to stderr."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def bind(match: RouteMatch) -> tuple[Clause, ...]:
    """The conditions of ``match`` in the order they are tried: path, gRPC, headers, query, fraction."""
    clauses: list[Clause] = []
    if match.path is not None:
        clauses.append(_path_clause(match.path))
    if match.grpc:
        clauses.append(Clause(lambda request, _: request.is_grpc, "a gRPC request", lambda _: "another content type"))
    clauses.extend(_header_clause(header) for header in match.headers)
    clauses.extend(_query_clause(query) for query in match.query)
    if match.parts_per_million is not None:
        clauses.append(_fraction_clause(match.parts_per_million))
    return tuple(clauses)


def bind_text(match: StringMatch) -> TextTest:
    """A test of one text."""
    value = match.value.lower() if match.ignore_case else match.value
    test = _TEXT[match.kind](value)
    if match.ignore_case and match.kind is not MatchKind.REGEX:
        return lambda text: test(text.lower())
    return test


def _exact(value: str) -> TextTest:
    return value.__eq__


def _prefix(value: str) -> TextTest:
    return lambda text: text.startswith(value)


def _suffix(value: str) -> TextTest:
    return lambda text: text.endswith(value)


def _contains(value: str) -> TextTest:
    return lambda text: value in text


def _regex(value: str) -> TextTest:
    fullmatch = compile_regex(value).fullmatch
    return lambda text: fullmatch(text) is not None


def _segment_prefix(value: str) -> TextTest:
    bare = value.rstrip("/")
    below = bare + "/"
    return lambda text: text == bare or text.startswith(below)


def _range(value: str) -> TextTest:
    start, end = (int(bound) for bound in value.split(":"))

    def test(text: str) -> bool:
        try:
            return start <= int(text) < end
        except ValueError:
            return False

    return test


_TEXT: dict[MatchKind, Callable[[str], TextTest]] = {
    MatchKind.EXACT: _exact,
    MatchKind.PREFIX: _prefix,
    MatchKind.SUFFIX: _suffix,
    MatchKind.CONTAINS: _contains,
    MatchKind.REGEX: _regex,
    MatchKind.SEGMENT_PREFIX: _segment_prefix,
    MatchKind.RANGE: _range,
}


def _path_clause(match: StringMatch) -> Clause:
    text = bind_text(match)
    plain_prefix = match.kind is MatchKind.PREFIX and not match.ignore_case and "?" not in match.value
    if plain_prefix:
        prefix = match.value
        return Clause(lambda request, _: request.path.startswith(prefix), f"uri {_words(match)}", _saw_path)
    return Clause(
        lambda request, _: text(request.path.partition("?")[0]),
        f"uri {_words(match)}",
        _saw_path,
    )


def _saw_path(request: Request) -> str:
    return f"uri is {request.path.partition('?')[0]!r}"


def _header_clause(match: HeaderMatch) -> Clause:
    name, invert, default = match.name, match.invert, "" if match.missing_as_empty else None
    if match.value is None:
        wants = f"header {name} {'absent' if invert else 'present'}"
        return Clause(lambda request, _: (name in request.headers) is not invert, wants, _saw_header(name))
    text, joined = bind_text(match.value), match.joined

    def test(request: Request, _: random.Random) -> bool:
        value = request.headers.get(name, default)
        if request.repeated and not joined and name in request.repeated:
            return any(map(text, request.repeated[name])) is not invert
        return value is not None and text(value) is not invert

    wants = f"header {name} {'not ' if invert else ''}{_words(match.value)}"
    return Clause(test, wants, _saw_header(name) if joined else _saw_lines(name))


def _saw_lines(name: str) -> Callable[[Request], str]:
    """Each line for itself, as it was compared: ``header x is 'a' and 'b'``."""
    once = _saw_header(name)

    def saw(request: Request) -> str:
        lines = request.repeated.get(name)
        return once(request) if lines is None else f"header {name} is {' and '.join(map(repr, lines))}"

    return saw


def _saw_header(name: str) -> Callable[[Request], str]:
    def saw(request: Request) -> str:
        value = request.headers.get(name)
        return f"header {name} is absent" if value is None else f"header {name} is {value!r}"

    return saw


def _query_clause(match: QueryMatch) -> Clause:
    name = match.name
    text = (lambda _: True) if match.value is None else bind_text(match.value)

    def test(request: Request, _: random.Random) -> bool:
        value = query_value(request.path, name)
        return value is not None and text(value)

    def saw(request: Request) -> str:
        value = query_value(request.path, name)
        return f"query parameter {name} is absent" if value is None else f"query parameter {name} is {value!r}"

    wants = "present" if match.value is None else _words(match.value)
    return Clause(test, f"query parameter {name} {wants}", saw)


def query_value(target: str, name: str) -> str | None:
    """The first value of a query parameter, not percent-decoded; ``?a`` is ``""``; None when absent."""
    _, mark, query = target.partition("?")
    if not mark:
        return None
    for item in query.partition("#")[0].split("&"):
        key, _, value = item.partition("=")
        if key == name:
            return value
    return None


def _fraction_clause(parts_per_million: int) -> Clause:
    return Clause(
        lambda _, rng: rng.random() * 1_000_000 < parts_per_million,
        f"a draw below {parts_per_million / 10_000:g}%",
        lambda _: "the draw was above",
    )


def _words(match: StringMatch) -> str:
    return f"{match.kind.value} {match.value!r}" + (" ignoring case" if match.ignore_case else "")
