"""A text that is read again and again: documents that stayed as they were keep their objects.

Ten thousand objects may stand in one file. When one of them changes, only its document is read; the others are the same
Python objects as before, and whoever gets them sees by identity that there is nothing to do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from meshlib.config.resources.base import Origin, Resource
from meshlib.config.resources.load import Loaded, add_document, decoded, in_bounds, refused
from meshlib.config.resources.yaml_lines import pieces, read
from meshlib.config.resources.yaml_values import TextError

__all__ = ["Source"]


class Source:
    """One file, as it was read last.

    Args:
        name: In problems.
        strict: Refuse objects with unknown fields.
    """

    __slots__ = ("_known", "_name", "_strict")

    def __init__(self, name: str, strict: bool = False) -> None:
        self._name, self._strict = name, strict
        self._known: dict[str, tuple[int, Loaded]] = {}

    def read(self, raw: bytes) -> Loaded:
        """The objects of the file's content now."""
        try:
            text = decoded(raw)
        except TextError as error:
            return refused(error, self._name)
        known: dict[str, tuple[int, Loaded]] = {}
        whole = Loaded([], [])
        for piece, first in pieces(text):
            found = self._document(piece, first)
            known[piece] = (first, found)
            whole.resources.extend(found.resources)
            whole.problems.extend(found.problems)
        self._known = known
        return in_bounds(whole)

    def _document(self, piece: str, first: int) -> Loaded:
        before = self._known.get(piece)
        if before is None:
            found = Loaded([], [])
            add_document(read(piece, first), self._name, self._strict, found)
            return found
        line, loaded = before
        return loaded if line == first else _moved(loaded, first - line)


def _moved(loaded: Loaded, lines: int) -> Loaded:
    """The same objects, so many lines further down."""
    return Loaded(
        [_moved_object(resource, lines) for resource in loaded.resources],
        [replace(each, line=None if each.line is None else each.line + lines) for each in loaded.problems],
    )


def _moved_object(resource: Resource[Any], lines: int) -> Resource[Any]:
    origin = resource.origin
    where = None if origin.lines is None else origin.lines.moved(lines)
    return replace(resource, origin=Origin(origin.source, where))
