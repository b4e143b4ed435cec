"""Validation of one HTTP rule of a VirtualService."""

from __future__ import annotations

from meshlib.config.resources import virtual_service as api
from meshlib.config.validation import primitives as check
from meshlib.config.validation.connection_pool import optional_duration
from meshlib.config.validation.header_format import header_value
from meshlib.config.validation.http_match import http_match
from meshlib.config.validation.http_policies import cors, direct_response, fault, percent, retries
from meshlib.config.validation.report import Report

__all__ = ["destination", "http_rule", "weights"]

_HOST = ("host", ":authority")


def http_rule(report: Report, rule: api.HTTPRoute, path: str, *, delegate: bool, at_gateways: bool) -> None:
    """Everything about one rule."""
    _action(report, rule, path, delegate)
    for number, match in enumerate(rule.match):
        http_match(report, match, f"{path}.match[{number}]", at_gateways=at_gateways)
    for number, entry in enumerate(rule.route):
        where = f"{path}.route[{number}]"
        destination(report, entry.destination, f"{where}.destination")
        _headers(report, entry.headers, f"{where}.headers")
    weights(report, [entry.weight for entry in rule.route], f"{path}.route")
    _headers(report, rule.headers, f"{path}.headers")
    _mirrors(report, rule, path)
    _rewrite(report, rule, path)
    _policies(report, rule, path)


def _policies(report: Report, rule: api.HTTPRoute, path: str) -> None:
    if rule.redirect is not None:
        _redirect(report, rule, rule.redirect, f"{path}.redirect")
    if rule.direct_response is not None:
        direct_response(report, rule.direct_response, f"{path}.directResponse")
    if rule.fault is not None:
        fault(report, rule.fault, f"{path}.fault")
    if rule.retries is not None:
        retries(report, rule.retries, f"{path}.retries")
    if rule.cors_policy is not None:
        cors(report, rule.cors_policy, f"{path}.corsPolicy")
    optional_duration(report, rule.timeout, f"{path}.timeout")


def _action(report: Report, rule: api.HTTPRoute, path: str, delegate: bool) -> None:
    """Exactly one of route, redirect, directResponse, or a delegate; and what does not go with each."""
    if rule.delegate is not None:
        _delegating(report, rule, path, delegate)
        return
    chosen = [n for n, v in (("route", rule.route), ("redirect", rule.redirect)) if v]
    chosen += ["directResponse"] if rule.direct_response is not None else []
    if not chosen:
        report.error(path, "one of route, redirect and directResponse is needed")
    elif len(chosen) > 1:
        report.error(path, f"{' and '.join(chosen)} exclude each other")
    if rule.redirect is not None or rule.direct_response is not None:
        for name in ("fault", "rewrite"):
            if getattr(rule, name) is not None:
                report.error(f"{path}.{name}", f"{name} does not go with {chosen[-1]}")


def _delegating(report: Report, rule: api.HTTPRoute, path: str, delegate: bool) -> None:
    if delegate:
        report.error(f"{path}.delegate", "a delegate cannot delegate further")
    for name in ("route", "redirect"):
        if getattr(rule, name):
            report.error(f"{path}.{name}", f"{name} does not go with delegate")
    if rule.delegate is not None and not rule.delegate.name:
        report.warn(f"{path}.delegate.name", "the delegate's name is empty")


def destination(report: Report, given: api.Destination | None, path: str) -> None:
    """Where a route goes."""
    if given is None:
        report.error(path, "destination is required")
        return
    problem = "host '*' is not a destination" if given.host == "*" else check.wildcard_host(given.host)
    report.refuse(f"{path}.host", problem)
    if given.subset:
        report.refuse(f"{path}.subset", check.dns_label(given.subset))
    if given.port is not None:
        report.refuse(f"{path}.port.number", check.port(given.port.number))


def weights(report: Report, given: list[int], path: str) -> None:
    """Shares of several destinations."""
    for number, weight in enumerate(given):
        if weight < 0:
            report.error(f"{path}[{number}].weight", f"weight {weight} is below 0")
    if len(given) > 1 and sum(given) == 0:
        report.error(path, "the weights of several destinations sum up to 0")


