"""Request heads and the framing of bodies; sans-IO.

What leaves here is one request and nothing else, whatever the caller says of it: a body of another length than its
headers announce, two lengths, a coding other than ``chunked`` or a name that is none would be read by the peer as the
beginning of another request, or as an end that never comes (RFC 9112 sections 6 and 11.2). All of it is refused before
the first byte too many; the connection is then of no further use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from meshlib.dataplane.outcome import Failure
from meshlib.transport.base import Headers, WireError, WireRequest

__all__ = ["Head", "head", "number", "refused", "wants_continue"]

_END_OF_CHUNKS = b"0\r\n\r\n"
_COLON = b": "
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING = frozenset({b"host", b"connection", b"content-length", b"transfer-encoding", b"expect"})

_KEPT = (b"Connection", b"keep-alive")
"""Which clients send with every request, and means nothing."""

_plain: set[bytes] = set()
"""Names, in the case that callers write them, that are tokens and say nothing of framing."""

_REMEMBERED, _LONGEST = 4096, 64
"""Names kept in ``_plain``, and bytes of the longest of them."""


class Head:
    """The head of a request, and what it says of the body.

    Attributes:
        text: Request line and headers, the empty line included.
        waits: The body has to wait for ``100 Continue``.
        closes: The caller wants the connection closed behind this exchange.
    """

    text = b""
    waits = closes = False
    _chunked = _has_host = False
    _length: int | None = None

    @property
    def wants_more(self) -> bool:
        """Whether the peer waits for something behind what it was sent."""
        return self._chunked or bool(self._length)

    def whole(self, body: bytes) -> bytes:
        """All of a body that is at hand, framed.

        Raises:
            WireError: It has another length than announced.
        """
        return bytes(self.piece(body)) + self.end()

    def piece(self, data: bytes | memoryview) -> bytes | memoryview:
        """The next bytes of the body, framed; empty data is no piece, since as a chunk it would end the body.

        Raises:
            WireError: More than was announced.
        """
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(data), bytes(data)) if data else b""
        left = (self._length or 0) - len(data)
        if left < 0:
            raise refused("the body is longer than its Content-Length", sent=True)
        self._length = left
        return data

    def end(self) -> bytes:
        """What stands behind the body.

        Raises:
            WireError: Less came than was announced.
        """
        if self._chunked:
            return _END_OF_CHUNKS
        if self._length:
            raise refused("the body is shorter than its Content-Length", sent=True)
        return b""

    def note(self, name: bytes, value: bytes) -> None:
        """What a header means that is not known to be plain.

        Raises:
            WireError: It is none, or contradicts another.
        """
        lower = name.lower()
        if lower == b"host":
            self._has_host = _once(self._has_host, b"Host")
        elif lower not in _FRAMING:
            _learn(name)
        elif lower == b"connection":
            self.closes = self.closes or b"close" in _words(value)
        elif lower == b"expect":
            self.waits = self.waits or value.lower() == b"100-continue"
        elif lower == b"content-length":
            _once(self._length is not None, name)
            self._length = number(value)
        else:
            self._chunked = _once(self._chunked, name)
            if value.strip().lower() != b"chunked":
                raise refused(f"Transfer-Encoding {value!r}: only chunked is spoken")

    def sent_headers(self, headers: Headers) -> Iterable[tuple[bytes, bytes]]:
        """Those that go out: a length beside a transfer coding does not (RFC 9112 section 6.2)."""
        if not self._chunked or self._length is None:
            return headers
        return [header for header in headers if header[0].lower() != b"content-length"]


def head(request: WireRequest) -> Head:
    """Request line and headers, in the caller's order and case.

    Raises:
        WireError: The request would be taken for something else than it is; nothing was sent.
    """
    made, plain, method, target = Head(), _plain, request.method, request.target
    for name, value in request.headers:
        if name not in plain and (name, value) != _KEPT:
            made.note(name, value)
    if method not in plain:
        _learn(method)
    lines = [b"%b %b HTTP/1.1" % (method, target)]
    lines += map(_COLON.join, made.sent_headers(request.headers))
    text = b"\r\n".join(lines)
    if text.count(b"\n") != len(lines) - 1 or text.count(b"\r") != len(lines) - 1 or b"\0" in text:
        raise refused("a header or the request target holds a line break")
    if b" " in target or not target:
        raise refused(f"the request target {target!r} is empty or holds a space")
    made.text = text + b"\r\n\r\n"
    return made


def wants_continue(request: WireRequest) -> bool:
    """Whether the body has to wait for ``100 Continue``."""
    return any(name.lower() == b"expect" and value.lower() == b"100-continue" for name, value in request.headers)


def number(value: bytes) -> int:
    """What a ``Content-Length`` says, in bytes.

    Raises:
        WireError: It is no number.
    """
    if not value.strip().isdigit() or len(value) > 19:
        raise refused(f"Content-Length {value!r} is no number")
    return int(value)


def refused(why: str, *, sent: bool = False) -> WireError:
    """The request is wrong, and the peer has no part in it."""
    return WireError(Failure.LOCAL, why, sent=sent)


def _learn(name: bytes) -> None:
    if not _TOKEN.fullmatch(name):
        raise refused(f"{name!r} is no name of a header or method")
    if len(_plain) < _REMEMBERED and len(name) <= _LONGEST:
        _plain.add(name)


def _words(value: bytes) -> list[bytes]:
    return [word.strip() for word in value.lower().split(b",")]


def _once(is_known: bool, name: bytes) -> bool:
    if is_known:
        raise refused(f"more than one {name.decode('ascii', 'replace')}")
    return True
