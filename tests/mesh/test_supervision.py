"""Providers that break, fall silent, come back empty and flap: the last good stays, and status says what is up."""

from __future__ import annotations

import asyncio

import pytest

from meshlib import Mesh
from meshlib.config.resources import load_dict, load_text
from meshlib.empty_guard import CONFIRM, LEASE, EmptyGuard
from meshlib.providers import Facts, Objects
from meshlib.supervise import _pause
from tests.conftest import endpoint_slice, service
from tests.mesh.test_mesh import until

CLUSTER = "outbound|80||svc.default.svc.cluster.local"


def facts(*addresses):
    slices = [endpoint_slice("svc", "v1", *((address, 80) for address in addresses))] if addresses else []
    return Facts(tuple(each for text in (service("svc", 80), *slices) for each in load_text(text).resources))


FULL, OTHER, BARE, NOTHING = facts("10.0.0.1"), facts("10.0.0.2"), facts(), Facts()


# The guard ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [BARE, NOTHING], ids=["no endpoints", "nothing"])
def test_an_empty_answer_on_a_new_connection_is_held_until_its_lease_ends(empty):
    guard = EmptyGuard()
    assert guard.take(FULL, 0.0) is FULL
    guard.anew()
    assert guard.take(empty, 10.0) is None
    assert guard.held_since == 10.0
    assert guard.end(10.0 + LEASE - 0.1) is None
    assert guard.end(10.0 + LEASE) is empty
    assert guard.held_since is None


def test_a_fuller_answer_counts_at_once():
    guard = EmptyGuard(last=FULL)
    assert guard.take(BARE, 0.0) is None
    assert guard.take(OTHER, 0.1) is OTHER
    assert guard.held_since is None
    assert guard.end(LEASE * 2) is None


def test_the_same_answer_some_seconds_later_confirms_it_and_sooner_does_not():
    guard = EmptyGuard(last=FULL)
    assert guard.take(NOTHING, 0.0) is None
    assert guard.take(NOTHING, CONFIRM - 0.1) is None
    assert guard.take(NOTHING, CONFIRM) is NOTHING


def test_a_connection_that_has_spoken_before_is_believed_and_so_is_the_first_of_all():
    guard = EmptyGuard()
    assert guard.take(NOTHING, 0.0) is NOTHING
    assert guard.take(FULL, 1.0) is FULL
    assert guard.take(BARE, 2.0) is BARE


def test_an_answer_that_takes_some_away_is_not_held():
    many = facts("10.0.0.1", "10.0.0.2", "10.0.0.3")
    assert EmptyGuard(last=many).take(FULL, 0.0) is FULL


def test_a_lease_of_nothing_holds_nothing():
    assert EmptyGuard(0.0, last=FULL).take(NOTHING, 0.0) is NOTHING


# A mesh over scripted providers -------------------------------------------------------------------------------------


class Scripted:
    """Does in its nth run what the nth step says."""

    name = "scripted"

    def __init__(self, *steps, **attributes):
        self.steps = list(steps)
        self.runs = 0
        vars(self).update(attributes)

    async def run(self, publish):
        step = self.steps[min(self.runs, len(self.steps) - 1)]
        self.runs += 1
        await step(publish)


async def forever():
    await asyncio.Event().wait()


def addresses(mesh):
    return sorted(each.address for group in mesh.snapshot.assignment(CLUSTER) for each in group.endpoints)


def test_a_peer_that_fell_silent_is_asked_anew_and_keeps_what_it_said_meanwhile():
    again = []

    async def talks_once(publish):
        publish(FULL)
        await forever()

    async def comes_back(publish):
        while not again:
            await asyncio.sleep(0.01)
        publish(OTHER)
        while True:
            publish.alive()
            await asyncio.sleep(0.01)

    provider = Scripted(talks_once, comes_back, silence=0.2)
    with Mesh(provider, telemetry=False) as mesh:
        mesh.ready()
        until(lambda: mesh.status().providers[0]["state"] == "waiting", 20.0)
        (status,) = mesh.status().providers
        assert "nothing was heard for 0.2 s" in status["error"]
        assert status["age"] >= 0.2
        assert addresses(mesh) == ["10.0.0.1"]
        provider.silence = 30.0
        until(lambda: provider.runs > 1, 20.0)
        again.append(True)
        until(lambda: addresses(mesh) == ["10.0.0.2"], 20.0)
        assert mesh.status().providers[0]["error"] == ""


