"""What a Gateway API rule does: redirect, answer 500, or forward with its filters, timeouts and retries.

A backend that does not exist or cannot be honoured answers 500 for its share; so does a whole rule without any share,
or with a filter that cannot be honoured. gRPC callers of a GRPCRoute get ``UNAVAILABLE`` instead.

Source: Istio ``conversion.go`` (``convertHTTPRoute``, ``buildHTTPDestination``), ``route.go`` (gateway semantics);
Gateway API ``HTTPRouteRule.backendRefs``, ``GRPCRouteRule.backendRefs``. Rewrites of one backend are the Gateway API's;
Istio refuses them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from meshlib.config.compile.actions import Actions, parts_per_million
from meshlib.config.compile.gateway_backends import destination_of, unusable
from meshlib.config.compile.gateway_filters import Filters, mirror_percent, path_rewrite, read_filters, redirect
from meshlib.config.compile.header_ops import authority_of, joined, request_ops, response_ops
from meshlib.config.resources import virtual_service as api
from meshlib.config.resources.gateway_api import BackendRef, HTTPRouteRetry, HTTPRouteRule, HTTPRouteTimeouts
from meshlib.config.resources.gateway_filters import (
    AT_BACKENDS,
    AT_GRPC_RULES,
    AT_HTTP_RULES,
    HTTPURLRewriteFilter,
)
from meshlib.model.grpc_status import GRPC_STATUS_NAMES
from meshlib.model.route import (
    Cors,
    DirectResponse,
    Forward,
    HeaderOps,
    Mirror,
    Redirect,
    RegexRewrite,
    WeightedCluster,
)

__all__ = ["GatewayActions", "Outcome"]

_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled"
_ATTEMPTS = 2
_UNAVAILABLE = GRPC_STATUS_NAMES.index("UNAVAILABLE")


class Outcome(NamedTuple):
    """What a rule comes to; ``notes`` say what of it could not be honoured."""

    action: Forward | Redirect | DirectResponse
    requests: HeaderOps
    responses: HeaderOps
    cors: Cors | None
    notes: tuple[str, ...]


class _Rewrite(NamedTuple):
    """What one backend's requests become."""

    path: str | None
    regex: RegexRewrite | None
    host: str | None


