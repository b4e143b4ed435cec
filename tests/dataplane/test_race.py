"""Attempts side by side, on a clock by hand: when they start, whose answer counts, and what they leave behind."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from meshlib.dataplane import router
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.dataplane.race import Race
from meshlib.errors import DeadlineExceeded, NoHealthyUpstream
from meshlib.model.client_policy import ClientPolicy, Hedge
from meshlib.model.policy import CircuitBreaker, OutlierDetection, RetryBudget, RetryPolicy
from tests.dataplane.worlds import NAME, endpoints, permits, prepared, request

OK, ERROR, MISSING = Outcome.of_status(200), Outcome.of_status(500), Outcome.of_status(404)
CLOSED = Outcome.of_failure(Failure.CLOSED)
HEDGE = ClientPolicy(hedge=Hedge(0.05, 3))
THREE = endpoints("10.0.0.1", "10.0.0.2", "10.0.0.3")


def begin(world, method="GET", headers=None, **options):
    call = router.begin(world, request(method, headers=headers, **options), 0.0, random.Random(3))
    assert call is not None
    return call


def hedged(**cluster):
    return prepared(THREE, client_policy=HEDGE, **cluster)


def test_another_attempt_starts_whenever_the_last_is_slow_until_there_are_enough():
    call = begin(hedged())
    race = Race(call)
    first = race.begin(0.0)
    assert race.wakes_at == 0.05
    (second,) = race.due(0.05)
    assert race.wakes_at == pytest.approx(0.1)
    (third,) = race.due(0.1)
    assert race.wakes_at is None, "three in all"
    assert [first.number, second.number, third.number] == [1, 2, 3]


def test_an_attempt_beside_goes_to_another_endpoint():
    for _ in range(30):
        race = Race(begin(hedged()))
        seen = [race.begin(0.0), *race.due(0.05), *race.due(0.1)]
        assert len({attempt.state.key for attempt in seen}) == 3


def test_the_first_good_answer_wins_and_the_others_leave_nothing_behind():
    world = hedged(outlier_detection=OutlierDetection(consecutive_5xx=1, max_ejection_percent=100))
    call = begin(world)
    race = Race(call)
    race.begin(0.0)
    (second,) = race.due(0.05)
    assert permits(world) == (2, 1, 2), "the one beside holds a place of the budget"
    assert race.settle(second, OK, 0.06)
    assert [attempt.number for attempt in race.end(0.06)] == [1]
    assert permits(world) == (1, 1, 1)
    call.close(0.2)
    assert permits(world) == (0, 0, 0)
    assert (call.status, call.flags, call.last_attempt) == (200, "-", second)
    assert all(state.ejected_at is None for state in world.state.cluster(NAME).endpoints.values())


@pytest.mark.parametrize("bad", [ERROR, CLOSED])
def test_a_bad_answer_is_dropped_while_another_may_come_and_stands_when_it_is_the_last(bad):
    world = hedged()
    call = begin(world)
    race = Race(call)
    first = race.begin(0.0)
    (second,) = race.due(0.05)
    assert not race.settle(first, bad, 0.06)
    assert permits(world) == (1, 1, 1)
    assert race.settle(second, bad, 0.07)
    race.end(0.07)
    call.close(0.08)
    assert permits(world) == (0, 0, 0)
    assert call.status == bad.status


def test_an_answer_that_is_the_callers_doing_is_good():
    call = begin(hedged())
    race = Race(call)
    first = race.begin(0.0)
    race.due(0.05)
    assert race.settle(first, MISSING, 0.06)


def test_a_bad_first_answer_before_its_time_stands_where_nothing_is_retried():
    call = begin(hedged())
    race = Race(call)
    assert race.settle(race.begin(0.0), ERROR, 0.01)


def test_retries_go_on_beside_and_their_number_does_not_count_the_hedges():
    world = hedged(retry=RetryPolicy(1, frozenset({"5xx"})))
    call = begin(world)
    race = Race(call)
    first = race.begin(0.0)
    (second,) = race.due(0.05)
    assert not race.settle(first, ERROR, 0.06)
    assert race.wakes_at is not None
    (third,) = race.due(0.085)
    assert call.flags == "-"
    assert not race.settle(second, ERROR, 0.086), "the retry was used up, but the third may still answer"
    assert race.settle(third, OK, 0.09)
    race.end(0.09)
    call.close(0.1)
    assert permits(world) == (0, 0, 0)
    assert (call.attempts, call.status) == (3, 200)


def test_without_a_place_in_the_budget_there_is_no_attempt_beside():
    world = hedged(circuit_breaker=CircuitBreaker(retry_budget=RetryBudget(0.0, 0)))
    call = begin(world)
    race = Race(call)
    race.begin(0.0)
    assert race.due(0.05) == []
    assert race.wakes_at is None
    race.end(0.06)
    call.close(0.06)
    assert (permits(world), call.flags) == ((0, 0, 0), "-")


def test_where_no_attempt_can_be_made_beside_the_first_goes_on_alone():
    world = hedged(circuit_breaker=CircuitBreaker(max_requests=1))
    call = begin(world)
    race = Race(call)
    first = race.begin(0.0)
    assert race.due(0.05) == []
    assert permits(world) == (1, 0, 1), "what was promised is given back"
    assert race.settle(first, OK, 0.1)
    call.close(0.1)
    assert (call.flags, call.status) == ("-", 200)


def test_only_the_methods_named_are_hedged_and_only_what_can_be_sent_twice():
    assert begin(hedged(), "POST").hedge is None
    assert begin(hedged(), repeatable=False).hedge is None
    assert begin(hedged()).hedge == (0.05, 3, False)
    assert begin(prepared(THREE)).hedge is None


def test_the_callers_going_away_gives_everything_back():
    world = hedged(retry=RetryPolicy(2, frozenset({"5xx"})))
    call = begin(world)
    race = Race(call)
    first = race.begin(0.0)
    race.due(0.05)
    assert not race.settle(first, ERROR, 0.06), "one waits for its retry, one runs"
    race.end(0.07)
    call.abandon(0.07)
    assert permits(world) == (0, 0, 0)
    assert call.flags == "DC"


def test_the_deadline_ends_a_back_off_and_is_raised_when_nobody_else_runs():
    world = hedged(retry=RetryPolicy(2, frozenset({"5xx"}), base=9.0, cap=9.0), timeout=1.0)
    call = begin(world)
    race = Race(call)
    assert not race.settle(race.begin(0.0), ERROR, 0.01)
    assert race.wakes_at is not None
    assert race.wakes_at <= 1.0
    with pytest.raises(DeadlineExceeded):
        race.due(1.0)
    race.end(1.0)
    call.close(1.0)
    assert permits(world) == (0, 0, 0)


def test_nobody_to_send_to_is_raised_as_ever():
    with pytest.raises(NoHealthyUpstream):
        Race(begin(prepared((), client_policy=HEDGE))).begin(0.0)


# Envoy's hedge_on_per_try_timeout -------------------------------------------------------------------------------------

SLOW = RetryPolicy(2, frozenset({"connect-failure"}), per_try_timeout=0.2, hedge_on_per_try_timeout=True)


def test_a_per_try_timeout_starts_a_retry_beside_and_counts_once_against_the_endpoint():
    detection = OutlierDetection(consecutive_5xx=2, consecutive_gateway=1, max_ejection_percent=100)
    world = prepared(THREE, retry=SLOW, timeout=5.0, outlier_detection=detection)
    call = begin(world)
    race = Race(call)
    first = race.begin(0.0)
    assert (first.deadline, first.slow_at, race.wakes_at) == (5.0, 0.2, 0.2)
    assert dict(call.head(first)[1])[b"x-envoy-expected-rq-timeout-ms"] == b"5000"
    assert race.due(0.2) == []
    assert first.state.ejected_at == 0.2, "it timed out, though it goes on"
    assert race.wakes_at is not None
    (second,) = race.due(0.225)
    assert second.state is not first.state
    assert race.settle(first, OK, 0.3), "the slow one may still win"
    assert first.state.ejections == 1
    race.end(0.3)
    call.close(0.3)
    assert permits(world) == (0, 0, 0)


def test_slow_attempts_use_up_the_retries_and_then_the_last_is_waited_for():
    world = prepared(THREE, retry=replace(SLOW, attempts=1), timeout=5.0)
    call = begin(world)
    race = Race(call)
    first = race.begin(0.0)
    race.due(0.2)
    (second,) = race.due(0.225)
    race.due(0.43)
    assert race.wakes_at is None
    assert call.flags == "URX"
    assert not race.settle(first, CLOSED, 0.5), "it was retried already"
    assert race.settle(second, OK, 0.6)
    race.end(0.6)
    call.close(0.6)
    assert permits(world) == (0, 0, 0)


def test_a_request_asks_for_it_by_header():
    asked = {
        "x-envoy-hedge-on-per-try-timeout": "true",
        "x-envoy-retry-on": "5xx",
        "x-envoy-upstream-rq-per-try-timeout-ms": "100",
    }
    assert begin(prepared(THREE), headers=asked).hedge == (None, 1, True)
    assert begin(prepared(THREE, retry=SLOW), headers={"x-envoy-hedge-on-per-try-timeout": "false"}).hedge is None
