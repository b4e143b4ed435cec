"""The one background thread of the process: an event loop in which the providers of all meshes run.

It is a daemon, started at first use, stopped with the last mesh, and made anew in a forked child.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

__all__ = ["Background", "shared"]

_ROUNDS = 5
"""Times that tasks are ended: one that is cancelled while it connects may have just begun others."""


class Background:
    """Runs coroutines in a thread of its own while anybody holds on to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._holders = 0

    def start(self, make: Callable[[], Coroutine[Any, Any, None]]) -> Future[None]:
        """Run a coroutine until it ends or its future is cancelled; each ``start`` needs one ``release``."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="meshlib", daemon=True)
                self._thread.start()
            self._holders += 1
            return asyncio.run_coroutine_threadsafe(make(), self._loop)

    def call_soon(self, callback: Callable[[], Any]) -> bool:
        """Have the thread call something soon; False when there is none. From any thread."""
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(callback)
        except RuntimeError:  # it was closed meanwhile
            return False
        return True

    def release(self) -> None:
        """The last to let go stops the thread and waits for it, a moment at most."""
        with self._lock:
            self._holders -= 1
            ended = None if self._holders else self._taken()  # at once: whoever starts next gets a new thread
        if ended is not None:
            _stop(*ended)

    def stop(self) -> None:
        """Stop the thread, whoever still holds on."""
        with self._lock:
            ended = self._taken()
        _stop(*ended)

    def _taken(self) -> tuple[asyncio.AbstractEventLoop | None, threading.Thread | None]:
        ended = self._loop, self._thread
        self._loop = self._thread = None
        return ended

    def forget(self) -> None:
        """In a forked child: the parent's thread is not here."""
        self.__init__()  # type: ignore[misc]


def _stop(loop: asyncio.AbstractEventLoop | None, thread: threading.Thread | None) -> None:
    if loop is None:
        return
    loop.call_soon_threadsafe(loop.stop)
    if thread is not None and thread is not threading.current_thread():
        thread.join(2.0)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        for _ in range(_ROUNDS):
            if not (tasks := asyncio.all_tasks(loop)):
                break
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


shared = Background()
atexit.register(shared.stop)
os.register_at_fork(after_in_child=shared.forget)
