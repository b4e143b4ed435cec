"""How the configuration plane grows: ten thousand services against a hundred.

    python benchmarks/scale.py [--services 10000] [--json]

Writes a mesh as YAML (services, slices of twenty endpoints, half as many VirtualServices of four rules and
DestinationRules of two subsets), then measures what a process does with it: reading, validating and indexing, the first
request to one host, a change of one VirtualService and of one service's endpoints among all others, the analysis of the
whole, memory. Each figure stands beside the same figure of a mesh of a hundred services; a ratio near 1 does not grow
with the mesh, one near services/100 grows with it and no faster. Exits 1 when a bound of ``LIMITS`` is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from meshlib.config.analyze import analyze
from meshlib.config.feed import Feed, Options
from meshlib.config.resources import load_text
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import Request
from meshlib.dataplane.state import State
from meshlib.model.snapshot import Client
from meshlib.providers.base import Facts
from meshlib.providers.file import FileProvider

SMALL = 100
ENDPOINTS = 20

LIMITS = {
    # name: (the most that ten thousand may take, the most that the ratio may be; None is not promised)
    "load_s": (30.0, 150.0),
    "publish_s": (3.0, 150.0),
    "first_request_ms": (5.0, 3.0),
    "first_unknown_host_ms": (5.0, 5.0),
    "edit_virtual_service_ms": (300.0, None),
    "edit_endpoints_ms": (300.0, None),
    "analyze_s": (30.0, 150.0),
}


def service(number: int) -> str:
    return f"""apiVersion: v1
kind: Service
metadata: {{name: svc{number}, namespace: ns{number % 50}, labels: {{app: svc{number}}}}}
spec:
  clusterIP: 10.{number >> 16}.{number >> 8 & 255}.{number & 255}
  selector: {{app: svc{number}}}
  ports:
  - {{name: http, port: 80, targetPort: 8080}}
"""


def endpoint_slice(number: int, last: int = ENDPOINTS - 1) -> str:
    rows = "".join(
        f"""- addresses:
  - 10.{100 + number // 2500}.{number % 2500 // 10}.{number % 10 * 20 + (last if each == ENDPOINTS - 1 else each)}
  conditions:
    ready: true
  nodeName: node{each}
  zone: zone{each % 3}
"""
        for each in range(ENDPOINTS)
    )
    return f"""apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: svc{number}-abc
  namespace: ns{number % 50}
  labels: {{kubernetes.io/service-name: svc{number}, version: v1}}
addressType: IPv4
ports:
- {{name: http, port: 8080, protocol: TCP}}
endpoints:
{rows}"""


def virtual_service(number: int, timeout: str = "1.5s") -> str:
    rules = "".join(
        f"""  - name: r{rule}
    match:
    - uri: {{prefix: /r{rule}}}
      headers:
        end-user: {{exact: jason}}
    route:
    - destination: {{host: svc{number}, subset: v1}}
      weight: 80
    - destination: {{host: svc{number}, subset: v2}}
      weight: 20
    timeout: {timeout}
    retries: {{attempts: 2, perTryTimeout: 500ms}}
"""
        for rule in range(4)
    )
    return f"""apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: svc{number}, namespace: ns{number % 50}}}
spec:
  hosts: [svc{number}]
  http:
{rules}  - route:
    - destination: {{host: svc{number}, subset: v1}}
"""


def destination_rule(number: int) -> str:
    return f"""apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc{number}, namespace: ns{number % 50}}}
spec:
  host: svc{number}
  trafficPolicy:
    connectionPool:
      http: {{http1MaxPendingRequests: 100}}
    outlierDetection: {{consecutive5xxErrors: 5, interval: 10s}}
  subsets:
  - name: v1
    labels: {{version: v1}}
  - name: v2
    labels: {{version: v2}}
"""


WILDCARD = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: wildcard, namespace: ns1}
spec:
  hosts: ["*.example.com"]
  http:
  - route: [{destination: {host: svc1}}]
"""


