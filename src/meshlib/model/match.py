"""Conditions on a request: texts, headers, query parameters, and a route's all together."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["HeaderMatch", "MatchKind", "PathMatch", "QueryMatch", "RouteMatch", "StringMatch"]


class MatchKind(Enum):
    """How a text is compared. A regex is RE2 and must match the whole value."""

    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"
    SUFFIX = "suffix"
    CONTAINS = "contains"
    SEGMENT_PREFIX = "segment prefix"
    RANGE = "range"


@dataclass(frozen=True, slots=True)
class StringMatch:
    """A condition on a text. ``SEGMENT_PREFIX`` is for paths; ``RANGE`` is ``"start:end"``, half open."""

    kind: MatchKind
    value: str
    ignore_case: bool = False


PathMatch = StringMatch
"""On the path without its query."""


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """A condition on a header.

    Attributes:
        name: Lower case; ``:method``, ``:scheme``, ``:authority`` and ``:path`` are allowed.
        value: None asks for presence only.
        invert: Turns the answer round.
        missing_as_empty: A missing header is compared as ``""``; without it a missing header never matches,
            not even inverted.
        joined: Repeated lines are compared once, joined with ``,`` (gRPC); else one line that matches is enough
            (Envoy since 1.39).
    """

    name: str
    value: StringMatch | None = None
    invert: bool = False
    missing_as_empty: bool = False
    joined: bool = False


@dataclass(frozen=True, slots=True)
class QueryMatch:
    """A condition on the first query parameter of that name, not percent-decoded; None asks for presence."""

    name: str
    value: StringMatch | None = None


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """All conditions must hold. ``path`` None matches every path.

    ``grpc`` restricts to gRPC requests; ``parts_per_million`` draws (Envoy ``runtime_fraction``), None is always.
    """

    path: PathMatch | None = None
    headers: tuple[HeaderMatch, ...] = ()
    query: tuple[QueryMatch, ...] = ()
    grpc: bool = False
    parts_per_million: int | None = None

    @property
    def is_catch_all(self) -> bool:
        """Whether every request matches."""
        return (
            self.path is None
            and not self.headers
            and not self.query
            and not self.grpc
            and self.parts_per_million is None
        )
