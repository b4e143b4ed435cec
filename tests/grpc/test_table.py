"""The conformance table: every policy a row, over both stacks and all four shapes, with servers in other processes.

A row that needs a choice of endpoint runs over mesh channels; every other one over intercepted channels as well.
"""

from __future__ import annotations

import contextlib
import time

import grpc
import pytest

from meshlib import errors
from tests.conftest import service
from tests.grpc.colours import KINDS, STACKS
from tests.grpc.table import Table, client_policy, destination_rule, to, virtual_service

OK, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
CLUSTER = "outbound|9080||reviews.default.svc.cluster.local"
ROUND_ROBIN = "{loadBalancer: {simple: ROUND_ROBIN}}"
CODES = {"cancelled": 1, "deadline-exceeded": 4, "internal": 13, "resource-exhausted": 8, "unavailable": 14}


@pytest.fixture(params=STACKS, ids=lambda stack: stack.name)
def stack(request):
    return request.param()


@pytest.fixture(params=KINDS)
def shape(request):
    return request.param


@pytest.fixture
def table(stack, shape, peers):
    """Over mesh channels."""
    return Table(stack, shape, "mesh", peers)


@pytest.fixture(params=["mesh", "intercepted"])
def either(request, stack, shape, peers):
    """Over mesh channels and intercepted ones."""
    return Table(stack, shape, request.param, peers)


# Where it goes ------------------------------------------------------------------------------------------------------


def test_route_by_method(table):
    first = f"{{match: [{{uri: {{exact: /test.B/{table.shape}}}}}], {to('v2')}}}"
    with table.over(destination_rule(), virtual_service(first, f"{{{to('v1')}}}")):
        assert table.names(3, service="test.B") == {"v2": 3}
        assert table.names(3, service="test.S") == {"v1": 3}


def test_route_by_metadata(table):
    first = f"{{match: [{{headers: {{end-user: {{exact: jason}}}}}}], {to('v2')}}}"
    with table.over(destination_rule(), virtual_service(first, f"{{{to('v1')}}}")):
        assert table.names(3, ("end-user", "jason")) == {"v2": 3}
        assert table.names(3, ("end-user", "other")) == {"v1": 3}


@pytest.mark.parametrize(("target", "name"), [("reviews.default:9080", "v2"), ("reviews:9080", "v1")])
def test_route_by_authority(table, target, name):
    first = f"{{match: [{{authority: {{prefix: reviews.default}}}}], {to('v2')}}}"
    with table.over(destination_rule(), virtual_service(first, f"{{{to('v1')}}}"), target=target):
        assert table.names(3) == {name: 3}


def test_weights(table):
    with table.over(destination_rule(), virtual_service(f"{{{to('v1:75 v2:25')}}}")):
        found = table.names(100)
    assert found.total() == 100
    assert 60 <= found["v1"] <= 90


def test_subset_without_endpoints(table):
    with table.over(destination_rule(), virtual_service(f"{{{to('v3')}}}")):
        done = table.ask()
    assert (done.code, table.seen()) == (UNAVAILABLE, {})
    assert "[UH]" in done.details


def test_balancer_round_robin(table):
    with table.over(destination_rule(ROUND_ROBIN), of="v1 v2 v3"):
        assert table.names(12) == {"v1": 4, "v2": 4, "v3": 4}


@pytest.mark.parametrize("simple", ["RANDOM", "LEAST_REQUEST"])
def test_balancer_by_chance(table, simple):
    with table.over(destination_rule(f"{{loadBalancer: {{simple: {simple}}}}}")):
        assert set(table.names(30)) == {"v1", "v2"}


def test_balancer_consistent_hash(table):
    with table.over(destination_rule("{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}"), of="v1 v2 v3"):
        homes = {user: table.names(3, ("x-user", user)) for user in "abcdefgh"}
    assert all(len(home) == 1 for home in homes.values())
    assert len({name for home in homes.values() for name in home}) > 1


def test_locality_failover(table):
    def endpoint(name, locality):
        return f"{{address: 127.0.0.1, ports: {{grpc: {table.peers[name].port}}}, locality: {locality}}}"

    entry = (
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: far}\n"
        "spec: {hosts: [reviews.far], resolution: STATIC, ports: [{number: 9080, name: grpc, protocol: GRPC}],\n"
        f"  endpoints: [{endpoint('v1', 'r1/z1')}, {endpoint('v2', 'r2/z1')}]}}\n"
    )
    rule = (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: far}\nspec: {host: reviews.far, "
        "trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 60s, "
        "maxEjectionPercent: 100}}}\n"
    )
    with table.over(entry, rule, of="", target="reviews.far:9080", locality="r1/z1"):
        assert table.names(5) == {"v1": 5}
        table.ask(("code", "14"), ("only", "v1"))
        assert table.names(5) == {"v2": 5}


