"""State-of-the-world sessions, on a clock by hand."""

from __future__ import annotations

import pytest

pytest.importorskip("envoy.service.discovery.v3")

from meshlib.xds.ads.cache import Cache, Status
from meshlib.xds.ads.kinds import EVERYTHING, Kind
from meshlib.xds.ads.session import Rules
from meshlib.xds.ads.sotw import StateOfTheWorld
from meshlib.xds.messages import base_pb2, discovery_pb2, status_pb2
from tests.xds.resources import answer, api_listener, cluster, endpoints, packed, routes

NODE = base_pb2.Node(id="me")


class Talk:
    """A session and what it said."""

    def __init__(self, rules: Rules | None = None, **wanted: set[str]) -> None:
        self.cache = Cache()
        self.session = StateOfTheWorld(self.cache, NODE, rules)
        self.now = 0.0
        self.want(**wanted)
        self.session.open(self.now)

    def want(self, **wanted: set[str]) -> None:
        names = {Kind[kind]: frozenset(names) for kind, names in wanted.items()}
        for kind, asked in names.items():
            self.cache.retain(kind, asked - {EVERYTHING}, everything=EVERYTHING in asked)
        self.session.want(names, self.now)

    def said(self) -> list:
        sent, self.session.outbox[:] = list(self.session.outbox), []
        return sent

    def hear(self, response) -> list:
        self.session.receive(response, self.now)
        return self.said()

    def again(self) -> list:
        self.session.close()
        self.session.open(self.now)
        return self.said()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.session.expire(self.now)

    def value(self, kind: Kind, name: str):
        entry = self.cache.get(kind, name)
        return None if entry is None else entry.value


def test_the_node_is_told_once_on_each_stream():
    talk = Talk(LISTENER={"a"}, CLUSTER={"b"})
    assert [each.node.id for each in talk.said()] == ["me", ""]
    assert [each.node.id for each in talk.again()] == ["me", ""]


def test_an_answer_is_acknowledged_with_its_version_and_nonce():
    talk = Talk(LISTENER={"svc"})
    (first,) = talk.said()
    assert (list(first.resource_names), first.version_info, first.response_nonce) == (["svc"], "", "")
    (ack,) = talk.hear(answer(Kind.LISTENER, "7", api_listener("svc", "r"), nonce="abc"))
    assert (ack.version_info, ack.response_nonce, ack.HasField("error_detail")) == ("7", "abc", False)
    assert talk.value(Kind.LISTENER, "svc").manager.table_name == "r"


def test_everything_is_asked_for_by_naming_nothing():
    talk = Talk(CLUSTER={EVERYTHING})
    (first,) = talk.said()
    assert (first.type_url, list(first.resource_names)) == (Kind.CLUSTER.url, [])
    talk.hear(answer(Kind.CLUSTER, "1", cluster("a"), cluster("b")))
    assert dict(talk.cache.with_values(Kind.CLUSTER)).keys() == {"a", "b"}


def test_a_refusal_names_each_bad_resource_and_keeps_the_version_and_what_was_good():
    talk = Talk(CLUSTER={EVERYTHING})
    talk.hear(answer(Kind.CLUSTER, "1", cluster("a", timeout=1), cluster("b", timeout=1)))
    (nack,) = talk.hear(answer(Kind.CLUSTER, "2", cluster("a", timeout=2), cluster("b", timeout=0)))
    assert (nack.version_info, nack.response_nonce, nack.error_detail.code) == ("1", "n2", 3)
    assert nack.error_detail.message == (
        "1 of 2 Cluster resources cannot be used: [1] b: connect_timeout: must be above 0"
    )
    assert talk.value(Kind.CLUSTER, "a").cluster.connection_pool.connect_timeout == 2
    assert talk.value(Kind.CLUSTER, "b").cluster.connection_pool.connect_timeout == 1
    bad = talk.cache.get(Kind.CLUSTER, "b")
    assert (bad.status, bad.version, bad.failed_version) == (Status.NACKED, "1", "2")
    (ack,) = talk.hear(answer(Kind.CLUSTER, "3", cluster("a", timeout=2), cluster("b", timeout=3)))
    assert (ack.version_info, ack.HasField("error_detail"), bad.status) == ("3", False, Status.ACKED)


