"""Collects what a check finds, with file, line and field path."""

from __future__ import annotations

from typing import Any

from meshlib.config.resources.base import Resource
from meshlib.model.problem import Level, Problem, schema_error, schema_warning

__all__ = ["Report"]


class Report:
    """Findings about one object, in order."""

    def __init__(self, resource: Resource[Any]) -> None:
        self.resource = resource
        self.problems: list[Problem] = []

    def error(self, path: str, message: str) -> None:
        """The object breaks a rule at ``path``."""
        origin = self.resource.origin
        self.problems.append(schema_error(self.resource.id, message, origin.source, origin.line(path), path))

    def warn(self, path: str, message: str) -> None:
        """The object is used, but ``path`` deserves a look."""
        origin = self.resource.origin
        self.problems.append(schema_warning(self.resource.id, message, origin.source, origin.line(path), path))

    def note(self, code: str, name: str, level: Level, path: str, message: str) -> None:
        """A finding with a code of its own."""
        origin = self.resource.origin
        line = origin.line(path)
        self.problems.append(Problem(code, name, level, self.resource.id, message, origin.source, line, path))
