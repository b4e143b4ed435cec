"""What a rule does: redirect, direct response, or forward with its policies.

Source: Istio ``route.go`` (``TranslateRoute``), ``core/route/retry``; percentages are parts per million, rounded down.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meshlib.config.compile.header_ops import authority_of, joined, request_ops, response_ops
from meshlib.config.compile.retries import retry_policy
from meshlib.config.resources import virtual_service as api
from meshlib.model import route as model
from meshlib.model.grpc_status import GRPC_STATUS_NAMES
from meshlib.model.informed import BUILT_IN
from meshlib.model.policy import Abort, Delay, Fault, HashKey, RetryPolicy
from meshlib.model.route import NO_HEADERS

__all__ = ["Actions", "fault_of", "parts_per_million"]

_MILLION = 1_000_000


def _at_random(cluster: str) -> None:
    """No wish: weighted destinations are drawn at random."""


@dataclass(frozen=True, slots=True)
class Actions:
    """What translating a rule needs of its surroundings.

    Attributes:
        cluster: Destination -> cluster name.
        hash_keys: Cluster name and the port that the rule names, or 0 -> where hash keys come from.
        default_retries: The mesh's ``defaultHttpRetryPolicy``.
        tells_host: The mesh's ``proxyHeaders.xForwardedHost``: say which authority was rewritten.
        weight_keys: Cluster name -> what weighted destinations are drawn by; empty means the hash keys, None at random.
    """

    cluster: Callable[[api.Destination], str]
    hash_keys: Callable[[str, int], tuple[HashKey, ...]]
    default_retries: api.HTTPRetry | None
    tells_host: bool = False
    weight_keys: Callable[[str], tuple[HashKey, ...] | None] = _at_random

    @property
    def retry_origin(self) -> str:
        """Where the policy of a rule without ``retries`` comes from."""
        return "MeshConfig.defaultHttpRetryPolicy" if self.default_retries is not None else BUILT_IN

    def translate(
        self, rule: api.HTTPRoute, port: int
    ) -> tuple[model.Forward | model.Redirect | model.DirectResponse, model.HeaderOps, model.HeaderOps]:
        """The action, and the header operations of the rule's own level."""
        requests, responses = request_ops(rule.headers), response_ops(rule.headers)
        if rule.redirect is not None:
            return _redirect(rule.redirect, port), requests, responses
        if rule.direct_response is not None:
            return _direct_response(rule.direct_response), requests, responses
        if len(rule.route) == 1:
            own = rule.route[0].headers
            requests, responses = joined(requests, request_ops(own)), joined(responses, response_ops(own))
        return self._forward(rule), requests, responses

    def _forward(self, rule: api.HTTPRoute) -> model.Forward:
        several = len(rule.route) > 1
        authority = (rule.rewrite.authority if rule.rewrite is not None else "") or authority_of(rule.headers)
        if len(rule.route) == 1:
            authority = authority or authority_of(rule.route[0].headers)
        kept = [e for e in rule.route if e.destination is not None and (e.weight > 0 or not several)]
        clusters = tuple(self._weighted(entry, several) for entry in kept)
        rewrite = rule.rewrite or api.HTTPRewrite()
        regex = rewrite.uri_regex_rewrite
        retry, hash_keys = self.policies(clusters, [_named_port(entry) for entry in kept], rule.retries)
        return model.Forward(
            clusters,
            rule.timeout or None,
            retry,
            rewrite.uri or None,
            None if regex is None else model.RegexRewrite(regex.match, regex.rewrite),
            authority or None,
            tuple(self._mirrors(rule)),
            hash_keys,
            append_forwarded_host=self.tells_host,
            weight_keys=self.drawn_by(clusters, hash_keys),
        )

    def policies(
        self, clusters: Sequence[model.WeightedCluster], ports: Sequence[int], retries: api.HTTPRetry | None
    ) -> tuple[RetryPolicy | None, tuple[HashKey, ...]]:
        """Retry policy and consistent-hash keys of a route.

        Args:
            clusters: Where it sends.
            ports: The port that the rule names for each, or 0.
            retries: The rule's; None takes the mesh's.
        """
        keys = [self.hash_keys(to.cluster, port) for to, port in zip(clusters, ports, strict=True)]
        hashing = len(clusters) == 1 and bool(keys[0])
        given = retries if retries is not None else self.default_retries
        return retry_policy(given, consistent_hash=hashing), tuple(key for found in keys for key in found)

    def drawn_by(
        self, clusters: Sequence[model.WeightedCluster], hash_keys: tuple[HashKey, ...]
    ) -> tuple[HashKey, ...]:
        """What the weights are drawn by: as the first destination with a wish says; nothing draws at random."""
        if len(clusters) < 2:
            return ()
        wishes = (self.weight_keys(to.cluster) for to in clusters)
        wish = next((each for each in wishes if each is not None), None)
        return () if wish is None else wish or hash_keys

    def _weighted(self, entry: api.HTTPRouteDestination, several: bool) -> model.WeightedCluster:
        assert entry.destination is not None
        return model.WeightedCluster(
            self.cluster(entry.destination),
            entry.weight or 1,
            request_ops(entry.headers) if several else NO_HEADERS,
            response_ops(entry.headers) if several else NO_HEADERS,
            authority_of(entry.headers) if several else None,
        )

    def _mirrors(self, rule: api.HTTPRoute) -> list[model.Mirror]:
        wanted = [(policy.destination, policy.percentage) for policy in rule.mirrors]
        if rule.mirror is not None:
            percent = rule.mirror_percentage
            if percent is None and rule.mirror_percent is not None:
                percent = api.Percent(value=float(rule.mirror_percent))
            wanted.append((rule.mirror, percent))
        shares = [
            (destination, _MILLION if percent is None else parts_per_million(percent))
            for destination, percent in wanted
        ]
        return [model.Mirror(self.cluster(to), share) for to, share in shares if to is not None and share]


