"""Conditions of a route off the wire.

A condition that cannot be asked here makes its route unable to match, which is the safe side; it is reported.

Source: Envoy ``RouteMatch``, ``HeaderMatcher``, ``QueryParameterMatcher``; gRFC A28.
"""

from __future__ import annotations

from typing import Any

import re2

from meshlib.model.match import HeaderMatch, MatchKind, QueryMatch, RouteMatch, StringMatch
from meshlib.xds.decode.findings import Place
from meshlib.xds.decode.values import parts_per_million

__all__ = ["header_match", "regex", "route_match", "string_match"]

_KNOWN = {"prefix", "path", "safe_regex", "path_separated_prefix", "case_sensitive", "headers", "query_parameters"}
_UNASKED = ("connect_matcher", "path_match_policy", "tls_context", "dynamic_metadata", "filter_state", "cookies")


def route_match(match: Any, at: Place) -> RouteMatch | None:
    """None when it can never match here."""
    at.only(match, {*_KNOWN, "grpc", "runtime_fraction"})
    path = _path(match, at)
    headers = tuple(header_match(each, at.field("headers", n)) for n, each in enumerate(match.headers))
    query = tuple(_query_match(each, at.field("query_parameters", n)) for n, each in enumerate(match.query_parameters))
    unasked = {field.name for field, _ in match.ListFields()}.intersection(_UNASKED)
    if match.query_parameters and at.is_grpc:
        unasked.add("query_parameters")
        at.ignored("query_parameters")
    if unasked:
        return None
    share = match.runtime_fraction.default_value if match.HasField("runtime_fraction") else None
    return RouteMatch(path, headers, query, match.HasField("grpc"), None if share is None else parts_per_million(share))


def _path(match: Any, at: Place) -> StringMatch | None:
    kind = match.WhichOneof("path_specifier")
    if kind is None:
        at.error("no condition on the path")
        return None
    if at.is_grpc and kind in ("path_separated_prefix", "connect_matcher"):
        at.field(kind).error("gRPC does not know this condition")
    ignore_case = match.HasField("case_sensitive") and not match.case_sensitive.value
    if kind == "safe_regex":
        return StringMatch(MatchKind.REGEX, regex(match.safe_regex, at.field(kind)))
    if kind == "path":
        return StringMatch(MatchKind.EXACT, match.path, ignore_case)
    if kind == "path_separated_prefix":
        return _segment_prefix(match.path_separated_prefix, ignore_case, at.field(kind))
    if match.prefix == "/":
        return None
    return StringMatch(MatchKind.PREFIX, match.prefix, ignore_case)


def _segment_prefix(value: str, ignore_case: bool, at: Place) -> StringMatch:
    if len(value) < 2 or value.endswith("/") or "?" in value or "#" in value:
        at.error(f"{value!r} must not end in a slash, nor hold '?' or '#'")
    return StringMatch(MatchKind.SEGMENT_PREFIX, value, ignore_case)


def header_match(match: Any, at: Place) -> HeaderMatch:
    """A condition on a header; one without any word is on presence, which gRPC refuses."""
    kind = match.WhichOneof("header_match_specifier")
    if not match.name:
        at.field("name").error("is empty")
    if kind is None and at.is_grpc:
        at.error("no condition on the value")
    invert, missing = match.invert_match, match.treat_missing_header_as_empty
    if kind in (None, "present_match"):
        wanted = kind is None or match.present_match
        return HeaderMatch(match.name.lower(), None, invert is wanted, joined=at.is_grpc)
    text = _header_text(match, kind, at)
    return HeaderMatch(match.name.lower(), text, invert, missing and not at.is_grpc, joined=at.is_grpc)


_OLD = {
    "exact_match": MatchKind.EXACT,
    "prefix_match": MatchKind.PREFIX,
    "suffix_match": MatchKind.SUFFIX,
    "contains_match": MatchKind.CONTAINS,
}


def _header_text(match: Any, kind: str, at: Place) -> StringMatch:
    if kind == "string_match":
        return string_match(match.string_match, at.field(kind))
    if kind == "safe_regex_match":
        return StringMatch(MatchKind.REGEX, regex(match.safe_regex_match, at.field(kind)))
    if kind == "range_match":
        if match.range_match.start >= match.range_match.end and at.is_grpc:
            at.field(kind).error("end must be above start")
        return StringMatch(MatchKind.RANGE, f"{match.range_match.start}:{match.range_match.end}")
    value = getattr(match, kind)
    if not value and kind != "exact_match" and not at.is_grpc:
        at.field(kind).error("is empty")
    return StringMatch(_OLD[kind], value)


def string_match(match: Any, at: Place) -> StringMatch:
    """A condition on a text."""
    kind = match.WhichOneof("match_pattern")
    if kind in (None, "custom"):
        at.error("no condition that can be asked")
        return StringMatch(MatchKind.EXACT, "")
    if kind == "safe_regex":
        return StringMatch(MatchKind.REGEX, regex(match.safe_regex, at.field(kind)))
    value = getattr(match, kind)
    if not value and kind != "exact":
        at.field(kind).error("is empty")
    return StringMatch(MatchKind(kind), value, match.ignore_case)


def _query_match(match: Any, at: Place) -> QueryMatch:
    if match.WhichOneof("query_parameter_match_specifier") == "string_match":
        return QueryMatch(match.name, string_match(match.string_match, at.field("string_match")))
    if match.WhichOneof("query_parameter_match_specifier") and not match.present_match:
        at.field("present_match").error("false cannot be asked")
    return QueryMatch(match.name)


def regex(matcher: Any, at: Place) -> str:
    """The pattern, which must be RE2."""
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(matcher.regex, options)
    except re2.error as error:
        at.error(f"{matcher.regex!r} is no RE2 pattern: {error}")
    return str(matcher.regex)
