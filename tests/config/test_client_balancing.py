"""Balancing in a ClientPolicy: what it replaces, what it leaves, what is refused, and that calls obey it."""

from __future__ import annotations

import httpx
import pytest

from meshlib.config.compile import Universe
from meshlib.config.resources import load_text
from meshlib.config.validation import validate
from meshlib.httpx import MeshTransport
from meshlib.model.policy import BalancerKind, LoadBalancer, LoadReports, PeakEwma, SlowStart
from meshlib.model.snapshot import Client
from meshlib.testing import ManualClock, ScriptedTransport, mesh_of
from tests.conftest import endpoint_slice, service

NAME = "outbound|80||svc.default.svc.cluster.local"
POLICY = "apiVersion: meshlib.dev/v1alpha1\nkind: ClientPolicy\nmetadata: {{name: p}}\nspec: {{hosts: [svc], {}}}"
RULE = (
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: svc}}\n"
    "spec: {{host: svc, trafficPolicy: {{loadBalancer: {}}}}}"
)


def balancer(given, rule="{simple: ROUND_ROBIN}"):
    loaded = load_text("\n---\n".join([service("svc", 80), RULE.format(rule), POLICY.format(given)]))
    assert not [p for p in loaded.problems if p.level.value == "Error"], loaded.problems
    return Universe(loaded.resources).view(Client()).cluster(NAME).load_balancer


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("retryBudget: {}", LoadBalancer(BalancerKind.ROUND_ROBIN)),
        ("loadBalancer: {algorithm: PEAK_EWMA}", LoadBalancer(BalancerKind.PEAK_EWMA)),
        (
            "loadBalancer: {algorithm: PEAK_EWMA, peakEwma: {decay: 5s, initialLatency: 100ms}}",
            LoadBalancer(BalancerKind.PEAK_EWMA, peak_ewma=PeakEwma(5.0, 0.1)),
        ),
        (
            "loadBalancer: {algorithm: CLIENT_SIDE_WEIGHTED_ROUND_ROBIN, loadReports: {blackoutPeriod: 0s, "
            "weightExpirationPeriod: 60s, weightUpdatePeriod: 2s, errorUtilizationPenalty: 0.5, "
            "metricNames: [named_metrics.queue]}}",
            LoadBalancer(
                BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN,
                load_reports=LoadReports(0.0, 60.0, 2.0, 0.5, ("named_metrics.queue",)),
            ),
        ),
        (
            "loadBalancer: {leastRequest: {choiceCount: 4, activeRequestBias: 0.5}, subsetSize: 20}",
            LoadBalancer(BalancerKind.ROUND_ROBIN, choice_count=4, active_request_bias=0.5, subset_size=20),
        ),
    ],
)
def test_a_policy_is_laid_over_the_destination_rule(given, wanted):
    assert balancer(given) == wanted


def test_warm_up_and_locality_of_the_destination_rule_stay():
    rule = "{simple: LEAST_REQUEST, warmup: {duration: 30s}, zoneAwareLbSetting: {minClusterSize: 3}}"
    found = balancer("loadBalancer: {algorithm: CLIENT_SIDE_WEIGHTED_ROUND_ROBIN}", rule)
    assert (found.slow_start, found.zone_aware.min_cluster_size) == (SlowStart(30.0), 3)


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ("{consistentHash: {httpHeaderName: x}}", BalancerKind.RING_HASH),
        ("{consistentHash: {httpHeaderName: x, maglev: {tableSize: 13}}}", BalancerKind.MAGLEV),
        ("{simple: PASSTHROUGH}", BalancerKind.PASSTHROUGH),
    ],
)
def test_hashing_and_passing_through_are_not_replaced(rule, kind):
    found = balancer("loadBalancer: {algorithm: PEAK_EWMA, hashBalanceFactor: 125}", rule)
    assert (found.kind, found.hash_balance_factor) == (kind, 125)