def test_peer_and_decision_are_visible(table):
    with table.over(of="v1"):
        done = table.ask()
        assert table.stack.run(done.call.peer) == f"127.0.0.1:{table.peers['v1'].port}"
        assert (done.call.mesh.cluster.name, done.call.mesh.attempts, done.call.mesh.flags) == (CLUSTER, 1, "-")


# How long it may take -----------------------------------------------------------------------------------------------


def test_route_timeout(either):
    with either.over(virtual_service(f"{{timeout: 200ms, {to('all')}}}"), of="v1"):
        began = time.monotonic()
        done = either.ask(("delay", "30"))
    assert (done.code, time.monotonic() - began < 15) == (grpc.StatusCode.DEADLINE_EXCEEDED, True)
    assert "[UT]" in done.details
    assert isinstance(done.error, errors.DeadlineExceeded)


@pytest.mark.parametrize(("given", "most"), [(40.0, 40.0), (500.0, 100.0)])
def test_the_tighter_of_both_times_is_told_to_the_server(either, given, most):
    with either.over(virtual_service(f"{{timeout: 100s, {to('all')}}}"), of="v1"):
        (told,) = either.ask(timeout=given).responses
    assert most - 30 < told["left"] <= most * 1.02  # on the wire times are rounded up


def test_callers_timeout(either):
    with either.over(of="v1"):
        done = either.ask(("delay", "30"), timeout=0.2)
    assert done.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_per_try_timeout(either):
    retries = "retries: {attempts: 1, perTryTimeout: 300ms, retryOn: 'reset,deadline-exceeded'}"
    with either.over(virtual_service(f"{{{retries}, {to('all')}}}"), of="v1"):
        done = either.ask(("delay", "30"), ("until", "1"))
    assert (done.code, either.seen()) == (OK, {"v1": 2})


# Trying again -------------------------------------------------------------------------------------------------------


def retrying(word, attempts=2):
    return virtual_service(f"{{retries: {{attempts: {attempts}, retryOn: '{word}'}}, {to('all')}}}")


@pytest.mark.parametrize("word", CODES)
def test_retry_on(either, word):
    with either.over(retrying(word), of="v1"):
        done = either.ask(("code", str(CODES[word])), ("until", "2"))
        assert (done.code, either.seen()) == (OK, {"v1": 3})
        assert done.responses[0]["metadata"]["x-envoy-attempt-count"] == "3"


@pytest.mark.parametrize("word", CODES)
def test_no_retry_on_what_no_word_covers(either, word):
    with either.over(retrying("internal" if word != "internal" else "cancelled"), of="v1"):
        done = either.ask(("code", str(CODES[word])), ("until", "2"), ("details", "so it is"))
        assert (done.code.value[0], done.details, either.seen()) == (CODES[word], "so it is", {"v1": 1})


def test_retries_end(either):
    with either.over(retrying("unavailable"), of="v1"):
        done = either.ask(("code", "14"))
    assert (done.code, either.seen()) == (UNAVAILABLE, {"v1": 3})


def test_a_retry_goes_elsewhere(table):
    with table.over(retrying("unavailable", 1), destination_rule(ROUND_ROBIN)):
        assert [table.ask(("code", "14"), ("only", "v1")).code for _ in range(6)] == [OK] * 6


def test_no_retry_once_anything_of_the_answer_was_seen(either):
    if not either.streams:
        pytest.skip("one message back is the whole answer")
    with either.over(retrying("unavailable"), of="v1"):
        call = either.open(("code", "14"), ("after", "1"), ("gate", ""))
        assert call.read() is not None
        either.peers["v1"].ask("open")
        done = call.end()
    assert (done.code, done.responses, either.seen()) == (UNAVAILABLE, [], {"v1": 1})


def test_a_stream_that_is_too_long_to_be_kept_is_not_sent_again(either):
    with either.over(retrying("unavailable"), of="v1", replay_buffer=1000):
        done = either.ask(("code", "14"), ("until", "1"), requests=(bytes(600), bytes(600)))
    streamed = either.shape.startswith("Stream")
    assert (done.code, either.seen()) == ((UNAVAILABLE, {"v1": 1}) if streamed else (OK, {"v1": 2}))
    assert either.mesh.replays.used == 0


def test_a_stream_that_is_kept_is_sent_again_whole(either):
    with either.over(retrying("unavailable"), of="v1"):
        done = either.ask(("code", "14"), ("until", "1"))
    assert [told["read"] for told in either.peers["v1"].seen] == [done.responses[0]["read"]] * 2
    assert either.mesh.replays.used == 0


