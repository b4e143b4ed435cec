"""What the SDK's readers are told is what its own instruments would have told them."""

from __future__ import annotations

import random
import threading

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, ExplicitBucketHistogramAggregation, View

from meshlib.dataplane import router
from meshlib.dataplane.outcome import Outcome
from meshlib.model.endpoint import Workload
from meshlib.model.snapshot import Client
from meshlib.telemetry import sdk_readers
from meshlib.telemetry.ledger import OVERFLOW, Ledger
from meshlib.telemetry.metrics import IstioMetrics
from tests.dataplane.worlds import endpoints, prepared, request


class Sdk(InMemoryMetricReader):
    """A reader under the names of the API's instruments."""

    def __init__(self, delta: tuple[str, ...] = ()) -> None:
        from opentelemetry.sdk import metrics as sdk

        super().__init__({getattr(sdk, name): AggregationTemporality.DELTA for name in delta})


def told(reader):
    """All that a reader finds, times left out."""
    data = reader.get_metrics_data()
    found = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name.startswith(("meshlib_circuit_breakers", "meshlib_provider_")):  # of other tests too
                    continue
                key = (resource.resource, scope.scope, metric.name, metric.unit, metric.description)
                points = [
                    (
                        tuple(sorted(p.attributes.items())),
                        getattr(p, "value", None),
                        *(getattr(p, name, None) for name in ("count", "sum", "min", "max")),
                        tuple(getattr(p, "bucket_counts", ())),
                        tuple(getattr(p, "explicit_bounds", ())),
                    )
                    for p in metric.data.data_points
                ]
                found[key] = (metric.data.aggregation_temporality, sorted(points))
    return found


def calls(number, observer_metrics, rng):
    """Finished calls of a few kinds."""
    workloads = [Workload(f"w{n}", "shop", "reviews", "v1", "k1", "sa") for n in range(3)]
    worlds = [prepared(endpoints("10.0.0.1", workload=workload)) for workload in workloads]
    for _ in range(number):
        call = router.begin(rng.choice(worlds), request(headers={"x": "y" * rng.randrange(2000)}), 0.0, rng)
        call.settle(call.next_attempt(0.0), Outcome.of_status(rng.choice([200, 404, 503])), 0.0)
        call.response_bytes = rng.choice([0, 5, 70_000])
        now = rng.choice([0.0005, 0.1, 5000.0])
        call.close(now)
        for each in observer_metrics:
            each.record(call, now)


@pytest.mark.parametrize("delta", [(), ("Counter", "Histogram"), ("Histogram",)])
def test_readers_are_told_the_same_as_by_the_sdks_own_instruments(delta):
    ours, theirs = Sdk(delta), Sdk(delta)
    one, other = MeterProvider([ours]), MeterProvider([theirs])
    client, rng = Client("shop", {"app": "web"}), random.Random(4)
    added = IstioMetrics(one.get_meter("meshlib"), client, one)
    recorded = IstioMetrics(other.get_meter("meshlib"), client)
    assert told(ours) == {}
    for number in (40, 0, 17, 1):
        calls(number, [added, recorded], rng)
        assert told(ours) == told(theirs)
    one.shutdown()
    other.shutdown()


def test_readers_of_totals_and_of_differences_do_not_disturb_each_other():
    totals, differences = Sdk(), Sdk(("Counter", "Histogram"))
    provider = MeterProvider([totals, differences])
    added, rng = IstioMetrics(provider.get_meter("meshlib"), Client(), provider), random.Random(5)

    def count(reader):
        return sum(
            point[1]
            for key, (_, points) in told(reader).items()
            if key[2] == "istio_requests_total"
            for point in points
        )

    calls(3, [added], rng)
    assert (count(totals), count(totals), count(differences)) == (3, 3, 3)
    calls(2, [added], rng)
    assert (count(differences), count(differences), count(totals)) == (2, 0, 5)
    provider.shutdown()


