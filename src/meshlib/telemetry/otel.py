"""Spans and metrics through OpenTelemetry's API; an application without an SDK pays next to nothing.

One INTERNAL span per call, one CLIENT span per attempt below it, named and attributed by the HTTP semantic conventions,
or by those for RPCs (``rpc_spans``); the trace context that an attempt sends is its own span's. A call that the sampler
will let go unrecorded makes no span at all where that can be foreseen (``sampling``); its attempts send one context.
Providers may be set at any time, before or after the mesh is made. Where httpx itself is instrumented, its span becomes
the parent of the call's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.trace import Span, SpanContext, SpanKind, StatusCode

from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.change import Change
from meshlib.dataplane.cluster import RAW
from meshlib.dataplane.events import CallObserver
from meshlib.dataplane.outcome import Blame, Outcome
from meshlib.dataplane.state import State
from meshlib.model.snapshot import Client
from meshlib.telemetry import breaker_gauge, provider_gauge
from meshlib.telemetry.metrics import IstioMetrics
from meshlib.telemetry.rpc_metrics import MeteredRpc, RpcMetrics
from meshlib.telemetry.rpc_spans import WatchedRpc
from meshlib.telemetry.sampling import Foresight, Told, foresight
from meshlib.telemetry.tcp_metrics import TcpMetrics, WatchedConnection
from meshlib.telemetry.trace_context import injector

__all__ = ["OpenTelemetry"]

_PROXIES = frozenset({"ProxyTracerProvider", "NoOpTracerProvider", "_ProxyMeterProvider", "NoOpMeterProvider"})
_SECRETS = frozenset({"awsaccesskeyid", "signature", "sig", "x-goog-signature", "token", "access_token", "api_key"})
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})


class OpenTelemetry:
    """An ``Observer`` that reports to OpenTelemetry.

    Args:
        client: Who calls, for labels.
        propagation: Header formats to send, see ``trace_context``.
        grpc_metrics: RPCs are also counted by gRPC's own names (``rpc_metrics``).
    """

    def __init__(self, client: Client, propagation: Sequence[str] = ("w3c",), *, grpc_metrics: bool = False) -> None:
        self.inject = injector(propagation)
        self._client = client
        self._tracer: trace.Tracer | None = None
        self._foresight: Foresight | None = None
        self.metrics: IstioMetrics | None = None
        self._connections: TcpMetrics | None = None
        self._counts_rpcs = grpc_metrics
        self.rpcs: RpcMetrics | None = None

    def call_started(self, call: Call, now: float) -> CallObserver | None:
        """See ``Observer.call_started``; a raw connection is counted and has no span, as behind a sidecar."""
        if call.request.scheme in RAW:
            self._find_meter()
            return WatchedConnection(self._connections) if self._connections is not None else None
        watching = self._watching(call)
        return watching if self.rpcs is None or not call.request.is_grpc else MeteredRpc(self.rpcs, call, watching)

    def _watching(self, call: Call) -> CallObserver | None:
        tracer = self._tracer or self._find_tracer()
        counting = self.metrics or self._find_meter()
        parent = trace.get_current_span().get_span_context()
        if tracer is not None:
            unrecorded = self._foresight.dropped(parent) if self._foresight is not None else None
            if unrecorded is not None:
                return _Counted(self, unrecorded)
            if call.request.is_grpc:
                return _Counting(self, WatchedRpc(call, tracer, self.inject))
            span = tracer.start_span(f"{call.host.name}:{call.host.port}/*", kind=SpanKind.INTERNAL)
            return _Watched(self, call, tracer, span)
        return _Counted(self, parent) if counting is not None or parent.is_valid else None

    def health_changed(self, cluster: str, endpoint: str, change: Change) -> None:
        """See ``Observer.health_changed``; endpoints are not told apart, for their number is not bounded."""
        counting = self.metrics or self._find_meter()
        if counting is not None:
            counting.count_change(cluster, change.value, "endpoint" if endpoint else "cluster")

    def watch(self, state: State) -> None:
        """See ``Observer.watch``."""
        breaker_gauge.watch(state)
        provider_gauge.watch(state)

    def lagged(self, seconds: float, where: str) -> None:
        """See ``Observer.lagged``."""
        counting = self.metrics or self._find_meter()
        if counting is not None:
            counting.record_lag(seconds, where)

    def _find_tracer(self) -> trace.Tracer | None:
        """The tracer, once a provider is there; asking costs a function call."""
        provider = trace.get_tracer_provider()
        if type(provider).__name__ in _PROXIES:
            return None
        return self.trace_with(provider)

    def trace_with(self, provider: trace.TracerProvider) -> trace.Tracer:
        """Make spans by this provider, whatever the process's is."""
        self._tracer = tracer = provider.get_tracer("meshlib")
        self._foresight = foresight(tracer, provider)
        return tracer

    def _find_meter(self) -> IstioMetrics | None:
        provider = metrics.get_meter_provider()
        if type(provider).__name__ in _PROXIES:
            return None
        meter = provider.get_meter("meshlib")
        self._connections = self._connections or TcpMetrics(meter, self._client)
        if self._counts_rpcs and self.rpcs is None:
            self.rpcs = RpcMetrics(meter)
        self.metrics = self.metrics or IstioMetrics(meter, self._client, provider)
        return self.metrics


