"""Spans and metrics of RPCs, as an application with an SDK gets them."""

from __future__ import annotations

import random

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from meshlib.dataplane import router
from meshlib.dataplane.outcome import Failure, Outcome
from meshlib.dataplane.request import Request
from meshlib.errors import DeadlineExceeded, NoHealthyUpstream, Overflow
from meshlib.model.policy import RetryPolicy
from meshlib.model.snapshot import Client
from meshlib.telemetry.metrics import IstioMetrics
from meshlib.telemetry.otel import OpenTelemetry
from meshlib.telemetry.rpc_metrics import LATENCY, SIZE, RpcMetrics
from tests.dataplane.worlds import endpoints, prepared
from tests.telemetry.test_otel import points

RNG = random.Random(3)
RETRY = RetryPolicy(1, frozenset({"unavailable"}))


class Watch:
    """An observer with an SDK of its own."""

    def __init__(self, delegated: bool = True) -> None:
        self.spans, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self.reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        meter = self.meters.get_meter("test")
        self.otel = OpenTelemetry(Client("shop", {"app": "web"}))
        self.otel.trace_with(self.tracers)
        self.otel.metrics = IstioMetrics(meter, self.otel._client, self.meters if delegated else None)
        self.otel.rpcs = RpcMetrics(meter)

    def close(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()


@pytest.fixture(params=[True, False], ids=["series", "instruments"])
def watch(request):
    made = Watch(request.param)
    yield made
    made.close()


def rpc(timeout=None):
    headers = [(b"content-type", b"application/grpc")]
    return Request("POST", "http", "svc:80", 80, "/shop.Reviews/List", headers, is_grpc=True, timeout=timeout)


def begin(watch, given=None, **options):
    call = router.begin(prepared(endpoints("10.0.0.1"), **options), given or rpc(), 0.0, RNG, watch.otel)
    assert call is not None
    return call


def of(status):
    return Outcome.of_status(200, grpc_status=status)


def test_one_client_span_for_the_call_and_one_for_each_attempt(watch):
    call = begin(watch, retry=RETRY)
    first = call.next_attempt(0.0)
    call.settle(first, of(14), 0.1)
    second = call.next_attempt(0.2)
    call.settle(second, of(0), 0.3)
    call.close(0.4)
    one, two, whole = watch.spans.get_finished_spans()
    assert [span.kind for span in (one, two, whole)] == [SpanKind.CLIENT] * 3
    assert (one.name, two.name, whole.name) == (*["Attempt.shop.Reviews.List"] * 2, "shop.Reviews/List")
    assert one.parent.span_id == two.parent.span_id == whole.context.span_id
    asked = {
        "rpc.system.name": "grpc",
        "rpc.method": "shop.Reviews/List",
        "server.address": "svc",
        "server.port": 80,
        "rpc.response.status_code": "OK",
    }
    assert asked.items() <= dict(whole.attributes).items()
    assert asked.items() <= dict(two.attributes).items()
    assert (one.attributes["previous-rpc-attempts"], two.attributes["previous-rpc-attempts"]) == (0, 1)
    assert (two.attributes["network.peer.address"], two.attributes["network.peer.port"]) == ("10.0.0.1", 80)
    assert (one.attributes["error.type"], one.status.is_ok) == ("UNAVAILABLE", False)
    assert "error.type" not in whole.attributes
    assert whole.attributes["meshlib.attempts"] == 2
    sent = dict(second.headers)[b"traceparent"].decode()
    assert sent == f"00-{two.context.trace_id:032x}-{two.context.span_id:016x}-01"


def test_a_caller_that_goes_away_is_cancelled_and_no_error(watch):
    call = begin(watch)
    call.next_attempt(0.0)
    call.abandon(1.0)
    attempt, whole = watch.spans.get_finished_spans()
    assert [span.attributes["rpc.response.status_code"] for span in (attempt, whole)] == ["CANCELLED"] * 2
    assert (attempt.status.is_unset, whole.status.is_unset) == (True, True)


def test_messages_are_counted_beside_calls_with_grpcs_labels(watch):
    call = begin(watch)
    call.settle(call.next_attempt(0.0), of(0), 0.1)
    call.request_messages, call.response_messages = 3, 7
    call.close(0.2)
    call = begin(watch)
    call.settle(call.next_attempt(0.0), of(5), 0.1)
    call.request_messages = 1
    call.close(0.2)
    found = points(watch.reader)

    def counted(name):
        return {p.attributes["grpc_response_status"]: p.value for p in found[name]}

    assert counted("istio_requests_total") == {"0": 1, "5": 1}
    assert counted("istio_request_messages_total") == {"0": 3, "5": 1}
    assert counted("istio_response_messages_total") == {"0": 7}
    assert {p.attributes["request_protocol"] for p in found["istio_request_messages_total"]} == {"grpc"}


@pytest.mark.parametrize(
    ("failure", "status"),
    [(Failure.CONNECT, "14"), (Failure.RESET, "14"), (Failure.DEADLINE, "4"), (Failure.PER_TRY_TIMEOUT, "4")],
)
def test_what_no_server_answered_counts_as_the_status_that_the_caller_sees(watch, failure, status):
    call = begin(watch)
    call.settle(call.next_attempt(0.0), Outcome.of_failure(failure), 0.1)
    call.close(0.1)
    (point,) = points(watch.reader)["istio_requests_total"]
    assert point.attributes["grpc_response_status"] == status


@pytest.mark.parametrize(("kind", "status"), [(NoHealthyUpstream, "14"), (Overflow, "14"), (DeadlineExceeded, "4")])
def test_what_was_never_sent_counts_as_the_status_that_is_raised(watch, kind, status):
    call = begin(watch)
    call.fail(kind, "no", 0.1)
    (point,) = points(watch.reader)["istio_requests_total"]
    assert point.attributes["grpc_response_status"] == status
    (whole,) = watch.spans.get_finished_spans()
    assert whole.attributes["meshlib.response_flags"] == kind.flag


def test_grpcs_own_metrics_have_its_names_labels_and_buckets(watch):
    call = begin(watch, retry=RETRY)
    call.request_bytes += 100
    first = call.next_attempt(0.0)
    call.request_bytes += 10
    call.settle(first, of(14), 0.25)
    second = call.next_attempt(0.5)
    call.request_bytes += 10
    call.settle(second, of(0), 0.6)
    call.response_bytes += 2000
    call.close(1.0)
    found = points(watch.reader)
    asked = {"grpc.method": "shop.Reviews/List", "grpc.target": "svc:80"}
    (started,) = found["grpc.client.attempt.started"]
    assert (started.value, dict(started.attributes)) == (2, asked)

    def told(name):
        return {p.attributes["grpc.status"]: pytest.approx(p.sum) for p in found[f"grpc.client.{name}"]}

    assert told("attempt.duration") == {"UNAVAILABLE": 0.25, "OK": 0.5}
    assert told("attempt.sent_total_compressed_message_size") == {"UNAVAILABLE": 10, "OK": 10}
    assert told("attempt.rcvd_total_compressed_message_size") == {"UNAVAILABLE": 0, "OK": 2000}
    assert told("call.duration") == {"OK": 1.0}
    (whole,) = found["grpc.client.call.duration"]
    assert dict(whole.attributes) == {**asked, "grpc.status": "OK"}
    assert (
        whole.explicit_bounds,
        found["grpc.client.attempt.sent_total_compressed_message_size"][0].explicit_bounds,
    ) == (
        LATENCY,
        SIZE,
    )
    assert (len(LATENCY), SIZE[1], SIZE[-1]) == (41, 1024.0, 4294967296.0)


def test_grpcs_own_metrics_are_off_unless_asked_for():
    watch = Watch()
    watch.otel.rpcs = None
    call = begin(watch)
    call.settle(call.next_attempt(0.0), of(0), 0.1)
    call.close(0.2)
    assert not [name for name in points(watch.reader) if name.startswith("grpc.")]
    watch.close()
