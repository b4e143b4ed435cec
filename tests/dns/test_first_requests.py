"""Nobody but our DNS server knows the names here: a first request that did not wait for its answer would fail."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor

import anyio
import grpc
import pytest
from click.testing import CliRunner

import meshlib.grpc
import meshlib.grpc.aio
from meshlib import AsyncMeshClient, MeshClient, errors
from meshlib.cli import commands
from meshlib.testing import ManualClock
from tests.dns.peers import peers
from tests.dns.server import SERVFAIL, SILENT, DnsServer
from tests.dns.test_mesh import ONE, TWO, addresses, entry, meshed, say
from tests.mesh.test_mesh import until

RESOLUTIONS = ["DNS", "DNS_ROUND_ROBIN"]


@pytest.fixture
def server():
    with DnsServer() as running:
        yield running


@contextlib.contextmanager
def rpcs(at):
    """A gRPC server that says what it was told."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request)

    running = grpc.server(ThreadPoolExecutor(2), handlers=[Handler()])
    port = running.add_insecure_port(f"{at}:0")
    running.start()
    try:
        yield port
    finally:
        running.stop(None).wait(5.0)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("face", ["threads", "asyncio", "trio"])
def test_the_first_http_request_waits_for_the_first_answer(server, face, resolution):
    with peers(ONE) as (port, _):
        say(server, ONE, ttl=60)
        url = f"http://svc.test:{port}/"

        async def cooperative():
            async with AsyncMeshClient(mesh) as client:
                assert [(await client.get(url)).text for _ in range(3)] == [ONE] * 3
                request = client.build_request("GET", url)
                response = await client.send(request)  # the long way
                assert response.text == ONE

        with meshed(server, entry(port, resolution=resolution)) as mesh:
            if face == "threads":
                with MeshClient(mesh) as client:
                    assert [client.get(url).text for _ in range(3)] == [ONE] * 3
            else:
                anyio.run(cooperative, backend=face)
            assert server.count("svc.test") == 1


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("face", ["threads", "pick", "asyncio", "trio"])
def test_the_first_raw_connection_waits_for_the_first_answer(server, face, resolution):
    with peers(ONE) as (port, _):
        say(server, ONE)
        spec = {"ports": [{"number": port, "name": "tcp", "protocol": "TCP"}]}

        async def cooperative():
            async with await mesh.aopen_tcp("svc.test", port) as stream:
                await stream.send(b"GET / HTTP/1.0\r\n\r\n")
                assert (await stream.receive()).startswith(b"HTTP/1.1 200")

        with meshed(server, entry(port, resolution=resolution, **spec)) as mesh:
            if face == "threads":
                with mesh.open_tcp("svc.test", port) as sock:
                    assert sock.getpeername() == (ONE, port)
            elif face == "pick":
                with mesh.pick("svc.test", port) as lease:
                    assert lease.address == (ONE if resolution == "DNS" else "svc.test")
                    lease.connected()
            else:
                anyio.run(cooperative, backend=face)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("face", ["threads", "aio"])
def test_the_first_rpc_waits_for_the_first_answer(server, face, resolution):
    with rpcs(ONE) as port:
        say(server, ONE)
        spec = {"ports": [{"number": port, "name": "grpc", "protocol": "GRPC"}]}

        async def cooperative():
            async with meshlib.grpc.aio.mesh_channel(f"svc.test:{port}", mesh) as channel:
                assert await channel.unary_unary("/test.Echo/Say")(b"hello", timeout=10) == b"hello"

        with meshed(server, entry(port, resolution=resolution, **spec)) as mesh:
            if face == "aio":
                anyio.run(cooperative)
            else:
                with meshlib.grpc.mesh_channel(f"svc.test:{port}", mesh) as channel:
                    assert channel.unary_unary("/test.Echo/Say")(b"hello", timeout=10) == b"hello"


def test_nobody_waits_longer_than_a_look_up_that_fails(server):
    server.zone[("svc.test", "A")] = server.zone[("svc.test", "AAAA")] = SERVFAIL
    with meshed(server, entry(1)) as mesh, MeshClient(mesh) as client:
        with pytest.raises(errors.ConnectFailure):
            client.get("http://svc.test:1/")  # by the name itself, which the system does not know either
        assert mesh.status().names[0]["error"]


def test_nobody_waits_longer_than_ready_timeout(server):
    server.zone[("svc.test", "A")] = server.zone[("svc.test", "AAAA")] = SILENT
    with meshed(server, entry(1), ready_timeout=0.2) as mesh, MeshClient(mesh) as client:
        mesh.wait_ready()
        with pytest.raises(errors.NotReady, match=r"DNS has not answered yet for svc\.test"):
            client.get("http://svc.test:1/")


def test_only_those_wait_whose_destination_is_not_known_yet(server):
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "shop"},
        "spec": {
            "hosts": ["svc.test"],
            "http": [
                {"match": [{"uri": {"prefix": "/slow"}}], "route": [{"destination": {"host": "slow.test"}}]},
                {"route": [{"destination": {"host": "svc.test"}}]},
            ],
        },
    }
    with peers(ONE) as (port, _):
        say(server, ONE)
        server.zone[("slow.test", "A")] = server.zone[("slow.test", "AAAA")] = SILENT
        objects = entry(port), entry(port, host="slow.test"), rule
        with meshed(server, *objects, ready_timeout=5.0) as mesh, MeshClient(mesh) as client:
            mesh._lookups.resolving._resolver._timeout = 60.0
            assert client.get(f"http://svc.test:{port}/").text == ONE
            assert any(row["name"] == "slow.test" and row["age"] is None for row in mesh.status().names)


def test_a_cluster_keeps_its_endpoints_until_the_names_that_replace_them_are_answered(server):
    """As Envoy warms a changed cluster: nobody waits, and nobody is sent to a name that is not known yet."""
    clock = ManualClock()
    with peers(ONE, TWO) as (port, _):
        say(server, ONE, ttl=3600, name="old.test")
        server.zone[("new.test", "A")] = server.zone[("new.test", "AAAA")] = SILENT
        from meshlib.providers import StaticProvider

        provider = StaticProvider(entry(port, "old.test"))
        with meshed(server, provider, clock=clock) as mesh, MeshClient(mesh) as client:
            url, cluster = f"http://svc.test:{port}/", f"outbound|{port}||svc.test"
            mesh._lookups.resolving._resolver._timeout = 60.0
            assert client.get(url).text == ONE
            provider.replace(entry(port, "new.test"))
            until(lambda: client.get(url).text == ONE and mesh.status().names[-1]["name"] == "new.test", 20.0)
            assert addresses(mesh, cluster) == [ONE]
            say(server, TWO, ttl=3600, name="new.test")
            until(lambda: addresses(mesh, cluster) == [TWO], 20.0)
            assert client.get(url).text == TWO


def test_the_command_asks_the_servers_that_it_is_told(server, tmp_path, monkeypatch):
    with peers(ONE) as (port, _):
        say(server, ONE)
        config = tmp_path / "svc.yaml"
        config.write_text(json.dumps(entry(port)))
        told = ["call", f"http://svc.test:{port}/", "--config", str(config)]
        for arguments in ([*told, "--nameservers", server.address], told):
            run = CliRunner().invoke(commands.meshlib, arguments)
            assert (run.exit_code, run.output.strip()) == (0, ONE)
            monkeypatch.setenv("MESHLIB_NAMESERVERS", server.address)
