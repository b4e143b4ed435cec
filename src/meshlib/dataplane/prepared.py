"""A snapshot made ready for requests: matchers bound, policies bound, pickers built, all off the request path.

``Prepared`` is what a mesh swaps by one assignment. Hosts are prepared at first use, clusters when a route first names
them; both are remembered. A change of endpoints alone rebuilds the pickers that it concerns and nothing else.
"""

from __future__ import annotations

import math
import random
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from meshlib.dataplane import headers as header_ops
from meshlib.dataplane import timeout_headers
from meshlib.dataplane.balancing.xxhash import xxh64
from meshlib.dataplane.cluster import PreparedCluster
from meshlib.dataplane.matchers import Clause, Test, bind
from meshlib.dataplane.path_index import PathIndex
from meshlib.dataplane.policies.asked import NAMES as ASKING_HEADERS
from meshlib.dataplane.policies.asked import Asked, asked, grpc_timeout, speaks_envoy
from meshlib.dataplane.policies.cors import BoundCors
from meshlib.dataplane.policies.fault import HEADERS as FAULT_HEADERS
from meshlib.dataplane.policies.fault import bind_faults, left_to_headers
from meshlib.dataplane.policies.rate_limit import RateLimiter
from meshlib.dataplane.policies.retry import BoundRetry
from meshlib.dataplane.policies.token_buckets import TokenBuckets
from meshlib.dataplane.reply import PathRewrite, bind_rewrite, bind_substitution
from meshlib.dataplane.request import Request
from meshlib.model.client_policy import RateLimit
from meshlib.model.cluster import Cluster
from meshlib.model.policy import RetryPolicy
from meshlib.model.route import DirectResponse, Forward, Redirect, Route, VirtualHost, WeightedCluster
from meshlib.model.tcp import TcpHost

if TYPE_CHECKING:
    from meshlib.dataplane.state import State
    from meshlib.model.snapshot import Snapshot

__all__ = ["BoundRoute", "Destination", "Prepared", "PreparedHost"]


_NOTHING: frozenset[bytes] = frozenset()


class Destination:
    """A weighted cluster of a route, with its header operations and rewrites merged into the rule's.

    Attributes:
        name: Cluster name, also when the cluster does not exist.
        cluster: None when host, port or subset do not exist.
        weight: Share relative to the sum.
        subset: Labels and values that choose among the cluster's endpoints, usually none.
        changes: Whether headers, authority or path are changed at all.
        inner_levels: How many of the levels of operations on requests are the destination's own.
    """

    __slots__ = (
        "changes",
        "cluster",
        "host_rewrite",
        "inner_levels",
        "name",
        "path_rewrite",
        "request_ops",
        "response_ops",
        "subset",
        "tells_host",
        "weight",
    )

    def __init__(self, weighted: WeightedCluster, route: Route, action: Forward, cluster: PreparedCluster | None):
        self.name = weighted.cluster
        self.cluster = cluster
        self.weight = weighted.weight
        self.subset = weighted.metadata_match
        outer, coming_back = route.outer_request_headers, route.outer_response_headers
        names = header_ops.Names(route.name, weighted.cluster if cluster is not None else "")
        sent, received = (weighted.request_headers, route.request_headers, *outer), weighted.response_headers
        self.request_ops = header_ops.bind_ops(*sent, names=names)
        self.inner_levels = 1 if weighted.request_headers else 0
        self.response_ops = header_ops.bind_ops(received, route.response_headers, *coming_back, names=names)
        self.host_rewrite = weighted.host_rewrite
        self.tells_host = action.append_forwarded_host
        own = weighted.path_rewrite is not None or weighted.regex_rewrite is not None
        path, regex = (
            (weighted.path_rewrite, weighted.regex_rewrite) if own else (action.path_rewrite, action.regex_rewrite)
        )
        self.path_rewrite = bind_rewrite(path, regex, route.match.path)
        authority = (self.host_rewrite, action.host_rewrite, action.host_from_header, action.host_from_path)
        self.changes = bool(self.request_ops or self.path_rewrite is not None or any(n is not None for n in authority))


