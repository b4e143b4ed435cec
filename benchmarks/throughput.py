"""Requests per second through the mesh, all policies on, against clients without it and against a sidecar.

    python benchmarks/throughput.py [--seconds 0.5] [--rounds 9] [--concurrency 1,32,128] [--uvloop] [--json FILE]

Upstream and sidecar are Envoys in processes of their own. The contenders take turns in short rounds, in an order drawn
anew for each, and every figure is the median of the rounds' ratios: what else the machine does hits all of them. Exits
1 when a target is missed. A figure of one machine says little about another; the ratios say more.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import contenders

TARGETS = {
    # contender: the least that the mesh's requests per second may be in its requests per second, by concurrency
    "httpx": {1: 3.0, 32: 8.0, 128: 15.0},
    "httpx2": {1: 2.0, 32: 3.0, 128: 4.0},
    "aiohttp": {1: 0.9, 32: 0.9, 128: 0.9},
    "httpx2_through_envoy": {1: 2.5, 32: 3.0, 128: 4.0},
}
DROP_IN = {1: 2.5, 32: 6.0, 128: 12.0}
SYNC = {1: 2.5, 8: 2.5, 32: 2.5}
ADDED_P99_US = 100.0
CPU_OF_ENVOY = {1: 0.5, 32: 0.75}


class Turn(NamedTuple):
    """What one contender did in one round.

    Attributes:
        rate: Requests per second.
        p99: Seconds.
        cpu: Seconds of this process for each request.
        proxy_cpu: Seconds of the sidecar for each request.
    """

    rate: float
    p99: float
    cpu: float
    proxy_cpu: float


Rounds = list[dict[str, Turn]]


def turn(world: contenders.World, took: list[float], started: float, cpu: float, proxy: float) -> Turn:
    """The figures of what has just ended."""
    count = len(took)
    rate = count / (time.perf_counter() - started)
    p99 = statistics.quantiles(took, n=100)[98] if count > 1 else took[0]
    return Turn(rate, p99, (time.process_time() - cpu) / count, (world.sidecar.cpu() - proxy) / count)


async def run_tasks(world: contenders.World, ask: contenders.Ask, tasks: int, seconds: float) -> Turn:
    """So many tasks ask again and again."""
    took: list[float] = []
    now = time.perf_counter
    gc.collect()
    started, cpu, proxy = now(), time.process_time(), world.sidecar.cpu()
    ends = started + seconds

    async def work() -> None:
        began = now()
        while began < ends:
            await ask()
            ended = now()
            took.append(ended - began)
            began = ended

    await asyncio.gather(*(work() for _ in range(tasks)))
    return turn(world, took, started, cpu, proxy)


def run_threads(world: contenders.World, ask: Callable[[], None], threads: int, seconds: float) -> Turn:
    """So many threads ask again and again."""
    took: list[float] = []
    now = time.perf_counter
    gc.collect()
    started, cpu, proxy = now(), time.process_time(), world.sidecar.cpu()
    ends = started + seconds

    def work() -> None:
        began = now()
        while began < ends:
            ask()
            ended = now()
            took.append(ended - began)
            began = ended

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return turn(world, took, started, cpu, proxy)


async def async_rounds(world: contenders.World, tasks: int, options: argparse.Namespace) -> Rounds:
    """All asynchronous contenders, round by round."""
    made, rounds = contenders.Async(world), []
    for ask in made.asks.values():
        await run_tasks(world, ask, tasks, options.seconds / 2)  # connections, caches, the sampler's mood
    for _ in range(options.rounds):
        order = random.sample(sorted(made.asks), len(made.asks))
        rounds.append({name: await run_tasks(world, made.asks[name], tasks, options.seconds) for name in order})
    await made.close()
    return rounds


def sync_rounds(world: contenders.World, threads: int, options: argparse.Namespace) -> Rounds:
    """All blocking contenders, round by round."""
    made, rounds = contenders.Sync(world), []
    for ask in made.asks.values():
        run_threads(world, ask, threads, options.seconds / 2)
    for _ in range(options.rounds):
        order = random.sample(sorted(made.asks), len(made.asks))
        rounds.append({name: run_threads(world, made.asks[name], threads, options.seconds) for name in order})
    made.close()
    return rounds


# Figures ------------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One line of the table; ``target`` None is not promised."""

    what: str
    concurrency: int
    measured: float
    target: float | None
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """Whether the promise is kept."""
        return self.target is None or (self.measured <= self.target if self.at_most else self.measured >= self.target)


