"""The parts of a mesh used alone, as plain calls: no configuration, no sockets, no clock but the one you give.

    python examples/parts.py

Whoever has an own client, queue or protocol can take one of them and leave the rest: nothing but the standard library
is imported.
"""

from __future__ import annotations

import random
import sys

from meshlib.dataplane.balancing.consistent import maglev_table
from meshlib.dataplane.balancing.least_request import LeastRequest
from meshlib.dataplane.balancing.xxhash import xxh64
from meshlib.dataplane.bound_route import BoundRoute
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.policies.breaker import Breaker
from meshlib.dataplane.policies.outlier import Detector
from meshlib.dataplane.policies.token_buckets import TokenBuckets
from meshlib.dataplane.prepared import PreparedHost
from meshlib.dataplane.request import request_of
from meshlib.dataplane.state import ClusterState
from meshlib.model.client_policy import ErrorBreaker
from meshlib.model.endpoint import Endpoint
from meshlib.model.policy import OutlierDetection
from meshlib.model.route import Forward, MatchKind, Route, RouteMatch, StringMatch, VirtualHost, WeightedCluster

RNG = random.Random(1)


def route() -> None:
    """A router: which rule does a request take?"""
    rules = (
        Route("admin", RouteMatch(path=StringMatch(MatchKind.PREFIX, "/admin")), Forward((WeightedCluster("admin"),))),
        Route("all", RouteMatch(), Forward((WeightedCluster("v1", 90), WeightedCluster("v2", 10)))),
    )
    host = PreparedHost(VirtualHost("shop", 80, rules), (BoundRoute(rule, ()) for rule in rules))
    found = host.find(request_of("GET", "http://shop/admin/users", {}), RNG)
    assert found is not None
    print(f"router: /admin/users takes rule {found.route.name!r}")


def pick() -> None:
    """A balancer: who is the least busy; and which worker owns a key?"""
    workers = ClusterState("workers")
    one, two, three = workers.adopt([Endpoint(f"10.0.0.{number}", 80) for number in (1, 2, 3)], now=0.0)
    one.active, two.active = 5, 1
    print(f"balancer: {LeastRequest([one, two, three]).pick(RNG, 0.0, None, 0).key} is idle")
    table = maglev_table([(worker.key, 1.0) for worker in (one, two, three)], 65537)
    print(f"hash: user-1 belongs to worker {table[xxh64(b'user-1') % len(table)] + 1}")


def eject() -> None:
    """A detector: three errors in a row, and a worker is out for its time."""
    workers = ClusterState("workers")
    bad, well = workers.adopt([Endpoint("10.0.0.1", 80), Endpoint("10.0.0.2", 80)], now=0.0)
    settings = OutlierDetection(consecutive_5xx=3, max_ejection_percent=50, base_ejection_time=30.0)
    detector = Detector(settings, workers, RNG)
    detector.watch([bad, well])
    for moment in (1.0, 2.0, 3.0):
        detector.report(bad, Outcome.of_status(503), moment)
    print(f"detector: {bad.key} is out until {detector.back_at(bad):g} s")


def allow() -> None:
    """A breaker and a token bucket: may this call be made?"""
    breaker, settings = Breaker(), ErrorBreaker(consecutive_errors=2, open_for=10.0)
    for moment in (1.0, 2.0):
        breaker.record(settings, 0, failed=True, now=moment)
    print(f"breaker: {breaker.phase.value} after {breaker.why}, tried again from {breaker.until:g} s")
    buckets = TokenBuckets(max_tokens=2, tokens_per_fill=1, fill_interval=1.0)
    print(f"bucket: {[buckets.take('user-1', 0.0).granted for _ in range(3)]}")


if __name__ == "__main__":
    route()
    pick()
    eject()
    allow()
    heavy = {"httpx", "httpcore", "h2", "grpc", "google.protobuf", "pydantic", "yaml", "anyio", "opentelemetry"}
    print(f"imported besides the standard library: {sorted(heavy & sys.modules.keys()) or 'nothing'}")
