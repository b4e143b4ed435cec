"""Whether a text is an expression of CEL, which Telemetry filters and tag overrides are written in."""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["syntax_problem"]

_LONGEST = 16_384
"""Characters; the library gives up, and not gently, on columns beyond 65,535."""


@cache
def _compiler() -> Any:
    """The library's module; None without the extra ``meshlib[cel]``."""
    try:
        import cel
    except ImportError:
        return None
    return cel


def syntax_problem(expression: str) -> str | None:
    """What is wrong with an expression, by its syntax alone; None also where ``meshlib[cel]`` is not installed."""
    if len(expression) > _LONGEST:
        return f"the expression has {len(expression)} characters, at most {_LONGEST} are allowed"
    library = _compiler()
    if library is None:
        return None
    try:
        library.compile(expression)
    except ValueError as error:
        reason = str(error).partition("ERROR: ")[2].partition("\n")[0] or str(error).partition("\n")[0]
        return f"{expression!r} is not a CEL expression: {reason}"
    return None
