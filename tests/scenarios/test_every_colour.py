"""What a client sees of the mesh, the same in every colour."""

from __future__ import annotations

import pytest

from meshlib import errors
from meshlib.dataplane.outcome import Failure
from meshlib.testing import ManualClock, ScriptedTransport, mesh_of
from meshlib.transport.base import WireError
from tests.conftest import endpoint_slice, service
from tests.scenarios.colours import COLOURS

ENDPOINTS = "---\n".join(
    [
        service("svc", 80),
        endpoint_slice("svc", "v1", ("10.0.0.1", 80)),
        endpoint_slice("svc", "v2", ("10.0.0.2", 80)),
    ]
)
RULES = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc}
spec:
  host: svc
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: svc}
spec:
  hosts: [svc]
  http:
  - name: v1
    match: [{uri: {prefix: /v1}}]
    rewrite: {uri: /one, authority: other.example}
    headers:
      request: {set: {x-set: a}, add: {x-add: b}, remove: [x-gone]}
      response: {set: {x-answer: c}, remove: [x-secret]}
    route: [{destination: {host: svc, subset: v1}}]
  - name: abort
    match: [{uri: {exact: /abort}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: svc}}]
  - name: delay
    match: [{uri: {exact: /delay}}]
    fault: {delay: {fixedDelay: 3s, percentage: {value: 100}}}
    route: [{destination: {host: svc}}]
  - name: away
    match: [{uri: {prefix: /away}}]
    redirect: {authority: elsewhere.example, redirectCode: 307}
  - name: closed
    match: [{uri: {prefix: /closed}}]
    directResponse: {status: 451, body: {string: closed}}
  - name: nowhere
    match: [{uri: {prefix: /nowhere}}]
    route: [{destination: {host: svc, subset: v9}}]
  - name: retried
    match: [{uri: {prefix: /retried}}]
    retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}
    route: [{destination: {host: svc}}]
  - name: bounded
    match: [{uri: {prefix: /bounded}}]
    timeout: 2s
    retries: {attempts: 9, retryOn: 5xx, backoff: 500ms}
    route: [{destination: {host: svc}}]
  - name: picky
    match: [{uri: {prefix: /picky}, method: {exact: PUT}}]
    route: [{destination: {host: svc, subset: v2}}]