def test_garbage_is_refused_and_changes_nothing():
    talk = Talk(CLUSTER={EVERYTHING})
    talk.hear(answer(Kind.CLUSTER, "1", cluster("a")))
    broken = packed(cluster("x"))
    broken.value = b"\xff\xff\xff"
    response = answer(Kind.CLUSTER, "2")
    response.resources.extend([broken, packed(endpoints("a"))])
    (nack,) = talk.hear(response)
    assert nack.error_detail.message.startswith("2 of 2 Cluster resources cannot be used: [0] unnamed: ")
    assert "ClusterLoadAssignment is not envoy.config.cluster.v3.Cluster" in nack.error_detail.message
    assert talk.value(Kind.CLUSTER, "a") is not None


def test_a_name_that_stands_twice_is_refused():
    talk = Talk(CLUSTER={EVERYTHING})
    talk.said()
    (nack,) = talk.hear(answer(Kind.CLUSTER, "1", cluster("a"), cluster("a")))
    assert "[1] a: stands twice" in nack.error_detail.message


def test_a_wrapped_resource_is_what_is_inside():
    talk = Talk(CLUSTER={"a"})
    response = answer(Kind.CLUSTER, "1")
    response.resources.append(packed(discovery_pb2.Resource(name="a", version="9", resource=packed(cluster("a")))))
    talk.hear(response)
    assert talk.cache.get(Kind.CLUSTER, "a").version == "9"


def test_answers_of_unknown_types_and_resources_that_nobody_wants_are_passed_over():
    talk = Talk(ENDPOINT={"a"})
    talk.said()
    assert talk.hear(discovery_pb2.DiscoveryResponse(type_url="type.googleapis.com/x.Y", nonce="1")) == []
    (ack,) = talk.hear(answer(Kind.ENDPOINT, "1", endpoints("a", 1), endpoints("stranger", 2)))
    assert ack.version_info == "1"
    assert talk.cache.get(Kind.ENDPOINT, "stranger") is None


def test_after_a_lost_stream_all_names_are_asked_for_with_the_old_version_and_no_nonce():
    talk = Talk(ENDPOINT={"b", "a"})
    talk.hear(answer(Kind.ENDPOINT, "5", endpoints("a", 1), endpoints("b", 2)))
    (first,) = talk.again()
    assert (list(first.resource_names), first.version_info, first.response_nonce) == (["a", "b"], "5", "")


def test_an_empty_list_unsubscribes():
    talk = Talk(ENDPOINT={"a"})
    talk.said()
    talk.want()
    (last,) = talk.said()
    assert (last.type_url, list(last.resource_names)) == (Kind.ENDPOINT.url, [])
    assert talk.again() == []


def test_a_lower_version_is_as_good_as_any():
    talk = Talk(CLUSTER={EVERYTHING})
    talk.hear(answer(Kind.CLUSTER, "900", cluster("a", timeout=1)))
    talk.again()
    (ack,) = talk.hear(answer(Kind.CLUSTER, "1", cluster("a", timeout=2), nonce="other"))
    assert (ack.version_info, talk.value(Kind.CLUSTER, "a").cluster.connection_pool.connect_timeout) == ("1", 2)


@pytest.mark.parametrize("kind", [Kind.ROUTE, Kind.ENDPOINT])
def test_absence_means_nothing_for_routes_and_endpoints(kind):
    made = {Kind.ROUTE: routes("a", _="c"), Kind.ENDPOINT: endpoints("a", 1)}[kind]
    talk = Talk(**{kind.name: {"a", "b"}})
    talk.hear(answer(kind, "1", made))
    talk.hear(answer(kind, "2"))
    assert talk.value(kind, "a") is not None


