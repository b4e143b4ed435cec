"""Retries as Envoy makes them: what counts, how often, where to, when, and how many at once."""

from __future__ import annotations

import random

import pytest

from meshlib.dataplane import router
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.dataplane.policies.budget import Window
from meshlib.dataplane.policies.priorities import PreviousPriorities
from meshlib.dataplane.policies.reset_after import reset_after
from meshlib.errors import DeadlineExceeded
from meshlib.model.endpoint import Endpoint, LocalityEndpoints
from meshlib.model.policy import CircuitBreaker, RetryBudget, RetryPolicy
from tests.dataplane.worlds import NAME, endpoints, permits, prepared, request

RNG = random.Random(11)
REFUSED = Outcome.of_failure(Failure.CONNECT, sent=False)
CLOSED = Outcome.of_failure(Failure.CLOSED)
UNAVAILABLE = Outcome.of_status(503)


def begin(world, headers=None, **options):
    call = router.begin(world, request(headers=headers, **options), 0.0, RNG)
    assert call is not None
    return call


def tries(world, outcome, headers=None, received=()):
    """How many attempts a call makes when every one ends like this."""
    call, now = begin(world, headers), 0.0
    while True:
        attempt = call.next_attempt(now)
        attempt.received = list(received)
        wait = call.settle(attempt, outcome, now)
        if wait is None:
            call.close(now)
            assert permits(world) == (0, 0, 0)
            return call.attempts
        now += wait