def _headers(report: Report, headers: api.Headers | None, path: str) -> None:
    if headers is None:
        return
    for side, operations in (("request", headers.request), ("response", headers.response)):
        if operations is None:
            continue
        for kind in ("set", "add"):
            for name, value in getattr(operations, kind).items():
                _header_operation(report, name, value, f"{path}.{side}.{kind}.{name}", allow_host=side == "request")
        for number, name in enumerate(operations.remove):
            _header_operation(report, name, "", f"{path}.{side}.remove[{number}]", allow_host=False)


def _header_operation(report: Report, name: str, value: str, path: str, *, allow_host: bool) -> None:
    lower = name.lower()
    if lower in _HOST and allow_host:
        problem = None
    elif lower == "host":
        problem = "the host header can only be set or added, on requests"
    elif name.startswith(":"):
        problem = f"{name!r} is a pseudo header, which operations cannot change"
    else:
        problem = check.header_name(name)
    report.refuse(path, problem or header_value(value))


def _mirrors(report: Report, rule: api.HTTPRoute, path: str) -> None:
    if rule.mirror is not None:
        destination(report, rule.mirror, f"{path}.mirror")
        if rule.mirrors:
            report.error(f"{path}.mirrors", "mirror and mirrors exclude each other")
    for number, mirror in enumerate(rule.mirrors):
        where = f"{path}.mirrors[{number}]"
        destination(report, mirror.destination, f"{where}.destination")
        percent(report, mirror.percentage, f"{where}.percentage")
    if rule.mirror_percent is not None:
        if rule.mirror_percent > 100:
            report.error(f"{path}.mirrorPercent", f"{rule.mirror_percent} is not within 0..100")
        report.warn(f"{path}.mirrorPercent", "mirrorPercent is deprecated, use mirrorPercentage")
    percent(report, rule.mirror_percentage, f"{path}.mirrorPercentage")


def _authorities(rule: api.HTTPRoute) -> list[str]:
    """Every value that the authority is set to."""
    given = [rule.rewrite.authority] if rule.rewrite is not None else []
    if rule.headers is not None and rule.headers.request is not None:
        for operations in (rule.headers.request.set, rule.headers.request.add):
            given.extend(value for name, value in operations.items() if name.lower() in _HOST)
    return given


def _rewrite(report: Report, rule: api.HTTPRoute, path: str) -> None:
    if any(_authorities(rule)[:-1]):
        report.error(path, "the authority is set more than once, by rewrite and header operations")
    rewrite = rule.rewrite
    if rewrite is None:
        return
    if rewrite.uri_regex_rewrite is not None:
        regex = rewrite.uri_regex_rewrite
        if rewrite.uri:
            report.error(f"{path}.rewrite", "uri and uriRegexRewrite exclude each other")
        if not regex.match or not regex.rewrite:
            report.error(f"{path}.rewrite.uriRegexRewrite", "match and rewrite are both needed")
        elif problem := check.regex(regex.match):
            report.error(f"{path}.rewrite.uriRegexRewrite.match", problem)
    elif not rewrite.uri and not rewrite.authority:
        report.error(f"{path}.rewrite", "one of uri, authority and uriRegexRewrite is needed")


def _redirect(report: Report, rule: api.HTTPRoute, given: api.HTTPRedirect, path: str) -> None:
    if (
        given.port is None
        and given.derive_port is None
        and not (given.uri or given.prefix_rewrite or given.authority or given.scheme)
    ):
        report.error(path, "one of uri, prefixRewrite, authority, port and scheme is needed")
    if given.uri and given.prefix_rewrite:
        report.error(path, "uri and prefixRewrite exclude each other")
    if given.prefix_rewrite and any(m.uri is not None and m.uri.prefix is None for m in rule.match):
        report.error(f"{path}.prefixRewrite", "prefixRewrite needs prefix conditions on the uri")
    if given.port:
        report.refuse(f"{path}.port", check.port(given.port))
    if given.scheme not in ("", "http", "https"):
        report.error(f"{path}.scheme", f"{given.scheme!r} is neither http nor https")
    if given.redirect_code and not 300 <= given.redirect_code <= 399:
        report.error(f"{path}.redirectCode", f"{given.redirect_code} is not within 300..399")
