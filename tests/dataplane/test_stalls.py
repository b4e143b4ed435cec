"""A process that stands still blames nobody for the timeouts it sees then."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.dataplane import router
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.dataplane.policies.stalls import Stalls
from meshlib.model.client_policy import ClientPolicy, ErrorBreaker
from meshlib.model.policy import OutlierDetection
from tests.dataplane.worlds import NAME, endpoints, prepared, request

TIMEOUTS = (
    Failure.CONNECT_TIMEOUT, Failure.READ_TIMEOUT, Failure.WRITE_TIMEOUT, Failure.PER_TRY_TIMEOUT, Failure.DEADLINE
)  # fmt: skip


class Loop:
    """Stands for an event loop."""


def test_a_beat_that_is_late_by_the_bound_marks_a_stall():
    stalls, loop = Stalls(0.5), Loop()
    assert [stalls.beat(loop, now) for now in (10.0, 10.25, 10.5, 13.75)] == [0.0, 0.0, 0.0, 3.0]
    assert stalls.excuse(10.6, 13.8), "the stall lies inside"
    assert not stalls.excuse(13.75, 20.0), "begun when it was over"
    assert not stalls.excuse(13.5, 20.0), "a quarter of a second of it is less than the bound"
    assert not stalls.excuse(9.0, 10.7), "over before it began"


def test_a_small_lateness_is_none_and_a_bound_of_zero_looks_away():
    for bound, late in ((0.5, 0.4), (0.0, 100.0)):
        stalls, loop = Stalls(bound), Loop()
        stalls.beat(loop, 10.0)
        stalls.beat(loop, 10.25 + late)
        assert not stalls.excuse(10.0, 200.0)


def test_a_stall_counts_before_its_own_beat_could_come():
    stalls, loop = Stalls(0.5), Loop()
    stalls.beat(loop, 10.0)
    assert not stalls.excuse(10.1, 12.0), "another loop than the one that runs here says nothing"
    stalls.here = lambda: loop
    assert stalls.excuse(10.1, 12.0)
    assert not stalls.excuse(10.1, 10.6)
    stalls.end(loop)
    assert not stalls.excuse(10.1, 12.0), "a loop that ended is not late"


def test_the_background_speaks_for_every_thread():
    stalls, loop = Stalls(0.5), Loop()
    stalls.beat(loop, 10.0, everywhere=True)
    assert stalls.excuse(10.1, 12.0)
    stalls.after_fork()
    assert not stalls.excuse(10.1, 12.0)


@given(st.lists(st.floats(0.25, 2.0), min_size=1, max_size=20), st.floats(0, 30), st.floats(0, 10))
def test_an_attempt_is_excused_only_by_as_much_stall_as_the_bound(gaps, since, lasts):
    stalls, loop, now, stalled = Stalls(0.5), Loop(), 0.0, []
    stalls.beat(loop, now)
    for gap in gaps:
        if stalls.beat(loop, now + gap) >= 0.5:
            stalled.append((now + 0.25, now + gap))
        now += gap
    until = since + lasts
    most = max((min(end, until) - max(start, since) for start, end in stalled), default=0.0)
    if abs(most - 0.5) > 1e-6:
        assert stalls.excuse(since, until) is (most > 0.5)


def world_that_stalled(*, stalled: bool):
    policy = ClientPolicy(breaker=ErrorBreaker(consecutive_errors=1))
    detection = OutlierDetection(consecutive_5xx=1, max_ejection_percent=100)
    world = prepared(endpoints("10.0.0.1"), client_policy=policy, outlier_detection=detection)
    loop = world.loop = Loop()
    world.state.stalls.beat(loop, 0.0)
    world.state.stalls.beat(loop, 3.0 if stalled else 0.25)
    return world


@pytest.mark.parametrize("stalled", [True, False])
@pytest.mark.parametrize("failure", list(Failure))
def test_only_timeouts_are_excused_and_only_while_stalled(failure, stalled):
    world = world_that_stalled(stalled=stalled)
    call = router.begin(world, request(), 0.0, random.Random(1))
    attempt = call.next_attempt(0.1)
    outcome = Outcome.of_failure(failure)
    call.settle(attempt, outcome, 3.0)
    (state,) = world.cluster(NAME).members
    counts = outcome.blame.value == "host" and not (stalled and failure in TIMEOUTS)
    assert (state.ejected_at is not None, state.shut) == (counts, counts)
    assert call.outcome is outcome, "the caller sees it as it was"
