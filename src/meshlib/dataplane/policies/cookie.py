"""One cookie of a request."""

from __future__ import annotations

__all__ = ["cookie_value"]


def cookie_value(header: str, name: str) -> str | None:
    """The value of the first cookie of that name in a ``Cookie`` header, without quotes; None when there is none."""
    for pair in header.replace(",", ";").split(";"):
        found, equals, value = pair.strip().partition("=")
        if equals and found == name:
            return value.strip('"')
    return None
