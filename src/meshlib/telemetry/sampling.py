"""What the SDK's samplers will say, foreseen, so that a call that is not recorded asks and builds nothing.

A ratio goes by the trace's id, which is drawn before; a constant is one; a sampler that goes by the parent drops, by
default, whatever is below a span that was dropped. Of any other sampler nothing is foreseen: it is asked, each time.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from opentelemetry.trace import SpanContext, TraceFlags, TracerProvider, TraceState

__all__ = ["Foresight", "Told", "foresight"]

_LOW_BITS = 2**64 - 1
_DROPPED = TraceFlags(TraceFlags.DEFAULT)


class Told(NamedTuple):
    """What a ``SpanContext`` says to those that it is sent to; a fifth of the time to make."""

    trace_id: int
    span_id: int
    trace_state: TraceState | None
    trace_flags: TraceFlags = _DROPPED
    is_valid: bool = True


class Foresight:
    """Knows of the spans of one tracer whether they will be recorded.

    Args:
        ids: Makes ids; in place of the tracer's own generator.
        bound: Roots are recorded whose id, in its low 64 bits, is below it.
        by_parent: What has a parent goes by it, else by the trace's id as well.
    """

    def __init__(self, ids: _Ids, bound: int, *, by_parent: bool) -> None:
        self._ids = ids
        self._bound = bound
        self._by_parent = by_parent

    def dropped(self, parent: SpanContext) -> Told | None:
        """The context of a span that is not recorded; None for one that is, to be started at once in this thread.

        What is below it is not recorded either.
        """
        if not parent.is_valid:
            trace_id = self._ids.generate_trace_id()
            if trace_id & _LOW_BITS < self._bound:
                self._ids.foretell(trace_id)
                return None
            return Told(trace_id, self._ids.generate_span_id(), None)
        kept = parent.trace_flags.sampled if self._by_parent else parent.trace_id & _LOW_BITS < self._bound
        if kept:
            return None
        return Told(parent.trace_id, self._ids.generate_span_id(), parent.trace_state)


class _Ids:
    """A generator of ids that gives a trace id which was foretold in the same thread."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._told = threading.local()
        self.generate_span_id = inner.generate_span_id

    def foretell(self, trace_id: int) -> None:
        """The next span without a parent in this thread has this id, so that its sampler says what was foreseen."""
        self._told.trace_id = trace_id

    def generate_trace_id(self) -> int:
        told: int = self._told.__dict__.pop("trace_id", 0)
        return told or self._inner.generate_trace_id()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def foresight(tracer: Any, provider: TracerProvider) -> Foresight | None:
    """Of a tracer of the SDK; None of any other, of an unknown sampler, and where the SDK counts its spans."""
    try:
        from opentelemetry.sdk.trace import Tracer
    except ImportError:
        return None
    if type(tracer) is not Tracer or getattr(provider, "_meter_provider", None) is not None:
        return None
    found = _foreseen(tracer.sampler)
    if found is None:
        return None
    if not isinstance(tracer.id_generator, _Ids):
        tracer.id_generator = _Ids(tracer.id_generator)  # type: ignore[assignment]  # has all that a generator has
    bound, by_parent = found
    return Foresight(tracer.id_generator, bound, by_parent=by_parent)  # type: ignore[arg-type]


def _foreseen(sampler: Any) -> tuple[int, bool] | None:
    """The bound of root ids that are recorded, and whether children go by their parents."""
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased

    if type(sampler) is TraceIdRatioBased:
        return sampler.bound, False
    if sampler is ALWAYS_OFF or sampler is ALWAYS_ON:
        return (0 if sampler is ALWAYS_OFF else _LOW_BITS + 1), False
    names = ("_remote_parent_not_sampled", "_local_parent_not_sampled")
    if isinstance(sampler, ParentBased) and all(getattr(sampler, name, None) is ALWAYS_OFF for name in names):
        root = _foreseen(getattr(sampler, "_root", None))
        return None if root is None or root[1] else (root[0], True)
    return None
