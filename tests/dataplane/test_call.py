"""The life of a call on a clock by hand: attempts, retries, deadlines, permits."""

from __future__ import annotations

import random

import pytest

from meshlib.dataplane import router
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.errors import DeadlineExceeded, NoCluster, NoHealthyUpstream, NoRoute, Overflow
from meshlib.model.policy import Abort, CircuitBreaker, Delay, Fault, OutlierDetection, RetryBudget, RetryPolicy
from meshlib.model.route import (
    DirectResponse,
    Forward,
    MatchKind,
    Redirect,
    Route,
    RouteMatch,
    StringMatch,
    WeightedCluster,
)
from tests.dataplane.worlds import NAME, endpoints, permits, prepared, request

RNG = random.Random(7)
OK = Outcome.of_status(200)
REFUSED = Outcome.of_failure(Failure.CONNECT, sent=False)
CONNECT = RetryPolicy(2, frozenset({"connect-failure"}))


def begin(world, **options):
    call = router.begin(world, request(**options), 0.0, RNG)
    assert call is not None
    return call


def test_an_answer_keeps_its_permits_until_the_body_ends():
    world = prepared(endpoints("10.0.0.1"))
    call = begin(world)
    attempt = call.next_attempt(0.0)
    assert permits(world) == (1, 0, 1)
    assert call.settle(attempt, OK, 0.1) is None
    assert permits(world) == (1, 0, 1)
    call.close(0.2)
    call.close(0.3)
    assert permits(world) == (0, 0, 0)


def test_a_refused_connection_is_tried_on_another_endpoint():
    world = prepared(endpoints("10.0.0.1", "10.0.0.2"), retry=CONNECT)
    for _ in range(50):
        call = begin(world)
        first = call.next_attempt(0.0)
        wait = call.settle(first, REFUSED, 0.0)
        assert wait is not None
        assert 0 <= wait < 0.025
        assert permits(world) == (0, 1, 0), "the failed attempt is given back, the retry is counted while it waits"
        second = call.next_attempt(wait)
        assert second.state is not first.state
        assert call.settle(second, OK, 1.0) is None
        call.close(1.0)
        assert permits(world) == (0, 0, 0)


def test_out_of_retries_the_last_outcome_stands_and_is_flagged():
    world = prepared(endpoints("10.0.0.1"), retry=CONNECT)
    call = begin(world)
    for _ in range(2):
        assert call.settle(call.next_attempt(0.0), REFUSED, 0.0) is not None
    assert call.settle(call.next_attempt(0.0), REFUSED, 0.0) is None
    assert call.flags == "URX,UF"
    assert call.attempts == 3
    assert permits(world) == (0, 0, 0)


@pytest.mark.parametrize(
    ("words", "outcome", "retried"),
    [
        ("5xx", Outcome.of_status(500), True),
        ("5xx", Outcome.of_failure(Failure.CLOSED), True),
        ("5xx", Outcome.of_status(409), False),
        ("gateway-error", Outcome.of_status(500), False),
        ("gateway-error", Outcome.of_status(503), True),
        ("reset", Outcome.of_status(503), False),
        ("reset", Outcome.of_failure(Failure.CLOSED), True),
        ("reset-before-request", Outcome.of_failure(Failure.CLOSED), False),
        ("reset-before-request", Outcome.of_failure(Failure.CLOSED, sent=False), True),
        ("connect-failure", Outcome.of_failure(Failure.CLOSED), False),
        ("connect-failure", REFUSED, True),
        ("refused-stream", Outcome.of_failure(Failure.REFUSED_STREAM, sent=False), True),
        ("refused-stream", REFUSED, False),
        ("retriable-4xx", Outcome.of_status(409), True),
        ("retriable-4xx", Outcome.of_status(429), False),
        ("5xx", Outcome.of_status(503, ratelimited=True), False),
        ("envoy-ratelimited", Outcome.of_status(503, ratelimited=True), True),
        ("unavailable", Outcome.of_status(200, grpc_status=14), True),
        ("unavailable", Outcome.of_status(200, grpc_status=13), False),
        ("5xx", Outcome.of_failure(Failure.PER_TRY_TIMEOUT), True),
        ("connect-failure", Outcome.of_failure(Failure.PER_TRY_TIMEOUT), False),
        ("5xx", Outcome.of_failure(Failure.DEADLINE), False),
        ("5xx", Outcome.of_failure(Failure.CANCELLED), False),
        ("5xx", Outcome.of_failure(Failure.POOL_TIMEOUT), False),
    ],
)
def test_retry_words_mean_what_envoy_means_by_them(words, outcome, retried):
    world = prepared(endpoints("10.0.0.1"), retry=RetryPolicy(1, frozenset({words})))
    call = begin(world)
    assert (call.settle(call.next_attempt(0.0), outcome, 0.0) is not None) is retried


