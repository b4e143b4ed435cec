"""What one sees of the story: a live table on a terminal, log lines elsewhere, a summary in the end."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

__all__ = ["Chapter", "Screen"]

_COLOURS = {"v1": "cyan", "v2": "magenta", "v3": "yellow"}
_BAR = 36


@dataclass
class Chapter:
    """One part of the story and what it proved.

    Attributes:
        title: What happens.
        claim: What is proven by it.
        counts: Answers by version or status.
        proven: None while it runs.
        evidence: The numbers behind the verdict.
    """

    title: str
    claim: str
    counts: Counter[str] = field(default_factory=Counter)
    proven: bool | None = None
    evidence: str = ""


class Screen:
    """Shows chapters as they go.

    Args:
        live: Draw a table that changes; else write lines.
        quiet: Show nothing until the summary.
    """

    def __init__(self, *, live: bool, quiet: bool) -> None:
        self._console = Console(highlight=False)
        self._chapters: list[Chapter] = []
        self._quiet = quiet
        self._started = time.monotonic()
        self._note = ""
        self._live = Live(console=self._console, refresh_per_second=8) if live else None

    def __enter__(self) -> Screen:
        """Take the terminal."""
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Give it back."""
        if self._live is not None:
            self._live.update(self._drawn())
            self._live.__exit__(None, None, None)

    def begin(self, chapter: Chapter) -> None:
        """A new chapter."""
        self._chapters.append(chapter)
        if self._live is None:
            self._line(chapter.title)

    def tick(self) -> None:
        """Numbers have changed."""
        if self._live is not None:
            self._live.update(self._drawn())

    def note(self, text: str) -> None:
        """Something happened that is worth a line."""
        self._note = text
        if self._live is None:
            self._line(f"  {text}")

    def end(self, chapter: Chapter) -> None:
        """The chapter has its verdict."""
        if self._live is None:
            self._line(f"  {'proven' if chapter.proven else 'NOT PROVEN'}: {chapter.claim} ({chapter.evidence})")
        self.tick()

    def _line(self, text: str) -> None:
        if not self._quiet:
            self._console.print(f"{time.monotonic() - self._started:6.2f}s {text}", soft_wrap=True)

    def summary(self, requests: int, *, as_json: bool) -> None:
        """What was proven, with counts."""
        if as_json:
            sys.stdout.write(json.dumps(_as_dict(self._chapters, requests), indent=2) + "\n")
            return
        proven = sum(bool(chapter.proven) for chapter in self._chapters)
        style = "bold green" if proven == len(self._chapters) else "bold red"
        self._console.print(
            Text(f"\n{proven} of {len(self._chapters)} proven with {requests} pages, and no sidecar.", style)
        )
        for chapter in self._chapters:
            mark = "[green]ok[/]" if chapter.proven else "[red]no[/]"
            self._console.print(f"  {mark} {chapter.claim}: {chapter.evidence}", soft_wrap=True)

    def _drawn(self) -> Group:
        table = Table(title="A bookshop under Istio's YAML, without a sidecar", title_justify="left", expand=False)
        for name in ("what happens", "where the requests went", "", "proven"):
            table.add_column(name)
        for chapter in self._chapters:
            verdict = "..." if chapter.proven is None else "[green]yes[/]" if chapter.proven else "[red]no[/]"
            table.add_row(chapter.title, _bar(chapter.counts), _words(chapter.counts), verdict)
        return Group(table, Text(self._note, "dim"))


def _bar(counts: Mapping[str, int]) -> Text:
    total = sum(counts.values())
    bar = Text()
    for name in sorted(counts):
        width = round(_BAR * counts[name] / total) if total else 0
        bar.append("█" * width, _COLOURS.get(name, "green" if name == "200" else "red"))
    return bar


def _words(counts: Mapping[str, int]) -> str:
    total = sum(counts.values()) or 1
    return ", ".join(f"{name} {100 * counts[name] / total:.0f}%" for name in sorted(counts))


def _as_dict(chapters: list[Chapter], requests: int) -> dict[str, Any]:
    return {
        "requests": requests,
        "proven": all(chapter.proven for chapter in chapters),
        "chapters": [
            {
                "title": chapter.title,
                "claim": chapter.claim,
                "counts": dict(chapter.counts),
                "proven": bool(chapter.proven),
                "evidence": chapter.evidence,
            }
            for chapter in chapters
        ],
    }
