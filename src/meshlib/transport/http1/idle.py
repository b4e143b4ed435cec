"""Connections between two exchanges: the one used last is used next, the oldest ones age out."""

from __future__ import annotations

import random
import select
from collections import deque
from time import monotonic
from typing import Generic, Protocol, TypeVar

from meshlib.model.policy import ConnectionPool
from meshlib.transport.base import Target, Timeouts

__all__ = ["Age", "Idle", "Pooled", "Quiet", "connect_limit"]

_JITTER = random.Random()  # noqa: S311 - spreads closings, hides nothing


class Age:
    """When a connection has done its share.

    Attributes:
        served: Exchanges that it carried.
        rests_until: Moment after which it must not be used again, while it is idle.

    Idle time and age are shortened at random by up to a tenth, so that connections made together do not end together.
    """

    __slots__ = ("_ends", "_idle", "_most", "rests_until", "served")

    def __init__(self, settings: ConnectionPool, now: float) -> None:
        spread = 1.0 - 0.1 * _JITTER.random()
        longest, idle = settings.max_connection_duration, settings.idle_timeout
        self._ends = None if longest is None else now + longest * spread
        self._idle = None if idle is None else idle * spread
        self._most = settings.max_requests_per_connection
        self.served = 0
        self.rests_until: float | None = None

    def shorten(self, keep_alive: float) -> None:
        """The peer said that it closes idle connections after ``keep_alive`` seconds; be a second earlier."""
        ours = max(keep_alive - 1.0, 0.5 * keep_alive)
        self._idle = ours if self._idle is None else min(self._idle, ours)

    def is_spent(self, now: float) -> bool:
        """Whether it has carried its share, or is too old to carry more."""
        return (self._most is not None and self.served >= self._most) or (self._ends is not None and now >= self._ends)

    def rest(self, now: float) -> bool:
        """An exchange is over; whether the connection may carry another."""
        self.served += 1
        return self.settle(now)

    def settle(self, now: float) -> bool:
        """Nothing is under way any more; whether the connection may be kept."""
        if self.is_spent(now):
            return False
        ends = self._ends
        if self._idle is not None and (ends is None or now + self._idle < ends):
            ends = now + self._idle
        self.rests_until = ends
        return True

    def is_over(self, now: float) -> bool:
        """Whether it has rested too long."""
        return self.rests_until is not None and now >= self.rests_until


class Pooled(Protocol):
    """What a connection offers to the pool that keeps it."""

    age: Age

    def is_quiet(self) -> bool:
        """Whether it is open and nothing came in while it was idle."""
        ...

    def abort(self) -> None:
        """Close it at once."""
        ...


ConnectionT = TypeVar("ConnectionT", bound=Pooled)


class Idle(Generic[ConnectionT]):
    """Idle connections of one endpoint. O(1) to take and to give; not locked."""

    __slots__ = ("_stack",)

    def __init__(self) -> None:
        self._stack: deque[ConnectionT] = deque()

    def __len__(self) -> int:
        """How many rest here."""
        return len(self._stack)

    def take(self, now: float) -> ConnectionT | None:
        """The connection used last that can carry another exchange; those that cannot are closed on the way."""
        stack = self._stack
        while stack:
            connection = stack.pop()
            if not connection.age.is_over(now) and connection.is_quiet():
                return connection
            connection.abort()
        return None

    def give(self, connection: ConnectionT) -> None:
        """It may carry another exchange."""
        self._stack.append(connection)

    def drop(self, connection: ConnectionT) -> bool:
        """It rests no longer; False when it did not."""
        if connection not in self._stack:
            return False
        self._stack.remove(connection)
        return True

    def reap(self, now: float) -> float | None:
        """Close those that rested too long, or whose peers are gone; when the next is due, None when none is ever."""
        resting, self._stack = self._stack, deque()
        for connection in resting:
            if connection.age.is_over(now) or not connection.is_quiet():
                connection.abort()
            else:
                self._stack.append(connection)
        return min((c.age.rests_until for c in self._stack if c.age.rests_until is not None), default=None)

    def clear(self) -> list[ConnectionT]:
        """Take all of them out, to be closed."""
        taken, self._stack = list(self._stack), deque()
        return taken


class Quiet:
    """Asks the kernel whether anything waits on a socket: bytes nobody asked for, or the peer's good-bye."""

    __slots__ = ("_poll",)

    def __init__(self, fd: int) -> None:
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN | select.POLLPRI)

    def __bool__(self) -> bool:
        """Whether nothing waits."""
        return not self._poll.poll(0)


def connect_limit(target: Target, timeouts: Timeouts) -> tuple[float, bool]:
    """Seconds that connecting may take, TLS included, and whether the deadline is what bounds it."""
    limit = target.settings.connect_timeout
    if timeouts.connect is not None:
        limit = min(limit, timeouts.connect)
    if timeouts.deadline is None:
        return limit, False
    left = max(1e-4, timeouts.deadline - monotonic())
    return (left, True) if left < limit else (limit, False)