def test_signs_of_life_keep_a_run_going_without_news():
    beats = []

    async def beats_only(publish):
        publish(FULL)
        while True:
            await asyncio.sleep(0.02)
            beats.append(publish.alive())

    with Mesh(provider := Scripted(beats_only, silence=2.0), telemetry=False) as mesh:
        mesh.ready()
        until(lambda: len(beats) > 20, 20.0)
        assert provider.runs == 1
        (status,) = mesh.status().providers
        assert status["silent"] < status["age"]


def test_what_comes_back_empty_is_held_and_told_of():
    async def breaks(publish):
        publish(FULL)
        raise ConnectionResetError("restarted")

    filled = []

    async def comes_back_empty(publish):
        publish(BARE)
        while not filled:
            await asyncio.sleep(0.005)
        publish(OTHER)
        await forever()

    with Mesh(Scripted(breaks, comes_back_empty), telemetry=False) as mesh:
        mesh.ready()
        until(lambda: mesh.status().providers[0]["held_empty"], 20.0)
        assert addresses(mesh) == ["10.0.0.1"]
        assert mesh.status().providers[0]["state"] == "running"
        filled.append(True)
        until(lambda: addresses(mesh) == ["10.0.0.2"], 20.0)
        assert not mesh.status().providers[0]["held_empty"]


def test_a_lease_that_ends_lets_the_empty_answer_through():
    async def breaks(publish):
        publish(FULL)
        raise ConnectionResetError("restarted")

    async def comes_back_empty(publish):
        publish(BARE)
        await forever()

    with Mesh(Scripted(breaks, comes_back_empty, empty_lease=0.05), telemetry=False) as mesh:
        mesh.ready()
        until(lambda: addresses(mesh) == [], 20.0)
        until(lambda: not mesh.status().providers[0]["held_empty"])


def test_a_reconnection_inside_a_run_is_guarded_when_the_provider_says_so():
    async def reconnects(publish):
        publish(FULL)
        publish.anew()
        publish(BARE)
        await forever()

    with Mesh(Scripted(reconnects), telemetry=False) as mesh:
        mesh.ready()
        until(lambda: mesh.status().providers[0]["held_empty"])
        assert addresses(mesh) == ["10.0.0.1"]


def test_a_watch_that_ends_politely_is_begun_anew_and_what_changed_meanwhile_arrives():
    async def ends(publish):
        publish(FULL)

    async def goes_on(publish):
        publish(OTHER)
        await forever()

    with Mesh(Scripted(ends, goes_on), telemetry=False) as mesh:
        mesh.ready()
        until(lambda: addresses(mesh) == ["10.0.0.2"], 20.0)
        assert mesh.status().providers[0]["state"] == "running"


def test_the_same_set_again_in_any_order_and_form_changes_nothing():
    pair = ["10.0.0.1", "10.0.0.2"]

    async def repeats(publish):
        for number in range(100):
            publish(facts(*pair[:: -1 if number % 2 else 1]))
            await asyncio.sleep(0)
        publish(Facts(facts(*pair).resources, version="last"))
        await forever()

    with Mesh(Scripted(repeats), telemetry=False) as mesh:
        mesh.ready(["svc:80"])
        before = list(mesh.state.cluster(CLUSTER).endpoints.values())
        before[0].ejections = 3
        until(lambda: mesh.status().providers[0]["version"] == "last", 20.0)
        after = list(mesh.state.cluster(CLUSTER).endpoints.values())
        assert all(one is other for one, other in zip(before, after, strict=True))
        assert after[0].ejections == 3
        assert all(each.left_at is None for each in after)


