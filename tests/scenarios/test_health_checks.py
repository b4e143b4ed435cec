"""Active health checks over real sockets: who is asked, how, and when it ends."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from concurrent import futures

import grpc
import httpx
import pytest
import trustme

from meshlib import Mesh
from meshlib.client import MeshClient
from meshlib.dataplane.policies.checks import Checks
from meshlib.errors import NoHealthyUpstream
from meshlib.testing import StaticProvider, mesh_of

RULES = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: shop}}
spec:
  hosts: [shop.example]
  ports: [{{number: 80, name: {protocol}, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{endpoints}]
---
apiVersion: meshlib.dev/v1alpha1
kind: ClientPolicy
metadata: {{name: shop}}
spec:
  hosts: [shop.example]
  healthCheck: {{{check}, interval: 100ms, timeout: 500ms, unhealthyThreshold: 2, healthyThreshold: 1}}
"""


def rules(check: str, *ports: int, protocol: str = "http") -> str:
    listed = ", ".join(f"{{address: 127.0.0.1, ports: {{{protocol}: {port}}}}}" for port in ports)
    return RULES.format(check=check, endpoints=listed, protocol=protocol)


def until(holds, limit: float = 10.0) -> None:
    """Wait for what happens in the background, polling."""
    ends = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.01)


def health(mesh) -> dict[str, bool | None]:
    """What checks say of each endpoint, by port."""
    (cluster,) = (each for each in mesh.status().clusters if "shop" in each["name"])
    return {each["address"].rpartition(":")[2]: each["healthy"] for each in cluster["endpoints"]}


def probes(server) -> list:
    return [seen for seen in server.seen if seen["headers"].get("user-agent") == "meshlib-health-check"]


def test_an_endpoint_that_fails_its_check_is_left_out_until_it_passes(echo):
    good, bad = echo("good"), echo("bad")
    check = "http: {path: /healthz, host: well.example, headers: {x-who: mesh}}"
    with mesh_of(rules(check, good.port, bad.port)) as mesh, MeshClient(mesh) as client:
        time.sleep(0.3)
        assert not probes(good), "nobody is asked before the first use"
        client.get("http://shop.example/")
        until(lambda: health(mesh) == {str(good.port): True, str(bad.port): True})
        bad.failing = 503
        until(lambda: health(mesh)[str(bad.port)] is False)
        bad.failing = None
        names = {client.get("http://shop.example/").json()["name"] for _ in range(5)}
        assert names <= {"good", "bad"}
        until(lambda: health(mesh)[str(bad.port)] is True)
        (seen,) = probes(good)[:1]
        assert (seen["method"], seen["path"]) == ("GET", "/healthz")
        assert (seen["headers"]["host"], seen["headers"]["x-who"]) == ("well.example", "mesh")


def test_when_all_fail_the_error_says_so(echo):
    bad = echo("bad")
    with mesh_of(rules("path: /healthz", bad.port)) as mesh, MeshClient(mesh) as client:
        client.get("http://shop.example/")
        bad.failing = 500
        until(lambda: health(mesh).get(str(bad.port)) is False)
        with pytest.raises(NoHealthyUpstream, match="1 failing health checks"):
            client.get("http://shop.example/")
        decision = mesh.explain("GET", "http://shop.example/")
        assert "its health checks fail (status 500)" in dict(decision.destinations[0].left_out).values()


def test_a_connection_is_check_enough_for_tcp(echo):
    good = echo("good")
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with mesh_of(rules("tcp: {}", good.port, port)) as mesh, MeshClient(mesh) as client:
        for _ in range(2):
            try:
                client.get("http://shop.example/")
            except httpx.ConnectError:
                pass
        until(lambda: health(mesh) == {str(good.port): True, str(port): False})
        assert {client.get("http://shop.example/").json()["name"] for _ in range(10)} == {"good"}


def test_one_that_is_silent_fails_by_the_timeout(echo):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with mesh_of(rules("path: /", port)) as mesh, MeshClient(mesh, timeout=0.2) as client:
            with pytest.raises(httpx.ReadTimeout):
                client.get("http://shop.example/")
            until(lambda: health(mesh)[str(port)] is False)
            (left,) = mesh.explain("GET", "http://shop.example/").destinations[0].left_out
            assert "no answer within 0.5 s" in left[1]


# gRPC ---------------------------------------------------------------------------------------------------------------


class Healthy(grpc.GenericRpcHandler):
    """``grpc.health.v1.Health`` of a server, its bytes by hand on this side too."""

    def __init__(self) -> None:
        self.status = {b"": 1, b"\x0a\x04shop": 1}
        self.asked: list[bytes] = []
        self.authority: list[str] = []

    def service(self, details):
        if details.method != "/grpc.health.v1.Health/Check":
            return None

        def answer(asked: bytes, context: grpc.ServicerContext) -> bytes:
            self.asked.append(asked)
            if asked not in self.status:
                context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
            status = self.status[asked]
            return bytes([8, status]) if status else b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def served():
    handler = Healthy()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler, port
    server.stop(None).wait(5)


