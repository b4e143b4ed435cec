"""What is foreseen of a sampler is what it says, for roots and for what has a parent."""

from __future__ import annotations

import random
import threading

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from meshlib.dataplane import router
from meshlib.dataplane.outcome import Outcome
from meshlib.model.snapshot import Client
from meshlib.telemetry.otel import OpenTelemetry
from meshlib.telemetry.sampling import foresight
from tests.dataplane.worlds import endpoints, prepared, request

FORESEEN = [
    ALWAYS_ON,
    ALWAYS_OFF,
    TraceIdRatioBased(0.3),
    ParentBased(ALWAYS_ON),
    ParentBased(ALWAYS_OFF),
    ParentBasedTraceIdRatio(0.3),
    ParentBased(TraceIdRatioBased(0.3), remote_parent_sampled=ALWAYS_OFF),
]


class OfAnotherMake(Sampler):
    def should_sample(self, *args, **kwargs):
        return ALWAYS_ON.should_sample(*args, **kwargs)

    def get_description(self):
        return "of another make"


@pytest.mark.parametrize("sampler", FORESEEN, ids=lambda sampler: type(sampler).__name__)
@pytest.mark.parametrize("sampled", [None, False, True])
@pytest.mark.parametrize("remote", [False, True])
def test_a_span_that_is_foreseen_as_dropped_would_be_dropped(sampler, sampled, remote):
    provider, rng, dropped = TracerProvider(sampler=sampler), random.Random(3), 0
    tracer = provider.get_tracer("meshlib")
    foreseen = foresight(tracer, provider)
    for _ in range(300):
        if sampled is None:
            parent, context = trace.INVALID_SPAN.get_span_context(), None
        else:
            state = TraceState([("vendor", "x")])
            parent = SpanContext(rng.getrandbits(128) | 1, 7, remote, TraceFlags(int(sampled)), state)
            context = trace.set_span_in_context(NonRecordingSpan(parent))
        found = foreseen.dropped(parent)
        if found is None:
            span = tracer.start_span("svc", context)
            recorded = span.is_recording()
            assert recorded or sampled, "foreseen as recorded: so say the sampler, or the parent's own"
            continue
        dropped += 1
        said = sampler.should_sample(context, found.trace_id, "svc")
        assert said.decision is Decision.DROP
        assert found.is_valid
        assert not found.trace_flags.sampled
        if sampled is not None:
            assert (found.trace_id, found.trace_state) == (parent.trace_id, parent.trace_state)
    if isinstance(sampler, TraceIdRatioBased) or (sampled is None and "0.3" in sampler.get_description()):
        assert 150 < dropped < 260
    provider.shutdown()


def test_as_many_calls_are_recorded_as_the_ratio_says_and_in_the_traces_that_it_says():
    spans, provider = InMemorySpanExporter(), TracerProvider(sampler=ParentBasedTraceIdRatio(0.25))
    provider.add_span_processor(SimpleSpanProcessor(spans))
    otel, mesh, rng = OpenTelemetry(Client()), prepared(endpoints("10.0.0.1")), random.Random(3)
    otel.trace_with(provider)
    sent = set()
    for _ in range(800):
        call = router.begin(mesh, request(), 0.0, rng, otel)
        attempt = call.next_attempt(0.0)
        sent.add(dict(attempt.headers)[b"traceparent"])
        call.settle(attempt, Outcome.of_status(200), 0.0)
        call.close(0.0)
    roots = [span for span in spans.get_finished_spans() if span.parent is None]
    assert len(sent) == 800
    assert 140 < len(roots) < 260
    assert len(spans.get_finished_spans()) == 2 * len(roots)
    assert sum(header.endswith(b"-01") for header in sent) == len(roots)
    bound = TraceIdRatioBased(0.25).bound
    assert all(span.context.trace_id & (2**64 - 1) < bound for span in roots)
    provider.shutdown()


@pytest.mark.parametrize(
    "sampler",
    [
        OfAnotherMake(),
        ParentBased(OfAnotherMake()),
        ParentBased(ALWAYS_OFF, local_parent_not_sampled=ALWAYS_ON),
        ParentBased(ALWAYS_OFF, remote_parent_not_sampled=TraceIdRatioBased(0.5)),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_nothing_is_foreseen_of_other_samplers(sampler):
    provider = TracerProvider(sampler=sampler)
    assert foresight(provider.get_tracer("meshlib"), provider) is None
    provider.shutdown()


def test_nothing_is_foreseen_where_the_sdk_counts_its_spans():
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider._meter_provider = MeterProvider()
    assert foresight(provider.get_tracer("meshlib"), provider) is None
    assert foresight(trace.NoOpTracer(), provider) is None
    provider.shutdown()


def test_what_is_foretold_in_one_thread_is_no_others():
    provider = TracerProvider(sampler=ALWAYS_ON)
    tracer = provider.get_tracer("meshlib")
    foreseen, elsewhere = foresight(tracer, provider), []
    assert foreseen.dropped(trace.INVALID_SPAN.get_span_context()) is None
    thread = threading.Thread(target=lambda: elsewhere.append(tracer.start_span("a").get_span_context().trace_id))
    thread.start()
    thread.join()
    here = tracer.start_span("b").get_span_context().trace_id
    again = tracer.start_span("c").get_span_context().trace_id
    assert len({elsewhere[0], here, again}) == 3
    provider.shutdown()
