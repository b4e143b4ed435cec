"""Threads that run what need not be waited for; they do not keep the process from ending.

Idle threads are used again and end after a while. They are daemons, so that a peer that never answers holds up nobody
at the end of the process.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

__all__ = ["Workers"]

_REST = 10.0
"""Seconds an idle thread waits for work."""


class Workers:
    """Runs functions, each in a thread of its own while it lasts. Safe to share; a forked child starts with none.

    Args:
        name: Of the threads.
        most: Threads at once; what comes beyond waits for one. None is unlimited.
    """

    def __init__(self, name: str, most: int | None = None) -> None:
        self._name = name
        self._most = most
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._work: deque[Callable[[], object]] = deque()
        self._idle = 0
        self._threads = 0

    def run(self, work: Callable[[], object]) -> None:
        """Have ``work`` run soon; it must not raise."""
        if self._pid != os.getpid():
            self._reset()
        with self._changed:
            self._work.append(work)
            if self._idle >= len(self._work):
                self._changed.notify()
                return
            if self._most is not None and self._threads >= self._most:
                return
            self._threads += 1
        threading.Thread(target=self._serve, name=self._name, daemon=True).start()

    def forget(self) -> int:
        """Drop what has not begun; how much that was."""
        with self._changed:
            count = len(self._work)
            self._work.clear()
            return count

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            work()

    def _next(self) -> Callable[[], object] | None:
        """Work, or None when there was none for a while and the thread may go."""
        with self._changed:
            self._idle += 1
            try:
                while not self._work:
                    if not self._changed.wait(_REST) and not self._work:
                        self._threads -= 1
                        return None
                return self._work.popleft()
            finally:
                self._idle -= 1
