"""Raw TCP inside an HTTP/1.1 ``CONNECT``: what is asked of the proxy, and whether it agreed.

The answer is read byte by byte, because what follows its empty line belongs to the caller already.

Source: Istio ``tunnel``, Envoy ``tunneling_config``; RFC 9110 section 9.3.6.
"""

from __future__ import annotations

from meshlib.model.hosts import join_host_port
from meshlib.model.policy import Tunnel

__all__ = ["Answer", "Refused", "Unsupported", "request"]

_LONGEST = 64 * 1024


class Refused(ConnectionError):
    """The proxy did not open the tunnel."""


class Unsupported(Exception):
    """A tunnel of a kind that is not built here; nothing is sent around it instead."""


def request(tunnel: Tunnel) -> bytes:
    """What opens the tunnel.

    Raises:
        Unsupported: The method is not CONNECT.
    """
    if tunnel.method != "CONNECT":
        raise Unsupported(f"tunnel.protocol {tunnel.method} is not supported, only CONNECT is")
    target = join_host_port(tunnel.host, tunnel.port)
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode("ascii")


class Answer:
    """The head of the proxy's answer, fed piece by piece."""

    def __init__(self) -> None:
        self._head = bytearray()

    def feed(self, data: bytes) -> bool:
        """Take what came; True once the tunnel is open.

        Raises:
            Refused: The proxy closed the connection, or said something else than yes.
        """
        if not data:
            raise Refused("the proxy closed the connection instead of opening the tunnel")
        self._head += data
        if len(self._head) > _LONGEST:
            raise Refused("the proxy's answer to CONNECT does not end")
        if not self._head.endswith(b"\r\n\r\n"):
            return False
        line = bytes(self._head).partition(b"\r\n")[0].decode("latin-1")
        words = line.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise Refused(f"the proxy answered CONNECT with {line!r}")
        status = int(words[1])
        if 100 <= status < 200 and status != 101:
            self._head.clear()
            return False
        if not 200 <= status < 300:
            raise Refused(f"the proxy answered CONNECT with {line[len(words[0]) + 1 :]!r}")
        return True
