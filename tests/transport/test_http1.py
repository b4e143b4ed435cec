"""HTTP/1.1 of our own against peers that are slow, early, hasty or hostile: a clear end, and never another's bytes."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterable
from typing import Any

import pytest
import trustme

from meshlib.dataplane.outcome import Failure
from meshlib.model.policy import ConnectionPool
from meshlib.transport.base import Target, Timeouts, WireError, WireRequest
from meshlib.transport.blocking import BlockingPools
from meshlib.transport.cooperative import CooperativePools
from meshlib.transport.http1.idle import Age, Idle
from tests.transport.test_pools import OK, Script, answering, head, script

__all__ = ["script"]

RUNS = ["threads", "asyncio"]
BIG = b"x" * 65536


def ask(method: bytes = b"GET", body: Any = None, *headers: tuple[bytes, bytes], **limits: Any) -> WireRequest:
    framing = []
    if isinstance(body, bytes):
        framing = [(b"Content-Length", b"%d" % len(body))]
    elif body is not None:
        framing = [(b"Transfer-Encoding", b"chunked")]
    timeouts = Timeouts(**{"deadline": time.monotonic() + 10, **limits})
    return WireRequest(method, b"/x", b"http", [(b"Host", b"svc"), *framing, *headers], body, timeouts)


def talk(run: str, target: Target, *requests: WireRequest) -> list[Any]:
    """Send one after the other on one set of pools: status and body of each, or how it failed."""
    answers: list[Any] = []
    if run == "threads":
        pools = BlockingPools()
        for request in requests:
            try:
                response = pools.send(target, request)
                answers.append((response.status, b"".join(response.body)))
                response.body.close()
            except WireError as error:
                answers.append(error.failure)
        pools.close()
        return answers

    async def main() -> None:
        pools = CooperativePools()
        for request in requests:
            if request.body is not None and not isinstance(request.body, bytes):
                request.body = _in_tasks(request.body)
            try:
                response = await pools.send(target, request)
                answers.append((response.status, b"".join([chunk async for chunk in response.body])))
                await response.body.aclose()
            except WireError as error:
                answers.append(error.failure)
        await pools.aclose()

    asyncio.run(main())
    return answers


async def _in_tasks(pieces: Any) -> Any:
    """The pieces, made where an event loop cannot be held up by them."""
    iterator, nothing = iter(pieces), object()
    while (piece := await asyncio.to_thread(next, iterator, nothing)) is not nothing:
        yield piece


def at(server: Script, **settings: Any) -> Target:
    return Target("127.0.0.1", server.port, settings=ConnectionPool(**settings))


# What peers do to the framing ---------------------------------------------------------------------------------------

PLAIN = b"HTTP/1.1 200 OK\r\n"
WHOLE = PLAIN + b"Transfer-Encoding: chunked\r\nX: y\r\n\r\n2\r\nok\r\n0\r\nT: u\r\n\r\n"


@pytest.mark.parametrize("run", RUNS)
def test_closing_at_any_byte_is_a_closed_connection_and_never_half_an_answer(run, script):
    cuts = iter(range(len(WHOLE)))

    def handle(sock: socket.socket) -> None:
        head(sock)
        sock.sendall(WHOLE[: next(cuts)])
        sock.close()

    answers = talk(run, at(script(handle)), *(ask() for _ in WHOLE))
    assert answers == [Failure.CLOSED] * len(WHOLE)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    "raw",
    [OK + OK, OK + b"JUNK", OK + b"\r\n\r\nX", OK + b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsmuggled!"],
)
def test_bytes_behind_a_response_never_reach_the_next_one(run, raw, script):
    server = script(answering(raw))
    assert talk(run, at(server), *(ask() for _ in range(4))) == [(200, b"ok")] * 4
    assert server.connections == 4


@pytest.mark.parametrize("run", RUNS)
def test_a_response_before_the_request_is_not_taken_for_its_answer(run, script):
    early = PLAIN + b"Content-Length: 5\r\n\r\nearly"
    known = threading.Event()

    def handle(sock: socket.socket) -> None:
        head(sock)
        sock.sendall(OK)
        if not known.is_set():
            known.set()
            time.sleep(0.05)
            sock.sendall(early)

    def slowly() -> Iterable[WireRequest]:
        yield ask()
        time.sleep(0.3)  # by then what nobody asked for has come
        yield ask()

    server = script(handle)
    pools: Any = BlockingPools() if run == "threads" else None
    if pools is not None:
        found = [b"".join(pools.send(at(server), request).body) for request in slowly()]
        pools.close()
    else:

        async def main() -> list[bytes]:
            pools = CooperativePools()
            bodies = []
            for _ in range(2):
                response = await pools.send(at(server), ask())
                bodies.append(response.body.whole() or b"".join([chunk async for chunk in response.body]))
                await asyncio.sleep(0.3)
            await pools.aclose()
            return bodies

        found = asyncio.run(main())
    assert found == [b"ok", b"ok"]
    assert server.connections == 2


ENDLESS = {
    "headers": (PLAIN, b"X: y\r\n" * 1000),
    "one header": (PLAIN + b"X: ", b"y" * 6000),
    "interim responses": (b"", b"HTTP/1.1 102 P\r\n\r\n" * 300),
    "trailers": (PLAIN + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 1000),
    "a chunk extension": (PLAIN + b"Transfer-Encoding: chunked\r\n\r\n2;", b"y" * 6000),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS)
def test_a_peer_that_never_comes_to_the_body_is_given_up(run, start, more, script):
    def handle(sock: socket.socket) -> None:
        head(sock)
        sock.sendall(start)
        while True:
            sock.sendall(more)

    assert talk(run, at(script(handle)), ask()) == [Failure.PROTOCOL]


@pytest.mark.parametrize("run", RUNS)
def test_bodies_end_as_the_request_and_the_headers_say(run, script):
    def handle(sock: socket.socket) -> None:
        while method := head(sock).split()[0]:
            if method == b"HEAD":
                sock.sendall(PLAIN + b"Content-Length: 1000\r\n\r\n")
            elif method == b"DELETE":
                sock.sendall(b"HTTP/1.1 204 No\r\n\r\n")
            elif method == b"PUT":
                sock.sendall(b"HTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n")
            else:
                sock.sendall(PLAIN + b"\r\nuntil the end")
                sock.close()
                return

    server = script(handle)
    requests = [ask(method) for method in (b"HEAD", b"DELETE", b"PUT", b"HEAD", b"GET")]
    found = talk(run, at(server), *requests)
    assert found == [(200, b""), (204, b""), (304, b""), (200, b""), (200, b"until the end")]
    assert server.connections == 1


@pytest.mark.parametrize("run", RUNS)
def test_many_small_chunks_cost_no_more_than_they_weigh(run, script):
    raw = PLAIN + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
    started = time.process_time()
    assert talk(run, at(script(answering(raw))), ask()) == [(200, b"x" * 100_000)]
    assert time.process_time() - started < 3


@pytest.mark.parametrize("run", RUNS)
def test_a_peer_that_says_when_it_closes_is_taken_at_its_word(run, script):
    raw = PLAIN + b"Keep-Alive: timeout=0\r\nContent-Length: 2\r\n\r\nok"
    server = script(answering(raw))
    talk(run, at(server), ask(), ask(), ask())
    assert server.connections == 3


# What happens while the request is sent -----------------------------------------------------------------------------


def pieces(count: int, reached: list[int] | None = None, wait: float = 0.0) -> Iterable[bytes]:
    for number in range(count):
        if reached is not None:
            reached.append(number)
        time.sleep(wait)
        yield BIG


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("stays", [b"", b"Connection: close\r\n"])
def test_an_error_that_comes_early_ends_the_request_and_its_connection(run, stays, script):
    def handle(sock: socket.socket) -> None:
        head(sock)
        sock.sendall(b"HTTP/1.1 413 Too Much\r\n" + stays + b"Content-Length: 2\r\n\r\nno")
        while sock.recv(65536):
            pass

    reached: list[int] = []
    server = script(handle)
    found = talk(run, at(server), ask(b"POST", pieces(1000, reached, 0.01)), ask(b"POST", b"x" * 10))
    assert found == [(413, b"no")] * 2
    assert len(reached) < 900
    assert server.connections == 2


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("streamed", [True, False])
def test_an_error_from_a_peer_that_reads_no_more_is_heard(run, streamed, script):
    over = threading.Event()

    def handle(sock: socket.socket) -> None:
        head(sock)
        sock.sendall(b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno")
        over.wait(20)

    body = pieces(1000) if streamed else BIG * 1000
    assert talk(run, at(script(handle)), ask(b"POST", body)) == [(413, b"no")]
    over.set()


@pytest.mark.parametrize("run", RUNS)
def test_a_good_answer_that_comes_early_lets_the_request_go_on(run, script):
    received = []

    def handle(sock: socket.socket) -> None:
        data = head(sock)
        sock.sendall(b"HTTP/1.1 103 E\r\n\r\n" + PLAIN + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        while not data.endswith(b"\r\n0\r\n\r\n"):
            data += sock.recv(1 << 20)
        received.append(data.count(b"x" * 65536))
        sock.sendall(b"0\r\n\r\n")

    assert talk(run, at(script(handle)), ask(b"POST", pieces(8, None, 0.02))) == [(200, b"ok")]
    assert received == [8]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("body", [b"hello", b"", BIG * 3], ids=["short", "empty", "long"])
def test_a_body_at_hand_is_framed_as_its_headers_say(run, body, script):
    received = []

    def handle(sock: socket.socket) -> None:
        data = head(sock)
        while not data.endswith(b"0\r\n\r\n"):
            data += sock.recv(1 << 20)
        received.append(data.partition(b"\r\n\r\n")[2])
        sock.sendall(OK)

    request = ask(b"POST", body, (b"Transfer-Encoding", b"chunked"))
    request.headers = [each for each in request.headers if each[0] != b"Content-Length"]
    assert talk(run, at(script(handle)), request) == [(200, b"ok")]
    assert received == [(b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"]


@pytest.mark.parametrize("run", RUNS)
def test_two_ends_that_both_write_do_not_wait_for_each_other(run, script):
    def handle(sock: socket.socket) -> None:
        head(sock)
        sock.sendall(PLAIN + b"Content-Length: %d\r\n\r\n" % (len(BIG) * 300))
        for _ in range(300):
            sock.sendall(BIG)

    found = talk(run, at(script(handle)), ask(b"POST", BIG * 1000))
    assert found == [(200, BIG * 300)]


@pytest.mark.parametrize("run", RUNS)
def test_a_peer_that_takes_nothing_is_a_write_timeout_and_a_slow_one_is_not(run, script):
    over = threading.Event()

    def stuck(sock: socket.socket) -> None:
        head(sock)
        over.wait(20)

    assert talk(run, at(script(stuck)), ask(b"POST", BIG * 500, write=0.2)) == [Failure.WRITE_TIMEOUT]
    over.set()

    def slow(sock: socket.socket) -> None:
        taken = len(head(sock))
        while taken < len(BIG) * 200:
            time.sleep(0.005)
            taken += len(sock.recv(1 << 16))
        sock.sendall(OK)

    started = time.monotonic()
    assert talk(run, at(script(slow)), ask(b"POST", BIG * 200, write=0.5)) == [(200, b"ok")]
    assert time.monotonic() - started > 0.5


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n", (200, b"hello")),
        (b"", (200, b"hello")),
        (b"HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno", (417, b"no")),
    ],
    ids=["continue", "silence", "refusal"],
)
def test_a_body_waits_for_100_continue_but_not_for_ever(run, answer, found, script):
    def handle(sock: socket.socket) -> None:
        assert head(sock).endswith(b"\r\n\r\n")
        sock.sendall(answer)
        body = sock.recv(100)
        sock.sendall(PLAIN + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    assert talk(run, at(script(handle)), ask(b"POST", b"hello", (b"Expect", b"100-continue"))) == [found]


def test_a_body_that_nobody_takes_makes_the_peer_wait(script):
    sent = []

    def handle(sock: socket.socket) -> None:
        head(sock)
        sock.sendall(PLAIN + b"Content-Length: %d\r\n\r\n" % (len(BIG) * 1000))
        for number in range(1000):
            sock.sendall(BIG)
            sent.append(number)

    async def main() -> None:
        pools = CooperativePools()
        response = await pools.send(at(script(handle)), ask())
        await asyncio.sleep(0.3)
        assert len(sent) < 500
        assert len(b"".join([chunk async for chunk in response.body])) == len(BIG) * 1000
        await pools.aclose()

    asyncio.run(main())


# TLS ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secured() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's context."""
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("svc").configure_cert(server)
    client = ssl.create_default_context()
    ca.configure_trust(client)
    return server, client


