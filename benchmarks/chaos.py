"""Five servers, some of them misbehaving: success and latency by policy, with and without a mesh.

    python benchmarks/chaos.py [--calls 800] [--json]

A caller without a mesh is bare httpx that goes round the five addresses. ``steady`` is the success rate of the second
half of the calls, when what the first half taught (ejections) is known. Numbers are worth comparing within one run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
from tests.chaos.peers import Peers

from meshlib import MeshClient
from meshlib.testing import mesh_of

ENDPOINTS, CALLERS = 5, 10
FAST, SLOW = 0.02, 0.4
"""Seconds an answer takes: the slow server is slower by 20."""

EJECT = "outlierDetection: {consecutive5xxErrors: 3, interval: 100ms, baseEjectionTime: 60s, maxEjectionPercent: 40}"
RETRY = 'retries: {attempts: 3, retryOn: "5xx,reset,connect-failure", backoff: 5ms}'
POLICIES = {
    "round robin": ("ROUND_ROBIN", "", "retries: {attempts: 0}"),
    "least request": ("LEAST_REQUEST", "", "retries: {attempts: 0}"),
    "ejection": ("LEAST_REQUEST", EJECT, "retries: {attempts: 0}"),
    "retries": ("LEAST_REQUEST", "", RETRY),
    "ejection, retries": ("LEAST_REQUEST", EJECT, RETRY),
}
TROUBLES = {
    "none": ("slow", FAST),
    "one slow by 20": ("slow", SLOW),
    "one dead": ("dead", 0.0),
    "one answers 503": ("status-503", 0.0),
    "one resets": ("reset-before-headers", 0.0),
    "one closes reused connections": ("reused-close-after-body", 0.0),
}


@dataclass(frozen=True)
class Row:
    """What one policy made of one trouble; latencies in milliseconds, of all calls."""

    trouble: str
    policy: str
    calls: int
    success: float
    steady: float
    p50: float
    p98: float
    p99: float


def rules(policy: str) -> str:
    """The rules of a policy."""
    balancer, outlier, retries = POLICIES[policy]
    return f"""apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: svc}}
spec:
  hosts: [svc]
  http:
  - {retries}
    route: [{{destination: {{host: svc}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc}}
spec:
  host: svc
  trafficPolicy:
    loadBalancer: {{simple: {balancer}}}
    {outlier}
"""


def measure(peers: Peers, trouble: str, policy: str, calls: int) -> Row:
    """One cell of the table."""
    for endpoint in range(ENDPOINTS):
        peers.behave(endpoint, "slow", FAST)
    peers.behave(ENDPOINTS - 1, *TROUBLES[trouble])
    if policy == "bare httpx":
        turns = itertools.cycle(peers.ports)
        with httpx.Client(trust_env=False) as client:
            return _row(trouble, policy, _timed(client, lambda: f"http://127.0.0.1:{next(turns)}/", calls))
    mesh = mesh_of(peers.yaml(rules(policy)), telemetry=False)
    try:
        with MeshClient(mesh) as meshed:
            return _row(trouble, policy, _timed(meshed, lambda: "http://svc/", calls))
    finally:
        mesh.close()


def _timed(client: httpx.Client, url: Callable[[], str], calls: int) -> list[tuple[float, bool]]:
    lock = threading.Lock()

    def once(_: int) -> tuple[float, bool]:
        with lock:
            where = url()
        started = time.perf_counter()
        try:
            good = client.post(where, content=b"x" * 100).status_code == 200
        except httpx.HTTPError:
            good = False
        return time.perf_counter() - started, good

    with ThreadPoolExecutor(CALLERS) as callers:
        return list(callers.map(once, range(calls)))


def _row(trouble: str, policy: str, results: list[tuple[float, bool]]) -> Row:
    times = sorted(seconds * 1000 for seconds, _ in results)
    good = [ok for _, ok in results]
    late = good[len(good) // 2 :]
    p50, p98, p99 = (round(times[int(len(times) * part)], 1) for part in (0.50, 0.98, 0.99))
    return Row(trouble, policy, len(good), sum(good) / len(good), sum(late) / len(late), p50, p98, p99)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=800)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with Peers(ENDPOINTS) as peers:
        rows = [
            measure(peers, trouble, policy, arguments.calls)
            for trouble in TROUBLES
            for policy in ("bare httpx", *POLICIES)
        ]
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    print("| trouble | policy | success | steady | p50 ms | p98 ms | p99 ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row.trouble} | {row.policy} | {row.success:.1%} | {row.steady:.1%} "
            f"| {row.p50:.1f} | {row.p98:.1f} | {row.p99:.1f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
