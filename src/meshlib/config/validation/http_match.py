"""Validation of the conditions of an HTTP rule."""

from __future__ import annotations

from meshlib.config.resources import virtual_service as api
from meshlib.config.validation import primitives as check
from meshlib.config.validation.report import Report
from meshlib.config.validation.selectors import labels

__all__ = ["http_match", "string_match"]


def string_match(report: Report, value: api.StringMatch | None, path: str, *, empty_prefix: bool = False) -> None:
    """A text condition."""
    if value is None:
        return
    if value.prefix == "" and not empty_prefix:
        report.error(f"{path}.prefix", "the prefix is empty")
    problem = check.regex(value.regex) if value.regex is not None else None
    if problem:
        report.error(f"{path}.regex", problem)


def http_match(report: Report, match: api.HTTPMatchRequest, path: str, *, at_gateways: bool) -> None:
    """Every condition of one match; ``at_gateways``: the rule is for gateways alone, where tokens are known."""
    string_match(report, match.uri, f"{path}.uri", empty_prefix=True)
    for name in ("scheme", "method", "authority"):
        string_match(report, getattr(match, name), f"{path}.{name}")
    for name, value in match.headers.items():
        where = f"{path}.headers.{name}"
        if value is None:
            report.error(where, "the condition is null: write {} to ask for presence")
        _header(report, name, value, where, at_gateways)
    for name, value in match.without_headers.items():
        absent = value is not None and value.regex == "*"
        _header(report, name, None if absent else value, f"{path}.withoutHeaders.{name}", at_gateways)
    for name, value in match.query_params.items():
        string_match(report, value, f"{path}.queryParams.{name}")
    if match.port:
        report.refuse(f"{path}.port", check.port(match.port))
    labels(report, match.source_labels, f"{path}.sourceLabels")
    if match.source_namespace:
        report.refuse(f"{path}.sourceNamespace", check.dns_label(match.source_namespace))


def _header(report: Report, name: str, value: api.StringMatch | None, path: str, at_gateways: bool) -> None:
    report.refuse(path, check.header_match_name(name))
    if check.routing_claim(name) and not at_gateways:
        report.error(path, "conditions on the claims of tokens are for gateways only")
    string_match(report, value, path)
