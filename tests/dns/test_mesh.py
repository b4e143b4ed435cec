"""Names of ServiceEntries over a real DNS server and real peers: every address an endpoint, nothing lost meanwhile."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from meshlib import Mesh, MeshClient, errors
from meshlib.testing import ManualClock
from tests.dns.peers import peers
from tests.dns.server import GARBAGE, NXDOMAIN, SERVFAIL, SILENT, DnsServer
from tests.mesh.test_mesh import until

ONE, TWO, THREE = "127.0.0.1", "127.0.0.2", "127.0.0.3"


def entry(port, *names, host="svc.test", resolution="DNS", **spec):
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": host.replace(".", "-")},
        "spec": {
            "hosts": [host],
            "ports": [{"number": port, "name": "http", "protocol": "HTTP"}],
            "resolution": resolution,
            **({"endpoints": [{"address": name} for name in names]} if names else {}),
            **spec,
        },
    }


@pytest.fixture
def server():
    with DnsServer() as running:
        yield running


@pytest.fixture
def world(server):
    """Three peers; the name stands for the first two."""
    with peers(ONE, TWO, THREE) as (port, running):
        say(server, ONE, TWO)
        yield port, running


def say(server, *addresses, ttl=1, name="svc.test"):
    server.zone[(name, "A")] = [(ttl, address) for address in addresses if ":" not in address]
    server.zone[(name, "AAAA")] = [(ttl, address) for address in addresses if ":" in address]


def meshed(server, *objects, **options):
    mesh = Mesh(*objects, nameservers=[server.address], telemetry=False, **options)
    mesh._lookups.resolving._resolver._timeout = 0.7  # of one look-up; 5 s by default
    return mesh


def addresses(mesh, cluster):
    return sorted(each.address for group in mesh.snapshot.assignment(cluster) for each in group.endpoints)


def test_every_address_is_an_endpoint_and_a_change_reaches_the_next_picks(server, world):
    port, _ = world
    url = f"http://svc.test:{port}/"
    with meshed(server, entry(port)) as mesh, MeshClient(mesh) as client:
        mesh.ready([f"svc.test:{port}"])
        assert Counter(client.get(url).text for _ in range(40)).keys() == {ONE, TWO}
        snapshot = mesh.snapshot
        say(server, TWO, THREE)
        until(lambda: {client.get(url).text for _ in range(6)} == {TWO, THREE}, 20.0)
        assert mesh.snapshot.routing is snapshot.routing, "the short way"
        (row,) = mesh.status().names
        assert (row["name"], row["kind"], sorted(row["values"]), row["error"]) == (
            "svc.test",
            "ADDRESS",
            [TWO, THREE],
            "",
        )
        json.dumps(mesh.status().to_dict())


@pytest.mark.parametrize("trouble", [SERVFAIL, SILENT, GARBAGE, NXDOMAIN])
def test_no_request_fails_while_dns_is_in_trouble_and_the_next_good_answer_counts(server, world, trouble):
    port, _ = world
    url, clock = f"http://svc.test:{port}/", ManualClock()

    def later(seconds):
        """Time passes; what is due is asked for."""
        clock.advance(seconds)
        mesh._lookups.resolving.wake()

    with meshed(server, entry(port), clock=clock) as mesh, MeshClient(mesh) as client:
        mesh.ready([f"svc.test:{port}"])
        server.zone[("svc.test", "A")] = server.zone[("svc.test", "AAAA")] = trouble
        for _ in range(1 if trouble == NXDOMAIN else 3):  # a second NXDOMAIN would be believed, and rightly
            asked = server.count("svc.test")
            later(70.0)
            until(lambda asked=asked: server.count("svc.test") > asked, 20.0)
            assert {client.get(url).text for _ in range(20)} == {ONE, TWO}
            until(lambda: mesh.status().names[0]["due_in"] is not None, 20.0)
        say(server, THREE)
        later(70.0)
        until(lambda: {client.get(url).text for _ in range(4)} == {THREE}, 20.0)


def test_only_names_of_clusters_in_use_are_looked_up_and_only_once_for_all_of_them(server, world):
    port, _ = world
    others = [entry(port, f"other{n}.test", host=f"other{n}.test") for n in range(5)]
    shared = entry(port, "svc.test", host="alias.test")
    with meshed(server, entry(port), shared, *others) as mesh, MeshClient(mesh) as client:
        mesh.ready([f"svc.test:{port}", f"alias.test:{port}"])
        assert client.get(f"http://alias.test:{port}/").text in (ONE, TWO)
        assert {name for name, _, _ in server.asked} == {"svc.test"}
        assert len(mesh.status().names) == 1


def test_names_and_addresses_of_several_endpoints_are_united_with_their_labels(server, world):
    port, _ = world
    say(server, TWO, THREE, name="more.test")
    rows = [
        {"address": "svc.test", "labels": {"v": "a"}},
        {"address": "more.test", "weight": 3},
        {"address": "127.0.0.9"},
    ]
    with meshed(server, entry(port, endpoints=rows)) as mesh:
        mesh.ready([f"svc.test:{port}"])
        found = [e for g in mesh.snapshot.assignment(f"outbound|{port}||svc.test") for e in g.endpoints]
        assert [(e.address, e.weight, e.labels.get("v")) for e in found] == [
            (ONE, 1, "a"),
            (TWO, 1, "a"),
            (THREE, 3, None),
            ("127.0.0.9", 1, None),
        ]


def test_both_families_are_endpoints(server):
    with peers(ONE, "::1") as (port, _):
        say(server, ONE, "::1")
        with meshed(server, entry(port)) as mesh, MeshClient(mesh) as client:
            mesh.ready([f"svc.test:{port}"])
            assert {client.get(f"http://svc.test:{port}/").text for _ in range(20)} == {ONE, "::1"}


def test_who_cannot_connect_has_the_name_asked_about_before_its_time(server, world):
    port, running = world
    url, clock = f"http://svc.test:{port}/", ManualClock()
    say(server, ONE, ttl=3600)
    with meshed(server, entry(port), clock=clock) as mesh, MeshClient(mesh) as client:
        mesh.ready([f"svc.test:{port}"])
        assert client.get(url).text == ONE
        running.pop(ONE).stop()
        mesh.blocking.retire({(ONE, port)})  # the server's connections went with it
        say(server, THREE, ttl=3600)
        clock.advance(60.0)
        with pytest.raises(errors.ConnectFailure):
            client.get(url)
        until(lambda: addresses(mesh, f"outbound|{port}||svc.test") == [THREE], 20.0)
        assert client.get(url).text == THREE


def test_an_emptied_name_keeps_its_endpoints_until_it_is_confirmed(server, world):
    port, _ = world
    clock = ManualClock()
    with meshed(server, entry(port), clock=clock) as mesh:
        mesh.ready([f"svc.test:{port}"])
        say(server)
        clock.advance(2.0)
        mesh._lookups.resolving.wake()
        until(lambda: mesh.status().names[0]["held_empty"], 20.0)
        assert addresses(mesh, f"outbound|{port}||svc.test") == [ONE, TWO]
        clock.advance(6.0)
        mesh._lookups.resolving.wake()
        until(lambda: addresses(mesh, f"outbound|{port}||svc.test") == [], 20.0)


def test_counters_of_an_address_that_left_and_came_back_are_kept(server, world):
    port, _ = world
    with meshed(server, entry(port)) as mesh, MeshClient(mesh) as client:
        mesh.ready([f"svc.test:{port}"])
        client.get(f"http://svc.test:{port}/")
        cluster = f"outbound|{port}||svc.test"
        before = mesh.state.cluster(cluster).endpoints[f"{TWO}:{port}"]
        say(server, ONE)
        until(lambda: addresses(mesh, cluster) == [ONE], 20.0)
        say(server, TWO, ONE)
        until(lambda: addresses(mesh, cluster) == [ONE, TWO], 20.0)
        assert mesh.state.cluster(cluster).endpoints[f"{TWO}:{port}"] is before


def test_ready_waits_for_names_and_says_when_they_do_not_come(server, world):
    port, _ = world
    server.zone[("svc.test", "A")] = server.zone[("svc.test", "AAAA")] = SILENT
    with meshed(server, entry(port)) as mesh, pytest.raises(errors.NotReady, match=f"no endpoints for svc.test:{port}"):
        mesh.ready([f"svc.test:{port}"], timeout=0.3)