def median(rounds: Rounds, figure: Callable[[dict[str, Turn]], float]) -> float:
    """The median of a figure of each round."""
    return statistics.median(map(figure, rounds))


def rates(rounds: Rounds) -> dict[str, float]:
    """Requests per second of each contender, for scale only."""
    return {name: round(median(rounds, lambda turns, n=name: turns[n].rate)) for name in rounds[0]}


def async_rows(rounds: Rounds, tasks: int) -> list[Row]:
    """The promises that concern tasks."""
    rows = [
        Row(
            f"requests/s, mesh to {other}",
            tasks,
            median(rounds, lambda t, n=other: t["mesh"].rate / t[n].rate),
            least.get(tasks),
        )
        for other, least in TARGETS.items()
    ]
    rows.append(
        Row(
            "requests/s, drop-in to httpx",
            tasks,
            median(rounds, lambda t: t["drop_in"].rate / t["httpx"].rate),
            DROP_IN.get(tasks),
        )
    )
    floor = median(rounds, lambda t: t["httpx_sending_nothing"].rate / t["httpx"].rate)
    rows.append(Row("requests/s, httpx that sends nothing to httpx", tasks, floor, None))
    share = median(rounds, lambda t: t["drop_in"].cpu / (t["httpx_sending_nothing"].cpu + t["transport_alone"].cpu))
    rows.append(Row("CPU of drop-in to httpx's client and transport", tasks, share, None))
    rows.append(
        Row(
            "requests/s, mesh for httpx2 to httpx2",
            tasks,
            median(rounds, lambda t: t["mesh_httpx2"].rate / t["httpx2"].rate),
            None,
        )
    )
    if tasks == 1:
        added = median(rounds, lambda t: (t["mesh"].p99 - t["transport_alone"].p99) * 1e6)
        rows.append(Row("p99 that mesh and client add, us", tasks, added, ADDED_P99_US, True))
    share = median(rounds, lambda t: (t["mesh"].cpu - t["transport_alone"].cpu) / t["httpx2_through_envoy"].proxy_cpu)
    rows.append(Row("CPU of mesh and client to that of Envoy", tasks, share, CPU_OF_ENVOY.get(tasks), True))
    return rows


def sync_rows(rounds: Rounds, threads: int) -> list[Row]:
    """The promises that concern threads."""
    ratio = median(rounds, lambda t: t["mesh"].rate / t["httpx"].rate)
    return [Row("requests/s in threads, mesh to httpx", threads, ratio, SYNC.get(threads))]


def machine() -> dict[str, Any]:
    """Its shape."""
    info = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "free_threaded": not getattr(sys, "_is_gil_enabled", lambda: True)(),
    }


def show(rows: list[Row], scale: dict[str, dict[str, float]]) -> None:
    """The tables, for people."""
    print(f"{'':48}{'at':>5}{'measured':>10}{'target':>9}")
    for row in rows:
        target = "" if row.target is None else f"{'<=' if row.at_most else '>='}{row.target:g}"
        print(f"{row.what:48}{row.concurrency:>5}{row.measured:>10.2f}{target:>9}{'' if row.holds else '  MISSED'}")
    for name, found in scale.items():
        print(f"requests/s {name}: " + ", ".join(f"{who} {rate:,.0f}" for who, rate in found.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="of one turn")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--concurrency", default="1,32,128", help="of tasks; empty for none")
    parser.add_argument("--threads", default="1,8,32", help="of blocking clients; empty for none")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    run = asyncio.run
    if options.uvloop:
        import uvloop

        run = uvloop.run
    world, rows, scale = contenders.World(), [], {}
    try:
        for tasks in map(int, filter(None, options.concurrency.split(","))):
            rounds = run(async_rounds(world, tasks, options))
            rows += async_rows(rounds, tasks)
            scale[f"with {tasks} tasks"] = rates(rounds)
        for threads in map(int, filter(None, options.threads.split(","))):
            rounds = sync_rounds(world, threads, options)
            rows += sync_rows(rounds, threads)
            scale[f"with {threads} threads"] = rates(rounds)
    finally:
        world.close()
    show(rows, scale)
    if options.json:
        found = [{**row._asdict(), "holds": row.holds} for row in rows]
        result = {"machine": machine(), "uvloop": options.uvloop, "rows": found, "requests_per_second": scale}
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return int(not all(row.holds for row in rows))


if __name__ == "__main__":
    sys.exit(main())
