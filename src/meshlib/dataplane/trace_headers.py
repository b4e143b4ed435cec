"""Which headers carry trace context, and which of them belong together.

One context is told by the headers of one family: whoever sets one of them speaks for the whole family, so that a
``tracestate`` of one trace never travels with the ``traceparent`` of another.

Source: W3C Trace Context and Baggage; B3 propagation; Istio, "Trace context propagation".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["REQUEST_ID", "TRACE_HEADERS", "spoken_for", "without"]

Pair = tuple[bytes, bytes]

REQUEST_ID = b"x-request-id"
_W3C = (b"traceparent", b"tracestate")
_B3 = (b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-b3-flags")
_DATADOG = (
    b"x-datadog-trace-id",
    b"x-datadog-parent-id",
    b"x-datadog-sampling-priority",
    b"x-datadog-origin",
    b"x-datadog-tags",
)
_ALONE = (b"x-ot-span-context", b"sw8", b"grpc-trace-bin", b"x-cloud-trace-context", b"baggage")
_FAMILIES = tuple(frozenset(family) for family in (_W3C, _B3, _DATADOG))

TRACE_HEADERS = (REQUEST_ID, *_W3C, *_B3, *_DATADOG, *_ALONE)
"""What an application hands on from the request that it serves to those that it makes."""

_MET = frozenset((*TRACE_HEADERS, b"x-envoy-attempt-count")) - {REQUEST_ID}
"""What an attempt adds may take the place of these; a call without them is left as it is."""


def spoken_for(pairs: Iterable[Pair]) -> set[bytes]:
    """The names in ``pairs``, in lower case, and with any header of a family all others of it."""
    names = {name.lower() for name, _ in pairs}
    for family in _FAMILIES:
        if not family.isdisjoint(names):
            names |= family
    return names


def without(headers: list[Pair], added: Sequence[Pair]) -> list[Pair]:
    """``headers`` without those that ``added`` speaks for."""
    if not any(name.lower() in _MET for name, _ in headers):
        return headers
    names = spoken_for(added)
    return [pair for pair in headers if pair[0].lower() not in names]
