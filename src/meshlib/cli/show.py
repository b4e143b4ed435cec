"""Text for people: decisions, attempts, responses, tables, problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from meshlib.cli.decision import decision_lines
from meshlib.dataplane.call import Attempt
from meshlib.dataplane.decision import Decision
from meshlib.dataplane.outcome import Outcome
from meshlib.model.problem import Level, Problem

__all__ = ["attempt", "decision", "failure", "problems", "response", "table"]

_OUT = Console(highlight=False, soft_wrap=True)
_ERR = Console(stderr=True, highlight=False, soft_wrap=True)
_COLOURS = {Level.ERROR: "red", Level.WARNING: "yellow", Level.INFO: "cyan"}


def decision(given: Decision, method: str, url: str) -> None:
    """Where a request goes and why."""
    for line in decision_lines(given, method, url):
        _OUT.print(line)


def attempt(given: Attempt, outcome: Outcome, seconds: float) -> None:
    """One attempt that is over."""
    what = f"status {outcome.status}" if outcome.failure is None else outcome.failure.value
    _ERR.print(f"[dim]attempt {given.number} at {given.state.key}: {escape(what)}, {seconds * 1000:.1f} ms[/]")


def response(given: Any, *, verbose: bool) -> None:
    """An HTTP response; the head only when asked for."""
    if verbose:
        _OUT.print(f"[bold]{given.http_version} {given.status_code} {escape(given.reason_phrase)}[/]")
        for name, value in given.headers.items():
            _OUT.print(f"{escape(name)}: {escape(value)}")
        _OUT.print()
    _OUT.out(given.text, end="" if given.text.endswith("\n") else "\n", highlight=False)


def failure(error: Exception) -> None:
    """A request that got no answer."""
    _ERR.print(f"[red]{type(error).__name__}[/]: {escape(str(error))}")
    for note in getattr(error, "__notes__", ()):
        _ERR.print(f"  {escape(note)}")


def problems(given: Sequence[Problem], prefix: str = "") -> None:
    """What is wrong with the configuration, on standard error."""
    for problem in given:
        _ERR.print(f"[{_COLOURS[problem.level]}]{escape(prefix + str(problem))}[/]")


def table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Rows with the same keys."""
    drawn = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ("nothing",):
        drawn.add_column(name, overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(str(value)) for value in row.values()))
    _OUT.print(drawn)
