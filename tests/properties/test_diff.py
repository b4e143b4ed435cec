"""A request is listed exactly when ``explain`` gives it another fate; equal configurations differ in nothing."""

from __future__ import annotations

import copy
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshlib.dataplane.explain import explain
from meshlib.dataplane.prepared import Prepared
from meshlib.diff import Recorded, diff
from tests.properties.meshes import CLIENT, MESH, REQUEST, prepared, snapshot

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
NAMES = ("virtual_service", "resource", "route", "rules", "reasons", "host_reasons", "origins")
"""What says how a decision came about, not what happens."""


def fate(world: Prepared, request):
    """What explain prints, without names, explanations and order."""
    found = explain(world, request).to_dict()
    for name in NAMES:
        del found[name]
    for destination in found["destinations"]:
        del destination["left_out"], destination["live"]
        destination["policy"] = {value["field"]: value["value"] for value in destination["policy"]}
        destination["priorities"] = [level for level in destination["priorities"] if level["percent"]]
        destination["endpoints"].sort()
    if found["hash_key"] is not None:
        del found["hash_key"]["value"], found["hash_key"]["generated"]
    found["destinations"] = merged(found["destinations"])
    found["fault"] = [part for part in (found["fault"] or {}).values() if part and part["percentage"]]
    return found


def merged(destinations):
    """By everything but the weight: the same destination written twice is one."""
    weights = {}
    for destination in destinations:
        weight = destination.pop("weight")
        key = json.dumps(destination, sort_keys=True)
        weights[key] = weights.get(key, 0) + weight
    return {key: round(weight, 2) for key, weight in weights.items()}


def recorded(request):
    headers = tuple((name.decode(), value.decode()) for name, value in request.raw_headers)
    return Recorded(request.method, f"{request.scheme}://{request.host}:{request.port}{request.path}", headers)


@st.composite
def pairs(draw):
    """Two meshes that have much in common: some objects are another draw's."""
    old, other = draw(MESH), draw(MESH)
    theirs = {(each["kind"], each["metadata"]["name"]): each for each in other}
    new = []
    for each in old:
        key = (each["kind"], each["metadata"]["name"])
        new.append(copy.deepcopy(theirs[key] if key in theirs and draw(st.booleans()) else each))
    return old, new


@settings(max_examples=80, deadline=None, suppress_health_check=SLOW)
@given(pairs(), CLIENT, st.lists(REQUEST, min_size=1, max_size=4))
def test_a_request_is_listed_exactly_when_its_fate_differs(both, client, requests):
    old, new = both
    before, after = prepared(old, client), prepared(new, client)
    asked = {recorded(request): request for request in requests}
    found = diff(snapshot(old, client), snapshot(new, client), list(asked))
    listed = {request for group in found.groups for request, _ in group.requests}
    differing = {each for each, request in asked.items() if fate(before, request) != fate(after, request)}
    assert listed == differing
    assert (found.total, found.unusable) == (len(asked), ())


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(MESH, CLIENT, st.lists(REQUEST, max_size=3))
def test_equal_configurations_differ_in_nothing(objects, client, requests):
    one, other = snapshot(objects, client), snapshot(copy.deepcopy(objects), client)
    assert not diff(one, other, [recorded(request) for request in requests])
    assert not diff(one, other)


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(pairs(), CLIENT, REQUEST)
def test_what_moves_leaves_one_distribution_and_makes_the_other(both, client, request):
    old, new = (snapshot(objects, client) for objects in both)
    for group in diff(old, new, [recorded(request)]).groups:
        shares = dict(group.old.shares)
        for source, target, percent in group.moves:
            shares[source] = shares[source] - percent
            shares[target] = shares.get(target, 0.0) + percent
        wanted = dict(group.new.shares)
        assert all(abs(shares.get(place, 0.0) - wanted.get(place, 0.0)) < 0.01 for place in {*shares, *wanted})
