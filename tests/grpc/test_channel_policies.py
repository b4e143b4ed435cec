"""What the configuration asks for holds for RPCs over mesh channels, in both stacks, against real servers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import grpc
import pytest

import meshlib.grpc
from meshlib import Mesh, errors
from meshlib.context import deadline
from meshlib.grpc.connectivity import best
from meshlib.testing import StaticProvider, mesh_of
from tests.grpc.colours import KINDS, STACKS
from tests.grpc.peers import world

HOST = "reviews.default.svc.cluster.local"
CODES = grpc.StatusCode


@pytest.fixture(params=STACKS, ids=lambda stack: stack.name)
def stack(request):
    return request.param()


class Client:
    """A mesh channel to the three servers, or to some."""

    def __init__(self, stack, channel, mesh):
        self.stack, self.channel, self.mesh = stack, channel, mesh

    def ask(self, shape="UnaryUnary", requests=(b"x",), **options):
        metadata = options.pop("asked", {})
        given = [(name, str(value)) for name, value in metadata.items()]
        kind = KINDS[shape]
        multi = self.stack.run(lambda: getattr(self.channel, kind)(f"/test.S/{shape}"))
        return self.stack.ask(multi, kind, list(requests), metadata=given, **options)

    def open(self, shape, requests=(b"x",), **options):
        given = [(name, str(value)) for name, value in options.pop("asked", {}).items()]
        kind = KINDS[shape]
        multi = self.stack.run(lambda: getattr(self.channel, kind)(f"/test.S/{shape}"))
        return self.stack.open(multi, kind, list(requests), metadata=given, **options)

    def live(self):
        """Attempts under way, by the mesh's own count."""
        return sum(cluster["active"] for cluster in self.mesh.status().clusters)

    def settles(self):
        """Whether nothing is under way any more, soon."""
        return eventually(lambda: self.live() == 0 and self.mesh.status().replay_bytes == 0)


def eventually(holds, seconds=20.0):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@contextlib.contextmanager
def client(stack, peers, rules="", names=("v1", "v2", "v3"), **channel):
    text = world(*(peers[name] for name in names)) + ("---\n" + rules if rules else "")
    with mesh_of(text, telemetry=False) as mesh:
        make = meshlib.grpc.aio.mesh_channel if stack.aio else meshlib.grpc.mesh_channel
        with stack.client(lambda: make("reviews:9080", mesh, **channel)) as channel:
            yield Client(stack, channel, mesh)


def told(done):
    return [json.loads(response) for response in done.responses]


def route(http):
    return (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\n"
        f"spec: {{hosts: [reviews], http: {json.dumps(http)}}}\n"
    )


def policy(spec):
    return (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews}\n"
        f"spec: {{host: reviews, {json.dumps(spec)[1:-1]}}}\n"
    )


def own(spec):
    return (
        "apiVersion: meshlib.dev/v1alpha1\nkind: ClientPolicy\nmetadata: {name: reviews}\n"
        f"spec: {{hosts: [reviews], {json.dumps(spec)[1:-1]}}}\n"
    )


TO = [{"destination": {"host": "reviews"}}]
SUBSETS = {"subsets": [{"name": name, "labels": {"version": name}} for name in ("v1", "v2", "v3")]}


def to(subset, **more):
    return {"destination": {"host": "reviews", "subset": subset}, **more}


# Routing ------------------------------------------------------------------------------------------------------------


def test_rpcs_are_routed_by_method_metadata_and_weight(stack, peers):
    http = [
        {"match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": [to("v3")]},
        {"match": [{"uri": {"exact": "/test.S/StreamStream"}}], "route": [to("v2")]},
        {"route": [to("v1", weight=100), to("v2", weight=0)]},
    ]
    with client(stack, peers, policy(SUBSETS) + "---\n" + route(http)) as mesh:
        assert told(mesh.ask())[0]["name"] == "v1"
        assert told(mesh.ask(asked={"end-user": "jason"}))[0]["name"] == "v3"
        assert told(mesh.ask("StreamStream"))[0]["name"] == "v2"
        done = mesh.ask()
        assert done.call.peer() == f"127.0.0.1:{peers['v1'].port}"
        assert done.call.mesh.route.origin.rule == 2


