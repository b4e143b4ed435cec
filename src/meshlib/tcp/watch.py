"""Ends connections that were silent or open for too long, and has their bytes counted meanwhile.

One timer in the background thread serves all connections of a mesh, threads' and tasks' alike. A connection is ended by
shutting its socket down, which any thread may do: whoever reads from it sees its end, as behind a sidecar.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

from meshlib.clock import Clock
from meshlib.tcp.lease import Lease

__all__ = ["Watch"]


class Watch:
    """The connections of one mesh that stand; it looks at them and keeps none, so that what is dropped ends.

    Args:
        clock: The mesh's.
        call_soon: Has the background thread call something; False when there is none.
    """

    TOLD_EVERY = 5.0
    """Seconds between two counts of a connection's bytes (Istio ``tcp_reporting_duration``)."""

    def __init__(self, clock: Clock, call_soon: Callable[[Callable[[], Any]], bool]) -> None:
        self.clock = clock
        self._call_soon = call_soon
        self._open: dict[int, weakref.ref[Lease]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._at = float("inf")

    def __len__(self) -> int:
        """How many stand."""
        return len(self._open)

    def add(self, lease: Lease) -> None:
        """From any thread."""
        self._open[id(lease)] = weakref.ref(lease)
        due = lease.due
        if min(self.clock.now() + self.TOLD_EVERY, due if due is not None else float("inf")) < self._at:
            self._call_soon(self._rearm)

    def drop(self, lease: Lease) -> None:
        """From any thread, and from finalizers: takes no lock."""
        self._open.pop(id(lease), None)

    def close(self) -> None:
        """End every connection."""
        for lease in self._standing():
            lease.expire()
        self._call_soon(self._disarm)

    def sweep(self, now: float) -> float | None:
        """End what is over and count the others' bytes; the moment of the next sweep, None while nothing is open."""
        following: float | None = None
        for lease in self._standing():
            due = lease.due
            if due is not None and due <= now:
                lease.expire()
                continue
            lease.tell(now)
            coming = now + self.TOLD_EVERY if due is None else min(due, now + self.TOLD_EVERY)
            following = coming if following is None else min(following, coming)
        return following

    def _standing(self) -> list[Lease]:
        """Those that stand now; a list is taken of the dict in one step, whatever other threads do."""
        return [lease for known in list(self._open.values()) if (lease := known()) is not None]

    # In the background thread ---------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._timer, self._at = None, float("inf")
        following = self.sweep(self.clock.now())
        if following is not None:
            self._arm(following)

    def _rearm(self) -> None:
        now = self.clock.now()
        moments = [now + self.TOLD_EVERY, *(due for lease in self._standing() if (due := lease.due) is not None)]
        if self._open and min(moments) < self._at:
            self._arm(min(moments))

    def _arm(self, moment: float) -> None:
        self._disarm()
        self._at = moment
        self._timer = asyncio.get_running_loop().call_later(max(0.0, moment - self.clock.now()), self._tick)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._at = None, float("inf")
