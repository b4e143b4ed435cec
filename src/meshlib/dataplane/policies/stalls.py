"""When this process itself stood still: timeouts seen then are no fault of an endpoint.

A blocked event loop, a thread that keeps the interpreter's lock or a suspended process let every timer run out at
once. Event loops therefore leave a beat each ``PERIOD``; a beat that comes late by ``bound`` or more marks a stall. A
timeout counts against nobody when a stall took ``bound`` seconds or more of its attempt.

Sans-IO: whoever beats brings the time along.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["Stalls"]


class Stalls:
    """Late beats of the event loops of a process.

    Args:
        bound: Seconds from which lateness is a stall; 0 looks away.
    """

    PERIOD = 0.25
    """Seconds between two beats of a loop."""
    KEEP = 32
    """How many of the last stalls are remembered."""

    def __init__(self, bound: float = 0.5) -> None:
        self.bound = bound
        self.here: Callable[[], Any] = lambda: None
        """The event loop that runs in this thread, or None; whoever beats sets it."""
        self._lock = threading.RLock()
        self._beats: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        self._everywhere: Any = None
        self._windows: deque[tuple[float, float]] = deque(maxlen=self.KEEP)

    def beat(self, loop: Any, now: float, *, everywhere: bool = False) -> float:
        """A loop is alive; how late it is, in seconds.

        Args:
            loop: Any object that lives as long as the event loop.
            now: The time.
            everywhere: This loop stands still only when the whole process does.
        """
        with self._lock:
            last = self._beats.get(loop)
            self._beats[loop] = now
            if everywhere:
                self._everywhere = loop
            late = 0.0 if last is None else max(0.0, now - last - self.PERIOD)
            if self.bound and late >= self.bound:
                self._windows.append((now - late, now))
            return late

    def end(self, loop: Any) -> None:
        """A loop beats no more."""
        with self._lock:
            self._beats.pop(loop, None)
            self._everywhere = None if self._everywhere is loop else self._everywhere

    def excuse(self, since: float, until: float) -> bool:
        """Whether stalls, one that goes on until now included, took ``bound`` seconds or more of this time."""
        if not self.bound:
            return False
        with self._lock:
            windows = list(self._windows)
            for loop in (self._everywhere, self.here()):
                last = self._beats.get(loop) if loop is not None else None
                if last is not None:
                    windows.append((last + self.PERIOD, until))
        return any(min(end, until) - max(start, since) >= self.bound for start, end in windows)

    def after_fork(self) -> None:
        """In a forked child: no loop of the parent beats here."""
        self._lock = threading.RLock()
        self._beats = weakref.WeakKeyDictionary()
        self._everywhere = None
