"""etcd, the real one: objects and instances, followed across leases, compaction, restarts, silence and nonsense."""

from __future__ import annotations

import time

import pytest
import trustme

from meshlib import Mesh, MeshClient
from meshlib.errors import ConfigError
from meshlib.providers import EtcdProvider, EtcdRegistration
from tests.mesh.test_mesh import ROUTE, status_of, until
from tests.providers.etcd_server import ABSENT, ETCD, EtcdServer, Wire
from tests.providers.test_consul import seen, troubles

pytestmark = pytest.mark.skipif(ETCD is None, reason=ABSENT)

FAST = {"idle": 1.0, "timeout": 1.0, "lease": 30.0}
CONFIG, SERVICES = "/meshlib/config/", "/meshlib/services/"


@pytest.fixture(scope="module")
def shared():
    server = EtcdServer()
    yield server
    server.close()


@pytest.fixture
def etcd(shared):
    """The server that all tests share, empty."""
    shared.ask("/v3/kv/deleterange", {"key": "AA==", "range_end": "AA=="})
    return shared


@pytest.fixture
def own():
    """Makes servers that a test may do anything to."""
    made = []

    def make(*args, **kwargs):
        made.append(EtcdServer(*args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def wire_to():
    made = []

    def make(etcd):
        made.append(Wire(etcd.port))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def mesh_of():
    made = []

    def make(*urls, **options):
        made.append(Mesh(EtcdProvider(*urls, **{**FAST, **options}), telemetry=False))
        made[-1].ready(timeout=20)
        return made[-1]

    yield make
    for each in made:
        each.close()


def instance(number=1, **more):
    return {"address": f"10.0.0.{number}", "port": 8080, **more}


def test_objects_and_instances_are_followed(etcd, mesh_of, echo):
    one = echo("one")
    etcd.put(f"{CONFIG}a", ROUTE.format(name="a", status=201))
    etcd.put(f"{SERVICES}web/1", {"address": "127.0.0.1", "port": one.port, "labels": {"version": "v1"}})
    mesh = mesh_of(etcd.url)
    with MeshClient(mesh) as client:
        assert client.get("http://web.etcd/").json()["name"] == "one"
        assert client.get("http://a/").status_code == 201
    etcd.put(f"{CONFIG}a", ROUTE.format(name="a", status=202))
    until(lambda: status_of(mesh, "a") == 202)
    etcd.put(f"{SERVICES}web/2", instance(2))
    until(lambda: len(seen(mesh, "web.etcd")) == 2)
    etcd.delete(f"{SERVICES}web/1")
    until(lambda: seen(mesh, "web.etcd") == ["10.0.0.2:8080"])
    etcd.delete(f"{SERVICES}web/2")
    until(lambda: seen(mesh, "web.etcd") == [])
    etcd.delete(f"{CONFIG}a")
    until(lambda: status_of(mesh, "a") is None)


def test_a_bad_value_is_told_with_its_key_and_hurts_nothing_else(etcd, mesh_of):
    etcd.put(f"{CONFIG}a", ROUTE.format(name="a", status=201))
    etcd.put(f"{SERVICES}web/1", instance())
    mesh = mesh_of(etcd.url)
    etcd.put(f"{CONFIG}a", "kind: [")
    etcd.put(f"{SERVICES}web/2", {"address": "10.0.0.2", "port": "http"})
    etcd.put(f"{SERVICES}lonely", instance())
    until(lambda: len(mesh.problems) == 3)
    assert {problem.file.partition("/meshlib")[2] for problem in mesh.problems} == {
        "/config/a",
        "/services/web/2",
        "/services/lonely",
    }
    assert (status_of(mesh, "a"), seen(mesh, "web.etcd")) == (201, ["10.0.0.1:8080"])


def test_many_keys_come_in_pages(etcd, mesh_of):
    etcd.put_all(
        {
            f"{SERVICES}web/{number}": f'{{"address": "10.1.{number // 250}.{number % 250}", "port": 1}}'
            for number in range(2100)
        }
    )
    mesh = mesh_of(etcd.url)
    assert len(seen(mesh, "web.etcd")) == 2100


def test_an_instance_whose_lease_ends_is_gone(etcd, mesh_of):
    etcd.put(f"{SERVICES}web/1", instance(), lease=etcd.grant(1))
    mesh = mesh_of(etcd.url)
    assert seen(mesh, "web.etcd") == ["10.0.0.1:8080"]
    until(lambda: seen(mesh, "web.etcd") == [], 20)


def test_a_registration_outlives_its_lease_and_ends_with_its_block(etcd, mesh_of):
    mesh = mesh_of(etcd.url)
    with EtcdRegistration("web", "10.0.0.7", 80, urls=(etcd.url,), ttl=1) as registration:
        assert registration.wait(20)
        until(lambda: seen(mesh, "web.etcd") == ["10.0.0.7:80"])
        began = time.monotonic()
        while time.monotonic() < began + 2.5:
            assert seen(mesh, "web.etcd") == ["10.0.0.7:80"]
            time.sleep(0.02)
    until(lambda: seen(mesh, "web.etcd") == [])


def test_a_registration_that_etcd_forgot_is_made_anew(etcd, mesh_of):
    with EtcdRegistration("web", "10.0.0.7", 80, urls=(etcd.url,), ttl=2) as registration:
        assert registration.wait(20)
        mesh = mesh_of(etcd.url)
        for lease in etcd.ask("/v3/lease/leases", {})["leases"]:
            etcd.ask("/v3/lease/revoke", lease)
        until(lambda: seen(mesh, "web.etcd") == [])
        until(lambda: seen(mesh, "web.etcd") == ["10.0.0.7:80"])


@pytest.mark.parametrize("change", [{"address": "a b"}, {"port": 0}, {"protocol": "gopher"}, {"weight": -1}])
def test_a_registration_that_nobody_could_read_is_refused_at_once(change):
    with pytest.raises(ConfigError):
        EtcdRegistration("web", **{"address": "10.0.0.1", "port": 80, **change})


# Faults -------------------------------------------------------------------------------------------------------------


def test_a_change_during_a_broken_connection_is_not_missed(etcd, wire_to, mesh_of):
    etcd.put(f"{SERVICES}web/1", instance())
    wire = wire_to(etcd)
    mesh = mesh_of(wire.url)
    wire.accepts = False
    wire.cut()
    etcd.delete(f"{SERVICES}web/1")
    etcd.put(f"{SERVICES}web/2", instance(2))
    until(lambda: troubles(mesh))
    assert seen(mesh, "web.etcd") == ["10.0.0.1:8080"]
    wire.accepts = True
    wire.cut()
    until(lambda: seen(mesh, "web.etcd") == ["10.0.0.2:8080"] and not troubles(mesh), 30)


def test_history_that_was_compacted_meanwhile_is_listed_anew(etcd, wire_to, mesh_of):
    for number in (1, 2):
        etcd.put(f"{SERVICES}web/{number}", instance(number))
    wire = wire_to(etcd)
    mesh = mesh_of(wire.url)
    wire.accepts = False
    wire.cut()
    etcd.delete(f"{SERVICES}web/1")
    etcd.put(f"{SERVICES}web/3", instance(3))
    etcd.compact()
    wire.accepts = True
    wire.cut()
    until(lambda: seen(mesh, "web.etcd") == ["10.0.0.2:8080", "10.0.0.3:8080"], 30)


def test_connections_that_are_dead_without_a_word_are_replaced(etcd, wire_to, mesh_of):
    etcd.put(f"{SERVICES}web/1", instance())
    wire = wire_to(etcd)
    mesh = mesh_of(wire.url)
    wire.freeze_old()
    etcd.put(f"{SERVICES}web/1", instance(2))
    until(lambda: seen(mesh, "web.etcd") == ["10.0.0.2:8080"], 30)


def test_a_network_that_is_silent_is_told_and_over_when_it_is_over(etcd, wire_to, mesh_of):
    etcd.put(f"{SERVICES}web/1", instance())
    wire = wire_to(etcd)
    mesh = mesh_of(wire.url)
    wire.frozen = True
    until(lambda: troubles(mesh), 20)
    assert seen(mesh, "web.etcd") == ["10.0.0.1:8080"]
    assert mesh.status().providers[0]["silent"] > 0.9
    etcd.put(f"{SERVICES}web/1", instance(2))
    wire.frozen = False
    until(lambda: seen(mesh, "web.etcd") == ["10.0.0.2:8080"] and not troubles(mesh), 30)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
NONSENSE = {
    "no HTTP": [b"\x00\xff\x13\x37"],
    "no JSON": [HEAD + b"Content-Length: 9\r\n\r\n<html>&&&"],
    "a list": [HEAD + b"Content-Length: 2\r\n\r\n[]"],
    "another shape": [HEAD + b'Content-Length: 25\r\n\r\n{"header":7,"kvs":{"a":1}}'],
    "half": [HEAD + b'Content-Length: 90\r\n\r\n{"header":{'],
    "a drip": [HEAD + b"Content-Length: 9000\r\n\r\n", *[b"{"] * 40],
    "500": [b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"],
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_costs_no_endpoint_and_is_over_when_it_is_over(etcd, wire_to, mesh_of, kind):
    etcd.put(f"{SERVICES}web/1", instance())
    wire = wire_to(etcd)
    mesh = mesh_of(wire.url)
    wire.nonsense, opened = NONSENSE[kind], wire.opened
    wire.cut()
    until(lambda: wire.opened > opened + 1 and troubles(mesh))
    assert seen(mesh, "web.etcd") == ["10.0.0.1:8080"]
    wire.nonsense = None
    etcd.put(f"{SERVICES}web/1", instance(2))
    until(lambda: seen(mesh, "web.etcd") == ["10.0.0.2:8080"] and not troubles(mesh), 30)


def test_a_server_that_is_restarted_is_followed_on(own, mesh_of):
    etcd = own()
    etcd.put(f"{SERVICES}web/1", instance())
    mesh = mesh_of(etcd.url)
    etcd.stop()
    until(lambda: troubles(mesh))
    assert seen(mesh, "web.etcd") == ["10.0.0.1:8080"]
    etcd.start()
    etcd.put(f"{SERVICES}web/1", instance(2))
    until(lambda: seen(mesh, "web.etcd") == ["10.0.0.2:8080"] and not troubles(mesh), 30)


def test_what_a_server_lost_is_held_until_it_is_announced_again_or_the_lease_ends(own, mesh_of):
    etcd = own()
    for number in (1, 2):
        etcd.put(f"{SERVICES}web/{number}", instance(number))
        etcd.put(f"{SERVICES}other/{number}", instance(number))
    etcd.put(f"{CONFIG}a", ROUTE.format(name="a", status=201))
    mesh = mesh_of(etcd.url, lease=3.0)
    etcd.stop()
    etcd.start("other")
    until(lambda: any("registry: etcd lost its history" in words for words in troubles(mesh)), 30)
    etcd.put(f"{SERVICES}web/1", instance(9))
    until(lambda: seen(mesh, "web.etcd") == ["10.0.0.2:8080", "10.0.0.9:8080"], 30)
    assert seen(mesh, "other.etcd") == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert status_of(mesh, "a") == 201
    until(lambda: seen(mesh, "web.etcd") == ["10.0.0.9:8080"] and seen(mesh, "other.etcd") == [], 30)
    until(lambda: status_of(mesh, "a") is None and not troubles(mesh))


def test_users_are_authenticated_again_when_their_token_is_not_known_any_more(own, mesh_of):
    etcd = own()
    etcd.put(f"{SERVICES}web/1", instance())
    for path, message in (
        ("/v3/auth/user/add", {"name": "root", "password": "r"}),
        ("/v3/auth/role/add", {"name": "root"}),
        ("/v3/auth/user/grant", {"user": "root", "role": "root"}),
        ("/v3/auth/enable", {}),
    ):
        etcd.ask(path, message)
    mesh = mesh_of(etcd.url, user="root", password="r")
    etcd.stop()  # simple tokens live in its memory
    etcd.start()
    etcd.token = etcd.ask("/v3/auth/authenticate", {"name": "root", "password": "r"})["token"]
    etcd.put(f"{SERVICES}web/1", instance(2))
    until(lambda: seen(mesh, "web.etcd") == ["10.0.0.2:8080"] and not troubles(mesh), 30)
    with Mesh(EtcdProvider(etcd.url, user="root", password="wrong", **FAST), telemetry=False) as stranger:
        stranger.start()
        until(lambda: "authentication failed" in stranger.status().providers[0]["error"])


def test_both_sides_show_certificates(own, mesh_of, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca"))
    for name in ("localhost", "me"):
        issued = authority.issue_cert(name, "127.0.0.1")
        issued.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
    flags = [f"--cert-file={tmp_path / 'localhost.pem'}", f"--key-file={tmp_path / 'localhost.key'}"]
    etcd = own(*flags, "--client-cert-auth", f"--trusted-ca-file={tmp_path / 'ca'}", scheme="https")
    mine = {"ca": str(tmp_path / "ca"), "certificate": str(tmp_path / "me.pem"), "key": str(tmp_path / "me.key")}
    mesh = mesh_of(etcd.url, **mine)
    with EtcdRegistration("web", "10.0.0.7", 80, urls=(etcd.url,), **mine):
        until(lambda: seen(mesh, "web.etcd") == ["10.0.0.7:80"])


def test_another_server_is_asked_where_one_is_gone(etcd, mesh_of, unused_tcp_port):
    etcd.put(f"{SERVICES}web/1", instance())
    mesh = mesh_of(f"http://127.0.0.1:{unused_tcp_port}", etcd.url)
    etcd.put(f"{SERVICES}web/1", instance(2))
    until(lambda: seen(mesh, "web.etcd") == ["10.0.0.2:8080"])


@pytest.fixture
def unused_tcp_port():
    from tests.providers.etcd_server import free_port

    return free_port()


def test_ten_thousand_flaps_end_in_the_truth(etcd, mesh_of):
    mesh = mesh_of(etcd.url)
    for round_ in range(80):
        etcd.put_all(
            {f"{SERVICES}web/{number}": f'{{"address": "10.{round_}.0.{number}", "port": 1}}' for number in range(125)}
        )
    expected = sorted(f"10.79.0.{number}:1" for number in range(125))
    until(lambda: seen(mesh, "web.etcd") == expected, 30)
    assert mesh.snapshot.version < 2_000


def test_the_same_value_again_publishes_nothing(etcd, mesh_of):
    etcd.put(f"{SERVICES}web/1", instance())
    mesh = mesh_of(etcd.url)
    version = mesh.snapshot.version
    for _ in range(20):
        etcd.put(f"{SERVICES}web/1", instance())
    etcd.put(f"{SERVICES}web/2", instance(2))
    until(lambda: len(seen(mesh, "web.etcd")) == 2)
    assert mesh.snapshot.version == version + 1