class BoundRoute:
    """One rule, ready to match and to act.

    Attributes:
        route: The rule itself.
        clauses: Its conditions, in the order they are tried.
        destinations: Where it sends, empty for a redirect or direct response.
        cors: Cross-origin rules, or None.
        timeout: Seconds for the whole call, or None.
        whose: Whose timeout that is, in words.
        unsent: Names of request headers, in lower case, that are acted upon here and not sent on.
        attempt_limit: Seconds that one attempt may take, or None.
        retry: Bound retry policy, or None.
        hedges: A per-try timeout starts a retry beside the attempt.
        faults: The chain of fault filters, usually empty.
        path_rewrite: What a forward or redirect makes of the path, or None.
        host_from_path: What makes the authority of the path, or None.
        hash_keys: Where a consistent-hash key comes from, usually nowhere.
        weight_keys: Where the key comes from that destinations are drawn by, usually nowhere.
        keys: Whether there is any of the two.
        mirrors: Parts per million, and the rule that a copy follows: the same changes, one cluster, no retry.
        response_ops: Operations on responses made here.
        answers: Whether some requests, or all, are answered here instead of sent.
    """

    __slots__ = (
        "_cumulative",
        "answers",
        "attempt_limit",
        "clauses",
        "cors",
        "destinations",
        "faults",
        "hash_keys",
        "hedges",
        "host_from_path",
        "keys",
        "mirrors",
        "path_rewrite",
        "response_ops",
        "retry",
        "route",
        "timeout",
        "unsent",
        "weight_keys",
        "whose",
    )

    def __init__(
        self,
        route: Route,
        destinations: tuple[Destination, ...],
        mirrors: tuple[tuple[int, BoundRoute], ...] = (),
    ) -> None:
        self.route = route
        self.clauses: tuple[Clause, ...] = bind(route.match)
        self.destinations = destinations
        self.mirrors = mirrors
        self._cumulative = list(accumulate(destination.weight for destination in destinations))
        names = header_ops.Names(route.name)
        self.response_ops = header_ops.bind_ops(route.response_headers, *route.outer_response_headers, names=names)
        forwards = isinstance(route.action, Forward)
        self.cors = BoundCors(route.cors) if route.cors is not None and forwards else None
        self.answers = self.cors is not None or isinstance(route.action, Redirect | DirectResponse)
        action = route.action
        forward = action if isinstance(action, Forward) else None
        self.faults = bind_faults(route.fault)
        self.path_rewrite = _bind_path(route)
        self.host_from_path = (
            bind_substitution(forward.host_from_path) if forward is not None and forward.host_from_path else None
        )
        self.timeout = forward.timeout if forward is not None else None
        self.whose = "the route's timeout"
        self.unsent = FAULT_HEADERS if left_to_headers(self.faults) else _NOTHING
        self.hash_keys = forward.hash_keys if forward is not None else ()
        self.weight_keys = forward.weight_keys if forward is not None and len(destinations) > 1 else ()
        self.keys = bool(self.hash_keys or self.weight_keys)
        self.retry = _bind_retry(forward.retry) if forward is not None else None
        self.attempt_limit = self._limit()
        self.hedges = self._hedges()

    def _hedges(self) -> bool:
        policy = self.retry.policy if self.retry is not None else None
        return policy is not None and policy.hedge_on_per_try_timeout and policy.per_try_timeout is not None

    def _limit(self) -> float | None:
        """Seconds that one attempt may take: the per-try timeout where it is the shorter, else the whole call's.

        A hedged attempt has the whole time (Envoy).
        """
        per_try = self.retry.policy.per_try_timeout if self.retry is not None and not self._hedges() else None
        if per_try is not None and (self.timeout is None or per_try < self.timeout):
            return per_try
        return self.timeout

    def asked_by(self, request: Request) -> BoundRoute:
        """This rule with the retries and timeouts that the request itself asks for, which almost none does."""
        if not (request.is_grpc or speaks_envoy(request.raw_headers)):
            return self
        policy = self.retry.policy if self.retry is not None else None
        timeout, whose = self.timeout, self.whose
        if request.is_grpc and (given := grpc_timeout(request)) is not None and (timeout is None or given < timeout):
            timeout, whose = given, "the request's grpc-timeout"
        changed = asked(policy, timeout, whose, request) or Asked(policy, timeout, whose)
        bound = copy(self)
        bound.timeout, bound.whose = changed.timeout, changed.whose
        bound.retry = self.retry if changed.retry is policy else _bind_retry(changed.retry)
        bound.unsent = self.unsent | ASKING_HEADERS
        bound.attempt_limit = bound._limit()
        bound.hedges = bound._hedges()
        bound.mirrors = tuple((share, mirror._as_asked(bound)) for share, mirror in self.mirrors)
        return bound

    def _as_asked(self, bound: BoundRoute) -> BoundRoute:
        """The rule of a copy, which has the timeout of the request that it copies and is sent what that is."""
        copied = copy(self)
        copied.timeout = copied.attempt_limit = bound.timeout
        copied.whose, copied.unsent = bound.whose, bound.unsent
        return copied

    def expected(self) -> header_ops.Pairs:
        """The header by which a server learns how long a first attempt may take; nothing when that is unbounded."""
        return [] if self.attempt_limit is None else [timeout_headers.expected(self.attempt_limit)]

    def matches(self, request: Request, rng: random.Random) -> bool:
        """Whether every condition holds."""
        return all(clause.test(request, rng) for clause in self.clauses)

    def draw(self, rng: random.Random) -> Destination | None:
        """One destination by weight; once per call, not per attempt."""
        if len(self.destinations) < 2:
            return self.destinations[0] if self.destinations else None
        return self.destinations[bisect_right(self._cumulative, rng.random() * self._cumulative[-1])]

    def owner(self, key: int) -> Destination:
        """The destination that a key stays with.

        Weighted rendezvous: each destination has a score made of the key and its name, and the least score over the
        weight wins. A key moves only when the share of its own destination falls or that of another grows.
        """
        return min(self.destinations, key=lambda each: _score(key, each.name) / each.weight)

    def _host(self, action: Forward, headers: header_ops.Pairs, request: Request) -> str | None:
        """The authority that the route asks for; None leaves it to the destination, else to the caller."""
        if action.host_rewrite is not None:
            return action.host_rewrite
        if action.host_from_header is not None:
            return header_ops.Seen(request, headers).get(action.host_from_header) or None
        if self.host_from_path is not None:
            return self.host_from_path(request.path.partition("?")[0])
        return None

    def rewrite(self, request: Request, destination: Destination, rng: random.Random) -> tuple[str, header_ops.Pairs]:
        """Target and headers to send: operations, authority, path, request id."""
        changes = destination.changes or self.unsent
        target, headers = self._changed(request, destination) if changes else (request.path, list(request.raw_headers))
        if not ((changes or request.extended) and _has_request_id(headers)):
            headers.append((b"x-request-id", _request_id(rng)))
        if request.extended:  # attempts are counted anew, whatever a request that is passed on says of its own
            headers = [pair for pair in headers if pair[0].lower() != b"x-envoy-attempt-count"]
        return target, headers

    def _changed(self, request: Request, destination: Destination) -> tuple[str, header_ops.Pairs]:
        action = self.route.action
        assert isinstance(action, Forward)
        headers: header_ops.Pairs = list(request.raw_headers)
        if self.unsent:
            headers = [pair for pair in headers if pair[0].lower() not in self.unsent]
        operations = destination.request_ops
        if destination.host_rewrite is not None:  # the rule's own operations see the destination's authority
            inner = destination.inner_levels
            headers = header_ops.apply(operations[:inner], headers, request)
            headers, operations = _with_host(headers, destination.host_rewrite), operations[inner:]
        if operations:
            headers = header_ops.apply(operations, headers, request)
        host = self._host(action, headers, request)
        if host is not None:
            before = destination.host_rewrite or request.authority
            headers = _telling(b"x-envoy-original-host", before, _with_host(headers, host))
        if destination.tells_host and (host or destination.host_rewrite) is not None:
            headers.append((b"x-forwarded-host", request.authority.encode("latin-1", "replace")))
        target = request.path
        if destination.path_rewrite is not None:
            path, mark, query = target.partition("?")
            target = destination.path_rewrite(path) + mark + query
            headers = _telling(b"x-envoy-original-path", request.path, headers)
        return target, headers


