"""The mesh object: files watched, last good kept, forks, threads and loops."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import httpx
import pytest
import trio

from meshlib import AsyncMeshClient, Mesh, MeshClient, errors
from meshlib.config.feed import Feed, Options
from meshlib.config.resources import load_text
from meshlib.model.snapshot import Client
from meshlib.providers import Facts, ProviderError, StaticProvider
from meshlib.testing import mesh_of
from tests.conftest import endpoint_slice, service

ROUTE = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{name}]
  http: [{{directResponse: {{status: {status}}}}}]
"""


def until(condition, seconds=10.0):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.01)


def status_of(mesh, host):
    decision = mesh.explain("GET", f"http://{host}/")
    return (decision.details.get("direct_response") or {}).get("status")


def test_files_are_watched_and_the_last_good_is_kept(tmp_path):
    file = tmp_path / "mesh.yaml"
    file.write_text(ROUTE.format(name="a", status=201) + "---\n" + ROUTE.format(name="b", status=201))
    with Mesh(tmp_path, telemetry=False) as mesh:
        assert status_of(mesh, "a") == 201
        file.write_text(ROUTE.format(name="a", status=202) + "---\n" + ROUTE.format(name="b", status=9))
        until(lambda: status_of(mesh, "a") == 202)
        assert status_of(mesh, "b") == 201, "b turned invalid and stays as it was"
        assert "status 9" in str(mesh.problems[0])
        file.write_text("{ half written")
        until(lambda: any("expected" in problem.message for problem in mesh.problems))
        assert (status_of(mesh, "a"), status_of(mesh, "b")) == (202, 201)
        (tmp_path / "more.yml").write_text(ROUTE.format(name="c", status=203))
        until(lambda: status_of(mesh, "c") == 203)
        file.write_text(ROUTE.format(name="a", status=204))
        until(lambda: status_of(mesh, "a") == 204)
        until(lambda: status_of(mesh, "b") is None)
        replacement = tmp_path / ".mesh.yaml.swp"
        replacement.write_text(ROUTE.format(name="a", status=205))
        replacement.rename(file)
        until(lambda: status_of(mesh, "a") == 205)
        file.unlink()
        until(lambda: status_of(mesh, "a") is None)


def test_a_kubernetes_volume_swap_is_noticed(tmp_path):
    for number, status in ((1, 201), (2, 202)):
        folder = tmp_path / f"..data_{number}"
        folder.mkdir()
        (folder / "mesh.yaml").write_text(ROUTE.format(name="a", status=status))
    (tmp_path / "..data").symlink_to("..data_1")
    (tmp_path / "mesh.yaml").symlink_to("..data/mesh.yaml")
    with Mesh(tmp_path, telemetry=False) as mesh:
        assert status_of(mesh, "a") == 201
        (tmp_path / "..tmp").symlink_to("..data_2")
        (tmp_path / "..tmp").rename(tmp_path / "..data")
        until(lambda: status_of(mesh, "a") == 202)


def test_a_missing_path_is_a_clear_error():
    with pytest.raises(errors.ConfigError, match="no such file or folder: nowhere"):
        Mesh("nowhere")


def test_the_earlier_source_wins_and_says_so():
    one, two = ROUTE.format(name="a", status=201), ROUTE.format(name="a", status=202)
    mesh = Mesh(StaticProvider(one, name="one"), StaticProvider(two, name="two"), telemetry=False)
    with mesh:
        assert status_of(mesh, "a") == 201
        assert "stands in one[0] too" in mesh.problems[0].message


def test_order_of_apply_does_not_matter():
    rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: svc}\n"
    rule += "spec: {hosts: [svc], http: [{route: [{destination: {host: svc, subset: v1}}]}]}\n"
    subsets = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: svc}\n"
    subsets += "spec: {host: svc, subsets: [{name: v1}]}\n"
    base = service("svc", 80) + "---\n" + endpoint_slice("svc", "v1", ("10.0.0.1", 80))
    provider = StaticProvider(base, rule)
    with Mesh(provider, telemetry=False) as mesh:
        assert mesh.explain("GET", "http://svc/").flag == "NC"
        provider.replace(base, rule, subsets)
        until(lambda: mesh.explain("GET", "http://svc/").flag == "")