def write(folder: Path, services: int) -> None:
    """Four files: the forms in which such objects come out of a cluster."""
    half = range(services // 2)
    for name, parts in (
        ("services", [service(number) for number in range(services)]),
        ("slices", [endpoint_slice(number) for number in range(services)]),
        ("virtual-services", [WILDCARD, *(virtual_service(number) for number in half)]),
        ("destination-rules", [destination_rule(number) for number in half]),
    ):
        (folder / f"{name}.yaml").write_text("---\n".join(parts))


def seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """The CPU time that an action took, which busy neighbours leave alone, and what it gave."""
    gc.collect()
    started = time.process_time()
    result = action()
    return time.process_time() - started, result


class World:
    """A provider of a folder, and the feed that it publishes to, without their background thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.provider = FileProvider(folder)
        self.feed = Feed(1, Options(Client("ns1")))
        self.prepared: Prepared | None = None

    def read(self) -> Facts:
        """What the files hold now; what did not change is not read again."""
        return self.provider.look()

    def publish(self, facts: Facts) -> None:
        """As the mesh does it: a change of endpoints alone rebuilds pickers."""
        self.feed.take(0, facts)
        snapshot = self.feed.publish()
        if snapshot is None:
            return
        if self.prepared is not None and snapshot.routing is self.prepared.snapshot.routing:
            self.prepared.with_endpoints(snapshot, 0.0)
        else:
            self.prepared = Prepared(snapshot, State(), 0.0, random.Random(1))

    def request(self, number: int) -> int:
        """Find host, rule and endpoints for one request; the number of endpoints."""
        assert self.prepared is not None
        name = f"svc{number}.ns{number % 50}"
        host = self.prepared.host(name, 80)
        assert host is not None, name
        request = Request("GET", "http", name, 80, "/r1/x", [(b"end-user", b"jason")])
        route = host.find(request, random.Random(1))
        assert route is not None
        assert route.destinations[0].cluster is not None
        return len(route.destinations[0].cluster.members)

    def look_up(self, host: str) -> bool:
        """Whether a host is known."""
        assert self.prepared is not None
        return self.prepared.host(host, 80) is not None

    def edit(self, name: str, old: str, news: list[str]) -> float:
        """Milliseconds from a changed file to a request to the changed host, the best of some changes."""
        path = self.folder / name
        text = path.read_text()
        assert old in text

        def act() -> None:
            self.publish(self.read())
            self.request(1)

        best = float("inf")
        for new in news:
            path.write_text(text.replace(old, new))
            best = min(best, seconds(act)[0] * 1e3)
        return best


def measure(services: int) -> dict[str, float]:
    """Every figure for a mesh of that many services."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, services)
        figures: dict[str, float] = {"megabytes": sum(p.stat().st_size for p in folder.iterdir()) / 1e6}
        world = World(folder)
        figures["load_s"], facts = seconds(world.read)
        assert not facts.problems
        figures["publish_s"], _ = seconds(lambda: world.publish(facts))
        assert not world.feed.problems
        firsts = [seconds(lambda number=number: world.request(number))[0] for number in range(1, 40, 2)]
        figures["first_request_ms"] = median(firsts) * 1e3
        figures["first_wildcard_host_ms"] = seconds(lambda: world.look_up("x.example.com"))[0] * 1e3
        figures["first_unknown_host_ms"] = seconds(lambda: world.look_up("nowhere.invalid"))[0] * 1e3
        figures["edit_virtual_service_ms"] = world.edit(
            "virtual-services.yaml", virtual_service(1), [virtual_service(1, f"{wait}s") for wait in (2, 3, 4)]
        )
        figures["edit_endpoints_ms"] = world.edit(
            "slices.yaml", endpoint_slice(1), [endpoint_slice(1, last) for last in (150, 151, 152)]
        )
        assert not world.feed.problems
        figures["analyze_s"], found = seconds(lambda: analyze(facts.resources))
        figures["findings"] = len(found)
    return figures


def memory(services: int) -> dict[str, float]:
    """Bytes of an object and of an endpoint, as loaded and as indexed."""

    def held(texts: list[str]) -> float:
        gc.collect()
        tracemalloc.start()
        kept = [load_text(text) for text in texts]
        gc.collect()
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return size / len(kept)

    some = range(min(services, 500))
    return {
        "bytes_per_service": held([service(number) for number in some]),
        "bytes_per_virtual_service": held([virtual_service(number) for number in some]),
        "bytes_per_destination_rule": held([destination_rule(number) for number in some]),
        "bytes_per_endpoint": held([endpoint_slice(number) for number in some]) / ENDPOINTS,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    small, large = measure(SMALL), measure(options.services)
    rows = {
        name: {
            f"of_{SMALL}": round(small[name], 4),
            f"of_{options.services}": round(value, 4),
            "ratio": round(value / small[name], 2) if small[name] else None,
        }
        for name, value in large.items()
    }
    held = {name: round(value) for name, value in memory(options.services).items()}
    missed = [
        name
        for name, (most, ratio) in LIMITS.items()
        if large[name] > most or (ratio is not None and large[name] / small[name] > ratio)
    ]
    if options.json:
        print(json.dumps({"figures": rows, "memory": held, "missed": missed}, indent=2))
    else:
        for name, row in rows.items():
            print(f"{name:26}" + "".join(f"{value!s:>14}" for value in row.values()))
        for name, value in held.items():
            print(f"{name:26}{value:>28}")
        print(f"missed: {', '.join(missed) or 'nothing'}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