def _bind_retry(policy: RetryPolicy | None) -> BoundRetry | None:
    return BoundRetry(policy) if policy is not None else None


def _score(key: int, name: str) -> float:
    """Exponentially distributed over the keys."""
    return -math.log((xxh64(b"%016x/%s" % (key, name.encode())) + 1) / 2**64)


def _bind_path(route: Route) -> PathRewrite | None:
    action = route.action
    if isinstance(action, Forward):
        return bind_rewrite(action.path_rewrite, action.regex_rewrite, route.match.path)
    if isinstance(action, Redirect):
        return bind_rewrite(action.prefix_rewrite, action.regex_rewrite, route.match.path)
    return None


def _insisting(route: Route, attempts: int) -> Route:
    """The way, tried again where no connection could be made: at once, and elsewhere if there is an elsewhere."""
    if attempts < 2 or not isinstance(route.action, Forward):
        return route
    retry = RetryPolicy(attempts - 1, frozenset({"connect-failure"}), base=0.0, cap=0.0)
    return replace(route, action=replace(route.action, retry=retry))


def _with_host(headers: header_ops.Pairs, host: str) -> header_ops.Pairs:
    rest = [pair for pair in headers if pair[0].lower() != b"host"]
    return [(b"Host", host.encode("latin-1")), *rest]


