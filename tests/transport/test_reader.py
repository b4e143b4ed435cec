"""What is taken for a response and what is not, whole and byte by byte, and with h11 as a second opinion."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.http1.reader import MAX_HEAD, MUCH, Malformed, Reader

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = b"Content-Length: 2\r\n\r\nok"


def read(data: bytes, method: bytes = b"GET", *, size: int = 0, ends: bool = False) -> Reader:
    reader = Reader()
    reader.expect(method, [])
    for start in range(0, len(data), size or len(data) or 1):
        reader.feed(data[start : start + (size or len(data))])
    if ends:
        reader.end()
    return reader


REFUSED = {
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
    "the same length twice": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "a signed length": OK + b"Content-Length: +2\r\n\r\nok",
    "a hexadecimal length": OK + b"Content-Length: 0x2\r\n\r\nok",
    "an empty length": OK + b"Content-Length: \r\n\r\nok",
    "a length beyond 64 bits": OK + b"Content-Length: 99999999999999999999999\r\n\r\nok",
    "a space before the colon": OK + b"Content-Length : 2\r\n\r\nok",
    "length, then coding": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding, then length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "an unknown coding": OK + b"Transfer-Encoding: gzip\r\n\r\nab",
    "a coding beside chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, then another": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "nearly chunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "bare LF in the status line": b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
    "bare LF in a header": OK + b"Content-Length: 2\n\r\nok",
    "bare LF after the headers": OK + b"Content-Length: 2\r\n\nok",
    "bare CR in a header": OK + b"X: a\rContent-Length: 2\r\n\r\nok",
    "a folded header": OK + b"X: a\r\n b\r\n" + LENGTH,
    "NUL in a header": OK + b"X: a\0b\r\n" + LENGTH,
    "a control character": OK + b"X: a\x01b\r\n" + LENGTH,
    "a name that is no token": OK + b"X(: a\r\n" + LENGTH,
    "no name": OK + b": a\r\n" + LENGTH,
    "no colon": OK + b"Xabc\r\n" + LENGTH,
    "a space before the first name": OK + b" X: a\r\n" + LENGTH,
    "status 0": b"HTTP/1.1 000 x\r\n" + LENGTH,
    "status 99": b"HTTP/1.1 099 x\r\n" + LENGTH,
    "two digits": b"HTTP/1.1 99 x\r\n" + LENGTH,
    "four digits": b"HTTP/1.1 1000 x\r\n" + LENGTH,
    "HTTP/2": b"HTTP/2.0 200 OK\r\n" + LENGTH,
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\n" + LENGTH,
    "lower case": b"http/1.1 200 OK\r\n" + LENGTH,
    "no HTTP": b"ICY 200 OK\r\n" + LENGTH,
    "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "an upgrade": b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nraw",
    "101 without a word": b"HTTP/1.1 101 S\r\n\r\n" + OK + LENGTH,
    "no chunk size": CHUNKED + b"\r\na\r\n0\r\n\r\n",
    "a prefixed chunk size": CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
    "a negative chunk size": CHUNKED + b"-1\r\na\r\n0\r\n\r\n",
    "a chunk size after a space": CHUNKED + b" 1\r\na\r\n0\r\n\r\n",
    "a chunk beyond 64 bits": CHUNKED + b"fffffffffffffffff\r\na\r\n0\r\n\r\n",
    "a chunk longer than it says": CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
    "bare LF after a chunk size": CHUNKED + b"1\na\r\n0\r\n\r\n",
    "bare LF after a chunk": CHUNKED + b"1\r\na\n0\r\n\r\n",
    "bare LF in an extension": CHUNKED + b"1;a\nb\r\na\r\n0\r\n\r\n",
    "a length among the trailers": CHUNKED + b"1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n",
}


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(data, size):
    with pytest.raises(Malformed):
        read(data, size=size, ends=True)


TAKEN = {
    "length": (OK + LENGTH, 200, b"ok", True),
    "bytes beyond ASCII": (OK + b"X: \xff\xe9\r\n" + LENGTH, 200, b"ok", True),
    "no reason": (b"HTTP/1.1 200\r\n" + LENGTH, 200, b"ok", True),
    "a status of one's own": (b"HTTP/1.1 999 x\r\n" + LENGTH, 999, b"ok", True),
    "chunks": (CHUNKED + b"2\r\nok\r\n0\r\n\r\n", 200, b"ok", True),
    "an extension": (CHUNKED + b"2;a=b\r\nok\r\n0\r\n\r\n", 200, b"ok", True),
    "CHUNKED": (OK + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok", True),
    "100 before": (b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n" + OK + LENGTH, 200, b"ok", True),
    "an upgrade offered": (OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\n" + LENGTH, 200, b"ok", True),
    "204": (b"HTTP/1.1 204 No\r\n\r\n", 204, b"", True),
    "304 with a length": (b"HTTP/1.1 304 No\r\nContent-Length: 2\r\n\r\n", 304, b"", True),
    "Connection: close": (OK + b"Connection: CLOSE\r\n" + LENGTH, 200, b"ok", False),
    "close in a list": (OK + b"Connection: keep-alive, close\r\n" + LENGTH, 200, b"ok", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n" + LENGTH, 200, b"ok", False),
    "HTTP/1.0 that stays": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + LENGTH, 200, b"ok", True),
    "until the end": (OK + b"\r\nok", 200, b"ok", False),
}


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize(("data", "status", "body", "stays"), TAKEN.values(), ids=TAKEN)
def test_what_is_a_response_is_read_as_one_however_it_is_cut(data, status, body, stays, size):
    reader = read(data, size=size, ends=True)
    assert (reader.status, b"".join(reader.chunks), reader.keep_alive) == (status, body, stays)
    assert reader.done
    assert not reader.overrun


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("rest", [OK + LENGTH, b"JUNK", b"X: y\r\n\r\n", b"0\r\nX: y\r\n\r\n"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_nothing_of_what_comes_behind_a_response_gets_into_it(method, rest, size):
    first = OK + (b"Content-Length: 2\r\n\r\n" if method == b"HEAD" else LENGTH)
    reader = read(first + rest, method, size=size)
    assert (reader.done, reader.overrun) == (True, True)
    assert (b"".join(reader.chunks), reader.trailers) == (b"" if method == b"HEAD" else b"ok", [])


def test_a_body_that_ends_too_early_is_not_complete():
    for data in (OK + b"Content-Length: 5\r\n\r\nabc", CHUNKED + b"2\r\nok\r\n", OK, b""):
        assert not read(data, ends=True).done


def test_one_reader_reads_one_response_after_another():
    reader = Reader()
    for method, data, body in [(b"GET", OK + LENGTH, b"ok"), (b"HEAD", OK + LENGTH[:-2], b"")] * 3:
        reader.expect(method, [])
        reader.feed(data)
        assert (reader.done, b"".join(reader.chunks), reader.keep_alive) == (True, body, True)


def test_trailers_are_kept_apart_even_behind_a_large_piece_of_body():
    body = b"x" * (2 * MAX_HEAD)
    reader = read(CHUNKED + b"%x\r\n%b\r\n0\r\nX: y\r\n\r\n" % (len(body), body))
    assert (b"".join(reader.chunks), reader.trailers) == (body, [(b"X", b"y")])


ENDLESS = {
    "headers": (OK, b"X: y\r\n"),
    "one header": (OK + b"X: ", b"yyyyyyyyyy"),
    "a reason": (b"HTTP/1.1 200 ", b"O"),
    "interim responses": (b"", b"HTTP/1.1 103 E\r\nLink: x\r\n\r\n"),
    "empty lines": (b"", b"\r\n"),
    "a chunk extension": (CHUNKED + b"2;", b"abc"),
    "trailers": (CHUNKED + b"2\r\nok\r\n0\r\n", b"X: y\r\n"),
    "one trailer": (CHUNKED + b"0\r\nX: ", b"yyyyyyyyyy"),
    "zeros before a chunk size": (CHUNKED, b"0"),
}


@pytest.mark.parametrize("piece", [1, 4096])
@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends_is_given_up(start, more, piece):
    reader, given_ = read(start), 0
    more = more * (piece // len(more) + 1)
    with pytest.raises(Malformed):
        while given_ <= MUCH:
            reader.feed(more)
            given_ += len(more)
    assert given_ <= MAX_HEAD + 2 * len(more)


@pytest.mark.parametrize("where", ["head", "trailers"])
def test_too_much_is_refused_even_when_it_comes_at_once(where):
    many = b"X: %b\r\n" % (b"y" * 1000) * 120
    with pytest.raises(Malformed, match="more than"):
        read(OK + many + LENGTH if where == "head" else CHUNKED + b"0\r\n" + many + b"\r\n")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"timeout=5", 5), (b"max=9, Timeout = 7", 7), (b'timeout="3"', 3), (b"max=9", None), (b"xtimeout=5", None)],
)
def test_how_long_the_peer_keeps_a_connection_is_read(value, seconds):
    assert read(OK + b"Keep-Alive: " + value + b"\r\n" + LENGTH).rests == seconds


# A second opinion ---------------------------------------------------------------------------------------------------

PARTS = [OK, b"HTTP/1.1 204 No\r\n", b"HTTP/1.1 100 C\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 304 N\r\n"]
PARTS += [b"Content-Length: ", b"Transfer-Encoding: ", b"Connection: ", b"X: ", b"chunked", b"close", b"keep-alive"]
PARTS += [b"\r\n", b"\n", b"\r", b" ", b"\t", b",", b";", b":", b"0", b"1", b"2", b"5", b"a", b"ok", b"\r\n\r\n", b"\0"]
DAMAGE = st.lists(st.sampled_from(PARTS) | st.binary(max_size=3), max_size=14).map(b"".join)
WHOLE = st.sampled_from([data for data, *_ in TAKEN.values()] + list(REFUSED.values()))


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """A response, or what was one before something was put into it, taken out or appended."""
    data, extra = draw(WHOLE | DAMAGE), draw(st.just(b"") | DAMAGE)
    start = draw(st.integers(0, len(data)))
    return data[:start] + extra + data[min(len(data), start + draw(st.integers(0, 3))) :]


def second_opinion(data: bytes, method: bytes) -> tuple[int, bytes] | None:
    """Status and body as h11 reads them; None where it sees no complete response."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MUCH)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    status, body = 0, b""
    try:
        connection.receive_data(data)
        connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, body
            elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return None
    except h11.RemoteProtocolError:
        return None


def opinions_agree(data: bytes, method: bytes, size: int) -> None:
    """However the bytes are cut we read the same, and where h11 sees a response as well, it is that one."""
    found = []
    for step in (0, 1, size):
        try:
            reader = read(data, method, size=step, ends=True)
        except Malformed:
            found.append(None)
            continue
        found.append((reader.status, b"".join(reader.chunks), reader.trailers) if reader.done else None)
    assert found[0] == found[1] == found[2]
    theirs = second_opinion(data, method)
    if found[0] is not None and theirs is not None:
        assert found[0][:2] == theirs


@given(responses(), st.sampled_from([b"GET", b"HEAD", b"POST"]), st.integers(2, 9))
def test_two_readers_never_read_two_things(data, method, size):
    opinions_agree(data, method, size)
