"""Findings for people: grouped by file, each with its line and a mark under the field, and a summary."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby, islice

from rich.console import Console
from rich.markup import escape

from meshlib.cli.analyze import Analysis
from meshlib.config.resources.yaml_spans import Span, spans
from meshlib.model.problem import LEVELS, Level, Problem, printable

__all__ = ["show"]

_COLOURS = {Level.ERROR: "red", Level.WARNING: "yellow", Level.INFO: "cyan"}
_COLUMN = re.compile(r"column (\d+)$")
_WIDEST = 160
_MOST_FIELDS = 1_000_000
"""Of one file; aliases of aliases could make more than anybody waits for."""


def show(analysis: Analysis, *, color: bool = True) -> None:
    """Print all findings; colours only on a terminal, and not with ``color=False`` or ``NO_COLOR``."""
    out = Console(highlight=False, soft_wrap=True, no_color=not color, color_system="auto" if color else None)
    for file, group in groupby(analysis.found, key=lambda problem: problem.file):
        out.print(f"[bold underline]{escape(file or 'all objects together')}[/]")
        source = _Source(analysis.texts.get(file, ""))
        for problem in group:
            for line in _lines(problem, source):
                out.print(line)
        out.print()
    out.print(_summary(analysis))


class _Source:
    """The lines of a file, and where its fields stand in them; the latter only when asked for."""

    def __init__(self, text: str) -> None:
        self._text, self.lines = text, text.splitlines()
        self._spans: dict[tuple[int, str], Span] | None = None

    def mark(self, problem: Problem) -> tuple[int, int] | None:
        """Columns of the field of a finding in its line; None when it is not known."""
        column = _COLUMN.search(problem.message)
        if not problem.path:
            return (int(column[1]) - 1, int(column[1])) if column is not None else None
        if self._spans is None:
            self._spans = self._find()
        path = problem.path
        while path:
            span = self._spans.get((problem.line or 0, path))
            if span is not None:
                return span.start, span.end
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return None

    def _find(self) -> dict[tuple[int, str], Span]:
        """By line and path, in the document and in the object of a list; a line may hold very many fields."""
        found: dict[tuple[int, str], Span] = {}
        for span in islice(spans(self._text), _MOST_FIELDS):
            found.setdefault((span.line, span.path), span)
            if span.path.startswith("items["):
                found.setdefault((span.line, span.path.partition("].")[2]), span)
        return found


def _lines(problem: Problem, source: _Source) -> Iterator[str]:
    colour = _COLOURS[problem.level]
    line = f":{problem.line}" if problem.line is not None else ""
    where = " ".join(part for part in (f"{problem.file}{line}", problem.resource, problem.path) if part)
    title = f"{problem.level.value} {escape(f'[{problem.code}]')}"
    yield f"  [{colour}]{title}[/] [bold]{escape(printable(problem.message))}[/]"
    yield f"    [dim]{problem.name}: {escape(printable(where))}[/]"
    if problem.line is not None and source.lines:
        number = max(1, min(problem.line, len(source.lines)))  # a text that ends too early breaks behind its last line
        yield from _excerpt(source.lines[number - 1].rstrip(), number, source.mark(problem), colour)


def _excerpt(text: str, number: int, mark: tuple[int, int] | None, colour: str) -> Iterator[str]:
    """The line itself, shortened around the mark where it is very long, and the mark beneath it."""
    start, end = mark or (0, 0)
    cut = max(0, start - _WIDEST // 2) if len(text) > _WIDEST else 0
    shown = "".join(each if each.isprintable() else " " for each in text[cut : cut + _WIDEST])
    ahead, behind = "..." if cut else "", "..." if cut + _WIDEST < len(text) else ""
    yield f"    [dim]{number:>5} |[/] {escape(f'{ahead}{shown}{behind}')}"
    if mark is not None and start < len(text):
        width = max(1, min(end, len(text), cut + _WIDEST) - start)
        yield f"    [dim]      |[/] {' ' * (len(ahead) + start - cut)}[{colour}]{'^' * width}[/]"


def _summary(analysis: Analysis) -> str:
    read = f"{_many(len(analysis.texts), 'file')}, {_many(analysis.objects, 'object')}"
    if not analysis.found and not analysis.objects:
        return f"[yellow]Nothing to check[/] in {read}."
    if not analysis.found:
        return f"[green]No problem found[/] in {read}."
    return f"{_counts(analysis.found)} in {read}."


def _counts(found: Sequence[Problem]) -> str:
    counts = {level: sum(problem.level is level for problem in found) for level in LEVELS}
    return ", ".join(
        f"[{_COLOURS[level]}]{_many(count, level.value.lower())}[/]" for level, count in counts.items() if count
    )


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
