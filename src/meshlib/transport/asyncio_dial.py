"""Connections under asyncio: dialled, with the PROXY header first and TLS around, all within the caller's time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from meshlib.transport.base import Target
from meshlib.transport.eyeballs import DELAY, race
from meshlib.transport.handshake import Sessions
from meshlib.transport.proxy_header import header_of

__all__ = ["dial"]

ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)


async def dial(
    target: Target, loop: asyncio.AbstractEventLoop, make: Callable[[], ProtocolT], sessions: Sessions | None
) -> ProtocolT:
    """A connection to ``target``, fed to the protocol that ``make`` makes.

    Raises:
        OSError: It cannot be made.
    """
    tls: Any = sessions  # as asyncio takes it
    name = target.server_name if target.tls is not None else None
    first, *others = target.addresses
    if target.settings.proxy_protocol or others:
        return await _dial_by_socket(target, [first, *others], loop, make, tls)
    if target.address.startswith("unix://"):
        return (await loop.create_unix_connection(make, target.address[7:], ssl=tls, server_hostname=name))[1]
    ways = _eyeballs(first, loop)
    made = await loop.create_connection(make, first, target.port, ssl=tls, server_hostname=name, **ways)
    return made[1]


async def _dial_by_socket(
    target: Target,
    addresses: Sequence[str],
    loop: asyncio.AbstractEventLoop,
    make: Callable[[], ProtocolT],
    tls: Any,
) -> ProtocolT:
    """The socket is connected by itself: addresses are raced, or the PROXY header goes out before TLS."""
    name = target.server_name if target.tls is not None else None
    sock = await race(addresses, partial(_connected, loop, target.port), _close)
    try:
        if target.settings.proxy_protocol:
            await loop.sock_sendall(sock, header_of(target.settings.proxy_protocol, sock))
        return (await loop.create_connection(make, sock=sock, ssl=tls, server_hostname=name))[1]
    except BaseException:
        sock.close()
        raise


async def _close(sock: socket.socket) -> None:
    sock.close()


async def _connected(loop: asyncio.AbstractEventLoop, port: int, to: str) -> socket.socket:
    """A connected socket; the addresses of a name are tried one after the other."""
    if to.startswith("unix://"):
        ways: list[Any] = [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", to[7:])]
    else:
        ways = await loop.getaddrinfo(to, port, type=socket.SOCK_STREAM)
    problem = OSError(f"{to} has no address")
    for family, kind, protocol, _, address in ways:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
            return sock
        except OSError as error:
            sock.close()
            problem = error
        except BaseException:
            sock.close()
            raise
    raise problem


def _eyeballs(address: str, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """For a name, try its addresses side by side; an IP address has nothing to race, and uvloop tries them in turn."""
    if not isinstance(loop, asyncio.BaseEventLoop):
        return {}
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address)
        except OSError:
            continue
        return {}
    return {"happy_eyeballs_delay": DELAY, "interleave": 1}