# Words by request headers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "outcome", "expected"),
    [
        ({"x-envoy-retry-on": "5xx"}, UNAVAILABLE, 2),
        ({"X-Envoy-Retry-On": "5xx", "x-envoy-max-retries": "3"}, UNAVAILABLE, 4),
        ({"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "0"}, UNAVAILABLE, 1),
        ({"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "many"}, UNAVAILABLE, 2),
        ({"x-envoy-max-retries": "3"}, UNAVAILABLE, 1),
        ({"x-envoy-retry-on": "gateway-error, reset"}, CLOSED, 2),
        ({"x-envoy-retry-on": "unavailable"}, Outcome.of_status(200, grpc_status=14), 1),
        ({"x-envoy-retry-grpc-on": "unavailable"}, Outcome.of_status(200, grpc_status=14), 2),
        ({"x-envoy-retry-grpc-on": "5xx"}, UNAVAILABLE, 1),
        ({"x-envoy-retriable-status-codes": "503"}, UNAVAILABLE, 1),
        ({"x-envoy-retry-on": "retriable-status-codes", "x-envoy-retriable-status-codes": "500,503"}, UNAVAILABLE, 2),
        ({"x-envoy-retry-on": "retriable-status-codes", "x-envoy-retriable-status-codes": "500"}, UNAVAILABLE, 1),
        ({"x-envoy-retry-on": "nonsense"}, UNAVAILABLE, 1),
    ],
)
def test_a_request_asks_for_retries_where_the_route_has_none(headers, outcome, expected):
    assert tries(prepared(endpoints("10.0.0.1")), outcome, headers) == expected


def test_words_of_the_request_add_to_the_routes_and_numbers_replace_them():
    world = prepared(endpoints("10.0.0.1"), retry=RetryPolicy(1, frozenset({"connect-failure"})))
    asked = {"x-envoy-retry-on": "5xx", "x-envoy-max-retries": "2"}
    assert tries(world, UNAVAILABLE) == 1
    assert tries(world, UNAVAILABLE, asked) == tries(world, REFUSED, asked) == 3
    assert tries(world, REFUSED) == 2, "the next request is as the route says"


@pytest.mark.parametrize(
    ("words", "received", "status", "expected"),
    [
        ("retriable-headers", {"X-Try-Again": "1"}, 200, 2),
        ("retriable-headers", {"x-other": "1"}, 200, 1),
        ("5xx", {"x-try-again": "1"}, 404, 1),
        ("retriable-headers", {"x-try-again": "1", "x-envoy-ratelimited": "true"}, 200, 1),
        ("retriable-headers,envoy-ratelimited", {"x-envoy-ratelimited": "true"}, 200, 2),
    ],
)
def test_response_headers_are_retriable_when_the_request_names_them(words, received, status, expected):
    asked = {"x-envoy-retry-on": words, "x-envoy-retriable-header-names": "x-try-again"}
    raw = [(name.encode(), value.encode()) for name, value in received.items()]
    assert tries(prepared(endpoints("10.0.0.1")), Outcome.of_status(status), asked, raw) == expected


def test_timeouts_of_the_request_take_the_place_of_the_routes():
    policy = RetryPolicy(1, frozenset({"5xx"}), per_try_timeout=3.0)
    world = prepared(endpoints("10.0.0.1"), retry=policy, timeout=5.0)
    asked = {"x-envoy-upstream-rq-timeout-ms": "9000", "x-envoy-upstream-rq-per-try-timeout-ms": "250"}
    call = begin(world, asked)
    attempt = call.next_attempt(0.0)
    assert (call.deadline, attempt.deadline, attempt.deadline_is_overall) == (9.0, 0.25, False)
    assert dict(call.head(attempt)[1])[b"x-envoy-expected-rq-timeout-ms"] == b"250"
    call.close(0.0)
    call = begin(world, {"x-envoy-upstream-rq-timeout-ms": "1000"})
    assert call.next_attempt(0.0).deadline_is_overall, "a per-try timeout that is no tighter than the whole is none"
    assert "x-envoy-upstream-rq-timeout-ms of 1 s" in call.ran_out()
    call.close(0.0)
    unbounded = begin(world, {"x-envoy-upstream-rq-timeout-ms": "0", "x-envoy-upstream-rq-per-try-timeout-ms": "0"})
    assert unbounded.next_attempt(0.0).deadline is None
    unbounded.close(0.0)


def test_a_grpc_timeout_bounds_the_call_and_the_route_caps_it():
    world = prepared(endpoints("10.0.0.1"), timeout=5.0)
    for text, expected in (("200m", 0.2), ("1H", 5.0), ("3S", 3.0), ("late", 5.0), ("123456789S", 5.0)):
        call = begin(world, {"grpc-timeout": text}, is_grpc=True)
        assert call.next_attempt(0.0).deadline == pytest.approx(expected), text
        call.close(0.0)
    assert begin(world, {"grpc-timeout": "1S"}).next_attempt(0.0).deadline == 5.0, "no gRPC request, no gRPC timeout"


def test_what_was_asked_of_us_is_not_sent_on():
    asked = {
        "x-envoy-retry-on": "5xx",
        "X-Envoy-Retry-Grpc-On": "internal",
        "x-envoy-max-retries": "2",
        "x-envoy-retriable-status-codes": "503",
        "x-envoy-retriable-header-names": "x-a",
        "x-envoy-upstream-rq-timeout-ms": "100",
        "x-envoy-upstream-rq-per-try-timeout-ms": "50",
        "x-envoy-hedge-on-per-try-timeout": "true",
    }
    call = begin(prepared(endpoints("10.0.0.1")), {**asked, "x-mine": "kept", "x-envoy-force-trace": "kept"})
    names = {name.decode().lower() for name, _ in call.head(call.next_attempt(0.0))[1]}
    assert not names & {name.lower() for name in asked}
    assert {"x-mine", "x-envoy-force-trace"} <= names
    call.close(0.0)


# When -----------------------------------------------------------------------------------------------------------------

RETRY_AFTER = RetryPolicy(3, frozenset({"5xx"}), reset_headers=(("retry-after", False), ("x-reset", True)))


def test_a_server_that_says_when_to_come_back_is_believed():
    for _ in range(50):
        call = begin(prepared(endpoints("10.0.0.1"), retry=RETRY_AFTER))
        attempt = call.next_attempt(0.0)
        attempt.received = [(b"Retry-After", b"2")]
        wait = call.settle(attempt, UNAVAILABLE, 0.0)
        assert wait is not None
        assert 2.0 <= wait < 3.0
        second = call.next_attempt(wait)
        wait = call.settle(second, UNAVAILABLE, wait)
        assert wait is not None
        assert wait < 0.25, "where nothing is said, the back-off counts"
        call.close(9.0)


def test_a_wait_beyond_the_deadline_ends_the_retries_at_once():
    call = begin(prepared(endpoints("10.0.0.1"), retry=RETRY_AFTER, timeout=1.0))
    attempt = call.next_attempt(0.0)
    attempt.received = [(b"retry-after", b"2")]
    assert call.settle(attempt, UNAVAILABLE, 0.0) is None
    assert call.flags == "-"
    call.close(0.0)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "301"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "soon", "x-reset": "1792567690", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 10.0),
        ({"x-reset": "1792567690"}, None),
        ({"x-reset": "1792567690", "date": "yesterday"}, None),
        ({"x-reset": "1792567000", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_reset_headers_are_tried_in_order_and_bounded(headers, expected):
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert reset_after(RETRY_AFTER.reset_headers, raw, 300.0) == expected


# Where to -------------------------------------------------------------------------------------------------------------


def test_retries_leave_the_priorities_of_the_last_two_attempts():
    groups = tuple(
        LocalityEndpoints(tuple(Endpoint(f"10.0.{priority}.{n}", 80) for n in range(3)), priority=priority)
        for priority in range(3)
    )
    for remote, expected in ((True, [0, 0, 1, 1, 2, 2, 0, 0]), (False, [0] * 8)):
        world = prepared(groups, retry=RetryPolicy(7, frozenset({"5xx"}), remote_localities=remote))
        call, seen = begin(world), []
        for _ in range(8):
            attempt = call.next_attempt(0.0)
            seen.append(int(attempt.state.key.split(".")[2]))
            call.settle(attempt, UNAVAILABLE, 0.0)
        assert seen == expected
        call.close(0.0)
        assert permits(world) == (0, 0, 0)


def test_where_all_priorities_were_tried_they_all_count_again():
    previous = PreviousPriorities([0])
    previous.attempted(0)
    assert previous.next(lambda excluded: 1 not in excluded) == {0}
    previous.attempted(1)
    assert previous.next(lambda excluded: 1 not in excluded) == {0}, "only after two more"
    previous.attempted(1)
    assert previous.next(lambda excluded: 1 not in excluded) == frozenset()


def test_a_retry_never_leaves_the_priority_in_force_just_to_meet_somebody_new():
    groups = (
        LocalityEndpoints((Endpoint("10.0.0.1", 80),)),
        LocalityEndpoints((Endpoint("10.0.1.1", 80),), priority=1),
    )
    world = prepared(groups, retry=RetryPolicy(3, frozenset({"5xx"})))
    call = begin(world)
    for _ in range(4):
        attempt = call.next_attempt(0.0)
        assert attempt.state.key == "10.0.0.1:80"
        call.settle(attempt, UNAVAILABLE, 0.0)
    call.close(0.0)


# How many at once -----------------------------------------------------------------------------------------------------


def budgeted(ratio=0.2, interval=0.0, attempts=3):
    breaker = CircuitBreaker(retry_budget=RetryBudget(ratio, 3, interval))
    retry = RetryPolicy(attempts, frozenset({"5xx"}))
    return prepared(endpoints("10.0.0.1", "10.0.0.2"), retry=retry, circuit_breaker=breaker)


def test_a_budget_of_a_fifth_holds_under_a_thousand_failures_at_once():
    world = budgeted()
    calls = [begin(world) for _ in range(1000)]
    attempts = [(call, call.next_attempt(0.0)) for call in calls]
    waiting, total = [], len(attempts)
    while attempts:
        for call, attempt in attempts:
            wait = call.settle(attempt, UNAVAILABLE, 0.0)
            if wait is None:
                call.close(0.0)
            else:
                waiting.append(call)
        assert world.state.cluster(NAME).retries == len(waiting), "who waits holds a place"
        attempts = [(call, call.next_attempt(1.0)) for call in waiting]
        total, waiting = total + len(attempts), []
    assert 1100 < total <= 1200
    assert permits(world) == (0, 0, 0)
    assert world.state.cluster(NAME).retry_overflows > 0


def test_a_retry_that_is_not_allowed_is_flagged_as_an_overflow():
    world = prepared(
        endpoints("10.0.0.1"),
        retry=RetryPolicy(3, frozenset({"5xx"})),
        circuit_breaker=CircuitBreaker(max_retries=0),
    )
    call = begin(world)
    assert call.settle(call.next_attempt(0.0), UNAVAILABLE, 0.0) is None
    assert (call.flags, call.status) == ("UO", 503)
    call.close(0.0)


@pytest.mark.parametrize("percent", [1, 7, 14, 29, 57, 58, 100])
def test_a_budget_of_n_percent_allows_n_retries_beside_a_hundred_requests(percent):
    breaker = CircuitBreaker(retry_budget=RetryBudget(percent / 100, 0))
    world = prepared(endpoints("10.0.0.1"), circuit_breaker=breaker)
    calls = [begin(world) for _ in range(100)]
    for call in calls:
        call.next_attempt(0.0)
    assert world.cluster(NAME).retry_limit(0.0) == percent
    for call in calls:
        call.close(0.0)


def test_who_waits_for_a_connection_counts_once_for_the_budget():
    breaker = CircuitBreaker(max_connections=1, retry_budget=RetryBudget(0.5, 0))
    world = prepared(endpoints("10.0.0.1"), retry=RetryPolicy(1, frozenset({"5xx"})), circuit_breaker=breaker)
    calls = [begin(world) for _ in range(8)]
    for call in calls:
        attempt = call.next_attempt(0.0)
        attempt.ticket = attempt.gate.enter(lambda: None)
    assert world.cluster(NAME).retry_limit(0.0) == 4
    for call in calls:
        call.close(0.0)
    assert permits(world) == (0, 0, 0)


def test_a_budget_with_an_interval_counts_the_calls_that_began_in_it_once_each():
    world = budgeted(interval=10.0, attempts=1)
    for _ in range(100):
        assert tries(world, UNAVAILABLE) == 2, "one after the other there is always room"
    cluster = world.cluster(NAME)
    assert cluster.retry_limit(9.0) == 20, "a hundred calls, not two hundred attempts"
    assert cluster.retry_limit(11.0) == 3


def test_a_window_forgets_what_lies_behind_its_interval():
    window = Window(10.0)
    for second in range(20):
        window.add(float(second))
    assert window.count(19.0) == 10
    assert window.count(24.0) == 5
    assert window.count(float("inf")) == 0


# Deadlines ------------------------------------------------------------------------------------------------------------


def test_waiting_for_a_connection_is_no_part_of_a_per_try_timeout():
    policy = RetryPolicy(1, frozenset({"5xx"}), per_try_timeout=1.0, per_try_idle_timeout=0.5)
    call = begin(prepared(endpoints("10.0.0.1"), retry=policy, timeout=3.0))
    attempt = call.next_attempt(0.0)
    call.bound_attempt(attempt, 1.5)
    assert (attempt.deadline, attempt.deadline_is_overall, attempt.idle_limit) == (2.5, False, 0.5)
    call.bound_attempt(attempt, 2.5)
    assert (attempt.deadline, attempt.deadline_is_overall) == (3.0, True)
    call.close(3.0)


def test_a_wait_never_goes_past_the_deadline_of_caller_or_route():
    world = prepared(endpoints("10.0.0.1"), retry=RetryPolicy(9, frozenset({"5xx"}), base=50.0, cap=50.0), timeout=2.0)
    call = begin(world, timeout=1.0)
    assert call.within(5.0, 0.25) == 0.75, "the caller's counts from the beginning, an injected delay included"
    wait = call.settle(call.next_attempt(0.25), UNAVAILABLE, 0.25)
    assert wait is not None
    with pytest.raises(DeadlineExceeded, match=r"caller's timeout of 1 s"):
        call.next_attempt(0.25 + call.within(50.0, 0.25))
    call.close(1.0)
    assert permits(world) == (0, 0, 0)
