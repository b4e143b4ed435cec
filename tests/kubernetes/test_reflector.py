"""One collection, listed and watched: every rule without a socket."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.providers.kubernetes.collections import Collection, ResourceType
from meshlib.providers.kubernetes.failures import Failure, of_status
from meshlib.providers.kubernetes.reflector import Reflector
from meshlib.providers.kubernetes.store import Store
from meshlib.providers.kubernetes.tuning import Tuning
from tests.kubernetes.cluster import Cluster, Refused, Selection
from tests.kubernetes.objects import service

SERVICES = ResourceType("", "v1", "services", "Service")
GONE = Failure("410 Expired: too old", 410)
BROKEN = Failure("it broke")


def reflector(**tuning):
    return Reflector(Collection(SERVICES), Store(SERVICES, "test"), Random(7), Tuning(**tuning))


def thing(name, version, port=80):
    made = service(name, port=port)
    made["metadata"]["resourceVersion"] = str(version)
    return made


def page(*things, version=100, more=""):
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(things)}


def event(kind, value):
    return {"type": kind, "object": value}


def bookmark(version, **notes):
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version), "annotations": notes}})


def resources(known):
    return list(known.store.facts().resources)


def names(known):
    return sorted(each.metadata.name for each in resources(known))


def listed(*things, **tuning):
    known = reflector(**tuning)
    known.ask(0.0)
    known.page(page(*things), 0.0)
    return known


def test_a_list_in_pages_is_whole_at_its_end_and_a_watch_goes_on_from_it():
    known = reflector(limit=2)
    assert known.ask(0.0).query == {"limit": "2"}
    known.page(page(thing("a", 1), thing("b", 2), more="next"), 0.0)
    assert (names(known), known.is_synced) == (["a", "b"], False)
    assert known.ask(0.0).query == {"limit": "2", "continue": "next"}
    known.page(page(thing("c", 3), version=101), 0.0)
    assert (names(known), known.is_synced) == (["a", "b", "c"], True)
    ask = known.ask(0.0)
    assert ask.watch
    assert ask.query["resourceVersion"] == "101"
    assert ask.query["allowWatchBookmarks"] == "true"


def test_a_page_that_fails_is_asked_for_again_and_pages_before_it_are_kept():
    known = reflector(limit=1)
    known.page(page(thing("a", 1), more="next"), 0.0)
    known.failed(BROKEN)
    ask = known.ask(0.0)
    assert ask.query["continue"] == "next"
    assert ask.wait > 0
    known.page(page(thing("b", 2)), 0.0)
    assert names(known) == ["a", "b"]


def test_a_continuation_that_is_too_old_starts_the_list_anew_in_one_piece():
    known = reflector(limit=1)
    known.page(page(thing("gone", 1), more="next"), 0.0)
    known.failed(GONE)
    ask = known.ask(0.0)
    assert (ask.query, ask.wait) == ({}, 0.0)
    known.page(page(thing("a", 3), thing("b", 4), version=5), 0.0)
    assert names(known) == ["a", "b"]
    known.failed(GONE)
    assert known.ask(0.0).query == {"limit": "1"}, "the next list comes in pages again"


def test_events_and_bookmarks_move_the_version_on():
    known = listed(thing("a", 1))
    known.event(event("ADDED", thing("b", 103)), 0.0)
    assert known.ask(0.0).query["resourceVersion"] == "103"
    known.event(bookmark(190), 0.0)
    assert known.ask(0.0).query["resourceVersion"] == "190"
    known.event(event("DELETED", thing("a", 191)), 0.0)
    assert names(known) == ["b"]
    assert known.ask(0.0).query["resourceVersion"] == "191"


def test_versions_are_opaque():
    known = reflector()
    known.page(page(thing("a", "zz-1"), version="zz-9"), 0.0)
    known.event(event("MODIFIED", thing("a", "aa-2", port=81)), 0.0)
    assert resources(known)[0].spec.ports[0].port == 81
    assert known.ask(0.0).query["resourceVersion"] == "aa-2"


@pytest.mark.parametrize("failure", [GONE, of_status({"reason": "Gone", "code": 410, "message": "too old"})])
def test_410_leads_to_one_list_at_once_and_deletions_of_the_gap_are_applied(failure):
    known = listed(thing("a", 1), thing("b", 2))
    before = {each.metadata.name: each for each in resources(known)}
    known.failed(failure)
    ask = known.ask(0.0)
    assert (ask.watch, ask.wait) == (False, 0.0)
    assert names(known) == ["a", "b"], "until the list has come"
    known.page(page(thing("b", 2), thing("c", 8), version=200), 0.0)
    assert names(known) == ["b", "c"]
    assert resources(known)[0] is before["b"], "what did not change is the very same"


def test_410_again_and_again_is_not_asked_about_in_a_circle():
    known = listed(thing("a", 1))
    waits = []
    for _ in range(5):
        known.failed(GONE)
        waits.append(known.ask(0.0).wait)
    assert waits[0] == 0.0
    assert all(wait > 0.3 for wait in waits[1:])


def test_410_comes_as_an_event_too():
    known = listed(thing("a", 1))
    failure = known.event(event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "old"}), 0.0)
    assert failure is not None
    assert failure.is_gone


def test_a_server_that_was_set_back_is_listed_anew():
    refusal = Refused(504, "Timeout", "Too large", causes=[{"reason": "ResourceVersionTooLarge"}], retryAfterSeconds=1)
    failure = of_status(refusal.status())
    assert failure.too_new
    known = listed(thing("a", 90))
    known.failed(failure)
    ask = known.ask(0.0)
    assert not ask.watch
    assert ask.wait >= 1
    known.page(page(thing("a", 3, port=81), version=7), 0.0)
    assert resources(known)[0].spec.ports[0].port == 81
    known.event(event("MODIFIED", thing("a", 8, port=82)), 0.0)
    assert resources(known)[0].spec.ports[0].port == 82


def test_a_server_that_was_away_is_listed_anew_and_one_that_broke_off_is_resumed():
    known = listed(thing("a", 1))
    known.failed(BROKEN)
    assert known.ask(0.0).watch
    known.failed(Failure("refused", away=True))
    assert not known.ask(0.0).watch


def test_three_failures_without_an_event_between_lead_to_a_list():
    known = listed(thing("a", 1))
    for _ in range(2):
        known.failed(BROKEN)
        assert known.ask(0.0).watch
    known.failed(BROKEN)
    assert not known.ask(0.0).watch


def test_a_connection_that_is_cut_when_idle_is_no_outage():
    known = listed(thing("a", 1))
    for _ in range(20):
        known.failed(BROKEN, lived=60.0)
        ask = known.ask(0.0)
        assert ask.watch
        assert ask.wait <= 0.8


def test_waits_grow_to_half_a_minute_are_drawn_and_end_with_a_good_answer():
    known = reflector()
    waits = []
    for _ in range(12):
        known.failed(BROKEN)
        waits.append(known.ask(0.0).wait)
    assert 0.4 <= waits[0] <= 0.8
    assert all(15.0 <= wait <= 30.0 for wait in waits[6:])
    assert len({round(wait, 3) for wait in waits[6:]}) > 3
    known.page(page(), 0.0)
    assert (known.failures, known.trouble) == (0, "")


def test_the_server_says_how_long_to_stay_away():
    known = reflector()
    known.failed(of_status({"code": 429, "reason": "TooManyRequests", "message": "later"}, retry_after=12.0))
    assert known.ask(0.0).wait == 12.0


def test_what_may_not_be_listed_keeps_nobody_waiting_and_is_asked_about_seldom():
    known = reflector()
    known.failed(of_status({"code": 403, "reason": "Forbidden", "message": "nodes is forbidden"}))
    assert known.is_synced
    assert known.ask(0.0).wait >= 30.0
    assert "nodes is forbidden" in known.trouble


def test_an_empty_list_is_believed_the_second_time():
    known = listed(thing("a", 1))
    known.failed(GONE)
    known.page(page(version=300), 0.0)
    assert (names(known), known.is_holding) == (["a"], True)
    ask = known.ask(0.0)
    assert (ask.watch, ask.wait >= 2.5) == (False, True)
    known.page(page(version=301), 0.0)
    assert (names(known), known.is_holding) == ([], False)
    assert known.ask(0.0).watch


def test_an_empty_list_that_fills_again_changed_nothing():
    known = listed(thing("a", 1))
    changes = known.store.changes
    known.failed(GONE)
    known.page(page(version=300), 0.0)
    known.page(page(thing("a", 1), version=301), 0.0)
    assert (names(known), known.is_holding, known.store.changes) == (["a"], False, changes)


def test_a_first_list_may_be_empty():
    known = listed()
    assert known.is_synced
    assert known.ask(0.0).watch


def test_go_writes_null_for_no_items():
    known = reflector()
    known.page({"metadata": {"resourceVersion": "4"}, "items": None}, 0.0)
    assert known.is_synced


def test_watches_that_end_at_once_are_not_asked_for_in_a_circle():
    known = listed(thing("a", 1))
    known.ended(300.0, 0)
    assert known.ask(0.0).wait == 0.0
    known.ended(0.01, 0)
    assert known.ask(0.0).wait > 0.3


def test_everything_is_listed_again_from_time_to_time():
    known = listed(thing("a", 1), resync=3600.0)
    assert known.ask(1700.0).watch
    assert not known.ask(3600.0).watch
    assert listed(thing("a", 1), resync=0.0).ask(1e9).watch


def test_a_list_as_a_stream_is_whole_at_the_bookmark_that_ends_it():
    known = reflector(streaming=True)
    query = known.ask(0.0).query
    assert (query["sendInitialEvents"], query["resourceVersionMatch"]) == ("true", "NotOlderThan")
    assert "resourceVersion" not in query
    known.event(event("ADDED", thing("a", 1)), 0.0)
    known.event(bookmark(50), 0.0)
    assert not known.is_synced
    known.event(bookmark(60, **{"k8s.io/initial-events-end": "true"}), 0.0)
    assert names(known) == ["a"]
    ask = known.ask(0.0)
    assert (ask.query["resourceVersion"], "sendInitialEvents" in ask.query) == ("60", False)


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_knows_no_streams_is_asked_for_lists(status):
    known = reflector(streaming=True)
    assert known.ask(0.0).watch
    known.failed(Failure("sendInitialEvents is forbidden", status))
    assert not known.ask(0.0).watch


def test_a_server_that_never_ends_the_initial_events_is_asked_for_lists():
    known = reflector(streaming=True)
    known.ask(0.0)
    known.event(event("ADDED", thing("a", 1)), 0.0)
    known.silent()
    assert not known.ask(0.0).watch


def test_repeated_and_older_events_change_nothing():
    known = listed(thing("a", 1))
    known.event(event("MODIFIED", thing("a", 110, port=81)), 0.0)
    changes = known.store.changes
    known.event(event("MODIFIED", thing("a", 110, port=81)), 0.0)
    known.event(event("MODIFIED", thing("a", 105, port=70)), 0.0)
    known.event(event("DELETED", thing("a", 104)), 0.0)
    assert known.store.changes == changes
    assert resources(known)[0].spec.ports[0].port == 81


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"type": "ADDED"},
        {"type": 1, "object": {}},
        {"type": "ADDED", "object": {}},
        {"type": "ADDED", "object": {"metadata": 1}},
    ],
)
def test_what_is_no_event_is_an_error_and_moves_nothing(value):
    known = listed(thing("a", 1))
    with pytest.raises(ValueError, match=r"object|event"):
        known.event(value, 0.0)
    assert known.ask(0.0).query["resourceVersion"] == "100"


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "delete", "compact", "cut", "poll", "garbage"]),
        st.sampled_from("abc"),
        st.integers(1, 4),
    ),
    max_size=40,
)


@given(ACTIONS, st.integers(1, 3), st.booleans())
def test_whatever_happens_on_the_way_it_converges_on_what_the_server_has(actions, limit, streaming):
    """A real storage on one side, the machine on the other, and everything that may go wrong between them."""
    cluster = Cluster()
    of = cluster.of_kind("Service")
    known = reflector(limit=limit, streaming=streaming)
    for act, name, number in actions:
        if act == "put":
            cluster.put(service(name, port=number))
        elif act == "delete" and ("default", name) in cluster.objects.get("services", {}):
            cluster.delete("Service", name)
        elif act == "compact":
            cluster.compact()
        elif act == "cut":
            known.failed(BROKEN)
        elif act == "garbage":
            known.failed(Failure("garbage"))
        elif act == "poll":
            step(known, cluster, of, most=number)
    for _ in range(30):
        step(known, cluster, of)
    wanted = {key: value["spec"]["ports"][0]["port"] for key, value in cluster.objects.get("services", {}).items()}
    found = {(r.metadata.namespace, r.metadata.name): r.spec.ports[0].port for r in resources(known)}
    assert found == wanted


def step(known, cluster, of, most=1000):
    """One request, answered by the storage."""
    ask = known.ask(0.0)
    try:
        if not ask.watch:
            limit, token = int(ask.query.get("limit", 0)), ask.query.get("continue", "")
            known.page(cluster.page(of, Selection(), limit, token, ""), 0.0)
            return
        send = "sendInitialEvents" in ask.query
        events = list(cluster.initial(of, Selection(), ask.query.get("resourceVersion", ""), send))
        for each in events[:most]:
            known.event(each, 0.0)
        if send and len(events) <= most:
            known.event(bookmark(cluster.version, **{"k8s.io/initial-events-end": "true"}), 0.0)
    except Refused as refusal:
        known.failed(of_status(refusal.status()))
