"""What a source has trouble with now, as findings: many parts in the same trouble are one."""

from __future__ import annotations

from meshlib.model.problem import Level, Problem

__all__ = ["Troubles"]


class Troubles:
    """The troubles of one source.

    Args:
        source: Its name.
    """

    def __init__(self, source: str) -> None:
        self._source = source
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

    def problems(self) -> tuple[Problem, ...]:
        """One for each trouble, with the parts that are in it."""
        groups: dict[str, list[str]] = {}
        for part, words in sorted(self._parts.items()):
            groups.setdefault(words, []).append(part)
        return tuple(
            Problem("MESH020", "SourceTrouble", Level.WARNING, "", f"{_named(parts)}: {words}", self._source)
            for words, parts in groups.items()
        )


def _named(parts: list[str]) -> str:
    more = len(parts) - 3
    return ", ".join(parts[:3]) + (f" and {more} more" if more > 0 else "")
