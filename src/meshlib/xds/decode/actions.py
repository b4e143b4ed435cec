"""What a route does, off the wire.

An action that cannot be done here is answered with 503, as Envoy answers a route to nowhere, and reported: leaving the
route out would send its requests by another.

Source: Envoy ``RouteAction``, ``RedirectAction``, ``DirectResponseAction``; gRFCs A28, A31.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from meshlib.model.policy import RetryPolicy
from meshlib.model.route import DirectResponse, Forward, Mirror, Redirect, RegexRewrite, WeightedCluster
from meshlib.xds.decode import header_ops
from meshlib.xds.decode.findings import Place
from meshlib.xds.decode.matches import regex
from meshlib.xds.decode.policies import hash_key, retry_policy
from meshlib.xds.decode.subsets import metadata_match
from meshlib.xds.decode.values import optional_duration, parts_per_million

__all__ = ["action"]

NOWHERE = DirectResponse(503)

_FORWARD = {
    "cluster",
    "weighted_clusters",
    "cluster_not_found_response_code",
    "prefix_rewrite",
    "regex_rewrite",
    "host_rewrite_literal",
    "host_rewrite_header",
    "host_rewrite_path_regex",
    "append_x_forwarded_host",
    "timeout",
    "retry_policy",
    "hedge_policy",
    "request_mirror_policies",
    "hash_policy",
    "max_stream_duration",
    "max_grpc_timeout",
    "metadata_match",
}
_CLUSTER = {
    "name",
    "weight",
    "request_headers_to_add",
    "request_headers_to_remove",
    "response_headers_to_add",
    "response_headers_to_remove",
    "host_rewrite_literal",
    "metadata_match",
}
_DEFAULT_TIMEOUT = 15.0
_LARGEST_SUM = (1 << 32) - 1
_MISSING = {0: None, 1: DirectResponse(404), 2: DirectResponse(500)}


def action(route: Any, inherited: Any, at: Place) -> Forward | Redirect | DirectResponse:
    """The action of a ``Route``.

    Args:
        route: The message.
        inherited: The virtual host's ``RetryPolicy``, or None.
        at: The route's place.
    """
    kind = route.WhichOneof("action")
    if kind == "route":
        return _forward(route.route, inherited, at.field("route"))
    if kind == "redirect":
        return _redirect(route.redirect, at.field("redirect"))
    if kind == "direct_response":
        return _direct_response(route.direct_response, at.field("direct_response"))
    if kind is None:
        at.error("no action")
    else:
        at.ignored(kind)
    return NOWHERE


def _forward(given: Any, inherited: Any, at: Place) -> Forward | DirectResponse:
    at.only(given, _FORWARD)
    kind = given.WhichOneof("cluster_specifier")
    if kind not in ("cluster", "weighted_clusters"):
        if kind is None:
            at.error("no cluster")
        return NOWHERE
    if given.prefix_rewrite and given.HasField("regex_rewrite"):
        at.field("regex_rewrite").error("stands beside prefix_rewrite")
    timeout = optional_duration(given, "timeout", at)
    retries = given.retry_policy if given.HasField("retry_policy") else inherited
    keys = (hash_key(each, at.field("hash_policy", number)) for number, each in enumerate(given.hash_policy))
    stream, longest = _stream_limits(given, at)
    return Forward(
        _clusters(given, kind, at),
        None if at.is_grpc or timeout == 0 else _DEFAULT_TIMEOUT if timeout is None else timeout,
        _retries(given, retries, at),
        given.prefix_rewrite or None,
        _regex_rewrite(given, "regex_rewrite", at),
        given.host_rewrite_literal or None,
        tuple(_mirrors(given, at)),
        tuple(key for key in keys if key is not None),
        stream,
        longest,
        _MISSING.get(given.cluster_not_found_response_code),
        given.host_rewrite_header.lower() or None,
        _regex_rewrite(given, "host_rewrite_path_regex", at),
        given.append_x_forwarded_host,
    )


def _retries(given: Any, policy: Any, at: Place) -> RetryPolicy | None:
    """What gRPC does of its own accord beside a slow attempt stands in its service config, not here."""
    made = None if policy is None else retry_policy(policy, at.field("retry_policy"))
    at.field("hedge_policy").only(given.hedge_policy, {"hedge_on_per_try_timeout"})
    if made is None or at.is_grpc or not given.hedge_policy.hedge_on_per_try_timeout:
        return made
    return replace(made, hedge_on_per_try_timeout=True)


def _stream_limits(given: Any, at: Place) -> tuple[float | None, float | None]:
    """The newer message supersedes ``max_grpc_timeout``, which says nothing where it is the route's own timeout."""
    if given.HasField("max_stream_duration"):
        place, limits = at.field("max_stream_duration"), given.max_stream_duration
        place.only(limits, {"max_stream_duration", "grpc_timeout_header_max"})
        longest = optional_duration(limits, "grpc_timeout_header_max", place)
        stream = optional_duration(limits, "max_stream_duration", place)
        if longest is not None or given.max_grpc_timeout == given.timeout:
            return stream, longest
        return stream, optional_duration(given, "max_grpc_timeout", at)
    return None, None if given.max_grpc_timeout == given.timeout else optional_duration(given, "max_grpc_timeout", at)


