"""Spans and metrics, as an application with an SDK gets them."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    ParentBasedTraceIdRatio,
    TraceIdRatioBased,
)

from meshlib.dataplane import router
from meshlib.dataplane.change import Change
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.errors import NoRoute
from meshlib.model.endpoint import Workload
from meshlib.model.policy import RetryPolicy
from meshlib.model.route import Forward, MatchKind, Route, RouteMatch, StringMatch, WeightedCluster
from meshlib.model.snapshot import Client
from meshlib.telemetry.metrics import IstioMetrics
from meshlib.telemetry.otel import OpenTelemetry, redacted
from tests.dataplane.worlds import NAME, endpoints, prepared, request

RNG = random.Random(3)


@pytest.fixture
def watched():
    """An observer with an SDK of its own, so that no test sets the process's providers."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    meters = MeterProvider([reader])
    otel = OpenTelemetry(Client("shop", {"app": "web", "version": "v7"}), ["w3c", "b3", "b3multi"])
    otel.trace_with(tracers)
    otel.metrics = IstioMetrics(meters.get_meter("test"), otel._client, meters)
    yield otel, spans, reader
    tracers.shutdown()
    meters.shutdown()


def points(reader):
    data = reader.get_metrics_data()
    found = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found[metric.name] = list(metric.data.data_points)
    return found


def world(**options):
    workload = Workload("reviews-v1", "shop", "reviews", "v1", "k1", "sa")
    return prepared(endpoints("10.0.0.1", workload=workload), namespace="shop", **options)


def test_one_span_for_the_call_and_one_for_each_attempt(watched):
    otel, spans, _ = watched
    mesh = world(retry=RetryPolicy(1, frozenset({"5xx"})))
    call = router.begin(mesh, request(path="/a?token=secret&x=1"), 0.0, RNG, otel)
    first = call.next_attempt(0.0)
    call.settle(first, Outcome.of_status(503), 0.1)
    second = call.next_attempt(0.2)
    call.settle(second, Outcome.of_status(200), 0.3)
    assert len(spans.get_finished_spans()) == 1
    call.close(0.4)
    call.close(0.4)
    one, two, whole = spans.get_finished_spans()
    assert (one.name, two.name, whole.name) == ("GET", "GET", "svc:80/*")
    assert one.parent.span_id == two.parent.span_id == whole.context.span_id
    assert one.attributes["http.response.status_code"] == 503
    assert one.attributes["error.type"] == "503"
    assert "http.request.resend_count" not in one.attributes
    assert two.attributes["http.request.resend_count"] == 1
    assert two.attributes["url.full"] == "http://svc/a?token=REDACTED&x=1"
    assert two.attributes["network.peer.address"] == "10.0.0.1"
    assert whole.attributes["meshlib.attempts"] == 2
    headers = dict(second.headers)
    trace_id, span_id = f"{two.context.trace_id:032x}", f"{two.context.span_id:016x}"
    assert headers[b"traceparent"].decode() == f"00-{trace_id}-{span_id}-01"
    assert headers[b"b3"].decode() == f"{trace_id}-{span_id}-1"
    assert (headers[b"x-b3-traceid"].decode(), headers[b"x-b3-spanid"].decode()) == (trace_id, span_id)


def test_the_context_of_an_attempts_span_takes_the_place_of_what_the_call_has_along(watched):
    otel, spans, _ = watched
    own = {"Traceparent": "00-1-2-01", "tracestate": "a=1", "b3": "0", "x-datadog-trace-id": "7", "x-request-id": "8"}
    call = router.begin(world(), request(headers=own), 0.0, RNG, otel)
    _, sent = call.head(call.next_attempt(0.0))
    call.close(0.1)
    names = [name.lower() for name, _ in sent]
    assert sorted(names) == sorted({*names})
    assert b"tracestate" not in names
    assert (
        dict(sent)[b"traceparent"].split(b"-")[1].decode() == f"{spans.get_finished_spans()[0].context.trace_id:032x}"
    )
    assert (dict(sent)[b"x-datadog-trace-id"], dict(sent)[b"x-request-id"]) == (b"7", b"8")


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, TraceIdRatioBased(0.0), ParentBasedTraceIdRatio(0.0)])
def test_a_call_that_is_not_sampled_makes_no_span_of_an_attempt_and_still_tells_its_context(sampler):
    tracers = TracerProvider(sampler=sampler)
    otel = OpenTelemetry(Client())
    otel.trace_with(tracers)
    call = router.begin(world(), request(), 0.0, RNG, otel)
    attempt = call.next_attempt(0.0)
    call.settle(attempt, Outcome.of_status(200), 0.0)
    call.close(0.0)
    version, trace_id, span_id, flags = dict(attempt.headers)[b"traceparent"].decode().split("-")
    assert (version, flags) == ("00", "00")
    assert int(trace_id, 16)
    assert int(span_id, 16)
    assert attempt.note is None
    tracers.shutdown()


def test_a_sampler_that_may_want_an_attempt_of_an_unrecorded_call_is_asked_about_it():
    spans = InMemorySpanExporter()
    tracers = TracerProvider(sampler=ParentBased(ALWAYS_OFF, local_parent_not_sampled=ALWAYS_ON))
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    otel = OpenTelemetry(Client())
    otel.trace_with(tracers)
    call = router.begin(world(), request(), 0.0, RNG, otel)
    call.settle(call.next_attempt(0.0), Outcome.of_status(200), 0.0)
    call.close(0.0)
    assert [span.name for span in spans.get_finished_spans()] == ["GET"]
    tracers.shutdown()


