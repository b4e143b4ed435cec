"""The connections to one endpoint that carry many exchanges each: one, as long as the peer allows enough streams."""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar

__all__ = ["Shared", "Shelf"]


class Shared(Protocol):
    """What a connection offers to the shelf: its own mark, for the shelf alone."""

    is_shelved: bool


SharedT = TypeVar("SharedT", bound=Shared)


class Shelf(Generic[SharedT]):
    """Finds a connection with room without asking those that have none. Not locked."""

    __slots__ = ("_roomy", "all")

    def __init__(self) -> None:
        self._roomy: deque[SharedT] = deque()
        self.all: set[SharedT] = set()

    def first(self) -> SharedT | None:
        """A connection that may have room, and stays where it is; None when another has to be made."""
        return self._roomy[0] if self._roomy else None

    def put(self, connection: SharedT) -> None:
        """It is new, or an exchange on it is over: there may be room."""
        self.all.add(connection)
        if not connection.is_shelved:
            connection.is_shelved = True
            self._roomy.append(connection)

    def set_aside(self, connection: SharedT) -> None:
        """It has no room; whoever ends an exchange on it will put it back."""
        if connection.is_shelved:
            connection.is_shelved = False
            self._roomy.remove(connection)

    def forget(self, connection: SharedT) -> None:
        """It is gone."""
        self.all.discard(connection)
        self.set_aside(connection)
