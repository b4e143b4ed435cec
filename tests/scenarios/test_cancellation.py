"""Cancelling and failing at every step leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import json
import threading

import anyio
import httpx
import pytest
import trio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from meshlib.client import AsyncMeshClient, MeshClient
from meshlib.httpx import AsyncMeshTransport, MeshTransport
from meshlib.telemetry.metrics import IstioMetrics
from meshlib.testing import ManualClock, ScriptedTransport, mesh_of
from tests.conftest import endpoint_slice, service

YAML = "---\n".join(
    [
        service("svc", 80),
        endpoint_slice("svc", "v1", ("10.0.0.1", 80), ("10.0.0.2", 80)),
        """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc}
spec:
  host: svc
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 2}}
    outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: svc}
spec:
  hosts: [svc]
  http:
  - timeout: 30s
    fault: {delay: {fixedDelay: 1s, percentage: {value: 100}}}
    retries: {attempts: 2, retryOn: 5xx, perTryTimeout: 5s}
    route: [{destination: {host: svc}}]
""",
    ]
)


def taken(mesh):
    return [
        (c.active, c.retries, sum(e.active for e in c.endpoints.values()), c._gate.inside if c._gate else 0)
        for c in mesh.state.clusters()
    ]


def nothing_taken(mesh):
    return all(each == (0, 0, 0, 0) for each in taken(mesh))


class Cancelled(BaseException):
    pass


def steps(total):
    """A function that raises at its n-th call, for every n."""
    return range(total)


class Tripwire:
    """Counts moments and raises at one of them."""

    def __init__(self, at, error):
        self.left = at
        self.error = error
        self.tripped = False

    def step(self):
        if self.left == 0 and not self.tripped:
            self.tripped = True
            raise self.error
        self.left -= 1


class TripClock(ManualClock):
    def __init__(self, wire):
        super().__init__()
        self.wire = wire

    def sleep(self, seconds):
        self.wire.step()
        super().sleep(seconds)

    async def asleep(self, seconds):
        self.wire.step()
        await anyio.lowlevel.checkpoint()
        super().sleep(seconds)


class TripTransport(ScriptedTransport):
    def __init__(self, wire):
        super().__init__({"10.0.0.1:80": [503], "10.0.0.2:80": [200]})
        self.wire = wire

    def send(self, target, request):
        self.wire.step()
        reply = super().send(target, request)
        self.trip_after(reply)
        return reply

    def trip_after(self, reply):
        try:
            self.wire.step()
        except BaseException:
            reply.body.close()  # a transport that fails hands nothing out
            raise

    def cooperative(self):
        inner, wire = super().cooperative(), self.wire
        trip_after = self.trip_after

        class Async:
            async def send(self, target, request):
                wire.step()
                reply = await inner.send(target, request)
                trip_after(reply)
                return reply

        return Async()


@pytest.mark.parametrize("error", [Cancelled(), RuntimeError("boom"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("run", ["threads", "asyncio", "trio"])
def test_an_exception_at_every_step_gives_everything_back(run, error):
    finished = 0
    for at in steps(12):
        trip = Tripwire(at, error)
        mesh = mesh_of(YAML, clock=TripClock(trip), telemetry=False)
        wire = TripTransport(trip)
        try:
            _one(run, mesh, wire)
            finished += 1
        except BaseException as caught:
            assert trip.tripped, caught
        assert nothing_taken(mesh), (at, taken(mesh))
        assert wire.open == 0, at
        mesh.close()
    assert 0 < finished < 12, "some steps were reached, and the call has an end"


def _one(run, mesh, wire):
    if run == "threads":
        with httpx.Client(transport=MeshTransport(mesh, transport=wire)) as client:
            client.get("http://svc/")
        return

    async def main():
        async with httpx.AsyncClient(transport=AsyncMeshTransport(mesh, transport=wire.cooperative())) as client:
            await client.get("http://svc/")

    asyncio.run(main()) if run == "asyncio" else trio.run(main)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelling_at_every_checkpoint_gives_everything_back(backend):
    """The task is cancelled after its n-th step, for n from 1 until it is over before that."""

    async def main():
        for budget in range(1, 40):
            mesh = mesh_of(YAML, clock=ManualClock(), telemetry=False)
            wire = ScriptedTransport({"10.0.0.1:80": [503], "10.0.0.2:80": [200]})
            done = False
            async with httpx.AsyncClient(transport=AsyncMeshTransport(mesh, transport=wire.cooperative())) as client:

                async def work():
                    nonlocal done
                    await client.get("http://svc/")
                    done = True

                async with anyio.create_task_group() as group:
                    group.start_soon(work)
                    for _ in range(budget):
                        await anyio.lowlevel.checkpoint()
                    group.cancel_scope.cancel()
            assert nothing_taken(mesh), (budget, taken(mesh))
            assert wire.open == 0, budget
            mesh.close()
            if done:
                return budget
        raise AssertionError("the call never came to its end")

    assert anyio.run(main, backend=backend) > 3


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelling_while_bytes_move_closes_the_connection(backend):
    """A real server that never answers: the socket is gone after the caller gave up."""
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def accept():
        while True:
            try:
                accepted.append(listener.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yaml = service("slow", 80) + "---\n" + endpoint_slice("slow", "v1", ("127.0.0.1", listener.getsockname()[1]))
    mesh = mesh_of(yaml, telemetry=False)

    async def main():
        async with AsyncMeshClient(mesh) as client:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(client.get, "http://slow/")
                    with anyio.fail_after(10):
                        while not accepted:
                            await anyio.sleep(0.005)
                    await anyio.sleep(0.1)  # the request is under way
                    scope.cancel()
            assert scope.cancelled_caught
            assert nothing_taken(mesh)
            accepted[0].settimeout(5)
            received = b""
            while chunk := await anyio.to_thread.run_sync(accepted[0].recv, 65536):
                received += chunk
            assert received.startswith(b"GET / HTTP/1.1")

    try:
        anyio.run(main, backend=backend)
    finally:
        listener.close()
        for sock in accepted:
            sock.close()
        mesh.close()


def test_a_dropped_stream_is_accounted_when_it_is_collected(echo):
    server = echo("s")
    yaml = service("svc", 80) + "---\n" + endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    mesh = mesh_of(yaml, telemetry=False)
    with MeshClient(mesh) as client:
        much = b"x" * 1_000_000  # comes back, and not all of it with the headers
        response = client.send(client.build_request("POST", "http://svc/", content=much), stream=True)
        call = response.extensions["mesh"]
        assert not nothing_taken(mesh)
        del response
        gc.collect()
        assert nothing_taken(mesh)
        assert call.flags == "DC"
        with client.stream("POST", "http://svc/", content=much) as response:
            assert not nothing_taken(mesh)
            response.read()
            assert nothing_taken(mesh), "the body has ended"
        with client.stream("POST", "http://svc/", content=much):
            pass
        assert nothing_taken(mesh), "closed without reading"
    mesh.close()


def test_a_dropped_stream_has_one_outcome_and_ends_its_spans(echo):
    server = echo("s")
    yaml = service("svc", 80) + "---\n" + endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    mesh = mesh_of(yaml)
    mesh.observer.trace_with(tracers)
    mesh.observer.metrics = IstioMetrics(meters.get_meter("test"), mesh.client, meters)
    with MeshClient(mesh) as client:
        request = client.build_request("POST", "http://svc/", content=b"x" * 1_000_000)
        response = client.send(request, stream=True)
        assert spans.get_finished_spans() == ()
        del response
        gc.collect()
        gc.collect()
        attempt, whole = spans.get_finished_spans()
        assert attempt.parent.span_id == whole.context.span_id
        metrics = [m for r in reader.get_metrics_data().resource_metrics for s in r.scope_metrics for m in s.metrics]
        (requests,) = (m for m in metrics if m.name == "istio_requests_total")
        (point,) = requests.data.data_points
        assert (point.value, point.attributes["response_flags"]) == (1, "DC")
    mesh.close()
    tracers.shutdown()
    meters.shutdown()


def test_a_stream_may_be_collected_while_its_own_locks_are_held(echo):
    """The collector runs where it likes, also in a thread that is just counting."""
    server = echo("s")
    limits = {"trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 5}}, "outlierDetection": {}}}
    rule = {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "svc"}}
    yaml = service("svc", 80) + "---\n" + endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    mesh = mesh_of(yaml, json.dumps({**rule, "spec": {"host": "svc", **limits}}))
    with MeshClient(mesh) as client:
        much = b"x" * 1_000_000  # comes back, and not all of it with the headers
        response = client.send(client.build_request("POST", "http://svc/", content=much), stream=True)
        (cluster,) = mesh.state.clusters()
        with cluster.lock, cluster._gate._lock:
            del response
            gc.collect()
        assert nothing_taken(mesh)
    mesh.close()


def test_an_abandoned_async_stream_is_accounted_too(echo):
    server = echo("s")
    yaml = service("svc", 80) + "---\n" + endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    mesh = mesh_of(yaml, telemetry=False)

    async def main():
        async with AsyncMeshClient(mesh) as client:
            response = await client.send(
                client.build_request("POST", "http://svc/", content=b"x" * 1_000_000), stream=True
            )
            assert not nothing_taken(mesh)
            del response
            gc.collect()
            assert nothing_taken(mesh)
            for _ in range(5):
                await anyio.sleep(0)

    asyncio.run(main())
    mesh.close()
