"""RPCs through a mesh channel against RPCs over a bare grpcio channel to one endpoint, in turn, as ratios of one run.

``python benchmarks/grpc_channels.py [--seconds N] [--only NAME]``. Client and server are processes of their own, the
server is C core behind Python. Prints throughput of mesh over bare for unary RPCs at concurrency 1, 32 and 128, threads
and asyncio, for streams in messages, and the microseconds that the mesh adds to one RPC. Exit 1 below the promises.

``--xds`` compares with grpcio's own ``xds:///`` channel as well, under the same configuration (``grpc_xds.py``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

ROOT = Path(__file__).parents[1]
sys.path[:1] = [str(ROOT), str(ROOT / "src"), str(ROOT / "benchmarks")]

UNARY, STREAM = "/bench.Echo/Unary", "/bench.Echo/Stream"
MESSAGES = 200
PROMISED = {"unary": 0.9, "stream": 0.95, "overhead": 40.0}


def serve() -> None:
    """A server that gives back what it gets; streams give ``MESSAGES`` messages."""

    class Echo(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            if details.method == UNARY:
                return grpc.unary_unary_rpc_method_handler(_unary)
            return grpc.stream_stream_rpc_method_handler(_stream)

    async def _unary(request: bytes, context: Any) -> bytes:
        return request

    async def _stream(requests: Any, context: Any) -> Any:
        async for request in requests:
            for _ in range(MESSAGES):
                yield request

    async def main() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Echo(),))
        print(server.add_insecure_port("127.0.0.1:0"), flush=True)
        await server.start()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await server.stop(None)

    asyncio.run(main())


def world(port: int) -> list[dict[str, Any]]:
    """One service with one endpoint, retries and outlier detection armed."""
    name, host = "echo", "echo.bench"
    entry = {
        "hosts": [host],
        "ports": [{"number": 80, "name": "grpc", "protocol": "GRPC"}],
        "resolution": "STATIC",
        "location": "MESH_INTERNAL",
        "endpoints": [{"address": "127.0.0.1", "ports": {"grpc": port}}],
    }
    rule = {"host": host, "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 5}}}
    route = {
        "hosts": [host],
        "http": [
            {"match": [{"uri": {"prefix": "/none"}}], "route": [{"destination": {"host": host}}]},
            {"route": [{"destination": {"host": host}}], "timeout": "30s", "retries": {"attempts": 2}},
        ],
    }
    api = "networking.istio.io/v1"
    kinds = {"ServiceEntry": entry, "DestinationRule": rule, "VirtualService": route}
    return [{"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec} for kind, spec in kinds.items()]


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

Measure = Callable[[str, float], float]


def compare(measure: Measure, against: list[str], rounds: int, seconds: float) -> tuple[dict[str, float], float]:
    """Median ratio of mesh over each other, in turn; and the median of the mesh's rate."""
    ratios: dict[str, list[float]] = {name: [] for name in against}
    rates = []
    for number in range(rounds):
        order = ["mesh", *against]
        found = {name: measure(name, seconds) for name in (order if number % 2 else reversed(order))}
        rates.append(found["mesh"])
        for name in against:
            ratios[name].append(found["mesh"] / found[name])
    return {name: statistics.median(each) for name, each in ratios.items()}, statistics.median(rates)


def main() -> int:
    """Compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="")
    parser.add_argument("--xds", action="store_true", help="compare with grpcio's own xds:/// channel as well")
    given = parser.parse_args()
    if given.serve:
        serve()
        return 0
    command = [sys.executable, __file__, "--serve"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with contextlib.ExitStack() as stack:
            xds = ""
            if given.xds:
                from grpc_xds import served

                xds = stack.enter_context(served("echo.bench", port))
            return report(port, given, xds)
    finally:
        server.stdin.close()  # type: ignore[union-attr]
        server.wait(10)


def report(port: int, given: Any, xds: str) -> int:
    """Measure and print; 1 below a promise."""
    from meshlib import Mesh
    from meshlib.grpc import aio, mesh_channel

    against = ["bare"] + (["xds"] if xds else [])
    rows: list[dict[str, Any]] = []
    with Mesh(*world(port), telemetry=False) as mesh:
        mesh.ready()
        makers = {
            "mesh": lambda: mesh_channel("echo.bench:80", mesh),
            "bare": lambda: grpc.insecure_channel(f"127.0.0.1:{port}"),
            "xds": lambda: grpc.insecure_channel(xds),
        }
        aio_makers = {
            "mesh": lambda: aio.mesh_channel("echo.bench:80", mesh),
            "bare": lambda: grpc.aio.insecure_channel(f"127.0.0.1:{port}"),
            "xds": lambda: grpc.aio.insecure_channel(xds),
        }
        channels = {name: makers[name]() for name in ["mesh", *against]}
        for channel in channels.values():
            threads(channel, 1, 0.3)

        def in_loop(work: Callable[..., Any], *args: Any) -> Measure:
            async def one(name: str, seconds: float) -> float:
                async with aio_makers[name]() as channel:
                    await tasks(channel, 1, 0.1)
                    return await work(channel, *args, seconds)

            return lambda name, seconds: asyncio.run(one(name, seconds))

        measures: dict[str, Measure] = {}
        for workers in (1, 32, 128):
            measures[f"threads unary {workers}"] = lambda name, s, w=workers: threads(channels[name], w, s)
        measures["threads stream"] = lambda name, s: thread_stream(channels[name], s)
        for workers in (1, 32, 128):
            measures[f"asyncio unary {workers}"] = in_loop(tasks, workers)
        measures["asyncio stream"] = in_loop(task_stream)
        for name, measure in measures.items():
            if given.only in name:
                ratios, rate = compare(measure, against, given.rounds, given.seconds)
                rows.append({"what": name, "rate": round(rate), **{k: round(v, 3) for k, v in ratios.items()}})
                if name.endswith(" 1"):
                    rows[-1]["added_us"] = round(1e6 / rate * (1 - ratios["bare"]), 1)
                print(json.dumps(rows[-1]), flush=True)
        for channel in channels.values():
            channel.close()
    return 1 if any(not kept(row) for row in rows) else 0


def kept(row: dict[str, Any]) -> bool:
    """Whether a row keeps its promises."""
    limit = PROMISED["stream" if "stream" in row["what"] else "unary"]
    return bool(
        row["bare"] >= limit and row.get("added_us", 0.0) <= PROMISED["overhead"] and row.get("xds", 1.0) >= 1.0
    )


if __name__ == "__main__":
    sys.exit(main())
