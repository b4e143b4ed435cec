"""Retry policies, hash keys, faults and cross-origin rules off the wire.

Source: Envoy ``RetryPolicy``, ``HashPolicy``, ``HTTPFault``, ``CorsPolicy``; gRFCs A33, A42, A44.
"""

from __future__ import annotations

from typing import Any

from meshlib.model.match import HeaderMatch, MatchKind, StringMatch
from meshlib.model.policy import Abort, Delay, Fault, HashKey, RetryPolicy
from meshlib.model.route import Cors
from meshlib.xds.decode.findings import Place
from meshlib.xds.decode.matches import header_match, string_match
from meshlib.xds.decode.values import denominator, duration, optional_duration, parts_per_million

__all__ = ["cors_policy", "fault", "hash_key", "retry_policy"]

_GRPC_WORDS = frozenset({"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"})
_RETRY = {
    "retry_on",
    "num_retries",
    "per_try_timeout",
    "per_try_idle_timeout",
    "retry_priority",
    "retry_host_predicate",
    "host_selection_retry_max_attempts",
    "retriable_status_codes",
    "retry_back_off",
    "rate_limited_retry_back_off",
    "retriable_headers",
}
_PREVIOUS_HOSTS = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
_PREVIOUS_PRIORITIES = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
_MOST_GRPC_ATTEMPTS = 4


def retry_policy(policy: Any, at: Place) -> RetryPolicy | None:
    """None when no attempt is ever repeated. Unset, ``num_retries`` is 1; gRPC makes 5 attempts at most."""
    at.only(policy, _RETRY)
    attempts = policy.num_retries.value if policy.HasField("num_retries") else 1
    words = frozenset(word.strip() for word in policy.retry_on.split(",")) - {""}
    if at.is_grpc:
        if policy.HasField("num_retries") and not attempts:
            at.field("num_retries").error("must be at least 1")
        attempts, words = min(attempts, _MOST_GRPC_ATTEMPTS), words & _GRPC_WORDS
    base, cap = _back_off(policy, at)
    if not attempts or not words:
        return None
    headers, cap_of_reset = _reset_headers(policy, at)
    return RetryPolicy(
        attempts,
        words,
        frozenset(policy.retriable_status_codes),
        frozenset(_names(policy, at)),
        optional_duration(policy, "per_try_timeout", at),
        optional_duration(policy, "per_try_idle_timeout", at),
        base,
        cap,
        _has(policy.retry_host_predicate, _PREVIOUS_HOSTS, at.field("retry_host_predicate")),
        policy.host_selection_retry_max_attempts or 1,
        _has(
            [policy.retry_priority] if policy.HasField("retry_priority") else [],
            _PREVIOUS_PRIORITIES,
            at.field("retry_priority"),
        ),
        headers,
        cap_of_reset,
    )


def _back_off(policy: Any, at: Place) -> tuple[float, float]:
    if not policy.HasField("retry_back_off"):
        return 0.025, 0.25
    place, given = at.field("retry_back_off"), policy.retry_back_off
    base = duration(given.base_interval, place.field("base_interval"))
    if base <= 0:
        place.field("base_interval").error("must be above 0")
    cap = optional_duration(given, "max_interval", place)
    if cap is not None and cap < base and not at.is_grpc:
        place.field("max_interval").error("must not be below base_interval")
    base = max(base, 0.001)
    return base, max(base, base * 10 if cap is None else cap)


def _reset_headers(policy: Any, at: Place) -> tuple[tuple[tuple[str, bool], ...], float]:
    given, place = policy.rate_limited_retry_back_off, at.field("rate_limited_retry_back_off")
    headers = tuple((header.name.lower(), header.format == 1) for header in given.reset_headers)
    cap = optional_duration(given, "max_interval", place)
    return headers, 300.0 if cap is None else cap


def _names(policy: Any, at: Place) -> list[str]:
    """Only the presence of a response header can make it retriable."""
    found = []
    for number, each in enumerate(policy.retriable_headers):
        match = header_match(each, at.field("retriable_headers", number))
        if match == HeaderMatch(match.name, joined=at.is_grpc):
            found.append(match.name)
        else:
            at.field("retriable_headers", number).has_no_effect()
    return found