@pytest.mark.parametrize("run", RUNS)
def test_what_tls_says_beside_the_exchange_does_not_cut_a_streamed_request(run, secured, script):
    server_side, client_side = secured
    lengths = []

    def handle(raw: socket.socket) -> None:
        with server_side.wrap_socket(raw, server_side=True) as sock:
            data = head(sock)
            while not data.endswith(b"\r\n0\r\n\r\n"):
                data += sock.recv(65536)
            lengths.append(data.count(b"x" * 65536))
            sock.sendall(OK)

    target = Target("127.0.0.1", script(handle).port, tls=client_side, server_name="svc")
    assert talk(run, target, ask(b"POST", pieces(6, None, 0.02))) == [(200, b"ok")]
    assert lengths == [6]


# Ageing -------------------------------------------------------------------------------------------------------------


class Rested:
    """A connection of which only the age matters."""

    def __init__(self, now: float, **settings: Any) -> None:
        self.age = Age(ConnectionPool(**settings), now)
        self.closed = False
        assert self.age.rest(now)

    def is_quiet(self) -> bool:
        return True

    def abort(self) -> None:
        self.closed = True


def test_idle_connections_age_out_and_not_all_at_once():
    idle: Idle[Rested] = Idle()
    made = [Rested(100.0, idle_timeout=10.0) for _ in range(200)]
    for each in made:
        idle.give(each)
    ends = {each.age.rests_until for each in made}
    assert len(ends) > 100
    assert all(109.0 <= end <= 110.0 for end in ends if end is not None)
    assert idle.reap(108.9) == min(ends)
    assert idle.reap(109.5) is not None
    assert 0 < sum(each.closed for each in made) < 200
    assert idle.reap(110.0) is None
    assert all(each.closed for each in made)


