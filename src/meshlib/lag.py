"""Beats of event loops: how late they are, and since when.

A beat is one callback in four a second; it begins with the first call of a mesh in a loop and ends with the mesh.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

from meshlib.clock import SYSTEM_CLOCK
from meshlib.dataplane.policies.stalls import Stalls
from meshlib.transport.cooperative import running_loop

__all__ = ["LagMonitor"]


class LagMonitor:
    """Watches the event loops that calls of one mesh run in, and the background's, which tells of the whole process.

    Args:
        stalls: Gets the beats, on the system's monotonic clock.
        told: Is told how late each beat was, in seconds, and of which loop: ``background`` or ``caller``.
    """

    def __init__(self, stalls: Stalls, told: Callable[[float, str], None] | None = None) -> None:
        self.is_open = True
        self._stalls = stalls
        self._told = told
        stalls.here = _here

    async def watch_process(self) -> None:
        """Beat in the background loop until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._beat(loop, "background")
                await asyncio.sleep(self._stalls.PERIOD)
        finally:
            self._stalls.end(loop)

    def watch_loop(self) -> None:
        """Beat in the running event loop from now on, while it runs and the monitor is open."""
        loop = running_loop()
        if isinstance(loop, asyncio.AbstractEventLoop):
            _again(weakref.ref(self), loop)
        else:
            import trio

            trio.lowlevel.spawn_system_task(self._watch_trio, loop)

    async def _watch_trio(self, loop: Any) -> None:
        import trio

        while self.is_open:
            self._beat(loop, "caller")
            await trio.sleep(self._stalls.PERIOD)

    def _beat(self, loop: Any, where: str) -> None:
        late = self._stalls.beat(loop, SYSTEM_CLOCK.now(), everywhere=where == "background")
        if self._told is not None:
            self._told(late, where)

    def close(self) -> None:
        """No beat comes any more."""
        self.is_open = False


def _again(monitor: weakref.ref[LagMonitor], loop: asyncio.AbstractEventLoop) -> None:
    """One beat, and the next is due; a monitor that nobody holds beats no more."""
    watching = monitor()
    if watching is not None and watching.is_open:
        watching._beat(loop, "caller")
        loop.call_later(Stalls.PERIOD, _again, monitor, loop)


def _here() -> Any:
    """The event loop that runs in this thread, or None."""
    try:
        return running_loop()
    except (ImportError, RuntimeError):
        return None