def test_the_budget_bounds_retries(either):
    budget = client_policy("retryBudget: {percent: 1, minConcurrency: 0}")
    with either.over(retrying("unavailable"), budget, of="v1"):
        done = either.ask(("code", "14"), ("until", "1"))
    assert (done.code, either.seen()) == (UNAVAILABLE, {"v1": 1})


def test_hedging(table):
    if table.shape != "UnaryUnary":
        pytest.skip("hedging is for one message each way: several streams cannot be read side by side")
    hedge = client_policy("hedge: {after: 50ms, maxAttempts: 2, methods: [POST]}")
    with table.over(hedge, destination_rule(ROUND_ROBIN)):
        began = time.monotonic()
        assert table.names(4, ("delay", "20"), ("only", "v1")) == {"v2": 4}
        assert time.monotonic() - began < 20


# What is injected, copied and changed -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("abort", "code"),
    [
        ("grpcStatus: RESOURCE_EXHAUSTED", grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("httpStatus: 404", grpc.StatusCode.UNIMPLEMENTED),
        ("httpStatus: 503", UNAVAILABLE),
        ("httpStatus: 401", grpc.StatusCode.UNAUTHENTICATED),
    ],
)
def test_injected_abort(either, abort, code):
    fault = f"fault: {{abort: {{{abort}, percentage: {{value: 100}}}}}}"
    with either.over(virtual_service(f"{{{fault}, {to('all')}}}"), of="v1"):
        done = either.ask()
    assert (done.code, either.seen()) == (code, {})
    assert "fault filter abort" in done.details
    assert "FI" in done.details


def test_injected_delay(either):
    fault = "fault: {delay: {fixedDelay: 200ms, percentage: {value: 100}}}"
    with either.over(virtual_service(f"{{{fault}, {to('all')}}}"), of="v1"):
        began = time.monotonic()
        done = either.ask()
    assert (done.code, time.monotonic() - began >= 0.2) == (OK, True)


def test_mirrors(table):
    mirror = "mirrors: [{destination: {host: reviews, subset: v3}}]"
    with table.over(destination_rule(), virtual_service(f"{{{mirror}, {to('v1')}}}"), of="v1 v3"):
        done = table.ask(("x", "y"))
        assert done.responses[0]["name"] == "v1"
        until = time.monotonic() + 30
        while table.seen() != {"v1": 1, "v3": 1} and time.monotonic() < until:
            time.sleep(0.01)
        (copied,) = table.peers["v3"].seen
    assert (copied["read"], copied["metadata"]["x"]) == (done.responses[0]["read"], "y")


def test_header_operations(either):
    headers = "headers: {request: {set: {x-set: a}, add: {x-add: b}, remove: [x-gone]}, response: {set: {x-answer: c}}}"
    with either.over(virtual_service(f"{{{headers}, {to('all')}}}"), of="v1"):
        done = either.ask(("x-set", "before"), ("x-gone", "1"), ("x-kept", "2"))
        metadata = done.responses[0]["metadata"]
    assert {name: value for name, value in metadata.items() if name in ("x-set", "x-add", "x-gone", "x-kept")} == {
        "x-set": "a",
        "x-add": "b",
        "x-kept": "2",
    }
    assert done.initial["x-answer"] == "c"


def test_rate_limit(either):
    limit = client_policy("rateLimit: {requestsPerUnit: 2, unit: HOUR, burst: 2}")
    with either.over(limit, of="v1"):
        codes = [either.ask().code for _ in range(4)]
    assert codes == [OK, OK, *[grpc.StatusCode.RESOURCE_EXHAUSTED] * 2]
    assert either.seen() == {"v1": 2}


# Who may be asked ---------------------------------------------------------------------------------------------------


def test_ejection(table):
    policy = (
        "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 100}}"
    )
    never = virtual_service(f"{{retries: {{attempts: 0}}, {to('all')}}}")
    with table.over(destination_rule(policy), never):
        first = table.names(4, ("code", "14"), ("only", "v1"))
        assert first == {"UNAVAILABLE": 2, "v2": 2}
        assert table.names(6, ("code", "14"), ("only", "v1")) == {"v2": 6}


def test_a_status_that_is_the_applications_ejects_nobody(table):
    policy = (
        "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 100}}"
    )
    with table.over(destination_rule(policy)):
        found = table.names(12, ("code", "5"), ("only", "v1"))
    assert found == {"NOT_FOUND": 6, "v2": 6}


def test_threshold_of_requests_under_way(either):
    with either.over(destination_rule("{connectionPool: {http: {http2MaxRequests: 1}}}"), of="v1"):
        slow = either.open(("delay", "30"))
        until = time.monotonic() + 30
        while not either.peers["v1"].ask("active") and time.monotonic() < until:
            time.sleep(0.005)
        done = either.ask()
        slow.cancel()
        assert slow.end().code is grpc.StatusCode.CANCELLED
        assert either.ask().code is OK
    assert done.code is UNAVAILABLE
    assert "[UO]" in done.details
    assert isinstance(done.error, errors.Overflow)


