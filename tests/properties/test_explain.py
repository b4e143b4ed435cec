"""``explain`` says what a live call does: the same rule, and no destination that a call could not take."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.config.compile import Universe
from meshlib.config.resources import load_dict
from meshlib.dataplane import router
from meshlib.dataplane.explain import explain
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import request_of
from meshlib.dataplane.state import State
from meshlib.errors import NoCluster, NoRoute
from meshlib.model.snapshot import Client, Snapshot

TEXTS = st.sampled_from(["/", "/a", "/a/b", "/b"])
CONDITIONS = st.one_of(
    st.builds(lambda kind, text: {"uri": {kind: text}}, st.sampled_from(["exact", "prefix"]), TEXTS),
    st.builds(lambda text: {"uri": {"regex": f"{text}.*"}}, TEXTS),
    st.builds(lambda value: {"headers": {"x-one": {"exact": value}}}, st.sampled_from(["1", "2"])),
    st.builds(lambda value: {"withoutHeaders": {"x-one": {"exact": value}}}, st.sampled_from(["1", "2"])),
    st.builds(lambda value: {"queryParams": {"q": {"exact": value}}}, st.sampled_from(["1", "2"])),
    st.just({"headers": {"x-one": {}}}),
    st.just({"method": {"exact": "POST"}}),
    st.just({"sourceLabels": {"app": "other"}}),
    st.just({"port": 81}),
)
MATCHES = st.lists(CONDITIONS, min_size=1, max_size=2).map(
    lambda parts: {k: v for part in parts for k, v in part.items()}
)
ACTIONS = st.one_of(
    st.lists(st.tuples(st.sampled_from(["v1", "v2", "v9"]), st.integers(0, 3)), min_size=1, max_size=3).map(
        lambda pairs: {
            "route": [
                {"destination": {"host": "svc", "subset": subset}, "weight": weight}
                for subset, weight in (pairs if len(pairs) == 1 or any(w for _, w in pairs) else [(pairs[0][0], 1)])
            ]
        }
    ),
    st.just({"redirect": {"uri": "/elsewhere"}}),
    st.just({"directResponse": {"status": 204}}),
)
RULES = st.lists(
    st.builds(
        lambda matches, action: {**({"match": matches} if matches else {}), **action},
        st.lists(MATCHES, max_size=2),
        ACTIONS,
    ),
    min_size=1,
    max_size=5,
)
REQUESTS = st.tuples(
    st.sampled_from(["GET", "POST"]),
    TEXTS,
    st.sampled_from(["", "?q=1", "?q=2"]),
    st.sampled_from([{}, {"x-one": "1"}, {"X-One": "2"}]),
)


def world(rules):
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "svc"},
            "spec": {"ports": [{"port": 80, "name": "http"}]},
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {"name": "svc"},
            "spec": {"host": "svc", "subsets": [{"name": "v1"}, {"name": "v2"}]},
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "svc"},
            "spec": {"hosts": ["svc"], "http": rules},
        },
    ]
    universe = Universe([load_dict(each).resources[0] for each in objects])
    return Prepared(Snapshot(universe.view(Client())), State(), 0.0, random.Random(1))


def live(prepared, request, seed):
    """(rule index, action, cluster) of a live call."""
    calls = []

    class Witness:
        def call_started(self, call, now):
            calls.append(call)

    try:
        router.begin(prepared, request, 0.0, random.Random(seed), Witness())
    except (NoRoute, NoCluster):
        pass
    (call,) = calls
    route = call.route
    cluster = call.destination.name if call.destination is not None else None
    return (None if route is None else (route.origin.rule, route.origin.match)), cluster


@settings(max_examples=300, deadline=None)
@given(RULES, REQUESTS, st.integers(0, 2**32))
def test_explain_is_what_happens(rules, asked, seed):
    method, path, query, headers = asked
    prepared = world(rules)
    request = request_of(method, f"http://svc{path}{query}", headers)
    decision = explain(prepared, request)
    rule, cluster = live(prepared, request, seed)
    if rule is None:
        assert (decision.action, decision.flag) == ("none", "NR")
        return
    place = decision.route
    assert rule == ((-1, None) if place is None else (place["index"], place["match"]))
    clusters = {destination.cluster for destination in decision.destinations if destination.weight > 0}
    assert (cluster in clusters) if cluster is not None else not clusters
