"""How many connections of a cluster are open, those between two exchanges included.

The gate lets no more exchanges through than there may be connections, so where too many are open some of them rest,
and the one that rested longest makes way, wherever it leads. Each endpoint may have one, however few there may be: else
every other request would have to connect anew. So does Envoy, which closes none for another, and lets requests wait.

Connections are held weakly: an event loop that is gone took its own along and told nobody.

Source: Envoy circuit breakers, ``max_connections``.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import OrderedDict
from typing import Any, Protocol

__all__ = ["Keeper", "OpenConnections"]


class Keeper(Protocol):
    """Who keeps connections that rest."""

    def make_way(self, connection: Any) -> None:
        """Close ``connection`` soon, if it rests still; else say that it ``stays``. From any thread, never waits."""
        ...


class OpenConnections:
    """Connections of one cluster. Shared by threads and event loops; targets are told apart by it.

    Attributes:
        limit: How many there may be; infinite where nothing bounds them.
    """

    __slots__ = ("__weakref__", "_endpoints", "_leaving", "_lock", "_made", "_making", "_resting", "limit")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._endpoints = 1
        self._lock = threading.RLock()
        self._making = 0
        self._made: weakref.WeakSet[Any] = weakref.WeakSet()
        self._leaving: weakref.WeakSet[Any] = weakref.WeakSet()
        self._resting: OrderedDict[int, tuple[weakref.ref[Any], weakref.ref[Keeper]]] = OrderedDict()

    def __len__(self) -> int:
        """How many are open or being made; those that were told to make way do not count."""
        return self._making + len(self._made) - len(self._leaving)

    def among(self, endpoints: int) -> None:
        """So many endpoints have to get along with them."""
        self._endpoints = max(1, endpoints)

    @property
    def most(self) -> float:
        """How many there may be: the limit, or one for each endpoint where that is more."""
        return max(self.limit, self._endpoints)

    @property
    def share(self) -> int | None:
        """How many an endpoint may have if all have as many; None is any number."""
        return None if math.isinf(self.limit) else int(self.most) // self._endpoints

    def making(self) -> None:
        """One more is about to be made; see ``made`` and ``failed``."""
        with self._lock:
            self._making += 1
        while (longest := self._superfluous()) is not None:
            connection, keeper = longest
            keeper.make_way(connection)

    def _superfluous(self) -> tuple[Any, Keeper] | None:
        """A connection that is to make way, and its keeper; None when there is no need, or none rests."""
        with self._lock:
            while len(self) > self.most and self._resting:
                _, refs = self._resting.popitem(last=False)
                connection, keeper = refs[0](), refs[1]()
                if connection is not None and keeper is not None and connection in self._made:
                    self._leaving.add(connection)
                    return connection, keeper
            return None

    def made(self, connection: Any) -> None:
        """What was being made stands."""
        with self._lock:
            self._making -= 1
            self._made.add(connection)

    def failed(self) -> None:
        """What was being made will not be."""
        with self._lock:
            self._making -= 1

    def rests(self, connection: Any, keeper: Keeper) -> None:
        """It carries nothing; it rests with ``keeper`` until it is taken or closed. One that is gone does not."""
        if math.isinf(self.limit):
            return
        with self._lock:
            if connection in self._made:
                self._resting[id(connection)] = weakref.ref(connection), weakref.ref(keeper)

    def taken(self, connection: Any) -> None:
        """It carries an exchange again."""
        with self._lock:
            self._resting.pop(id(connection), None)

    def stays(self, connection: Any) -> None:
        """It was taken before it could make way."""
        with self._lock:
            self._leaving.discard(connection)

    def closed(self, connection: Any) -> None:
        """It is gone. Idempotent."""
        with self._lock:
            self._resting.pop(id(connection), None)
            self._made.discard(connection)
            self._leaving.discard(connection)
