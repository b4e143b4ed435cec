"""The head of a request as HTTP/2 wants it (RFC 9113 section 8.2 and 8.3); sans-IO."""

from __future__ import annotations

import re

from meshlib.transport.base import Headers, WireRequest

__all__ = ["head"]

_LEFT_OUT = frozenset(
    {b"host", b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
"""``Host`` is told as ``:authority``; the others speak of one HTTP/1.1 connection."""

_FORBIDDEN = re.compile(rb"[\0\r\n]")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")


def head(request: WireRequest) -> Headers:
    """Pseudo-headers first, then the caller's with names in lower case.

    Raises:
        ValueError: The target or a header holds a line break or NUL, or a name that is none.
    """
    authority, named = b"", frozenset[bytes]()
    for name, value in request.headers:
        lower = name.lower()
        if lower == b"host":
            authority = value
        elif lower == b"connection":
            named = frozenset(word.strip() for word in value.lower().split(b","))
    start = [
        (b":method", request.method),
        (b":scheme", request.scheme),
        (b":authority", authority),
        (b":path", request.target),
    ]
    if any(_FORBIDDEN.search(value) for _, value in start):
        raise ValueError("the request target or the host holds a line break")
    return start + [_checked(name, value) for name, value in _lowered(request.headers) if name not in named]


def _lowered(headers: Headers) -> Headers:
    lowered = [(name.lower(), value) for name, value in headers]
    return [
        (name, value)
        for name, value in lowered
        if name not in _LEFT_OUT and (name != b"te" or value.lower() == b"trailers")
    ]


def _checked(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    if not _NAME.fullmatch(name) or _FORBIDDEN.search(value):
        raise ValueError(f"the header {name!r} has no proper name, or holds a line break")
    return name, value.strip(b" \t")