def feed_of(*texts):
    feed = Feed(1, Options(Client()))
    for text in texts:
        loaded = load_text(text)
        feed.take(0, Facts(tuple(loaded.resources), tuple(loaded.problems)))
        yield feed, feed.publish()


def test_the_same_again_publishes_nothing_and_endpoints_take_the_short_way():
    base = service("svc", 80) + "---\n"
    one, two = endpoint_slice("svc", "v1", ("10.0.0.1", 80)), endpoint_slice("svc", "v1", ("10.0.0.2", 80))
    published = [
        snapshot
        for _, snapshot in feed_of(base + one, base + one, base + two, base + ROUTE.format(name="x", status=201))
    ]
    first, again, moved, rerouted = published
    assert again is None
    assert moved.routing is first.routing
    assert rerouted.routing is not first.routing
    cluster = "outbound|80||svc.default.svc.cluster.local"
    assert [e.address for g in moved.assignment(cluster) for e in g.endpoints] == ["10.0.0.2"]


def test_a_provider_that_breaks_is_run_again_and_hurts_nobody():
    class Flaky:
        name = "flaky"
        runs = 0

        async def run(self, publish):
            Flaky.runs += 1
            if Flaky.runs < 3:
                raise RuntimeError("lost connection")
            publish(Facts(tuple(load_text(ROUTE.format(name="late", status=201)).resources)))
            await asyncio.Event().wait()

    class Hopeless:
        name = "hopeless"

        async def run(self, publish):
            raise ProviderError("no credentials")

    with Mesh(Flaky(), Hopeless(), StaticProvider(ROUTE.format(name="a", status=201)), telemetry=False) as mesh:
        assert status_of(mesh, "a") == 201
        until(lambda: status_of(mesh, "late") == 201, 20.0)
        flaky, hopeless, static = mesh.status().providers
        assert (flaky["state"], flaky["objects"]) == ("running", 1)
        assert (hopeless["state"], hopeless["error"]) == ("failed", "no credentials")
        assert static["age"] >= 0


def test_nothing_comes_and_the_error_says_who_is_to_blame():
    class Silent:
        name = "silent"

        async def run(self, publish):
            await asyncio.Event().wait()

    with Mesh(Silent(), ready_timeout=0.1, telemetry=False) as mesh, pytest.raises(errors.NotReady, match="silent"):
        mesh.ready()


def test_ready_waits_for_endpoints():
    base = service("svc", 80)
    provider = StaticProvider(base)
    with Mesh(provider, telemetry=False) as mesh:
        mesh.ready()
        with pytest.raises(errors.NotReady, match="endpoints for svc"):
            mesh.ready(["svc"], timeout=0.1)
        provider.replace(base + "---\n" + endpoint_slice("svc", "v1", ("10.0.0.1", 80)))
        mesh.ready(["svc"], timeout=10)


def test_a_closed_mesh_refuses_and_closing_is_idempotent():
    mesh = mesh_of(ROUTE.format(name="a", status=201), telemetry=False)
    mesh.close()
    mesh.close()
    with pytest.raises(errors.NotReady, match="closed"):
        mesh.wait_ready()


