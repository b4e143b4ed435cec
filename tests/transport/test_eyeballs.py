"""One connection to any of several addresses, over real sockets: those that refuse, and those that do not answer."""

from __future__ import annotations

import contextlib
import socket
from itertools import pairwise
from time import monotonic

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.eyeballs import DELAY, connect, interleaved, race

ONE, TWO, THREE = "127.0.0.2", "127.0.0.3", "127.0.0.4"  # not where outgoing connections have their ports


def by_thread(addresses, port, limit=20.0):
    with connect(addresses, port, limit) as sock:
        assert sock.gettimeout() is not None
        return sock.getpeername()[0]


def by_task(backend):
    def run(addresses, port, limit=20.0):
        async def main():
            with anyio.fail_after(limit):
                stream = await race(addresses, lambda each: anyio.connect_tcp(each, port), anyio.aclose_forcefully)
            async with stream:
                return stream.extra(anyio.abc.SocketAttribute.remote_address)[0]

        return anyio.run(main, backend=backend)

    return run


@pytest.fixture(params=["threads", "asyncio", "trio"])
def connected(request):
    return by_thread if request.param == "threads" else by_task(request.param)


@contextlib.contextmanager
def listening(address, port=0):
    with socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        yield sock.getsockname()[1]


@contextlib.contextmanager
def deaf(address, port):
    """Nobody takes connections here: once the queue is full, the kernel leaves them without an answer."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((address, port))
        yield


def test_the_first_address_is_taken_where_it_answers(connected):
    with listening(ONE) as port, listening(TWO, port):
        assert connected([ONE, TWO], port) == ONE
        assert connected([TWO, ONE], port) == TWO


def test_addresses_that_refuse_cost_no_time(connected):
    with listening(THREE) as port:
        started = monotonic()
        assert connected([ONE, TWO, "::1", "127.0.0.9", "127.0.0.8", THREE], port) == THREE
        assert monotonic() - started < 5 * DELAY


def test_an_address_that_does_not_answer_is_passed_over_after_a_moment(connected):
    with listening(TWO) as port, deaf(ONE, port):
        started = monotonic()
        assert connected([ONE, TWO], port) == TWO
        assert monotonic() - started >= DELAY * 0.9


def test_who_is_refused_by_all_hears_of_the_first(connected):
    with listening(ONE) as port:
        pass
    with pytest.raises(OSError, match=r"refused|All connection attempts failed"):  # as anyio says it
        connected([ONE, TWO, THREE], port)


def test_time_runs_out_while_nobody_answers(connected):
    with listening(THREE) as port, deaf(ONE, port), deaf(TWO, port), pytest.raises(TimeoutError):
        connected([ONE, TWO], port, 3 * DELAY)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_connection_that_came_second_is_closed_and_so_is_one_that_nobody_waits_for(backend):
    class Made:
        closed = False

    made: list[Made] = []

    async def at_once(_):
        made.append(Made())
        return made[-1]

    async def late(_):
        with anyio.CancelScope(shield=True):
            await anyio.sleep(2 * DELAY)
        return await at_once(_)

    async def drop(each):
        each.closed = True

    async def main():
        won = await race([ONE, TWO], late, drop)
        assert [each.closed for each in made] == [each is not won for each in made]
        assert len(made) == 2
        made.clear()
        with anyio.move_on_after(DELAY / 2) as given_up:
            await race([ONE, TWO], late, drop)
        assert given_up.cancelled_caught
        assert [each.closed for each in made] == [True] * len(made)

    anyio.run(main, backend=backend)


@given(st.lists(st.sampled_from([ONE, TWO, THREE, "::1", "fd00::1", "fd00::2"]), unique=True))
def test_ip_versions_take_turns_and_keep_their_order(addresses):
    found = interleaved(addresses)
    assert sorted(found) == sorted(addresses)
    assert found[:1] == addresses[:1]
    for version in (True, False):
        assert [a for a in found if (":" in a) is version] == [a for a in addresses if (":" in a) is version]
    turns = [":" in each for each in found]
    both = 2 * min(turns.count(True), turns.count(False))
    assert all(one is not other for one, other in pairwise(turns[:both]))