def test_headers_authority_and_path_are_as_the_rule_says(stack, peers):
    http = [
        {
            "match": [{"uri": {"prefix": "/test.S/UnaryStream"}}],
            "rewrite": {"uri": "/test.Other/UnaryStream", "authority": "elsewhere:1"},
            "headers": {"request": {"set": {"x-set": "1"}, "remove": ["x-gone"]}, "response": {"set": {"x-told": "2"}}},
            "route": TO,
        }
    ]
    with client(stack, peers, route(http), ["v1"]) as mesh:
        done = mesh.ask("UnaryStream", asked={"x-gone": "yes", "x-kept": "yes"})
    (seen,) = told(done)
    assert (seen["method"], seen["metadata"]["x-set"], "x-gone" in seen["metadata"]) == (
        "/test.Other/UnaryStream",
        "1",
        False,
    )
    assert (seen["metadata"]["x-kept"], done.initial["x-told"]) == ("yes", "2")


# Retries ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", KINDS)
def test_a_status_of_the_built_in_policy_is_tried_elsewhere_in_all_shapes(stack, peers, shape):
    with client(stack, peers) as mesh:
        done = mesh.ask(shape, [b"a", b"bc"] if shape.startswith("Stream") else [b"a"], asked={"code": 14, "until": 2})
        assert done.code is CODES.OK
        assert done.call.mesh.attempts == 3
        assert told(done)[0]["metadata"]["x-envoy-attempt-count"] == "3"
        assert told(done)[0]["read"] == ([1, 2] if shape.startswith("Stream") else [1])
        assert mesh.settles()


@pytest.mark.parametrize("shape", ["UnaryStream", "StreamStream"])
def test_a_stream_of_which_something_was_given_is_not_tried_again(stack, peers, shape):
    with client(stack, peers) as mesh:
        done = mesh.ask(shape, asked={"code": 14, "after": 1, "messages": 3})
        assert (done.code, len(done.responses), done.call.mesh.attempts) == (CODES.UNAVAILABLE, 1, 1)
        assert mesh.settles()


@pytest.mark.parametrize(
    ("words", "code", "attempts"),
    [("unavailable", 14, 3), ("unavailable", 8, 1), ("resource-exhausted,internal", 13, 3), ("cancelled", 1, 3)],
)
def test_grpc_words_cover_their_own_status(stack, peers, words, code, attempts):
    retries = {"attempts": 2, "retryOn": words, "backoff": "1ms"}
    with client(stack, peers, route([{"route": TO, "retries": retries}])) as mesh:
        done = mesh.ask(asked={"code": code, "details": "words of the peer"})
    assert (done.code.value[0], done.call.mesh.attempts) == (code, attempts)
    assert done.details == "words of the peer"
    assert f"attempt {attempts}" in " ".join(getattr(done.error, "__notes__", []))