def test_what_is_absent_from_all_clusters_is_gone():
    talk = Talk(CLUSTER={EVERYTHING})
    talk.hear(answer(Kind.CLUSTER, "1", cluster("a"), cluster("b")))
    talk.hear(answer(Kind.CLUSTER, "2", cluster("b")))
    assert talk.cache.get(Kind.CLUSTER, "a") is None


def test_what_was_asked_for_by_name_is_kept_when_it_is_deleted():
    talk = Talk(CLUSTER={"a", "b"})
    talk.hear(answer(Kind.CLUSTER, "1", cluster("a"), cluster("b")))
    talk.hear(answer(Kind.CLUSTER, "2", cluster("b")))
    entry = talk.cache.get(Kind.CLUSTER, "a")
    assert (entry.status, entry.error, entry.value is not None) == (
        Status.DOES_NOT_EXIST,
        "was deleted by the server",
        True,
    )


def test_a_server_that_fails_on_data_errors_takes_values_away():
    talk = Talk(Rules.of({"fail_on_data_errors"}), CLUSTER={"a", "b"})
    talk.hear(answer(Kind.CLUSTER, "1", cluster("a"), cluster("b")))
    talk.hear(answer(Kind.CLUSTER, "2", cluster("b", timeout=0)))
    assert (talk.value(Kind.CLUSTER, "a"), talk.value(Kind.CLUSTER, "b")) == (None, None)


def test_a_server_may_ask_to_ignore_deletions():
    talk = Talk(Rules.of({"ignore_resource_deletion"}), CLUSTER={EVERYTHING})
    talk.hear(answer(Kind.CLUSTER, "1", cluster("a"), cluster("b")))
    talk.hear(answer(Kind.CLUSTER, "2", cluster("b")))
    assert talk.value(Kind.CLUSTER, "a") is not None


def test_a_name_without_an_answer_does_not_exist_after_15_seconds():
    talk = Talk(LISTENER={"svc"})
    assert talk.session.deadline == 15
    talk.pass_time(14.9)
    assert talk.cache.get(Kind.LISTENER, "svc").status is Status.REQUESTED
    talk.pass_time(0.1)
    assert talk.cache.get(Kind.LISTENER, "svc").status is Status.DOES_NOT_EXIST
    talk.hear(answer(Kind.LISTENER, "1", api_listener("svc", "r")))
    assert talk.cache.get(Kind.LISTENER, "svc").status is Status.ACKED


def test_the_time_runs_only_while_there_is_a_stream_and_never_for_what_is_here():
    talk = Talk(LISTENER={"svc"}, CLUSTER={"a"})
    talk.hear(answer(Kind.CLUSTER, "1", cluster("a")))
    talk.now = 10
    talk.session.close()
    talk.pass_time(100)
    assert talk.cache.get(Kind.LISTENER, "svc").status is Status.REQUESTED
    talk.session.open(talk.now)
    assert talk.session.deadline == 125


def test_a_server_may_ask_for_a_longer_time_that_says_less():
    talk = Talk(Rules.of({"resource_timer_is_transient_error"}), LISTENER={"svc"})
    talk.pass_time(30)
    assert talk.cache.get(Kind.LISTENER, "svc").status is Status.TIMEOUT


def test_the_servers_word_about_one_name_ends_the_wait():
    talk = Talk(LISTENER={"svc"})
    response = answer(Kind.LISTENER, "1")
    error = response.resource_errors.add(error_detail=status_pb2.Status(code=7, message="not yours"))
    error.resource_name.name = "svc"
    talk.hear(response)
    entry = talk.cache.get(Kind.LISTENER, "svc")
    assert (entry.status, entry.error, talk.session.deadline) == (
        Status.RECEIVED_ERROR,
        "the server says: not yours",
        None,
    )


