"""What a source of many parts has trouble with now, in one text: parts in the same trouble are named together."""

from __future__ import annotations

__all__ = ["Troubles"]

_NAMED = 3
"""Parts of one trouble that are named; of the others their number."""


class Troubles:
    """The troubles of one source."""

    def __init__(self) -> None:
        self._parts: dict[str, str] = {}

    def tell(self, part: str, words: str) -> bool:
        """A part of the source is in this trouble, ``""`` in none; whether that is news."""
        if self._parts.get(part, "") == words:
            return False
        if words:
            self._parts[part] = words
        else:
            del self._parts[part]
        return True

    def __str__(self) -> str:
        """All of them; ``""`` for none."""
        groups: dict[str, list[str]] = {}
        for part, words in sorted(self._parts.items()):
            groups.setdefault(words, []).append(part)
        return "; ".join(f"{_named(parts)}: {words}" for words, parts in groups.items())


def _named(parts: list[str]) -> str:
    more = len(parts) - _NAMED
    return ", ".join(parts[:_NAMED]) + (f" and {more} more" if more > 0 else "")