@pytest.fixture
def nobody():
    """A port that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield SimpleNamespace(name="nobody", port=taken.getsockname()[1])


@pytest.mark.parametrize("shape", KINDS)
def test_a_refused_connection_is_tried_elsewhere(stack, peers, nobody, shape):
    rules = policy({"trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}}})
    with client(stack, {**peers, "nobody": nobody}, rules, ["v1", "nobody"]) as mesh:
        done = [mesh.ask(shape) for _ in range(4)]
        assert [each.code for each in done] == [CODES.OK] * 4
        assert max(each.call.mesh.attempts for each in done) > 1


@pytest.mark.parametrize("shape", KINDS)
def test_an_error_is_grpcs_and_ours_and_says_where_it_was(stack, peers, nobody, shape):
    with client(stack, {"nobody": nobody}, "", ["nobody"]) as mesh:
        done = mesh.ask(shape)
        assert mesh.settles()
    assert done.code is CODES.UNAVAILABLE
    assert isinstance(done.error, errors.ConnectFailure)
    assert isinstance(done.error, grpc.RpcError)
    assert "[UF]" in done.details
    assert f"cluster outbound|9080||{HOST}" in done.details
    assert (done.error.endpoint, done.error.attempts) == (f"127.0.0.1:{nobody.port}", 3)


def test_a_stream_beyond_the_bound_of_what_is_kept_is_not_tried_again(stack, peers):
    with client(stack, peers) as mesh:
        done = mesh.ask("StreamUnary", [b"x" * 40_000] * 3, asked={"code": 14, "until": 2})
        assert (done.code, done.call.mesh.attempts) == (CODES.UNAVAILABLE, 1)
        assert mesh.settles()


# Time ---------------------------------------------------------------------------------------------------------------


def test_the_tighter_of_the_callers_and_the_routes_timeout_ends_an_rpc_and_the_error_says_whose(stack, peers):
    with client(stack, peers, route([{"route": TO, "timeout": "0.2s"}])) as mesh:
        done = mesh.ask(asked={"delay": 5}, timeout=10)
        assert done.code is CODES.DEADLINE_EXCEEDED
        assert isinstance(done.error, errors.DeadlineExceeded)
        assert "timeout of 0.2 s" in done.details
        assert "[UT]" in done.details
        done = mesh.ask("UnaryStream", asked={"delay": 5}, timeout=0.1)
        assert (done.code, "the caller's timeout of 0.1 s" in done.details) == (CODES.DEADLINE_EXCEEDED, True)
        assert mesh.settles()
    with client(stack, peers, route([{"route": TO, "timeout": "20s"}])) as mesh:
        assert told(mesh.ask(timeout=60))[0]["left"] <= 21


@pytest.mark.parametrize("shape", ["UnaryUnary", "UnaryStream"])
def test_a_per_try_timeout_is_tried_elsewhere_where_a_word_covers_it(stack, peers, shape):
    retries = {"attempts": 2, "perTryTimeout": "0.3s", "retryOn": "reset"}
    with client(stack, peers, route([{"route": TO, "retries": retries}])) as mesh:
        done = mesh.ask(shape, asked={"delay": 5, "until": 1})
        assert (done.code, done.call.mesh.attempts) == (CODES.OK, 2)
        assert mesh.settles()


def test_an_rpc_inherits_the_deadline_of_what_is_served(stack, peers):
    with client(stack, peers) as mesh:

        def ask():
            with deadline(0.2, "the test"):
                return mesh.channel.unary_unary("/test.S/UnaryUnary")(b"x", metadata=[("delay", "5")])

        with pytest.raises(grpc.RpcError) as caught:
            stack.wait(stack.run(ask)) if stack.aio else ask()
    assert caught.value.code() is CODES.DEADLINE_EXCEEDED
    assert "set by the test" in caught.value.details()


# Faults, limits, health ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("abort", "code"),
    [({"grpcStatus": "RESOURCE_EXHAUSTED"}, 8), ({"httpStatus": 503}, 14), ({"httpStatus": 404}, 12)],
)
@pytest.mark.parametrize("shape", ["UnaryUnary", "StreamStream"])
def test_an_injected_abort_is_the_answer(stack, peers, abort, code, shape):
    fault = {"abort": {**abort, "percentage": {"value": 100}}}
    with client(stack, peers, route([{"route": TO, "fault": fault}])) as mesh:
        done = mesh.ask(shape)
        assert done.code.value[0] == code
        assert "fault filter abort" in done.details
        assert "[FI]" in done.details
    assert not any(peer.seen for peer in peers.values())


@pytest.mark.parametrize("shape", ["UnaryUnary", "UnaryStream"])
def test_an_injected_delay_comes_first(stack, peers, shape):
    fault = {"delay": {"fixedDelay": "0.3s", "percentage": {"value": 100}}}
    with client(stack, peers, route([{"route": TO, "fault": fault}])) as mesh:
        before = time.monotonic()
        assert mesh.ask(shape).code is CODES.OK
        assert time.monotonic() - before >= 0.3
        assert mesh.settles()


def test_an_endpoint_that_fails_in_grpc_words_is_ejected(stack, peers):
    outlier = {"consecutive5xxErrors": 3, "baseEjectionTime": "60s", "maxEjectionPercent": 50}
    rules = policy({"trafficPolicy": {"outlierDetection": outlier}}) + "---\n"
    rules += route([{"route": TO, "retries": {"attempts": 0}}])
    with client(stack, peers, rules) as mesh:
        for _ in range(60):
            mesh.ask(asked={"code": 14, "only": "v2"})
        names = Counter(told(mesh.ask())[0]["name"] for _ in range(20))
    assert set(names) == {"v1", "v3"}


def test_more_rpcs_than_allowed_overflow(stack, peers):
    rules = policy({"trafficPolicy": {"connectionPool": {"http": {"http2MaxRequests": 1}}}})
    with client(stack, peers, rules) as mesh:
        running = mesh.open("UnaryStream", asked={"messages": 100, "pause": 0.1})
        assert running.read() is not None
        done = mesh.ask()
        assert (done.code, isinstance(done.error, errors.Overflow)) == (CODES.UNAVAILABLE, True)
        assert "[UO]" in done.details
        running.cancel()
        assert mesh.settles()
        assert mesh.ask().code is CODES.OK


def test_a_rate_limit_is_resource_exhausted(stack, peers):
    rules = own({"rateLimit": {"requestsPerUnit": 1, "unit": "HOUR", "burst": 1}})
    with client(stack, peers, rules) as mesh:
        assert [mesh.ask().code for _ in range(2)] == [CODES.OK, CODES.RESOURCE_EXHAUSTED]
        assert mesh.ask("StreamStream").code is CODES.RESOURCE_EXHAUSTED


def test_a_hedge_overtakes_a_slow_endpoint(stack, peers):
    rules = own({"hedge": {"after": "100ms", "maxAttempts": 2, "methods": ["POST"]}})
    with client(stack, peers, rules) as mesh:
        done = mesh.ask(asked={"delay": 20, "until": 1, "only": "v1"})
        assert done.code is CODES.OK
        slow = [mesh.ask(asked={"delay": 20, "until": 1}) for _ in range(2)]
        assert all(each.code is CODES.OK and each.call.mesh.hedges == 1 for each in slow)
        assert mesh.settles()


def test_a_mirror_gets_a_copy_of_messages_and_streams(stack, peers):
    http = [{"route": [to("v1")], "mirrors": [{"destination": to("v2")["destination"]}]}]
    with client(stack, peers, policy(SUBSETS) + "---\n" + route(http)) as mesh:
        for shape, requests in (("UnaryUnary", [b"x"]), ("StreamUnary", [b"a", b"bc"])):
            assert told(mesh.ask(shape, requests))[0]["name"] == "v1"
        assert eventually(lambda: len(peers["v2"].seen) == 2)
    seen = {each["method"]: each["read"] for each in peers["v2"].seen}
    assert seen == {"/test.S/UnaryUnary": [1], "/test.S/StreamUnary": [1, 2]}


def test_reported_load_decides_who_is_asked(stack, peers):
    reports = {"blackoutPeriod": "0s", "weightUpdatePeriod": "0.1s"}
    rules = own({"loadBalancer": {"algorithm": "CLIENT_SIDE_WEIGHTED_ROUND_ROBIN", "loadReports": reports}})
    with client(stack, peers, rules, ["v1", "v2"]) as mesh:
        for name, load in (("v1", "0.9/100"), ("v2", "0.1/100")):
            for _ in range(4):
                mesh.ask(asked={"orca": load, "only": name})
        assert eventually(lambda: shares(mesh)["v2"] > 30)


def test_endpoints_tell_their_load_beside_the_rpcs_where_they_are_asked_to(stack, peers):
    reports = {"blackoutPeriod": "0s", "weightUpdatePeriod": "0.1s", "outOfBandPeriod": "0.05s"}
    rules = own({"loadBalancer": {"algorithm": "CLIENT_SIDE_WEIGHTED_ROUND_ROBIN", "loadReports": reports}})
    for name, load in (("v1", "0.9 100"), ("v2", "0.1 100")):
        peers[name].ask(f"load {load}")
    with client(stack, peers, rules, ["v1", "v2"]) as mesh:

        def names():
            return Counter(told(mesh.ask())[0]["name"] for _ in range(40))

        assert eventually(lambda: names()["v2"] > 30)
        peers["v1"].ask("load 0.05 100")
        assert eventually(lambda: names()["v1"] > 20)


def shares(mesh):
    """Who answers the next forty."""
    return Counter(told(mesh.ask(asked={"orca": "0.9/100", "only": "v1"}))[0]["name"] for _ in range(40))


# Ends ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", KINDS)
def test_an_rpc_that_is_cancelled_leaves_nothing_behind(stack, peers, shape):
    with client(stack, peers) as mesh:
        running = mesh.open(shape, asked={"delay": 30})
        if shape.startswith("Stream"):
            running.write(b"y")
        assert eventually(lambda: mesh.live() == 1)
        running.cancel()
        assert running.end().code is CODES.CANCELLED
        assert mesh.settles()


def test_an_rpc_that_is_cancelled_while_it_waits_to_be_tried_again_is_over(stack, peers):
    retries = {"attempts": 5, "retryOn": "unavailable", "backoff": "60s"}
    with client(stack, peers, route([{"route": TO, "retries": retries}])) as mesh:
        running = mesh.open("UnaryStream", asked={"code": 14})
        assert eventually(lambda: running.call.mesh.attempts == 1 and mesh.live() == 0)
        running.cancel()
        assert running.end().code is CODES.CANCELLED


def test_a_stream_that_nobody_reads_counts_once_when_it_is_collected(stack, peers):
    with client(stack, peers) as mesh:
        running = mesh.open("UnaryStream", asked={"messages": 100, "pause": 0.1})
        assert running.read() is not None
        call = running.call.mesh
        assert mesh.live() == 1
        del running
        gc.collect()
        assert mesh.settles()
        assert call.flags == "DC"


def test_many_threads_or_tasks_use_one_channel(stack, peers):
    with client(stack, peers) as mesh:
        failed = []

        def work():
            for _ in range(20):
                done = mesh.ask("StreamStream", [b"a", b"b"], asked={"messages": 2})
                if done.code is not CODES.OK or len(done.responses) != 2:
                    failed.append(done)

        workers = [threading.Thread(target=work) for _ in range(8)]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        assert not failed
        assert mesh.settles()


# Endpoints come and go ----------------------------------------------------------------------------------------------


def test_what_waits_for_readiness_is_sent_once_there_is_an_endpoint(stack, peers):
    provider = StaticProvider(world())
    with Mesh(provider, telemetry=False) as mesh:
        make = meshlib.grpc.aio.mesh_channel if stack.aio else meshlib.grpc.mesh_channel
        with stack.client(lambda: make("reviews:9080", mesh)) as channel:
            asking = Client(stack, channel, mesh)
            done = asking.ask()
            assert (done.code, "[UH]" in done.details) == (CODES.UNAVAILABLE, True)
            later = threading.Timer(0.3, lambda: provider.replace(world(peers["v1"])))
            later.start()
            assert asking.ask(wait_for_ready=True).code is CODES.OK
            later.join()


class Counting(grpc.GenericRpcHandler):
    """A server of this process that counts its calls."""

    def __init__(self, number):
        self.name, self.count = f"n{number}", 0
        self.server = grpc.server(ThreadPoolExecutor(4), handlers=[self])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, request, context):
        self.count += 1
        return self.name.encode()


@pytest.fixture
def six():
    servers = [Counting(number) for number in range(6)]
    yield servers
    for each in servers:
        each.server.stop(None)


def test_under_steady_load_three_endpoints_more_get_their_share_at_once(stack, six):
    rules = policy({"trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}}})
    provider = StaticProvider(world(*six[:3]) + "---\n" + rules)
    with Mesh(provider, telemetry=False) as mesh:
        make = meshlib.grpc.aio.mesh_channel if stack.aio else meshlib.grpc.mesh_channel
        with stack.client(lambda: make("reviews:9080", mesh)) as channel:
            asking, failed, over = Client(stack, channel, mesh), [], threading.Event()

            def work():
                while not over.is_set():
                    done = asking.ask()
                    if done.code is not CODES.OK:
                        failed.append(done)

            workers = [threading.Thread(target=work) for _ in range(4)]
            for each in workers:
                each.start()
            assert eventually(lambda: sum(each.count for each in six) > 60)
            provider.replace(world(*six) + "---\n" + rules)
            assert eventually(lambda: six[5].count)
            before = [each.count for each in six]
            assert eventually(lambda: sum(each.count for each in six) - sum(before) >= 600)
            after = [each.count for each in six]
            over.set()
            for each in workers:
                each.join()
    gained = [new - old for new, old in zip(after, before, strict=True)]
    assert not failed
    assert all(abs(count - sum(gained) / 6) <= sum(gained) / 60 for count in gained), gained


def test_what_runs_at_an_endpoint_that_has_left_runs_to_its_end(stack, peers):
    provider = StaticProvider(world(peers["v1"]))
    with Mesh(provider, telemetry=False) as mesh:
        make = meshlib.grpc.aio.mesh_channel if stack.aio else meshlib.grpc.mesh_channel
        with stack.client(lambda: make("reviews:9080", mesh)) as channel:
            asking = Client(stack, channel, mesh)
            running = asking.open("UnaryStream", asked={"messages": 30, "pause": 0.05})
            assert running.read() is not None
            provider.replace(world(peers["v2"]))
            assert eventually(lambda: told(asking.ask())[0]["name"] == "v2")
            assert {told(asking.ask())[0]["name"] for _ in range(9)} == {"v2"}
            assert eventually(lambda: len(stack.run(channel.ways.held)) == 1)
            done = running.end()
            assert (done.code, len(done.responses)) == (CODES.OK, 29)


def test_steady_load_sees_no_failure_while_endpoints_come_and_go(stack, peers):
    rules = policy({"trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}}})
    worlds = [world(*chosen) + "---\n" + rules for chosen in chosen_of(peers)]
    provider = StaticProvider(worlds[0])
    with Mesh(provider, telemetry=False) as mesh:
        make = meshlib.grpc.aio.mesh_channel if stack.aio else meshlib.grpc.mesh_channel
        with stack.client(lambda: make("reviews:9080", mesh)) as channel:
            asking, failed, over = Client(stack, channel, mesh), [], threading.Event()

            def work():
                while not over.is_set():
                    done = asking.ask("StreamStream", [b"a", b"b"])
                    if done.code is not CODES.OK:
                        failed.append(done)

            workers = [threading.Thread(target=work) for _ in range(4)]
            for each in workers:
                each.start()
            for text in worlds * 5:
                provider.replace(text)
                asking.ask()
            over.set()
            for each in workers:
                each.join()
            assert not failed
            assert asking.settles()


def chosen_of(peers):
    first, second, third = peers.values()
    return [[first, second], [second, third], [first, second, third], [third]]


# The channel itself -------------------------------------------------------------------------------------------------


def test_a_channel_becomes_ready_when_it_is_asked_to_and_is_shut_down_when_closed(peers):
    with mesh_of(world(peers["v1"]), telemetry=False) as mesh:
        states = []
        with meshlib.grpc.mesh_channel("reviews:9080", mesh) as channel:
            channel.subscribe(states.append)
            grpc.channel_ready_future(channel).result(30)
            assert eventually(lambda: states and states[-1] is grpc.ChannelConnectivity.READY)
            assert states[0] is grpc.ChannelConnectivity.IDLE
        assert eventually(lambda: states[-1] is grpc.ChannelConnectivity.SHUTDOWN)
        with pytest.raises(ValueError, match="closed"):
            channel.unary_unary("/test.S/UnaryUnary")(b"x")


def test_an_aio_channel_becomes_ready_when_it_is_asked_to_and_is_shut_down_when_closed(peers):
    async def main():
        with mesh_of(world(peers["v1"]), telemetry=False) as mesh:
            async with meshlib.grpc.aio.mesh_channel("reviews:9080", mesh) as channel:
                assert channel.get_state() is grpc.ChannelConnectivity.IDLE
                await asyncio.wait_for(channel.channel_ready(), 30)
                assert channel.get_state() is grpc.ChannelConnectivity.READY
                call = channel.stream_stream("/test.S/StreamStream")(metadata=[("messages", "2")])
                await call.write(b"abc")
                await call.done_writing()
                assert [len(json.loads(message)["read"]) async for message in call] == [1, 1]
            assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN

    asyncio.run(main())


def test_a_change_while_the_loop_stands_still_is_not_missed(peers, monkeypatch):
    def slow(states):
        found = best(states)
        time.sleep(0.2)  # meanwhile the connection is made: gRPC's own threads do that
        return found

    async def main():
        with mesh_of(world(peers["v1"]), telemetry=False) as mesh:
            async with meshlib.grpc.aio.mesh_channel("reviews:9080", mesh) as channel:
                await asyncio.wait_for(channel.channel_ready(), 30)
                state = channel.get_state()
                later = asyncio.create_task(channel.wait_for_state_change(state))
                await asyncio.sleep(0)
                assert not later.done()
            await asyncio.wait_for(later, 30)

    monkeypatch.setattr("meshlib.grpc.aio.channel.best", slow)
    asyncio.run(main())


def test_what_was_written_is_written_again_to_the_next_attempt(peers):
    async def main():
        with mesh_of(world(*peers.values()), telemetry=False) as mesh:
            async with meshlib.grpc.aio.mesh_channel("reviews:9080", mesh) as channel:
                metadata = [("code", "14"), ("until", "2")]
                call = channel.stream_unary("/test.S/StreamUnary")(metadata=metadata)
                for message in (b"a", b"bc", b"def"):
                    await call.write(message)
                await call.done_writing()
                assert json.loads(await call)["read"] == [1, 2, 3]
                assert call.mesh.attempts == 3

    asyncio.run(main())


def test_one_channel_serves_one_event_loop_after_the_other(peers):
    with mesh_of(world(peers["v1"]), telemetry=False) as mesh:
        channel = meshlib.grpc.aio.mesh_channel("reviews:9080", mesh)

        async def main():
            return json.loads(await channel.unary_unary("/test.S/UnaryUnary")(b"x"))["name"]

        assert [asyncio.run(main()) for _ in range(3)] == ["v1"] * 3


def test_a_host_that_the_mesh_does_not_know_is_dialled_straight(stack, peers):
    with mesh_of(world(peers["v1"]), telemetry=False) as mesh:
        make = meshlib.grpc.aio.mesh_channel if stack.aio else meshlib.grpc.mesh_channel
        with stack.client(lambda: make(f"127.0.0.1:{peers['v2'].port}", mesh)) as channel:
            assert told(Client(stack, channel, mesh).ask())[0]["name"] == "v2"


def test_a_deserializer_that_refuses_a_message_fails_the_rpc(stack, peers):
    def refuse(message):
        raise ValueError(message)

    with client(stack, peers) as mesh:
        for kind in ("unary_unary", "unary_stream"):
            shape = {"unary_unary": "UnaryUnary", "unary_stream": "UnaryStream"}[kind]
            multi = stack.run(lambda: getattr(mesh.channel, kind)(f"/test.S/{shape}", None, refuse))  # noqa: B023
            with pytest.raises(grpc.RpcError) as caught:
                if stack.aio and kind == "unary_unary":
                    stack.wait(stack.run(lambda: multi(b"x")))  # noqa: B023
                elif stack.aio:
                    stack.wait(stack.run(lambda: multi(b"x")).read())  # noqa: B023
                else:
                    next(multi(b"x")) if kind == "unary_stream" else multi(b"x")
            assert caught.value.code() is CODES.INTERNAL
        assert mesh.settles()
