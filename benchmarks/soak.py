"""Full speed for a while under everything that goes wrong, and what must be left behind: nothing.

    python benchmarks/soak.py --minutes 10

Endpoints flap between well, slow, busy, resetting and dead; the configuration is pushed every second; threads, an
asyncio loop and a trio loop send at full speed and give up calls at random. Prints JSON: calls by outcome, memory over
time, and every gauge at the end; exits 1 when memory grew beyond the bound, or a gauge or connection is left.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import sys
import threading
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import anyio
import httpx
import trio
from tests.chaos.peers import Peers

from meshlib import AsyncMeshClient, Mesh, MeshClient
from meshlib.providers.static import StaticProvider

ENDPOINTS, THREADS, TASKS = 5, 4, 8
MODES = (("ok", 0.0), ("ok", 0.0), ("slow", 0.05), ("status-503", 0.0), ("reset-after-headers", 0.0), ("dead", 0.0))
GROWTH_LIMIT = 0.10
"""How much more may be allocated in the last quarter than in the second; the first is for warming up."""
FLOOR = 2 << 20
"""Bytes below which growth is not looked at: a relative bound on very little says nothing."""

RULES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: svc}}
spec:
  hosts: [svc]
  http:
  - timeout: 2s
    retries: {{attempts: 3, perTryTimeout: 500ms, retryOn: "5xx,reset,connect-failure", backoff: 5ms}}
    headers: {{request: {{set: {{x-push: "{push}"}}}}}}
    route: [{{destination: {{host: svc}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc}}
spec:
  host: svc
  trafficPolicy:
    loadBalancer: {{simple: {balancer}}}
    connectionPool: {{tcp: {{maxConnections: 16}}, http: {{http1MaxPendingRequests: 256}}}}
    outlierDetection: {{consecutive5xxErrors: 5, interval: 1s, baseEjectionTime: 1s, maxEjectionPercent: 60}}
"""


class Soak:
    """One run."""

    def __init__(self, seconds: float, seed: int) -> None:
        self.seconds = seconds
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.memory: list[dict[str, float]] = []
        self.peers = Peers(ENDPOINTS)
        self.provider = StaticProvider(self._yaml(0))
        self.mesh = Mesh(self.provider, telemetry=False)
        self.mesh.ready()
        self.ends = 0.0
        self.errors: list[BaseException] = []

    def _yaml(self, push: int) -> str:
        balancer = ("LEAST_REQUEST", "ROUND_ROBIN", "RANDOM")[push % 3]
        only = [each for each in range(ENDPOINTS) if push == 0 or each != push % (ENDPOINTS + 3)]
        return self.peers.yaml(RULES.format(push=push, balancer=balancer), only=only)

    def over(self) -> bool:
        """Whether callers stop."""
        return time.monotonic() >= self.ends

    def run(self) -> dict[str, Any]:
        """All callers at once, then the reckoning."""
        tracemalloc.start()
        self.ends = time.monotonic() + self.seconds
        bodies: list[Callable[[], None]] = [self._thread] * THREADS
        bodies += [lambda: asyncio.run(self._loop()), lambda: trio.run(self._loop)]
        threads = [threading.Thread(target=self._guarded, args=(body,)) for body in bodies]
        for thread in threads:
            thread.start()
        pushes = self._disturb()
        for thread in threads:
            thread.join(30)
        stuck = sum(thread.is_alive() for thread in threads)
        report = {"seconds": self.seconds, "pushes": pushes, "stuck": stuck, **self._reckon()}
        self.mesh.close()
        report["connections"] = self.peers.open_after()
        self.peers.close()
        tracemalloc.stop()
        report["ok"] = _is_clean(report)
        return report

    def _guarded(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:  # told in the report; a caller that died is a failed soak
            self.errors.append(error)

    def _disturb(self) -> int:
        """Flap, push, measure: each second."""
        push = 0
        while not self.over():
            push += 1
            self.provider.replace(self._yaml(push))
            for endpoint in self.random.sample(range(1, ENDPOINTS), 2):
                self.peers.behave(endpoint, *self.random.choice(MODES))
            self._measure()
            time.sleep(1.0)
        for endpoint in range(ENDPOINTS):
            self.peers.behave(endpoint, "ok")
        return push

    def _measure(self) -> None:
        gc.collect()
        rss = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self.memory.append({"allocated": tracemalloc.get_traced_memory()[0], "rss": rss})

    def _count(self, outcome: str) -> None:
        self.counts[outcome] += 1

    def _thread(self) -> None:
        rng = random.Random(threading.get_ident())
        with MeshClient(self.mesh) as client:
            while not self.over():
                try:
                    if rng.random() < 0.1:
                        with client.stream("GET", "http://svc/") as response:
                            if rng.random() < 0.5:
                                response.read()
                        self._count("streamed")
                    else:
                        self._count(str(client.post("http://svc/", content=b"x" * 100).status_code))
                except httpx.HTTPError as error:
                    self._count(type(error).__name__)

    async def _loop(self) -> None:
        async with AsyncMeshClient(self.mesh) as client, anyio.create_task_group() as group:
            for number in range(TASKS):
                group.start_soon(self._task, client, random.Random(number))

    async def _task(self, client: AsyncMeshClient, rng: random.Random) -> None:
        while not self.over():
            patience = rng.choice((0.001, 0.005, 0.05)) if rng.random() < 0.2 else 10.0
            outcome = "cancelled"
            with anyio.move_on_after(patience):
                try:
                    outcome = str((await client.post("http://svc/", content=b"x" * 100)).status_code)
                except httpx.HTTPError as error:
                    outcome = type(error).__name__
            self._count(outcome)
            await anyio.lowlevel.checkpoint()

    def _reckon(self) -> dict[str, Any]:
        self._measure()
        status = self.mesh.status()
        gauges = {
            "active": sum(each["active"] for each in status.clusters),
            "retries": sum(each["retries"] for each in status.clusters),
            "connections": sum(each["connections"] or 0 for each in status.clusters),
            "pending": sum(each["pending"] or 0 for each in status.clusters),
            "endpoints": sum(e["active"] for each in status.clusters for e in each["endpoints"]),
            "replay_bytes": status.replay_bytes,
            "mirrors": status.mirrors["running"],
        }
        return {
            "calls": sum(self.counts.values()),
            "outcomes": dict(self.counts.most_common()),
            "gauges": gauges,
            "memory": _growth(self.memory),
            "died": ["".join(traceback.format_exception(error)) for error in self.errors],
        }


def _growth(samples: list[dict[str, float]]) -> dict[str, float]:
    """Means of the second and the last quarter, in bytes, and the growth between them."""
    quarter = max(1, len(samples) // 4)
    found = {}
    for name in ("allocated", "rss"):
        early = [each[name] for each in samples[quarter : 2 * quarter] or samples[:1]]
        late = [each[name] for each in samples[-quarter:]]
        found[f"{name}_early"] = round(sum(early) / len(early))
        found[f"{name}_late"] = round(sum(late) / len(late))
    return found


def _is_clean(report: dict[str, Any]) -> bool:
    memory = report["memory"]
    grew = memory["allocated_late"] - memory["allocated_early"]
    flat = grew <= max(FLOOR, GROWTH_LIMIT * memory["allocated_early"])
    return flat and not any((*report["gauges"].values(), report["stuck"], report["connections"], report["died"]))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    report = Soak(60.0 * arguments.minutes, arguments.seed).run()
    print(json.dumps(report, indent=2))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
