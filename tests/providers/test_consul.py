"""Consul over real sockets: what a mesh sees of it, and everything that goes wrong with an agent."""

from __future__ import annotations

import asyncio
import threading
import time
from unittest import mock

import pytest

from meshlib import Mesh, MeshClient
from meshlib.errors import ConfigError
from meshlib.providers import ConsulProvider
from tests.mesh.test_mesh import until
from tests.providers.consul_agent import ConsulAgent, Registry

FAST = {"wait": 0.5, "lease": 0.4, "timeout": 1.0}


@pytest.fixture
def agents():
    made = []

    def make(*args, **kwargs):
        made.append(ConsulAgent(*args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def agent(agents):
    made = agents()
    made.registry.register("web", "web-1", "10.0.0.1")
    return made


@pytest.fixture
def mesh_of():
    made = []

    def make(agent, *, ready=True, **options):
        made.append(Mesh(ConsulProvider(agent.url, **{**FAST, **options}), telemetry=False))
        if ready:
            made[-1].ready(timeout=20)
        return made[-1]

    yield make
    for each in made:
        each.close()


def seen(mesh, host="web.service.consul"):
    """The endpoints that a call may be sent to, None when the mesh does not know the host."""
    told = mesh.explain("GET", f"http://{host}/").to_dict()
    if told["action"] == "passthrough":
        return None
    return sorted(endpoint for each in told["destinations"] for endpoint in each["endpoints"])


def troubles(mesh):
    """What the provider has trouble with now, in a list of one or none."""
    return [words for words in [mesh.status().providers[0]["error"]] if words]


def test_a_service_is_called_by_its_consul_name_and_follows_its_instances(agent, mesh_of, echo):
    one, two = echo("one"), echo("two")
    agent.registry.register("shop", "shop-1", "127.0.0.1", one.port)
    mesh = mesh_of(agent)
    with MeshClient(mesh) as client:
        assert client.get("http://shop.service.consul/").json()["name"] == "one"
        assert client.get("http://shop.service.dc1.consul/").json()["name"] == "one"
        assert client.get(f"http://shop.service.consul:{one.port}/").json()["name"] == "one"
        agent.registry.register("shop", "shop-2", "127.0.0.1", two.port)
        agent.registry.deregister("shop", "shop-1")
        until(lambda: seen(mesh, "shop.service.consul") == [f"127.0.0.1:{two.port}"])
        assert client.get("http://shop.service.consul/").json()["name"] == "two"


def test_services_come_and_go_and_linger_without_endpoints_for_the_lease(agent, mesh_of):
    mesh = mesh_of(agent)
    assert seen(mesh, "new.service.consul") is None
    agent.registry.register("new", "new-1", "10.0.0.9")
    until(lambda: seen(mesh, "new.service.consul") == ["10.0.0.9:8080"])
    agent.registry.deregister("new")
    until(lambda: seen(mesh, "new.service.consul") == [])
    until(lambda: seen(mesh, "new.service.consul") is None)
    assert seen(mesh) == ["10.0.0.1:8080"]


def test_health_checks_take_instances_out_and_back(agent, mesh_of):
    mesh = mesh_of(agent)
    for status, left in (("critical", []), ("passing", ["10.0.0.1:8080"]), ("warning", ["10.0.0.1:8080"])):
        agent.registry.register("web", "web-1", "10.0.0.1", status=status)
        until(lambda left=left: seen(mesh) == left)
    assert not troubles(mesh)


def test_only_the_chosen_services_are_asked_for(agent, mesh_of):
    agent.registry.register("other", "other-1")
    mesh = mesh_of(agent, services=["web", "absent"], tags=[])
    assert seen(mesh, "absent.service.consul") == []
    assert seen(mesh, "other.service.consul") is None
    assert not agent.queries("/v1/catalog/")
    agent.registry.register("absent", "a", "10.0.0.4")
    until(lambda: seen(mesh, "absent.service.consul") == ["10.0.0.4:8080"])


def test_what_is_asked_says_scope_and_consistency(agent, mesh_of):
    agent.registry.register("web", "web-1", Tags=["prod"])
    options = {"tags": ["prod"], "filter": "Service.Port > 1", "namespace": "team", "partition": "p1", "stale": True}
    mesh_of(agent, token="secret", **options)
    (first, *_) = agent.queries("/v1/health/service/web")
    assert first == {"ns": "team", "partition": "p1", "tag": "prod", "filter": "Service.Port > 1", "stale": ""}
    assert {token for *_, token in agent.asked} == {"secret"}


def test_data_centres_are_watched_side_by_side(agent, mesh_of):
    agent.others["dc2"] = Registry("dc2")
    agent.others["dc2"].register("web", "far", "10.2.0.1")
    mesh = mesh_of(agent, datacenters=["", "dc2", "dc3"])
    assert seen(mesh) == seen(mesh, "web.service.dc1.consul") == ["10.0.0.1:8080"]
    assert seen(mesh, "web.service.dc2.consul") == ["10.2.0.1:8080"]
    until(lambda: any("of dc3" in words and "No path to datacenter" in words for words in troubles(mesh)))
    agent.others["dc3"] = Registry("dc3")
    agent.others["dc3"].register("web", "farther", "10.3.0.1")
    until(lambda: seen(mesh, "web.service.dc3.consul") == ["10.3.0.1:8080"] and not troubles(mesh))


def test_with_few_connections_changes_of_health_and_registrations_of_all_services_are_seen_promptly(agent, mesh_of):
    names = [f"s{number}" for number in range(40)]
    for name in names:
        agent.registry.register(name, "1", "10.0.1.1")
    mesh = mesh_of(agent, connections=3, wait=5)
    time.sleep(0.1)
    began = time.monotonic()
    for name in names[::6]:
        agent.registry.register(name, "1", "10.0.1.1", status="critical")
        until(lambda name=name: seen(mesh, f"{name}.service.consul") == [])
        agent.registry.register(name, "1", "10.0.1.1")
        until(lambda name=name: seen(mesh, f"{name}.service.consul") == ["10.0.1.1:8080"])
    agent.registry.register("s7", "1", "10.0.1.2")
    until(lambda: seen(mesh, "s7.service.consul") == ["10.0.1.2:8080"])
    assert time.monotonic() - began < 14, "the services have waited for their turns"


def test_with_few_connections_the_failure_of_a_node_is_seen_in_all_its_services(agent, mesh_of):
    names = [f"s{number}" for number in range(12)]
    for name in names:
        agent.registry.register(name, "1", "10.0.1.1", node={"Node": "n7"})
    mesh = mesh_of(agent, connections=2, wait=5, services=names)
    until(lambda: any("index" in query for query in agent.queries("/v1/health/state/any")))
    with agent.registry.lock:
        for name in names:
            (each,) = agent.registry.services[name].values()
            each["Checks"][0] |= {"Node": "n7", "Status": "critical"}
        for name in names:
            agent.registry._wrote(name)
    until(lambda: not any(seen(mesh, f"{name}.service.consul") for name in names))
    assert not troubles(mesh)


# Consul's own rules -------------------------------------------------------------------------------------------------


def test_an_index_that_falls_loses_no_change_and_makes_no_busy_loop(agent, mesh_of):
    mesh = mesh_of(agent, wait=5)
    agent.registry.set_index(100)
    for index in (40, 0):
        began = time.monotonic()
        agent.registry.set_index(index)
        agent.hang_up()
        agent.registry.register("web", "web-1", f"10.0.2.{index}")
        until(lambda index=index: seen(mesh) == [f"10.0.2.{index}:8080"])
    agent.registry.set_index(0)
    agent.registry.touched["web"] = 0
    agent.hang_up()
    began, before = time.monotonic(), len(agent.queries("/v1/health/service/web"))
    until(lambda: len(agent.queries("/v1/health/service/web")) > before)
    asked = [when for when, path, *_ in agent.asked if path.endswith("/web") and when > began]
    while time.monotonic() < began + 2.0:
        time.sleep(0.05)
    asked = [when for when, path, *_ in agent.asked if path.endswith("/web") and when > began]
    assert len(asked) <= 8
    assert seen(mesh) == ["10.0.2.0:8080"]


def test_an_empty_answer_of_a_server_that_lags_is_not_believed(agent, mesh_of):
    mesh = mesh_of(agent, stale=True)
    agent.lagging = Registry(index=12)
    agent.hang_up()
    until(lambda: any("consistent" in query for query in agent.queries("/v1/health/service/web")))
    assert seen(mesh) == ["10.0.0.1:8080"]


def test_after_a_restart_without_data_instances_are_held_until_they_announce_themselves_again(agent, mesh_of):
    mesh = mesh_of(agent, lease=30)
    agent.registry.lose_everything()
    agent.hang_up()
    until(lambda: any("not believed yet" in words for words in troubles(mesh)))
    assert seen(mesh) == ["10.0.0.1:8080"]
    agent.registry.register("web", "web-1", "10.0.0.2")
    until(lambda: seen(mesh) == ["10.0.0.2:8080"] and not troubles(mesh))


def test_what_does_not_come_back_within_the_lease_is_gone(agent, mesh_of):
    mesh = mesh_of(agent, lease=0.6)
    agent.registry.lose_everything()
    agent.hang_up()
    until(lambda: seen(mesh) == [])
    until(lambda: seen(mesh) is None)


def test_what_the_token_may_not_see_is_not_gone(agent, mesh_of):
    agent.tokens, token = {"full"}, "full"
    mesh = mesh_of(agent, token=token)
    agent.blind, agent.tokens = {"full"}, set()
    agent.hang_up()
    until(lambda: troubles(mesh))
    assert seen(mesh) == ["10.0.0.1:8080"]


def test_a_token_that_ran_out_is_read_again_from_its_file(agent, mesh_of, tmp_path):
    file = tmp_path / "token"
    file.write_text("old\n")
    agent.tokens = {"old"}
    mesh = mesh_of(agent, token_file=str(file))
    agent.tokens = {"new"}
    until(lambda: any("ACL not found" in words and "web" in words for words in troubles(mesh)))
    agent.registry.register("web", "web-1", "10.0.0.2")
    assert seen(mesh) == ["10.0.0.1:8080"]
    file.write_text("new\n")
    until(lambda: seen(mesh) == ["10.0.0.2:8080"] and not troubles(mesh))


# Faults -------------------------------------------------------------------------------------------------------------


def _restarted(agent, agents):
    port, registry = agent.port, agent.registry
    agent.stop()
    return agents(registry, port)


@pytest.mark.parametrize("fault", ["silent", "garbage", "drip", "cut", "500", "404", "429", "403", "restart"])
def test_a_fault_of_the_agent_costs_no_endpoint_and_is_over_when_it_is_over(agent, agents, mesh_of, fault):
    mesh = mesh_of(agent, wait=0.2)
    texts = {"500": "No cluster leader", "404": "", "429": "rate limit exceeded", "403": "ACL not found"}
    if fault in texts:
        agent.failing = (int(fault), texts[fault])
    elif fault != "restart":
        agent.behaviour = fault
    asked = len(agent.asked)
    if fault == "restart":
        agent = _restarted(agent, agents)
    elif fault != "silent":
        until(lambda: len(agent.asked) > asked + 2 and (fault == "drip" or troubles(mesh)))
    assert seen(mesh) == ["10.0.0.1:8080"]
    if fault in ("silent", "drip"):  # neither side knows: the connection is dropped by the client's limit alone
        until(lambda: len(agent.asked) > asked + 1)
    agent.behaviour, agent.failing = "", None
    agent.registry.register("web", "web-1", "10.0.0.2")
    until(lambda: seen(mesh) == ["10.0.0.2:8080"] and not troubles(mesh), 40)


def test_ten_thousand_flaps_end_in_the_truth_at_a_bounded_rate(agent, mesh_of):
    mesh = mesh_of(agent)
    began = time.monotonic()
    for number in range(10_000):
        agent.registry.register("web", "web-1", f"10.0.{number % 250}.{number // 250 % 250}")
    agent.registry.register("web", "web-1", "10.1.1.1")
    until(lambda: seen(mesh) == ["10.1.1.1:8080"])
    spent = time.monotonic() - began
    assert len(agent.queries("/v1/health/service/web")) <= 5 + spent + 3


def test_the_same_answer_again_publishes_nothing(agent, mesh_of):
    mesh = mesh_of(agent)
    until(lambda: any("index" in query for query in agent.queries("/v1/health/service/web")))
    version, asked = mesh.snapshot.version, len(agent.queries("/v1/health/service/web"))
    for _ in range(3):
        agent.registry.register("web", "web-1", "10.0.0.1")
    until(lambda: len(agent.queries("/v1/health/service/web")) > asked + 2)
    assert mesh.snapshot.version == version


def test_an_agent_that_is_not_there_yet_is_told_and_asked_again(agents):
    gone = agents()
    port = gone.port
    gone.stop()
    with Mesh(ConsulProvider(gone.url, **FAST), telemetry=False) as mesh:
        mesh.start()
        until(lambda: "Connect call failed" in mesh.status().providers[0]["error"])
        agents(port=port).registry.register("web", "web-1", "10.0.0.1")
        until(lambda: seen(mesh) == ["10.0.0.1:8080"], 30)


def test_the_environment_of_consuls_own_tools_counts(monkeypatch, agent):
    monkeypatch.setenv("CONSUL_HTTP_ADDR", f"127.0.0.1:{agent.port}")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "from-env")
    with Mesh(ConsulProvider(**FAST), telemetry=False) as mesh:
        mesh.ready(timeout=20)
    assert {token for *_, token in agent.asked} == {"from-env"}


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://h:x", "unix://"])
def test_an_address_that_is_none_is_refused_at_once(url):
    with pytest.raises(ConfigError, match=r"address|[Pp]ort"):
        ConsulProvider(url)


def test_cancelling_the_provider_leaves_no_task_and_no_connection(agent):
    async def scenario():
        published = asyncio.Event()
        publish = mock.Mock(side_effect=lambda facts: published.set())
        task = asyncio.create_task(ConsulProvider(agent.url, **FAST).run(publish))
        await asyncio.wait_for(published.wait(), 20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return asyncio.all_tasks() - {asyncio.current_task()}

    before = set(threading.enumerate())
    assert asyncio.run(scenario()) == set()
    until(lambda: not agent.sockets)
    until(lambda: not (set(threading.enumerate()) - before))