def test_status_codes_are_retried_only_when_listed():
    policy = RetryPolicy(1, frozenset({"retriable-status-codes"}), frozenset({503}))
    for status, retried in ((503, True), (502, False)):
        call = begin(prepared(endpoints("10.0.0.1"), retry=policy))
        assert (call.settle(call.next_attempt(0.0), Outcome.of_status(status), 0.0) is not None) is retried


def test_a_body_that_began_to_flow_is_not_sent_twice():
    world = prepared(endpoints("10.0.0.1"), retry=RetryPolicy(1, frozenset({"5xx"})))
    for started, retried in ((True, False), (False, True)):
        call = begin(world, repeatable=False)
        attempt = call.next_attempt(0.0)
        call.request.replayable = not started
        assert (call.settle(attempt, Outcome.of_failure(Failure.CONNECT, sent=False), 0.0) is not None) is retried
        call.close(0.0)


def test_backoff_starts_at_the_base_and_doubles_up_to_the_cap():
    policy = RetryPolicy(9, frozenset({"5xx"}), base=0.02, cap=0.2)
    longest = [0.0] * 6
    for _ in range(400):
        call = begin(prepared(endpoints("10.0.0.1"), retry=policy))
        for number in range(6):
            wait = call.settle(call.next_attempt(0.0), Outcome.of_status(500), 0.0)
            longest[number] = max(longest[number], wait)
    for seen, bound in zip(longest, (0.02, 0.04, 0.08, 0.16, 0.2, 0.2), strict=True):
        assert 0.9 * bound < seen < bound


def test_retries_under_way_are_bounded():
    breaker = CircuitBreaker(max_retries=1)
    world = prepared(endpoints("10.0.0.1"), retry=RetryPolicy(3, frozenset({"5xx"})), circuit_breaker=breaker)
    one, other = begin(world), begin(world)
    assert one.settle(one.next_attempt(0.0), Outcome.of_status(500), 0.0) is not None
    assert other.settle(other.next_attempt(0.0), Outcome.of_status(500), 0.0) is None
    other.close(0.0)
    one.close(0.0)
    assert permits(world) == (0, 0, 0)


def test_a_retry_budget_grows_with_the_traffic():
    breaker = CircuitBreaker(retry_budget=RetryBudget(0.5, 1))
    world = prepared(endpoints("10.0.0.1"), retry=RetryPolicy(3, frozenset({"5xx"})), circuit_breaker=breaker)
    running = [begin(world) for _ in range(10)]
    for call in running[4:]:
        call.next_attempt(0.0)
    waiting = 0
    for call in running[:4]:
        waiting += call.settle(call.next_attempt(0.0), Outcome.of_status(500), 0.0) is not None
    assert waiting == 3, "half of the six that are active"
    for call in running:
        call.close(0.0)
    assert permits(world) == (0, 0, 0)


def test_too_many_requests_overflow_at_once():
    world = prepared(endpoints("10.0.0.1"), circuit_breaker=CircuitBreaker(max_requests=1))
    first, second = begin(world), begin(world)
    first.next_attempt(0.0)
    with pytest.raises(Overflow) as caught:
        second.next_attempt(0.0)
    assert caught.value.flag == "UO"
    assert caught.value.cluster == NAME
    second.close(0.0)
    first.close(0.0)
    assert permits(world) == (0, 0, 0)


def test_the_deadline_covers_retries_and_their_waits():
    world = prepared(endpoints("10.0.0.1"), retry=RetryPolicy(5, frozenset({"5xx"})), timeout=1.0)
    call = begin(world)
    attempt = call.next_attempt(10.0)
    assert attempt.deadline == 11.0
    assert call.settle(attempt, Outcome.of_status(500), 10.9) is not None
    with pytest.raises(DeadlineExceeded, match="route's timeout of 1 s"):
        call.next_attempt(11.0)
    call.close(11.0)
    assert permits(world) == (0, 0, 0)


def test_the_tighter_of_caller_and_config_wins_and_is_named():
    world = prepared(endpoints("10.0.0.1"), timeout=5.0)
    call = begin(world, timeout=2.0)
    assert call.next_attempt(0.0).deadline == 2.0
    call.settle(call._current, Outcome.of_failure(Failure.CANCELLED), 2.0)
    assert "caller's timeout of 2 s" in call.ran_out()


def test_a_per_try_timeout_bounds_one_attempt():
    policy = RetryPolicy(1, frozenset({"5xx"}), per_try_timeout=0.25)
    call = begin(prepared(endpoints("10.0.0.1"), retry=policy, timeout=10.0))
    attempt = call.next_attempt(0.0)
    assert (attempt.deadline, attempt.deadline_is_overall) == (0.25, False)
    call.close(0.0)


def test_no_endpoint_is_no_healthy_upstream():
    with pytest.raises(NoHealthyUpstream, match="0 endpoints"):
        begin(prepared(())).next_attempt(0.0)


