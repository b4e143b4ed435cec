"""What is wrong with a configuration object, and where."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = ["LEVELS", "Level", "Problem", "printable", "schema_error", "schema_warning"]


class Level(Enum):
    """How bad it is; an object with an ``ERROR`` is left out, the others stand."""

    ERROR = "Error"
    WARNING = "Warning"
    INFO = "Info"


_LONGEST = 2_000
"""Characters of one text in a finding."""

LEVELS = (Level.ERROR, Level.WARNING, Level.INFO)
"""The worst first."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding.

    Attributes:
        code: Code of ``istioctl analyze``, for example ``IST0101``; ``MESH...`` for checks of our own.
        name: The code's name, for example ``ReferencedResourceNotFound``.
        level: How bad it is.
        resource: For example ``VirtualService default/reviews``; ``""`` when no object could be read.
        message: What is wrong, with the value and the bound.
        file: Where the object came from, ``""`` when unknown.
        line: Line of the field, counted from 1; None when unknown.
        path: Field, in Istio's spelling, for example ``spec.http[0].route[1].destination.subset``.
    """

    code: str
    name: str
    level: Level
    resource: str
    message: str
    file: str = ""
    line: int | None = None
    path: str = ""

    def __post_init__(self) -> None:
        """Keep the length of what was found in bounds: a value of megabytes is told by its beginning."""
        for name in ("resource", "message", "path"):
            text: str = getattr(self, name)
            if len(text) > _LONGEST:
                object.__setattr__(self, name, f"{text[:_LONGEST]}...")

    def to_dict(self) -> dict[str, Any]:
        """The JSON form of ``meshlib analyze``."""
        return {
            "code": self.code,
            "name": self.name,
            "level": self.level.value,
            "resource": self.resource,
            "file": self.file,
            "line": self.line,
            "path": self.path,
            "message": self.message,
        }

    def __str__(self) -> str:
        """``Error [IST0106] reviews.yaml:14 VirtualService default/reviews spec.http[0]: message``."""
        line = f":{self.line}" if self.line is not None else ""
        where = " ".join(part for part in (f"{self.file}{line}", self.resource, self.path) if part)
        return printable(f"{self.level.value} [{self.code}] {where}: {self.message}")


def printable(text: str) -> str:
    """The text on one line, without what a terminal or a log would act upon."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def schema_error(resource: str, message: str, file: str = "", line: int | None = None, path: str = "") -> Problem:
    """The object breaks its schema or Istio's validation, and is left out."""
    return Problem("IST0106", "SchemaValidationError", Level.ERROR, resource, message, file, line, path)


def schema_warning(resource: str, message: str, file: str = "", line: int | None = None, path: str = "") -> Problem:
    """The object is used, but something in it deserves a look."""
    return Problem("IST0133", "SchemaWarning", Level.WARNING, resource, message, file, line, path)
