"""Request heads and body framing; sans-IO."""

from __future__ import annotations

from meshlib.transport.base import WireRequest

__all__ = ["END_OF_CHUNKS", "chunk", "framed", "head", "is_chunked", "wants_continue"]

END_OF_CHUNKS = b"0\r\n\r\n"
_COLON = b": "


def head(request: WireRequest) -> bytes:
    """Request line and headers, in the caller's order and case.

    Raises:
        ValueError: The target or a header holds a line break or NUL: it would split the request in two.
    """
    lines = [b"%b %b HTTP/1.1" % (request.method, request.target)]
    lines += map(_COLON.join, request.headers)
    text = b"\r\n".join(lines)
    if text.count(b"\n") != len(lines) - 1 or text.count(b"\r") != len(lines) - 1 or b"\0" in text:
        raise ValueError("a header or the request target holds a line break")
    return text + b"\r\n\r\n"


def is_chunked(request: WireRequest) -> bool:
    """Whether the caller asked for chunked framing; else the body's length was announced."""
    return any(name.lower() == b"transfer-encoding" for name, _ in request.headers)


def wants_continue(request: WireRequest) -> bool:
    """Whether the body has to wait for ``100 Continue``."""
    return any(name.lower() == b"expect" and value.lower() == b"100-continue" for name, value in request.headers)


def chunk(data: bytes) -> bytes:
    """One piece of a chunked body; empty data is no piece, since it would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def framed(request: WireRequest, body: bytes) -> bytes:
    """A body that is at hand, in chunked framing where the headers say so."""
    return chunk(body) + END_OF_CHUNKS if is_chunked(request) else body