def _telling(name: bytes, value: str, headers: header_ops.Pairs) -> header_ops.Pairs:
    """``headers`` with what is told under that name here, whatever was told before."""
    rest = [pair for pair in headers if pair[0].lower() != name]
    return [*rest, (name, value.encode("latin-1", "replace"))]


def _has_request_id(headers: header_ops.Pairs) -> bool:
    for name, _ in headers:
        if len(name) == 12 and name.lower() == b"x-request-id":
            return True
    return False


_UUID_CLEARED = ~(0xF << 76 | 0x3 << 62)
_UUID_SET = 0x4 << 76 | 0x2 << 62


def _request_id(rng: random.Random) -> bytes:
    """A random UUID (version 4), as a sidecar makes it when the caller sent none."""
    bits = rng.getrandbits(128) & _UUID_CLEARED | _UUID_SET
    pairs = bits.to_bytes(16, "big").hex("-", 2)  # a dash after every second byte: too many
    return (pairs[:4] + pairs[5:29] + pairs[30:34] + pairs[35:]).encode()


class PreparedHost:
    """One virtual host on one port: its bound rules, tried in order."""

    INDEXED = 8
    """From so many rules on, those that a path cannot meet are not asked; below, asking all of them is cheaper."""

    __slots__ = ("_index", "_tests", "host", "routes")

    def __init__(self, host: VirtualHost, routes: Iterable[BoundRoute]) -> None:
        self.host = host
        self.routes = tuple(routes)
        self._tests = [(route, tuple(clause.test for clause in route.clauses)) for route in self.routes]
        paths = (route.route.match.path for route in self.routes)
        self._index = PathIndex(paths) if len(self.routes) >= self.INDEXED else None

    def find(self, request: Request, rng: random.Random) -> BoundRoute | None:
        """The first rule whose conditions all hold."""
        rules: Iterable[tuple[BoundRoute, tuple[Test, ...]]] = self._tests
        if self._index is not None:
            rules = map(self._tests.__getitem__, self._index.candidates(request.path))
        for route, tests in rules:
            for test in tests:
                if not test(request, rng):
                    break
            else:
                return route
        return None


