"""Deadlines and headers of the request that is served, in blocks, tasks and threads."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.to_thread
import pytest
import trio

from meshlib.context import Incoming, current, deadline, detached, remaining
from meshlib.dataplane.request import Request
from meshlib.testing import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


def lent(*pairs):
    """A call's request after it inherited."""
    request = Request("GET", "http", "svc", 80, "/", list(pairs))
    current().lend(request)
    return request


# Deadlines -----------------------------------------------------------------------------------------------------------


def test_there_is_no_deadline_until_somebody_sets_one():
    assert remaining() is None
    assert lent().timeout is None


def test_the_tighter_of_two_deadlines_counts_and_says_whose_it_is(clock):
    with deadline(2.0, "checkout", clock=clock) as outer:
        with deadline(5.0, "reviews", clock=clock) as inner:
            assert inner is outer
        clock.advance(0.5)
        with deadline(1.0, "ratings", clock=clock):
            assert remaining() == 1.0
            assert lent().timeout_of == "the deadline of 1 s set by ratings"
        assert remaining() == 1.5
        assert (lent().timeout, lent().timeout_of) == (1.5, "the deadline of 2 s set by checkout")
    assert remaining() is None


def test_a_tighter_timeout_of_the_call_itself_stays_its_own(clock):
    with deadline(2.0, clock=clock):
        request = Request("GET", "http", "svc", 80, "/", timeout=1.0)
        current().lend(request)
        assert (request.timeout, request.timeout_of) == (1.0, "")


def test_a_deadline_that_has_passed_leaves_nothing(clock):
    with deadline(1.0, clock=clock):
        clock.advance(3.0)
        assert remaining() == lent().timeout == -2.0


def test_detached_work_has_no_deadline_and_keeps_its_ids(clock):
    with Incoming(clock=clock).received({"grpc-timeout": "1S", "x-request-id": "7"}):
        with detached():
            assert remaining() is None
            assert current().headers == ((b"x-request-id", b"7"),)
        with detached(headers=False):
            assert current().headers == ()
        assert remaining() == 1.0


def test_an_error_in_the_block_ends_its_deadline_too(clock):
    with pytest.raises(ZeroDivisionError), deadline(1.0, clock=clock):
        raise ZeroDivisionError
    assert remaining() is None


# Headers -------------------------------------------------------------------------------------------------------------


def test_headers_go_on_unless_the_call_sets_them_or_one_of_their_family():
    received = {"X-Request-Id": "7", "traceparent": "t", "tracestate": "s", "b3": "0", "x-canary": "yes", "cookie": "c"}
    with Incoming(["X-Canary"]).received(received):
        assert lent((b"Accept", b"*/*")).raw_headers == [
            (b"Accept", b"*/*"),
            (b"x-canary", b"yes"),
            (b"x-request-id", b"7"),
            (b"traceparent", b"t"),
            (b"tracestate", b"s"),
            (b"b3", b"0"),
        ]
        names = [name for name, _ in lent((b"X-CANARY", b"no"), (b"Traceparent", b"own")).raw_headers]
        assert names == [b"X-CANARY", b"Traceparent", b"x-request-id", b"b3"]


def test_lines_of_one_header_go_on_in_their_order():
    with Incoming().received([(b"Baggage", b"a=1"), ("baggage", "b=2")]):
        assert current().headers == ((b"baggage", b"a=1"), (b"baggage", b"b=2"))


def test_what_does_not_fit_is_left_out_whole_and_routing_headers_go_first():
    received = {"baggage": "x" * 50, "x-request-id": "r" * 20, "end-user": "u" * 20}
    with Incoming(["end-user"], max_bytes=70).received(received):
        assert [name for name, _ in current().headers] == [b"end-user", b"x-request-id"]


def test_values_that_would_break_a_header_are_left_out():
    with Incoming(["a", "b", "c"]).received({"a": "1\r\nevil: 1", "b": "2\0", "c": "3"}):
        assert current().headers == ((b"c", b"3"),)


def test_one_name_instead_of_names_is_refused():
    with pytest.raises(TypeError, match="sequence of names"):
        Incoming("end-user")


def test_a_served_request_inherits_nothing_of_what_surrounds_it(clock):
    with deadline(1.0, clock=clock), Incoming(clock=clock).received({}):
        assert remaining() is None


# Timeouts of requests ------------------------------------------------------------------------------------------------


def test_the_tightest_of_several_timeouts_counts_and_is_named(clock):
    received = {"grpc-timeout": "2S", "x-envoy-expected-rq-timeout-ms": "1500", "x-envoy-upstream-rq-timeout-ms": "0"}
    with Incoming(clock=clock).received(received, "the request GET /a"):
        assert remaining() == 1.5
        assert current().deadline.source == "of the request GET /a (x-envoy-expected-rq-timeout-ms)"


def test_a_header_of_ones_own_may_set_the_deadline(clock):
    own = Incoming(timeouts={"X-Budget": float}, clock=clock)
    with own.received({"x-budget": "0.75", "grpc-timeout": "1n"}):
        assert remaining() == 0.75
    with Incoming(timeouts={}, clock=clock).received({"grpc-timeout": "1S"}):
        assert remaining() is None


def test_a_timeout_that_cannot_be_read_is_passed_over(clock):
    with Incoming(clock=clock).received({"grpc-timeout": "soon"}):
        assert remaining() is None


# Tasks and threads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [asyncio.run, trio.run])
def test_tasks_and_worker_threads_inherit_and_siblings_do_not_see_each_other(run, clock):
    seen = {}

    async def child(name, seconds):
        with deadline(seconds, clock=clock):
            await anyio.sleep(0)
            seen[name] = remaining(), await anyio.to_thread.run_sync(remaining)

    async def main():
        with deadline(4.0, clock=clock):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(child, "a", 1.0)
                tasks.start_soon(child, "b", 9.0)
            with detached():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(child, "free", 9.0)
            assert remaining() == 4.0

    run(main if run is trio.run else main())
    assert seen == {"a": (1.0, 1.0), "b": (4.0, 4.0), "free": (9.0, 9.0)}


def test_threads_and_executors_inherit_what_they_are_handed(clock):
    with deadline(1.0, clock=clock), ThreadPoolExecutor(1) as pool:
        assert pool.submit(remaining).result() is None
        assert pool.submit(contextvars.copy_context().run, remaining).result() == 1.0
        seen = []
        variables = contextvars.copy_context()
        thread = threading.Thread(target=lambda: seen.append(variables.run(remaining)))
        thread.start()
        thread.join(5)
        assert seen == [1.0]
