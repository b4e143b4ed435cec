"""Copies of requests that go elsewhere: fire and forget, a bounded number at a time.

A copy never delays, fails or outlives anything of the call that it mirrors: what comes beyond the bound is dropped and
counted, errors are logged at DEBUG, and a closing mesh leaves none behind.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["Mirrors"]

_LOG = logging.getLogger("meshlib")
_WORKERS = 8


class Mirrors:
    """Sends copies from threads and tasks alike.

    Attributes:
        limit: How many may be under way.
        running: How many are.
        dropped: How many were not sent because of the limit.
    """

    def __init__(self, limit: int = 64) -> None:
        self.limit = limit
        self.running = 0
        self.dropped = 0
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def in_thread(self, send: Callable[[], None]) -> None:
        """Have ``send`` run in a thread soon, or not at all."""
        if not self._enter():
            return
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_WORKERS, "meshlib-mirror")
            pool = self._pool
        pool.submit(self._run, send).add_done_callback(self._leave)

    def in_task(self, send: Callable[[], Awaitable[None]]) -> None:
        """Have ``send`` run as a task of the running event loop, or not at all."""
        if not self._enter():
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            import trio

            trio.lowlevel.spawn_system_task(self._arun_and_leave, send)
            return
        task = loop.create_task(self._arun(send))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._leave)

    def close(self) -> None:
        """Forget what has not begun."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _enter(self) -> bool:
        with self._lock:
            if self.running >= self.limit:
                self.dropped += 1
                return False
            self.running += 1
            return True

    def _leave(self, _: Any) -> None:
        with self._lock:
            self.running -= 1

    @staticmethod
    def _run(send: Callable[[], None]) -> None:
        try:
            send()
        except Exception as error:
            _LOG.debug("a mirrored request failed: %s", error)

    @staticmethod
    async def _arun(send: Callable[[], Awaitable[None]]) -> None:
        try:
            await send()
        except Exception as error:
            _LOG.debug("a mirrored request failed: %s", error)

    async def _arun_and_leave(self, send: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._arun(send)
        finally:
            self._leave(None)
