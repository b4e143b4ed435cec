"""What etcd's answers mean: revisions, events, ranges, instances; no sockets."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.providers.etcd.gateway import end_of
from meshlib.providers.etcd.keyspace import Keyspace
from meshlib.providers.etcd.registry import host_of, instance_of, service_of
from meshlib.providers.http import BadAnswer


def coded(text):
    return b64encode(text.encode()).decode()


def header(revision, cluster="7"):
    return {"cluster_id": cluster, "revision": str(revision)}


def event(revision, key, value):
    kv = {"key": coded(key), "mod_revision": str(revision)}
    return {"type": "DELETE", "kv": kv} if value is None else {"kv": kv | {"value": coded(value)}}


def kvs(values):
    return [{"key": coded(key), "value": coded(value)} for key, value in values.items()]


def plain(keys):
    return {key.decode(): value.decode() for key, value in keys.values.items()}


def replayed(history, upto):
    """What stands there after the writes up to a revision."""
    values = {}
    for _, key, value in history[:upto]:
        values.pop(key, None)
        if value is not None:
            values[key] = value
    return values


WRITES = st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.sampled_from("xyz")), min_size=1, max_size=30)


@given(WRITES, st.data())
def test_from_any_list_and_any_pieces_of_the_history_delivered_again_the_truth_comes_out(writes, data):
    history = [(number, key, value) for number, (key, value) in enumerate(writes, 1)]
    keys, listed = Keyspace(), data.draw(st.integers(0, len(history)))
    keys.listed(kvs(replayed(history, listed)), header(listed))
    while keys.revision < len(history):
        start = data.draw(st.integers(0, keys.revision))  # a server may repeat what is known
        end = data.draw(st.integers(keys.revision + 1, len(history)))
        before = plain(keys)
        changed = keys.heard({"header": header(len(history)), "events": [event(*each) for each in history[start:end]]})
        assert plain(keys) == replayed(history, max(end, keys.revision))
        differing = {key for key in "abcd" if before.get(key) != plain(keys).get(key)}
        assert differing <= {key.decode() for key in changed}
    assert plain(keys) == replayed(history, len(history))


def test_progress_moves_on_and_neither_a_greeting_nor_a_farewell_does():
    keys = Keyspace()
    keys.listed([], header(5))
    for result in ({"header": header(9), "created": True}, {"header": header(9), "canceled": True}):
        assert (keys.heard(result), keys.revision) == (set(), 5)
    keys.heard({"header": header(9)})
    assert keys.revision == 9


def test_another_cluster_and_a_history_that_got_shorter_are_noticed():
    keys = Keyspace()
    assert not keys.is_other(header(1))
    keys.listed([], header(5))
    assert not keys.is_other(header(5))
    assert keys.is_other(header(4))
    assert keys.is_other(header(50, cluster="8"))


def test_what_another_history_lacks_is_kept_until_it_is_heard_of_or_released():
    keys = Keyspace()
    keys.listed(kvs({"a": "1", "b": "1", "c": "1", "d": "1"}), header(50))
    assert keys.listed(kvs({"a": "2"}), header(3)) == {b"a"}
    assert plain(keys) == {"a": "2", "b": "1", "c": "1", "d": "1"}
    assert keys.heard({"header": header(5), "events": [event(4, "b", "1"), event(5, "c", None)]}) == {b"c"}
    assert keys.listed(kvs({"a": "2", "b": "1"}), header(5)) == set()
    assert keys.release() == {b"d"}
    assert plain(keys) == {"a": "2", "b": "1"}


@pytest.mark.parametrize("bad", [7, {"kv": 7}, {"kv": {"key": "?"}}, {"kv": {"key": "YQ==", "mod_revision": "x"}}])
def test_a_response_that_cannot_be_read_changes_nothing(bad):
    keys = Keyspace()
    keys.listed(kvs({"a": "1"}), header(5))
    with pytest.raises(BadAnswer):
        keys.heard({"header": header(7), "events": [event(6, "a", "2"), bad]})
    assert (plain(keys), keys.revision) == ({"a": "1"}, 5)


@given(st.binary(max_size=4), st.binary(max_size=6))
def test_a_range_has_exactly_the_keys_that_begin_with_the_prefix(prefix, key):
    end = end_of(prefix)
    within = key >= prefix and (end == b"\0" or key < end)
    assert within == key.startswith(prefix)


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("web/1", "web.etcd"),
        ("shop/Web/10.0.0.1:80", "web.shop.etcd"),
        ("web.internal/1", "web.internal"),
        ("web", None),
        ("web/", None),
        ("", None),
    ],
)
def test_the_service_stands_in_the_key(key, host):
    service = service_of(key)
    assert (host_of(service, "etcd") if service else None) == host


def test_both_forms_of_an_instance_are_read():
    ours = {"address": "10.0.0.1", "port": 80, "labels": {"v": "1", "bad": "a b"}, "weight": 3, "locality": "eu/a"}
    assert instance_of(json.dumps(ours).encode()) == ("10.0.0.1", 80, {"v": "1"}, 3, "eu/a", "")
    theirs = {"Op": 0, "Addr": "[fd00::1]:8080", "Metadata": {"v": "1", "n": 1}}
    assert instance_of(json.dumps(theirs).encode()) == ("fd00::1", 8080, {"v": "1"}, 1, "", "grpc")


@given(
    st.binary(max_size=20)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["address", "port", "Addr", "Metadata", "labels", "weight", "protocol", "locality"]),
                inner,
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_stands_there_is_read_or_refused_with_words(value):
    try:
        instance_of(value)
    except ValueError as error:
        assert str(error)
