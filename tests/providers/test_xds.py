"""The provider against a control plane in another process, over real sockets."""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("envoy.service.discovery.v3")
pytest.importorskip("grpc")

from meshlib import AsyncMeshClient, Mesh, MeshClient, errors
from meshlib.model.snapshot import Client as Caller
from meshlib.providers import StaticProvider, XdsProvider
from meshlib.xds.ads.kinds import Kind
from tests.xds.planes import ControlPlane
from tests.xds.resources import (
    api_listener,
    cluster,
    endpoints,
    packed,
    routes,
    socket_listener,
    table,
    tcp_listener,
)

SIDECAR = "sidecar~127.0.0.1~web-1.shop~shop.svc.cluster.local"
HOST = "reviews.shop.svc.cluster.local"
NAME = f"outbound|9080||{HOST}"
QUICK = (0.3, 0.3)
PROTOCOLS = pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    with ControlPlane() as made:
        yield made


def sidecar_set(*ports: int, name: str = NAME) -> list[Any]:
    domains = dict.fromkeys((HOST, "reviews", "reviews.shop"), name)
    return [
        cluster(name),
        endpoints(name, *ports),
        socket_listener("0.0.0.0_9080", 9080, "9080"),
        table("9080", domains, ignore_ports=True),
    ]


def grpc_set(*ports: int, name: str = NAME, target: str = "reviews:9080") -> list[Any]:
    """As istiod's proxyless generator: the listener has the name that was asked for, the table the service's."""
    domains = {HOST: name, f"{HOST}:9080": name}
    return [cluster(name), endpoints(name, *ports), api_listener(target, NAME), table(NAME, domains)]


