"""One rule of a virtual host, ready to match and to act."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from copy import copy
from itertools import accumulate

from meshlib.dataplane import headers as header_ops
from meshlib.dataplane import timeout_headers
from meshlib.dataplane.balancing.xxhash import xxh64
from meshlib.dataplane.destination import Destination
from meshlib.dataplane.matchers import Clause, bind
from meshlib.dataplane.policies.asked import NAMES as ASKING_HEADERS
from meshlib.dataplane.policies.asked import Asked, asked, grpc_timeout, may_ask
from meshlib.dataplane.policies.cors import BoundCors
from meshlib.dataplane.policies.fault import HEADERS as FAULT_HEADERS
from meshlib.dataplane.policies.fault import bind_faults, left_to_headers
from meshlib.dataplane.policies.retry import BoundRetry
from meshlib.dataplane.reply import PathRewrite, bind_rewrite, bind_substitution
from meshlib.dataplane.request import Request
from meshlib.model.policy import RetryPolicy
from meshlib.model.route import DirectResponse, Forward, Redirect, Route

__all__ = ["BoundRoute"]

_NOTHING: frozenset[bytes] = frozenset()


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
        if not may_ask(request.raw_headers):
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
