"""ClientPolicy's circuit breaker on a clock by hand: when it opens, whom it lets through, and that it never sticks."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshlib.dataplane import router
from meshlib.dataplane.change import Change
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.dataplane.policies.breaker import Breaker, Phase
from meshlib.dataplane.state import State
from meshlib.errors import NoHealthyUpstream, Overflow
from meshlib.model.client_policy import BreakerScope, ClientPolicy, ErrorBreaker
from meshlib.model.policy import CircuitBreaker, LoadBalancer
from tests.dataplane.worlds import NAME, endpoints, permits, prepared, request

THREE = ErrorBreaker(consecutive_errors=3, open_for=10.0)
RNG = random.Random(5)
OK, BAD = Outcome.of_status(200), Outcome.of_status(503)


def opened(settings: ErrorBreaker = THREE) -> Breaker:
    breaker = Breaker()
    for _ in range(settings.consecutive_errors):
        breaker.record(settings, 0, True, 0.0)
    assert breaker.phase is Phase.OPEN
    return breaker


# The state machine --------------------------------------------------------------------------------------------------


def test_errors_in_a_row_open_it_and_a_success_between_starts_over():
    breaker = Breaker()
    for failed in (True, True, False, True, True):
        breaker.record(THREE, 0, failed, 0.0)
    assert breaker.phase is Phase.CLOSED
    breaker.record(THREE, 0, True, 0.0)
    assert (breaker.phase, breaker.why) == (Phase.OPEN, "3 errors in a row")


def test_a_share_of_errors_opens_it_only_with_enough_requests_in_the_window():
    settings = ErrorBreaker(error_rate=0.5, window=10.0, min_requests=4)
    breaker = Breaker()
    for now, failed in ((0.0, True), (0.0, True), (0.0, True), (11.0, False), (11.0, False), (11.0, True)):
        breaker.record(settings, 0, failed, now)
    assert breaker.phase is Phase.CLOSED, "what is older than the window is forgotten"
    breaker.record(settings, 0, True, 12.0)
    assert (breaker.phase, breaker.why) == (Phase.OPEN, "2 errors in 4 requests within 10 s")


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_share_that_is_reached_exactly_opens_it_whatever_binary_fractions_make_of_it(percent):
    settings, breaker = ErrorBreaker(error_rate=float(f"{percent / 100:.2f}"), min_requests=100), Breaker()
    for number in range(100):
        assert breaker.phase is Phase.CLOSED
        breaker.record(settings, 0, number >= 100 - percent, 1.0)
    assert breaker.phase is Phase.OPEN


def test_it_refuses_for_open_for_then_lets_one_trial_through_whose_success_closes_it():
    breaker = opened()
    assert breaker.acquire(THREE, 9.9) is None
    trial = breaker.acquire(THREE, 10.0)
    assert trial
    assert breaker.acquire(THREE, 10.0) is None
    breaker.record(THREE, trial, False, 11.0)
    assert (breaker.phase, breaker.acquire(THREE, 11.0)) == (Phase.CLOSED, 0)


def test_a_trial_that_fails_opens_it_anew():
    breaker = opened()
    trial = breaker.acquire(THREE, 10.0)
    breaker.record(THREE, trial, True, 12.0)
    assert (breaker.phase, breaker.until, breaker.why) == (Phase.OPEN, 22.0, "a trial failed")


def test_results_of_calls_that_began_before_it_opened_say_nothing():
    breaker = opened()
    breaker.record(THREE, 0, False, 1.0)
    assert breaker.phase is Phase.OPEN
    trial = breaker.acquire(THREE, 10.0)
    breaker.record(THREE, 0, False, 10.0)
    breaker.record(THREE, 0, True, 10.0)
    assert breaker.phase is Phase.HALF_OPEN
    breaker.record(THREE, trial, True, 10.0)
    late = breaker.acquire(THREE, 20.0)
    assert late > trial
    breaker.record(THREE, trial, False, 20.0)
    assert breaker.phase is Phase.HALF_OPEN, "a trial of an earlier period says nothing either"


def test_calls_from_before_it_opened_that_fail_once_it_has_closed_do_not_open_it_again():
    breaker = Breaker()
    before = [breaker.acquire(THREE, 0.0) for _ in range(6)]
    for trial in before[:3]:
        breaker.record(THREE, trial, True, 1.0, since=0.0)
    breaker.record(THREE, breaker.acquire(THREE, 11.0), False, 11.5, since=11.0)
    for trial in before[3:]:
        breaker.record(THREE, trial, True, 12.0, since=0.0)
    assert breaker.phase is Phase.CLOSED
    for _ in range(3):
        breaker.record(THREE, 0, True, 13.0, since=11.5)
    assert breaker.phase is Phase.OPEN, "what began after it closed counts"


def test_a_slow_call_to_a_live_cluster_does_not_open_the_breaker_that_closed_meanwhile():
    policy = ClientPolicy(breaker=ErrorBreaker(consecutive_errors=1, open_for=5.0))
    world = prepared(endpoints("10.0.0.1"), client_policy=policy)
    slow, failing = (router.begin(world, request(), 0.0, RNG) for _ in range(2))
    first, second = slow.next_attempt(0.0), failing.next_attempt(0.0)
    failing.settle(second, BAD, 1.0)
    failing.close(1.0)
    trial = router.begin(world, request(), 7.0, RNG)
    trial.settle(trial.next_attempt(7.0), OK, 7.1)
    trial.close(7.1)
    slow.settle(first, Outcome.of_failure(Failure.READ_TIMEOUT), 8.0)
    assert world.state.cluster(NAME).endpoints["10.0.0.1:80"].breaker.phase is Phase.CLOSED
    assert permits(world) == (0, 0, 0)


def test_the_share_of_errors_opens_it_with_the_request_that_makes_enough_even_if_that_one_is_well():
    settings = ErrorBreaker(error_rate=0.5, window=10.0, min_requests=4)
    breaker = Breaker()
    for failed in (True, True, True, False):
        assert breaker.phase is Phase.CLOSED
        breaker.record(settings, 0, failed, 0.0)
    assert (breaker.phase, breaker.why) == (Phase.OPEN, "3 errors in 4 requests within 10 s")


def test_as_many_trials_as_are_let_through_must_pass():
    settings = replace(THREE, half_open_requests=3)
    breaker = opened(settings)
    trials = [breaker.acquire(settings, 10.0) for _ in range(4)]
    assert trials[3] is None
    for trial in trials[:2]:
        breaker.record(settings, trial, False, 11.0)
    assert breaker.acquire(settings, 11.0) is None, "two passed and one is under way: no fourth is needed"
    breaker.record(settings, trials[2], False, 11.0)
    assert breaker.phase is Phase.CLOSED


def test_a_trial_that_hangs_loses_its_permit_and_what_it_says_later_still_counts():
    breaker = opened()
    hung = breaker.acquire(THREE, 10.0)
    assert breaker.acquire(THREE, 19.9) is None
    second = breaker.acquire(THREE, 20.0)
    assert second, "the lease of the first ran out"
    breaker.record(THREE, hung, False, 21.0)
    assert breaker.phase is Phase.CLOSED
    breaker.record(THREE, second, False, 22.0)
    assert breaker.phase is Phase.CLOSED


class AnyHistory(RuleBasedStateMachine):
    """Whatever callers do, at most k trials are out, and no phase lasts longer than its bound without a way on."""

    settings = ErrorBreaker(3, 0.5, 10.0, 4, open_for=5.0, half_open_requests=2)

    def __init__(self) -> None:
        super().__init__()
        self.breaker, self.now, self.running = Breaker(), 0.0, []

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, 5.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def call(self):
        trial = self.breaker.acquire(self.settings, self.now)
        if trial is not None:
            self.running.append((trial, self.now))

    @precondition(lambda self: self.running)
    @rule(which=st.randoms(use_true_random=False), how=st.sampled_from(["ok", "failed", "cancelled", "lost"]))
    def end(self, which, how):
        trial, _ = self.running.pop(which.randrange(len(self.running)))
        if how == "cancelled":
            self.breaker.give_back(trial)
        elif how != "lost":
            self.breaker.record(self.settings, trial, how == "failed", self.now)

    @invariant()
    def at_most_k_leases_are_out(self):
        if self.breaker.phase is Phase.HALF_OPEN:
            current = [t for t, at in self.running if t >= self.breaker._first and self.now < at + 5.0]
            assert len(current) <= self.settings.half_open_requests

    @invariant()
    def it_never_sticks(self):
        assert self.breaker.admits(self.settings, self.now + self.settings.open_for)


TestAnyHistory = AnyHistory.TestCase


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=80))
def test_the_window_counts_what_a_plain_list_would_within_a_slot(results):
    settings = ErrorBreaker(error_rate=1.0, window=10.0, min_requests=1000)
    breaker, now, seen = Breaker(), 0.0, []
    for wait, failed in results:
        now += wait
        breaker.record(settings, 0, failed, now)
        seen.append((now, failed))
        window = breaker._window
        at_least = [f for at, f in seen if at > now - 9.0]
        at_most = [f for at, f in seen if at > now - 10.0]
        assert len(at_least) <= window.total <= len(at_most)
        assert sum(at_least) <= window.errors <= sum(at_most)


# In calls -----------------------------------------------------------------------------------------------------------


def world_of(assignment, breaker=THREE, **options):
    return prepared(assignment, client_policy=ClientPolicy(breaker=breaker), **options)


def start(world, now=0.0):
    call = router.begin(world, request(), now, RNG)
    return call, call.next_attempt(now)


def send(world, outcome, now=0.0):
    call, attempt = start(world, now)
    call.settle(attempt, outcome, now)
    call.close(now)
    return attempt.state


def break_first(world, now=0.0):
    """Fail whoever is picked as the first endpoint until it is shut."""
    bad = next(iter(world.cluster(NAME).members))
    while not bad.shut:
        call, attempt = start(world, now)
        call.settle(attempt, BAD if attempt.state is bad else OK, now)
        call.close(now)
    return bad


def test_an_endpoint_behind_an_open_breaker_is_not_picked_and_the_others_are():
    world = world_of(endpoints("10.0.0.1", "10.0.0.2", "10.0.0.3"))
    bad = break_first(world)
    assert {send(world, OK, 5.0).key for _ in range(60)} == {"10.0.0.2:80", "10.0.0.3:80"}
    found = [start(world, 10.0) for _ in range(30)]
    assert [attempt.state for _, attempt in found].count(bad) == 1, "one trial, and no second while it is under way"
    call, attempt = next(pair for pair in found if pair[1].state is bad)
    call.settle(attempt, OK, 10.0)
    assert any(send(world, OK, 10.0) is bad for _ in range(60))


def test_when_all_are_shut_the_error_says_so():
    world = world_of(endpoints("10.0.0.1"))
    break_first(world)
    with pytest.raises(NoHealthyUpstream, match="1 behind an open circuit breaker"):
        start(world, 1.0)
    assert permits(world) == (0, 0, 0)


def test_not_even_panic_passes_a_breaker():
    world = world_of(endpoints("10.0.0.1", "10.0.0.2"), load_balancer=LoadBalancer(panic_ratio=0.9))
    bad = break_first(world)
    assert all(send(world, OK, 1.0) is not bad for _ in range(20))


def test_an_open_cluster_overflows_with_a_clear_text_and_comes_back():
    world = world_of(endpoints("10.0.0.1", "10.0.0.2"), replace(THREE, scope=BreakerScope.CLUSTER))
    for _ in range(3):
        send(world, BAD)
    with pytest.raises(Overflow, match="open after 3 errors in a row; trials start in 6 s") as caught:
        start(world, 4.0)
    assert caught.value.flag == "UO"
    call, attempt = start(world, 10.0)
    with pytest.raises(Overflow, match="half open"):
        start(world, 10.0)
    call.settle(attempt, OK, 10.0)
    call.close(10.0)
    send(world, OK, 10.0)
    assert permits(world) == (0, 0, 0)


NOT_THE_HOST = [Failure.CANCELLED, Failure.POOL_TIMEOUT, Failure.BODY, Failure.LOCAL]


@pytest.mark.parametrize("failure", NOT_THE_HOST)
def test_what_the_host_did_not_do_neither_opens_nor_holds_a_permit(failure):
    world = world_of(endpoints("10.0.0.1"))
    for _ in range(10):
        send(world, Outcome.of_failure(failure))
    break_first(world)
    for _ in range(5):
        call, attempt = start(world, 10.0)
        assert attempt.trial
        if failure is Failure.CANCELLED:
            call.abandon(10.0)
        else:
            call.settle(attempt, Outcome.of_failure(failure), 10.0)


@pytest.mark.parametrize("status", [400, 404, 429])
def test_an_answer_below_500_is_no_error(status):
    world = world_of(endpoints("10.0.0.1"))
    for _ in range(10):
        send(world, Outcome.of_status(status))


def test_a_trial_passes_when_its_headers_are_there_however_long_its_body_lasts():
    world = world_of(endpoints("10.0.0.1"))
    break_first(world)
    call, attempt = start(world, 10.0)
    call.settle(attempt, OK, 10.0)
    assert start(world, 10.0)[1].trial == 0
    call.close(500.0)


def test_a_full_cluster_takes_no_permit_of_a_trial():
    world = world_of(endpoints("10.0.0.1"), circuit_breaker=CircuitBreaker(max_requests=1))
    call, attempt = start(world)
    call.settle(attempt, OK, 0.0)  # its body stays open
    state = world.cluster(NAME).members[0]
    world.cluster(NAME).report(state, BAD, 0.0)
    world.cluster(NAME).report(state, BAD, 0.0)
    world.cluster(NAME).report(state, BAD, 0.0)
    with pytest.raises(Overflow, match="1 requests are under way"):
        start(world, 10.0)
    call.close(10.0)
    assert start(world, 10.0)[1].trial


@pytest.mark.parametrize("scope", list(BreakerScope))
@pytest.mark.parametrize("k", [1, 3])
def test_exactly_k_trials_run_under_a_hundred_concurrent_callers(scope, k):
    world = world_of(endpoints("10.0.0.1"), replace(THREE, scope=scope, half_open_requests=k))
    for _ in range(3):
        send(world, BAD)
    together, let, refused = threading.Barrier(100), [], []

    def caller():
        together.wait()
        try:
            let.append(start(world, 10.0))
        except (NoHealthyUpstream, Overflow) as error:
            refused.append(error)

    threads = [threading.Thread(target=caller) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(let), len(refused)) == (k, 100 - k)
    assert permits(world)[0] == k


def test_changes_are_told_once_each():
    told = []
    state = State(lambda cluster, endpoint, change: told.append((endpoint, change)))
    world = world_of(endpoints("10.0.0.1"))
    world.state = state
    world._clusters.clear()
    for _ in range(3):
        send(world, BAD)
    call, attempt = start(world, 10.0)
    call.settle(attempt, OK, 10.0)
    opened, half, closed = Change.BREAKER_OPEN, Change.BREAKER_HALF_OPEN, Change.BREAKER_CLOSED
    assert told == [("10.0.0.1:80", each) for each in (opened, half, closed)]


def test_a_fork_in_the_middle_of_a_trial_starts_over():
    world = world_of(endpoints("10.0.0.1"))
    break_first(world)
    start(world, 10.0)
    world.state.after_fork()
    world.after_fork()
    assert start(world, 10.0)[1].trial == 0


def test_without_the_policy_the_breakers_of_the_last_configuration_are_forgotten():
    world = world_of(endpoints("10.0.0.1"))
    bad = break_first(world)
    bare = prepared(endpoints("10.0.0.1"))
    bare.state = world.state
    send(bare, OK, 1.0)
    assert not bad.shut
