"""From hop to hop: an ASGI application calls the next one through the mesh, and so on, in one process and one time."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import httpx
import pytest

from meshlib import MeshClient, errors
from meshlib.context import AsgiContext, Incoming, deadline, detached, remaining
from meshlib.httpx import AsyncMeshTransport, MeshTransport
from meshlib.testing import ManualClock, ScriptedTransport, mesh_of
from meshlib.transport.base import WireResponse
from tests.conftest import endpoint_slice, service
from tests.scenarios.colours import COLOURS

HOPS = ("front", "middle", "back")
YAML = "---\n".join(
    text
    for number, name in enumerate(HOPS)
    for text in (service(name), endpoint_slice(name, "v1", (f"10.0.0.{number}", 80)))
)
ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: back}
spec:
  hosts: [back]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    name: for-jason
    timeout: 10s
    route: [{destination: {host: back}}]
  - route: [{destination: {host: back}}]
"""


class Wire:
    """A cooperative transport whose endpoints are ASGI applications in this process."""

    keeps_deadlines = True

    def __init__(self):
        self.applications = {}

    async def send(self, target, request):
        scope = {
            "type": "http",
            "method": request.method.decode(),
            "path": request.target.decode(),
            "headers": [(name.lower(), value) for name, value in request.headers],
        }
        await self.applications[target.address](scope, None, None)
        return WireResponse(204, [], _Empty())

    def enter(self, user):
        """Nothing is held."""

    async def leave(self, user):
        """Nothing is held."""

    async def aclose(self):
        """Nothing is held."""


class _Empty:
    def whole(self):
        return b""

    async def __aiter__(self):
        return
        yield

    async def aclose(self):
        """Nothing is held."""

    abandon = aclose


class Chain:
    """Each hop takes 100 ms before it calls the next one."""

    def __init__(self, content_type="text/plain"):
        self.clock = ManualClock()
        self.mesh = mesh_of(YAML, ROUTE, clock=self.clock)
        self.wire = Wire()
        self.seen = []
        self.calls = []
        self.content_type = content_type
        for number, name in enumerate(HOPS):
            following = HOPS[number + 1] if number + 1 < len(HOPS) else None
            self.wire.applications[f"10.0.0.{number}"] = self.application(name, following)

    def application(self, name, following):
        async def app(scope, receive, send):
            self.seen.append((name, dict(scope["headers"]), remaining()))
            self.clock.advance(0.1)
            if following is not None:
                await self.call(following)

        return AsgiContext(app, incoming=Incoming(["end-user"], clock=self.clock))

    async def call(self, host, **headers):
        face = AsyncMeshTransport(self.mesh, transport=self.wire)
        async with httpx.AsyncClient(transport=face) as client:
            headers = {"content-type": self.content_type, **headers}
            response = await client.post(f"http://{host}:9080/{host}", headers=headers)
            self.calls.append(response.extensions["mesh"])


@pytest.fixture
def chain():
    """Makes chains whose mesh is closed after the test."""
    made = []

    def make(*args):
        made.append(Chain(*args))
        return made[-1]

    yield make
    for each in made:
        each.mesh.close()


@pytest.mark.parametrize(
    ("content_type", "header", "told"),
    [
        ("text/plain", b"x-envoy-expected-rq-timeout-ms", [b"1000", b"900", b"800"]),
        ("application/grpc", b"grpc-timeout", [b"1000000u", b"900000u", b"800000u"]),
    ],
)
def test_the_time_that_is_left_shrinks_at_each_hop(content_type, header, told, chain):
    hops = chain(content_type)
    with deadline(1.0, clock=hops.clock):
        asyncio.run(hops.call("front"))
    assert [headers[header] for _, headers, _ in hops.seen] == told
    assert [left for _, _, left in hops.seen] == pytest.approx([1.0, 0.9, 0.8])


def test_a_hop_without_time_left_is_not_called_and_the_error_says_whose_time_it_was(chain):
    hops = chain()
    with deadline(0.15, "checkout", clock=hops.clock), pytest.raises(httpx.ReadTimeout) as caught:
        asyncio.run(hops.call("front"))
    assert isinstance(caught.value, errors.DeadlineExceeded)
    assert caught.value.flag == "UT"
    source = r"the deadline of 0.05 s of the request POST /middle (x-envoy-expected-rq-timeout-ms)"
    assert f"{source} ran out before the call began" in str(caught.value)
    assert [name for name, _, _ in hops.seen] == ["front", "middle"]


def test_ids_and_routing_headers_reach_the_last_hop_and_its_rules_match_them(chain):
    hops = chain()
    own = {"traceparent": "00-1-2-01", "tracestate": "a=1", "end-user": "jason", "x-request-id": "7", "cookie": "c=1"}
    asyncio.run(hops.call("front", **own))
    last = hops.seen[-1][1]
    assert {name: last[name.encode()] for name in own if name.encode() in last} == {
        name: value.encode() for name, value in own.items() if name != "cookie"
    }
    assert hops.calls[0].route.name == "for-jason"
    assert last[b"x-envoy-expected-rq-timeout-ms"] == b"10000"


