"""How much of the third-party data holds: one line a family at the end of a test run."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest

_FAMILY = "conformance family"


class Tally:
    """Counts cases by family and outcome; a case that several tests ask is passed when all of them pass."""

    def __init__(self) -> None:
        self._outcomes: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Reports carry the case's family, so that the count also holds over several processes."""
        mark = item.get_closest_marker("family")
        if mark is not None:
            item.user_properties.append((_FAMILY, "\n".join(mark.args)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test is over."""
        place = dict(report.user_properties).get(_FAMILY)
        if place is not None and (report.when == "call" or report.outcome != "passed"):
            family, case = str(place).split("\n")
            self._outcomes[family][case].add(report.outcome)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The table."""
        if not self._outcomes:
            return
        terminalreporter.section("conformance: passed/total (failed, skipped)")
        whole: Counter[str] = Counter()
        for family, cases in sorted(self._outcomes.items()):
            counts = Counter(_verdict(outcomes) for outcomes in cases.values())
            whole += counts
            terminalreporter.write_line(_line(family, counts))
        terminalreporter.write_line(_line("all", whole))


def _verdict(outcomes: set[str]) -> str:
    return next((word for word in ("failed", "skipped") if word in outcomes), "passed")


def _line(name: str, counts: Counter[str]) -> str:
    return f"{name:34} {counts['passed']:4}/{counts.total():4}  ({counts['failed']}, {counts['skipped']})"