@pytest.mark.parametrize("service", ["", "shop"])
def test_grpc_servers_are_asked_in_their_own_protocol(served, service):
    handler, port = served
    with mesh_of(rules(f"grpc: {{service: '{service}'}}", port, protocol="grpc")) as mesh:
        use(mesh)
        until(lambda: health(mesh)[str(port)] is True)
        assert set(handler.asked) == {b"\x0a\x04shop" if service else b""}
        handler.status = dict.fromkeys(handler.status, 2)
        until(lambda: health(mesh)[str(port)] is False)
        assert left_out(mesh) == "its health checks fail (NOT_SERVING)"
        handler.status = dict.fromkeys(handler.status, 1)
        until(lambda: health(mesh)[str(port)] is True)


def test_a_grpc_server_that_does_not_know_the_service_is_not_well(served):
    _, port = served
    with mesh_of(rules("grpc: {service: other}", port, protocol="grpc")) as mesh:
        use(mesh)
        until(lambda: health(mesh)[str(port)] is False)
        assert left_out(mesh) == "its health checks fail (grpc-status 5)"


def use(mesh) -> None:
    """A pick is all it takes."""
    cluster = mesh.prepared.cluster("outbound|80||shop.example")
    cluster.pick(None, mesh.rng, mesh.clock.now(), None, (), 0)


def left_out(mesh) -> str:
    return mesh.explain("POST", "http://shop.example/").destinations[0].left_out[0][1]


# TLS ----------------------------------------------------------------------------------------------------------------


def test_checks_use_the_tls_of_the_mesh(echo, tmp_path):
    authority = trustme.CA()
    server = echo("tls")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("shop.example").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    roots = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(roots))
    tls = f"""---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: shop}}
spec: {{host: shop.example, trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: {roots}}}}}}}
"""
    with mesh_of(rules("path: /healthz", server.port) + tls) as mesh, MeshClient(mesh) as client:
        client.get("http://shop.example/")
        until(lambda: health(mesh)[str(server.port)] is True)
        assert probes(server)


# Beginning and end --------------------------------------------------------------------------------------------------


def test_checks_end_with_the_mesh_and_their_connections_too(echo):
    server = echo("one")
    with mesh_of(rules("path: /healthz", server.port)) as mesh, MeshClient(mesh) as client:
        client.get("http://shop.example/")
        until(lambda: len(probes(server)) >= 3)
    asked = len(probes(server))
    time.sleep(0.4)
    assert len(probes(server)) <= asked + 1


def test_checks_end_when_nobody_uses_the_cluster_and_begin_again(echo, monkeypatch):
    monkeypatch.setattr(Checks, "IDLE", 0.3)
    server = echo("one")
    with mesh_of(rules("path: /healthz", server.port)) as mesh, MeshClient(mesh) as client:
        client.get("http://shop.example/")
        until(lambda: health(mesh)[str(server.port)] is True)
        until(lambda: health(mesh)[str(server.port)] is None)
        asked = len(probes(server))
        time.sleep(0.4)
        assert len(probes(server)) == asked
        client.get("http://shop.example/")
        until(lambda: len(probes(server)) > asked)


def test_checks_follow_the_configuration(echo):
    first, second = echo("first"), echo("second")
    provider = StaticProvider(rules("path: /healthz", first.port))
    with Mesh(provider) as mesh, MeshClient(mesh) as client:
        client.get("http://shop.example/")
        until(lambda: probes(first))
        provider.replace(rules("path: /other", second.port))
        until(lambda: any(seen["path"] == "/other" for seen in probes(second)))
        asked = len(probes(first))
        time.sleep(0.3)
        assert len(probes(first)) <= asked + 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_checks_for_itself(echo):
    server = echo("one")
    with mesh_of(rules("path: /healthz", server.port)) as mesh, MeshClient(mesh) as client:
        client.get("http://shop.example/")
        until(lambda: health(mesh)[str(server.port)] is True)
        child = os.fork()
        if not child:
            code = 1
            try:
                assert health(mesh)[str(server.port)] is None
                client.get("http://shop.example/")
                until(lambda: health(mesh)[str(server.port)] is True)
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_hundred_threads_begin_one_round(echo):
    server = echo("one")
    with mesh_of(rules("path: /healthz", server.port)) as mesh, MeshClient(mesh) as client:
        together = threading.Barrier(50)

        def call() -> None:
            together.wait()
            client.get("http://shop.example/")

        threads = [threading.Thread(target=call) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        until(lambda: probes(server))
        assert len(probes(server)) < 20