def test_threads_and_loops_share_one_mesh(echo):
    server = echo("s")
    yaml = service("svc", 80) + "---\n" + endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    mesh = Mesh(StaticProvider(yaml), telemetry=False)
    failures: list[BaseException] = []

    def threads():
        with MeshClient(mesh) as client:
            for _ in range(5):
                assert client.get("http://svc/").status_code == 200

    async def one():
        async with AsyncMeshClient(mesh) as client:
            responses = [client.get("http://svc/") for _ in range(5)]
            assert all(r.status_code == 200 for r in await asyncio.gather(*responses))

    def loops():
        for _ in range(3):
            asyncio.run(one())

    async def one_trio():
        async with AsyncMeshClient(mesh) as client:
            assert (await client.get("http://svc/")).status_code == 200

    def guarded(function):
        try:
            function()
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=guarded, args=(f,)) for f in (threads, loops, lambda: trio.run(one_trio)) * 3]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    mesh.close()
    assert failures == []
    assert sum(thread.name == "meshlib" for thread in threading.enumerate()) == 0


def test_a_client_made_before_a_fork_works_in_parent_and_child(echo, tmp_path):
    server = echo("s")
    yaml = service("svc", 80) + "---\n" + endpoint_slice("svc", "v1", ("127.0.0.1", server.port))
    (tmp_path / "mesh.yaml").write_text(yaml)
    program = f"""
        import os, time
        from meshlib import MeshClient
        client = MeshClient({str(tmp_path)!r})
        assert client.get("http://svc/").status_code == 200
        children = []
        for _ in range(3):
            child = os.fork()
            if not child:
                started = time.monotonic()
                for _ in range(3):
                    assert client.get("http://svc/").status_code == 200
                assert time.monotonic() - started < 5
                assert client.mesh.status().providers[0]["state"] == "running"
                os._exit(0)
            children.append(child)
        assert client.get("http://svc/").status_code == 200
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        client.close()
    """
    run = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr


def test_from_env(monkeypatch, tmp_path):
    (tmp_path / "mesh.yaml").write_text(ROUTE.format(name="a", status=201))
    with pytest.raises(errors.ConfigError, match="MESHLIB_CONFIG is not set"):
        Mesh.from_env()
    monkeypatch.setenv("MESHLIB_CONFIG", str(tmp_path))
    monkeypatch.setenv("POD_NAMESPACE", "shop")
    monkeypatch.setenv("MESHLIB_LABELS", "app=a,version=v1")
    monkeypatch.setenv("MESHLIB_TELEMETRY", "false")
    monkeypatch.setenv("MESHLIB_NODE", "ours")
    monkeypatch.setenv("ISTIO_META_NODE_NAME", "theirs")
    monkeypatch.setenv("ISTIO_META_NETWORK", "net")
    monkeypatch.setenv("ISTIO_META_CLUSTER_ID", "c1")
    monkeypatch.setenv("SERVICE_ACCOUNT", "sa")
    with Mesh.from_env(locality="r/z", revision="blue") as mesh:
        client = mesh.client
        assert (client.node, client.network, client.cluster, client.service_account) == ("ours", "net", "c1", "sa")
        assert (mesh.client.namespace, mesh.client.labels) == ("shop", {"app": "a", "version": "v1"})
        assert mesh.client.locality == ("r", "z", "")
        assert mesh.observer is None
        assert status_of(mesh, "a.shop") == 201
    monkeypatch.setenv("MESHLIB_STRICT", "perhaps")
    with pytest.raises(errors.ConfigError, match="MESHLIB_STRICT"):
        Mesh.from_env()


def test_registry_only_refuses_the_unknown():
    config = {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
    with (
        mesh_of(ROUTE.format(name="a", status=201), mesh_config=config, telemetry=False) as mesh,
        MeshClient(mesh) as c,
    ):
        with pytest.raises(errors.NoRoute, match="REGISTRY_ONLY"):
            c.get("http://127.0.0.1:1/")
        with pytest.raises(httpx.ConnectError):
            c.get("http://127.0.0.1:1/")


def test_children_of_a_fork_draw_for_themselves():
    mesh = Mesh(StaticProvider(), telemetry=False)
    before = mesh.rng.getstate()
    mesh.after_fork()
    assert mesh.rng.getstate() != before, "else all workers of a preloaded server would pick alike"
    mesh.close()
