"""What one changed service costs, from a provider's publication to the next pick, in meshes of several sizes.

    python benchmarks/updates.py [--json] [--rounds 40]

Each mesh has services of twenty endpoints, of which the process uses a hundred. In every round one service in use gets
another endpoint: the provider publishes its whole set (``Objects.facts``), the feed makes the next snapshot, the mesh
puts it in force, and a pick is made among the new endpoints. What is told is this thread's own CPU time, the median of
the rounds; the rest that lets a burst settle is no part of it, nor is a full pass of the garbage collector over what
was loaded (``gc.freeze``). Exits 1 when a median is above ``LIMIT_MS``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from meshlib import Mesh
from meshlib.config.feed import Feed, Options
from meshlib.dataplane.departed import departed
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import Request
from meshlib.dataplane.state import State
from meshlib.model.snapshot import Client
from meshlib.providers import Objects, Publish

ENDPOINTS = 20
USED = 100
LIMIT_MS = 5.0
WALL_MS = 20.0
SIZES = (1_000, 5_000)
"""Services; the second has a hundred thousand endpoints."""

Make = Callable[[int, int], list[dict[str, Any]]]


def address(number: int, each: int) -> str:
    return f"10.{number >> 8}.{number & 255}.{each}"


def slices(number: int, shift: int) -> list[dict[str, Any]]:
    """A Kubernetes Service with an EndpointSlice."""
    name = f"svc{number}"
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"ports": [{"name": "http", "port": 80}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-a", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": [address(number, each + shift)]} for each in range(ENDPOINTS)],
        },
    ]


def entry(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name},
        "spec": {"hosts": [f"{name}.default.svc.cluster.local"], "ports": ports, "resolution": "STATIC", **spec},
    }


def entries(number: int, shift: int) -> list[dict[str, Any]]:
    """A ServiceEntry with its endpoints inline."""
    rows = [{"address": address(number, each + shift)} for each in range(ENDPOINTS)]
    return [entry(f"svc{number}", {"endpoints": rows})]


def workloads(number: int, shift: int) -> list[dict[str, Any]]:
    """A ServiceEntry that selects WorkloadEntries, one for each endpoint."""
    name = f"svc{number}"
    found = [entry(name, {"workloadSelector": {"labels": {"app": name}}})]
    for each in range(ENDPOINTS):
        moved = shift if each == 0 else 0
        found.append(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "WorkloadEntry",
                "metadata": {"name": f"{name}-{each}", "labels": {"app": name}},
                "spec": {"address": address(number, each + moved * ENDPOINTS)},
            }
        )
    return found


FORMS: dict[str, Make] = {"EndpointSlice": slices, "ServiceEntry": entries, "WorkloadEntry": workloads}


class World:
    """One mesh, as a provider and the process see it."""

    def __init__(self, make: Make, services: int) -> None:
        self.make = make
        self.rng = random.Random(1)
        self.objects = Objects("benchmark")
        for number in range(services):
            self.put(number, 0)
        self.feed = Feed(1, Options(Client()))
        self.state = State()
        self.feed.take(0, self.objects.facts("0"))
        snapshot = self.feed.publish()
        assert snapshot is not None
        self.prepared = Prepared(snapshot, self.state, 0.0, self.rng)
        for number in range(USED):
            self.pick(number)

    def put(self, number: int, shift: int) -> None:
        for given in self.make(number, shift):
            self.objects.put((given["kind"], given["metadata"]["name"]), given)

    def pick(self, number: int) -> list[str]:
        request = Request("GET", "http", f"svc{number}.default.svc.cluster.local", 80, "/")
        host = self.prepared.host(request.host, 80)
        assert host is not None
        destination = host.routes[0].draw(self.rng)
        assert destination is not None and destination.cluster is not None
        picked = destination.cluster.pick(request, self.rng, 1.0, None, (), 0)
        assert picked is not None
        return [state.key for state in destination.cluster.members]

    def change(self, number: int, shift: int) -> float:
        """Milliseconds of CPU from the publication to the pick."""
        self.put(number, shift)
        before = self.pick(number)
        started = time.thread_time()
        self.feed.take(0, self.objects.facts(str(shift)))
        snapshot = self.feed.publish()
        assert snapshot is not None and snapshot.routing is self.prepared.snapshot.routing
        self.prepared.with_endpoints(snapshot, 1.0)
        departed(self.state, self.prepared, 1.0)
        after = self.pick(number)
        spent = time.thread_time() - started
        assert after != before
        return spent * 1e3


def measure(form: str, services: int, rounds: int) -> float:
    world = World(FORMS[form], services)
    gc.collect()
    gc.freeze()
    found = [world.change(round_ % USED, 1 + round_ // USED % 2) for round_ in range(rounds)]
    gc.unfreeze()
    return median(found)


class Told:
    """A provider that publishes what it is told to, from another thread."""

    name = "benchmark"

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.loop: asyncio.AbstractEventLoop | None = None

    async def run(self, publish: Publish) -> None:
        self.loop, self.publish = asyncio.get_running_loop(), publish
        publish(self.objects.facts())
        await asyncio.Event().wait()

    def tell(self) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(lambda: self.publish(self.objects.facts()))


def latency(form: str, services: int, rounds: int) -> float:
    """Milliseconds on the wall from the provider's word to a pick that knows of it, in a running mesh."""
    world = World(FORMS[form], services)
    provider, found = Told(world.objects), []
    with Mesh(provider, telemetry=False) as mesh:
        mesh.ready(timeout=60.0)
        world.state = mesh.state
        for round_ in range(rounds):
            world.prepared = mesh.prepared
            number = round_ % USED
            before = world.pick(number)
            world.put(number, 1 + round_ // USED % 2)
            time.sleep(0.03)  # the burst before is over
            started = time.monotonic()
            provider.tell()
            while world.pick(number) == before:
                world.prepared = mesh.prepared
                time.sleep(0.0002)
            found.append((time.monotonic() - started) * 1e3)
    return median(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [(form, size, measure(form, size, given.rounds)) for form in FORMS for size in SIZES]
    waited = latency("EndpointSlice", SIZES[0], given.rounds)
    if given.json:
        print(json.dumps([{"form": form, "services": size, "ms": round(ms, 3)} for form, size, ms in rows]))
    else:
        print(f"{'endpoints in':16}{'services':>10}{'endpoints':>11}{'publish to pick':>18}{'limit':>10}")
        for form, size, ms in rows:
            print(f"{form:16}{size:10,}{size * ENDPOINTS:11,}{ms:15.2f} ms{LIMIT_MS:7.0f} ms")
        print(f"in a running mesh of {SIZES[0]:,} services, on the wall: {waited:.2f} ms, at most {WALL_MS:.0f} ms")
    return 1 if waited > WALL_MS or any(ms > LIMIT_MS for _, _, ms in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