def test_circuit_breaker(either):
    breaker = client_policy("circuitBreaker: {consecutiveErrors: 2, openFor: 60s, scope: Cluster}")
    never = virtual_service(f"{{retries: {{attempts: 0}}, {to('all')}}}")
    with either.over(breaker, never, of="v1"):
        codes = [either.ask(("code", "14")).code for _ in range(2)]
        done = either.ask()
    assert (codes, done.code, either.seen()) == ([UNAVAILABLE] * 2, UNAVAILABLE, {"v1": 2})
    assert "[UO]" in done.details


def test_load_reports_in_trailers(table):
    policy = client_policy(
        "loadBalancer: {algorithm: CLIENT_SIDE_WEIGHTED_ROUND_ROBIN, "
        "loadReports: {blackoutPeriod: 0s, weightUpdatePeriod: 100ms}}"
    )
    with table.over(policy):
        until = time.monotonic() + 30
        for name, load in (("v1", "0.9/100"), ("v2", "0.1/100")):
            while not any(s.reported for s in states(table.mesh) if s.key.endswith(f":{table.peers[name].port}")):
                table.ask(("orca", load), ("only", name))
                assert time.monotonic() < until
        time.sleep(0.15)  # weights are looked at again after as long
        found = table.names(40)
    assert found["v2"] > 3 * found["v1"] > 0


def states(mesh):
    return [state for cluster in mesh.state.clusters() for state in cluster.endpoints.values()]


# What went wrong, and where -----------------------------------------------------------------------------------------


def test_no_route(either):
    only = f"{{match: [{{uri: {{prefix: /other}}}}], {to('all')}}}"
    with either.over(virtual_service(only), of="v1"):
        done = asked(either)
    assert (done.code(), isinstance(done, errors.NoRoute)) == (grpc.StatusCode.UNIMPLEMENTED, True)
    assert "[NR]" in done.details()


def asked(table):
    """The error of an RPC that is refused before it is begun, or after."""
    try:
        return table.ask().error
    except grpc.RpcError as error:
        return error


def test_no_endpoints(table):
    with table.over(service("reviews", 9080, "grpc"), of=""):
        done = table.ask()
    assert (done.code, isinstance(done.error, errors.NoHealthyUpstream)) == (UNAVAILABLE, True)
    assert CLUSTER in done.details
    assert "[UH]" in done.details


def test_nobody_listens(table):
    never = virtual_service(f"{{retries: {{attempts: 0}}, {to('all')}}}")
    closed = (
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: reviews-x, labels: "
        "{kubernetes.io/service-name: reviews}}\naddressType: IPv4\nports: [{name: grpc, port: 1}]\n"
        "endpoints: [{addresses: [127.0.0.1]}]\n"
    )
    with table.over(service("reviews", 9080, "grpc"), closed, never, of=""):
        done = table.ask()
    assert (done.code, isinstance(done.error, errors.ConnectFailure)) == (UNAVAILABLE, True)
    assert "127.0.0.1:1" in done.details
    assert "[UF]" in done.details


def test_the_peers_own_words_stay(either):
    with either.over(of="v1"):
        done = either.ask(("code", "9"), ("details", "words"), ("trailer", "own"))
    assert (done.code, done.details) == (grpc.StatusCode.FAILED_PRECONDITION, "words")
    assert done.trailing["trailer"] == "own"
    assert done.error.mesh.cluster.name == CLUSTER


# What is left behind ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["at once", "while it runs", "after the first message", "at the end"])
def test_cancelling_leaves_nothing_behind(table, moment):
    with table.over(of="v1"):
        call = table.open(
            ("delay", "0" if moment in ("after the first message", "at the end") else "30"),
            ("messages", "2"),
            ("pause", "0.05"),
        )
        if moment == "while it runs":
            until = time.monotonic() + 30
            while not table.peers["v1"].ask("active") and time.monotonic() < until:
                time.sleep(0.005)
        if moment == "after the first message" or (moment == "at the end" and not table.streams):
            assert call.read() is not None
        if moment == "at the end" and table.streams:
            assert call.end().code is OK
        with contextlib.suppress(Exception):
            call.cancel()
        until = time.monotonic() + 30
        while (table.under_way() or table.peers["v1"].ask("active")) and time.monotonic() < until:
            time.sleep(0.005)
        assert (table.under_way(), table.peers["v1"].ask("active")) == (0, 0)
        assert table.ask().code is OK
