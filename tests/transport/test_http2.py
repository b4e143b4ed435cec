"""HTTP/2 of our own over real sockets, in every colour: streams, windows, good-byes, early answers, probes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from dataclasses import replace

import pytest
import trio
from h2.errors import ErrorCodes
from h2.events import DataReceived, PingReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from meshlib.dataplane.outcome import Failure
from meshlib.model.policy import Http2KeepAlive
from meshlib.transport.base import BreakOff
from meshlib.transport.blocking import BlockingPools
from meshlib.transport.cooperative import CooperativePools
from tests.transport.http2_peer import RUNS, Talk, Wire, answering, ask, at
from tests.transport.test_pools import script

__all__ = ["script"]

MANY = 40
pytestmark = pytest.mark.parametrize("run", RUNS)


# One connection -----------------------------------------------------------------------------------------------------


def test_a_burst_makes_one_connection_and_every_answer_is_its_requests_own(run, script):
    server = script(answering)
    paths = [b"/%d" % number for number in range(MANY)]
    assert Talk(run, at(server)).all(*(ask(path=path) for path in paths)) == [(200, path) for path in paths]
    assert server.connections == 1


def test_another_connection_is_made_only_where_the_limit_binds(run, script):
    server = script(answering)
    target = at(server, max_concurrent_streams=3)
    assert Talk(run, target).each(*(ask() for _ in range(6))) == [(200, b"/x")] * 6
    assert server.connections == 1
    assert Talk(run, target).all(*(ask() for _ in range(12))) == [(200, b"/x")] * 12


def counting(most: list[int], **settings: int):
    """Answers each stream after a while; ``most`` gets the numbers of streams that were open on a connection."""

    def handle(sock: socket.socket) -> None:
        wire, lock = Wire(sock, **settings), threading.Lock()
        now_open: set[int] = set()

        def answer(stream: int) -> None:
            with lock:
                now_open.discard(stream)
                wire.answer(stream)

        for event in wire.come():
            if isinstance(event, StreamEnded):
                now_open.add(event.stream_id)
                most.append(len(now_open))
                threading.Timer(0.05, answer, (event.stream_id,)).start()

    return handle


def test_the_configured_number_of_streams_is_never_exceeded(run, script):
    most: list[int] = []
    server = script(counting(most))
    assert Talk(run, at(server, max_concurrent_streams=2)).all(*(ask() for _ in range(8))) == [(200, b"ok")] * 8
    assert max(most) == 2
    assert server.connections >= 2


def test_the_peers_number_of_streams_is_never_exceeded_nor_tried(run, script):
    most: list[int] = []
    server = script(counting(most, MAX_CONCURRENT_STREAMS=3))
    assert Talk(run, at(server)).all(*(ask() for _ in range(9))) == [(200, b"ok")] * 9
    assert max(most) <= 3
    assert server.connections >= 2


def test_a_limit_that_the_peer_lowers_to_nothing_refuses_and_sends_nothing(run, script):
    def handle(sock: socket.socket) -> None:
        wire = Wire(sock, MAX_CONCURRENT_STREAMS=10)
        for event in wire.come():
            if isinstance(event, StreamEnded):
                wire.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 0})
                wire.answer(event.stream_id)

    server = script(handle)
    assert Talk(run, at(server)).each(ask(), ask(), ask()) == [(200, b"ok")] * 3
    assert server.connections == 3  # one that allows nothing is let go


def test_a_peer_that_allows_no_streams_at_all_refuses_at_once(run, script):
    server = script(lambda sock: [None for _ in Wire(sock, MAX_CONCURRENT_STREAMS=0).come()])
    assert Talk(run, at(server)).each(ask()) == [(Failure.REFUSED_STREAM, False)]


def test_a_peer_that_never_begins_is_a_connection_that_was_not_made(run, script):
    server = script(lambda sock: [None for _ in iter(lambda: sock.recv(65536), b"")])
    assert Talk(run, at(server, connect_timeout=0.1)).each(ask()) == [(Failure.CONNECT_TIMEOUT, False)]
    server = script(lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))
    assert Talk(run, at(server)).each(ask()) == [(Failure.PROTOCOL, False)]


def test_a_peer_that_closes_every_connection_at_once_is_an_error_and_no_endless_loop(run, script):
    server = script(lambda sock: sock.close())
    assert Talk(run, at(server)).each(ask()) == [(Failure.CLOSED, False)]
    assert server.connections == 1


def test_one_connection_carries_as_many_requests_as_the_settings_say(run, script):
    server = script(answering)
    found = Talk(run, at(server, max_requests_per_connection=2)).each(*(ask() for _ in range(6)))
    assert found == [(200, b"/x")] * 6
    assert server.connections == 3


# Messages -----------------------------------------------------------------------------------------------------------


def test_headers_go_in_lower_case_without_those_of_a_connection_and_trailers_come_back(run, script):
    seen: list[list[tuple[str, str]]] = []

    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        [request] = wire.until(RequestReceived)
        seen.append(list(request.headers))
        wire.h2.send_headers(1, [(":status", "103"), ("link", "x")])
        wire.h2.send_headers(1, [(":status", "200"), ("x-a", "1"), ("x-a", "2")])
        wire.h2.send_data(1, b"body")
        wire.h2.send_headers(1, [("grpc-status", "0")], end_stream=True)
        wire.flush()
        wire.sock.recv(1)

    given = [(b"X-Canary", b" yes "), (b"Connection", b"x-hop, keep-alive"), (b"X-Hop", b"1"), (b"TE", b"gzip")]
    talk = Talk(run, at(script(handle)))
    assert talk.each(ask(headers=given)) == [(200, b"body")]
    assert seen == [
        [(":method", "GET"), (":scheme", "http"), (":authority", "svc"), (":path", "/x"), ("x-canary", "yes")]
    ]
    [response] = talk.responses
    assert response.headers == [(b"x-a", b"1"), (b"x-a", b"2")]
    assert response.extensions["trailing_headers"] == [(b"grpc-status", b"0")]
    assert (response.http_version, response.extensions["stream_id"]) == (b"HTTP/2", 1)


def test_answers_without_a_body_end_where_their_headers_do(run, script):
    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        for event in wire.come():
            if isinstance(event, RequestReceived):
                method = dict(event.headers)[":method"]
                status = {"HEAD": 200, "DELETE": 204, "PUT": 304}[method]
                length = [] if status == 204 else [("content-length", "1000")]
                wire.answer(event.stream_id, b"", status, *length)

    server = script(handle)
    found = Talk(run, at(server)).each(ask(b"HEAD"), ask(b"DELETE"), ask(b"PUT", b""), ask(b"HEAD"))
    assert found == [(200, b""), (204, b""), (304, b""), (200, b"")]
    assert server.connections == 1


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 65535, 65536, 700_000])
def test_bodies_of_any_size_go_both_ways_within_the_windows(run, size, script):
    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        body = b""
        for event in wire.come():
            if isinstance(event, DataReceived):
                body += event.data
                wire.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                wire.h2.send_headers(event.stream_id, [(":status", "200")], end_stream=not body)
            while body and any(isinstance(each, StreamEnded) for each in wire.events):
                room = min(wire.h2.local_flow_control_window(1), 16384, len(body))
                if not room:
                    break
                wire.h2.send_data(1, body[:room], end_stream=room == len(body))
                body = body[room:]

    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    target = at(script(handle))
    assert Talk(run, target).each(ask(b"POST", body)) == [(200, body)]
    pieces = replace(ask(b"POST"), body=iter([body[:100], b"", body[100:]]))
    assert Talk(run, target).each(pieces) == [(200, body)]


def test_a_slow_caller_makes_its_own_peer_wait_and_no_other_stream(run, script):
    sent: dict[int, int] = {}
    known = threading.Event()

    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        for event in wire.come():
            if isinstance(event, StreamEnded) and event.stream_id == 1:
                wire.h2.send_headers(1, [(":status", "200")])
                while room := min(wire.h2.local_flow_control_window(1), 16384):
                    wire.h2.send_data(1, b"x" * room)
                    sent[1] = sent.get(1, 0) + room
                wire.flush()
                known.set()
            elif isinstance(event, StreamEnded):
                wire.answer(event.stream_id)

    target = at(script(handle))
    if run == "threads":
        pools = BlockingPools()
        slow = pools.send(target, ask())
        assert known.wait(10)
        others = [b"".join(pools.send(target, ask()).body) for _ in range(20)]
        slow.body.close()
        pools.close()
    else:
        others = []

        async def main() -> None:
            pools = CooperativePools()
            slow = await pools.send(target, ask())
            for _ in range(20):
                response = await pools.send(target, ask())
                others.append(b"".join([chunk async for chunk in response.body]))
            await slow.body.aclose()
            await pools.aclose()

        asyncio.run(main()) if run == "asyncio" else trio.run(main)
    assert others == [b"ok"] * 20
    assert sent[1] == 256 * 1024


# Ends ---------------------------------------------------------------------------------------------------------------


def test_goaway_in_the_middle_loses_no_answer_and_refuses_the_rest_unsent(run, script):
    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        streams = [event.stream_id for event in wire.until(StreamEnded, 10)]
        last = sorted(streams)[4]
        wire.raw(bytes([0, 0, 8, 7, 0, 0, 0, 0, 0]) + last.to_bytes(4, "big") + bytes(4))
        time.sleep(0.05)  # the answers come well after the GOAWAY
        for stream in sorted(streams)[:5]:
            wire.answer(stream, b"late")
        for _ in wire.come():
            pass

    server = script(handle)
    found = Talk(run, at(server)).all(*(ask(b"POST", b"body") for _ in range(10)))
    assert sorted(map(str, found)) == sorted(map(str, [(200, b"late")] * 5 + [(Failure.REFUSED_STREAM, False)] * 5))


def test_after_goaway_new_requests_take_a_new_connection_while_the_old_one_finishes(run, script):
    told = threading.Event()

    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        [first] = wire.until(StreamEnded)
        if server.connections > 1:
            wire.answer(first.stream_id, b"new")
            told.set()
        else:
            wire.h2.send_headers(1, [(":status", "200")])
            wire.raw(bytes([0, 0, 8, 7, 0, 0, 0, 0, 0]) + (2**31 - 1).to_bytes(4, "big") + bytes(4))
            assert told.wait(10)
            wire.h2.send_data(1, b"old", end_stream=True)
            wire.flush()
        for _ in wire.come():
            pass

    server = script(handle)
    target = at(server)
    bodies: list[bytes] = []
    if run == "threads":
        pools = BlockingPools()
        first = pools.send(target, ask())
        time.sleep(0.1)
        bodies += [b"".join(pools.send(target, ask()).body), b"".join(first.body)]
        pools.close()
    else:

        async def main() -> None:
            pools = CooperativePools()
            first = await pools.send(target, ask())
            await (asyncio.sleep(0.1) if run == "asyncio" else trio.sleep(0.1))
            second = await pools.send(target, ask())
            for each in (second, first):
                bodies.append(b"".join([chunk async for chunk in each.body]))
            await pools.aclose()

        asyncio.run(main()) if run == "asyncio" else trio.run(main)
    assert bodies == [b"new", b"old"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (ErrorCodes.REFUSED_STREAM, (Failure.REFUSED_STREAM, False)),
        (ErrorCodes.INTERNAL_ERROR, (Failure.RESET, True)),
        (ErrorCodes.CANCEL, (Failure.RESET, True)),
        (ErrorCodes.ENHANCE_YOUR_CALM, (Failure.RESET, True)),
        (4711, (Failure.RESET, True)),
    ],
)
def test_a_reset_ends_its_stream_alone_and_says_whether_it_was_taken(run, code, expected, script):
    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        for event in wire.come():
            if isinstance(event, StreamEnded):
                if event.stream_id == 3:
                    wire.h2.reset_stream(3, code)
                else:
                    wire.answer(event.stream_id)

    server = script(handle)
    assert Talk(run, at(server)).each(ask(), ask(), ask()) == [(200, b"ok"), expected, (200, b"ok")]
    assert server.connections == 1


@pytest.mark.parametrize("status", [200, 413])
def test_an_answer_before_the_request_is_whole_ends_the_upload(run, status, script):
    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        for event in wire.come():
            if isinstance(event, RequestReceived):
                wire.answer(event.stream_id, b"enough" if event.stream_id == 1 else b"ok", status)

    def endless():
        while True:
            yield b"x" * 1000

    server = script(handle)
    endless_request = replace(ask(b"POST"), body=endless())
    assert Talk(run, at(server)).each(endless_request, ask()) == [(status, b"enough"), (status, b"ok")]
    assert server.connections == 1


@pytest.mark.parametrize("answers", [True, False])
def test_an_expectation_is_waited_for_and_a_refusal_spares_the_body(run, answers, script):
    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        wire.until(RequestReceived)
        if answers:
            assert not any(isinstance(event, DataReceived) for event in wire.events)
            wire.h2.send_headers(1, [(":status", "100")])
            wire.flush()
            wire.until(StreamEnded)
            wire.answer(1)
        else:
            wire.answer(1, b"no", 417)
        for event in wire.come():
            assert not isinstance(event, DataReceived)

    request = ask(b"POST", b"body", headers=[(b"Expect", b"100-continue")])
    assert Talk(run, at(script(handle))).each(request) == [(200, b"ok") if answers else (417, b"no")]


def test_a_body_closed_early_resets_its_stream_and_no_other(run, script):
    reset = threading.Event()

    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        for event in wire.come():
            if isinstance(event, StreamEnded) and event.stream_id == 1:
                wire.h2.send_headers(1, [(":status", "200")])
                wire.h2.send_data(1, b"part")
            elif isinstance(event, StreamEnded):
                wire.answer(event.stream_id)
            elif isinstance(event, StreamReset):
                assert (event.stream_id, event.error_code) == (1, ErrorCodes.CANCEL)
                reset.set()

    server = script(handle)
    target = at(server)
    if run == "threads":
        pools = BlockingPools()
        pools.send(target, ask()).body.close()
        assert pools.send(target, ask()).status == 200
        assert reset.wait(10)
        pools.close()
    else:

        async def main() -> None:
            pools = CooperativePools()
            await (await pools.send(target, ask())).body.aclose()
            assert (await pools.send(target, ask())).status == 200
            while not reset.is_set():
                await (asyncio.sleep(0.01) if run == "asyncio" else trio.sleep(0.01))
            await pools.aclose()

        asyncio.run(main()) if run == "asyncio" else trio.run(main)
    assert server.connections == 1


def test_a_call_that_is_given_up_resets_its_stream_and_leaves_the_connection(run, script):
    silent = script(lambda sock: [None for _ in Wire(sock).come()])
    assert Talk(run, at(silent)).each(ask(read=0.05), ask(deadline=time.monotonic() + 0.3)) == [
        (Failure.READ_TIMEOUT, True),
        (Failure.DEADLINE, True),
    ]
    assert silent.connections == 1


def test_an_upload_that_the_peer_does_not_take_ends_by_the_write_timeout(run, script):
    server = script(lambda sock: [None for _ in Wire(sock).come()])
    assert Talk(run, at(server)).each(ask(b"POST", b"x" * 200_000, write=0.1)) == [(Failure.WRITE_TIMEOUT, True)]


# Probes -------------------------------------------------------------------------------------------------------------


def test_a_peer_that_answers_no_ping_is_given_up(run, script):
    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        wire.until(RequestReceived)
        while sock.recv(65536):  # nothing is answered any more
            pass

    target = at(script(handle), http2_keepalive=Http2KeepAlive(0.05, 0.1))
    started = time.monotonic()
    assert Talk(run, target).each(ask()) == [(Failure.CLOSED, True)]
    assert time.monotonic() - started < 10


def test_a_peer_that_answers_pings_may_take_its_time(run, script):
    pings: list[int] = []

    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        for event in wire.come():
            if isinstance(event, PingReceived):
                pings.append(1)
                if len(pings) == 3:
                    wire.answer(1)

    target = at(script(handle), http2_keepalive=Http2KeepAlive(0.03, 10))
    assert Talk(run, target).each(ask()) == [(200, b"ok")]


# Threads alone ------------------------------------------------------------------------------------------------------


def test_an_exchange_broken_off_from_another_thread_ends_alone(run, script):
    if run != "threads":
        pytest.skip("tasks are cancelled instead")
    server = script(lambda sock: [None for _ in Wire(sock).come()])
    talk = Talk(run, at(server))
    request = ask()
    request.break_off = BreakOff()
    threading.Timer(0.1, request.break_off).start()
    assert talk.each(request) == [(Failure.CLOSED, True)]
    assert server.connections == 1


def test_a_task_that_is_cancelled_leaves_the_connection_to_the_others(run, script):
    if run == "threads":
        pytest.skip("threads cannot be cancelled")
    seen = threading.Event()
    server = script(lambda sock: answering_but_the_first(sock, seen))
    target = at(server)

    async def main() -> None:
        pools = CooperativePools()
        if run == "asyncio":
            task = asyncio.create_task(pools.send(target, ask()))
            assert await asyncio.to_thread(seen.wait, 20)
            task.cancel()
            await asyncio.wait([task])
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pools.send, target, ask())
                assert await trio.to_thread.run_sync(seen.wait, 20)
                nursery.cancel_scope.cancel()
        assert (await pools.send(target, ask())).status == 200
        await pools.aclose()

    asyncio.run(main()) if run == "asyncio" else trio.run(main)
    assert server.connections == 1


def answering_but_the_first(sock: socket.socket, seen: threading.Event) -> None:
    wire = Wire(sock)
    for event in wire.come():
        if isinstance(event, StreamEnded) and event.stream_id > 1:
            wire.answer(event.stream_id)
        elif isinstance(event, StreamEnded):
            seen.set()


# Many at once -------------------------------------------------------------------------------------------------------


def echoing(sock: socket.socket) -> None:
    """Gives each stream its body back, within its window."""
    wire = Wire(sock)
    bodies: dict[int, bytearray] = {}
    whole: set[int] = set()
    for event in wire.come():
        stream = getattr(event, "stream_id", 0)
        if isinstance(event, RequestReceived):
            bodies[stream] = bytearray()
        elif isinstance(event, DataReceived) and stream in bodies:
            bodies[stream] += event.data
            wire.h2.acknowledge_received_data(event.flow_controlled_length, stream)
        elif isinstance(event, StreamReset):
            whole.discard(stream)
        elif isinstance(event, StreamEnded):
            with contextlib.suppress(ProtocolError):  # it may have been reset in the same breath
                wire.h2.send_headers(stream, [(":status", "200")])
                whole.add(stream)
        for each in [stream for stream in whole if wire.is_open(stream)]:
            left = bodies[each]
            while left and (room := min(wire.h2.local_flow_control_window(each), 16384, len(left))):
                wire.h2.send_data(each, bytes(left[:room]), end_stream=room == len(left))
                del left[:room]
            if not left:
                whole.discard(each)


def test_many_at_once_share_a_connection_and_each_gets_its_own_body(run, script):
    server = script(echoing)
    sizes = [1 + (number * 7919) % 90_000 for number in range(60)]
    bodies = [bytes([number]) * size for number, size in enumerate(sizes)]
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        found = Talk(run, at(server)).all(*(ask(b"POST", body) for body in bodies))
    finally:
        sys.setswitchinterval(switch)
    assert found == [(200, body) for body in bodies]
    assert server.connections == 1


def test_cancelled_at_any_moment_a_call_leaves_its_connection_as_it_was(run, script):
    if run != "asyncio":
        pytest.skip("asyncio alone tells its turns, which are counted here")
    server = script(echoing)
    target, body = at(server), b"x" * 100_000

    async def main() -> None:
        pools = CooperativePools()

        async def call() -> bytes:
            response = await pools.send(target, ask(b"POST", body))
            try:
                return b"".join([chunk async for chunk in response.body])
            finally:
                await response.body.aclose()

        assert await call() == body
        for turns in range(60):
            task = asyncio.ensure_future(call())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await call() == body
        [pool] = next(iter(pools._loops.values())).values()
        [connection] = pool._shelf.all
        assert connection.session.streams == {}
        await pools.aclose()

    asyncio.run(main())
    assert server.connections == 1
