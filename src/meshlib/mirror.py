"""Copies of requests that go elsewhere: fire and forget, a bounded number at a time.

A copy never delays, fails or outlives anything of the call that it mirrors: what comes beyond the bound is dropped and
counted, errors are logged at DEBUG, and a closing mesh leaves none behind.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from functools import partial

from meshlib.dataplane.drivers.workers import Workers

__all__ = ["Mirrors"]

_LOG = logging.getLogger("meshlib")
_WORKERS = 8


class Mirrors:
    """Sends copies from threads and tasks alike.

    Attributes:
        limit: How many may be under way.
        running: How many are.
        sent: How many were answered, whatever the answer.
        failed: How many were not.
        dropped: How many were not sent because of the limit.
    """

    def __init__(self, limit: int = 64) -> None:
        self.limit = limit
        self.running = self.sent = self.failed = self.dropped = 0
        self._lock = threading.RLock()
        self._workers = Workers("meshlib-mirror", _WORKERS)
        self._tasks: set[asyncio.Task[None]] = set()

    def in_thread(self, send: Callable[[], None]) -> None:
        """Have ``send`` run in a thread soon, or not at all."""
        if self._enter():
            self._workers.run(partial(self._run, send))

    def in_task(self, send: Callable[[], Awaitable[None]]) -> None:
        """Have ``send`` run as a task of the running event loop, or not at all."""
        if not self._enter():
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            import trio

            trio.lowlevel.spawn_system_task(self._arun, send)
            return
        task = loop.create_task(self._arun(send))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def summary(self) -> dict[str, int]:
        """Plain values for status pages."""
        with self._lock:
            return {"running": self.running, "sent": self.sent, "failed": self.failed, "dropped": self.dropped}

    def close(self) -> None:
        """Forget what has not begun."""
        forgotten = self._workers.forget()
        with self._lock:
            self.running -= forgotten
            self.dropped += forgotten

    def _enter(self) -> bool:
        with self._lock:
            if self.running >= self.limit:
                self.dropped += 1
                return False
            self.running += 1
            return True

    def _leave(self, error: BaseException | None) -> None:
        with self._lock:
            self.running -= 1
            if error is None:
                self.sent += 1
            else:
                self.failed += 1
        if error is not None:
            _LOG.debug("a mirrored request failed: %s", error)

    def _run(self, send: Callable[[], None]) -> None:
        failed: BaseException | None = None
        try:
            send()
        except Exception as error:
            failed = error
        self._leave(failed)

    async def _arun(self, send: Callable[[], Awaitable[None]]) -> None:
        failed: BaseException | None = None
        try:
            await send()
        except Exception as error:
            failed = error
        except BaseException as error:
            failed = error
            raise
        finally:
            self._leave(failed)