def until(holds: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for something that another process brings about."""
    ends = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.005)
    return found


def goes_to(mesh: Mesh, url: str = "http://reviews:9080/") -> list[str]:
    return [each for to in mesh.explain("GET", url).destinations for each in to.endpoints]


def at(*ports: int) -> list[str]:
    return [f"127.0.0.1:{port}" for port in ports]


@PROTOCOLS
def test_calls_follow_what_a_sidecar_would_get(plane, echo, delta):
    one, two = echo("one"), echo("two")
    plane.serve(*sidecar_set(one.port))
    with Mesh(XdsProvider(plane.bootstrap(id=SIDECAR), delta=delta)) as mesh, MeshClient(mesh) as client:
        assert client.get("http://reviews:9080/").json()["name"] == "one"
        plane.patch(endpoints(NAME, two.port))
        until(lambda: client.get("http://reviews:9080/").json()["name"] == "two")
        assert mesh.status().providers[0]["state"] == "running"
        assert mesh.problems == ()


@PROTOCOLS
def test_a_host_of_proxyless_grpc_is_asked_for_when_it_is_called_first(plane, echo, delta):
    plane.serve(*grpc_set(echo("one").port))
    provider = XdsProvider(plane.bootstrap(id=SIDECAR, metadata={"GENERATOR": "grpc"}), delta=delta)

    async def call() -> dict[str, Any]:
        async with Mesh(provider) as mesh, AsyncMeshClient(mesh) as client:
            return (await client.get("http://reviews:9080/")).json()

    answer = asyncio.run(call())
    assert (answer["name"], answer["headers"]["host"]) == ("one", "reviews:9080")
    asked = [each.get("resource_names") or each.get("resource_names_subscribe") for each in plane.requests()]
    assert ["reviews:9080"] in asked


def test_the_first_call_to_a_host_waits_on_the_blocking_path_too(plane, echo):
    plane.serve(*grpc_set(echo("one").port))
    provider = XdsProvider(plane.bootstrap(id=SIDECAR, metadata={"GENERATOR": "grpc"}))
    with Mesh(provider) as mesh, MeshClient(mesh) as client:
        assert client.get("http://reviews:9080/").json()["name"] == "one"


def test_a_host_that_is_not_answered_for_in_time_is_not_ready(plane):
    provider = XdsProvider(plane.bootstrap(id=SIDECAR, metadata={"GENERATOR": "grpc"}))
    told = pytest.raises(errors.NotReady, match="has not answered yet what it knows of nowhere:80")
    with Mesh(provider, ready_timeout=0.3) as mesh, MeshClient(mesh) as client, told:
        client.get("http://nowhere/")


def test_hosts_may_be_asked_for_at_the_start(plane):
    plane.serve(*grpc_set(7))
    provider = XdsProvider(plane.bootstrap(), hosts=["reviews:9080"], on_demand=())
    with Mesh(provider, namespace="shop") as mesh:
        mesh.ready()
        assert mesh.snapshot.source.listing()


def test_objects_stand_over_what_a_control_plane_sends(plane):
    plane.serve(*sidecar_set(1))
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "own"},
        "spec": {
            "hosts": [HOST],
            "ports": [{"number": 9080, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [{"address": "10.0.0.9"}],
        },
    }
    with Mesh(XdsProvider(plane.bootstrap(id=SIDECAR)), StaticProvider(entry), namespace="shop") as mesh:
        mesh.ready()
        until(lambda: goes_to(mesh, f"http://{HOST}:9080/") == ["10.0.0.9:9080"])


@PROTOCOLS
def test_a_stream_that_ends_politely_is_begun_again_with_all_names_and_misses_nothing(plane, delta):
    plane.serve(*sidecar_set(1))
    with Mesh(XdsProvider(plane.bootstrap(id=SIDECAR), delta=delta)) as mesh:
        mesh.ready()
        plane.requests()
        plane.end_streams()
        plane.serve(endpoints(NAME, 2))
        until(lambda: goes_to(mesh) == at(2))
        asked = {each["type_url"]: each for each in reversed(plane.requests()) if "type_url" in each}
        known = asked[Kind.CLUSTER.url]
        assert known.get("version_info") == "1" or known.get("initial_resource_versions") == {NAME: "1"}


@PROTOCOLS
def test_a_server_that_falls_silent_is_left_and_calls_go_on(plane, echo, delta):
    plane.serve(*sidecar_set(echo("one").port))
    provider = XdsProvider(plane.bootstrap(id=SIDECAR), delta=delta, keepalive=QUICK)
    with Mesh(provider) as mesh, MeshClient(mesh) as client:
        mesh.ready()
        plane.fall_silent()
        until(lambda: mesh.status().providers[0]["state"] == "waiting")
        assert client.get("http://reviews:9080/").json()["name"] == "one"
        plane.wake_up()
        plane.serve(endpoints(NAME, 9))
        until(lambda: goes_to(mesh) == at(9))


@PROTOCOLS
def test_a_restart_with_lower_versions_and_nothing_to_tell_yet_takes_nothing_away(plane, delta):
    for number in range(5):
        plane.serve(*sidecar_set(number + 1))
    with Mesh(XdsProvider(plane.bootstrap(id=SIDECAR), delta=delta)) as mesh:
        mesh.ready()
        plane.kill()
        until(lambda: mesh.status().providers[0]["error"])
        plane._version = 0
        plane.start()
        until(plane.streams)
        assert goes_to(mesh) == at(5)
        plane.serve(*sidecar_set(8))
        until(lambda: goes_to(mesh) == at(8))


@PROTOCOLS
def test_garbage_is_refused_told_and_harms_nothing(plane, delta):
    plane.serve(*sidecar_set(1))
    with Mesh(XdsProvider(plane.bootstrap(id=SIDECAR), delta=delta)) as mesh:
        mesh.ready()
        broken = packed(cluster(NAME))
        broken.value = b"\xff\x00\xff"
        plane.send(Kind.CLUSTER, broken, packed(endpoints("x", 1)))
        nacks = until(lambda: [each for each in plane.requests() if "error_detail" in each])
        assert nacks[0]["error_detail"]["code"] == 3
        assert "2 of 2 Cluster resources cannot be used" in nacks[0]["error_detail"]["message"]
        assert goes_to(mesh) == at(1)
        plane.serve(cluster(NAME, timeout=0))
        (problem,) = until(lambda: [each for each in mesh.problems if each.resource == f"Cluster {NAME}"])
        assert problem.code == "MESH041"
        assert "connect_timeout: must be above 0; the last good one stays in force" in problem.message
        assert goes_to(mesh) == at(1)
        plane.serve(cluster(NAME, timeout=3))
        until(lambda: not any(NAME in each.resource for each in mesh.problems))


@PROTOCOLS
def test_repeated_and_reordered_updates_come_to_the_same_end_and_no_call_is_without_an_endpoint(plane, delta):
    plane.serve(*sidecar_set(1))
    with Mesh(XdsProvider(plane.bootstrap(id=SIDECAR), delta=delta)) as mesh:
        mesh.ready()
        new = sidecar_set(2, name="outbound|9080|v2|x")
        plane.serve(*new, order=[Kind.ROUTE, Kind.LISTENER, Kind.ENDPOINT, Kind.CLUSTER])
        ends = time.monotonic() + 20
        while (found := goes_to(mesh)) != at(2):
            assert found == at(1)
            assert time.monotonic() < ends
        plane.repeat(20)
        plane.serve(endpoints("outbound|9080|v2|x", 3))
        until(lambda: goes_to(mesh) == at(3))


def test_ten_thousand_flaps_converge(plane):
    plane.serve(*sidecar_set(1))
    with Mesh(XdsProvider(plane.bootstrap(id=SIDECAR))) as mesh:
        mesh.ready()
        plane.flap([endpoints(NAME, 1), endpoints(NAME, 1, 2)], 10_000)
        plane.patch(endpoints(NAME, 3))
        until(lambda: goes_to(mesh) == at(3), 60)
        assert mesh.problems == ()


def test_the_next_server_steps_in_while_the_first_is_away(plane):
    with ControlPlane() as second:
        second.serve(*sidecar_set(2))
        bootstrap = plane.bootstrap(id=SIDECAR)
        bootstrap["xds_servers"] += second.bootstrap()["xds_servers"]
        plane.serve(*sidecar_set(1))
        plane.kill()
        with Mesh(XdsProvider(bootstrap)) as mesh:
            mesh.ready()
            assert goes_to(mesh) == at(2)
            plane.start()
            plane.serve(*sidecar_set(1))
            until(lambda: goes_to(mesh) == at(1))
            until(lambda: second.streams() == 0)


def test_what_was_good_is_kept_on_disk_for_a_start_without_a_control_plane(plane, tmp_path):
    kept = tmp_path / "kept.pb"
    plane.serve(*sidecar_set(1))
    bootstrap = plane.bootstrap(id=SIDECAR)
    with Mesh(XdsProvider(bootstrap, keep_in=kept)) as mesh:
        mesh.ready()
        until(kept.exists)
    plane.kill()
    with Mesh(XdsProvider(bootstrap, keep_in=kept)) as mesh:
        mesh.ready()
        assert goes_to(mesh) == at(1)
        until(lambda: mesh.status().providers[0]["error"])
    other = {**bootstrap, "node": {"id": "somebody-else~1~2~3"}}
    with Mesh(XdsProvider(other, keep_in=kept), ready_timeout=0.2) as mesh, pytest.raises(errors.NotReady):
        mesh.ready()


def test_a_file_that_is_broken_is_no_reason_not_to_start(plane, tmp_path):
    kept = tmp_path / "kept.pb"
    kept.write_bytes(b"\xff\xff\xff")
    plane.serve(*sidecar_set(1))
    with Mesh(XdsProvider(plane.bootstrap(id=SIDECAR), keep_in=kept)) as mesh:
        mesh.ready()
        assert goes_to(mesh) == at(1)


def test_istiod_is_told_what_pod_this_is(plane):
    environ = {
        "POD_NAME": "web-1",
        "INSTANCE_IP": "10.1.2.3",
        "ISTIO_META_CLUSTER_ID": "Kubernetes",
        "SERVICE_ACCOUNT": "web",
    }
    caller = Caller("shop", {"app": "web"})
    with Mesh(XdsProvider.of_istiod(plane.uri, caller=caller, grpc=True, hosts=["x:1"], environ=environ)):
        node = until(lambda: [each["node"] for each in plane.requests() if "node" in each])[0]
    assert (node["id"], node["cluster"]) == ("sidecar~10.1.2.3~web-1.shop~shop.svc.cluster.local", "web.shop")
    assert node["metadata"] == {
        "CLUSTER_ID": "Kubernetes",
        "GENERATOR": "grpc",
        "INSTANCE_IPS": "10.1.2.3",
        "LABELS": {"app": "web"},
        "NAMESPACE": "shop",
        "SERVICE_ACCOUNT": "web",
    }


def test_the_bootstrap_is_found_where_grpc_finds_it(plane, monkeypatch, tmp_path):
    import json

    text = json.dumps(plane.bootstrap(id=SIDECAR))
    monkeypatch.setenv("GRPC_XDS_BOOTSTRAP_CONFIG", text)
    assert XdsProvider().bootstrap.node.id == SIDECAR
    path: Path = tmp_path / "bootstrap.json"
    path.write_text(text)
    monkeypatch.setenv("GRPC_XDS_BOOTSTRAP", str(path))
    assert XdsProvider().bootstrap.servers[0].uri == plane.uri
    monkeypatch.delenv("GRPC_XDS_BOOTSTRAP")
    monkeypatch.delenv("GRPC_XDS_BOOTSTRAP_CONFIG")
    with pytest.raises(errors.ConfigError, match="no xDS bootstrap"):
        XdsProvider()


def test_a_control_plane_that_cannot_be_reached_is_named(plane):
    plane.kill()
    told = pytest.raises(errors.NotReady, match=rf"xds waiting {plane.uri}: UNAVAILABLE")
    with Mesh(XdsProvider(plane.bootstrap(id=SIDECAR)), ready_timeout=2) as mesh, told:
        mesh.ready()


def test_routes_to_a_table_of_any_host_serve_it(plane):
    plane.serve(cluster("c"), endpoints("c", 5), api_listener("svc", "r"), routes("r", _="c"))
    with Mesh(XdsProvider(plane.bootstrap(), hosts=["svc"], on_demand=())) as mesh:
        mesh.ready()
        assert goes_to(mesh, "http://svc/") == at(5)


def test_a_forked_child_has_streams_of_its_own_and_leaves_its_parents_alone(plane):
    plane.serve(*sidecar_set(1))
    with Mesh(XdsProvider(plane.bootstrap(id=SIDECAR))) as mesh:
        mesh.ready()
        reads, writes = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tested
            child = os.fork()
        if not child:
            try:
                os.write(writes, ",".join(goes_to(mesh)).encode() + b" ")
                mesh.start()
                until(lambda: goes_to(mesh) == at(2))
                os.write(writes, b"and changes")
            finally:
                os._exit(0)
        os.close(writes)
        with os.fdopen(reads, "rb") as said:
            until(lambda: plane.streams() == 2)
            plane.serve(endpoints(NAME, 2))
            until(lambda: goes_to(mesh) == at(2))
            assert said.read() == b"127.0.0.1:1 and changes"
        os.waitpid(child, 0)


@PROTOCOLS
def test_raw_connections_go_by_the_listener_of_an_address_or_of_a_services_name(plane, echo, delta):
    db, one = "outbound|5432||db.shop.svc.cluster.local", echo("one")
    plane.serve(
        *sidecar_set(one.port)[:2],
        cluster(db),
        endpoints(db, one.port),
        tcp_listener("10.96.0.9_5432", "10.96.0.9", 5432, ("", db)),
    )
    with Mesh(XdsProvider(plane.bootstrap(id=SIDECAR), delta=delta)) as mesh:
        for host in ("10.96.0.9", "db", "db.shop.svc.cluster.local"):
            with mesh.pick(host, 5432) as lease:
                assert (lease.address, lease.port) == ("127.0.0.1", one.port)
                lease.connected()
        with mesh.open_tcp("db", 5432) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert connection.recv(5) == b"HTTP/"
