"""What the core costs per request: route, pick, policies, settle; nothing is sent.

    python benchmarks/core.py

Prints microseconds, and each as a ratio to an empty function call loop of the same run. The budget is 10 us for the
blocking and 12 us for the cooperative path; the process exits 1 when the best of the rounds is above it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

from meshlib.clock import SYSTEM_CLOCK
from meshlib.config.compile import Universe
from meshlib.config.resources import load_text
from meshlib.dataplane import router
from meshlib.dataplane.drivers import blocking, cooperative
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import Request
from meshlib.dataplane.state import State
from meshlib.model.snapshot import Client, Snapshot

BUDGET = {"blocking": 10.0, "cooperative": 12.0}
ROUNDS, CALLS = 7, 20_000
SERVICE = """apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {ports: [{name: http, port: 9080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews, labels: {kubernetes.io/service-name: reviews, version: v1}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}, {addresses: [10.0.0.3]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    connectionPool: {http: {http2MaxRequests: 1000}}
    outlierDetection: {consecutive5xxErrors: 5}
  subsets: [{name: v1, labels: {version: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /admin}}]
    route: [{destination: {host: reviews}}]
  - match: [{uri: {prefix: /reviews}}]
    retries: {attempts: 2, retryOn: 5xx}
    route:
    - {destination: {host: reviews, subset: v1}, weight: 90}
    - {destination: {host: reviews}, weight: 10}
"""
HEADERS = [
    (b"Host", b"reviews:9080"),
    (b"Accept", b"*/*"),
    (b"Accept-Encoding", b"gzip, deflate"),
    (b"Connection", b"keep-alive"),
    (b"User-Agent", b"python-httpx/0.28.1"),
]


class Exchange:
    """Answers 200 at once."""

    pool_timeout = None
    ok = Outcome.of_status(200)

    def send(self, call, attempt):
        call.head(attempt)
        return 200

    def classify(self, attempt, reply):
        return self.ok

    def accept(self, call, reply):
        call.close(SYSTEM_CLOCK.now())
        return reply


class AsyncExchange(Exchange):
    keeps_deadlines = True

    async def send(self, call, attempt):
        call.head(attempt)
        return 200


def world(services: int = 1) -> Prepared:
    text = "---\n".join(SERVICE.replace("reviews", f"reviews{n or ''}") for n in range(services))
    universe = Universe(load_text(text).resources)
    return Prepared(Snapshot(universe.view(Client())), State(), 0.0, random.Random(1))


def begin(prepared: Prepared, rng: random.Random):
    request = Request("GET", "http", "reviews:9080", 9080, "/reviews/0", HEADERS, host="reviews")
    call = router.begin(prepared, request, SYSTEM_CLOCK.now(), rng)
    assert call is not None
    return call


def run_blocking(prepared: Prepared) -> float:
    rng, exchange = random.Random(2), Exchange()
    started = time.perf_counter()
    for _ in range(CALLS):
        blocking.drive(begin(prepared, rng), exchange, SYSTEM_CLOCK)
    return (time.perf_counter() - started) / CALLS * 1e6


async def run_cooperative(prepared: Prepared) -> float:
    rng, exchange = random.Random(2), AsyncExchange()
    started = time.perf_counter()
    for _ in range(CALLS):
        await cooperative.drive(begin(prepared, rng), exchange, SYSTEM_CLOCK)
    return (time.perf_counter() - started) / CALLS * 1e6


def run_empty() -> float:
    def empty() -> None: ...

    started = time.perf_counter()
    for _ in range(CALLS):
        empty()
    return (time.perf_counter() - started) / CALLS * 1e6


def main() -> int:
    small, large = world(), world(300)
    rounds = [
        (run_empty(), run_blocking(small), asyncio.run(run_cooperative(small)), run_blocking(large))
        for _ in range(ROUNDS)
    ]
    empty, sync, asynchronous, many = (min(column) for column in zip(*rounds, strict=True))
    result = {
        "blocking_us": round(sync, 2),
        "cooperative_us": round(asynchronous, 2),
        "blocking_in_empty_calls": round(sync / empty),
        "cooperative_in_empty_calls": round(asynchronous / empty),
        "300_services_against_1": round(many / sync, 3),
    }
    print(json.dumps(result, indent=2))
    over = sync > BUDGET["blocking"] or asynchronous > BUDGET["cooperative"]
    print("over budget" if over else f"within the budget of {BUDGET}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
