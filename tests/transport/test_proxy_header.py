"""The PROXY header, byte by byte."""

from __future__ import annotations

import socket

import pytest

from meshlib.transport.proxy_header import header_of, proxy_header

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")


@pytest.mark.parametrize(
    ("source", "destination", "text", "binary"),
    [
        (
            ("10.0.0.1", 56324),
            ("10.0.0.2", 443),
            b"PROXY TCP4 10.0.0.1 10.0.0.2 56324 443\r\n",
            bytes.fromhex("2111000C0A0000010A000002DC0401BB"),
        ),
        (
            ("::1", 1),
            ("2001:db8::2", 65535),
            b"PROXY TCP6 ::1 2001:db8::2 1 65535\r\n",
            bytes.fromhex("21210024" + "00" * 15 + "01" + "20010DB8" + "00" * 11 + "02" + "0001FFFF"),
        ),
        (None, None, b"PROXY UNKNOWN\r\n", bytes.fromhex("20000000")),
    ],
)
def test_both_versions_tell_both_ends(source, destination, text, binary):
    assert proxy_header(1, source, destination) == text
    assert proxy_header(2, source, destination) == SIGNATURE + binary


def test_the_dialled_address_is_told_where_its_family_fits():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        port, peer = sock.getsockname()[1], listener.getsockname()[1]
        assert header_of(1, sock, ("10.9.9.9", 80)) == f"PROXY TCP4 127.0.0.1 10.9.9.9 {port} 80\r\n".encode()
        assert header_of(1, sock, ("::9", 80)) == f"PROXY TCP4 127.0.0.1 127.0.0.1 {port} {peer}\r\n".encode()
    one, two = socket.socketpair()
    with one, two:
        assert header_of(1, one, ("10.9.9.9", 80)) == b"PROXY UNKNOWN\r\n"
