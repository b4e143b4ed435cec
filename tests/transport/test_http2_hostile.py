"""HTTP/2 peers that mean harm, over sockets in every colour: a clear error, the connection closed, never a hang."""

from __future__ import annotations

import socket
import threading

import pytest
from h2.events import StreamEnded

from meshlib.dataplane.outcome import Failure
from tests.transport.http2_peer import RUNS, Talk, Wire, ask, at, frame
from tests.transport.test_pools import script

__all__ = ["script"]

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED = 0x1, 0x4, 0x8
OK = frame(HEADERS, END_HEADERS, 1, b"\x88")
"""``:status: 200`` for the first stream."""

ONCE = {
    "another protocol in the middle": b"HTTP/1.1 200 OK\r\n\r\n",
    "a frame larger than allowed": OK + frame(DATA, 0, 1, b"x" * 16385),
    "data before headers": frame(DATA, END_STREAM, 1, b"early"),
    "data for a stream that nobody opened": frame(DATA, 0, 7, b"x"),
    "headers for a stream that nobody opened": frame(HEADERS, END_HEADERS, 7, b"\x88"),
    "headers for a stream of the server's": frame(HEADERS, END_HEADERS, 2, b"\x88"),
    "headers for stream 0": frame(HEADERS, END_HEADERS, 0, b"\x88"),
    "data for stream 0": frame(DATA, 0, 0, b"x"),
    "a promise that was forbidden": OK + frame(PUSH, END_HEADERS, 1, b"\0\0\0\2\x82"),
    "padding longer than its frame": OK + frame(DATA, PADDED, 1, b"\xffx"),
    "settings of no length": frame(SETTINGS, 0, 0, b"x"),
    "settings on a stream": frame(SETTINGS, 0, 1),
    "a window beyond all bounds": frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff"),
    "a window that grows by nothing": frame(WINDOW, 0, 0, bytes(4)),
    "a ping of no length": frame(PING, 0, 0, b"x"),
    "a broken goaway": frame(GOAWAY, 0, 0, b"x"),
    "a goaway on a stream": frame(GOAWAY, 0, 1, bytes(8)),
    "a goaway taken back": frame(GOAWAY, 0, 0, b"\0\0\0\1" + bytes(4)) + frame(GOAWAY, 0, 0, b"\0\0\0\5" + bytes(4)),
    "headers that do not unpack": frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
    "an index that is none": frame(HEADERS, END_HEADERS, 1, b"\x88\xfe"),
    "no status": frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x00\x01x\x01y"),
    "a status that is none": frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x08\x03abc"),
    "an upgrade": frame(HEADERS, END_HEADERS, 1, b"\x08\x03101"),
    "a name in upper case": frame(HEADERS, END_HEADERS, 1, b"\x88\x00\x01X\x01y"),
    "a header of HTTP/1.1's connections": frame(HEADERS, END_HEADERS, 1, b"\x88\x00\x0aconnection\x05close"),
    "a pseudo-header behind a header": frame(HEADERS, END_HEADERS, 1, b"\x00\x01x\x01y\x88"),
    "another frame within headers": frame(HEADERS, 0, 1, b"\x88") + frame(PING, 0, 0, bytes(8)),
    "a continuation of nothing": frame(CONTINUATION, END_HEADERS, 1, b"\x88"),
    "more body than announced": frame(HEADERS, END_HEADERS, 1, b"\x88\x0f\x0d\x011") + frame(DATA, 1, 1, b"xx"),
    "less body than announced": frame(HEADERS, END_HEADERS, 1, b"\x88\x0f\x0d\x019") + frame(DATA, 1, 1, b"x"),
}

ENDLESS = {
    "settings": frame(SETTINGS),
    "settings acknowledged": frame(SETTINGS, 1),
    "pings": frame(PING, 0, 0, bytes(8)),
    "empty data": frame(DATA, 0, 1),
    "padding alone": frame(DATA, PADDED, 1, b"\x07" + bytes(7)),
    "priorities": frame(PRIORITY, 0, 1, bytes(3) + b"\5\x10"),
    "windows": frame(WINDOW, 0, 1, b"\0\0\0\1"),
    "unknown frames": frame(0xBE, 0, 0, b"grease"),
    "resets of what nobody opened": frame(RST, 0, 1, bytes(4)),
    "interim responses": frame(HEADERS, END_HEADERS, 1, b"\x08\x03102"),
}