# In every colour -----------------------------------------------------------------------------------------------------

ONE = "---\n".join([service("front"), endpoint_slice("front", "v1", ("10.0.0.1", 80))])


def timed(rest):
    head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: front}\n"
    return f"{head}spec: {{hosts: [front], http: [{{route: [{{destination: {{host: front}}}}], {rest}}}]}}"


@contextmanager
def client_of(rules, wire, clock):
    mesh = mesh_of(ONE, rules, clock=clock)
    with mesh, httpx.Client(transport=MeshTransport(mesh, transport=wire)) as client:
        yield client


@pytest.mark.parametrize("colour", COLOURS)
def test_an_expired_deadline_sends_nothing(colour):
    wire, clock = ScriptedTransport(), ManualClock()
    with mesh_of(ONE, clock=clock) as mesh, deadline(0.5, "batch", clock=clock):
        assert colour.send(mesh, "GET", "http://front:9080/", wire).status_code == 200
        clock.advance(1.0)
        with pytest.raises(colour.library.ReadTimeout, match=r"of 0\.5 s set by batch ran out before the call"):
            colour.send(mesh, "GET", "http://front:9080/", wire)
        with detached():
            assert colour.send(mesh, "GET", "http://front:9080/", wire).status_code == 200
    assert wire.seen == ["10.0.0.1:80"] * 2
    told = [dict(request.headers).get(b"x-envoy-expected-rq-timeout-ms") for request in wire.requests]
    assert told == [b"500", None]


@pytest.mark.parametrize("colour", COLOURS)
def test_retries_end_at_the_deadline(colour):
    wire, clock = ScriptedTransport({"10.0.0.1:80": [503]}), ManualClock()
    retries = timed("retries: {attempts: 50, retryOn: 5xx, perTryTimeout: 400ms, backoff: 10s}, timeout: 60s")
    with mesh_of(ONE, retries, clock=clock) as mesh, deadline(1.0, "batch", clock=clock):
        with pytest.raises(colour.library.ReadTimeout, match="set by batch ran out 1 s after the call began"):
            colour.send(mesh, "GET", "http://front:9080/", wire)
        assert clock.time == pytest.approx(1001.0)
    told = [int(dict(request.headers)[b"x-envoy-expected-rq-timeout-ms"]) for request in wire.requests]
    assert told[0] == 400
    assert told == sorted(told, reverse=True)


@pytest.mark.parametrize(
    ("limit", "message"),
    [("200ms", "the route's timeout of 0.2 s ran out"), ("2s", "the deadline of 1 s set by batch ran out")],
)
def test_the_tighter_of_route_and_deadline_counts(limit, message):
    wire, clock = ScriptedTransport({"10.0.0.1:80": [503]}), ManualClock()
    rest = f"timeout: {limit}, retries: {{attempts: 90, retryOn: 5xx, backoff: 9s}}"
    stopped = pytest.raises(errors.DeadlineExceeded, match=message)
    with client_of(timed(rest), wire, clock) as client, deadline(1.0, "batch", clock=clock), stopped:
        client.get("http://front:9080/")


def test_an_injected_delay_ends_at_the_deadline():
    wire, clock = ScriptedTransport(), ManualClock()
    fault = "fault: {delay: {fixedDelay: 5s, percentage: {value: 100}}}"
    stopped = pytest.raises(errors.DeadlineExceeded, match="set by deadline")
    with client_of(timed(fault), wire, clock) as client, deadline(1.0, clock=clock), stopped:
        client.get("http://front:9080/")
    assert (clock.slept, wire.seen) == ([1.0], [])


def test_a_callers_own_word_on_the_time_gives_way_to_the_truth():
    wire, clock = ScriptedTransport(), ManualClock()
    own = {"X-Envoy-Expected-Rq-Timeout-Ms": "99999", "grpc-timeout": "9S", "content-type": "application/grpc"}
    with client_of(timed("timeout: 3s"), wire, clock) as client:
        client.post("http://front:9080/", headers=own)
        with deadline(1.0, clock=clock):
            client.post("http://front:9080/", headers=own)
            client.post("http://front:9080/", headers={**own, "grpc-timeout": "1m"})
    names = (b"x-envoy-expected-rq-timeout-ms", b"grpc-timeout")
    sent = [[v for k, v in request.headers if k.lower() in names] for request in wire.requests]
    assert sent == [[b"9S", b"3000"], [b"1000000u", b"1000"], [b"1000u", b"1"]]


@pytest.mark.parametrize("short", [True, False])
def test_a_plain_call_of_a_mesh_client_inherits_as_any_other(short):
    wire, clock = ScriptedTransport(), ManualClock()
    with mesh_of(ONE, clock=clock) as mesh, MeshClient(mesh) as client:
        client._face._transport = wire
        options = {} if short else {"params": {"a": "1"}}
        with Incoming(["end-user"], clock=clock).received({"end-user": "jason", "grpc-timeout": "1S"}):
            client.get("http://front:9080/", **options)
    sent = dict(wire.requests[0].headers)
    assert (sent[b"end-user"], sent[b"x-envoy-expected-rq-timeout-ms"]) == (b"jason", b"1000")