@dataclass(frozen=True, slots=True)
class GatewayActions:
    """What translating a rule needs of its surroundings.

    Attributes:
        shared: What every kind of rule needs.
        namespace: Of the route.
        domain: DNS suffix of the cluster.
        port: That the client addressed.
        grpc: Whether the route is a GRPCRoute.
    """

    shared: Actions
    namespace: str
    domain: str
    port: int
    grpc: bool

    def translate(self, rule: HTTPRouteRule, *, root: bool) -> Outcome:
        """The action; ``root`` says that the rule's prefix is ``/``."""
        filters = read_filters(rule.filters, AT_GRPC_RULES if self.grpc else AT_HTTP_RULES)
        requests, responses = request_ops(filters.headers), response_ops(filters.headers)
        notes = [f"filters of type {kind} are not supported: the rule answers 500" for kind in filters.unsupported]
        if notes:
            return Outcome(self._failure(), requests, responses, None, tuple(notes))
        if filters.redirect is not None:
            return Outcome(redirect(filters.redirect, self.port, root=root), requests, responses, filters.cors, ())
        backends = [(number, ref) for number, ref in enumerate(rule.backend_refs) if ref.weight > 0]
        if not backends:
            note = "no backend has a share of the requests: the rule answers 500"
            return Outcome(self._failure(), requests, responses, filters.cors, (note,))
        each = [read_filters(ref.filters, AT_BACKENDS) for _, ref in backends]
        clusters = tuple(self._clusters(backends, each, notes))
        if len(clusters) == 1:
            requests = joined(requests, request_ops(each[0].headers))
            responses = joined(responses, response_ops(each[0].headers))
        forward = self._forward(rule, filters, clusters, [self._rewrite(filters, own, root) for own in each], notes)
        return Outcome(forward, requests, responses, filters.cors, tuple(notes))

    def _failure(self) -> DirectResponse:
        return DirectResponse(500, grpc_status=_UNAVAILABLE if self.grpc else None)

    def _clusters(
        self, backends: Sequence[tuple[int, BackendRef]], filters: Sequence[Filters], notes: list[str]
    ) -> Iterator[WeightedCluster]:
        several = len(backends) > 1
        for (number, ref), own in zip(backends, filters, strict=True):
            to = destination_of(ref, self.namespace, self.domain)
            if own.unsupported:
                to = f"filters of type {', '.join(own.unsupported)} are not supported at a backend"
            if isinstance(to, str):
                notes.append(f"backendRefs[{number}] {ref.kind} {ref.name}: {to}; its share is answered with 500")
            yield WeightedCluster(
                unusable(ref) if isinstance(to, str) else self.shared.cluster(to),
                ref.weight if several else 1,
                request_ops(own.headers) if several else HeaderOps(),
                response_ops(own.headers) if several else HeaderOps(),
            )

    def _rewrite(self, rule: Filters, own: Filters, root: bool) -> _Rewrite:
        """A backend's own rewrite wins over the rule's, part by part."""
        inner, outer = own.rewrite or HTTPURLRewriteFilter(), rule.rewrite or HTTPURLRewriteFilter()
        path, regex = path_rewrite(inner.path or outer.path, root=root)
        host = inner.hostname or outer.hostname or authority_of(rule.headers) or authority_of(own.headers)
        return _Rewrite(path, regex, host)

    def _forward(
        self,
        rule: HTTPRouteRule,
        filters: Filters,
        clusters: tuple[WeightedCluster, ...],
        rewrites: Sequence[_Rewrite],
        notes: list[str],
    ) -> Forward:
        retries = _retries(rule.retry, rule.timeouts)
        ports = [ref.port or 0 for ref in rule.backend_refs if ref.weight > 0]
        retry, hash_keys = self.shared.policies(clusters, ports, retries)
        forward = Forward(
            clusters,
            _timeout(rule.timeouts, has_retries=retries is not None),
            retry,
            mirrors=tuple(self._mirrors(filters, notes)),
            hash_keys=hash_keys,
            missing_cluster=self._failure(),
            weight_keys=self.shared.drawn_by(clusters, hash_keys),
        )
        return _rewritten(forward, rewrites)

    def _mirrors(self, filters: Filters, notes: list[str]) -> Iterator[Mirror]:
        for given in filters.mirrors:
            to = destination_of(given.backend_ref, self.namespace, self.domain)
            share = parts_per_million(mirror_percent(given))
            if isinstance(to, str):
                notes.append(f"mirror {given.backend_ref.kind} {given.backend_ref.name}: {to}; nothing is copied there")
            elif share:
                yield Mirror(self.shared.cluster(to), share)


def _rewritten(forward: Forward, rewrites: Sequence[_Rewrite]) -> Forward:
    """What all backends share stands at the route, so that it is told as the route's; else at each of them."""
    if len(set(rewrites)) == 1:
        path, regex, host = rewrites[0]
        return replace(forward, path_rewrite=path, regex_rewrite=regex, host_rewrite=host)
    clusters = tuple(
        replace(weighted, path_rewrite=path, regex_rewrite=regex, host_rewrite=host)
        for weighted, (path, regex, host) in zip(forward.clusters, rewrites, strict=True)
    )
    return replace(forward, clusters=clusters)


def _timeout(given: HTTPRouteTimeouts | None, *, has_retries: bool) -> float | None:
    """Seconds for the whole call: without retries the limit of a single try is that of the call."""
    if given is None:
        return None
    return (None if has_retries else given.backend_request or None) or given.request or None


def _retries(given: HTTPRouteRetry | None, timeouts: HTTPRouteTimeouts | None) -> api.HTTPRetry | None:
    if given is None:
        return None
    per_try = (timeouts.backend_request or None) if timeouts is not None else None
    return api.HTTPRetry.model_construct(
        attempts=_ATTEMPTS if given.attempts is None else given.attempts,
        retry_on=",".join([_RETRY_ON, *map(str, given.codes)]),
        per_try_timeout=per_try,
        backoff=given.backoff,
    )
