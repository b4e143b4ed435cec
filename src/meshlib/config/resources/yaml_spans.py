"""In which columns the fields of a YAML text stand: for showing a text to people, never on the way to a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from meshlib.config.resources.yaml_lines import pieces

__all__ = ["Span", "spans"]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST = 100


@dataclass(frozen=True, slots=True)
class Span:
    """Where a field stands: line from 1, columns from 0, the end excluded.

    Attributes:
        path: Field path in its document.
        line: Its line.
        start: Column of the value where that is a scalar on the key's line, else of the key.
        end: Where that ends.
    """

    path: str
    line: int
    start: int
    end: int


def spans(text: str) -> Iterator[Span]:
    """Where every field of every readable document stands."""
    for piece, first in pieces(text):
        loader = None
        try:
            loader = _Loader(piece)
            node = loader.get_single_node()
            if node is not None:
                yield from _spans(node, "", first, 0)
        except (yaml.YAMLError, ValueError, RecursionError):
            pass
        finally:
            if loader is not None:
                loader.dispose()


def _spans(node: Any, path: str, first: int, depth: int) -> Iterator[Span]:
    if depth > _DEEPEST:
        return
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = f"{path}.{key.value}" if path else str(key.value)
            on_line = isinstance(value, yaml.ScalarNode) and value.start_mark.line == key.start_mark.line
            yield _span(value if on_line and value.value else key, below, first)
            yield from _spans(value, below, first, depth + 1)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield _span(item, f"{path}[{number}]", first)
            yield from _spans(item, f"{path}[{number}]", first, depth + 1)


def _span(node: Any, path: str, first: int) -> Span:
    start, end = node.start_mark, node.end_mark
    width = end.column - start.column if end.line == start.line else 1
    return Span(path, first + start.line, start.column, start.column + max(1, width))
