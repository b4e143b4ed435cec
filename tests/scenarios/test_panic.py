"""Endpoints go and come back one by one under load, across the panic threshold and back: nobody is left without one."""

from __future__ import annotations

import httpx
import pytest

from meshlib import errors
from meshlib.httpx import MeshTransport
from meshlib.testing import ManualClock, ScriptedTransport, mesh_of
from tests.conftest import endpoint_slice, service

ADDRESSES = [f"10.0.0.{number}" for number in range(1, 5)]


def rule(health):
    detection = "consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 30s, maxEjectionPercent: 100"
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: svc}}
spec:
  host: svc
  trafficPolicy:
    loadBalancer: {{simple: ROUND_ROBIN}}
    outlierDetection: {{{detection}, minHealthPercent: {health}}}
"""


class Failing(ScriptedTransport):
    """Endpoints that are ``bad`` answer 503."""

    bad: frozenset[str] = frozenset()

    def send(self, target, request):
        self._script = {f"{address}:80": [503] for address in self.bad}
        return super().send(target, request)


class World:
    """A mesh with four endpoints of which some fail, its clock, and a client."""

    def __init__(self, health):
        self.clock, self.wire = ManualClock(), Failing()
        slices = endpoint_slice("svc", "v1", *((address, 80) for address in ADDRESSES))
        self.mesh = mesh_of(service("svc", 80), slices, rule(health), clock=self.clock, telemetry=False)
        self.client = httpx.Client(transport=MeshTransport(self.mesh, transport=self.wire))

    def asked(self, calls=40):
        """Which endpoints so many calls reach."""
        before = len(self.wire.seen)
        for _ in range(calls):
            self.client.get("http://svc/")
        return set(self.wire.seen[before:])

    def panics(self):
        """What the status says; explain says the same."""
        (cluster,) = self.mesh.status().clusters
        (destination,) = self.mesh.explain("GET", "http://svc/").destinations
        assert destination.live["panic"] == cluster["panic"]
        return cluster["panic"]

    def close(self):
        self.client.close()
        self.mesh.close()


@pytest.fixture
def world():
    made = []

    def make(health):
        made.append(World(health))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_there_is_no_dead_zone_on_either_side_of_the_threshold(world):
    four = {f"{address}:80" for address in ADDRESSES}
    it = world(50)
    assert it.asked() == four
    for out in range(1, 5):
        it.wire.bad = frozenset(ADDRESSES[:out])
        it.asked()  # the bad ones are found and ejected
        healthy = four - {f"{address}:80" for address in ADDRESSES[:out]}
        assert it.panics() is (out > 2)
        assert it.asked() == (four if out > 2 else healthy)
    for back in range(1, 5):  # the time of all is over; who fails still is ejected anew
        it.wire.bad = frozenset(ADDRESSES[back:])
        it.clock.advance(400.0)
        it.asked()
        assert it.panics() is (back < 2)
        assert it.asked() == (four if back < 2 else {f"{address}:80" for address in ADDRESSES[:back]})


def test_without_a_threshold_nobody_panics_and_the_error_says_how_many_are_out(world):
    it = world(0)
    it.asked()
    it.wire.bad = frozenset(ADDRESSES)
    with pytest.raises(errors.NoHealthyUpstream, match=r"4 endpoints of .*, 4 ejected"):
        it.asked()
    assert it.panics() is False
    it.wire.bad = frozenset()
    it.clock.advance(31.0)
    assert len(it.asked()) == 4
