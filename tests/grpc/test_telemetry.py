"""What real RPCs leave in an SDK: each once, however it ends, and nothing twice where gRPC itself is instrumented."""

from __future__ import annotations

import gc
import time

import grpc
import grpc.aio
import pytest
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcInstrumentorClient
from opentelemetry.trace import SpanKind

from tests.grpc.colours import KINDS, STACKS
from tests.grpc.table import Table, to, virtual_service
from tests.telemetry.test_otel import points
from tests.telemetry.test_rpcs import Watch


@pytest.fixture(params=STACKS, ids=lambda stack: stack.name)
def stack(request):
    return request.param()


@pytest.fixture(params=["mesh", "intercepted"])
def channel(request):
    return request.param


@pytest.fixture(params=KINDS)
def table(request, stack, channel, peers):
    return Table(stack, request.param, channel, peers)


@pytest.fixture
def watch():
    made = Watch()
    yield made
    made.close()


def over(table, watch):
    """A channel of a mesh that this observer watches."""
    retries = virtual_service(f"{{retries: {{attempts: 1, retryOn: unavailable}}, {to('all')}}}")
    opened = table.over(retries, of="v1")

    class Watched:
        def __enter__(self):
            made = opened.__enter__()
            made.mesh.observer = watch.otel
            return made

        def __exit__(self, *error):
            return opened.__exit__(*error)

    return Watched()


def told(watch, count):
    """The spans, as soon as there are so many."""
    until = time.monotonic() + 30
    while len(watch.spans.get_finished_spans()) < count and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)
    return watch.spans.get_finished_spans()


def counted(watch, name):
    return {point.attributes["grpc_response_status"]: point.value for point in points(watch.reader).get(name, ())}


def test_a_retried_call_is_one_span_with_two_attempts_and_its_messages_are_counted(table, watch):
    sent = 3 if table.shape.startswith("Stream") else 1
    with over(table, watch):
        done = table.ask(("code", "14"), ("until", "1"), ("messages", "2"))
        assert done.code is grpc.StatusCode.OK
        spans = told(watch, 3)
    names = [span.name for span in spans]
    assert names == [*[f"Attempt.test.S.{table.shape}"] * 2, f"test.S/{table.shape}"]
    assert {span.kind for span in spans} == {SpanKind.CLIENT}
    assert [span.attributes["rpc.response.status_code"] for span in spans] == ["UNAVAILABLE", "OK", "OK"]
    traceparent = done.responses[0]["metadata"]["traceparent"]
    assert traceparent.split("-")[2] == f"{spans[1].context.span_id:016x}"
    assert counted(watch, "istio_requests_total") == {"0": 1}
    assert counted(watch, "istio_request_messages_total") == {"0": 2 * sent}
    assert counted(watch, "istio_response_messages_total") == {"0": len(done.responses)}
    attempts = {p.attributes["grpc.status"]: p.count for p in points(watch.reader)["grpc.client.attempt.duration"]}
    assert attempts == {"UNAVAILABLE": 1, "OK": 1}


def test_a_cancelled_call_is_counted_once(table, watch):
    with over(table, watch):
        call = table.open(("delay", "30"))
        until = time.monotonic() + 30
        while not table.peers["v1"].ask("active") and time.monotonic() < until:
            time.sleep(0.005)
        call.cancel()
        assert call.end().code is grpc.StatusCode.CANCELLED
        spans = told(watch, 2)
    assert [span.attributes["rpc.response.status_code"] for span in spans] == ["CANCELLED"] * 2
    assert counted(watch, "istio_requests_total") == {"1": 1}


def test_a_call_that_nobody_looks_at_is_counted_once_when_it_is_collected(table, watch):
    if not table.streams:
        pytest.skip("what has one answer ends by itself")
    with over(table, watch):
        call = table.open(("messages", "1000000"))
        del call
        assert len(told(watch, 2)) == 2
        assert sum(counted(watch, "istio_requests_total").values()) == 1
        assert table.under_way() == 0


def test_an_instrumented_grpc_adds_no_span_below_the_meshs_own(stack, peers, watch):
    table = Table(stack, "UnaryUnary", "mesh", peers)
    instrumentors = [GrpcInstrumentorClient(), GrpcAioInstrumentorClient()]
    for each in instrumentors:
        each.instrument(tracer_provider=watch.tracers)
    try:
        with over(table, watch):
            assert table.ask().code is grpc.StatusCode.OK
            names = [span.name for span in told(watch, 2)]
    finally:
        for each in instrumentors:
            each.uninstrument()
    assert names == ["Attempt.test.S.UnaryUnary", "test.S/UnaryUnary"]
