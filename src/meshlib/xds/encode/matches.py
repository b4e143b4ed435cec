"""Conditions of a route on the wire.

Source: Istio ``route.go`` (``TranslateRouteMatch``); Envoy ``RouteMatch``, ``HeaderMatcher``.
"""

from __future__ import annotations

from typing import Any

from meshlib.model.match import HeaderMatch, MatchKind, QueryMatch, RouteMatch, StringMatch
from meshlib.xds.encode.values import share
from meshlib.xds.messages import range_pb2, regex_pb2, route_components_pb2, string_pb2

__all__ = ["header_match", "regex", "route_match", "string_match"]


def route_match(match: RouteMatch) -> Any:
    """``RouteMatch``; no condition on the path is the prefix ``/``."""
    made = route_components_pb2.RouteMatch()
    _path(match.path, made)
    made.headers.extend(header_match(header) for header in match.headers)
    made.query_parameters.extend(_query_match(query) for query in match.query)
    if match.grpc:
        made.grpc.SetInParent()
    if match.parts_per_million is not None:
        made.runtime_fraction.default_value.CopyFrom(share(match.parts_per_million))
    return made


def _path(match: StringMatch | None, made: Any) -> None:
    if match is None:
        made.prefix = "/"
    elif match.kind is MatchKind.REGEX:
        made.safe_regex.CopyFrom(regex(match.value))
    elif match.kind is MatchKind.EXACT:
        made.path = match.value
    elif match.kind is MatchKind.SEGMENT_PREFIX:
        made.path_separated_prefix = match.value
    else:
        made.prefix = match.value
    if match is not None and match.ignore_case:
        made.case_sensitive.value = False


def header_match(match: HeaderMatch) -> Any:
    """``HeaderMatcher``."""
    made = route_components_pb2.HeaderMatcher(
        name=match.name, invert_match=match.invert, treat_missing_header_as_empty=match.missing_as_empty
    )
    if match.value is None:
        made.present_match = True
    elif match.value.kind is MatchKind.RANGE:
        start, _, end = match.value.value.partition(":")
        made.range_match.CopyFrom(range_pb2.Int64Range(start=int(start), end=int(end)))
    else:
        made.string_match.CopyFrom(string_match(match.value))
    return made


def _query_match(match: QueryMatch) -> Any:
    made = route_components_pb2.QueryParameterMatcher(name=match.name)
    if match.value is None:
        made.present_match = True
    else:
        made.string_match.CopyFrom(string_match(match.value))
    return made


def string_match(match: StringMatch) -> Any:
    """``StringMatcher``."""
    made = string_pb2.StringMatcher(ignore_case=match.ignore_case)
    if match.kind is MatchKind.REGEX:
        made.safe_regex.CopyFrom(regex(match.value))
    else:
        setattr(made, match.kind.value, match.value)
    return made


def regex(pattern: str) -> Any:
    """``RegexMatcher``; RE2 is the only engine."""
    return regex_pb2.RegexMatcher(regex=pattern)
