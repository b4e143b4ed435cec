"""Active health checks on a clock by hand: thresholds, first checks, who is due, and what ends with use."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.dataplane.cluster import PreparedCluster
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.policies.checked import Checked, Probe
from meshlib.dataplane.state import State
from meshlib.model.client_policy import ClientPolicy, HealthCheck
from meshlib.model.cluster import Cluster
from meshlib.model.endpoint import Endpoint, Health, LocalityEndpoints
from meshlib.model.policy import LoadBalancer, OutlierDetection
from tests.dataplane.worlds import endpoints, request

CHECK = HealthCheck(interval=5.0, unhealthy_threshold=3, healthy_threshold=2)
PASS, BAD, SILENT, NOTHING = Probe.PASSED, Probe.ANSWERED_BADLY, Probe.NO_ANSWER, Probe.NOTHING


@pytest.mark.parametrize(
    ("probes", "verdicts"),
    [
        ([PASS], [True]),
        ([SILENT], [False]),
        ([BAD], [False]),
        ([NOTHING, PASS], [None, True]),
        ([PASS, SILENT, SILENT, SILENT], [True, True, True, False]),
        ([PASS, SILENT, SILENT, PASS, SILENT, SILENT], [True] * 6),
        ([PASS, SILENT, NOTHING, SILENT, SILENT], [True, True, True, True, False]),
        ([PASS, BAD], [True, False]),
        ([PASS, SILENT, BAD], [True, True, False]),
        ([BAD, PASS, PASS], [False, False, True]),
        ([BAD, PASS, SILENT, PASS, PASS], [False, False, False, False, True]),
    ],
)
def test_the_first_check_decides_then_thresholds_do_and_a_bad_answer_at_once(probes, verdicts):
    checked, seen = Checked(0.0), []
    for probe in probes:
        checked.record(CHECK, probe)
        seen.append(checked.healthy)
    assert seen == verdicts


@given(st.lists(st.sampled_from([PASS, BAD, SILENT])), st.integers(1, 4), st.integers(1, 4))
def test_a_verdict_turns_only_after_as_many_results_in_a_row_as_it_takes(probes, unhealthy, healthy):
    settings = HealthCheck(unhealthy_threshold=unhealthy, healthy_threshold=healthy)
    checked = Checked(0.0)
    for number, probe in enumerate(probes):
        before = checked.healthy
        changed = checked.record(settings, probe)
        assert changed is (checked.healthy is not before)
        if changed and before is True and probe is SILENT:
            last = probes[number + 1 - unhealthy : number + 1]
            assert len(last) == unhealthy
            assert PASS not in last
        if changed and before is False:
            assert probes[number + 1 - healthy : number + 1] == [PASS] * healthy


class Woken(list):
    """The names that were woken."""


def cluster_of(assignment, check=CHECK, state=None, **options):
    woken = Woken()
    if state is None:
        state = State()
        state.wake = woken.append
    cluster = Cluster("c", "svc", 80, client_policy=ClientPolicy(health_check=check), **options)
    return PreparedCluster(cluster, state.cluster("c"), assignment, 0.0, random.Random(1)), woken, state


def pick(cluster, now):
    return cluster.pick(request(), random.Random(3), now, None, (), 0)


def ask(cluster, now, answers):
    """Check all that are due; ``answers`` by address, else they pass."""
    due = cluster.checks.due(now, random.Random(2))
    for state in due:
        cluster.checks.record(state, answers.get(state.endpoint.address, PASS), now)
    return [state.endpoint.address for state in due]


A, B = "10.0.0.1", "10.0.0.2"


def test_nothing_is_checked_before_the_first_pick_and_then_all_at_once():
    cluster, woken, _ = cluster_of(endpoints(A, B))
    assert woken == []
    assert ask(cluster, 0.0, {}) == []
    assert pick(cluster, 1.0) is not None, "a caller does not wait for the first round"
    pick(cluster, 1.5)
    assert woken == ["c"]
    assert ask(cluster, 1.5, {}) == [A, B]
    assert ask(cluster, 5.0, {}) == []
    assert ask(cluster, 7.1, {}) == [A, B]


def test_checks_are_spread_over_a_tenth_of_the_interval():
    cluster, _, _ = cluster_of(endpoints(*(f"10.0.0.{n}" for n in range(50))))
    pick(cluster, 0.0)
    ask(cluster, 0.0, {})
    moments = {state.checked.due for state in cluster.members}
    assert len(moments) == 50
    assert all(5.0 <= moment <= 5.5 for moment in moments)


def test_who_fails_is_left_out_and_comes_back():
    cluster, _, _ = cluster_of(endpoints(A, B))
    pick(cluster, 0.0)
    ask(cluster, 0.0, {A: BAD})
    assert {pick(cluster, 1.0).endpoint.address for _ in range(20)} == {B}
    ask(cluster, 6.0, {})
    ask(cluster, 12.0, {})
    assert all(state.health_ok for state in cluster.members)
    assert len({cluster.pick(request(), random.Random(n), 13.0, None, (), 0) for n in range(20)}) == 2


def test_a_check_under_way_is_not_started_twice():
    cluster, _, _ = cluster_of(endpoints(A))
    pick(cluster, 0.0)
    (state,) = cluster.checks.due(0.0, random.Random(1))
    assert cluster.checks.due(60.0, random.Random(1)) == []
    cluster.checks.record(state, PASS, 60.0)
    assert cluster.checks.due(120.0, random.Random(1)) == [state]


def test_one_that_joins_waits_for_its_first_check_while_another_is_well():
    cluster, woken, _ = cluster_of(endpoints(A))
    pick(cluster, 0.0)
    ask(cluster, 0.0, {})
    cluster.update(endpoints(A, B), 1.0, random.Random(1))
    assert {pick(cluster, 1.0).endpoint.address for _ in range(20)} == {A}
    assert woken == ["c", "c"]
    assert ask(cluster, 1.0, {}) == [B], "it is asked at once, and the other in its turn"
    assert cluster.members[1].health_ok


def test_when_all_are_new_none_waits():
    cluster, _, _ = cluster_of(endpoints(A))
    pick(cluster, 0.0)
    ask(cluster, 0.0, {})
    cluster.update(endpoints(B), 1.0, random.Random(1))
    assert pick(cluster, 1.0).endpoint.address == B


def test_verdicts_survive_updates_and_new_configurations_of_the_same_checks():
    cluster, _, state = cluster_of(endpoints(A, B))
    pick(cluster, 0.0)
    ask(cluster, 0.0, {A: BAD})
    cluster.update(endpoints(B, A), 1.0, random.Random(1))
    again, _, _ = cluster_of(endpoints(A, B), state=state)
    assert [member.health_ok for member in again.members] == [False, True]


def test_without_checks_their_verdicts_are_forgotten():
    cluster, _, state = cluster_of(endpoints(A, B))
    pick(cluster, 0.0)
    ask(cluster, 0.0, {A: BAD})
    again, _, _ = cluster_of(endpoints(A, B), None, state)
    assert all(member.health_ok and member.checked is None for member in again.members)


def test_a_cluster_that_nobody_uses_is_idle_after_a_minute():
    cluster, _, _ = cluster_of(endpoints(A))
    pick(cluster, 0.0)
    pick(cluster, 30.0)
    assert not cluster.checks.is_idle(89.0)
    assert cluster.checks.is_idle(90.0)


def test_a_draining_endpoint_is_not_asked():
    group = LocalityEndpoints((Endpoint(A, 80), Endpoint(B, 80, health=Health.DRAINING)))
    cluster, _, _ = cluster_of((group,))
    pick(cluster, 0.0)
    assert ask(cluster, 0.0, {}) == [A]


def test_a_late_answer_about_one_that_is_checked_no_more_changes_nothing():
    cluster, _, _ = cluster_of(endpoints(A))
    pick(cluster, 0.0)
    (state,) = cluster.checks.due(0.0, random.Random(1))
    cluster.state.forget_checks()
    cluster.checks.record(state, BAD, 1.0)
    assert state.health_ok


@pytest.mark.parametrize("returns", [True, False])
def test_a_check_that_passes_brings_the_ejected_back_as_in_envoy_unless_told_otherwise(returns):
    detection = OutlierDetection(consecutive_5xx=1, max_ejection_percent=100, healthy_check_returns=returns)
    cluster, _, _ = cluster_of(endpoints(A), outlier_detection=detection)
    pick(cluster, 0.0)
    ask(cluster, 0.0, {})
    cluster.report(cluster.members[0], Outcome.of_status(503), 1.0)
    assert pick(cluster, 1.0) is None
    ask(cluster, 7.0, {})
    assert (pick(cluster, 7.0) is not None) is returns


# Effective health ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", list(Health))
@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("ejected", [True, False])
@pytest.mark.parametrize("shut", [True, False])
def test_an_endpoint_is_picked_only_when_discovery_checks_breaker_and_ejection_agree(told, checked, ejected, shut):
    others = (Endpoint(f"10.0.1.{n}", 80) for n in range(3))  # enough that nothing spills over to the degraded
    group = LocalityEndpoints((Endpoint(A, 80, health=told), *others))
    cluster, _, _ = cluster_of((group,), load_balancer=LoadBalancer())
    state = cluster.members[0]
    pick(cluster, 0.0)
    state.health_ok, state.ejected_at, state.shut = checked, 0.0 if ejected else None, shut
    cluster.refresh(random.Random(1), 0.0)
    picked = {cluster.pick(request(), random.Random(n), 1.0, None, (), 0).endpoint.address for n in range(40)}
    well = told is Health.HEALTHY and checked and not ejected and not shut
    assert (A in picked) is well


def test_slow_start_counts_from_the_check_that_an_endpoint_passes():
    cluster, _, _ = cluster_of(endpoints(A, B))
    pick(cluster, 0.0)
    ask(cluster, 1.0, {A: BAD})
    ask(cluster, 7.0, {})
    ask(cluster, 13.0, {})
    assert [state.warm_since for state in cluster.members] == [13.0, 1.0]