def test_meshes_that_share_a_provider_share_its_series_and_what_the_sdk_collects_stays():
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    provider.get_meter("app").create_counter("mine").add(7)
    rng = random.Random(6)
    for _ in range(2):
        calls(5, [IstioMetrics(provider.get_meter("meshlib"), Client(), provider)], rng)
    found = {key[2]: points for key, (_, points) in told(reader).items()}
    assert found["mine"][0][1] == 7
    assert sum(point[1] for point in found["istio_requests_total"]) == 10
    provider.shutdown()


@pytest.mark.parametrize(
    "view",
    [
        View(instrument_name="istio_request_bytes", aggregation=DropAggregation()),
        View(instrument_name="istio_*", attribute_keys={"response_code"}),
        View(instrument_name="*", aggregation=ExplicitBucketHistogramAggregation([1, 2])),
    ],
)
def test_views_are_heeded(view):
    ours, theirs = Sdk(), Sdk()
    one, other = MeterProvider([ours], views=[view]), MeterProvider([theirs], views=[view])
    rng = random.Random(7)
    added = IstioMetrics(one.get_meter("meshlib"), Client(), one)
    recorded = IstioMetrics(other.get_meter("meshlib"), Client())
    calls(9, [added, recorded], rng)
    assert told(ours) == told(theirs) != {}
    one.shutdown()
    other.shutdown()


def test_a_provider_of_another_make_is_served_by_its_instruments():
    class Instrument:
        def __init__(self, name):
            self.name, self.seen = name, []

        def add(self, value, labels):
            self.seen.append((value, labels["response_code"]))

        record = add

    class Other:
        made = {}

        def get_meter(self, name):
            return self

        def create(self, name, *_, **__):
            return self.made.setdefault(name, Instrument(name))

        create_counter = create_histogram = create_observable_gauge = create

    provider = Other()
    calls(4, [IstioMetrics(provider.get_meter("meshlib"), Client(), provider)], random.Random(8))
    assert {
        name: len(made.seen) for name, made in provider.made.items() if name.startswith("istio_") and made.seen
    } == {
        "istio_requests_total": 4,
        "istio_request_duration_milliseconds": 4,
        "istio_request_bytes": 4,
        "istio_response_bytes": 4,
    }


def test_an_sdk_that_looks_otherwise_is_served_by_its_instruments(monkeypatch):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(sdk_readers, "_readers", lambda provider: provider._gone)
    calls(4, [IstioMetrics(provider.get_meter("meshlib"), Client(), provider)], random.Random(8))
    assert sum(p[1] for key, (_, ps) in told(reader).items() if key[2] == "istio_requests_total" for p in ps) == 4
    provider.shutdown()


def test_label_sets_beyond_the_limit_are_counted_together():
    ledger = Ledger()
    ledger.LIMIT = 3
    for number in range(9):
        ledger.series({"number": str(number)}).add(1.0, 1, 1)
    counted = {entry.labels.get("number", "more"): entry.tally.count for entry in ledger.totals()}
    assert counted == {"0": 1, "1": 1, "2": 1, "more": 6}
    assert OVERFLOW in [entry.labels for entry in ledger.totals()]


def test_nothing_is_lost_between_threads_and_collections():
    ledger, done = Ledger(), threading.Event()
    reader = type("Reader", (), {})()
    ledger.follow(reader)
    told_counts = []

    def collect():
        while not done.is_set():
            told_counts.extend(entry.tally.count for entry in ledger.differences(reader))

    def add():
        for number in range(3000):
            ledger.series({"n": str(number % 5)}).add(1.0, 2, 3)

    collecting, adding = threading.Thread(target=collect), [threading.Thread(target=add) for _ in range(4)]
    for thread in (collecting, *adding):
        thread.start()
    for thread in adding:
        thread.join()
    done.set()
    collecting.join()
    told_counts.extend(entry.tally.count for entry in ledger.differences(reader))
    assert sum(told_counts) == sum(entry.tally.count for entry in ledger.totals()) == 12_000
    assert all(sum(entry.tally.sent.counts) == entry.tally.count for entry in ledger.totals())