def test_a_server_that_just_started_takes_nothing_away_at_once():
    talk = Talk(CLUSTER={EVERYTHING})
    talk.hear(answer(Kind.CLUSTER, "1", cluster("a"), cluster("b")))
    talk.again()
    (ack,) = talk.hear(answer(Kind.CLUSTER, "2"))
    assert ack.version_info == "2"
    talk.pass_time(29)
    assert talk.value(Kind.CLUSTER, "a") is not None
    talk.hear(answer(Kind.CLUSTER, "3", cluster("b")))
    assert dict(talk.cache.with_values(Kind.CLUSTER)).keys() == {"b"}


@pytest.mark.parametrize("by", ["time", "a second answer"])
def test_that_there_is_nothing_any_more_is_believed_when_confirmed(by):
    talk = Talk(CLUSTER={EVERYTHING})
    talk.hear(answer(Kind.CLUSTER, "1", cluster("a")))
    talk.again()
    talk.hear(answer(Kind.CLUSTER, "2"))
    if by == "time":
        talk.pass_time(30)
    else:
        talk.hear(answer(Kind.CLUSTER, "3"))
    assert talk.value(Kind.CLUSTER, "a") is None


def test_in_the_middle_of_a_stream_an_empty_answer_is_believed():
    talk = Talk(CLUSTER={EVERYTHING}, ENDPOINT={"a"})
    talk.hear(answer(Kind.CLUSTER, "1", cluster("a")))
    talk.hear(answer(Kind.ENDPOINT, "1", endpoints("a", 1)))
    talk.hear(answer(Kind.ENDPOINT, "2", endpoints("a")))
    talk.hear(answer(Kind.CLUSTER, "2"))
    assert talk.value(Kind.ENDPOINT, "a").assignment == ()
    assert talk.value(Kind.CLUSTER, "a") is None


def test_endpoints_that_are_none_after_a_restart_are_doubted():
    talk = Talk(ENDPOINT={"a"})
    talk.hear(answer(Kind.ENDPOINT, "1", endpoints("a", 1)))
    talk.again()
    talk.hear(answer(Kind.ENDPOINT, "2", endpoints("a")))
    assert len(talk.value(Kind.ENDPOINT, "a").assignment) == 1
    talk.pass_time(30)
    assert talk.value(Kind.ENDPOINT, "a").assignment == ()


def test_a_doubt_ends_with_its_stream():
    talk = Talk(CLUSTER={EVERYTHING})
    talk.hear(answer(Kind.CLUSTER, "1", cluster("a")))
    talk.again()
    talk.hear(answer(Kind.CLUSTER, "2"))
    talk.session.close()
    talk.pass_time(100)
    assert talk.value(Kind.CLUSTER, "a") is not None


def test_the_same_again_changes_nothing():
    talk = Talk(ENDPOINT={"a"})
    talk.hear(answer(Kind.ENDPOINT, "1", endpoints("a", 1)))
    talk.cache.take_changes()
    value = talk.value(Kind.ENDPOINT, "a")
    for version in range(2, 102):
        talk.hear(answer(Kind.ENDPOINT, str(version), endpoints("a", 1)))
    assert talk.cache.take_changes() == set()
    assert talk.value(Kind.ENDPOINT, "a") is value


def test_xdstp_names_count_by_their_canonical_form_and_only_from_their_authority():
    kept, other = "xdstp://one/t/x?b=2&a=1", "xdstp://two/t/x"
    talk = Talk(Rules(authority="one"), ENDPOINT={"xdstp://one/t/x?a=1&b=2", other})
    talk.hear(answer(Kind.ENDPOINT, "1", endpoints(kept, 1), endpoints(other, 2)))
    assert talk.value(Kind.ENDPOINT, "xdstp://one/t/x?a=1&b=2") is not None
    assert talk.value(Kind.ENDPOINT, other) is None