class Prepared:
    """All that requests read: the snapshot's hosts and clusters, prepared at first use.

    Attributes:
        snapshot: What it was made from.
        state: Live counters, shared with every other ``Prepared`` of the mesh.
    """

    HOSTS = 8192
    """Host names remembered before the memory starts over."""

    def __init__(self, snapshot: Snapshot, state: State, now: float, rng: random.Random) -> None:
        self.snapshot = snapshot
        self.state = state
        self._made_at = now
        self._rng = rng
        self._lock = threading.Lock()
        self._hosts: dict[tuple[str, int], PreparedHost | None] = {}
        self._tcp_hosts: dict[tuple[str, int], TcpHost | None] = {}
        self._ways: dict[tuple[int, int], tuple[Route, BoundRoute]] = {}
        self._clusters: dict[str, PreparedCluster | None] = {}

    def host(self, name: str, port: int) -> PreparedHost | None:
        """The host a caller addressed as ``name`` on ``port``; None when the mesh does not know it."""
        try:
            return self._hosts[name, port]
        except KeyError:
            with self._lock:
                return self._prepare_host(name, port)

    def host_of(self, request: Request) -> PreparedHost | None:
        """The host that a request means: by its Host header, unless the dialled name decides.

        Source: Istio routes ports whose protocol is detected, and those of other protocols, by destination address;
        Gateway API's routes are for who dials their parent. A Host header leads to such a host only from outside. Of
        two names of one service the dialled one counts: a pod of a headless service is reached by dialling it.
        """
        named = self.host(request.host, request.port)
        if request.dialled == request.host:
            return named
        dialled = self.host(request.dialled, request.port)
        if dialled is None:
            return named
        known = dialled.host.service
        same = named is not None and known is not None and named.host.service == known
        by_address = dialled.host.by_address or (named is not None and named.host.by_address)
        return dialled if same or by_address else named

    def tcp_host(self, name: str, port: int) -> TcpHost | None:
        """What is known of connections to ``name`` on ``port``; None when the mesh does not know it."""
        with self._lock:
            if (name, port) not in self._tcp_hosts:
                if len(self._tcp_hosts) >= self.HOSTS:
                    self._tcp_hosts.clear()
                self._tcp_hosts[name, port] = self.snapshot.tcp_host(name, port)
            return self._tcp_hosts[name, port]

    def bound(self, route: Route, attempts: int = 1) -> BoundRoute:
        """A way of connections, ready to be taken.

        Args:
            route: The way.
            attempts: How often connecting may be tried (Envoy ``max_connect_attempts``), at least 1.
        """
        key = id(route), attempts
        with self._lock:
            known = self._ways.get(key)
            if known is None or known[0] is not route:
                known = self._ways[key] = route, self._bind(_insisting(route, attempts))
            return known[1]

    def cluster(self, name: str) -> PreparedCluster | None:
        """The prepared cluster, for ``explain`` and status pages; None when it does not exist."""
        with self._lock:
            return self._prepare_cluster(name)

    def with_endpoints(self, snapshot: Snapshot, now: float) -> Prepared:
        """The short way: same routes and clusters, new endpoints; only pickers whose set changed are rebuilt.

        With the endpoints may change whom a cluster trusts: the identities of its servers are those of its endpoints.
        """
        with self._lock:
            self.snapshot = snapshot
            for name, cluster in self._clusters.items():
                if cluster is not None:
                    cluster.trust(snapshot.cluster(name))
                    cluster.update(snapshot.assignment(name), now, self._rng)
        return self

    def after_fork(self) -> None:
        """In a forked child: nobody holds the lock; clusters are prepared anew around their reset state."""
        self._lock = threading.Lock()
        for cluster in self._clusters.values():
            if cluster is not None:
                cluster.inherited = True
        self._hosts, self._clusters, self._ways = {}, {}, {}

    def _prepare_host(self, name: str, port: int) -> PreparedHost | None:
        if len(self._hosts) >= self.HOSTS:
            self._hosts.clear()
        host = self.snapshot.virtual_host(name, port)
        prepared = None if host is None else PreparedHost(host, (self._bind(route) for route in host.routes))
        self._hosts[name, port] = prepared
        return prepared

    def _bind(self, route: Route) -> BoundRoute:
        action = route.action
        if not isinstance(action, Forward):
            return BoundRoute(route, ())
        destinations = (
            Destination(weighted, route, action, self._prepare_cluster(weighted.cluster))
            for weighted in action.clusters
        )
        return BoundRoute(route, tuple(destinations), tuple(self._bind_mirrors(route, action)))

    def _bind_mirrors(self, route: Route, action: Forward) -> Iterator[tuple[int, BoundRoute]]:
        """The rules of copies; one to a cluster that does not exist is silently none (Istio)."""
        for mirror in action.mirrors:
            cluster = self._prepare_cluster(mirror.cluster)
            if cluster is not None:
                weighted = WeightedCluster(mirror.cluster)
                copied = replace(action, clusters=(weighted,), retry=None, mirrors=())
                changed = replace(route, action=copied, fault=None)
                yield (
                    mirror.parts_per_million,
                    BoundRoute(changed, (Destination(weighted, changed, copied, cluster),)),
                )

    def _prepare_cluster(self, name: str) -> PreparedCluster | None:
        if name not in self._clusters:
            cluster = self.snapshot.cluster(name)
            self._clusters[name] = None if cluster is None else self._ready(cluster)
        return self._clusters[name]

    def _ready(self, cluster: Cluster) -> PreparedCluster:
        assignment = self.snapshot.assignment(cluster.name)
        ready = PreparedCluster(cluster, self.state.cluster(cluster.name), assignment, self._made_at, self._rng)
        limit = cluster.client_policy.rate_limit
        if limit is not None:
            ready.limiter = RateLimiter(limit, cluster.service, self._buckets(limit))
        return ready

    def _buckets(self, limit: RateLimit) -> TokenBuckets | None:
        """The counts of a policy in this process, which outlive its clusters; None where it keeps none."""
        if not limit.max_tokens:
            return None
        return self.state.buckets(limit.name, limit.max_tokens, limit.tokens_per_fill, limit.fill_interval)
