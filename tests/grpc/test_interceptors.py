"""Channels that the application made itself: beside other interceptors, in several threads and loops, after a fork."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import grpc.aio
import pytest

from meshlib.grpc import MeshInterceptor, aio
from meshlib.grpc.unpicked import unpicked_of
from meshlib.testing import mesh_of
from tests.grpc.colours import STACKS
from tests.grpc.peers import world
from tests.grpc.table import Table, to, virtual_service

METHOD = "/test.S/UnaryUnary"
RETRY = virtual_service(f"{{retries: {{attempts: 2, retryOn: unavailable}}, {to('all')}}}")


@pytest.fixture(params=STACKS, ids=lambda stack: stack.name)
def stack(request):
    return request.param()


@pytest.fixture
def mesh(peers):
    with mesh_of(world(peers["v1"]), RETRY, telemetry=False) as made:
        yield made


def under_way(mesh):
    return sum(cluster.active + cluster.retries for cluster in unpicked_of(mesh).state.clusters())


def test_rpcs_to_a_host_that_the_mesh_does_not_know_are_left_alone(stack, peers):
    table = Table(stack, "UnaryUnary", "intercepted", peers)
    with table.over(RETRY, of="v1", target="elsewhere.example:80"):
        done = table.ask(("code", "14"), ("until", "1"))
    assert done.code is grpc.StatusCode.UNAVAILABLE
    assert "x-envoy-attempt-count" not in peers["v1"].seen[0]["metadata"]


def test_an_interceptor_behind_sees_each_attempt_and_one_before_each_rpc(mesh, peers):
    class Seeing(grpc.UnaryUnaryClientInterceptor):
        count = 0

        def intercept_unary_unary(self, continuation, client_call_details, request):
            self.count += 1
            return continuation(client_call_details, request)

    before, behind = Seeing(), Seeing()
    with grpc.insecure_channel(f"127.0.0.1:{peers['v1'].port}") as bare:
        channel = grpc.intercept_channel(bare, before, MeshInterceptor("reviews:9080", mesh), behind)
        asked = channel.unary_unary(METHOD)
        asked(b"", metadata=(("code", "14"), ("until", "2")), timeout=30)
        future = asked.future(b"", metadata=(("code", "14"), ("until", "2")), timeout=30)
        assert b"v1" in future.result(30)
    assert (before.count, behind.count) == (2, 6)


def test_an_aio_interceptor_behind_may_wait_and_answer_by_itself(mesh, peers):
    class Waiting(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, client_call_details, request):
            await asyncio.sleep(0)
            return b"own" if request == b"own" else await continuation(client_call_details, request)

    async def main():
        interceptors = [*aio.MeshInterceptor("reviews:9080", mesh), Waiting()]
        address = f"127.0.0.1:{peers['v1'].port}"
        async with grpc.aio.insecure_channel(address, interceptors=interceptors) as channel:
            asked = channel.unary_unary(METHOD)
            retried = await asked(b"", metadata=(("code", "14"), ("until", "2")), timeout=30)
            return retried, await asked(b"own", timeout=30)

    retried, own = asyncio.run(main())
    assert (b'"x-envoy-attempt-count": "3"' in retried, own) == (True, b"own")
    assert under_way(mesh) == 0


def test_what_is_written_message_by_message_goes_through_too(mesh, peers):
    async def main():
        address = f"127.0.0.1:{peers['v1'].port}"
        interceptors = aio.MeshInterceptor("reviews:9080", mesh)
        async with grpc.aio.insecure_channel(address, interceptors=interceptors) as channel:
            call = channel.stream_unary("/test.S/StreamUnary")(timeout=30)
            for size in (1, 2, 3):
                await call.write(bytes(size))
            await call.done_writing()
            return await call

    assert b'"read": [1, 2, 3]' in asyncio.run(main())


def test_many_threads_share_one_interceptor(mesh, peers):
    with grpc.insecure_channel(f"127.0.0.1:{peers['v1'].port}") as bare, ThreadPoolExecutor(16) as threads:
        asked = grpc.intercept_channel(bare, MeshInterceptor("reviews:9080", mesh)).unary_unary(METHOD)
        done = list(threads.map(lambda number: asked(b"", timeout=30), range(200)))
    assert (len(done), under_way(mesh)) == (200, 0)


def test_event_loops_in_several_threads_share_one_interceptor(mesh, peers):
    interceptors = aio.MeshInterceptor("reviews:9080", mesh)

    async def main():
        address = f"127.0.0.1:{peers['v1'].port}"
        async with grpc.aio.insecure_channel(address, interceptors=interceptors) as channel:
            asked = channel.unary_unary(METHOD)
            return await asyncio.gather(*(asked(b"", timeout=30) for _ in range(20)))

    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(lambda _: asyncio.run(main()), range(2)))
    assert [len(each) for each in done] == [20, 20]
    assert under_way(mesh) == 0


PROGRAM = """
import asyncio, os, sys
import grpc, grpc.aio
from meshlib.grpc import MeshInterceptor, aio
from meshlib.testing import mesh_of
port, yaml, stack = sys.argv[1:]
mesh = mesh_of(yaml, telemetry=False)
mesh.explain("POST", "http://reviews:9080/x")
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
address = f"127.0.0.1:{port}"
async def main():
    interceptors = aio.MeshInterceptor("reviews:9080", mesh)
    async with grpc.aio.insecure_channel(address, interceptors=interceptors) as channel:
        return await channel.unary_unary("/test.S/UnaryUnary")(b"", timeout=30)
if stack == "asyncio":
    answer = asyncio.run(main())
else:
    channel = grpc.intercept_channel(grpc.insecure_channel(address), MeshInterceptor("reviews:9080", mesh))
    answer = channel.unary_unary("/test.S/UnaryUnary")(b"", timeout=30)
os._exit(0 if b"v1" in answer else 3)
"""


def test_a_mesh_made_before_a_fork_serves_the_childs_channels(stack, peers):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PROGRAM, str(peers["v1"].port), world(peers["v1"]), stack.name]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stderr
