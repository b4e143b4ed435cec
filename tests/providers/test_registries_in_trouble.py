"""Requests while a registry is in every sort of trouble: none fails that had a good endpoint."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest

from meshlib import Mesh, MeshClient
from meshlib.providers import ConsulProvider, EtcdProvider
from tests.mesh.test_mesh import until
from tests.providers.consul_agent import ConsulAgent
from tests.providers.etcd_server import ABSENT, ETCD, EtcdServer, Wire
from tests.providers.test_consul import seen, troubles


@contextmanager
def requests(mesh, url):
    """Requests one after the other, in a thread, until the block ends; what did not work is what it gives."""
    failures, sent, over = [], [0], threading.Event()

    def send():
        with MeshClient(mesh) as client:
            while not over.is_set():
                try:
                    answer = client.get(url)
                    if answer.status_code != 200:
                        failures.append(answer.status_code)
                except Exception as error:
                    failures.append(error)
                sent[0] += 1
                over.wait(0.002)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield failures
    finally:
        over.set()
        thread.join(20)
    assert sent[0] > 50


def after(mesh, change):
    """Make a change and wait until the mesh has trouble with it, or for a moment."""
    change()
    ends = time.monotonic() + 1.5
    while not troubles(mesh) and time.monotonic() < ends:
        time.sleep(0.02)


def test_no_request_fails_while_consul_is_in_trouble(echo):
    one, two = echo("one"), echo("two")
    agent = ConsulAgent()
    registry, port = agent.registry, agent.port

    def register():
        registry.register("web", "1", "127.0.0.1", one.port)
        registry.register("web", "2", "127.0.0.1", two.port)

    def fail(behaviour="", failing=None):
        agent.behaviour, agent.failing = behaviour, failing
        agent.hang_up()

    register()
    provider = ConsulProvider(agent.url, wait=0.3, timeout=0.5, lease=30)
    with Mesh(provider, telemetry=False) as mesh, requests(mesh, "http://web.service.consul/") as failures:
        mesh.ready(timeout=20)
        for trouble in ({"failing": (500, "No cluster leader")}, *({"behaviour": name} for name in ("garbage", "cut"))):
            after(mesh, lambda trouble=trouble: fail(**trouble))
            fail()
            until(lambda: not troubles(mesh), 20)
        for number in range(200):
            registry.deregister("web", "2")
            registry.register("web", "2", "127.0.0.1", two.port, status=("passing", "critical")[number % 2])
        register()
        agent.stop()
        agent = ConsulAgent(registry, port)
        until(lambda: not troubles(mesh), 20)
        after(mesh, registry.lose_everything)
        register()
        expected = sorted(f"127.0.0.1:{each.port}" for each in (one, two))
        until(lambda: seen(mesh) == expected and not troubles(mesh), 40)
    agent.stop()
    assert failures == []


@pytest.mark.skipif(ETCD is None, reason=ABSENT)
def test_no_request_fails_while_etcd_is_in_trouble(echo):
    one, two = echo("one"), echo("two")
    etcd = EtcdServer()
    wire = Wire(etcd.port)

    def register():
        for number, each in enumerate((one, two)):
            etcd.put(f"/meshlib/services/web/{number}", {"address": "127.0.0.1", "port": each.port})

    def restart(data):
        etcd.stop()
        etcd.start(data)

    register()
    provider = EtcdProvider(wire.url, idle=0.5, timeout=0.5, lease=30)
    try:
        with Mesh(provider, telemetry=False) as mesh, requests(mesh, "http://web.etcd/") as failures:
            mesh.ready(timeout=20)
            wire.nonsense = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"]
            after(mesh, wire.cut)
            wire.nonsense = None
            until(lambda: not troubles(mesh), 20)
            wire.freeze_old()
            for _ in range(50):
                etcd.delete("/meshlib/services/web/1")
                register()
            after(mesh, lambda: restart("data"))
            after(mesh, lambda: restart("another"))
            register()
            expected = sorted(f"127.0.0.1:{each.port}" for each in (one, two))
            until(lambda: seen(mesh, "web.etcd") == expected and not troubles(mesh), 40)
        assert failures == []
    finally:
        wire.close()
        etcd.close()
