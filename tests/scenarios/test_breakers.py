"""Circuit breakers from YAML, with live calls: where each stands is seen in the status, in explain and in metrics."""

from __future__ import annotations

import gc
import random
from collections import Counter

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from meshlib import errors
from meshlib.cli.decision import decision_lines
from meshlib.httpx import MeshTransport
from meshlib.telemetry.metrics import IstioMetrics
from meshlib.testing import ManualClock, ScriptedTransport, mesh_of
from tests.conftest import endpoint_slice, service

URL = "http://guarded/"
CLUSTER = "outbound|80||guarded.default.svc.cluster.local"
ONE, OTHER = "10.0.0.1:80", "10.0.0.2:80"


def policy(scope):
    return f"""
apiVersion: meshlib.dev/v1alpha1
kind: ClientPolicy
metadata: {{name: guarded}}
spec:
  hosts: [guarded]
  circuitBreaker: {{consecutiveErrors: 3, openFor: 10s, halfOpenRequests: 1, scope: {scope}}}
"""


@pytest.fixture(params=["Endpoint", "Cluster"])
def world(request):
    """Scope, clock, mesh, a client, the script of both endpoints, and what the metrics count."""
    slices = endpoint_slice("guarded", "v1", ("10.0.0.1", 80), ("10.0.0.2", 80))
    gc.collect()  # metrics tell of all meshes of the process, and one of another test may still be there
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    clock = ManualClock()
    with mesh_of(service("guarded", 80), slices, policy(request.param), clock=clock, rng=random.Random(1)) as mesh:
        mesh.observer.metrics = IstioMetrics(meters.get_meter("test"), mesh.client, meters)
        wire = Looking({ONE: [503], OTHER: [503]})
        with httpx.Client(transport=MeshTransport(mesh, transport=wire)) as client:
            yield request.param, clock, mesh, client, wire, reader
    meters.shutdown()


def standing(mesh, scope, reader):
    """Where the breakers stand: the status, explain and the metrics agree."""
    (cluster,) = mesh.status().clusters
    (live,) = (destination.live for destination in mesh.explain("GET", URL).destinations)
    assert live["breaker_state"] == cluster["breaker_state"]
    assert live["breaker"] == cluster["breaker"]
    if scope == "Cluster":
        assert [each["breaker_state"] for each in cluster["endpoints"]] == [None, None]
        assert gauge(reader, "cluster") == Counter({cluster["breaker_state"]: 1}) - Counter(closed=1)
        return {cluster["breaker_state"]}
    assert cluster["breaker_state"] is None
    found = {each["address"]: each["breaker_state"] for each in cluster["endpoints"]}
    assert live["breakers"] == {key: state for key, state in found.items() if state != "closed"}
    assert gauge(reader, "endpoint") == Counter(live["breakers"].values())
    return set(found.values())


def gauge(reader, scope):
    """How many breakers the metrics call open and half open."""
    found = Counter()
    for point in points(reader, "meshlib_circuit_breakers"):
        if (point.attributes["cluster"], point.attributes["scope"]) == (CLUSTER, scope):
            found[point.attributes["state"]] += point.value
    return +found


def points(reader, name):
    data = reader.get_metrics_data()
    metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
    return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


def changes(reader):
    found = points(reader, "meshlib_health_changes_total")
    return {(point.attributes["scope"], point.attributes["change"]): point.value for point in found}


def test_a_breaker_is_seen_closed_open_half_open_and_closed_again(world):
    scope, clock, mesh, client, wire, reader = world
    seen = []
    assert client.get(URL).status_code == 503
    assert standing(mesh, scope, reader) == {"closed"}
    while len(wire.seen) < 6 and "closed" in standing(mesh, scope, reader):
        client.get(URL)
    assert standing(mesh, scope, reader) == {"open"}

    words = "its circuit breaker is open after 3 errors in a row; trials start in 10 s"
    decision = mesh.explain("GET", URL)
    assert any(words in line for line in decision_lines(decision, "GET", URL))
    assert decision.flag == ("UH" if scope == "Endpoint" else "UO")
    with pytest.raises(errors.MeshError) as refused:
        client.get(URL)
    assert refused.value.flag == decision.flag

    clock.advance(10.0)
    assert mesh.explain("GET", URL).flag == ""
    assert standing(mesh, scope, reader) == {"open"}, "until the first trial goes out"
    wire._script.clear()  # both are well again
    wire.look = lambda: seen.append(standing(mesh, scope, reader))
    for _ in range(30):
        assert client.get(URL).status_code == 200
    assert seen[0] == ({"half-open", "open"} if scope == "Endpoint" else {"half-open"})
    assert seen[-1] == standing(mesh, scope, reader) == {"closed"}
    number = 2 if scope == "Endpoint" else 1
    told = dict.fromkeys(("breaker_open", "breaker_half_open", "breaker_closed"), number)
    assert changes(reader) == {(scope.lower(), change): times for change, times in told.items()}


class Looking(ScriptedTransport):
    """Looks around while each attempt is under way."""

    def look(self):
        pass

    def send(self, target, request):
        self.look()
        return super().send(target, request)