def test_an_unknown_cluster_is_no_cluster():
    route = Route("r", RouteMatch(), Forward((WeightedCluster("outbound|80|v9|svc"),)))
    with pytest.raises(NoCluster, match="v9"):
        begin(prepared((), route=route))


def test_no_matching_rule_is_no_route():
    path = StringMatch(MatchKind.PREFIX, "/only")
    route = Route("r", RouteMatch(path), Forward((WeightedCluster(NAME),)))
    with pytest.raises(NoRoute, match="default/svc"):
        begin(prepared(endpoints("10.0.0.1"), route=route), path="/other")


def test_faults_are_drawn_once_and_answer_here():
    fault = Fault(Delay(2.0, 1_000_000), Abort(1_000_000, 418))
    route = Route("r", RouteMatch(), Forward((WeightedCluster(NAME),), 1.0), fault)
    world = prepared(endpoints("10.0.0.1"), route=route)
    call = begin(world)
    assert call.delay == 2.0
    assert call.answer is not None
    assert call.answer.status == 418
    call.settle_answer(2.0)
    assert call.flags == "DI,FI"
    assert permits(world) == (0, 0, 0)


def test_the_timeout_starts_after_an_injected_delay():
    fault = Fault(Delay(2.0, 1_000_000))
    route = Route("r", RouteMatch(), Forward((WeightedCluster(NAME),), 1.0), fault)
    call = begin(prepared(endpoints("10.0.0.1"), route=route))
    assert call.next_attempt(2.0).deadline == 3.0


def test_direct_response_and_redirect_send_nothing():
    call = begin(prepared((), route=Route("r", RouteMatch(), DirectResponse(503, b"closed"))))
    assert call.answer is not None
    assert (call.answer.status, call.answer.body) == (503, b"closed")
    call = begin(prepared((), route=Route("r", RouteMatch(), Redirect(302, "/b", authority="other"))), path="/a?x=1")
    assert call.answer is not None
    assert call.answer.headers[0] == (b"location", b"http://other/b?x=1")


def test_errors_eject_and_time_brings_back():
    detection = OutlierDetection(consecutive_5xx=2, max_ejection_percent=50, interval=1.0, base_ejection_time=3.0)
    world = prepared(endpoints("10.0.0.1", "10.0.0.2"), outlier_detection=detection)
    bad = "10.0.0.1:80"

    def ask(now):
        call = begin(world)
        attempt = call.next_attempt(now)
        key = attempt.state.key
        call.settle(attempt, Outcome.of_status(500 if key == bad else 200), now)
        call.close(now)
        return key

    seen = [ask(0.0) for _ in range(40)]
    assert seen.count(bad) == 2, "two errors in a row, then it is out"
    assert bad not in [ask(2.9) for _ in range(20)]
    assert bad in [ask(4.1) for _ in range(20)], "a sweep after three seconds brings it back"


def test_cancelling_never_counts_against_an_endpoint():
    detection = OutlierDetection(consecutive_5xx=1, max_ejection_percent=100)
    world = prepared(endpoints("10.0.0.1"), outlier_detection=detection)
    for failure in (Failure.CANCELLED, Failure.POOL_TIMEOUT, Failure.LOCAL):
        call = begin(world)
        call.settle(call.next_attempt(0.0), Outcome.of_failure(failure), 0.0)
    call = begin(world)
    call.next_attempt(0.0)
    call.abandon(0.0)
    assert world.state.cluster(NAME).endpoints["10.0.0.1:80"].ejected_at is None
    assert permits(world) == (0, 0, 0)


def test_a_body_that_breaks_counts_as_a_failure_of_the_endpoint():
    detection = OutlierDetection(consecutive_5xx=1, max_ejection_percent=100)
    world = prepared(endpoints("10.0.0.1"), outlier_detection=detection)
    call = begin(world)
    attempt = call.next_attempt(0.0)
    call.settle(attempt, OK, 0.0)
    call.close(1.0, Outcome.of_failure(Failure.CLOSED))
    assert attempt.state.ejected_at == 1.0
    assert call.flags == "UC"


def test_endpoint_churn_keeps_counters_and_rebuilds_only_pickers():
    world = prepared(endpoints("10.0.0.1", "10.0.0.2"))
    call = begin(world)
    attempt = call.next_attempt(0.0)
    bound = world.host("svc", 80)
    world.snapshot.source.clusters[NAME] = (world.snapshot.cluster(NAME), endpoints("10.0.0.3", attempt.state.key[:-3]))
    world.with_endpoints(world.snapshot, 1.0)
    assert world.host("svc", 80) is bound
    assert attempt.state.active == 1
    assert {state.key for state in world.cluster(NAME).members} == {"10.0.0.3:80", attempt.state.key}
    call.close(1.0)
    assert permits(world) == (0, 0, 0)