def problems(given):
    loaded = load_text(POLICY.format(given))
    return [*loaded.problems, *(problem for resource in loaded.resources for problem in validate(resource))]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ("loadBalancer: {subsetSize: 0}", "spec.loadBalancer.subsetSize"),
        ("loadBalancer: {hashBalanceFactor: 100}", "spec.loadBalancer.hashBalanceFactor"),
        ("loadBalancer: {algorithm: FASTEST}", "spec.loadBalancer.algorithm"),
        ("loadBalancer: {algorithm: PEAK_EWMA, peakEwma: {decay: 0s}}", "spec.loadBalancer.peakEwma.decay"),
        ("loadBalancer: {leastRequest: {choiceCount: 1}}", "spec.loadBalancer.leastRequest.choiceCount"),
        ("loadBalancer: {leastRequest: {activeRequestBias: -1}}", "spec.loadBalancer.leastRequest.activeRequestBias"),
        (
            "loadBalancer: {loadReports: {errorUtilizationPenalty: -1}}",
            "spec.loadBalancer.loadReports.errorUtilizationPenalty",
        ),
        ("loadBalancer: {loadReports: {metricNames: [speed]}}", "spec.loadBalancer.loadReports.metricNames[0]"),
        (
            "loadBalancer: {loadReports: {weightExpirationPeriod: 0s}}",
            "spec.loadBalancer.loadReports.weightExpirationPeriod",
        ),
        ("stickyWeights: {by: [{}]}", "spec.stickyWeights.by[0]"),
        ("stickyWeights: {by: [{httpCookie: {ttl: 1s}}]}", "spec.stickyWeights.by[0].httpCookie.name"),
        ("stickyWeights: {by: [{httpHeaderName: 'a b'}]}", "spec.stickyWeights.by[0].httpHeaderName"),
        ("stickyWeights: {by: [{httpHeaderName: a}, {httpHeaderName: a}]}", "spec.stickyWeights.by[1]"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_field(given, field):
    found = problems(given)
    assert [p.path for p in found if p.level.value == "Error"] == [field], found


@pytest.mark.parametrize(
    "given",
    [
        "loadBalancer: {peakEwma: {}}",
        "loadBalancer: {loadReports: {}}",
        "loadBalancer: {algorithm: PEAK_EWMA, leastRequest: {}}",
        "loadBalancer: {algorithm: CLIENT_SIDE_WEIGHTED_ROUND_ROBIN, loadReports: {weightUpdatePeriod: 10ms}}",
    ],
)
def test_settings_that_have_no_effect_are_warned_of(given):
    assert [p.level.value for p in problems(given)] == ["Warning"]


def test_effective_policy_says_where_each_value_stands():
    given = "loadBalancer: {algorithm: PEAK_EWMA, subsetSize: 3}"
    with mesh_of(service("svc", 80), POLICY.format(given), telemetry=False) as mesh:
        told = {value.field: (value.value, value.origin) for value in mesh.effective_policy("svc")}
    place = "ClientPolicy p spec.loadBalancer"
    assert told["loadBalancer.simple"] == ("PEAK_EWMA", f"{place}.algorithm")
    assert told["loadBalancer.subsetSize"] == (3, f"{place}.subsetSize")


# Live calls ---------------------------------------------------------------------------------------------------------


def shares(given, script, number, *, wait=0.0, **options):
    """How often each endpoint is called by ``number`` calls, ``wait`` seconds apart."""
    slices = endpoint_slice("svc", "v1", *((f"10.0.0.{n}", 80) for n in range(1, len(script) + 1)))
    wire = ScriptedTransport({f"10.0.0.{n}:80": [step] for n, step in enumerate(script, 1)})
    clock = ManualClock()
    mesh = mesh_of(service("svc", 80), slices, POLICY.format(given), telemetry=False, clock=clock, **options)
    with mesh, httpx.Client(transport=MeshTransport(mesh, transport=wire)) as client:
        for _ in range(number):
            client.get("http://svc/")
            clock.advance(wait)
    return [wire.seen.count(f"10.0.0.{n}:80") for n in range(1, len(script) + 1)]


@pytest.mark.parametrize("header", ["endpoint-load-metrics", "Endpoint-Load-Metrics"])
def test_calls_follow_the_load_reports_in_headers(header):
    def answer(cpu):
        return 200, {header: f"TEXT cpu_utilization={cpu},rps_fractional=100"}, b"ok"

    given = "loadBalancer: {algorithm: CLIENT_SIDE_WEIGHTED_ROUND_ROBIN, loadReports: {blackoutPeriod: 0s}}"
    busy, idle = shares(given, [answer(0.8), answer(0.2)], 1000, wait=0.01)
    assert idle / busy == pytest.approx(4, rel=0.25)


def test_a_process_calls_no_more_endpoints_than_it_may():
    chosen = set()
    for worker in ("a", "a", "b", "c", "d"):
        found = shares("loadBalancer: {subsetSize: 2}", [200] * 9, 100, worker=worker)
        assert sum(count > 0 for count in found) == 2
        chosen.add((worker, *(n for n, count in enumerate(found) if count)))
    assert len(chosen) == 4, "the same name, the same endpoints"
    assert len({tuple(used) for _, *used in chosen}) > 1
