"""Rules that can never be reached, and matches that change nothing (IST0130, IST0131)."""

from __future__ import annotations

from collections.abc import Sequence

from meshlib.config.resources.virtual_service import (
    HTTPMatchRequest,
    L4MatchAttributes,
    TLSMatchAttributes,
    VirtualServiceSpec,
)
from meshlib.config.validation.report import Report
from meshlib.model.problem import Level

__all__ = ["unreachable"]


_Match = HTTPMatchRequest | TLSMatchAttributes | L4MatchAttributes


def unreachable(report: Report, spec: VirtualServiceSpec) -> None:
    """Report every rule behind a catch-all and every match that an earlier one equals."""
    _list(report, [rule.match for rule in spec.http], "spec.http")
    _list(report, [rule.match for rule in spec.tls], "spec.tls")
    _list(report, [rule.match for rule in spec.tcp], "spec.tcp")


def _list(report: Report, rules: Sequence[Sequence[_Match]], where: str) -> None:
    open_ended: int | None = None
    seen: dict[str, tuple[str, _Match]] = {}
    for number, matches in enumerate(rules):
        path = f"{where}[{number}]"
        if open_ended is not None:
            message = f"rule {open_ended} has no match and takes every request before it comes here"
            report.note("IST0130", "VirtualServiceUnreachableRule", Level.WARNING, path, message)
        if not matches:
            open_ended = number if open_ended is None else open_ended
            continue
        repeated = [_repeats(report, match, f"{path}.match[{index}]", seen) for index, match in enumerate(matches)]
        if all(repeated):
            message = "every match of this rule stands in a rule before it"
            report.note("IST0130", "VirtualServiceUnreachableRule", Level.WARNING, path, message)


def _repeats(report: Report, match: _Match, path: str, seen: dict[str, tuple[str, _Match]]) -> bool:
    """Report a match that changes nothing; True when the very same one stands before it."""
    key = match.model_dump_json(exclude={"name"}, exclude_defaults=True)
    first = seen.setdefault(key, (path, match))[0]
    if first != path:
        _ineffective(report, path, f"this match is the same as {first}")
        return True
    covering = next((where for where, other in seen.values() if where != path and _covers(other, match)), None)
    if covering is not None:
        _ineffective(report, path, f"{covering} has a shorter prefix and takes all of this")
    return False


def _ineffective(report: Report, path: str, message: str) -> None:
    report.note("IST0131", "VirtualServiceIneffectiveMatch", Level.INFO, path, message)


def _covers(earlier: _Match, later: _Match) -> bool:
    """Whether every request of ``later`` matches ``earlier``: a shorter prefix, and nothing else that narrows it."""
    if not isinstance(earlier, HTTPMatchRequest) or not isinstance(later, HTTPMatchRequest):
        return False
    one, other = earlier.uri, later.uri
    if one is None or other is None or one.prefix is None or other.prefix is None:
        return False
    if not other.prefix.startswith(one.prefix) or one.prefix == other.prefix or earlier.port != later.port:
        return False
    if any(getattr(earlier, name) not in (None, getattr(later, name)) for name in ("method", "authority")):
        return False
    return all(
        getattr(earlier, name) == getattr(later, name)
        for name in ("headers", "query_params", "without_headers", "source_labels", "gateways", "source_namespace")
    )
