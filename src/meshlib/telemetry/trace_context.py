"""Trace headers: W3C and B3, written for the span that makes an attempt.

Source: W3C Trace Context; B3 propagation, single header and multi header form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry import baggage, context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.trace import SpanContext, TraceFlags

from meshlib.telemetry.sampling import Told

__all__ = ["FORMATS", "Injector", "injector"]

Pairs = list[tuple[bytes, bytes]]
Injector = Callable[[SpanContext | Told, Pairs], None]


def _w3c(span: SpanContext | Told, headers: Pairs) -> None:
    sampled = span.trace_flags & TraceFlags.SAMPLED
    headers.append((b"traceparent", b"00-%032x-%016x-%02x" % (span.trace_id, span.span_id, sampled)))
    if span.trace_state:
        headers.append((b"tracestate", span.trace_state.to_header().encode("latin-1")))
    if context.get_current() and baggage.get_all():
        carrier: dict[str, str] = {}
        W3CBaggagePropagator().inject(carrier)
        headers.extend((name.encode(), value.encode("latin-1")) for name, value in carrier.items())


def _b3(span: SpanContext | Told, headers: Pairs) -> None:
    sampled = span.trace_flags & TraceFlags.SAMPLED
    headers.append((b"b3", b"%032x-%016x-%d" % (span.trace_id, span.span_id, sampled)))


def _b3_multi(span: SpanContext | Told, headers: Pairs) -> None:
    sampled = span.trace_flags & TraceFlags.SAMPLED
    headers.append((b"x-b3-traceid", b"%032x" % span.trace_id))
    headers.append((b"x-b3-spanid", b"%016x" % span.span_id))
    headers.append((b"x-b3-sampled", b"1" if sampled else b"0"))


FORMATS: dict[str, Injector] = {"w3c": _w3c, "b3": _b3, "b3multi": _b3_multi}


def injector(formats: Sequence[str]) -> Injector:
    """Writes a span's context in each of ``formats``.

    Raises:
        ValueError: A format is not known.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"unknown propagation {unknown[0]!r}: choose among {', '.join(FORMATS)}")
    chosen = [FORMATS[name] for name in formats]

    def inject(span: SpanContext | Told, headers: Pairs) -> None:
        for write in chosen:
            write(span, headers)

    return inject
