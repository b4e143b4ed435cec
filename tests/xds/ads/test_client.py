"""What is asked for, what is in force, and which server counts; against servers that are lists of answers."""

from __future__ import annotations

import pytest

pytest.importorskip("envoy.service.discovery.v3")

from itertools import permutations

from meshlib.model.snapshot import OutboundPolicy
from meshlib.xds.ads.client import Client
from meshlib.xds.ads.kinds import Kind
from meshlib.xds.bootstrap import parse
from meshlib.xds.messages import aggregate_pb2, base_pb2, cluster_pb2
from meshlib.xds.view import XdsView
from tests.xds.resources import answer, api_listener, cluster, endpoints, routes, socket_listener, table

ONE = {"server_uri": "one", "channel_creds": [{"type": "insecure"}]}
TWO = {"server_uri": "two", "channel_creds": [{"type": "insecure"}]}


class World:
    """A client, and what it asks of its servers."""

    def __init__(self, *, everything: bool = True, servers=(ONE,), **bootstrap) -> None:
        self.client = Client(parse({"xds_servers": list(servers), **bootstrap}), base_pb2.Node(), everything=everything)
        self.now = 0.0
        self.version = 0
        self.group = self.client.groups[""]
        self.member = self.group.members[0]

    def open(self):
        self.client.opened(self.member, self.now)
        return self

    def tell(self, kind: Kind, *messages) -> None:
        self.version += 1
        self.client.received(self.group, self.member, answer(kind, str(self.version), *messages), self.now)

    def asked(self, kind: Kind) -> list[str]:
        """What was asked for last of that type."""
        return [sorted(e.resource_names) for e in self.member.session.outbox if e.type_url == kind.url][-1]

    @property
    def view(self) -> XdsView:
        return XdsView(self.client.world)

    def ports(self, host: str, port: int = 80) -> list[int]:
        """Where a call would go now; -1 for a cluster that is not there."""
        found = self.view.virtual_host(host, port)
        if found is None:
            return []
        (to,) = found.routes[0].action.clusters
        if self.view.cluster(to.cluster) is None:
            return [-1]
        return [e.port for group in self.view.assignment(to.cluster) for e in group.endpoints]


def sidecar(cluster_name: str = "outbound|80||a", *ports: int) -> World:
    world = World().open()
    world.tell(Kind.CLUSTER, cluster(cluster_name))
    world.tell(Kind.ENDPOINT, endpoints(cluster_name, *ports))
    world.tell(Kind.LISTENER, socket_listener("0.0.0.0_80", 80, "80"))
    world.tell(Kind.ROUTE, routes("80", a=cluster_name))
    return world


def test_a_sidecars_resources_are_asked_for_one_after_the_other():
    world = World().open()
    assert (world.asked(Kind.CLUSTER), world.asked(Kind.LISTENER)) == ([], [])
    assert not world.client.complete
    world.tell(Kind.CLUSTER, cluster("c", "service-of-c"))
    assert world.asked(Kind.ENDPOINT) == ["service-of-c"]
    world.tell(Kind.ENDPOINT, endpoints("service-of-c", 7))
    world.tell(Kind.LISTENER, socket_listener("0.0.0.0_80", 80, "80"))
    assert world.asked(Kind.ROUTE) == ["80"]
    assert not world.client.complete
    world.tell(Kind.ROUTE, routes("80", a="c"))
    assert world.client.complete
    assert world.ports("a") == [7]


def test_grpcs_resources_are_asked_for_by_name():
    world = World(everything=False).open()
    assert world.member.session.outbox == []
    world.client.ask(["a:80"], world.now)
    assert world.asked(Kind.LISTENER) == ["a:80"]
    world.tell(Kind.LISTENER, api_listener("a:80", "r"))
    world.tell(Kind.ROUTE, routes("r", a="c"))
    assert world.asked(Kind.CLUSTER) == ["c"]
    world.tell(Kind.CLUSTER, cluster("c"))
    assert not world.client.complete
    world.tell(Kind.ENDPOINT, endpoints("c", 7))
    assert world.client.complete
    assert world.ports("a") == [7]


