"""Subsets inside a cluster: who is chosen by labels, and what happens when nobody fits."""

from __future__ import annotations

import random

import pytest

from meshlib.dataplane import router
from meshlib.dataplane.balancing.subsets import chosen
from meshlib.dataplane.explain import explain
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.state import EndpointState, State
from meshlib.errors import NoHealthyUpstream
from meshlib.model.cluster import Cluster
from meshlib.model.endpoint import Endpoint, LocalityEndpoints
from meshlib.model.policy import LoadBalancer, SubsetFallback, Subsets, SubsetSelector
from meshlib.model.route import Forward, Route, RouteMatch, WeightedCluster
from meshlib.model.snapshot import Snapshot
from tests.dataplane.worlds import NAME, World, request

ENDPOINTS = tuple(
    Endpoint(f"10.0.0.{number}", 80, {"version": version, "stage": stage})
    for number, (version, stage) in enumerate([("v1", "prod"), ("v1", "prod"), ("v2", "prod"), ("v2", "test")], 1)
)
NOBODY, ANY, DEFAULT, KEYS = SubsetFallback
BOTH = ("stage", "version")


def addresses(subsets, wanted):
    members = [EndpointState(each.key, each, 0.0) for each in ENDPOINTS]
    return "".join(state.endpoint.address[-1] for state in chosen(subsets, members, wanted))


def subsets(fallback=NOBODY, own=None, fewer=(), default=(("stage", "test"),)):
    selectors = (SubsetSelector(BOTH, own, fewer), SubsetSelector(("version",)))
    return Subsets(selectors, fallback, default)


@pytest.mark.parametrize(
    ("given", "wanted", "found"),
    [
        (subsets(), {"version": "v1"}, "12"),
        (subsets(), {"version": "v2", "stage": "test"}, "4"),
        (subsets(), {"version": "v3"}, ""),
        (subsets(), {"stage": "prod"}, ""),
        (subsets(), {}, ""),
        (subsets(ANY), {"version": "v3"}, "1234"),
        (subsets(ANY), {"stage": "prod"}, "1234"),
        (subsets(ANY), {}, "1234"),
        (subsets(DEFAULT), {"version": "v3"}, "4"),
        (subsets(DEFAULT, default=(("stage", "none"),)), {}, ""),
        (subsets(DEFAULT, default=()), {}, "1234"),
        (subsets(ANY, NOBODY), {"version": "v1", "stage": "test"}, ""),
        (subsets(NOBODY, ANY), {"version": "v1", "stage": "test"}, "1234"),
        (subsets(NOBODY, DEFAULT), {"version": "v1", "stage": "test"}, "4"),
        (subsets(NOBODY, KEYS, ("version",)), {"version": "v1", "stage": "test"}, "12"),
        (subsets(ANY, KEYS, ("version",)), {"version": "v3", "stage": "test"}, "1234"),
        (subsets(NOBODY, KEYS, ("stage",)), {"version": "v3", "stage": "prod"}, ""),
    ],
)
def test_who_is_chosen(given, wanted, found):
    assert addresses(given, wanted) == found


def world(given, wanted, **balancer):
    action = Forward((WeightedCluster(NAME, metadata_match=wanted),))
    cluster = Cluster(NAME, "svc", 80, load_balancer=LoadBalancer(subsets=given, **balancer))
    source = World([Route("all", RouteMatch(), action)], {NAME: (cluster, (LocalityEndpoints(ENDPOINTS),))})
    return Prepared(Snapshot(source, 1), State(), 0.0, random.Random(1))


def called(prepared, number=50):
    rng, found = random.Random(1), set()
    for _ in range(number):
        call = router.begin(prepared, request(), 0.0, rng)
        found.add(call.next_attempt(0.0).endpoint.address[-1])
        call.close(0.0)
    return "".join(sorted(found))


def test_calls_are_balanced_inside_the_subset_of_their_route():
    wanted = (("version", "v1"),)
    prepared = world(subsets(), wanted)
    assert called(prepared) == "12"
    destination = explain(prepared, request(), 0.0).destinations[0]
    assert destination.endpoints == ("10.0.0.1:80", "10.0.0.2:80")
    assert called(world(None, wanted)) == "1234", "without subsets what a route asks for counts for nothing"


def test_the_health_of_a_subset_is_its_own():
    """One of two is out: half of the subset, below the panic threshold; a quarter of the cluster is not."""
    prepared = world(subsets(), (("version", "v1"),), panic_ratio=0.6)
    cluster = prepared.cluster(NAME)
    cluster.members[0].ejected_at = 0.0
    cluster.state.health_version += 1
    assert called(prepared) == "12"


def test_an_empty_subset_fails_as_a_cluster_without_endpoints_does():
    call = router.begin(world(subsets(), (("version", "v3"),)), request(), 0.0, random.Random(1))
    with pytest.raises(NoHealthyUpstream):
        call.next_attempt(0.0)
