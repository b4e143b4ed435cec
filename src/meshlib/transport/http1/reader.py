"""Reads responses off one connection, strictly; sans-IO, around the C parser of ``httptools`` (llhttp).

What a peer may not do here is what makes the bytes of one response be taken for another's: two lengths, a length
beside a transfer coding, bare CR or LF, folded headers, bytes before or after a response. All of it raises
``Malformed`` (or, after a complete response, ends the connection), so that no byte ever reaches the next exchange.
"""

from __future__ import annotations

import httptools

__all__ = ["MAX_HEAD", "Malformed", "Reader"]

MAX_HEAD = 100 * 1024
"""Bytes of status line and headers, interim responses and trailers included, that a peer may send for one response."""

_TOO_MUCH = f"more than {MAX_HEAD} bytes of headers"
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
        overrun: Bytes came that belong to no response; the connection must not be used again.
        continued: The peer said ``100 Continue``.
    """

    __slots__ = (
        "_head_bytes",
        "_interim",
        "_is_head",
        "_parser",
        "_spent",
        "chunks",
        "continued",
        "done",
        "has_headers",
        "headers",
        "keep_alive",
        "overrun",
        "reason",
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
        self.status = 0
        self.reason = b""
        self.headers: Headers = []
        self.trailers: Headers = []
        self.chunks = chunks
        self.has_headers = self.done = self.keep_alive = self.continued = False

    def feed(self, data: bytes) -> None:
        """Take in what the peer sent.

        Raises:
            Malformed: It is no HTTP/1.1 response, or more head than ``MAX_HEAD``.
        """
        if self.done:
            self.overrun = True
            return
        if not self.has_headers:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise Malformed("an upgrade that nobody asked for") from None
        except httptools.HttpParserError as error:
            if not self.done:
                raise Malformed(str(error)) from None
            self.overrun = True
        if not self.has_headers and self._head_bytes > MAX_HEAD:
            raise Malformed(_TOO_MUCH)

    def end(self) -> bool:
        """The peer closed its side; whether that completes the response."""
        if self.has_headers and not self.done:
            self.done = not any(name.lower() in _LENGTHS for name, _ in self.headers)
        return self.done

    @property
    def http_version(self) -> bytes:
        """``b"HTTP/1.1"`` or ``b"HTTP/1.0"``."""
        return b"HTTP/" + self._parser.get_http_version().encode()

    # What the parser calls ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A status line starts."""
        if self.done:
            self.overrun = True

    def on_status(self, reason: bytes) -> None:
        """The reason phrase, perhaps in pieces."""
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header or a trailer."""
        if not self.has_headers:
            self.headers.append((name, value))
            return
        self.trailers.append((name, value))
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD:
            raise Malformed(_TOO_MUCH)

    def on_headers_complete(self) -> None:
        """All headers of a final or an interim response are there."""
        if self.done:
            return
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            self._interim = True
            self.continued = self.continued or status == 100
            return
        self.status = status
        self.keep_alive = parser.should_keep_alive()
        self.has_headers = True
        if self._is_head:
            self._complete_without_body()

    def on_body(self, chunk: bytes) -> None:
        """Bytes of the body, transfer coding removed."""
        if self.done:
            self.overrun = True
        else:
            self.chunks.append(chunk)

    def on_message_complete(self) -> None:
        """An interim response ended, or the final one."""
        if self._interim:
            self._interim = False
            self.headers, self.reason = [], b""
        else:
            self.done = True

    def _complete_without_body(self) -> None:
        """A response to HEAD has no body, whatever its headers announce; the parser does not know of HEAD."""
        closes = any(name.lower() == b"connection" and b"close" in value.lower() for name, value in self.headers)
        self.keep_alive = not closes and self._parser.get_http_version() == "1.1"
        self.done = self._spent = True
