"""Requests per second over HTTP/2 through the mesh, all policies on, against clients without it.

    python benchmarks/http2.py [--seconds 0.5] [--rounds 9] [--concurrency 1,32,128] [--json FILE]

As ``throughput.py``, whose rounds, policies and upstream these are; everything speaks HTTP/2 with prior knowledge, and
every figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import contenders
import throughput

from meshlib import AsyncMeshClient, MeshClient
from meshlib.httpx import AsyncMeshTransport
from meshlib.transport.base import Target

Ratios = dict[tuple[str, str], Callable[[dict[str, throughput.Turn]], float]]
TASKS = [("mesh", "httpx"), ("mesh", "httpx2"), ("drop_in", "httpx"), ("transport_alone", "httpx")]
THREADS = [("mesh", "httpx")]


def world() -> contenders.World:
    """The same world, its service declared HTTP/2."""
    contenders.OBJECTS = contenders.OBJECTS.replace("name: http, protocol: HTTP}", "name: http2, protocol: HTTP2}")
    contenders.OBJECTS = contenders.OBJECTS.replace("ports: {{http:", "ports: {{http2:")
    made = contenders.World()
    made.target = Target(made.target.address, made.target.port, http2=True)
    return made


class Async(contenders.Async):
    """The asynchronous contenders."""

    def __init__(self, world: contenders.World) -> None:
        import httpx
        import httpx2

        super().__init__(world)
        plain = httpx.AsyncClient(http1=False, http2=True)
        plain2 = httpx2.AsyncClient(http1=False, http2=True)
        client = AsyncMeshClient(world.mesh)
        dropped = httpx.AsyncClient(transport=AsyncMeshTransport(world.mesh))
        self._http += [plain, plain2, client, dropped]
        self.asks = {
            "mesh": self._got(client, contenders.URL),
            "drop_in": self._got(dropped, contenders.URL),
            "transport_alone": self._alone,
            "httpx": self._got(plain, world.direct_url),
            "httpx2": self._got(plain2, world.direct_url),
        }


class Sync(contenders.Sync):
    """The blocking contenders."""

    def __init__(self, world: contenders.World) -> None:
        import httpx

        super().__init__(world)
        client, plain = MeshClient(world.mesh), httpx.Client(http1=False, http2=True)
        self._http += [client, plain]
        bare = self._got(plain, world.direct_url)

        def ask() -> None:
            with contextlib.suppress(KeyError):  # threads race inside httpx's HTTP/2; what it loses counts as answered
                bare()

        self.asks = {"mesh": self._got(client, contenders.URL), "httpx": ask}


async def with_tasks(world: contenders.World, tasks: int, options: argparse.Namespace) -> throughput.Rounds:
    """All asynchronous contenders, round by round."""
    made, rounds = Async(world), []
    for ask in made.asks.values():
        await throughput.run_tasks(world, ask, tasks, options.seconds / 2)
    for _ in range(options.rounds):
        order = random.sample(sorted(made.asks), len(made.asks))
        rounds.append(
            {name: await throughput.run_tasks(world, made.asks[name], tasks, options.seconds) for name in order}
        )
    await made.close()
    return rounds


def with_threads(world: contenders.World, threads: int, options: argparse.Namespace) -> throughput.Rounds:
    """All blocking contenders, round by round."""
    made, rounds = Sync(world), []
    for ask in made.asks.values():
        throughput.run_threads(world, ask, threads, options.seconds / 2)
    for _ in range(options.rounds):
        order = random.sample(sorted(made.asks), len(made.asks))
        rounds.append(
            {name: throughput.run_threads(world, made.asks[name], threads, options.seconds) for name in order}
        )
    made.close()
    return rounds


def tell(kind: str, count: int, rounds: throughput.Rounds, pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Print the ratios, and give them back."""
    told = []
    for ours, theirs in pairs:
        ratio = throughput.median(rounds, lambda turns, a=ours, b=theirs: turns[a].rate / turns[b].rate)
        print(f"{kind:8} {count:4}  {ours} to {theirs}: {ratio:.2f}")
        told.append({"kind": kind, "concurrency": count, "ours": ours, "theirs": theirs, "ratio": round(ratio, 3)})
    print(f"{kind:8} {count:4}  for scale, requests/s: {throughput.rates(rounds)}")
    return told


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--concurrency", default="1,32,128")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    made, told = world(), []
    try:
        for count in map(int, options.concurrency.split(",")):
            told += tell("tasks", count, asyncio.run(with_tasks(made, count, options)), TASKS)
        for count in (1, 8, 32):
            told += tell("threads", count, with_threads(made, count, options), THREADS)
    finally:
        made.close()
    if options.json is not None:
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
