"""From a change at an API server to the next pick, for a mesh of a whole cluster.

    python benchmarks/kubernetes.py [--services 1000] [--endpoints 20] [--rounds 200] [--no-pods] [--json]

An API server in another process, the one of the tests, holds services with slices of ``--endpoints`` endpoints, and a
Pod for each. A mesh follows it; then one service after another gets another endpoint, and what is told is the time from
the moment before the server stores the change to the first pick that may choose the new endpoint, over loopback. Told
too: how long the first lists took, what the mesh's process grew by, and the processor time that its event loop spends
on one change, from the line of the watch to the pick, apart from all waiting. Exits 1 when a median is above its limit.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.kubernetes.api import Server
from tests.kubernetes.objects import endpoints, node, pod, pod_endpoint, service

from meshlib import Mesh
from meshlib.config.feed import Feed, Options
from meshlib.config.resources.parts import Parts
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.state import State
from meshlib.model.snapshot import Client, Snapshot
from meshlib.providers import Facts, KubernetesProvider
from meshlib.providers.kubernetes.collections import ResourceType
from meshlib.providers.kubernetes.store import Store

LIMIT_MS, CPU_LIMIT_MS = 20.0, 5.0
SLICES = ResourceType("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
_WARM = 3
"""Rounds that are not counted: after its first publication a mesh rests for as long as that was work."""


def slice_of(number: int, count: int, last: str = "") -> dict[str, Any]:
    """A slice; ``last`` is the address of one endpoint more."""
    rows: list[Any] = [
        pod_endpoint(f"10.{number >> 8}.{number & 255}.{each}", f"p{number}-{each}", f"n{each % 10}")
        for each in range(count)
    ]
    return endpoints(f"s{number}", *rows, *([last] if last else []))


def serve(services: int, count: int, pods: bool) -> None:
    """In the other process: hold a cluster, and change a service for each line of the standard input."""
    with Server() as api:
        for number in range(10):
            api.put(node(f"n{number}", "eu", f"eu-{number % 3}"))
        for number in range(services):
            things = [service(f"s{number}"), slice_of(number, count)]
            if pods:
                things += [pod(f"p{number}-{each}", app=f"s{number}", version=f"v{each % 2}") for each in range(count)]
            api.put(*things)
        print(api.kubeconfig(), flush=True)
        for line in sys.stdin:
            number, last = line.split()
            changed = slice_of(int(number), count, last)
            started = time.monotonic()
            api.put(changed)
            print(started, flush=True)


def picks(mesh: Mesh, number: int, wanted: str) -> float:
    """When a pick could first choose the endpoint."""
    name = f"outbound|80||s{number}.default.svc.cluster.local"
    while True:
        if any(wanted == each.address for local in mesh.snapshot.source.assignment(name) for each in local.endpoints):
            cluster = mesh.prepared.cluster(name)
            assert cluster is not None
            return time.monotonic()
        time.sleep(0.0002)


def processor_ms(services: int, count: int, rounds: int) -> float:
    """Milliseconds of processor for a change of one service's slice, among all others; the median."""
    kinds = (ResourceType("", "v1", "services", "Service"), SLICES)
    stores = [Store(kind, "kubernetes") for kind in kinds]
    feed = Feed(1, Options(Client("default", {})))

    def publish() -> Snapshot | None:
        chunks = (chunk for store in stores for chunk in getattr(store.facts().resources, "chunks", ()))
        feed.take(0, Facts(Parts(tuple(chunks))))
        return feed.publish()

    def versioned(thing: dict[str, Any], version: int) -> dict[str, Any]:
        return {**thing, "metadata": {**thing["metadata"], "resourceVersion": str(version)}}

    for number in range(services):
        for store, thing in zip(stores, (service(f"s{number}"), slice_of(number, count)), strict=True):
            store.put(versioned(thing, number + 1))
    first, taken = publish(), []
    assert first is not None
    prepared = Prepared(first, State(), 0.0, random.Random(7))
    for number in range(rounds):
        name = f"outbound|80||s{number % services}.default.svc.cluster.local"
        prepared.cluster(name)
        changed = versioned(slice_of(number % services, count, "10.200.0.1"), services + number + 1)
        line = json.dumps({"type": "MODIFIED", "object": changed})
        started = time.thread_time()
        stores[1].put(json.loads(line)["object"])
        snapshot = publish()
        assert snapshot is not None
        prepared.with_endpoints(snapshot, 0.0)
        prepared.cluster(name)
        taken.append((time.thread_time() - started) * 1000)
    return median(taken)


def resident() -> float:
    """MiB."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096 / 2**20


def measure(services: int, count: int, rounds: int, pods: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--serve", "--services", str(services), "--endpoints", str(count)]
    command += [] if pods else ["--no-pods"]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert other.stdin is not None
    assert other.stdout is not None
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(other.stdout.readline())
            file.flush()
            gc.collect()
            before, started = resident(), time.monotonic()
            with Mesh(KubernetesProvider(file.name), telemetry=False) as mesh:
                mesh.ready(timeout=600)
                ready, grown = time.monotonic() - started, resident() - before
                rng, taken = random.Random(7), []
                for each in range(-_WARM, rounds):
                    number, last = rng.randrange(services), f"10.200.{(each + _WARM) >> 8}.{(each + _WARM) & 255}"
                    mesh.explain("GET", f"http://s{number}/")  # it is in use
                    other.stdin.write(f"{number} {last}\n")
                    other.stdin.flush()
                    seen = picks(mesh, number, last)
                    stored = float(other.stdout.readline())
                    if each >= 0:
                        taken.append((seen - stored) * 1000)
                    time.sleep(0.1)
        cuts = quantiles(taken, n=100)
        return {
            "services": services,
            "endpoints": services * count,
            "ready_s": round(ready, 2),
            "grown_mib": round(grown, 1),
            "median_ms": round(median(taken), 2),
            "p99_ms": round(cuts[98], 2),
            "cpu_ms": round(processor_ms(services, count, rounds), 2),
        }
    finally:
        other.terminate()
        other.wait(20)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--no-pods", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.services, given.endpoints, not given.no_pods)
        return 0
    told = measure(given.services, given.endpoints, given.rounds, not given.no_pods)
    if given.json:
        print(json.dumps(told))
    else:
        for name, value in told.items():
            print(f"{name:10} {value:>10g}")
    return 0 if told["median_ms"] <= LIMIT_MS and told["cpu_ms"] <= CPU_LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
