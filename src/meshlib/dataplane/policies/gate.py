"""A fair gate in front of a bounded number of connections; it never waits, it tells waiters when to go.

HTTP/1.1 carries one request per connection, so ``max_connections`` bounds the requests on the wire; what comes beyond
waits in order of arrival. A request is pending while it waits here, and while the connection is made that is to carry
it, over HTTP/2 too; beyond ``max_pending_requests`` such requests the next one overflows.

A ticket may be given up by a finalizer, which may run in the thread that is just inside the gate's lock.

Source: Envoy circuit breakers ``max_connections`` and ``max_pending_requests``.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable

from meshlib.dataplane.policies.open_connections import OpenConnections

__all__ = ["Gate", "Ticket"]


class Ticket:
    """A place in the gate: waiting until ``admitted``, then inside until it leaves.

    Attributes:
        admitted: It is inside, or was.
        gone: It has left.
        pending: It counts as waiting for a connection: before it is let in, and until a connection carries it.
        wake: Called when it is let in.
    """

    __slots__ = ("admitted", "gate", "gone", "pending", "wake")

    def __init__(self, gate: Gate, admitted: bool, wake: Callable[[], None]) -> None:
        self.gate = gate
        self.admitted = admitted
        self.pending = not admitted
        self.gone = False
        self.wake = wake


def _nobody() -> None:
    """Who was never made to wait need not be woken."""


class Gate:
    """Lets ``inside`` tickets through at a time. Shared by threads and event loops.

    Attributes:
        capacity: How many may be inside; infinite where nothing bounds them.
        max_pending: How many may wait; None is unlimited.
        inside: How many are inside now.
        pending: How many wait now, here or for a connection that is being made.
        multiplexes: Connections here have been found to carry many requests each, so that they need not wait.
        connections: Those that are open.
    """

    __slots__ = (
        "_lock",
        "_waiting",
        "capacity",
        "connections",
        "inside",
        "max_pending",
        "multiplexes",
        "pending",
    )

    def __init__(self, capacity: int | None, max_pending: int | None = None) -> None:
        self.capacity = math.inf if capacity is None else capacity
        self.max_pending = max_pending
        self.inside = self.pending = 0
        self.multiplexes = False
        self.connections = OpenConnections(self.capacity)
        self._lock = threading.RLock()
        self._waiting: deque[Ticket] = deque()

    @property
    def is_bounded(self) -> bool:
        """Whether only so many may be inside."""
        return self.capacity != math.inf

    def enter_now(self) -> Ticket | None:
        """A ticket that is inside, or None when there is no room: then ``enter`` and wait."""
        with self._lock:
            if self.inside >= self.capacity or self._waiting:
                return None
            self.inside += 1
            return Ticket(self, True, _nobody)

    def join(self) -> Ticket:
        """A ticket for a request that shares its connection with others, however many are inside."""
        with self._lock:
            self.inside += 1
            return Ticket(self, True, _nobody)

    def enter(self, wake: Callable[[], None]) -> Ticket | None:
        """A ticket, admitted at once or waiting for ``wake`` to be called; None when too many wait already.

        ``wake`` may be called from any thread and must not block.
        """
        with self._lock:
            if self.inside < self.capacity and not self._waiting:
                self.inside += 1
                return Ticket(self, True, wake)
            if self._is_full():
                return None
            ticket = Ticket(self, False, wake)
            self.pending += 1
            self._waiting.append(ticket)
            admitted = self._admit()  # somebody may have left since the question above
            if ticket.admitted:
                self._no_longer_pending(ticket)
        for waiter in admitted:
            waiter.wake()
        return ticket

    def awaits_connection(self, ticket: Ticket) -> bool:
        """No connection is at hand for a ticket that is inside; False when too many wait for one already."""
        with self._lock:
            if not ticket.pending:
                if self._is_full():
                    return False
                ticket.pending = True
                self.pending += 1
            return True

    def has_connection(self, ticket: Ticket) -> None:
        """A connection carries it from now on."""
        if ticket.pending:
            with self._lock:
                self._no_longer_pending(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Give the place up, whether waiting or inside, and let the first waiter in. Idempotent."""
        with self._lock:
            if ticket.gone:
                return
            ticket.gone = True
            self._no_longer_pending(ticket)
            if not ticket.admitted:
                self._waiting.remove(ticket)
                return
            self.inside -= 1
            admitted = self._admit()
        for waiter in admitted:
            waiter.wake()

    def resize(self, capacity: int | None, max_pending: int | None) -> None:
        """New limits; who is inside stays inside."""
        with self._lock:
            self.capacity, self.max_pending = math.inf if capacity is None else capacity, max_pending
            self.connections.limit = self.capacity
            admitted = self._admit()
        for waiter in admitted:
            waiter.wake()

    def _is_full(self) -> bool:
        return self.max_pending is not None and self.pending >= self.max_pending

    def _no_longer_pending(self, ticket: Ticket) -> None:
        if ticket.pending:
            ticket.pending = False
            self.pending -= 1

    def _admit(self) -> list[Ticket]:
        admitted: list[Ticket] = []
        while self._waiting and self.inside < self.capacity:
            ticket = self._waiting.popleft()
            ticket.admitted = True
            self.inside += 1
            admitted.append(ticket)
        return admitted
