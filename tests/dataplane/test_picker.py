"""Pickers over priorities, localities and zones, and what a cluster makes of age, ejection and churn."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.dataplane.balancing.pick import Moment, Picker
from meshlib.dataplane.balancing.priority import Load, PriorityHealth, loads
from meshlib.dataplane.balancing.xxhash import xxh64
from meshlib.dataplane.balancing.zone_aware import Zone, zone_weights
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.dataplane.state import EndpointState
from meshlib.model.endpoint import Endpoint, Health, Locality, LocalityEndpoints
from meshlib.model.policy import BalancerKind, LoadBalancer, PeakEwma, SlowStart, ZoneAware
from tests.dataplane.worlds import NAME, endpoints, prepared, request

EVERY_KIND = [kind for kind in BalancerKind if kind is not BalancerKind.PASSTHROUGH]


def group(number, size, *, priority=0, weight=None, zone="", up=None, health=None, **more):
    """``size`` endpoints 10.0.<number>.*, the first ``up`` of which are healthy."""
    members = tuple(
        Endpoint(f"10.0.{number}.{n + 1}", 80, health=(health or {}).get(n, Health.HEALTHY)) for n in range(size)
    )
    states = [EndpointState(member.key, member, 0.0) for member in members]
    for state in states[size if up is None else up :]:
        state.ejected_at = 0.0
    return LocalityEndpoints(members, Locality("r", zone or f"z{number}"), priority, weight, **more), states


def picker(*groups, seed=1, now=0.0, worker=0, **settings_):
    kind, excluded = settings_.pop("kind", BalancerKind.RANDOM), settings_.pop("excluded", ())
    moment = Moment(random.Random(seed), now, lambda: 0, worker)
    return Picker(LoadBalancer(kind, **settings_), groups, moment, excluded=excluded)


def shares(found, number=8000, keys=False):
    """Share of each group (the third part of the address)."""
    rng = random.Random(7)
    counts = Counter()
    for n in range(number):
        state = found.pick(rng, 0.0, xxh64(b"%d" % n) if keys else None)
        counts[int(state.endpoint.address.split(".")[2])] += 1 / number
    return counts


# Priorities ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [False, True])
@pytest.mark.parametrize(("up", "share"), [(10, 1.0), (7, 0.98), (5, 0.7), (3, 0.42), (0, 0.0)])
def test_traffic_spills_over_as_priority_0_loses_endpoints(up, share, keys):
    kind = BalancerKind.RING_HASH if keys else BalancerKind.RANDOM
    found = shares(picker(group(0, 10, up=up), group(1, 10, priority=1), kind=kind), keys=keys)
    assert found[0] == pytest.approx(share, abs=0.02)


DEGRADED = [
    ([(10, 5, 5)], [(70, 30)]),
    ([(10, 8, 2)], [(100, 0)]),
    ([(10, 0, 10)], [(0, 100)]),
    ([(10, 2, 3), (10, 10, 0)], [(28, 0), (72, 0)]),
    ([(10, 2, 4), (10, 2, 4)], [(28, 44), (28, 0)]),
    ([(10, 1, 1), (10, 1, 1)], [(25, 25), (25, 25)]),
]


@pytest.mark.parametrize(("counts", "wanted"), DEGRADED)
def test_degraded_endpoints_take_what_the_healthy_of_all_priorities_leave(counts, wanted):
    found = loads([PriorityHealth(*each) for each in counts])
    assert [(load.percent, load.degraded) for load in found] == wanted
    assert sum(load.percent + load.degraded for load in found) == 100


def test_degraded_endpoints_are_picked_for_their_share_alone():
    half = dict.fromkeys(range(5, 10), Health.DEGRADED)
    found = picker(group(0, 10, health=half))
    rng = random.Random(1)
    degraded = sum(found.pick(rng).endpoint.health is Health.DEGRADED for _ in range(8000)) / 8000
    assert degraded == pytest.approx(0.3, abs=0.02)
    assert [(level.percent, level.degraded) for level in found.levels] == [(70, False), (30, True)]
    assert all(
        s.endpoint.health is Health.HEALTHY for s in [picker(group(0, 10, health={9: Health.DEGRADED})).pick(rng)] * 9
    )


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12)).map(
            lambda t: PriorityHealth(sum(t), t[0], t[1])
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 100),
    st.integers(100, 200),
)
def test_the_shares_add_up_and_nobody_without_endpoints_gets_any(priorities, threshold, factor):
    found = loads(priorities, overprovisioning=factor, panic_threshold=threshold)
    total = sum(load.percent + load.degraded for load in found)
    assert total == 100 or found == [Load(0, False)] * len(priorities)
    for priority, load in zip(priorities, found, strict=True):
        assert load.percent >= 0 <= load.degraded
        if not load.panic:
            assert (load.percent == 0 or priority.healthy) and (load.degraded == 0 or priority.degraded)
        assert priority.total or not load.percent


def test_in_panic_localities_are_not_weighted():
    weighted = picker(group(0, 2, weight=9, up=0), group(1, 2, weight=1, up=1), panic_ratio=0.5, locality_weighted=True)
    found = shares(weighted)
    assert weighted.panic
    assert found[0] == pytest.approx(0.5, abs=0.03)


def test_where_panic_is_to_fail_nobody_is_picked():
    assert picker(group(0, 4, up=1), panic_ratio=0.5, fail_on_panic=True).pick(random.Random(1)) is None


def test_a_retry_may_leave_out_the_priorities_it_has_been_to():
    groups = group(0, 4), group(1, 4, priority=1), group(2, 4, priority=2, up=2)
    for excluded, used in (((), 0), ((0,), 1), ((0, 1), 2)):
        assert shares(picker(*groups, excluded=excluded)) == pytest.approx({used: 1.0})
    assert picker(*groups, excluded=(0, 1, 2)).pick(random.Random(1)) is None


# Localities and zones -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("weights", "up", "share"), [((1, 3), (4, 4), 0.25), ((1, 1), (4, 2), 1 / 1.7)])
def test_a_locality_is_drawn_by_weight_and_health(weights, up, share):
    groups = [group(n, 4, weight=w, up=u) for n, (w, u) in enumerate(zip(weights, up, strict=True))]
    assert shares(picker(*groups, locality_weighted=True))[0] == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("kind", [BalancerKind.RING_HASH, BalancerKind.MAGLEV])
def test_a_ring_weighs_endpoints_by_their_locality_and_not_by_its_health(kind):
    """Weights 1 and 3, two endpoints of four up in the second: 1 : 3 all the same."""
    found = picker(group(0, 4, weight=1), group(1, 4, weight=3, up=2), locality_weighted=True, kind=kind)
    assert shares(found, keys=True)[0] == pytest.approx(0.25, abs=0.04)


ZONES = [
    ([(4, 4, True), (4, 4, False)], [1, 0]),
    ([(6, 4, True), (2, 4, False)], [1, 0]),
    ([(2, 4, True), (6, 4, False)], [5000, 5000]),
    ([(3, 6, True), (6, 2, False), (3, 4, False)], [5000, 5000, 0]),
    ([(2, 6, True), (4, 1, False), (6, 5, False)], [3332, 6668 * 2500 / 3334, 6668 * 834 / 3334]),
    ([(0, 6, True), (9, 3, False)], [0, 10_000]),
    ([(3, 0, True), (5, 8, False)], [1, 0]),
]


@pytest.mark.parametrize(("zones", "weights"), ZONES)
def test_callers_stay_in_their_zone_as_far_as_it_can_take_them(zones, weights):
    found = zone_weights([Zone(*zone) for zone in zones], 1)
    assert found == pytest.approx(weights, rel=0.001)


@pytest.mark.parametrize(
    "zones",
    [
        [(6, 3, True)],
        [(2, 3, True), (3, 3, False)],
        [(4, 3, False), (4, 3, False)],
        [(4, None, True), (4, 3, False)],
        [(4, 0, True), (4, 0, False)],
        [(0, 3, True), (0, 3, False)],
    ],
    ids=["one zone", "fewer than six", "not here", "callers unknown", "no callers", "nobody healthy"],
)
def test_zones_are_alike_where_envoy_takes_them_for_alike(zones):
    assert zone_weights([Zone(*zone) for zone in zones], 6) is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=2, max_size=5))
def test_with_zone_aware_callers_everywhere_every_endpoint_gets_an_equal_load(zones):
    """What Envoy's residual algorithm is for: however callers are spread, no zone is overrun."""
    callers, upstream = sum(c for _, c in zones), sum(e for e, _ in zones)
    load = [0.0] * len(zones)
    for near, (_, here) in enumerate(zones):
        weights = zone_weights([Zone(e, c, n == near) for n, (e, c) in enumerate(zones)], 1)
        for number, weight in enumerate(weights):
            load[number] += here / callers * weight / sum(weights)
    for number, (size, _) in enumerate(zones):
        assert load[number] == pytest.approx(size / upstream, abs=0.002)


