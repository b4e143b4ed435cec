"""The PROXY header, which tells a server who is behind a connection; it goes out before everything else, TLS included.

Source: the PROXY protocol, versions 1 (text) and 2 (binary); Istio ``proxyProtocol``, Envoy's PROXY transport socket.
A sidecar tells the application's own address and the address that it dialled; in the process the first is ours.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

__all__ = ["header_of", "proxy_header"]

Address = tuple[str, int]

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6, _UNSPEC = 0x11, 0x21, 0x00


def proxy_header(version: int, source: Address | None, destination: Address | None) -> bytes:
    """The header.

    Args:
        version: 1 or 2.
        source: IP address and port of who connects; None where there are none, as on a unix socket.
        destination: What was dialled, of the same family.
    """
    if source is None or destination is None:
        return b"PROXY UNKNOWN\r\n" if version == 1 else _SIGNATURE + struct.pack("!BBH", _LOCAL, _UNSPEC, 0)
    six = ":" in source[0]
    if version == 1:
        family = "TCP6" if six else "TCP4"
        return f"PROXY {family} {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n".encode("ascii")
    packed = b"".join(socket.inet_pton(_family(six), address) for address, _ in (source, destination))
    body = packed + struct.pack("!HH", source[1], destination[1])
    return _SIGNATURE + struct.pack("!BBH", _PROXY, _TCP6 if six else _TCP4, len(body)) + body


def header_of(version: int, connection: Any, dialled: Address | None = None) -> bytes:
    """The header for a connected socket; ``dialled`` is told where its family is the socket's, else the peer."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return proxy_header(version, None, None)
    source, peer = _plain(connection.getsockname()), _plain(connection.getpeername())
    fits = dialled is not None and (":" in dialled[0]) == (":" in source[0])
    return proxy_header(version, source, dialled if fits else peer)


def _plain(name: tuple[Any, ...]) -> Address:
    """Address and port, without the scope of a link-local address."""
    return name[0].partition("%")[0], name[1]


def _family(six: bool) -> socket.AddressFamily:
    return socket.AF_INET6 if six else socket.AF_INET
