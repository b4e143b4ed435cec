"""The head of a request as HTTP/2 wants it (RFC 9113 section 8.2 and 8.3); sans-IO."""

from __future__ import annotations

import re

from meshlib.transport.base import Headers, WireRequest
from meshlib.transport.http1.writer import number, refused

__all__ = ["announced", "head"]

_LEFT_OUT = frozenset(
    {b"host", b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
"""``Host`` is told as ``:authority``; the others speak of one HTTP/1.1 connection."""

_FORBIDDEN = re.compile(rb"[\0\r\n]")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")


def head(request: WireRequest) -> Headers:
    """Pseudo-headers first, then the caller's with names in lower case.

    Raises:
        WireError: The request would be taken for something else than it is; nothing was sent.
    """
    authority, named = b"", frozenset[bytes]()
    for name, value in request.headers:
        lower = name.lower()
        if lower == b"host":
            if authority:
                raise refused("more than one Host")
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
        raise refused("the request target or the host holds a line break")
    if not request.target or b" " in request.target:
        raise refused(f"the request target {request.target!r} is empty or holds a space")
    return start + [_checked(name, value) for name, value in _lowered(request.headers) if name not in named]


def announced(headers: Headers) -> int | None:
    """Bytes of the body, as the headers say; None where they do not.

    Raises:
        WireError: They say it twice, or what they say is no number.
    """
    told = [value for name, value in headers if name == b"content-length"]
    if len(told) > 1:
        raise refused("more than one Content-Length")
    return number(told[0]) if told else None


def _lowered(headers: Headers) -> Headers:
    lowered = [(name.lower(), value) for name, value in headers]
    return [
        (name, value)
        for name, value in lowered
        if name not in _LEFT_OUT and (name != b"te" or value.lower() == b"trailers")
    ]


def _checked(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    if not _NAME.fullmatch(name) or _FORBIDDEN.search(value):
        raise refused(f"the header {name!r} has no proper name, or holds a line break")
    return name, value.strip(b" \t")