def test_a_picker_routes_by_zone_inside_priority_0_only():
    zone_aware = {"zone_aware": ZoneAware(6)}
    near, far = {"callers": 6, "near": True}, {"callers": 6}
    found = shares(picker(group(0, 2, **near), group(1, 6, **far), **zone_aware))
    assert found[0] == pytest.approx(0.5, abs=0.02)
    spilled = picker(group(0, 2, up=0), group(1, 2, priority=1, **near), group(2, 6, priority=1, **far), **zone_aware)
    assert shares(spilled)[1] == pytest.approx(0.25, abs=0.02)


# Every kind ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(EVERY_KIND),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 99),
)
def test_no_kind_picks_an_unhealthy_endpoint_or_starves_a_healthy_one(kind, sizes, weighted, seed):
    groups = [group(n, size, up=min(up, size), priority=p, weight=1 + n % 3) for n, (size, up, p) in enumerate(sizes)]
    found = picker(*groups, kind=kind, seed=seed, min_ring_size=32, table_size=101, locality_weighted=weighted)
    rng = random.Random(seed)
    picked = {found.pick(rng, 0.0, rng.getrandbits(64)) for _ in range(400)}
    healthy = {state for _, states in groups for state in states if state.ejected_at is None}
    assert picked <= (healthy or {None})
    used = [level for level in found.levels if level.percent >= 5]
    wanted = {state for level in used for part in level.parts for state in part.usable}
    assert wanted <= picked or kind.hashes


@pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
def test_an_endpoint_is_met_twice_only_when_all_were_met(kind):
    found, rng = picker(group(0, 5), kind=kind), random.Random(1)
    for key in range(20):
        tried = []
        for _ in range(5):
            tried.append(found.pick(rng, 0.0, xxh64(b"%d" % key), tried, redraws=5))
        assert len(set(tried)) == 5


# A cluster ----------------------------------------------------------------------------------------------------------


def cluster_of(assignment, **load_balancer):
    return prepared(assignment, load_balancer=LoadBalancer(**load_balancer)).cluster(NAME)


def counted(cluster, number, now):
    rng = random.Random(1)
    return Counter(cluster.pick(request(), rng, now, None, (), 0).endpoint.address for _ in range(number))


@pytest.mark.parametrize("kind", [BalancerKind.ROUND_ROBIN, BalancerKind.LEAST_REQUEST])
def test_a_new_endpoint_warms_up_and_then_costs_nothing(kind):
    cluster = cluster_of(endpoints("10.0.0.1", "10.0.0.2"), kind=kind, slow_start=SlowStart(60.0))
    cluster.update(endpoints("10.0.0.1", "10.0.0.2", "10.0.0.3"), 100.0, random.Random(1))
    for age in (6.0, 30.0):
        share = age / 60 / (2 + age / 60)
        assert counted(cluster, 3000, 100.0 + age)["10.0.0.3"] / 3000 == pytest.approx(share, abs=0.01)
    assert counted(cluster, 3000, 160.0)["10.0.0.3"] == pytest.approx(1000, abs=120)
    settled = cluster._picker
    counted(cluster, 10, 500.0)
    assert cluster._picker is settled, "beyond the ramp nothing is looked at again"


