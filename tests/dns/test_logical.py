"""Names that stay one endpoint (DNS_ROUND_ROBIN, RACE_FIRST_TCP_CONNECT): each connection by the last answer."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import anyio
import grpc
import pytest

import meshlib.grpc
from meshlib import AsyncMeshClient, MeshClient, errors
from meshlib.grpc.subchannels import Key, dialled
from meshlib.testing import ManualClock
from tests.dns.peers import peers
from tests.dns.server import NXDOMAIN, SERVFAIL, SILENT, DnsServer
from tests.dns.test_mesh import ONE, THREE, TWO, addresses, entry, meshed, say
from tests.mesh.test_mesh import until

RACING = {"istio.io/connect-strategy": "RACE_FIRST_TCP_CONNECT"}


def round_robin(port, **spec):
    return entry(port, resolution="DNS_ROUND_ROBIN", **spec)


def racing(port):
    made = entry(port)
    made["metadata"]["annotations"] = RACING
    return made


@pytest.fixture
def server():
    with DnsServer() as running:
        yield running


def cut(mesh, port):
    """End the connections that are kept, so that the next request makes one."""
    mesh.blocking.retire({("svc.test", port)})


def later(mesh, clock, seconds):
    """Time passes; what is due is asked for."""
    clock.advance(seconds)
    mesh._lookups.resolving.wake()


@pytest.mark.parametrize("make", [round_robin, racing])
def test_a_name_is_one_endpoint_and_a_new_connection_goes_where_it_leads_now(server, make):
    clock = ManualClock()
    with peers(ONE, TWO) as (port, _):
        say(server, ONE, ttl=30)
        url, cluster = f"http://svc.test:{port}/", f"outbound|{port}||svc.test"
        with meshed(server, make(port), clock=clock) as mesh, MeshClient(mesh) as client:
            assert client.get(url).text == ONE
            assert addresses(mesh, cluster) == ["svc.test"]
            say(server, TWO, ttl=30)
            later(mesh, clock, 40.0)
            until(lambda: mesh.lookup("svc.test") == (TWO,), 20.0)
            assert client.get(url).text == ONE, "the connection that stands is kept (Envoy)"
            cut(mesh, port)
            assert client.get(url).text == TWO
            assert addresses(mesh, cluster) == ["svc.test"]


def test_connections_go_by_the_order_of_the_last_answer(server):
    clock = ManualClock()
    with peers(ONE, TWO, THREE) as (port, _):
        say(server, ONE, TWO, THREE, ttl=30)
        with meshed(server, round_robin(port), clock=clock) as mesh, MeshClient(mesh) as client:
            seen = []
            for order in ((ONE, TWO, THREE), (TWO, THREE, ONE), (THREE, ONE, TWO)):
                say(server, *order, ttl=30)
                later(mesh, clock, 40.0)
                seen.append(client.get(f"http://svc.test:{port}/").text)
                until(lambda order=order: mesh.lookup("svc.test") == order, 20.0)
                cut(mesh, port)
                seen[-1] = client.get(f"http://svc.test:{port}/").text
            assert seen == [ONE, TWO, THREE]


@pytest.mark.parametrize("trouble", [SERVFAIL, SILENT, NXDOMAIN])
def test_the_last_good_answer_leads_on_while_dns_is_in_trouble(server, trouble):
    clock = ManualClock()
    with peers(ONE) as (port, _):
        say(server, ONE, ttl=30)
        with meshed(server, round_robin(port), clock=clock) as mesh, MeshClient(mesh) as client:
            assert client.get(f"http://svc.test:{port}/").text == ONE
            server.zone[("svc.test", "A")] = server.zone[("svc.test", "AAAA")] = trouble
            asked = server.count("svc.test")
            later(mesh, clock, 40.0)
            until(lambda: server.count("svc.test") > asked and mesh.status().names[0]["due_in"] is not None, 20.0)
            cut(mesh, port)
            assert client.get(f"http://svc.test:{port}/").text == ONE


@pytest.mark.parametrize("face", ["threads", "asyncio", "trio", "raw", "raw asyncio", "raw trio"])
def test_an_address_that_refuses_is_passed_over_whatever_its_ip_version(server, face):
    with peers(TWO) as (port, _):
        server.zone[("svc.test", "A")] = [(60, "127.0.0.4"), (60, TWO)]  # nobody listens at the first
        server.zone[("svc.test", "AAAA")] = [(60, "::1")]
        url = f"http://svc.test:{port}/"

        async def requests():
            async with AsyncMeshClient(mesh) as client:
                assert (await client.get(url)).text == TWO

        async def connects():
            async with await mesh.aopen_tcp("svc.test", port) as stream:
                assert stream.extra(anyio.abc.SocketAttribute.remote_address)[0] == TWO

        with meshed(server, racing(port)) as mesh:
            mesh._lookups.resolving._resolver._families = frozenset({4, 6})
            if face == "threads":
                with MeshClient(mesh) as client:
                    assert client.get(url).text == TWO
            elif face == "raw":
                with mesh.open_tcp("svc.test", port) as sock:
                    assert sock.getpeername() == (TWO, port)
            else:
                anyio.run(connects if face.startswith("raw") else requests, backend=face.removeprefix("raw "))


def test_a_name_that_nobody_can_be_reached_by_is_asked_about_before_its_time(server):
    clock = ManualClock()
    with peers(ONE, TWO) as (port, running):
        say(server, ONE, ttl=3600)
        with meshed(server, round_robin(port), clock=clock) as mesh, MeshClient(mesh) as client:
            assert client.get(f"http://svc.test:{port}/").text == ONE
            running.pop(ONE).stop()
            cut(mesh, port)
            say(server, TWO, ttl=3600)
            clock.advance(60.0)
            with pytest.raises(errors.ConnectFailure):
                client.get(f"http://svc.test:{port}/")
            until(lambda: mesh.lookup("svc.test") == (TWO,), 20.0)
            assert client.get(f"http://svc.test:{port}/").text == TWO


class Named(grpc.GenericRpcHandler):
    """Says which address it was reached at."""

    def __init__(self, address):
        self.address = address

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: json.dumps(self.address).encode())


def test_an_rpc_goes_where_the_name_leads_once_none_of_its_old_addresses_is_left(server):
    clock, servers, port = ManualClock(), [], 0
    for address in (ONE, TWO):
        running = grpc.server(ThreadPoolExecutor(2), handlers=[Named(address)])
        port = running.add_insecure_port(f"{address}:{port}")
        running.start()
        servers.append(running)
    say(server, ONE, ttl=30)
    spec = {"ports": [{"number": port, "name": "grpc", "protocol": "GRPC"}]}
    try:
        with (
            meshed(server, round_robin(port, **spec), clock=clock) as mesh,
            meshlib.grpc.mesh_channel(f"svc.test:{port}", mesh) as channel,
        ):
            call = channel.unary_unary("/test.Echo/Say")
            assert json.loads(call(b"", timeout=10)) == ONE
            for answer, reached in (((TWO, ONE), ONE), ((TWO,), TWO)):
                say(server, *answer, ttl=30)
                later(mesh, clock, 40.0)
                until(lambda answer=answer: mesh.lookup("svc.test") == answer, 20.0)
                assert json.loads(call(b"", timeout=10)) == reached
    finally:
        for running in servers:
            running.stop(None).wait(5.0)


def test_addresses_of_a_channel_are_named_as_grpcio_wants_them():
    key = Key("svc.test", 80, "svc.test", None, (), ("10.0.0.1", "fd00::1", "10.0.0.2"))
    assert dialled(key) == "ipv4:10.0.0.1:80,10.0.0.2:80"
    assert dialled(key._replace(addresses=("fd00::1", "10.0.0.2", "fd00::2"))) == "ipv6:[fd00::1]:80,[fd00::2]:80"
    assert dialled(key._replace(addresses=())) == "dns:///svc.test:80"
    assert dialled(key._replace(addresses=(), address="fd00::1")) == "ipv6:[fd00::1]:80"
