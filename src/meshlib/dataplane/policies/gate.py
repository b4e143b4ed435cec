"""A fair gate in front of a bounded number of connections; it never waits, it tells waiters when to go.

HTTP/1.1 carries one request per connection, so ``max_connections`` bounds the requests on the wire; what comes beyond
waits in order of arrival, up to ``max_pending_requests``, and what comes beyond that overflows.

A ticket may be given up by a finalizer, which may run in the thread that is just inside the gate's lock.

Source: Envoy circuit breakers ``max_connections`` and ``max_pending_requests``.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

__all__ = ["Gate", "Ticket"]


class Ticket:
    """A place in the gate: waiting until ``admitted``, then inside until it leaves."""

    __slots__ = ("admitted", "gone", "wake")

    def __init__(self, admitted: bool, wake: Callable[[], None]) -> None:
        self.admitted = admitted
        self.gone = False
        self.wake = wake


def _nobody() -> None:
    """Who was never made to wait need not be woken."""


class Gate:
    """Lets ``inside`` tickets through at a time. Shared by threads and event loops.

    Attributes:
        capacity: How many may be inside.
        max_pending: How many may wait; None is unlimited.
        inside: How many are inside now.
    """

    __slots__ = ("_lock", "_waiting", "capacity", "inside", "max_pending")

    def __init__(self, capacity: int, max_pending: int | None = None) -> None:
        self.capacity = capacity
        self.max_pending = max_pending
        self.inside = 0
        self._lock = threading.RLock()
        self._waiting: deque[Ticket] = deque()

    @property
    def pending(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    def enter_now(self) -> Ticket | None:
        """A ticket that is inside, or None when there is no room: then ``enter`` and wait."""
        with self._lock:
            if self.inside >= self.capacity or self._waiting:
                return None
            self.inside += 1
            return Ticket(True, _nobody)

    def enter(self, wake: Callable[[], None]) -> Ticket | None:
        """A ticket, admitted at once or waiting for ``wake`` to be called; None when too many wait already.

        ``wake`` may be called from any thread and must not block.
        """
        with self._lock:
            if self.inside < self.capacity and not self._waiting:
                self.inside += 1
                return Ticket(True, wake)
            if self.max_pending is not None and len(self._waiting) >= self.max_pending:
                return None
            ticket = Ticket(False, wake)
            self._waiting.append(ticket)
            admitted = self._admit()  # somebody may have left since the question above
        for waiter in admitted:
            waiter.wake()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give the place up, whether waiting or inside, and let the first waiter in. Idempotent."""
        with self._lock:
            if ticket.gone:
                return
            ticket.gone = True
            if not ticket.admitted:
                self._waiting.remove(ticket)
                return
            self.inside -= 1
            admitted = self._admit()
        for waiter in admitted:
            waiter.wake()

    def resize(self, capacity: int, max_pending: int | None) -> None:
        """New limits; who is inside stays inside."""
        with self._lock:
            self.capacity, self.max_pending = capacity, max_pending
            admitted = self._admit()
        for waiter in admitted:
            waiter.wake()

    def _admit(self) -> list[Ticket]:
        admitted: list[Ticket] = []
        while self._waiting and self.inside < self.capacity:
            ticket = self._waiting.popleft()
            ticket.admitted = True
            self.inside += 1
            admitted.append(ticket)
        return admitted
