"""YAML (and JSON, its subset) into plain objects, with the line of every field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

__all__ = ["Document", "documents"]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SPLIT = re.compile(r"^---(?=\s|$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document.

    Attributes:
        value: The plain object; None for an empty document.
        lines: Field path -> line, counted from 1.
        error: Why it could not be read, or None.
        line: Where the error is, or where the document starts.
    """

    value: Any
    lines: dict[str, int]
    error: str | None = None
    line: int = 1


def documents(text: str) -> Iterator[Document]:
    """Every document of ``text``; one that cannot be read does not hide the others."""
    first = 1
    for piece in _SPLIT.split(text):
        if piece.strip():
            yield _read(piece, first)
        first += piece.count("\n")


def _read(text: str, first: int) -> Document:
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return Document(None, {}, line=first)
            lines: dict[str, int] = {}
            _walk(node, "", first, lines, 0)
            return Document(loader.construct_document(node), lines, line=first)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = first + (mark.line if mark is not None else 0)
        column = f", column {mark.column + 1}" if mark is not None else ""
        return Document(None, {}, f"{error.problem or error.context or 'not YAML'}{column}", line)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError, AttributeError) as error:
        return Document(None, {}, str(error).partition("\n")[0] or "not YAML", first)


_DEEPEST = 100


def _walk(node: Any, path: str, first: int, lines: dict[str, int], depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError(f"nested deeper than {_DEEPEST} levels")
    lines[path] = first + node.start_mark.line
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen and name != "<<":
                raise yaml.MarkedYAMLError(problem=f"key {name!r} stands twice", problem_mark=key.start_mark)
            seen.add(name)
            below = f"{path}.{name}" if path else name
            _walk(value, below, first, lines, depth + 1)
            lines[below] = first + key.start_mark.line
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _walk(item, f"{path}[{number}]", first, lines, depth + 1)
