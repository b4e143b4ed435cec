"""Collects what a check finds, with file, line and field path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from meshlib.config.resources.base import Resource
from meshlib.config.resources.bounds import MAX_PROBLEMS
from meshlib.model.problem import Level, Problem, schema_error, schema_warning

__all__ = ["Report"]


class Report:
    """Findings about one object, in order."""

    def __init__(self, resource: Resource[Any]) -> None:
        self.resource = resource
        self.problems: list[Problem] = []

        self._counts: Counter[Level] = Counter()

    def error(self, path: str, message: str) -> None:
        """The object breaks a rule at ``path``."""
        self._add(partial(schema_error, self.resource.id), Level.ERROR, path, message)

    def refuse(self, path: str, problem: str | None) -> None:
        """An error where a check of ``primitives`` found a problem."""
        if problem:
            self.error(path, problem)

    def warn(self, path: str, message: str) -> None:
        """The object is used, but ``path`` deserves a look."""
        self._add(partial(schema_warning, self.resource.id), Level.WARNING, path, message)

    def note(self, code: str, name: str, level: Level, path: str, message: str) -> None:
        """A finding with a code of its own."""
        self._add(partial(Problem, code, name, level, self.resource.id), level, path, message)

    def _add(self, make: Callable[..., Problem], level: Level, path: str, message: str) -> None:
        """The first hundred of a level are told, so that one object's findings are bounded."""
        self._counts[level] += 1
        if self._counts[level] <= MAX_PROBLEMS:
            origin = self.resource.origin
            self.problems.append(make(message, origin.source, origin.line(path), path))
