"""Mesh channels against grpcio's own: what calls say of themselves, refuse and raise at their edges."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import grpc
import grpc.aio
import pytest

import meshlib.grpc.aio
from meshlib.testing import mesh_of
from tests.grpc.channels import CHANNELS
from tests.grpc.colours import STACKS
from tests.grpc.peers import world
from tests.grpc.test_channel_policies import eventually

CODES = grpc.StatusCode


@pytest.fixture(scope="module")
def mesh(shared_peers):
    with mesh_of(world(shared_peers["v1"]), telemetry=False) as made:
        made.ready()
        yield made


@pytest.fixture(params=STACKS, ids=lambda stack: stack.name)
def stack(request):
    return request.param()


@pytest.fixture(params=["plain", "mesh"])
def make(request, mesh, peers):
    """Makes a channel of the kind, for either stack."""
    return lambda aio: CHANNELS[request.param](mesh, aio, peers["v1"].port)


@pytest.fixture
def threads(make):
    with make(False) as channel:
        yield channel


def test_a_callback_that_fails_keeps_nobody_else_from_being_told(threads):
    call, told = threads.unary_unary("/test.S/UnaryUnary").future(b"x", metadata=[("delay", "0.1")]), []
    call.add_done_callback(lambda _: 1 / 0)
    call.add_done_callback(told.append)
    call.result(30)
    assert eventually(lambda: told == [call])


def test_a_failed_future_has_a_traceback(threads):
    call = threads.unary_unary("/test.S/UnaryUnary").future(b"x", metadata=[("code", "5")])
    assert call.traceback(30) is not None
    assert threads.unary_unary("/test.S/UnaryUnary").future(b"x").traceback(30) is None


@pytest.mark.parametrize("broken", ["iterator", "serializer"])
def test_a_stream_that_the_caller_breaks_says_so(threads, broken):
    def messages():
        yield b"x"
        if broken == "iterator":
            raise ValueError

    def refuse(_):
        raise ValueError

    made = threads.stream_unary("/test.S/StreamUnary", refuse if broken == "serializer" else None)
    with pytest.raises(grpc.RpcError) as caught:
        made(messages(), timeout=30)
    assert caught.value.code() is (CODES.UNKNOWN if broken == "iterator" else CODES.INTERNAL)
    assert ("iterating" if broken == "iterator" else "serializing") in caught.value.details()


def test_an_answer_that_cannot_be_read_is_the_end_of_the_stream_and_its_status(threads):
    call = threads.unary_stream("/test.S/UnaryStream", None, lambda _: 1 // 0)(b"x", metadata=[("messages", "9")])
    with pytest.raises(grpc.RpcError, match="deserializing"):
        next(call)
    assert (call.code(), call.cancelled()) == (CODES.INTERNAL, False)


@pytest.mark.parametrize("value", ["\u20ac", "line\n"])
def test_metadata_that_cannot_be_sent_is_refused_and_never_changed(threads, peers, value):
    with pytest.raises(grpc.RpcError) as caught:
        threads.unary_unary("/test.S/UnaryUnary")(b"x", metadata=[("key", value)], timeout=30)
    assert caught.value.code() is CODES.INTERNAL
    assert peers["v1"].seen == []


def test_what_is_no_metadata_or_no_message_is_a_type_error(threads):
    ask = threads.unary_unary("/test.S/UnaryUnary")
    with pytest.raises(TypeError):
        ask(b"x", metadata=[("key", 1)])
    with pytest.raises(TypeError):
        ask("text")
    with pytest.raises(TypeError):
        threads.unary_stream("/test.S/UnaryStream")("text")


def test_closing_cancels_whatever_is_under_way(make, peers):
    channel, ended = make(False), []

    def ask():
        try:
            channel.unary_unary("/test.S/UnaryUnary")(b"x", metadata=[("delay", "30")])
        except grpc.RpcError as error:
            ended.append(error)

    future = channel.unary_unary("/test.S/UnaryUnary").future(b"x", metadata=[("delay", "30")])
    stream = channel.unary_stream("/test.S/UnaryStream")(b"x", metadata=[("messages", "900"), ("pause", "0.05")])
    thread = threading.Thread(target=ask)
    thread.start()
    assert next(stream)
    assert eventually(lambda: peers["v1"].ask("active") == 3)
    channel.close()
    thread.join(20)
    with pytest.raises(grpc.RpcError, match="Channel closed"):
        future.result(20)
    with contextlib.suppress(StopIteration), pytest.raises(grpc.RpcError, match="Channel closed"):
        for _ in range(900):
            next(stream)
    (error,) = ended
    assert {error.code(), future.code(), stream.code()} == {CODES.CANCELLED}
    assert (future.cancelled(), stream.cancelled()) == (False, False)
    assert eventually(lambda: peers["v1"].ask("active") == 0)


def test_closing_lets_run_what_another_channel_shares_and_no_copy_is_cut_off(mesh, peers):
    first, second = (meshlib.grpc.mesh_channel("reviews:9080", mesh) for _ in range(2))
    assert second.unary_unary("/test.S/UnaryUnary")(b"x")
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(first.unary_unary("/test.S/UnaryUnary")(b"x", metadata=[("delay", "0.5")]))
    )
    thread.start()
    assert eventually(lambda: peers["v1"].ask("active") == 1)
    first.close()
    thread.join(20)
    second.close()
    assert len(answers) == 1


@pytest.mark.parametrize("seconds", [float("inf"), 1e10])
def test_a_timeout_of_centuries_is_none(stack, mesh, peers, seconds):
    with stack.client(lambda: CHANNELS["mesh"](mesh, stack.aio, 0)) as channel:
        made = stack.run(lambda: channel.unary_unary("/test.S/UnaryUnary"))
        assert stack.ask(made, "unary_unary", [b"x"], timeout=seconds).code is CODES.OK


def in_loop(make, work):
    async def whole():
        async with make(True) as channel:
            return await asyncio.wait_for(work(channel), 30)

    return asyncio.run(whole())


@pytest.mark.parametrize("kind", CHANNELS)
def test_a_cancelled_task_or_stream_is_cancelled_at_once(mesh, peers, kind):
    def make(aio):
        return CHANNELS[kind](mesh, aio, peers["v1"].port)

    async def work(channel):
        call = channel.unary_unary("/test.S/UnaryUnary")(b"x", metadata=[("delay", "30")])
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(call, 0.1)
        stream = channel.unary_stream("/test.S/UnaryStream")(b"x", metadata=[("messages", "900"), ("pause", "0.05")])
        await stream.read()
        stream.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stream.read()
        return call.cancelled(), await call.code(), stream.cancelled(), await stream.code()

    assert in_loop(make, work) == (True, CODES.CANCELLED, True, CODES.CANCELLED)


def test_what_is_over_takes_no_message(make):
    async def work(channel):
        call = channel.stream_stream("/test.S/StreamStream")()
        await call.write(b"1")
        call.cancel()
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"2")
        await call.done_writing()
        return await call.code()

    assert in_loop(make, work) is CODES.CANCELLED


def test_an_event_loop_goes_on_while_many_rpcs_wait(make):
    async def work(channel):
        ask = channel.unary_unary("/test.S/UnaryUnary")
        slow = [ask(b"x", metadata=[("delay", "0.5")]) for _ in range(20)]
        began = time.monotonic()
        await ask(b"x")
        quick = time.monotonic() - began
        await asyncio.gather(*slow)
        return quick < time.monotonic() - began

    assert in_loop(make, work)
