"""Conditions of Gateway API rules, and which of several that hold comes first.

Order: exact path, prefix, regular expression, no path at all; then the longer path, a method, more headers, more query
parameters; what is still equal keeps its order. Rules without ``matches`` come last, although the API server writes a
prefix ``/`` for them, so that they hide no regular expression.

Source: Istio ``conversion.go`` (``sortHTTPRoutes``, ``createURIMatch``, ``createGRPCURIMatch``); Gateway API
``HTTPRouteRule.matches``: of equally named conditions the first counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from meshlib.config.resources.gateway_api import (
    GRPCMethodMatch,
    GRPCRouteMatch,
    HTTPPathMatch,
    HTTPRouteMatch,
    MatchType,
    PathMatchType,
    ValueMatch,
)
from meshlib.model.route import HeaderMatch, MatchKind, QueryMatch, RouteMatch, StringMatch

__all__ = ["EVERYTHING", "Conditions", "conditions"]

_RANK = {MatchKind.EXACT: 0, MatchKind.SEGMENT_PREFIX: 1, MatchKind.REGEX: 2}
_NO_PATH, _NO_MATCHES = 3, 4


class Conditions(NamedTuple):
    """One match.

    Attributes:
        precedence: The smaller goes first.
        match: What is asked of requests.
        ends: Every request matches, so that what follows is never reached.
    """

    precedence: tuple[int, ...]
    match: RouteMatch
    ends: bool


EVERYTHING = Conditions((_NO_MATCHES,), RouteMatch(), ends=True)
"""A rule without ``matches``."""


def conditions(match: HTTPRouteMatch | GRPCRouteMatch) -> Conditions:
    """The conditions of one match."""
    if isinstance(match, HTTPRouteMatch):
        query = {value.name: QueryMatch(value.name, _text(value)) for value in reversed(match.query_params)}
        return _conditions(_path(match.path), match.method, match.headers, tuple(reversed(query.values())))
    return _conditions(None if match.method is None else _grpc_path(match.method), None, match.headers, ())


def _conditions(
    path: StringMatch | None, method: str | None, headers: Iterable[ValueMatch], query: tuple[QueryMatch, ...]
) -> Conditions:
    values = {value.name.lower(): value for value in reversed(list(headers))}
    tests = tuple(HeaderMatch(name, _text(value)) for name, value in reversed(values.items()))
    rank, length = (_NO_PATH, 0) if path is None else (_RANK[path.kind], len(path.value))
    precedence = (rank, -length, method is None, -len(tests), -len(query))
    if method is not None:
        tests = (HeaderMatch(":method", StringMatch(MatchKind.EXACT, method)), *tests)
    everywhere = path is None or path == _ROOT
    found = RouteMatch(None if everywhere else path, tests, query)
    return Conditions(precedence, found, ends=not tests and not query and (everywhere or path == _ANY))


_ROOT = StringMatch(MatchKind.SEGMENT_PREFIX, "/")
_ANY = StringMatch(MatchKind.REGEX, ".*")


def _text(match: ValueMatch) -> StringMatch:
    return StringMatch(MatchKind.EXACT if match.type is MatchType.EXACT else MatchKind.REGEX, match.value)


def _path(match: HTTPPathMatch) -> StringMatch:
    if match.type is PathMatchType.PATH_PREFIX:
        return StringMatch(MatchKind.SEGMENT_PREFIX, match.value.removesuffix("/") or "/")
    return StringMatch(MatchKind.EXACT if match.type is PathMatchType.EXACT else MatchKind.REGEX, match.value)


def _grpc_path(match: GRPCMethodMatch) -> StringMatch | None:
    """The path of gRPC is ``/service/method``."""
    service, method = match.service, match.method
    if match.type is MatchType.REGULAR_EXPRESSION:
        if not service and not method:
            return None
        return StringMatch(MatchKind.REGEX, f"/{_group(service or '[^/]+')}/{_group(method or '.+')}")
    if service and method:
        return StringMatch(MatchKind.EXACT, f"/{service}/{method}")
    if service:
        return StringMatch(MatchKind.SEGMENT_PREFIX, f"/{service}/")
    return StringMatch(MatchKind.REGEX, f"/[^/]+/{method}") if method else None


def _group(pattern: str) -> str:
    """Alternatives belong to their own part of the path."""
    return f"(?:{pattern})" if "|" in pattern else pattern