def _clusters(given: Any, kind: str, at: Place) -> tuple[WeightedCluster, ...]:
    wanted = metadata_match(given, at)
    if kind == "cluster":
        return (WeightedCluster(given.cluster, metadata_match=wanted),)
    place = at.field("weighted_clusters")
    place.only(given.weighted_clusters, {"clusters", "total_weight"})
    entries = list(enumerate(given.weighted_clusters.clusters))
    total = sum(entry.weight.value for _, entry in entries)
    if not 0 < total <= _LARGEST_SUM:
        place.error(f"the sum of weights is {total}, which is not within 1..{_LARGEST_SUM}")
    return tuple(
        _cluster(entry, wanted, place.field("clusters", number)) for number, entry in entries if entry.weight.value
    )


def _cluster(entry: Any, wanted: tuple[tuple[str, str], ...], at: Place) -> WeightedCluster:
    """A destination; of what the route asks of endpoints too, its own values win."""
    at.only(entry, _CLUSTER)
    if not entry.name:
        at.field("name").error("is empty")
    return WeightedCluster(
        entry.name,
        entry.weight.value,
        header_ops.requests(entry, at),
        header_ops.responses(entry, at),
        entry.host_rewrite_literal or None,
        metadata_match=tuple(sorted({**dict(wanted), **dict(metadata_match(entry, at))}.items())),
    )


def _mirrors(given: Any, at: Place) -> list[Mirror]:
    found = []
    for number, policy in enumerate(given.request_mirror_policies):
        place = at.field("request_mirror_policies", number)
        place.only(policy, {"cluster", "runtime_fraction", "disable_shadow_host_suffix_append"})
        share = (
            parts_per_million(policy.runtime_fraction.default_value) if policy.HasField("runtime_fraction") else None
        )
        if policy.cluster:
            found.append(Mirror(policy.cluster, 1_000_000 if share is None else share))
    return found


def _redirect(given: Any, at: Place) -> Redirect:
    return Redirect(
        (301, 302, 303, 307, 308)[given.response_code],
        given.path_redirect or None,
        given.prefix_rewrite or None,
        _regex_rewrite(given, "regex_rewrite", at),
        given.host_redirect or None,
        given.port_redirect or None,
        "https" if given.https_redirect else given.scheme_redirect or None,
        given.strip_query,
    )


def _regex_rewrite(given: Any, name: str, at: Place) -> RegexRewrite | None:
    if not given.HasField(name):
        return None
    rewrite = getattr(given, name)
    return RegexRewrite(regex(rewrite.pattern, at.field(name).field("pattern")), rewrite.substitution)


def _direct_response(given: Any, at: Place) -> DirectResponse:
    if not 200 <= given.status < 600:
        at.field("status").error(f"{given.status} is not within 200..599")
    if given.body.filename or given.body.environment_variable:
        at.field("body").ignored(given.body.WhichOneof("specifier"))
    return DirectResponse(given.status, given.body.inline_bytes or given.body.inline_string.encode())
