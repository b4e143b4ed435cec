"""Calls that stick: weighted destinations by key, and cookies that this process makes and keeps."""

from __future__ import annotations

import random
from collections import Counter

import httpx
import pytest

from meshlib.dataplane.bound_route import BoundRoute
from meshlib.dataplane.destination import Destination
from meshlib.dataplane.policies.cookie_jar import CookieJar, path_matches
from meshlib.httpx import MeshTransport
from meshlib.model.policy import HashKey
from meshlib.model.route import Forward, Route, RouteMatch, WeightedCluster
from meshlib.testing import ManualClock, ScriptedTransport, mesh_of
from tests.conftest import endpoint_slice, service

KEY = (HashKey("header", "x-user"),)
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc}}
spec:
  host: svc
  trafficPolicy: {{loadBalancer: {balancer}}}
  subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: svc}}
spec:
  hosts: [svc]
  http:
  - route:
    - {{destination: {{host: svc, subset: v1}}, weight: {one}}}
    - {{destination: {{host: svc, subset: v2}}, weight: {two}}}
---
apiVersion: meshlib.dev/v1alpha1
kind: ClientPolicy
metadata: {{name: svc}}
spec: {{hosts: [svc], {policy}}}
"""
V1, V2 = {"10.0.1.1:80", "10.0.1.2:80"}, {"10.0.2.1:80", "10.0.2.2:80"}


def canary(one=90, two=10, policy="stickyWeights: {by: [{httpHeaderName: x-user}]}", balancer="{simple: RANDOM}", **o):
    slices = [endpoint_slice("svc", f"v{n}", (f"10.0.{n}.1", 80), (f"10.0.{n}.2", 80)) for n in (1, 2)]
    rules = RULE.format(one=one, two=two, policy=policy, balancer=balancer)
    return mesh_of(service("svc", 80), *slices, rules, telemetry=False, **o)


def bound(*weights):
    clusters = tuple(WeightedCluster(f"c{n}", weight) for n, weight in enumerate(weights))
    action = Forward(clusters, weight_keys=KEY)
    route = Route("r", RouteMatch(), action)
    return BoundRoute(route, tuple(Destination(each, route, action, None) for each in clusters))


def owners(route, number=20_000):
    return [route.owner(hash((3, n)) & (2**64 - 1)).name for n in range(number)]


# The draw -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(90, 10), (1, 1), (50, 30, 20), (1, 2, 3, 4)])
def test_the_shares_of_the_keys_follow_the_weights(weights):
    found = Counter(owners(bound(*weights)))
    for number, weight in enumerate(weights):
        assert found[f"c{number}"] / 20_000 == pytest.approx(weight / sum(weights), abs=0.01)


@pytest.mark.parametrize(("before", "after"), [((90, 10), (80, 20)), ((90, 10), (8, 2)), ((1, 1), (3, 1))])
def test_a_change_of_two_weights_moves_the_difference_alone(before, after):
    pairs = Counter(zip(owners(bound(*before)), owners(bound(*after)), strict=True))
    moved = sum(count for (one, other), count in pairs.items() if one != other) / 20_000
    assert moved == pytest.approx(abs(before[0] / sum(before) - after[0] / sum(after)), abs=0.01)
    assert len({pair for pair in pairs if pair[0] != pair[1]}) == 1, "in one direction only"


def test_a_new_destination_takes_its_share_and_moves_nothing_else():
    pairs = Counter(zip(owners(bound(60, 40)), owners(bound(60, 40, 25)), strict=True))
    assert {other for one, other in pairs if one != other} == {"c2"}


def test_the_same_key_stays_for_ten_thousand_calls_and_across_restarts():
    chosen = set()
    for start in range(3):
        wire = ScriptedTransport()
        mesh = canary(50, 50, rng=random.Random(start))
        with mesh, httpx.Client(transport=MeshTransport(mesh, transport=wire)) as client:
            for _ in range(4000 if start == 0 else 3000):
                client.get("http://svc/", headers={"x-user": "ann"})
        assert set(wire.seen) in (V1, V2), "one subset, and any endpoint of it"
        chosen.add(frozenset(wire.seen))
    assert len(chosen) == 1


def test_without_the_key_the_draw_is_random():
    wire = ScriptedTransport()
    mesh = canary(50, 50, rng=random.Random(1))
    with mesh, httpx.Client(transport=MeshTransport(mesh, transport=wire)) as client:
        for _ in range(200):
            client.get("http://svc/")
    assert set(wire.seen) == V1 | V2


def test_sticky_weights_without_sources_take_the_keys_of_consistent_hash():
    wire = ScriptedTransport()
    hashing = "{consistentHash: {httpHeaderName: x-user}}"
    mesh = canary(50, 50, "stickyWeights: {}", hashing, rng=random.Random(1))
    with mesh, httpx.Client(transport=MeshTransport(mesh, transport=wire)) as client:
        for user in range(30):
            wire.seen.clear()
            for _ in range(5):
                client.get("http://svc/", headers={"x-user": str(user)})
            assert len(set(wire.seen)) == 1
    wire.seen.clear()
    mesh = canary(50, 50, "retryBudget: {}", hashing, rng=random.Random(1))
    with mesh, httpx.Client(transport=MeshTransport(mesh, transport=wire)) as client:
        for _ in range(50):
            client.get("http://svc/", headers={"x-user": "7"})
    assert len(set(wire.seen)) == 2, "in Istio the subset is drawn anew each time"


def test_explain_says_where_a_key_stays():
    with canary(50, 50) as mesh:
        told = mesh.explain("GET", "http://svc/", {"x-user": "ann"}).to_dict()["sticky_weights"]
        assert told["sources"] == [{"source": "header", "name": "x-user"}]
        wire = ScriptedTransport()
        with httpx.Client(transport=MeshTransport(mesh, transport=wire)) as client:
            client.get("http://svc/", headers={"x-user": "ann"})
        assert told["cluster"].split("|")[2] == ("v1" if set(wire.seen) <= V1 else "v2")
        assert mesh.explain("GET", "http://svc/").to_dict()["sticky_weights"]["cluster"] is None


# Cookies ------------------------------------------------------------------------------------------------------------

COOKIE = "{consistentHash: {httpCookie: {name: sticky, ttl: 60s}}}"


def bare_calls(mesh, wire, number, cookies=()):
    """Calls of a client without a cookie jar."""
    wire.seen.clear()
    with httpx.Client(transport=MeshTransport(mesh, transport=wire)) as client:
        for _ in range(number):
            client.cookies.clear()
            yield client.get("http://svc/", headers={"cookie": "; ".join(cookies)} if cookies else {})


def test_calls_without_a_cookie_jar_stick_until_the_time_to_live_is_over():
    wire, clock = ScriptedTransport(), ManualClock()
    with canary(100, 0, "retryBudget: {}", COOKIE, clock=clock, rng=random.Random(1)) as mesh:
        answers = list(bare_calls(mesh, wire, 20))
        assert len(set(wire.seen)) == 1
        assert ["set-cookie" in answer.headers for answer in answers] == [True] + [False] * 19
        made = set()
        for _ in range(40):
            clock.advance(60.0)
            (answer,) = bare_calls(mesh, wire, 1)
            made.add(answer.headers["set-cookie"])
        assert len(made) == 40, "each time a new one"


def test_where_cookies_are_not_kept_every_answer_carries_one_as_a_sidecars_does():
    wire = ScriptedTransport()
    with canary(100, 0, "loadBalancer: {keepCookies: false}", COOKIE, rng=random.Random(1)) as mesh:
        answers = list(bare_calls(mesh, wire, 20))
        assert len({answer.headers["set-cookie"] for answer in answers}) == 20
        assert len(set(wire.seen)) == 2


def test_the_callers_own_cookie_goes_first():
    wire = ScriptedTransport()
    with canary(100, 0, "retryBudget: {}", COOKIE, rng=random.Random(1)) as mesh:
        list(bare_calls(mesh, wire, 1))
        seen = set()
        for number in range(20):
            (answer,) = bare_calls(mesh, wire, 1, [f"sticky=user-{number}"])
            assert "set-cookie" not in answer.headers
            seen.update(wire.seen)
        assert seen == V1


def test_one_cookie_keys_the_weights_and_the_ring():
    wire = ScriptedTransport()
    policy = "loadBalancer: {keepCookies: false}, stickyWeights: {by: [{httpCookie: {name: sticky, ttl: 60s}}]}"
    with canary(50, 50, policy, COOKIE, rng=random.Random(1)) as mesh:
        for answer in bare_calls(mesh, wire, 10):
            assert len(answer.headers.get_list("set-cookie")) == 1


def test_a_jar_forgets_the_oldest_and_gives_children_of_a_fork_nothing():
    jar, key, rng = CookieJar(), HashKey("cookie", "c", 0.0, kept=True), random.Random(1)
    first, fresh = jar.make("h0", key, "/", 0.0, rng)
    assert fresh and jar.make("h0", key, "/x", 1e9, rng) == (first, False)
    for number in range(1, jar.LIMIT + 1):
        jar.make(f"h{number}", key, "/", 0.0, rng)
    assert jar.value("h0", key, "/", 0.0) is None
    assert jar.value("h1", key, "/", 0.0)
    jar.after_fork()
    assert jar.value("h1", key, "/", 0.0) is None


@pytest.mark.parametrize(
    ("cookie", "path", "goes"),
    [
        ("", "/x", True),
        ("/", "/x", True),
        ("/a", "/a", True),
        ("/a", "/a/b?c", True),
        ("/a", "/ab", False),
        ("/a/", "/a/b", True),
        ("/a/", "/a", False),
        ("/a", "/?x=/a", False),
    ],
)
def test_a_cookie_goes_where_its_path_says(cookie, path, goes):
    assert path_matches(cookie, path) is goes


def test_the_callers_address_is_hashed_where_it_is_known():
    chosen = set()
    for number in range(12):
        wire = ScriptedTransport()
        with canary(
            100, 0, "retryBudget: {}", "{consistentHash: {useSourceIp: true}}", address=f"10.9.0.{number}"
        ) as mesh:
            list(bare_calls(mesh, wire, 5))
        assert len(set(wire.seen)) == 1
        chosen.update(wire.seen)
    assert chosen == V1
