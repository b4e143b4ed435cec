"""RPCs through a mesh channel against RPCs over a bare grpcio channel to one endpoint, in turn, as ratios of one run.

``python benchmarks/grpc_channels.py [--seconds N] [--rounds N] [--only NAME] [--xds]``. Client and server are
processes of their own, the server is C core behind Python. Prints, for unary RPCs at concurrency 1, 32 and 128 and for
messages of streams, with threads and with asyncio: the rate over the mesh, its ratio to the rate over each other
channel, and the microseconds of processor time that one costs the client over each; of a single caller's RPC also what
the mesh adds to that. All channels stay open and take turns in short rounds; medians are printed. Exit 1 below the
promises.

Beside the bare channel there is ``asked``: bare too, but told by hand what the mesh's configuration makes of an RPC,
its deadline and Envoy's headers. ``--xds`` adds grpcio's own ``xds:///`` channel, under the same configuration
(``grpc_xds.py``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio

ROOT = Path(__file__).parents[1]
sys.path[:1] = [str(ROOT), str(ROOT / "src"), str(ROOT / "benchmarks")]

UNARY, STREAM = "/bench.Echo/Unary", "/bench.Echo/Stream"
PROMISED = {"unary": 0.9, "stream": 0.95, "overhead": 40.0}


# Threads ------------------------------------------------------------------------------------------------------------


def threads(channel: Any, workers: int, seconds: float) -> float:
    """Unary RPCs a second."""
    call, count, ends = channel.unary_unary(UNARY), [0] * workers, time.perf_counter() + seconds

    def work(number: int) -> None:
        done = 0
        while time.perf_counter() < ends:
            call(b"x" * 100)
            done += 1
        count[number] = done

    running = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    started = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(count) / (time.perf_counter() - started)


def thread_stream(channel: Any, seconds: float) -> float:
    """Messages a second."""
    call, count = channel.stream_stream(STREAM), 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in call(iter([b"x" * 100])):
            count += 1
    return count / (time.perf_counter() - started)


# asyncio ------------------------------------------------------------------------------------------------------------


async def tasks(channel: Any, workers: int, seconds: float) -> float:
    """Unary RPCs a second."""
    call, ends = channel.unary_unary(UNARY), time.perf_counter() + seconds

    async def work() -> int:
        done = 0
        while time.perf_counter() < ends:
            await call(b"x" * 100)
            done += 1
        return done

    started = time.perf_counter()
    counts = await asyncio.gather(*(work() for _ in range(workers)))
    return sum(counts) / (time.perf_counter() - started)


async def task_stream(channel: Any, seconds: float) -> float:
    """Messages a second."""
    call, count = channel.stream_stream(STREAM), 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        async for _ in call(iter([b"x" * 100])):
            count += 1
    return count / (time.perf_counter() - started)


# The comparison -----------------------------------------------------------------------------------------------------


class Asked:
    """A bare channel whose unary RPCs carry what the mesh's configuration makes of them."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self.stream_stream = channel.stream_stream
        self.close = channel.close

    def unary_unary(self, method: str) -> Callable[[bytes], Any]:
        call = self._channel.unary_unary(method)
        known = [("x-envoy-attempt-count", "1"), ("x-envoy-expected-rq-timeout-ms", "30000")]
        return lambda request: call(request, timeout=30.0, metadata=[("x-request-id", str(uuid.uuid4())), *known])


class Sample(NamedTuple):
    """RPCs or messages a second, and the client's microseconds of processor time for each."""

    rate: float
    cpu: float


Measure = Callable[[str, float], float]


def sampled(measure: Measure, name: str, seconds: float) -> Sample:
    """One round over one channel."""
    spent, began = time.process_time(), time.perf_counter()
    rate = measure(name, seconds)
    took = time.perf_counter() - began
    done = max(1.0, rate * took)  # on a busy machine a round may pass before anything was begun
    return Sample(done / took, 1e6 * (time.process_time() - spent) / done)


