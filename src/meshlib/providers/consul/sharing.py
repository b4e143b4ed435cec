"""Which services have a connection of their own, and when the others are read.

What tells of a change of health has the services read that it names. A moved index of the list of services names none:
all are read then, at a bounded rate, so that steady registrations cost no more than they must.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from meshlib.providers.consul.agent import Reading
from meshlib.providers.consul.changes import Unhealthy
from meshlib.providers.consul.turns import Own, Shared, Turn

__all__ = ["Sharing"]

_SPARE = 8
"""Connections for reads that do not wait, at most."""
_PACE = 0.01
_AT_ONCE = 10
"""Reads of a sweep in each ``_PACE`` seconds."""
_BETWEEN = 1.0
"""Seconds between two sweeps."""

Key = tuple[str, str]
"""Data centre and name of a service."""


class Sharing:
    """Divides the connections.

    Args:
        connections: How many there are.
        wait: Seconds for which a query on a connection of its own waits.
    """

    def __init__(self, connections: int, wait: float) -> None:
        spare = max(1, min(_SPARE, connections // 2))
        self._free = connections - spare
        self._slot = asyncio.Semaphore(spare)
        self._wait = wait
        self._shared: dict[Key, Shared] = {}
        self._own: set[Key] = set()
        self._nodes: dict[Key, frozenset[str]] = {}
        self._unhealthy: dict[str, Unhealthy] = {}
        self._indexes: dict[str, str | None] = {}
        self._stirred = asyncio.Event()

    def turn_of(self, key: Key) -> Turn:
        """How a new service is asked for: on a connection of its own while there are any."""
        if len(self._own) < self._free:
            self._own.add(key)
            return Own(self._wait)
        turn = self._shared[key] = Shared(self._slot)
        return turn

    def forget(self, key: Key) -> None:
        """The service is gone."""
        self._own.discard(key)
        self._shared.pop(key, None)
        self._nodes.pop(key, None)

    def placed(self, key: Key, answer: Iterable[Any]) -> None:
        """Note the nodes of a service, off an answer for its instances."""
        if key in self._shared:
            nodes = (each.get("Node") for each in answer if isinstance(each, Mapping))
            self._nodes[key] = frozenset(str(node.get("Node")) for node in nodes if isinstance(node, Mapping))

    def checked(self, datacenter: str, checks: Sequence[Any]) -> None:
        """Take the checks that do not pass: have read what they name."""
        changed = self._unhealthy.setdefault(datacenter, Unhealthy()).differ(checks)
        for key, turn in self._shared.items():
            named = key[1] in changed.services or not changed.nodes.isdisjoint(self._nodes.get(key, ()))
            if named and key[0] == datacenter:
                turn.call(changed=True)

    def listed(self, datacenter: str, reading: Reading) -> Reading:
        """Take the index of the list of services: where it moved, have all read."""
        if self._indexes.setdefault(datacenter, reading.index) != reading.index:
            self._indexes[datacenter] = reading.index
            self._stirred.set()
        return reading

    async def run(self) -> None:
        """Have all read at a bounded rate, whenever something changed that has no name, until cancelled."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            for number, turn in enumerate(list(self._shared.values())):
                turn.call(changed=False)
                if number % _AT_ONCE == _AT_ONCE - 1:
                    await asyncio.sleep(_PACE)
            await asyncio.sleep(_BETWEEN)
