"""RPCs that are begun before the mesh has any configuration: they wait for it aside, in their own time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import grpc
import pytest

import meshlib.grpc.aio
from meshlib import Mesh, errors
from meshlib.dataplane.request import Request
from meshlib.grpc.message_replay import KeptMessages
from meshlib.replay import ReplayMemory
from meshlib.testing import StaticProvider
from tests.grpc.colours import KINDS, STACKS
from tests.grpc.peers import world
from tests.grpc.test_channel_policies import Client, eventually, policy, to
from tests.grpc.test_channel_policies import route as rule

CODES = grpc.StatusCode


class Late(StaticProvider):
    """Publishes nothing until ``come``."""

    def __init__(self, text):
        super().__init__(text)
        self.come = threading.Event()

    async def run(self, publish):
        while not self.come.is_set():
            await asyncio.sleep(0.005)
        await super().run(publish)


@pytest.fixture(params=STACKS, ids=lambda stack: stack.name)
def stack(request):
    return request.param()


@contextlib.contextmanager
def waiting(stack, text, **mesh):
    provider = Late(text)
    with Mesh(provider, telemetry=False, **mesh) as made:
        make = meshlib.grpc.aio.mesh_channel if stack.aio else meshlib.grpc.mesh_channel
        with stack.client(lambda: make("reviews:9080", made)) as channel:
            yield provider, Client(stack, channel, made)


@pytest.mark.parametrize("shape", KINDS)
def test_an_rpc_is_begun_without_a_wait_and_sent_once_there_is_a_configuration(stack, peers, shape):
    with waiting(stack, world(peers["v1"])) as (provider, mesh):
        call = mesh.open(shape)  # begun in the event loop, which goes on
        if shape.startswith("Stream"):
            call.done_writing()
        assert not call.call.done()
        assert peers["v1"].seen == []
        provider.come.set()
        assert call.end().code is CODES.OK
        assert mesh.settles()


@pytest.mark.parametrize("shape", KINDS)
def test_its_own_time_bounds_the_wait(stack, peers, shape):
    with waiting(stack, world(peers["v1"])) as (_, mesh):
        before = time.monotonic()
        done = mesh.ask(shape, timeout=0.2)
        assert time.monotonic() - before < 5
        assert done.code is CODES.DEADLINE_EXCEEDED
        assert "no configuration" in done.details
        assert mesh.settles()


@pytest.mark.parametrize("shape", ["UnaryUnary", "StreamStream"])
def test_a_mesh_that_does_not_become_ready_fails_it_with_both_errors(stack, peers, shape):
    with waiting(stack, world(peers["v1"]), ready_timeout=0.1) as (_, mesh):
        done = mesh.ask(shape)
        assert done.code is CODES.UNAVAILABLE
        assert isinstance(done.error, errors.NotReady)


@pytest.mark.parametrize("shape", ["UnaryUnary", "StreamStream"])
def test_it_can_be_cancelled_while_it_waits(stack, peers, shape):
    with waiting(stack, world(peers["v1"])) as (provider, mesh):
        call = mesh.open(shape)
        call.cancel()
        assert call.end().code is CODES.CANCELLED
        provider.come.set()
        assert mesh.ask().code is CODES.OK
        assert len(peers["v1"].seen) == 1


def test_its_copy_is_made_when_it_is_routed(stack, peers):
    rules = policy({"subsets": [{"name": name, "labels": {"version": name}} for name in ("v1", "v2")]})
    rules += "---\n" + rule([{"route": [to("v1")], "mirrors": [{"destination": to("v2")["destination"]}]}])
    with waiting(stack, world(peers["v1"], peers["v2"]) + "---\n" + rules) as (provider, mesh):
        call = mesh.open("UnaryStream")
        provider.come.set()
        assert call.end().code is CODES.OK
        assert eventually(lambda: len(peers["v2"].seen) == 1)


def test_written_messages_wait_too(peers):
    async def whole():
        provider = Late(world(peers["v1"]))
        async with Mesh(provider, telemetry=False) as mesh, meshlib.grpc.aio.mesh_channel("reviews:9080", mesh) as made:
            call = made.stream_unary("/test.S/StreamUnary")(timeout=30)
            writing = asyncio.ensure_future(call.write(b"abc"))
            await asyncio.sleep(0.05)
            assert not writing.done()
            provider.come.set()
            await writing
            await call.done_writing()
            return await call

    assert b'"read": [3]' in asyncio.run(whole())


def test_what_could_not_be_kept_cannot_be_sent_from_its_beginning_by_an_rpc_that_is_begun_anew():
    requests = [Request("POST", "http", "reviews", 9080, "/test.S/StreamUnary") for _ in range(3)]
    kept = KeptMessages(requests[0], ReplayMemory(100, 1000))
    kept.keep(b"x" * 60)
    kept.follow(requests[1])
    assert requests[1].replayable
    kept.keep(b"x" * 60)
    assert not requests[1].replayable
    kept.follow(requests[2])
    assert not requests[2].replayable
