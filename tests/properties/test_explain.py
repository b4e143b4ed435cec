"""``explain`` says what live calls do: all of what they can do, and nothing else."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshlib.dataplane import router
from meshlib.dataplane.explain import explain
from meshlib.dataplane.outcome import Outcome
from meshlib.dataplane.policies.cookie_jar import CookieJar
from meshlib.errors import NoCluster, NoHealthyUpstream, NoRoute
from tests.properties.meshes import BALANCED_MESH, CLIENT, MESH, REQUEST, prepared

DRAWS = 3000
"""More than enough to meet whatever has a share of half a percent."""

UNSEEN = {"x-request-id", "x-envoy-attempt-count"}
"""Headers that differ from call to call."""


def live(world, request, now, seed):
    """What one call does: ('reached', cluster, endpoint, head) or another outcome by its name."""
    seen = []
    world.state.cookies = CookieJar()  # else only the first call would draw where a generated cookie leads

    class Witness:
        def call_started(self, call, now):
            seen.append(call)

    try:
        call = router.begin(world, request, now, random.Random(seed), Witness())
        if call is None:
            return ("passthrough",)
        if call.answer is not None:
            return ("answer", call.answer.status, call.answer.flag, dict(call.answer.headers).get(b"location"))
        attempt = call.next_attempt(now)
        target, headers = call.head(attempt)
        call.close(now)
    except NoRoute:
        return ("none",)
    except NoCluster:
        return ("NC", seen[0].destination.name)
    except NoHealthyUpstream:
        return ("UH", seen[0].destination.name)
    return ("reached", attempt.cluster.name, attempt.state.key, (target, plain(headers)))


def plain(headers):
    pairs = [(_text(name), _text(value)) for name, value in headers]
    return tuple(pair for pair in pairs if pair[0].lower() not in UNSEEN)


def _text(raw):
    return raw.decode("latin-1") if isinstance(raw, bytes) else raw


def expected(decision, request):
    """All outcomes that a decision allows for."""
    if decision.action in ("none", "passthrough"):
        return {(decision.action,)}
    abort = (decision.details["fault"] or {}).get("abort")
    found = set()
    if abort is not None and abort["percentage"]:
        status = 200 if abort["grpc_status"] is not None else abort["http_status"]
        found.add(("answer", status, "FI", None))
        if abort["percentage"] >= 100:
            assert not decision.reachable()
            return found
    if decision.action == "redirect":
        location = decision.details["redirect"]["location"].encode("latin-1")
        return {*found, ("answer", decision.details["redirect"]["status"], "", location)}
    if decision.action == "direct_response":
        return {*found, ("answer", decision.details["direct_response"]["status"], "", None)}
    for each in decision.destinations:
        if not each.exists:
            found.add(("NC", each.cluster))
        elif not each.endpoints:
            found.add(("UH", each.cluster))
        for key in each.endpoints:
            found.add(("reached", each.cluster, key, (each.sends.path, plain(each.sends.headers))))
    return found


def shake(world, request, eject, now):
    """Bring endpoints out of order as live traffic would: errors at some, failing health checks at others."""
    host = world.host(request.host, request.port)
    for name in {each.name for route in (host.routes if host else ()) for each in route.destinations}:
        cluster = world.cluster(name)
        members = cluster.members if cluster is not None else []
        for state, fate in zip(members, eject, strict=False):
            if fate == "sick":
                state.health_ok = False
                cluster.state.health_version += 1
            elif fate == "errors" and cluster.cluster.outlier_detection is not None:
                for _ in range(10):
                    cluster.report(state, Outcome.of_status(503), now)


FATES = st.lists(st.sampled_from(["well", "errors", "sick"]), min_size=5, max_size=5)
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
@given(MESH, CLIENT, REQUEST, st.integers(0, 2**32))
def test_explain_is_what_live_calls_do_and_all_of_it(objects, client, request, seed):
    assert_equal(prepared(objects, client), request, 0.0, seed)


@settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
@given(BALANCED_MESH, CLIENT, REQUEST, FATES, st.integers(0, 100), st.integers(0, 2**32))
def test_explain_knows_who_is_out_and_who_waits(objects, client, request, fates, later, seed):
    world = prepared(objects, client)
    shake(world, request, fates, 0.0)
    assert_equal(world, request, float(later), seed)


def assert_equal(world, request, now, seed):
    decision = explain(world, request, now)
    allowed, seen = expected(decision, request), set()
    rng = random.Random(seed)
    for _ in range(DRAWS):
        outcome = live(world, request, now, rng.getrandbits(64))
        assert outcome in allowed, (outcome, decision.reasons)
        seen.add(outcome)
        if seen == allowed:
            break
    assert seen == allowed, (allowed - seen, decision.reasons)
    reached = {(outcome[1], outcome[2]) for outcome in seen if outcome[0] == "reached"}
    assert reached == decision.reachable()


@settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
@given(MESH, CLIENT, REQUEST)
def test_explaining_changes_nothing_and_accounts_for_every_endpoint(objects, client, request):
    world = prepared(objects, client)
    first, second = explain(world, request), explain(world, request)
    assert first == second
    assert first.to_dict() == second.to_dict()
    for destination in first.destinations:
        if destination.exists and destination.load_balancer != "PASSTHROUGH":
            cluster = world.cluster(destination.cluster)
            accounted = {*destination.endpoints, *dict(destination.left_out)}
            assert {state.key for state in cluster.members} <= accounted
            assert not set(destination.endpoints) & set(dict(destination.left_out))
