"""The one clock of the library: monotonic seconds, injected wherever time matters.

Wall-clock time is used for nothing but certificates, logs and headers that ask for it (``%START_TIME%``), so a step of
the system clock changes no timer.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock", "wall"]

wall = time.time
"""Unix seconds, for what people read."""


class Clock(Protocol):
    """Monotonic time, in seconds; the origin means nothing."""

    def now(self) -> float:
        """Seconds since an arbitrary, fixed moment; never goes back."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Block the calling thread."""
        ...

    async def asleep(self, seconds: float, /) -> None:
        """Suspend the calling task, under asyncio or trio."""
        ...


class SystemClock:
    """The machine's monotonic clock, the same for threads and event loops."""

    __slots__ = ()

    now = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    async def asleep(self, seconds: float) -> None:
        """Suspend the calling task."""
        import anyio

        await anyio.sleep(seconds)


SYSTEM_CLOCK = SystemClock()
