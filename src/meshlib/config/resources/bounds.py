"""How large and how deep configuration may be, so that no text can take the process's time or memory.

Whatever is beyond a bound is refused with file and line, and nothing else is. A text of a megabyte can ask for
gigabytes (aliases of aliases), for the interpreter's stack (nesting), or never end (an alias of what it stands in).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["MAX_ALIASED", "MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "MAX_PROBLEMS", "beyond"]

MAX_BYTES = 64 * 1024 * 1024
"""Of one file or text: ten thousand services with twenty endpoints each are 32 MiB; Kubernetes allows 1.5 an object."""

MAX_NODES = 5_000_000
"""Keys and values of one document, those that aliases repeat counted each time."""

MAX_ALIASED = 100_000
"""Keys and values of one document that stand there by aliases and merge keys only."""

MAX_DEPTH = 100
"""Mappings and lists inside each other."""

MAX_PROBLEMS = 100
"""Told about one object; a hundred and first only says that there are more."""


def beyond(value: Any) -> str | None:
    """What of a plain value is beyond the bounds, or no text at all; None for a good one.

    For values that no YAML text was read into: JSON, and objects that are given in code, which may hold themselves.
    """
    nodes = 0
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for part in level:
            if isinstance(part, str):
                if not part.isascii() and _has_surrogates(part):
                    return f"{part[:40]!r} holds half of a surrogate pair, which is no text"
            elif isinstance(part, Mapping):
                below.extend(part)
                below.extend(part.values())
            elif isinstance(part, list | tuple | set | frozenset):
                below.extend(part)
            elif isinstance(part, int) and not -(2**63) <= part < 2**64:
                return "a whole number has more than 64 bits"
        nodes += len(level)
        if nodes > MAX_NODES:
            return f"more than {MAX_NODES} keys and values"
        if not below:
            return None
        level = below
    return f"nested deeper than {MAX_DEPTH} levels"


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