def test_even_with_few_requests_a_warming_endpoint_gets_its_share():
    """Two requests in each step of the ramp; schedulers that always began with the heavy ones would starve it."""
    cluster = cluster_of(endpoints("10.0.0.1", "10.0.0.2"), slow_start=SlowStart(100.0), kind=BalancerKind.ROUND_ROBIN)
    cluster.update(endpoints("10.0.0.1", "10.0.0.2", "10.0.0.3"), 1000.0, random.Random(5))
    rng, found = random.Random(1), 0
    for step in range(2000):
        now = 1040.0 + step / 100
        found += cluster.pick(request(), rng, now, None, (), 0).endpoint.address == "10.0.0.3"
    assert found / 2000 == pytest.approx(0.5 / 2.5, abs=0.03)


def test_an_endpoint_that_left_and_came_back_warms_up_again_but_keeps_what_was_learnt():
    both, one = endpoints("10.0.0.1", "10.0.0.2"), endpoints("10.0.0.1")
    cluster = cluster_of(both, kind=BalancerKind.PEAK_EWMA, peak_ewma=PeakEwma())
    state = cluster.members[1]
    cluster.answered(state, Outcome.of_status(200), 0.25, 1.0)
    state.active = 2
    for assignment, now in ((one, 2.0), (both, 5.0)):
        cluster.update(assignment, now, random.Random(1))
    assert cluster.members[1] is state
    assert (state.active, state.latency.value, state.warm_since) == (2, 0.25, 5.0)


def test_identical_and_reordered_updates_change_nothing_that_was_learnt():
    cluster = cluster_of(endpoints("10.0.0.1", "10.0.0.2"), slow_start=SlowStart(60.0))
    before = {state.key: (state, state.warm_since) for state in cluster.members}
    for number in range(100):
        names = ("10.0.0.1", "10.0.0.2")[:: 1 if number % 2 else -1]
        cluster.update(endpoints(*names), float(number), random.Random(1))
    assert {state.key: (state, state.warm_since) for state in cluster.members} == before


@pytest.mark.parametrize(
    ("outcome", "known"),
    [
        (Outcome.of_status(200), True),
        (Outcome.of_status(404), True),
        (Outcome.of_status(503), True),
        (Outcome.of_failure(Failure.CANCELLED), False),
        (Outcome.of_failure(Failure.POOL_TIMEOUT), False),
    ],
)
def test_what_callers_and_this_process_do_says_nothing_about_latency(outcome, known):
    cluster = cluster_of(endpoints("10.0.0.1"), kind=BalancerKind.PEAK_EWMA)
    cluster.answered(cluster.members[0], outcome, 0.1, 1.0)
    assert (cluster.members[0].latency is not None) is known


def test_a_process_replaces_an_ejected_endpoint_of_its_few_by_the_next_in_rank():
    world = endpoints(*(f"10.0.0.{n}" for n in range(1, 31)))
    cluster = cluster_of(world, subset_size=5, kind=BalancerKind.ROUND_ROBIN)
    mine = set(counted(cluster, 200, 0.0))
    assert len(mine) == 5
    out = next(state for state in cluster.members if state.endpoint.address in mine)
    out.ejected_at = 0.0
    cluster.state.health_version += 1
    now = set(counted(cluster, 200, 0.0))
    assert len(now) == 5
    assert now & mine == mine - {out.endpoint.address}
    out.ejected_at = None
    cluster.state.health_version += 1
    assert set(counted(cluster, 200, 0.0)) == mine
