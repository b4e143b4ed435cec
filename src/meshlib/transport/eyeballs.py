"""One connection to any of several addresses, both IP versions tried side by side.

The next address is tried when the one before has failed, or has not answered within ``DELAY``; the first connection is
taken, and the others are dropped.

Source: RFC 8305; Envoy ``HappyEyeballsConnectionImpl``.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, zip_longest
from time import monotonic
from typing import TypeVar

import anyio

__all__ = ["DELAY", "connect", "interleaved", "race"]

DELAY = 0.25
"""Seconds before the next address is tried beside the one before."""

ConnectionT = TypeVar("ConnectionT")


def interleaved(addresses: Sequence[str]) -> list[str]:
    """IP addresses with the IP versions taking turns, that of the first one first; else in their order."""
    first = ":" in addresses[0] if addresses else False
    own = [each for each in addresses if (":" in each) is first]
    other = [each for each in addresses if (":" in each) is not first]
    return [each for each in chain.from_iterable(zip_longest(own, other)) if each is not None]


def connect(addresses: Sequence[str], port: int, limit: float) -> socket.socket:
    """A connected socket, by a thread.

    Args:
        addresses: At least one; a single one may be a name, whose addresses the system tells and are tried in turn.
        port: Port number.
        limit: Seconds for all of it.

    Raises:
        TimeoutError: There was no connection in time.
        OSError: Each address refused; the error of the first.
    """
    if len(addresses) == 1:
        return socket.create_connection((addresses[0], port), limit)
    with _Race(port, monotonic() + limit) as running:
        return running.winner(interleaved(addresses))


class _Race:
    """Sockets of one thread that are being connected; those that did not win are closed at the end."""

    def __init__(self, port: int, ends: float) -> None:
        self._port = port
        self._ends = ends
        self._selector = selectors.DefaultSelector()
        self._problem: OSError | None = None
        self._running: set[socket.socket] = set()

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._running:
            sock.close()
        self._selector.close()

    def winner(self, addresses: Sequence[str]) -> socket.socket:
        """The first that is connected."""
        for place, address in enumerate(addresses):
            last = place == len(addresses) - 1
            self._begin(address)
            won = self._wait(self._ends if last else min(self._ends, monotonic() + DELAY), last=last)
            if won is not None:
                return won
        assert self._problem is not None
        raise self._problem

    def _begin(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # this machine lacks the family
            self._lost(error)
            return
        self._running.add(sock)
        sock.setblocking(False)
        refused = sock.connect_ex((address, self._port))
        if refused in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            self._selector.register(sock, selectors.EVENT_WRITE)
        else:
            self._drop(sock, refused)

    def _wait(self, until: float, *, last: bool) -> socket.socket | None:
        """One that is connected; None when another may begin, or none is left to wait for."""
        while self._running:
            ready = self._selector.select(max(until - monotonic(), 0.0))
            failed = False
            for key, _ in ready:
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                refused = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not refused:
                    return self._won(sock)
                self._drop(sock, refused)
                failed = True
            if not ready and monotonic() >= self._ends:
                raise TimeoutError("timed out")
            if not last and (failed or not ready):
                return None
        return None

    def _won(self, sock: socket.socket) -> socket.socket:
        self._running.discard(sock)
        self._selector.unregister(sock)
        sock.settimeout(max(self._ends - monotonic(), 1e-3))
        return sock

    def _drop(self, sock: socket.socket, refused: int) -> None:
        self._running.discard(sock)
        if sock in self._selector.get_map():
            self._selector.unregister(sock)
        sock.close()
        self._lost(OSError(refused, os.strerror(refused)))

    def _lost(self, error: OSError) -> None:
        self._problem = self._problem or error


async def race(
    addresses: Sequence[str],
    connect_to: Callable[[str], Awaitable[ConnectionT]],
    drop: Callable[[ConnectionT], Awaitable[None]],
    refused: type[Exception] | tuple[type[Exception], ...] = OSError,
) -> ConnectionT:
    """The first connection, by tasks, under asyncio or trio.

    Args:
        addresses: IP addresses, at least one; a single one may be a name.
        connect_to: Connects to one of them.
        drop: Closes a connection that came second.
        refused: What ``connect_to`` raises where an address refuses; anything else ends the race.

    Raises:
        OSError: Each address refused; the error of the first, of the type of ``refused``.
    """
    if len(addresses) == 1:
        return await connect_to(addresses[0])
    made: list[ConnectionT] = []
    problems: list[Exception] = []
    try:
        async with anyio.create_task_group() as tasks:

            async def run(address: str, over: anyio.Event) -> None:
                try:
                    made.append(await connect_to(address))
                    tasks.cancel_scope.cancel()
                except refused as error:
                    problems.append(error)
                finally:
                    over.set()

            for address in interleaved(addresses):
                over = anyio.Event()
                tasks.start_soon(run, address, over)
                with anyio.move_on_after(DELAY):
                    await over.wait()
        if not made:
            raise problems[0]
        return made.pop(0)
    finally:
        with anyio.CancelScope(shield=True):
            for each in made:
                await drop(each)
