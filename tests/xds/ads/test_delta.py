"""Incremental sessions, on a clock by hand."""

from __future__ import annotations

import pytest

pytest.importorskip("envoy.service.discovery.v3")

from meshlib.xds.ads.cache import Cache, Status
from meshlib.xds.ads.delta import Delta
from meshlib.xds.ads.kinds import EVERYTHING, Kind
from tests.xds.ads.test_sotw import NODE, Talk
from tests.xds.resources import api_listener, change, cluster, endpoints


class Changes(Talk):
    def __init__(self, rules=None, **wanted: set[str]) -> None:
        self.cache = Cache()
        self.session = Delta(self.cache, NODE, rules)
        self.now = 0.0
        self.want(**wanted)
        self.session.open(self.now)


def test_everything_is_asked_for_by_naming_nothing_and_names_by_name():
    talk = Changes(CLUSTER={EVERYTHING}, ENDPOINT={"b", "a"})
    clusters, assignments = talk.said()
    assert (clusters.type_url, list(clusters.resource_names_subscribe)) == (Kind.CLUSTER.url, [])
    assert list(assignments.resource_names_subscribe) == ["a", "b"]


def test_only_differences_are_asked_for():
    talk = Changes(ENDPOINT={"a", "b"})
    talk.said()
    talk.want(ENDPOINT={"b", "c"})
    (request,) = talk.said()
    assert (list(request.resource_names_subscribe), list(request.resource_names_unsubscribe)) == (["c"], ["a"])
    assert request.response_nonce == ""


def test_a_refusal_has_the_nonce_and_what_is_wrong():
    talk = Changes(CLUSTER={EVERYTHING})
    talk.hear(change(Kind.CLUSTER, "n1", cluster("a"), cluster("b")))
    (nack,) = talk.hear(change(Kind.CLUSTER, "n2", cluster("a", timeout=2), cluster("b", timeout=0), version="2"))
    assert (nack.response_nonce, nack.error_detail.code) == ("n2", 3)
    assert "[1] b: connect_timeout: must be above 0" in nack.error_detail.message
    assert talk.cache.get(Kind.CLUSTER, "a").version == "2"
    assert (talk.cache.get(Kind.CLUSTER, "b").version, talk.cache.get(Kind.CLUSTER, "b").status) == ("1", Status.NACKED)


def test_after_a_lost_stream_the_server_is_told_what_is_here():
    talk = Changes(CLUSTER={EVERYTHING}, ENDPOINT={"a"})
    talk.hear(change(Kind.CLUSTER, "n1", cluster("a"), version="4"))
    talk.hear(change(Kind.ENDPOINT, "n2", endpoints("a", 1), version="9"))
    clusters, assignments = talk.again()
    assert dict(clusters.initial_resource_versions) == {"a": "4"}
    assert (list(assignments.resource_names_subscribe), dict(assignments.initial_resource_versions)) == (
        ["a"],
        {"a": "9"},
    )


def test_what_is_removed_is_gone():
    talk = Changes(CLUSTER={EVERYTHING})
    talk.hear(change(Kind.CLUSTER, "n1", cluster("a"), cluster("b")))
    talk.hear(change(Kind.CLUSTER, "n2", removed=("a",)))
    assert dict(talk.cache.with_values(Kind.CLUSTER)).keys() == {"b"}


def test_a_name_that_is_removed_before_it_came_does_not_exist():
    talk = Changes(LISTENER={"svc"})
    (ack,) = [each for each in talk.hear(change(Kind.LISTENER, "n1", removed=("svc",))) if each.response_nonce]
    assert ack.response_nonce == "n1"
    assert talk.cache.get(Kind.LISTENER, "svc").status is Status.DOES_NOT_EXIST
    assert talk.session.deadline is None
    talk.hear(change(Kind.LISTENER, "n2", api_listener("svc", "r")))
    assert talk.cache.get(Kind.LISTENER, "svc").status is Status.ACKED


def test_endpoints_outlive_their_removal_as_long_as_a_cluster_asks_for_them():
    talk = Changes(ENDPOINT={"a"})
    talk.hear(change(Kind.ENDPOINT, "n1", endpoints("a", 1)))
    talk.hear(change(Kind.ENDPOINT, "n2", removed=("a",)))
    assert talk.value(Kind.ENDPOINT, "a") is not None


def test_a_heartbeat_says_nothing_new():
    talk = Changes(ENDPOINT={"a"})
    talk.hear(change(Kind.ENDPOINT, "n1", endpoints("a", 1)))
    talk.cache.take_changes()
    beat = change(Kind.ENDPOINT, "n2")
    beat.resources.add(name="a", version="1")
    (ack,) = talk.hear(beat)
    assert (ack.response_nonce, ack.HasField("error_detail"), talk.cache.take_changes()) == ("n2", False, set())


def test_a_server_that_just_started_takes_nothing_away_at_once():
    talk = Changes(CLUSTER={EVERYTHING})
    talk.hear(change(Kind.CLUSTER, "n1", cluster("a"), cluster("b")))
    talk.again()
    talk.hear(change(Kind.CLUSTER, "n2", removed=("a", "b")))
    assert dict(talk.cache.with_values(Kind.CLUSTER)).keys() == {"a", "b"}
    talk.hear(change(Kind.CLUSTER, "n3", cluster("b", timeout=2), version="2"))
    talk.pass_time(30)
    assert dict(talk.cache.with_values(Kind.CLUSTER)).keys() == {"b"}
