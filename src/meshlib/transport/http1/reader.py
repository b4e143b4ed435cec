"""Reads responses off one connection, strictly; sans-IO, around the C parser of ``httptools`` (llhttp).

What a peer may not do here is what makes the bytes of one response be taken for another's: two lengths, a length
beside a transfer coding, a coding other than ``chunked``, bare CR or LF, folded headers, a version or status that is
none, bytes before or after a response. All of it raises ``Malformed`` (or, after a complete response, ends the
connection), so that no byte ever reaches the next exchange.
"""

from __future__ import annotations

import re

import httptools

__all__ = ["MANY", "MAX_HEAD", "MUCH", "Malformed", "Reader"]

MAX_HEAD = 100 * 1024
"""Bytes that a peer may send without one byte of a body among them: status lines and headers, those of interim
responses included, or trailers, or what stands between two pieces of a chunked body."""

MANY = 64
"""Pieces of a body that are handed on one by one; more that came together are joined first, which is cheaper."""

MUCH = 256 * 1024
"""Body bytes that may wait for the caller before the peer is made to wait."""

_TOO_MUCH = f"more than {MAX_HEAD} bytes of headers"
_KEEP_ALIVE = re.compile(rb"(?i)(?:^|[\s,])timeout\s*=\s*\"?(\d{1,9})")
_VERSIONS = {"1.0": b"HTTP/1.0", "1.1": b"HTTP/1.1"}
_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})
Headers = list[tuple[bytes, bytes]]


class Malformed(Exception):
    """The peer broke HTTP/1.1; the connection is of no further use."""


class Reader:
    """The state of one response after another.

    Attributes:
        status: Final status; 0 before the headers are there.
        headers: In the order and case received.
        trailers: Behind a chunked body.
        reason: Reason phrase.
        chunks: Where body bytes go.
        has_headers: The final status line and headers are there.
        done: The response is complete.
        keep_alive: Whether the peer lets the connection carry another exchange.
        rests: Seconds after which the peer closes an idle connection, as ``Keep-Alive`` tells; None when it does not.
        overrun: Bytes came that belong to no response; the connection must not be used again.
        continued: The peer said ``100 Continue``.
    """

    __slots__ = (
        "_head_bytes",
        "_interim",
        "_is_head",
        "_parser",
        "_spent",
        "_why",
        "chunks",
        "continued",
        "done",
        "has_headers",
        "headers",
        "keep_alive",
        "overrun",
        "reason",
        "rests",
        "status",
        "trailers",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._spent = False
        self.overrun = False
        self.expect(b"GET", [])

    def expect(self, method: bytes, chunks: list[bytes]) -> None:
        """A request of ``method`` is about to be sent; its response's body goes into ``chunks``."""
        if self._spent:
            self._parser, self._spent = httptools.HttpResponseParser(self), False
        self._is_head = method == b"HEAD"
        self._head_bytes = 0
        self._interim = False
        self._why = ""
        self.rests: float | None = None
        self.status = 0
        self.reason = b""
        self.headers: Headers = []
        self.trailers: Headers = []
        self.chunks = chunks
        self.has_headers = self.done = self.keep_alive = self.continued = False

    def feed(self, data: bytes) -> None:
        """Take in what the peer sent.

        Raises:
            Malformed: It is no HTTP/1.1 response, or more than ``MAX_HEAD`` without a body.
        """
        if self.done:
            self.overrun = True
            return
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise Malformed("an upgrade that nobody asked for") from None
        except httptools.HttpParserError as error:
            if not self.done:
                raise Malformed(self._why or str(error)) from None
            self.overrun = True
        if self._head_bytes > MAX_HEAD and not self.done:
            raise Malformed(_TOO_MUCH)

    def end(self) -> bool:
        """The peer closed its side; whether that completes the response."""
        if self.has_headers and not self.done:
            self.done = not any(name.lower() in _LENGTHS for name, _ in self.headers)
        return self.done

    @property
    def stops_request(self) -> bool:
        """Whether there is an answer, and the rest of the request would be for nobody: it is an error or the end."""
        return self.has_headers and (self.status >= 400 or not self.keep_alive)

    @property
    def http_version(self) -> bytes:
        """``b"HTTP/1.1"`` or ``b"HTTP/1.0"``."""
        return _VERSIONS.get(self._parser.get_http_version(), b"HTTP/1.1")  # any other was refused

    # What the parser calls ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A status line starts."""
        if self.done:
            self.overrun = True

    def on_status(self, reason: bytes) -> None:
        """The reason phrase, perhaps in pieces."""
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header or a trailer; behind a complete response it belongs to nobody."""
        if not self.has_headers:
            self.headers.append((name, value))
            if len(name) == 10 and name.lower() == b"keep-alive" and (found := _KEEP_ALIVE.search(value)):
                self.rests = float(found[1])
        elif not self.done:
            self.trailers.append((name, value))

    def on_headers_complete(self) -> None:
        """All headers of a final or an interim response are there."""
        if self.done:
            return
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            self._begin_interim(status)
            return
        if parser.get_http_version() not in _VERSIONS:
            self._refuse("a version of HTTP that is not 1.0 or 1.1")
        is_coded = self._check(self.headers)
        self.status = status
        self.keep_alive = parser.should_keep_alive() and not (is_coded and parser.get_http_version() == "1.0")
        self.has_headers = True
        if self._is_head:
            self._complete_without_body()

    def _begin_interim(self, status: int) -> None:
        if status < 100:
            self._refuse("a status below 100")
        self._interim = True
        self.continued = self.continued or status == 100

    def on_body(self, chunk: bytes) -> None:
        """Bytes of the body, transfer coding removed."""
        if self.done:
            self.overrun = True
        else:
            self.chunks.append(chunk)
            self._head_bytes = 0

    def on_message_complete(self) -> None:
        """An interim response ended, or the final one."""
        if self._interim:
            self._interim = False
            self.headers, self.reason = [], b""
        else:
            if self.trailers:
                self._bound(self.trailers)
            self.done = True

    def _complete_without_body(self) -> None:
        """A response to HEAD has no body, whatever its headers announce; the parser does not know of HEAD."""
        closes = any(name.lower() == b"connection" and b"close" in value.lower() for name, value in self.headers)
        self.keep_alive = not closes and self._parser.get_http_version() == "1.1"
        self.done = self._spent = True

    # What it refuses ------------------------------------------------------------------------------------------------

    def _check(self, headers: Headers) -> bool:
        """Whether there is a transfer coding."""
        if self._head_bytes > MAX_HEAD:  # headers and body may have come together
            self._bound(headers)
        codings = [value for name, value in headers if len(name) == 17 and name.lower() == b"transfer-encoding"]
        if codings and (len(codings) > 1 or codings[0].strip().lower() != b"chunked"):
            self._refuse("a transfer coding other than chunked")
        return bool(codings)

    def _bound(self, headers: Headers) -> None:
        if sum(len(name) + len(value) for name, value in headers) > MAX_HEAD:
            self._refuse(_TOO_MUCH)

    def _refuse(self, why: str) -> None:
        """Stop the parser, which tells of any exception that it was one, but not which."""
        self._why = why
        raise Malformed(why)
