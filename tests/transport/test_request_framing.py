"""What is sent is one request and nothing else, whatever the caller says of it; a peer reads requests by length."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest

from meshlib import MeshClient
from meshlib.dataplane.outcome import Failure
from meshlib.testing import mesh_of
from meshlib.transport.base import Timeouts, WireError, WireRequest
from meshlib.transport.http1 import writer
from meshlib.transport.http2.head import head as http2_head
from tests.conftest import endpoint_slice, service
from tests.transport import http2_peer
from tests.transport.test_http1 import at, talk
from tests.transport.test_pools import OK, answering, script

__all__ = ["script"]

RUNS = ["threads", "asyncio"]
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: svc\r\n\r\n"
LENGTH, CODING = b"Content-Length", b"Transfer-Encoding"


def request(body: Any, *headers: tuple[bytes, bytes], method: bytes = b"POST", target: bytes = b"/x") -> WireRequest:
    return WireRequest(method, target, b"http", [(b"Host", b"svc"), *headers], body, Timeouts(read=5.0))


def reading(sent: list[bytearray]):
    """Answers at once, and keeps what came over each connection."""

    def handle(sock: socket.socket) -> None:
        sent.append(bytearray())
        kept = sent[-1]
        while data := sock.recv(65536):
            kept += data
            if kept.count(b"/next"):
                sock.sendall(OK)

    return handle


MISLEADING = [
    (b"hello", [(LENGTH, b"3")]),
    (b"hello", [(LENGTH, b"30")]),
    ([b"hello", SMUGGLED], [(LENGTH, b"5")]),
    ([b"hello"], [(LENGTH, b"30")]),
    ([b"hello", SMUGGLED], []),
    (SMUGGLED, []),
    (None, [(LENGTH, b"30")]),
    (b"hello", [(LENGTH, b"5"), (b"content-length", b"50")]),
    (b"hello", [(LENGTH, b"0x5")]),
    (b"hello", [(LENGTH, b"5, 50")]),
    (b"hello", [(CODING, b"identity"), (LENGTH, b"5")]),
    (b"hello", [(CODING, b"gzip, chunked")]),
    (b"hello", [(CODING, b"chunked"), (CODING, b"chunked")]),
    (None, [(b"Transfer-Encoding ", b"chunked")]),
    (None, [(b"X:", b"y")]),
    (None, [(b"X", b"y\r\nContent-Length: 30")]),
    (None, [(b"Host", b"other")]),
]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(("body", "headers"), MISLEADING)
def test_a_request_that_is_not_what_it_says_is_refused_and_the_next_one_is_read_as_it_was_sent(
    run, body, headers, script
):
    sent: list[bytearray] = []
    body = iter(body) if isinstance(body, list) else body
    server = script(reading(sent))
    answers = talk(run, at(server), request(body, *headers), request(None, method=b"GET", target=b"/next"))
    assert answers == [Failure.LOCAL, (200, b"ok")]
    assert [bytes(each) for each in sent if b"/next" in each] == [b"GET /next HTTP/1.1\r\nHost: svc\r\n\r\n"]
    assert not any(b"smuggled" in each or b"helloh" in each for each in sent)


@pytest.mark.parametrize("method", [b"", b"GET /y HTTP/1.1 ", b"G\xc3T", b"GE:T"])
def test_a_method_that_is_no_token_is_refused(method):
    with pytest.raises(WireError, match="no name"):
        writer.head(request(None, method=method))


@pytest.mark.parametrize("make", [writer.head, http2_head])
@pytest.mark.parametrize("target", [b"", b"/x HTTP/1.1 y", b"/\r\nx", b"/\0"])
def test_a_target_that_would_end_the_request_line_is_refused(make, target):
    with pytest.raises(WireError):
        make(request(None, method=b"GET", target=target))


def test_names_are_judged_each_time_however_many_were_seen():
    for number in range(5000):
        writer.head(request(None, (b"x-%d" % number, b"y"), method=b"GET"))
    with pytest.raises(WireError, match="no name"):
        writer.head(request(None, (b"x y", b"y"), method=b"GET"))
    assert b"x-5000: y" in writer.head(request(None, (b"x-5000", b"y"), method=b"GET")).text


def test_a_length_beside_a_transfer_coding_is_left_out():
    made = writer.head(request(b"hello", (CODING, b"Chunked"), (LENGTH, b"5"), (b"X", b"y")))
    assert made.text.endswith(b"Host: svc\r\nTransfer-Encoding: Chunked\r\nX: y\r\n\r\n")
    assert made.whole(b"hello") == b"5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("value", [b"close", b"X-A, Close"])
def test_a_connection_that_the_caller_asks_to_have_closed_carries_nothing_more(run, value, script):
    server = script(answering(OK))
    closing = request(None, (b"Connection", value), method=b"GET")
    assert talk(run, at(server), closing, closing, request(None, method=b"GET")) == [(200, b"ok")] * 3
    assert server.connections == 3


@pytest.mark.parametrize("run", RUNS)
def test_a_coded_response_of_http_1_0_is_read_and_its_connection_closed(run, script):
    raw = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    server = script(answering(raw))
    assert talk(run, at(server), *(request(None, method=b"GET") for _ in range(3))) == [(200, b"ok")] * 3
    assert server.connections == 3


@pytest.mark.parametrize("run", http2_peer.RUNS)
@pytest.mark.parametrize(
    ("body", "length"),
    [([b"hello", b"more"], b"5"), ([b"hello"], b"30"), ([], b"30"), (None, b"30"), ([b"hello"], b"x")],
)
def test_over_http2_a_body_of_another_length_than_announced_ends_its_stream_and_no_other(run, body, length, script):
    server = script(http2_peer.answering)
    wrong = http2_peer.ask(b"POST", None if body is None else iter(body), headers=[(b"content-length", length)])
    found = http2_peer.Talk(run, http2_peer.at(server)).each(http2_peer.ask(), wrong, http2_peer.ask())
    assert [found[0], found[1][0], found[2]] == [(200, b"/x"), Failure.LOCAL, (200, b"/x")]
    assert server.connections == 1


def test_a_client_hears_of_it_as_httpx_says_it(script):
    server = script(answering(OK))
    objects = [service("svc", server.port), endpoint_slice("svc", "v1", ("127.0.0.1", server.port))]
    with mesh_of(*objects, telemetry=False) as mesh, MeshClient(mesh) as client:
        url = f"http://svc:{server.port}/"
        for options in ({"content": b"hello", "headers": {"Content-Length": "3"}}, {"headers": {"X": "y\r\nZ: z"}}):
            with pytest.raises(httpx.LocalProtocolError):
                client.post(url, **options)
        unframed = client.build_request("POST", url, content=b"hello")
        del unframed.headers["content-length"]
        with pytest.raises(httpx.LocalProtocolError, match="longer"):
            client.send(unframed)
        assert client.get(url).text == "ok"
