"""What a route does, on the wire.

Source: Istio ``route.go`` (``applyHTTPRouteDestination``, ``ApplyRedirect``, ``ApplyDirectResponse``, ``setTimeout``).
"""

from __future__ import annotations

from typing import Any

from meshlib.model.route import DirectResponse, Forward, Redirect, RegexRewrite, WeightedCluster
from meshlib.xds.encode import header_ops
from meshlib.xds.encode.matches import regex
from meshlib.xds.encode.policies import hash_policy, retry_policy
from meshlib.xds.encode.values import duration, share, struct, uint32
from meshlib.xds.messages import regex_pb2, route_components_pb2

__all__ = ["write_action"]

_REDIRECTS = {301: "MOVED_PERMANENTLY", 302: "FOUND", 303: "SEE_OTHER", 307: "TEMPORARY_REDIRECT"}
_REDIRECTS[308] = "PERMANENT_REDIRECT"
_CODE = route_components_pb2.RouteAction.ClusterNotFoundResponseCode
_NOT_FOUND = {404: "NOT_FOUND", 500: "INTERNAL_SERVER_ERROR"}


def write_action(action: Forward | Redirect | DirectResponse, route: Any) -> None:
    """Put ``action`` into a ``Route`` message."""
    if isinstance(action, Forward):
        route.route.CopyFrom(_forward(action))
    elif isinstance(action, Redirect):
        route.redirect.CopyFrom(_redirect(action))
    else:
        route.direct_response.status = action.status
        if action.body:
            route.direct_response.body.inline_bytes = action.body


def _forward(action: Forward) -> Any:
    made = route_components_pb2.RouteAction(timeout=duration(action.timeout or 0.0))
    _write_clusters(action, made)
    _write_rewrites(action, made)
    if action.missing_cluster is not None:
        code = _NOT_FOUND.get(action.missing_cluster.status, "SERVICE_UNAVAILABLE")
        made.cluster_not_found_response_code = _CODE.Value(code)
    if action.retry is not None:
        made.retry_policy.CopyFrom(retry_policy(action.retry))
        if action.retry.hedge_on_per_try_timeout:
            made.hedge_policy.hedge_on_per_try_timeout = True
    for mirror in action.mirrors:
        policy = made.request_mirror_policies.add(cluster=mirror.cluster, disable_shadow_host_suffix_append=True)
        policy.runtime_fraction.default_value.CopyFrom(share(mirror.parts_per_million))
    made.hash_policy.extend(hash_policy(key) for key in action.hash_keys)
    if action.max_stream_duration is not None:
        made.max_stream_duration.max_stream_duration.CopyFrom(duration(action.max_stream_duration))
    if action.grpc_timeout_max is not None:
        made.max_stream_duration.grpc_timeout_header_max.CopyFrom(duration(action.grpc_timeout_max))
    else:  # the caller's grpc-timeout holds, up to the route's own (Istio)
        made.max_grpc_timeout.CopyFrom(duration(action.timeout or 0.0))
    return made


def _write_clusters(action: Forward, made: Any) -> None:
    """One destination without anything of its own is a plain cluster, as istiod writes it.

    Raises:
        ValueError: A destination rewrites the path by itself, for which the wire has no field.
    """
    if any(each.path_rewrite is not None or each.regex_rewrite is not None for each in action.clusters):
        raise ValueError("a destination's own path rewrite cannot be written")
    first = action.clusters[0] if len(action.clusters) == 1 else None
    if first is not None and first == WeightedCluster(first.cluster):
        made.cluster = first.cluster
        return
    for weighted in action.clusters:
        entry = made.weighted_clusters.clusters.add(name=weighted.cluster, weight=uint32(weighted.weight))
        header_ops.write(entry, weighted.request_headers, weighted.response_headers)
        if weighted.host_rewrite is not None:
            entry.host_rewrite_literal = weighted.host_rewrite
        if weighted.metadata_match:
            entry.metadata_match.filter_metadata["envoy.lb"].CopyFrom(struct(dict(weighted.metadata_match)))


def _write_rewrites(action: Forward, made: Any) -> None:
    if action.path_rewrite is not None:
        made.prefix_rewrite = action.path_rewrite
    if action.regex_rewrite is not None:
        made.regex_rewrite.CopyFrom(_regex_rewrite(action.regex_rewrite))
    made.append_x_forwarded_host = action.append_forwarded_host
    if action.host_rewrite is not None:
        made.host_rewrite_literal = action.host_rewrite
    elif action.host_from_header is not None:
        made.host_rewrite_header = action.host_from_header
    elif action.host_from_path is not None:
        made.host_rewrite_path_regex.CopyFrom(_regex_rewrite(action.host_from_path))


def _redirect(action: Redirect) -> Any:
    made = route_components_pb2.RedirectAction(strip_query=action.strip_query)
    made.response_code = route_components_pb2.RedirectAction.RedirectResponseCode.Value(_REDIRECTS[action.status])
    if action.path is not None:
        made.path_redirect = action.path
    elif action.prefix_rewrite is not None:
        made.prefix_rewrite = action.prefix_rewrite
    elif action.regex_rewrite is not None:
        made.regex_rewrite.CopyFrom(_regex_rewrite(action.regex_rewrite))
    if action.authority is not None:
        made.host_redirect = action.authority
    if action.port is not None:
        made.port_redirect = action.port
    if action.scheme is not None:
        made.scheme_redirect = action.scheme
    return made


def _regex_rewrite(rewrite: RegexRewrite) -> Any:
    return regex_pb2.RegexMatchAndSubstitute(pattern=regex(rewrite.pattern), substitution=rewrite.substitution)