pytestmark = pytest.mark.parametrize("run", RUNS)


def answering_with(raw: bytes, *, again: bool = False):
    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        wire.until(StreamEnded)
        wire.raw(raw)
        while again:
            sock.sendall(raw)
        while sock.recv(65536):
            pass

    return handle


def is_refused(found: object) -> bool:
    return found in ((Failure.PROTOCOL, True), (Failure.CLOSED, True), (Failure.RESET, True))


@pytest.mark.parametrize("raw", ONCE.values(), ids=ONCE)
def test_what_breaks_the_protocol_is_a_clear_error_and_ends_the_connection(run, raw, script):
    server = script(answering_with(raw))
    assert Talk(run, at(server)).each(ask()) == [(Failure.PROTOCOL, True)]


@pytest.mark.parametrize("raw", ENDLESS.values(), ids=ENDLESS)
def test_a_flood_of_what_is_of_no_use_is_given_up(run, raw, script):
    opening = b"" if "\x08\x03102" in raw.decode("latin-1") or raw[3] in (SETTINGS, PING) else OK
    ended = threading.Event()

    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        wire.until(StreamEnded)
        wire.raw(opening)
        try:
            while True:
                sock.sendall(raw * 100)
        finally:
            ended.set()

    [found] = Talk(run, at(script(handle))).each(ask())
    assert is_refused(found)
    assert ended.wait(10)


@pytest.mark.parametrize("start", ["headers", "trailers"])
def test_headers_without_end_are_given_up(run, start, script):
    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        wire.until(StreamEnded)
        wire.raw(OK if start == "trailers" else b"", frame(HEADERS, 0, 1, b"\x88" if start == "headers" else b""))
        while True:
            sock.sendall(frame(CONTINUATION, 0, 1, b"\x00\x01x\x01y" * 1000))

    assert Talk(run, at(script(handle))).each(ask()) == [(Failure.PROTOCOL, True)]


def test_headers_that_unpack_to_much_more_than_was_sent_are_given_up(run, script):
    big = b"\x40\x01x\x7f" + _integer(4000 - 127) + b"y" * 4000  # remembered, then named again by one byte
    raw = frame(HEADERS, END_HEADERS, 1, b"\x88" + big + b"\xbe" * 1000)
    assert Talk(run, at(script(answering_with(raw)))).each(ask()) == [(Failure.PROTOCOL, True)]


def _integer(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def test_a_connection_that_ends_at_any_byte_is_an_error_or_the_whole_answer(run, script):
    whole = OK + frame(DATA, 0, 1, b"part") + frame(DATA, END_STREAM, 1, b"rest")
    cuts = iter(range(len(whole)))

    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        wire.until(StreamEnded)
        wire.raw(whole[: next(cuts)])
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    found = Talk(run, at(script(handle))).each(*(ask() for _ in whole))
    assert found == [(Failure.CLOSED, True)] * len(whole)


def test_one_byte_at_a_time_is_an_answer_as_well(run, script):
    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        wire.until(StreamEnded)
        for byte in OK + frame(DATA, 0, 1, b"part") + frame(DATA, END_STREAM, 1, b"rest"):
            wire.raw(bytes([byte]))
        while sock.recv(65536):
            pass

    assert Talk(run, at(script(handle))).each(ask()) == [(200, b"partrest")]


def test_what_comes_for_a_stream_that_is_over_reaches_nobody(run, script):
    def handle(sock: socket.socket) -> None:
        wire = Wire(sock)
        for event in wire.come():
            if isinstance(event, StreamEnded) and event.stream_id == 1:
                wire.answer(1)
                wire.raw(frame(DATA, END_STREAM, 1, b"smuggled"))
            elif isinstance(event, StreamEnded):
                wire.answer(event.stream_id, b"own")

    server = script(handle)
    found = Talk(run, at(server)).each(ask(), ask(), ask())
    assert found[0] == (200, b"ok")
    assert all(each == (200, b"own") or each == (200, b"ok") or is_refused(each) for each in found[1:])


def test_many_tiny_pieces_cost_no_more_than_they_weigh(run, script):
    raw = OK + frame(DATA, 0, 1, b"x") * 50_000 + frame(DATA, END_STREAM, 1, b"y")
    assert Talk(run, at(script(answering_with(raw)))).each(ask()) == [(200, b"x" * 50_000 + b"y")]
