"""Raw connections over real sockets: routed, picked, counted, bounded, ended; from threads, asyncio and trio."""

from __future__ import annotations

import gc
import socket
import ssl
import threading
import time

import anyio
import pytest
import trustme

from meshlib import errors
from meshlib.testing import mesh_of
from tests.tcp.worlds import RUNS, Server, closed_port, colour, entry, nothing_taken, policy, run_in, servers, taken

pytestmark = pytest.mark.parametrize("run", RUNS)


def until(condition, seconds=10.0):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.005)


def rule(routes, kind="tcp"):
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: rule}}
spec: {{hosts: [db.example, red.example, green.example], {kind}: [{routes}]}}
"""


SUBSETS = ", subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]"


def test_a_connection_takes_its_rule_and_counts_until_it_is_closed(run):
    one, two = Server("one"), Server("two")
    route = rule("{route: [{destination: {host: db.example, subset: v2}}]}")
    with (
        servers(one, two),
        mesh_of(
            entry(one.port, two.port), policy("loadBalancer: {simple: RANDOM}", more=SUBSETS), route, telemetry=False
        ) as mesh,
        colour(run) as connect,
    ):
        line = connect(mesh, "db.example", 6379)
        assert line.ask(b"hello") == b"two:hello"
        assert line.raw.lease.endpoint.port == two.port
        assert taken(mesh) == [(1, 1, 0)]
        line.close()
        line.close()
        assert nothing_taken(mesh)
        until(lambda: two.ended == 1)


def test_tls_rules_look_at_the_server_name_that_the_caller_will_speak(run):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("green.example").configure_cert(context)
    one, two = Server("one"), Server("two", tls=context)
    route = rule(
        "{match: [{sniHosts: [red.example]}], route: [{destination: {host: db.example, subset: v1}}]}, "
        "{match: [{sniHosts: [green.example]}], route: [{destination: {host: db.example, subset: v2}}]}",
        "tls",
    )
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    with (
        servers(one, two),
        mesh_of(
            entry(one.port, two.port, protocol="TLS"),
            policy("loadBalancer: {simple: RANDOM}", more=SUBSETS),
            route,
            telemetry=False,
        ) as mesh,
        colour(run) as connect,
    ):
        line = connect(mesh, "db.example", 6379, sni="green.example", tls=ours)
        assert line.ask(b"x") == b"two:x"
        assert two.server_names == ["green.example"]
        line.close()
        plain = connect(mesh, "db.example", 6379, sni="RED.example.")
        assert plain.ask(b"x") == b"one:x", "the caller speaks TLS by itself, or not at all"
        plain.close()
        assert nothing_taken(mesh)


def test_more_connections_than_are_allowed_overflow_at_once(run):
    server = Server("one")
    pool = "connectionPool: {tcp: {maxConnections: 2}, http: {http1MaxPendingRequests: 5, http2MaxRequests: 1}}"
    with (
        servers(server),
        mesh_of(entry(server.port), policy(pool), telemetry=False) as mesh,
        colour(run) as connect,
    ):
        lines = [connect(mesh, "db.example", 6379) for _ in range(2)]
        with pytest.raises(errors.Overflow, match="2 connections are open") as caught:
            connect(mesh, "db.example", 6379)
        assert isinstance(caught.value, ConnectionError)
        assert caught.value.flag == "UO"
        lines.pop().close()
        lines.append(connect(mesh, "db.example", 6379))
        for line in lines:
            assert line.ask(b"x") == b"one:x"
            line.close()
        assert nothing_taken(mesh)


def test_an_endpoint_that_refuses_is_ejected_and_the_next_connections_go_elsewhere(run):
    server = Server("alive")
    detection = "outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 100, baseEjectionTime: 1h}"
    with (
        servers(server),
        mesh_of(entry(closed_port(), server.port), policy(detection), telemetry=False) as mesh,
        colour(run) as connect,
    ):
        failed = 0
        for _ in range(30):
            try:
                connect(mesh, "db.example", 6379).close()
            except errors.ConnectFailure as error:
                assert isinstance(error, ConnectionError)
                assert error.flag == "UF"
                assert "endpoint 127.0.0.1:" in str(error)
                failed += 1
        assert failed == 2
        [cluster] = mesh.status().clusters
        assert [each["ejected"] for each in cluster["endpoints"]] == [True, False]
        assert nothing_taken(mesh)


def test_a_connection_that_stands_forgets_earlier_failures(run):
    detection = "outlierDetection: {consecutive5xxErrors: 3, maxEjectionPercent: 100}"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with mesh_of(entry(port), policy(detection), telemetry=False) as mesh, colour(run) as connect:
        for _ in range(2):
            with pytest.raises(errors.ConnectFailure):
                connect(mesh, "db.example", 6379)
        [cluster] = mesh.state.clusters()
        assert [state.consecutive_5xx for state in cluster.members] == [2]
        with socket.create_server(("127.0.0.1", port)):
            line = connect(mesh, "db.example", 6379)
            assert [state.consecutive_5xx for state in cluster.members] == [0], "judged when it stands, not at its end"
            line.close()


def test_connecting_is_tried_again_elsewhere_when_the_caller_allows_it(run):
    server = Server("alive")
    with (
        servers(server),
        mesh_of(entry(closed_port(), server.port), telemetry=False) as mesh,
        colour(run) as connect,
    ):
        for _ in range(8):
            line = connect(mesh, "db.example", 6379, attempts=5)
            assert line.ask(b"x") == b"alive:x"
            line.close()
        assert nothing_taken(mesh)
        with pytest.raises(errors.ConnectFailure):
            for _ in range(30):
                connect(mesh, "db.example", 6379).close()


def test_no_endpoint_no_host_and_no_time_have_errors_of_their_own(run):
    with socket.create_server(("127.0.0.1", 0), backlog=1) as full:
        stuck = [socket.socket() for _ in range(4)]  # fill the queue of a listener that never accepts
        for each in stuck:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        pool = "connectionPool: {tcp: {connectTimeout: 100ms}}"
        config = {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
        texts = [entry(full.getsockname()[1]), entry(name="none.example"), policy(pool)]
        with mesh_of(*texts, mesh_config=config, telemetry=False) as mesh, colour(run) as connect:
            with pytest.raises(errors.ConnectFailure, match=r"no connection within 0\.1 s") as caught:
                connect(mesh, "db.example", 6379)
            assert isinstance(caught.value, TimeoutError)
            with pytest.raises(errors.NoHealthyUpstream) as caught:
                connect(mesh, "none.example", 6379)
            assert isinstance(caught.value, OSError)
            with pytest.raises(errors.UnknownHost, match="REGISTRY_ONLY") as caught:
                connect(mesh, "elsewhere.example", 1)
            assert isinstance(caught.value, OSError)
            with pytest.raises(ValueError, match="port 0"):
                connect(mesh, "db.example", 0)
            assert nothing_taken(mesh)
        for each in stuck:
            each.close()


def test_a_host_that_the_mesh_does_not_know_is_dialled_itself(run):
    server = Server("far")
    with servers(server), mesh_of(entry(1), telemetry=False) as mesh, colour(run) as connect:
        line = connect(mesh, "127.0.0.1", server.port)
        assert line.ask(b"x") == b"far:x"
        assert line.raw.lease.cluster is None
        line.close()
        with pytest.raises(errors.ConnectFailure, match="not known to the mesh"):
            connect(mesh, "127.0.0.1", closed_port())
        assert mesh.state.clusters() == []


def test_a_service_with_http_rules_is_reached_past_them(run):
    server = Server("web")
    with (
        servers(server),
        mesh_of(entry(server.port, protocol="HTTP"), telemetry=False) as mesh,
        colour(run) as connect,
    ):
        line = connect(mesh, "db.example", 6379)
        assert line.ask(b"x") == b"web:x"
        assert line.raw.lease.cluster.name == "outbound|6379||db.example"
        line.close()
        assert nothing_taken(mesh)


def test_a_dropped_connection_is_accounted_and_closed_when_it_is_collected(run):
    server = Server("one")
    with servers(server), mesh_of(entry(server.port), telemetry=False) as mesh, colour(run) as connect:
        line = connect(mesh, "db.example", 6379)
        assert taken(mesh) == [(1, 1, 0)]
        del line
        gc.collect()
        assert nothing_taken(mesh)
        until(lambda: server.ended == 1)


def test_silence_and_age_end_a_connection_for_both_sides(run):
    server = Server("one")
    settings = "{tcp: {idleTimeout: 300ms, maxConnectionDuration: 1h}}"
    with (
        servers(server),
        mesh_of(entry(server.port), policy(f"connectionPool: {settings}"), telemetry=False) as mesh,
        colour(run) as connect,
    ):
        line = connect(mesh, "db.example", 6379)
        for _ in range(4):
            assert line.ask(b"x") == b"one:x"
            time.sleep(0.15)
        assert taken(mesh) == [(1, 1, 0)], "bytes keep it"
        until(lambda: server.ended == 1)
        assert nothing_taken(mesh), "it stopped counting when it ended, though nobody closed it"
        with pytest.raises((OSError, anyio.BrokenResourceError)):
            line.ask(b"x" * 10)
            line.ask(b"x" * 10)
            raise OSError("the peer's end was read")
        line.close()


def test_a_connection_lives_no_longer_than_its_longest_duration(run):
    server = Server("one")
    settings = "{tcp: {maxConnectionDuration: 300ms}}"
    with (
        servers(server),
        mesh_of(entry(server.port), policy(f"connectionPool: {settings}"), telemetry=False) as mesh,
        colour(run) as connect,
    ):
        started = time.monotonic()
        line = connect(mesh, "db.example", 6379)
        with pytest.raises((OSError, anyio.BrokenResourceError)):
            while time.monotonic() < started + 10:
                if line.ask(b"x") == b"":
                    raise OSError("the end")
        assert 0.25 < time.monotonic() - started < 5
        assert nothing_taken(mesh)
        line.close()


def test_closing_the_mesh_ends_its_connections(run):
    server = Server("one")
    with servers(server), colour(run) as connect:
        mesh = mesh_of(entry(server.port), telemetry=False)
        line = connect(mesh, "db.example", 6379)
        mesh.close()
        until(lambda: server.ended == 1)
        assert nothing_taken(mesh)
        line.close()


def proxy_line(sock):
    head = b""
    while not head.endswith(b"\r\n"):
        head += sock.recv(1)
    return head


def proxy_binary(sock):
    head = sock.recv(16, socket.MSG_WAITALL)
    return head + sock.recv(int.from_bytes(head[14:16], "big"), socket.MSG_WAITALL)


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_a_proxy_header_goes_out_first(run, version):
    server = Server("one", greet=proxy_line if version == "V1" else proxy_binary)
    with (
        servers(server),
        mesh_of(entry(server.port), policy(f"proxyProtocol: {{version: {version}}}"), telemetry=False) as mesh,
        colour(run) as connect,
    ):
        line = connect(mesh, "db.example", 6379)
        assert line.ask(b"x") == b"one:x"
        source = line.raw.getsockname() if run == "threads" else line.raw.extra(anyio.abc.SocketAttribute.local_address)
        [head] = server.heads
        if version == "V1":
            assert head == f"PROXY TCP4 127.0.0.1 127.0.0.1 {source[1]} {server.port}\r\n".encode()
        else:
            ports = source[1].to_bytes(2, "big") + server.port.to_bytes(2, "big")
            assert head == b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes([127, 0, 0, 1] * 2) + ports
        line.close()


def connect_proxy(answer):
    def greet(sock):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        sock.sendall(answer)
        return head

    return greet


TUNNEL = "tunnel: {protocol: CONNECT, targetHost: far.example, targetPort: 5432}"


def test_a_tunnel_is_asked_for_and_what_follows_is_the_callers(run):
    server = Server("far", greet=connect_proxy(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"))
    with (
        servers(server),
        mesh_of(entry(server.port), policy(TUNNEL), telemetry=False) as mesh,
        colour(run) as connect,
    ):
        line = connect(mesh, "db.example", 6379)
        assert line.ask(b"x") == b"far:x"
        assert server.heads == [b"CONNECT far.example:5432 HTTP/1.1\r\nHost: far.example:5432\r\n\r\n"]
        line.close()
        assert nothing_taken(mesh)


def test_a_refused_tunnel_is_no_connection(run):
    server = Server("far", greet=connect_proxy(b"HTTP/1.1 403 Forbidden\r\n\r\n"))
    other = Server("post")
    texts = [entry(server.port), policy(TUNNEL), entry(other.port, name="post.example")]
    texts.append(policy(TUNNEL.replace("CONNECT", "POST"), "post.example").replace("name: policy", "name: post"))
    with servers(server, other), mesh_of(*texts, telemetry=False) as mesh, colour(run) as connect:
        with pytest.raises(errors.ConnectFailure, match="403 Forbidden"):
            connect(mesh, "db.example", 6379)
        with pytest.raises(errors.ConnectFailure, match=r"tunnel\.protocol POST is not supported"):
            connect(mesh, "post.example", 6379)
        assert nothing_taken(mesh)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, str(path)


def test_tls_by_the_configuration_verifies_and_offers_no_protocol(run, authority):
    ca, path = authority
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    ca.issue_cert("db.example").configure_cert(context)
    server = Server("safe", tls=context)
    texts = [entry(server.port), policy(f"tls: {{mode: SIMPLE, caCertificates: {path}}}")]
    with servers(server), mesh_of(*texts, telemetry=False) as mesh, colour(run) as connect:
        line = connect(mesh, "db.example", 6379)
        assert line.ask(b"x") == b"safe:x"
        chosen = (
            line.raw.selected_alpn_protocol()
            if run == "threads"
            else line.raw.extra(anyio.streams.tls.TLSAttribute.alpn_protocol)
        )
        assert chosen is None
        if run == "threads":
            assert isinstance(line.raw, ssl.SSLSocket)
        assert taken(mesh) == [(1, 1, 0)]
        line.close()
        assert nothing_taken(mesh)
        with pytest.raises(errors.ConnectFailure, match="leave the caller's own out"):
            connect(mesh, "db.example", 6379, tls=ssl.create_default_context())


@pytest.mark.parametrize("tls", ["", ", subjectAltNames: [other.example]", ", sni: other.example"])
def test_tls_refuses_a_certificate_of_somebody_else(run, authority, tls):
    ca, path = authority
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("stranger.example").configure_cert(context)
    server = Server("safe", tls=context)
    texts = [entry(server.port), policy(f"tls: {{mode: SIMPLE, caCertificates: {path}{tls}}}")]
    with servers(server), mesh_of(*texts, telemetry=False) as mesh, colour(run) as connect:
        if "sni" in tls:  # Istio: with a server name given, the chain alone is verified
            line = connect(mesh, "db.example", 6379)
            assert server.server_names == ["other.example"]
            line.close()
        else:
            with pytest.raises(errors.ConnectFailure, match=r"CERTIFICATE_VERIFY_FAILED|the certificate is for"):
                connect(mesh, "db.example", 6379)
        assert nothing_taken(mesh)


def test_mutual_tls_of_the_mesh_is_never_plaintext(run):
    server = Server("one")
    with (
        servers(server),
        mesh_of(entry(server.port), policy("tls: {mode: ISTIO_MUTUAL}"), telemetry=False) as mesh,
        colour(run) as connect,
    ):
        with pytest.raises(errors.ConnectFailure, match="ISTIO_MUTUAL needs a mesh identity"):
            connect(mesh, "db.example", 6379)
        assert server.accepted == 0
        assert nothing_taken(mesh)


def test_a_pick_holds_its_permits_for_a_block_and_judges_what_happened_in_it(run):
    detection = "outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 100}"
    with mesh_of(entry(11, 12), policy(detection), telemetry=False) as mesh:

        def work():
            with mesh.pick("db.example", 6379) as lease:
                assert (lease.address, lease.port in (11, 12)) == ("127.0.0.1", True)
                assert taken(mesh) == [(1, 1, 0)]
            assert nothing_taken(mesh)
            for _ in range(20):
                try:
                    with mesh.pick("db.example", 6379) as lease:
                        if lease.port == 11:
                            raise ConnectionRefusedError
                except ConnectionRefusedError:
                    pass
            for error in (KeyError(), ConnectionResetError()):
                with pytest.raises(type(error)), mesh.pick("db.example", 6379) as lease:
                    lease.connected()
                    raise error
            [cluster] = mesh.status().clusters
            assert [each["ejected"] for each in cluster["endpoints"]] == [True, False]
            assert nothing_taken(mesh)

        async def awork():
            work()

        work() if run == "threads" else run_in(run, awork)


def test_a_pick_that_is_dropped_before_it_was_connected_gives_its_permits_back(run):
    with mesh_of(entry(11), telemetry=False) as mesh:

        def work():
            lease = mesh.pick("db.example", 6379)
            assert taken(mesh) == [(1, 1, 0)]
            del lease
            gc.collect()
            assert nothing_taken(mesh)

        async def awork():
            work()

        work() if run == "threads" else run_in(run, awork)


def test_a_pick_that_is_dropped_after_it_was_connected_ends_once(run):
    with mesh_of(entry(11), telemetry=False) as mesh:

        def work():
            ended: list[object] = []
            mesh.observer = Watching(ended)
            kept, dropped = mesh.pick("db.example", 6379), mesh.pick("db.example", 6379)
            kept.connected()
            dropped.connected()
            circle = [dropped]
            circle.append(circle)
            del dropped, circle
            gc.collect()
            assert taken(mesh) == [(1, 1, 0)]
            assert len(mesh.connector.watch) == len(ended) == 1
            kept.close()
            del kept
            gc.collect()
            assert nothing_taken(mesh)
            assert len(ended) == 2

        async def awork():
            work()

        work() if run == "threads" else run_in(run, awork)


class Watching:
    """Notes every call that ends."""

    def __init__(self, ended):
        self.ended = ended

    def call_started(self, call, now):
        return self

    def attempt_started(self, attempt, now):
        pass

    def attempt_ended(self, attempt, outcome, now):
        pass

    def call_ended(self, call, outcome, now):
        self.ended.append(call)


def test_cancelling_or_failing_at_any_moment_gives_everything_back(run):
    """The task is cancelled after its n-th step; threads have a server that hangs up or stays silent instead."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("db.example").configure_cert(context)
    server = Server("safe", tls=context)
    pool = "tls: {mode: SIMPLE, insecureSkipVerify: true}, connectionPool: {tcp: {maxConnections: 3}}"
    with servers(server), mesh_of(entry(server.port), policy(pool), telemetry=False) as mesh:
        if run == "threads":
            failures = []

            def one():
                try:
                    with mesh.open_tcp("db.example", 6379) as sock:
                        sock.sendall(b"x")
                        assert sock.recv(100) == b"safe:x"
                except errors.Overflow:
                    failures.append("full")

            workers = [threading.Thread(target=one) for _ in range(12)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join(20)
            assert nothing_taken(mesh)
            return

        async def main():
            budget, done = 0, False
            while not done:
                budget += 1 + budget // 8

                async def work():
                    nonlocal done
                    async with await mesh.aopen_tcp("db.example", 6379) as stream:
                        await stream.send(b"x")
                        assert await stream.receive() == b"safe:x"
                    done = True

                async with anyio.create_task_group() as group:
                    group.start_soon(work)
                    for _ in range(budget):
                        await anyio.sleep(0.0002)
                    group.cancel_scope.cancel()
                assert nothing_taken(mesh), budget
            assert budget > 3, "it was cancelled on its way"

        run_in(run, main)
        until(lambda: server.ended == server.accepted)
