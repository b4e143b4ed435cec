"""One HTTP/2 connection under asyncio, fed by the event loop.

What the tasks of one turn of the event loop have to send goes out together, at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from time import monotonic
from typing import Any

from meshlib.transport.base import Target
from meshlib.transport.handshake import Sessions
from meshlib.transport.http2.cooperative import CooperativeConnection, Shelving
from meshlib.transport.http2.stream import Stream

__all__ = ["Connection"]

_UNSENT = 1024 * 1024
"""Bytes that a peer may leave untaken while it makes us answer; uploads stop long before."""


class Connection(CooperativeConnection, asyncio.Protocol):
    """See ``CooperativeConnection``.

    Args:
        target: Where it leads.
        loop: The event loop it lives in.
        pool: Is told of room, and of the end.
        sessions: Where the TLS session is remembered for the next connection; None for plaintext.
    """

    _transport: asyncio.Transport

    def __init__(
        self, target: Target, loop: asyncio.AbstractEventLoop, pool: Shelving, sessions: Sessions | None
    ) -> None:
        super().__init__(target, pool, sessions)
        self._loop = loop
        self._flushes = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # What the event loop calls --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """The peer sent something."""
        self.heard(data)
        if self._transport.get_write_buffer_size() > _UNSENT and not self.is_writable:
            self.hang_up()

    def eof_received(self) -> bool:
        """The peer has nothing more to say."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.ended(str(exc) if exc is not None else "")

    def pause_writing(self) -> None:
        """The peer takes more slowly than is sent."""
        self.is_writable = False

    def resume_writing(self) -> None:
        """It has taken what there was."""
        self.is_writable = True
        self.session.wake_all()

    # What tasks do --------------------------------------------------------------------------------------------------

    async def sleep(self, stream: Stream, until: float | None) -> bool:
        """See ``CooperativeConnection.sleep``."""
        woken: asyncio.Future[bool] = self._loop.create_future()
        stream.wake = _Waking(woken, True)
        timer = None
        if until is not None:
            timer = self._loop.call_later(max(0.0, until - monotonic()), _Waking(woken, False))
        try:
            return await woken
        finally:
            stream.wake = _nobody
            if timer is not None:
                timer.cancel()

    def flush(self) -> None:
        """See ``CooperativeConnection.flush``."""
        if not self._flushes:
            self._flushes = True
            self._loop.call_soon(self.send_now)

    def send_now(self) -> None:
        """See ``CooperativeConnection.send_now``."""
        self._flushes = False
        if not self._transport.is_closing():
            data = self.session.outgoing()
            if data:
                self._transport.write(data)

    def plan(self) -> None:
        """See ``CooperativeConnection.plan``."""
        moment = self.next_moment()
        if moment is None or (self._timer is not None and self._timer_at <= moment):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = moment
        self._timer = self._loop.call_later(max(0.0, moment - monotonic()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.tick()
        if not self._transport.is_closing():
            self.plan()

    def soon(self, call: Callable[..., object], *args: Any) -> None:
        """See ``CooperativeConnection.soon``."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *args)

    def cut(self) -> None:
        """See ``CooperativeConnection.cut``."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport.abort()

    def get_extra_info(self, name: str) -> Any:
        """See ``CooperativeConnection.get_extra_info``."""
        return self._transport.get_extra_info(_INFO.get(name, name))


class _Waking:
    """Ends the sleep of one task, once."""

    __slots__ = ("_how", "_woken")

    def __init__(self, woken: asyncio.Future[bool], how: bool) -> None:
        self._woken = woken
        self._how = how

    def __call__(self) -> None:
        if not self._woken.done():
            self._woken.set_result(self._how)


def _nobody() -> None:
    """Nobody waits."""


_INFO = {"client_addr": "sockname", "server_addr": "peername"}
