"""Validation of one HTTP rule of a VirtualService."""

from __future__ import annotations

from collections.abc import Mapping

from meshlib.config.resources import virtual_service as api
from meshlib.config.validation import primitives as check
from meshlib.config.validation.report import Report
from meshlib.model.grpc_status import GRPC_STATUS_NAMES

__all__ = ["destination", "http_rule", "string_match", "weights"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"})
_RETRY_WORDS = frozenset(
    {
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    }
)
_CLAIM = "@request.auth.claims"
_BODY_ERROR, _BODY_WARNING = 1_000_000, 100_000


def http_rule(report: Report, rule: api.HTTPRoute, path: str, *, delegate: bool, gateways: list[str]) -> None:
    """Everything about one rule."""
    _action(report, rule, path, delegate)
    for number, match in enumerate(rule.match):
        _match(report, match, f"{path}.match[{number}]", bool(gateways) and "mesh" not in gateways)
    for number, entry in enumerate(rule.route):
        where = f"{path}.route[{number}]"
        destination(report, entry.destination, f"{where}.destination")
        _headers(report, entry.headers, f"{where}.headers")
    weights(report, [entry.weight for entry in rule.route], f"{path}.route")
    _headers(report, rule.headers, f"{path}.headers")
    _mirrors(report, rule, path)
    _rewrite(report, rule, path)
    if rule.redirect is not None:
        _redirect(report, rule, rule.redirect, f"{path}.redirect")
    if rule.direct_response is not None:
        _direct_response(report, rule.direct_response, f"{path}.directResponse")
    if rule.fault is not None:
        _fault(report, rule.fault, f"{path}.fault")
    if rule.retries is not None:
        _retries(report, rule.retries, f"{path}.retries")
    if rule.cors_policy is not None:
        _cors(report, rule.cors_policy, f"{path}.corsPolicy")
    _duration(report, rule.timeout, f"{path}.timeout")


def _duration(report: Report, seconds: float | None, path: str) -> None:
    problem = check.duration(seconds) if seconds is not None else None
    if problem:
        report.error(path, problem)


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
        report.error(f"{path}.delegate.name", "the delegate's name is empty")


def string_match(report: Report, value: api.StringMatch | None, path: str, *, empty_prefix: bool = False) -> None:
    """A text condition."""
    if value is None:
        return
    if value.prefix == "" and not empty_prefix:
        report.error(f"{path}.prefix", "the prefix is empty")
    problem = check.regex(value.regex) if value.regex is not None else None
    if problem:
        report.error(f"{path}.regex", problem)


def _match(report: Report, match: api.HTTPMatchRequest, path: str, gateway_only: bool) -> None:
    string_match(report, match.uri, f"{path}.uri", empty_prefix=True)
    for name in ("scheme", "method", "authority"):
        string_match(report, getattr(match, name), f"{path}.{name}")
    gateway_only = gateway_only or (bool(match.gateways) and "mesh" not in match.gateways)
    for name, value in match.headers.items():
        where = f"{path}.headers.{name}"
        if value is None:
            report.error(where, "the condition is null: write {} to ask for presence")
        _header_condition(report, name, value, where, gateway_only)
    for name, value in match.without_headers.items():
        where = f"{path}.withoutHeaders.{name}"
        absent = value is not None and value.regex == "*"
        _header_condition(report, name, None if absent else value, where, gateway_only)
    for name, value in match.query_params.items():
        string_match(report, value, f"{path}.queryParams.{name}")
    if match.port and (problem := check.port(match.port)):
        report.error(f"{path}.port", problem)
    _labels(report, match.source_labels, f"{path}.sourceLabels")
    if match.source_namespace and (problem := check.dns_label(match.source_namespace)):
        report.error(f"{path}.sourceNamespace", problem)


def _header_condition(report: Report, name: str, value: api.StringMatch | None, path: str, gateway_only: bool) -> None:
    if name.startswith(_CLAIM):
        if not gateway_only:
            report.error(path, "conditions on JWT claims are for gateways only")
    elif not name.startswith(":") and (problem := check.header_name(name)):
        report.error(path, problem)
    string_match(report, value, path)


def _labels(report: Report, labels: Mapping[str, str], path: str) -> None:
    for key, value in labels.items():
        if problem := check.label_pair(key, value):
            report.error(f"{path}.{key}", problem)


def destination(report: Report, given: api.Destination | None, path: str) -> None:
    """Where a route goes."""
    if given is None:
        report.error(path, "destination is required")
        return
    if given.host == "*":
        report.error(f"{path}.host", "host '*' is not a destination")
    elif problem := check.wildcard_host(given.host):
        report.error(f"{path}.host", problem)
    if given.subset and (problem := check.dns_label(given.subset)):
        report.error(f"{path}.subset", problem)
    if given.port is not None and (problem := check.port(given.port.number)):
        report.error(f"{path}.port.number", problem)


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
    if lower in ("host", ":authority") and allow_host:
        problem = None
    elif lower == "host":
        problem = "the host header can only be set or added, on requests"
    elif name.startswith(":"):
        problem = f"{name!r} is a pseudo header, which operations cannot change"
    else:
        problem = check.header_name(name)
    problem = problem or check.header_value(value)
    if problem:
        report.error(path, problem)


def _mirrors(report: Report, rule: api.HTTPRoute, path: str) -> None:
    if rule.mirror is not None:
        destination(report, rule.mirror, f"{path}.mirror")
        if rule.mirrors:
            report.error(f"{path}.mirrors", "mirror and mirrors exclude each other")
    for number, mirror in enumerate(rule.mirrors):
        where = f"{path}.mirrors[{number}]"
        destination(report, mirror.destination, f"{where}.destination")
        _percent(report, mirror.percentage, f"{where}.percentage")
    if rule.mirror_percent is not None:
        if not 0 <= rule.mirror_percent <= 100:
            report.error(f"{path}.mirrorPercent", f"{rule.mirror_percent} is not within 0..100")
        report.warn(f"{path}.mirrorPercent", "mirrorPercent is deprecated, use mirrorPercentage")
    _percent(report, rule.mirror_percentage, f"{path}.mirrorPercentage")


def _percent(report: Report, percent: api.Percent | None, path: str, *, least: float = 0.0) -> None:
    if percent is None:
        return
    if not 0 <= percent.value <= 100 or 0 < percent.value < least:
        bound = f"0, or {least:g}..100" if least else "0..100"
        report.error(path, f"{percent.value:g} percent is not within {bound}")


def _rewrite(report: Report, rule: api.HTTPRoute, path: str) -> None:
    rewrite = rule.rewrite
    authorities = 1 if rewrite is not None and rewrite.authority else 0
    if rule.headers is not None and rule.headers.request is not None:
        for operations in (rule.headers.request.set, rule.headers.request.add):
            authorities += any(name.lower() in ("host", ":authority") for name in operations)
    if authorities > 1:
        report.error(path, "the authority is set more than once, by rewrite and header operations")
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
    if given.port is not None and (problem := check.port(given.port)):
        report.error(f"{path}.port", problem)
    if given.scheme not in ("", "http", "https"):
        report.error(f"{path}.scheme", f"{given.scheme!r} is neither http nor https")
    if given.redirect_code and not 300 <= given.redirect_code <= 399:
        report.error(f"{path}.redirectCode", f"{given.redirect_code} is not within 300..399")


def _direct_response(report: Report, given: api.HTTPDirectResponse, path: str) -> None:
    if not 200 <= given.status <= 600:
        report.error(f"{path}.status", f"status {given.status} is not within 200..600")
    if given.body is None:
        return
    size = len(given.body.string or given.body.bytes or "")
    if size > _BODY_ERROR:
        report.error(f"{path}.body", f"the body has {size} bytes, at most {_BODY_ERROR} are allowed")
    elif size > _BODY_WARNING:
        report.warn(f"{path}.body", f"the body has {size} bytes, which is a lot to keep in every client")


def _fault(report: Report, given: api.HTTPFaultInjection, path: str) -> None:
    if given.delay is None and given.abort is None:
        report.error(path, "one of delay and abort is needed")
    if given.delay is not None:
        _fault_delay(report, given.delay, f"{path}.delay")
    if given.abort is not None:
        _fault_abort(report, given.abort, f"{path}.abort")


def _fault_delay(report: Report, delay: api.FaultDelay, path: str) -> None:
    if delay.exponential_delay is not None:
        report.error(f"{path}.exponentialDelay", "exponentialDelay is not supported")
    elif delay.fixed_delay is None:
        report.error(f"{path}.fixedDelay", "fixedDelay is needed")
    _duration(report, delay.fixed_delay, f"{path}.fixedDelay")
    _percent(report, delay.percentage, f"{path}.percentage", least=0.0001)
    if not 0 <= delay.percent <= 100:
        report.error(f"{path}.percent", f"{delay.percent} is not within 0..100")


def _fault_abort(report: Report, abort: api.FaultAbort, path: str) -> None:
    _percent(report, abort.percentage, f"{path}.percentage", least=0.0001)
    if abort.http2_error is not None:
        report.error(f"{path}.http2Error", "http2Error is not supported")
    if abort.grpc_status is not None and abort.grpc_status not in GRPC_STATUS_NAMES:
        report.error(f"{path}.grpcStatus", f"{abort.grpc_status!r} is not a gRPC status name")
    if abort.http_status is not None and not 200 <= abort.http_status <= 600:
        report.error(f"{path}.httpStatus", f"status {abort.http_status} is not within 200..600")
    if abort.http_status is None and abort.grpc_status is None and abort.http2_error is None:
        report.warn(path, "an abort without httpStatus or grpcStatus does nothing")


def _retries(report: Report, given: api.HTTPRetry, path: str) -> None:
    if given.attempts < 0:
        report.error(f"{path}.attempts", f"attempts {given.attempts} is below 0")
    if given.attempts == 0 and (
        given.per_try_timeout is not None or given.retry_on or given.retry_remote_localities is not None
    ):
        report.error(f"{path}.attempts", "attempts 0 switches retries off, so the other fields mean nothing")
    _duration(report, given.per_try_timeout, f"{path}.perTryTimeout")
    _duration(report, given.backoff, f"{path}.backoff")
    for word in given.retry_on.split(",") if given.retry_on else ():
        if word not in _RETRY_WORDS and not (word.isdigit() and 100 <= int(word) <= 599):
            report.error(f"{path}.retryOn", f"{word!r} is not a retry condition")


def _cors(report: Report, given: api.CorsPolicy, path: str) -> None:
    for number, origin in enumerate(given.allow_origins):
        where = f"{path}.allowOrigins[{number}]"
        if origin.exact is None and origin.prefix is None and origin.regex is None:
            report.error(where, "the condition is empty")
        string_match(report, origin, where)
    for number, method in enumerate(given.allow_methods):
        if method not in _METHODS:
            report.error(f"{path}.allowMethods[{number}]", f"{method!r} is not an HTTP method")
    for field, names in (("allowHeaders", given.allow_headers), ("exposeHeaders", given.expose_headers)):
        for number, name in enumerate(names):
            if name != "*" and (problem := check.header_name(name)):
                report.error(f"{path}.{field}[{number}]", problem)
    if given.max_age is not None and given.max_age != round(given.max_age):
        report.error(f"{path}.maxAge", f"{given.max_age:g}s is not a whole number of seconds")
