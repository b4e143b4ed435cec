"""Findings that nobody wants to hear of: by the annotation on the object, or by ``CODE=Kind name.namespace``.

Source: Istio ``pkg/config/analysis/local/analyze.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from meshlib.config.analyze.world import World
from meshlib.errors import ConfigError
from meshlib.model.problem import Problem

__all__ = ["without_suppressed"]

ANNOTATION = "galley.istio.io/analyze-suppress"


def without_suppressed(world: World, problems: Iterable[Problem], suppress: Sequence[str] = ()) -> list[Problem]:
    """The findings, without those whose code the object lists (``*`` is every code) or ``suppress`` names.

    Raises:
        ConfigError: An entry of ``suppress`` is not of the form ``CODE=Kind name.namespace``.
    """
    wanted = [_parsed(text) for text in suppress]
    muted = {
        (item.resource.id, item.resource.origin.source): {code.strip() for code in text.split(",")}
        for item in world.items
        if (text := item.annotations.get(ANNOTATION))
    }
    return [
        problem
        for problem in problems
        if not muted.get((problem.resource, problem.file), set()) & {problem.code, "*"}
        and not any(problem.code == code and fnmatchcase(_said(world, problem), name) for code, name in wanted)
    ]


def _parsed(text: str) -> tuple[str, str]:
    code, equals, name = text.partition("=")
    if not equals or not code.strip() or not name.strip():
        raise ConfigError(f"suppression {text!r} is not of the form CODE=Kind name.namespace")
    return code.strip(), name.strip()


def _said(world: World, problem: Problem) -> str:
    """``VirtualService reviews.default``, as istioctl spells it."""
    kind, _, rest = problem.resource.partition(" ")
    namespace, slash, name = rest.rpartition("/")
    return f"{kind} {name}.{namespace if slash else world.namespace}"
