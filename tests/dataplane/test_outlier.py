"""Ejection on a clock by hand: whom, how many, for how long, and what an update leaves alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.dataplane.balancing.pick import Moment, Picker
from meshlib.dataplane.cluster import PreparedCluster
from meshlib.dataplane.outcome import Blame, Failure, Outcome
from meshlib.dataplane.policies.outlier import Detector
from meshlib.dataplane.policies.outlier_rates import failing, outliers
from meshlib.dataplane.state import ClusterState
from meshlib.model.cluster import Cluster
from meshlib.model.endpoint import Endpoint
from meshlib.model.policy import FailurePercentage, LoadBalancer, OutlierDetection, SuccessRate
from tests.dataplane.worlds import endpoints

BAD, GOOD = Outcome.of_status(503), Outcome.of_status(200)


def watched(detection: OutlierDetection, hosts: int, seed: int = 1):
    cluster = ClusterState("c")
    detector = Detector(detection, cluster, random.Random(seed))
    states = cluster.adopt([Endpoint(f"10.0.0.{n}", 80) for n in range(hosts)], 0.0)
    detector.watch(states)
    return cluster, detector, states


def fail(detector, state, now, times=1, outcome=BAD):
    for _ in range(times):
        detector.report(state, outcome, now)


# How many -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10), st.integers(0, 100), st.booleans())
def test_never_more_are_out_than_the_percentage_allows(hosts, percent, always_one):
    detection = OutlierDetection(consecutive_5xx=1, max_ejection_percent=percent, always_eject_one=always_one)
    _, detector, states = watched(detection, hosts)
    for state in states:
        fail(detector, state, 1.0)
        allowed = hosts * percent // 100
        assert len(detector.ejected()) <= max(allowed, int(always_one))
    assert len(detector.ejected()) == max(hosts * percent // 100, int(always_one)), "and no fewer, when all fail"


def test_ten_percent_of_nine_is_nobody_and_of_ten_is_one():
    for hosts, out in ((9, 0), (10, 1)):
        _, detector, states = watched(OutlierDetection(consecutive_5xx=1), hosts)
        for state in states:
            fail(detector, state, 1.0)
        assert len(detector.ejected()) == out


# For how long -------------------------------------------------------------------------------------------------------


def test_time_out_grows_by_the_base_up_to_the_longest_and_decays_a_step_with_each_quiet_sweep():
    detection = OutlierDetection(
        consecutive_5xx=1, interval=1.0, base_ejection_time=2.0, max_ejection_time=5.0, max_ejection_percent=100
    )
    _, detector, (state,) = watched(detection, 1)
    now, out = 0.0, []
    for _ in range(4):
        fail(detector, state, now)
        started = now
        while state.ejected_at is not None:
            now += 1.0
            detector.sweep(now)
        out.append(now - started)
    assert out == [2.0, 4.0, 5.0, 5.0]
    assert state.ejections == 4, "Envoy counts one beyond the longest time, so that it takes a sweep more to forget"
    detector.sweep(now + 1.0)
    detector.sweep(now + 2.0)
    assert state.ejections == 2


@given(st.lists(st.sampled_from(["fail", "pass"]), min_size=1, max_size=25), st.integers(1, 9), st.integers(1, 20))
def test_sweeps_made_late_do_what_sweeps_made_in_time_do(steps, base, longest):
    detection = OutlierDetection(
        consecutive_5xx=1,
        interval=1.0,
        base_ejection_time=float(base),
        max_ejection_time=float(longest),
        max_ejection_percent=100,
    )
    worlds = [watched(detection, 1), watched(detection, 1)]
    for step, moment in zip(steps, range(0, 300, 7), strict=False):
        (_, eager, (first,)), (_, lazy, (second,)) = worlds
        while eager.next_sweep is not None and eager.next_sweep <= moment:
            eager.sweep(eager.next_sweep)
        lazy.sweep(float(moment))
        assert (first.ejected_at, first.ejections) == (second.ejected_at, second.ejections)
        if step == "fail":
            fail(eager, first, float(moment))
            fail(lazy, second, float(moment))


def test_jitter_lengthens_a_time_out_by_at_most_what_is_configured():
    detection = OutlierDetection(
        consecutive_5xx=1, base_ejection_time=10.0, max_ejection_time_jitter=5.0, max_ejection_percent=100
    )
    terms = set()
    for seed in range(20):
        _, detector, (state,) = watched(detection, 1, seed)
        fail(detector, state, 0.0)
        terms.add(detector.term(state))
    assert all(10.0 <= term <= 15.0 for term in terms)
    assert len(terms) > 10, "they do not come back together"


def test_explain_foresees_the_very_sweep_that_brings_an_endpoint_back():
    detection = OutlierDetection(consecutive_5xx=1, interval=10.0, base_ejection_time=25.0, max_ejection_percent=100)
    _, detector, (state,) = watched(detection, 1)
    fail(detector, state, 4.0)
    assert detector.back_at(state) == 34.0
    detector.sweep(33.9)
    assert state.ejected_at is not None
    detector.sweep(34.0)
    assert state.ejected_at is None


# By which results ---------------------------------------------------------------------------------------------------


def test_the_rate_example_of_envoy():
    volumes = {"bad": (100, 50), **dict.fromkeys("abcd", (100, 0))}
    assert outliers(volumes, SuccessRate()) == ["bad"], "mean 90, deviation 20, threshold 52"
    assert outliers({**volumes, "bad": (100, 47)}, SuccessRate(stdev_factor=2.1)) == []


def test_a_rate_needs_hosts_and_volume():
    volumes = {"bad": (100, 100), **dict.fromkeys("abc", (100, 0))}
    assert outliers(volumes, SuccessRate(stdev_factor=1.0)) == [], "four hosts are fewer than five"
    assert outliers({**volumes, "d": (99, 0)}, SuccessRate(stdev_factor=1.0)) == [], "the fifth has too little volume"
    assert outliers({**volumes, "d": (100, 0)}, SuccessRate(stdev_factor=1.0)) == ["bad"]


def test_a_failure_percentage_at_the_threshold_goes():
    volumes = {"at": (100, 85), "below": (100, 84), **dict.fromkeys("abc", (50, 0))}
    assert failing(volumes, FailurePercentage()) == ["at"]


def test_rates_judge_one_interval_and_start_over():
    detection = OutlierDetection(
        consecutive_5xx=0,
        interval=10.0,
        max_ejection_percent=100,
        failure_percentage=FailurePercentage(threshold=50, minimum_hosts=2, request_volume=10),
    )
    _, detector, states = watched(detection, 2)
    fail(detector, states[0], 1.0, 10)
    fail(detector, states[1], 1.0, 10, GOOD)
    assert detector.ejected() == [], "only a sweep judges rates"
    fail(detector, states[1], 11.0, 1, GOOD)
    assert detector.ejected() == [states[0]], "the first report after the interval sweeps before it counts"
    assert states[1].results.total == 1


def test_local_origins_have_rates_of_their_own_when_split():
    detection = OutlierDetection(
        consecutive_5xx=0,
        split_local_origin=True,
        consecutive_local_origin=0,
        max_ejection_percent=100,
        failure_percentage=FailurePercentage(50, 1, 4, enforcing=0, enforcing_local_origin=100),
    )
    _, detector, states = watched(detection, 2)
    fail(detector, states[0], 1.0, 4, Outcome.of_failure(Failure.CONNECT))
    fail(detector, states[1], 1.0, 4)
    detector.sweep(detector.next_sweep)
    assert detector.ejected() == [states[0]], "answers of 503 are no local origin"


@pytest.mark.parametrize(("grpc", "counts"), [(14, True), (13, True), (2, True), (4, True), (5, False), (1, False)])
def test_a_grpc_status_counts_as_its_http_translation(grpc, counts):
    _, detector, (state,) = watched(OutlierDetection(consecutive_5xx=1, max_ejection_percent=100), 1)
    fail(detector, state, 1.0, 1, Outcome.of_status(200, grpc_status=grpc))
    assert bool(detector.ejected()) is counts


def test_configured_codes_take_the_place_of_5xx_for_answers_only():
    detection = OutlierDetection(consecutive_5xx=1, max_ejection_percent=100, error_codes=frozenset({429}))
    _, detector, states = watched(detection, 3)
    fail(detector, states[0], 1.0)
    fail(detector, states[1], 1.0, 1, Outcome.of_status(429))
    fail(detector, states[2], 1.0, 1, Outcome.of_failure(Failure.CONNECT))
    assert detector.ejected() == states[1:]


@pytest.mark.parametrize("failure", list(Failure))
def test_only_what_the_host_did_ejects(failure):
    _, detector, (state,) = watched(OutlierDetection(consecutive_5xx=1, max_ejection_percent=100), 1)
    outcome = Outcome.of_failure(failure)
    fail(detector, state, 1.0, 1, outcome)
    assert bool(detector.ejected()) is (outcome.blame is Blame.HOST)


# Across updates -----------------------------------------------------------------------------------------------------


def cluster_of(assignment, detection, state=None):
    cluster = Cluster("c", "svc", 80, outlier_detection=detection)
    return PreparedCluster(cluster, state or ClusterState("c"), assignment, 0.0, random.Random(1))


EASY = OutlierDetection(consecutive_5xx=2, max_ejection_percent=50)


def test_the_same_set_in_any_order_changes_nothing():
    names = [f"10.0.0.{n}" for n in range(4)]
    cluster = cluster_of(endpoints(*names), EASY)
    first, second = cluster.members[:2]
    for _ in range(2):
        cluster.report(first, BAD, 1.0)
    cluster.report(second, BAD, 1.0)
    rng = random.Random(3)
    for _ in range(100):
        rng.shuffle(names)
        cluster.update(endpoints(*names), 2.0, rng)
    assert set(map(id, cluster.members)) >= {id(first), id(second)}
    assert (first.ejected_at, second.consecutive_5xx) == (1.0, 1)
    cluster.report(second, BAD, 3.0)
    assert second.ejected_at == 3.0, "its first error was not forgotten"


def test_an_endpoint_that_flaps_keeps_its_time_out():
    cluster = cluster_of(endpoints("10.0.0.1", "10.0.0.2"), EASY)
    bad = cluster.members[0]
    for _ in range(2):
        cluster.report(bad, BAD, 1.0)
    cluster.update(endpoints("10.0.0.2"), 2.0, random.Random(1))
    cluster.update(endpoints("10.0.0.2", "10.0.0.1"), 5.0, random.Random(1))
    assert cluster.members[1] is bad
    assert cluster.ejected_until(bad) == 31.0


def test_a_new_configuration_keeps_ejections_and_one_without_detection_lifts_them():
    cluster = cluster_of(endpoints("10.0.0.1", "10.0.0.2"), EASY)
    bad = cluster.members[0]
    for _ in range(2):
        cluster.report(bad, BAD, 1.0)
    again = cluster_of(endpoints("10.0.0.1", "10.0.0.2"), EASY, cluster.state)
    assert again.members[0].ejected_at == 1.0
    without = cluster_of(endpoints("10.0.0.1", "10.0.0.2"), None, cluster.state)
    assert without.members[0].ejected_at is None, "nobody would ever bring it back"


# Panic --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "ratio", "used"), [(1, 0.5, 3), (2, 0.5, 2), (3, 0.5, 4), (4, 0.5, 4), (3, 0.0, 1), (4, 0.0, 0)]
)
def test_below_the_panic_ratio_all_are_used_at_it_only_the_healthy_and_zero_never_panics(out, ratio, used):
    cluster = cluster_of(endpoints(*(f"10.0.0.{n}" for n in range(4))), EASY)
    for state in cluster.members[:out]:
        state.ejected_at = 0.0
    groups = [(group, cluster.members) for group in endpoints(*(f"10.0.0.{n}" for n in range(4)))]
    picker = Picker(LoadBalancer(panic_ratio=ratio), groups, Moment(random.Random(1)))
    assert len(picker.reach()) == used
    assert picker.panic is (used == 4)