def _named_port(entry: api.HTTPRouteDestination) -> int:
    destination = entry.destination
    return destination.port.number if destination is not None and destination.port is not None else 0


def parts_per_million(percent: api.Percent | None) -> int:
    """A percentage as parts of a million, rounded down; absent is none."""
    return 0 if percent is None else min(_MILLION, int(percent.value * 10_000 + 1e-6))


def fault_of(given: api.HTTPFaultInjection | None) -> Fault | None:
    """Injected faults; without a percentage they never happen."""
    if given is None:
        return None
    delay = abort = None
    if given.delay is not None and given.delay.fixed_delay is not None:
        share = parts_per_million(given.delay.percentage or api.Percent(value=float(given.delay.percent)))
        delay = Delay(given.delay.fixed_delay, share)
    if given.abort is not None:
        status = given.abort.grpc_status
        code = GRPC_STATUS_NAMES.index(status) if status in GRPC_STATUS_NAMES else None
        abort = Abort(parts_per_million(given.abort.percentage), given.abort.http_status or None, code)
    return Fault(delay, abort)


def _redirect(given: api.HTTPRedirect, port: int) -> model.Redirect:
    """A redirect for requests on ``port``; ``FROM_PROTOCOL_DEFAULT`` names no port, which is what Envoy does."""
    chosen: int | None = given.port or None
    if chosen is None and given.derive_port is api.RedirectPortSelection.FROM_REQUEST_PORT:
        default = {"http": 80, "https": 443}.get(given.scheme or "http")
        chosen = None if port == default else port
    return model.Redirect(
        given.redirect_code or 301,
        given.uri or None,
        given.prefix_rewrite or None,
        authority=given.authority or None,
        port=chosen,
        scheme=given.scheme or None,
    )


def _direct_response(given: api.HTTPDirectResponse) -> model.DirectResponse:
    body = b""
    if given.body is not None:
        body = (given.body.string or "").encode()
        if given.body.bytes is not None:
            body = base64.b64decode(given.body.bytes)
    return model.DirectResponse(given.status, body)
