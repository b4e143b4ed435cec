"""Rules that can never be reached, and matches that change nothing (IST0130, IST0131)."""

from __future__ import annotations

from collections.abc import Sequence

from meshlib.config.resources.virtual_service import HTTPMatchRequest, HTTPRoute
from meshlib.config.validation.report import Report
from meshlib.model.problem import Level

__all__ = ["unreachable"]


def unreachable(report: Report, rules: Sequence[HTTPRoute]) -> None:
    """Report every rule behind a catch-all and every match that an earlier one equals."""
    open_ended: int | None = None
    seen: dict[str, str] = {}
    for number, rule in enumerate(rules):
        path = f"spec.http[{number}]"
        if open_ended is not None:
            message = f"rule {open_ended} has no match and takes every request before it comes here"
            report.note("IST0130", "VirtualServiceUnreachableRule", Level.WARNING, path, message)
        if not rule.match:
            open_ended = number if open_ended is None else open_ended
            continue
        repeated = [_repeats(report, match, f"{path}.match[{index}]", seen) for index, match in enumerate(rule.match)]
        if all(repeated):
            message = "every match of this rule stands in a rule before it"
            report.note("IST0130", "VirtualServiceUnreachableRule", Level.WARNING, path, message)


def _repeats(report: Report, match: HTTPMatchRequest, path: str, seen: dict[str, str]) -> bool:
    key = match.model_dump_json(exclude={"name"}, exclude_defaults=True)
    first = seen.setdefault(key, path)
    if first == path:
        return False
    message = f"this match is the same as {first}"
    report.note("IST0131", "VirtualServiceIneffectiveMatch", Level.INFO, path, message)
    return True
