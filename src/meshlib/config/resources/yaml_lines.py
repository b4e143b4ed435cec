"""YAML (and JSON) texts into plain objects, and the line of a field when a problem asks for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml
from yaml.events import (
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from meshlib.config.resources.bounds import beyond
from meshlib.config.resources.yaml_values import NO_DOCUMENT, TextError, read_value

__all__ = ["Document", "Lines", "documents", "pieces", "read"]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Lines:
    """Where the fields of an object stand; looked up when asked, because few objects ever have a problem.

    Attributes:
        text: The document.
        first: Line of the file that the document starts on, counted from 1.
        root: Path of the object in its document, ``""`` for all of it, ``items[3]`` in a list.
    """

    text: str
    first: int
    root: str = ""

    def find(self, path: str) -> int | None:
        """The line of ``path``, or of the nearest field around it; None when nothing is known."""
        table = _table(self.text)
        path = f"{self.root}.{path}" if self.root and path else self.root or path
        while path and path not in table:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        line = table.get(path)
        return None if line is None else self.first + line

    def below(self, root: str) -> Lines:
        """The same for an object inside this one."""
        return Lines(self.text, self.first, root)

    def moved(self, lines: int) -> Lines:
        """The same for a document that stands so many lines further down."""
        return Lines(self.text, self.first + lines, self.root)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document.

    Attributes:
        value: The plain object; None for an empty document.
        lines: Where its fields stand.
        error: Why it could not be read, or None.
        line: Where the error is, or where the document starts.
        repeated: Keys that stand twice in their mapping, as (line, message).
    """

    value: Any
    lines: Lines | None
    error: str | None = None
    line: int = 1
    repeated: tuple[tuple[int, str], ...] = ()


def documents(text: str) -> Iterator[Document]:
    """Every document of ``text``; one that cannot be read does not hide the others."""
    for piece, first in pieces(text):
        yield read(piece, first)


def pieces(text: str) -> Iterator[tuple[str, int]]:
    """The text of every document, with the line that it starts on; empty ones and directives are left out."""
    if text[:1] in ("{", "[") and "\n---" not in text:
        yield text, 1
        return
    first = 1
    for piece in _split(text):
        if piece and not piece.isspace() and not _only_directives(piece):
            yield piece, first
        first += piece.count("\n")


def _split(text: str) -> Iterator[str]:
    """What stands between lines that start with ``---``; a fifth of the time of a regular expression."""
    start, mark = 0, 0 if text.startswith("---") else _next_mark(text, 0)
    while mark >= 0:
        if text[mark + 3 : mark + 4] in ("", " ", "\t", "\n", "\r"):
            yield text[start:mark]
            start = mark + 3
        mark = _next_mark(text, mark)
    yield text[start:]


def _next_mark(text: str, after: int) -> int:
    found = text.find("\n---", after)
    return found + 1 if found >= 0 else -1


def _only_directives(piece: str) -> bool:
    return piece.startswith(("%YAML ", "%TAG ")) and all(line[:1] in ("%", "#", "") for line in piece.splitlines())


def read(text: str, first: int) -> Document:
    """One document, that starts on line ``first``."""
    from_json = _read_json(text, first) if text.lstrip()[:1] in ("{", "[") else None
    if from_json is not None:
        return from_json
    twice: list[TextError] = []
    try:
        value = read_value(text, twice)
        repeated = tuple((first + (each.line or 0), str(each)) for each in twice)
        return Document(None if value is NO_DOCUMENT else value, Lines(text, first), line=first, repeated=repeated)
    except TextError as error:
        return _refused(str(error), first, error.line, error.column)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark is not None else (0, None)
        return _refused(error.problem or error.context or "not YAML", first, line, column)
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        return _unreadable(text, first, error)


def _refused(message: str, first: int, line: int | None, column: int | None) -> Document:
    place = f", column {column + 1}" if column is not None else ""
    return Document(None, None, message + place, first + (line or 0))


def _unreadable(text: str, first: int, error: Exception) -> Document:
    """A character that no YAML text may hold."""
    hit = _NO_TEXT.search(text)
    if hit is None:
        return _refused(str(error).partition("\n")[0] or "not YAML", first, 0, None)
    before = text[: hit.start()]
    message = f"the character {hit.group()!a} is not allowed in a text"
    return _refused(message, first, before.count("\n"), hit.start() - (before.rfind("\n") + 1))


# JSON ---------------------------------------------------------------------------------------------------------------


def _read_json(text: str, first: int) -> Document | None:
    """A JSON text, some thirty times as fast as by way of YAML; None when it is none, which may still be YAML."""
    try:
        value = json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    problem = beyond(value)
    if problem is not None:
        return _refused(problem, first, None, None)
    return Document(value, Lines(text, first), line=first)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


# Lines --------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _table(text: str) -> dict[str, int]:
    """Field path -> line of the document, counted from 0, for a text that was read before."""
    loader = _Loader(text)
    lines: dict[str, int] = {}
    try:
        following = loader.get_event
        following(), following()
        _walk(following(), "", lines, following)
    except (yaml.YAMLError, RecursionError):
        pass  # JSON that is no YAML: what was found until there is right
    finally:
        loader.dispose()
    return lines


def _walk(event: Any, path: str, lines: dict[str, int], following: Callable[[], Any]) -> None:
    lines.setdefault(path, _line(event))
    kind = type(event)
    if kind is MappingStartEvent:
        while type(key := following()) is ScalarEvent:
            below = f"{path}.{key.value}" if path else key.value
            lines[below] = _line(key)
            _walk(following(), below, lines, following)
    elif kind is SequenceStartEvent:
        number = 0
        while type(item := following()) is not SequenceEndEvent:
            _walk(item, f"{path}[{number}]", lines, following)
            number += 1


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line
