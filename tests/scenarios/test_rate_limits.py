"""Rate limits on calls: here by token buckets, and for many processes by a service that speaks Envoy's protocol."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import httpx
import pytest
from envoy.config.core.v3.base_pb2 import HeaderValue
from envoy.service.ratelimit.v3 import rls_pb2, rls_pb2_grpc

from meshlib import Mesh, errors
from meshlib.httpx import MeshTransport
from meshlib.testing import ManualClock, ScriptedTransport, StaticProvider, mesh_of
from tests.conftest import endpoint_slice, service
from tests.scenarios.colours import COLOURS

URL = "http://svc:9080/a?b=1"


def world(*names):
    return "---\n".join(
        part for name in names for part in (service(name), endpoint_slice(name, "v1", ("10.0.0.1", 80)))
    )


def policy(limit, hosts="svc", more=""):
    head = "apiVersion: meshlib.dev/v1alpha1\nkind: ClientPolicy\nmetadata: {name: p}\n"
    return f"{head}spec: {{hosts: [{hosts}], rateLimit: {{{limit}}}{more}}}"


def rules(rest):
    head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: svc}\n"
    return f"{head}spec: {{hosts: [svc], http: [{{route: [{{destination: {{host: svc}}}}], {rest}}}]}}"


@pytest.fixture
def calls():
    """Makes clients of a mesh on a manual clock and a scripted wire; the mesh is closed after the test."""
    made = []

    def make(*texts, script=None, **options):
        clock, wire = ManualClock(), ScriptedTransport(script)
        mesh = mesh_of(*texts, clock=clock, **options)
        client = httpx.Client(transport=MeshTransport(mesh, transport=wire))
        made.extend((client, mesh))
        return client, clock, wire

    yield make
    for each in made:
        each.close()


@contextmanager
def asker(*texts, **options):
    """A client whose mesh asks over real sockets."""
    mesh = mesh_of(*texts, **options)
    with mesh, httpx.Client(transport=MeshTransport(mesh, transport=Through(mesh))) as client:
        yield client


def statuses(client, number, url=URL, **options):
    return [client.get(url, **options).status_code for _ in range(number)]


# In this process -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
def test_a_call_too_many_is_answered_as_a_sidecar_answers_it_and_not_sent(colour):
    wire = ScriptedTransport()
    with mesh_of(world("svc"), policy("requestsPerUnit: 1, burst: 2"), clock=ManualClock()) as mesh:
        codes = [colour.send(mesh, "GET", URL, wire).status_code for _ in range(2)]
        refused = colour.send(mesh, "GET", URL, wire)
        assert colour.send(mesh, "HEAD", URL, wire).content == b""
    assert codes == [200, 200]
    assert (refused.status_code, refused.content) == (429, b"local_rate_limited")
    told = {name: value for name, value in refused.headers.items() if "ratelimit" in name}
    assert told == {
        "x-envoy-ratelimited": "true",
        "x-ratelimit-limit": "2",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "1",
    }
    call = refused.extensions["mesh"]
    assert (call.flags, call.status, call.attempts) == ("RL", 429, 0)
    assert len(wire.seen) == 2


@pytest.mark.parametrize("colour", COLOURS)
def test_a_policy_may_ask_to_raise(colour):
    limit = policy("requestsPerUnit: 1, whenLimited: Raise")
    with mesh_of(world("svc"), limit, clock=ManualClock()) as mesh:
        colour.send(mesh, "GET", URL, ScriptedTransport())
        with pytest.raises(errors.RateLimited, match="the rate limit of ClientPolicy default/p is used up") as caught:
            colour.send(mesh, "GET", URL, ScriptedTransport())
    assert isinstance(caught.value, colour.library.ConnectError)
    assert (caught.value.flag, caught.value.status, caught.value.attempts) == ("RL", 429, 0)


def test_callers_of_grpc_get_resource_exhausted(calls):
    client, _, _ = calls(world("svc"), policy("requestsPerUnit: 1"))
    headers = {"content-type": "application/grpc"}
    assert client.post(URL, headers=headers).status_code == 200
    refused = client.post(URL, headers=headers)
    told = {name: refused.headers.get(name) for name in ("grpc-status", "grpc-message", "x-envoy-ratelimited")}
    assert (refused.status_code, *told.values()) == (200, "8", "local_rate_limited", "true")


def test_tokens_flow_in_with_time(calls):
    client, clock, _ = calls(world("svc"), policy("requestsPerUnit: 120, unit: MINUTE, burst: 1"))
    assert statuses(client, 2) == [200, 429]
    clock.advance(0.49)
    assert statuses(client, 1) == [429]
    clock.advance(0.01)
    assert statuses(client, 2) == [200, 429]


@pytest.mark.parametrize(
    ("by", "one", "other"),
    [
        ("header: X-User", {"headers": {"x-user": "a"}}, {"headers": {"X-User": "b"}}),
        ("header: x-user", {"headers": {"x-user": "a"}}, {}),
        ("queryParam: b", {}, {"url": "http://svc:9080/a?b=2"}),
        ("path: true", {}, {"url": "http://svc:9080/c?b=1"}),
        ("cookie: who", {"headers": {"cookie": "x=1; who=a"}}, {"headers": {"cookie": "who=b"}}),
    ],
)
def test_each_value_of_the_key_has_a_count(by, one, other, calls):
    client, _, _ = calls(world("svc"), policy(f"requestsPerUnit: 1, by: [{{{by}}}]"))
    assert statuses(client, 2, **one) == [200, 429]
    assert statuses(client, 2, **other) == [200, 429]
    assert statuses(client, 1, **one) == [429]


def test_methods_have_a_count_each_and_the_path_has_one_for_all_queries(calls):
    client, _, _ = calls(world("svc"), policy("requestsPerUnit: 1, by: [{method: true}, {path: true}]"))
    assert statuses(client, 1) == [200]
    assert client.post(URL).status_code == 200
    assert statuses(client, 1, url="http://svc:9080/a?other") == [429]


def test_a_policy_counts_all_its_hosts_together_unless_the_host_is_of_the_key(calls):
    hosts = ("http://one:9080/", "http://two:9080/", "http://two.default:9080/")
    together, _, _ = calls(world("one", "two"), policy("requestsPerUnit: 1", "one, two"))
    assert [together.get(url).status_code for url in hosts] == [200, 429, 429]
    apart, _, _ = calls(world("one", "two"), policy("requestsPerUnit: 1, by: [{host: true}]", "one, two"))
    assert [apart.get(url).status_code for url in hosts] == [200, 200, 429]


def test_retries_are_not_counted_and_a_refusal_is_not_retried(calls):
    client, _, wire = calls(
        world("svc"),
        policy("requestsPerUnit: 2"),
        rules("retries: {attempts: 3, retryOn: '5xx,envoy-ratelimited,retriable-status-codes,429'}"),
        script={"10.0.0.1:80": [503, 503, 200]},
    )
    assert statuses(client, 3) == [200, 200, 429]
    assert len(wire.seen) == 4


@pytest.mark.parametrize(("words", "attempts"), [("5xx", 1), ("envoy-ratelimited", 3)])
def test_a_refusal_of_the_server_is_retried_by_its_own_word_only(words, attempts, calls):
    limited = (503, {"x-envoy-ratelimited": "true"}, b"")
    script = {"10.0.0.1:80": [limited]}
    client, _, wire = calls(world("svc"), rules(f"retries: {{attempts: 2, retryOn: '{words}'}}"), script=script)
    assert statuses(client, 1) == [503]
    assert len(wire.seen) == attempts


def test_an_injected_abort_is_answered_before_anything_is_counted(calls):
    fault = rules("fault: {abort: {httpStatus: 418, percentage: {value: 100}}}")
    client, _, _ = calls(world("svc"), policy("requestsPerUnit: 1"), fault)
    assert statuses(client, 3) == [418] * 3


def test_a_delay_passes_before_the_call_is_counted(calls):
    fault = rules("fault: {delay: {fixedDelay: 1s, percentage: {value: 100}}}")
    client, _, _ = calls(world("svc"), policy("requestsPerUnit: 1"), fault)
    assert statuses(client, 3) == [200] * 3


def test_copies_are_neither_counted_nor_refused():
    wire = ScriptedTransport()
    mirrored = rules("mirrors: [{destination: {host: copy}}]")
    limits = policy("requestsPerUnit: 1, by: [{host: true}]", "svc, copy")
    text = world("svc") + "---\n" + service("copy") + "---\n" + endpoint_slice("copy", "v1", ("10.0.0.9", 80))
    mesh = mesh_of(text, mirrored, limits, clock=ManualClock())
    with mesh, httpx.Client(transport=MeshTransport(mesh, transport=wire)) as client:
        client.get(URL)
        assert client.get("http://copy:9080/").status_code == 200


def test_the_counts_outlive_a_change_of_the_configuration():
    provider = StaticProvider(world("svc"), policy("requestsPerUnit: 3, unit: DAY"))
    mesh = Mesh(provider, clock=ManualClock())
    with mesh, httpx.Client(transport=MeshTransport(mesh, transport=ScriptedTransport())) as client:
        assert statuses(client, 2) == [200, 200]
        version = mesh.snapshot.version
        provider.replace(world("svc"), policy("requestsPerUnit: 3, unit: DAY"), rules("timeout: 9s"))
        for _ in range(500):
            if mesh.snapshot.version != version:
                break
            threading.Event().wait(0.01)
        assert statuses(client, 2) == [200, 429]


def test_a_refusal_says_nothing_of_an_endpoint_and_holds_no_permit(calls):
    rule = (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: svc}\n"
        "spec: {host: svc, trafficPolicy: {connectionPool: {http: {http2MaxRequests: 1}}}}"
    )
    client, clock, _ = calls(world("svc"), policy("requestsPerUnit: 1"), rule)
    assert statuses(client, 4) == [200, 429, 429, 429]
    clock.advance(1.0)
    assert statuses(client, 1) == [200]


# By a service --------------------------------------------------------------------------------------------------------


class Service(rls_pb2_grpc.RateLimitServiceServicer):
    """Lets so many calls pass of each descriptor, and remembers what it was asked and by how many connections."""

    def __init__(self):
        self.limit = 2
        self.asked = []
        self.peers = set()
        self.counts = {}
        self.wait = threading.Event()
        self.hangs = False
        self.broken = False

    def ShouldRateLimit(self, request, context):
        self.peers.add(context.peer())
        if self.hangs:
            self.wait.wait(5)
        if self.broken:
            context.abort(grpc.StatusCode.INTERNAL, "no store")
        key = tuple((entry.key, entry.value) for entry in request.descriptors[0].entries)
        self.asked.append((request.domain, len(request.descriptors), key))
        self.counts[key] = self.counts.get(key, 0) + 1
        response = rls_pb2.RateLimitResponse(overall_code=rls_pb2.RateLimitResponse.OK)
        response.response_headers_to_add.append(HeaderValue(key="x-count", value=str(self.counts[key])))
        response.request_headers_to_add.append(HeaderValue(key="x-counted", value="yes"))
        if self.counts[key] > self.limit:
            response.overall_code = rls_pb2.RateLimitResponse.OVER_LIMIT
            response.raw_body = b"slow down"
        return response


@pytest.fixture
def limits():
    """A service on loopback, and its port."""
    servicer = Service()
    server = grpc.server(ThreadPoolExecutor(4))
    rls_pb2_grpc.add_RateLimitServiceServicer_to_server(servicer, server)
    servicer.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer
    servicer.wait.set()
    server.stop(None).wait(5)


def asking(limits, more="", by=""):
    key = f", by: [{by}]" if by else ""
    service = f"service: '127.0.0.1:{limits.port}', domain: shop, timeout: 5s"
    return f"global: {{{service}{more}}}{key}"


class Through(ScriptedTransport):
    """Calls to the scripted endpoint stay here, those to the service go over real sockets."""

    def __init__(self, mesh):
        super().__init__()
        self._blocking = mesh.blocking
        self._tasks = mesh.cooperative

    def send(self, target, request):
        return super().send(target, request) if target.port == 80 else self._blocking.send(target, request)

    def cooperative(self):
        scripted, tasks = super().cooperative(), self._tasks

        class Both:
            keeps_deadlines = True

            async def send(self, target, request):
                return await (scripted if target.port == 80 else tasks).send(target, request)

        return Both()


@pytest.mark.parametrize("colour", COLOURS)
def test_the_service_counts_and_its_word_is_passed_on(colour, limits):
    with mesh_of(
        world("svc"), policy(asking(limits, by="{header: x-user, descriptorKey: user}, {host: true}"))
    ) as mesh:
        wire = Through(mesh)
        answers = [colour.send(mesh, "GET", URL, wire, headers={"x-user": "ann"}) for _ in range(3)]
        other = colour.send(mesh, "GET", URL, wire, headers={"x-user": "bob"})
    assert [answer.status_code for answer in (*answers, other)] == [200, 200, 429, 200]
    assert [answer.headers["x-count"] for answer in answers] == ["1", "2", "3"]
    refused = answers[2]
    assert (refused.content, refused.headers["x-envoy-ratelimited"]) == (b"slow down", "true")
    assert refused.extensions["mesh"].flags == "RL"
    key = (("user", "ann"), ("host", "svc.default.svc.cluster.local"))
    assert limits.asked[0] == ("shop", 1, key)
    assert dict(wire.requests[0].headers)[b"x-counted"] == b"yes"
    assert len(wire.seen) == 3


def test_connections_to_the_service_are_kept(limits):
    with asker(world("svc"), policy(asking(limits))) as client:
        limits.limit = 50
        assert statuses(client, 20) == [200] * 20
    assert len(limits.peers) == 1
    assert limits.asked[0][2] == (("generic_key", "default/p"),)


def test_a_request_without_a_part_of_the_key_is_not_asked_about(limits):
    with asker(world("svc"), policy(asking(limits, by="{header: x-user}, {genericKey: slow}"))) as client:
        assert statuses(client, 5) == [200] * 5
        assert limits.asked == []
        client.get(URL, headers={"x-user": "ann"})
    assert limits.asked == [("shop", 1, (("x-user", "ann"), ("generic_key", "slow")))]


def test_what_is_refused_here_is_not_asked_there(limits):
    with asker(world("svc"), policy(f"requestsPerUnit: 1, unit: DAY, {asking(limits)}")) as client:
        assert statuses(client, 3) == [200, 429, 429]
    assert len(limits.asked) == 1


def test_callers_of_grpc_and_those_who_ask_to_raise_are_told_in_their_way(limits):
    limits.limit = 0
    with asker(world("svc"), policy(asking(limits))) as client:
        refused = client.post(URL, headers={"content-type": "application/grpc"})
        assert (refused.headers["grpc-status"], refused.headers["grpc-message"]) == ("8", "slow down")
    raising = policy(f"{asking(limits)}, whenLimited: Raise")
    with asker(world("svc"), raising) as client, pytest.raises(errors.RateLimited):
        client.get(URL)


def test_a_service_that_the_mesh_knows_is_called_as_the_mesh_says(limits):
    texts = [
        service("limits", 81, "grpc"),
        endpoint_slice("limits", "v1", ("127.0.0.1", limits.port), protocol="grpc"),
        world("svc"),
        policy("global: {service: 'limits:81', domain: d, timeout: 5s}, by: [{label: app}]", "'*'"),
    ]
    with asker("---\n".join(texts), labels={"app": "web"}) as client:
        assert statuses(client, 3) == [200, 200, 429]
        used = [cluster["name"] for cluster in client._transport.mesh.status().clusters]
    assert "outbound|81||limits.default.svc.cluster.local" in used
    assert limits.asked == [("d", 1, (("app", "web"),))] * 3


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("trouble", ["broken", "hangs", "absent"])
@pytest.mark.parametrize(("more", "status", "flags"), [("", 200, "-"), (", failOpen: false", 500, "RLSE")])
def test_a_service_in_trouble_lets_calls_pass_or_denies_them_as_the_policy_says(
    colour, trouble, more, status, flags, limits
):
    if trouble == "absent":
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            limits.port = closed.getsockname()[1]
    else:
        setattr(limits, trouble, True)
    limit = asking(limits, more).replace("timeout: 5s", "timeout: 300ms")
    with mesh_of(world("svc"), policy(limit)) as mesh:
        answer = colour.send(mesh, "GET", URL, Through(mesh))
    assert (answer.status_code, answer.extensions["mesh"].flags) == (status, flags)


FIRST_QUESTION = f"""
import sys

from meshlib.httpx import MeshTransport
from meshlib.testing import ScriptedTransport, mesh_of


class Watching(ScriptedTransport):
    def send(self, target, request):
        if target.port == 1:
            print("meshlib.transport.http2.session" in sys.modules, "google.protobuf" in sys.modules)
        return super().send(target, request)


import httpx

limit = "global: {{service: '127.0.0.1:1', domain: shop, timeout: 10s}}"
with mesh_of({world("svc")!r}, {policy("LIMIT")!r}.replace("LIMIT", limit), telemetry=False) as mesh:
    print("meshlib.transport.http2.session" in sys.modules)
    httpx.Client(transport=MeshTransport(mesh, transport=Watching())).get({URL!r})
"""


def test_the_time_for_the_first_question_of_a_process_does_not_go_into_imports():
    told = subprocess.run([sys.executable, "-c", FIRST_QUESTION], capture_output=True, text=True, timeout=120)
    assert told.stdout.split() == ["False", "True", "True"], told.stderr
