"""Validation of HTTPRoute and GRPCRoute, by itself: what the API server's schema and its CEL rules refuse.

Beyond the schema, what cannot be honoured is a warning: such a rule or backend is not skipped but answers 500.
Source: Gateway API ``apis/v1/httproute_types.go``, ``grpcroute_types.go``.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshlib.config.resources import gateway_api as api
from meshlib.config.resources.gateway_filters import AT_BACKENDS, AT_GRPC_RULES, AT_HTTP_RULES, FilterType
from meshlib.config.validation import gateway_names as names
from meshlib.config.validation.gateway_filters import filters, replaces_prefix
from meshlib.config.validation.gateway_match import match
from meshlib.config.validation.gateway_references import backend, parents
from meshlib.config.validation.report import Report

__all__ = ["grpc_route", "http_route"]

_HOSTNAMES, _RULES, _BACKENDS, _MATCHES, _ALL_MATCHES = 16, 16, 16, 64, 128
_MOST_WEIGHT = 1_000_000
_LONGEST_SESSION = 128


def http_route(report: Report, spec: api.HTTPRouteSpec) -> None:
    """Everything about an HTTPRoute."""
    _route(report, spec.parent_refs, spec.hostnames, spec.rules, least=1)
    for number, rule in enumerate(spec.rules):
        path = f"spec.rules[{number}]"
        filters(report, rule.filters, f"{path}.filters", AT_HTTP_RULES)
        _redirects(report, rule, path)
        _prefixes(report, rule, path)
        if rule.timeouts is not None:
            _timeouts(report, rule.timeouts, f"{path}.timeouts")
        if rule.retry is not None:
            _retry(report, rule.retry, f"{path}.retry")


def grpc_route(report: Report, spec: api.GRPCRouteSpec) -> None:
    """Everything about a GRPCRoute."""
    _route(report, spec.parent_refs, spec.hostnames, spec.rules, least=0)
    for number, rule in enumerate(spec.rules):
        filters(report, rule.filters, f"spec.rules[{number}].filters", AT_GRPC_RULES)


def _route(
    report: Report,
    refs: Sequence[api.ParentReference],
    hostnames: Sequence[str],
    rules: Sequence[api.HTTPRouteRule | api.GRPCRouteRule],
    least: int,
) -> None:
    """What both kinds of routes have."""
    parents(report, refs, "spec.parentRefs")
    names.limit(report, "spec.hostnames", hostnames, _HOSTNAMES)
    for number, host in enumerate(hostnames):
        report.refuse(f"spec.hostnames[{number}]", names.hostname(host, wildcard=True))
    names.limit(report, "spec.rules", rules, _RULES, least)
    named = [rule.name or number for number, rule in enumerate(rules)]
    names.unique(report, "spec.rules", named, "name", ".name")
    total = sum(len(rule.matches) for rule in rules)
    if total > _ALL_MATCHES:
        report.error("spec.rules", f"{total} matches in all, at most {_ALL_MATCHES} are allowed")
    for number, rule in enumerate(rules):
        _rule(report, rule, f"spec.rules[{number}]")


def _rule(report: Report, rule: api.HTTPRouteRule | api.GRPCRouteRule, path: str) -> None:
    if rule.name is not None:
        report.refuse(f"{path}.name", names.section(rule.name))
    names.limit(report, f"{path}.matches", rule.matches, _MATCHES)
    matches: Sequence[api.HTTPRouteMatch | api.GRPCRouteMatch] = rule.matches
    for number, given in enumerate(matches):
        match(report, given, f"{path}.matches[{number}]")
    names.limit(report, f"{path}.backendRefs", rule.backend_refs, _BACKENDS)
    for number, ref in enumerate(rule.backend_refs):
        where = f"{path}.backendRefs[{number}]"
        backend(report, ref, where, "its share is answered with 500")
        if not 0 <= ref.weight <= _MOST_WEIGHT:
            report.error(f"{where}.weight", f"weight {ref.weight} is not within 0..{_MOST_WEIGHT}")
        filters(report, ref.filters, f"{where}.filters", AT_BACKENDS)
    if rule.session_persistence is not None:
        _session(report, rule.session_persistence, f"{path}.sessionPersistence")


def _redirects(report: Report, rule: api.HTTPRouteRule, path: str) -> None:
    if rule.backend_refs and any(each.type == FilterType.REQUEST_REDIRECT for each in rule.filters):
        report.error(f"{path}.backendRefs", "a rule that redirects sends nothing: backendRefs do not go with it")


def _prefixes(report: Report, rule: api.HTTPRouteRule, path: str) -> None:
    """A prefix can be replaced where exactly one is matched; a rule without matches matches the prefix ``/``."""
    kinds = [each.path.type for each in rule.matches] or [api.PathMatchType.PATH_PREFIX]
    if kinds == [api.PathMatchType.PATH_PREFIX]:
        return
    places = [(f"{path}.filters", rule.filters)]
    places += [(f"{path}.backendRefs[{number}].filters", ref.filters) for number, ref in enumerate(rule.backend_refs)]
    for where, given in places:
        if replaces_prefix(given):
            report.error(where, "replacePrefixMatch needs a rule with exactly one match, of type PathPrefix")


def _timeouts(report: Report, given: api.HTTPRouteTimeouts, path: str) -> None:
    if given.request and given.backend_request and given.backend_request > given.request:
        message = f"{given.backend_request:g}s is more than the {given.request:g}s of the whole request"
        report.error(f"{path}.backendRequest", message)


def _retry(report: Report, given: api.HTTPRouteRetry, path: str) -> None:
    names.unique(report, f"{path}.codes", given.codes, "code")
    for number, code in enumerate(given.codes):
        if not 400 <= code <= 599:
            report.error(f"{path}.codes[{number}]", f"code {code} is not within 400..599")


def _session(report: Report, given: api.SessionPersistence, path: str) -> None:
    if given.session_name is not None and len(given.session_name) > _LONGEST_SESSION:
        report.error(f"{path}.sessionName", f"more than {_LONGEST_SESSION} characters")
    if given.cookie_config is None:
        return
    if given.type != "Cookie":
        report.error(f"{path}.cookieConfig", "cookieConfig goes with type Cookie only")
    elif given.cookie_config.lifetime_type == "Permanent" and given.absolute_timeout is None:
        report.error(path, "a permanent cookie needs an absoluteTimeout")
