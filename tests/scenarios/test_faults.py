"""Injected faults: above the retries as Istio has them, and below them where a ClientPolicy says so."""

from __future__ import annotations

import random

import pytest

from meshlib import errors
from meshlib.dataplane import router
from meshlib.dataplane.outcome import Outcome
from meshlib.model.client_policy import ClientPolicy
from meshlib.model.policy import Abort, Delay, Fault, OutlierDetection, RetryPolicy
from meshlib.model.route import Forward, Route, RouteMatch, WeightedCluster
from meshlib.testing import ManualClock, ScriptedTransport, mesh_of
from tests.conftest import endpoint_slice, service
from tests.dataplane.worlds import NAME, endpoints, permits, prepared, request
from tests.scenarios.colours import COLOURS

CALLS = 800
RULES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: svc}
spec:
  hosts: [svc]
  http:
  - match: [{uri: {prefix: /half}}]
    fault: {abort: {httpStatus: 503, percentage: {value: 50}}}
    retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}
    route: [{destination: {host: svc}}]
  - match: [{uri: {prefix: /slow}}]
    fault: {delay: {fixedDelay: 9s, percentage: {value: 100}}}
    timeout: 2s
    retries: {attempts: 0}
    route: [{destination: {host: svc}}]
  - match: [{uri: {prefix: /always}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    headers: {response: {set: {x-answer: here}}}
    route: [{destination: {host: svc}}]
"""
POLICY = """
apiVersion: meshlib.dev/v1alpha1
kind: ClientPolicy
metadata: {name: svc}
spec: {hosts: [svc], faultsBelowRetries: true}
"""


@pytest.fixture(params=[False, True], ids=["istio", "below"])
def mesh(request):
    texts = [service("svc", 80), endpoint_slice("svc", "v1", ("10.0.0.1", 80)), RULES]
    made = mesh_of(
        *texts, *([POLICY] if request.param else []), clock=ManualClock(), rng=random.Random(5), telemetry=False
    )
    made.below = request.param
    yield made
    assert all((c.active, c.retries) == (0, 0) for c in made.state.clusters())
    assert made.state.active_faults() == 0
    made.close()


def test_half_aborted_and_three_tries_succeed_in_seven_of_eight_below_and_in_half_above(mesh):
    colour, wire = COLOURS[0].values[0], ScriptedTransport()
    with colour.library.Client(transport=colour.faces.MeshTransport(mesh, transport=wire)) as client:
        good = sum(client.get("http://svc/half").status_code == 200 for _ in range(CALLS))
    wanted = 0.875 if mesh.below else 0.5
    assert abs(good / CALLS - wanted) < 0.06
    assert len(wire.seen) == good


@pytest.mark.parametrize("colour", COLOURS)
def test_an_abort_is_a_response_either_way(colour, mesh):
    wire = ScriptedTransport()
    response = colour.send(mesh, "GET", "http://svc/always", wire)
    assert (response.status_code, response.text, response.headers["x-answer"]) == (418, "fault filter abort", "here")
    call = response.extensions["mesh"]
    assert (call.flags, call.attempts, wire.seen) == ("FI", 1 if mesh.below else 0, [])


@pytest.mark.parametrize("colour", COLOURS)
def test_a_delay_runs_into_the_timeout_only_below(colour, mesh):
    started = mesh.clock.now()
    if mesh.below:
        with pytest.raises(errors.DeadlineExceeded, match=r"route's timeout of 2 s"):
            colour.send(mesh, "GET", "http://svc/slow", ScriptedTransport())
        assert mesh.clock.now() - started == pytest.approx(2.0)
    else:
        assert colour.send(mesh, "GET", "http://svc/slow", ScriptedTransport()).status_code == 200
        assert mesh.clock.now() - started == pytest.approx(9.0)


# On the core ----------------------------------------------------------------------------------------------------------


def world(fault, below=False, **options):
    action = Forward((WeightedCluster(NAME),), 60.0, RetryPolicy(2, frozenset({"5xx"})))
    policy = ClientPolicy(faults_below_retries=below)
    route = Route("r", RouteMatch(), action, fault)
    return prepared(endpoints("10.0.0.1"), route=route, client_policy=policy, **options)


def begin(of, headers=None, **options):
    call = router.begin(of, request(headers=headers, **options), 0.0, random.Random(1))
    assert call is not None
    return call


def test_below_the_retries_an_abort_counts_as_the_endpoints_answer():
    detection = OutlierDetection(consecutive_5xx=1, max_ejection_percent=100)
    of = world(Fault(abort=Abort(1_000_000, 503)), below=True, outlier_detection=detection)
    call = begin(of)
    assert call.answer is None
    attempt = call.next_attempt(0.0)
    assert attempt.fault is not None
    assert attempt.fault[1] is not None
    call.settle(attempt, Outcome.of_status(attempt.fault[1].status), 0.0)
    assert attempt.state.ejected_at == 0.0
    call.close(0.0)
    assert permits(of) == (0, 0, 0)
    assert of.state.active_faults() == 0


def test_a_callers_deadline_cuts_an_injected_delay():
    call = begin(world(Fault(Delay(9.0, 1_000_000))), timeout=1.0)
    assert (call.delay, call.within(call.delay, 0.0)) == (9.0, 1.0)
    call.close(1.0)


def test_no_more_faults_are_under_way_than_may_be():
    of = world(Fault(Delay(1.0, 1_000_000), max_active=2))
    calls = [begin(of) for _ in range(4)]
    assert [call.delay for call in calls] == [1.0, 1.0, 0.0, 0.0]
    calls[0].close(0.0)
    assert begin(of).delay == 1.0
    assert begin(world(Fault(Delay(1.0, 1_000_000), max_active=0))).delay == 0.0


def test_headers_name_the_fault_only_where_it_is_left_to_them_and_are_then_not_sent_on():
    named = {"x-envoy-fault-abort-request": "418", "x-envoy-fault-delay-request": "250", "x-envoy-fault-other": "1"}
    left = world(Fault(Delay(None, 1_000_000), Abort(1_000_000)))
    call = begin(left, named)
    assert call.answer is not None
    assert (call.delay, call.answer.status, call.flags) == (0.25, 418, "DI,FI")
    none = begin(left, {**named, "x-envoy-fault-abort-request-percentage": "0", "x-envoy-fault-delay-request": "no"})
    assert (none.delay, none.answer) == (0.0, None)
    sent = {name for name, _ in none.head(none.next_attempt(0.0))[1]}
    assert b"x-envoy-fault-abort-request" not in sent
    assert b"x-envoy-fault-other" in sent
    fixed = begin(world(Fault(abort=Abort(0, 503))), named)
    assert fixed.answer is None
    assert b"x-envoy-fault-abort-request" in {name for name, _ in fixed.head(fixed.next_attempt(0.0))[1]}
    none.close(0.0)
    fixed.close(0.0)


def test_an_abort_with_a_grpc_status_is_for_grpc_callers_that_status():
    of = world(Fault(abort=Abort(1_000_000, grpc_status=14)))
    reply = begin(of, {"content-type": "application/grpc"}, is_grpc=True).answer
    assert reply is not None
    assert (reply.status, reply.grpc_status) == (200, 14)
    plain = begin(of).answer
    assert plain is not None
    assert plain.status == 200
