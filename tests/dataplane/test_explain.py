"""A decision tells how things stand now: ejections with their end, panic, counters, and what is sent."""

from __future__ import annotations

import random

import pytest

from meshlib.dataplane import router
from meshlib.dataplane.explain import explain
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.policies.checked import Checked, Probe
from meshlib.model.client_policy import HealthCheck
from meshlib.model.cluster import Discovery
from meshlib.model.endpoint import LocalityEndpoints
from meshlib.model.match import MatchKind, RouteMatch, StringMatch
from meshlib.model.policy import BalancerKind, CircuitBreaker, LoadBalancer, OutlierDetection
from meshlib.model.route import Cors, Forward, HeaderOps, Route, WeightedCluster
from tests.dataplane.worlds import NAME, endpoints, prepared, request

EJECTS = OutlierDetection(consecutive_5xx=1, interval=10.0, base_ejection_time=30.0, max_ejection_percent=100)


def destination(world, now=0.0, **options):
    (found,) = explain(world, request(**options), now).destinations
    return found


def test_an_ejected_endpoint_is_told_with_the_moment_of_its_return():
    world = prepared(endpoints("a", "b"), outlier_detection=EJECTS)
    cluster = world.cluster(NAME)
    cluster.report(cluster.members[0], Outcome.of_status(503), 0.0)
    found = destination(world, 12.0)
    assert found.endpoints == ("b:80",)
    assert found.left_out == (("a:80", "ejected, back in 18 s at the earliest"),)
    assert found.live["ejected"] == {"a:80": 18.0}


def test_the_sweep_that_the_next_pick_makes_is_foreseen_and_not_made():
    world = prepared(endpoints("a", "b"), outlier_detection=EJECTS)
    cluster = world.cluster(NAME)
    cluster.report(cluster.members[0], Outcome.of_status(503), 0.0)
    assert set(destination(world, 30.0).endpoints) == {"a:80", "b:80"}
    assert cluster.members[0].ejected_at == 0.0
    assert destination(world, 29.0).endpoints == ("b:80",)


def test_panic_is_told():
    world = prepared(endpoints("a", "b"), outlier_detection=EJECTS, load_balancer=LoadBalancer(panic_ratio=0.6))
    cluster = world.cluster(NAME)
    cluster.report(cluster.members[0], Outcome.of_status(503), 0.0)
    found = destination(world, 1.0)
    assert set(found.endpoints) == {"a:80", "b:80"}
    assert found.live["panic"]
    assert found.left_out == ()
    assert "panics" in "".join(explain(world, request(), 1.0).reasons)


def test_an_endpoint_that_was_not_checked_yet_is_told_of():
    world = prepared(endpoints("a", "b"))
    cluster = world.cluster(NAME)
    cluster.members[1].health_ok = False
    cluster.state.health_version += 1
    assert destination(world).left_out == (("b:80", "it waits for its first health check"),)


def test_failing_health_checks_are_told_with_the_last_answer():
    world = prepared(endpoints("a", "b"))
    cluster = world.cluster(NAME)
    broken = cluster.members[1]
    broken.checked, broken.health_ok = Checked(0.0), False
    broken.checked.record(HealthCheck(), Probe.ANSWERED_BADLY, "status 500")
    cluster.state.health_version += 1
    assert destination(world).left_out == (("b:80", "its health checks fail (status 500)"),)


def test_counters_are_those_of_live_calls():
    limits = CircuitBreaker(max_connections=2, max_pending_requests=5, max_retries=3)
    world = prepared(endpoints("a"), circuit_breaker=limits)
    assert destination(world).live["requests"] == 0
    call = router.begin(world, request(), 0.0, random.Random(1))
    call.next_attempt(0.0)
    live = destination(world).live
    assert (live["requests"], live["retries"], live["retry_limit"], live["pending"]) == (1, 0, 3, 0)
    call.close(0.0)
    assert destination(world).live["requests"] == 0


def test_a_service_without_discovery_dials_what_the_caller_names():
    world = prepared((), discovery=Discovery.ORIGINAL_DST, load_balancer=LoadBalancer(BalancerKind.PASSTHROUGH))
    decision = explain(world, request())
    assert decision.flag == ""
    assert decision.destinations[0].endpoints == ("svc:80",)


def test_priorities_and_localities_are_told_with_their_shares():
    near, far = (
        LocalityEndpoints(group.endpoints, group.locality, number, 1)
        for number, group in enumerate((*endpoints("a"), *endpoints("b")))
    )
    found = destination(prepared((near, far)))
    assert found.endpoints == ("a:80",)
    assert [(each["priority"], each["percent"]) for each in found.priorities] == [(0, 100), (1, 0)]


def test_what_is_sent_is_told_for_each_destination():
    ops = HeaderOps(set=(("x-new", "1"),), remove=("x-old",))
    clusters = (WeightedCluster(NAME, 1, request_headers=ops), WeightedCluster(NAME, 1, host_rewrite="other"))
    world = prepared(endpoints("a"), route=Route("all", RouteMatch(), Forward(clusters, timeout=1.5)))
    first, second = explain(world, request(headers={"x-old": "x"})).destinations
    assert first.sends.changed == {"x-new": "1", "x-old": None, "x-envoy-expected-rq-timeout-ms": "1500"}
    assert (second.sends.authority, first.sends.authority) == ("other", "svc")


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 5)])
def test_shares_are_percent_of_the_whole(weights):
    clusters = tuple(WeightedCluster(NAME, weight) for weight in weights)
    world = prepared(endpoints("a"), route=Route("all", RouteMatch(), Forward(clusters)))
    shares = [each.weight for each in explain(world, request()).destinations]
    assert shares == pytest.approx([100 * weight / sum(weights) for weight in weights])


def test_cross_origin_rules_are_told_in_istios_words():
    origin = StringMatch(MatchKind.EXACT, "https://x")
    rule = Route("r", RouteMatch(), Forward((WeightedCluster(NAME),)), cors=Cors((origin,), "GET", max_age=60))
    told = explain(prepared(endpoints("a"), route=rule), request()).to_dict()["cors"]
    assert (told["allow_origins"], told["allow_methods"], told["max_age_s"]) == (["exact https://x"], "GET", 60)
    assert told["unmatched_preflights"] == "FORWARD"
    assert explain(prepared(endpoints("a")), request()).to_dict()["cors"] is None
