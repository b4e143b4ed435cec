"""When a service is asked for: all the time by a query that waits, or, without a connection of its own, in turns."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any

__all__ = ["Own", "Shared", "Turn"]

_ROUND = 30.0
"""Seconds in which a service has its turn although nothing told of a change."""
_LAG = 0.2
"""Seconds for which a server that answers may be behind the one that told of a change."""


class Turn:
    """How one answer is asked for.

    Attributes:
        slot: Held during each query.
    """

    slot: AbstractAsyncContextManager[Any] = nullcontext()

    def wait(self) -> float:
        """Begin a turn: seconds for which the query may wait for a change; 0.0 asks for what is."""
        raise NotImplementedError

    async def rest(self, most: float) -> None:
        """Until the next turn, ``most`` seconds at most."""


class Own(Turn):
    """A connection of its own: query follows query, each waiting for ``wait`` seconds."""

    def __init__(self, wait: float) -> None:
        self._wait = wait

    def wait(self) -> float:
        """See ``Turn.wait``."""
        return self._wait


class Shared(Turn):
    """Few connections for many: read when called, and once a round.

    Args:
        slot: Held during each read.
    """

    def __init__(self, slot: AbstractAsyncContextManager[Any], uniform: Callable[[float, float], float] | None = None):
        self.slot = slot
        self._uniform = uniform or random.uniform
        self._called = asyncio.Event()
        self._changed = False

    def call(self, *, changed: bool) -> None:
        """Have it read now.

        Args:
            changed: It is known to have changed: let a server that lags behind catch up.
        """
        self._changed = self._changed or changed
        self._called.set()

    def wait(self) -> float:
        """See ``Turn.wait``."""
        wait = _LAG if self._changed else 0.0
        self._changed = False
        self._called.clear()
        return wait

    async def rest(self, most: float) -> None:
        """See ``Turn.rest``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(most, self._uniform(_ROUND / 2, _ROUND))):
                await self._called.wait()