class _Counted:
    """One call without a span of its own: it is counted, and its attempts send the context in force."""

    __slots__ = ("_otel", "_sent")

    def __init__(self, otel: OpenTelemetry, sent: SpanContext | Told) -> None:
        self._otel = otel
        self._sent = sent

    def attempt_started(self, attempt: Attempt, now: float) -> None:
        """Sends the context of the caller's span, or that by which the sampler let the call go unrecorded."""
        if self._sent.is_valid:
            self._otel.inject(self._sent, attempt.headers)

    def attempt_ended(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """Nothing is recorded of it."""

    def call_ended(self, call: Call, outcome: Outcome | None, now: float) -> None:
        """The call is counted."""
        if self._otel.metrics is not None:
            self._otel.metrics.record(call, now)


class _Counting:
    """One call that is watched by somebody, and counted."""

    __slots__ = ("_ended", "_otel", "attempt_ended", "attempt_started")

    def __init__(self, otel: OpenTelemetry, inner: CallObserver) -> None:
        self._otel = otel
        self._ended = inner.call_ended
        self.attempt_started = inner.attempt_started
        self.attempt_ended = inner.attempt_ended

    def call_ended(self, call: Call, outcome: Outcome | None, now: float) -> None:
        """The call is counted."""
        self._ended(call, outcome, now)
        if self._otel.metrics is not None:
            self._otel.metrics.record(call, now)


class _Watched:
    """One call with a span, and a span for each of its attempts, kept in the attempt's note."""

    __slots__ = ("_call", "_otel", "_span", "_tracer")

    def __init__(self, otel: OpenTelemetry, call: Call, tracer: trace.Tracer, span: Span) -> None:
        self._otel = otel
        self._call = call
        self._tracer = tracer
        self._span = span

    def attempt_started(self, attempt: Attempt, now: float) -> None:
        """A CLIENT span, whose context is what the attempt sends."""
        request = self._call.request
        context = trace.set_span_in_context(self._span)
        name = request.method if request.method in _KNOWN_METHODS else "HTTP"
        attributes = _attributes(self._call, attempt) if self._span.is_recording() else None
        span = self._tracer.start_span(name, context, SpanKind.CLIENT, attributes)
        attempt.note = span
        sent = span.get_span_context()
        if sent.is_valid:
            self._otel.inject(sent, attempt.headers)

    def attempt_ended(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """The attempt's span ends with the outcome."""
        span, attempt.note = attempt.note, None
        if isinstance(span, Span):
            if span.is_recording():
                _end_attributes(span, outcome)
            span.end()

    def call_ended(self, call: Call, outcome: Outcome | None, now: float) -> None:
        """The call's span ends, and the call is counted."""
        if self._span.is_recording():
            _call_attributes(self._span, call)
        self._span.end()
        if self._otel.metrics is not None:
            self._otel.metrics.record(call, now)


def _attributes(call: Call, attempt: Attempt) -> dict[str, Any]:
    request, endpoint = call.request, attempt.endpoint
    known = request.method in _KNOWN_METHODS
    attributes: dict[str, Any] = {
        "http.request.method": request.method if known else "_OTHER",
        "server.address": request.host,
        "server.port": request.port,
        "url.full": f"{request.scheme}://{request.authority}{redacted(request.path)}",
        "network.peer.address": endpoint.address,
        "network.peer.port": endpoint.port,
        "meshlib.cluster": attempt.cluster.name,
        "meshlib.subset": attempt.cluster.subset,
    }
    if not known:
        attributes["http.request.method_original"] = request.method
    if attempt.number > 1:
        attributes["http.request.resend_count"] = attempt.number - 1
    return attributes


def _end_attributes(span: Span, outcome: Outcome) -> None:
    if outcome.failure is None:
        span.set_attribute("http.response.status_code", outcome.status)
        if outcome.status >= 400:
            span.set_attribute("error.type", str(outcome.status))
            span.set_status(StatusCode.ERROR)
        return
    kind = type(outcome.error).__name__ if outcome.error is not None else outcome.failure.name.lower()
    span.set_attribute("error.type", kind)
    if outcome.flag:
        span.set_attribute("meshlib.response_flags", outcome.flag)
    if outcome.blame is not Blame.CALLER:
        span.set_status(StatusCode.ERROR, outcome.failure.value)


def _call_attributes(span: Span, call: Call) -> None:
    route = call.route
    span.set_attribute("meshlib.route", route.name if route is not None else "")
    span.set_attribute("meshlib.attempts", call.attempts)
    if call.flags != "-":
        span.set_attribute("meshlib.response_flags", call.flags)
    if call.status >= 500 or call.error_status:
        span.set_status(StatusCode.ERROR)


def redacted(target: str) -> str:
    """Path and query, with the values of parameters that usually are secrets replaced."""
    path, mark, query = target.partition("?")
    if not mark:
        return path
    parts = []
    for item in query.split("&"):
        name, equals, _ = item.partition("=")
        parts.append(f"{name}=REDACTED" if equals and name.lower() in _SECRETS else item)
    return f"{path}?{'&'.join(parts)}"
