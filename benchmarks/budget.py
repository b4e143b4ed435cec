"""The other limits that the library promises: telemetry, scale, endpoint churn, import, memory.

    python benchmarks/budget.py

Prints what was measured beside what is promised, as JSON, and exits 1 when anything is above its limit.
"""

from __future__ import annotations

import gc
import json
import random
import subprocess
import sys
import time
import tracemalloc

import core

from meshlib.clock import SYSTEM_CLOCK
from meshlib.config.compile import Universe
from meshlib.config.resources import load_dict
from meshlib.dataplane import router
from meshlib.dataplane.drivers import blocking
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import Request
from meshlib.dataplane.state import State
from meshlib.model.endpoint import Endpoint, LocalityEndpoints
from meshlib.model.snapshot import Client, Snapshot

LIMITS = {
    "with_metrics_and_1_percent_of_spans_us": 30.0,
    "10000_hosts_of_10_routes_against_10": 1.5,
    "endpoint_update_of_1000_ms": 2.0,
    "import_ms": 150.0,
    "bytes_per_known_endpoint": 300.0,
    "bytes_per_used_endpoint": 1536.0,
}


def observed_us() -> float:
    """A call of the core under OpenTelemetry's SDK, one span in a hundred recorded."""
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

    from meshlib.telemetry.otel import OpenTelemetry

    trace.set_tracer_provider(TracerProvider(sampler=TraceIdRatioBased(0.01)))
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    observer, prepared, rng, exchange = OpenTelemetry(Client()), core.world(), random.Random(2), core.Exchange()

    def once() -> None:
        request = Request("GET", "http", "reviews:9080", 9080, "/reviews/0", core.HEADERS, host="reviews")
        call = router.begin(prepared, request, SYSTEM_CLOCK.now(), rng, observer)
        assert call is not None
        blocking.drive(call, exchange, SYSTEM_CLOCK)

    return best_us(once)


def best_us(once, calls: int = 5_000, rounds: int = 5) -> float:
    """Microseconds of a call, the best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(calls):
            once()
        best = min(best, (time.perf_counter() - started) / calls * 1e6)
    return best


def hosts(count: int) -> Prepared:
    """A registry of ``count`` hosts with ten rules each."""
    objects = []
    for number in range(count):
        name = f"svc{number}"
        rules = [
            {"match": [{"uri": {"prefix": f"/r{rule}"}}], "route": [{"destination": {"host": name}}]}
            for rule in range(10)
        ]
        objects += [
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}},
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "VirtualService",
                "metadata": {"name": name},
                "spec": {"hosts": [name], "http": rules},
            },
        ]
    universe = Universe([load_dict(given).resources[0] for given in objects])
    return Prepared(Snapshot(universe.view(Client())), State(), 0.0, random.Random(1))


def lookup_us(prepared: Prepared, count: int) -> float:
    """Finding host and rule, over ten hosts spread through the registry that the process calls."""
    names = [f"svc{number * count // 10}" for number in range(10)]
    requests = [Request("GET", "http", name, 80, "/r5/x", host=name) for name in names]
    rng = random.Random(1)

    def once() -> None:
        for request in requests:
            host = prepared.host(request.host, 80)
            assert host is not None
            assert host.find(request, rng) is not None

    return best_us(once, 500)


def endpoints(count: int, last: str = "10.9.9.9") -> tuple[LocalityEndpoints, ...]:
    """A set of endpoints whose last one changes."""
    some = [Endpoint(f"10.0.{number // 250}.{number % 250}", 80) for number in range(count - 1)]
    return (LocalityEndpoints((*some, Endpoint(last, 80))),)


def update_ms() -> float:
    """From a changed set of a thousand endpoints to the next pick."""
    cluster = core.world().cluster("outbound|9080||reviews.default.svc.cluster.local")
    assert cluster is not None
    request, rng, best = Request("GET", "http", "reviews", 80, "/"), random.Random(1), float("inf")
    for number in range(20):
        changed = endpoints(1000, f"10.9.9.{number}")
        started = time.perf_counter()
        cluster.update(changed, float(number), rng)
        assert cluster.pick(request, rng, 0.0, None, (), 0) is not None
        best = min(best, (time.perf_counter() - started) * 1e3)
    return best


def import_ms() -> float:
    """``import meshlib`` beyond what an empty interpreter takes, the best of five."""

    def run(program: str) -> float:
        best = float("inf")
        for _ in range(5):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True)
            best = min(best, time.perf_counter() - started)
        return best * 1e3

    return run("import meshlib") - run("pass")


def memory(count: int = 5_000) -> tuple[float, float]:
    """Bytes of an endpoint that is known, and what its live state adds once its cluster is used."""
    cluster = core.world().cluster("outbound|9080||reviews.default.svc.cluster.local")
    assert cluster is not None
    gc.collect()
    tracemalloc.start()
    known = endpoints(count)
    after_known = tracemalloc.get_traced_memory()[0]
    cluster.update(known, 0.0, random.Random(1))
    gc.collect()
    after_used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return after_known / count, after_used / count


def main() -> int:
    small, large = lookup_us(hosts(10), 10), lookup_us(hosts(10_000), 10_000)
    known, used = memory()
    measured = {
        "with_metrics_and_1_percent_of_spans_us": observed_us(),
        "10000_hosts_of_10_routes_against_10": large / small,
        "endpoint_update_of_1000_ms": update_ms(),
        "import_ms": import_ms(),
        "bytes_per_known_endpoint": known,
        "bytes_per_used_endpoint": used,
    }
    rows = {name: {"measured": round(measured[name], 2), "limit": limit} for name, limit in LIMITS.items()}
    print(json.dumps(rows, indent=2))
    return int(any(measured[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
