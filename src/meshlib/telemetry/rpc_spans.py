"""The spans of one RPC: a CLIENT span for the call as the application made it, and one below it for each attempt.

Names and attributes are those of the semantic conventions for RPC; an attempt is named as gRPC names it. The context
that goes on the wire is the attempt's, so that a server's span hangs below the attempt that reached it.

Sources: OpenTelemetry semantic conventions, RPC client spans; gRFC A72 for attempts.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.outcome import Blame, Outcome
from meshlib.model.grpc_status import GRPC_STATUS_NAMES
from meshlib.telemetry.trace_context import Injector

__all__ = ["WatchedRpc", "method_of", "status_name"]


def method_of(call: Call) -> str:
    """``package.Service/Method``."""
    return call.request.path.lstrip("/")


def status_name(status: int) -> str:
    """Of a gRPC status; numbers that gRPC does not know are told as such."""
    return GRPC_STATUS_NAMES[status] if 0 <= status < len(GRPC_STATUS_NAMES) else str(status)


class WatchedRpc:
    """One RPC with a span, and a span for each of its attempts, kept in the attempt's note.

    Args:
        call: The call.
        tracer: Makes the spans.
        inject: Writes a span's context into headers.
    """

    __slots__ = ("_call", "_inject", "_span", "_tracer")

    def __init__(self, call: Call, tracer: trace.Tracer, inject: Injector) -> None:
        self._call = call
        self._tracer = tracer
        self._inject = inject
        self._span = tracer.start_span(method_of(call), kind=SpanKind.CLIENT)
        if self._span.is_recording():
            self._span.set_attributes(_asked(call))

    def attempt_started(self, attempt: Attempt, now: float) -> None:
        """A span, whose context is what the attempt sends."""
        context = trace.set_span_in_context(self._span)
        name = f"Attempt.{method_of(self._call).replace('/', '.')}"
        attributes = _tried(self._call, attempt) if self._span.is_recording() else None
        span = self._tracer.start_span(name, context, SpanKind.CLIENT, attributes)
        attempt.note = span
        sent = span.get_span_context()
        if sent.is_valid:
            self._inject(sent, attempt.headers)

    def attempt_ended(self, attempt: Attempt, outcome: Outcome, now: float) -> None:
        """The attempt's span ends with the outcome."""
        span, attempt.note = attempt.note, None
        if isinstance(span, Span):
            if span.is_recording():
                _end(span, outcome.rpc_status, by_caller=outcome.blame is Blame.CALLER)
                if outcome.flag:
                    span.set_attribute("meshlib.response_flags", outcome.flag)
            span.end()

    def call_ended(self, call: Call, outcome: Outcome | None, now: float) -> None:
        """The call's span ends."""
        span = self._span
        if span.is_recording():
            route = call.route
            span.set_attribute("meshlib.route", route.name if route is not None else "")
            span.set_attribute("meshlib.attempts", call.attempts)
            if call.flags != "-":
                span.set_attribute("meshlib.response_flags", call.flags)
            _end(span, call.rpc_status, by_caller=call.is_abandoned)
        span.end()


def _asked(call: Call) -> dict[str, Any]:
    request = call.request
    return {
        "rpc.system.name": "grpc",
        "rpc.method": method_of(call),
        "server.address": request.host,
        "server.port": request.port,
    }


def _tried(call: Call, attempt: Attempt) -> dict[str, Any]:
    endpoint = attempt.endpoint
    return {
        **_asked(call),
        "network.peer.address": endpoint.address,
        "network.peer.port": endpoint.port,
        "previous-rpc-attempts": attempt.number - 1,
        "transparent-retry": False,
        "meshlib.cluster": attempt.cluster.name,
        "meshlib.subset": attempt.cluster.subset,
    }


def _end(span: Span, status: int, *, by_caller: bool) -> None:
    """To a client every status but OK is an error (conventions), unless the caller itself went away."""
    name = status_name(status)
    span.set_attribute("rpc.response.status_code", name)
    if status:
        span.set_attribute("error.type", name)
        if not by_caller:
            span.set_status(StatusCode.ERROR, name)
