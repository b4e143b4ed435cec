"""Priorities and weights by locality, as Istio's cases expect, and what a cluster makes of them."""

from __future__ import annotations

from collections import Counter

import pytest

from meshlib.config.compile import Universe
from meshlib.config.compile.locality import LocalitySetting, assign, effective_setting
from meshlib.config.resources import load_text
from meshlib.config.resources.destination_rule import LocalityLoadBalancerSetting, ZoneAwareLoadBalancerSetting
from meshlib.model.endpoint import Endpoint, Locality
from meshlib.model.snapshot import Client
from tests.conftest import data_cases


def place(given):
    given = given or {}
    return Locality(given.get("region", ""), given.get("zone", ""), given.get("subzone", ""))


def zone_aware(given):
    return None if given is None else ZoneAwareLoadBalancerSetting.model_validate(given)


def plain(given):
    """Placeholders (null) of the data stand for entries that do not matter there."""
    if given is None:
        return None
    kept = {key: [e for e in value if e] if isinstance(value, list) else value for key, value in given.items()}
    return LocalityLoadBalancerSetting.model_validate(kept)


@pytest.mark.parametrize("case", data_cases("lb/locality.json"))
def test_locality(case):
    if case["check"] == "effective_lb_setting":
        _effective(case)
        return
    client = Client(locality=place(case["client"].get("locality")), labels=case["client"].get("labels", {}))
    endpoints = [
        Endpoint(e["address"], 80, e.get("labels", {}), e.get("weight", 1), place(e["locality"]))
        for e in case["endpoints"]
    ]
    if case["check"] == "zone_aware_failover":
        setting = LocalitySetting(zone_aware=zone_aware(case["setting"]), forced=True)
    else:
        setting = LocalitySetting(plain(case["setting"]))
    groups = assign(client, endpoints, setting, ejects=True)
    if "expect_priority" in case:
        assert {e.address: g.priority for g in groups for e in g.endpoints} == case["expect_priority"]
    if "expect_weight" in case:
        shares = {
            e.address: g.weight * e.weight / sum(m.weight for m in g.endpoints) for g in groups for e in g.endpoints
        }
        assert shares == {address: weight for address, weight in case["expect_weight"].items() if weight}


def _effective(case):
    rule, mesh = case["destination_rule"] or {}, case["mesh"] or {}
    got = effective_setting(
        plain(rule.get("localityLbSetting")),
        zone_aware(rule.get("zoneAwareLbSetting")),
        case["service_traffic_distribution"],
        zone_aware(mesh.get("zoneAwareLbSetting")),
        plain(mesh.get("localityLbSetting")),
    )
    wanted = case["expect"]
    assert got.forced is wanted["force_failover"]
    for block, spelled in ((got.locality, "locality"), (got.zone_aware, "zone_aware")):
        expected = wanted[spelled]
        assert (block is None) is (expected is None), spelled
        if block is not None:
            assert block == (plain if spelled == "locality" else zone_aware)(expected)


WORLD = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: svc}
spec:
  hosts: [svc.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 10.0.0.1, locality: us/a}
  - {address: 10.0.0.2, locality: us/b}
  - {address: 10.0.0.3, locality: eu/a}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: svc}
spec: {host: svc.example, trafficPolicy: %s}
"""


@pytest.mark.parametrize(
    ("policy", "groups"),
    [
        ("{loadBalancer: {simple: RANDOM}}", {"10.0.0.1": 0, "10.0.0.2": 0, "10.0.0.3": 0}),
        ("{outlierDetection: {}}", {"10.0.0.1": 0, "10.0.0.2": 1, "10.0.0.3": 2}),
        (
            "{outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}}",
            {"10.0.0.1": 0, "10.0.0.2": 0, "10.0.0.3": 0},
        ),
        (
            "{loadBalancer: {localityLbSetting: {distribute: [{from: 'us/*', to: {'us/*': 80, 'eu/*': 20}}]}}}",
            {"10.0.0.1": 40, "10.0.0.2": 40, "10.0.0.3": 20},
        ),
    ],
)
def test_a_cluster_takes_its_priorities_and_weights_from_the_rule(policy, groups):
    universe = Universe(load_text(WORLD % policy).resources)
    view = universe.view(Client(locality=Locality("us", "a")))
    name = "outbound|80||svc.example"
    weighted = view.cluster(name).load_balancer.locality_weighted
    found = {e.address: (g.weight if weighted else g.priority) for g in view.assignment(name) for e in g.endpoints}
    assert found == groups


def test_traffic_goes_where_the_weights_say():
    import random

    from meshlib.dataplane.prepared import Prepared
    from meshlib.dataplane.state import State
    from meshlib.model.snapshot import Snapshot

    policy = "{loadBalancer: {localityLbSetting: {distribute: [{from: 'us/*', to: {'us/*': 80, 'eu/*': 20}}]}}}"
    view = Universe(load_text(WORLD % policy).resources).view(Client(locality=Locality("us", "a")))
    cluster = Prepared(Snapshot(view), State(), 0.0, random.Random(1)).cluster("outbound|80||svc.example")
    rng = random.Random(3)
    counts = Counter(cluster.pick(None, rng, 0.0, None, (), 0).endpoint.address for _ in range(3000))
    assert counts["10.0.0.3"] == pytest.approx(600, abs=90)
