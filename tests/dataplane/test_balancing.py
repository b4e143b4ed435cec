"""The share of each priority, consistent hashing against published vectors, and what a picker never does."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.dataplane.balancing.consistent import maglev_table, ring_entries
from meshlib.dataplane.balancing.pick import Moment, Picker
from meshlib.dataplane.balancing.priority import PriorityHealth, loads
from meshlib.dataplane.balancing.xxhash import xxh64
from meshlib.dataplane.state import EndpointState
from meshlib.model.endpoint import Endpoint, LocalityEndpoints
from meshlib.model.policy import BalancerKind, LoadBalancer

KINDS = [BalancerKind.ROUND_ROBIN, BalancerKind.LEAST_REQUEST, BalancerKind.RANDOM, BalancerKind.RING_HASH]
HOSTS = [("10.0.0.1:80", 1), ("10.0.0.2:80", 1), ("10.0.0.3:80", 1)]

PRIORITIES = [
    ((100, 100), 50, 140, (100, 0), (False, False)),
    ((80, 100), 50, 140, (100, 0), (False, False)),
    ((70, 100), 50, 140, (98, 2), (False, False)),
    ((60, 100), 50, 140, (84, 16), (False, False)),
    ((50, 100), 50, 140, (70, 30), (False, False)),
    ((50, 60), 50, 140, (70, 30), (False, False)),
    ((30, 100), 50, 140, (42, 58), (False, False)),
    ((20, 100), 50, 140, (28, 72), (False, False)),
    ((10, 60), 50, 140, (15, 85), (True, False)),
    ((30, 30), 50, 140, (50, 50), (True, True)),
    ((20, 20), 50, 140, (50, 50), (True, True)),
    ((40, 0), 50, 140, (50, 50), (True, True)),
    ((0, 0), 50, 140, (50, 50), (True, True)),
    ((20, 20), 0, 140, (50, 50), (False, False)),
    ((0, 0), 0, 140, (0, 0), (False, False)),
    ((80, 100), 50, 100, (80, 20), (False, False)),
    ((20, 30, 50), 50, 140, (28, 42, 30), (False, False, False)),
]


@pytest.mark.parametrize(("healthy", "threshold", "factor", "shares", "panics"), PRIORITIES)
def test_the_share_of_every_priority(healthy, threshold, factor, shares, panics):
    counts = [PriorityHealth(10, percent // 10) for percent in healthy]
    found = loads(counts, overprovisioning=factor, panic_threshold=threshold)
    assert tuple(load.percent for load in found) == shares
    assert tuple(load.panic for load in found) == panics


def test_published_hashes():
    assert xxh64(b"abc") == 0x44BC2CF5AD770999
    assert xxh64(b"abc", 1) == 0xBEA9CA8199328908
    assert xxh64(b"The quick brown fox jumps over the lazy dog") == 0x0B242D361FDA71BC


def test_maglev_tables():
    assert "".join("ABC"[index] for index in maglev_table(HOSTS, 13)) == "CABACBBABACAC"
    weighted = [HOSTS[0], ("10.0.0.2:80", 3)]
    assert "".join("AB"[index] for index in maglev_table(weighted, 13)) == "BABBBBBABABAB"
    table = maglev_table(HOSTS)
    owners = ["ABC"[table[xxh64(b"user-%d" % number) % len(table)]] for number in (1, 2, 3, 4)]
    assert owners == ["B", "C", "A", "C"]
    assert sorted(Counter(table).values()) == [21845, 21846, 21846]


def test_the_default_ring():
    entries = ring_entries(HOSTS, 1024)
    assert len(entries) == 1026
    first = {key: "ABC"[owner] for key, owner in reversed(entries)}
    keys = sorted(first)
    owners = [first[next(k for k in keys if k >= xxh64(b"user-%d" % number))] for number in (1, 2, 3, 4)]
    assert owners == ["B", "B", "C", "B"]


def picker(kind, health, weights=None, panic=0.0, seed=1):
    weights = weights or [1] * len(health)
    members = [Endpoint(f"10.0.0.{n}", 80, weight=weight) for n, weight in enumerate(weights)]
    states = [EndpointState(member.key, member, 0.0) for member in members]
    for state, healthy in zip(states, health, strict=True):
        state.ejected_at = None if healthy else 0.0
    balancer = LoadBalancer(kind, min_ring_size=16, panic_ratio=panic)
    return Picker(balancer, [(LocalityEndpoints(tuple(members)), states)], Moment(random.Random(seed))), states


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.lists(st.booleans(), min_size=1, max_size=8), st.integers(0, 99))
def test_no_unhealthy_endpoint_is_picked_without_panic(kind, health, seed):
    found, states = picker(kind, health, seed=seed)
    rng = random.Random(seed)
    picked = {found.pick(rng) for _ in range(20)}
    assert picked <= ({s for s in states if s.ejected_at is None} or {None})


def test_in_panic_all_are_used():
    found, states = picker(BalancerKind.RANDOM, [True, False, False, False], panic=0.5)
    rng = random.Random(1)
    assert found.panic
    assert {found.pick(rng) for _ in range(200)} == set(states)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.integers(0, 99))
def test_turns_follow_the_weights(weights, seed):
    found, states = picker(BalancerKind.ROUND_ROBIN, [True] * len(weights), weights, seed=seed)
    rng = random.Random(seed)
    rounds = 20
    counts = Counter(found.pick(rng) for _ in range(rounds * sum(weights)))
    for state, weight in zip(states, weights, strict=True):
        assert counts[state] == pytest.approx(rounds * weight, abs=len(weights) + weight)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 9), st.integers(0, 99))
def test_least_request_never_takes_the_busiest_of_two_draws(size, seed):
    found, states = picker(BalancerKind.LEAST_REQUEST, [True] * size, seed=seed)
    states[0].active = 5
    rng = random.Random(seed)
    assert states[0] not in {found.pick(rng) for _ in range(100)}