"""


@pytest.fixture
def mesh():
    made = mesh_of(ENDPOINTS, RULES, clock=ManualClock(), telemetry=False)
    yield made
    active = [(c.active, c.retries, sum(e.active for e in c.endpoints.values())) for c in made.state.clusters()]
    assert all(taken == (0, 0, 0) for taken in active), "every permit is back"
    made.close()


@pytest.mark.parametrize("colour", COLOURS)
def test_a_rule_rewrites_what_is_sent_and_what_comes_back(colour, mesh):
    wire = ScriptedTransport({"10.0.0.1:80": [(200, {"x-secret": "s", "x-kept": "k"}, b"hello")]})
    response = colour.send(mesh, "GET", "http://svc/v1/a?q=1", wire, headers={"X-Gone": "1", "X-Set": "0"})
    assert (response.status_code, response.text) == (200, "hello")
    assert response.headers["x-answer"] == "c"
    assert response.headers["x-kept"] == "k"
    assert "x-secret" not in response.headers
    sent = wire.requests[0]
    names = [name.lower() for name, _ in sent.headers]
    values = {name.lower(): value for name, value in sent.headers}
    assert sent.target == b"/one/a?q=1"
    assert values[b"host"] == b"other.example"
    assert values[b"x-set"] == b"a"
    assert names.count(b"x-set") == 1
    assert values[b"x-add"] == b"b"
    assert b"x-gone" not in values
    assert values[b"x-envoy-attempt-count"] == b"1"
    assert values[b"x-envoy-original-path"] == b"/v1/a?q=1"
    assert len(values[b"x-request-id"]) == 36
    assert wire.open == 0


@pytest.mark.parametrize("colour", COLOURS)
def test_what_the_config_answers_is_a_response(colour, mesh):
    wire = ScriptedTransport()
    assert colour.send(mesh, "GET", "http://svc/abort", wire).status_code == 418
    away = colour.send(mesh, "GET", "http://svc/away/x?y=1", wire)
    assert (away.status_code, away.headers["location"]) == (307, "http://elsewhere.example/away/x?y=1")
    closed = colour.send(mesh, "GET", "http://svc/closed", wire)
    assert (closed.status_code, closed.text) == (451, "closed")
    assert wire.seen == []


@pytest.mark.parametrize("colour", COLOURS)
def test_an_injected_delay_waits_on_the_clock(colour, mesh):
    assert colour.send(mesh, "GET", "http://svc/delay", ScriptedTransport()).status_code == 200
    assert mesh.clock.slept[0] == 3.0


@pytest.mark.parametrize("colour", COLOURS)
def test_what_was_not_sent_is_ours_and_the_librarys_error(colour, mesh):
    for path, kind in (("/nowhere", errors.NoCluster), ("/picky", errors.NoRoute)):
        with pytest.raises(kind) as caught:
            colour.send(mesh, "GET", f"http://svc{path}", ScriptedTransport())
        assert isinstance(caught.value, colour.library.ConnectError)
        assert caught.value.request.url.path == path


@pytest.mark.parametrize("colour", COLOURS)
def test_a_failing_answer_is_closed_and_tried_elsewhere(colour, mesh):
    wire = ScriptedTransport({"10.0.0.1:80": [503], "10.0.0.2:80": [200]})
    while "10.0.0.1:80" not in wire.seen:
        assert colour.send(mesh, "POST", "http://svc/retried", wire, content=b"body").status_code == 200
        assert wire.open == 0
    assert set(wire.bodies) == {b"body"}
    counts = [dict(request.headers)[b"x-envoy-attempt-count"] for request in wire.requests]
    assert b"2" in counts


@pytest.mark.parametrize("colour", COLOURS)
def test_the_last_bad_answer_is_given_to_the_caller(colour, mesh):
    wire = ScriptedTransport({"10.0.0.1:80": [500], "10.0.0.2:80": [500]})
    response = colour.send(mesh, "GET", "http://svc/retried", wire)
    assert response.status_code == 500
    assert len(wire.seen) == 3
    assert response.extensions["mesh"].flags == "URX"


@pytest.mark.parametrize("colour", COLOURS)
def test_a_refused_connection_is_a_connect_error_that_says_where(colour, mesh):
    refused = WireError(Failure.CONNECT, "connection refused", sent=False)
    wire = ScriptedTransport({"10.0.0.2:80": [refused]})
    with pytest.raises(colour.library.ConnectError, match=r"outbound\|80\|v2.*10\.0\.0\.2:80, attempt 3") as caught:
        colour.send(mesh, "PUT", "http://svc/picky", wire)
    assert isinstance(caught.value, errors.ConnectFailure)
    assert wire.seen == ["10.0.0.2:80"] * 3, "Istio's default policy retries what was never sent"


@pytest.mark.parametrize("colour", COLOURS)
def test_what_broke_on_the_wire_keeps_the_librarys_type(colour, mesh):
    wire = ScriptedTransport({"10.0.0.2:80": [WireError(Failure.CLOSED, "server disconnected", sent=True)]})
    with pytest.raises(colour.library.RemoteProtocolError) as caught:
        colour.send(mesh, "PUT", "http://svc/picky", wire)
    assert "10.0.0.2:80" in caught.value.__notes__[0]
    assert wire.seen == ["10.0.0.2:80"], "it may have been processed, so it is not sent again"


@pytest.mark.parametrize("colour", COLOURS)
def test_a_deadline_ends_the_retries(colour, mesh):
    wire = ScriptedTransport({"10.0.0.1:80": [500], "10.0.0.2:80": [500]})
    started = mesh.clock.now()
    with pytest.raises(errors.DeadlineExceeded) as caught:
        while True:  # the waits are random: some ladders end by attempts, most by time
            colour.send(mesh, "GET", "http://svc/bounded", wire)
            started = mesh.clock.now()
    assert isinstance(caught.value, colour.library.ReadTimeout)
    assert mesh.clock.now() - started == pytest.approx(2.0)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("size", [3, 64 * 1024])
def test_a_stream_body_is_sent_again_whole_or_not_at_all(colour, size, mesh):
    wire = ScriptedTransport({"10.0.0.1:80": [503], "10.0.0.2:80": [503]})

    def chunks():
        yield b"1" * size
        yield b"two"

    async def achunks():
        for chunk in chunks():
            yield chunk

    content = chunks() if colour.run == "threads" else achunks()
    response = colour.send(mesh, "POST", "http://svc/retried", wire, content=content)
    assert response.status_code == 503
    assert set(wire.bodies) == {b"1" * size + b"two"}
    assert len(wire.bodies) == (3 if size == 3 else 1), "beyond the cap nothing is kept, so nothing is repeated"
    assert mesh.replays.used == 0


@pytest.mark.parametrize("colour", COLOURS)
def test_real_bytes_both_ways_and_past_the_mesh(colour, echo):
    inside, outside = echo("inside"), echo("outside")
    yaml = service("real", 80) + "---\n" + endpoint_slice("real", "v1", ("127.0.0.1", inside.port))
    mesh = mesh_of(yaml, telemetry=False)
    try:
        response = colour.send(mesh, "POST", "http://real/x", content=b"payload", headers={"X-Case": "Kept"})
        assert response.json()["name"] == "inside"
        assert response.json()["body"] == "payload"
        assert response.json()["headers"]["host"] == "real"
        head = colour.send(mesh, "HEAD", "http://real.default/x")
        assert (head.status_code, head.content) == (200, b"")
        response = colour.send(mesh, "GET", f"http://127.0.0.1:{outside.port}/y")
        assert response.json()["name"] == "outside"
    finally:
        mesh.close()