def _has(extensions: Any, kind: str, at: Place) -> bool:
    found = False
    for number, each in enumerate(extensions):
        known = each.typed_config.TypeName() == kind
        found = found or known
        if not known:
            at.item(number).has_no_effect()
    return found


def hash_key(policy: Any, at: Place) -> HashKey | None:
    """None for a source that gives no key here."""
    kind, terminal = policy.WhichOneof("policy_specifier"), policy.terminal
    if kind == "header" and not policy.header.HasField("regex_rewrite"):
        return HashKey("header", policy.header.header_name.lower(), terminal=terminal)
    if kind == "query_parameter":
        return HashKey("query", policy.query_parameter.name, terminal=terminal)
    if kind == "connection_properties" and policy.connection_properties.source_ip:
        return HashKey("source_ip", terminal=terminal)
    if kind != "cookie":
        at.has_no_effect()
        return None
    cookie = policy.cookie
    attributes = tuple((each.name, each.value) for each in cookie.attributes)
    ttl = optional_duration(cookie, "ttl", at.field("cookie"))
    return HashKey("cookie", cookie.name, ttl, cookie.path, attributes, terminal)


def fault(filter_config: Any, at: Place) -> Fault:
    """One fault filter; nodes are told apart by the header in which Envoy carries their name."""
    known = {"delay", "abort", "upstream_cluster", "headers", "downstream_nodes", "max_active_faults"}
    at.only(filter_config, {*known, "disable_downstream_cluster_stats"})
    headers = [header_match(each, at.field("headers", n)) for n, each in enumerate(filter_config.headers)]
    if filter_config.downstream_nodes:
        headers.append(HeaderMatch("x-envoy-downstream-service-node", _one_of(filter_config.downstream_nodes)))
    return Fault(
        _delay(filter_config.delay, at.field("delay")) if filter_config.HasField("delay") else None,
        _abort(filter_config.abort, at.field("abort")) if filter_config.HasField("abort") else None,
        filter_config.max_active_faults.value if filter_config.HasField("max_active_faults") else None,
        headers=tuple(headers),
        cluster=filter_config.upstream_cluster,
    )


def _one_of(names: Any) -> StringMatch:
    quoted = ("".join(each if each.isalnum() else f"\\x{{{ord(each):x}}}" for each in name) for name in names)
    return StringMatch(MatchKind.REGEX, "|".join(quoted))


def _delay(given: Any, at: Place) -> Delay:
    kind = given.WhichOneof("fault_delay_secifier")
    if kind is None:
        at.error("neither fixed_delay nor header_delay")
    seconds = None if kind == "header_delay" else duration(given.fixed_delay, at.field("fixed_delay"))
    return Delay(seconds, parts_per_million(given.percentage), denominator(given.percentage))


def _abort(given: Any, at: Place) -> Abort:
    kind = given.WhichOneof("error_type")
    if kind is None:
        at.error("neither http_status, grpc_status nor header_abort")
    if kind == "http_status" and not 200 <= given.http_status < 600:
        at.field("http_status").error(f"{given.http_status} is not within 200..599")
    if kind == "grpc_status" and given.grpc_status > 16:
        at.field("grpc_status").error(f"{given.grpc_status} is no gRPC status")
    return Abort(
        parts_per_million(given.percentage),
        given.http_status if kind == "http_status" else None,
        given.grpc_status if kind == "grpc_status" else None,
        denominator(given.percentage),
    )


def cors_policy(policy: Any, at: Place) -> Cors | None:
    """None when the filter is switched off."""
    known = {"allow_origin_string_match", "allow_methods", "allow_headers", "expose_headers", "max_age"}
    at.only(policy, {*known, "allow_credentials", "forward_not_matching_preflights", "filter_enabled"})
    enabled = policy.filter_enabled
    if policy.HasField("filter_enabled") and not enabled.default_value.numerator:
        return None
    origins = enumerate(policy.allow_origin_string_match)
    forward = policy.forward_not_matching_preflights
    return Cors(
        tuple(string_match(each, at.field("allow_origin_string_match", number)) for number, each in origins),
        policy.allow_methods,
        policy.allow_headers,
        policy.expose_headers,
        int(policy.max_age) if policy.max_age.isdigit() else None,
        policy.allow_credentials.value,
        forward.value if policy.HasField("forward_not_matching_preflights") else True,
    )