def compare(measure: Measure, names: list[str], given: Any) -> dict[str, Any]:
    """A row: medians over rounds in which all channels take turns, each in another order than the one before."""
    rounds: list[dict[str, Sample]] = []
    for number in range(given.rounds):
        first = number // 2 % len(names)
        order = names[first:] + names[:first]
        rounds.append({name: sampled(measure, name, given.seconds) for name in (order[::-1] if number % 2 else order)})
    row: dict[str, Any] = {"rate": round(statistics.median(each["mesh"].rate for each in rounds))}
    for name in names[1:]:
        row[name] = round(statistics.median(each["mesh"].rate / each[name].rate for each in rounds), 3)
    row["cpu_us"] = {name: round(statistics.median(each[name].cpu for each in rounds), 1) for name in names}
    return row


@contextmanager
def channels(port: int, names: list[str], target: str) -> Iterator[dict[str, Measure]]:
    """What can be measured, over channels that stay open."""
    from grpc_world import world

    from meshlib import Mesh
    from meshlib.grpc import aio, mesh_channel

    def made(module: Any, mesh_channel: Any, mesh: Any) -> dict[str, Any]:
        makers = {
            "mesh": lambda: mesh_channel("echo.bench:80", mesh),
            "bare": lambda: module.insecure_channel(f"127.0.0.1:{port}"),
            "asked": lambda: Asked(module.insecure_channel(f"127.0.0.1:{port}")),
            "xds": lambda: module.insecure_channel(target),
        }
        return {name: makers[name]() for name in names}

    async def made_aio(mesh: Any) -> dict[str, Any]:
        await mesh.aready()
        return made(grpc.aio, aio.mesh_channel, mesh)

    with Mesh(*world(port), telemetry=False) as mesh, asyncio.Runner() as runner:
        mesh.ready()
        blocking, cooperative = made(grpc, mesh_channel, mesh), runner.run(made_aio(mesh))
        measures: dict[str, Measure] = {}
        for workers in (1, 32, 128):
            measures[f"threads unary {workers}"] = lambda name, s, w=workers: threads(blocking[name], w, s)
        measures["threads stream"] = lambda name, s: thread_stream(blocking[name], s)
        for workers in (1, 32, 128):
            measures[f"asyncio unary {workers}"] = lambda name, s, w=workers: runner.run(tasks(cooperative[name], w, s))
        measures["asyncio stream"] = lambda name, s: runner.run(task_stream(cooperative[name], s))
        yield measures
        for name in names:
            blocking[name].close()
            runner.run(cooperative[name].close())


def main() -> int:
    """Compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.25, help="of each channel in each round")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--only", default="")
    parser.add_argument("--xds", action="store_true", help="compare with grpcio's own xds channel too")
    given = parser.parse_args()
    command = [sys.executable, str(Path(__file__).with_name("grpc_world.py"))]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        return report(int(server.stdout.readline()), given)
    finally:
        server.stdin.close()  # type: ignore[union-attr]
        server.wait(10)


def report(port: int, given: Any) -> int:
    """Measure and print; 1 below a promise."""
    names, target, broken = ["mesh", "bare", "asked"], "", 0
    with ExitStack() as stack:
        if given.xds:
            from grpc_xds import served

            names, target = [*names, "xds"], stack.enter_context(served("echo.bench", port))
        for what, measure in stack.enter_context(channels(port, names, target)).items():
            if given.only not in what:
                continue
            for name in names:
                measure(name, 0.3)
            row = {"what": what, **compare(measure, names, given)}
            if what.endswith(" 1"):
                row["added_us"] = round(row["cpu_us"]["mesh"] - row["cpu_us"]["bare"], 1)
            print(json.dumps(row), flush=True)
            broken += not kept(row)
    return 1 if broken else 0


def kept(row: dict[str, Any]) -> bool:
    """Whether a row keeps its promises."""
    limit = PROMISED["stream" if "stream" in row["what"] else "unary"]
    return bool(
        row["bare"] >= limit and row.get("added_us", 0.0) <= PROMISED["overhead"] and row.get("xds", 1.0) >= 1.0
    )


if __name__ == "__main__":
    sys.exit(main())
