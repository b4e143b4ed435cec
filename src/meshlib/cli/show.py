"""Text for people: decisions, attempts, responses, tables, problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from meshlib.cli.decision import blocks, decision_lines, place
from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.decision import Decision
from meshlib.dataplane.outcome import Outcome
from meshlib.model.informed import PolicyValue
from meshlib.model.problem import Level, Problem

__all__ = ["attempt", "call", "decision", "failure", "problems", "response", "table"]

_OUT = Console(highlight=False, soft_wrap=True)
_ERR = Console(stderr=True, highlight=False, soft_wrap=True)
_WIDE = 1000
_COLOURS = {Level.ERROR: "red", Level.WARNING: "yellow", Level.INFO: "cyan"}


def decision(given: Decision, method: str, url: str) -> None:
    """Where a request goes and why."""
    for line in decision_lines(given, method, url):
        _OUT.print(line)


def attempt(given: Attempt, outcome: Outcome, seconds: float) -> None:
    """One attempt that is over."""
    what = f"status {outcome.status}" if outcome.failure is None else f"{outcome.failure.value} ({outcome.flag})"
    _ERR.print(f"[dim]attempt {given.number} at {given.state.key}: {escape(what)}, {seconds * 1000:.1f} ms[/]")


def call(given: Call, now: float) -> None:
    """A call that is over: where it was sent in the end, how often it was tried, its flags, the time it took."""
    cluster = place(given.cluster.name) if given.cluster is not None else "answered here"
    attempts = f"{given.attempts} attempt" + ("s" if given.attempts != 1 else "")
    flags = f", flags {given.flags}" if given.flags != "-" else ""
    took = f"{(now - given.started) * 1000:.1f} ms"
    _ERR.print(f"[dim]call: {escape(cluster)}, {attempts}{escape(flags)}, {took}[/]")


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
    """Rows with the same keys; what is no terminal has no width to fold for."""
    drawn = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ("nothing",):
        drawn.add_column(name, overflow="fold")
    for row in rows:
        drawn.add_row(*(escape(_cell(value)) for value in row.values()))
    (_OUT if _OUT.is_terminal else Console(highlight=False, width=_WIDE)).print(drawn)


def _cell(value: Any) -> str:
    """A table cell; values with an origin stand one below the other."""
    if not isinstance(value, dict):
        return str(value)
    values = [PolicyValue(field, each["value"], each["origin"]) for field, each in value.items()]
    return "\n".join(f"{block}: {', '.join(words)}\n  {origin}" for (block, origin), words in blocks(values).items())
