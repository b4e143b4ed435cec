"""The model in words and plain values, for tables and comparisons."""

from __future__ import annotations

from typing import Any

from meshlib.model.route import RouteMatch, StringMatch

__all__ = ["match_words", "plain"]


def match_words(match: RouteMatch) -> str:
    """A condition, for example ``path prefix /v1, end-user exact jason``; ``*`` for every request."""
    parts = [] if match.path is None else [f"path {_text(match.path)}"]
    for header in match.headers:
        value = "present" if header.value is None else _text(header.value)
        parts.append(f"{'not ' if header.invert else ''}{header.name} {value}")
    for query in match.query:
        parts.append(f"?{query.name} {'present' if query.value is None else _text(query.value)}")
    if match.grpc:
        parts.append("gRPC")
    if match.parts_per_million is not None:
        parts.append(f"{match.parts_per_million / 10_000:g}% of the requests")
    return ", ".join(parts) or "*"


def _text(match: StringMatch) -> str:
    return f"{match.kind.value} {match.value}" + (" ignoring case" if match.ignore_case else "")


def plain(value: Any) -> Any:
    """Values that JSON knows: enums by value, sets in order, bytes as text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return getattr(value, "value", value)
