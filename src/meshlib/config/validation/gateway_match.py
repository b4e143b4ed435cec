"""Validation of the conditions of Gateway API rules.

Source: Gateway API ``HTTPRouteMatch``, ``GRPCRouteMatch``; regular expressions are RE2's here.
"""

from __future__ import annotations

import re

from meshlib.config.resources import gateway_api as api
from meshlib.config.validation import gateway_names as names
from meshlib.config.validation import primitives as check
from meshlib.config.validation.report import Report

__all__ = ["match"]

_CONDITIONS = 16
_LONGEST_PATH, _LONGEST_HEADER, _LONGEST_PARAMETER = 1024, 4096, 1024
_PATH = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+")
_FORBIDDEN = ("//", "/./", "/../", "%2f", "%2F", "#")
_SERVICE = re.compile(r"\.?[a-zA-Z_][a-zA-Z_0-9]*(?:\.[a-zA-Z_][a-zA-Z_0-9]*)*")
_METHOD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


def match(report: Report, given: api.HTTPRouteMatch | api.GRPCRouteMatch, path: str) -> None:
    """All conditions of one match."""
    if isinstance(given, api.HTTPRouteMatch):
        _path(report, given.path, f"{path}.path")
        _values(report, given.query_params, f"{path}.queryParams", _LONGEST_PARAMETER)
    elif given.method is not None:
        _method(report, given.method, f"{path}.method")
    _values(report, given.headers, f"{path}.headers", _LONGEST_HEADER)


def _path(report: Report, given: api.HTTPPathMatch, path: str) -> None:
    value = given.value
    if len(value) > _LONGEST_PATH:
        report.error(f"{path}.value", f"the path has {len(value)} characters, at most {_LONGEST_PATH} are allowed")
    elif given.type is api.PathMatchType.REGULAR_EXPRESSION:
        report.refuse(f"{path}.value", check.regex(value))
    elif not value.startswith("/"):
        report.error(f"{path}.value", f"{value!r} does not start with '/'")
    elif bad := next((part for part in _FORBIDDEN if part in value), None):
        report.error(f"{path}.value", f"{value!r} holds {bad!r}")
    elif value.endswith(("/..", "/.")) or not _PATH.fullmatch(value):
        report.error(f"{path}.value", f"{value!r} is not a path as clients send it")


def _values(report: Report, given: list[api.ValueMatch], path: str, longest: int) -> None:
    names.limit(report, path, given, _CONDITIONS)
    names.unique(report, path, (each.name for each in given), "name", ".name")
    for number, each in enumerate(given):
        where = f"{path}[{number}]"
        report.refuse(f"{where}.name", names.header(each.name))
        names.texts(report, f"{where}.value", each.value, longest)
        if each.type is api.MatchType.REGULAR_EXPRESSION and each.value:
            report.refuse(f"{where}.value", check.regex(each.value))


def _method(report: Report, given: api.GRPCMethodMatch, path: str) -> None:
    if given.service is None and given.method is None:
        report.error(path, "one of service and method is needed")
    for field, value, syntax in (("service", given.service, _SERVICE), ("method", given.method, _METHOD)):
        if not value:
            continue
        if given.type is api.MatchType.REGULAR_EXPRESSION:
            report.refuse(f"{path}.{field}", check.regex(value))
        elif len(value) > _LONGEST_PATH or not syntax.fullmatch(value):
            report.error(f"{path}.{field}", f"{value!r} is not the name of a gRPC {field}")
