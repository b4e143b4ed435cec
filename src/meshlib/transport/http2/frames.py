"""Cuts what a peer sends into frames, takes GOAWAY out, and bounds what costs us work and brings nothing.

``h2`` ends a connection at GOAWAY, though the streams up to the one that GOAWAY names still run (RFC 9113 section 6.8);
so it never sees that frame. Frames without use, SETTINGS and PING above all, which each want an answer, are allowed as
often as a bucket refills.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["FLOOD", "MAX_HEADERS", "Frames", "GoAway", "Malformed"]

MAX_HEADERS = 100 * 1024
"""Bytes of one list of headers, encoded or not; those of interim responses count together."""

FLOOD = 2000
"""Frames without use that may come at once; ``_REFILL`` more each second."""

_REFILL = 100.0
_MAX_FRAME = 16384
_HEADER = 9
_DATA, _HEADERS, _SETTINGS, _GOAWAY, _CONTINUATION = 0x0, 0x1, 0x4, 0x7, 0x9
_END_STREAM = 0x1


class Malformed(Exception):
    """The peer broke HTTP/2, or misuses it; the connection is of no further use."""


@dataclass(frozen=True, slots=True)
class GoAway:
    """The peer takes no more streams.

    Attributes:
        last_stream: No stream above it was or will be acted upon.
        code: HTTP/2 error code; 0 when nothing is wrong.
        message: What the peer adds, for people.
    """

    last_stream: int
    code: int
    message: str = ""


class Frames:
    """Holds back frames that are not whole yet."""

    __slots__ = ("_block", "_buffer", "_is_begun", "_seen", "_spare")

    def __init__(self, now: float) -> None:
        self._buffer = b""
        self._is_begun = False
        self._block = 0
        self._spare = float(FLOOD)
        self._seen = now

    def feed(self, data: bytes, now: float) -> Iterator[bytes | GoAway]:
        """Whole frames, as many together as stand together, and each GOAWAY by itself.

        Raises:
            Malformed: The peer speaks no HTTP/2, sends frames larger than allowed, or too many that are of no use.
        """
        self._spare = min(FLOOD, self._spare + (now - self._seen) * _REFILL)
        self._seen = now
        buffer = self._buffer + data if self._buffer else data
        start = position = 0
        while len(buffer) - position >= _HEADER:
            length, kind = int.from_bytes(buffer[position : position + 3], "big"), buffer[position + 3]
            self._check(length, kind)
            end = position + _HEADER + length
            if end > len(buffer):
                break
            if kind == _GOAWAY:
                if position > start:
                    yield buffer[start:position]
                yield _go_away(buffer[position + 5 : end])
                start = end
            else:
                self._count(length, kind, buffer[position + 4])
            position = end
        if position > start:
            yield buffer[start:position]
        self._buffer = buffer[position:]

    def _check(self, length: int, kind: int) -> None:
        if not self._is_begun and (kind != _SETTINGS or length > _MAX_FRAME):
            raise Malformed("the peer does not speak HTTP/2")
        self._is_begun = True
        if length > _MAX_FRAME:
            raise Malformed(f"a frame of {length} bytes, more than the {_MAX_FRAME} allowed")

    def _count(self, length: int, kind: int, flags: int) -> None:
        if kind == _HEADERS:
            self._block = length
        elif kind == _CONTINUATION:
            self._block += length
        elif kind == _DATA and (length or flags & _END_STREAM):
            return
        if self._block > MAX_HEADERS:
            raise Malformed(f"more than {MAX_HEADERS} bytes of headers")
        if kind != _HEADERS:
            self._spare -= 1.0
            if self._spare < 0.0:
                raise Malformed("a flood of frames that are of no use")

    def excuse(self) -> None:
        """A piece of a body was sent, for which the peer may well send a WINDOW_UPDATE or two."""
        self._spare = min(FLOOD, self._spare + 2.0)


def _go_away(raw: bytes) -> GoAway:
    """From the frame's stream number on, which must be 0."""
    if len(raw) < 12 or raw[:4].strip(b"\0\x80"):
        raise Malformed("a broken GOAWAY frame")
    last = int.from_bytes(raw[4:8], "big") & 0x7FFFFFFF
    return GoAway(last, int.from_bytes(raw[8:12], "big"), raw[12:140].decode("ascii", "replace"))
