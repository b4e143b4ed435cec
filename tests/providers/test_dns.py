"""A service that DNS alone knows of, against a real DNS server."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from meshlib import Mesh, MeshClient
from meshlib.dns.answers import Answer, LookupFailed, Target
from meshlib.dns.dnspython import DnsResolver
from meshlib.providers import DnsProvider
from tests.dns.peers import peers
from tests.dns.server import NXDOMAIN, SERVFAIL, SILENT, DnsServer
from tests.mesh.test_mesh import until

ONE, TWO = "127.0.0.1", "127.0.0.2"


@pytest.fixture
def server():
    with DnsServer() as running:
        yield running


def provider(server, service, **options):
    return DnsProvider(service, resolver=DnsResolver([server.address], timeout=0.3, hosts=None), refresh=0.2, **options)


def endpoints(mesh, cluster):
    return sorted((e.key, e.weight) for group in mesh.snapshot.assignment(cluster) for e in group.endpoints)


def test_the_addresses_of_a_name_serve_its_port_and_follow_dns(server):
    with peers(ONE, TWO) as (port, _):
        server.zone[("svc.test", "A")] = [(1, ONE)]
        with Mesh(provider(server, f"svc.test:{port}"), telemetry=False) as mesh, MeshClient(mesh) as client:
            assert client.get(f"http://svc.test:{port}/").text == ONE
            server.zone[("svc.test", "A")] = [(1, TWO)]
            until(lambda: client.get(f"http://svc.test:{port}/").text == TWO, 20.0)
            (status,) = mesh.status().providers
            assert (status["name"], status["state"], status["objects"]) == (f"dns:svc.test:{port}", "running", 1)


def test_srv_records_give_ports_and_weights_and_the_best_priority_counts(server):
    server.zone[("_http._tcp.svc.test", "SRV")] = [
        (1, "0 3 8081 a.test."),
        (1, "0 1 8082 b.test."),
        (1, "5 9 8083 c.test."),
    ]
    for name, address in (("a.test", "10.0.0.1"), ("b.test", "10.0.0.2"), ("c.test", "10.0.0.3")):
        server.zone[(name, "A")] = [(30, address)]
    with Mesh(provider(server, "svc.test", srv="_http._tcp.svc.test"), telemetry=False) as mesh:
        mesh.ready(["svc.test:80"])
        assert endpoints(mesh, "outbound|80||svc.test") == [("10.0.0.1:8081", 3), ("10.0.0.2:8082", 1)]
        server.zone[("_http._tcp.svc.test", "SRV")] = [(1, "5 9 8083 c.test.")]
        until(lambda: endpoints(mesh, "outbound|80||svc.test") == [("10.0.0.3:8083", 9)], 20.0)


def test_weights_decide_how_often_a_target_is_picked(server):
    with peers(ONE, TWO) as (port, _):
        server.zone[("_s.test", "SRV")] = [(30, f"0 3 {port} a.test."), (30, f"0 1 {port} b.test.")]
        server.zone[("a.test", "A")], server.zone[("b.test", "A")] = [(30, ONE)], [(30, TWO)]
        with Mesh(provider(server, "svc.test", srv="_s.test"), telemetry=False) as mesh, MeshClient(mesh) as client:
            mesh.ready(["svc.test:80"])
            rule = Counter(client.get("http://svc.test/").text for _ in range(200))
            assert rule[ONE] > rule[TWO] > 0


def test_targets_without_an_address_give_way_to_the_next_priority(server):
    server.zone[("_s.test", "SRV")] = [(30, "0 1 80 gone.test."), (30, "1 1 81 there.test.")]
    server.zone[("gone.test", "A")] = NXDOMAIN
    server.zone[("there.test", "A")] = [(30, "10.0.0.2")]
    with Mesh(provider(server, "svc.test", srv="_s.test"), telemetry=False) as mesh:
        mesh.ready(["svc.test:80"])
        assert endpoints(mesh, "outbound|80||svc.test") == [("10.0.0.2:81", 1)]


@pytest.mark.parametrize("trouble", [SERVFAIL, SILENT])
def test_what_is_known_stays_while_dns_is_in_trouble(server, trouble):
    server.zone[("svc.test", "A")] = [(1, "10.0.0.1")]
    with Mesh(provider(server, "svc.test"), telemetry=False) as mesh:
        mesh.ready(["svc.test:80"])
        server.zone[("svc.test", "A")] = trouble
        asked = server.count("svc.test")
        until(lambda: server.count("svc.test") > asked + 1, 20.0)
        assert endpoints(mesh, "outbound|80||svc.test") == [("10.0.0.1:80", 1)]
        server.zone[("svc.test", "A")] = [(1, "10.0.0.2")]
        until(lambda: endpoints(mesh, "outbound|80||svc.test") == [("10.0.0.2:80", 1)], 20.0)


class Scripted:
    """A resolver that answers by a table; a look-up that is not in it fails."""

    def __init__(self, **table):
        self.table = table

    async def addresses(self, name):
        await asyncio.sleep(0)
        if name not in self.table:
            raise LookupFailed(name)
        return Answer(self.table[name], 30.0)

    targets = addresses


def test_several_names_make_one_service_and_ports_have_a_default():
    resolver = Scripted(a=("10.0.0.1",), b=("10.0.0.2", "10.0.0.1"))
    with Mesh(DnsProvider("Svc.Test", name=["a", "b"], labels={"v": "1"}, resolver=resolver), telemetry=False) as mesh:
        mesh.ready(["svc.test:80"])
        found = [e for g in mesh.snapshot.assignment("outbound|80||svc.test") for e in g.endpoints]
        assert [(e.key, e.labels["v"]) for e in found] == [("10.0.0.1:80", "1"), ("10.0.0.2:80", "1")]


def test_a_target_that_is_an_address_needs_no_look_up():
    resolver = Scripted(_s=(Target("10.0.0.7", 9000),))
    with Mesh(DnsProvider("svc.test", srv="_s", resolver=resolver), telemetry=False) as mesh:
        mesh.ready(["svc.test:80"])
        assert endpoints(mesh, "outbound|80||svc.test") == [("10.0.0.7:9000", 1)]


def test_a_resolver_that_breaks_is_a_failed_look_up():
    class Broken(Scripted):
        async def addresses(self, name):
            await asyncio.sleep(0)
            raise RuntimeError("boom")

    made = DnsProvider("svc.test", name=["a"], resolver=Broken())
    with Mesh(made, telemetry=False, ready_timeout=0.3) as mesh:
        mesh.start()
        until(lambda: made._names.rows(0.0) and "boom" in made._names.rows(0.0)[0]["error"])


def test_a_port_that_is_none_is_refused_at_once():
    with pytest.raises(ValueError, match="http"):
        DnsProvider("svc.test:http")
