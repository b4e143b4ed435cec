"""Validation of the filters of Gateway API rules and backends.

Source: Gateway API ``HTTPRouteFilter`` and the messages in it.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence

from meshlib.config.resources import gateway_filters as api
from meshlib.config.resources.gateway_filters import FilterType
from meshlib.config.validation import gateway_names as names
from meshlib.config.validation import primitives as check
from meshlib.config.validation.gateway_references import backend
from meshlib.config.validation.report import Report

__all__ = ["filters", "replaces_prefix"]

_FILTERS, _HEADERS, _LISTED, _METHODS_LISTED = 16, 16, 64, 9
_LONGEST_VALUE, _LONGEST_PATH = 4096, 1024
_REPEATABLE = (FilterType.REQUEST_MIRROR, FilterType.EXTENSION_REF)
_ATTRIBUTES = {str(info.alias): name for name, info in api.RouteFilter.model_fields.items()}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"})
_ORIGIN = re.compile(r"\*|[a-zA-Z][a-zA-Z0-9+\-.]+://[^:/?#]+(?::[0-9]{1,5})?")


def filters(report: Report, given: Sequence[api.RouteFilter], path: str, honoured: frozenset[FilterType]) -> None:
    """All filters of a rule or backend; ``honoured`` are the types that have an effect there."""
    names.limit(report, path, given, _FILTERS)
    counts = Counter(each.type for each in given)
    for kind, count in counts.items():
        if count > 1 and kind not in _REPEATABLE:
            report.error(path, f"filter {kind} stands {count} times, once is allowed")
    if counts[FilterType.REQUEST_REDIRECT] and counts[FilterType.URL_REWRITE]:
        report.error(path, "RequestRedirect and URLRewrite exclude each other")
    for number, each in enumerate(given):
        where = f"{path}[{number}]"
        _union(report, each, where)
        if each.type not in honoured:
            report.warn(f"{where}.type", _refusal(each.type))
        _settings(report, each, where)


def _refusal(kind: str) -> str:
    close = difflib.get_close_matches(kind, [known.value for known in FilterType], 1)
    meant = f", did you mean {close[0]}?" if close and close[0] != kind else ""
    return f"filters of type {kind!r} are not honoured here: what they are for is answered with 500{meant}"


def _union(report: Report, given: api.RouteFilter, path: str) -> None:
    """The field that belongs to the type is there, and no other."""
    for known in FilterType:
        present = getattr(given, _ATTRIBUTES[known.field]) is not None
        if present and known != given.type:
            report.error(f"{path}.{known.field}", f"{known.field} does not go with type {given.type}")
        elif not present and known == given.type:
            report.error(path, f"type {known} needs the field {known.field}")


def _settings(report: Report, given: api.RouteFilter, path: str) -> None:
    modifiers = (
        ("requestHeaderModifier", given.request_header_modifier),
        ("responseHeaderModifier", given.response_header_modifier),
    )
    for field, modifier in modifiers:
        if modifier is not None:
            _headers(report, modifier, f"{path}.{field}")
    if given.request_redirect is not None:
        where = f"{path}.requestRedirect"
        _hostname(report, given.request_redirect.hostname, where)
        _path(report, given.request_redirect.path, f"{where}.path")
        if given.request_redirect.port is not None:
            report.refuse(f"{where}.port", check.port(given.request_redirect.port))
    if given.url_rewrite is not None:
        _hostname(report, given.url_rewrite.hostname, f"{path}.urlRewrite")
        _path(report, given.url_rewrite.path, f"{path}.urlRewrite.path")
    if given.request_mirror is not None:
        _mirror(report, given.request_mirror, f"{path}.requestMirror")
    if given.cors is not None:
        _cors(report, given.cors, f"{path}.cors")


def _headers(report: Report, given: api.HTTPHeaderFilter, path: str) -> None:
    touched: dict[str, str] = {}
    for field, headers in (("set", given.set), ("add", given.add)):
        names.limit(report, f"{path}.{field}", headers, _HEADERS)
        names.unique(report, f"{path}.{field}", (each.name for each in headers), "header", ".name")
        for number, each in enumerate(headers):
            where = f"{path}.{field}[{number}]"
            report.refuse(f"{where}.name", names.header(each.name))
            names.texts(report, f"{where}.value", each.value, _LONGEST_VALUE)
            _touch(report, touched, each.name, field, f"{where}.name")
    names.limit(report, f"{path}.remove", given.remove, _HEADERS)
    names.unique(report, f"{path}.remove", given.remove, "header")
    for number, name in enumerate(given.remove):
        report.refuse(f"{path}.remove[{number}]", names.header(name))
        _touch(report, touched, name, "remove", f"{path}.remove[{number}]")


def _touch(report: Report, touched: dict[str, str], name: str, field: str, path: str) -> None:
    """One header, one action."""
    first = touched.setdefault(name.lower(), field)
    if first != field:
        report.warn(path, f"header {name!r} stands in {first} as well: one action for a header is allowed")


def _hostname(report: Report, given: str | None, path: str) -> None:
    if given is not None:
        report.refuse(f"{path}.hostname", names.hostname(given))


def _path(report: Report, given: api.HTTPPathModifier | None, path: str) -> None:
    if given is None:
        return
    fields = {"ReplaceFullPath": given.replace_full_path, "ReplacePrefixMatch": given.replace_prefix_match}
    for kind, value in fields.items():
        field = kind[0].lower() + kind[1:]
        if value is None and given.type == kind:
            report.error(path, f"type {kind} needs the field {field}")
        elif value is not None and given.type != kind:
            report.error(f"{path}.{field}", f"{field} does not go with type {given.type}")
        elif value is not None and len(value) > _LONGEST_PATH:
            report.error(f"{path}.{field}", f"{len(value)} characters, at most {_LONGEST_PATH} are allowed")


def _mirror(report: Report, given: api.HTTPRequestMirrorFilter, path: str) -> None:
    backend(report, given.backend_ref, f"{path}.backendRef", "nothing is copied there")
    if given.percent is not None and given.fraction is not None:
        report.error(path, "percent and fraction exclude each other")
    if given.percent is not None and not 0 <= given.percent <= 100:
        report.error(f"{path}.percent", f"{given.percent} is not within 0..100")
    if given.fraction is not None:
        numerator, denominator = given.fraction.numerator, given.fraction.denominator
        if denominator < 1:
            report.error(f"{path}.fraction.denominator", f"{denominator} is below 1")
        elif not 0 <= numerator <= denominator:
            report.error(f"{path}.fraction.numerator", f"{numerator} is not within 0..{denominator}")


def _cors(report: Report, given: api.HTTPCORSFilter, path: str) -> None:
    lists = (
        ("allowOrigins", given.allow_origins, _LISTED),
        ("allowMethods", given.allow_methods, _METHODS_LISTED),
        ("allowHeaders", given.allow_headers, _LISTED),
        ("exposeHeaders", given.expose_headers, _LISTED),
    )
    for field, values, most in lists:
        where = f"{path}.{field}"
        names.limit(report, where, values, most)
        names.unique(report, where, values, "entry")
        if "*" in values and len(values) > 1 and field != "exposeHeaders":
            report.error(where, "'*' stands for everything: other entries beside it mean nothing")
        for number, value in enumerate(values):
            report.refuse(f"{where}[{number}]", _cors_entry(field, value))
    if given.max_age < 1:
        report.error(f"{path}.maxAge", f"{given.max_age} seconds are below 1")


def _cors_entry(field: str, value: str) -> str | None:
    if field == "allowOrigins":
        return None if _ORIGIN.fullmatch(value) else f"{value!r} is not an origin such as 'https://example.com'"
    if field == "allowMethods":
        return None if value in _METHODS else f"{value!r} is not an HTTP method"
    return names.header(value)


def replaces_prefix(given: Sequence[api.RouteFilter]) -> bool:
    """Whether any filter replaces the prefix that its rule matched."""
    modifiers = [each.request_redirect.path for each in given if each.request_redirect is not None]
    modifiers += [each.url_rewrite.path for each in given if each.url_rewrite is not None]
    return any(each is not None and each.replace_prefix_match is not None for each in modifiers)
