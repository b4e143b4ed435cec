"""The control plane of these tests is an honest one: a real Envoy and grpcio's own client are content with it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("envoy.service.discovery.v3")
pytest.importorskip("grpc")

import grpc

from meshlib import Mesh, MeshClient
from meshlib.providers import XdsProvider
from tests.envoy import ABSENT, ENVOY
from tests.xds.envoy import AdsEnvoy
from tests.xds.planes import ControlPlane
from tests.xds.resources import api_listener, cluster, endpoints, routes, socket_listener, table


def answered_by(port: int) -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/", headers={"Host": "reviews:9080"})
        answer = connection.getresponse()
        return json.loads(answer.read())["name"] if answer.status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()


@pytest.mark.skipif(ENVOY is None, reason=ABSENT)
@pytest.mark.parametrize("api", ["GRPC", "DELTA_GRPC"])
def test_envoy_goes_where_this_client_goes(echo, api):
    one, two = echo("one"), echo("two")
    with ControlPlane() as plane:
        listener = socket_listener("envoys", 0, "9080", "127.0.0.1")
        ours = socket_listener("0.0.0.0_9080", 9080, "9080")
        ours.bind_to_port.value = False
        plane.serve(
            cluster("c"), endpoints("c", one.port), listener, ours, table("9080", {"reviews": "c"}, ignore_ports=True)
        )
        provider = XdsProvider(plane.bootstrap(), everything=True, delta=api != "GRPC")
        with AdsEnvoy(plane.port, api) as envoy, Mesh(provider) as mesh, MeshClient(mesh) as client:
            port = envoy.listener()
            for name, change in (
                ("one", None),
                ("two", [endpoints("c", two.port)]),
                ("one", [cluster("c"), cluster("d"), endpoints("c", two.port), endpoints("d", one.port)]),
            ):
                if change is not None:
                    plane.serve(*change)
                if len(change or ()) > 1:
                    plane.serve(table("9080", {"reviews": "d"}, ignore_ports=True))
                ends = time.monotonic() + 30
                while (found := (answered_by(port), client.get("http://reviews:9080/").json()["name"])) != (name, name):
                    assert time.monotonic() < ends, (found, envoy.output())
                    time.sleep(0.02)
            assert not [each for each in plane.requests() if "error_detail" in each]


_CALLS = """
import sys, grpc
channel = grpc.insecure_channel("xds:///svc")
call = channel.unary_unary("/test.Echo/Say")
for line in sys.stdin:
    print(call(b"?", timeout=20).decode(), flush=True)
"""


class _Says(grpc.GenericRpcHandler):
    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._name)


@pytest.fixture
def says():
    servers = []

    def make(name: str) -> int:
        server = grpc.server(ThreadPoolExecutor(4), handlers=(_Says(name),))
        servers.append(server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return port

    yield make
    for server in servers:
        server.stop(0).wait(5)


def test_grpcios_own_client_goes_where_this_client_goes(says):
    one, two = says("one"), says("two")
    with ControlPlane() as plane:
        plane.serve(cluster("c"), endpoints("c", one), api_listener("svc", "r"), routes("r", _="c"))
        environ = {**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(plane.bootstrap())}
        client = subprocess.Popen(
            [sys.executable, "-c", _CALLS], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            with Mesh(XdsProvider(plane.bootstrap(), hosts=["svc"])) as mesh:
                for name, port in (("one", one), ("two", two)):
                    plane.serve(endpoints("c", port))
                    ends = time.monotonic() + 30
                    while True:
                        client.stdin.write("\n")
                        client.stdin.flush()
                        (to,) = mesh.explain("GET", "http://svc/").destinations
                        if client.stdout.readline().strip() == name and to.endpoints == (f"127.0.0.1:{port}",):
                            break
                        assert time.monotonic() < ends
            assert not [each for each in plane.requests() if "error_detail" in each]
        finally:
            client.kill()
            client.wait(10)
            client.stdin.close()
            client.stdout.close()