def test_an_endpoint_that_leaves_and_comes_back_keeps_its_memory():
    step = []

    async def flaps(publish):
        for number, given in enumerate((facts("10.0.0.1", "10.0.0.2"), FULL, facts("10.0.0.2", "10.0.0.1"))):
            publish(given)
            while len(step) <= number:
                await asyncio.sleep(0.005)
        await forever()

    ejecting = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "svc"},
        "spec": {"host": "svc", "trafficPolicy": {"outlierDetection": {"baseEjectionTime": "300s"}}},
    }
    with Mesh(Scripted(flaps), ejecting, telemetry=False) as mesh:
        mesh.ready(["svc:80"])
        state = mesh.state.cluster(CLUSTER).endpoints["10.0.0.2:80"]
        state.ejections, state.ejected_at = 2, mesh.clock.now()
        step.append(1)
        until(lambda: addresses(mesh) == ["10.0.0.1"], 20.0)
        step.append(2)
        until(lambda: len(addresses(mesh)) == 2, 20.0)
        assert mesh.state.cluster(CLUSTER).endpoints["10.0.0.2:80"] is state
        assert (state.ejections, state.ejected_at is not None) == (2, True)


def test_two_hundred_that_lose_one_source_at_once_do_not_come_back_at_once():
    for failures, bound in ((1, 0.5), (4, 4.0), (9, 30.0)):
        waits = sorted(_pause(failures) for _ in range(200))
        assert waits[0] < bound * 0.1
        assert bound * 0.8 < waits[-1] <= bound
        most = max(sum(start <= wait < start + bound / 10 for wait in waits) for start in waits)
        assert most < 60, "a tenth of the time holds about a tenth of them"


def test_ten_thousand_flaps_end_in_the_last_state_and_leave_the_rest_in_peace():
    """Most are never compiled: what is told faster than it can be put in force is told by its latest state."""
    objects, done = Objects("flaps"), []
    objects.put("svc", load_text(service("svc", 80)).resources[0])
    slices = [load_text(endpoint_slice("svc", "v1", (f"10.0.0.{n}", 80))).resources[0] for n in (1, 2)]

    async def flaps(publish):
        for number in range(10_001):
            objects.put("slice", slices[number % 2])
            publish(objects.facts(str(number)))
            if number % 50 == 0:
                await asyncio.sleep(0)
        done.append(True)
        await forever()

    quiet = load_dict({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "quiet"}, "spec": {}}).resources
    with Mesh(Scripted(flaps), *quiet, telemetry=False) as mesh:
        mesh.ready()
        until(lambda: done and addresses(mesh) == ["10.0.0.1"], 30.0)
        assert mesh.status().version < 1_000
        assert mesh.status().providers[0]["version"] == "10000"


def test_metrics_tell_how_the_sources_are_doing():
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from meshlib.telemetry import provider_gauge

    async def comes_back_empty(publish):
        publish(FULL)
        publish.anew()
        publish(BARE)
        await forever()

    reader = InMemoryMetricReader()
    metering = MeterProvider([reader], shutdown_on_exit=False)
    provider_gauge.report_providers(metering.get_meter("test"))
    try:
        with Mesh(Scripted(comes_back_empty)) as mesh:
            mesh.ready()
            until(lambda: mesh.status().providers[0]["held_empty"])
            data = reader.get_metrics_data()
            points = {
                metric.name: {p.attributes["provider"]: p.value for p in metric.data.data_points}
                for resource in data.resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
            }
            assert points["meshlib_provider_held_empty"]["scripted"] == 1
            assert points["meshlib_provider_failures"]["scripted"] == 0
            assert points["meshlib_provider_age_seconds"]["scripted"] >= 0
    finally:
        metering.shutdown()