def test_cancelling_is_no_error_of_the_host(watched):
    otel, spans, _ = watched
    call = router.begin(world(), request(), 0.0, RNG, otel)
    call.next_attempt(0.0)
    call.abandon(1.0)
    attempt, whole = spans.get_finished_spans()
    assert attempt.status.is_unset
    assert whole.attributes["meshlib.response_flags"] == "DC"


def test_istios_metrics_carry_istios_labels(watched):
    otel, _, reader = watched
    call = router.begin(world(), request(), 0.0, RNG, otel)
    call.settle(call.next_attempt(0.0), Outcome.of_status(200), 0.0)
    call.response_bytes = 1234
    call.close(0.0205)
    found = points(reader)
    (count,) = found["istio_requests_total"]
    assert count.value == 1
    assert dict(count.attributes) == {
        "reporter": "source",
        "source_workload": "web",
        "source_canonical_service": "web",
        "source_canonical_revision": "v7",
        "source_workload_namespace": "shop",
        "source_principal": "unknown",
        "source_app": "web",
        "source_version": "v7",
        "source_cluster": "unknown",
        "destination_workload": "reviews-v1",
        "destination_workload_namespace": "shop",
        "destination_principal": "unknown",
        "destination_app": "reviews",
        "destination_version": "v1",
        "destination_service": "svc",
        "destination_canonical_service": "reviews",
        "destination_canonical_revision": "v1",
        "destination_service_name": "svc",
        "destination_service_namespace": "shop",
        "destination_cluster": "k1",
        "request_protocol": "http",
        "response_code": "200",
        "grpc_response_status": "",
        "response_flags": "-",
        "connection_security_policy": "unknown",
    }
    (duration,) = found["istio_request_duration_milliseconds"]
    assert duration.sum == pytest.approx(20.5)
    assert duration.explicit_bounds[:5] == (0.5, 1, 5, 10, 25)
    assert found["istio_response_bytes"][0].sum == 1234


def test_what_never_left_is_counted_with_its_flag(watched):
    otel, _, reader = watched
    path = StringMatch(MatchKind.PREFIX, "/only")
    mesh = prepared((), route=Route("r", RouteMatch(path), Forward((WeightedCluster(NAME),))))
    with pytest.raises(NoRoute):
        router.begin(mesh, request(), 0.0, RNG, otel)
    call = router.begin(world(retry=RetryPolicy(1, frozenset({"connect-failure"}))), request(), 0.0, RNG, otel)
    for _ in range(2):
        call.settle(call.next_attempt(0.0), Outcome.of_failure(Failure.CONNECT), 0.0)
    seen = {
        (p.attributes["response_code"], p.attributes["response_flags"]) for p in points(reader)["istio_requests_total"]
    }
    assert seen == {("404", "NR"), ("503", "URX,UF")}


def test_kinds_of_calls_are_bounded_and_what_was_counted_stays(watched):
    otel, _, reader = watched
    otel.metrics.MEMORY = 3
    for status in (*range(200, 220), 200):
        call = router.begin(world(), request(), 0.0, RNG, otel)
        call.settle(call.next_attempt(0.0), Outcome.of_status(status), 0.0)
        call.close(0.0)
        assert len(otel.metrics._kinds) <= 3
    counted = {p.attributes["response_code"]: p.value for p in points(reader)["istio_requests_total"]}
    assert counted == {str(status): 1 + (status == 200) for status in range(200, 220)}


def test_without_an_sdk_nothing_is_watched():
    program = """
import random
from meshlib.dataplane import router
from meshlib.telemetry.otel import OpenTelemetry
from meshlib.model.snapshot import Client
from tests.dataplane.worlds import endpoints, prepared, request
otel = OpenTelemetry(Client())
call = router.begin(prepared(endpoints("10.0.0.1")), request(), 0.0, random.Random(1), otel)
assert call._observer is None
from opentelemetry import trace, metrics
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
call = router.begin(prepared(endpoints("10.0.0.1")), request(), 0.0, random.Random(1), otel)
assert b"traceparent" in dict(call.next_attempt(0.0).headers)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_an_unknown_propagation_is_refused():
    with pytest.raises(ValueError, match="b4"):
        OpenTelemetry(Client(), ["b4"])


def test_secrets_in_queries_are_hidden():
    assert redacted("/a?sig=1&b=2&API_KEY=3") == "/a?sig=REDACTED&b=2&API_KEY=REDACTED"


def test_changes_of_health_and_lateness_are_counted(watched):
    otel, _, reader = watched
    otel.health_changed(NAME, "10.0.0.1:80", Change.EJECTED)
    otel.health_changed(NAME, "10.0.0.2:80", Change.EJECTED)
    otel.health_changed(NAME, "", Change.BREAKER_OPEN)
    otel.lagged(0.5, "caller")
    found = points(reader)
    changes = {tuple(point.attributes.items()): point.value for point in found["meshlib_health_changes_total"]}
    assert changes == {
        (("cluster", NAME), ("change", "ejected"), ("scope", "endpoint")): 2,
        (("cluster", NAME), ("change", "breaker_open"), ("scope", "cluster")): 1,
    }
    (lag,) = found["meshlib_event_loop_lag_seconds"]
    assert (lag.sum, dict(lag.attributes)) == (0.5, {"loop": "caller"})
