"""Keeps one answer of Consul up to date: a loop of blocking queries that outlives whatever goes wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import Any, Protocol

from meshlib.providers.backoff import backoff
from meshlib.providers.consul.agent import Reading
from meshlib.providers.consul.query import BlockingQuery
from meshlib.providers.consul.turns import Turn
from meshlib.providers.held import Emptiness, Held
from meshlib.providers.http import TROUBLE, BadAnswer

__all__ = ["Read", "Watch"]

_LOG = logging.getLogger("meshlib")
_RECHECK = 5.0
"""Seconds after which what is held is asked for again."""


class Read(Protocol):
    """Asks for the answer; see ``Agent.read``."""

    def __call__(self, *, index: int = 0, wait: float = 0.0, consistent: bool = False) -> Awaitable[Reading]:
        """Ask once."""
        ...


class Watch:
    """One answer.

    Args:
        what: For messages.
        read: Asks for it.
        take: Gets each value that differs from the one before.
        tell: Gets what is wrong now, ``""`` when nothing is.
        alive: Called at each answer.
        turn: When it is asked for.
        lease: Seconds for which an emptiness is not believed where Consul lost its history; None believes it at once.
        interval: Seconds between two queries of many; see ``BlockingQuery``.
    """

    def __init__(
        self,
        what: str,
        read: Read,
        take: Callable[[Any], None],
        tell: Callable[[str], None],
        alive: Callable[[], None],
        turn: Turn,
        lease: float | None = None,
        interval: float = 1.0,
    ) -> None:
        self._what = what
        self._read = read
        self._take = take
        self._tell = tell
        self._alive = alive
        self._turn = turn
        self._query = BlockingQuery(interval=interval)
        self._held = Held(lease) if lease is not None else None
        self._body: bytes | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        failures = 0
        while True:
            if pause := self._query.pause(monotonic()):
                await asyncio.sleep(pause)
            try:
                await self._once()
                failures = 0
                await self._turn.rest(self._left())
            except TROUBLE as error:
                failures += 1
                self._query.restart()
                self._tell(f"{error}; what was known before stays in force")
                asked = error.retry_after if isinstance(error, BadAnswer) else 0.0
                await asyncio.sleep(asked + backoff(failures))

    async def _once(self) -> None:
        async with self._turn.slot:
            wait = self._turn.wait()
            index = self._query.index if wait else 0
            reading = await self._read(index=index, wait=min(wait, self._left()))
        self._alive()
        if self._query.answered(reading.index):
            _LOG.info("%s: the index of Consul fell; asking anew", self._what)
            if self._held is not None:
                self._held.lost_history()
        if reading.body == self._body and (self._held is None or self._held.since is None):
            self._tell(_told(reading))
            return
        verdict = self._judge(reading, confirmed=False)
        if verdict is Emptiness.CONFIRM:
            async with self._turn.slot:
                reading = await self._read(consistent=True)
            self._query.answered(reading.index)
            verdict = self._judge(reading, confirmed=not reading.filtered)
        if verdict is Emptiness.USE:
            self._body = reading.body
            self._take(reading.value)
            self._tell(_told(reading))
        else:
            self._tell("Consul knows no instance any more, which is not believed yet")

    def _judge(self, reading: Reading, *, confirmed: bool) -> Emptiness:
        if self._held is None:
            return Emptiness.USE
        return self._held.answer(not reading.value, monotonic(), confirmed=confirmed)

    def _left(self) -> float:
        """Seconds to the next query at the latest: what is held is asked for again before long."""
        left = self._held.left(monotonic()) if self._held is not None else None
        return inf if left is None else max(0.1, left or _RECHECK)


def _told(reading: Reading) -> str:
    return "the token may not see all of it" if reading.filtered else ""
