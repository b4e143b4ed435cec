"""``galley.istio.io/analyze-suppress``: findings that an object's author does not want to hear of.

Source: Istio ``pkg/config/analysis/local/analyze.go``.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshlib.config.analyze.world import World
from meshlib.model.problem import Problem

__all__ = ["without_suppressed"]

ANNOTATION = "galley.istio.io/analyze-suppress"


def without_suppressed(world: World, problems: Iterable[Problem]) -> list[Problem]:
    """The findings, without those whose code the object lists; ``*`` is every code."""
    muted = {
        (item.resource.id, item.resource.origin.source): {code.strip() for code in text.split(",")}
        for item in world.items
        if (text := item.annotations.get(ANNOTATION))
    }
    return [
        problem for problem in problems if not muted.get((problem.resource, problem.file), set()) & {problem.code, "*"}
    ]
