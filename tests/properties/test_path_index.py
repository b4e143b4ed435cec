"""The index of paths never changes which rule is found, nor what is drawn on the way."""

from __future__ import annotations

import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.dataplane.bound_route import BoundRoute
from meshlib.dataplane.path_index import PathIndex
from meshlib.dataplane.prepared import PreparedHost
from meshlib.model.route import (
    Forward,
    HeaderMatch,
    MatchKind,
    QueryMatch,
    Route,
    RouteMatch,
    StringMatch,
    VirtualHost,
    WeightedCluster,
)
from tests.dataplane.worlds import request

SEGMENTS = ["a", "A", "ab", "b", "api", "v1", "", "?"]
paths = st.lists(st.sampled_from(SEGMENTS), max_size=4).map(lambda parts: "/" + "/".join(parts))
lookups = st.sampled_from([MatchKind.EXACT, MatchKind.PREFIX, MatchKind.SEGMENT_PREFIX])
path_matches = st.one_of(
    st.none(),
    st.builds(StringMatch, lookups, paths, st.booleans()),
    st.builds(StringMatch, lookups, st.sampled_from(["", "/", "*"])),
    st.builds(StringMatch, st.sampled_from([MatchKind.SUFFIX, MatchKind.CONTAINS]), paths, st.booleans()),
    st.builds(StringMatch, st.just(MatchKind.REGEX), st.sampled_from(["/a.*", "/[ab]+", "(?i)/api/.*"])),
)
matches = st.builds(
    RouteMatch,
    path_matches,
    headers=st.sampled_from([(), (), (HeaderMatch("x"),), (HeaderMatch("x", invert=True),)]),
    query=st.sampled_from([(), (), (), (QueryMatch("q"),)]),
    grpc=st.sampled_from([False, False, False, True]),
    parts_per_million=st.sampled_from([None, None, 500_000]),
)
targets = st.tuples(paths, st.sampled_from(["", "?q=1", "?/a"])).map("".join)


def host(rules: list[RouteMatch]) -> PreparedHost:
    action = Forward((WeightedCluster("c"),))
    routes = [Route(f"r{number}", match, action) for number, match in enumerate(rules)]
    return PreparedHost(VirtualHost("svc", 80, tuple(routes)), (BoundRoute(route, ()) for route in routes))


class Indexed(PreparedHost):
    INDEXED = 0


class Scanned(PreparedHost):
    INDEXED = 10**9


@settings(max_examples=300, deadline=None)
@given(st.lists(matches, max_size=30), st.lists(targets, min_size=1, max_size=6), st.booleans(), st.integers(0, 2**32))
def test_with_and_without_the_index_the_same_rule_is_found_after_the_same_draws(rules, asked, has_header, seed):
    made = host(rules)
    indexed, scanned = Indexed(made.host, made.routes), Scanned(made.host, made.routes)
    one, other = random.Random(seed), random.Random(seed)
    for target in asked:
        given_request = request(path=target, headers={"x": "1"} if has_header else {})
        assert indexed.find(given_request, one) is scanned.find(given_request, other)
    assert one.getstate() == other.getstate()


@given(st.lists(path_matches, max_size=40), targets)
def test_candidates_come_in_order_and_miss_nobody(conditions, target):
    found = list(PathIndex(conditions).candidates(target))
    assert found == sorted(set(found))
    holds = host([RouteMatch(path) for path in conditions])
    for number, route in enumerate(holds.routes):
        if route.matches(request(path=target), random.Random(1)):
            assert number in found


def test_a_thousand_rules_cost_about_what_ten_cost():
    def cost(count: int) -> float:
        kinds = [MatchKind.PREFIX, MatchKind.EXACT, MatchKind.SEGMENT_PREFIX]
        made = host([RouteMatch(StringMatch(kinds[n % 3], f"/service/{n}/x")) for n in range(count)] + [RouteMatch()])
        asked = [request(path=f"/service/{n * count // 10}/x") for n in range(10)] + [request(path="/none")]
        rng, best = random.Random(1), float("inf")
        for _ in range(7):
            started = time.perf_counter()
            for _ in range(100):
                for each in asked:
                    assert made.find(each, rng) is not None
            best = min(best, time.perf_counter() - started)
        return best

    assert cost(1000) < 3 * cost(10)
