"""What a host compiles to depends on the objects that concern it: not on their order, nor on broken or foreign ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshlib.config.compile import Universe
from meshlib.config.merge import Merge
from meshlib.config.resources import load_dict
from meshlib.model.problem import Level
from meshlib.model.route import Forward
from meshlib.model.snapshot import Client
from meshlib.providers import Facts
from tests.strategies import bounded, objects, worlds
from tests.strategies.words import HOSTS

PORTS = (80, 81, 443)
CLIENTS = (Client(), Client("shop", {"app": "a", "version": "v1"}))


def in_force(world):
    """The valid objects of a world, of each (kind, name, namespace) the first."""
    loaded = [load_dict(each, f"{number}.yaml") for number, each in enumerate(world)]
    facts = Facts(
        tuple(r for each in loaded for r in each.resources), tuple(p for each in loaded for p in each.problems)
    )
    merge = Merge("default", 1)
    merge.take(0, facts)
    merge.merge()
    return merge.resources(), merge.problems


def answers(resources, names=()):
    """Everything that clients are told about hosts: rules, clusters, endpoints."""
    universe = Universe(resources)
    return {client.namespace: _answers(universe.view(client), names) for client in CLIENTS}


def _answers(view, names):
    hosts = set(names) or {host for host, _ in view.listing()} | set(HOSTS)
    found = {}
    for host in sorted(hosts):
        for port in PORTS:
            virtual = view.virtual_host(host, port)
            clusters = sorted(
                {
                    weighted.cluster
                    for route in (virtual.routes if virtual is not None else ())
                    if isinstance(route.action, Forward)
                    for weighted in route.action.clusters
                }
            )
            parts = [(name, view.cluster(name), view.assignment(name)) for name in clusters]
            found[host, port] = (virtual, _told(view.tcp_host(host, port)), parts)
    return found


def _told(host):
    """A host of raw connections, which have no equality of their own."""
    if host is None:
        return None
    return [host.name, host.port, host.routes, host.service, host.address, host.skipped, host.fallback]


@bounded(60)
@given(worlds())
def test_the_same_objects_compile_to_the_same_answers(world):
    resources, _ = in_force(world)
    assert answers(resources) == answers(resources)


@bounded(100)
@given(worlds(most=8), st.randoms(use_true_random=False))
def test_the_order_of_objects_does_not_matter(world, random):
    resources, _ = in_force(world)
    shuffled = list(resources)
    random.shuffle(shuffled)
    assert answers(shuffled) == answers(resources)


def broken(given_):
    """An object under a name of its own that is refused."""
    given_ = (
        {**given_, "metadata": {**given_.get("metadata", {}), "name": "broken"}} if _has_metadata(given_) else given_
    )
    return given_ if any(problem.level is Level.ERROR for problem in in_force([given_])[1]) else None


def _has_metadata(given_):
    return isinstance(given_.get("metadata", {}), dict)


BROKEN = objects(damaged=True).map(broken).filter(lambda given_: given_ is not None)


@bounded(60)
@given(worlds(), BROKEN, st.integers(0, 6))
def test_a_broken_object_changes_nothing_for_others(world, bad, place):
    before, _ = in_force(world)
    after, problems = in_force([*world[:place], bad, *world[place:]])
    assert problems
    assert answers(after) == answers(before)


def elsewhere(given_):
    """The object in a namespace of its own, exported to nobody else."""
    spec = {**given_["spec"], "exportTo": ["."]} if isinstance(given_.get("spec"), dict) else given_.get("spec")
    return {**given_, "metadata": {"name": "foreign", "namespace": "elsewhere"}, "spec": spec}


FOREIGN = objects("VirtualService", "DestinationRule", "ServiceEntry").map(elsewhere)


@bounded(60)
@given(worlds(), FOREIGN)
def test_an_object_that_is_not_exported_changes_nothing_for_clients_of_other_namespaces(world, foreign):
    resources, _ = in_force(world)
    names = {host for host in HOSTS if host != "*"}
    assert answers(in_force([*world, foreign])[0], names) == answers(resources, names)


def unrelated(given_):
    spec = {**given_["spec"], "host": "unrelated.example.net", "hosts": ["unrelated.example.net"]}
    spec.pop("host" if given_["kind"] != "DestinationRule" else "hosts")
    return {**given_, "metadata": {**given_["metadata"], "name": "unrelated"}, "spec": spec}


UNRELATED = objects("VirtualService", "DestinationRule", "ServiceEntry").map(unrelated)


@bounded(60)
@given(worlds(), UNRELATED)
def test_an_object_about_another_host_changes_nothing_for_these(world, other):
    resources, _ = in_force(world)
    names = {host for host in HOSTS if host not in ("*", "10.0.0.1")}
    assert requests_only(answers(in_force([*world, other])[0], names)) == requests_only(answers(resources, names))


def requests_only(found):
    """Without raw connections, whose listener is shared by all hosts of a port."""
    return {
        client: {key: (virtual, parts) for key, (virtual, _, parts) in hosts.items()} for client, hosts in found.items()
    }


@bounded(40)
@given(st.lists(worlds(), min_size=2, max_size=3), st.randoms(use_true_random=False))
def test_what_follows_another_universe_answers_as_one_made_afresh(worlds_, random):
    pool = [each for world in worlds_ for each in in_force(world)[0]]
    before = None
    for _ in range(3):
        chosen = [each for each in pool if random.random() < 0.7]
        names = {(each.kind, each.metadata.namespace or "default", each.metadata.name): each for each in chosen}
        resources = list(names.values())
        before = Universe(resources, before=before)
        for client in CLIENTS:
            assert _answers(before.view(client), ()) == _answers(Universe(resources).view(client), ())