CHANGES = {
    "clusters": lambda w: w.tell(Kind.CLUSTER, cluster("new")),
    "endpoints": lambda w: w.tell(Kind.ENDPOINT, endpoints("new", 2)),
    "routes": lambda w: w.tell(Kind.ROUTE, routes("80", a="new")),
}


@pytest.mark.parametrize("order", list(permutations(CHANGES)), ids=lambda order: " ".join(order))
def test_no_order_of_updates_leaves_a_call_without_an_endpoint(order):
    world = sidecar("old", 1)
    for step in order:
        CHANGES[step](world)
        assert world.ports("a") in ([1], [2]), step
    CHANGES["endpoints"](world)  # a server tells endpoints when they are asked for
    assert world.ports("a") == [2]
    assert dict(world.client.world.clusters).keys() == {"new"}


def test_a_route_to_nowhere_is_waited_for_15_seconds_and_then_counts():
    world = sidecar("old", 1)
    world.tell(Kind.ROUTE, routes("80", a="nowhere"))
    assert world.ports("a") == [1]
    assert world.client.deadline == 15
    world.now = 15.0
    world.client.expire(world.now)
    assert world.ports("a") == [-1]


def test_a_route_that_was_to_nowhere_before_holds_nothing_up():
    world = World().open()
    world.tell(Kind.CLUSTER, cluster("c"))
    world.tell(Kind.ENDPOINT, endpoints("c", 1))
    world.tell(Kind.LISTENER, socket_listener("0.0.0.0_80", 80, "80"))
    world.tell(Kind.ROUTE, routes("80", a="nowhere"))
    assert world.client.complete
    world.tell(Kind.ROUTE, routes("80", a="nowhere", b="c"))
    assert world.ports("b") == [1]


def test_a_listener_keeps_its_old_table_until_the_new_one_is_there():
    world = sidecar("c", 1)
    world.tell(Kind.CLUSTER, cluster("c"), cluster("d"))
    world.tell(Kind.ENDPOINT, endpoints("d", 2))
    world.tell(Kind.LISTENER, socket_listener("0.0.0.0_80", 80, "renamed"))
    assert world.asked(Kind.ROUTE) == ["80", "renamed"]
    assert world.ports("a") == [1]
    world.tell(Kind.ROUTE, routes("renamed", a="d"))
    assert world.ports("a") == [2]
    assert world.asked(Kind.ROUTE) == ["renamed"]


def test_a_cluster_keeps_its_old_endpoints_until_those_of_its_new_service_are_there():
    world = sidecar("c", 1)
    world.tell(Kind.CLUSTER, cluster("c", "elsewhere"))
    assert world.ports("a") == [1]
    world.tell(Kind.ENDPOINT, endpoints("elsewhere", 2))
    assert world.ports("a") == [2]
    assert world.asked(Kind.ENDPOINT) == ["elsewhere"]


def test_endpoints_alone_leave_the_routing_as_it_is():
    world = sidecar("c", 1)
    before = world.view
    world.tell(Kind.ENDPOINT, endpoints("c", 1, 2))
    after = XdsView(world.client.world, before=before)
    assert (after.routing is before.routing, world.ports("a")) == (True, [1, 2])


def test_endpoints_that_never_come_are_none_after_a_while():
    world = World().open()
    world.tell(Kind.CLUSTER, cluster("c"))
    world.tell(Kind.LISTENER, socket_listener("0.0.0.0_80", 80, "80"))
    world.tell(Kind.ROUTE, routes("80", a="c"))
    assert not world.client.complete
    world.now = 15.0
    world.client.expire(world.now)
    assert world.client.complete
    assert world.ports("a") == []
    assert world.view.cluster("c") is not None