def test_the_connection_used_last_is_used_next_and_what_aged_is_closed_on_the_way():
    idle: Idle[Rested] = Idle()
    old, young = Rested(0.0, idle_timeout=10.0), Rested(100.0, idle_timeout=10.0)
    idle.give(young)
    idle.give(old)
    assert idle.take(101.0) is young
    assert old.closed
    assert idle.take(101.0) is None


def test_a_peers_word_shortens_the_rest_but_never_lengthens_it():
    age = Age(ConnectionPool(idle_timeout=10.0), 0.0)
    age.shorten(60.0)
    age.rest(0.0)
    assert age.rests_until is not None
    assert 9.0 <= age.rests_until <= 10.0
    age.shorten(5.0)
    age.rest(0.0)
    assert age.rests_until == 4.0


def test_a_pool_that_was_let_go_is_kept_by_nothing_not_even_its_timer(script):
    server = script(answering(OK))
    target = at(server, idle_timeout=3600.0)

    async def main() -> None:
        pools = CooperativePools()
        response = await pools.send(target, ask())
        assert b"".join([chunk async for chunk in response.body]) == b"ok"
        await response.body.aclose()
        (pool,) = (weakref.ref(each) for each in pools._pools_of(asyncio.get_running_loop()).values())
        pools.retire({("127.0.0.1", server.port)})
        del response
        for _ in range(3):  # the pool's connection closes, and is told so
            await asyncio.sleep(0)
        gc.collect()
        assert pool() is None
        await pools.aclose()

    asyncio.run(main())
