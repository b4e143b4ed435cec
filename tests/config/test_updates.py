"""What changed costs what changed: sets compared by identity, and endpoints by the short way."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.config.compile import Universe
from meshlib.config.difference import difference
from meshlib.config.feed import Feed, Options
from meshlib.config.resources import load_dict, load_text
from meshlib.config.resources.parts import Parts
from meshlib.model.snapshot import Client
from meshlib.providers import Facts, Objects
from tests.conftest import endpoint_slice, service
from tests.strategies import bounded

NAMES = ("a", "b", "c")
CLUSTERS = [f"outbound|80||{name}.default.svc.cluster.local" for name in NAMES]


# Difference ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5)))
def test_what_came_and_went_by_counting(old, new):
    gone, come = difference(old, new)
    for value in range(6):
        assert max(0, old.count(value) - new.count(value)) == gone.count(value)
        assert max(0, new.count(value) - old.count(value)) == come.count(value)


def test_chunks_that_stayed_are_not_looked_into():
    class Untouchable(tuple):
        def __iter__(self):
            raise AssertionError("looked into")

    kept = Untouchable((object(),))
    one, two, three = object(), object(), object()
    old, new = Parts((kept, (one, two), kept)), Parts((kept, (one, three), kept))
    assert difference(old, new) == ([two], [three])


# Objects ------------------------------------------------------------------------------------------------------------


def entry(name, *addresses, **spec):
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name},
        "spec": {
            "hosts": [f"{name}.default.svc.cluster.local"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            **({"endpoints": [{"address": address} for address in addresses]} if addresses else {}),
            **spec,
        },
    }


def test_an_object_of_the_same_version_is_not_even_read():
    objects = Objects("here")
    assert objects.put("a", entry("a", "10.0.0.1"), "1")
    assert not objects.put("a", {"nonsense": True}, "1")
    assert objects.put("a", entry("a", "10.0.0.2"), "2")


def test_an_object_that_comes_out_equal_stays_the_object_it_was():
    objects = Objects("here")
    objects.put("a", entry("a", "10.0.0.1"))
    facts = objects.facts("1")
    (before,) = facts.resources
    assert not objects.put("a", entry("a", "10.0.0.1"), "7")
    assert objects.facts("1") is facts
    assert next(iter(objects.facts("2").resources)) is before


def test_what_cannot_be_read_is_told_until_it_can():
    objects = Objects("here")
    objects.put("a", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": 5}})
    (problem,) = objects.facts().problems
    assert (problem.resource, problem.file) == ("Service a", "here")
    objects.remove("a")
    assert objects.facts().problems == ()


def test_a_fresh_list_takes_away_what_is_not_in_it():
    objects = Objects("here")
    for name in NAMES:
        objects.put(name, entry(name, "10.0.0.1"))
    assert objects.keep({"a", "c"})
    assert not objects.keep({"a", "c"})
    assert [each.metadata.name for each in objects.facts().resources] == ["a", "c"]


@bounded(30)
@given(st.lists(st.tuples(st.integers(0, 600), st.booleans()), max_size=900))
def test_chunks_hold_what_is_there_however_it_came_and_went(moves):
    objects, truth = Objects("here"), {}
    (made,) = load_dict(entry("a", "10.0.0.1")).resources
    for key, stays in moves:
        if stays:
            objects.put(key, made)
            truth[key] = made
        else:
            assert objects.remove(key) is (truth.pop(key, None) is not None)
    facts = objects.facts()
    assert len(facts.resources) == len(truth) == len(objects)
    assert len(facts.resources.chunks) <= len(moves) // 256 + 1


# The short way ------------------------------------------------------------------------------------------------------


def fed(*given):
    feed = Feed(1, Options(Client()))
    return feed, publish(feed, *given)


def publish(feed, *resources):
    feed.take(0, Facts(tuple(resources)))
    return feed.publish()


def read(*given):
    return [each for one in given for each in (load_text(one) if isinstance(one, str) else load_dict(one)).resources]


def workload(name, address, **labels):
    kind = {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry"}
    return {**kind, "metadata": {"name": name, "labels": labels}, "spec": {"address": address}}


def addresses(snapshot, cluster):
    return sorted(each.address for group in snapshot.assignment(cluster) for each in group.endpoints)


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (endpoint_slice("a", "v1", ("10.0.0.1", 80)), endpoint_slice("a", "v1", ("10.0.0.2", 80)), ["10.0.0.2"]),
        (endpoint_slice("a", "v1", ("10.0.0.1", 80)), "", []),
        ("", endpoint_slice("a", "v1", ("10.0.0.1", 80)), ["10.0.0.1"]),
    ],
)
def test_slices_come_change_and_go_by_the_short_way(before, after, found):
    rest = read(service("a", 80), service("b", 80), endpoint_slice("b", "v1", ("10.0.1.1", 80)))
    feed, first = fed(*rest, *read(before))
    for cluster in CLUSTERS:
        first.assignment(cluster), first.cluster(cluster)
    second = publish(feed, *rest, *read(after))
    assert second.routing is first.routing
    assert addresses(second, CLUSTERS[0]) == found
    assert second.assignment(CLUSTERS[1]) is first.assignment(CLUSTERS[1])
    assert second.cluster(CLUSTERS[1]) is first.cluster(CLUSTERS[1])


def test_inline_endpoints_of_an_entry_take_the_short_way_and_nothing_else_of_it_does():
    kept, *_ = read(entry("b", "10.0.1.1"))
    feed, first = fed(kept, *read(entry("a", "10.0.0.1")))
    assert addresses(first, CLUSTERS[0]) == ["10.0.0.1"]
    second = publish(feed, kept, *read(entry("a", "10.0.0.2", "10.0.0.3")))
    assert second.routing is first.routing
    assert addresses(second, CLUSTERS[0]) == ["10.0.0.2", "10.0.0.3"]
    third = publish(feed, kept, *read(entry("a", "10.0.0.2", location="MESH_INTERNAL")))
    assert third.routing is not second.routing
    assert addresses(third, CLUSTERS[0]) == ["10.0.0.2"]


def test_an_entry_that_loses_its_last_endpoint_is_looked_at_whole():
    by_name = {"resolution": "DNS"}
    feed, first = fed(*read(entry("a", "10.0.0.1", **by_name)))
    second = publish(feed, *read(entry("a", **by_name)))
    assert second.routing is not first.routing
    assert addresses(second, CLUSTERS[0]) == ["a.default.svc.cluster.local"]


def test_workload_entries_reach_the_services_that_select_them_before_or_after():
    selecting = [entry(n, workloadSelector={"labels": {"app": n}}) for n in NAMES]
    rest = read(*selecting)
    feed, first = fed(*rest, *read(workload("w", "10.0.0.1", app="a"), workload("x", "10.0.0.9", app="c")))
    assert [addresses(first, cluster) for cluster in CLUSTERS] == [["10.0.0.1"], [], ["10.0.0.9"]]
    second = publish(feed, *rest, *read(workload("w", "10.0.0.2", app="b"), workload("x", "10.0.0.9", app="c")))
    assert second.routing is first.routing
    assert [addresses(second, cluster) for cluster in CLUSTERS] == [[], ["10.0.0.2"], ["10.0.0.9"]]
    assert second.assignment(CLUSTERS[2]) is first.assignment(CLUSTERS[2])


def test_the_endpoints_of_an_object_that_was_read_again_and_is_equal_still_change_afterwards():
    rest = read(service("a", 80))
    feed, _ = fed(*rest, *read(endpoint_slice("a", "v1", ("10.0.0.1", 80))))
    assert publish(feed, *rest, *read(endpoint_slice("a", "v1", ("10.0.0.1", 80)))) is None
    snapshot = publish(feed, *rest, *read(endpoint_slice("a", "v1", ("10.0.0.2", 80))))
    assert addresses(snapshot, CLUSTERS[0]) == ["10.0.0.2"]


def world(draw):
    """Objects of three services in a random state."""
    made = [service(name, 80) for name in NAMES[:1] if draw.random() < 0.8]
    made += [endpoint_slice("a", f"v{n}", (f"10.0.0.{draw.randint(1, 3)}", 80)) for n in (1, 2) if draw.random() < 0.7]
    inline = [f"10.0.1.{n}" for n in range(1, 4) if draw.random() < 0.6]
    made.append(entry("b", *inline, location=draw.choice(["MESH_INTERNAL"] * 5 + ["MESH_EXTERNAL"])))
    made.append(entry("c", workloadSelector={"labels": {"app": "c"}}))
    made += [workload(f"w{n}", f"10.0.2.{n}", app=draw.choice("cd")) for n in range(3) if draw.random() < 0.7]
    return made


@bounded(60)
@given(st.integers(0, 2**32))
def test_the_short_way_ends_where_a_fresh_start_would(seed):
    draw = random.Random(seed)
    feed = Feed(2, Options(Client()))
    known = {}
    for _ in range(6):
        for number in (0, 1):
            resources = [known.setdefault(repr(each), read(each)) for each in world(draw)]
            chosen = [each for found in resources for each in found]
            feed.take(number, Facts(tuple(chosen if number == 0 else chosen[: draw.randint(0, 2)])))
        feed.publish()
        fresh = Universe(feed.resources).view(Client())
        for cluster in CLUSTERS:
            assert feed.snapshot.cluster(cluster) == fresh.cluster(cluster)
            told, truth = (
                {e for g in view.assignment(cluster) for e in [*map(repr, g.endpoints)]}
                for view in (feed.snapshot, fresh)
            )
            assert told == truth


def test_a_rule_that_changes_after_endpoints_moved_leaves_the_registry_as_it_is():
    head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\n"
    rule = head + "spec: {hosts: [a], http: [{directResponse: {status: %d}}]}\n"
    feed, _ = fed(*read(entry("a", "10.0.0.1"), rule % 201))
    (first,) = read(entry("a", "10.0.0.2"))
    publish(feed, first, *read(rule % 201))
    registry = feed.universe.registry
    publish(feed, first, *read(rule % 202))
    assert feed.universe.registry is registry