def test_an_aggregate_is_its_parts_in_order():
    world = World(everything=False).open()
    world.client.ask(["a"], world.now)
    world.tell(Kind.LISTENER, api_listener("a", "r"))
    world.tell(Kind.ROUTE, routes("r", a="both"))
    both = cluster_pb2.Cluster(name="both")
    both.cluster_type.name = "envoy.clusters.aggregate"
    both.cluster_type.typed_config.Pack(aggregate_pb2.ClusterConfig(clusters=["first", "second"]))
    world.tell(Kind.CLUSTER, both)
    assert world.asked(Kind.CLUSTER) == ["both", "first", "second"]
    world.tell(Kind.CLUSTER, both, cluster("first"), cluster("second"))
    world.tell(Kind.ENDPOINT, endpoints("first", 1), endpoints("second", 2))
    assert [(g.priority, g.endpoints[0].port) for g in world.view.assignment("both")] == [(0, 1), (1, 2)]
    assert world.view.cluster("both").name == "both"


def test_of_several_listeners_on_a_port_the_most_specific_domain_counts():
    world = sidecar("c", 1)
    world.tell(Kind.CLUSTER, cluster("c"), cluster("d"))
    world.tell(Kind.ENDPOINT, endpoints("d", 2))
    world.tell(
        Kind.LISTENER,
        socket_listener("0.0.0.0_80", 80, "80"),
        socket_listener("10.0.0.1_80", 80, "b:80", address="10.0.0.1"),
    )
    world.tell(Kind.ROUTE, table("80", {"a": "c", "*.test": "c"}), table("b:80", {"b": "d", "x.test": "d"}))
    assert [world.ports(host) for host in ("a", "b", "x.test", "y.test", "z")] == [[1], [2], [2], [1], []]


def test_istios_hosts_for_all_others_are_the_outbound_policy():
    world = sidecar("c", 1)
    assert world.view.outbound_policy is OutboundPolicy.ALLOW_ANY
    refusing = routes("80", a="c")
    other = refusing.virtual_hosts.add(name="block_all", domains=["*"]).routes.add()
    other.match.prefix = "/"
    other.direct_response.status = 502
    world.tell(Kind.ROUTE, refusing)
    assert world.view.virtual_host("unknown", 80) is None
    assert world.view.outbound_policy is OutboundPolicy.REGISTRY_ONLY


def test_the_next_server_is_asked_while_the_first_cannot_be_reached_and_let_go_when_it_answers():
    world = World(everything=False, servers=(ONE, TWO))
    first, second = world.group.members
    world.client.ask(["a"], world.now)
    assert world.group.asked == (first,)
    world.client.lost(world.group, first)
    assert world.group.asked == (first, second)
    world.client.opened(second, world.now)
    world.client.received(world.group, second, answer(Kind.LISTENER, "1", api_listener("a", "r2")), 1.0)
    assert world.client.cache.get(Kind.LISTENER, "a").value.manager.table_name == "r2"
    world.client.opened(first, 2.0)
    world.client.received(world.group, first, answer(Kind.LISTENER, "9", api_listener("a", "r1")), 2.0)
    assert world.group.asked == (first,)
    assert world.client.cache.get(Kind.LISTENER, "a").value.manager.table_name == "r1"


def test_a_server_that_is_lost_after_it_told_everything_is_waited_for():
    world = World(servers=(ONE, TWO)).open()
    world.tell(Kind.CLUSTER, cluster("c"))
    world.tell(Kind.ENDPOINT, endpoints("c", 1))
    world.tell(Kind.LISTENER, socket_listener("0.0.0.0_80", 80, "80"))
    world.tell(Kind.ROUTE, routes("80", a="c"))
    world.client.lost(world.group, world.member)
    world.client.opened(world.member, 5.0)
    world.client.lost(world.group, world.member)  # without an answer
    assert world.group.asked == (world.member,)
    assert world.ports("a") == [1]


def test_names_of_an_authority_are_asked_of_its_servers():
    world = World(everything=False, authorities={"far": {"xds_servers": [TWO]}})
    name = "xdstp://far/envoy.config.listener.v3.Listener/a"
    world.client.ask([name, "b"], world.now)
    far = world.client.groups["far"]
    assert world.client.needs(far)
    world.client.opened(far.members[0], 0.0)
    world.open()
    assert [list(e.resource_names) for e in far.members[0].session.outbox] == [[name]]
    assert world.asked(Kind.LISTENER) == ["b"]
