"""Whether a sampler that dropped a span drops all below it, so that nobody needs to ask again."""

from __future__ import annotations

from typing import Any

__all__ = ["drops_children"]


def drops_children(sampler: Any) -> bool:
    """Whether the answer for a span holds for its children; False for samplers that we do not know.

    Of the SDK's own: a ratio goes by the trace's id, a constant is one; one that goes by the parent asks another about
    children of a local span that was dropped, by default the one that drops all.
    """
    try:
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
    except ImportError:
        return False
    if isinstance(sampler, ParentBased):
        return getattr(sampler, "_local_parent_not_sampled", None) is ALWAYS_OFF
    return sampler in (ALWAYS_OFF, ALWAYS_ON) or type(sampler) is TraceIdRatioBased
